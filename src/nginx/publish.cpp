#include "nginx/publish.hpp"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/broker.hpp"
#include "core/envelope.hpp"
#include "core/reply.hpp"
#include "nginx/backend_access.hpp"
#include "nginx/conf.hpp"
#include "nginx/guard.hpp"
#include "nginx/headers.hpp"
#include "nginx/http_answer.hpp"
#include "nginx/later_answer.hpp"
#include "nginx/request_body.hpp"
#include "nginx/worker.hpp"

namespace rooms {
namespace {

// Rooms multiply a publication: some kilobytes of body can ask for gigabytes of events.
constexpr std::size_t kMaxExpanded = 64 * 1024 * 1024;
constexpr std::string_view kKeyHeader = "Idempotency-Key";

// The status of a list is that of its worst part. What a client has to act upon first: a retry heals 503, nothing heals the others.
unsigned weight_of(ngx_uint_t status) {
    switch (status) {
        case NGX_HTTP_SERVICE_UNAVAILABLE: return 4;
        case NGX_HTTP_REQUEST_ENTITY_TOO_LARGE: return 3;
        case NGX_HTTP_CONFLICT: return 2;
        case NGX_HTTP_BAD_REQUEST: return 1;
        default: return 0;
    }
}

void count(Counter counter) {
    if (Worker* worker = Worker::get()) worker->count(counter);
}

ngx_int_t refuse(ngx_http_request_t* r, std::string_view code, std::string_view message) {
    count(Counter::publish_bad);
    const ngx_str_t shown = ngx_view(message);
    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0, "rooms: publish refused: %V", &shown);
    return answer_error(r, NGX_HTTP_BAD_REQUEST, code, message);
}

struct HeaderKey {
    std::string_view key;  // empty: none
    bool twice = false;
};

HeaderKey header_key(ngx_http_request_t* r) {
    HeaderKey found;
    bool seen = false;
    for_each_header(r, [&](ngx_table_elt_t& header) {
        if (!equal_caseless(view(header.key), kKeyHeader)) return false;
        found.twice = seen;
        seen = true;
        found.key = view(header.value);
        return found.twice;
    });
    return found;
}

// The publications of all rooms, as the broker takes them. Its texts live until the broker returns.
struct Expansion {
    std::vector<PublishRequest> requests;
    std::string bodies;  // one behind the other: as many allocations for a thousand as for one
    std::vector<std::string> keys;
};

// What `expand` will take.
std::size_t expanded_size(const PublishBody& body) {
    std::size_t size = 0;
    for (const auto& item : body.items) {
        if (!item) continue;
        for (const std::string_view room : item->rooms)
            size += sizeof(PublishRequest) + max_event_body(*item, room);
    }
    return size;
}

Expansion expand(const PublishBody& body, std::string_view header, const HistoryRules& history) {
    Expansion all;
    std::size_t count = 0;
    for (const auto& item : body.items) count += item.ok() ? item->rooms.size() : 0;
    all.requests.reserve(count);
    all.bodies.reserve(expanded_size(body));  // requests point into it: it must not grow
    if (body.batch && !header.empty()) all.keys.reserve(body.items.size());

    for (std::size_t index = 0; index < body.items.size(); ++index) {
        if (!body.items[index]) continue;
        const PublishItem& item = *body.items[index];
        std::string_view key = item.idempotency_key();
        if (key.empty() && !header.empty()) {
            key = header;
            // One header for many publications: their places tell them apart.
            if (body.batch) key = all.keys.emplace_back(std::string(header) + '#' + std::to_string(index));
        }
        for (const std::string_view room : item.rooms) {
            const std::size_t at = all.bodies.size();
            append_event_body(all.bodies, item, room);
            all.requests.push_back(
                {room, std::string_view(all.bodies).substr(at), key, item.raw, history.limits_for(room)});
        }
    }
    return all;
}

// At error, for the operator has to act; once a second, for a full zone refuses thousands of them.
void log_unavailable(ngx_log_t* log, std::string_view room, std::string_view reason) {
    static constinit time_t last = 0;
    if (last == ngx_time()) return;
    last = ngx_time();
    const ngx_str_t shown = ngx_view(room);
    const ngx_str_t why = ngx_view(reason);
    ngx_log_error(NGX_LOG_ERR, log, 0, "rooms: publish to \"%V\" refused: %V", &shown, &why);
}

// Appends one room's part of the answer; returns its status.
ngx_uint_t append_outcome(std::string& out, ngx_log_t* log, std::string_view room,
                          const PublishAnswer& answer) {
    const ngx_str_t shown = ngx_view(room);
    switch (answer.status) {
        case PublishStatus::ok:
        case PublishStatus::duplicate: {
            const bool duplicate = answer.status == PublishStatus::duplicate;
            count(duplicate ? Counter::duplicates : Counter::published);
            append_publish_answer(
                out, {room, answer.position.epoch, answer.position.offset, answer.subscribers, duplicate});
            return NGX_HTTP_OK;
        }
        case PublishStatus::conflict:
            count(Counter::publish_conflict);
            ngx_log_error(NGX_LOG_INFO, log, 0,
                          "rooms: publish to \"%V\" refused: its id or key came with another body before",
                          &shown);
            append_http_error(out, "conflict",
                              std::string(room) + ": this id or key came with another body before");
            return NGX_HTTP_CONFLICT;
        case PublishStatus::too_large:
            count(Counter::publish_too_large);
            ngx_log_error(NGX_LOG_WARN, log, 0,
                          "rooms: publish to \"%V\" refused: the event is too large for \"rooms_zone\"",
                          &shown);
            append_http_error(out, "too_large", std::string(room) + ": " + std::string(answer.reason));
            return NGX_HTTP_REQUEST_ENTITY_TOO_LARGE;
        case PublishStatus::unavailable: break;
    }
    count(Counter::publish_unavailable);
    if (!answer.logged) log_unavailable(log, room, answer.reason);
    append_http_error(out, "unavailable", std::string(room) + ": " + std::string(answer.reason));
    return NGX_HTTP_SERVICE_UNAVAILABLE;
}

ngx_uint_t worse(ngx_uint_t one, ngx_uint_t other) { return weight_of(other) > weight_of(one) ? other : one; }

// `answers`: of each room of each good publication, in order; it moves behind those of this one.
ngx_uint_t append_outcome(std::string& out, ngx_log_t* log, const Result<PublishItem, PublishError>& item,
                          std::span<const PublishAnswer>& answers) {
    if (!item) {
        count(Counter::publish_bad);
        append_http_error(out, publish_code_text(item.error().code), item.error().message);
        return NGX_HTTP_BAD_REQUEST;
    }
    const auto next = [&] {
        if (answers.empty()) return PublishAnswer{};
        const PublishAnswer answer = answers.front();
        answers = answers.subspan(1);
        return answer;
    };
    if (!item->several) return append_outcome(out, log, item->rooms.front(), next());
    ngx_uint_t status = NGX_HTTP_OK;
    PublishResults results(out);
    for (const std::string_view room : item->rooms)
        status = worse(status, append_outcome(results.next(), log, room, next()));
    results.finish();
    return status;
}

ngx_int_t respond(ngx_http_request_t* r, const PublishBody& body, std::span<const PublishAnswer> answers) {
    constexpr std::size_t kAnswer = 128;  // mostly enough, with a room of the usual size
    ngx_log_t* const log = r->connection->log;
    std::string out;
    out.reserve(kAnswer * (answers.size() + 1));
    ngx_uint_t status = NGX_HTTP_OK;
    if (body.batch) {
        PublishResults results(out);
        for (const auto& item : body.items)
            status = worse(status, append_outcome(results.next(), log, item, answers));
        results.finish();
    } else {
        status = append_outcome(out, log, body.items.front(), answers);
    }
    return answer_json(r, status, out);
}

// What to finalize with; nothing: the broker has the publications, its answer ends the request or has done so.
std::optional<ngx_int_t> submit(ngx_http_request_t* r, std::shared_ptr<LaterAnswer>& later) {
    const auto text = request_body(r);
    if (!text) return NGX_HTTP_INTERNAL_SERVER_ERROR;
    const HeaderKey header = header_key(r);
    if (header.twice) return refuse(r, "bad_field", "Idempotency-Key came twice");
    if (header.key.data() != nullptr) {
        if (const auto wrong = check_idempotency_key(header.key)) return refuse(r, "bad_field", *wrong);
    }

    auto body = parse_publish(*text, is_ndjson(r));
    if (!body) return refuse(r, publish_code_text(body.error().code), body.error().message);
    if (!body->batch && !header.key.empty()) {
        const PublishItem& item = *body->items.front();
        if (!item.key.empty() && item.key != header.key) {
            return refuse(r, "bad_field", "key and the header Idempotency-Key differ");
        }
    }
    if (expanded_size(*body) > kMaxExpanded) {
        count(Counter::publish_too_large);
        ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                      "rooms: publish refused: more than %uz bytes of events in one request", kMaxExpanded);
        return answer_error(r, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE, "too_large",
                            "these publications are more than 64 MiB in all their rooms: send them in parts");
    }
    Worker* worker = Worker::get();
    if (worker == nullptr) {
        log_unavailable(r->connection->log, "*", "this process has no broker");
        return answer_error(r, NGX_HTTP_SERVICE_UNAVAILABLE, "unavailable", "this process has no broker");
    }

    const Expansion all = expand(*body, header.key, main_conf(r)->history);
    if (all.requests.empty()) return respond(r, *body, {});
    later = LaterAnswer::make(r);
    if (later == nullptr) return NGX_HTTP_INTERNAL_SERVER_ERROR;
    // The body's views live as long as the request.
    const auto kept = std::make_shared<const PublishBody>(std::move(*body));
    worker->broker().publish(all.requests, [later, kept](std::span<const PublishAnswer> answers) {
        later->give([&](ngx_http_request_t* request) { return respond(request, *kept, answers); });
    });
    later->wait();
    return std::nullopt;
}

// The reference which ngx_http_read_client_request_body took is given back by the one finalize.
void on_body(ngx_http_request_t* r) {
    std::shared_ptr<LaterAnswer> later;
    // The connection, and its log with it, may be gone when something fails after the answer.
    const auto rc = guarded(ngx_cycle->log, std::optional<ngx_int_t>(NGX_HTTP_INTERNAL_SERVER_ERROR),
                            [&] { return submit(r, later); });
    if (!rc || (later != nullptr && !later->take_back())) return;
    ngx_http_finalize_request(r, *rc);
}

}  // namespace

ngx_int_t publish_handler(ngx_http_request_t* r) {
    return guarded(r->connection->log, ngx_int_t{NGX_HTTP_INTERNAL_SERVER_ERROR}, [r]() -> ngx_int_t {
        if (r->method != NGX_HTTP_POST) {
            count(Counter::publish_bad);
            return answer_wrong_method(r, "POST");
        }
        const ngx_int_t access = check_backend_access(r, *location_conf(r)->access);
        if (access != NGX_OK) {
            count(Counter::publish_forbidden);
            return answer_no_access(r, access);
        }
        if (const auto rc = refuse_media(r, MediaTypes::json_or_ndjson, "publish")) {
            count(Counter::publish_bad);
            return *rc;
        }
        r->request_body_in_single_buf = 1;
        const ngx_int_t rc = ngx_http_read_client_request_body(r, on_body);
        return rc >= NGX_HTTP_SPECIAL_RESPONSE ? rc : NGX_DONE;
    });
}

}  // namespace rooms

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

// One room's part of the answer, or one publication's, or all of it.
struct Outcome {
    ngx_uint_t status = NGX_HTTP_OK;
    std::string json;
};

// What a client has to act upon first: a retry heals 503, nothing heals the others.
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
    std::vector<std::string> bodies;
    std::vector<std::string> keys;
};

std::size_t expanded_size(const PublishBody& body) {
    constexpr std::size_t kFrame = sizeof(PublishRequest) + 512;  // names, room, kind and type
    std::size_t size = 0;
    for (const auto& item : body.items) {
        if (item.ok()) size += item->rooms.size() * (item->data.size() + kFrame);
    }
    return size;
}

Expansion expand(const PublishBody& body, std::string_view header, const HistoryRules& history) {
    Expansion all;
    std::size_t count = 0;
    for (const auto& item : body.items) count += item.ok() ? item->rooms.size() : 0;
    all.requests.reserve(count);
    all.bodies.reserve(count);  // short strings live in the vector itself: it must not grow
    all.keys.reserve(body.items.size());

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
            all.bodies.push_back(encode_event_body(item, room));
            all.requests.push_back({room, all.bodies.back(), key, item.raw, history.limits_for(room)});
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

Outcome http_error(ngx_uint_t status, std::string_view code, std::string_view message) {
    return {status, encode_http_error(code, message)};
}

Outcome outcome_of(ngx_log_t* log, std::string_view room, const PublishAnswer& answer) {
    const ngx_str_t shown = ngx_view(room);
    switch (answer.status) {
        case PublishStatus::ok:
        case PublishStatus::duplicate: {
            const bool duplicate = answer.status == PublishStatus::duplicate;
            count(duplicate ? Counter::duplicates : Counter::published);
            return {NGX_HTTP_OK, encode_publish_answer({room, answer.position.epoch, answer.position.offset,
                                                        answer.subscribers, duplicate})};
        }
        case PublishStatus::conflict:
            count(Counter::publish_conflict);
            ngx_log_error(NGX_LOG_INFO, log, 0,
                          "rooms: publish to \"%V\" refused: its id or key came with another body before",
                          &shown);
            return http_error(NGX_HTTP_CONFLICT, "conflict",
                              std::string(room) + ": this id or key came with another body before");
        case PublishStatus::too_large:
            count(Counter::publish_too_large);
            ngx_log_error(NGX_LOG_WARN, log, 0,
                          "rooms: publish to \"%V\" refused: the event is too large for \"rooms_zone\"",
                          &shown);
            return http_error(NGX_HTTP_REQUEST_ENTITY_TOO_LARGE, "too_large",
                              std::string(room) + ": " + std::string(answer.reason));
        case PublishStatus::unavailable: break;
    }
    count(Counter::publish_unavailable);
    if (!answer.logged) log_unavailable(log, room, answer.reason);
    return http_error(NGX_HTTP_SERVICE_UNAVAILABLE, "unavailable",
                      std::string(room) + ": " + std::string(answer.reason));
}

// The parts as one list, whose status is that of the worst part.
Outcome list_of(std::vector<Outcome> parts) {
    Outcome all;
    std::vector<std::string> texts;
    texts.reserve(parts.size());
    for (Outcome& part : parts) {
        if (weight_of(part.status) > weight_of(all.status)) all.status = part.status;
        texts.push_back(std::move(part.json));
    }
    all.json = encode_publish_results(texts);
    return all;
}

// `answers`: of each room of each good publication, in order.
Outcome outcome_of(ngx_log_t* log, const PublishBody& body, std::span<const PublishAnswer> answers) {
    std::vector<Outcome> items;
    items.reserve(body.items.size());
    for (const auto& item : body.items) {
        if (!item) {
            count(Counter::publish_bad);
            items.push_back(
                http_error(NGX_HTTP_BAD_REQUEST, publish_code_text(item.error().code), item.error().message));
            continue;
        }
        std::vector<Outcome> rooms;
        rooms.reserve(item->rooms.size());
        for (const std::string_view room : item->rooms) {
            rooms.push_back(outcome_of(log, room, answers.empty() ? PublishAnswer{} : answers.front()));
            if (!answers.empty()) answers = answers.subspan(1);
        }
        items.push_back(item->several ? list_of(std::move(rooms)) : std::move(rooms.front()));
    }
    return body.batch ? list_of(std::move(items)) : std::move(items.front());
}

ngx_int_t respond(ngx_http_request_t* r, const PublishBody& body, std::span<const PublishAnswer> answers) {
    const Outcome outcome = outcome_of(r->connection->log, body, answers);
    return answer_json(r, outcome.status, outcome.json);
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

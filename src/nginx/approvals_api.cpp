#include "nginx/approvals_api.hpp"

#include <optional>
#include <string>
#include <utility>

#include "core/approval.hpp"
#include "core/json_text.hpp"
#include "nginx/backend_access.hpp"
#include "nginx/conf.hpp"
#include "nginx/http_answer.hpp"
#include "nginx/later_answer.hpp"
#include "nginx/request_body.hpp"
#include "nginx/worker.hpp"
#include "store/approval_store.hpp"

namespace rooms {
namespace {

constexpr ngx_uint_t kGone = 410;  // nginx has no names for these
constexpr ngx_uint_t kUnprocessable = 422;

void count(Counter counter) {
    if (Worker* worker = Worker::get()) worker->count(counter);
}

// What stands behind the location's own path.
struct Route {
    enum class Kind : std::uint8_t { all, one, resolve, extend, cancel };
    Kind kind = Kind::all;
    std::string_view id;
};

std::optional<Route> route_of(ngx_http_request_t* r) {
    using Kind = Route::Kind;
    const auto* core =
        static_cast<ngx_http_core_loc_conf_t*>(ngx_http_get_module_loc_conf(r, ngx_http_core_module));
    std::string_view path = view(r->uri);
    const std::string_view base = view(core->name);
    if (!path.starts_with(base)) return std::nullopt;
    path.remove_prefix(base.size());
    if (path.starts_with('/')) {
        path.remove_prefix(1);
    } else if (!path.empty() && !base.ends_with('/')) {
        return std::nullopt;  // /approvalsX
    }
    if (path.empty()) return Route{};
    const std::size_t slash = path.find('/');
    const std::string_view id = path.substr(0, slash);
    if (!is_approval_text(id)) return std::nullopt;
    if (slash == path.npos) return Route{Kind::one, id};
    const std::string_view action = path.substr(slash + 1);
    if (action == "resolve") return Route{Kind::resolve, id};
    if (action == "extend") return Route{Kind::extend, id};
    if (action == "cancel") return Route{Kind::cancel, id};
    return std::nullopt;
}

ngx_int_t refuse(ngx_http_request_t* r, std::string_view code, std::string_view message) {
    count(Counter::approval_bad);
    const ngx_str_t shown = ngx_view(message);
    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0, "rooms: approval refused: %V", &shown);
    return answer_error(r, NGX_HTTP_BAD_REQUEST, code, message);
}

ngx_int_t refuse(ngx_http_request_t* r, const ApprovalError& error) {
    return refuse(r, error.bad_json ? "bad_json" : "bad_field", error.message);
}

// {"error":{…},"status":…,"approval":{…}}: who was late sees what stands.
ngx_int_t answer_ended(ngx_http_request_t* r, ngx_uint_t status, std::string_view code,
                       const ApprovalAnswer& answer) {
    std::string json = "{\"error\":{\"code\":\"" + std::string(code) + "\",\"message\":";
    append_json_string(json, "it is " + std::string(answer.status) + " already");
    json += "},\"status\":";
    append_json_string(json, answer.status);
    json += ",\"approval\":";
    json += answer.json;
    json += '}';
    return answer_json(r, status, json);
}

void log_failure(ngx_http_request_t* r, const ApprovalAnswer& answer, ngx_uint_t level = NGX_LOG_WARN) {
    count(Counter::approval_unavailable);
    const ngx_str_t why = ngx_view(answer.reason);
    ngx_log_error(level, r->connection->log, 0, "rooms: approval request failed: %V", &why);
}

ngx_int_t respond(ngx_http_request_t* r, const ApprovalAnswer& answer) {
    switch (answer.outcome) {
        case ApprovalOutcome::created: return answer_json(r, NGX_HTTP_CREATED, answer.json);
        case ApprovalOutcome::found:
        case ApprovalOutcome::exists:
        case ApprovalOutcome::done: return answer_json(r, NGX_HTTP_OK, answer.json);
        case ApprovalOutcome::not_found:
            return answer_error(r, NGX_HTTP_NOT_FOUND, "not_found", "there is no approval with this id");
        case ApprovalOutcome::no_session:
            return answer_error(r, NGX_HTTP_NOT_FOUND, "unknown_session",
                                "sessionId: there is no such session of this tenant");
        case ApprovalOutcome::past: return refuse(r, "bad_field", "expiresAt is in the past");
        case ApprovalOutcome::too_long:
            return refuse(r, "bad_field",
                          "the deadline would be further away than rooms_approvals max= allows");
        case ApprovalOutcome::bad_after:
            return refuse(r, "bad_field", "after: there is no approval with this id");
        case ApprovalOutcome::bad_value:
            return refuse(r, "bad_field", "the store cannot hold a value: " + std::string(answer.reason));
        case ApprovalOutcome::too_large:
            count(Counter::approval_bad);
            return answer_error(r, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE, "too_large",
                                "context has more than 512 KiB, written out");
        case ApprovalOutcome::refused:
            log_failure(r, answer, NGX_LOG_ERR);  // nothing that passes by itself
            return answer_error(r, kUnprocessable, "refused",
                                "the store's own rules forbid it: the server's error log has its words");
        case ApprovalOutcome::busy:
            log_failure(r, answer);
            return answer_error(r, NGX_HTTP_SERVICE_UNAVAILABLE, "unavailable",
                                "the approvals' store is busy: it was not carried out");
        case ApprovalOutcome::resolved: return answer_ended(r, NGX_HTTP_CONFLICT, "resolved", answer);
        case ApprovalOutcome::expired: return answer_ended(r, kGone, "expired", answer);
        case ApprovalOutcome::unavailable: break;
    }
    log_failure(r, answer);
    // What happened is for the log: the texts of a database are not for others.
    return answer_error(r, NGX_HTTP_SERVICE_UNAVAILABLE, "unavailable",
                        "the approvals' store did not answer: whether it was carried out is not known");
}

// Name and value of an argument, decoded. `+` is a space, as forms have it.
std::string decoded(ngx_http_request_t* r, std::string_view text) {
    std::string plain(text);
    for (char& c : plain) c = c == '+' ? ' ' : c;
    auto* out = static_cast<u_char*>(ngx_pnalloc(r->pool, plain.size() + 1));
    if (out == nullptr) throw std::bad_alloc();
    u_char* to = out;
    auto* from = reinterpret_cast<u_char*>(plain.data());
    ngx_unescape_uri(&to, &from, plain.size(), 0);
    return {reinterpret_cast<char*>(out), static_cast<std::size_t>(to - out)};
}

Result<ApprovalQuery, ApprovalError> query_of(ngx_http_request_t* r) {
    ApprovalQuery query;
    std::string_view rest = view(r->args);
    while (!rest.empty()) {
        const std::size_t end = rest.find('&');
        const std::string_view argument = rest.substr(0, end);
        rest = end == rest.npos ? std::string_view() : rest.substr(end + 1);
        if (argument.empty()) continue;
        const std::size_t equals = argument.find('=');
        const std::string value =
            equals == argument.npos ? std::string() : decoded(r, argument.substr(equals + 1));
        if (auto error = read_query_argument(query, decoded(r, argument.substr(0, equals)), value))
            return *error;
    }
    if (!query.session && !query.tenant) return ApprovalError{false, "sessionId or tenantId is missing"};
    return query;
}

// Calls the store; what to finalize with, or nothing: the store's answer ends the request, or has done so.
template <typename Ask>
std::optional<ngx_int_t> ask(ngx_http_request_t* r, std::shared_ptr<LaterAnswer>& later, Ask&& ask_store) {
    later = LaterAnswer::make(r);
    if (later == nullptr) return NGX_HTTP_INTERNAL_SERVER_ERROR;
    ask_store(*Worker::get()->approvals(), [later](const ApprovalAnswer& answer) {
        later->give([&](ngx_http_request_t* request) { return respond(request, answer); });
    });
    later->wait();
    return std::nullopt;
}

std::optional<ngx_int_t> read(ngx_http_request_t* r, const Route& route,
                              std::shared_ptr<LaterAnswer>& later) {
    if (route.kind == Route::Kind::one) {
        return ask(r, later,
                   [&](ApprovalStore& store, ApprovalDone done) { store.get(route.id, std::move(done)); });
    }
    const auto query = query_of(r);
    if (!query) return refuse(r, query.error());
    return ask(r, later,
               [&](ApprovalStore& store, ApprovalDone done) { store.list(*query, std::move(done)); });
}

std::optional<ngx_int_t> write(ngx_http_request_t* r, const Route& route, std::string_view body,
                               std::shared_ptr<LaterAnswer>& later) {
    switch (route.kind) {
        case Route::Kind::all: {
            const auto approval = parse_new_approval(body);
            if (!approval) return refuse(r, approval.error());
            return ask(r, later, [&](ApprovalStore& store, ApprovalDone done) {
                store.create(*approval, std::move(done));
            });
        }
        case Route::Kind::extend: {
            const auto by_ms = parse_extension(body);
            if (!by_ms) return refuse(r, by_ms.error());
            return ask(r, later, [&](ApprovalStore& store, ApprovalDone done) {
                store.extend(route.id, *by_ms, std::move(done));
            });
        }
        default: break;
    }
    const auto resolution =
        route.kind == Route::Kind::cancel ? parse_cancellation(body) : parse_resolution(body);
    if (!resolution) return refuse(r, resolution.error());
    return ask(r, later, [&](ApprovalStore& store, ApprovalDone done) {
        store.resolve(route.id, *resolution, std::move(done));
    });
}

std::optional<ngx_int_t> start(ngx_http_request_t* r, std::shared_ptr<LaterAnswer>& later) {
    if (Worker::get() == nullptr || Worker::get()->approvals() == nullptr)
        return answer_error(r, NGX_HTTP_SERVICE_UNAVAILABLE, "unavailable", "this process has no broker");
    const auto route = route_of(r);
    if (!route) return answer_error(r, NGX_HTTP_NOT_FOUND, "not_found", "there is nothing at this path");
    if (r->method != NGX_HTTP_POST) return read(r, *route, later);
    const auto body = request_body(r);
    if (!body) return NGX_HTTP_INTERNAL_SERVER_ERROR;
    return write(r, *route, *body, later);
}

// Also for requests without a body: one way to end them all. The reference which
// ngx_http_read_client_request_body took is given back by the one finalize.
void on_body(ngx_http_request_t* r) {
    std::shared_ptr<LaterAnswer> later;
    // The connection, and its log with it, may be gone when something fails after the answer.
    const auto rc = guarded(ngx_cycle->log, std::optional<ngx_int_t>(NGX_HTTP_INTERNAL_SERVER_ERROR),
                            [&] { return start(r, later); });
    if (!rc || (later != nullptr && !later->take_back())) return;
    ngx_http_finalize_request(r, *rc);
}

bool fits(const Route& route, ngx_uint_t method) {
    const bool reads = method == NGX_HTTP_GET || method == NGX_HTTP_HEAD;
    switch (route.kind) {
        case Route::Kind::all: return reads || method == NGX_HTTP_POST;
        case Route::Kind::one: return reads;
        default: return method == NGX_HTTP_POST;
    }
}

std::string_view methods_of(const Route& route) {
    switch (route.kind) {
        case Route::Kind::all: return "GET, HEAD, POST";
        case Route::Kind::one: return "GET, HEAD";
        default: return "POST";
    }
}

}  // namespace

ngx_int_t approvals_handler(ngx_http_request_t* r) {
    return guarded(r->connection->log, ngx_int_t{NGX_HTTP_INTERNAL_SERVER_ERROR}, [r]() -> ngx_int_t {
        const ngx_int_t access = check_backend_access(r, *location_conf(r)->access);
        if (access != NGX_OK) {
            count(Counter::approval_forbidden);
            return answer_no_access(r, access);
        }
        const auto route = route_of(r);
        if (!route) return answer_error(r, NGX_HTTP_NOT_FOUND, "not_found", "there is nothing at this path");
        if (!fits(*route, r->method)) return answer_wrong_method(r, methods_of(*route));
        if (r->method == NGX_HTTP_POST) {
            if (const auto rc = refuse_media(r, MediaTypes::json, "approval")) {
                count(Counter::approval_bad);
                return *rc;
            }
        }
        r->request_body_in_single_buf = 1;
        const ngx_int_t rc = ngx_http_read_client_request_body(r, on_body);
        return rc >= NGX_HTTP_SPECIAL_RESPONSE ? rc : NGX_DONE;
    });
}

}  // namespace rooms

#include "nginx/upgrade.hpp"

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "core/extensions.hpp"
#include "core/handshake.hpp"
#include "nginx/conf.hpp"
#include "nginx/guard.hpp"
#include "nginx/request_state.hpp"
#include "nginx/worker.hpp"

namespace rooms {
namespace {

constexpr std::string_view kProtocol = "rooms.v1";

std::vector<HeaderField> header_fields(ngx_http_request_t* r) {
    std::vector<HeaderField> fields;
    fields.reserve(r->headers_in.headers.part.nelts);
    for (ngx_list_part_t* part = &r->headers_in.headers.part; part != nullptr; part = part->next) {
        const auto* headers = static_cast<ngx_table_elt_t*>(part->elts);
        for (ngx_uint_t i = 0; i < part->nelts; ++i) {
            fields.push_back({view(headers[i].key), view(headers[i].value)});
        }
    }
    return fields;
}

std::vector<std::string_view> lines_of(const std::vector<HeaderField>& fields, std::string_view name) {
    std::vector<std::string_view> lines;
    for (const HeaderField& field : fields) {
        if (field.name.size() == name.size() &&
            ngx_strncasecmp(reinterpret_cast<u_char*>(const_cast<char*>(field.name.data())),
                            reinterpret_cast<u_char*>(const_cast<char*>(name.data())), name.size()) == 0) {
            lines.push_back(field.value);
        }
    }
    return lines;
}

// An HTTP answer to a handshake that fails: never cached, no Referer with a token in it (S67).
ngx_int_t refuse(ngx_http_request_t* r, ngx_int_t status, std::string_view reason) {
    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0, "rooms: handshake refused: %*s", reason.size(),
                  reason.data());
    if (Worker* worker = Worker::get()) worker->count(Counter::handshakes_refused);
    if (status == NGX_HTTP_UNAUTHORIZED && !add_header(r, "WWW-Authenticate", "Bearer")) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    if (!add_header(r, "Cache-Control", "no-store") || !add_header(r, "Referrer-Policy", "no-referrer")) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    return status;
}

// Through nginx's header filters, for what they add. TLS writes it out whole; without, what nginx keeps is
// take_output's.
bool answer_101(ngx_http_request_t* r, const HandshakeResult& handshake, bool protocol,
                const std::string& extensions) {
    const ngx_str_t accept = copy_to_pool(r->pool, handshake.accept_value());
    const ngx_str_t extension = copy_to_pool(r->pool, extensions);
    if (accept.data == nullptr || (!extensions.empty() && extension.data == nullptr)) return false;
    r->keepalive = 0;
    r->headers_out.status = NGX_HTTP_SWITCHING_PROTOCOLS;
    ngx_str_set(&r->headers_out.status_line, "101 Switching Protocols");
    r->headers_out.content_length_n = -1;
    if (!add_header(r, "Upgrade", "websocket") || !add_header(r, "Sec-WebSocket-Accept", view(accept)) ||
        (protocol && !add_header(r, "Sec-WebSocket-Protocol", kProtocol)) ||
        (!extensions.empty() && !add_header(r, "Sec-WebSocket-Extensions", view(extension)))) {
        return false;
    }
    // NGX_AGAIN: TLS keeps it until the flush below.
    const ngx_int_t rc = ngx_http_send_header(r);
    if (rc == NGX_ERROR || rc > NGX_OK) return false;
    if (!is_tls(r->connection)) return true;
    if (ngx_http_send_special(r, NGX_HTTP_FLUSH) == NGX_ERROR) return false;
    if (r->connection->buffered || r->out != nullptr) return false;
#if (NGX_HTTP_SSL)
    // ssl_buffer_size octets (16k) that nothing uses any more: frames are written from where they lie.
    ngx_ssl_free_buffer(r->connection);
#endif
    return true;
}

// What nginx has of the 101 and has not written, since it waits for postpone_output bytes. It leaves together
// with the first frame: a send() of its own was 4 of the 39 µs that a handshake cost.
Payload take_output(ngx_http_request_t* r) {
    std::size_t size = 0;
    for (const ngx_chain_t* link = r->out; link != nullptr; link = link->next) {
        size += static_cast<std::size_t>(link->buf->last - link->buf->pos);
    }
    if (size == 0) return {};
    Payload output = Payload::allocate(size);
    char* out = output.data();
    for (const ngx_chain_t* link = r->out; link != nullptr; link = link->next) {
        out =
            std::copy(reinterpret_cast<char*>(link->buf->pos), reinterpret_cast<char*>(link->buf->last), out);
    }
    r->out = nullptr;
    r->connection->buffered &= ~static_cast<unsigned>(NGX_HTTP_WRITE_BUFFERED);
    r->connection->sent += static_cast<off_t>(size);
    return output;
}

// Counts the connection for every rooms_max_connections of the location. false: one is full.
bool count_connection(ngx_http_request_t* r, Worker& worker, const LocationConf& conf, HeldLimits& limits) {
    if (conf.connection_limits == nullptr) return true;
    for (const ConnectionLimit& limit : *conf.connection_limits) {
        std::string_view value;
        if (limit.variable != NGX_ERROR) {
            value = view(ngx_http_get_flushed_variable(r, static_cast<ngx_uint_t>(limit.variable)));
            if (value.empty()) continue;
        }
        std::string text(reinterpret_cast<const char*>(&limit.id), sizeof limit.id);
        text += value;
        const ZoneStatus status =
            limits.take(worker.zone(), worker.slot(), worker.zone().hash(text), limit.max);
        if (status == ZoneStatus::ok) continue;
        if (status != ZoneStatus::limit) {
            ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                          "rooms: no place to count a connection: raise the size in rooms_zone");
        }
        limits.release();
        return false;
    }
    return true;
}

// One that runs beside us (mirror) would end long after we own the connection, and with an error give
// it back to nginx's handlers.
bool has_subrequest(const ngx_http_request_t* r) {
    for (const ngx_http_posted_request_t* posted = r->main->posted_requests; posted != nullptr;
         posted = posted->next) {
        if (posted->request != r) return true;
    }
    return false;
}

std::optional<Identity> identify(ngx_http_request_t* r, const LocationConf& conf, const Claims& claims) {
    if (conf.rules == nullptr) return Identity(claims, {}, {});
    std::vector<std::string_view> captured;
    for (const ngx_int_t index : conf.rules->captured) {
        captured.push_back(view(ngx_http_get_flushed_variable(r, static_cast<ngx_uint_t>(index))));
    }
    return Identity(claims, conf.rules->claim_paths, captured);
}

ngx_int_t upgrade(ngx_http_request_t* r) {
    Worker* worker = Worker::get();
    if (worker == nullptr) return NGX_HTTP_SERVICE_UNAVAILABLE;
    if (r != r->main) return NGX_HTTP_NOT_FOUND;  // a subrequest has no socket of its own
    if (has_subrequest(r)) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "rooms: a subrequest is still running: no \"mirror\" in a location with \"rooms\"");
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    const LocationConf& conf = *location_conf(r);

    const std::vector<HeaderField> fields = header_fields(r);
    HandshakeRequest request;
    request.method = view(r->method_name);
    request.http_version = static_cast<int>(r->http_version);
    request.headers = fields;
    request.has_body = r->headers_in.content_length_n > 0 || r->headers_in.chunked;
    const HandshakeResult handshake = check_handshake(request);
    if (handshake.status != 101) {
        const ngx_int_t rc = ngx_http_discard_request_body(r);
        if (rc != NGX_OK) return rc;
        if ((handshake.send_version && !add_header(r, "Sec-WebSocket-Version", "13")) ||
            (handshake.send_upgrade && !add_header(r, "Upgrade", "websocket")) ||
            (handshake.send_allow && !add_header(r, "Allow", "GET"))) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
        return refuse(r, handshake.status, handshake.reason);
    }

    if (conf.origins != nullptr || conf.endpoint == Endpoint::socket) {
        const OriginRules same_host;
        const OriginRules& rules = conf.origins != nullptr ? *conf.origins : same_host;
        const auto origins = lines_of(fields, "Origin");
        const std::string_view origin = origins.empty() ? std::string_view() : origins.front();
        const std::string_view host =
            r->headers_in.host != nullptr ? view(r->headers_in.host->value) : std::string_view();
        if (!origins.empty() && (origin.empty() || !rules.allows(origin, host))) {
            worker->count(Counter::origins_refused);
            // What nginx logs by default: who sets a page up looks there.
            ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                          "rooms: origin \"%*s\" refused: it is not in rooms_origin", origin.size(),
                          origin.data());
            return refuse(r, NGX_HTTP_FORBIDDEN, "origin");
        }
    }

    ExtensionsResult extensions;
    DeflateConfig deflate;
    deflate.enabled = conf.compression.on == 1;
    extensions = negotiate_extensions(lines_of(fields, "Sec-WebSocket-Extensions"), deflate);
    if (extensions.malformed) return refuse(r, NGX_HTTP_BAD_REQUEST, "malformed Sec-WebSocket-Extensions");

    Connection::Opening opening;
    opening.request = r;
    opening.conf = &conf;
    opening.policy = worker->policy_of(conf);
    opening.deflate = extensions.deflate;
    if (conf.endpoint == Endpoint::socket) {
        const TokenVerdict verdict = verify_request(r);
        RequestState* state = request_state(r);
        if (state == nullptr || !state->handshake) return NGX_HTTP_INTERNAL_SERVER_ERROR;
        if (verdict == TokenVerdict::unknown) return NGX_HTTP_SERVICE_UNAVAILABLE;
        if (verdict == TokenVerdict::accepted) {
            if (count_connection(r, *worker, conf, opening.limits)) {
                opening.identity = identify(r, conf, *state->handshake->claims);
            } else if (conf.auth_failure == AuthFailure::http) {
                return refuse(r, NGX_HTTP_TOO_MANY_REQUESTS, "too many connections");
            } else {
                opening.refusal = CloseCode::too_many_connections;
            }
        } else {
            const bool absent = verdict == TokenVerdict::absent;
            if (conf.auth_failure == AuthFailure::http) {
                return refuse(r, absent ? NGX_HTTP_UNAUTHORIZED : NGX_HTTP_FORBIDDEN,
                              absent ? "no token" : "bad token");
            }
            opening.refusal = absent ? CloseCode::no_token : CloseCode::bad_token;
        }
    }

    const bool protocol = offers_protocol(fields, kProtocol);
    if (!answer_101(r, handshake, protocol, extensions.response)) return NGX_HTTP_CLOSE;
    const auto* core =
        static_cast<ngx_http_core_loc_conf_t*>(ngx_http_get_module_loc_conf(r, ngx_http_core_module));
    if (core->tcp_nodelay && ngx_tcp_nodelay(r->connection) != NGX_OK) return NGX_HTTP_CLOSE;
    // From here no status can be said any more.
    return guarded(r->connection->log, ngx_int_t{NGX_HTTP_CLOSE}, [&]() -> ngx_int_t {
        drop_handshake(r);
        opening.answer = take_output(r);
        worker->open(std::move(opening));
        r->main->count++;
        return NGX_DONE;
    });
}

ngx_int_t guarded_upgrade(ngx_http_request_t* r) {
    return guarded(r->connection->log, ngx_int_t{NGX_HTTP_INTERNAL_SERVER_ERROR}, [r] { return upgrade(r); });
}

}  // namespace

ngx_int_t socket_handler(ngx_http_request_t* r) { return guarded_upgrade(r); }
ngx_int_t echo_handler(ngx_http_request_t* r) { return guarded_upgrade(r); }

}  // namespace rooms

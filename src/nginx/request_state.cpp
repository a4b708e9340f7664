// Where the token comes from and what is thought of it.
#include "nginx/request_state.hpp"

#include <openssl/crypto.h>

#include "core/handshake.hpp"
#include "nginx/guard.hpp"
#include "nginx/headers.hpp"
#include "nginx/scrub.hpp"
#include "store/fault_point.hpp"

namespace rooms {
namespace {

constexpr std::string_view kDefaultArgument = "token";
constexpr std::int64_t kWeekMs = 7LL * 24 * 3600 * 1000;

// Its address marks the state among the pool's cleanups.
void destroy_state(void* data) { static_cast<RequestState*>(data)->~RequestState(); }

std::optional<std::string_view> token_in_protocols(ngx_http_request_t* r) {
    std::vector<HeaderField> fields;
    for_each_header(r, [&](const ngx_table_elt_t& header) {
        if (equal_caseless(view(header.key), "Sec-WebSocket-Protocol")) {
            fields.push_back({view(header.key), view(header.value)});
        }
        return false;
    });
    ProtocolList list(fields);
    while (const auto element = list.next()) {
        // Pages without a token make an empty one: the next place may have it.
        if (element->starts_with(kBearerProtocol) && element->size() > kBearerProtocol.size())
            return element->substr(kBearerProtocol.size());
    }
    return std::nullopt;
}

// The token as it stands in the request; empty: none.
std::string_view find_token(ngx_http_request_t* r, const LocationConf& conf) {
    if (conf.token_value != nullptr) {
        ngx_str_t value;
        if (ngx_http_complex_value(r, conf.token_value, &value) != NGX_OK) return {};
        return bearer_of(view(value)).value_or(view(value));
    }
    if (const auto token = token_in_protocols(r)) return *token;
    if (const auto* header = r->headers_in.authorization; header != nullptr) {
        if (const auto token = bearer_of(view(header->value)); token && !token->empty()) return *token;
    }
    ngx_str_t name = ngx_view(kDefaultArgument);
    ngx_str_t value = ngx_null_string;
    if (ngx_http_arg(r, name.data, name.len, &value) == NGX_OK) return view(value);
    return {};
}

// Arguments may be written with %xx, which no token has itself.
std::string unescaped(std::string_view found) {
    std::string token(found);
    if (found.find('%') == found.npos) return token;
    u_char* from = ngx_view(found).data;
    auto* to = reinterpret_cast<u_char*>(token.data());
    ngx_unescape_uri(&to, &from, found.size(), 0);
    token.resize(static_cast<std::size_t>(to - reinterpret_cast<u_char*>(token.data())));
    return token;
}

bool same_judge(const LocationConf& a, const LocationConf& b) {
    const TokenRules& x = a.token;
    const TokenRules& y = b.token;
    return &a == &b || (a.keys == b.keys && a.token_value == b.token_value && x.issuer == y.issuer &&
                        x.audience == y.audience && x.leeway_s == y.leeway_s && x.max_age_s == y.max_age_s &&
                        x.required_claims == y.required_claims && x.exp_in_ms == y.exp_in_ms &&
                        x.user_claim == y.user_claim && x.rooms_claim == y.rooms_claim);
}

void refuse_token(ngx_http_request_t* r, RequestState& state, const TokenError& error) {
    state.verdict = TokenVerdict::refused;
    state.reason = error.reason;
    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0, "rooms: token refused: %s", error.detail.c_str());
}

TokenVerdict judge(ngx_http_request_t* r, const LocationConf& conf, RequestState& state) {
    state.judge = &conf;
    // A socket has been judged; what its log line asks in another location has no token any more.
    if (state.handshake == nullptr) return state.verdict = TokenVerdict::absent;
    Handshake& handshake = *state.handshake;
    handshake.claims.reset();
    // Elsewhere than at an endpoint, and before its rewrite phase, the request still has the token.
    if (!state.token_taken) {
        handshake.wipe_token();
        handshake.token = unescaped(find_token(r, conf));
    }
    if (handshake.token.empty()) {
        state.verdict = TokenVerdict::absent;
    } else {
        const std::int64_t now = wall_ms() - (has_bug("accept_expired") ? kWeekMs : 0);
        auto claims = verify_token(handshake.token, *conf.keys, conf.token, now);
        if (claims) {
            state.verdict = TokenVerdict::accepted;
            handshake.claims = std::move(*claims);
        } else {
            refuse_token(r, state, claims.error());
        }
    }
    if (!state.token_taken || conf.endpoint == Endpoint::socket) handshake.wipe_token();
    return state.verdict;
}

}  // namespace

void Handshake::wipe_token() {
    OPENSSL_cleanse(token.data(), token.size());
    token.clear();
}

RequestState* find_request_state(ngx_http_request_t* r) {
    r = r->main;
    if (void* state = ngx_http_get_module_ctx(r, ngx_http_rooms_module))
        return static_cast<RequestState*>(state);
    if (!r->internal && !r->filter_finalize) return nullptr;
    for (ngx_pool_cleanup_t* cleanup = r->pool->cleanup; cleanup != nullptr; cleanup = cleanup->next) {
        if (cleanup->handler != destroy_state) continue;
        ngx_http_set_ctx(r, cleanup->data, ngx_http_rooms_module);
        return static_cast<RequestState*>(cleanup->data);
    }
    return nullptr;
}

RequestState* request_state(ngx_http_request_t* r) {
    if (RequestState* state = find_request_state(r)) return state;
    r = r->main;
    ngx_pool_cleanup_t* cleanup = ngx_pool_cleanup_add(r->pool, sizeof(RequestState));
    if (cleanup == nullptr) return nullptr;
    auto* state = ::new (cleanup->data) RequestState;
    state->handshake.reset(new (std::nothrow) Handshake);
    if (state->handshake == nullptr) return nullptr;
    cleanup->handler = destroy_state;
    ngx_http_set_ctx(r, state, ngx_http_rooms_module);
    return state;
}

ngx_int_t take_token(ngx_http_request_t* r) {
    const LocationConf* conf = location_conf(r);
    // A `rewrite` in this location has chosen another one, which will ask again.
    if (conf->endpoint != Endpoint::socket || r != r->main || r->uri_changed) return NGX_DECLINED;
    return guarded(r->connection->log, ngx_int_t{NGX_HTTP_INTERNAL_SERVER_ERROR}, [&]() -> ngx_int_t {
        RequestState* state = request_state(r);
        if (state == nullptr) return NGX_HTTP_INTERNAL_SERVER_ERROR;
        if (state->token_taken || state->handshake == nullptr) return NGX_DECLINED;
        const std::string_view found = find_token(r, *conf);
        state->handshake->token = unescaped(found);
        state->token_taken = true;
        // `found` may be a view into what is overwritten now.
        const std::string token(found);
        find_in_headers(r, token, state->handshake->in_headers);
        mask_in_request(r, token);
        const std::string ours(kDefaultArgument);
        mask_arguments_of(r, conf->token_arguments != nullptr
                                 ? std::span<const std::string>(*conf->token_arguments)
                                 : std::span(&ours, 1));
        OPENSSL_cleanse(const_cast<char*>(token.data()), token.size());
        // A complex value with variables is a copy of nginx's in the pool.
        if (conf->token_value != nullptr) OPENSSL_cleanse(const_cast<char*>(found.data()), found.size());
        return NGX_DECLINED;
    });
}

void drop_handshake(ngx_http_request_t* r) {
    keep_claim_variables(r);
    scrub_token(r);
    if (RequestState* state = find_request_state(r)) state->handshake.reset();
}

TokenVerdict verify_request(ngx_http_request_t* r) {
    const LocationConf* conf = location_conf(r);
    if (conf->keys == nullptr) return TokenVerdict::unread;
    r = r->main;
    RequestState* state = request_state(r);
    if (state == nullptr) return TokenVerdict::unknown;
    if (state->verdict != TokenVerdict::unread && same_judge(*state->judge, *conf)) return state->verdict;
    return guarded(r->connection->log, TokenVerdict::unknown, [&] { return judge(r, *conf, *state); });
}

}  // namespace rooms

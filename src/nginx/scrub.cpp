// The log phase's part: whatever way a request ended, its lines are clean before they are written.
#include "nginx/scrub.hpp"

#include <openssl/crypto.h>

#include <algorithm>
#include <array>

#include "nginx/guard.hpp"
#include "nginx/headers.hpp"
#include "nginx/mask.hpp"
#include "nginx/request_state.hpp"

namespace rooms {
namespace {

std::span<char> bytes_of(const ngx_str_t& text) { return {reinterpret_cast<char*>(text.data), text.len}; }

// The strings of a request in which arguments are. nginx itself finds the line of a request that was cut
// off only when it logs it.
std::array<ngx_str_t*, 4> strings_of(ngx_http_request_t* r) {
    if (r->request_line.data == nullptr && r->request_start != nullptr && r->header_in != nullptr) {
        u_char* end = r->request_start;
        while (end < r->header_in->last && *end != CR && *end != LF) ++end;
        r->request_line.data = r->request_start;
        r->request_line.len = static_cast<std::size_t>(end - r->request_start);
    }
    return {&r->request_line, &r->args, &r->unparsed_uri, &r->uri};
}

bool is(const ngx_table_elt_t& header, std::string_view name) {
    return equal_caseless(view(header.key), name);
}

// As $http_NAME finds it; `name` is in lower case.
bool is_variable(const ngx_table_elt_t& header, std::string_view name) {
    const std::string_view key = view(header.key);
    return std::equal(key.begin(), key.end(), name.begin(), name.end(),
                      [](char a, char b) { return (a == '-' ? '_' : ascii_lower(a)) == b; });
}

void mask_header(ngx_table_elt_t& header, const MainConf& conf) {
    // nginx refuses some requests before a location could have looked for their token.
    for (const std::string& name : conf.token_headers) {
        if (is_variable(header, name)) ngx_memset(header.value.data, '*', header.value.len);
    }
    if (is(header, "Authorization")) {
        if (const auto secret = bearer_of(view(header.value))) {
            ngx_memset(ngx_view(*secret).data, '*', secret->size());
        }
    } else if (is(header, "Sec-WebSocket-Protocol")) {
        mask_credentials(bytes_of(header.value));
    } else if (is(header, "Referer")) {
        mask_arguments(bytes_of(header.value), conf.token_arguments);
    } else if (is(header, "Cookie")) {
        mask_cookies(bytes_of(header.value), conf.token_cookies);
    }
}

void hide(ngx_http_request_t* r) {
    const MainConf& conf = *main_conf(r);
    if (const RequestState* state = find_request_state(r); state != nullptr && state->handshake) {
        for (const ngx_str_t& place : state->handshake->in_headers) ngx_memset(place.data, '*', place.len);
    }
    mask_arguments_of(r, conf.token_arguments);
    for_each_header(r, [&](ngx_table_elt_t& header) {
        mask_header(header, conf);
        return false;
    });
}

void remember(const ngx_str_t& text, Handshake& handshake) {
    if (text.len != 0) handshake.hidden.emplace_back(text.data, view(text));
}

}  // namespace

void mask_in_request(ngx_http_request_t* r, std::string_view token) {
    for (const ngx_str_t* text : strings_of(r)) mask_bytes(bytes_of(*text), token);
}

void mask_arguments_of(ngx_http_request_t* r, std::span<const std::string> names) {
    // The URI proper has no arguments.
    const auto strings = strings_of(r);
    for (const ngx_str_t* text : std::span(strings).first(3)) mask_arguments(bytes_of(*text), names);
}

void find_in_headers(ngx_http_request_t* r, std::string_view token, std::vector<ngx_str_t>& places) {
    if (token.empty()) return;
    for_each_header(r, [&](const ngx_table_elt_t& header) {
        const std::string_view value = view(header.value);
        for (std::size_t at = value.find(token); at != value.npos;
             at = value.find(token, at + token.size())) {
            places.push_back({token.size(), header.value.data + at});
        }
        return false;
    });
}

ngx_int_t scrub_token(ngx_http_request_t* r) {
    return guarded(r->connection->log, ngx_int_t{NGX_OK}, [&]() -> ngx_int_t {
        RequestState* state = find_request_state(r);
        // A socket: drop_handshake has been here.
        if (state != nullptr && state->handshake == nullptr) return NGX_OK;
        if (r != r->main) {
            // With log_subrequest this comes before the main request is through with the same bytes.
            state = request_state(r);
            if (state == nullptr) return NGX_OK;
            for (const ngx_str_t* text : strings_of(r)) remember(*text, *state->handshake);
            for_each_header(r, [&](const ngx_table_elt_t& header) {
                remember(header.value, *state->handshake);
                return false;
            });
        }
        hide(r);
        return NGX_OK;
    });
}

ngx_int_t restore_token(ngx_http_request_t* r) {
    if (r == r->main) return NGX_OK;
    RequestState* state = find_request_state(r);
    if (state == nullptr || state->handshake == nullptr) return NGX_OK;
    for (auto& [place, text] : state->handshake->hidden) {
        ngx_memcpy(place, text.data(), text.size());
        OPENSSL_cleanse(text.data(), text.size());
    }
    state->handshake->hidden.clear();
    return NGX_OK;
}

}  // namespace rooms

// The door to nginx: its C headers, and the few helpers which make its strings ours.
//
// Nothing outside src/nginx includes this. Differences between nginx versions end here.
#pragma once

extern "C" {
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_http.h>

extern ngx_module_t ngx_http_rooms_module;
}

#include <cstdint>
#include <string_view>

namespace rooms {

inline std::string_view view(const ngx_str_t& text) {
    return {reinterpret_cast<const char*>(text.data), text.len};
}

inline std::string_view view(const ngx_http_variable_value_t* value) {
    if (value == nullptr || value->not_found || !value->valid) return {};
    return {reinterpret_cast<const char*>(value->data), value->len};
}

// Does not copy: `text` has to live as long as the result is used.
inline ngx_str_t ngx_view(std::string_view text) {
    ngx_str_t result;
    result.len = text.size();
    result.data = reinterpret_cast<u_char*>(const_cast<char*>(text.data()));
    return result;
}

// Copies into the pool; data is null where memory ran out.
inline ngx_str_t copy_to_pool(ngx_pool_t* pool, std::string_view text) {
    ngx_str_t result = ngx_view(text);
    result.data = ngx_pstrdup(pool, &result);
    return result;
}

inline bool is_tls(const ngx_connection_t* c) {
#if (NGX_SSL)
    return c->ssl != nullptr;
#else
    (void)c;
    return false;
#endif
}

// Milliseconds since 1970, as of the beginning of this turn.
inline std::int64_t wall_ms() {
    const ngx_time_t* now = ngx_timeofday();
    return static_cast<std::int64_t>(now->sec) * 1000 + static_cast<std::int64_t>(now->msec);
}

inline char* conf_error() { return static_cast<char*>(NGX_CONF_ERROR); }

// nginx 1.23 links equal headers by `next`; before, a header stood alone.
inline void end_header_list(ngx_table_elt_t* header) {
#if nginx_version >= 1023000
    header->next = nullptr;
#else
    (void)header;
#endif
}

// Appends a response header; false where memory ran out. The views must outlive the request.
inline bool add_header(ngx_http_request_t* r, std::string_view name, std::string_view value) {
    auto* header = static_cast<ngx_table_elt_t*>(ngx_list_push(&r->headers_out.headers));
    if (header == nullptr) return false;
    header->hash = 1;
    header->key = ngx_view(name);
    header->value = ngx_view(value);
    header->lowcase_key = nullptr;
    end_header_list(header);
    return true;
}

}  // namespace rooms

// Request headers by name, and the two ways in which they carry a secret of ours.
//
// Views into nginx's header buffer: they live as long as the request.
#pragma once

#include <optional>
#include <string_view>

#include "core/ascii.hpp"
#include "nginx/ngx.hpp"

namespace rooms {

inline constexpr std::string_view kBearerProtocol = "rooms.bearer.";

// Calls `each(ngx_table_elt_t&)` for every header of the request, in order; stops when it returns true.
template <typename Each>
void for_each_header(ngx_http_request_t* r, Each&& each) {
    for (ngx_list_part_t* part = &r->headers_in.headers.part; part != nullptr; part = part->next) {
        auto* headers = static_cast<ngx_table_elt_t*>(part->elts);
        for (ngx_uint_t i = 0; i < part->nelts; ++i) {
            if (each(headers[i])) return;
        }
    }
}

// The first of that name; nullptr: none.
[[nodiscard]] inline ngx_table_elt_t* find_header(ngx_http_request_t* r, std::string_view name) {
    ngx_table_elt_t* found = nullptr;
    for_each_header(r, [&](ngx_table_elt_t& header) {
        if (!equal_caseless(view(header.key), name)) return false;
        found = &header;
        return true;
    });
    return found;
}

// What follows the scheme `Bearer` (RFC 6750 section 2.1); nothing for other schemes.
[[nodiscard]] inline std::optional<std::string_view> bearer_of(std::string_view authorization) {
    constexpr std::string_view kScheme = "Bearer";
    if (authorization.size() <= kScheme.size()) return std::nullopt;
    if (!equal_caseless(authorization.substr(0, kScheme.size()), kScheme)) return std::nullopt;
    if (const char c = authorization[kScheme.size()]; c != ' ' && c != '\t') return std::nullopt;
    return trim_ows(authorization.substr(kScheme.size()));
}

}  // namespace rooms

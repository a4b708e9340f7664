// The token's bytes in a request: in the strings that nginx logs, and in the headers.
//
// These strings are views into nginx's header buffer, and of each other, so overwriting one reaches
// its aliases. Nothing here changes a length.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nginx/ngx.hpp"

namespace rooms {

// Request line, arguments, URI: the token byte for byte, and the values of these arguments.
void mask_in_request(ngx_http_request_t* r, std::string_view token);
void mask_arguments_of(ngx_http_request_t* r, std::span<const std::string> names);

// Adds every place of a request header where the token stands.
void find_in_headers(ngx_http_request_t* r, std::string_view token, std::vector<ngx_str_t>& places);

}  // namespace rooms

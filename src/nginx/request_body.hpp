// The body of a request as one run of octets, wherever nginx put it: buffers, a temporary file, both.
#pragma once

#include <optional>
#include <string_view>

#include "nginx/ngx.hpp"

namespace rooms {

// Lives as long as the request. Nothing where memory ran out or the file could not be read (which
// nginx has logged). REQUIRES: called in or after the handler of ngx_http_read_client_request_body.
[[nodiscard]] std::optional<std::string_view> request_body(ngx_http_request_t* r);

}  // namespace rooms

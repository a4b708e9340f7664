// Whole HTTP answers of our own endpoints: a true status, a body with a last newline, Content-Length.
//
// A body which the client still sends is discarded, so that the connection can be used again. What is
// returned is for ngx_http_finalize_request, or for the content handler to return. Never used for
// sockets, and never twice for one request.
#pragma once

#include <string_view>

#include "nginx/ngx.hpp"

namespace rooms {

inline constexpr std::string_view kJsonType = "application/json";

// Copies `body`. `content_type` is static.
[[nodiscard]] ngx_int_t answer(ngx_http_request_t* r, ngx_uint_t status, std::string_view content_type,
                               std::string_view body);

[[nodiscard]] ngx_int_t answer_json(ngx_http_request_t* r, ngx_uint_t status, std::string_view json);

// {"error":{"code":…,"message":…}}. Adds the header that the status asks for: 401 WWW-Authenticate,
// 503 Retry-After.
[[nodiscard]] ngx_int_t answer_error(ngx_http_request_t* r, ngx_uint_t status, std::string_view code,
                                     std::string_view message);

// The 405 of an endpoint. `allow` is static: "POST".
[[nodiscard]] ngx_int_t answer_wrong_method(ngx_http_request_t* r, std::string_view allow);

// What check_backend_access refused: 401 or 403.
[[nodiscard]] ngx_int_t answer_no_access(ngx_http_request_t* r, ngx_int_t status);

}  // namespace rooms

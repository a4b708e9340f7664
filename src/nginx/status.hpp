// GET /status: what the module does on this host, for people, for Prometheus and for load balancers.
//
// The content handler of `rooms_status`. docs/status.md describes every field and metric. Reads the zone
// only; never shows a token, a user id or a message.
#pragma once

#include "nginx/ngx.hpp"

namespace rooms {

ngx_int_t status_handler(ngx_http_request_t* r);

}  // namespace rooms

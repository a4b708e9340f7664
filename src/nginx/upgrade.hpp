// From an HTTP request to a WebSocket: the content handlers of `rooms` and `rooms_echo`.
//
// Everything is checked before the 101, by status; after it only close codes can be said. Both run in
// the content phase, so that nginx's own access phases have had their say.
#pragma once

#include "nginx/ngx.hpp"

namespace rooms {

ngx_int_t socket_handler(ngx_http_request_t* r);
ngx_int_t echo_handler(ngx_http_request_t* r);

}  // namespace rooms

// What a socket keeps of its request: all of it (rooms_access_log end), or nothing (upgrade).
//
// nginx's own defaults are made for requests that end soon: a pool of 4 KB which a request of ours
// fills and then doubles, an 8 KB buffer for a handshake that is a little over 1 KB, and 512 octets for what
// stays of a connection, of which it takes 300.
#pragma once

#include "nginx/ngx.hpp"

namespace rooms {

// Where request_pool_size, client_header_buffer_size and connection_pool_size are nginx's defaults, sets them to
// what a handshake takes. Called once all of the configuration is known.
void fit_request_memory(ngx_cycle_t* cycle);

// Ends the request, its log line written, but not its connection, whose handshake buffers go as well.
// REQUIRES: nginx's own handlers have returned, so that nobody looks at the request any more.
void release_request(ngx_http_request_t* r);

}  // namespace rooms

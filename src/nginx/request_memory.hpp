// How much memory a request takes that stays for the life of its socket (rooms_access_log end).
//
// nginx's own defaults are made for requests that end soon: a pool of 4 KB which a request of ours
// fills and then doubles, and an 8 KB buffer for a handshake that is a little over 1 KB.
#pragma once

#include "nginx/ngx.hpp"

namespace rooms {

// Where request_pool_size and client_header_buffer_size are nginx's defaults, sets them to what a
// handshake takes. Called once all of the configuration is known.
void fit_request_memory(ngx_cycle_t* cycle);

}  // namespace rooms

// POST /publish: a backend's publications, from the request to the broker and back (docs/protocol.md).
//
// The content handler of `rooms_publish`. A body is parsed once and given to the broker in one call;
// the answer may come turns later, so the request is held, and a client that goes away meanwhile
// takes nothing back. Never logs what is in a publication's data.
#pragma once

#include "nginx/ngx.hpp"

namespace rooms {

ngx_int_t publish_handler(ngx_http_request_t* r);

}  // namespace rooms

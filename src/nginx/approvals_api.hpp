// The endpoint of `rooms_approvals_api`: approvals over HTTP, for backends (contract: section 6).
#pragma once

#include "nginx/ngx.hpp"

namespace rooms {

ngx_int_t approvals_handler(ngx_http_request_t* r);

}  // namespace rooms

// The one door that no exception passes: every C callback of nginx runs its body in here.
//
// std containers throw bad_alloc, and nginx's C frames cannot be unwound. What happens then is the
// caller's to say: `failed` is returned, and the callback ends that request or that connection.
#pragma once

#include <exception>
#include <utility>

#include "nginx/ngx.hpp"

namespace rooms {

template <typename T, typename Body>
T guarded(ngx_log_t* log, T failed, Body&& body) noexcept {
    try {
        return std::forward<Body>(body)();
    } catch (const std::exception& error) {
        ngx_log_error(NGX_LOG_ERR, log, 0, "rooms: out of memory: %s", error.what());
        return failed;
    }
}

}  // namespace rooms

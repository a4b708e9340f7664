// Sockets that a library owns, in nginx's event loop. Made by NginxReactor.
//
// A duplicate of the descriptor is watched: the library may close its own at any time, and open another
// socket under that number, and epoll would go by either. Events are levels, unlike nginx's.
#pragma once

#include <functional>
#include <memory>

#include "nginx/stream.hpp"
#include "store/reactor.hpp"

namespace rooms {

// See Reactor::watch.
[[nodiscard]] std::unique_ptr<Watch> open_watch(const StreamTools& tools, int fd,
                                                std::function<void()> on_ready);

}  // namespace rooms

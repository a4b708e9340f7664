// Outgoing connections over nginx's: TCP or a unix socket, with or without TLS. Made by NginxReactor.
//
// nginx's own messages about them are kept from the error log: what went wrong is said in on_closed, and
// whoever is told there writes one line when the state changes, not one for each attempt.
#pragma once

#include <openssl/ssl.h>

#include <functional>
#include <memory>

#include "nginx/ngx.hpp"
#include "store/reactor.hpp"

namespace rooms {

// What all streams of a reactor use. It outlives them.
struct StreamTools {
    static constexpr std::size_t kBuffer = 64 * 1024;

    std::function<void()> before;    // each call of a handler
    SSL_CTX* tls = nullptr;          // null: no stream can have TLS
    std::unique_ptr<char[]> buffer;  // kBuffer, for what is read
};

// See Reactor::connect.
[[nodiscard]] std::unique_ptr<Stream> open_stream(const StreamTools& tools, const Address& address, bool tls,
                                                  std::uint64_t timeout_ms, Stream::Handler& handler);

}  // namespace rooms

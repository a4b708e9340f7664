// The event loop as the store sees it: outgoing connections, sockets of libraries, timers, clocks, names and
// the log.
//
// Implemented over nginx in nginx/reactor, and over poll() in the unit tests, so that links, nodes and
// brokers know no nginx. Everything runs in one thread; no callback runs before the call that asked for
// it has returned. Callbacks may throw std::bad_alloc: the connection is then closed with a reason.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.hpp"

namespace rooms {

// Where a server listens. Addresses are found when the configuration is read, or by resolve().
struct Address {
    std::string host;        // a name, an IP address, or the path of a unix socket
    std::uint16_t port = 0;  // 0: a unix socket
    // As in a struct sockaddr; empty: not known yet.
    std::string sockaddr;

    [[nodiscard]] bool is_unix() const { return port == 0; }
    // "10.0.0.1:6379", "[::1]:6379", "unix:/run/redis.sock"
    [[nodiscard]] std::string text() const;
    [[nodiscard]] bool same_place(const Address& other) const {
        return host == other.host && port == other.port;
    }
};

// An IPv4 or IPv6 address in text, without brackets; nothing for a name.
[[nodiscard]] std::string sockaddr_of(std::string_view ip, std::uint16_t port);

// One outgoing connection. Destroying it closes it, and nothing is called afterwards: what is queued is
// lost. May be destroyed in any callback, its own included.
class Stream {
public:
    class Handler {
    public:
        // Connected, the TLS handshake included.
        virtual void on_open() = 0;
        // Valid until the call returns. May call write() and close().
        virtual void on_bytes(std::string_view bytes) = 0;
        // The end, once, also of an attempt that failed: "connection refused", "timed out", …
        // Not called after close().
        virtual void on_closed(std::string_view why) = 0;

    protected:
        ~Handler() = default;
    };

    virtual ~Stream() = default;
    // Takes all of it; what is written in one turn leaves together at its end.
    virtual void write(std::string_view bytes) = 0;
    // Written and not yet taken by the kernel.
    [[nodiscard]] virtual std::size_t queued() const = 0;
    // No callback any more. The object stays until it is destroyed.
    virtual void close() = 0;
};

// Destroying it stops it; its own callback may do so.
class Timer {
public:
    virtual ~Timer() = default;
    // Once, after `ms`; armed again it counts anew. 0: at the end of this turn.
    virtual void arm(std::uint64_t ms) = 0;
    virtual void disarm() = 0;
    [[nodiscard]] virtual bool armed() const = 0;
};

// A socket that a library owns. Destroying it leaves the socket open; its own callback may do so, and the
// library may close the socket before: what is watched is the socket, not its number.
class Watch {
public:
    virtual ~Watch() = default;
    // What is waited for, from now on; at first nothing. Levels: it is told again until it is no longer so.
    // false: it cannot be watched.
    [[nodiscard]] virtual bool want(bool read, bool write) = 0;
};

enum class LogLevel : std::uint8_t { error, warn, notice, info };

class Reactor {
public:
    virtual ~Reactor() = default;

    // REQUIRES: address.sockaddr is known. `timeout_ms` bounds connect and TLS handshake together.
    // `tls`: with the verified name `address.host`. Failing at once is told through on_closed, later.
    [[nodiscard]] virtual std::unique_ptr<Stream> connect(const Address& address, bool tls,
                                                          std::uint64_t timeout_ms,
                                                          Stream::Handler& handler) = 0;
    [[nodiscard]] virtual std::unique_ptr<Timer> timer(std::function<void()> on_fire) = 0;
    // `on_ready`: something wanted can be done, or the socket has an error. Null: it cannot be watched.
    // After one that throws nothing is told any more.
    [[nodiscard]] virtual std::unique_ptr<Watch> watch(int fd, std::function<void()> on_ready) = 0;

    // The sockaddrs of a name now; never blocks. An error says why, for the log: no resolver is
    // configured, the name is unknown, it took too long. Answers later, once; not after `owner` has
    // been destroyed.
    using Resolved = std::function<void(Result<std::vector<std::string>>)>;
    virtual void resolve(const std::string& name, std::uint16_t port, std::weak_ptr<void> owner,
                         Resolved done) = 0;
    // Whether names can be resolved at all (nginx: http{} has a `resolver`).
    [[nodiscard]] virtual bool resolves() const = 0;

    // While it is held a process that wants to exit waits, a minute at the most: somebody is owed an answer.
    // Counted: it is let go of when all who held it have done so.
    virtual void hold(bool held) = 0;

    [[nodiscard]] virtual std::uint64_t now_ms() const = 0;       // steady
    [[nodiscard]] virtual std::int64_t wall_ms() const = 0;       // since 1970
    [[nodiscard]] virtual std::uint64_t random() = 0;             // not to be guessed
    virtual void log(LogLevel level, std::string_view text) = 0;  // "rooms: " is put in front
};

}  // namespace rooms

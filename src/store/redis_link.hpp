// One connection to a Redis server: it logs in, sends commands in a pipeline, and hands each its reply.
//
// Owned by a RedisNode. Replies come in the order of the commands; what a subscribed connection is told
// besides goes to on_push. While replies are owed and nothing at all arrives for kTimeoutMs, the link ends,
// for nothing that is owed can be trusted to come; a long queue that moves is no reason. A link that has
// ended opens again by open() only.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "store/reactor.hpp"
#include "store/redis_reply.hpp"

namespace rooms {

// Of the server's side of a link.
struct RedisLogin {
    std::string user;
    std::string password;
    std::uint32_t db = 0;
    bool tls = false;
    bool asks_replication = true;  // sentinels have none
};

class RedisLink final : private Stream::Handler {
public:
    class Handler {
    public:
        // Logged in. `replication`: the id of the server's data (master_replid). Before a server that
        // is no master, on_down comes instead.
        virtual void on_up(RedisLink& link, std::string_view replication) = 0;
        // Ended, or the attempt failed. All commands have been answered without a reply.
        virtual void on_down(RedisLink& link, std::string_view why) = 0;
        virtual void on_push(RedisLink& link, Reply push) = 0;

    protected:
        ~Handler() = default;
    };

    // Nothing: the link ended before there was a reply, the command may have been carried out.
    using Done = std::function<void(std::optional<Reply>)>;

    static constexpr std::uint64_t kTimeoutMs = 800;       // of silence while a reply is owed
    static constexpr std::uint64_t kLongestMs = 10000;     // without the reply, whatever else comes
    static constexpr std::uint64_t kConnectMs = 1000;      // TCP and TLS
    static constexpr std::size_t kMaxPending = 1u << 17;   // without a reply; a publish request has no more
    static constexpr std::size_t kMaxQueued = 128u << 20;  // octets that the kernel has not taken

    RedisLink(Reactor& reactor, RedisLogin login, Handler& handler);
    ~RedisLink();
    RedisLink(const RedisLink&) = delete;
    RedisLink& operator=(const RedisLink&) = delete;

    // REQUIRES: down.
    void open(const Address& address);
    // on_down is not called; commands are answered without a reply.
    void close();
    // The server is not what it should be: as if it had hung up. on_down comes later.
    void fail(std::string_view why);

    [[nodiscard]] bool up() const { return state_ == State::up; }
    // When something was received last (steady clock).
    [[nodiscard]] std::uint64_t received_ms() const { return received_; }
    [[nodiscard]] bool down() const { return state_ == State::down; }
    // Commands without a reply.
    [[nodiscard]] std::size_t pending() const { return pending_.size(); }

    // false: not taken (the link is down or full), `done` is not called. While the link is opening the
    // command waits for the login.
    [[nodiscard]] bool command(std::span<const std::string_view> words, Done done) {
        return command_octets(encode_command(words), std::move(done));
    }
    // The same for a command that is RESP already.
    [[nodiscard]] bool command_octets(std::string_view octets, Done done) {
        return send(octets, {std::move(done), 0, {}});
    }
    // (S)UNSUBSCRIBE, of one channel.
    [[nodiscard]] bool unsubscribe(std::string_view command, std::string_view channel);

private:
    enum class State : std::uint8_t { down, opening, up };

    struct Pending {
        Done done;
        std::uint64_t sent;        // steady clock
        std::string unsubscribes;  // the channel: servers end subscriptions by themselves as well
    };

    [[nodiscard]] bool send(std::string_view octets, Pending pending);
    void on_open() override;
    void on_bytes(std::string_view bytes) override;
    void on_closed(std::string_view why) override;
    void on_reply(Reply reply);
    void on_login_reply(Reply reply);
    void logged_in();
    void end(std::string_view why);
    static void abandon(std::list<Pending> commands);
    void check_silence();
    void watch_silence();
    [[nodiscard]] std::uint64_t silence_ends() const;

    Reactor& reactor_;
    const RedisLogin login_;
    Handler& handler_;
    State state_ = State::down;
    std::unique_ptr<Stream> stream_;
    std::unique_ptr<ReplyReader> reader_;
    std::list<Pending> pending_;  // unlike a deque it moves without memory
    std::string waiting_;         // commands given before the login was done
    std::uint64_t received_ = 0;
    unsigned logins_ = 0;       // replies that the login has
    unsigned logins_left_ = 0;  // replies of the login that have not come
    std::string replication_;
    std::string failure_;  // by fail(), told by the timer
    std::unique_ptr<Timer> silence_;
    std::unique_ptr<Timer> failing_;
};

// `key:value` of INFO; empty: no such line.
[[nodiscard]] std::string_view info_field(std::string_view info, std::string_view key);

}  // namespace rooms

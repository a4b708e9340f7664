// One WebSocket in this worker: nginx's connection, the wire session, and the client behind it.
//
// Owned by the Worker, which finds it by descriptor. Lives on the heap, for it may outlive its HTTP
// request (rooms_access_log upgrade). It acts in one place, settle(), at the bottom of each handler;
// whoever queues something for it from elsewhere calls Worker::touch, and it settles at the end of
// the turn. After settle() returned false it is gone.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/client.hpp"
#include "core/close_code.hpp"
#include "core/lifetime.hpp"
#include "core/outbox.hpp"
#include "core/session.hpp"
#include "core/wheel.hpp"
#include "nginx/conf.hpp"
#include "nginx/held_limits.hpp"
#include "nginx/ngx.hpp"

namespace rooms {

class Worker;

class Connection {
public:
    // What the handshake found.
    struct Opening {
        ngx_http_request_t* request = nullptr;
        const LocationConf* conf = nullptr;
        const ClientPolicy* policy = nullptr;
        Payload answer;  // what of the 101 has still to be sent
        std::optional<DeflateParams> deflate;
        std::optional<Identity> identity;  // none: echo, or refused below
        std::optional<CloseCode> refusal;  // the first and only thing to say
        HeldLimits limits;
    };

    Connection(Worker& worker, Opening opening);
    ~Connection();
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    [[nodiscard]] int fd() const { return c_->fd; }
    [[nodiscard]] Client& client() { return client_; }
    [[nodiscard]] bool tls() const;
    // Fan-out may write to the socket itself: plain TCP, nothing queued, open.
    [[nodiscard]] bool direct() const;

    // Fan-out: what is behind `offset` waits for the socket. More than rooms_send_queue: 4101.
    void queue(Payload frame, std::size_t offset) noexcept;
    // An answer: not held against the limit, for reading pauses while answers wait.
    void reply(Payload frame) noexcept;
    // Ends at the next settle(): the code goes out after what is queued.
    void close_later(CloseCode code, const char* reason);
    // The socket is dead, nothing more can be sent.
    void fail() { broken_ = true; }
    // The worker takes leave: `reconnect`, and 1012 when `window` is over. No window: 1012 at once.
    void drain(ngx_msec_t window);
    // The token is another one.
    void on_token_changed();

    // false: the connection has been destroyed.
    bool settle();
    void on_readable();
    void on_writable();
    void on_deadline();

    static Connection& of(WheelNode& node) { return static_cast<Node&>(node).owner; }

private:
    enum class State : std::uint8_t { open, closing, lingering };

    struct Node : WheelNode {
        explicit Node(Connection& connection) : owner(connection) {}
        Connection& owner;
    };

    void start();
    void read();
    void consume(std::span<char> bytes);
    void consume_early();
    void on_event(const Event& event);
    void on_ping(const Event& event);
    void on_message(const Event& event);
    void echo(const Event& event);
    void begin_close(std::uint16_t code, std::string_view reason = {});
    void leave_rooms();
    bool flush();
    void destroy();
    void abandon();
    void finish_close();
    void schedule();
    [[nodiscard]] bool kernel_drains();
    [[nodiscard]] Lifetime::Rules life_rules() const;
    // When the token ends on the steady clock; 0: never.
    [[nodiscard]] Monotonic token_end() const;

    Worker& worker_;
    ngx_connection_t* c_;
    ngx_http_request_t* r_;                  // null once let go
    ngx_http_cleanup_t* cleanup_ = nullptr;  // of r_: tells if somebody else ends it
    const LocationConf* conf_;
    Session session_;
    Client client_;
    Outbox outbox_;
    Lifetime life_;
    Node node_;
    std::unique_ptr<std::string> early_;  // octets that wait: they came with the handshake, or in a pause
    HeldLimits limits_;
    std::uint64_t messages_in_ = 0;
    const char* close_reason_ = "";  // static
    std::uint32_t replies_ = 0;      // octets of answers queued since the queue was empty
    int kernel_queue_ = 0;           // octets in the kernel when it was last asked
    std::uint16_t close_code_ = 0;
    std::uint16_t close_with_ = 0;  // asked for by close_later
    State state_ = State::open;
    bool registered_ : 1 = false;  // with the hub
    bool started_ : 1 = false;
    bool peer_closed_ : 1 = false;
    bool failing_ : 1 = false;  // the peer broke the protocol: no answer is waited for
    bool broken_ : 1 = false;
    bool draining_ : 1 = false;
    bool paused_ : 1 = false;  // reads nothing until what is queued has gone

    friend class Worker;
    bool touched_ : 1 = false;  // Worker's: waits for the end of the turn
};

}  // namespace rooms

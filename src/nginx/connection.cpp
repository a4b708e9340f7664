#include "nginx/connection.hpp"

#include <linux/sockios.h>
#include <openssl/crypto.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <utility>

#include "core/frame.hpp"
#include "core/reply.hpp"
#include "nginx/guard.hpp"
#include "nginx/request_memory.hpp"
#include "nginx/request_state.hpp"
#include "nginx/worker.hpp"

namespace rooms {
namespace {

constexpr Monotonic kCloseTimeout = 5000;      // for the peer's Close, RFC 6455 section 7.1.1
constexpr Monotonic kDrainCloseTimeout = 700;  // while the worker waits to exit
constexpr Monotonic kLingerTimeout = 2000;
constexpr unsigned kReadsPerTurn = 16;  // others want to be read as well
constexpr std::size_t kPieces = 64;
constexpr std::size_t kTlsPiece = 16 * 1024;  // a TLS record; a larger write would show no progress

void on_read_event(ngx_event_t* event) {
    auto* c = static_cast<ngx_connection_t*>(event->data);
    Worker* worker = Worker::get();
    if (worker == nullptr) return;
    if (Connection* connection = worker->find(c->fd)) connection->on_readable();
}

void on_write_event(ngx_event_t* event) {
    auto* c = static_cast<ngx_connection_t*>(event->data);
    Worker* worker = Worker::get();
    if (worker == nullptr) return;
    if (Connection* connection = worker->find(c->fd)) connection->on_writable();
}

}  // namespace

Connection::Connection(Worker& worker, Opening opening)
    : worker_(worker),
      c_(opening.request->connection),
      r_(opening.request),
      conf_(opening.conf),
      session_(opening.deflate),
      life_(ngx_current_msec),
      node_(*this) {
    client_.policy = opening.policy;
    client_.handle = c_->fd;
    client_.id = worker_.next_client_id();
    if (opening.deflate) {
        client_.encoding = worker_.encoding_of(opening.deflate->server_max_window_bits, conf_->compression);
    }
    if (opening.identity) {
        client_.identity = std::move(*opening.identity);
        registered_ = true;
    }
    limits_ = std::move(opening.limits);
    replies_ = static_cast<std::uint32_t>(opening.answer.size());
    outbox_.push(std::move(opening.answer));
    if (opening.refusal) close_with_ = static_cast<std::uint16_t>(*opening.refusal);
    ngx_buf_t* in = r_->header_in;
    if (in->pos < in->last) {
        early_ = std::make_unique<std::string>(reinterpret_cast<char*>(in->pos),
                                               static_cast<std::size_t>(in->last - in->pos));
        in->pos = in->last;
    }

    // Nobody but us ends the request now. Should it happen all the same, no pointer may be left.
    cleanup_ = ngx_http_cleanup_add(r_, 0);
    if (cleanup_ == nullptr) throw std::bad_alloc();
    cleanup_->data = this;
    cleanup_->handler = [](void* data) { static_cast<Connection*>(data)->abandon(); };

    // Nginx may no longer close it to win a connection, but tells us when the worker is to go.
    ngx_reusable_connection(c_, 0);
    c_->idle = 1;
    c_->read->handler = on_read_event;
    c_->write->handler = on_write_event;
    c_->log->action = const_cast<char*>("serving a WebSocket");
    ngx_post_event(c_->read, &ngx_posted_events);
}

Connection::~Connection() { leave_rooms(); }

bool Connection::tls() const { return is_tls(c_); }

bool Connection::direct() const {
    return state_ == State::open && started_ && close_with_ == 0 && outbox_.empty() && !broken_ && !tls();
}

void Connection::queue(Payload frame, std::size_t offset) noexcept {
    if (state_ != State::open || close_with_ != 0 || broken_) return;
    try {
        outbox_.push(std::move(frame), offset);
    } catch (const std::bad_alloc&) {
        broken_ = true;  // it comes back by position; the other members get theirs
    }
    const auto too_much = [this] { return outbox_.bytes() > conf_->send_queue + replies_; };
    // Much that came in one turn is not slow yet: it has not been offered to the socket.
    if (too_much() && !life_.stalled() && !flush()) broken_ = true;
    if (too_much()) {
        close_later(CloseCode::too_slow, "too slow");
    }
    worker_.update_lane(*this);
    worker_.touch(*this);
}

void Connection::reply(Payload frame) noexcept {
    if (state_ != State::open || close_with_ != 0 || broken_) return;
    replies_ += static_cast<std::uint32_t>(frame.size());
    try {
        outbox_.push(std::move(frame));
    } catch (const std::bad_alloc&) {
        broken_ = true;  // what comes next would follow a hole
    }
    worker_.update_lane(*this);
    worker_.touch(*this);
}

void Connection::close_later(CloseCode code, const char* reason) {
    if (state_ != State::open || close_with_ != 0) return;
    close_with_ = static_cast<std::uint16_t>(code);
    close_reason_ = reason;
    worker_.update_lane(*this);
    worker_.touch(*this);
}

void Connection::drain(ngx_msec_t window) {
    if (draining_ || state_ != State::open || !started_) return;  // start() will look after itself
    draining_ = true;
    limits_.release();  // who opens the new socket before closing the old one is not one too many
    if (!registered_ || window == 0) {
        close_later(CloseCode::service_restart, "restart");
    } else {
        life_.leave_by(ngx_current_msec + window);
        const ngx_msec_t spread = window * 2 / 3;
        const ngx_msec_t after = static_cast<ngx_msec_t>(ngx_random()) % (spread + 1);
        reply(encode_frame(Opcode::text, encode_reconnect(after)));
    }
}

void Connection::on_token_changed() {
    life_.on_token(token_end(), ngx_current_msec);
    schedule();
}

Lifetime::Rules Connection::life_rules() const {
    return {conf_->heartbeat.interval, conf_->heartbeat.timeout};
}

Monotonic Connection::token_end() const {
    const std::int64_t expires = client_.identity.expires_at_ms();
    if (expires == 0 || !registered_) return 0;
    const std::int64_t end = expires + conf_->token.leeway_s * 1000;
    return ngx_current_msec + static_cast<Monotonic>(std::max<std::int64_t>(end - wall_ms(), 0));
}

// Deadlines mostly move away: a node that is met too early is placed again, which is cheaper than
// moving it at every message.
void Connection::schedule() {
    const Monotonic next = life_.next(life_rules(), token_end());
    if (!node_.linked() || next < node_.deadline()) worker_.wheel().place(node_, next);
}

void Connection::on_deadline() {
    const Lifetime::Due due = life_.due(ngx_current_msec, life_rules(), token_end());
    if (due == Lifetime::Due::too_slow) close_code_ = static_cast<std::uint16_t>(CloseCode::too_slow);
    if (due == Lifetime::Due::too_slow || due == Lifetime::Due::dead || due == Lifetime::Due::over) {
        if (due == Lifetime::Due::over || !kernel_drains()) {
            destroy();
            return;
        }
        // A slow line: megabytes of ours may lie in the kernel, before the ping or before the socket
        // takes more, and they get less.
        close_code_ = 0;
        life_.on_received(ngx_current_msec);
        if (life_.stalled()) {
            life_.on_progress();
            life_.on_stalled(ngx_current_msec);
        }
    }
    guarded(c_->log, 0, [&] {
        if (due == Lifetime::Due::ping) {
            (void)kernel_drains();
            reply(encode_frame(Opcode::ping, {}));
        }
        if (due == Lifetime::Due::token_warning) worker_.hub().warn_expiry(client_);
        if (due == Lifetime::Due::token_end) close_later(CloseCode::token_expired, "token expired");
        if (due == Lifetime::Due::restart) close_later(CloseCode::service_restart, "restart");
        return 0;
    });
    settle();
}

// Whether less of what was sent waits in the kernel than when it was last asked.
bool Connection::kernel_drains() {
    int waiting = 0;
    if (ioctl(c_->fd, SIOCOUTQ, &waiting) == -1) return false;
    return waiting < std::exchange(kernel_queue_, waiting);
}

void Connection::on_readable() {
    if (c_->close) {
        if (c_->error) {  // worker_shutdown_timeout: no time is left to say anything
            destroy();
            return;
        }
        if (!worker_.draining()) worker_.begin_drain();
    }
    const bool went_well = guarded(c_->log, false, [this] {
        (void)worker_.now();
        if (!started_) {
            start();
        } else {
            consume_early();
        }
        if (!paused_ && !broken_) read();
        return true;
    });
    if (!went_well) broken_ = true;
    settle();
}

void Connection::on_writable() {
    if (!settle() || !paused_ || !outbox_.empty()) return;
    paused_ = false;
    on_readable();
}

void Connection::start() {
    started_ = true;
    if (conf_->access_log == AccessLog::upgrade) {
        cleanup_->handler = nullptr;
        release_request(r_);
        r_ = nullptr;
        c_->log->action = const_cast<char*>("serving a WebSocket");
    }
    if (registered_) {
        life_.on_token(token_end(), ngx_current_msec);
        worker_.hub().add(client_);
        if (ngx_exiting) {
            worker_.begin_drain();
            if (!draining_) drain(conf_->drain);
        }
    } else if (ngx_exiting && close_with_ == 0) {
        close_later(CloseCode::service_restart, "restart");
    }
    consume_early();
}

void Connection::consume_early() {
    if (!early_ || paused_) return;
    const auto octets = std::move(early_);
    consume({octets->data(), octets->size()});
}

void Connection::read() {
    const std::span<char> buffer = worker_.receive_buffer();
    for (unsigned reads = 0; reads < kReadsPerTurn; ++reads) {
        const ssize_t n = c_->recv(c_, reinterpret_cast<u_char*>(buffer.data()), buffer.size());
        if (n == NGX_AGAIN) {
            if (ngx_handle_read_event(c_->read, 0) != NGX_OK) broken_ = true;
            return;
        }
        if (n <= 0) {
            broken_ = true;
            return;
        }
        life_.on_received(ngx_current_msec);
        if (state_ == State::lingering) continue;
        consume(buffer.first(static_cast<std::size_t>(n)));
        // What a page says may have been a token, of which no memory is to keep anything.
        if (conf_->endpoint == Endpoint::socket) OPENSSL_cleanse(buffer.data(), static_cast<std::size_t>(n));
        if (paused_ || broken_) return;
        if (!flush()) broken_ = true;
        if (broken_) return;
        if (outbox_.bytes() > conf_->send_queue) {
            // It asks more than it reads: until it has read, it is not listened to.
            paused_ = true;
            return;
        }
    }
    ngx_post_event(c_->read, &ngx_posted_next_events);
}

// A segment may hold many commands with large answers: when these have to wait, so have the commands.
void Connection::consume(std::span<char> bytes) {
    while (true) {
        if (outbox_.bytes() > conf_->send_queue && !bytes.empty()) {
            if (!flush()) broken_ = true;
            if (broken_) return;
            if (outbox_.bytes() > conf_->send_queue) {
                early_ = std::make_unique<std::string>(bytes.data(), bytes.size());
                paused_ = true;
                return;
            }
        }
        const Event event = session_.feed(bytes, worker_.codec(), conf_->wire);
        if (event.type == Event::Type::need_more) return;
        on_event(event);
    }
}

void Connection::on_event(const Event& event) {
    switch (event.type) {
        case Event::Type::need_more:
        case Event::Type::pong: return;
        case Event::Type::message: on_message(event); return;
        case Event::Type::ping: on_ping(event); return;
        case Event::Type::close:
            peer_closed_ = true;
            if (state_ != State::open) return;
            if (draining_) {
                begin_close(static_cast<std::uint16_t>(CloseCode::service_restart));
            } else {
                begin_close(event.code);
                if (event.code == 0) close_code_ = 1005;
            }
            return;
        case Event::Type::fail:
            if (state_ != State::open) {
                broken_ = true;
                return;
            }
            failing_ = true;
            begin_close(event.code, event.reason);
            return;
    }
}

// No browser sends one: a member's pings are messages to rooms_rate, for each costs an answer.
void Connection::on_ping(const Event& event) {
    if (state_ != State::open || close_with_ != 0) return;
    if (registered_ && !worker_.hub().admit(client_)) return;
    reply(encode_frame(Opcode::pong, event.payload));
}

void Connection::on_message(const Event& event) {
    if (state_ != State::open || close_with_ != 0) return;
    ++messages_in_;
    worker_.count(Counter::messages_in);
    if (conf_->endpoint == Endpoint::echo) {
        echo(event);
    } else if (event.opcode == Opcode::binary) {
        close_later(CloseCode::unsupported_data, "text only");
    } else {
        worker_.hub().on_message(client_, event.payload);
        OPENSSL_cleanse(const_cast<char*>(event.payload.data()), event.payload.size());
    }
}

void Connection::echo(const Event& event) {
    Payload frame = encode_frame(event.opcode, event.payload);
    ++client_.messages_out;
    client_.bytes_out += frame.size();
    reply(worker_.encode_for(client_.encoding, frame));
}

void Connection::leave_rooms() {
    if (!registered_) return;
    registered_ = false;
    if (started_) worker_.hub().remove(client_);
}

void Connection::begin_close(std::uint16_t code, std::string_view reason) {
    state_ = State::closing;
    close_code_ = code;
    life_.close_by(ngx_current_msec + (ngx_exiting ? kDrainCloseTimeout : kCloseTimeout));
    leave_rooms();
    // A slow reader would never come to a Close behind all that it has not read.
    // OpenSSL, though, must be given again what it could not write: another length is an error.
    if (code == static_cast<std::uint16_t>(CloseCode::too_slow)) {
        outbox_.drop_unbegun(tls() && life_.stalled());
    }
    outbox_.push(encode_close(code, reason));
    session_.on_close_sent();
    worker_.update_lane(*this);
}

bool Connection::flush() {
    while (!outbox_.empty()) {
        std::array<std::string_view, kPieces> pieces;
        ssize_t n = 0;
        if (tls()) {
            // One piece at a time and from where it lies: a TLS write that has to be repeated must
            // be repeated with the same bytes at the same place.
            (void)outbox_.peek(std::span(pieces).first(1));
            n = c_->send(c_, reinterpret_cast<u_char*>(const_cast<char*>(pieces[0].data())),
                         std::min(pieces[0].size(), kTlsPiece));
            if (n == NGX_ERROR || n == 0) return false;
        } else {
            const std::size_t count = outbox_.peek(pieces);
            std::array<iovec, kPieces> vectors;
            for (std::size_t i = 0; i < count; ++i) {
                vectors[i] = {const_cast<char*>(pieces[i].data()), pieces[i].size()};
            }
            msghdr message{};
            message.msg_iov = vectors.data();
            message.msg_iovlen = count;
            n = sendmsg(c_->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
            if (n < 0) {
                if (ngx_socket_errno == NGX_EINTR) continue;
                if (ngx_socket_errno != NGX_EAGAIN) return false;
                n = NGX_AGAIN;
                c_->write->ready = 0;
            }
        }
        if (n == NGX_AGAIN) {
            if (!life_.stalled()) (void)kernel_drains();
            life_.on_stalled(ngx_current_msec);
            return ngx_handle_write_event(c_->write, 0) == NGX_OK;
        }
        outbox_.advance(static_cast<std::size_t>(n));
        life_.on_progress();
        // While we do not read we cannot see its pongs: that it reads is sign enough.
        if (paused_) life_.on_received(ngx_current_msec);
    }
    replies_ = 0;
    return true;
}

// Our Close has left. Where nothing more is to be waited for, the server ends TCP first
// (RFC 6455 section 7.1.1): with a half-close, since unread octets would turn a close into a reset
// that could take our Close with it.
void Connection::finish_close() {
    if (state_ != State::closing || !outbox_.empty() || !(peer_closed_ || failing_)) return;
    state_ = State::lingering;
    life_.close_by(ngx_current_msec + (ngx_exiting ? kDrainCloseTimeout : kLingerTimeout));
#if (NGX_HTTP_SSL)
    if (c_->ssl != nullptr) {
        (void)SSL_shutdown(c_->ssl->connection);
        ERR_clear_error();
    }
#endif
    ::shutdown(c_->fd, SHUT_WR);
}

bool Connection::settle() {
    const bool alive = !broken_ && guarded(c_->log, false, [this] {
        if (close_with_ != 0 && state_ == State::open) begin_close(close_with_, close_reason_);
        if (!flush()) return false;
        finish_close();
        return true;
    });
    if (!alive) {
        destroy();
        return false;
    }
    worker_.update_lane(*this);
    schedule();
    return true;
}

void Connection::destroy() {
    leave_rooms();
    if (close_code_ == 0) close_code_ = 1006;
    worker_.count_close(close_code_);

    ngx_connection_t* c = c_;
    ngx_http_request_t* r = r_;
    if (!tls()) c->sent += static_cast<off_t>(client_.bytes_out);  // TLS writes are nginx's, and counted
    if (r != nullptr) {
        if (RequestState* state = request_state(r)) {
            state->close_code = close_code_;
            state->messages_in = messages_in_;
            state->messages_out = client_.messages_out;
            state->joined = client_.joined;
        }
    }
    c->idle = 0;
    // Behind a write that waits TLS cannot even say goodbye.
    if (broken_ || !outbox_.empty()) c->error = 1;
    for (ngx_event_t* event : {c->read, c->write}) {
        event->handler = [](ngx_event_t*) {};
        if (event->posted) {  // the macro is two statements
            ngx_delete_posted_event(event);
        }
    }
    if (r != nullptr) cleanup_->handler = nullptr;
    worker_.close(*this);  // `this` is gone
    if (r != nullptr) ngx_http_free_request(r, 0);
    ngx_http_close_connection(c);
}

// nginx ends the request, and with it the connection, without us.
void Connection::abandon() {
    leave_rooms();
    worker_.count_close(1006);
    worker_.close(*this);  // `this` is gone
}

}  // namespace rooms

// The Stream that the store holds is a handle; nginx's events point to a Line, which lives until the
// callback that it is in has returned.
#include "nginx/stream.hpp"

#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "nginx/alarm.hpp"
#include "nginx/guard.hpp"
#include "nginx/quiet_log.hpp"

namespace rooms {
namespace {

constexpr unsigned kReadsPerTurn = 16;          // others want to be read as well
constexpr std::size_t kMaxWrite = 1 << 20;      // OpenSSL counts in int
constexpr std::size_t kKeptCapacity = 1 << 18;  // of the queue once it is empty
constexpr std::size_t kPoolSize = 1024;         // for nginx's part of a TLS connection
// A host that has vanished shows within seconds, not after the kernel's quarter of an hour.
constexpr int kUnackedMs = 5000;
constexpr int kKeepaliveIdle = 5;
constexpr int kKeepaliveEvery = 2;
constexpr int kKeepaliveProbes = 3;

constexpr std::string_view kOutOfMemory = "out of memory";
constexpr std::string_view kNoEvents = "its events cannot be watched";

void set_option(int fd, int level, int name, int value) {
    // What a kernel lacks is done without.
    (void)setsockopt(fd, level, name, &value, sizeof value);
}

class Line final : public std::enable_shared_from_this<Line> {
public:
    Line(const StreamTools& tools, Stream::Handler& handler) : tools_(tools), handler_(&handler) {}
    ~Line() { close(); }
    Line(const Line&) = delete;
    Line& operator=(const Line&) = delete;

    void connect(const Address& address, bool tls, ngx_msec_t timeout);
    void write(std::string_view bytes);
    [[nodiscard]] std::size_t queued() const { return out_.size() - sent_; }
    void close();

private:
    enum class State : std::uint8_t { failed, connecting, greeting, open, closed };

    // The way in of every callback: what is thrown ends the line.
    template <typename Body>
    static void enter(Line& entered, Body body) noexcept {
        const auto line = entered.shared_from_this();
        if (guarded(ngx_cycle->log, false, [&] { return body(*line), true; })) return;
        guarded(ngx_cycle->log, 0, [&] { return line->end(kOutOfMemory), 0; });
    }
    static Line& line_of(void* connection) {
        return *static_cast<Line*>(static_cast<ngx_connection_t*>(connection)->data);
    }
    template <void (Line::*Step)()>
    static void on_event(ngx_event_t* event) {
        enter(line_of(event->data), [](Line& line) { (line.*Step)(); });
    }
    void listen(ngx_event_handler_pt on_read, ngx_event_handler_pt on_write) {
        c_->read->handler = on_read;
        c_->write->handler = on_write;
    }

    void fail(std::string why);
    void end(std::string_view why);
    void continue_later();
    void on_connect_event();
    void connected();
#if (NGX_SSL)
    void greet();
    [[nodiscard]] bool prepare_tls();
    void greeted();
#endif
    void opened();
    void read();
    void flush();

    const StreamTools& tools_;
    Stream::Handler* handler_;
    State state_ = State::connecting;
    bool tls_ = false;
    bool tcp_ = false;
    ngx_connection_t* c_ = nullptr;
    std::string name_;  // that the certificate has to have
    std::string why_;   // failed: still to be told
    std::string out_;
    std::size_t sent_ = 0;  // of out_
    QuietLog log_;
    // Never inside a call of the store: fails, goes on, flushes.
    Alarm later_{this, [](void* line) noexcept {
                     enter(*static_cast<Line*>(line), [](Line& entered) { entered.continue_later(); });
                 }};
    Alarm deadline_{this, [](void* line) noexcept {
                        enter(*static_cast<Line*>(line), [](Line& entered) { entered.end("timed out"); });
                    }};
};

void Line::connect(const Address& address, bool tls, ngx_msec_t timeout) {
    tls_ = tls;
    tcp_ = !address.is_unix();
    name_ = address.host;
    ngx_sockaddr_t place{};
    if (address.sockaddr.size() < sizeof(sa_family_t) || address.sockaddr.size() > sizeof place) {
        fail("its address is not known");
        return;
    }
    if (tls && (tools_.tls == nullptr || !tcp_)) {
        fail("there is no TLS for it");
        return;
    }
    std::memcpy(&place, address.sockaddr.data(), address.sockaddr.size());
    const std::string text = address.text();
    ngx_str_t shown = ngx_view(text);
    ngx_peer_connection_t peer{};
    peer.sockaddr = &place.sockaddr;
    peer.socklen = static_cast<socklen_t>(address.sockaddr.size());
    peer.name = &shown;
    peer.get = ngx_event_get_peer;
    peer.log = log_.log();
    peer.log_error = NGX_ERROR_ERR;

    const ngx_int_t rc = ngx_event_connect_peer(&peer);
    if (rc != NGX_OK && rc != NGX_AGAIN) {
        fail(log_.reason("cannot connect"));
        return;
    }
    c_ = peer.connection;
    c_->data = this;
    log_.log()->connection = c_->number;
    listen(on_event<&Line::on_connect_event>, on_event<&Line::on_connect_event>);
    deadline_.after(timeout);
    if (rc == NGX_OK) later_.at_end_of_turn();
}

void Line::write(std::string_view bytes) {
    if (state_ == State::failed || state_ == State::closed) return;
    if (sent_ > out_.size() / 2) out_.erase(0, std::exchange(sent_, 0));
    out_ += bytes;
    if (state_ == State::open && c_->write->ready) later_.at_end_of_turn();
}

void Line::close() {
    state_ = State::closed;
    handler_ = nullptr;
    later_.stop();
    deadline_.stop();
    std::string().swap(out_);
    sent_ = 0;
    if (c_ == nullptr) return;
    ngx_connection_t* c = std::exchange(c_, nullptr);
#if (NGX_SSL)
    if (c->ssl != nullptr) {
        // The peer is told, if that can be done at once; nobody waits for its answer.
        if (!c->ssl->no_send_shutdown && !SSL_in_init(c->ssl->connection)) {
            (void)SSL_shutdown(c->ssl->connection);
            ERR_clear_error();
        }
        c->ssl->no_wait_shutdown = 1;
        c->ssl->no_send_shutdown = 1;
        (void)ngx_ssl_shutdown(c);
    }
#endif
    ngx_pool_t* pool = c->pool;
    ngx_close_connection(c);
    if (pool != nullptr) ngx_destroy_pool(pool);
}

void Line::fail(std::string why) {
    state_ = State::failed;
    why_ = std::move(why);
    later_.at_end_of_turn();
}

void Line::end(std::string_view why) {
    if (state_ == State::closed) return;
    Stream::Handler* handler = handler_;
    close();
    if (tools_.before) tools_.before();
    handler->on_closed(why);
}

void Line::continue_later() {
    switch (state_) {
        case State::failed: end(std::string(why_)); return;
        case State::connecting: connected(); return;
        case State::open: flush(); return;
        case State::greeting:
        case State::closed: return;
    }
}

void Line::on_connect_event() {
    if (c_->close) return;  // worker_shutdown_timeout calls every read handler
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(c_->fd, SOL_SOCKET, SO_ERROR, &error, &size) == -1) error = errno;
    if (error != 0) {
        end(decapitalized(std::strerror(error)));
    } else {
        connected();
    }
}

void Line::connected() {
    later_.stop();
    if (tcp_) {
        set_option(c_->fd, IPPROTO_TCP, TCP_NODELAY, 1);
        set_option(c_->fd, SOL_SOCKET, SO_KEEPALIVE, 1);
        set_option(c_->fd, IPPROTO_TCP, TCP_KEEPIDLE, kKeepaliveIdle);
        set_option(c_->fd, IPPROTO_TCP, TCP_KEEPINTVL, kKeepaliveEvery);
        set_option(c_->fd, IPPROTO_TCP, TCP_KEEPCNT, kKeepaliveProbes);
        set_option(c_->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, kUnackedMs);
    }
#if (NGX_SSL)
    if (tls_) {
        greet();
        return;
    }
#endif
    opened();
}

#if (NGX_SSL)

void Line::greet() {
    state_ = State::greeting;
    ngx_ssl_t ssl{};
    ssl.ctx = tools_.tls;
    ssl.log = log_.log();
    ssl.buffer_size = NGX_SSL_BUFSIZE;
    c_->pool = ngx_create_pool(kPoolSize, log_.log());
    if (c_->pool == nullptr || ngx_ssl_create_connection(&ssl, c_, NGX_SSL_CLIENT) != NGX_OK ||
        !prepare_tls()) {
        ERR_clear_error();
        end(kOutOfMemory);
        return;
    }
    c_->ssl->handler = [](ngx_connection_t* c) { enter(line_of(c), [](Line& line) { line.greeted(); }); };
    log_.forget();
    if (ngx_ssl_handshake(c_) != NGX_AGAIN) greeted();
}

// OpenSSL compares the name while it verifies the chain: nothing is sent to a server that is not ours.
bool Line::prepare_tls() {
    SSL* ssl = c_->ssl->connection;
    X509_VERIFY_PARAM* expected = SSL_get0_param(ssl);
    SSL_set_verify(ssl, SSL_VERIFY_PEER, nullptr);
    // A write that has to be repeated may come from a queue that has grown, and moved.
    SSL_set_mode(ssl, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_ENABLE_PARTIAL_WRITE);
    if (!sockaddr_of(name_, 1).empty()) return X509_VERIFY_PARAM_set1_ip_asc(expected, name_.c_str()) == 1;
    // The dot which says that a name is complete is no part of it in TLS (RFC 6066 section 3).
    if (name_.ends_with('.')) name_.pop_back();
    X509_VERIFY_PARAM_set_hostflags(expected, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return X509_VERIFY_PARAM_set1_host(expected, name_.data(), name_.size()) == 1 &&
           SSL_set_tlsext_host_name(ssl, name_.c_str()) == 1;
}

void Line::greeted() {
    SSL* ssl = c_->ssl->connection;
    const long verified = SSL_get_verify_result(ssl);
    if (verified == X509_V_ERR_HOSTNAME_MISMATCH || verified == X509_V_ERR_IP_ADDRESS_MISMATCH) {
        end("certificate refused: it is not for \"" + name_ + "\"");
    } else if (verified != X509_V_OK) {
        end("certificate refused: " + decapitalized(X509_verify_cert_error_string(verified)));
    } else if (!c_->ssl->handshaked) {
        end("TLS handshake failed: " + log_.reason("closed by the server"));
    } else if (SSL_get0_peer_certificate(ssl) == nullptr) {
        end("certificate refused: there is none");
    } else {
        opened();
    }
}

#endif

void Line::opened() {
    deadline_.stop();
    state_ = State::open;
    listen(on_event<&Line::read>, on_event<&Line::flush>);
    // Octets may have come already, and edges tell of them only once.
    ngx_post_event(c_->read, &ngx_posted_events);
    if (!out_.empty()) later_.at_end_of_turn();
    if (tools_.before) tools_.before();
    handler_->on_open();
}

void Line::read() {
    if (state_ != State::open) return;
    for (unsigned reads = 0; reads < kReadsPerTurn; ++reads) {
        log_.forget();
        const ssize_t n = c_->recv(c_, reinterpret_cast<u_char*>(tools_.buffer.get()), StreamTools::kBuffer);
        if (n == NGX_AGAIN) {
            if (ngx_handle_read_event(c_->read, 0) != NGX_OK) end(kNoEvents);
            return;
        }
        if (n == 0) {
            end("closed by the server");
            return;
        }
        if (n < 0) {
            end(log_.reason("reading failed"));
            return;
        }
        if (tools_.before) tools_.before();
        handler_->on_bytes({tools_.buffer.get(), static_cast<std::size_t>(n)});
        if (state_ != State::open) return;
    }
    ngx_post_event(c_->read, &ngx_posted_next_events);
}

void Line::flush() {
    if (state_ != State::open) return;
    later_.stop();
    while (sent_ < out_.size()) {
        log_.forget();
        const ssize_t n = c_->send(c_, reinterpret_cast<u_char*>(out_.data() + sent_),
                                   std::min(out_.size() - sent_, kMaxWrite));
        if (n == NGX_AGAIN) {
            if (ngx_handle_write_event(c_->write, 0) != NGX_OK) end(kNoEvents);
            return;
        }
        if (n <= 0) {
            // What the server said before it closed may say why.
            const std::string why = log_.reason("writing failed");
            read();
            end(why);
            return;
        }
        sent_ += static_cast<std::size_t>(n);
    }
    out_.clear();
    sent_ = 0;
    if (out_.capacity() > kKeptCapacity) out_.shrink_to_fit();
    // Where events are levels, "writable" is not asked for any more.
    if (ngx_handle_write_event(c_->write, 0) != NGX_OK) end(kNoEvents);
}

class NginxStream final : public Stream {
public:
    NginxStream(const StreamTools& tools, Handler& handler) : line_(std::make_shared<Line>(tools, handler)) {}
    ~NginxStream() override { line_->close(); }
    NginxStream(const NginxStream&) = delete;
    NginxStream& operator=(const NginxStream&) = delete;

    [[nodiscard]] Line& line() { return *line_; }
    void write(std::string_view bytes) override { line_->write(bytes); }
    [[nodiscard]] std::size_t queued() const override { return line_->queued(); }
    void close() override { line_->close(); }

private:
    std::shared_ptr<Line> line_;
};

}  // namespace

std::unique_ptr<Stream> open_stream(const StreamTools& tools, const Address& address, bool tls,
                                    std::uint64_t timeout_ms, Stream::Handler& handler) {
    auto stream = std::make_unique<NginxStream>(tools, handler);
    stream->line().connect(address, tls, timeout_ms);
    return stream;
}

}  // namespace rooms

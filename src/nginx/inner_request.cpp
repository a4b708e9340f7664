#include "nginx/inner_request.hpp"

#include <sys/socket.h>

#include <utility>

#include "core/ascii.hpp"

namespace rooms {
namespace {

constexpr std::size_t kPool = 512;
constexpr std::size_t kMaxLine = 4096;
constexpr std::string_view kPeer = "unix:";

// What nginx would have of a `listen`. Of each server its own, for the request has no Host that could
// choose one. Never bound: nobody can connect to it.
struct InnerListen {
    ngx_http_in_addr_t address{};
    ngx_http_port_t port{};
    ngx_listening_t listening{};
    sockaddr peer{};
};

bool is_inner(const ngx_connection_t* c) {
    return c->listening != nullptr && c->listening->handler == nullptr &&
           c->listening->fd == static_cast<ngx_socket_t>(-1);
}

InnerListen* make_listen(ngx_pool_t* pool, ngx_http_core_srv_conf_t* server) {
    auto* listen = static_cast<InnerListen*>(ngx_pcalloc(pool, sizeof(InnerListen)));
    if (listen == nullptr) return nullptr;
    listen->peer.sa_family = AF_UNIX;
    listen->address.conf.default_server = server;
    listen->port.addrs = &listen->address;
    listen->port.naddrs = 1;
    listen->listening.fd = static_cast<ngx_socket_t>(-1);
    listen->listening.sockaddr = &listen->peer;
    listen->listening.socklen = sizeof listen->peer;
    listen->listening.addr_text = ngx_view(kPeer);
    listen->listening.type = SOCK_STREAM;
    listen->listening.servers = &listen->port;
    listen->listening.pool_size = kPool;
    return listen;
}

// What ngx_event_accept does with a new connection. Takes `fd`, or returns false.
bool accept(int fd, ngx_http_core_srv_conf_t* server) {
    ngx_log_t* const error_log = ngx_cycle->log;
    ngx_connection_t* c = ngx_get_connection(fd, error_log);
    if (c == nullptr) return false;
    c->type = SOCK_STREAM;
    c->pool = ngx_create_pool(kPool, error_log);
    auto* log =
        c->pool == nullptr ? nullptr : static_cast<ngx_log_t*>(ngx_palloc(c->pool, sizeof(ngx_log_t)));
    InnerListen* listen = log == nullptr ? nullptr : make_listen(c->pool, server);
    if (listen == nullptr) {
        if (c->pool != nullptr) ngx_destroy_pool(c->pool);
        c->fd = static_cast<ngx_socket_t>(-1);
        ngx_free_connection(c);
        return false;
    }
#if (NGX_STAT_STUB)
    // The handler of the end takes it back.
    (void)ngx_atomic_fetch_add(ngx_stat_active, 1);
#endif
    *log = *error_log;
    log->data = nullptr;
    log->handler = nullptr;
    c->recv = ngx_recv;
    c->send = ngx_send;
    c->recv_chain = ngx_recv_chain;
    c->send_chain = ngx_send_chain;
    c->log = c->pool->log = log;
    c->listening = &listen->listening;
    c->sockaddr = c->local_sockaddr = &listen->peer;
    c->socklen = c->local_socklen = sizeof listen->peer;
    c->addr_text = ngx_view(kPeer);
    c->tcp_nopush = NGX_TCP_NOPUSH_DISABLED;
    c->tcp_nodelay = NGX_TCP_NODELAY_DISABLED;
    c->read->log = c->write->log = log;
    c->write->ready = 1;
    c->number = ngx_atomic_fetch_add(ngx_connection_counter, 1);
    c->start_time = ngx_current_msec;
    ngx_http_init_connection(c);
    return true;
}

// "HTTP/1.1 204 …"
unsigned status_of(std::string_view line) {
    const std::size_t space = line.find(' ');
    if (!line.starts_with("HTTP/") || space == line.npos || line.size() < space + 4) return 0;
    unsigned status = 0;
    for (const char c : line.substr(space + 1, 3)) {
        if (!is_digit(c)) return 0;
        status = status * 10 + static_cast<unsigned>(c - '0');
    }
    return status;
}

}  // namespace

std::unique_ptr<InnerRequest> InnerRequest::start(Reactor& reactor, ngx_http_core_srv_conf_t* server,
                                                  std::string_view uri, Done done) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0) return nullptr;
    Descriptor ours(pair[0]);
    Descriptor theirs(pair[1]);
    const std::string line = "GET " + std::string(uri) + " HTTP/1.0\r\n\r\n";
    std::unique_ptr<InnerRequest> request(new InnerRequest(reactor, std::move(ours), std::move(done)));
    const bool sent = ::send(request->end_.get(), line.data(), line.size(), MSG_NOSIGNAL) ==
                      static_cast<ssize_t>(line.size());
    if (!sent || request->watch_ == nullptr || !request->watch_->want(true, false)) return nullptr;
    if (!accept(theirs.get(), server)) return nullptr;
    (void)theirs.release();
    return request;
}

InnerRequest::InnerRequest(Reactor& reactor, Descriptor end, Done done)
    : end_(std::move(end)),
      done_(std::move(done)),
      watch_(reactor.watch(end_.get(), [this] { on_ready(); })),
      timer_(reactor.timer([this] { this->end(0); })) {
    timer_->arm(kTimeoutMs);
}

InnerRequest::~InnerRequest() { hang_up(); }

void InnerRequest::hang_up() {
    watch_.reset();
    end_.reset();
}

// The rest of the answer is read as well, so that the location's log tells of a whole one.
void InnerRequest::on_ready() {
    char buffer[4096];
    for (;;) {
        const ssize_t n = recv(end_.get(), buffer, sizeof buffer, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (n <= 0) return end(0);
        if (!done_) continue;
        head_.append(buffer, static_cast<std::size_t>(n));
        const std::size_t end_of_line = head_.find("\r\n");
        if (end_of_line == head_.npos && head_.size() < kMaxLine) continue;
        return end(status_of(head_.substr(0, end_of_line)));
    }
}

// The answer, or nothing more to come. `done` may destroy this.
void InnerRequest::end(unsigned status) {
    const Done done = std::exchange(done_, nullptr);
    if (status == 0 || !done) {
        timer_->disarm();
        hang_up();
    }
    if (done) done(status);
}

ngx_int_t admit_inner_request(ngx_http_request_t* r) {
    if (r == r->main && is_inner(r->connection)) r->internal = 1;
    return NGX_DECLINED;
}

}  // namespace rooms

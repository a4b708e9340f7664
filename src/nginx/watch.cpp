// As with a Stream, nginx's events point to what lives until the callback that it is in has returned.
#include "nginx/watch.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <utility>

#include "nginx/guard.hpp"
#include "nginx/quiet_log.hpp"

namespace rooms {
namespace {

class Socket final : public std::enable_shared_from_this<Socket> {
public:
    Socket(const StreamTools& tools, std::function<void()> on_ready)
        : tools_(tools), on_ready_(std::move(on_ready)) {}
    ~Socket() { close(); }
    Socket(const Socket&) = delete;
    Socket& operator=(const Socket&) = delete;

    [[nodiscard]] bool open(int fd);
    [[nodiscard]] bool want(bool read, bool write);
    void close();

private:
    static void on_event(ngx_event_t* event);
    [[nodiscard]] static bool set(ngx_event_t* event, ngx_int_t kind, bool wanted);

    const StreamTools& tools_;
    const std::function<void()> on_ready_;
    ngx_connection_t* c_ = nullptr;
    QuietLog log_;
};

bool Socket::open(int fd) {
    const int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own == -1) return false;
    c_ = ngx_get_connection(own, log_.log());
    if (c_ == nullptr) {
        ::close(own);
        return false;
    }
    c_->data = this;
    c_->log = log_.log();
    c_->log_error = NGX_ERROR_ERR;
    c_->read->log = log_.log();
    c_->write->log = log_.log();
    c_->read->handler = on_event;
    c_->write->handler = on_event;
    return true;
}

bool Socket::set(ngx_event_t* event, ngx_int_t kind, bool wanted) {
    if (wanted == (event->active != 0)) return true;
    return (wanted ? ngx_add_event(event, kind, NGX_LEVEL_EVENT) : ngx_del_event(event, kind, 0)) == NGX_OK;
}

bool Socket::want(bool read, bool write) {
    return c_ != nullptr && set(c_->read, NGX_READ_EVENT, read) && set(c_->write, NGX_WRITE_EVENT, write);
}

void Socket::close() {
    if (c_ == nullptr) return;
    // nginx leaves this to the kernel, which goes on while the library has the socket open.
    (void)want(false, false);
    ngx_close_connection(std::exchange(c_, nullptr));
}

void Socket::on_event(ngx_event_t* event) {
    // worker_shutdown_timeout calls every read handler too: to look does no harm, not to look would spin.
    const auto* c = static_cast<ngx_connection_t*>(event->data);
    const auto socket = static_cast<Socket*>(c->data)->shared_from_this();
    const bool told = guarded(ngx_cycle->log, false, [&] {
        if (socket->tools_.before) socket->tools_.before();
        socket->on_ready_();
        return true;
    });
    if (!told) socket->close();
}

class NginxWatch final : public Watch {
public:
    explicit NginxWatch(std::shared_ptr<Socket> socket) : socket_(std::move(socket)) {}
    ~NginxWatch() override { socket_->close(); }
    NginxWatch(const NginxWatch&) = delete;
    NginxWatch& operator=(const NginxWatch&) = delete;

    [[nodiscard]] bool want(bool read, bool write) override { return socket_->want(read, write); }

private:
    std::shared_ptr<Socket> socket_;
};

}  // namespace

std::unique_ptr<Watch> open_watch(const StreamTools& tools, int fd, std::function<void()> on_ready) {
    auto socket = std::make_shared<Socket>(tools, std::move(on_ready));
    if (fd == -1 || !socket->open(fd)) return nullptr;
    return std::make_unique<NginxWatch>(std::move(socket));
}

}  // namespace rooms

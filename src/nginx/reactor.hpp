// The Reactor of one worker, over nginx's event loop.
//
// It outlives the streams, timers and watches that it made; when it goes, names that are still looked up are
// forgotten. Nothing of it keeps a worker from exiting. A timer whose callback ran out of memory, and was
// not armed in it, fires again after a second: what comes back periodically must not stop for that.
#pragma once

#include <memory>
#include <vector>

#include "nginx/alarm.hpp"
#include "nginx/ngx.hpp"
#include "nginx/stream.hpp"
#include "store/reactor.hpp"

namespace rooms {

class NginxReactor final : public Reactor {
public:
    // `ssl` (null: no TLS) may be freed afterwards, its context is shared. `before` runs before each
    // callback into the store.
    NginxReactor(const ngx_ssl_t* ssl, std::function<void()> before);
    ~NginxReactor() override;
    NginxReactor(const NginxReactor&) = delete;
    NginxReactor& operator=(const NginxReactor&) = delete;

    [[nodiscard]] std::unique_ptr<Stream> connect(const Address& address, bool tls, std::uint64_t timeout_ms,
                                                  Stream::Handler& handler) override;
    [[nodiscard]] std::unique_ptr<Timer> timer(std::function<void()> on_fire) override;
    [[nodiscard]] std::unique_ptr<Watch> watch(int fd, std::function<void()> on_ready) override;
    void resolve(const std::string& name, std::uint16_t port, std::weak_ptr<void> owner,
                 Resolved done) override;
    [[nodiscard]] bool resolves() const override;
    void hold(bool held) override;
    [[nodiscard]] std::uint64_t now_ms() const override;
    [[nodiscard]] std::int64_t wall_ms() const override;
    [[nodiscard]] std::uint64_t random() override;
    void log(LogLevel level, std::string_view text) override;

private:
    struct Lookup;
    struct Clock;
    class NginxTimer;

    void look_up(Lookup& lookup);
    static void on_answer(ngx_resolver_ctx_t* context);
    static void on_told(void* lookup) noexcept;

    StreamTools tools_;
    std::vector<std::unique_ptr<Lookup>> lookups_;
    Alarm first_turn_;
    Alarm holder_{this, [](void*) noexcept {}};
    int holds_ = 0;
};

}  // namespace rooms

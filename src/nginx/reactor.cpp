#include "nginx/reactor.hpp"

#include <openssl/err.h>
#include <openssl/rand.h>

#include <algorithm>
#include <utility>

#include "nginx/guard.hpp"
#include "nginx/quiet_log.hpp"
#include "nginx/watch.hpp"

namespace rooms {
namespace {

constexpr ngx_msec_t kLongestHold = 60000;

constexpr ngx_msec_t kDefaultResolverTimeout = 30000;  // nginx's own, which http{} itself is not given
constexpr ngx_msec_t kRetryMs = 1000;

// Looked for at each use: with master_process off a reload changes it under us.
const ngx_http_core_loc_conf_t* http_level() {
    const auto* cycle = const_cast<const ngx_cycle_t*>(ngx_cycle);
    const auto* context =
        reinterpret_cast<const ngx_http_conf_ctx_t*>(ngx_get_conf(cycle->conf_ctx, ngx_http_module));
    if (context == nullptr) return nullptr;
    return static_cast<const ngx_http_core_loc_conf_t*>(context->loc_conf[ngx_http_core_module.ctx_index]);
}

std::vector<std::string> addresses_of(const ngx_resolver_ctx_t& context, std::uint16_t port) {
    std::vector<std::string> result;
    for (ngx_uint_t i = 0; i < context.naddrs; ++i) {
        const ngx_resolver_addr_t& found = context.addrs[i];
        if (found.socklen > sizeof(ngx_sockaddr_t)) continue;
        std::string address(reinterpret_cast<const char*>(found.sockaddr), found.socklen);
        ngx_inet_set_port(reinterpret_cast<sockaddr*>(address.data()), port);
        result.push_back(std::move(address));
    }
    // As when the configuration is read: IPv4 first.
    std::stable_partition(result.begin(), result.end(), [](const std::string& address) {
        return reinterpret_cast<const sockaddr*>(address.data())->sa_family == AF_INET;
    });
    return result;
}

}  // namespace

struct NginxReactor::Lookup {
    Lookup(NginxReactor& asked, const std::string& asked_name, std::uint16_t asked_port)
        : reactor(asked), name(asked_name), port(asked_port) {}
    ~Lookup() {
        if (context != nullptr) ngx_resolve_name_done(context);
    }
    Lookup(const Lookup&) = delete;
    Lookup& operator=(const Lookup&) = delete;

    NginxReactor& reactor;
    std::string name;
    const std::uint16_t port;
    std::weak_ptr<void> owner;
    Resolved done;
    ngx_resolver_ctx_t* context = nullptr;  // while nginx looks it up
    Result<std::vector<std::string>> answer = Error{"out of memory"};
    Alarm tell{this, on_told};
};

// What a timer's event points to; it lives until its callback has returned.
struct NginxReactor::Clock : std::enable_shared_from_this<Clock> {
    Clock(const StreamTools& used, std::function<void()> on_fire_)
        : tools(used), on_fire(std::move(on_fire_)) {}

    void fire() noexcept {
        const auto clock = shared_from_this();
        const bool fired = guarded(ngx_cycle->log, false, [&] {
            if (tools.before) tools.before();
            on_fire();
            return true;
        });
        if (!fired && !stopped && !alarm.is_set()) alarm.after(kRetryMs);
    }

    const StreamTools& tools;
    const std::function<void()> on_fire;
    bool stopped = false;  // its Timer is gone
    Alarm alarm{this, [](void* clock) noexcept { static_cast<Clock*>(clock)->fire(); }};
};

class NginxReactor::NginxTimer final : public Timer {
public:
    explicit NginxTimer(std::shared_ptr<Clock> clock) : clock_(std::move(clock)) {}
    ~NginxTimer() override {
        clock_->stopped = true;
        clock_->alarm.stop();
    }
    NginxTimer(const NginxTimer&) = delete;
    NginxTimer& operator=(const NginxTimer&) = delete;

    void arm(std::uint64_t ms) override {
        if (ms == 0) {
            clock_->alarm.at_end_of_turn();
        } else {
            clock_->alarm.after(ms);
        }
    }
    void disarm() override { clock_->alarm.stop(); }
    [[nodiscard]] bool armed() const override { return clock_->alarm.is_set(); }

private:
    std::shared_ptr<Clock> clock_;
};

NginxReactor::NginxReactor([[maybe_unused]] const ngx_ssl_t* ssl, std::function<void()> before)
    : first_turn_(this, [](void*) noexcept {}) {
    tools_.before = std::move(before);
    tools_.buffer = std::make_unique_for_overwrite<char[]>(StreamTools::kBuffer);
    // What is posted while the process is made would wait for the first event from outside.
    first_turn_.next_turn();
#if (NGX_SSL)
    if (ssl != nullptr && SSL_CTX_up_ref(ssl->ctx) == 1) tools_.tls = ssl->ctx;
#endif
}

NginxReactor::~NginxReactor() {
    lookups_.clear();
    SSL_CTX_free(tools_.tls);
}

std::unique_ptr<Stream> NginxReactor::connect(const Address& address, bool tls, std::uint64_t timeout_ms,
                                              Stream::Handler& handler) {
    return open_stream(tools_, address, tls, timeout_ms, handler);
}

std::unique_ptr<Timer> NginxReactor::timer(std::function<void()> on_fire) {
    return std::make_unique<NginxTimer>(std::make_shared<Clock>(tools_, std::move(on_fire)));
}

std::unique_ptr<Watch> NginxReactor::watch(int fd, std::function<void()> on_ready) {
    return open_watch(tools_, fd, std::move(on_ready));
}

void NginxReactor::resolve(const std::string& name, std::uint16_t port, std::weak_ptr<void> owner,
                           Resolved done) {
    lookups_.push_back(std::make_unique<Lookup>(*this, name, port));
    Lookup& lookup = *lookups_.back();
    lookup.owner = std::move(owner);
    lookup.done = std::move(done);
    if (std::string address = sockaddr_of(name, port); !address.empty()) {
        lookup.answer = std::vector{std::move(address)};
        lookup.tell.at_end_of_turn();
    } else {
        look_up(lookup);
    }
}

// Ends in lookup.tell being posted, at once or in on_answer.
void NginxReactor::look_up(Lookup& lookup) {
    const auto* core = http_level();
    void* started = core == nullptr || core->resolver == nullptr ? NGX_NO_RESOLVER
                                                                 : ngx_resolve_start(core->resolver, nullptr);
    if (started == NGX_NO_RESOLVER) {
        lookup.answer = Error{"names need a `resolver` in http{}"};
        lookup.tell.at_end_of_turn();
        return;
    }
    if (started == nullptr) {
        lookup.tell.at_end_of_turn();
        return;
    }
    auto* context = static_cast<ngx_resolver_ctx_t*>(started);
    context->name = ngx_view(lookup.name);
    context->handler = on_answer;
    context->data = &lookup;
    context->timeout =
        core->resolver_timeout == NGX_CONF_UNSET_MSEC ? kDefaultResolverTimeout : core->resolver_timeout;
    context->cancelable = 1;
    lookup.context = context;
    // Calls on_answer at once for what it knows; where it fails it has freed the context.
    if (ngx_resolve_name(context) != NGX_OK) {
        lookup.context = nullptr;
        lookup.tell.at_end_of_turn();
    }
}

void NginxReactor::on_answer(ngx_resolver_ctx_t* context) {
    Lookup& lookup = *static_cast<Lookup*>(context->data);
    guarded(ngx_cycle->log, 0, [&] {
        if (context->state == NGX_RESOLVE_TIMEDOUT) {
            lookup.answer = Error{"it took too long to resolve it"};
        } else if (context->state != NGX_OK) {
            lookup.answer = Error{decapitalized(ngx_resolver_strerror(context->state))};
        } else {
            auto addresses = addresses_of(*context, lookup.port);
            if (addresses.empty()) {
                lookup.answer = Error{"it has no address"};
            } else {
                lookup.answer = std::move(addresses);
            }
        }
        return 0;
    });
    lookup.context = nullptr;
    ngx_resolve_name_done(context);
    lookup.tell.at_end_of_turn();
}

void NginxReactor::on_told(void* told) noexcept {
    auto* lookup = static_cast<Lookup*>(told);
    NginxReactor& reactor = lookup->reactor;
    const auto at = std::find_if(reactor.lookups_.begin(), reactor.lookups_.end(),
                                 [&](const auto& each) { return each.get() == lookup; });
    const std::unique_ptr<Lookup> ended = std::move(*at);
    reactor.lookups_.erase(at);
    guarded(ngx_cycle->log, 0, [&] {
        const auto owner = ended->owner.lock();
        if (owner == nullptr) return 0;
        if (reactor.tools_.before) reactor.tools_.before();
        ended->done(std::move(ended->answer));
        return 0;
    });
}

bool NginxReactor::resolves() const {
    const auto* core = http_level();
    return core != nullptr && core->resolver != nullptr && core->resolver->connections.nelts != 0;
}

// nginx exits when no timer that holds it is left.
void NginxReactor::hold(bool held) {
    holds_ += held ? 1 : -1;
    if (holds_ == 0) return holder_.stop();
    if (!held || holder_.is_set()) return;
    holder_.hold_worker();
    holder_.after(kLongestHold);
}

std::uint64_t NginxReactor::now_ms() const { return ngx_current_msec; }

std::int64_t NginxReactor::wall_ms() const { return rooms::wall_ms(); }

std::uint64_t NginxReactor::random() {
    std::uint64_t number = 0;
    if (RAND_bytes(reinterpret_cast<unsigned char*>(&number), sizeof number) != 1) {
        ERR_clear_error();
        number = static_cast<std::uint64_t>(ngx_random()) << 31 ^ static_cast<std::uint64_t>(ngx_random());
    }
    return number;
}

void NginxReactor::log(LogLevel level, std::string_view text) {
    const ngx_uint_t levels[] = {NGX_LOG_ERR, NGX_LOG_WARN, NGX_LOG_NOTICE, NGX_LOG_INFO};
    // Some of it is what a server said: it must not make lines of its own.
    std::string line(text);
    std::replace_if(
        line.begin(), line.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, '?');
    const ngx_str_t shown = ngx_view(line);
    ngx_log_error(levels[static_cast<std::size_t>(level)], ngx_cycle->log, 0, "rooms: %V", &shown);
}

}  // namespace rooms

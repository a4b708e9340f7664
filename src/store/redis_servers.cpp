#include "store/redis_servers.hpp"

#include <algorithm>
#include <charconv>
#include <utility>

#include "store/redis_slots.hpp"

namespace rooms {
namespace {

// One server, always the same.
class OneServer final : public RedisServers {
public:
    OneServer(Reactor& reactor, const RedisTarget& target, std::string_view me, Handler& handler)
        : node_(reactor, target.servers.front(),
                {login_of(target), std::string(me), target.prefix + ":{probe}:" + std::string(me), false},
                handler) {}

    void start() override { node_.start(); }
    RedisNode* node_of(std::string_view) override { return &node_; }
    bool known() const override { return true; }
    void each(const std::function<void(RedisNode&)>& visit) override { visit(node_); }

private:
    RedisNode node_;
};

}  // namespace

std::optional<RedisRedirect> parse_redirect(std::string_view error) {
    RedisRedirect redirect;
    if (error.starts_with("ASK ")) {
        redirect.ask = true;
    } else if (!error.starts_with("MOVED ")) {
        return std::nullopt;
    }
    const std::string_view slot = error.substr(error.find(' ') + 1);
    const std::string_view place = slot.substr(std::min(slot.find(' '), slot.size() - 1) + 1);
    const auto number = std::from_chars(slot.data(), slot.data() + slot.size(), redirect.slot);
    if (number.ec != std::errc{} || redirect.slot >= kRedisSlots) return std::nullopt;
    const std::size_t colon = place.rfind(':');  // an IPv6 address has some of its own
    if (colon == place.npos) return std::nullopt;
    const std::string_view port = place.substr(colon + 1);
    const auto [end, fault] = std::from_chars(port.data(), port.data() + port.size(), redirect.port);
    if (fault != std::errc{} || end != port.data() + port.size() || redirect.port == 0) return std::nullopt;
    redirect.host = place.substr(0, colon);
    return redirect;
}

std::optional<Address> learnt_address(const Reactor& reactor, std::string_view host, std::uint16_t port) {
    Address address;
    address.host = host;
    address.port = port;
    address.sockaddr = sockaddr_of(host, port);
    if (address.sockaddr.empty() && !reactor.resolves()) return std::nullopt;
    return address;
}

RedisLogin login_of(const RedisTarget& target) {
    RedisLogin login;
    login.user = target.user;
    login.password = target.password;
    login.db = target.db;
    login.tls = target.tls;
    return login;
}

std::unique_ptr<RedisServers> make_redis_servers(Reactor& reactor, const RedisTarget& target,
                                                 std::string_view me, RedisServers::Handler& handler) {
    switch (target.kind) {
        case RedisTarget::Kind::single: return std::make_unique<OneServer>(reactor, target, me, handler);
        case RedisTarget::Kind::sentinel: return make_redis_sentinel(reactor, target, me, handler);
        case RedisTarget::Kind::cluster: return make_redis_cluster(reactor, target, me, handler);
    }
    return nullptr;
}

}  // namespace rooms

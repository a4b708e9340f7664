// The servers behind `rooms_redis`, and which of them has a room: one server, the master that sentinels
// name, or the nodes of a cluster.
//
// Owned by the RedisBroker, whose handler hears all nodes and that the map has changed. Nodes are made and
// dropped here; one that is dropped lives on until the end of the turn.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "store/reactor.hpp"
#include "store/redis_node.hpp"
#include "store/redis_target.hpp"

namespace rooms {

// "MOVED 3999 127.0.0.1:6381": where to ask instead. Host empty: the same host as the one that says so.
struct RedisRedirect {
    bool ask = false;  // only this once: the slot is on its way
    std::uint16_t slot = 0;
    std::string host;
    std::uint16_t port = 0;
};
[[nodiscard]] std::optional<RedisRedirect> parse_redirect(std::string_view error);

class RedisServers {
public:
    class Handler : public RedisNode::Handler {
    public:
        // Which node has which room is known, or is not what it was.
        virtual void on_map_changed() = 0;
        // The node is dropped after the call.
        virtual void on_dropped(RedisNode& node) = 0;

    protected:
        ~Handler() = default;
    };

    virtual ~RedisServers() = default;
    virtual void start() = 0;
    // Of the key's slot; null: not known.
    [[nodiscard]] virtual RedisNode* node_of(std::string_view key) = 0;
    // Some map has been there. Until then who asks may wait.
    [[nodiscard]] virtual bool known() const = 0;
    virtual void each(const std::function<void(RedisNode&)>& visit) = 0;
    // A node has been lost, or says that it is no master: whoever knows is asked again.
    virtual void look_again() {}
    // The node that `from` names, for good (then the map follows) or for once; null where it cannot be had.
    [[nodiscard]] virtual RedisNode* follow(const RedisRedirect& /*redirect*/, const RedisNode& /*from*/) {
        return nullptr;
    }
};

// `me`: a name for this worker, never used twice.
[[nodiscard]] std::unique_ptr<RedisServers> make_redis_servers(Reactor& reactor, const RedisTarget& target,
                                                               std::string_view me,
                                                               RedisServers::Handler& handler);
[[nodiscard]] std::unique_ptr<RedisServers> make_redis_sentinel(Reactor& reactor, const RedisTarget& target,
                                                                std::string_view me,
                                                                RedisServers::Handler& handler);
[[nodiscard]] std::unique_ptr<RedisServers> make_redis_cluster(Reactor& reactor, const RedisTarget& target,
                                                               std::string_view me,
                                                               RedisServers::Handler& handler);

// Where a sentinel or a cluster says that a server is. Nothing: a name, and nobody resolves names.
[[nodiscard]] std::optional<Address> learnt_address(const Reactor& reactor, std::string_view host,
                                                    std::uint16_t port);
[[nodiscard]] RedisLogin login_of(const RedisTarget& target);

}  // namespace rooms

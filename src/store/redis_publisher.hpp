// Publishing through Redis: one script, and what one turn of the loop publishes is one call of it.
//
// Owned by the RedisBroker. Each publication is answered within 900 ms: what comes later is still told to
// `on_stored`. While one is not answered the worker does not exit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/broker.hpp"
#include "store/reactor.hpp"
#include "store/redis_calls.hpp"
#include "store/redis_servers.hpp"
#include "store/zone.hpp"

namespace rooms {

class RedisPublisher {
public:
    // Redis has an event of the room with this key, and had it before where it is a `repeat`; `fence`: the id of
    // the server's replication.
    using OnStored = std::function<void(const std::string& base, std::string_view epoch, std::uint64_t offset,
                                        std::string_view check, const std::string& fence, bool repeat)>;
    struct Parts {
        Reactor& reactor;
        Zone& zone;  // knows this host's members
        RedisCalls& calls;
        RedisServers& servers;
        std::string prefix;
        std::string word;  // goes into the secrets of rooms
        bool cluster;      // rooms are on different nodes: each publication is a call
        OnStored on_stored;
    };

    explicit RedisPublisher(Parts parts);
    ~RedisPublisher();
    RedisPublisher(const RedisPublisher&) = delete;
    RedisPublisher& operator=(const RedisPublisher&) = delete;

    // As Broker::publish.
    void publish(std::span<const PublishRequest> requests, PublishDone done);

private:
    struct Batch;
    struct Publication {
        std::shared_ptr<Batch> batch;
        std::size_t index;
        std::string base;
    };
    struct Gathered {
        std::vector<Publication> publications;
        RespWords keys;
        RespWords arguments;
    };

    void gather(const PublishRequest& request, const std::shared_ptr<Batch>& batch, std::size_t index);
    void send();
    void on_sent(const std::vector<Publication>& publications, const RedisOutcome& outcome);
    void on_published(const Publication& publication, const RedisOutcome& outcome);
    void end_late();

    const Parts parts_;
    Gathered gathered_;  // of this turn
    std::unique_ptr<Timer> sending_;
    std::unique_ptr<Timer> late_;
    std::size_t open_ = 0;
    std::deque<std::weak_ptr<Batch>> batches_;  // by deadline
};

}  // namespace rooms

// Presence over all hosts: each worker writes its own members to the rooms (sync.lua), and holds a lease
// that says it lives. Members of a worker whose lease has run out are not counted, and taken away.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/broker.hpp"
#include "store/reactor.hpp"
#include "store/redis_calls.hpp"

namespace rooms {

class RedisPresence {
public:
    static constexpr std::uint64_t kLeaseMs = 7000;
    static constexpr std::uint64_t kRenewMs = 2000;

    RedisPresence(Reactor& reactor, RedisCalls& calls, RedisServers& servers, std::string prefix);

    // Of all names that this worker has now: one for each node. At once when one is new.
    void renew();
    // The room's key, PREFIX:{kind:id}.
    void ask(std::string_view base, PresenceDone done);

private:
    struct Question;

    void on_rosters(const std::shared_ptr<Question>& question, Reply reply);
    static void answer(Question& question);
    [[nodiscard]] static PresenceAnswer sum_of(const Question& question);
    [[nodiscard]] std::string lease_of(std::string_view worker) const;

    RedisCalls& calls_;
    RedisServers& servers_;
    const std::string prefix_;
    std::unique_ptr<Timer> timer_;
};

}  // namespace rooms

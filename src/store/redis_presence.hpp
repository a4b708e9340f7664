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

    RedisPresence(Reactor& reactor, RedisCalls& calls, std::string prefix, std::string me);

    void start();
    // The room's key, PREFIX:{kind:id}.
    void ask(std::string_view base, PresenceDone done);

private:
    struct Question;

    void renew();
    void on_rosters(const std::shared_ptr<Question>& question, Reply reply);
    void answer(Question& question);
    [[nodiscard]] std::string lease_of(std::string_view worker) const;

    RedisCalls& calls_;
    const std::string prefix_;
    const std::string me_;
    std::unique_ptr<Timer> timer_;
};

}  // namespace rooms

// The clock of the approvals in Redis: what is due by the index is swept, each by a script that lets Redis'
// own clock decide. Nothing is due: one call a second, and one at the nearest instant that is known.
//
// Any number of workers and hosts may sweep at once: the second finds it done. Those that do not poll look
// only for what they have made due themselves before a poll would see it. Owned by RedisApprovals.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "store/approval_meter.hpp"
#include "store/reactor.hpp"
#include "store/redis_approval_calls.hpp"

namespace rooms {

class RedisSweeper {
public:
    static constexpr std::uint64_t kTickMs = 1000;
    static constexpr std::size_t kBatch = 100;

    RedisSweeper(Reactor& reactor, RedisApprovalCalls& calls, ApprovalMeter& meter, bool polls);

    void start();
    // Nothing new is begun.
    void stop();
    // Something will be due in so long.
    void expect(std::uint64_t ms);

private:
    static constexpr std::uint64_t kNearMs = 2 * kTickMs;  // a poll may be about to begin, or have failed

    void look();
    void on_looked(const RedisOutcome& outcome);
    void sweep(Reply due);
    void on_swept();
    void rest();
    void look_in(std::uint64_t ms);

    Reactor& reactor_;
    RedisApprovalCalls& calls_;
    ApprovalMeter& meter_;
    const bool polls_;
    std::unique_ptr<Timer> timer_;
    std::uint64_t next_look_ = 0;                  // while the timer is armed
    std::uint64_t expected_until_ = 0;             // the last of what was made due here
    std::optional<std::uint64_t> expected_first_;  // of what was made due while a look is under way
    std::optional<std::uint64_t> next_ms_;         // what the last look said
    std::uint64_t began_ = 0;
    std::size_t open_ = 0;  // of this batch
    std::size_t skip_ = 0;  // of this pass: could not be swept
    bool busy_ = false;     // a pass is under way
    bool seen_ = false;     // its last look was answered
    bool full_ = false;     // and there may be more
    bool stopped_ = false;
};

}  // namespace rooms

// The scripts of approvals, called: one changes an approval and tells the session's room (approval.lua), the
// other keeps the indexes by which approvals are found (approval_index.lua).
//
// Owned by RedisApprovals. The indexes follow each change by themselves, and the meter hears of each end that
// this worker's call made. Callbacks may run before the call returns; none runs once this is destroyed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/history.hpp"
#include "store/approval_meter.hpp"
#include "store/approval_times.hpp"
#include "store/reactor.hpp"
#include "store/redis_calls.hpp"
#include "store/redis_room.hpp"
#include "store/redis_servers.hpp"

namespace rooms {

// Both are of room bytes: they are parts of keys, and stand in JSON as they are.
struct ApprovalPlace {
    std::string id;
    std::string session;
};

// What approval.lua answers. Views into the reply.
struct ApprovalState {
    std::string_view outcome;
    bool changed = false;                 // and pages have been told
    std::string_view json;                // empty: there is none
    std::string_view status;              // as shown
    std::optional<std::uint64_t> due_ms;  // from now until it is to be swept; nothing: it has ended
    std::string_view deadline;
    std::string_view tenant;  // JSON
    std::int64_t late_ms = 0;
};

class RedisApprovalCalls {
public:
    struct Parts {
        Reactor& reactor;
        RedisCalls& calls;
        RedisServers& servers;
        std::string prefix;
        std::string word;  // goes into the secrets of rooms
        std::function<HistoryLimits(std::string_view room)> history;
        // An event has been stored in the room with this key.
        std::function<void(const std::string& base, const RedisClaim& claim)> on_stored;
    };
    // Null: whether it was carried out is unknown; then why, for people.
    using Changed = std::function<void(const ApprovalState* state, std::string_view why)>;

    // `on_due`: something that was changed here will be due in so long.
    RedisApprovalCalls(Parts parts, const ApprovalTimes& times, ApprovalMeter& meter,
                       std::function<void(std::uint64_t ms)> on_due);

    // `what` and its arguments are those of approval.lua.
    void change(const ApprovalPlace& place, std::string_view what,
                std::span<const std::string_view> arguments, Changed done);
    // { JSON, status, deadline, tenant } or nil of each. REQUIRES: one session, not empty.
    void read(std::span<const ApprovalPlace> places, RedisCalls::Done done);

    // The session of an approval, or nil.
    void find(std::string_view id, RedisCalls::Done done);
    // As approval_index.lua has them.
    void claim(const ApprovalPlace& place, std::string_view instead_of, std::string_view timeout,
               std::string_view deadline, RedisCalls::Done done);
    void forget(const ApprovalPlace& place);
    void look(std::size_t skip, std::size_t most, RedisCalls::Done done);

    // { member, deadline, … } from a deadline on: "ID" of a session, "ID SESSION" of a tenant.
    void list(bool of_session, std::string_view name, std::string_view from, std::size_t skip,
              std::size_t most, RedisCalls::Done done);
    // The values of PREFIX:approval_timeouts, the most exact first.
    void timeouts(const std::optional<std::string>& tenant, std::string_view action, RedisCalls::Done done);

private:
    [[nodiscard]] std::string base_of(std::string_view session) const;
    [[nodiscard]] std::string index_key(std::string_view kind, std::string_view name) const;
    [[nodiscard]] RedisCalls::Done guarded(RedisCalls::Done done) const;
    void on_changed(const ApprovalPlace& place, bool sweeps, const RedisOutcome& outcome,
                    const Changed& done);
    void put(const ApprovalPlace& place, const ApprovalState& state);

    Parts parts_;
    ApprovalMeter& meter_;
    const std::function<void(std::uint64_t)> on_due_;
    std::string warn_;
    const std::string max_;
    const std::string due_;  // the key of what is due
    std::shared_ptr<int> alive_ = std::make_shared<int>();
};

}  // namespace rooms

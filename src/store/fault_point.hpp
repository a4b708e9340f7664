// Places where a test may let the process die: builds with ROOMS_FAULTS only, else nothing at all.
//
// ROOMS_FAULT=name[:n] in the environment kills the process, with SIGKILL, when it comes to that
// place for the n-th time; with ROOMS_FAULT_ONCE=file only the one that removes the file dies, so
// that a respawned worker lives. (nginx clears the environment: the test's configuration needs
// `env ROOMS_FAULT;`.) fault_arm() does the same from inside a test. Names are checked when
// compiled, and kFaultPoints is the list to loop over.
//
// ROOMS_BUG=name switches a mistake on, by which the tests of the tests see that they would find it.
#pragma once

#include <cstddef>
#include <iterator>
#include <string_view>

#ifdef ROOMS_FAULTS
#include <csignal>
#include <cstdlib>
#include <unistd.h>
#endif

namespace rooms {

inline constexpr std::string_view kFaultPoints[] = {
    "publish:locked",
    "publish:prepared",
    "publish:before_tail",
    "publish:after_tail",
    "publish:after_skip",
    "publish:half_record",
    "publish:after_record",
    "publish:after_head",
    "publish:after_apply",
    "publish:after_applied",
    "publish:after_bells",
    "publish:unlocked",
    "apply:half_room",
    "apply:after_room",
    "apply:after_id",
    "ids:before_drop",
    "ids:after_drop",
    "ids:written",
    "ids:committed",
    "mailbox:letter",
    "mailbox:written",
    "mailbox:overflow",
    "room:taken",
    "room:half_written",
    "room:written",
    "room:committed",
    "room:before_reclaim",
    "room:reclaimed",
    "user:taken",
    "user:written",
    "user:freed",
    "join:locked",
    "join:room",
    "join:user",
    "join:again",
    "join:tally_taken",
    "join:tally_written",
    "join:committed",
    "join:half_linked",
    "join:linked",
    "leave:found",
    "leave:one_less",
    "leave:committed",
    "leave:half_unlinked",
    "leave:unlinked",
    "limit:committed",
    "limit:released",
    "claim:found",
    "claim:half_reset",
    "claim:before_owner",
    "claim:owned",
    "release:locked",
    "release:half_tallies",
    "release:tallies",
    "release:snapshot",
    "release:retiring",
    "release:half_retired",
    "release:retired",
    "release:disowned",
    "release:done",
    // Come to only where another process died in the lock.
    "recover:begin",
    "recover:rebuilt",
    "recover:redone",
    "recover:done",
    // Of the first worker, with Postgres; the zone comes to none of them.
    "outbox:taken",
    "outbox:wave",
    "outbox:published",
    "outbox:finished",
    "outbox:committed",
    "sweep:answered",
};

inline constexpr std::string_view kBugs[] = {
    "skip_resubscribe",  // one room is forgotten where a subscription is made anew
    "accept_expired",    // a token is good for a week too long
    "drop_outbox_row",   // one row in a hundred is deleted without having been published
};

struct FaultName {
    std::size_t index = 0;
    // Not constant, hence an error, for a name that is not in the list.
    consteval FaultName(const char* name) {
        while (kFaultPoints[index] != std::string_view(name)) ++index;
    }
};

struct BugName {
    std::string_view text;
    // As above.
    consteval BugName(const char* name) : text(name) {
        for (std::size_t i = 0; kBugs[i] != text;) ++i;
    }
};

#ifdef ROOMS_FAULTS

struct FaultState {
    bool read = false;       // the environment has been looked at
    std::size_t index = 0;   // of the place to die at
    unsigned long left = 0;  // hits still to come, 0: not armed
};
inline constinit FaultState fault_state;

inline void fault_arm(std::string_view spec) {
    fault_state.read = true;
    fault_state.left = 0;
    for (std::size_t i = 0; i < std::size(kFaultPoints); ++i) {
        const std::string_view name = kFaultPoints[i];
        if (!spec.starts_with(name)) continue;
        if (spec.size() == name.size()) {
            fault_state.left = 1;
        } else if (spec[name.size()] == ':') {
            fault_state.left = 0;
            for (const char digit : spec.substr(name.size() + 1))
                fault_state.left = fault_state.left * 10 + static_cast<unsigned long>(digit - '0');
        } else {
            continue;
        }
        fault_state.index = i;
        return;
    }
}

inline void fault_point(FaultName name) {
    if (!fault_state.read) {
        const char* spec = std::getenv("ROOMS_FAULT");
        fault_arm(spec ? spec : "");
    }
    if (fault_state.left == 0 || fault_state.index != name.index || --fault_state.left != 0) return;
    if (const char* once = std::getenv("ROOMS_FAULT_ONCE"); once && unlink(once) != 0) return;
    kill(getpid(), SIGKILL);
}

inline bool has_bug(BugName name) {
    static const char* const bug = std::getenv("ROOMS_BUG");
    return bug != nullptr && name.text == bug;
}

#else

constexpr void fault_point(FaultName) {}
constexpr bool has_bug(BugName) { return false; }

#endif

}  // namespace rooms

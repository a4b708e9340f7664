// What time does to a connection: its heartbeat, a queue that stalls, a token that ends, and the time
// that is left for taking leave and for closing.
//
// Pure: told what happens and when, it says what is due and when to ask again. Owned by the connection,
// which does it. All times are of the steady clock; the token's end, which is of the wall clock, is
// converted anew at each question, so that a clock that is set does no harm.
#pragma once

#include <cstdint>

#include "core/wheel.hpp"

namespace rooms {

class Lifetime {
public:
    struct Rules {
        Monotonic heartbeat = 30000;  // of silence, until we ask
        Monotonic timeout = 10000;    // for the answer, and for a queue that does not move
    };

    enum class Due : std::uint8_t {
        nothing,
        ping,           // once; the peer has been silent
        dead,           // it has not answered
        too_slow,       // it has read nothing for too long
        token_warning,  // once
        token_end,
        restart,  // the time for leaving by itself is over
        over,     // the time for closing is over
    };

    explicit Lifetime(Monotonic now) : active_(now) {}

    // Something came: it is alive.
    void on_received(Monotonic now) {
        active_ = now;
        pinged_ = false;
    }
    // The socket takes no more of what is queued, or has taken some.
    void on_stalled(Monotonic now) {
        if (stalled_since_ == 0) stalled_since_ = now;
    }
    void on_progress() { stalled_since_ = 0; }
    [[nodiscard]] bool stalled() const { return stalled_since_ != 0; }
    // A token that ends at `end` (0: never): the warning comes a minute before it, or after half of the
    // time that is left, where that is less.
    void on_token(Monotonic end, Monotonic now);
    // The worker goes: who has not left by then is closed.
    void leave_by(Monotonic until) { leave_by_ = until; }
    // Close has been said: nothing but this counts any more. May be called again.
    void close_by(Monotonic until) { close_by_ = until; }

    // What is due first. A ping or a warning counts as done with the answer.
    [[nodiscard]] Due due(Monotonic now, const Rules& rules, Monotonic token_end);
    // When to ask again, if nothing happens before.
    [[nodiscard]] Monotonic next(const Rules& rules, Monotonic token_end) const;

private:
    Monotonic active_;
    Monotonic stalled_since_ = 0;  // 0: it moves, as everywhere below
    Monotonic warn_at_ = 0;
    Monotonic leave_by_ = 0;
    Monotonic close_by_ = 0;
    bool pinged_ = false;
};

}  // namespace rooms

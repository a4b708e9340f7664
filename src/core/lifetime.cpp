#include "core/lifetime.hpp"

#include <algorithm>

namespace rooms {
namespace {

constexpr Monotonic kWarning = 60000;

}  // namespace

void Lifetime::on_token(Monotonic end, Monotonic now) {
    warn_at_ = 0;
    if (end == 0) return;
    const Monotonic left = end > now ? end - now : 0;
    warn_at_ = left > 2 * kWarning ? end - kWarning : now + left / 2;
}

Lifetime::Due Lifetime::due(Monotonic now, const Rules& rules, Monotonic token_end) {
    if (close_by_ != 0) return now >= close_by_ ? Due::over : Due::nothing;
    if (stalled_since_ != 0 && now >= stalled_since_ + rules.timeout) return Due::too_slow;
    if (pinged_ && now >= active_ + rules.heartbeat + rules.timeout) return Due::dead;
    if (leave_by_ != 0 && now >= leave_by_) return Due::restart;
    if (token_end != 0 && now >= token_end) return Due::token_end;
    if (warn_at_ != 0 && now >= warn_at_) {
        warn_at_ = 0;
        return Due::token_warning;
    }
    if (!pinged_ && now >= active_ + rules.heartbeat) {
        pinged_ = true;
        return Due::ping;
    }
    return Due::nothing;
}

Monotonic Lifetime::next(const Rules& rules, Monotonic token_end) const {
    if (close_by_ != 0) return close_by_;
    Monotonic next = active_ + rules.heartbeat + (pinged_ ? rules.timeout : 0);
    if (stalled_since_ != 0) next = std::min(next, stalled_since_ + rules.timeout);
    for (const Monotonic at : {leave_by_, token_end, warn_at_}) {
        if (at != 0) next = std::min(next, at);
    }
    return next;
}

}  // namespace rooms

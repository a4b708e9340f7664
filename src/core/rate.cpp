// The arithmetic of the sliding window. All in the caller's time; nothing is read from a clock.
#include "core/rate.hpp"

namespace rooms {

bool RateMeter::allow(const RateLimit& limit, std::uint64_t now_ms) {
    if (limit.count == 0 || limit.window_ms == 0) return true;

    std::uint64_t elapsed = now_ms > start_ ? now_ms - start_ : 0;
    if ((current_ == 0 && previous_ == 0) || elapsed / 2 >= limit.window_ms) {
        start_ = now_ms;
        previous_ = 0;
        current_ = 0;
        elapsed = 0;
    } else if (elapsed >= limit.window_ms) {
        start_ += limit.window_ms;
        previous_ = current_;
        current_ = 0;
        elapsed -= limit.window_ms;
    }

    // What of the last window is still in sight.
    const double in_sight =
        static_cast<double>(limit.window_ms - elapsed) / static_cast<double>(limit.window_ms);
    const double used = static_cast<double>(previous_) * in_sight + static_cast<double>(current_);
    if (used + 1 > static_cast<double>(limit.count)) return false;
    ++current_;
    return true;
}

}  // namespace rooms

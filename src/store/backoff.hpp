// How long to wait before the next attempt: from `first` doubling up to `most`, with full jitter above a
// floor, so that the workers of a host do not come back at the same instant.
#pragma once

#include <algorithm>
#include <cstdint>

namespace rooms {

class Backoff {
public:
    constexpr Backoff(std::uint64_t first_ms, std::uint64_t most_ms) : first_(first_ms), most_(most_ms) {}

    // Milliseconds: half of the step to all of it. `random` is any number.
    [[nodiscard]] std::uint64_t next(std::uint64_t random) {
        step_ = step_ == 0 ? first_ : std::min(step_ * 2, most_);
        return step_ / 2 + random % (step_ / 2 + 1);
    }
    // It worked: the next failure begins anew.
    void reset() { step_ = 0; }

private:
    std::uint64_t first_;
    std::uint64_t most_;
    std::uint64_t step_ = 0;
};

}  // namespace rooms

// How many messages a connection may send: `rooms_rate 60/10s`.
//
// A sliding window of two counts in 16 bytes, for every connection has one. The window starts with
// the first message, so the 61st within 10 s of it is always refused; afterwards the last window
// counts in proportion to what of it is still in sight. Refused messages are not counted.
#pragma once

#include <cstdint>

namespace rooms {

struct RateLimit {
    std::uint32_t count = 60;  // 0: no limit
    std::uint64_t window_ms = 10000;
};

class RateMeter {
public:
    // REQUIRES: now_ms of a clock that does not go back (a step back counts as no time).
    [[nodiscard]] bool allow(const RateLimit& limit, std::uint64_t now_ms);

private:
    std::uint64_t start_ = 0;
    std::uint32_t previous_ = 0;
    std::uint32_t current_ = 0;  // 0 before the first message
};

static_assert(sizeof(RateMeter) <= 16);

}  // namespace rooms

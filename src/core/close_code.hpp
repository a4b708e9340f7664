// Close codes: RFC 6455 section 7.4 and our own ranges, which tell a client what to do next:
// 40xx stop for good, 41xx back off and resume, 42xx come back at once.
//
// 1005, 1006 and 1015 are missing on purpose: they never appear on the wire.
#pragma once

#include <cstdint>

namespace rooms {

enum class CloseCode : std::uint16_t {
    normal = 1000,
    going_away = 1001,
    protocol_error = 1002,
    unsupported_data = 1003,
    invalid_data = 1007,  // bad UTF-8, broken deflate data
    policy_violation = 1008,
    too_big = 1009,
    internal_error = 1011,
    service_restart = 1012,
    try_again_later = 1013,

    no_token = 4001,
    bad_token = 4002,
    not_allowed = 4003,

    too_slow = 4101,
    rate_limit = 4102,
    too_many_connections = 4103,

    token_expired = 4201,
    revoked = 4202,
    position_lost = 4203,
};

// Whether a peer may put `code` into a Close frame (and so whether we may echo it).
[[nodiscard]] bool may_be_received(std::uint16_t code);

}  // namespace rooms

// The slots of a Redis cluster: which slot a key is in (its specification: CRC16 of the hash tag, XMODEM).
#pragma once

#include <cstdint>
#include <string_view>

namespace rooms {

inline constexpr std::uint16_t kRedisSlots = 16384;

// Of the part between the first `{` and the next `}`, where that is not empty; else of the whole key.
[[nodiscard]] std::uint16_t redis_slot(std::string_view key);

}  // namespace rooms

// The room table of a zone: names, epochs, where each room stands, and its seats.
//
// A room lives from the store of its epoch until it is reclaimed: it has no members, its history
// has expired, and its place is needed. Its next life has another epoch. REQUIRES everywhere: the
// lock.
#pragma once

#include <cstdint>
#include <string_view>

#include "store/zone_hash.hpp"
#include "store/zone_layout.hpp"
#include "store/zone_log.hpp"

namespace rooms::zone {

[[nodiscard]] inline std::string_view room_name(const RoomEntry& room) { return {room.name, room.length}; }

// Hints for many rooms that will be looked for, each step for all of them before the next: most are in no cache, and
// each would be waited for (two of ten microseconds of a publication to two members).
void room_prefetch_bucket(const ZoneView& v, std::uint64_t hash);
void room_prefetch(const ZoneView& v, std::uint64_t hash);

// kZoneNone where there is none.
[[nodiscard]] std::uint32_t room_find(const ZoneView& v, std::string_view name, std::uint64_t hash);
// REQUIRES: room_find() has found none. Takes a free entry or reclaims one; kZoneNone: full.
[[nodiscard]] std::uint32_t room_create(const ZoneView& v, std::string_view name, std::uint64_t hash,
                                        std::int64_t now_ms);
// What a committed record says of its room. Doing it twice changes nothing.
void room_apply(const ZoneView& v, std::uint64_t position, const LogRecord& record);

// Derived data.
void room_link(const ZoneView& v, std::uint32_t index);
void room_put_free(const ZoneView& v, std::uint32_t index);
// The seat of a slot in a room; made when there is none. There is always room for it: a seat has
// one tally at least, and the tables are of one size.
[[nodiscard]] std::uint32_t seat_take(const ZoneView& v, std::uint32_t room, std::uint32_t slot);
// Gives the seat back when nobody sits there any more.
void seat_drop_empty(const ZoneView& v, std::uint32_t room, std::uint32_t seat);
// Counts connections in or out (negative) of room and seat.
void seat_count(const ZoneView& v, std::uint32_t room, std::uint32_t seat, std::int64_t change);

}  // namespace rooms::zone

// The idempotency table of a zone: what was answered to which key, for ten minutes.
//
// A row of entries without end, of which the table holds the newest: first … next, each at its
// number modulo the table. REQUIRES everywhere: the lock.
#pragma once

#include <cstdint>

#include "store/zone_hash.hpp"
#include "store/zone_layout.hpp"
#include "store/zone_log.hpp"

namespace rooms::zone {

// The entry of this id, unless it is older than ten minutes; nullptr: none.
[[nodiscard]] const IdEntry* id_find(const ZoneView& v, const Hash128& id, std::int64_t now_ms);
// Drops entries that are old, and says whether there is a place for one more.
[[nodiscard]] bool id_make_place(const ZoneView& v, std::int64_t now_ms);
// What a committed record with an id says. Doing it twice changes nothing.
// REQUIRES: id_make_place() was true when the record was written.
void id_apply(const ZoneView& v, const LogRecord& record);

// The id will not come again: its place is free once those before it are.
void id_forget(const ZoneView& v, const Hash128& id);
[[nodiscard]] inline bool id_forgotten(const IdEntry& id) { return id.ms < 0; }

// How many must be kept, found in a few steps. A little off where the row is not in the order of time (some
// moved to the end of a full table), and too many where old ones stand before forgotten ones.
[[nodiscard]] std::uint64_t id_count(const ZoneView& v, std::int64_t now_ms);

// Derived data.
void id_link(const ZoneView& v, std::uint64_t number);

}  // namespace rooms::zone

// What makes a zone whole again after a process has died in its lock.
//
// Everything derived is computed anew from what is primary, then the one record that was committed
// and perhaps not applied is applied. Whoever dies in here leaves the same to the next.
// REQUIRES everywhere: the lock.
#pragma once

#include <string>

#include "store/zone_layout.hpp"
#include "store/zone_log.hpp"
#include "store/zone_types.hpp"

namespace rooms::zone {

// Does what a committed record says: room, id, mailboxes; then `applied` moves behind it.
void apply(const ZoneView& v, std::uint64_t position, const LogRecord& record, SlotMask& filled);

// All derived data; milliseconds for the default size.
void rebuild(const ZoneView& v);
// Rebuild and redo. ORs into `rings` the slots that have mail: who should have rung is dead.
void recover(const ZoneView& v, SlotMask& rings);

// Derived data against a recomputation: empty, or what is wrong. For tests.
[[nodiscard]] std::string check(const ZoneView& v);

}  // namespace rooms::zone

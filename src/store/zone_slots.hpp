// The slots of a zone, their mailboxes and their counters: one slot for each process that serves.
//
// A mailbox is filled under the lock, by anybody, and emptied by the slot's owner without it. The
// bell: the owner empties, arms, looks again and sleeps; who fills and finds it armed disarms it
// and rings. Fences on both sides make one of the two see the other.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "store/zone_layout.hpp"
#include "store/zone_types.hpp"

namespace rooms::zone {

[[nodiscard]] inline std::uint64_t owner_of(const ZoneView& v, unsigned slot) {
    return v.slots[slot].owner.load(std::memory_order_acquire);
}
[[nodiscard]] inline std::int32_t pid_of(std::uint64_t owner) {
    return static_cast<std::int32_t>(owner & 0xffffffff);
}

// REQUIRES: the lock, for all of these.
[[nodiscard]] std::optional<unsigned> slot_claim(const ZoneView& v, std::int32_t pid, std::uint64_t start);
void slot_release(const ZoneView& v, unsigned slot);
// Ends a retirement of counters in which its process died. Doing it twice changes nothing.
void slot_finish_retiring(const ZoneView& v);
[[nodiscard]] std::uint64_t counter_total(const ZoneView& v, std::size_t index);

// Fills the mailboxes of all slots with members of the room, and notes them in `filled`.
void mailbox_fill(const ZoneView& v, std::uint32_t room, std::uint64_t position, SlotMask& filled);
// Of the filled ones those that sleep: they are disarmed, and the caller rings them.
[[nodiscard]] SlotMask mailbox_bells(const ZoneView& v, const SlotMask& filled);
// All that have something: where one who should have rung has died.
[[nodiscard]] SlotMask mailbox_unread(const ZoneView& v);

// The owner's side; no lock.
[[nodiscard]] bool mailbox_drain(const ZoneView& v, unsigned slot, std::vector<std::uint64_t>& out);
[[nodiscard]] bool mailbox_arm(const ZoneView& v, unsigned slot);

// False for a process that is gone, is another one than then, or only waits for its parent.
[[nodiscard]] bool process_lives(std::int32_t pid, std::uint64_t start);
[[nodiscard]] std::uint64_t process_start(std::int32_t pid);

}  // namespace rooms::zone

// The tallies of a zone: who is in which room, and who uses up which limit, slot by slot, so that
// all that was a dead process's can be taken back.
//
// A tally exists from the store of its word with a count above 0 to the store of 0; everything
// else about it (chains, seats, sums, references) is derived. REQUIRES everywhere: the lock.
#pragma once

#include <cstdint>
#include <string_view>

#include "store/zone_layout.hpp"

namespace rooms::zone {

struct Tally {
    std::uint32_t count;
    std::uint32_t slot;
    TallyKind kind;

    [[nodiscard]] static Tally of(const TallyEntry& entry) {
        const std::uint64_t word = entry.word.load(std::memory_order_relaxed);
        return {static_cast<std::uint32_t>(word >> 32), static_cast<std::uint32_t>(word >> 8 & 0xff),
                static_cast<TallyKind>(word & 0xff)};
    }
    [[nodiscard]] std::uint64_t word() const {
        return std::uint64_t{count} << 32 | slot << 8 | static_cast<std::uint64_t>(kind);
    }
};

[[nodiscard]] constexpr std::uint64_t member_key(std::uint32_t room, std::uint32_t user) {
    return std::uint64_t{room} << 32 | user;
}
[[nodiscard]] constexpr std::uint32_t room_of(std::uint64_t key) {
    return static_cast<std::uint32_t>(key >> 32);
}
[[nodiscard]] constexpr std::uint32_t user_of(std::uint64_t key) { return static_cast<std::uint32_t>(key); }

// ok, full_users or full_members.
[[nodiscard]] ZoneStatus member_add(const ZoneView& v, std::uint32_t slot, std::uint32_t room,
                                    std::string_view user);
void member_remove(const ZoneView& v, std::uint32_t slot, std::uint32_t room, std::string_view user);

[[nodiscard]] std::uint64_t limit_sum(const ZoneView& v, std::uint64_t key);
// ok, limit or full_members.
[[nodiscard]] ZoneStatus limit_take(const ZoneView& v, std::uint32_t slot, std::uint64_t key,
                                    std::uint64_t limit);
void limit_give_back(const ZoneView& v, std::uint32_t slot, std::uint64_t key);

// Everything of this slot.
void tally_drop_slot(const ZoneView& v, std::uint32_t slot);

// Derived data: puts an entry with a count where it belongs.
void tally_link(const ZoneView& v, std::uint32_t index);
void tally_put_free(const ZoneView& v, std::uint32_t index);

}  // namespace rooms::zone

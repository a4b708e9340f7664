// See zone_tally.hpp.
#include "store/zone_tally.hpp"

#include "store/fault_point.hpp"
#include "store/zone_hash.hpp"
#include "store/zone_rooms.hpp"
#include "store/zone_users.hpp"

namespace rooms::zone {

namespace {

std::uint32_t& bucket(const ZoneView& v, TallyKind kind, std::uint64_t key) {
    const std::uint64_t hash = Hasher::spread(key ^ static_cast<std::uint64_t>(kind) << 60);
    return v.tally_buckets[bucket_of(hash, v.layout.tallies_cap)];
}

std::uint32_t find(const ZoneView& v, TallyKind kind, std::uint32_t slot, std::uint64_t key) {
    std::uint32_t index = bucket(v, kind, key);
    for (; index != kZoneNone; index = v.tallies[index].next) {
        const TallyEntry& entry = v.tallies[index];
        const Tally tally = Tally::of(entry);
        if (entry.key == key && tally.slot == slot && tally.kind == kind) break;
    }
    return index;
}

void set_count(TallyEntry& entry, Tally tally, std::uint32_t count) {
    tally.count = count;
    commit(entry.word, tally.word());
}

// REQUIRES: a free tally.
void create(const ZoneView& v, TallyKind kind, std::uint32_t slot, std::uint64_t key) {
    const std::uint32_t index = v.header->free_tally;
    TallyEntry& entry = v.tallies[index];
    v.header->free_tally = entry.next;
    fault_point("join:tally_taken");
    entry.key = key;
    fault_point("join:tally_written");
    commit(entry.word, Tally{1, slot, kind}.word());
    fault_point("join:committed");
    tally_link(v, index);
}

// Takes a whole tally back, with all that its count had added.
void remove(const ZoneView& v, std::uint32_t index) {
    TallyEntry& entry = v.tallies[index];
    const Tally tally = Tally::of(entry);
    commit(entry.word, 0);
    fault_point("leave:committed");
    std::uint32_t* link = &bucket(v, tally.kind, entry.key);
    while (*link != index) link = &v.tallies[*link].next;
    *link = entry.next;
    --v.header->tallies_used;
    fault_point("leave:half_unlinked");
    if (tally.kind == TallyKind::member) {
        const std::uint32_t room = room_of(entry.key);
        if (entry.seat_prev == kZoneNone) v.seats[entry.seat].tallies = entry.seat_next;
        else v.tallies[entry.seat_prev].seat_next = entry.seat_next;
        if (entry.seat_next != kZoneNone) v.tallies[entry.seat_next].seat_prev = entry.seat_prev;
        seat_count(v, room, entry.seat, -std::int64_t{tally.count});
        seat_drop_empty(v, room, entry.seat);
        user_unref(v, user_of(entry.key));
    }
    tally_put_free(v, index);
    fault_point("leave:unlinked");
}

}  // namespace

ZoneStatus member_add(const ZoneView& v, std::uint32_t slot, std::uint32_t room, std::string_view user) {
    std::uint32_t index = user_find(v, user);
    const bool known = index != kZoneNone;
    if (known) {
        const std::uint32_t found = find(v, TallyKind::member, slot, member_key(room, index));
        if (found != kZoneNone) {
            TallyEntry& entry = v.tallies[found];
            const Tally tally = Tally::of(entry);
            if (tally.count == 0xffffffff) return ZoneStatus::full_members;
            set_count(entry, tally, tally.count + 1);
            fault_point("join:again");
            seat_count(v, room, entry.seat, 1);
            return ZoneStatus::ok;
        }
    }
    if (v.header->free_tally == kZoneNone) return ZoneStatus::full_members;
    if (!known) {
        index = user_create(v, user);
        if (index == kZoneNone) return ZoneStatus::full_users;
    }
    fault_point("join:user");
    create(v, TallyKind::member, slot, member_key(room, index));
    fault_point("join:linked");
    return ZoneStatus::ok;
}

void member_remove(const ZoneView& v, std::uint32_t slot, std::uint32_t room, std::string_view user) {
    const std::uint32_t index = user_find(v, user);
    if (index == kZoneNone) return;
    const std::uint32_t found = find(v, TallyKind::member, slot, member_key(room, index));
    if (found == kZoneNone) return;
    fault_point("leave:found");
    TallyEntry& entry = v.tallies[found];
    const Tally tally = Tally::of(entry);
    if (tally.count == 1) return remove(v, found);
    set_count(entry, tally, tally.count - 1);
    fault_point("leave:one_less");
    seat_count(v, room, entry.seat, -1);
}

std::uint64_t limit_sum(const ZoneView& v, std::uint64_t key) {
    std::uint64_t sum = 0;
    std::uint32_t index = bucket(v, TallyKind::limit, key);
    for (; index != kZoneNone; index = v.tallies[index].next) {
        const Tally tally = Tally::of(v.tallies[index]);
        if (v.tallies[index].key == key && tally.kind == TallyKind::limit) sum += tally.count;
    }
    return sum;
}

ZoneStatus limit_take(const ZoneView& v, std::uint32_t slot, std::uint64_t key, std::uint64_t limit) {
    if (limit_sum(v, key) >= limit) return ZoneStatus::limit;
    const std::uint32_t found = find(v, TallyKind::limit, slot, key);
    if (found != kZoneNone) {
        const Tally tally = Tally::of(v.tallies[found]);
        if (tally.count == 0xffffffff) return ZoneStatus::full_members;
        set_count(v.tallies[found], tally, tally.count + 1);
    } else {
        if (v.header->free_tally == kZoneNone) return ZoneStatus::full_members;
        create(v, TallyKind::limit, slot, key);
    }
    fault_point("limit:committed");
    return ZoneStatus::ok;
}

void limit_give_back(const ZoneView& v, std::uint32_t slot, std::uint64_t key) {
    const std::uint32_t found = find(v, TallyKind::limit, slot, key);
    if (found == kZoneNone) return;
    const Tally tally = Tally::of(v.tallies[found]);
    if (tally.count == 1) remove(v, found);
    else set_count(v.tallies[found], tally, tally.count - 1);
    fault_point("limit:released");
}

void tally_drop_slot(const ZoneView& v, std::uint32_t slot) {
    for (std::uint32_t index = 0; index < v.layout.tallies_cap; ++index) {
        const Tally tally = Tally::of(v.tallies[index]);
        if (tally.count == 0 || tally.slot != slot) continue;
        remove(v, index);
        fault_point("release:half_tallies");
    }
}

void tally_link(const ZoneView& v, std::uint32_t index) {
    TallyEntry& entry = v.tallies[index];
    const Tally tally = Tally::of(entry);
    std::uint32_t& first = bucket(v, tally.kind, entry.key);
    entry.next = first;
    first = index;
    ++v.header->tallies_used;
    if (tally.kind != TallyKind::member) return;
    fault_point("join:half_linked");
    const std::uint32_t room = room_of(entry.key);
    entry.seat = seat_take(v, room, tally.slot);
    SeatEntry& seat = v.seats[entry.seat];
    entry.seat_prev = kZoneNone;
    entry.seat_next = seat.tallies;
    if (seat.tallies != kZoneNone) v.tallies[seat.tallies].seat_prev = index;
    seat.tallies = index;
    seat_count(v, room, entry.seat, tally.count);
    user_ref(v, user_of(entry.key));
}

void tally_put_free(const ZoneView& v, std::uint32_t index) {
    v.tallies[index].next = v.header->free_tally;
    v.header->free_tally = index;
}

}  // namespace rooms::zone

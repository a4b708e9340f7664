// See zone_recovery.hpp.
#include "store/zone_recovery.hpp"

#include <algorithm>

#include "store/fault_point.hpp"
#include "store/zone_ids.hpp"
#include "store/zone_rooms.hpp"
#include "store/zone_slots.hpp"
#include "store/zone_tally.hpp"
#include "store/zone_users.hpp"

namespace rooms::zone {

namespace {

std::uint64_t load(const ZoneWord& word) { return word.load(std::memory_order_relaxed); }

void rebuild_rooms(const ZoneView& v) {
    ZoneHeader& header = *v.header;
    std::fill_n(v.room_buckets, v.layout.rooms_cap, kZoneNone);
    header.free_room = kZoneNone;
    header.rooms_used = header.rooms_active = 0;
    header.members = 0;
    header.room_sweep_at = 0;
    if (header.room_hand >= v.layout.rooms_cap) header.room_hand = 0;
    for (std::uint32_t index = v.layout.rooms_cap; index-- > 0;)
        load(v.rooms[index].epoch) != 0 ? room_link(v, index) : room_put_free(v, index);
}

// Two passes over the tallies: users must be known before a tally refers to them, and only
// tallies say which users there are.
void rebuild_users(const ZoneView& v) {
    ZoneHeader& header = *v.header;
    std::fill_n(v.cell_buckets, v.layout.cells_cap, kZoneNone);
    header.free_cell = kZoneNone;
    header.cells_used = header.users_used = 0;
    constexpr std::uint32_t kFree = 0, kFirst = 1, kMore = 2;  // in refs, meanwhile
    for (std::uint32_t cell = 0; cell < v.layout.cells_cap; ++cell) v.cells[cell].refs = kFree;
    for (std::uint32_t index = 0; index < v.layout.tallies_cap; ++index) {
        const Tally tally = Tally::of(v.tallies[index]);
        if (tally.count == 0 || tally.kind != TallyKind::member) continue;
        const std::uint32_t user = user_of(v.tallies[index].key);
        if (v.cells[user].refs != kFree) continue;
        v.cells[user].refs = kFirst;
        std::uint32_t more = v.cells[user].more;
        for (; more != kZoneNone; more = v.cells[more].more) v.cells[more].refs = kMore;
    }
    for (std::uint32_t cell = v.layout.cells_cap; cell-- > 0;) {
        switch (v.cells[cell].refs) {
            case kFree: cell_put_free(v, cell); continue;
            case kFirst: user_link(v, cell); break;
            default: v.cells[cell].refs = 0; break;
        }
        ++header.cells_used;
    }
}

void rebuild_tallies(const ZoneView& v) {
    ZoneHeader& header = *v.header;
    std::fill_n(v.tally_buckets, v.layout.tallies_cap, kZoneNone);
    header.free_tally = header.free_seat = kZoneNone;
    header.tallies_used = 0;
    for (std::uint32_t index = v.layout.tallies_cap; index-- > 0;) {
        v.seats[index].next = header.free_seat;
        header.free_seat = index;
    }
    for (std::uint32_t index = v.layout.tallies_cap; index-- > 0;)
        Tally::of(v.tallies[index]).count != 0 ? tally_link(v, index) : tally_put_free(v, index);
}

void rebuild_ids(const ZoneView& v) {
    std::fill_n(v.id_buckets, v.layout.ids_cap, kZoneNone);
    const std::uint64_t next = load(v.header->ids_next);
    if (next - load(v.header->ids_first) > v.layout.ids_cap)
        commit(v.header->ids_first, next - v.layout.ids_cap);
    v.header->ids_forgotten = 0;
    for (std::uint64_t number = load(v.header->ids_first); number != next; ++number) {
        id_link(v, number);
        if (id_forgotten(v.ids[number % v.layout.ids_cap])) ++v.header->ids_forgotten;
    }
}

}  // namespace

void apply(const ZoneView& v, std::uint64_t position, const LogRecord& record, SlotMask& filled) {
    room_apply(v, position, record);
    fault_point("apply:after_room");
    if (record.flags & LogRecord::has_id) id_apply(v, record);
    fault_point("apply:after_id");
    mailbox_fill(v, record.room, position, filled);
    fault_point("publish:after_apply");
    commit(v.header->applied, position + record.size);
    fault_point("publish:after_applied");
}

void rebuild(const ZoneView& v) {
    rebuild_rooms(v);
    rebuild_users(v);
    rebuild_tallies(v);
    rebuild_ids(v);
}

void recover(const ZoneView& v, SlotMask& rings) {
    ZoneHeader& header = *v.header;
    fault_point("recover:begin");
    slot_finish_retiring(v);
    rebuild(v);
    fault_point("recover:rebuilt");
    SlotMask filled;
    for (std::uint64_t position = load(header.applied); position != load(header.head);) {
        const LogRecord record = log_load(v, position);
        if (!(record.flags & LogRecord::skip)) apply(v, position, record, filled);
        position += record.size;
    }
    fault_point("recover:redone");
    rings |= mailbox_unread(v);
    ++header.recoveries;
    fault_point("recover:done");
}

}  // namespace rooms::zone

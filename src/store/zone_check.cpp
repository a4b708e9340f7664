// The auditor of a zone: counts everything anew, by other means than the repair does, and compares.
// For tests; it may allocate and be slow.
#include <map>
#include <set>
#include <string>
#include <utility>

#include "store/zone_hash.hpp"
#include "store/zone_ids.hpp"
#include "store/zone_recovery.hpp"
#include "store/zone_rooms.hpp"
#include "store/zone_slots.hpp"
#include "store/zone_tally.hpp"
#include "store/zone_users.hpp"

namespace rooms::zone {

namespace {

std::uint64_t load(const ZoneWord& word) { return word.load(std::memory_order_relaxed); }

template <typename... Parts>
std::string wrong(const char* what, Parts... parts) {
    std::string text = what;
    ((text += ' ', text += std::to_string(parts)), ...);
    return text;
}

// A list that ends, over entries that `next_of` leads along; -1: it does not end.
template <typename Next>
std::int64_t length(std::uint32_t first, std::uint32_t cap, Next next_of) {
    std::int64_t n = 0;
    for (; first != kZoneNone; first = next_of(first), ++n)
        if (n > cap || first >= cap) return -1;
    return n;
}

std::string check_log(const ZoneView& v) {
    const ZoneHeader& header = *v.header;
    const std::uint64_t tail = load(header.tail), head = load(header.head);
    if (load(header.applied) != head) return "the log is not applied";
    if (tail > head || head - tail > v.layout.ring_size) return wrong("tail and head", tail, head);
    std::map<std::pair<std::uint32_t, std::uint64_t>, std::pair<std::uint64_t, std::uint64_t>> last;
    for (std::uint64_t at = tail; at != head;) {
        if (at > head) return wrong("a record crosses head, at", at);
        const LogRecord record = log_load(v, at);
        if (record.size < 16 || record.size % 16 != 0) return wrong("size of record at", at);
        if (!(record.flags & LogRecord::skip)) {
            if (record.room >= v.layout.rooms_cap) return wrong("room of record at", at);
            auto& [offset, position] = last[{record.room, record.epoch}];
            if (position != 0 && (record.offset != offset + 1 || record.previous != position))
                return wrong("chain of room and position", record.room, at);
            offset = record.offset;
            position = at;
        }
        at += record.size;
    }
    for (const auto& [key, end] : last) {
        const RoomEntry& room = v.rooms[key.first];
        if (load(room.epoch) != key.second) continue;  // of an earlier life
        if (room.last_offset != end.first || room.last_position != end.second)
            return wrong("last record of room", key.first);
    }
    return {};
}

std::string check_rooms(const ZoneView& v) {
    const ZoneHeader& header = *v.header;
    std::uint32_t used = 0;
    std::set<std::uint64_t> epochs;
    for (std::uint32_t index = 0; index < v.layout.rooms_cap; ++index) {
        const RoomEntry& room = v.rooms[index];
        if (load(room.epoch) == 0) continue;
        ++used;
        if (!epochs.insert(load(room.epoch)).second) return wrong("an epoch twice, room", index);
        const std::string_view name = room_name(room);
        if (room.hash != hash_of(header.seed, name).low) return wrong("hash of room", index);
        if (room_find(v, name, room.hash) != index) return wrong("room is not found:", index);
        if (room.last_position >= load(header.head)) return wrong("position of room", index);
    }
    if (used != header.rooms_used) return wrong("rooms used", used, header.rooms_used);
    const std::int64_t free =
        length(header.free_room, v.layout.rooms_cap, [&](std::uint32_t i) { return v.rooms[i].next; });
    if (free != v.layout.rooms_cap - used) return wrong("free rooms", free);
    return {};
}

std::string check_members(const ZoneView& v) {
    const ZoneHeader& header = *v.header;
    std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint64_t> seats;  // room, slot
    std::map<std::uint32_t, std::uint64_t> rooms;
    std::map<std::uint32_t, std::uint32_t> users;
    std::uint64_t members = 0;
    std::uint32_t used = 0;
    std::set<std::pair<std::uint64_t, std::uint64_t>> keys;
    for (std::uint32_t index = 0; index < v.layout.tallies_cap; ++index) {
        const TallyEntry& entry = v.tallies[index];
        const Tally tally = Tally::of(entry);
        if (tally.count == 0) continue;
        ++used;
        if (!keys.insert({entry.key, tally.word() & 0xffffffff}).second)
            return wrong("a tally twice:", index);
        if (owner_of(v, tally.slot) == 0) return wrong("tally of a free slot:", index);
        if (tally.kind != TallyKind::member) continue;
        const std::uint32_t room = room_of(entry.key), user = user_of(entry.key);
        if (load(v.rooms[room].epoch) == 0) return wrong("member of no room:", index);
        if (user_find(v, user_id(v, user)) != user) return wrong("user is not found:", user);
        seats[{room, tally.slot}] += tally.count;
        rooms[room] += tally.count;
        ++users[user];
        members += tally.count;
    }
    if (used != header.tallies_used) return wrong("tallies used", used, header.tallies_used);
    if (members != header.members) return wrong("members", members, header.members);
    if (rooms.size() != header.rooms_active) return wrong("rooms active", header.rooms_active);
    if (users.size() != header.users_used) return wrong("users", header.users_used);
    for (const auto& [user, refs] : users)
        if (v.cells[user].refs != refs) return wrong("references of user", user);

    std::size_t seats_seen = 0;
    for (std::uint32_t index = 0; index < v.layout.rooms_cap; ++index) {
        const RoomEntry& room = v.rooms[index];
        if (load(room.epoch) == 0) continue;
        const auto expected = rooms.find(index);
        if (room.members != (expected == rooms.end() ? 0 : expected->second))
            return wrong("members of room", index, room.members);
        for (std::uint32_t at = room.seats; at != kZoneNone; at = v.seats[at].next) {
            const SeatEntry& seat = v.seats[at];
            const auto found = seats.find({index, seat.slot});
            if (found == seats.end() || found->second != seat.connections)
                return wrong("seat of room and slot", index, seat.slot);
            ++seats_seen;
            std::uint64_t sum = 0;
            std::uint32_t before = kZoneNone;
            for (std::uint32_t t = seat.tallies; t != kZoneNone; t = v.tallies[t].seat_next) {
                const TallyEntry& entry = v.tallies[t];
                if (room_of(entry.key) != index || entry.seat != at || entry.seat_prev != before)
                    return wrong("list of seat", at);
                sum += Tally::of(entry).count;
                before = t;
            }
            if (sum != seat.connections) return wrong("sum of seat", at);
        }
    }
    if (seats_seen != seats.size()) return wrong("seats", seats_seen);
    const std::int64_t free_seats =
        length(header.free_seat, v.layout.tallies_cap, [&](std::uint32_t i) { return v.seats[i].next; });
    if (free_seats != static_cast<std::int64_t>(v.layout.tallies_cap - seats.size()))
        return wrong("free seats", free_seats);
    const std::int64_t free =
        length(header.free_tally, v.layout.tallies_cap, [&](std::uint32_t i) { return v.tallies[i].next; });
    if (free != v.layout.tallies_cap - used) return wrong("free tallies", free);

    std::set<std::uint32_t> cells;
    for (const auto& [user, refs] : users)
        for (std::uint32_t cell = user; cell != kZoneNone; cell = v.cells[cell].more)
            if (!cells.insert(cell).second) return wrong("a cell of two users:", cell);
    if (cells.size() != header.cells_used) return wrong("cells used", header.cells_used);
    for (std::uint32_t cell = header.free_cell; cell != kZoneNone; cell = v.cells[cell].next)
        if (!cells.insert(cell).second) return wrong("a free cell that is used or twice:", cell);
    if (cells.size() != v.layout.cells_cap) return wrong("cells lost", cells.size());
    return {};
}

std::string check_chains(const ZoneView& v) {
    std::uint64_t tallies = 0, ids = 0;
    for (std::uint32_t i = 0; i < v.layout.tallies_cap; ++i) {
        const std::int64_t n = length(v.tally_buckets[i], v.layout.tallies_cap,
                                      [&](std::uint32_t at) { return v.tallies[at].next; });
        if (n < 0) return wrong("chain of tallies", i);
        tallies += static_cast<std::uint64_t>(n);
    }
    if (tallies != v.header->tallies_used) return wrong("tallies in chains", tallies);
    for (std::uint32_t i = 0; i < v.layout.ids_cap; ++i) {
        const std::int64_t n =
            length(v.id_buckets[i], v.layout.ids_cap, [&](std::uint32_t at) { return v.ids[at].next; });
        if (n < 0) return wrong("chain of ids", i);
        ids += static_cast<std::uint64_t>(n);
    }
    const std::uint64_t first = load(v.header->ids_first), next = load(v.header->ids_next);
    if (next - first > v.layout.ids_cap) return wrong("ids", first, next);
    if (ids != next - first) return wrong("ids in chains", ids, next - first);
    std::set<std::pair<std::uint64_t, std::uint64_t>> answers;
    for (std::uint64_t number = first; number != next; ++number) {
        const IdEntry& id = v.ids[number % v.layout.ids_cap];
        if (!answers.insert({id.epoch, id.offset}).second) return wrong("an id twice:", number);
        if (!id_forgotten(id) && id_find(v, {id.id[0], id.id[1]}, id.ms) == nullptr)
            return wrong("id", number);
    }
    return {};
}

}  // namespace

std::string check(const ZoneView& v) {
    for (const auto part : {check_log, check_rooms, check_members, check_chains})
        if (std::string found = part(v); !found.empty()) return found;
    if (load(v.header->retiring) != 0) return "a slot is being released";
    return {};
}

}  // namespace rooms::zone

// The Zone's other half: limits and counters, and what people ask it: who is there, how full it is.
#include <algorithm>
#include <utility>

#include "store/fault_point.hpp"
#include "store/zone.hpp"
#include "store/zone_hash.hpp"
#include "store/zone_ids.hpp"
#include "store/zone_locked.hpp"
#include "store/zone_log.hpp"
#include "store/zone_rooms.hpp"
#include "store/zone_slots.hpp"
#include "store/zone_tally.hpp"
#include "store/zone_users.hpp"

namespace rooms {

using namespace zone;

namespace {

std::uint64_t load(const ZoneWord& word) { return word.load(std::memory_order_relaxed); }

}  // namespace

std::uint64_t Zone::members(std::string_view room) {
    if (room.empty() || room.size() > kZoneNameLength) return 0;
    const std::uint64_t hash = hash_of(view_.header->seed, room).low;
    Locked lock(*this);
    const std::uint32_t index = lock ? room_find(view_, room, hash) : kZoneNone;
    return index == kZoneNone ? 0 : view_.rooms[index].members;
}

ZonePresence Zone::presence(std::string_view room, std::size_t max_users) {
    ZonePresence presence;
    if (room.empty() || room.size() > kZoneNameLength) return presence;
    const std::uint64_t hash = hash_of(view_.header->seed, room).low;
    std::vector<std::pair<std::uint32_t, std::uint64_t>> users;  // user, connections
    Locked lock(*this);
    const std::uint32_t index = lock ? room_find(view_, room, hash) : kZoneNone;
    if (index == kZoneNone) return presence;
    const RoomEntry& entry = view_.rooms[index];
    presence.count = entry.members;
    for (std::uint32_t seat = entry.seats; seat != kZoneNone; seat = view_.seats[seat].next)
        for (std::uint32_t at = view_.seats[seat].tallies; at != kZoneNone; at = view_.tallies[at].seat_next)
            users.emplace_back(user_of(view_.tallies[at].key), Tally::of(view_.tallies[at]).count);
    std::sort(users.begin(), users.end());
    for (std::size_t i = 0; i < users.size() && presence.users.size() < max_users;) {
        const std::uint32_t user = users[i].first;
        std::uint64_t connections = 0;
        for (; i < users.size() && users[i].first == user; ++i) connections += users[i].second;
        if (std::string id = user_id(view_, user); !id.empty())
            presence.users.push_back({std::move(id), connections});
    }
    return presence;
}

std::vector<ZoneRoom> Zone::active_rooms(std::size_t max_rooms) {
    constexpr std::uint32_t kAtOnce = 1024;  // entries under one hold of the lock
    std::vector<ZoneRoom> rooms;
    for (std::uint32_t first = 0; first < view_.layout.rooms_cap && rooms.size() < max_rooms;
         first += kAtOnce) {
        Locked lock(*this);
        if (!lock) break;
        const std::uint32_t end = std::min(first + kAtOnce, view_.layout.rooms_cap);
        for (std::uint32_t index = first; index < end && rooms.size() < max_rooms; ++index) {
            const RoomEntry& room = view_.rooms[index];
            if (load(room.epoch) != 0 && room.members != 0)
                rooms.push_back({std::string(room_name(room)), room.members});
        }
    }
    return rooms;
}

ZoneStatus Zone::limit_add(unsigned slot, std::uint64_t key_hash, std::uint64_t limit) {
    Locked lock(*this);
    return lock ? limit_take(view_, slot, key_hash, limit) : ZoneStatus::unavailable;
}

void Zone::limit_release(unsigned slot, std::uint64_t key_hash) {
    Locked lock(*this);
    if (lock) limit_give_back(view_, slot, key_hash);
}

std::uint64_t Zone::limit_count(std::uint64_t key_hash) {
    Locked lock(*this);
    return lock ? limit_sum(view_, key_hash) : 0;
}

std::uint64_t Zone::hash(std::string_view text) const { return hash_of(view_.header->seed, text).low; }

ZoneWord& Zone::counter(unsigned slot, std::size_t index) { return view_.slots[slot].counters[index]; }

std::uint64_t Zone::total(std::size_t index) {
    Locked lock(*this);
    return lock ? counter_total(view_, index) : 0;
}

std::array<std::uint64_t, kZoneCounters> Zone::totals() {
    std::array<std::uint64_t, kZoneCounters> totals{};
    Locked lock(*this);
    for (std::size_t i = 0; lock && i < totals.size(); ++i) totals[i] = counter_total(view_, i);
    return totals;
}

ZoneUsage Zone::usage(std::int64_t now_ms) {
    ZoneUsage usage;
    const ZoneHeader& header = *view_.header;
    usage.size = header.size;
    usage.ring_size = view_.layout.ring_size;
    usage.rooms_cap = view_.layout.rooms_cap;
    usage.ids_cap = view_.layout.ids_cap;
    usage.user_cells_cap = view_.layout.cells_cap;
    usage.tallies_cap = view_.layout.tallies_cap;
    Locked lock(*this);
    if (!lock) return usage;
    std::uint64_t oldest = load(header.tail);
    usage.ring_used = load(header.head) - oldest;
    while (oldest != load(header.head)) {
        const LogRecord record = log_load(view_, oldest);
        if (!(record.flags & LogRecord::skip)) {
            usage.ring_age_ms = std::max<std::int64_t>(0, now_ms - record.ms);
            break;
        }
        oldest += record.size;
    }
    usage.published = header.published;
    usage.rooms = header.rooms_used;
    usage.rooms_active = header.rooms_active;
    usage.members = header.members;
    usage.ids = id_count(view_, now_ms);
    usage.users = header.users_used;
    usage.user_cells = header.cells_used;
    usage.tallies = header.tallies_used;
    for (unsigned slot = 0; slot < kZoneSlots; ++slot) usage.slots += owner_of(view_, slot) != 0;
    usage.recoveries = header.recoveries;
    return usage;
}

std::string Zone::check() {
    Locked lock(*this);
    return lock ? zone::check(view_) : "the lock cannot be had";
}

}  // namespace rooms

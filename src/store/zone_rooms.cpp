// See zone_rooms.hpp.
#include "store/zone_rooms.hpp"

#include <algorithm>
#include <cstring>

#include "store/fault_point.hpp"

namespace rooms::zone {

namespace {

// One search frees several, so that a full table is not walked for every new room; one that finds
// nothing is not repeated at once.
constexpr std::uint32_t kReclaimAtOnce = 64;
constexpr std::int64_t kSweepPauseMs = 50;

std::uint32_t& bucket(const ZoneView& v, std::uint64_t hash) {
    return v.room_buckets[bucket_of(hash, v.layout.rooms_cap)];
}

void prefetch_entry(const RoomEntry& room) {
    __builtin_prefetch(&room);
    __builtin_prefetch(&room.length);
}

std::uint64_t epoch_of(const RoomEntry& room) { return room.epoch.load(std::memory_order_relaxed); }

void reclaim(const ZoneView& v, std::uint32_t index) {
    RoomEntry& room = v.rooms[index];
    fault_point("room:before_reclaim");
    commit(room.epoch, 0);
    fault_point("room:reclaimed");
    std::uint32_t* link = &bucket(v, room.hash);
    while (*link != index) link = &v.rooms[*link].next;
    *link = room.next;
    --v.header->rooms_used;
    room_put_free(v, index);
}

void sweep(const ZoneView& v, std::int64_t now_ms) {
    ZoneHeader& header = *v.header;
    // A clock that was set back must not keep rooms from being reclaimed for as long.
    if (now_ms < header.room_sweep_at && header.room_sweep_at - now_ms <= kSweepPauseMs) return;
    std::uint32_t freed = 0;
    for (std::uint32_t n = 0; n < v.layout.rooms_cap && freed < kReclaimAtOnce; ++n) {
        const std::uint32_t index = header.room_hand;
        header.room_hand = index + 1 == v.layout.rooms_cap ? 0 : index + 1;
        const RoomEntry& room = v.rooms[index];
        if (epoch_of(room) == 0 || room.members != 0 || room.expires_ms > now_ms) continue;
        reclaim(v, index);
        ++freed;
    }
    header.room_sweep_at = freed == kReclaimAtOnce ? 0 : now_ms + kSweepPauseMs;
}

std::uint64_t new_epoch(const ZoneView& v) {
    ZoneHeader& header = *v.header;
    for (;;) {
        const std::uint64_t lives = header.epochs.load(std::memory_order_relaxed) + 1;
        commit(header.epochs, lives);  // before its use: an epoch is never given out twice
        if (const std::uint64_t epoch = Hasher::spread(header.seed + lives)) return epoch;
    }
}

}  // namespace

void room_prefetch_bucket(const ZoneView& v, std::uint64_t hash) { __builtin_prefetch(&bucket(v, hash)); }

void room_prefetch(const ZoneView& v, std::uint64_t hash) {
    const std::uint32_t index = bucket(v, hash);
    if (index != kZoneNone) prefetch_entry(v.rooms[index]);
}

std::uint32_t room_find(const ZoneView& v, std::string_view name, std::uint64_t hash) {
    std::uint32_t index = bucket(v, hash);
    for (; index != kZoneNone; index = v.rooms[index].next) {
        const RoomEntry& room = v.rooms[index];
        prefetch_entry(room);
        if (room.hash == hash && room_name(room) == name) break;
    }
    return index;
}

std::uint32_t room_create(const ZoneView& v, std::string_view name, std::uint64_t hash, std::int64_t now_ms) {
    ZoneHeader& header = *v.header;
    if (header.free_room == kZoneNone) sweep(v, now_ms);
    const std::uint32_t index = header.free_room;
    if (index == kZoneNone) return kZoneNone;
    RoomEntry& room = v.rooms[index];
    header.free_room = room.next;
    fault_point("room:taken");
    room.hash = hash;
    room.last_offset = 0;
    room.last_position = 0;
    room.last_ms = 0;
    room.expires_ms = 0;
    room.length = static_cast<std::uint8_t>(name.size());
    fault_point("room:half_written");
    std::memcpy(room.name, name.data(), name.size());
    const std::uint64_t epoch = new_epoch(v);
    fault_point("room:written");
    commit(room.epoch, epoch);
    fault_point("room:committed");
    room_link(v, index);
    return index;
}

void room_apply(const ZoneView& v, std::uint64_t position, const LogRecord& record) {
    RoomEntry& room = v.rooms[record.room];
    if (epoch_of(room) != record.epoch) return;
    room.last_offset = record.offset;
    room.last_position = position;
    fault_point("apply:half_room");
    room.last_ms = record.ms;
    room.expires_ms = record.expires_ms;
}

void room_link(const ZoneView& v, std::uint32_t index) {
    RoomEntry& room = v.rooms[index];
    room.members = 0;
    room.seats = kZoneNone;
    std::uint32_t& first = bucket(v, room.hash);
    room.next = first;
    first = index;
    ++v.header->rooms_used;
}

void room_put_free(const ZoneView& v, std::uint32_t index) {
    v.rooms[index].next = v.header->free_room;
    v.header->free_room = index;
}

std::uint32_t seat_take(const ZoneView& v, std::uint32_t room, std::uint32_t slot) {
    std::uint32_t index = v.rooms[room].seats;
    while (index != kZoneNone && v.seats[index].slot != slot) index = v.seats[index].next;
    if (index != kZoneNone) return index;
    index = v.header->free_seat;
    SeatEntry& seat = v.seats[index];
    v.header->free_seat = seat.next;
    seat = {.connections = 0, .next = v.rooms[room].seats, .tallies = kZoneNone, .slot = slot, .unused = 0};
    v.rooms[room].seats = index;
    return index;
}

void seat_drop_empty(const ZoneView& v, std::uint32_t room, std::uint32_t index) {
    SeatEntry& seat = v.seats[index];
    if (seat.connections != 0) return;
    std::uint32_t* link = &v.rooms[room].seats;
    while (*link != index) link = &v.seats[*link].next;
    *link = seat.next;
    seat.next = v.header->free_seat;
    v.header->free_seat = index;
}

void seat_count(const ZoneView& v, std::uint32_t index, std::uint32_t seat, std::int64_t change) {
    ZoneHeader& header = *v.header;
    RoomEntry& room = v.rooms[index];
    if (room.members == 0) ++header.rooms_active;
    const auto add = static_cast<std::uint64_t>(change);
    v.seats[seat].connections += add;
    room.members += add;
    header.members += add;
    if (room.members == 0) {
        --header.rooms_active;
        // Without history it may be reclaimed at once.
        if (room.expires_ms <= room.last_ms) header.room_sweep_at = 0;
    }
}

}  // namespace rooms::zone

// See zone.hpp. Each call: take the lock, repair if need be, do the thing, let go.
#include "store/zone.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "store/fault_point.hpp"
#include "store/zone_hash.hpp"
#include "store/zone_ids.hpp"
#include "store/zone_locked.hpp"
#include "store/zone_log.hpp"
#include "store/zone_recovery.hpp"
#include "store/zone_rooms.hpp"
#include "store/zone_slots.hpp"
#include "store/zone_tally.hpp"
#include "store/zone_users.hpp"

namespace rooms {

using namespace zone;

namespace {

std::uint64_t load(const ZoneWord& word) { return word.load(std::memory_order_relaxed); }

bool good_name(std::string_view room) { return !room.empty() && room.size() <= kZoneNameLength; }

std::uint64_t hash_room(const ZoneView& v, std::string_view room) {
    return hash_of(v.header->seed, room).low;
}

Hash128 id_of(const ZoneView& v, std::string_view room, std::string_view key) {
    Hasher hasher(v.header->seed);
    hasher.add(room);
    hasher.add(key);
    return hasher.finish();
}

std::uint32_t find_room(const ZoneView& v, std::string_view room) {
    return good_name(room) ? room_find(v, room, hash_room(v, room)) : kZoneNone;
}

std::int64_t expiry(std::int64_t ms, const HistoryLimits& history) {
    constexpr std::uint64_t kLongest = std::uint64_t{1} << 60;
    return history.size == 0 ? ms : ms + static_cast<std::int64_t>(std::min(history.ttl_ms, kLongest));
}

Position position_of(const ZoneView& v, std::uint32_t index) {
    if (index >= v.layout.rooms_cap) return {};
    const std::uint64_t epoch = load(v.rooms[index].epoch);
    return {epoch, epoch != 0 ? v.rooms[index].last_offset : 0};
}

// `hash`: of the room.
ZoneAnswer publish_one(const ZoneView& v, const ZonePublication& publication, std::uint64_t hash,
                       std::int64_t now_ms, SlotMask& filled) {
    const std::string_view name = publication.room;
    if (!good_name(name)) return {.status = ZoneStatus::bad_name};
    if (publication.body.size() > log_max_body(v)) return {.status = ZoneStatus::too_large};

    LogRecord record;
    if (!publication.key.empty()) {
        record.flags |= LogRecord::has_id;
        record.id = id_of(v, name, publication.key);
        const std::string_view print = publication.fingerprint;
        record.body = hash_of(v.header->seed, print.empty() ? publication.body : print);
        if (const IdEntry* first = id_find(v, record.id, now_ms)) {
            const bool same = Hash128{first->body[0], first->body[1]} == record.body;
            return {.status = same ? ZoneStatus::duplicate : ZoneStatus::conflict,
                    .epoch = first->epoch,
                    .offset = first->offset,
                    .subscribers = first->subscribers};
        }
        if (!id_make_place(v, now_ms)) return {.status = ZoneStatus::full_ids};
    }

    record.room = room_find(v, name, hash);
    if (record.room == kZoneNone) record.room = room_create(v, name, hash, now_ms);
    if (record.room == kZoneNone) return {.status = ZoneStatus::full_rooms};

    const RoomEntry& room = v.rooms[record.room];
    if (room.seats != kZoneNone) __builtin_prefetch(&v.seats[room.seats]);  // for the mailboxes
    record.epoch = load(room.epoch);
    record.offset = room.last_offset + 1;
    record.previous = room.last_position;
    record.ms = std::max(now_ms, room.last_ms);
    record.expires_ms = expiry(record.ms, publication.history);
    record.subscribers = static_cast<std::uint32_t>(std::min<std::uint64_t>(room.members, 0xffffffff));
    const bool wanted = publication.history.size != 0 || room.members != 0;
    if (!wanted) record.flags |= LogRecord::no_body;
    fault_point("publish:prepared");

    const std::uint64_t position = log_append(v, record, wanted ? publication.body : std::string_view());
    apply(v, position, record, filled);
    ++v.header->published;
    return {.status = ZoneStatus::ok,
            .epoch = record.epoch,
            .offset = record.offset,
            .subscribers = record.subscribers};
}

}  // namespace

std::size_t Zone::min_size() { return kZoneMinSize; }

Result<Zone> Zone::format(void* base, std::size_t size, std::uint64_t seed) {
    if (reinterpret_cast<std::uintptr_t>(base) % alignof(ZoneHeader) != 0)
        return Error{"the zone is not aligned"};
    if (size < kZoneMinSize) return Error{"the zone is too small"};
    const ZoneView view = ZoneView::at(base, size);
    // The log and the letters need nothing: nobody reads there before it is written.
    std::memset(base, 0, view.layout.letters);
    std::memset(static_cast<char*>(base) + view.layout.rooms, 0, view.layout.ring - view.layout.rooms);
    ZoneHeader& header = *view.header;
    header.version = kZoneVersion;
    header.size = size;
    header.seed = seed;
    if (!make_lock(header.mutex)) return Error{"the system has no robust process-shared mutexes"};
    // Positions begin after one ring: 0 is none.
    header.tail = header.head = header.applied = view.layout.ring_size;
    rebuild(view);
    header.magic = kZoneMagic;
    return Zone(view);
}

Result<Zone> Zone::attach(void* base, std::size_t size) {
    if (reinterpret_cast<std::uintptr_t>(base) % alignof(ZoneHeader) != 0)
        return Error{"the zone is not aligned"};
    if (size < kZoneMinSize) return Error{"the zone is too small"};
    const auto& header = *static_cast<const ZoneHeader*>(base);
    if (header.magic != kZoneMagic) return Error{"the zone has not been formatted"};
    if (header.version != kZoneVersion) return Error{"the zone is of another version"};
    if (header.size != size) return Error{"the zone is of another size"};
    return Zone(ZoneView::at(base, size));
}

void Zone::publish(std::span<const ZonePublication> batch, std::int64_t now_ms, std::span<ZoneAnswer> answers,
                   SlotMask& ring) {
    std::array<std::uint64_t, kZoneBatch> hashes;
    while (!batch.empty()) {
        const std::size_t count = std::min(batch.size(), kZoneBatch);
        for (std::size_t i = 0; i < count; ++i) {
            hashes[i] = good_name(batch[i].room) ? hash_room(view_, batch[i].room) : 0;
            room_prefetch_bucket(view_, hashes[i]);
        }
        {
            Locked lock(*this);
            if (!lock) {
                std::fill_n(answers.begin(), batch.size(), ZoneAnswer{});
                break;
            }
            fault_point("publish:locked");
            SlotMask filled;
            if (count > 1) {
                for (std::size_t i = 0; i < count; ++i) room_prefetch(view_, hashes[i]);
            }
            for (std::size_t i = 0; i < count; ++i)
                answers[i] = publish_one(view_, batch[i], hashes[i], now_ms, filled);
            ring |= mailbox_bells(view_, filled);
            fault_point("publish:after_bells");
        }
        fault_point("publish:unlocked");
        batch = batch.subspan(count);
        answers = answers.subspan(count);
    }
    ring |= take_rings();
}

void Zone::forget(std::string_view room, std::string_view key) {
    Locked lock(*this);
    if (lock) id_forget(view_, id_of(view_, room, key));
}

std::size_t Zone::max_body() const { return log_max_body(view_); }

ZoneSeat Zone::join(unsigned slot, std::string_view room, std::string_view user, std::int64_t now_ms) {
    if (!good_name(room) || user.size() > kZoneUserLength) return {.status = ZoneStatus::bad_name};
    const std::uint64_t hash = hash_room(view_, room);
    Locked lock(*this);
    if (!lock) return {};
    fault_point("join:locked");
    std::uint32_t index = room_find(view_, room, hash);
    if (index == kZoneNone) index = room_create(view_, room, hash, now_ms);
    if (index == kZoneNone) return {.status = ZoneStatus::full_rooms};
    fault_point("join:room");
    const ZoneStatus status = member_add(view_, slot, index, user);
    if (status != ZoneStatus::ok) return {.status = status};
    const Position position = position_of(view_, index);
    return {
        .status = ZoneStatus::ok, .room_index = index, .epoch = position.epoch, .offset = position.offset};
}

void Zone::leave(unsigned slot, std::string_view room, std::string_view user) {
    Locked lock(*this);
    if (!lock) return;
    const std::uint32_t index = find_room(view_, room);
    if (index != kZoneNone) member_remove(view_, slot, index, user);
}

Position Zone::position(std::uint32_t room_index) {
    Locked lock(*this);
    return lock ? position_of(view_, room_index) : Position{};
}

void Zone::positions(std::span<const std::uint32_t> room_indexes, std::span<Position> out) {
    Locked lock(*this);
    for (std::size_t i = 0; i < room_indexes.size(); ++i)
        out[i] = lock ? position_of(view_, room_indexes[i]) : Position{};
}

std::optional<ZoneRecord> Zone::peek(std::uint64_t position) const {
    const std::optional<LogRecord> record = log_peek(view_, position);
    if (!record) return std::nullopt;
    return ZoneRecord{.room_index = record->room,
                      .epoch = record->epoch,
                      .offset = record->offset,
                      .timestamp = record->ms,
                      .body_size = record->body_size,
                      .flags = record->flags};
}

std::uint32_t Zone::room_hint(std::uint64_t position) const { return log_room(view_, position); }

bool Zone::copy_body(std::uint64_t position, const ZoneRecord& record, char* to) const {
    LogRecord copied;
    copied.body_size = static_cast<std::uint32_t>(record.body_size);
    copied.flags = record.flags;
    return log_copy(view_, position, copied, to);
}

ZoneHistory Zone::history(std::uint32_t room_index, std::uint64_t epoch, std::uint64_t from,
                          HistoryLimits limits, std::int64_t now_ms) {
    ZoneHistory history;
    std::uint64_t at = 0;
    {
        Locked lock(*this);
        if (!lock) return history;
        history.position = position_of(view_, room_index);
        if (history.position.epoch != 0) at = view_.rooms[room_index].last_position;
    }
    const std::uint64_t last = history.position.offset;
    if (history.position.epoch == 0 || history.position.epoch != epoch || from > last) return history;
    if (last - from > limits.size) return history;
    history.positions.reserve(std::min<std::uint64_t>(last - from, 1024));
    for (std::uint64_t offset = last; offset != from; --offset) {
        const std::optional<LogRecord> record = log_peek(view_, at);
        if (!record || record->room != room_index || record->epoch != epoch || record->offset != offset ||
            record->flags & LogRecord::no_body)
            return history;
        if (now_ms > record->ms && static_cast<std::uint64_t>(now_ms - record->ms) > limits.ttl_ms)
            return history;
        history.positions.push_back(at);
        at = record->previous;
    }
    std::reverse(history.positions.begin(), history.positions.end());
    history.complete = true;
    return history;
}

bool Zone::drain(unsigned slot, std::vector<std::uint64_t>& out) { return mailbox_drain(view_, slot, out); }

bool Zone::arm(unsigned slot) { return mailbox_arm(view_, slot); }

SlotMask Zone::take_rings() { return std::exchange(rings_, SlotMask{}); }

std::optional<unsigned> Zone::claim(std::int32_t pid, std::uint64_t start) {
    Locked lock(*this);
    if (!lock) return std::nullopt;
    const std::optional<unsigned> slot = slot_claim(view_, pid, start);
    // A publisher may have died between the lock and the bell. Someone new comes then.
    rings_ |= mailbox_unread(view_);
    return slot;
}

void Zone::release(unsigned slot) {
    Locked lock(*this);
    if (!lock || owner_of(view_, slot) == 0) return;
    fault_point("release:locked");
    slot_release(view_, slot);
}

unsigned Zone::reclaim_dead() {
    unsigned released = 0;
    for (unsigned slot = 0; slot < kZoneSlots; ++slot) {
        const std::uint64_t owner = owner_of(view_, slot);
        const std::uint64_t start = view_.slots[slot].start.load(std::memory_order_relaxed);
        if (owner == 0 || process_lives(pid_of(owner), start)) continue;
        Locked lock(*this);
        if (!lock || owner_of(view_, slot) != owner) continue;
        fault_point("release:locked");
        slot_release(view_, slot);
        rings_ |= mailbox_unread(view_);
        ++released;
    }
    return released;
}

std::vector<ZoneSlotOwner> Zone::owners() {
    std::vector<ZoneSlotOwner> owners;
    for (unsigned slot = 0; slot < kZoneSlots; ++slot)
        if (const std::uint64_t owner = owner_of(view_, slot))
            owners.push_back({slot, pid_of(owner), static_cast<std::uint32_t>(owner >> 32)});
    return owners;
}

std::uint64_t Zone::process_start(std::int32_t pid) { return zone::process_start(pid); }

}  // namespace rooms

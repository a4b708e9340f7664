// The zone: rooms, log, ids, members, counters and mailboxes of all workers of a host, in one
// block of shared memory that survives the kill of any process at any instruction.
//
// A Zone is a handle: it owns no memory, only knows where the block is in this process. Whoever
// maps the block owns it. Nothing in the block is a pointer. One handle per process; a handle is
// not for two threads at once. Every call that takes the lock may find that its last holder died
// in it; it then repairs the zone first, which can leave bells to be rung: see take_rings().
// Never calls anything that waits while it holds the lock.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.hpp"
#include "store/zone_layout.hpp"
#include "store/zone_types.hpp"

namespace rooms {

class Zone {
public:
    static constexpr std::size_t kCounters = kZoneCounters;  // per slot
    static constexpr std::size_t kGauges = kZoneGauges;      // the first of them: dropped with a slot

    // The smallest block, in bytes (at most 1 MiB).
    [[nodiscard]] static std::size_t min_size();
    // Once, in the master, on a block that nobody uses. `base` must be 64-aligned. `seed` is random.
    [[nodiscard]] static Result<Zone> format(void* base, std::size_t size, std::uint64_t seed);
    // A block that format() has made; fails when magic, version or size differ.
    [[nodiscard]] static Result<Zone> attach(void* base, std::size_t size);

    // Publishing. answers.size() >= batch.size(). The lock is released after every kZoneBatch.
    // ORs into `ring` the slots to be rung (take_rings() included).
    void publish(std::span<const ZonePublication> batch, std::int64_t now_ms, std::span<ZoneAnswer> answers,
                 SlotMask& ring);
    // No publication with this key will come again.
    void forget(std::string_view room, std::string_view key);
    [[nodiscard]] std::size_t max_body() const;

    // Members. One leave per join that was ok.
    [[nodiscard]] ZoneSeat join(unsigned slot, std::string_view room, std::string_view user,
                                std::int64_t now_ms);
    void leave(unsigned slot, std::string_view room, std::string_view user);
    // Connections in the room, over all slots.
    [[nodiscard]] std::uint64_t members(std::string_view room);
    [[nodiscard]] ZonePresence presence(std::string_view room, std::size_t max_users);
    [[nodiscard]] std::vector<ZoneRoom> active_rooms(std::size_t max_rooms);

    // Positions. REQUIRES: the caller has a member in the room; {} for an index of no room.
    [[nodiscard]] Position position(std::uint32_t room_index);
    void positions(std::span<const std::uint32_t> room_indexes, std::span<Position> out);

    // Reading, without the lock. `into(const ZoneRecord&) -> char*` says where the body goes
    // (nullptr: not wanted, the record comes without). nullopt: the log has gone over it; what was
    // copied by then is garbage.
    template <typename Into>
    [[nodiscard]] std::optional<ZoneRecord> read(std::uint64_t position, Into&& into) {
        std::optional<ZoneRecord> record = peek(position);
        if (!record) return std::nullopt;
        if (char* to = into(*record); to && !copy_body(position, *record, to)) return std::nullopt;
        return record;
    }
    // The room of a record that was there once; a hint, for it may be overtaken, and then this is any number.
    [[nodiscard]] std::uint32_t room_hint(std::uint64_t position) const;
    // What came after `from`. Each of the positions may be overtaken before it is read: then all
    // is gone. A record that was published without members and history makes it gone.
    [[nodiscard]] ZoneHistory history(std::uint32_t room_index, std::uint64_t epoch, std::uint64_t from,
                                      HistoryLimits limits, std::int64_t now_ms);

    // Mailboxes. Lock-free, for the slot's owner only. Positions of records of rooms in which the
    // slot has members, in log order; a room's offsets tell what is old (just joined) or comes
    // twice. true: it ran over, positions are missing; compare positions() of the slot's rooms.
    [[nodiscard]] bool drain(unsigned slot, std::vector<std::uint64_t>& out);
    // Before sleeping: drain, then arm. false: something came meanwhile, drain again. While armed,
    // the next publisher is told to ring.
    [[nodiscard]] bool arm(unsigned slot);
    // Bells that calls other than publish() found to be rung; look after any call that locks
    // (they come after a crash and after claim and reclaim_dead only). Clears them.
    [[nodiscard]] SlotMask take_rings();

    // Slots. `start` is process_start(pid), so that a pid that came again is told apart. Empty:
    // all 256 are taken.
    [[nodiscard]] std::optional<unsigned> claim(std::int32_t pid, std::uint64_t start);
    void release(unsigned slot);
    // Releases the slots whose process is gone (or a zombie); returns how many. Call it every few
    // seconds and where a worker starts.
    unsigned reclaim_dead();
    [[nodiscard]] std::vector<ZoneSlotOwner> owners();
    // Clock ticks since boot, from /proc; 0: no such process, or it is a zombie.
    [[nodiscard]] static std::uint64_t process_start(std::int32_t pid);

    // Limits: ok, limit (the key has `limit` already, over all slots), or full_members.
    [[nodiscard]] ZoneStatus limit_add(unsigned slot, std::uint64_t key_hash, std::uint64_t limit);
    void limit_release(unsigned slot, std::uint64_t key_hash);
    [[nodiscard]] std::uint64_t limit_count(std::uint64_t key_hash);
    // A keyed hash for limit_add, the same in every process of this zone.
    [[nodiscard]] std::uint64_t hash(std::string_view text) const;

    // Counters: plain atomics, no lock. Only a slot's owner writes them; zero after claim().
    [[nodiscard]] std::atomic<std::uint64_t>& counter(unsigned slot, std::size_t index);
    // Over all slots that have an owner and, gauges excepted, those released before.
    [[nodiscard]] std::uint64_t total(std::size_t index);
    [[nodiscard]] std::array<std::uint64_t, kZoneCounters> totals();

    [[nodiscard]] ZoneUsage usage(std::int64_t now_ms);
    // Compares all derived data with a recomputation: empty, or what is wrong first. Slow.
    [[nodiscard]] std::string check();

private:
    explicit Zone(ZoneView view) : view_(view) {}

    class Locked;

    [[nodiscard]] std::optional<ZoneRecord> peek(std::uint64_t position) const;
    [[nodiscard]] bool copy_body(std::uint64_t position, const ZoneRecord& record, char* to) const;

    ZoneView view_;
    SlotMask rings_;
};

}  // namespace rooms

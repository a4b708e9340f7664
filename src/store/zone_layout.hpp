// What lies where in the zone's block, computed from its size alone: the same in every process.
//
// Everything here is shared memory: standard layout, no pointers, indexes instead. Fields are
// either PRIMARY (they survive a crash: an entry comes and goes by the store of one word, marked
// COMMIT) or DERIVED (whoever finds the lock's holder dead computes them anew, zone_recovery).
// Atomics are read without the lock or are commit words; all else is touched under the lock only.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "store/zone_types.hpp"

namespace rooms {

inline constexpr std::size_t kZoneCounters = 128;
inline constexpr std::size_t kZoneGauges = 16;
inline constexpr std::uint64_t kZoneMagic = 0x31656e6f5a6d7372;
inline constexpr std::uint64_t kZoneVersion = 4;

using ZoneWord = std::atomic<std::uint64_t>;
static_assert(ZoneWord::is_always_lock_free && sizeof(ZoneWord) == 8);

// The store that makes a change real. The compiler moves nothing across it in either direction;
// a process that is killed has done all of its instructions up to one and none after it.
inline void commit(ZoneWord& word, std::uint64_t value) {
    word.store(value, std::memory_order_release);
    std::atomic_signal_fence(std::memory_order_seq_cst);
}

struct alignas(64) ZoneHeader {
    std::uint64_t magic, version, size;
    std::uint64_t seed;
    pthread_mutex_t mutex;

    // The log. Bytes tail … head are intact, applied … head wait for their redo.
    alignas(64) ZoneWord tail;
    ZoneWord head;                        // COMMIT of a record
    ZoneWord applied;                     // COMMIT
    ZoneWord epochs;                      // lives given out
    std::uint64_t published, recoveries;  // for people to read: a crash may cost one

    // Ids: entries first … next of an endless row, each at its number modulo the table. One more than the
    // table holds: the first was being moved to the end.
    ZoneWord ids_first, ids_next;  // COMMIT

    // Retirement of a slot's counters: slot + 1 while it goes on.
    ZoneWord retiring;     // COMMIT
    ZoneWord generations;  // claims so far

    // DERIVED: heads of free lists and what is in use.
    std::uint32_t free_room, free_tally, free_seat, free_cell;
    std::uint32_t rooms_used, rooms_active, tallies_used, cells_used, users_used;
    std::uint32_t room_hand;     // where the search for a reclaimable room goes on
    std::int64_t room_sweep_at;  // no search before this moment finds anything
    std::uint64_t members;
    std::uint64_t ids_forgotten;  // still in the row

    ZoneWord retired[kZoneCounters];
    std::uint64_t retired_before[kZoneCounters];
};

struct alignas(64) SlotEntry {
    ZoneWord owner;  // COMMIT: generation << 32 | pid, 0: free
    ZoneWord start;
    alignas(64) ZoneWord counters[kZoneCounters];
};

// A ring of positions with one consumer; producers hold the zone's lock.
struct alignas(64) MailboxEntry {
    ZoneWord written;   // COMMIT
    ZoneWord overflow;  // 1: positions were dropped
    ZoneWord armed;     // 1: ring the bell
    alignas(64) ZoneWord read;
};

// In lines of the cache: what a publication looks at is the first two, with a name of the usual length.
struct alignas(64) RoomEntry {
    ZoneWord epoch;  // COMMIT, 0: free
    std::uint64_t hash;
    // Applied from records, hence exact again after a redo.
    std::uint64_t last_offset;
    std::uint64_t last_position;  // 0: no record
    std::int64_t last_ms;
    std::int64_t expires_ms;  // without members the room may be reclaimed from here on
    std::uint64_t members;    // DERIVED
    std::uint32_t next;       // DERIVED: bucket or free list
    std::uint32_t seats;      // DERIVED: list of its seats
    std::uint8_t length;
    char name[kZoneNameLength];
};

// DERIVED as a whole: the slots with members in a room. A room's list of them is its mask.
struct SeatEntry {
    std::uint64_t connections;
    std::uint32_t next;     // of the room, or free list
    std::uint32_t tallies;  // members of this room on this slot
    std::uint32_t slot;
    std::uint32_t unused;
};

enum class TallyKind : std::uint8_t { member = 1, limit = 2 };

// How often a slot has a key: connections of a user in a room, or uses of a limit.
struct TallyEntry {
    ZoneWord word;                       // COMMIT: count << 32 | slot << 8 | kind; count 0: free
    std::uint64_t key;                   // member: room << 32 | user; limit: the caller's hash
    std::uint32_t next;                  // DERIVED: bucket or free list
    std::uint32_t seat;                  // DERIVED, members only
    std::uint32_t seat_prev, seat_next;  // DERIVED: list of the seat
};

// A user's id, in one to five cells. Alive as long as a member tally names it: no commit word.
struct UserCell {
    std::uint32_t next;  // DERIVED: bucket or free list
    std::uint32_t refs;  // DERIVED: member tallies
    std::uint32_t hash;
    std::uint32_t more;   // the next cell of this text
    std::uint8_t length;  // of the whole text; first cell only
    char text[47];
};
static_assert(sizeof(UserCell) == 64);

struct IdEntry {
    std::uint64_t id[2];    // hash of room and key
    std::uint64_t body[2];  // hash of what must be equal in a repeat
    std::uint64_t epoch, offset;
    std::int64_t ms;  // negative: of one that is forgotten
    std::uint32_t subscribers;
    std::uint32_t next;  // DERIVED: bucket
};
static_assert(sizeof(IdEntry) == 64);

// Offsets from the base of the block, and numbers of entries.
struct ZoneLayout {
    std::uint64_t slots, mailboxes, letters, rooms, room_buckets, tallies, tally_buckets, seats, cells,
        cell_buckets, ids, id_buckets, ring;
    std::uint32_t letters_cap;  // per mailbox
    std::uint32_t rooms_cap, tallies_cap, cells_cap, ids_cap;
    std::uint64_t ring_size;

    // REQUIRES: size >= kZoneMinSize.
    [[nodiscard]] static ZoneLayout of(std::uint64_t size);
};

inline constexpr std::size_t kZoneMinSize = 896 * 1024;

// Where the parts are in this process.
struct ZoneView {
    ZoneHeader* header;
    SlotEntry* slots;
    MailboxEntry* mailboxes;
    ZoneWord* letters;
    RoomEntry* rooms;
    std::uint32_t* room_buckets;
    TallyEntry* tallies;
    std::uint32_t* tally_buckets;
    SeatEntry* seats;
    UserCell* cells;
    std::uint32_t* cell_buckets;
    IdEntry* ids;
    std::uint32_t* id_buckets;
    ZoneWord* ring;
    ZoneLayout layout;

    [[nodiscard]] static ZoneView at(void* base, std::uint64_t size);
};

// Spreads a hash over `count` buckets without a division.
inline std::uint32_t bucket_of(std::uint64_t hash, std::uint32_t count) {
    return static_cast<std::uint32_t>((hash >> 32) * count >> 32);
}

}  // namespace rooms

// What goes into the zone and what comes out of it: the values of the Zone facade.
//
// Views are borrowed for the length of one call. Times are milliseconds of the caller's clock
// (Unix time). Offsets count 1, 2, 3 … in a room; an epoch names one life of that count and is
// never 0. A position is a place in the zone's log: 64 bits, it never wraps and never comes again.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/broker.hpp"
#include "core/history.hpp"

namespace rooms {

inline constexpr std::size_t kZoneSlots = 256;
inline constexpr std::size_t kZoneNameLength = 233;  // kind (32) ":" id (200)
inline constexpr std::size_t kZoneUserLength = 200;
inline constexpr std::size_t kZoneBatch = 64;                   // publications under one hold of the lock
inline constexpr std::int64_t kZoneIdsKeptMs = 10 * 60 * 1000;  // contract.md section 4
inline constexpr std::uint32_t kZoneNone = 0xffffffff;

enum class ZoneStatus : std::uint8_t {
    ok,
    duplicate,   // same key, same body: the answer is the first one's
    conflict,    // same key, another body (409)
    limit,       // limit_add: the key has its number
    bad_name,    // room empty or over 233 bytes, user over 200 bytes
    too_large,   // body over max_body()
    full_rooms,  // the rest: 503 or `limit`, raise rooms_zone
    full_ids,
    full_members,
    full_users,
    unavailable,  // the lock cannot be had any more; only a restart helps
};

// Which slots' bells are to be rung.
class SlotMask {
public:
    void set(unsigned slot) { words_[slot / 64] |= std::uint64_t{1} << (slot % 64); }
    void reset() { words_ = {}; }
    [[nodiscard]] bool test(unsigned slot) const { return words_[slot / 64] >> (slot % 64) & 1; }
    [[nodiscard]] bool any() const { return (words_[0] | words_[1] | words_[2] | words_[3]) != 0; }
    SlotMask& operator|=(const SlotMask& other) {
        for (std::size_t i = 0; i < words_.size(); ++i) words_[i] |= other.words_[i];
        return *this;
    }
    template <typename F>
    void for_each(F&& f) const {
        for (unsigned i = 0; i < words_.size(); ++i)
            for (std::uint64_t word = words_[i]; word; word &= word - 1)
                f(i * 64 + static_cast<unsigned>(std::countr_zero(word)));
    }

private:
    std::array<std::uint64_t, kZoneSlots / 64> words_{};
};

// For a worker that walks back after its mailbox ran over: live messages have no limits.
inline constexpr HistoryLimits kZoneNoLimits{0xffffffff, ~std::uint64_t{0}};

struct ZonePublication {
    std::string_view room;
    std::string_view body;         // what every reader gets back, e.g. the event's JSON up to its offset
    std::string_view key;          // idempotency key, counted per room; empty: none
    std::string_view fingerprint;  // what must be equal in a repeat; empty: the body
    HistoryLimits history;         // of this room; size 0: the body is kept for members only
};

struct ZoneAnswer {
    ZoneStatus status = ZoneStatus::unavailable;
    std::uint64_t epoch = 0;
    std::uint64_t offset = 0;
    std::uint64_t subscribers = 0;  // members (connections) of the room on this host at that moment
};

struct ZoneSeat {
    ZoneStatus status = ZoneStatus::unavailable;
    std::uint32_t room_index = kZoneNone;  // good as long as the room has a member
    std::uint64_t epoch = 0;
    std::uint64_t offset = 0;  // the room's position at the moment of joining
};

struct ZoneRecord {
    std::uint32_t room_index = kZoneNone;
    std::uint64_t epoch = 0;
    std::uint64_t offset = 0;
    std::int64_t timestamp = 0;  // never less than that of the room's record before
    std::size_t body_size = 0;
    std::uint32_t flags = 0;  // the log's own
};

struct ZoneHistory {
    bool complete = false;                 // false: gone (trimmed by size, ttl or ring; other epoch; ahead)
    Position position;                     // the room's, now
    std::vector<std::uint64_t> positions;  // complete: of from+1 … position.offset, in that order
};

struct ZonePresence {
    struct User {
        std::string id;
        std::uint64_t connections;
    };
    std::vector<User> users;  // distinct, at most the number asked for, none without an id
    std::uint64_t count = 0;  // all connections
};

struct ZoneRoom {
    std::string id;
    std::uint64_t members;
};

struct ZoneSlotOwner {
    unsigned slot;
    std::int32_t pid;
    std::uint32_t generation;
};

struct ZoneUsage {
    std::uint64_t size = 0;
    std::uint64_t ring_size = 0, ring_used = 0;
    std::int64_t ring_age_ms = 0;  // the age of the oldest intact record
    std::uint64_t published = 0;   // records since the zone was made
    std::uint64_t rooms = 0, rooms_cap = 0;
    std::uint64_t rooms_active = 0;  // with members
    std::uint64_t members = 0;       // connections, summed over rooms
    std::uint64_t ids = 0, ids_cap = 0;
    std::uint64_t users = 0, user_cells = 0, user_cells_cap = 0;  // a user takes 1 to 5 cells
    std::uint64_t tallies = 0, tallies_cap = 0;
    std::uint64_t slots = 0, slots_cap = kZoneSlots;
    std::uint64_t recoveries = 0;  // times that the lock came from a dead process
};

}  // namespace rooms

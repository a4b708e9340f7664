// What a worker remembers of rooms that it has no members of: the newest event that it saw, or was told is
// stored. When another server takes over, this is what shows that something is missing.
//
// Bounded: the room that was seen longest ago is forgotten first. No lock, no clock.
#pragma once

#include <list>
#include <string>
#include <string_view>
#include <unordered_map>

#include "store/redis_room.hpp"

namespace rooms {

class RedisWitness {
public:
    static constexpr std::size_t kMaxRooms = 16384;

    // Keeps the newer of two claims of one epoch and server; of two servers, the one that was known before.
    void note(std::string_view base, RedisClaim claim);
    // Takes it out; no epoch: nothing is known.
    [[nodiscard]] RedisClaim take(std::string_view base);
    void forget(std::string_view base) { (void)take(base); }
    [[nodiscard]] std::size_t size() const { return by_base_.size(); }

    // Calls visit(base, claim) for each.
    template <typename Visit>
    void each(Visit&& visit) const {
        for (const Entry& entry : entries_) visit(entry.base, entry.claim);
    }

private:
    struct Entry {
        std::string base;
        RedisClaim claim;
    };
    std::list<Entry> entries_;  // the newest first
    std::unordered_map<std::string_view, std::list<Entry>::iterator> by_base_;
};

}  // namespace rooms

// What a worker remembers of rooms that it has no members of: the newest event that it saw, or was told is
// stored, by each server that said so. When another server takes over, this is what shows that something is missing.
//
// Bounded: the room that was seen longest ago is forgotten first. No lock, no clock.
#pragma once

#include <list>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "store/redis_room.hpp"

namespace rooms {

class RedisWitness {
public:
    static constexpr std::size_t kMaxRooms = 16384;
    static constexpr std::size_t kMaxServers = 4;  // that have not been judged

    // Keeps the newer of two claims of one epoch and server.
    void note(std::string_view base, RedisClaim claim);
    // Takes them out, the first that was noted first.
    [[nodiscard]] std::vector<RedisClaim> take(std::string_view base);
    // That of one server is no longer needed.
    void forget(std::string_view base, std::string_view fence);
    [[nodiscard]] std::size_t size() const { return by_base_.size(); }

    // Calls visit(base, claim) for each.
    template <typename Visit>
    void each(Visit&& visit) const {
        for (const Entry& entry : entries_) {
            for (const RedisClaim& claim : entry.claims) visit(entry.base, claim);
        }
    }

private:
    struct Entry {
        std::string base;
        std::vector<RedisClaim> claims;
    };
    std::list<Entry> entries_;  // the newest first
    std::unordered_map<std::string_view, std::list<Entry>::iterator> by_base_;
};

}  // namespace rooms

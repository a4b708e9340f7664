// The places that a connection takes under rooms_max_connections: given back when it ends, by whatever
// road, or when its worker takes leave. Counted in the zone, for all workers.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "store/zone.hpp"

namespace rooms {

class HeldLimits {
public:
    HeldLimits() = default;
    HeldLimits(HeldLimits&&) = default;
    HeldLimits& operator=(HeldLimits&& other) noexcept {
        std::swap(held_, other.held_);
        return *this;
    }
    ~HeldLimits() { release(); }

    // Takes a place under the key, of `limit`; the status says whether there was one.
    [[nodiscard]] ZoneStatus take(Zone& zone, unsigned slot, std::uint64_t key, std::uint64_t limit) {
        if (!held_) held_ = std::make_unique<Held>(Held{&zone, slot, {}});
        held_->keys.reserve(held_->keys.size() + 1);
        const ZoneStatus status = zone.limit_add(slot, key, limit);
        if (status == ZoneStatus::ok) held_->keys.push_back(key);
        return status;
    }
    void release() {
        if (!held_) return;
        for (const std::uint64_t key : held_->keys) held_->zone->limit_release(held_->slot, key);
        held_.reset();
    }

private:
    struct Held {
        Zone* zone;
        unsigned slot;
        std::vector<std::uint64_t> keys;
    };
    std::unique_ptr<Held> held_;  // most locations have no limit
};

}  // namespace rooms

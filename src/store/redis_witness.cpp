#include "store/redis_witness.hpp"

#include <utility>

namespace rooms {

void RedisWitness::note(std::string_view base, RedisClaim claim) {
    const auto found = by_base_.find(base);
    if (found != by_base_.end()) {
        entries_.splice(entries_.begin(), entries_, found->second);
        RedisClaim& known = found->second->claim;
        // One of another server has not been judged: what the present one says is no proof.
        if (known.epoch == claim.epoch && (known.fence != claim.fence || known.offset > claim.offset)) return;
        known = std::move(claim);
        return;
    }
    if (entries_.size() == kMaxRooms) {
        by_base_.erase(entries_.back().base);
        entries_.pop_back();
    }
    entries_.push_front({std::string(base), std::move(claim)});
    by_base_.emplace(entries_.front().base, entries_.begin());
}

RedisClaim RedisWitness::take(std::string_view base) {
    const auto found = by_base_.find(base);
    if (found == by_base_.end()) return {};
    const auto entry = found->second;
    RedisClaim claim = std::move(entry->claim);
    by_base_.erase(found);
    entries_.erase(entry);
    return claim;
}

}  // namespace rooms

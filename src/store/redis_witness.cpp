#include "store/redis_witness.hpp"

#include <algorithm>
#include <utility>

namespace rooms {

void RedisWitness::note(std::string_view base, RedisClaim claim) {
    const auto found = by_base_.find(base);
    if (found == by_base_.end()) {
        if (entries_.size() == kMaxRooms) {
            by_base_.erase(entries_.back().base);
            entries_.pop_back();
        }
        entries_.push_front({std::string(base), {std::move(claim)}});
        by_base_.emplace(entries_.front().base, entries_.begin());
        return;
    }
    entries_.splice(entries_.begin(), entries_, found->second);
    std::vector<RedisClaim>& claims = found->second->claims;
    if (claims.front().epoch != claim.epoch) {  // another life needs no judge
        claims = std::vector<RedisClaim>{std::move(claim)};
        return;
    }
    const auto known = std::find_if(claims.begin(), claims.end(),
                                    [&](const RedisClaim& one) { return one.fence == claim.fence; });
    if (known != claims.end()) {
        if (known->offset <= claim.offset) *known = std::move(claim);
        return;
    }
    // What the present one says is no proof of what those before had.
    if (claims.size() == kMaxServers) claims.pop_back();
    claims.push_back(std::move(claim));
}

std::vector<RedisClaim> RedisWitness::take(std::string_view base) {
    const auto found = by_base_.find(base);
    if (found == by_base_.end()) return {};
    const auto entry = found->second;
    std::vector<RedisClaim> claims = std::move(entry->claims);
    by_base_.erase(found);
    entries_.erase(entry);
    return claims;
}

void RedisWitness::forget(std::string_view base, std::string_view fence) {
    const auto found = by_base_.find(base);
    if (found == by_base_.end()) return;
    std::vector<RedisClaim>& claims = found->second->claims;
    std::erase_if(claims, [&](const RedisClaim& claim) { return claim.fence == fence; });
    if (claims.empty()) (void)take(base);
}

}  // namespace rooms

// Lookup of verification keys. A handful of keys: the scan costs less than any index would.
#include "core/key_set.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace rooms {
namespace {

std::string quoted(std::string_view kid) { return "\"" + std::string(kid) + "\""; }

}  // namespace

std::optional<Error> KeySet::add(Key key) {
    if (keys_.size() == kMaxKeys) {
        return Error{"more than " + std::to_string(kMaxKeys) + " keys"};
    }
    const std::string name(algorithm_name(key.algorithm()));
    std::size_t nameless = 0;
    for (const Key& other : keys_) {
        if (other.algorithm() != key.algorithm() || other.kid() != key.kid()) continue;
        if (!key.kid().empty()) return Error{"a second " + name + " key with kid " + quoted(key.kid())};
        ++nameless;
    }
    // Such keys are reached only by trying: what lies behind the last try would never be.
    if (nameless == kMaxCandidates) {
        return Error{"more than " + std::to_string(kMaxCandidates) + " " + name + " keys without a kid"};
    }
    keys_.push_back(std::move(key));
    return std::nullopt;
}

KeySet::Candidates KeySet::find(Algorithm algorithm, std::optional<std::string_view> kid) const {
    const bool by_name =
        kid && std::any_of(keys_.begin(), keys_.end(), [&](const Key& key) { return key.kid() == *kid; });
    Candidates found;
    for (const Key& key : keys_) {
        if (key.algorithm() != algorithm) continue;
        if (kid && key.kid() != (by_name ? *kid : std::string_view())) continue;
        if (found.count == kMaxCandidates) {
            found.more = true;
            break;
        }
        found.keys[found.count++] = &key;
    }
    return found;
}

}  // namespace rooms

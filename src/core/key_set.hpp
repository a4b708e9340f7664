// The keys of one location, and which of them may have signed a given token.
//
// A token's `kid` is compared with configured names and nothing else: it is no path, no URL and no
// query. Filled while the configuration is read, immutable afterwards; one per location level.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string_view>
#include <vector>

#include "core/key.hpp"

namespace rooms {

inline constexpr std::size_t kMaxKeys = 64;
// How many signatures one token may cost us.
inline constexpr std::size_t kMaxCandidates = 8;

class KeySet {
public:
    // Refuses a second key of the same kid and algorithm, more than kMaxKeys keys, and more than
    // kMaxCandidates keys of one algorithm without a kid. Nothing: added.
    [[nodiscard]] std::optional<Error> add(Key key);

    [[nodiscard]] bool empty() const { return keys_.empty(); }
    [[nodiscard]] std::size_t size() const { return keys_.size(); }

    // Pointers into the set, valid as long as it is.
    struct Candidates {
        std::array<const Key*, kMaxCandidates> keys{};
        std::size_t count = 0;
        bool more = false;  // there were others, left out
        [[nodiscard]] const Key* const* begin() const { return keys.data(); }
        [[nodiscard]] const Key* const* end() const { return keys.data() + count; }
    };

    // Keys of this algorithm, in the order of the configuration. With a kid: the key that has it;
    // if no key at all has it, the keys without one; never a key with another kid. Without: every
    // key of the algorithm.
    [[nodiscard]] Candidates find(Algorithm algorithm, std::optional<std::string_view> kid) const;

private:
    std::vector<Key> keys_;
};

}  // namespace rooms

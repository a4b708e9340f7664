// How much of a room's past is kept: the `rooms_history` lines.
//
// Upper bounds only; a broker's shared ring may keep less. The first line whose pattern matches
// decides. Owned by the configuration, never changed after it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.hpp"

namespace rooms {

struct HistoryLimits {
    std::uint32_t size = 128;  // publications; 0: nothing is kept
    std::uint64_t ttl_ms = 5 * 60 * 1000;
    bool operator==(const HistoryLimits&) const = default;
};

struct HistoryRule {
    std::string pattern;  // as match_plain_pattern in core/rules.hpp reads it
    std::uint32_t size = 128;
    std::uint64_t ttl_ms = 5 * 60 * 1000;
};

class HistoryRules {
public:
    // What is wrong with the pattern, or nothing.
    [[nodiscard]] std::optional<Error> add(HistoryRule rule);
    [[nodiscard]] HistoryLimits limits_for(std::string_view room) const;
    // The largest size of all lines and of the default.
    [[nodiscard]] std::uint32_t max_size() const;

private:
    std::vector<HistoryRule> rules_;
};

}  // namespace rooms

// The lines of rooms_history are few and asked once for each publication: a loop is enough.
#include "core/history.hpp"

#include <algorithm>
#include <utility>

#include "core/rules.hpp"

namespace rooms {

std::optional<Error> HistoryRules::add(HistoryRule rule) {
    if (auto error = check_plain_pattern(rule.pattern)) return error;
    rules_.push_back(std::move(rule));
    return std::nullopt;
}

HistoryLimits HistoryRules::limits_for(std::string_view room) const {
    for (const HistoryRule& rule : rules_) {
        if (match_plain_pattern(rule.pattern, room)) return {rule.size, rule.ttl_ms};
    }
    return {};
}

std::uint32_t HistoryRules::max_size() const {
    std::uint32_t size = HistoryLimits{}.size;
    for (const HistoryRule& rule : rules_) size = std::max(size, rule.size);
    return size;
}

}  // namespace rooms

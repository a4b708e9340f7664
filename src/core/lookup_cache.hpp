// What look-ups have allowed, for a while: a page that comes back does not ask the database again.
//
// Only positive answers are kept. Bounded: when it is full, what has expired goes, else all of it. The keys
// hold the values of a question, so that another token is another question.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>

namespace rooms {

class LookupCache {
public:
    explicit LookupCache(std::size_t capacity) : capacity_(capacity) {}

    // The question as one text; values cannot run into each other.
    [[nodiscard]] static std::string key_of(std::uint32_t rule, std::span<const std::string> values) {
        std::string key = std::to_string(rule);
        for (const std::string& value : values) key += ' ' + std::to_string(value.size()) + ':' + value;
        return key;
    }

    [[nodiscard]] bool has(const std::string& key, std::uint64_t now_ms) const {
        const auto found = until_.find(key);
        return found != until_.end() && now_ms < found->second;
    }
    void keep(const std::string& key, std::uint64_t until_ms, std::uint64_t now_ms) {
        if (until_.size() >= capacity_ && !until_.contains(key)) {
            std::erase_if(until_, [&](const auto& entry) { return entry.second <= now_ms; });
            if (until_.size() >= capacity_) until_.clear();
        }
        until_[key] = until_ms;
    }
    [[nodiscard]] std::size_t size() const { return until_.size(); }

private:
    const std::size_t capacity_;
    std::unordered_map<std::string, std::uint64_t> until_;  // steady clock
};

}  // namespace rooms

// A strict reader of JSON texts (RFC 8259) that yields spans and builds no tree.
//
// Every text is validated once, without recursion: grammar, UTF-8, control characters, escapes
// (a lone surrogate is an error), depth. What it yields are views into that text: they live as
// long as the text does. It must never accept what a browser's JSON.parse would refuse.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json_text.hpp"
#include "core/result.hpp"

namespace rooms {

inline constexpr unsigned kMaxJsonDepth = 16;

enum class JsonType : std::uint8_t { object, array, string, number, boolean, null };

// "an object", "a string" ...: for sentences about what was found.
[[nodiscard]] std::string_view json_type_text(JsonType type);

struct JsonError {
    std::size_t at = 0;                         // byte in the text, counted from 0
    std::string what;                           // e.g. "control character 0x00 in a string"
    [[nodiscard]] std::string message() const;  // "<what> at byte <at>"
};

struct JsonValue {
    JsonType type = JsonType::null;
    std::string_view raw;  // without the space around it; a string keeps its quotes
};

struct JsonMember {
    std::string_view raw_name;  // as written, with its quotes
    std::string unescaped;      // the name, only if it was written with escapes
    JsonType type = JsonType::null;
    bool escaped = false;  // the name was written with escapes
    std::string_view raw;  // the value, as JsonValue::raw

    [[nodiscard]] std::string_view name() const {
        return escaped ? std::string_view(unescaped) : raw_name.substr(1, raw_name.size() - 2);
    }
    // From the name's first quote to the value's last byte, with the colon between them.
    [[nodiscard]] std::string_view span() const {
        return {raw_name.data(), static_cast<std::size_t>(raw.data() + raw.size() - raw_name.data())};
    }
};

// One value and nothing but white space around it. REQUIRES: max_depth <= 64. `[]` has depth 1.
Result<JsonValue, JsonError> parse_json(std::string_view text, unsigned max_depth = kMaxJsonDepth);

// The value that begins at or after `at` (white space is skipped); `at` moves behind it.
// For texts that hold several values one after the other. REQUIRES: not at the end of the text.
Result<JsonValue, JsonError> parse_next_json(std::string_view text, std::size_t& at,
                                             unsigned max_depth = kMaxJsonDepth);

// Moves `at` over white space.
void skip_json_space(std::string_view text, std::size_t& at);

// One object: its members in order; a name that occurs twice is an error, here and not deeper.
Result<std::vector<JsonMember>, JsonError> parse_json_object(std::string_view text,
                                                             unsigned max_depth = kMaxJsonDepth);

// One array and nothing but white space around it: `visit` sees each element as it has been read, for one walk is
// enough, and ends it with false. REQUIRES: 1 <= max_depth <= 64.
[[nodiscard]] std::optional<JsonError> parse_json_array(std::string_view text, unsigned max_depth,
                                                        const std::function<bool(const JsonValue&)>& visit);

// The members of an object that has been validated. No allocation but for names with escapes.
class JsonMembers {
public:
    // REQUIRES: `object` is the raw of a JsonValue or JsonMember of type object.
    explicit JsonMembers(std::string_view object);
    [[nodiscard]] bool next(JsonMember& member);

private:
    const char* at_;
    const char* end_;
};

// The elements of an array that has been validated.
class JsonElements {
public:
    // REQUIRES: `array` is the raw of a JsonValue or JsonMember of type array.
    explicit JsonElements(std::string_view array);
    [[nodiscard]] bool next(JsonValue& element);

private:
    const char* at_;
    const char* end_;
};

// The first member of a validated object whose name an earlier one has; nothing if all differ.
// `visit` sees the members on the way: all of them where none occurs twice.
[[nodiscard]] std::optional<JsonMember> find_duplicate_member(
    std::string_view object, const std::function<void(const JsonMember&)>& visit = nullptr);

// Whether `holds(JsonValue)` for a validated value and for all that is inside it, in no particular order.
template <typename Holds>
[[nodiscard]] bool holds_throughout(JsonValue value, Holds&& holds) {
    std::vector<JsonValue> open;  // objects and arrays that have not been looked into
    const auto visit = [&](const JsonValue& each) {
        if (each.type == JsonType::object || each.type == JsonType::array) open.push_back(each);
        return holds(each);
    };
    if (!visit(value)) return false;
    while (!open.empty()) {
        value = open.back();
        open.pop_back();
        if (value.type == JsonType::object) {
            JsonMember member;
            for (JsonMembers members(value.raw); members.next(member);) {
                if (!visit({member.type, member.raw})) return false;
            }
        } else {
            JsonValue element;
            for (JsonElements elements(value.raw); elements.next(element);) {
                if (!visit(element)) return false;
            }
        }
    }
    return true;
}

}  // namespace rooms

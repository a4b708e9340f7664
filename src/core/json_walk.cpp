// Finding the way in texts that the strict reader (json.cpp) has passed.
//
// Nothing here looks for the end of the text in a string or a container: it is there. Never to be
// called with bytes that have not been validated.
#include <algorithm>
#include <array>
#include <forward_list>
#include <utility>

#include "core/json.hpp"
#include "core/json_bytes.hpp"

namespace rooms {
namespace {

using json_bytes::is_space;

const char* walk_string(const char* at, const char* end, bool& escaped) {
    for (++at;; ++at) {
        at = json_bytes::skip_plain(at, end);
        if (*at == '"') return at + 1;
        if (*at != '\\') continue;
        escaped = true;
        ++at;
    }
}

const char* walk_string(const char* at, const char* end) {
    bool escaped = false;
    return walk_string(at, end, escaped);
}

const char* walk_space(const char* at, const char* end) {
    while (at != end && is_space(*at)) ++at;
    return at;
}

const char* walk_value(const char* at, const char* end, JsonType& type) {
    switch (*at) {
        case '"': type = JsonType::string; return walk_string(at, end);
        case '{': type = JsonType::object; break;
        case '[': type = JsonType::array; break;
        case 't': type = JsonType::boolean; return at + 4;
        case 'f': type = JsonType::boolean; return at + 5;
        case 'n': type = JsonType::null; return at + 4;
        default:
            type = JsonType::number;
            while (at != end && *at != ',' && *at != '}' && *at != ']' && !is_space(*at)) ++at;
            return at;
    }
    std::size_t depth = 0;
    for (;;) {
        const char byte = *at;
        if (byte == '"') {
            at = walk_string(at, end);
            continue;
        }
        ++at;
        if (byte == '{' || byte == '[') ++depth;
        if ((byte == '}' || byte == ']') && --depth == 0) return at;
    }
}

std::string_view between(const char* begin, const char* end) {
    return {begin, static_cast<std::size_t>(end - begin)};
}

// For objects with many members or with escaped names: sorted, since n names cost n log n.
std::optional<JsonMember> find_duplicate_sorted(std::string_view object) {
    struct Name {
        std::string_view text;
        std::size_t order;
    };
    std::vector<Name> names;
    std::forward_list<std::string> texts;
    JsonMember member;
    for (JsonMembers members(object); members.next(member);) {
        std::string_view text = member.name();
        if (member.escaped) text = texts.emplace_front(std::move(member.unescaped));
        names.push_back(Name{text, names.size()});
    }
    std::sort(names.begin(), names.end(), [](const Name& a, const Name& b) {
        return a.text != b.text ? a.text < b.text : a.order < b.order;
    });
    std::size_t first = names.size();
    for (std::size_t i = 1; i < names.size(); ++i) {
        if (names[i].text == names[i - 1].text) first = std::min(first, names[i].order);
    }
    if (first == names.size()) return std::nullopt;
    JsonMembers members(object);
    for (std::size_t i = 0; members.next(member) && i < first; ++i) {
    }
    return member;
}

}  // namespace

JsonMembers::JsonMembers(std::string_view object)
    : at_(object.data() + 1), end_(object.data() + object.size()) {}

bool JsonMembers::next(JsonMember& member) {
    at_ = walk_space(at_, end_);
    if (*at_ == ',') at_ = walk_space(at_ + 1, end_);
    if (*at_ == '}') return false;
    const char* const name = at_;
    member.escaped = false;
    at_ = walk_string(at_, end_, member.escaped);
    member.raw_name = between(name, at_);
    if (member.escaped) {
        // A validated literal always has a value.
        member.unescaped = unescape_json(member.raw_name).value_or(std::string());
    }
    at_ = walk_space(walk_space(at_, end_) + 1, end_);
    const char* const value = at_;
    at_ = walk_value(at_, end_, member.type);
    member.raw = between(value, at_);
    return true;
}

JsonElements::JsonElements(std::string_view array)
    : at_(array.data() + 1), end_(array.data() + array.size()) {}

bool JsonElements::next(JsonValue& element) {
    at_ = walk_space(at_, end_);
    if (*at_ == ',') at_ = walk_space(at_ + 1, end_);
    if (*at_ == ']') return false;
    const char* const value = at_;
    at_ = walk_value(at_, end_, element.type);
    element.raw = between(value, at_);
    return true;
}

std::optional<JsonMember> find_duplicate_member(std::string_view object,
                                                const std::function<void(const JsonMember&)>& visit) {
    constexpr std::size_t kFew = 24;
    std::array<std::string_view, kFew> names;
    std::size_t count = 0;
    bool few = true;
    JsonMember member;
    for (JsonMembers members(object); (few || visit) && members.next(member);) {
        if (visit) visit(member);
        few = few && !member.escaped && count < kFew;
        if (!few) continue;
        const std::string_view name = member.name();
        for (std::size_t i = 0; i < count; ++i) {
            if (names[i] == name) return member;
        }
        names[count++] = name;
    }
    return few ? std::nullopt : find_duplicate_sorted(object);
}

}  // namespace rooms

// Three lines: a pattern, a room, a value. The names of rooms and the verdicts of patterns are
// compared with a reference that works on whole strings.
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "core/history.hpp"
#include "core/room.hpp"
#include "core/rules.hpp"

namespace {

void require(bool condition) {
    if (!condition) std::abort();
}

bool reference_is_room(std::string_view room) {
    const std::string lower = "abcdefghijklmnopqrstuvwxyz";
    const std::string digits = "0123456789";
    const std::size_t colon = room.find_first_not_of(lower + digits + "_-");
    if (colon == std::string_view::npos || room[colon] != ':' || colon == 0 || colon > 32) return false;
    if (lower.find(room[0]) == std::string::npos) return false;
    const std::string_view id = room.substr(colon + 1);
    return !id.empty() && id.size() <= 200 &&
           id.find_first_not_of(lower + "ABCDEFGHIJKLMNOPQRSTUVWXYZ" + digits + "_.:@~-") ==
               std::string_view::npos;
}

std::string_view take_line(std::string_view& text) {
    const std::size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    return line;
}

bool starts_and_goes_on(std::string_view room, std::string_view begin) {
    return room.size() > begin.size() && room.substr(0, begin.size()) == begin;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::string_view text(reinterpret_cast<const char*>(data), size);
    const std::string_view pattern_text = take_line(text);
    const std::string_view room = take_line(text);
    const std::string_view value = text;
    const std::array<std::string_view, 1> values{value};

    const bool valid = rooms::is_room(room);
    require(valid == reference_is_room(room));
    if (const auto name = rooms::parse_room(room)) {
        require(std::string(name->kind) + ":" + std::string(name->id) == room);
    }

    const bool star = !pattern_text.empty() && pattern_text.back() == '*';
    const std::string_view begin = pattern_text.substr(0, pattern_text.size() - (star ? 1 : 0));
    require(rooms::match_plain_pattern(pattern_text, room) ==
            (star ? starts_and_goes_on(room, begin) : room == begin));
    if (valid && rooms::match_plain_pattern(pattern_text, room)) {
        require(!rooms::check_plain_pattern(pattern_text).has_value());
    }

    // Every variable has the one value.
    auto pattern =
        rooms::Pattern::compile(pattern_text, [](std::string_view) { return rooms::VariableSource{}; });
    if (!pattern) return 0;
    const rooms::RuleValues all{values, {}, {}};

    std::string wanted;
    bool empty = false;
    for (std::size_t i = 0; i < begin.size();) {
        if (begin[i] != '$') {
            wanted += begin[i++];
            continue;
        }
        i += begin[i + 1] == '{' ? 2 : 1;
        while (i < begin.size() &&
               (begin[i] == '_' || (begin[i] >= '0' && begin[i] <= '9') ||
                (begin[i] >= 'a' && begin[i] <= 'z') || (begin[i] >= 'A' && begin[i] <= 'Z'))) {
            ++i;
        }
        if (i < begin.size() && begin[i] == '}') ++i;
        wanted += value;
        empty |= value.empty();
    }
    const bool expected = valid && !empty && (star ? starts_and_goes_on(room, wanted) : room == wanted);
    const auto expanded = pattern->expand(all);
    require(expanded.has_value() == (!star && !empty));
    if (expanded) require(*expanded == wanted);

    // The token grants what its plain patterns say, before any rule; a rule that asks somebody else about a value
    // needs one.
    using By = rooms::Verdict::By;
    const By rule = expected ? By::rule : By::nobody;
    const bool granted = valid && rooms::match_plain_pattern(pattern_text, room);
    const std::array<std::string_view, 2> token_rooms{"", pattern_text};
    rooms::RuleSet rules;
    rules.add(*pattern);
    require(rules.check(room, all).by == rule);
    require(rules.check(room, all, token_rooms).by == (granted ? By::token : rule));
    rooms::RuleSet asking;
    asking.add(std::move(*pattern), {rooms::VariableSource{}});
    require(asking.check(room, all).by == (value.empty() ? By::nobody : rule));
    return 0;
}

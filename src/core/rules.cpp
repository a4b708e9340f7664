// Compiling patterns, and comparing them with rooms. Comparing allocates nothing and looks at no
// value as anything but bytes: this is the door of tenancy.
#include "core/rules.hpp"

#include <algorithm>
#include <array>

#include "core/room.hpp"

namespace rooms {
namespace {

constexpr std::string_view kNeverARoom =
    "matches no room: a room is kind:id, the kind [a-z][a-z0-9_-]{0,31}, "
    "the id 1 to 200 of [A-Za-z0-9_.:@~-]";

Error fault(std::string_view pattern, std::string_view what) {
    return Error{"\"" + std::string(pattern) + "\": " + std::string(what)};
}

constexpr bool is_name_byte(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

// Whether some end makes a room of this beginning. `star`: there must be one.
bool could_be_room(const std::string& begin, bool star) {
    if (!star) return is_room(begin);
    for (const std::string_view end : {"x", ":x", "x:x"}) {
        if (is_room(begin + std::string(end))) return true;
    }
    return false;
}

bool is_room_part(VariableSource::Kind kind) {
    switch (kind) {
        case VariableSource::Kind::room:
        case VariableSource::Kind::room_kind:
        case VariableSource::Kind::room_id: return true;
        case VariableSource::Kind::captured:
        case VariableSource::Kind::claim:
        case VariableSource::Kind::user: return false;
    }
    return false;
}

std::string_view at(std::span<const std::string_view> values, std::size_t index) {
    return index < values.size() ? values[index] : std::string_view();
}

std::string_view value_of(const VariableSource& source, std::string_view room, const RuleValues& values) {
    using Kind = VariableSource::Kind;
    switch (source.kind) {
        case Kind::captured: return at(values.captured, source.index);
        case Kind::claim: return at(values.claims, source.index);
        case Kind::user: return values.user;
        case Kind::room: return room;
        case Kind::room_kind: return room.substr(0, room.find(':'));
        case Kind::room_id: return room.substr(std::min(room.find(':') + 1, room.size()));
    }
    return {};
}

bool has_empty(const RuleSet::Parameters& parameters, std::string_view room, const RuleValues& values) {
    return std::any_of(parameters.begin(), parameters.end(),
                       [&](const VariableSource& source) { return value_of(source, room, values).empty(); });
}

}  // namespace

Result<Pattern> Pattern::compile(std::string_view text, const VariableResolver& resolve, Star star) {
    Pattern pattern;
    pattern.text_ = text;

    // The pattern with samples for its variables. Only the first can bring the colon along: what
    // two variables could do together the second sample does alone.
    std::array<std::string, 2> samples;
    bool has_variable = false;
    std::size_t i = 0;
    while (i < text.size()) {
        if (text[i] == '*') {
            if (i + 1 != text.size()) return fault(text, "\"*\" may stand only at the end");
            if (star == Star::refused) return fault(text, "\"*\" names no room to join");
            pattern.star_ = true;
            ++i;
            continue;
        }
        Segment segment;
        if (text[i] != '$') {
            const std::size_t begin = i;
            while (i < text.size() && is_room_byte(text[i])) ++i;
            if (i == begin) {
                return fault(text, "a byte that no room has, at position " + std::to_string(i + 1));
            }
            segment.begin = static_cast<std::uint32_t>(begin);
            segment.size = static_cast<std::uint32_t>(i - begin);
            for (auto& sample : samples) sample += text.substr(begin, i - begin);
        } else {
            ++i;
            const bool braces = i < text.size() && text[i] == '{';
            if (braces) ++i;
            const std::size_t begin = i;
            while (i < text.size() && is_name_byte(text[i])) ++i;
            const std::string_view name = text.substr(begin, i - begin);
            if (name.empty()) return fault(text, "\"$\" without a variable's name");
            if (braces) {
                if (i == text.size() || text[i] != '}') {
                    return fault(text, "\"${" + std::string(name) + "\" without \"}\"");
                }
                ++i;
            }
            const auto source = resolve(name);
            if (!source) return fault(text, "unknown variable \"$" + std::string(name) + "\"");
            if (is_room_part(source->kind)) {
                return fault(text, "\"$" + std::string(name) + "\" has no value before the room is known");
            }
            segment.literal = false;
            segment.source = *source;
            samples[0] += 'x';
            samples[1] += has_variable ? "x" : "x:x";
            has_variable = true;
        }
        pattern.segments_.push_back(segment);
    }
    if (!could_be_room(samples[0], pattern.star_) && !could_be_room(samples[1], pattern.star_)) {
        return fault(text, kNeverARoom);
    }
    return pattern;
}

std::string_view Pattern::value_of(const Segment& segment, const RuleValues& values) const {
    if (segment.literal) return std::string_view(text_).substr(segment.begin, segment.size);
    return rooms::value_of(segment.source, {}, values);  // parts of the room are refused by compile()
}

bool Pattern::matches(std::string_view room, const RuleValues& values) const {
    for (const Segment& segment : segments_) {
        const std::string_view value = value_of(segment, values);
        if (value.empty() || !room.starts_with(value)) return false;
        room.remove_prefix(value.size());
    }
    return star_ ? !room.empty() : room.empty();
}

std::optional<std::string> Pattern::expand(const RuleValues& values) const {
    if (star_) return std::nullopt;
    std::string room;
    for (const Segment& segment : segments_) {
        const std::string_view value = value_of(segment, values);
        if (value.empty()) return std::nullopt;
        room += value;
    }
    return room;
}

Verdict RuleSet::check(std::string_view room, const RuleValues& values,
                       std::span<const std::string_view> token_rooms) const {
    if (!is_room(room)) return {};
    for (const std::string_view pattern : token_rooms) {
        if (match_plain_pattern(pattern, room)) return {Verdict::By::token, 0};
    }
    for (std::size_t i = 0; i < rules_.size(); ++i) {
        const Rule& rule = rules_[i];
        if (rule.pattern.matches(room, values) &&
            !(rule.parameters && has_empty(*rule.parameters, room, values))) {
            return {Verdict::By::rule, static_cast<std::uint32_t>(i)};
        }
    }
    return {};
}

const RuleSet::Parameters* RuleSet::parameters(const Verdict& verdict) const {
    if (verdict.by != Verdict::By::rule || !rules_[verdict.rule].parameters) return nullptr;
    return &*rules_[verdict.rule].parameters;
}

std::vector<std::string> lookup_values(const RuleSet::Parameters& parameters, std::string_view room,
                                       const RuleValues& values) {
    std::vector<std::string> result;
    result.reserve(parameters.size());
    for (const VariableSource& source : parameters) result.emplace_back(value_of(source, room, values));
    return result;
}

bool match_plain_pattern(std::string_view pattern, std::string_view room) {
    if (!pattern.ends_with('*')) return pattern == room;
    pattern.remove_suffix(1);
    return room.size() > pattern.size() && room.starts_with(pattern);
}

std::optional<Error> check_plain_pattern(std::string_view pattern) {
    const bool star = pattern.ends_with('*');
    const std::string begin(pattern.substr(0, pattern.size() - (star ? 1 : 0)));
    if (begin.find('*') != std::string::npos) {
        return fault(pattern, "\"*\" may stand only at the end");
    }
    if (!could_be_room(begin, star)) return fault(pattern, kNeverARoom);
    return std::nullopt;
}

}  // namespace rooms

// Who may join a room: `rooms_allow`, `rooms_join` and the token's own `rooms` claim.
//
// A pattern is compiled once, from text with `$variables`, into segments. At a check it is compared
// with the room from left to right: a variable's value is compared byte for byte, whatever is in
// it, so a claim of `*` opens nothing; an empty value makes the pattern match no room. A `*`, only
// at the end, stands for one or more bytes: `tenant:*` is any tenant, `*` any room. A value may have
// colons: behind `user:$rooms_user:*`, user `a` shares the rooms of a user `a:b`, if there is one.
// Without a rule that matches there is no access.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.hpp"

namespace rooms {

// Where a variable's value comes from.
struct VariableSource {
    enum class Kind : std::uint8_t {
        captured,  // a request variable, taken at the handshake; index into RuleValues::captured
        claim,     // of the newest token; index into RuleValues::claims
        user,      // $rooms_user
        room,      // $rooms_room, $rooms_room_kind, $rooms_room_id: not in patterns
        room_kind,
        room_id,
    };
    Kind kind = Kind::captured;
    std::uint32_t index = 0;
};

// Called with the name, without `$` and braces, as written. Nothing: there is no such variable.
using VariableResolver = std::function<std::optional<VariableSource>(std::string_view name)>;

// What the variables of one connection hold. An index beyond the end is an empty value.
struct RuleValues {
    std::span<const std::string_view> captured;
    std::span<const std::string_view> claims;
    std::string_view user;
};

class Pattern {
public:
    enum class Star : std::uint8_t { allowed, refused };

    // The error says what is wrong and quotes the pattern. rooms_join uses Star::refused.
    static Result<Pattern> compile(std::string_view text, const VariableResolver& resolve,
                                   Star star = Star::allowed);

    // REQUIRES: is_room(room).
    [[nodiscard]] bool matches(std::string_view room, const RuleValues& values) const;

    // The room this pattern names; nothing if a variable is empty or the pattern has a star.
    // The result is not necessarily a valid room: the values decide.
    [[nodiscard]] std::optional<std::string> expand(const RuleValues& values) const;

    [[nodiscard]] bool has_star() const { return star_; }
    [[nodiscard]] const std::string& text() const { return text_; }

private:
    struct Segment {
        bool literal = true;
        VariableSource source;
        std::uint32_t begin = 0;  // of a literal, in text_
        std::uint32_t size = 0;
    };

    Pattern() = default;
    [[nodiscard]] std::string_view value_of(const Segment& segment, const RuleValues& values) const;

    std::string text_;
    std::vector<Segment> segments_;
    bool star_ = false;
};

// Who decided. `rule` is the index of the first rule that matched, for sql= and request= hang on it.
struct Verdict {
    enum class By : std::uint8_t { nobody, token, rule };
    By by = By::nobody;
    std::uint32_t rule = 0;
    [[nodiscard]] bool allowed() const { return by != By::nobody; }
    bool operator==(const Verdict&) const = default;
};

class RuleSet {
public:
    using Parameters = std::vector<VariableSource>;

    void add(Pattern pattern) { rules_.push_back({std::move(pattern), std::nullopt}); }
    // A match is not enough: somebody is asked (core/lookup.hpp), with the values of `parameters`. Where
    // one of them is empty it is no match.
    void add(Pattern pattern, Parameters parameters) {
        rules_.push_back({std::move(pattern), std::move(parameters)});
    }
    [[nodiscard]] std::size_t size() const { return rules_.size(); }
    [[nodiscard]] const Pattern& operator[](std::size_t index) const { return rules_[index].pattern; }
    // Null: what the verdict says is all.
    [[nodiscard]] const Parameters* parameters(const Verdict& verdict) const;

    // `token_rooms`: the token's `rooms` claim. It is asked first: what the token itself grants
    // needs no look-up. A text that is no room is allowed to nobody.
    [[nodiscard]] Verdict check(std::string_view room, const RuleValues& values,
                                std::span<const std::string_view> token_rooms = {}) const;

private:
    struct Rule {
        Pattern pattern;
        std::optional<Parameters> parameters;
    };
    std::vector<Rule> rules_;
};

// What the parameters of a rule hold for this room. REQUIRES: is_room(room).
[[nodiscard]] std::vector<std::string> lookup_values(const RuleSet::Parameters& parameters,
                                                     std::string_view room, const RuleValues& values);

// A plain pattern: literal, except that a `*` at the end stands for one or more bytes. `$` is a
// dollar sign. Used for the token's `rooms` claim and for rooms_history.
[[nodiscard]] bool match_plain_pattern(std::string_view pattern, std::string_view room);

// What is wrong with a plain pattern in a configuration (it could match no room), or nothing.
[[nodiscard]] std::optional<Error> check_plain_pattern(std::string_view pattern);

}  // namespace rooms

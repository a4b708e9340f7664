// Reading and judging the claims of a verified token: views into its payload, and no tree.
//
// The strict reader of core/json sees the text first: it bounds the depth without recursion and
// knows no leniency. What it has passed is then walked for duplicates at every depth.
#include "core/claims.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <utility>
#include <variant>

namespace rooms {
namespace {

using Reason = TokenError::Reason;
using Number = std::variant<std::int64_t, double>;

constexpr std::int64_t kTenYearsMs = std::int64_t{3653} * 86400 * 1000;
// Far beyond every date, and far from overflow when a leeway is added.
constexpr std::int64_t kFarMs = std::int64_t{1} << 60;
// As seconds the year 5138, as milliseconds 1973.
constexpr std::int64_t kSurelyMs = 100'000'000'000;

std::string quoted(std::string_view name) { return "\"" + std::string(name) + "\""; }

std::string decimal(std::int64_t value) { return std::to_string(value); }

// Nothing: neither 64 bits nor a double hold it. REQUIRES: the raw of a number.
std::optional<Number> number_of(std::string_view raw) {
    if (raw.find_first_of(".eE") == raw.npos) {
        if (const auto integer = parse_json_i64(raw)) return *integer;
        return std::nullopt;
    }
    double real = 0;
    if (std::from_chars(raw.begin(), raw.end(), real).ec != std::errc()) return std::nullopt;
    return real;
}

// REQUIRES: the raw of a string.
std::string string_of(std::string_view raw) { return unescape_json(raw).value_or(std::string()); }

// A NumericDate (RFC 7519 section 2), or the same in milliseconds, as milliseconds. REQUIRES: a number.
std::int64_t milliseconds(const JsonMember& member, std::int64_t unit_ms) {
    const Number number = number_of(member.raw).value_or(Number());
    if (const auto* integer = std::get_if<std::int64_t>(&number)) {
        if (*integer > kFarMs / unit_ms) return kFarMs;
        if (*integer < -kFarMs / unit_ms) return -kFarMs;
        return *integer * unit_ms;
    }
    const double value = std::get<double>(number) * static_cast<double>(unit_ms);
    if (value >= static_cast<double>(kFarMs)) return kFarMs;
    if (value <= -static_cast<double>(kFarMs)) return -kFarMs;
    return static_cast<std::int64_t>(std::floor(value));
}

// Whether a string of the text has a NUL in it; a NUL that is not escaped is no JSON.
bool has_nul(std::string_view json) {
    constexpr std::string_view kNul = "\\u0000";
    for (std::size_t at = json.find(kNul); at != json.npos; at = json.find(kNul, at + 1)) {
        const std::size_t before = json.find_last_not_of('\\', at);
        if ((at - before) % 2 != 0) return true;  // the backslash is not one that is escaped itself
    }
    return false;
}

// U+0000 to U+001F and U+007F to U+009F. REQUIRES: `text` is UTF-8.
bool has_control(std::string_view text) {
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto byte = static_cast<unsigned char>(text[i]);
        if (byte < 0x20 || byte == 0x7f) return true;
        if (byte == 0xc2 && static_cast<unsigned char>(text[i + 1]) < 0xa0) return true;
    }
    return false;
}

// What Claims::text promises.
std::optional<std::string> text_of(const JsonValue& value) {
    switch (value.type) {
        case JsonType::string: return string_of(value.raw);
        case JsonType::boolean: return std::string(value.raw);
        case JsonType::number: break;
        case JsonType::object:
        case JsonType::array:
        case JsonType::null: return std::nullopt;
    }
    const Number number = number_of(value.raw).value_or(Number());
    if (const auto* integer = std::get_if<std::int64_t>(&number)) return decimal(*integer);
    std::array<char, 32> digits;
    const auto end = std::to_chars(digits.begin(), digits.end(), std::get<double>(number)).ptr;
    return std::string(digits.begin(), end);
}

bool is_one_of(std::string_view text, const std::vector<std::string>& list) {
    return std::find(list.begin(), list.end(), text) != list.end();
}

}  // namespace

std::string_view token_reason_text(TokenError::Reason reason) {
    switch (reason) {
        case Reason::too_long: return "too_long";
        case Reason::malformed: return "malformed";
        case Reason::bad_header: return "bad_header";
        case Reason::bad_algorithm: return "bad_algorithm";
        case Reason::unknown_key: return "unknown_key";
        case Reason::bad_signature: return "bad_signature";
        case Reason::bad_payload: return "bad_payload";
        case Reason::missing_claim: return "missing_claim";
        case Reason::expired: return "expired";
        case Reason::not_yet_valid: return "not_yet_valid";
        case Reason::exp_out_of_range: return "exp_out_of_range";
        case Reason::bad_issuer: return "bad_issuer";
        case Reason::bad_audience: return "bad_audience";
    }
    return {};
}

Result<Claims, TokenError> Claims::read(std::string_view payload, const TokenRules& rules,
                                        std::int64_t now_ms) {
    Claims claims(payload);
    if (auto refused = claims.take_members()) return *refused;
    for (const std::string& name : rules.required_claims) {
        if (!claims.find(name)) {
            return TokenError{Reason::missing_claim, "no claim " + quoted(name)};
        }
    }
    if (auto refused = claims.check_times(rules, now_ms)) return *refused;
    if (auto refused = claims.check_parties(rules)) return *refused;
    if (auto refused = claims.take_user(rules)) return *refused;
    if (auto refused = claims.take_rooms(rules)) return *refused;
    return claims;
}

std::optional<TokenError> Claims::take_members() {
    const auto refuse = [](const char* why) { return TokenError{Reason::bad_payload, why}; };
    const std::string_view text(text_.data(), text_.size());
    const auto object = parse_json(text, kMaxTokenDepth);
    if (!object) return refuse("the payload is not JSON, or too deep");
    if (object->type != JsonType::object) return refuse("the payload is not a JSON object");
    if (has_nul(text)) return refuse("a NUL in the payload");
    if (find_duplicate_member(object->raw)) return refuse("a claim occurs twice");
    members_.reserve(8);
    JsonMember member;
    for (JsonMembers members(object->raw); members.next(member);) {
        const char* fault = nullptr;
        const bool sound = holds_throughout({member.type, member.raw}, [&](const JsonValue& value) {
            if (value.type == JsonType::object && find_duplicate_member(value.raw)) {
                fault = "a claim occurs twice";
            }
            if (value.type == JsonType::number && !number_of(value.raw)) {
                fault = "a number out of range in the payload";
            }
            return fault == nullptr;
        });
        if (!sound) return refuse(fault);
        members_.push_back(member);
    }
    return std::nullopt;
}

const JsonMember* Claims::find(std::string_view name) const {
    for (const JsonMember& member : members_) {
        if (member.name() == name) return member.type == JsonType::null ? nullptr : &member;
    }
    return nullptr;
}

std::optional<TokenError> Claims::check_times(const TokenRules& rules, std::int64_t now_ms) {
    // RFC 7519 section 4.1 has them left out or numbers: null is neither.
    for (const JsonMember& member : members_) {
        const std::string_view name = member.name();
        const bool is_time = name == "exp" || name == "nbf" || name == "iat";
        if (is_time && member.type != JsonType::number) {
            return TokenError{Reason::bad_payload, quoted(name) + " is not a number"};
        }
    }
    const JsonMember* const exp = find("exp");
    const JsonMember* const nbf = find("nbf");
    const JsonMember* const iat = find("iat");
    const std::int64_t leeway_ms = rules.leeway_s * 1000;

    if (exp) {
        expires_at_ms_ = milliseconds(*exp, rules.exp_in_ms ? 1 : 1000);
        if (expires_at_ms_ <= now_ms - leeway_ms) {
            std::string why = "expired " + decimal((now_ms - expires_at_ms_) / 1000) + " s ago";
            if (rules.exp_in_ms && milliseconds(*exp, 1000) > now_ms) {
                why = "expired; \"exp\" looks like seconds (rooms_jwt_exp_unit s)";
            }
            return TokenError{Reason::expired, std::move(why)};
        }
        if (expires_at_ms_ > now_ms + kTenYearsMs) {
            return TokenError{Reason::exp_out_of_range,
                              rules.exp_in_ms
                                  ? "\"exp\" is more than ten years ahead"
                                  : "\"exp\" is more than ten years ahead: it looks like milliseconds"
                                    " (rooms_jwt_exp_unit ms)"};
        }
    }
    const auto instant = [&](const JsonMember& value) {
        const std::int64_t raw = milliseconds(value, 1);
        return milliseconds(value, rules.exp_in_ms && raw > kSurelyMs ? 1 : 1000);
    };
    if (nbf && instant(*nbf) > now_ms + leeway_ms) {
        return TokenError{Reason::not_yet_valid, "\"nbf\" is in the future"};
    }
    if (iat && instant(*iat) > now_ms + leeway_ms) {
        return TokenError{Reason::not_yet_valid, "\"iat\" is in the future"};
    }
    if (rules.max_age_s > 0) {
        if (!iat) {
            return TokenError{Reason::missing_claim, "no claim \"iat\", which rooms_jwt_max_age needs"};
        }
        if (now_ms - instant(*iat) > rules.max_age_s * 1000 + leeway_ms) {
            return TokenError{Reason::expired, "older than rooms_jwt_max_age"};
        }
    }
    return std::nullopt;
}

std::optional<TokenError> Claims::check_parties(const TokenRules& rules) const {
    if (!rules.issuer.empty()) {
        const JsonMember* const iss = find("iss");
        if (!iss || iss->type != JsonType::string || string_of(iss->raw) != rules.issuer) {
            return TokenError{Reason::bad_issuer, "\"iss\" is not rooms_jwt_issuer"};
        }
    }
    if (rules.audience.empty()) return std::nullopt;
    const auto is_ours = [&](const JsonValue& value) {
        return value.type == JsonType::string && is_one_of(string_of(value.raw), rules.audience);
    };
    const JsonMember* const aud = find("aud");
    bool ours = aud && is_ours({aud->type, aud->raw});
    if (aud && aud->type == JsonType::array) {
        JsonValue one;
        for (JsonElements elements(aud->raw); elements.next(one);) ours = ours || is_ours(one);
    }
    if (ours) return std::nullopt;
    return TokenError{Reason::bad_audience, "\"aud\" has nothing of rooms_jwt_audience"};
}

std::optional<TokenError> Claims::take_user(const TokenRules& rules) {
    std::string_view name = rules.user_claim;
    const JsonMember* user = find(name);
    if (!user || user->raw == "\"\"") {
        name = "id";
        user = find(name);
    }
    if (!user) return std::nullopt;
    if (user->type == JsonType::number) {
        if (const auto integer = parse_json_i64(user->raw)) {
            user_id_ = decimal(*integer);
            return std::nullopt;
        }
    }
    if (user->type != JsonType::string) {
        return TokenError{Reason::bad_payload, quoted(name) + " is neither a string nor an integer"};
    }
    std::string text = string_of(user->raw);
    if (text.size() > kMaxUserId) {
        return TokenError{Reason::bad_payload,
                          quoted(name) + " is longer than " + std::to_string(kMaxUserId) + " bytes"};
    }
    if (has_control(text)) {
        return TokenError{Reason::bad_payload, quoted(name) + " has a control character"};
    }
    user_id_ = std::move(text);
    return std::nullopt;
}

std::optional<TokenError> Claims::take_rooms(const TokenRules& rules) {
    const JsonMember* const rooms = find(rules.rooms_claim);
    if (!rooms) return std::nullopt;
    const auto refuse = [&] {
        return TokenError{Reason::bad_payload, quoted(rules.rooms_claim) + " is not an array of strings"};
    };
    if (rooms->type != JsonType::array) return refuse();
    JsonValue room;
    for (JsonElements elements(rooms->raw); elements.next(room);) {
        if (room.type != JsonType::string) return refuse();
        rooms_.push_back(string_of(room.raw));
    }
    return std::nullopt;
}

std::optional<std::string> Claims::text(std::span<const std::string> path) const {
    const JsonMember* const first = path.empty() ? nullptr : find(path.front());
    if (!first) return std::nullopt;
    JsonValue value{first->type, first->raw};
    for (const std::string& name : path.subspan(1)) {
        if (value.type != JsonType::object) return std::nullopt;
        JsonMember member;
        JsonMembers members(value.raw);
        do {
            if (!members.next(member)) return std::nullopt;
        } while (member.name() != name);
        value = {member.type, member.raw};
    }
    return text_of(value);
}

std::optional<std::string> Claims::text(std::string_view name) const {
    const JsonMember* const member = find(name);
    return member ? text_of({member->type, member->raw}) : std::nullopt;
}

}  // namespace rooms

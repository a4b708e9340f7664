// Reading and judging the claims of a verified token. The only file that includes jansson.
//
// The strict reader of core/json sees the text first: it bounds the depth without recursion and
// knows no leniency. jansson then makes the tree, and finds duplicates at every depth.
#include "core/claims.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <utility>

#include <jansson.h>

#include "core/json.hpp"

namespace rooms {
namespace {

using Reason = TokenError::Reason;

constexpr std::int64_t kTenYearsMs = std::int64_t{3653} * 86400 * 1000;
// Far beyond every date, and far from overflow when a leeway is added.
constexpr std::int64_t kFarMs = std::int64_t{1} << 60;
// As seconds the year 5138, as milliseconds 1973.
constexpr std::int64_t kSurelyMs = 100'000'000'000;

std::string quoted(std::string_view name) { return "\"" + std::string(name) + "\""; }

json_t* member(const json_t* object, std::string_view name) {
    json_t* value = json_object_getn(object, name.data(), name.size());
    return json_is_null(value) ? nullptr : value;
}

std::string_view string_of(const json_t* value) {
    return {json_string_value(value), json_string_length(value)};
}

std::string decimal(std::int64_t value) { return std::to_string(value); }

// A NumericDate (RFC 7519 section 2), or the same in milliseconds, as milliseconds.
std::int64_t milliseconds(const json_t* number, std::int64_t unit_ms) {
    if (json_is_integer(number)) {
        const std::int64_t value = json_integer_value(number);
        if (value > kFarMs / unit_ms) return kFarMs;
        if (value < -kFarMs / unit_ms) return -kFarMs;
        return value * unit_ms;
    }
    const double value = json_real_value(number) * static_cast<double>(unit_ms);
    if (value >= static_cast<double>(kFarMs)) return kFarMs;
    if (value <= -static_cast<double>(kFarMs)) return -kFarMs;
    return static_cast<std::int64_t>(std::floor(value));
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

bool is_one_of(std::string_view text, const std::vector<std::string>& list) {
    return std::find(list.begin(), list.end(), text) != list.end();
}

// jansson's own sentences quote the text, which is the token's.
TokenError load_error(const json_error_t& error) {
    switch (json_error_code(&error)) {
        case json_error_out_of_memory: return {Reason::internal, "out of memory"};
        case json_error_duplicate_key: return {Reason::bad_payload, "a claim occurs twice"};
        case json_error_null_character:
        case json_error_null_byte_in_key: return {Reason::bad_payload, "a NUL in the payload"};
        case json_error_numeric_overflow:
            return {Reason::bad_payload, "a number out of range in the payload"};
        default: return {Reason::bad_payload, "the payload cannot be read"};
    }
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
        case Reason::internal: return "internal";
    }
    return "internal";
}

void Claims::JsonFree::operator()(json_t* value) const { json_decref(value); }

Claims::Claims(Json payload) : payload_(std::move(payload)) {}

Result<Claims, TokenError> Claims::read(std::string_view payload, const TokenRules& rules,
                                        std::int64_t now_ms) {
    const auto checked = parse_json(payload, kMaxTokenDepth);
    if (!checked) return TokenError{Reason::bad_payload, "the payload is not JSON, or too deep"};
    if (checked->type != JsonType::object) {
        return TokenError{Reason::bad_payload, "the payload is not a JSON object"};
    }
    json_error_t error{};  // jansson leaves it untouched where its first allocation fails
    Json tree(json_loadb(payload.data(), payload.size(), JSON_REJECT_DUPLICATES, &error));
    if (!tree) return load_error(error);

    Claims claims(std::move(tree));
    for (const std::string& name : rules.required_claims) {
        if (!member(claims.payload_.get(), name)) {
            return TokenError{Reason::missing_claim, "no claim " + quoted(name)};
        }
    }
    if (auto refused = claims.check_times(rules, now_ms)) return *refused;
    if (auto refused = claims.check_parties(rules)) return *refused;
    if (auto refused = claims.take_user(rules)) return *refused;
    if (auto refused = claims.take_rooms(rules)) return *refused;
    return claims;
}

std::optional<TokenError> Claims::check_times(const TokenRules& rules, std::int64_t now_ms) {
    const json_t* const exp = member(payload_.get(), "exp");
    const json_t* const nbf = member(payload_.get(), "nbf");
    const json_t* const iat = member(payload_.get(), "iat");
    for (const auto& [value, name] : {std::pair{exp, "exp"}, {nbf, "nbf"}, {iat, "iat"}}) {
        if (value && !json_is_number(value)) {
            return TokenError{Reason::bad_payload, quoted(name) + " is not a number"};
        }
    }
    const std::int64_t leeway_ms = rules.leeway_s * 1000;

    if (exp) {
        expires_at_ms_ = milliseconds(exp, rules.exp_in_ms ? 1 : 1000);
        if (expires_at_ms_ <= now_ms - leeway_ms) {
            std::string why = "expired " + decimal((now_ms - expires_at_ms_) / 1000) + " s ago";
            if (rules.exp_in_ms && milliseconds(exp, 1000) > now_ms) {
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
    const auto instant = [&](const json_t* value) {
        const std::int64_t raw = milliseconds(value, 1);
        return milliseconds(value, rules.exp_in_ms && raw > kSurelyMs ? 1 : 1000);
    };
    if (nbf && instant(nbf) > now_ms + leeway_ms) {
        return TokenError{Reason::not_yet_valid, "\"nbf\" is in the future"};
    }
    if (iat && instant(iat) > now_ms + leeway_ms) {
        return TokenError{Reason::not_yet_valid, "\"iat\" is in the future"};
    }
    if (rules.max_age_s > 0) {
        if (!iat) {
            return TokenError{Reason::missing_claim, "no claim \"iat\", which rooms_jwt_max_age needs"};
        }
        if (now_ms - instant(iat) > rules.max_age_s * 1000 + leeway_ms) {
            return TokenError{Reason::expired, "older than rooms_jwt_max_age"};
        }
    }
    return std::nullopt;
}

std::optional<TokenError> Claims::check_parties(const TokenRules& rules) const {
    if (!rules.issuer.empty()) {
        const json_t* const iss = member(payload_.get(), "iss");
        if (!json_is_string(iss) || string_of(iss) != rules.issuer) {
            return TokenError{Reason::bad_issuer, "\"iss\" is not rooms_jwt_issuer"};
        }
    }
    if (rules.audience.empty()) return std::nullopt;
    const json_t* const aud = member(payload_.get(), "aud");
    bool ours = json_is_string(aud) && is_one_of(string_of(aud), rules.audience);
    for (std::size_t i = 0; i < json_array_size(aud); ++i) {
        const json_t* const one = json_array_get(aud, i);
        ours = ours || (json_is_string(one) && is_one_of(string_of(one), rules.audience));
    }
    if (ours) return std::nullopt;
    return TokenError{Reason::bad_audience, "\"aud\" has nothing of rooms_jwt_audience"};
}

std::optional<TokenError> Claims::take_user(const TokenRules& rules) {
    std::string_view name = rules.user_claim;
    const json_t* user = member(payload_.get(), name);
    const bool nobody = !user || (json_is_string(user) && json_string_length(user) == 0);
    if (nobody) {
        name = "id";
        user = member(payload_.get(), name);
    }
    if (!user) return std::nullopt;
    if (json_is_integer(user)) {
        user_id_ = decimal(json_integer_value(user));
        return std::nullopt;
    }
    if (!json_is_string(user)) {
        return TokenError{Reason::bad_payload, quoted(name) + " is neither a string nor an integer"};
    }
    const std::string_view text = string_of(user);
    if (text.size() > kMaxUserId) {
        return TokenError{Reason::bad_payload,
                          quoted(name) + " is longer than " + std::to_string(kMaxUserId) + " bytes"};
    }
    if (has_control(text)) {
        return TokenError{Reason::bad_payload, quoted(name) + " has a control character"};
    }
    user_id_ = text;
    return std::nullopt;
}

std::optional<TokenError> Claims::take_rooms(const TokenRules& rules) {
    const json_t* const rooms = member(payload_.get(), rules.rooms_claim);
    if (!rooms) return std::nullopt;
    const TokenError refused{Reason::bad_payload, quoted(rules.rooms_claim) + " is not an array of strings"};
    if (!json_is_array(rooms)) return refused;
    rooms_.reserve(json_array_size(rooms));
    for (std::size_t i = 0; i < json_array_size(rooms); ++i) {
        const json_t* const room = json_array_get(rooms, i);
        if (!json_is_string(room)) return refused;
        rooms_.emplace_back(string_of(room));
    }
    return std::nullopt;
}

std::optional<std::string> Claims::text(std::span<const std::string> path) const {
    const json_t* value = path.empty() ? nullptr : payload_.get();
    for (const std::string& name : path) value = member(value, name);
    if (json_is_string(value)) return std::string(string_of(value));
    if (json_is_integer(value)) return decimal(json_integer_value(value));
    if (json_is_boolean(value)) return json_is_true(value) ? "true" : "false";
    if (!json_is_real(value)) return std::nullopt;
    std::array<char, 32> digits;
    const auto end = std::to_chars(digits.begin(), digits.end(), json_real_value(value)).ptr;
    return std::string(digits.begin(), end);
}

std::optional<std::string> Claims::text(std::string_view name) const {
    const std::string path[] = {std::string(name)};
    return text(path);
}

}  // namespace rooms

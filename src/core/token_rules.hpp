// What a token must satisfy beyond its signature (RFC 7519 section 4.1), and how a refusal is told.
//
// TokenRules is filled from rooms_jwt_* directives and immutable afterwards. TokenError is for the
// info log only: the client sees one close code whatever the reason, and the text never contains
// bytes of the token.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace rooms {

inline constexpr std::int64_t kMaxLeewaySeconds = 300;

struct TokenRules {
    std::string issuer;                 // empty: not checked; else equal to `iss`
    std::vector<std::string> audience;  // empty: not checked; else `aud` has one of them
    std::int64_t leeway_s = 0;          // 0..kMaxLeewaySeconds, for exp, nbf, iat and max_age
    std::int64_t max_age_s = 0;         // 0: none; else `iat` is required and at most this old
    std::vector<std::string> required_claims = {"exp"};  // present and not null
    // rooms_jwt_exp_unit ms. Then `iat` and `nbf` are read as milliseconds too where, as seconds,
    // they would lie beyond the year 5000: who writes Date.now() into one writes it into all.
    bool exp_in_ms = false;
    std::string user_claim = "sub";
    std::string rooms_claim = "rooms";
};

struct TokenError {
    enum class Reason : std::uint8_t {
        too_long,
        malformed,      // not three segments of base64url
        bad_header,     // not an object with a sound alg, typ, kid; or it has `crit`
        bad_algorithm,  // none, unknown, or of no configured key
        unknown_key,    // no configured key has this kid
        bad_signature,
        bad_payload,  // not a JSON object without duplicates; a claim of the wrong type
        missing_claim,
        expired,           // exp, or older than max_age
        not_yet_valid,     // nbf or iat in the future
        exp_out_of_range,  // absurdly far off: milliseconds?
        bad_issuer,
        bad_audience,
    };
    Reason reason = Reason::malformed;
    std::string detail;  // a sentence without a final stop
};

// A short name in snake_case, for counters.
[[nodiscard]] std::string_view token_reason_text(TokenError::Reason reason);

}  // namespace rooms

// The claims of a token whose signature has been verified, and the checks of RFC 7519 section 4.1.
//
// Owns the payload's text; lives as long as a handshake or an `auth` needs it (Identity keeps what
// rules ask for). Names are exact: no folding of case, no prefixes.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.hpp"
#include "core/result.hpp"
#include "core/token_rules.hpp"

namespace rooms {

inline constexpr unsigned kMaxTokenDepth = 8;   // of header and payload, the object itself is 1
inline constexpr std::size_t kMaxUserId = 200;  // bytes

class Claims {
public:
    // `payload`: the decoded second segment. Only for text whose signature has been verified.
    static Result<Claims, TokenError> read(std::string_view payload, const TokenRules& rules,
                                           std::int64_t now_ms);

    Claims(Claims&&) = default;
    Claims& operator=(Claims&&) = default;
    Claims(const Claims&) = delete;  // a copy's views would point into the original
    Claims& operator=(const Claims&) = delete;

    // Empty: the token names nobody. At most kMaxUserId bytes of UTF-8 without control characters.
    [[nodiscard]] const std::string& user_id() const { return user_id_; }
    // `exp` in ms since the epoch, without the leeway; 0: the token does not expire.
    [[nodiscard]] std::int64_t expires_at_ms() const { return expires_at_ms_; }
    // Patterns as written in the rooms claim; nobody has checked that they could match.
    [[nodiscard]] const std::vector<std::string>& rooms() const { return rooms_; }

    // The claim at exactly this path of member names: a string as it is, an integer in decimal, a
    // real in its shortest form, "true" or "false". Nothing: absent, null, an object or an array,
    // or an empty path. No NUL is in it; any other character may be.
    [[nodiscard]] std::optional<std::string> text(std::span<const std::string> path) const;
    [[nodiscard]] std::optional<std::string> text(std::string_view name) const;

private:
    explicit Claims(std::string_view payload) : text_(payload.begin(), payload.end()) {}
    [[nodiscard]] std::optional<TokenError> take_members();
    // Null: absent, or null.
    [[nodiscard]] const JsonMember* find(std::string_view name) const;
    [[nodiscard]] std::optional<TokenError> check_times(const TokenRules& rules, std::int64_t now_ms);
    [[nodiscard]] std::optional<TokenError> check_parties(const TokenRules& rules) const;
    [[nodiscard]] std::optional<TokenError> take_user(const TokenRules& rules);
    [[nodiscard]] std::optional<TokenError> take_rooms(const TokenRules& rules);

    std::vector<char> text_;           // no string: its bytes must stay where they are when the Claims move
    std::vector<JsonMember> members_;  // views into text_
    std::string user_id_;
    std::int64_t expires_at_ms_ = 0;
    std::vector<std::string> rooms_;
};

}  // namespace rooms

// Verification of a JSON Web Token: JWS compact serialisation (RFC 7515 sections 3.1 and 5.2), with
// the cautions of RFC 8725. Pure: the time is a parameter.
//
// OpenSSL checks the signatures; libjwt only serves the tests. As `make oracle` shows, its 1.10 accepts
// HS256 signed with an RSA key's public PEM, expired tokens, `none` where the key is empty, `crit`,
// duplicate claims and padding, and crashes on 16 MiB. Never looked at: jku, x5u, x5c, jwk.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/claims.hpp"
#include "core/key_set.hpp"
#include "core/result.hpp"
#include "core/token_rules.hpp"

namespace rooms {

inline constexpr std::size_t kMaxToken = 8192;  // bytes; longer ones are refused unread

// `token` may be wiped by the caller afterwards: nothing keeps a view into it. The payload is not
// even decoded before the signature has been found good. Throws std::bad_alloc, also where it is OpenSSL that lacks
// memory: nothing is known of the token then.
Result<Claims, TokenError> verify_token(std::string_view token, const KeySet& keys, const TokenRules& rules,
                                        std::int64_t now_ms);

}  // namespace rooms

// Reads the keys of a JWKS file (RFC 7517 section 5; EC, RSA and oct of RFC 7518 section 6, OKP of
// RFC 8037) for `rooms_jwt_jwks`.
//
// Keys that are not for verifying (`use` or `key_ops` say so) or of a kind unknown here are passed
// over, as RFC 7517 section 5 wants and as real identity servers need, which publish their
// encryption keys in the same set. A key that is meant for us and wrong is an error.
#pragma once

#include <string_view>
#include <vector>

#include "core/key.hpp"
#include "core/result.hpp"

namespace rooms {

inline constexpr std::size_t kMaxJwksFile = 1 << 20;

// At least one key. The error names the key by index and kid and never quotes key material.
Result<std::vector<Key>> parse_jwks(std::string_view json);

}  // namespace rooms

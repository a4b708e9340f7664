// The signature algorithms of RFC 7518 section 3.1 and RFC 8037 that a token may name.
//
// `none` is not among them and cannot be written. Names are matched byte for byte, as RFC 7515
// section 4.1.1 requires: "rs256" is no algorithm.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace rooms {

enum class Algorithm : std::uint8_t {
    hs256,
    hs384,
    hs512,
    rs256,
    rs384,
    rs512,
    ps256,
    ps384,
    ps512,
    es256,
    es384,
    es512,
    eddsa,
};

enum class KeyFamily : std::uint8_t { hmac, rsa, rsa_pss, ec, okp };

[[nodiscard]] std::optional<Algorithm> parse_algorithm(std::string_view name);
[[nodiscard]] std::string_view algorithm_name(Algorithm algorithm);
[[nodiscard]] KeyFamily key_family(Algorithm algorithm);

// For messages.
inline constexpr std::string_view kAlgorithmNames =
    "HS256 HS384 HS512 RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA";

}  // namespace rooms

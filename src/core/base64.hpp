// Base64 (RFC 4648 section 4, padded) for Sec-WebSocket-Key and -Accept, and base64url without
// padding (RFC 7515 section 2) for tokens and keys.
//
// Decoding is strict, since two spellings of one value would be two tokens with one signature:
// alphabet only, right length, unused last bits zero. Never skips whitespace.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace rooms {

[[nodiscard]] std::string base64_encode(std::string_view bytes);
[[nodiscard]] std::optional<std::string> base64_decode(std::string_view text);

[[nodiscard]] std::string base64url_encode(std::string_view bytes);
[[nodiscard]] std::optional<std::string> base64url_decode(std::string_view text);

}  // namespace rooms

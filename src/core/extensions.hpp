// Negotiation of permessage-deflate: RFC 6455 section 9.1 and RFC 7692 section 7.1.
//
// Always without context takeover, both ways: each message is compressed once and shared by all
// who get it, no connection owns a window, and no secret shares one with a stranger's text.
// The client's window is never limited, since our inflater takes any.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace rooms {

struct DeflateConfig {
    bool enabled = false;
};

struct DeflateParams {
    std::uint8_t server_max_window_bits = 15;  // 9 .. 15
};

struct ExtensionsResult {
    bool malformed = false;                // against the ABNF: answer 400
    std::optional<DeflateParams> deflate;  // the first offer that we can take
    std::string response;                  // Sec-WebSocket-Extensions, empty: no header
};

// `header_lines`: the values of all Sec-WebSocket-Extensions lines, in order. A value that offers
// nothing at all is no error. Throws std::bad_alloc.
[[nodiscard]] ExtensionsResult negotiate_extensions(std::span<const std::string_view> header_lines,
                                                    const DeflateConfig& config);

}  // namespace rooms

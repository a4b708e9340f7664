// Origins (RFC 6454 section 6.2): scheme "://" host [":" port], or the word "null".
//
// Compared as a browser serialises them: caseless, the scheme's default port left out, hosts as
// text. Whatever does not parse equals nothing. IPv6 literals keep their brackets.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace rooms {

struct Origin {
    std::string_view scheme;
    std::string_view host;
    std::uint16_t port = 0;  // 0: the scheme's default
};

// Views into `text`. "null" is not parsed: it names no host.
[[nodiscard]] std::optional<Origin> parse_origin(std::string_view text);

// The default rule: host and port of the Origin are those of the Host header. Schemes are not
// compared, for TLS may end before us.
[[nodiscard]] bool origin_is_host(std::string_view origin, std::string_view host);

// The rule for a configured origin: scheme, host and port; "null" equals "null" only.
[[nodiscard]] bool origin_equals(std::string_view origin, std::string_view configured);

}  // namespace rooms

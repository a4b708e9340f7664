// UTF-8 decoded slowly and plainly, by the bits of RFC 3629 section 3: beside the validator.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace rooms {

inline bool is_utf8_plainly(std::string_view text) {
    for (std::size_t i = 0; i < text.size();) {
        const auto octet = [&](std::size_t at) {
            return at < text.size() ? static_cast<std::uint8_t>(text[at]) : 0u;
        };
        const std::uint32_t lead = octet(i);
        const std::size_t more = lead < 0x80 ? 0 : (lead & 0xe0) == 0xc0 ? 1 : (lead & 0xf0) == 0xe0 ? 2 : 3;
        if (more == 3 && (lead & 0xf8) != 0xf0) return false;
        std::uint32_t c = more == 0 ? lead : lead & (0x3fu >> more);
        for (std::size_t k = 1; k <= more; ++k) {
            if ((octet(i + k) & 0xc0) != 0x80) return false;
            c = c << 6 | (octet(i + k) & 0x3f);
        }
        constexpr std::uint32_t kLeast[] = {0, 0x80, 0x800, 0x10000};
        if (c < kLeast[more] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) return false;
        i += more + 1;
    }
    return true;
}

// Whether it may still become UTF-8: by up to three octets, of which the first is the least or the greatest.
inline bool may_become_utf8(std::string_view text) {
    if (is_utf8_plainly(text)) return true;
    for (const char* end : {"\x80", "\xbf", "\x80\x80", "\xbf\x80", "\x80\x80\x80", "\xbf\x80\x80"}) {
        if (is_utf8_plainly(std::string(text) + end)) return true;
    }
    return false;
}

}  // namespace rooms

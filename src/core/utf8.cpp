// UTF-8 by the table of RFC 3629 section 4: the first octet gives the count, and with it the range
// of the second, which is where overlong forms, surrogates and what is beyond U+10FFFF show.
#include "core/utf8.hpp"

#include <cstring>

namespace rooms {
namespace {

constexpr std::uint8_t kBad = 0xff;  // in missing_

// Past the octets below 0x80, eight at a time: most text is nothing else.
const char* skip_ascii(const char* at, const char* end) {
    for (; end - at >= 8; at += 8) {
        std::uint64_t word;
        std::memcpy(&word, at, 8);
        if (word & 0x8080808080808080u) break;
    }
    while (at != end && static_cast<signed char>(*at) >= 0) ++at;
    return at;
}

}  // namespace

bool Utf8Validator::feed(std::string_view text) {
    if (missing_ == kBad) return false;
    const char* at = text.data();
    const char* const end = at + text.size();
    for (;;) {
        if (missing_ == 0) at = skip_ascii(at, end);
        if (at == end) return true;
        const auto octet = static_cast<std::uint8_t>(*at++);
        if (missing_ > 0) {
            if (octet < low_ || octet > high_) break;
            --missing_;
            low_ = 0x80;
            high_ = 0xbf;
            continue;
        }
        if (octet < 0xc2 || octet > 0xf4) break;
        missing_ = octet < 0xe0 ? 1 : octet < 0xf0 ? 2 : 3;
        if (octet == 0xe0) low_ = 0xa0;
        if (octet == 0xed) high_ = 0x9f;
        if (octet == 0xf0) low_ = 0x90;
        if (octet == 0xf4) high_ = 0x8f;
    }
    missing_ = kBad;
    return false;
}

bool is_valid_utf8(std::string_view text) {
    Utf8Validator validator;
    return validator.feed(text) && validator.complete();
}

std::string_view utf8_prefix(std::string_view text, std::size_t max) {
    if (text.size() <= max) return text;
    while (max > 0 && (static_cast<std::uint8_t>(text[max]) & 0xc0) == 0x80) --max;
    return text.substr(0, max);
}

}  // namespace rooms

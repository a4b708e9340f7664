// UTF-8 (RFC 3629), checked as it arrives: RFC 6455 section 8.1 wants 1007, and the first bad octet
// is known before the message, the frame or the code point is complete.
//
// A Utf8Validator lives in every session, so it is three octets and owns nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace rooms {

class Utf8Validator {
public:
    // False at the first octet that no valid continuation can mend; false ever after, until reset.
    [[nodiscard]] bool feed(std::string_view text);
    // True between code points: the text may end here.
    [[nodiscard]] bool complete() const { return missing_ == 0; }
    void reset() { *this = Utf8Validator(); }

private:
    std::uint8_t missing_ = 0;  // octets that the current code point still needs
    std::uint8_t low_ = 0x80;   // and the range of the next one
    std::uint8_t high_ = 0xbf;
};

[[nodiscard]] bool is_valid_utf8(std::string_view text);

// The longest prefix of at most `max` octets that does not cut a code point. REQUIRES: valid UTF-8.
[[nodiscard]] std::string_view utf8_prefix(std::string_view text, std::size_t max);

}  // namespace rooms

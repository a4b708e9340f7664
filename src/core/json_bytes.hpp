// The bytes that JSON's readers stop at. Internal to core/json*.cpp.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

namespace rooms::json_bytes {

constexpr bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

// A quote, a backslash, a control character, a byte beyond ASCII.
constexpr bool is_plain(char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\';
}

// The first byte that is not plain, or the end. Eight bytes at a time: most of a body is text.
inline const char* skip_plain(const char* at, const char* end) {
    constexpr std::uint64_t kOnes = 0x0101010101010101;
    constexpr std::uint64_t kHigh = 0x8080808080808080;
    for (; end - at >= 8; at += 8) {
        std::uint64_t word = 0;
        std::memcpy(&word, at, 8);
        const std::uint64_t quote = word ^ (kOnes * '"');
        const std::uint64_t backslash = word ^ (kOnes * '\\');
        // A byte that is looked for sets its high bit here. It may borrow from the byte above it, so
        // only the lowest one is exact.
        const std::uint64_t stop =
            ((quote - kOnes) | (backslash - kOnes) | (word - kOnes * 0x20) | word) & kHigh;
        if (stop == 0) continue;
        if constexpr (std::endian::native == std::endian::little) return at + std::countr_zero(stop) / 8;
        break;
    }
    while (at != end && is_plain(*at)) ++at;
    return at;
}

}  // namespace rooms::json_bytes

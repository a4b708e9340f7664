// Base64 and base64url, RFC 4648 sections 4 and 5. See base64.hpp for what is refused.
#include "core/base64.hpp"

#include <array>
#include <cstdint>

namespace rooms {
namespace {

constexpr std::string_view kPlain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::string_view kUrl = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

using Values = std::array<std::int8_t, 256>;  // by octet, -1: not in the alphabet

consteval Values values_of(std::string_view alphabet) {
    Values values{};
    values.fill(-1);
    for (std::size_t i = 0; i < alphabet.size(); ++i)
        values[static_cast<unsigned char>(alphabet[i])] = static_cast<std::int8_t>(i);
    return values;
}

constexpr Values kPlainValues = values_of(kPlain);
constexpr Values kUrlValues = values_of(kUrl);

std::string encode(std::string_view bytes, std::string_view alphabet) {
    std::string text((bytes.size() * 4 + 2) / 3, '\0');
    char* out = text.data();
    std::uint32_t bits = 0;
    unsigned count = 0;  // of bits not written yet
    for (unsigned char byte : bytes) {
        bits = bits << 8 | byte;
        for (count += 8; count >= 6; count -= 6) *out++ = alphabet[bits >> (count - 6) & 63];
    }
    if (count > 0) *out = alphabet[bits << (6 - count) & 63];
    return text;
}

std::optional<std::string> decode(std::string_view text, const Values& values) {
    if (text.size() % 4 == 1) return std::nullopt;
    std::string bytes(text.size() * 3 / 4, '\0');
    char* out = bytes.data();
    const auto value = [&](std::size_t i) {
        return std::int32_t{values[static_cast<unsigned char>(text[i])]};
    };
    for (; text.size() >= 4; text.remove_prefix(4)) {
        const std::int32_t bits = value(0) << 18 | value(1) << 12 | value(2) << 6 | value(3);
        if (bits < 0) return std::nullopt;  // a -1 among them
        for (const int shift : {16, 8, 0}) *out++ = static_cast<char>(bits >> shift);
    }
    if (text.empty()) return bytes;
    const std::int32_t bits = value(0) << 12 | value(1) << 6 | (text.size() == 3 ? value(2) : 0);
    // The encoder had zeros at the end; anything else is a second spelling of the same octets.
    if (bits < 0 || bits & (text.size() == 3 ? 0x3 : 0x3ff)) return std::nullopt;
    *out++ = static_cast<char>(bits >> 10);
    if (text.size() == 3) *out = static_cast<char>(bits >> 2);
    return bytes;
}

}  // namespace

std::string base64_encode(std::string_view bytes) {
    std::string text = encode(bytes, kPlain);
    while (text.size() % 4 != 0) text += '=';
    return text;
}

std::optional<std::string> base64_decode(std::string_view text) {
    if (text.size() % 4 != 0) return std::nullopt;
    for (int padding = 0; padding < 2 && text.ends_with('='); ++padding) text.remove_suffix(1);
    return decode(text, kPlainValues);
}

std::string base64url_encode(std::string_view bytes) { return encode(bytes, kUrl); }

std::optional<std::string> base64url_decode(std::string_view text) { return decode(text, kUrlValues); }

}  // namespace rooms

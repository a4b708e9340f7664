// Decoding is only ever done to literals that the strict reader (json.cpp) has passed.
#include "core/json_text.hpp"

#include <charconv>

#include "core/json.hpp"
#include "core/utf8.hpp"

namespace rooms {
namespace {

constexpr bool is_high_surrogate(std::uint32_t unit) { return unit >= 0xd800 && unit <= 0xdbff; }

// REQUIRES: four hex digits.
std::uint32_t code_unit(const char* at) {
    std::uint32_t unit = 0;
    std::from_chars(at, at + 4, unit, 16);
    return unit;
}

void append_utf8(std::string& out, std::uint32_t point) {
    const auto put = [&](std::uint32_t byte) { out += static_cast<char>(byte); };
    if (point < 0x80) {
        put(point);
    } else if (point < 0x800) {
        put(0xc0 | point >> 6);
        put(0x80 | (point & 0x3f));
    } else if (point < 0x10000) {
        put(0xe0 | point >> 12);
        put(0x80 | (point >> 6 & 0x3f));
        put(0x80 | (point & 0x3f));
    } else {
        put(0xf0 | point >> 18);
        put(0x80 | (point >> 12 & 0x3f));
        put(0x80 | (point >> 6 & 0x3f));
        put(0x80 | (point & 0x3f));
    }
}

// Decodes the inside of a literal that has been validated.
std::string decode(std::string_view content) {
    std::string out;
    out.reserve(content.size());  // no escape is shorter than what it stands for
    const char* at = content.data();
    const char* const end = at + content.size();
    while (at != end) {
        if (*at != '\\') {
            out += *at++;
            continue;
        }
        const char kind = at[1];
        at += 2;
        switch (kind) {
            case 'b': out += '\b'; break;
            case 'f': out += '\f'; break;
            case 'n': out += '\n'; break;
            case 'r': out += '\r'; break;
            case 't': out += '\t'; break;
            case 'u': {
                auto point = code_unit(at);
                at += 4;
                if (is_high_surrogate(point)) {
                    const auto low = code_unit(at + 2);
                    at += 6;
                    point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
                }
                append_utf8(out, point);
                break;
            }
            default: out += kind;  // a quote, a backslash, a slash
        }
    }
    return out;
}

template <typename T>
std::optional<T> parse_integer(std::string_view raw) {
    const bool negative = raw.starts_with('-');
    const std::string_view digits = raw.substr(negative ? 1 : 0);
    if (digits.empty() || (digits.size() > 1 && digits.front() == '0')) return std::nullopt;
    if (digits == "0") return T{0};
    T value = 0;
    const auto [end, error] = std::from_chars(raw.data(), raw.data() + raw.size(), value);
    if (error != std::errc() || end != raw.data() + raw.size()) return std::nullopt;
    return value;
}

template <typename T>
void append_number(std::string& out, T value) {
    char digits[24];
    const auto [end, error] = std::to_chars(digits, digits + sizeof digits, value);
    static_cast<void>(error);  // 24 bytes hold any 64-bit number
    out.append(digits, end);
}

}  // namespace

std::optional<std::string> unescape_json(std::string_view literal) {
    const auto value = parse_json(literal);
    if (!value || value->type != JsonType::string || value->raw.size() != literal.size()) {
        return std::nullopt;
    }
    return decode(literal.substr(1, literal.size() - 2));
}

void append_json_string(std::string& out, std::string_view text) {
    constexpr char kHex[] = "0123456789abcdef";
    out += '"';
    const char* at = text.data();
    const char* const end = at + text.size();
    while (at != end) {
        const char* plain = at;
        while (at != end && static_cast<unsigned char>(*at) >= 0x20 && *at != '"' && *at != '\\') {
            ++at;
        }
        out.append(plain, at);
        if (at == end) break;
        const char byte = *at++;
        out += '\\';
        switch (byte) {
            case '"':
            case '\\': out += byte; break;
            case '\b': out += 'b'; break;
            case '\f': out += 'f'; break;
            case '\n': out += 'n'; break;
            case '\r': out += 'r'; break;
            case '\t': out += 't'; break;
            default:
                out += "u00";
                out += kHex[byte >> 4];
                out += kHex[byte & 15];
        }
    }
    out += '"';
}

std::string shown_text(std::string_view text) { return "\"" + std::string(utf8_prefix(text, 64)) + "\""; }

std::optional<std::uint64_t> parse_json_u64(std::string_view raw) {
    return parse_integer<std::uint64_t>(raw);
}
std::optional<std::int64_t> parse_json_i64(std::string_view raw) { return parse_integer<std::int64_t>(raw); }

void append_decimal(std::string& out, std::uint64_t value) { append_number(out, value); }
void append_decimal_signed(std::string& out, std::int64_t value) { append_number(out, value); }

}  // namespace rooms

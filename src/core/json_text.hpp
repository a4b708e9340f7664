// The scalars of JSON: string literals and integers, read and written (RFC 8259 sections 6 and 7).
//
// Pure functions between a literal as it stands in a text and its value. Nothing is rounded and
// nothing is repaired: a literal that is not valid has no value.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace rooms {

// The text of a string literal, quotes included. Nothing if it is not a valid literal.
[[nodiscard]] std::optional<std::string> unescape_json(std::string_view literal);

// Appends `text` as a string literal with quotes. REQUIRES: `text` is UTF-8.
void append_json_string(std::string& out, std::string_view text);

// `text` in quotes, cut to 64 bytes: a foreign text in an error message. REQUIRES: UTF-8.
[[nodiscard]] std::string shown_text(std::string_view text);

// Exact integers: no fraction, no exponent, no loss. "-0" is 0. Nothing if out of range.
[[nodiscard]] std::optional<std::uint64_t> parse_json_u64(std::string_view raw);
[[nodiscard]] std::optional<std::int64_t> parse_json_i64(std::string_view raw);

void append_decimal(std::string& out, std::uint64_t value);
void append_decimal_signed(std::string& out, std::int64_t value);

}  // namespace rooms

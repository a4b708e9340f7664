// The few lexical rules that HTTP headers share (RFC 9110 section 5.6): tokens, optional
// whitespace, lists, and comparison without regard to ASCII case. No locale, no allocation.
#pragma once

#include <string_view>

namespace rooms {

[[nodiscard]] constexpr char ascii_lower(char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
}

[[nodiscard]] constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }

[[nodiscard]] constexpr bool is_alpha(char c) { return ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z'; }

// Some of the bytes. Asked for each byte of a token, hence one load and no search.
class ByteSet {
public:
    template <typename Contains>
    consteval explicit ByteSet(Contains contains) {
        for (int i = 0; i < 256; ++i) has_[i] = contains(static_cast<char>(i));
    }
    [[nodiscard]] constexpr bool operator()(char c) const { return has_[static_cast<unsigned char>(c)]; }

private:
    bool has_[256] = {};
};

inline constexpr ByteSet is_token_char([](char c) {
    constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
    return is_alpha(c) || is_digit(c) || kMarks.find(c) != kMarks.npos;
});

[[nodiscard]] constexpr bool is_token(std::string_view text) {
    for (char c : text)
        if (!is_token_char(c)) return false;
    return !text.empty();
}

[[nodiscard]] constexpr bool equal_caseless(std::string_view a, std::string_view b) {
    if (a.size() != b.size()) return false;
    for (std::size_t i = 0; i < a.size(); ++i)
        if (ascii_lower(a[i]) != ascii_lower(b[i])) return false;
    return true;
}

// Without the blanks and tabs around it.
[[nodiscard]] constexpr std::string_view trim_ows(std::string_view text) {
    while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
    while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
    return text;
}

// Cuts the first element off a comma-separated list without quoted strings; it may be empty.
[[nodiscard]] constexpr std::string_view take_list_element(std::string_view& list) {
    const std::size_t comma = list.find(',');
    const std::string_view element = trim_ows(list.substr(0, comma));
    list = comma == list.npos ? std::string_view() : list.substr(comma + 1);
    return element;
}

}  // namespace rooms

// The validator against a second, slow reading of RFC 3629: every code point, every short string.
#include "core/utf8.hpp"

#include <string>
#include <vector>

#include "unit/cmocka.hpp"

using rooms::is_valid_utf8;
using rooms::Utf8Validator;

namespace {

std::string encode(std::uint32_t c) {
    std::string text;
    if (c < 0x80) return std::string(1, static_cast<char>(c));
    const int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    const int lead[] = {0, 0xc0, 0xe0, 0xf0};
    text += static_cast<char>(lead[more] | c >> (6 * more));
    for (int i = more - 1; i >= 0; --i) text += static_cast<char>(0x80 | (c >> (6 * i) & 0x3f));
    return text;
}

// By decoding and encoding again: what comes back the same was valid.
bool is_valid_slowly(std::string_view text) {
    while (!text.empty()) {
        const auto lead = static_cast<unsigned char>(text[0]);
        const std::size_t size = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
        if (text.size() < size) return false;
        std::uint32_t c = size == 1 ? lead : lead & (0x7f >> size);
        for (std::size_t i = 1; i < size; ++i) c = c << 6 | (static_cast<unsigned char>(text[i]) & 0x3f);
        if (c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff) || encode(c) != text.substr(0, size)) return false;
        text.remove_prefix(size);
    }
    return true;
}

void every_code_point_is_valid_and_every_surrogate_is_not(void**) {
    for (std::uint32_t c = 0; c <= 0x110000 + 0x1000; ++c) {
        const bool valid = c <= 0x10ffff && (c < 0xd800 || c > 0xdfff);
        if (is_valid_utf8(encode(c)) != valid) fail_msg("U+%X", c);
    }
}

void every_string_of_three_octets_is_judged_right(void**) {
    const unsigned char octets[] = {0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf,
                                    0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed, 0xee,
                                    0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xfe, 0xff};
    for (unsigned char a : octets)
        for (unsigned char b : octets)
            for (unsigned char c : octets)
                for (unsigned char d : octets) {
                    const char text[] = {static_cast<char>(a), static_cast<char>(b), static_cast<char>(c),
                                         static_cast<char>(d)};
                    for (std::size_t size : {std::size_t{2}, std::size_t{3}, std::size_t{4}})
                        assert_int_equal(is_valid_utf8({text, size}), is_valid_slowly({text, size}));
                }
}

void a_split_anywhere_changes_nothing(void**) {
    const std::string text =
        "plain ascii of some length, \xc2\xa9 \xe2\x82\xac \xf0\x9f\x98\x80 \xed\x9f\xbf and more of it";
    for (std::size_t i = 0; i <= text.size(); ++i) {
        Utf8Validator validator;
        assert_true(validator.feed(std::string_view(text).substr(0, i)));
        assert_int_equal(validator.complete(), is_valid_slowly(std::string_view(text).substr(0, i)));
        assert_true(validator.feed(std::string_view(text).substr(i)));
        assert_true(validator.complete());
    }
    Utf8Validator validator;
    for (char c : text) assert_true(validator.feed({&c, 1}));
    assert_true(validator.complete());
}

void S45_the_first_bad_octet_is_told_at_once(void**) {
    const std::vector<std::pair<std::string, std::size_t>> cases = {
        {"\x80", 0},         {"ab\xff", 2},           {"\xc0\x80", 0},         {"\xe0\x9f\x80", 1},
        {"\xed\xa0\x80", 1}, {"\xf0\x8f\x80\x80", 1}, {"\xf4\x90\x80\x80", 1}, {"\xf5\x80\x80\x80", 0},
        {"\xc2\x41", 1},     {"\xe2\x82\x41", 2},     {"12345678\xe2\x28", 9},
    };
    for (const auto& [text, bad] : cases) {
        Utf8Validator validator;
        for (std::size_t i = 0; i < bad; ++i) assert_true(validator.feed({&text[i], 1}));
        assert_false(validator.feed({&text[bad], 1}));
        assert_false(validator.feed(""));
        assert_false(validator.feed("good"));
        assert_false(validator.complete());
        validator.reset();
        assert_true(validator.feed("good") && validator.complete());
        assert_false(is_valid_utf8(text));
    }
}

void a_text_that_ends_inside_a_code_point_is_incomplete(void**) {
    for (const char* text : {"\xc2", "\xe2\x82", "\xf0\x9f\x98", "ab\xf0"}) {
        Utf8Validator validator;
        assert_true(validator.feed(text));
        assert_false(validator.complete());
        assert_false(is_valid_utf8(text));
    }
}

void a_prefix_never_cuts_a_code_point(void**) {
    const std::string text = "a\xc2\xa9\xe2\x82\xac\xf0\x9f\x98\x80z";
    for (std::size_t max = 0; max <= text.size() + 1; ++max) {
        const std::string_view prefix = rooms::utf8_prefix(text, max);
        assert_true(prefix.size() <= max && text.starts_with(prefix) && is_valid_utf8(prefix));
        if (max < text.size()) assert_true(prefix.size() + 4 > max);
    }
    assert_true(rooms::utf8_prefix(text, text.size()) == text);
}

}  // namespace

int main() {
    static_assert(sizeof(Utf8Validator) <= 4);
    const CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_is_valid_and_every_surrogate_is_not),
        cmocka_unit_test(every_string_of_three_octets_is_judged_right),
        cmocka_unit_test(a_split_anywhere_changes_nothing),
        cmocka_unit_test(S45_the_first_bad_octet_is_told_at_once),
        cmocka_unit_test(a_text_that_ends_inside_a_code_point_is_incomplete),
        cmocka_unit_test(a_prefix_never_cuts_a_code_point),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

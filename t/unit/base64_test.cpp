// Base64 and base64url: RFC 4648 section 10's vectors, and everything that must be refused.
#include "core/base64.hpp"

#include "unit/cmocka.hpp"

using rooms::base64_decode;
using rooms::base64_encode;
using rooms::base64url_decode;
using rooms::base64url_encode;

namespace {

constexpr const char* kVectors[][3] = {
    {"", "", ""},
    {"f", "Zg==", "Zg"},
    {"fo", "Zm8=", "Zm8"},
    {"foo", "Zm9v", "Zm9v"},
    {"foob", "Zm9vYg==", "Zm9vYg"},
    {"fooba", "Zm9vYmE=", "Zm9vYmE"},
    {"foobar", "Zm9vYmFy", "Zm9vYmFy"},
    {"\xfb\xff\xfe", "+//+", "-__-"},
};

void the_vectors_of_the_rfc_go_both_ways(void**) {
    for (const auto& [bytes, plain, url] : kVectors) {
        assert_true(base64_encode(bytes) == plain);
        assert_true(base64_decode(plain) == bytes);
        assert_true(base64url_encode(bytes) == url);
        assert_true(base64url_decode(url) == bytes);
    }
}

void every_octet_survives_at_every_length(void**) {
    std::string bytes;
    for (int i = 0; i < 600; ++i) {
        assert_true(base64_decode(base64_encode(bytes)) == bytes);
        assert_true(base64url_decode(base64url_encode(bytes)) == bytes);
        bytes += static_cast<char>(i * 7);
    }
}

void a_second_spelling_of_the_same_octets_is_refused(void**) {
    for (const char* text :
         {"Zh==", "Zm9=", "Zg=", "Zg", "Zg===", "Zg==Zg==", "=", "==", "====", "Z===", "Zm9v="})
        assert_false(base64_decode(text).has_value());
    for (const char* text : {"Zh", "Zm9", "Zg==", "Zm8=", "Z", "Zm9vY"})
        assert_false(base64url_decode(text).has_value());
}

void octets_outside_the_alphabet_are_refused(void**) {
    for (int c = 0; c < 256; ++c) {
        const std::string text = std::string("Zm9") + static_cast<char>(c);
        const bool common = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        const bool plain = common || c == '+' || c == '/';
        const bool url = common || c == '-' || c == '_';
        if (c != '=') assert_int_equal(base64_decode(text).has_value(), plain);
        assert_int_equal(base64url_decode(text).has_value(), url);
    }
    assert_false(base64_decode(" Zm9v").has_value());
    assert_false(base64_decode("Zm\nv").has_value());
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(the_vectors_of_the_rfc_go_both_ways),
        cmocka_unit_test(every_octet_survives_at_every_length),
        cmocka_unit_test(a_second_spelling_of_the_same_octets_is_refused),
        cmocka_unit_test(octets_outside_the_alphabet_are_refused),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

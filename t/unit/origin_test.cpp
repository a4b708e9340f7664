// Origins: the default rule against Host, and the comparison with a configured one.
#include "core/origin.hpp"

#include "unit/cmocka.hpp"

using rooms::origin_equals;
using rooms::origin_is_host;
using rooms::parse_origin;

namespace {

void an_origin_of_the_same_host_and_port_is_ours(void**) {
    const char* pairs[][2] = {
        {"http://example.com", "example.com"},        {"https://example.com", "example.com"},
        {"https://EXAMPLE.com", "example.COM"},       {"http://example.com:80", "example.com"},
        {"http://example.com", "example.com:80"},     {"https://example.com:443", "example.com"},
        {"https://example.com", "example.com:443"},   {"http://localhost:8080", "localhost:8080"},
        {"https://localhost:8080", "localhost:8080"}, {"http://[::1]:8080", "[::1]:8080"},
        {"http://[2001:DB8::1]", "[2001:db8::1]"},    {"http://127.0.0.1", "127.0.0.1:80"},
    };
    for (const auto& [origin, host] : pairs) assert_true(origin_is_host(origin, host));
}

void any_other_host_or_port_is_not_ours(void**) {
    const char* pairs[][2] = {
        {"http://evil.com", "example.com"},
        {"http://example.com.evil.com", "example.com"},
        {"http://evil-example.com", "example.com"},
        {"http://sub.example.com", "example.com"},
        {"http://example.com:8080", "example.com"},
        {"http://example.com", "example.com:8080"},
        {"http://example.com", "example.com:443"},
        {"https://example.com", "example.com:80"},
        {"http://example.com@evil.com", "evil.com"},
        {"http://example.com/", "example.com"},
        {"http://example.com:", "example.com"},
        {"null", "null"},
        {"null", "example.com"},
        {"", ""},
        {"http://", ""},
        {"example.com", "example.com"},
        {"http://[::1]", "[::2]"},
        {"http://::1", "::1"},
        {"http://example.com", "example.com:x"},
    };
    for (const auto& [origin, host] : pairs) assert_false(origin_is_host(origin, host));
}

void a_configured_origin_is_scheme_host_and_port(void**) {
    assert_true(origin_equals("https://example.com", "https://example.com"));
    assert_true(origin_equals("HTTPS://Example.com", "https://example.com:443"));
    assert_true(origin_equals("http://example.com:80", "http://example.com"));
    assert_true(origin_equals("wss://a", "wss://a:443") && origin_equals("ws://a:80", "ws://a"));
    assert_true(origin_equals("chrome-extension://abc", "chrome-extension://abc"));
    assert_false(origin_equals("http://example.com", "https://example.com"));
    assert_false(origin_equals("https://example.com:8443", "https://example.com"));
    assert_false(origin_equals("https://example.com.", "https://example.com"));
    assert_false(origin_equals("https://example.com/", "https://example.com/"));
    assert_false(origin_equals("", ""));
}

void null_equals_null_only(void**) {
    assert_true(origin_equals("null", "null"));
    assert_false(origin_equals("NULL", "null"));
    assert_false(origin_equals("null", "http://null"));
    assert_false(origin_equals("http://null", "null"));
    assert_false(parse_origin("null").has_value());
}

void malformed_origins_are_not_parsed(void**) {
    for (const char* text :
         {"://a",          "1http://a",     "ht tp://a",       "http:/a",          "http//a",
          "http://a b",    "http://a:0",    "http://a:080",    "http://a:65536",   "http://a:123456",
          "http://a:8x",   "http://a:-1",   "http://[::1",     "http://::1]",      "http://[]",
          "http://[g::1]", "http://[::1]x", "http://[::1]:",   "http://a?b",       "http://a#b",
          "http://u:p@a",  "http://a,b",    "http://\xc3\xa9", "http://a http://b"})
        assert_false(parse_origin(text).has_value());
    const auto origin = parse_origin("https://a_b-c.d:65535");
    assert_true(origin && origin->scheme == "https" && origin->host == "a_b-c.d" && origin->port == 65535);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(an_origin_of_the_same_host_and_port_is_ours),
        cmocka_unit_test(any_other_host_or_port_is_not_ours),
        cmocka_unit_test(a_configured_origin_is_scheme_host_and_port),
        cmocka_unit_test(null_equals_null_only),
        cmocka_unit_test(malformed_origins_are_not_parsed),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

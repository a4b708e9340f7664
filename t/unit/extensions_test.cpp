// Offers of permessage-deflate: which are taken, which passed over, which fail the handshake.
#include "core/extensions.hpp"

#include <vector>

#include "unit/cmocka.hpp"

using namespace rooms;

namespace {

const std::string kAnswer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

ExtensionsResult negotiate(std::vector<std::string_view> lines, bool enabled = true) {
    DeflateConfig config;
    config.enabled = enabled;
    return negotiate_extensions(lines, config);
}

void takes(std::vector<std::string_view> lines, int bits = 0) {
    const ExtensionsResult result = negotiate(lines);
    assert_false(result.malformed);
    assert_true(result.deflate.has_value());
    assert_int_equal(result.deflate->server_max_window_bits, bits ? bits : 15);
    const std::string answer = bits ? kAnswer + "; server_max_window_bits=" + std::to_string(bits) : kAnswer;
    assert_true(result.response == answer);
}

void declines(std::vector<std::string_view> lines, bool enabled = true) {
    const ExtensionsResult result = negotiate(lines, enabled);
    assert_false(result.malformed || result.deflate.has_value());
    assert_true(result.response.empty());
}

void fails(std::vector<std::string_view> lines) {
    for (bool enabled : {false, true}) {
        const ExtensionsResult result = negotiate(lines, enabled);
        assert_true(result.malformed && !result.deflate && result.response.empty());
    }
}

void no_offer_is_answered_with_nothing(void**) {
    declines({});
    declines({""});
    declines({" , ,"});
}

void legal_offers_are_taken(void**) {
    takes({"permessage-deflate"});
    takes({"permessage-deflate; client_max_window_bits"});
    takes({"permessage-deflate;client_max_window_bits=8"});
    takes({"permessage-deflate; client_max_window_bits=15 ; server_no_context_takeover"});
    takes({"\tpermessage-deflate ;client_no_context_takeover , "});
    takes(
        {"permessage-deflate; server_no_context_takeover; client_no_context_takeover; "
         "client_max_window_bits"});
}

void the_window_asked_for_is_the_window_answered(void**) {
    for (int bits = 9; bits <= 15; ++bits)
        takes({"permessage-deflate; server_max_window_bits=" + std::to_string(bits)}, bits);
    takes({"permessage-deflate; server_max_window_bits=\"10\""}, 10);
    takes({"permessage-deflate; server_max_window_bits = \"1\\0\" "}, 10);
}

void offers_that_cannot_be_taken_are_declined(void**) {
    for (const char* parameter : {"unknown",
                                  "unknown=1",
                                  "server_max_window_bits",
                                  "server_max_window_bits=8",
                                  "server_max_window_bits=7",
                                  "server_max_window_bits=16",
                                  "server_max_window_bits=08",
                                  "server_max_window_bits=+9",
                                  "server_max_window_bits=010",
                                  "server_max_window_bits=junk",
                                  "server_max_window_bits=\"x\"",
                                  "server_max_window_bits=1.",
                                  "client_max_window_bits=7",
                                  "client_max_window_bits=16",
                                  "client_max_window_bits=08",
                                  "client_max_window_bits=99999999999",
                                  "server_no_context_takeover=1",
                                  "client_no_context_takeover=true",
                                  "server_no_context_takeover; server_no_context_takeover",
                                  "client_no_context_takeover; client_no_context_takeover",
                                  "Server_no_context_takeover",
                                  "client_max_window_bits; client_max_window_bits=10",
                                  "server_max_window_bits=9; server_max_window_bits=9"})
        declines({std::string("permessage-deflate; ") + parameter});
}

void the_first_acceptable_offer_wins(void**) {
    takes({"permessage-deflate; server_max_window_bits=8, permessage-deflate; server_max_window_bits=12, "
           "permessage-deflate"},
          12);
    takes({"permessage-deflate; x, permessage-deflate"});
    takes({"permessage-deflate; x", "permessage-deflate; server_max_window_bits=9", "permessage-deflate"}, 9);
    takes({"x-webkit-deflate-frame, permessage-deflate; client_max_window_bits", "bbf-usp-protocol"});
}

void unknown_extensions_are_ignored(void**) {
    declines({"x-webkit-deflate-frame, permessage-bzip2; level=9; name=\"a\\b\"", "Permessage-Deflate"});
}

void nothing_is_taken_where_compression_is_off(void**) { declines({"permessage-deflate"}, false); }

void a_header_against_the_grammar_fails_wherever_the_fault_is(void**) {
    for (const char* line : {"permessage-deflate;;",
                             ";;",
                             ";",
                             "a;=1",
                             "a;",
                             "a; ,b",
                             "a;b=",
                             "a;b=,c",
                             "a;b=\"",
                             "a;b=\"c",
                             "a;b=\"\"",
                             "a;b=\"c d\"",
                             "a;b=\"c\\",
                             "a;b=\"c\\\"",
                             "a;b=\"c\"d",
                             "a b",
                             "a=1",
                             "a;b c",
                             "a;b=c d",
                             "\"a\"",
                             "a;\"b\"",
                             "(a)",
                             "a/b",
                             "a;b=c=d",
                             "\x80",
                             "a,\x01"}) {
        fails({line});
        fails({"permessage-deflate", line});
        fails({line, "permessage-deflate"});
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(no_offer_is_answered_with_nothing),
        cmocka_unit_test(legal_offers_are_taken),
        cmocka_unit_test(the_window_asked_for_is_the_window_answered),
        cmocka_unit_test(offers_that_cannot_be_taken_are_declined),
        cmocka_unit_test(the_first_acceptable_offer_wins),
        cmocka_unit_test(unknown_extensions_are_ignored),
        cmocka_unit_test(nothing_is_taken_where_compression_is_off),
        cmocka_unit_test(a_header_against_the_grammar_fails_wherever_the_fault_is),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

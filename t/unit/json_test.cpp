// core/json: the strict reader, its walkers and its scalars, each verdict compared with jansson's.
#include <jansson.h>

#include <array>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "cmocka.hpp"
#include "every_allocation.hpp"

#include "core/json.hpp"

using namespace std::literals;
using rooms::JsonElements;
using rooms::JsonMember;
using rooms::JsonMembers;
using rooms::JsonType;
using rooms::JsonValue;
using rooms::parse_json;
using rooms::parse_json_object;

namespace {

void assert_text(std::string_view actual, std::string_view expected) {
    if (actual != expected) {
        print_error("got %.*s\nnot %.*s\n", static_cast<int>(actual.size()), actual.data(),
                    static_cast<int>(expected.size()), expected.data());
    }
    assert_true(actual == expected);
}

enum class Verdict { valid, invalid, unknown };

// Jansson's opinion. It has none on numbers that a double cannot hold, on NUL in a name, and on
// texts deeper than ours may be. It overlooks a NUL behind a number; the grammar has no NUL at all.
Verdict jansson_verdict(std::string_view text) {
    if (text.find('\0') != std::string_view::npos) return Verdict::invalid;
    json_error_t error;
    json_t* json = json_loadb(text.data(), text.size(), JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (json) {
        json_decref(json);
        return Verdict::valid;
    }
    switch (json_error_code(&error)) {
        case json_error_numeric_overflow:
        case json_error_null_byte_in_key:
        case json_error_stack_overflow: return Verdict::unknown;
        default: return Verdict::invalid;
    }
}

// An array is the same in one walk as in two.
void assert_same_elements(std::string_view text) {
    std::vector<std::string_view> in_one, in_two;
    const bool good = !rooms::parse_json_array(text, 64, [&](const JsonValue& element) {
        in_one.push_back(element.raw);
        return true;
    });
    const auto value = parse_json(text, 64);
    assert_true(good == (value && value->type == JsonType::array));
    if (!good) return;
    JsonValue element;
    for (JsonElements elements(value->raw); elements.next(element);) in_two.push_back(element.raw);
    assert_true(in_one == in_two);
}

void assert_same_verdict(std::string_view text) {
    assert_same_elements(text);
    const Verdict theirs = jansson_verdict(text);
    const bool ours = parse_json(text, 64).ok();
    if (theirs != Verdict::unknown && ours != (theirs == Verdict::valid)) {
        print_error("ours %d, theirs %d: ", ours, static_cast<int>(theirs));
        for (const char c : text) print_error(c >= 0x20 ? "%c" : "<%02x>", c & 0xff);
        print_error("\n");
        fail();
    }
}

void assert_refused(std::string_view text, std::size_t at, std::string_view what) {
    const auto value = parse_json(text);
    assert_false(value.ok());
    assert_text(value.error().what, what);
    assert_int_equal(value.error().at, at);
}

void every_kind_of_value_is_read(void**) {
    struct Case {
        std::string_view text;
        JsonType type;
        std::string_view raw;
    };
    for (const Case& c : std::initializer_list<Case>{
             {"{}", JsonType::object, "{}"},
             {" [ ] \n", JsonType::array, "[ ]"},
             {"\"a\"", JsonType::string, "\"a\""},
             {"\t-0.5e+10\r", JsonType::number, "-0.5e+10"},
             {"0", JsonType::number, "0"},
             {"true", JsonType::boolean, "true"},
             {"false", JsonType::boolean, "false"},
             {"null", JsonType::null, "null"},
             {R"({"a":[1,{"b":null}],"c":"\ud83d\ude00"})", JsonType::object,
              R"({"a":[1,{"b":null}],"c":"\ud83d\ude00"})"},
         }) {
        const auto value = parse_json(c.text);
        assert_true(value.ok());
        assert_true(value->type == c.type);
        assert_text(value->raw, c.raw);
        assert_same_verdict(c.text);
    }
}

void what_is_wrong_is_said_with_its_byte(void**) {
    assert_refused("", 0, "the text ends where a value should be");
    assert_refused("  ", 2, "the text ends where a value should be");
    assert_refused("{\"a\":1,}", 7, "unexpected '}' where a name in quotes should be");
    assert_refused("{\"a\" 1}", 5, "unexpected '1' where ':' should be");
    assert_refused("{\"a\"", 4, "the text ends where ':' should be");
    assert_refused("{\"a\":1", 6, "the text ends where ',' or '}' should be");
    assert_refused("[1 2]", 3, "unexpected '2' where ',' or ']' should be");
    assert_refused("[1,]", 3, "unexpected ']' where a value should be");
    assert_refused("[1}", 2, "unexpected '}' where ',' or ']' should be");
    assert_refused("1 x", 2, "unexpected 'x' where the end should be");
    assert_refused("nul", 0, "unexpected 'n' where a value should be");
    assert_refused("\"a", 2, "the text ends in a string");
    assert_refused("\"a\0b\""sv, 2, "control character 0x00 in a string");
    assert_refused("\"a\nb\"", 2, "control character 0x0a in a string");
    assert_refused("\0"sv, 0, "unexpected 0x00 where a value should be");
    assert_refused("\xef\xbb\xbf{}", 0, "unexpected 0xef where a value should be");
    assert_refused("\"\\x\"", 2, "unknown escape 'x'");
    assert_refused("\"\\", 2, "the text ends where an escape should be");
    assert_refused("\"\\u12g4\"", 2, "\\u without four hex digits");
    assert_refused("\"\\u12", 2, "\\u without four hex digits");
    assert_refused("\"ab\\ud800\"", 3, "lone surrogate");
    assert_refused("\"\\ud800\\u0041\"", 1, "lone surrogate");
    assert_refused("\"\\ude00\"", 1, "lone surrogate");
    assert_refused("\"\\ud800\\ud800\"", 1, "lone surrogate");
    assert_refused("\"ab\xc3\xa4 \xc3(\"", 6, "invalid UTF-8 in a string");
    assert_refused("\"\xe2\x82\xac\xf0\x9f\x98\x80\xed\xa0\x80\"", 8, "invalid UTF-8 in a string");
    assert_refused("01", 1, "a number begins with 0");
    assert_refused("-", 1, "the text ends where a digit should be");
    assert_refused("-a", 1, "unexpected 'a' where a digit should be");
    assert_refused("1.", 2, "the text ends where a digit should be");
    assert_refused("1e+", 3, "the text ends where a digit should be");
    assert_text(parse_json("[").error().message(), "the text ends where a value should be at byte 1");
}

void S55_depth_is_counted_in_containers(void**) {
    for (unsigned depth = 1; depth <= 64; ++depth) {
        const std::string arrays = std::string(depth, '[') + std::string(depth, ']');
        assert_true(parse_json(arrays, depth).ok());
        assert_false(parse_json(arrays, depth - 1).ok());
        std::string objects;
        for (unsigned i = 0; i < depth; ++i) objects += "{\"a\":";
        objects += "1" + std::string(depth, '}');
        assert_true(parse_json(objects, depth).ok());
        assert_false(parse_json(objects, depth - 1).ok());
    }
    assert_refused(std::string(17, '['), 16, "deeper than 16 levels");
    assert_true(parse_json("1", 0).ok());
    // A mebibyte of brackets costs no stack.
    assert_false(parse_json(std::string(1 << 20, '['), 64).ok());
    // Siblings add nothing.
    assert_true(parse_json("[[],[[]],{\"a\":[]}]", 3).ok());
}

void several_values_are_read_one_after_the_other(void**) {
    const std::string_view text = " {\"a\":1}\n[2]  3 ";
    std::size_t at = 0;
    auto value = rooms::parse_next_json(text, at);
    assert_true(value.ok());
    assert_text(value->raw, "{\"a\":1}");
    value = rooms::parse_next_json(text, at);
    assert_text(value->raw, "[2]");
    value = rooms::parse_next_json(text, at);
    assert_text(value->raw, "3");
    rooms::skip_json_space(text, at);
    assert_int_equal(at, text.size());
    at = 1;
    const auto bad = rooms::parse_next_json(" {\"a\"]", at);
    assert_false(bad.ok());
    assert_int_equal(bad.error().at, 5);
    assert_int_equal(at, 1);
}

void members_are_yielded_in_order_with_their_spans(void**) {
    const auto members = parse_json_object(
        R"( { "a" : 1 , "b\u0063":[1, {"}":"]"}],"d":"x\"}","e":{} , "":null,"f":true,"g":false,"h":-1e5 } )");
    assert_true(members.ok());
    assert_int_equal(members->size(), 8);
    const auto& m = *members;
    assert_text(m[0].name(), "a");
    assert_text(m[0].raw, "1");
    assert_text(m[0].span(), R"("a" : 1)");
    assert_true(m[0].type == JsonType::number);
    assert_text(m[1].raw_name, R"("b\u0063")");
    assert_text(m[1].name(), "bc");
    assert_text(m[1].raw, R"([1, {"}":"]"}])");
    assert_true(m[1].type == JsonType::array);
    assert_text(m[2].raw, R"("x\"}")");
    assert_true(m[3].type == JsonType::object);
    assert_text(m[4].name(), "");
    assert_true(m[4].type == JsonType::null);
    assert_text(m[5].raw, "true");
    assert_text(m[6].raw, "false");
    assert_true(m[6].type == JsonType::boolean);
    assert_text(m[7].raw, "-1e5");
    // A copy owns its unescaped name.
    const JsonMember copy = m[1];
    assert_text(copy.name(), "bc");
}

void elements_are_yielded_in_order(void**) {
    const auto value = parse_json(R"([1,"a",[2,[3]] , {"b":[]},null])");
    assert_true(value.ok());
    std::vector<std::string_view> found;
    JsonValue element;
    for (JsonElements elements(value->raw); elements.next(element);) found.push_back(element.raw);
    const std::vector<std::string_view> expected{"1", R"("a")", "[2,[3]]", R"({"b":[]})", "null"};
    assert_true(found == expected);
    JsonElements none("[ \n]");
    assert_false(none.next(element));
}

void a_name_that_occurs_twice_is_found_however_it_is_spelt(void**) {
    const auto refused = [](std::string_view text, std::size_t at, std::string_view what) {
        const auto members = parse_json_object(text);
        assert_false(members.ok());
        assert_int_equal(members.error().at, at);
        assert_text(members.error().what, what);
    };
    refused(R"({"a":1,"a":2})", 7, "duplicate member \"a\"");
    refused(R"({"a":1,"b":1,"\u0061":2,"b":3})", 13, "duplicate member \"a\"");
    refused(R"({"\u0061":1,"a":2})", 12, "duplicate member \"a\"");
    refused(R"({"":1,"":2})", 6, "duplicate member \"\"");
    assert_true(parse_json_object(R"({"a":{"x":1,"x":2},"b":1})").ok());

    std::string many = "{";
    for (int i = 0; i < 100; ++i) many += "\"m" + std::to_string(i) + "\":0,";
    assert_true(parse_json_object(many + "\"x\":1}").ok());
    refused(many + "\"m50\":1,\"m3\":1}", many.size(), "duplicate member \"m50\"");

    refused("[1]", 0, "an array where an object should be");
    refused(" \"a\"", 1, "a string where an object should be");
    refused("{", 1, "the text ends where a name in quotes should be");
    refused("{\"a\":1} {", 8, "unexpected '{' where the end should be");
}

void literals_are_unescaped(void**) {
    assert_text(*rooms::unescape_json(R"("\"\\\/\b\f\n\r\t")"), "\"\\/\b\f\n\r\t");
    assert_text(*rooms::unescape_json(R"("\u0000\u007f\u0080\u07FF\u0800\uffff")"),
                "\0\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf"sv);
    assert_text(*rooms::unescape_json(R"("\ud800\udc00 \uDBFF\uDFFF")"), "\xf0\x90\x80\x80 \xf4\x8f\xbf\xbf");
    assert_text(*rooms::unescape_json("\"\""), "");
    for (const std::string_view bad :
         {""sv, "a"sv, "\"a"sv, "\"a\" "sv, " \"a\""sv, "1"sv, R"("\ud800")"sv, "\"\"\""sv}) {
        assert_false(rooms::unescape_json(bad).has_value());
    }
}

void any_text_survives_being_written_and_read(void**) {
    std::string all;
    for (int c = 0; c < 128; ++c) all += static_cast<char>(c);
    all += "\xc3\xa4\xf0\x9f\x98\x80\xe2\x80\xa8";
    std::string literal;
    rooms::append_json_string(literal, all);
    assert_same_verdict(literal);
    assert_text(*rooms::unescape_json(literal), all);
    literal.clear();
    rooms::append_json_string(literal, "a\"\\\n\x01\x1f");
    assert_text(literal, R"("a\"\\\n\u0001\u001f")");
}

void integers_are_exact_or_nothing(void**) {
    assert_true(rooms::parse_json_u64("18446744073709551615") == UINT64_MAX);
    assert_true(rooms::parse_json_u64("0") == 0u);
    assert_true(rooms::parse_json_u64("-0") == 0u);
    assert_true(rooms::parse_json_i64("-9223372036854775808") == INT64_MIN);
    assert_true(rooms::parse_json_i64("9223372036854775807") == INT64_MAX);
    for (const auto bad : {"", "-", "18446744073709551616", "-1", "1.0", "1e3", "01", "-01", "+1", " 1", "1 ",
                           "\"1\"", "0x1", "--1"}) {
        assert_false(rooms::parse_json_u64(bad).has_value());
    }
    for (const auto bad : {"9223372036854775808", "-9223372036854775809", "-", "1.5"}) {
        assert_false(rooms::parse_json_i64(bad).has_value());
    }
    std::string out;
    rooms::append_decimal(out, UINT64_MAX);
    rooms::append_decimal_signed(out, INT64_MIN);
    assert_text(out, "18446744073709551615-9223372036854775808");
}

void types_have_names(void**) {
    assert_text(rooms::json_type_text(JsonType::object), "an object");
    assert_text(rooms::json_type_text(JsonType::boolean), "a boolean");
    assert_text(rooms::json_type_text(JsonType::number), "a number");
    assert_text(rooms::json_type_text(JsonType::null), "null");
    assert_int_equal(rooms::shown_text(std::string(1000, 'x')).size(), 66);
}

// Mutations of texts that touch every rule: one to three bytes changed, removed, doubled or cut.
void verdicts_are_those_of_jansson_on_a_hundred_thousand_mutations(void**) {
    constexpr std::array kSeeds{
        R"({"a":1,"b":[true,false,null,"\u00e4\ud83d\ude00x"],"c":{"d":-0.5e+10}})",
        R"(["\"\\\/\b\f\n\r\t",0,-1,12.5,1E5,"ä€😀",[[[]]],{}])",
        R"({"type":"subscribe","room":"session:1","since":{"epoch":"9f3a1c","offset":38}})",
        "\"\xf4\x8f\xbf\xbf\xed\x9f\xbf\xc2\x80\"",
    };
    constexpr std::string_view kBytes =
        "\"\\{}[]:,ud8e0019.-+eEtrufalsn \t\r\n\x00\x01\x1f\x7f\x80\xbf\xc0\xc2\xe0\xed\xf0\xf4\xff"sv;
    std::mt19937 random(1);
    const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random()) % n; };
    for (int round = 0; round < 100000; ++round) {
        std::string text = kSeeds[below(kSeeds.size())];
        for (std::size_t edits = 1 + below(3); edits > 0 && !text.empty(); --edits) {
            const std::size_t at = below(text.size());
            switch (below(4)) {
                case 0: text[at] = kBytes[below(kBytes.size())]; break;
                case 1: text.erase(at, 1 + below(4)); break;
                case 2: text.insert(at, 1, kBytes[below(kBytes.size())]); break;
                case 3: text.resize(at); break;
            }
        }
        assert_same_verdict(text);
    }
}

void no_allocation_that_fails_leaks(void**) {
    std::string many = "{";
    for (int i = 0; i < 40; ++i) many += "\"member_with_a_long_name_" + std::to_string(i) + "\":0,";
    many += "\"\\u0061 name of more than fifteen bytes\":1}";
    assert_true(every_allocation_fails([&] { assert_true(parse_json_object(many).ok()); }) > 3);
    assert_true(every_allocation_fails([] {
                    assert_false(
                        parse_json_object("{\"a_long_member_name\":1,\"a_long_member_name\":2}").ok());
                }) > 1);
    assert_int_equal(allocations_of([&] { assert_true(parse_json(many).ok()); }), 0);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_value_is_read),
        cmocka_unit_test(what_is_wrong_is_said_with_its_byte),
        cmocka_unit_test(S55_depth_is_counted_in_containers),
        cmocka_unit_test(several_values_are_read_one_after_the_other),
        cmocka_unit_test(members_are_yielded_in_order_with_their_spans),
        cmocka_unit_test(elements_are_yielded_in_order),
        cmocka_unit_test(a_name_that_occurs_twice_is_found_however_it_is_spelt),
        cmocka_unit_test(literals_are_unescaped),
        cmocka_unit_test(any_text_survives_being_written_and_read),
        cmocka_unit_test(integers_are_exact_or_nothing),
        cmocka_unit_test(types_have_names),
        cmocka_unit_test(verdicts_are_those_of_jansson_on_a_hundred_thousand_mutations),
        cmocka_unit_test(no_allocation_that_fails_leaks),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

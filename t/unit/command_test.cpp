// core/command: what browsers say, and how a message that is none is refused.
#include <string>
#include <string_view>

#include "cmocka.hpp"
#include "every_allocation.hpp"

#include "core/command.hpp"

using namespace std::literals;
using rooms::Auth;
using rooms::CommandError;
using rooms::ErrorCode;
using rooms::parse_command;
using rooms::ParsedCommand;
using rooms::Ping;
using rooms::Presence;
using rooms::Since;
using rooms::Subscribe;
using rooms::Unsubscribe;

namespace {

ParsedCommand parsed(std::string_view text) {
    const auto result = parse_command(text);
    if (!result) print_error("%s\n", result.error().message.c_str());
    assert_true(result.ok());
    return *result;
}

template <typename T>
T command(std::string_view text) {
    const ParsedCommand result = parsed(text);
    assert_true(std::holds_alternative<T>(result.command));
    return std::get<T>(result.command);
}

CommandError refused(std::string_view text) {
    const auto result = parse_command(text);
    assert_false(result.ok());
    return result.error();
}

void assert_refused(std::string_view text, ErrorCode code, std::string_view message) {
    const CommandError error = refused(text);
    if (error.code != code || error.message.find(message) != 0) {
        print_error("%.*s: %s\n", static_cast<int>(text.size()), text.data(), error.message.c_str());
        fail();
    }
}

void each_command_is_read(void**) {
    assert_true(command<Subscribe>(R"({"type":"subscribe","room":"session:1"})").room == "session:1");
    assert_true(command<Unsubscribe>(R"({"type":"unsubscribe","room":"a:b"})").room == "a:b");
    assert_true(command<Presence>(R"({"type":"presence","room":"a:b"})").room == "a:b");
    assert_true(command<Auth>(R"({"type":"auth","token":"a.b.c"})").token == "a.b.c");
    static_cast<void>(command<Ping>(R"( { "type" : "ping" } )"));
    static_cast<void>(command<Ping>("{\"\\u0074ype\":\"pin\\u0067\"}"));
}

void a_session_id_names_its_room(void**) {
    assert_true(command<Subscribe>(R"({"type":"subscribe","sessionId":"1"})").room == "session:1");
    assert_true(command<Subscribe>(R"({"type":"subscribe","sessionId":42})").room == "session:42");
    assert_true(command<Subscribe>(R"({"type":"subscribe","sessionId":-0})").room == "session:0");
    assert_true(command<Unsubscribe>(R"({"type":"unsubscribe","sessionId":"x-y"})").room == "session:x-y");
    // Of both, room.
    assert_true(command<Subscribe>(R"({"sessionId":"1","room":"a:b","type":"subscribe"})").room == "a:b");
}

void a_position_comes_with_subscribe(void**) {
    const auto since = [](std::string_view position) {
        return *command<Subscribe>(R"({"type":"subscribe","room":"a:b","since":)" + std::string(position) +
                                   "}")
                    .since;
    };
    assert_true((since(R"({"epoch":"9f3a1c","offset":38})") == Since{0x9f3a1c, 38}));
    assert_true((since(R"({"offset":18446744073709551615,"epoch":"ffffffffffffffff","x":1})") ==
                 Since{UINT64_MAX, UINT64_MAX}));
    // An epoch that is none of ours is one that no room has.
    for (const auto epoch : {"", "xyz", "9F", "11111111111111111", "-1", "0x1"}) {
        assert_true((since(R"({"epoch":")" + std::string(epoch) + R"(","offset":0})") == Since{0, 0}));
    }
    assert_false(command<Subscribe>(R"({"type":"subscribe","room":"a:b"})").since.has_value());
}

void a_position_that_is_none_is_refused(void**) {
    const auto refused_since = [](std::string_view position, ErrorCode code, std::string_view message) {
        const std::string text =
            R"({"type":"subscribe","room":"a:b","ref":7,"since":)" + std::string(position) + "}";
        assert_refused(text, code, message);
        assert_true(refused(text).room == "a:b");
        assert_true(refused(text).ref == "7");
    };
    refused_since("38", ErrorCode::bad_message, "since must be an object, not a number");
    refused_since("null", ErrorCode::bad_message, "since must be an object, not null");
    refused_since("{}", ErrorCode::bad_message, "since.epoch is missing");
    refused_since(R"({"epoch":1,"offset":1})", ErrorCode::bad_message,
                  "since.epoch must be a string, not a number");
    refused_since(R"({"epoch":"1"})", ErrorCode::bad_message, "since.offset is missing");
    for (const auto offset : {"-1", "1.0", "1e2", "18446744073709551616", "\"1\"", "null", "[1]"}) {
        refused_since(R"({"epoch":"1","offset":)" + std::string(offset) + "}", ErrorCode::bad_message,
                      "since.offset must be an integer, 0 or more");
    }
    refused_since(R"({"epoch":"1","offset":1,"offset":2})", ErrorCode::bad_json,
                  "duplicate member \"offset\" in since");
}

void a_ref_is_repeated_as_it_came(void**) {
    for (const auto ref : {"1", "\"a\\u0062\"", "-0.50", "true", "null", "\"\""}) {
        assert_true(parsed(R"({"type":"ping","ref":)" + std::string(ref) + "}").ref == ref);
        assert_true(refused(R"({"type":"pong","ref":)" + std::string(ref) + "}").ref == ref);
    }
    assert_true(parsed(R"({"type":"ping"})").ref.empty());
    const std::string longest = '"' + std::string(126, 'r') + '"';
    assert_true(parsed(R"({"type":"ping","ref":)" + longest + "}").ref == longest);
    assert_refused(R"({"type":"ping","ref":"x)" + longest.substr(1) + "}", ErrorCode::bad_message,
                   "ref is longer than 128 bytes");
    assert_refused(R"({"type":"ping","ref":{}})", ErrorCode::bad_message,
                   "ref must be a string or a number, not an object");
    assert_refused(R"({"type":"ping","ref":[1]})", ErrorCode::bad_message,
                   "ref must be a string or a number, not an array");
}

void a_wrong_type_of_member_is_named(void**) {
    assert_refused(R"({"type":"subscribe","room":1})", ErrorCode::bad_room,
                   "room must be a string, not a number");
    assert_refused(R"({"type":"subscribe","room":null})", ErrorCode::bad_room,
                   "room must be a string, not null");
    assert_refused(R"({"type":"subscribe","sessionId":1.5})", ErrorCode::bad_room,
                   "sessionId must be a string or an integer");
    assert_refused(R"({"type":"subscribe","sessionId":{}})", ErrorCode::bad_room,
                   "sessionId must be a string or an integer, not an object");
    assert_refused(R"({"type":"subscribe"})", ErrorCode::bad_message, "room is missing");
    assert_refused(R"({"type":"auth"})", ErrorCode::bad_message, "token is missing");
    assert_refused(R"({"type":"auth","token":7})", ErrorCode::bad_message,
                   "token must be a string, not a number");
    assert_refused(R"({"type":7})", ErrorCode::bad_message, "type must be a string, not a number");
    assert_refused("{}", ErrorCode::bad_message, "type is missing");
    assert_refused("[]", ErrorCode::bad_message, "a message must be an object, not an array");
    assert_refused("\"ping\"", ErrorCode::bad_message, "a message must be an object, not a string");
}

void a_type_that_nobody_knows_is_repeated_cut(void**) {
    assert_refused(R"({"type":"dance"})", ErrorCode::unknown_type,
                   "unknown type \"dance\": known are subscribe");
    assert_refused(R"({"type":""})", ErrorCode::unknown_type, "unknown type \"\"");
    assert_true(refused(R"({"type":")" + std::string(60000, 'x') + "\"}").message.size() < 200);
}

void a_room_that_is_none_is_repeated_with_the_grammar(void**) {
    for (const auto room : {"", "session", "session:", "Session:1", "session:*", "a:b c"}) {
        const CommandError error =
            refused(R"({"type":"presence","room":")" + std::string(room) + R"(","ref":1})");
        assert_true(error.code == ErrorCode::bad_room);
        assert_true(error.message.find("room must be kind:id") == 0);
        assert_true(error.room == room);
        assert_true(error.ref == "1");
    }
    assert_true(refused(R"({"type":"subscribe","sessionId":"a/b"})").room == "session:a/b");
    // Cut between characters.
    std::string umlauts;
    for (int i = 0; i < 500; ++i) umlauts += "\xc3\xa4";
    assert_int_equal(refused(R"({"type":"subscribe","room":")" + umlauts + "\"}").room.size(), 232);
}

void what_is_no_json_says_where(void**) {
    assert_refused("", ErrorCode::bad_json, "the text ends where a value should be at byte 0");
    assert_refused(R"({"type":"ping",})", ErrorCode::bad_json,
                   "unexpected '}' where a name in quotes should be at byte 15");
    assert_refused(R"({"type":"ping","type":"ping"})", ErrorCode::bad_json,
                   "duplicate member \"type\" at byte 15");
    assert_refused(R"({"type":"ping","\u0074ype":"ping"})", ErrorCode::bad_json,
                   "duplicate member \"type\" at byte 15");
    assert_refused("{\"type\":\"pi\0ng\"}"sv, ErrorCode::bad_json,
                   "control character 0x00 in a string at byte 11");
    assert_refused("{\"type\":\"ping\"}\0"sv, ErrorCode::bad_json,
                   "unexpected 0x00 where the end should be at byte 15");
    assert_refused("{\"type\":\"\xff\"}", ErrorCode::bad_json, "invalid UTF-8 in a string at byte 9");
    assert_refused(R"({"type":"ping"} {})", ErrorCode::bad_json,
                   "unexpected '{' where the end should be at byte 16");
    const std::string deep = std::string(16, '[') + std::string(16, ']');
    assert_refused(R"({"type":"ping","x":)" + deep + "}", ErrorCode::bad_json,
                   "deeper than 16 levels at byte 34");
    assert_refused(std::string(60000, '['), ErrorCode::bad_json, "deeper than 16 levels");
    assert_refused(std::string(60000, '{'), ErrorCode::bad_json, "unexpected '{'");
    // An escaped NUL is JSON, but no room.
    assert_refused(R"({"type":"subscribe","room":"a:\u0000"})", ErrorCode::bad_room, "room must be kind:id");
    assert_true(
        refused(R"({"type":"ping",")" + std::string(500, 'x') + R"(":1,")" + std::string(500, 'x') + "\":1}")
            .message.size() < 120);
}

void unknown_members_are_passed_over(void**) {
    const auto subscribe = command<Subscribe>(
        R"({"v":2,"type":"subscribe","x":{"type":"ping","x":[1,{"room":"c:d"}]},"room":"a:b","token":[]})");
    assert_true(subscribe.room == "a:b");
}

void codes_have_the_names_of_the_contract(void**) {
    struct Case {
        ErrorCode code;
        std::string_view text;
        bool retryable;
    };
    for (const Case& c : std::initializer_list<Case>{
             {ErrorCode::bad_json, "bad_json", false},
             {ErrorCode::bad_message, "bad_message", false},
             {ErrorCode::unknown_type, "unknown_type", false},
             {ErrorCode::bad_room, "bad_room", false},
             {ErrorCode::bad_token, "bad_token", false},
             {ErrorCode::forbidden, "forbidden", false},
             {ErrorCode::unavailable, "unavailable", true},
             {ErrorCode::limit, "limit", false},
             {ErrorCode::rate, "rate", true},
         }) {
        assert_true(rooms::error_code_text(c.code) == c.text);
        assert_int_equal(rooms::is_retryable(c.code), c.retryable);
    }
}

void no_allocation_that_fails_leaks(void**) {
    for (
        const std::string_view text :
        {R"({"type":"subscribe","room":"session:a_long_id_of_a_session","ref":"a ref of more than fifteen","since":{"epoch":"9f3a1c","offset":1}})"sv,
         R"({"type":"subscribe","room":"session:a long id of a session","ref":"a ref of more than fifteen"})"sv,
         R"({"type":"subscribe","room":1})"sv,
         R"({"type":"auth","token":"a token of more than fifteen bytes"})"sv,
         R"({"type":"a type of more than fifteen bytes"})"sv, R"({"type":)"sv}) {
        assert_true(every_allocation_fails([&] { static_cast<void>(parse_command(text).ok()); }) > 0);
    }
    assert_int_equal(allocations_of([] { assert_true(parse_command(R"({"type":"ping"})").ok()); }), 0);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(each_command_is_read),
        cmocka_unit_test(a_session_id_names_its_room),
        cmocka_unit_test(a_position_comes_with_subscribe),
        cmocka_unit_test(a_position_that_is_none_is_refused),
        cmocka_unit_test(a_ref_is_repeated_as_it_came),
        cmocka_unit_test(a_wrong_type_of_member_is_named),
        cmocka_unit_test(a_type_that_nobody_knows_is_repeated_cut),
        cmocka_unit_test(a_room_that_is_none_is_repeated_with_the_grammar),
        cmocka_unit_test(what_is_no_json_says_where),
        cmocka_unit_test(unknown_members_are_passed_over),
        cmocka_unit_test(codes_have_the_names_of_the_contract),
        cmocka_unit_test(no_allocation_that_fails_leaks),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

// core/reply: every answer, byte by byte as the contract shows it.
#include <string>
#include <string_view>
#include <vector>

#include "cmocka.hpp"
#include "every_allocation.hpp"

#include "core/json.hpp"
#include "core/reply.hpp"

using namespace std::literals;
using rooms::ErrorCode;

namespace {

constexpr std::int64_t kNow = 1795331520690;

void assert_text(std::string_view actual, std::string_view expected) {
    if (actual != expected) print_error("got %.*s\n", static_cast<int>(actual.size()), actual.data());
    assert_true(actual == expected);
    assert_true(rooms::parse_json(actual).ok());
}

void connected_is_as_in_the_contract(void**) {
    assert_text(rooms::encode_connected({"u1", "c-7", 1795332900000, 30000, kNow}),
                R"({"type":"connected","userId":"u1","connectionId":"c-7","expiresAt":1795332900000,)"
                R"("heartbeat":30000,"serverTime":1795331520690,"timestamp":"2026-11-22T07:12:00.690Z"})");
    assert_text(rooms::encode_connected({"", "c", std::nullopt, 0, 0}),
                R"({"type":"connected","userId":null,"connectionId":"c","expiresAt":null,)"
                R"("heartbeat":0,"serverTime":0,"timestamp":"1970-01-01T00:00:00.000Z"})");
    // A user id is the token's: it may be anything.
    assert_true(rooms::encode_connected({"a\"\n\\", "c", {}, 0, 0}).find(R"("userId":"a\"\n\\",)") !=
                std::string::npos);
}

void subscribed_is_as_in_the_contract(void**) {
    assert_text(rooms::encode_subscribed({"session:1", 0x9f3a1c, 41, true, kNow}),
                R"({"type":"subscribed","room":"session:1","epoch":"9f3a1c","offset":41,"recovered":true,)"
                R"("timestamp":1795331520690})");
    assert_text(rooms::encode_subscribed({"session:1", 1, 0, std::nullopt, 5}, "\"r\""),
                R"({"type":"subscribed","room":"session:1","epoch":"1","offset":0,"timestamp":5,"ref":"r"})");
    assert_text(
        rooms::encode_subscribed({"session:1", 1, 0, false, 5}, "7"),
        R"({"type":"subscribed","room":"session:1","epoch":"1","offset":0,"recovered":false,"timestamp":5,"ref":7})");
}

void errors_name_code_room_and_reason(void**) {
    assert_text(
        rooms::encode_error(ErrorCode::forbidden, "session:2", rooms::forbidden_message("session:2"), false),
        R"({"type":"error","code":"forbidden","room":"session:2","message":"Access denied to session","retryable":false})");
    assert_text(rooms::encode_error(ErrorCode::rate, "", "slow down", true, "1"),
                R"({"type":"error","code":"rate","message":"slow down","retryable":true,"ref":1})");
    assert_text(
        rooms::encode_error({ErrorCode::bad_room, "no \"room\"", "a\nb", "\"x\""}),
        R"({"type":"error","code":"bad_room","room":"a\nb","message":"no \"room\"","retryable":false,"ref":"x"})");
    assert_true(rooms::forbidden_message("design-session:1") == "Access denied to design-session");
}

void the_short_answers_are_as_in_the_contract(void**) {
    assert_text(rooms::encode_unsubscribed("session:1"), R"({"type":"unsubscribed","room":"session:1"})");
    assert_text(rooms::encode_unsubscribed("session:1", "2"),
                R"({"type":"unsubscribed","room":"session:1","ref":2})");
    assert_text(rooms::encode_gap("session:1", 0x9f3a1c, 171, "trimmed"),
                R"({"type":"gap","room":"session:1","epoch":"9f3a1c","offset":171,"reason":"trimmed"})");
    assert_text(rooms::encode_pong(5), R"({"type":"pong","timestamp":5})");
    assert_text(rooms::encode_pong(5, "1"), R"({"type":"pong","timestamp":5,"ref":1})");
    assert_text(rooms::encode_auth_ok(9), R"({"type":"auth:ok","expiresAt":9})");
    assert_text(rooms::encode_auth_ok({}, "1"), R"({"type":"auth:ok","expiresAt":null,"ref":1})");
    assert_text(rooms::encode_token_expiring(1795332900000),
                R"({"type":"token:expiring","expiresAt":1795332900000})");
    assert_text(rooms::encode_reconnect(1234), R"({"type":"reconnect","afterMs":1234})");
}

void presence_lists_users_and_counts_connections(void**) {
    const std::vector<rooms::PresenceEntry> users{{"u1", 2}, {"\"", 1}};
    assert_text(
        rooms::encode_presence("a:b", users, 4, "1"),
        R"({"type":"presence","room":"a:b","users":[{"id":"u1","connections":2},{"id":"\"","connections":1}],"count":4,"ref":1})");
    assert_text(rooms::encode_presence("a:b", {}, 0),
                R"({"type":"presence","room":"a:b","users":[],"count":0})");
}

std::string publish_answer(const rooms::PublishReceipt& receipt) {
    std::string out;
    rooms::append_publish_answer(out, receipt);
    return out;
}

void http_answers_are_as_in_the_contract(void**) {
    const std::string one = publish_answer({"session:42", 0x9f3a1c, 42, 2, false});
    assert_text(one, R"({"room":"session:42","epoch":"9f3a1c","offset":42,"subscribers":2})");
    const std::string again = publish_answer({"session:42", 0x9f3a1c, 42, 2, true});
    assert_text(again,
                R"({"room":"session:42","epoch":"9f3a1c","offset":42,"subscribers":2,"duplicate":true})");
    const std::string error = rooms::encode_http_error("bad_field", "unknown field \"rom\"");
    assert_text(error, R"({"error":{"code":"bad_field","message":"unknown field \"rom\""}})");
}

void results_are_a_list_and_nest(void**) {
    std::string out;
    rooms::PublishResults all(out);
    rooms::append_publish_answer(all.next(), {"a:b", 1, 2, 3, false});
    rooms::PublishResults rooms_of_one(all.next());
    rooms::append_http_error(rooms_of_one.next(), "conflict", "x");
    rooms::append_http_error(rooms_of_one.next(), "conflict", "y");
    rooms_of_one.finish();
    rooms::PublishResults none(all.next());
    none.finish();
    all.finish();
    assert_text(out, R"({"results":[{"room":"a:b","epoch":"1","offset":2,"subscribers":3},)"
                     R"({"results":[{"error":{"code":"conflict","message":"x"}},)"
                     R"({"error":{"code":"conflict","message":"y"}}]},{"results":[]}]})");
}

void epochs_are_lower_case_hex(void**) {
    for (const std::uint64_t epoch : {1ull, 0x9f3a1cull, 0xffffffffffffffffull, 0ull}) {
        assert_true(rooms::parse_epoch(rooms::epoch_text(epoch)) == epoch);
    }
    assert_true(rooms::epoch_text(0x9f3a1c) == "9f3a1c");
    for (const std::string_view bad :
         {""sv, "G"sv, "9F"sv, "0x1"sv, " 1"sv, "1\0"sv, "-1"sv, "11111111111111111"sv}) {
        assert_false(rooms::parse_epoch(bad).has_value());
    }
}

void instants_are_iso_8601(void**) {
    struct Case {
        std::int64_t ms;
        std::string_view text;
    };
    for (const Case& c : std::initializer_list<Case>{
             {0, "1970-01-01T00:00:00.000Z"},
             {-1, "1969-12-31T23:59:59.999Z"},
             {951782399999, "2000-02-28T23:59:59.999Z"},
             {951782400000, "2000-02-29T00:00:00.000Z"},
             {951868800000, "2000-03-01T00:00:00.000Z"},
             {4107542400000, "2100-03-01T00:00:00.000Z"},
             {1704067199000, "2023-12-31T23:59:59.000Z"},
             {1735603200001, "2024-12-31T00:00:00.001Z"},
             {253402300799999, "9999-12-31T23:59:59.999Z"},
             {-62135596800000, "0001-01-01T00:00:00.000Z"},
             {-62167219200000, "0000-01-01T00:00:00.000Z"},
         }) {
        const std::string text = rooms::iso8601_text(c.ms);
        if (text != c.text) print_error("%s\n", text.c_str());
        assert_true(text == c.text);
    }
    // Any number is formatted, somehow.
    assert_int_equal(rooms::iso8601_text(INT64_MAX).size(), 24);
    assert_int_equal(rooms::iso8601_text(INT64_MIN).size(), 24);
}

void no_allocation_that_fails_leaks(void**) {
    const std::vector<rooms::PresenceEntry> users(20, {"a user with a name of more than fifteen bytes", 2});
    assert_true(every_allocation_fails(
                    [&] { static_cast<void>(rooms::encode_presence("a:b", users, 4, "1")); }) > 20);
    assert_true(every_allocation_fails([&] {
                    static_cast<void>(publish_answer({"a:b", 1, 2, 3, false}));
                }) > 0);
    assert_int_equal(allocations_of([] { static_cast<void>(rooms::encode_pong(kNow)); }), 1);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(connected_is_as_in_the_contract),
        cmocka_unit_test(subscribed_is_as_in_the_contract),
        cmocka_unit_test(errors_name_code_room_and_reason),
        cmocka_unit_test(the_short_answers_are_as_in_the_contract),
        cmocka_unit_test(presence_lists_users_and_counts_connections),
        cmocka_unit_test(http_answers_are_as_in_the_contract),
        cmocka_unit_test(results_are_a_list_and_nest),
        cmocka_unit_test(epochs_are_lower_case_hex),
        cmocka_unit_test(instants_are_iso_8601),
        cmocka_unit_test(no_allocation_that_fails_leaks),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

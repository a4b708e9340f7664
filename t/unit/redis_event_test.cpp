// An event out of Redis: its form, its seal, and the frame that pages get.
#include <string>
#include <string_view>

#include "core/envelope.hpp"
#include "core/frame.hpp"
#include "redis_fixture.hpp"
#include "store/redis_event.hpp"

#include "cmocka.hpp"

using namespace redis_test;
using namespace std::literals;

namespace {

const std::string kSeal(40, 'a');

void the_parts_of_a_message_are_views_into_it(void**) {
    const std::string message = kSeal + R"( 9f3a 42 1795332720690 {"type":"a b","x":" y")";
    const auto event = RedisEvent::parse(message);
    assert_true(event.has_value());
    assert_true(event->seal == kSeal);
    assert_true(event->check() == kSeal.substr(0, 16));
    assert_true(event->epoch == "9f3a");
    assert_int_equal(event->offset, 42);
    assert_int_equal(event->ms, 1795332720690);
    assert_true(event->body == R"({"type":"a b","x":" y")");
    assert_true(event->sealed == message.substr(41));
    assert_ptr_equal(event->body.data() + event->body.size(), message.data() + message.size());
}

void what_has_not_the_form_is_no_event(void**) {
    for (const std::string& bad : {
             ""s,
             " "s,
             kSeal,
             kSeal + " ",
             kSeal + " e",
             kSeal + " e 1",
             kSeal + " e 1 2",  // no body at all
             kSeal + "  1 2 {",
             kSeal + " e 0 2 {",
             kSeal + " e -1 2 {",
             kSeal + " e +1 2 {",
             kSeal + " e 1x 2 {",
             kSeal + " e 0x1 2 {",
             kSeal + " e  2 {",
             kSeal + " e 1  {",
             kSeal + " e 1 x {",
             kSeal + " e 1 2.0 {",
             kSeal + " e 18446744073709551616 2 {",
             kSeal + " e 1 9223372036854775808 {",
             kSeal.substr(1) + " e 1 2 {",
             kSeal + "a e 1 2 {",
             " " + kSeal + " e 1 2 {",
             "{\"type\":\"published by hand\"}"s,
         }) {
        assert_false(RedisEvent::parse(bad).has_value());
    }
    assert_true(RedisEvent::parse(kSeal + " e 18446744073709551615 -2 ").has_value());
}

void only_the_rooms_secret_seals(void**) {
    const Life life;
    const std::string message = life.message(7);
    const auto event = RedisEvent::parse(message);
    assert_true(event.has_value());
    assert_true(event->is_sealed("secret"));
    for (const std::string_view wrong : {""sv, "secreT"sv, "secre"sv, "secrets"sv, "secret\0"sv}) {
        assert_false(event->is_sealed(wrong));
    }
}

void a_change_of_any_octet_breaks_the_seal(void**) {
    const Life life;
    const std::string good = life.message(7);
    for (std::size_t at = 0; at < good.size(); ++at) {
        for (const char flip : {'\x01', '\x20', '\x80'}) {
            std::string changed = good;
            changed[at] = static_cast<char>(changed[at] ^ flip);
            const auto event = RedisEvent::parse(changed);
            assert_false(event && event->is_sealed("secret"));
        }
    }
    for (std::size_t size = 0; size < good.size(); ++size) {
        const auto event = RedisEvent::parse(std::string_view(good).substr(0, size));
        assert_false(event && event->is_sealed("secret"));
    }
    const std::string longer = good + " ";
    assert_false(RedisEvent::parse(longer)->is_sealed("secret"));
}

void what_comes_from_the_stream_has_no_seal(void**) {
    RedisEvent event;
    event.epoch = "e1";
    event.offset = 1;
    event.body = "{";
    assert_false(event.is_sealed("secret"));
    assert_false(event.is_sealed(""));
    assert_true(event.check().empty());
}

Payload frame_of(std::string_view body, std::uint64_t offset = 42) {
    RedisEvent event;
    event.epoch = "e1";
    event.offset = offset;
    event.ms = kMs;
    event.body = body;
    return event.frame();
}

// As the zone's broker makes it.
std::string frame_by_core(std::string_view body, std::uint64_t offset, std::int64_t ms) {
    char tail[kMaxEventTail];
    const std::string json = std::string(body) + std::string(tail, event_tail(tail, offset, ms));
    return std::string(encode_frame(Opcode::text, json).view());
}

void the_frame_has_the_bytes_that_core_makes(void**) {
    for (const std::size_t size : {0, 1, 30, 60, 61, 62, 63, 64, 65, 200, 65400, 65480, 65500, 70000}) {
        const std::string json = R"({"rooms":["session:42"],"type":"x","data":{"text":")" +
                                 std::string(size, 'y') + R"("},"id":"evt \u00e4"})";
        auto parsed = parse_publish(json, false);
        assert_true(parsed.ok() && parsed->items.front().ok());
        const std::string body = encode_event_body(*parsed->items.front(), "session:42");
        for (const std::uint64_t offset : {std::uint64_t{1}, std::uint64_t{12345}, UINT64_MAX}) {
            assert_true(frame_of(body, offset).view() == frame_by_core(body, offset, kMs));
        }
    }
}

void a_body_that_makes_no_json_object_makes_no_frame(void**) {
    assert_true(static_cast<bool>(frame_of(R"({"type":"a")")));
    for (const std::string_view bad : {
             ""sv,
             "{"sv,
             "x"sv,
             "[1"sv,
             R"({"type":"a"})"sv,
             R"({"type":"a)"sv,
             R"({"type":)"sv,
             R"({"type":"a",)"sv,
             R"({"type":"a","b":{)"sv,
             R"({"type":"a","b":[)"sv,
             R"({"type":'a')"sv,
             R"({"type":"a","n":01)"sv,
             R"({"type":"a","n":NaN)"sv,
             R"({"type":"a","n":1e)"sv,
             R"({"type":"a"} {"b":1)"sv,
             R"({"type":"\x41")"sv,
             R"({"type":"\ud800")"sv,
             "{\"type\":\"a\nb\""sv,
             "{\"type\":\"a\0b\""sv,
         }) {
        assert_false(static_cast<bool>(frame_of(bad)));
    }
}

void a_body_that_is_not_utf8_makes_no_frame(void**) {
    assert_true(static_cast<bool>(frame_of("{\"type\":\"\xc3\xa4\xf0\x9f\x98\x80\"")));
    for (const std::string_view bad :
         {"\xff"sv, "\xc3"sv, "\xc0\xaf"sv, "\xed\xa0\x80"sv, "\xf4\x90\x80\x80"sv}) {
        assert_false(static_cast<bool>(frame_of("{\"type\":\"" + std::string(bad) + "\"")));
    }
}

void a_body_nested_too_deep_makes_no_frame(void**) {
    const auto nested = [](std::size_t depth) {
        return R"({"type":"a","data":)" + std::string(depth, '[') + std::string(depth, ']');
    };
    assert_true(static_cast<bool>(frame_of(nested(kMaxJsonDepth))));
    assert_false(static_cast<bool>(frame_of(nested(kMaxJsonDepth + 1))));
    assert_false(static_cast<bool>(frame_of(nested(100000))));
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(the_parts_of_a_message_are_views_into_it),
        cmocka_unit_test(what_has_not_the_form_is_no_event),
        cmocka_unit_test(only_the_rooms_secret_seals),
        cmocka_unit_test(a_change_of_any_octet_breaks_the_seal),
        cmocka_unit_test(what_comes_from_the_stream_has_no_seal),
        cmocka_unit_test(the_frame_has_the_bytes_that_core_makes),
        cmocka_unit_test(a_body_that_makes_no_json_object_makes_no_frame),
        cmocka_unit_test(a_body_that_is_not_utf8_makes_no_frame),
        cmocka_unit_test(a_body_nested_too_deep_makes_no_frame),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

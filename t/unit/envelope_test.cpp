// core/envelope: publications of every shape, and the events that come of them.
#include <jansson.h>

#include <array>
#include <cstdio>
#include <forward_list>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "cmocka.hpp"
#include "every_allocation.hpp"

#include "core/envelope.hpp"
#include "core/json.hpp"
#include "core/room.hpp"

using namespace std::literals;
using rooms::encode_event_body;
using rooms::parse_publish;
using rooms::PublishBody;
using rooms::PublishCode;
using rooms::PublishItem;

namespace {

void assert_text(std::string_view actual, std::string_view expected) {
    if (actual != expected) {
        print_error("got %.*s\nnot %.*s\n", static_cast<int>(actual.size()), actual.data(),
                    static_cast<int>(expected.size()), expected.data());
    }
    assert_true(actual == expected);
}

// Keeps the body: the result has views into it.
PublishBody parsed(std::string_view body, bool ndjson = false) {
    static std::forward_list<std::string> bodies;
    auto result = parse_publish(bodies.emplace_front(body), ndjson);
    if (!result) print_error("%s\n", result.error().message.c_str());
    assert_true(result.ok());
    return std::move(*result);
}

void assert_refused(std::string_view body, PublishCode code, std::string_view message) {
    const auto result = parse_publish(body, false);
    assert_false(result.ok());
    assert_text(std::string_view(result.error().message).substr(0, message.size()), message);
    assert_true(result.error().code == code);
}

// One publication with these members, type and room given.
std::string publication(std::string_view members) {
    return R"({"room":"session:1","type":"t")" + std::string(members.empty() ? "" : ",") +
           std::string(members) + "}";
}

std::string event(std::string_view body) {
    const PublishBody publish = parsed(body);
    const PublishItem& item = *publish.items.front();
    const std::string text = encode_event_body(item, item.rooms.front());
    assert_true(rooms::parse_json(text + "}").ok());
    return text;
}

void a_publication_is_read(void**) {
    const std::string_view text =
        R"({"room":"session:42","type":"session:update","data":{"state":"building","progress":90},"id":"i-1","key":"k-1"})";
    const PublishBody body = parsed(text);
    assert_false(body.batch);
    assert_int_equal(body.items.size(), 1);
    const PublishItem& item = *body.items[0];
    assert_int_equal(item.rooms.size(), 1);
    assert_text(item.rooms[0], "session:42");
    assert_text(item.type, "session:update");
    assert_text(item.raw_type, "\"session:update\"");
    assert_text(item.data, R"({"state":"building","progress":90})");
    assert_text(item.id, "i-1");
    assert_text(item.key, "k-1");
    assert_text(item.idempotency_key(), "k-1");
    assert_text(item.raw, text);
    assert_false(item.several);
}

void what_is_optional_may_be_absent(void**) {
    const PublishBody body = parsed(publication(""));
    const PublishItem& item = *body.items[0];
    assert_text(item.data, "{}");
    assert_true(item.id.empty() && item.key.empty() && item.raw_id.empty());
    assert_true(item.idempotency_key().empty());
    const PublishBody with_id = parsed(publication(R"("id":"x")"));
    assert_text(with_id.items[0]->idempotency_key(), "x");
}

void several_rooms_are_kept_in_order_and_folded(void**) {
    PublishBody body = parsed(R"({"type":"t","rooms":["b:2","a:1","b:2","\u0061:1","c:3"]})");
    // What had escapes stays where it is when the body moves.
    const PublishBody moved = std::move(body);
    const PublishItem& item = *moved.items[0];
    assert_int_equal(item.rooms.size(), 3);
    assert_text(item.rooms[0], "b:2");
    assert_text(item.rooms[1], "a:1");
    assert_text(item.rooms[2], "c:3");
    assert_true(item.several);
    assert_false(moved.batch);
}

void an_array_and_lines_are_batches(void**) {
    const std::string one = publication("");
    assert_true(parsed("[" + one + "," + one + "]").batch);
    assert_true(parsed(" [" + one + "]\n").batch);
    assert_int_equal(parsed("[]").items.size(), 0);
    assert_false(parsed("\n" + one + "\r\n").batch);
    assert_true(parsed(one, true).batch);
    for (const auto separator : {"\n", "\r\n", " ", "\n\n\t"}) {
        const PublishBody lines = parsed(one + separator + one + separator + one);
        assert_true(lines.batch);
        assert_int_equal(lines.items.size(), 3);
        assert_text(lines.items[2]->raw, one);
    }
}

void in_a_batch_each_publication_has_its_own_verdict(void**) {
    for (const auto& [open, between, close] : {std::array{"[", ",", "]"}, std::array{"", "\n", "\n"}}) {
        const PublishBody body =
            parsed(open + publication("") + between + R"({"room":"x","type":"t"})" + between + "7" + between +
                   R"({"room":"a:1"})" + between + publication(R"("dta":{})") + between +
                   publication(R"("id":"\u0061")") + close);
        assert_true(body.batch);
        assert_int_equal(body.items.size(), 6);
        assert_true(body.items[0].ok());
        assert_true(body.items[1].error().code == PublishCode::bad_room);
        assert_true(body.items[2].error().code == PublishCode::bad_json);
        assert_true(body.items[3].error().code == PublishCode::bad_field);
        assert_int_equal(body.items[4].error().index, 4);
        assert_text(body.items[4].error().message,
                    "unknown field \"dta\": known are room, rooms, type, data, id, key");
        assert_text(body.items[5]->id, "a");
    }
}

void what_is_no_json_refuses_the_whole_body(void**) {
    const std::string one = publication("");
    assert_refused("", PublishCode::bad_json, "the body is empty");
    assert_refused(" \n", PublishCode::bad_json, "the body is empty");
    assert_refused("{", PublishCode::bad_json, "the text ends where a name in quotes should be at byte 1");
    assert_refused("[" + one, PublishCode::bad_json, "the text ends where ',' or ']' should be");
    assert_refused(one + "\n{]", PublishCode::bad_json, "publication 2: unexpected ']'");
    assert_refused("[" + one + "]x", PublishCode::bad_json, "unexpected 'x' where the end should be");
    assert_refused(one + one, PublishCode::bad_json,
                   "publication 2: no white space between publications at byte 31");
    assert_refused("room=session:1&type=t", PublishCode::bad_json,
                   "unexpected 'r' where a value should be at byte 0");
    assert_refused(publication("\"data\":{\"a\":\"\xc3\"}"), PublishCode::bad_json, "invalid UTF-8");
    assert_refused(std::string(100000, '['), PublishCode::bad_json, "deeper than 17 levels");
    assert_refused("7", PublishCode::bad_json, "a publication must be an object, not a number");
    assert_refused(R"({"room":"a:1","type":"t","\u0072oom":"a:2"})", PublishCode::bad_json,
                   "duplicate field \"room\"");
    assert_refused(publication(R"("data":{"a":1,"a":2})"), PublishCode::bad_json,
                   "duplicate field \"a\" in data");
}

void depth_counts_from_the_publication_in_a_batch_too(void**) {
    const auto with_depth = [](unsigned depth) {
        return publication(R"("data":{"a":)" + std::string(depth - 2, '[') + std::string(depth - 2, ']') +
                           "}");
    };
    assert_true(parsed(with_depth(16)).items[0].ok());
    assert_true(parsed("[" + with_depth(16) + "]").items[0].ok());
    assert_true(parsed(with_depth(16) + "\n" + with_depth(16)).items[1].ok());
    assert_refused(with_depth(17), PublishCode::bad_json, "deeper than 16 levels");
    assert_refused("[" + with_depth(17) + "]", PublishCode::bad_json, "deeper than 17 levels");
    assert_refused(with_depth(3) + "\n" + with_depth(17), PublishCode::bad_json,
                   "publication 2: deeper than 16 levels");
}

void a_wrong_field_is_named(void**) {
    const PublishCode field = PublishCode::bad_field;
    assert_refused(R"({"type":"t"})", field, "room is missing");
    assert_refused(R"({"room":"a:1"})", field, "type is missing");
    assert_refused(R"({"room":"a:1","rooms":["a:1"],"type":"t"})", field,
                   "room and rooms exclude each other");
    assert_refused(R"({"room":1,"type":"t"})", field, "room must be a string, not a number");
    assert_refused(R"({"rooms":"a:1","type":"t"})", field, "rooms must be an array, not a string");
    assert_refused(R"({"rooms":[],"type":"t"})", field, "rooms is empty");
    assert_refused(R"({"rooms":["a:1",null],"type":"t"})", field, "rooms[1] must be a string, not null");
    assert_refused(R"({"rooms":["a:1","a"],"type":"t"})", PublishCode::bad_room,
                   "rooms[1]: \"a\" is no room");
    assert_refused(R"({"room":"a:\u0000","type":"t"})", PublishCode::bad_room, "room: ");
    assert_refused(R"({"room":"","type":"t"})", PublishCode::bad_room,
                   "room: \"\" is no room: it must be kind:id");
    assert_refused(R"({"room":"a:1","type":""})", field, "type must have 1 to 128 bytes");
    assert_refused(R"({"room":"a:1","type":")" + std::string(129, 't') + "\"}", field,
                   "type must have 1 to 128 bytes");
    assert_refused(R"({"room":"a:1","type":{}})", field, "type must be a string, not an object");
    for (const auto value : {"1", "null", "[]", "\"{}\"", "true"}) {
        assert_refused(publication(R"("data":)" + std::string(value)), field, "data must be an object, not ");
    }
    for (const std::string name : {"id", "key"}) {
        assert_refused(publication("\"" + name + "\":7"), field, name + " must be a string, not a number");
        assert_refused(publication("\"" + name + "\":\"\""), field, name + " must have 1 to 200 bytes");
        assert_true(parsed(publication("\"" + name + "\":\"" + std::string(200, 'i') + "\"")).items[0].ok());
        assert_refused(publication("\"" + name + "\":\"" + std::string(201, 'i') + "\""), field,
                       name + " must have 1 to 200 bytes");
    }
    assert_true(parsed(R"({"room":"a:1","type":")" + std::string(128, 't') + "\"}").items[0].ok());
    assert_refused(publication("\"" + std::string(5000, 'x') + "\":1"), field, "unknown field \"xxx");
}

void limits_are_counted(void**) {
    rooms::PublishLimits limits;
    limits.max_items = 2;
    limits.max_rooms = 2;
    const std::string one = publication("");
    assert_true(parse_publish(one + "\n" + one, false, limits).ok());
    assert_true(parse_publish("[" + one + "," + one + "]", false, limits).ok());
    assert_text(parse_publish(one + "\n" + one + "\n" + one, false, limits).error().message,
                "more than 2 publications in one body");
    assert_text(parse_publish("[" + one + "," + one + "," + one + "]", false, limits).error().message,
                "more than 2 publications in one body");
    assert_true(parse_publish(R"({"type":"t","rooms":["a:1","a:2"]})", false, limits).ok());
    assert_text(parse_publish(R"({"type":"t","rooms":["a:1","a:2","a:3"]})", false, limits).error().message,
                "rooms has more than 2 rooms");
}

void an_idempotency_key_has_1_to_200_bytes(void**) {
    assert_false(rooms::check_idempotency_key("k").has_value());
    assert_false(rooms::check_idempotency_key(std::string(200, 'k')).has_value());
    assert_true(rooms::check_idempotency_key("").has_value());
    assert_text(*rooms::check_idempotency_key(std::string(201, 'k')),
                "Idempotency-Key must have 1 to 200 bytes");
}

void codes_have_names(void**) {
    assert_text(rooms::publish_code_text(PublishCode::bad_json), "bad_json");
    assert_text(rooms::publish_code_text(PublishCode::bad_field), "bad_field");
    assert_text(rooms::publish_code_text(PublishCode::bad_room), "bad_room");
}

void an_event_is_as_in_the_contract(void**) {
    std::string text =
        event(R"({"room":"session:1","type":"session:update","data":{"state":"building","progress":90}})");
    char tail[rooms::kMaxEventTail];
    text.append(tail, rooms::event_tail(tail, 42, 1795332720700));
    assert_text(text, R"({"type":"session:update","sessionId":"1","state":"building","progress":90,)"
                      R"("room":"session:1","offset":42,"timestamp":1795332720700})");
}

void an_event_without_data_has_only_our_fields(void**) {
    for (const auto members : {"", R"("data":{})", "\"data\":{ \n }"}) {
        assert_text(event(publication(members)), R"({"type":"t","sessionId":"1","room":"session:1")");
    }
}

void R7_data_cannot_overwrite_our_fields_however_it_spells_them(void**) {
    assert_text(
        event(publication(R"("data":{"type":"x","a":1,"room":["y"],"offset":0,"b":2,"timestamp":{"x":1}})")),
        R"({"type":"t","sessionId":"1","a":1,"b":2,"room":"session:1")");
    assert_text(event(publication(
                    R"("data":{"\u0074ype":"x","ro\u006fm":1,"\u006Fffset":1,"timestam\u0070":1,"Type":2})")),
                R"({"type":"t","sessionId":"1","Type":2,"room":"session:1")");
    assert_text(event(publication(R"("data":{"type":1})")),
                R"({"type":"t","sessionId":"1","room":"session:1")");
}

void nested_content_and_spelling_are_untouched(void**) {
    assert_text(
        event(publication(
            R"("data" : { "n" : 1.50e+3 , "s":"\u00e4\/","o":{"type":"kept","room" :1},"a":[ 1,2 ],"big":123456789012345678901234567890})")),
        R"({"type":"t","sessionId":"1","n" : 1.50e+3 , "s":"\u00e4\/","o":{"type":"kept","room" :1},"a":[ 1,2 ],)"
        R"("big":123456789012345678901234567890,"room":"session:1")");
}

void the_id_of_the_body_is_the_events(void**) {
    assert_text(event(publication(R"("data":{"id":7,"a":1},"id":"i\u0031\"")")),
                R"({"type":"t","sessionId":"1","a":1,"room":"session:1","id":"i\u0031\"")");
    assert_text(event(publication(R"("data":{"id":7,"a":1})")),
                R"({"type":"t","sessionId":"1","id":7,"a":1,"room":"session:1")");
    // A key is for the broker only.
    assert_text(event(publication(R"("data":{"id":7},"key":"k")")),
                R"({"type":"t","sessionId":"1","id":7,"room":"session:1")");
}

void the_rooms_id_field_yields_to_that_of_data(void**) {
    assert_text(event(publication(R"("data":{"a":1,"sessionId":5})")),
                R"({"type":"t","a":1,"sessionId":5,"room":"session:1")");
    assert_text(event(publication(R"("data":{"session\u0049d":null})")),
                R"({"type":"t","session\u0049d":null,"room":"session:1")");
    assert_text(event(publication(R"("data":{"tenantId":"x"})")),
                R"({"type":"t","sessionId":"1","tenantId":"x","room":"session:1")");
    assert_text(event(R"({"room":"design-session:a:b","type":"t"})"),
                R"({"type":"t","design-sessionId":"a:b","room":"design-session:a:b")");
}

// Data whose names cannot be ours is copied as it stands, other data member by member.
void space_around_data_is_dropped_and_inside_it_harmless(void**) {
    assert_text(event(publication("\"data\":{ \n\"a\": 1 ,\t\"b\":{ }\r }")),
                "{\"type\":\"t\",\"sessionId\":\"1\",\"a\": 1 ,\t\"b\":{ },\"room\":\"session:1\"");
    assert_text(event(publication("\"data\":{ \"a\" : 1 , \"type\":2 }")),
                R"({"type":"t","sessionId":"1","a" : 1,"room":"session:1")");
    for (const char* none : {"{}", "{ }", "{\n\t }"}) {
        assert_text(event(publication(std::string("\"data\":") + none)),
                    R"({"type":"t","sessionId":"1","room":"session:1")");
    }
}

void each_room_has_its_own_event(void**) {
    const PublishBody body = parsed(R"({"rooms":["ticket:7","project:p"],"type":"t","data":{"a":1}})");
    const PublishItem& item = *body.items[0];
    assert_text(encode_event_body(item, item.rooms[0]),
                R"({"type":"t","ticketId":"7","a":1,"room":"ticket:7")");
    assert_text(encode_event_body(item, item.rooms[1]),
                R"({"type":"t","projectId":"p","a":1,"room":"project:p")");
}

void the_type_is_spliced_as_it_was_written(void**) {
    assert_text(event(R"({"room":"a:1","type":"x\u0022\n"})"),
                R"({"type":"x\u0022\n","aId":"1","room":"a:1")");
}

void the_tail_never_exceeds_its_maximum(void**) {
    char tail[rooms::kMaxEventTail];
    const std::size_t size = rooms::event_tail(tail, UINT64_MAX, INT64_MIN);
    assert_int_equal(size, rooms::kMaxEventTail);
    assert_text({tail, size}, R"(,"offset":18446744073709551615,"timestamp":-9223372036854775808})");
    assert_text({tail, rooms::event_tail(tail, 1, 0)}, R"(,"offset":1,"timestamp":0})");
}

// The reference: jansson's tree, flattened by the contract's sentences. Names are drawn so that
// they collide, and escaped at random.
void random_events_equal_those_of_a_tree(void**) {
    std::mt19937 random(5);
    const std::vector<std::string> names{"type", "room", "offset", "timestamp", "id",   "sessionId",
                                         "a",    "b",    "typ",    "rooms",     "\\\"", "\xc3\xa4"};
    const std::vector<std::string> values{"1",    "\"x\"", "{\"type\":[1,{}]}", "[\"]\",\"}\"]",
                                          "null", "true",  "\"\\\"\\\\\"",      "-1.5e3"};
    for (int i = 0; i < 20000; ++i) {
        std::string data = "{";
        std::vector<std::string> left = names;
        for (std::size_t n = random() % 8; n > 0; --n) {
            const std::size_t k = random() % left.size();
            std::string name = left[k];
            left.erase(left.begin() + static_cast<std::ptrdiff_t>(k));
            if (random() % 3 == 0 && name[0] >= 'a' && name[0] <= 'z') {
                char escape[8];
                std::snprintf(escape, sizeof escape, "\\u%04x", name[0]);
                name = escape + name.substr(1);
            }
            if (data.size() > 1) data += random() % 4 ? "," : " ,\n ";
            data += "\"" + name + "\"" + (random() % 4 ? ":" : " : ") + values[random() % values.size()];
        }
        data += random() % 4 ? "}" : " }";
        const bool with_id = random() % 2;
        std::string text = event(publication("\"data\":" + data + (with_id ? ",\"id\":\"I\"" : ""))) + "}";

        json_t* expected = json_loads(data.c_str(), JSON_REJECT_DUPLICATES, nullptr);
        assert_non_null(expected);
        for (const auto name : {"type", "room", "offset", "timestamp"}) json_object_del(expected, name);
        if (!json_object_get(expected, "sessionId"))
            json_object_set_new(expected, "sessionId", json_string("1"));
        if (with_id) json_object_set_new(expected, "id", json_string("I"));
        json_object_set_new(expected, "type", json_string("t"));
        json_object_set_new(expected, "room", json_string("session:1"));
        json_t* actual = json_loads(text.c_str(), JSON_REJECT_DUPLICATES, nullptr);
        if (!actual || !json_equal(actual, expected)) print_error("%s\n%s\n", data.c_str(), text.c_str());
        assert_non_null(actual);
        assert_true(json_equal(actual, expected));
        json_decref(actual);
        json_decref(expected);
    }
}

void no_allocation_that_fails_leaks_and_an_event_takes_one(void**) {
    const std::string body =
        publication(
            R"("data":{"\u0061 name of more than fifteen bytes":1},"id":"an id \u0061 of more than fifteen bytes")") +
        "\n" +
        R"({"type":"t","rooms":["session:a_long_name_of_a_room_1","session:a_long_name_of_a_room_2","a:\u0031"]})" +
        "\n7";
    assert_true(every_allocation_fails([&] { assert_true(parse_publish(body, false).ok()); }) > 8);
    const PublishBody one =
        parsed(publication(R"("data":{"a":"a text of more than fifteen bytes","b":[1,2,3]},"id":"x")"));
    assert_int_equal(
        allocations_of([&] { static_cast<void>(encode_event_body(*one.items[0], "session:1")); }), 1);
    const PublishBody escaped = parsed(publication(R"("data":{"\u0061 name of more than fifteen bytes":1})"));
    assert_true(every_allocation_fails(
                    [&] { static_cast<void>(encode_event_body(*escaped.items[0], "session:1")); }) > 1);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(a_publication_is_read),
        cmocka_unit_test(what_is_optional_may_be_absent),
        cmocka_unit_test(several_rooms_are_kept_in_order_and_folded),
        cmocka_unit_test(an_array_and_lines_are_batches),
        cmocka_unit_test(in_a_batch_each_publication_has_its_own_verdict),
        cmocka_unit_test(what_is_no_json_refuses_the_whole_body),
        cmocka_unit_test(depth_counts_from_the_publication_in_a_batch_too),
        cmocka_unit_test(a_wrong_field_is_named),
        cmocka_unit_test(limits_are_counted),
        cmocka_unit_test(an_idempotency_key_has_1_to_200_bytes),
        cmocka_unit_test(codes_have_names),
        cmocka_unit_test(an_event_is_as_in_the_contract),
        cmocka_unit_test(an_event_without_data_has_only_our_fields),
        cmocka_unit_test(R7_data_cannot_overwrite_our_fields_however_it_spells_them),
        cmocka_unit_test(nested_content_and_spelling_are_untouched),
        cmocka_unit_test(the_id_of_the_body_is_the_events),
        cmocka_unit_test(the_rooms_id_field_yields_to_that_of_data),
        cmocka_unit_test(space_around_data_is_dropped_and_inside_it_harmless),
        cmocka_unit_test(each_room_has_its_own_event),
        cmocka_unit_test(the_type_is_spliced_as_it_was_written),
        cmocka_unit_test(the_tail_never_exceeds_its_maximum),
        cmocka_unit_test(random_events_equal_those_of_a_tree),
        cmocka_unit_test(no_allocation_that_fails_leaks_and_an_event_takes_one),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

// A good request with one thing changed at a time; the ids are those of the wire's requirements.
#include "core/handshake.hpp"

#include <string>
#include <vector>

#include "unit/cmocka.hpp"

using namespace rooms;
using Fields = std::vector<HeaderField>;

namespace {

constexpr std::string_view kKey = "dGhlIHNhbXBsZSBub25jZQ==";

// Without the lines called `name`, and with `more` behind.
Fields with(std::string_view name, const Fields& more) {
    Fields fields = {{"Host", "example.com"},     {"Upgrade", "websocket"},        {"Connection", "Upgrade"},
                     {"Sec-WebSocket-Key", kKey}, {"Sec-WebSocket-Version", "13"}, {"X-Unknown", "ignored"}};
    std::erase_if(fields, [&](const HeaderField& field) { return field.name == name; });
    fields.insert(fields.end(), more.begin(), more.end());
    return fields;
}

HandshakeResult check(const Fields& fields, std::string_view method = "GET", int version = 1001) {
    HandshakeRequest request;
    request.method = method;
    request.http_version = version;
    request.headers = fields;
    return check_handshake(request);
}

void assert_refused(const HandshakeResult& result, int status) {
    assert_int_equal(result.status, status);
    assert_false(result.reason.empty());
    assert_int_equal(result.send_upgrade, status == 426);
    assert_int_equal(result.send_allow, status == 405);
}

void accepts(std::string_view name, const Fields& more) {
    assert_int_equal(check(with(name, more)).status, 101);
}
void refuses(std::string_view name, const Fields& more) { assert_refused(check(with(name, more)), 400); }

void the_example_of_the_rfc_is_accepted(void**) {
    const HandshakeResult result = check(with("", {}));
    assert_int_equal(result.status, 101);
    assert_true(result.accept_value() == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_false(result.send_version || result.send_upgrade || result.send_allow);
}

void only_get_will_do(void**) {
    for (const char* method : {"POST", "HEAD", "PUT", "get", "CONNECT", ""})
        assert_refused(check(with("", {}), method), 405);
}

void only_http_1_1_will_do(void**) {
    for (int version : {9, 1000, 1002, 2000, 0}) assert_refused(check(with("", {}), "GET", version), 400);
}

void host_is_there_once(void**) {
    refuses("Host", {});
    refuses("", {{"host", "example.com"}});
}

void upgrade_names_websocket_in_any_case_and_place(void**) {
    for (const char* value :
         {"WebSocket", "WEBSOCKET", "h2c, websocket", "websocket , h2c", ",websocket", "\twebsocket "})
        accepts("Upgrade", {{"UPGRADE", value}});
    accepts("Upgrade", {{"Upgrade", "h2c"}, {"Upgrade", "websocket"}});
    for (const char* value :
         {"", "websockets", "xwebsocket", "websocket2", "websocket/13", "web socket", ",,", "h2c"})
        refuses("Upgrade", {{"Upgrade", value}});
    refuses("Upgrade", {});
}

void connection_has_the_token_upgrade(void**) {
    for (const char* value :
         {"upgrade", "UPGRADE", "keep-alive, Upgrade", "Upgrade,keep-alive", " \tUpgrade\t ", "a,,upgrade,"})
        accepts("Connection", {{"connection", value}});
    accepts("Connection", {{"Connection", "keep-alive"}, {"Connection", "Upgrade"}});
    for (const char* value : {"", "upgraded", "no-upgrade", "keep-alive", "keep-alive Upgrade", "close"})
        refuses("Connection", {{"Connection", value}});
    refuses("Connection", {});
}

void the_key_is_sixteen_octets_in_base64_once(void**) {
    accepts("Sec-WebSocket-Key", {{"sec-websocket-key", " \tdGhlIHNhbXBsZSBub25jZQ== "}});
    for (const char* key :
         {"", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25j",
          "AAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAAA=", "AAAAAAAAAAAAAAAAAAAAAAAA",
          "dGhlIHNhbXBsZSBub25jZR==", "!GhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBs ZSBub25jZQ=="})
        refuses("Sec-WebSocket-Key", {{"Sec-WebSocket-Key", key}});
    refuses("Sec-WebSocket-Key", {});
    refuses("", {{"Sec-WebSocket-Key", kKey}});
}

void the_version_is_13_and_nothing_like_it(void**) {
    for (const char* version :
         {"0", "7", "8", "12", "14", "130", "256", "13, 8", "8, 13", "013", "+13", "13abc", ""}) {
        const HandshakeResult result =
            check(with("Sec-WebSocket-Version", {{"Sec-WebSocket-Version", version}}));
        assert_refused(result, 426);
        assert_true(result.send_version);
    }
    const HandshakeResult missing = check(with("Sec-WebSocket-Version", {}));
    assert_refused(missing, 400);
    assert_true(missing.send_version);
    refuses("", {{"Sec-WebSocket-Version", "13"}});
}

void a_body_is_refused(void**) {
    const Fields fields = with("", {});
    HandshakeRequest request{"GET", 1001, fields, true};
    assert_refused(check_handshake(request), 400);
}

void two_origins_are_refused_and_none_is_fine(void**) {
    accepts("", {{"Origin", "https://example.com"}});
    refuses("", {{"Origin", "https://example.com"}, {"Origin", "https://example.com"}});
}

void S2_oversized_lists_are_refused(void**) {
    const std::string token = "rooms.v1, rooms.bearer." + std::string(8192, 'j');
    const std::string half(9000, 'p'), extension(4097, 'e');
    accepts("", {{"Sec-WebSocket-Protocol", token}});
    refuses("", {{"Sec-WebSocket-Protocol", half}, {"Sec-WebSocket-Protocol", half}});
    refuses("", {{"Sec-WebSocket-Extensions", extension}});
}

void protocols_are_one_list_over_all_lines_in_order(void**) {
    const Fields fields = {
        {"sec-websocket-protocol", "a, b"}, {"Host", "x"}, {"Sec-WebSocket-Protocol", "c"}};
    ProtocolList list(fields);
    for (const char* name : {"a", "b", "c"}) assert_true(list.next() == name);
    assert_false(list.next().has_value());
    assert_false(list.next().has_value());
}

void elements_that_are_no_tokens_are_passed_over(void**) {
    const Fields fields = {{"Sec-WebSocket-Protocol", ",, a b, \"q\", x;y, /, rooms.v1 ,, rooms.v1,"},
                           {"Sec-WebSocket-Protocol", ""}};
    ProtocolList list(fields);
    assert_true(list.next() == "rooms.v1");
    assert_true(list.next() == "rooms.v1");
    assert_false(list.next().has_value());
}

void protocols_are_found_by_name_and_by_prefix(void**) {
    const Fields fields = {
        {"Sec-WebSocket-Protocol", "Rooms.v1, rooms.bearer.aa.bb.c-_, rooms.bearer.second"}};
    assert_false(offers_protocol(fields, "rooms.v1"));
    assert_true(offers_protocol(fields, "Rooms.v1"));
    assert_true(find_protocol(fields, "rooms.bearer.") == "rooms.bearer.aa.bb.c-_");
    assert_false(find_protocol(fields, "other.").has_value());
    assert_false(find_protocol({}, "rooms.bearer.").has_value());
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(the_example_of_the_rfc_is_accepted),
        cmocka_unit_test(only_get_will_do),
        cmocka_unit_test(only_http_1_1_will_do),
        cmocka_unit_test(host_is_there_once),
        cmocka_unit_test(upgrade_names_websocket_in_any_case_and_place),
        cmocka_unit_test(connection_has_the_token_upgrade),
        cmocka_unit_test(the_key_is_sixteen_octets_in_base64_once),
        cmocka_unit_test(the_version_is_13_and_nothing_like_it),
        cmocka_unit_test(a_body_is_refused),
        cmocka_unit_test(two_origins_are_refused_and_none_is_fine),
        cmocka_unit_test(S2_oversized_lists_are_refused),
        cmocka_unit_test(protocols_are_one_list_over_all_lines_in_order),
        cmocka_unit_test(elements_that_are_no_tokens_are_passed_over),
        cmocka_unit_test(protocols_are_found_by_name_and_by_prefix),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

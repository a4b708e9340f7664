// core/room: which texts are names of rooms, and what their parts are.
#include <string>
#include <string_view>

#include "cmocka.hpp"

#include "core/room.hpp"

using namespace std::literals;
using rooms::is_room;

namespace {

void S32_a_kind_is_a_lower_case_word_of_at_most_32(void**) {
    for (const auto good : {"a:1", "session:1", "a0_-z:1", "design-session:1"}) {
        assert_true(is_room(good));
    }
    for (const auto bad : {":1", "A:1", "0a:1", "_a:1", "-a:1", "aB:1", "a.b:1", "a b:1", " a:1",
                           "\xc3\xa4:1", "a$:1", "a*:1"}) {
        assert_false(is_room(bad));
    }
    assert_true(is_room(std::string(32, 'k') + ":1"));
    assert_false(is_room(std::string(33, 'k') + ":1"));
}

void S32_an_id_is_1_to_200_of_its_alphabet(void**) {
    assert_true(is_room("a:ABCxyz019_.:@~-"));
    assert_true(is_room("a::"));
    assert_true(is_room("a:" + std::string(200, 'x')));
    assert_false(is_room("a:" + std::string(201, 'x')));
    for (const std::string_view bad :
         {""sv, "a"sv, "a:"sv, "a: "sv, "a:x\n"sv, "a:x\r\nb"sv, "a:\0"sv, "a:x\0"sv, "a:*"sv, "a:/"sv,
          "a:{x}"sv, "a:\"x"sv, "a:\\"sv, "a:%41"sv, "a:\xc3\xa4"sv, "a:\x7f"sv}) {
        assert_false(is_room(bad));
    }
    std::size_t alphabet = 0;
    for (int c = 0; c < 256; ++c) {
        const char byte = static_cast<char>(c);
        assert_int_equal(rooms::is_room_byte(byte), is_room("a:"s + byte));
        alphabet += rooms::is_room_byte(byte);
    }
    assert_int_equal(alphabet, 26 + 26 + 10 + 6);
}

void the_first_colon_ends_the_kind(void**) {
    const auto name = rooms::parse_room("project:7:tickets");
    assert_true(name.has_value());
    assert_true(name->kind == "project");
    assert_true(name->id == "7:tickets");
    assert_false(rooms::parse_room("project").has_value());
}

void the_id_field_is_the_kind_and_Id(void**) {
    std::string out = "x";
    rooms::append_id_field(out, "design-session");
    assert_true(out == "xdesign-sessionId");
    assert_true(rooms::is_id_field("sessionId", "session"));
    for (const auto bad : {"session", "sessionID", "sessionid", "tenantId", "sessionIdx", "essionId", ""}) {
        assert_false(rooms::is_id_field(bad, "session"));
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(S32_a_kind_is_a_lower_case_word_of_at_most_32),
        cmocka_unit_test(S32_an_id_is_1_to_200_of_its_alphabet),
        cmocka_unit_test(the_first_colon_ends_the_kind),
        cmocka_unit_test(the_id_field_is_the_kind_and_Id),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

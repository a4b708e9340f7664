// Redis' protocol: replies however they are cut, replies of the wrong kind, and commands.
#include <array>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "store/redis_reply.hpp"

#include "cmocka.hpp"

using namespace rooms;
using namespace std::literals;

namespace {

std::string shape(Reply reply) {
    if (reply.is_array()) {
        std::string text = "[";
        for (std::size_t i = 0; i < reply.size(); ++i) text += (i ? "," : "") + shape(reply[i]);
        return text + "]";
    }
    if (reply.is_nil()) return "nil";
    if (reply.is_error()) return "!" + std::string(reply.text());
    if (reply.integer() && reply.text().empty()) return std::to_string(*reply.integer());
    return "\"" + std::string(reply.text()) + "\"";
}

// What comes out of all bytes fed in these parts; "broken" where it ends so.
std::vector<std::string> read(const std::vector<std::string_view>& parts) {
    ReplyReader reader;
    std::vector<std::string> replies;
    for (const std::string_view part : parts) {
        if (!reader.feed(part)) {
            replies.emplace_back("broken");
            return replies;
        }
        for (;;) {
            bool broken = false;
            const auto reply = reader.next(broken);
            if (broken) {
                assert_false(reply.has_value());
                replies.emplace_back("broken");
                return replies;
            }
            if (!reply) break;
            replies.push_back(shape(*reply));
        }
    }
    return replies;
}

constexpr std::string_view kReplies =
    "+OK\r\n"
    ":-42\r\n"
    "$5\r\na\r\n\0b\r\n"
    "$-1\r\n"
    "*-1\r\n"
    "-ERR no\r\n"
    "*0\r\n"
    "$0\r\n\r\n"
    "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\n42\r\n"
    "*2\r\n*2\r\n:1\r\n$-1\r\n*1\r\n-ERR in it\r\n"sv;

const std::vector<std::string> kShapes = {"\"OK\"",
                                          "-42",
                                          "\"a\r\n\0b\""s,
                                          "nil",
                                          "nil",
                                          "!ERR no",
                                          "[]",
                                          "\"\"",
                                          "[\"message\",\"c\",\"42\"]",
                                          "[[1,nil],[!ERR in it]]"};

void replies_split_at_every_byte_are_the_same(void**) {
    assert_true(read({kReplies}) == kShapes);
    for (std::size_t at = 0; at <= kReplies.size(); ++at) {
        assert_true(read({kReplies.substr(0, at), kReplies.substr(at)}) == kShapes);
    }
}

void replies_byte_by_byte_and_at_random_splits_are_the_same(void**) {
    std::vector<std::string_view> bytes;
    for (std::size_t i = 0; i < kReplies.size(); ++i) bytes.push_back(kReplies.substr(i, 1));
    assert_true(read(bytes) == kShapes);
    std::mt19937 random(11);
    for (int round = 0; round < 200; ++round) {
        std::vector<std::string_view> parts;
        for (std::size_t at = 0; at < kReplies.size();) {
            const std::size_t size = 1 + random() % 30;
            parts.push_back(kReplies.substr(at, size));
            at += size;
        }
        assert_true(read(parts) == kShapes);
    }
}

void what_is_no_resp_is_broken_and_stays_so(void**) {
    for (const std::string_view bytes : {"HTTP/1.1 400 Bad Request\r\n"sv, "\0"sv, "*2\r\nx"sv, ":12x\r\n"sv,
                                         "$abc\r\n"sv, "$-2\r\n"sv, "*-2\r\n"sv, "*99999999999999\r\n"sv}) {
        assert_true(read({bytes}) == std::vector<std::string>{"broken"});
    }
    ReplyReader reader;
    bool broken = false;
    (void)reader.feed("x");
    assert_false(reader.next(broken).has_value());
    assert_true(broken);
    assert_false(reader.feed("+OK\r\n"));
    assert_false(reader.next(broken).has_value());
    assert_true(broken);
}

void nesting_without_end_is_broken_not_a_crash(void**) {
    std::string deep;
    for (int i = 0; i < 10000; ++i) deep += "*1\r\n";
    assert_true(read({deep}) == std::vector<std::string>{"broken"});
}

void an_array_that_claims_to_be_huge_is_broken_at_once(void**) {
    assert_true(read({"*2147483647\r\n"}) == std::vector<std::string>{"broken"});
    assert_true(read({"*2\r\n*500000000\r\n"}) == std::vector<std::string>{"broken"});
    assert_true(read({"*1000000\r\n"}).empty());
}

void what_came_before_the_fault_is_read(void**) {
    assert_true(read({"+a\r\n:1\r\nno\r\n"}) == (std::vector<std::string>{"\"a\"", "1", "broken"}));
}

// Runs `look` on the reply that these bytes are.
template <typename Look>
void with_reply(std::string_view bytes, Look look) {
    ReplyReader reader;
    bool broken = false;
    assert_true(reader.feed(bytes));
    const auto reply = reader.next(broken);
    assert_true(reply.has_value());
    look(*reply);
}

void accessors_of_the_wrong_kind_are_empty(void**) {
    const auto is_nothing = [](Reply reply) {
        assert_true(reply.text().empty());
        assert_false(reply.integer().has_value());
        assert_int_equal(reply.size(), 0);
        assert_true(reply[0].is_nil());
        assert_true(reply[7][3][1].text().empty());
        assert_false(reply.is_error());
        assert_false(reply.is_array());
    };
    is_nothing(Reply());
    assert_true(Reply().is_nil());
    with_reply("$-1\r\n", is_nothing);
    with_reply("*-1\r\n", is_nothing);
    with_reply(":5\r\n", [](Reply reply) {
        assert_true(reply.text().empty());
        assert_int_equal(reply.size(), 0);
        assert_true(reply[0].is_nil());
        assert_false(reply.is_nil());
        assert_int_equal(*reply.integer(), 5);
    });
    with_reply("*1\r\n+x\r\n", [](Reply reply) {
        assert_true(reply.text().empty());
        assert_false(reply.integer().has_value());
        assert_true(reply[1].is_nil());
        assert_true(reply[SIZE_MAX].is_nil());
        assert_true(reply[0].text() == "x");
        assert_true(reply[0][0].is_nil());
    });
    with_reply("+x\r\n", [](Reply reply) {
        assert_int_equal(reply.size(), 0);
        assert_false(reply.is_array());
        assert_false(reply.is_error());
    });
}

void a_decimal_string_is_an_integer_too(void**) {
    const auto number = [](std::string_view text) {
        std::optional<std::int64_t> result;
        with_reply("$" + std::to_string(text.size()) + "\r\n" + std::string(text) + "\r\n",
                   [&](Reply reply) { result = reply.integer(); });
        return result;
    };
    assert_int_equal(*number("42"), 42);
    assert_int_equal(*number("-42"), -42);
    assert_true(*number("9223372036854775807") == INT64_MAX);
    for (const std::string_view bad :
         {""sv, " 1"sv, "1 "sv, "1.0"sv, "0x1"sv, "+1"sv, "9223372036854775808"sv, "1\0"sv, "-"sv}) {
        assert_false(number(bad).has_value());
    }
}

void S63_commands_are_arrays_of_strings_with_any_octets(void**) {
    const std::array<std::string_view, 3> words = {"SET", "a\r\n\0b"sv, ""};
    assert_true(encode_command(words) == "*3\r\n$3\r\nSET\r\n$5\r\na\r\n\0b\r\n$0\r\n\r\n"s);
    const std::array<std::string_view, 2> with_null = {"PING", std::string_view()};
    assert_true(encode_command(with_null) == "*2\r\n$4\r\nPING\r\n$0\r\n\r\n");
    const std::string big(1 << 20, 'x');
    const std::array<std::string_view, 1> one = {big};
    assert_true(encode_command(one) == "*1\r\n$1048576\r\n" + big + "\r\n");
}

void a_command_comes_back_through_the_reader(void**) {
    std::mt19937 random(5);
    std::vector<std::string> words;
    for (int i = 0; i < 100; ++i) {
        std::string& word = words.emplace_back();
        for (unsigned n = random() % 40; n > 0; --n) word += static_cast<char>(random());
    }
    const std::vector<std::string_view> views(words.begin(), words.end());
    with_reply(encode_command(views), [&](Reply reply) {
        assert_int_equal(reply.size(), words.size());
        for (std::size_t i = 0; i < words.size(); ++i) assert_true(reply[i].text() == words[i]);
    });
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(replies_split_at_every_byte_are_the_same),
        cmocka_unit_test(replies_byte_by_byte_and_at_random_splits_are_the_same),
        cmocka_unit_test(what_is_no_resp_is_broken_and_stays_so),
        cmocka_unit_test(nesting_without_end_is_broken_not_a_crash),
        cmocka_unit_test(an_array_that_claims_to_be_huge_is_broken_at_once),
        cmocka_unit_test(what_came_before_the_fault_is_read),
        cmocka_unit_test(accessors_of_the_wrong_kind_are_empty),
        cmocka_unit_test(a_decimal_string_is_an_integer_too),
        cmocka_unit_test(S63_commands_are_arrays_of_strings_with_any_octets),
        cmocka_unit_test(a_command_comes_back_through_the_reader),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

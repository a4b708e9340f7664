// core/secret: the shared secrets of the HTTP endpoints.
#include <string>
#include <string_view>

#include "core/secret.hpp"

#include "cmocka.hpp"

using namespace std::literals;
using rooms::SecretFile;

namespace {

void assert_refused(std::string_view file, std::string_view message) {
    const auto secret = SecretFile::parse(file);
    assert_false(secret.ok());
    assert_string_equal(secret.error().message.c_str(), std::string(message).c_str());
}

void one_line_is_one_secret(void**) {
    for (const auto end : {"", "\n", "\r\n"}) {
        const auto file = SecretFile::parse("0123456789abcdeF"s + end);
        assert_true(file.ok());
        assert_int_equal(file->size(), 1);
        assert_true(file->matches("0123456789abcdeF"));
        for (const auto& wrong : {""s, "0123456789abcde"s, "0123456789abcdef"s, "0123456789abcdeF "s,
                                  "0123456789abcdeF\n"s, "x123456789abcdeF"s, std::string(100'000, 'a')}) {
            assert_false(file->matches(wrong));
        }
    }
}

void S59_two_lines_are_two_valid_secrets(void**) {
    for (const auto text :
         {"the old secret, 1\nthe new secret, 2", "the old secret, 1\r\nthe new secret, 2\r\n"}) {
        const auto file = SecretFile::parse(text);
        assert_true(file.ok());
        assert_int_equal(file->size(), 2);
        assert_true(file->matches("the old secret, 1"));
        assert_true(file->matches("the new secret, 2"));
        assert_false(file->matches("the new secret, 3"));
        assert_false(file->matches("the old secret, 1\nthe new secret, 2"));
    }
}

void the_bytes_of_a_secret_may_be_any_but_newlines(void**) {
    const auto odd = "\0\xff a tab\t and more"s;
    const auto file = SecretFile::parse(odd + "\n");
    assert_true(file.ok());
    assert_true(file->matches(odd));
    assert_false(file->matches(odd.substr(0, 1)));
}

void a_file_that_holds_no_secret_is_refused_with_its_fault(void**) {
    assert_refused("", "the secret file is empty");
    assert_refused("\n", "line 1 of the secret file has 0 bytes; at least 16 are needed");
    assert_refused("0123456789abcde\n", "line 1 of the secret file has 15 bytes; at least 16 are needed");
    assert_refused("0123456789abcdef\n\n", "line 2 of the secret file has 0 bytes; at least 16 are needed");
    assert_refused("0123456789abcdef\nshort",
                   "line 2 of the secret file has 5 bytes; at least 16 are needed");
    assert_refused("0123456789abcdef\n0123456789abcdeg\n0123456789abcdeh\n",
                   "the secret file has more than two lines; one secret, or two while one is replaced");
    assert_refused("swarm-internal-dev-key-2024\n",
                   "line 1 of the secret file is a well-known sample, not a secret");
    assert_refused("aaaaaaaaaaaaaaaa", "line 1 of the secret file is a well-known sample, not a secret");
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(one_line_is_one_secret),
        cmocka_unit_test(S59_two_lines_are_two_valid_secrets),
        cmocka_unit_test(the_bytes_of_a_secret_may_be_any_but_newlines),
        cmocka_unit_test(a_file_that_holds_no_secret_is_refused_with_its_fault),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

// core/lookup_cache: what was allowed is known for a while, and not for longer.
#include <string>
#include <vector>

#include "cmocka.hpp"

#include "core/lookup_cache.hpp"

using namespace rooms;

namespace {

void S38_an_answer_is_kept_until_its_time(void**) {
    LookupCache cache(10);
    assert_false(cache.has("a", 0));
    cache.keep("a", 1000, 0);
    assert_true(cache.has("a", 999));
    assert_false(cache.has("a", 1000));
    cache.keep("a", 2000, 1500);
    assert_true(cache.has("a", 1999));
    assert_false(cache.has("b", 0));
}

void it_does_not_grow_beyond_its_size(void**) {
    LookupCache cache(10);
    for (int i = 0; i < 10; ++i) cache.keep(std::to_string(i), i < 5 ? 100 : 1000, 0);
    cache.keep("x", 1000, 100);  // five have expired
    assert_int_equal(cache.size(), 6);
    assert_true(cache.has("9", 100));
    for (int i = 0; i < 1000; ++i) {
        cache.keep("y" + std::to_string(i), 1000, 100);
        assert_in_range(cache.size(), 1, 10);
        assert_true(cache.has("y" + std::to_string(i), 100));
    }
    cache.keep("y999", 2000, 100);
    assert_true(cache.has("y999", 1500));
}

void S38_questions_that_differ_have_keys_that_differ(void**) {
    const auto key = [](std::uint32_t rule, std::vector<std::string> values) {
        return LookupCache::key_of(rule, values);
    };
    assert_string_equal(key(1, {"a", "b"}).c_str(), key(1, {"a", "b"}).c_str());
    assert_string_not_equal(key(1, {"a", "b"}).c_str(), key(2, {"a", "b"}).c_str());
    assert_string_not_equal(key(1, {"a b"}).c_str(), key(1, {"a", "b"}).c_str());
    assert_string_not_equal(key(1, {"a 1:b"}).c_str(), key(1, {"a", "b"}).c_str());
    assert_string_not_equal(key(1, {"", "a"}).c_str(), key(1, {"a", ""}).c_str());
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(S38_an_answer_is_kept_until_its_time),
        cmocka_unit_test(it_does_not_grow_beyond_its_size),
        cmocka_unit_test(S38_questions_that_differ_have_keys_that_differ),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

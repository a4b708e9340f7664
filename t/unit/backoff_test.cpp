// How long the next attempt waits: longer each time, up to a bound, never the same for all.
#include <cstdint>

#include "store/backoff.hpp"

#include "cmocka.hpp"

using rooms::Backoff;

namespace {

void each_wait_is_between_half_of_its_step_and_all_of_it(void**) {
    Backoff least(50, 500), most(50, 500);
    for (const std::uint64_t step : {50, 100, 200, 400, 500, 500, 500}) {
        assert_int_equal(least.next(0), step / 2);
        assert_int_equal(most.next(step / 2), step);
    }
    Backoff any(50, 500);
    for (std::uint64_t i = 0; i < 1000; ++i) {
        const std::uint64_t wait = any.next(i * 0x9e3779b97f4a7c15);
        assert_true(wait >= 25 && wait <= 500);
    }
    assert_true(any.next(UINT64_MAX) <= 500);
}

void success_begins_anew(void**) {
    Backoff backoff(100, 1000);
    for (int i = 0; i < 5; ++i) (void)backoff.next(0);
    assert_int_equal(backoff.next(0), 500);
    backoff.reset();
    assert_int_equal(backoff.next(0), 50);
    assert_int_equal(backoff.next(0), 100);
}

void a_first_step_of_one_is_no_trap(void**) {
    Backoff backoff(1, 1);
    assert_true(backoff.next(7) <= 1);
    assert_true(backoff.next(7) <= 1);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(each_wait_is_between_half_of_its_step_and_all_of_it),
        cmocka_unit_test(success_begins_anew),
        cmocka_unit_test(a_first_step_of_one_is_no_trap),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

// core/rate: how many messages pass, and when again.
#include <cstdint>
#include <deque>
#include <random>

#include "cmocka.hpp"

#include "core/rate.hpp"

using rooms::RateLimit;
using rooms::RateMeter;

namespace {

int allowed(RateMeter& meter, const RateLimit& limit, std::uint64_t now, int tries) {
    int count = 0;
    for (int i = 0; i < tries; ++i) count += meter.allow(limit, now);
    return count;
}

void S46_a_burst_of_the_limit_passes_and_the_next_does_not(void**) {
    const RateLimit limit{60, 10000};
    for (const std::uint64_t start : {0ull, 1ull, 12345ull, ~0ull - 50000}) {
        RateMeter meter;
        assert_int_equal(allowed(meter, limit, start, 100), 60);
        assert_int_equal(allowed(meter, limit, start + 9999, 100), 0);
    }
}

void what_was_used_comes_back_with_time(void**) {
    const RateLimit limit{60, 10000};
    RateMeter meter;
    assert_int_equal(allowed(meter, limit, 1000, 100), 60);
    assert_int_equal(allowed(meter, limit, 11000, 100), 0);
    assert_int_equal(allowed(meter, limit, 16000, 100), 30);
    assert_int_equal(allowed(meter, limit, 20999, 100), 29);
    // Two windows of silence forget all.
    assert_int_equal(allowed(meter, limit, 50000, 100), 60);
}

void silence_of_exactly_two_windows_forgets_all(void**) {
    const RateLimit limit{2, 100};
    RateMeter meter;
    assert_int_equal(allowed(meter, limit, 10, 5), 2);
    assert_int_equal(allowed(meter, limit, 210, 5), 2);
}

void a_steady_sender_below_the_limit_is_never_refused(void**) {
    const RateLimit limit{60, 10000};
    RateMeter meter;
    for (std::uint64_t now = 5; now < 1000000; now += 200) assert_true(meter.allow(limit, now));
}

void no_window_sees_twice_the_limit(void**) {
    const RateLimit limit{10, 1000};
    RateMeter meter;
    std::deque<std::uint64_t> recent;
    std::mt19937 random(7);
    std::uint64_t now = 0;
    for (int i = 0; i < 200000; ++i) {
        now += random() % 8 == 0 ? random() % 900 : random() % 3;
        if (!meter.allow(limit, now)) continue;
        recent.push_back(now);
        while (recent.front() + limit.window_ms <= now) recent.pop_front();
        assert_true(recent.size() < 20);
    }
}

void a_clock_that_steps_back_gives_nothing(void**) {
    const RateLimit limit{3, 1000};
    RateMeter meter;
    assert_int_equal(allowed(meter, limit, 5000, 9), 3);
    assert_int_equal(allowed(meter, limit, 10, 9), 0);
}

void a_limit_of_nothing_is_no_limit(void**) {
    RateMeter meter;
    assert_int_equal(allowed(meter, RateLimit{0, 1000}, 1, 1000), 1000);
    assert_int_equal(allowed(meter, RateLimit{1, 0}, 1, 1000), 1000);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(S46_a_burst_of_the_limit_passes_and_the_next_does_not),
        cmocka_unit_test(what_was_used_comes_back_with_time),
        cmocka_unit_test(silence_of_exactly_two_windows_forgets_all),
        cmocka_unit_test(a_steady_sender_below_the_limit_is_never_refused),
        cmocka_unit_test(no_window_sees_twice_the_limit),
        cmocka_unit_test(a_clock_that_steps_back_gives_nothing),
        cmocka_unit_test(a_limit_of_nothing_is_no_limit),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

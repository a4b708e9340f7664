// What is due when: heartbeat, stalled queues, tokens, leaving, closing.
#include <vector>

#include "core/lifetime.hpp"

#include "cmocka.hpp"

using rooms::Lifetime;
using rooms::Monotonic;
using Due = Lifetime::Due;

namespace {

constexpr Lifetime::Rules kRules{30000, 10000};

// Asks only when told to, as the wheel does, and lists what was due until `end`.
std::vector<std::pair<Monotonic, Due>> live(Lifetime& life, Monotonic end, Monotonic token_end = 0) {
    std::vector<std::pair<Monotonic, Due>> happened;
    while (true) {
        const Monotonic at = life.next(kRules, token_end);
        if (at > end) return happened;
        const Due due = life.due(at, kRules, token_end);
        assert_true(due != Due::nothing);  // whenever it is asked, there is something to do
        happened.emplace_back(at, due);
        if (due != Due::ping && due != Due::token_warning) return happened;
    }
}

using Story = std::vector<std::pair<Monotonic, Due>>;

void silence_is_asked_once_and_then_dead(void**) {
    Lifetime life(1000);
    assert_true(live(life, 100000) == (Story{{31000, Due::ping}, {41000, Due::dead}}));
}

void whoever_answers_lives(void**) {
    Lifetime life(1000);
    assert_true(live(life, 32000) == (Story{{31000, Due::ping}}));
    life.on_received(32000);
    assert_true(live(life, 61999).empty());
    assert_true(live(life, 62000) == (Story{{62000, Due::ping}}));
}

void a_queue_that_does_not_move_is_too_slow(void**) {
    Lifetime life(1000);
    life.on_stalled(5000);
    life.on_stalled(9000);  // it has been so since 5000
    assert_true(live(life, 100000) == (Story{{15000, Due::too_slow}}));
}

void a_queue_that_moves_is_not(void**) {
    Lifetime life(1000);
    life.on_stalled(5000);
    life.on_progress();
    life.on_stalled(9000);
    assert_true(live(life, 18999).empty());
    assert_true(live(life, 19000) == (Story{{19000, Due::too_slow}}));
}

void a_token_is_announced_a_minute_before_its_end(void**) {
    Lifetime life(0);
    life.on_token(600000, 0);
    for (Monotonic at = 0; at < 540000; at += 20000) {
        life.on_received(at);
        assert_true(life.due(at, kRules, 600000) == Due::nothing);
    }
    life.on_received(539999);
    assert_true(live(life, 540000, 600000) == (Story{{540000, Due::token_warning}}));
    life.on_received(599000);
    assert_true(live(life, 600000, 600000) == (Story{{600000, Due::token_end}}));
}

void a_short_token_is_announced_at_half_of_its_time(void**) {
    Lifetime life(1000);
    life.on_token(5000, 1000);
    assert_true(live(life, 100000, 5000) == (Story{{3000, Due::token_warning}, {5000, Due::token_end}}));
    life.on_token(0, 5000);
    assert_true(live(life, 20000).empty());
}

void a_token_that_has_ended_already_is_over_at_once(void**) {
    Lifetime life(1000);
    life.on_token(900, 1000);
    assert_true(life.due(1000, kRules, 900) == Due::token_end);
}

void who_does_not_leave_is_closed(void**) {
    Lifetime life(1000);
    life.leave_by(4000);
    assert_true(live(life, 100000) == (Story{{4000, Due::restart}}));
}

void once_closing_nothing_else_counts(void**) {
    Lifetime life(1000);
    life.on_token(2000, 1000);
    life.on_stalled(1000);
    life.leave_by(3000);
    life.close_by(60000);
    assert_true(life.due(59999, kRules, 2000) == Due::nothing);
    assert_true(live(life, 100000, 2000) == (Story{{60000, Due::over}}));
    life.close_by(70000);
    assert_true(life.next(kRules, 2000) == 70000);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(silence_is_asked_once_and_then_dead),
        cmocka_unit_test(whoever_answers_lives),
        cmocka_unit_test(a_queue_that_does_not_move_is_too_slow),
        cmocka_unit_test(a_queue_that_moves_is_not),
        cmocka_unit_test(a_token_is_announced_a_minute_before_its_end),
        cmocka_unit_test(a_short_token_is_announced_at_half_of_its_time),
        cmocka_unit_test(a_token_that_has_ended_already_is_over_at_once),
        cmocka_unit_test(who_does_not_leave_is_closed),
        cmocka_unit_test(once_closing_nothing_else_counts),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

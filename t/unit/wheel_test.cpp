// Deadlines on the wheel: never early, never forgotten, whatever the clock does between two looks.
#include <deque>
#include <map>
#include <random>

#include "core/wheel.hpp"

#include "cmocka.hpp"

using rooms::Monotonic;
using rooms::Wheel;
using rooms::WheelNode;

namespace {

void a_node_is_due_at_its_deadline_and_not_before(void**) {
    Wheel wheel;
    WheelNode node;
    wheel.place(node, 1000);
    int due = 0;
    const auto count = [&](WheelNode&) { ++due; };
    wheel.expire(999, count);
    assert_int_equal(due, 0);
    wheel.expire(1000, count);
    assert_int_equal(due, 1);
    wheel.expire(5000, count);
    assert_int_equal(due, 1);
    assert_false(node.linked());
}

void a_deadline_beyond_one_turn_waits_for_its_turn(void**) {
    Wheel wheel;
    WheelNode node;
    const Monotonic far = Wheel::kSlots * Wheel::kTick * 3 + 17;
    wheel.place(node, far);
    int due = 0;
    for (Monotonic now = 0; now < far; now += Wheel::kTick / 2) {
        wheel.expire(now, [&](WheelNode&) { ++due; });
    }
    assert_int_equal(due, 0);
    wheel.expire(far, [&](WheelNode&) { ++due; });
    assert_int_equal(due, 1);
}

void a_deadline_that_is_past_already_is_due_at_the_next_look(void**) {
    Wheel wheel;
    wheel.expire(100000, [](WheelNode&) {});
    WheelNode node;
    wheel.place(node, 5);
    int due = 0;
    wheel.expire(100000, [&](WheelNode&) { ++due; });
    assert_int_equal(due, 1);
}

void a_node_may_be_placed_again_while_it_is_due(void**) {
    Wheel wheel;
    WheelNode node;
    wheel.place(node, 10);
    int due = 0;
    const auto again = [&](WheelNode& it) {
        if (++due < 3) wheel.place(it, 10);
    };
    wheel.expire(64, again);
    wheel.expire(65, again);
    wheel.expire(66, again);
    assert_int_equal(due, 3);
}

void a_due_node_may_destroy_another_that_is_due(void**) {
    Wheel wheel;
    std::deque<WheelNode> nodes(3);
    for (WheelNode& node : nodes) wheel.place(node, 10);
    int due = 0;
    wheel.expire(20, [&](WheelNode&) {
        ++due;
        for (WheelNode& node : nodes) node.unlink();
    });
    assert_int_equal(due, 1);
}

void many_nodes_and_a_clock_of_odd_steps_agree_with_a_map(void**) {
    std::mt19937 random(3);
    Wheel wheel;
    std::deque<WheelNode> nodes(500);
    std::map<WheelNode*, Monotonic> expected;
    Monotonic now = 1000000;
    for (int round = 0; round < 2000; ++round) {
        WheelNode& node = nodes[random() % nodes.size()];
        const Monotonic deadline = now + random() % (Wheel::kSlots * Wheel::kTick * 2);
        wheel.place(node, deadline);
        expected[&node] = deadline;
        now += random() % 500;
        if (random() % 100 == 0) now += Wheel::kSlots * Wheel::kTick * 2;
        wheel.expire(now, [&](WheelNode& due) {
            assert_true(expected.count(&due) == 1 && expected[&due] <= now);
            expected.erase(&due);
        });
        for (const auto& [waiting, at] : expected) assert_true(at > now && waiting->linked());
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(a_node_is_due_at_its_deadline_and_not_before),
        cmocka_unit_test(a_deadline_beyond_one_turn_waits_for_its_turn),
        cmocka_unit_test(a_deadline_that_is_past_already_is_due_at_the_next_look),
        cmocka_unit_test(a_node_may_be_placed_again_while_it_is_due),
        cmocka_unit_test(a_due_node_may_destroy_another_that_is_due),
        cmocka_unit_test(many_nodes_and_a_clock_of_odd_steps_agree_with_a_map),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

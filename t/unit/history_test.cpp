// core/history: which limits a room has.
#include <string>

#include "cmocka.hpp"
#include "every_allocation.hpp"

#include "core/history.hpp"

using rooms::HistoryLimits;
using rooms::HistoryRules;

namespace {

void a_room_without_a_line_has_the_default(void**) {
    const HistoryRules rules;
    assert_true((rules.limits_for("session:1") == HistoryLimits{128, 300000}));
    assert_int_equal(rules.max_size(), 128);
}

void the_first_line_that_matches_decides(void**) {
    HistoryRules rules;
    assert_false(rules.add({"session:vip", 1000, 1}).has_value());
    assert_false(rules.add({"session:*", 256, 600000}).has_value());
    assert_false(rules.add({"tenant:*", 0, 5}).has_value());
    assert_false(rules.add({"session:1", 1, 1}).has_value());
    assert_true((rules.limits_for("session:vip") == HistoryLimits{1000, 1}));
    assert_true((rules.limits_for("session:1") == HistoryLimits{256, 600000}));
    assert_true((rules.limits_for("sessions:1") == HistoryLimits{128, 300000}));
    assert_true((rules.limits_for("tenant:t") == HistoryLimits{0, 5}));
    assert_int_equal(rules.max_size(), 1000);
    assert_false(rules.add({"*", 2, 2}).has_value());
    assert_true((rules.limits_for("sessions:1") == HistoryLimits{2, 2}));
}

void a_pattern_that_matches_no_room_is_refused(void**) {
    HistoryRules rules;
    for (const auto bad : {"", "session", "session:", "Session:*", "a:*b", "**", "a:b c", "$x:*"}) {
        const auto error = rules.add({bad, 1, 1});
        assert_true(error.has_value());
        assert_true(error->message.find('"' + std::string(bad) + '"') == 0);
    }
    assert_true((rules.limits_for("a:b") == HistoryLimits{}));
}

void no_allocation_that_fails_leaks(void**) {
    assert_true(every_allocation_fails([] {
                    HistoryRules rules;
                    static_cast<void>(rules.add({"session:a_name_of_more_than_15:*", 1, 1}));
                }) > 1);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(a_room_without_a_line_has_the_default),
        cmocka_unit_test(the_first_line_that_matches_decides),
        cmocka_unit_test(a_pattern_that_matches_no_room_is_refused),
        cmocka_unit_test(no_allocation_that_fails_leaks),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

// What a worker says of itself: when it heard last, and since when it is refused. In a cluster that is of all
// nodes that have slots, whatever they answer.
#include <optional>
#include <string>

#include "broker_fixture.hpp"
#include "store/redis_slots.hpp"

#include "cmocka.hpp"

using namespace redis_test;

namespace {

// The room's slot is the first node's; the second has one slot.
struct Fixture : BrokerFixture {
    Fixture() : BrokerFixture(1 << 20, "cluster://10.0.0.1") {
        redis.answer = [this](FakeLine&, const Words& words) { return answer(words, refusal); };
        second.answer = [this](FakeLine&, const Words& words) { return answer(words, second_refusal); };
        broker->start();
        run(500);
        redis.seen.clear();
        second.seen.clear();
    }
    std::optional<std::string> answer(const Words& words, const std::string& refuses) {
        if (words[0] == "CLUSTER") {
            const auto range = [](int from, int to, int port) {
                return list({number(from), number(to), list({bulk("10.0.0.1"), number(port), bulk("id")})});
            };
            return list({range(0, 16382, 6379), range(16383, 16383, 6380)});
        }
        if (joined(words) == "INFO server") return bulk("redis_version:7.0.15\r\n");
        if (words[0] == "SET" && no_writes) return "-OOM command not allowed\r\n";
        if (words[0] == "EVALSHA" && !refuses.empty()) return refuses;
        return script(words);
    }
    void run(std::uint64_t ms) {
        for (; ms > 0; ms -= 10) {
            redis.serve();
            second.serve();
            reactor.advance(10);
        }
    }
    void assert_hears() { assert_in_range(reactor.now_ms() - heard, 0, 2500); }

    FakeRedis second{reactor, 6380};
    bool no_writes = false;
    std::string refusal;  // of scripts
    std::string second_refusal;
    const std::string ask = "-ASK " + std::to_string(redis_slot("{session:42}")) + " 10.0.0.1:6380\r\n";
};

void a_node_that_answers_only_ask_is_heard_and_refuses_nothing(void**) {
    Fixture f;
    f.refusal = f.ask;
    f.subscribe();
    f.run(100);
    f.told("joined at 0");
    f.publish();
    f.run(20000);
    f.told("ok 1");
    f.assert_hears();
    assert_int_equal(f.refused, 0);
    assert_false(f.second.take("ASKING").empty());
    assert_true(f.reactor.logs.empty());
}

// Redis sends no one elsewhere for a channel while its slot moves: what is published is heard where it was.
void a_node_that_answers_only_ask_and_does_not_deliver_is_deaf(void**) {
    Fixture f;
    f.refusal = f.ask;
    f.redis.delivers = false;
    f.run(10000);
    assert_true(f.reactor.now_ms() - f.heard > RedisNode::kDeafMs);
    assert_true(f.reactor.logged("subscriptions lost: deaf"));
}

void a_node_that_slots_only_move_to_makes_nobody_deaf(void**) {
    Fixture f;
    FakeRedis third(f.reactor, 6381);
    third.delivers = false;
    third.answer = [&](FakeLine&, const Words& words) { return f.script(words); };
    f.refusal = f.ask;
    f.refusal.replace(f.refusal.find("6380"), 4, "6381");
    f.publish();
    for (int i = 0; i < 600; ++i) {
        third.serve();
        f.run(10);
        if (i % 100 == 50) f.publish();
    }
    assert_int_equal(f.stored, 7);
    f.assert_hears();
    assert_int_equal(f.refused, 0);
}

void a_refusal_ends_where_only_ask_is_answered_after_it(void**) {
    Fixture f;
    f.refusal = "-OOM command not allowed\r\n";
    f.publish();
    f.run(1000);
    assert_true(f.refused != 0);
    f.refusal = f.ask;
    f.run(5000);
    assert_int_equal(f.refused, 0);
    assert_true(f.reactor.logged("works again, after: OOM"));
}

// Else a host that is not asked for anything while it is ill would be ill for ever.
void a_refusal_ends_though_nobody_asks_for_anything(void**) {
    Fixture f;
    f.refusal = "-OOM command not allowed\r\n";
    f.publish();
    f.run(10000);
    assert_true(f.refused != 0);
    // Scripts that only read run where memory is short.
    f.refusal.clear();
    f.no_writes = true;
    f.run(10000);
    assert_true(f.refused != 0);
    f.no_writes = false;
    f.run(5000);
    assert_int_equal(f.refused, 0);
    f.redis.seen.clear();
    f.run(1000);
    assert_true(f.redis.take("EVALSHA").empty());
}

void of_two_nodes_that_refuse_the_first_counts(void**) {
    for (const bool first : {true, false}) {
        Fixture f;
        (first ? f.refusal : f.second_refusal) = "-OOM command not allowed\r\n";
        const std::string there = "no room: ";
        std::string name;  // in the second node's slot
        for (int i = 0; redis_slot(name) != 16383; ++i) name = there + std::to_string(i);
        const auto publish = [&] {
            f.publish();
            f.publish({}, name);
            f.run(500);
        };
        publish();
        const std::uint64_t since = f.refused;
        (first ? f.second_refusal : f.refusal) = "-OOM command not allowed\r\n";
        f.run(2000);
        publish();
        assert_true(since != 0);
        assert_int_equal(f.refused, since);
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(a_node_that_answers_only_ask_is_heard_and_refuses_nothing),
        cmocka_unit_test(a_node_that_answers_only_ask_and_does_not_deliver_is_deaf),
        cmocka_unit_test(a_node_that_slots_only_move_to_makes_nobody_deaf),
        cmocka_unit_test(a_refusal_ends_where_only_ask_is_answered_after_it),
        cmocka_unit_test(a_refusal_ends_though_nobody_asks_for_anything),
        cmocka_unit_test(of_two_nodes_that_refuse_the_first_counts),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

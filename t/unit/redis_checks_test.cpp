// What a broker does about what it was not told: checks every few seconds and after each reconnect, rooms
// without members when another server takes over, strangers, presence, and a process short of memory.
#include "broker_fixture.hpp"

#include "cmocka.hpp"

using namespace redis_test;
using Fixture = BrokerFixture;

namespace {

void a_room_is_checked_every_four_seconds(void**) {
    Fixture f;
    f.start();
    f.join();
    f.event();
    f.run(40000);
    const auto checks = f.redis.take("EVALSHA check");
    assert_in_range(checks.size(), 9, 10);
    assert_string_equal(checks.back().c_str(),
                        ("EVALSHA check 2 rooms:{session:42}:meta rooms:{session:42}:at:1.1 "
                         "r1 e1 1 " +
                         f.life.check(1))
                            .c_str());
    f.given("1");
    assert_true(f.meter.counts.empty());
}

void an_event_that_nobody_heard_of_is_found_by_a_check(void**) {
    Fixture f;
    f.start();
    f.join();
    f.event(false);
    f.run(3500);
    f.given("");
    f.run(1500);
    f.given("1");
    assert_int_equal(f.meter[RedisCount::holes], 1);
    assert_int_equal(f.redis.take("EVALSHA sync").size(), 1);
}

void an_event_that_comes_just_after_the_check_needs_no_sync(void**) {
    Fixture f;
    f.start();
    f.join();
    f.run(3500);
    f.stored = 1;  // stored, its doorbell on the way
    while (f.redis.take("EVALSHA check").empty()) f.run(10);
    f.run(200);
    f.redis.publish(kEvents, f.life.message(1));
    f.run(1000);
    f.given("1");
    assert_true(f.redis.take("EVALSHA sync").empty());
    assert_true(f.meter.counts.empty());
}

void another_life_found_by_a_check_is_a_gap(void**) {
    Fixture f;
    f.start();
    f.join();
    f.event();
    f.given("1");
    f.life = Life{.epoch = "e2", .secret = "other"};
    f.stored = 3;
    f.run(5000);
    f.given("gap(e2:3 reset)");
    assert_int_equal(f.meter[RedisCount::resets], 1);
    f.event();
    f.given("4");
}

void members_that_redis_has_forgotten_are_told_again(void**) {
    Fixture f;
    f.start();
    f.join();
    f.knows_members = 0;
    f.run(4500);
    f.knows_members = 1;
    assert_string_equal(f.synced_members().c_str(), "=");
    f.run(10000);
    assert_string_equal(f.synced_members().c_str(), "");
}

void a_reconnect_checks_at_once_and_strictly(void**) {
    Fixture f;
    f.start();
    f.join();
    f.event();
    f.redis.commands().hang_up();
    f.event(false);
    f.run(300);
    f.given("1 2");
    // And so does a new connection for subscriptions.
    f.redis.subscriptions().hang_up();
    f.event(false);
    f.run(300);
    f.given("3");
    assert_true(f.redis.is_subscribed(kEvents));
    f.event();
    f.given("4");
}

void a_server_that_lost_what_was_acknowledged_is_shown_it(void**) {
    Fixture f;
    f.start();
    f.publish({}, "session:7");  // nobody of this process is in it
    f.redis.serve();
    f.told("ok 1");
    f.redis.seen.clear();
    f.redis.replication = "r2";
    f.stored = 0;
    f.redis.commands().hang_up();
    f.run(500);
    const auto syncs = f.redis.take("EVALSHA sync");
    assert_int_equal(syncs.size(), 1);
    const std::string wanted = " r2 2  e1 1 " + f.life.check(1) + " r1  0 ";
    assert_true(syncs[0].find("rooms:{session:7}:meta") != std::string::npos);
    assert_true(syncs[0].find(wanted) != std::string::npos);
    // It is asked once a server.
    f.redis.commands().hang_up();
    f.run(500);
    assert_true(f.redis.take("EVALSHA sync").empty());
}

void what_could_not_be_judged_is_asked_again(void**) {
    Fixture f;
    f.start();
    f.publish({}, "session:7");
    f.redis.serve();
    f.hold = true;
    f.redis.replication = "r2";
    f.redis.commands().hang_up();
    f.run(500);
    assert_true(f.redis.waiting().starts_with("EVALSHA sync"));
    while (f.redis.waiting().starts_with("EVALSHA sync")) f.redis.reply("-OOM no\r\n");
    f.redis.seen.clear();
    f.hold = false;
    f.run(300);
    const auto syncs = f.redis.take("EVALSHA sync");
    assert_int_equal(syncs.size(), 1);
    assert_true(syncs[0].find(" e1 1 " + f.life.check(1) + " r1 ") != std::string::npos);
    f.run(1000);
    assert_true(f.redis.take("EVALSHA sync").empty());
}

void after_a_reconnect_members_are_told_under_a_new_name(void**) {
    Fixture f;
    f.start();
    f.join();
    f.redis.commands().hang_up();
    f.run(500);
    std::size_t told = 0;
    for (const std::string& call : std::exchange(f.redis.seen, {})) {
        if (!call.starts_with("EVALSHA sync")) continue;
        ++told;
        assert_true(call.find(" rooms:{session:42}:at:1.2 ") != std::string::npos);
        assert_true(call.ends_with(" ="));
    }
    assert_int_equal(told, 1);
    // It lives under this name only.
    f.run(5000);
    const auto leases = f.redis.take("SET");
    assert_true(leases.size() >= 2);
    for (const std::string& lease : leases)
        assert_string_equal(lease.c_str(), "SET rooms:{1.2}:alive 1 PX 7000");
}

void a_room_released_while_redis_is_lost_is_forgotten_with_the_old_name(void**) {
    Fixture f;
    f.start();
    f.join();
    f.redis.accepts = false;
    f.redis.commands().hang_up();
    f.broker->unsubscribe(f.room, "ann");
    f.broker->release(f.room);
    f.redis.accepts = true;
    f.run(5000);
    for (const std::string& call : std::exchange(f.redis.seen, {})) {
        assert_false(call.starts_with("EVALSHA sync"));
        assert_true(call.find("{1.1}") == std::string::npos);
    }
}

void members_that_could_not_be_forgotten_are_forgotten_later(void**) {
    Fixture f;
    f.start();
    f.join();
    f.hold = true;
    f.broker->unsubscribe(f.room, "ann");
    f.broker->release(f.room);
    f.redis.serve();
    assert_true(f.redis.waiting().ends_with(" 0 ="));
    f.redis.reply("-OOM no\r\n");
    f.hold = false;
    f.redis.seen.clear();
    f.run(300);
    const auto syncs = f.redis.take("EVALSHA sync");
    assert_int_equal(syncs.size(), 1);
    assert_true(syncs[0].ends_with(" 0 ="));
    f.run(1000);
    assert_true(f.redis.take("EVALSHA sync").empty());
}

void a_sync_that_is_refused_is_made_once_a_second(void**) {
    Fixture f;
    f.start();
    f.join();
    f.redis.answer = [&](FakeLine&, const Words& words) -> std::optional<std::string> {
        if (words[0] == "EVALSHA" && words[1] == script_sha(Script::sync)) return "-OOM no\r\n";
        return f.script(words);
    };
    f.event(false);
    f.event();
    f.run(5000);
    assert_in_range(f.redis.take("EVALSHA sync").size(), 4, 6);
    assert_true(f.refused != 0);
    // Who joins does not wait for that second.
    f.subscribe("bob");
    f.redis.serve();
    f.told("refused: redis refuses: OOM");
    f.redis.answer = [&](FakeLine&, const Words& words) { return f.script(words); };
    f.run(5000);
    f.given("1 2");
    assert_int_equal(f.refused, 0);
}

void strangers_are_counted_and_logged_once_a_minute(void**) {
    Fixture f;
    f.start();
    f.join();
    for (int i = 0; i < 100; ++i) f.redis.publish(kEvents, "by hand");
    assert_int_equal(f.meter[RedisCount::foreign], 100);
    f.run(30000);
    f.redis.publish(kEvents, "by hand");
    assert_int_equal(f.reactor.logs.size(), 1);
    f.run(31000);
    f.redis.publish(kEvents, "by hand");
    assert_int_equal(f.reactor.logs.size(), 2);
    assert_true(
        f.reactor.logged("warn: redis: 101 message(s) on \"rooms:{session:42}:events\" did not come from"));
    f.given("");
}

void a_stranger_who_knows_the_epoch_costs_few_syncs(void**) {
    Fixture f;
    f.start();
    f.join();
    const Life forged{.epoch = "e1", .secret = "guessed"};
    for (int i = 0; i < 200; ++i) {
        f.redis.publish(kEvents, forged.message(1));
        f.run(10);
    }
    assert_in_range(f.redis.take("EVALSHA sync").size(), 1, 22);
    f.event();
    f.run(500);
    f.given("1");
}

void what_was_heard_last_is_told_and_stands_still_while_deaf(void**) {
    Fixture f;
    f.start();
    f.run(10000);
    assert_in_range(f.reactor.now_ms() - f.heard, 0, 2500);
    f.redis.delivers = false;
    const std::uint64_t before = f.heard;
    f.run(10000);
    assert_in_range(f.heard - before, 0, 2500);
    f.redis.delivers = true;
    f.run(3000);
    assert_in_range(f.reactor.now_ms() - f.heard, 0, 2500);
}

std::string presence_of(Fixture& f, const std::string& rosters,
                        const std::map<std::string, std::string>& leases) {
    const FakeRedis::Answer before = f.redis.answer;
    f.redis.answer = [&](FakeLine& line, const Words& words) -> std::optional<std::string> {
        if (words[0] == "EXISTS") return leases.contains(words[1]) ? leases.at(words[1]) : number(0);
        if (words[0] != "EVALSHA" || words[1] != script_sha(Script::presence)) return before(line, words);
        return rosters;
    };
    std::string text = "nothing";
    f.broker->presence("session:42", [&](const PresenceAnswer& answer) {
        text = answer.ok ? std::to_string(answer.connections) : "unavailable";
        for (const PresenceUser& user : answer.users)
            text += " " + user.id + ":" + std::to_string(user.connections);
    });
    f.redis.serve();
    f.redis.answer = before;
    return text;
}

void presence_counts_the_members_of_workers_that_live(void**) {
    Fixture f;
    f.start();
    const auto users = [](std::initializer_list<const char*> words) {
        std::vector<std::string> all;
        for (const char* word : words) all.push_back(bulk(word));
        return list(all);
    };
    const std::string rosters = list({bulk("1.1"), users({"ann", "2", "", "1"}), bulk("abc"),
                                      users({"ann", "1", "bob", "1"}), bulk("dead"), users({"eve", "5"})});
    // This worker lives, whatever its lease says.
    assert_string_equal(presence_of(f, rosters, {{"rooms:{abc}:alive", number(1)}}).c_str(), "5 ann:3 bob:1");
    const auto calls = f.redis.take("EVALSHA presence");
    assert_int_equal(calls.size(), 1);  // what a dead worker has left there expires
    assert_string_equal(presence_of(f, list({}), {}).c_str(), "0");
    const std::string odd =
        list({bulk("1.1"), users({"ann", "-2", "bob", "x", "cid", "1", "dan"}), bulk("no users")});
    assert_string_equal(presence_of(f, odd, {}).c_str(), "1 cid:1");
    assert_string_equal(presence_of(f, rosters, {{"rooms:{abc}:alive", "-ERR no\r\n"}}).c_str(),
                        "unavailable");
    assert_string_equal(presence_of(f, "-ERR no\r\n", {}).c_str(), "unavailable");
}

void a_worker_renews_its_lease(void**) {
    Fixture f;
    f.start();
    f.run(10000);
    const auto leases = f.redis.take("SET");
    assert_in_range(leases.size(), 4, 6);
    assert_string_equal(leases[0].c_str(), "SET rooms:{1.1}:alive 1 PX 7000");
}

void a_live_event_that_found_no_memory_is_given_after_all(void**) {
    Fixture f;
    f.start();
    f.join();
    f.sink.throws = 1;
    f.event();
    f.event();
    f.given("");
    f.run(2000);
    f.given("1 2");
    f.event();
    f.given("3");
    assert_true(f.meter[RedisCount::gaps] == 0 && f.meter[RedisCount::resets] == 0);
}

void a_sync_that_found_no_memory_is_made_again(void**) {
    for (int after = 0; after < 4; ++after) {
        Fixture f;
        f.start();
        f.join();
        for (int i = 0; i < 3; ++i) f.event(false);
        f.sink.throws = 1;
        f.sink.throws_after = after;
        f.event();  // a hole: the sync gives all
        f.subscribe("bob");
        f.run(3000);
        // Who waited is answered, and no event is lost or comes twice.
        assert_false(f.said.empty());
        f.event();
        f.run(6000);
        f.given("1 2 3 4 5");
        assert_int_equal(f.meter[RedisCount::gaps], 0);
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(a_room_is_checked_every_four_seconds),
        cmocka_unit_test(an_event_that_nobody_heard_of_is_found_by_a_check),
        cmocka_unit_test(an_event_that_comes_just_after_the_check_needs_no_sync),
        cmocka_unit_test(another_life_found_by_a_check_is_a_gap),
        cmocka_unit_test(members_that_redis_has_forgotten_are_told_again),
        cmocka_unit_test(a_reconnect_checks_at_once_and_strictly),
        cmocka_unit_test(a_server_that_lost_what_was_acknowledged_is_shown_it),
        cmocka_unit_test(what_could_not_be_judged_is_asked_again),
        cmocka_unit_test(after_a_reconnect_members_are_told_under_a_new_name),
        cmocka_unit_test(a_room_released_while_redis_is_lost_is_forgotten_with_the_old_name),
        cmocka_unit_test(members_that_could_not_be_forgotten_are_forgotten_later),
        cmocka_unit_test(a_sync_that_is_refused_is_made_once_a_second),
        cmocka_unit_test(strangers_are_counted_and_logged_once_a_minute),
        cmocka_unit_test(a_stranger_who_knows_the_epoch_costs_few_syncs),
        cmocka_unit_test(what_was_heard_last_is_told_and_stands_still_while_deaf),
        cmocka_unit_test(presence_counts_the_members_of_workers_that_live),
        cmocka_unit_test(a_worker_renews_its_lease),
        cmocka_unit_test(a_live_event_that_found_no_memory_is_given_after_all),
        cmocka_unit_test(a_sync_that_found_no_memory_is_made_again),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

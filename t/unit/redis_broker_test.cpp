// Rooms shared through Redis: publishing, joining, leaving, and what becomes of them while Redis is away.
#include "broker_fixture.hpp"

#include "cmocka.hpp"

using namespace redis_test;
using Fixture = BrokerFixture;

namespace {

void a_publication_is_one_script_with_all_its_keys(void**) {
    Fixture f;
    f.start();
    f.publish();
    f.redis.serve();
    f.publish("key-1");
    f.redis.serve();
    f.told("ok 1; ok 2");
    const auto calls = f.redis.take("EVALSHA publish");
    assert_int_equal(calls.size(), 2);
    assert_string_equal(
        calls[0].c_str(),
        "EVALSHA publish 2 rooms:{session:42}:meta rooms:{session:42}:stream {\"type\":\"x\" 128 "
        "300000 0 - r1 2 ");
    assert_true(
        calls[1].starts_with("EVALSHA publish 3 rooms:{session:42}:meta rooms:{session:42}:stream "
                             "rooms:{session:42}:id:key-1 "));
}

void the_publications_of_a_turn_are_one_script(void**) {
    Fixture f;
    f.start();
    f.publish();
    f.publish("k", "session:7");
    f.redis.serve();
    f.told("ok 1; ok 2");
    const auto calls = f.redis.take("EVALSHA publish");
    assert_int_equal(calls.size(), 1);
    assert_true(calls[0].starts_with(
        "EVALSHA publish_all 5 rooms:{session:42}:meta rooms:{session:42}:stream rooms:{session:7}:meta "
        "rooms:{session:7}:stream rooms:{session:7}:id:k {\"type\":\"x\" 128 300000 0 - {\"type\":\"x\" 128 "
        "300000 0 "));
    assert_true(calls[0].ends_with(" r1 2 "));
    // Redis does nothing else meanwhile: there is a limit.
    for (int i = 0; i < 70; ++i) f.publish();
    f.redis.serve();
    assert_int_equal(f.redis.take("EVALSHA publish_all").size(), 3);
    assert_int_equal(f.stored, 72);
}

void in_a_cluster_each_publication_is_a_script_of_its_own(void**) {
    Fixture f(1 << 20, "cluster://10.0.0.1");
    f.redis.answer = [&](FakeLine&, const Words& words) -> std::optional<std::string> {
        if (joined(words) == "INFO server") return bulk("redis_version:7.0.15\r\n");
        if (words[0] != "CLUSTER") return f.script(words);
        return list({list({number(0), number(16383), list({bulk("10.0.0.1"), number(6379), bulk("id")})})});
    };
    f.start();
    f.publish();
    f.publish("k", "session:7");
    f.redis.serve();
    f.told("ok 1; ok 2");
    assert_int_equal(f.redis.take("EVALSHA publish ").size(), 2);
}

// What a script says of one of several is judged like the answer to a call.
void one_of_several_that_is_refused_is_not_the_others_business(void**) {
    Fixture f;
    f.start();
    f.hold = true;
    for (const char* name : {"session:1", "session:2", "session:3"}) f.publish({}, name);
    f.redis.serve();
    f.redis.reply(list({f.published({}), std::string("-OOM no\r\n"), f.published({})}));
    f.told("ok 1; unavailable: redis refuses: OOM; ok 2");
    assert_true(f.refused != 0 || f.reactor.logged("refuses: OOM"));
    // None has an answer where the answer is none.
    for (const char* name : {"session:1", "session:2"}) f.publish({}, name);
    f.redis.serve();
    f.redis.reply(number(1));
    const char* nonsense = "unavailable: redis gave an answer that makes no sense";
    f.told((std::string(nonsense) + "; " + nonsense).c_str());
    for (const char* name : {"session:1", "session:2"}) f.publish({}, name);
    f.redis.serve();
    f.redis.reply(
        list({std::string("-READONLY it is a replica\r\n"), std::string("-READONLY it is a replica\r\n")}));
    f.told("unavailable: this redis is no master; unavailable: this redis is no master");
    f.redis.serve();
    assert_true(f.reactor.logged("READONLY"));
}

void each_answer_of_the_script_has_its_meaning(void**) {
    const auto answered = [](const std::string& resp) {
        Fixture f;
        f.start();
        f.hold = true;
        f.publish("k");
        f.redis.serve();
        f.redis.reply(resp);
        f.run(3000);
        return f.said;
    };
    const auto answer = [](const char* status, const char* epoch = "e1") {
        return list({bulk(status), bulk(epoch), number(7), number(3), bulk("check")});
    };
    assert_string_equal(answered(answer("ok")).c_str(), "ok 7");
    assert_string_equal(answered(answer("duplicate")).c_str(), "duplicate 7");
    assert_string_equal(answered(answer("conflict")).c_str(), "conflict 7");
    const char* nonsense = "unavailable: redis gave an answer that makes no sense";
    assert_string_equal(answered(answer("ok", "no hex")).c_str(), nonsense);
    for (const std::string& other : {number(1), kNil, list({}), std::string("+OK\r\n"), list({bulk("ok")})}) {
        assert_string_equal(answered(other).c_str(), nonsense);
    }
    assert_string_equal(answered("-OOM command not allowed\r\n").c_str(), "unavailable: redis refuses: OOM");
}

void an_unknown_status_is_no_success(void**) {
    Fixture f;
    f.start();
    f.hold = true;
    f.publish();
    f.redis.serve();
    f.redis.reply(list({bulk("fine"), bulk("e1"), number(7), number(0), bulk("c")}));
    assert_true(f.said.starts_with("unavailable"));
}

void a_publication_without_a_reply_is_answered_once_and_soon(void**) {
    Fixture f;
    f.start();
    f.redis.silent = true;
    f.publish();
    f.run(1000);
    f.told("unavailable: redis did not answer in time");
    f.run(5000);
    f.told("");
    // Known to be lost: at once.
    f.publish();
    f.told("unavailable: redis cannot be reached");
}

void a_batch_is_answered_when_its_last_is(void**) {
    Fixture f;
    f.start();
    f.hold = true;
    const std::array<PublishRequest, 2> batch = {
        PublishRequest{
            .room = "session:1", .body = "{\"type\":\"x\"", .key = {}, .fingerprint = {}, .history = {}},
        PublishRequest{
            .room = "session:2", .body = "{\"type\":\"x\"", .key = {}, .fingerprint = {}, .history = {}}};
    f.broker->publish(batch, [&](std::span<const PublishAnswer> answers) {
        for (const PublishAnswer& answer : answers) f.say(Fixture::text_of(answer));
    });
    f.redis.serve();
    f.told("");
    f.redis.reply(
        list({std::string("-OOM no\r\n"), list({bulk("ok"), bulk("e1"), number(4), number(0), bulk("c")})}));
    f.told("unavailable: redis refuses: OOM; ok 4");
}

void the_process_is_held_while_a_publication_is_owed_its_answer(void**) {
    Fixture f;
    f.start();
    assert_false(f.reactor.held);
    f.hold = true;
    f.publish();
    f.redis.serve();
    f.publish();
    f.redis.serve();
    assert_true(f.reactor.held);
    f.redis.reply("-OOM no\r\n");
    assert_true(f.reactor.held);
    f.redis.reply(f.published({}));
    assert_false(f.reactor.held);
    f.told("unavailable: redis refuses: OOM; ok 1");
    // Without a reply no longer than it is waited for.
    f.redis.silent = true;
    f.publish();
    assert_true(f.reactor.held);
    f.run(1000);
    f.told("unavailable: redis did not answer in time");
    assert_false(f.reactor.held);
    // Nobody to be asked: answered and let go in the same breath.
    f.publish();
    f.told("unavailable: redis cannot be reached");
    assert_false(f.reactor.held);
}

void a_duplicate_is_a_witness_too(void**) {
    Fixture f;
    f.start();
    f.hold = true;
    f.publish("k", "session:7");
    f.redis.serve();
    f.redis.reply(list({bulk("duplicate"), bulk("e1"), number(7), number(0), bulk("check7")}));
    f.told("duplicate 7");
    f.hold = false;
    f.redis.seen.clear();
    f.redis.replication = "r2";
    f.redis.commands().hang_up();
    f.run(500);
    bool shown = false;
    for (const std::string& call : f.redis.take("EVALSHA sync")) {
        shown = shown || call.find("{session:7}:at:1.") != std::string::npos;
        shown = shown && call.find(" e1 7 check7 r1 ") != std::string::npos;
    }
    assert_true(shown);
}

void a_subscribe_listens_then_syncs_then_is_answered(void**) {
    Fixture f;
    f.start();
    f.stored = 5;
    f.hold = true;
    f.subscribe();
    assert_int_equal(f.members(), 1);
    f.redis.serve();
    assert_true(f.redis.is_subscribed(kEvents));
    assert_string_equal(
        f.redis.waiting().c_str(),
        "EVALSHA sync 4 rooms:{session:42}:meta rooms:{session:42}:stream rooms:{session:42}:at "
        "rooms:{session:42}:at:1.1 r1 2   0    10000 + ann 1");
    f.told("");
    // What comes meanwhile is not lost.
    f.redis.publish(kEvents, f.life.message(6));
    f.redis.reply(f.life.sync(5));
    f.told("joined at 6");
    f.given("6");
    f.event();
    f.told("");
}

void live_events_reach_the_room(void**) {
    Fixture f;
    f.start();
    f.join();
    for (int i = 0; i < 3; ++i) f.event();
    f.given("1 2 3");
    f.redis.publish("rooms:{session:43}:events", f.life.message(9));
    f.given("");
}

void a_hole_is_filled_at_the_end_of_the_turn(void**) {
    Fixture f;
    f.start();
    f.join();
    f.event(false);
    f.event(false);
    f.event();
    f.given("");
    f.redis.serve();
    f.given("1 2 3");
    assert_int_equal(f.meter[RedisCount::holes], 1);
}

void who_comes_back_gets_what_was_missed(void**) {
    Fixture f;
    f.start();
    f.stored = 5;
    f.subscribe("ann", Position{0xe1, 2});
    f.redis.serve();
    f.told("joined at 5 recovered [3 4 5]");
    f.subscribe("ann", Position{0xe1, 5});
    f.redis.serve();
    f.told("joined at 5 recovered []");
    f.subscribe("ann", Position{0xe2, 2});
    f.subscribe("ann", Position{0xe1, 9});
    f.redis.serve();
    f.told("joined at 5; joined at 5");
    f.given("");
}

void joins_during_a_sync_wait_for_the_next(void**) {
    Fixture f;
    f.start();
    f.hold = true;
    f.subscribe("ann");
    f.redis.serve();
    f.subscribe("bob");
    f.subscribe("ann");
    f.redis.serve();
    f.redis.reply(f.life.sync(0));
    f.told("joined at 0");
    assert_true(f.redis.waiting().ends_with(" 10000 + ann 1 bob 1"));
    f.redis.reply(f.life.sync(0, 1));
    f.told("joined at 0; joined at 0");
    assert_int_equal(f.members(), 3);
}

void a_subscribe_while_redis_is_lost_is_refused_and_its_seat_given_back(void**) {
    Fixture f;
    f.start();
    f.redis.accepts = false;
    f.redis.commands().hang_up();
    f.subscribe();
    f.told("refused: redis cannot be reached");
    assert_int_equal(f.members(), 0);
    f.run(5000);
    f.told("");
}

void a_subscribe_under_way_when_redis_is_lost_is_refused(void**) {
    for (int step = 0; step < 2; ++step) {
        Fixture f;
        f.start();
        f.hold = true;
        f.subscribe();
        if (step == 1) f.redis.serve();  // the sync is under way
        f.redis.accepts = false;
        f.redis.commands().hang_up();
        f.run(10);
        assert_true(f.said.starts_with("refused: redis"));
        f.said.clear();
        assert_int_equal(f.members(), 0);
        f.run(5000);
        f.told("");
    }
}

void a_subscribe_before_the_first_login_waits_for_it_but_not_for_ever(void**) {
    Fixture f;
    f.broker->start();
    f.subscribe();
    f.told("");
    f.redis.serve();
    f.told("joined at 0");
    Fixture slow;
    slow.redis.silent = true;
    slow.broker->start();
    slow.subscribe();
    slow.run(1500);
    assert_true(slow.said.starts_with("refused: redis"));
    assert_int_equal(slow.members(), 0);
}

void a_subscribe_is_answered_in_time_when_only_the_subscriptions_are_down(void**) {
    Fixture f;
    f.redis.answer = [&](FakeLine&, const Words& words) -> std::optional<std::string> {
        if (words[0] == "SUBSCRIBE") return "-NOPERM no\r\n";
        return f.script(words);
    };
    f.start();
    f.subscribe();
    f.run(1300);
    f.told("refused: redis did not answer in time");
    assert_int_equal(f.members(), 0);
}

void a_refused_channel_refuses_the_subscribe(void**) {
    Fixture f;
    f.start();
    f.redis.answer = [&](FakeLine&, const Words& words) -> std::optional<std::string> {
        if (words[0] == "SUBSCRIBE") return "-NOPERM no\r\n";
        return f.script(words);
    };
    f.subscribe();
    f.redis.serve();
    f.told("refused: redis refuses the subscription");
    assert_true(f.reactor.logged("refuses: NOPERM no"));
    assert_int_equal(f.members(), 0);
}

void an_answer_of_sync_that_makes_no_sense_refuses_the_subscribe(void**) {
    Fixture f;
    f.start();
    f.hold = true;
    f.subscribe();
    f.redis.serve();
    f.redis.reply("+OK\r\n");
    f.told("refused: redis gave an answer that makes no sense");
    assert_int_equal(f.members(), 0);
    f.hold = false;
    f.run(500);
    f.subscribe();
    f.redis.serve();
    f.told("joined at 0");
}

void leaving_is_told_at_the_end_of_the_turn(void**) {
    Fixture f;
    f.start();
    f.join();
    f.subscribe("bob");
    f.subscribe("ann");
    f.redis.serve();
    f.redis.seen.clear();
    f.broker->unsubscribe(f.room, "ann");
    f.broker->unsubscribe(f.room, "bob");
    f.broker->unsubscribe(f.room, "ann");
    f.redis.serve();
    assert_string_equal(f.synced_members().c_str(), "+ ann -2 bob -1");
    assert_int_equal(f.members(), 0);
}

void who_leaves_and_comes_in_one_turn_changes_nothing(void**) {
    Fixture f;
    f.start();
    f.join();
    f.broker->unsubscribe(f.room, "ann");
    f.subscribe("ann");
    f.redis.serve();
    assert_string_equal(f.synced_members().c_str(), "");
    f.told("joined at 0");
    assert_int_equal(f.members(), 1);
}

void after_a_sync_of_which_nobody_knows_members_are_sent_in_full(void**) {
    Fixture f;
    f.start();
    f.join();
    f.hold = true;
    f.subscribe("bob");
    f.redis.serve();
    f.redis.commands().hang_up();
    f.hold = false;
    f.told("refused: redis did not answer in time");
    f.redis.seen.clear();
    f.run(2000);
    // Members are the hub's: it has none here.
    const std::string sent = f.synced_members();
    assert_true(sent == "=" || sent.starts_with("= |"));
    f.subscribe("cid");
    f.redis.serve();
    assert_string_equal(f.synced_members().c_str(), "+ cid 1");
}

void a_released_room_is_not_heard_any_more_and_forgotten_by_redis(void**) {
    Fixture f;
    f.start();
    f.join();
    f.event();
    f.given("1");
    f.broker->unsubscribe(f.room, "ann");
    f.broker->release(f.room);
    f.redis.serve();
    assert_false(f.redis.is_subscribed(kEvents));
    const auto syncs = f.redis.take("EVALSHA sync");
    assert_int_equal(syncs.size(), 1);
    assert_true(syncs[0].ends_with(" 0 ="));
    f.event();
    f.run(10000);
    f.given("");
}

void a_room_that_is_released_and_joined_again_goes_on(void**) {
    Fixture f;
    f.start();
    f.join();
    f.event();
    f.given("1");
    f.broker->unsubscribe(f.room, "ann");
    f.broker->release(f.room);
    f.event(false);
    f.subscribe("ann", Position{0xe1, 1});
    f.redis.serve();
    f.told("joined at 2 recovered [2]");
    assert_true(f.redis.is_subscribed(kEvents));
    // What was seen before is shown to the server, in case it has lost it.
    bool shown = false;
    for (const std::string& call : f.redis.take("EVALSHA sync")) {
        shown = shown || call.find(" e1 1 " + f.life.check(1) + " r1 ") != std::string::npos;
    }
    assert_true(shown);
    f.event();
    f.given("3");
}

void a_room_released_during_its_sync_is_left_alone(void**) {
    Fixture f;
    f.start();
    f.join();
    f.hold = true;
    f.broker->unsubscribe(f.room, "ann");
    f.redis.serve();
    f.broker->release(f.room);
    f.hold = false;
    f.redis.serve();
    f.run(10000);
    f.given("");
    f.told("");
    f.join();
    f.event();
    f.given("1");
}

void a_zone_without_room_refuses_the_subscribe(void**) {
    Fixture f;
    f.start();
    std::vector<std::unique_ptr<Room>> rooms;
    std::string why;
    bool full = false;
    for (int i = 0; i < 100000 && why.empty(); ++i) {
        rooms.push_back(std::make_unique<Room>("session:" + std::to_string(i)));
        f.broker->subscribe(*rooms.back(), "u" + std::to_string(i), {}, [&](const SubscribeAnswer& answer) {
            why = answer.reason;
            full = answer.full;
        });
    }
    assert_string_equal(why.c_str(), "the zone is full: raise the size in rooms_zone");
    assert_true(full);
    assert_true(f.reactor.logged("error: no place for another member"));
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(a_publication_is_one_script_with_all_its_keys),
        cmocka_unit_test(the_publications_of_a_turn_are_one_script),
        cmocka_unit_test(in_a_cluster_each_publication_is_a_script_of_its_own),
        cmocka_unit_test(one_of_several_that_is_refused_is_not_the_others_business),
        cmocka_unit_test(each_answer_of_the_script_has_its_meaning),
        cmocka_unit_test(an_unknown_status_is_no_success),
        cmocka_unit_test(a_publication_without_a_reply_is_answered_once_and_soon),
        cmocka_unit_test(a_batch_is_answered_when_its_last_is),
        cmocka_unit_test(the_process_is_held_while_a_publication_is_owed_its_answer),
        cmocka_unit_test(a_duplicate_is_a_witness_too),
        cmocka_unit_test(a_subscribe_listens_then_syncs_then_is_answered),
        cmocka_unit_test(live_events_reach_the_room),
        cmocka_unit_test(a_hole_is_filled_at_the_end_of_the_turn),
        cmocka_unit_test(who_comes_back_gets_what_was_missed),
        cmocka_unit_test(joins_during_a_sync_wait_for_the_next),
        cmocka_unit_test(a_subscribe_while_redis_is_lost_is_refused_and_its_seat_given_back),
        cmocka_unit_test(a_subscribe_under_way_when_redis_is_lost_is_refused),
        cmocka_unit_test(a_subscribe_before_the_first_login_waits_for_it_but_not_for_ever),
        cmocka_unit_test(a_subscribe_is_answered_in_time_when_only_the_subscriptions_are_down),
        cmocka_unit_test(a_refused_channel_refuses_the_subscribe),
        cmocka_unit_test(an_answer_of_sync_that_makes_no_sense_refuses_the_subscribe),
        cmocka_unit_test(leaving_is_told_at_the_end_of_the_turn),
        cmocka_unit_test(who_leaves_and_comes_in_one_turn_changes_nothing),
        cmocka_unit_test(after_a_sync_of_which_nobody_knows_members_are_sent_in_full),
        cmocka_unit_test(a_released_room_is_not_heard_any_more_and_forgotten_by_redis),
        cmocka_unit_test(a_room_that_is_released_and_joined_again_goes_on),
        cmocka_unit_test(a_room_released_during_its_sync_is_left_alone),
        cmocka_unit_test(a_zone_without_room_refuses_the_subscribe),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

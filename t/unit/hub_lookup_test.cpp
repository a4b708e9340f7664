// The hub where rules ask somebody else: whoever is asked may answer late, or not know.
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "hub_lookup_fixture.hpp"

using namespace rooms;
using namespace hub_test;

namespace {

void who_is_found_enters(void**) {
    LookupWorld world;
    Client& client = world.connect("u1", "acme");
    world.take(client);
    world.subscribe(client, "project:7", R"(,"since":{"epoch":"9f3a1c","offset":0},"ref":3)");
    assert_true(world.take(client).empty());
    assert_string_equal(world.lookup.asked[0].text.c_str(), "1 7 acme u1 project:7");
    assert_int_equal(world.broker.connections("project:7"), 0);
    world.lookup.answer(Lookup::Answer::yes);
    const auto told = world.take(client);
    assert_int_equal(told.size(), 1);
    assert_has(told[0], R"("type":"subscribed","room":"project:7")");
    assert_has(told[0], R"("recovered":true)");
    assert_has(told[0], R"("ref":3)");
    world.broker.event(world.hub, "project:7", "e1");
    world.hub.flush();
    assert_string_equal(world.last(client).c_str(), "e1");
}

void who_is_not_found_is_refused_and_nothing_is_left(void**) {
    LookupWorld world;
    Client& client = world.connect("u1", "acme");
    world.subscribe(client, "project:7", R"(,"ref":3)");
    world.lookup.answer(Lookup::Answer::no);
    assert_has(world.last(client), R"("code":"forbidden","room":"project:7")");
    assert_has(world.last(client), "Access denied to project");
    assert_has(world.last(client), R"("ref":3)");
    assert_int_equal(world.hub.room_count(), 0);
    assert_int_equal(world.broker.connections("project:7"), 0);
}

void S37_not_to_know_is_retryable_and_never_a_join(void**) {
    LookupWorld world;
    Client& client = world.connect("u1", "acme");
    world.subscribe(client, "project:7");
    world.lookup.answer(Lookup::Answer::unavailable);
    assert_has(world.last(client), R"("code":"unavailable","room":"project:7")");
    assert_has(world.last(client), R"("retryable":true)");
    assert_int_equal(world.hub.room_count(), 0);
    world.subscribe(client, "project:7");
    world.lookup.answer(Lookup::Answer::yes);
    assert_has(world.last(client), R"("type":"subscribed")");
}

void an_answer_may_come_in_the_call(void**) {
    LookupWorld world;
    world.lookup.at_once = Lookup::Answer::yes;
    Client& client = world.connect("u1", "acme");
    world.subscribe(client, "project:7");
    assert_has(world.last(client), R"("type":"subscribed")");
    world.lookup.at_once = Lookup::Answer::no;
    world.subscribe(client, "project:8");
    assert_has(world.last(client), R"("code":"forbidden")");
    world.say(client, R"({"type":"presence","room":"project:7"})");
    assert_has(world.last(client), R"("code":"forbidden")");
}

void S40_R10_a_client_that_goes_meanwhile_harms_nothing(void**) {
    for (const auto answer : {Lookup::Answer::yes, Lookup::Answer::no, Lookup::Answer::unavailable}) {
        LookupWorld world;
        Client& client = world.connect("u1", "acme");
        world.subscribe(client, "project:7");
        world.say(client, R"({"type":"presence","room":"project:8"})");
        world.disconnect(client);
        world.lookup.answer(answer);
        world.lookup.answer(answer);
        assert_int_equal(world.hub.room_count(), 0);
        assert_int_equal(world.broker.connections("project:7"), 0);
    }
}

void S40_an_unsubscribe_is_answered_after_the_subscribe_before_it(void**) {
    for (const auto answer : {Lookup::Answer::yes, Lookup::Answer::no, Lookup::Answer::unavailable}) {
        LookupWorld world;
        Client& client = world.connect("u1", "acme");
        world.subscribe(client, "project:7", R"(,"ref":1)");
        world.say(client, R"({"type":"unsubscribe","room":"project:7","ref":2})");
        world.take(client);
        world.lookup.answer(answer);
        const auto told = world.take(client);
        assert_int_equal(told.size(), 2);
        assert_has(told[0], R"("ref":1)");
        assert_has(told[1], R"("type":"unsubscribed","room":"project:7","ref":2)");
        assert_int_equal(world.hub.room_count(), 0);
    }
}

void rooms_that_are_asked_for_count(void**) {
    LookupWorld world;
    Client& client = world.connect("u1", "acme");
    for (const char* room : {"project:1", "project:2", "project:3"}) world.subscribe(client, room);
    assert_has(world.last(client), R"("code":"limit","room":"project:3")");
    assert_int_equal(world.lookup.asked.size(), 2);
}

void S39_presence_is_for_those_who_may_enter(void**) {
    LookupWorld world;
    Client& client = world.connect("u1", "acme");
    for (const auto& [answer, told] :
         {std::pair{Lookup::Answer::yes, R"("type":"presence","room":"project:7")"},
          std::pair{Lookup::Answer::no, R"("code":"forbidden")"},
          std::pair{Lookup::Answer::unavailable, R"("code":"unavailable")"}}) {
        world.say(client, R"({"type":"presence","room":"project:7","ref":9})");
        world.lookup.answer(answer);
        assert_has(world.last(client), told);
        assert_has(world.last(client), R"("ref":9)");
    }
}

void S38_another_token_is_asked_for_anew(void**) {
    for (const auto answer : {Lookup::Answer::yes, Lookup::Answer::no, Lookup::Answer::unavailable}) {
        LookupWorld world;
        Client& client = world.connect("u1", "acme");
        world.subscribe(client, "project:7");
        world.lookup.answer(Lookup::Answer::yes);
        world.take(client);
        world.say(client, R"({"type":"auth","token":")" + world.token("u1", "acme") + "\"}");
        assert_int_equal(world.lookup.asked.size(), 1);
        assert_int_equal(world.broker.connections("project:7"), 1);
        world.lookup.answer(answer);
        const auto told = world.take(client);
        const bool stays = answer == Lookup::Answer::yes;
        assert_int_equal(told.size(), stays ? 1 : 2);
        assert_has(told[0], R"("type":"auth:ok")");
        if (answer == Lookup::Answer::no) assert_has(told[1], R"("code":"forbidden","room":"project:7")");
        if (answer == Lookup::Answer::unavailable)
            assert_has(told[1], R"("code":"unavailable","room":"project:7")");
        assert_int_equal(world.broker.connections("project:7"), stays ? 1 : 0);
    }
}

void only_the_newest_token_counts(void**) {
    LookupWorld world;
    Client& client = world.connect("u1", "acme");
    world.subscribe(client, "project:7");
    world.say(client, R"({"type":"auth","token":")" + world.token("u1", "acme") + "\"}");
    assert_int_equal(world.lookup.asked.size(), 2);
    world.take(client);
    world.lookup.answer(Lookup::Answer::yes);  // of the first token
    assert_true(world.take(client).empty());
    world.lookup.answer(Lookup::Answer::no);
    assert_has(world.last(client), R"("code":"forbidden")");
    assert_int_equal(world.broker.connections("project:7"), 0);
    // A member is asked for twice: the first answer is of a token that has been renewed.
    world.subscribe(client, "project:8");
    world.lookup.answer(Lookup::Answer::yes);
    for (int i = 0; i < 2; ++i)
        world.say(client, R"({"type":"auth","token":")" + world.token("u1", "acme") + "\"}");
    world.lookup.answer(Lookup::Answer::no);
    assert_int_equal(world.broker.connections("project:8"), 1);
    world.lookup.answer(Lookup::Answer::yes);
    assert_int_equal(world.broker.connections("project:8"), 1);
}

void a_token_that_comes_while_the_broker_is_asked_is_looked_at_afterwards(void**) {
    LookupWorld world;
    world.broker.late = true;
    Client& client = world.connect("u1", "acme");
    world.subscribe(client, "project:7");
    world.lookup.answer(Lookup::Answer::yes);
    world.say(client, R"({"type":"auth","token":")" + world.token("u1", "acme") + "\"}");
    assert_true(world.lookup.asked.empty());
    world.broker.answer_all();
    assert_int_equal(world.lookup.asked.size(), 1);
    world.lookup.answer(Lookup::Answer::no);
    assert_int_equal(world.broker.connections("project:7"), 0);
    assert_has(world.last(client), R"("code":"forbidden")");
}

void what_the_token_grants_needs_no_question(void**) {
    LookupWorld world;
    world.rules.add(*Pattern::compile("session:*", [](std::string_view) { return VariableSource{}; }), {});
    Client& client = world.connect("u1", "acme");
    world.subscribe(client, "session:1");
    assert_has(world.last(client), R"("type":"subscribed")");
    assert_int_equal(world.lookup.count, 0);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(who_is_found_enters),
        cmocka_unit_test(who_is_not_found_is_refused_and_nothing_is_left),
        cmocka_unit_test(S37_not_to_know_is_retryable_and_never_a_join),
        cmocka_unit_test(an_answer_may_come_in_the_call),
        cmocka_unit_test(S40_R10_a_client_that_goes_meanwhile_harms_nothing),
        cmocka_unit_test(S40_an_unsubscribe_is_answered_after_the_subscribe_before_it),
        cmocka_unit_test(rooms_that_are_asked_for_count),
        cmocka_unit_test(S39_presence_is_for_those_who_may_enter),
        cmocka_unit_test(S38_another_token_is_asked_for_anew),
        cmocka_unit_test(only_the_newest_token_counts),
        cmocka_unit_test(a_token_that_comes_while_the_broker_is_asked_is_looked_at_afterwards),
        cmocka_unit_test(what_the_token_grants_needs_no_question),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

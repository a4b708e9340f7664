// Every allocation of what a client asks for fails once: it is answered or closed, and nothing is left behind.
#include <string>
#include <vector>

#include "every_allocation.hpp"
#include "hub_lookup_fixture.hpp"

#include "cmocka.hpp"

using namespace hub_test;

namespace {

// What an answer is, to whoever waits for it: said, or the end of the connection.
bool answered(World& world, const Client& client, const std::string& ref) {
    if (world.transport.closed.contains(client.handle)) return true;
    for (const std::string& frame : world.transport.inbox[client.handle]) {
        if (frame.find(R"("ref":)" + ref) != std::string::npos) return true;
    }
    return false;
}

// One frame of a client whose n-th allocation from here on fails. What is thrown closes the connection, as the worker does.
void say(LookupWorld& world, Client& client, const std::string& frame, long n) {
    failing = &allocations_left;
    allocations_left = n;
    try {
        world.hub.on_message(client, frame);
    } catch (const std::bad_alloc&) {
        const Played played;
        world.transport.closed[client.handle] = CloseCode::internal_error;
    }
}

void clean_up(LookupWorld& world, Client& client) {
    allocations_left = -1;
    failing = nullptr;
    while (!world.lookup.asked.empty()) world.lookup.answer(Lookup::Answer::yes);
    world.broker.answer_all();
    world.disconnect(client);
}

const std::vector<std::string> kFrames = {
    R"({"type":"subscribe","room":"session:1","ref":7,"since":{"epoch":"9f3a1c","offset":0}})",
    R"({"type":"subscribe","room":"project:7","ref":7})",
    R"({"type":"subscribe","room":"tenant:other-than-one-that-is-short","ref":7})",
    R"({"type":"presence","room":"session:1","ref":7})",
    R"({"type":"presence","room":"project:7","ref":7})",
    R"({"type":"unsubscribe","room":"session:1","ref":7})",
};

// The hub asks, and whoever is asked answers in the call, or later, when memory is short again.
void when_memory_is_short_whoever_asked_is_answered_or_closed(void**) {
    if (!allocations_can_fail()) return skip();
    for (const std::string& frame : kFrames) {
        for (const auto answer : {Lookup::Answer::yes, Lookup::Answer::no, Lookup::Answer::unavailable}) {
            for (const bool at_once : {true, false}) {
                for (long n = 0;; ++n) {
                    LookupWorld world;
                    if (at_once) world.lookup.at_once = answer;
                    world.broker.late = !at_once;
                    Client& client = world.connect("u1", "acme");
                    world.take(client);
                    say(world, client, frame, n);
                    const bool closed = world.transport.closed.contains(client.handle);
                    if (!at_once && !world.lookup.asked.empty()) world.lookup.answer(answer);
                    const bool through = allocations_left >= 0;
                    allocations_left = -1;
                    world.broker.answer_all();
                    if (!closed) assert_true(answered(world, client, "7"));
                    clean_up(world, client);
                    assert_int_equal(world.hub.room_count(), 0);
                    if (through) break;
                }
            }
        }
    }
}

// A token is looked at while subscribes wait, each of which is asked for anew.
void when_memory_is_short_another_token_leaves_nobody_waiting(void**) {
    if (!allocations_can_fail()) return skip();
    for (long n = 0;; ++n) {
        LookupWorld world;
        world.broker.late = true;
        Client& client = world.connect("u1", "acme");
        world.take(client);
        const std::string frame = R"({"type":"auth","ref":9,"token":")" + world.token("u1", "acme") + "\"}";
        world.hub.on_message(client, R"({"type":"subscribe","room":"project:7","ref":7})");
        world.hub.on_message(client, R"({"type":"subscribe","room":"project:8","ref":8})");
        say(world, client, frame, n);
        const bool through = allocations_left >= 0;
        allocations_left = -1;
        while (!world.lookup.asked.empty()) world.lookup.answer(Lookup::Answer::yes);
        world.broker.answer_all();
        for (const char* ref : {"7", "8", "9"}) assert_true(answered(world, client, ref));
        clean_up(world, client);
        assert_int_equal(world.hub.room_count(), 0);
        if (through) break;
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(when_memory_is_short_whoever_asked_is_answered_or_closed),
        cmocka_unit_test(when_memory_is_short_another_token_leaves_nobody_waiting),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

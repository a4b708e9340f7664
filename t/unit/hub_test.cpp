// The hub: what browsers are answered, who gets which publication, and what is left of a client that
// has gone. The broker and the transport are played by the test, so that answers can come late.
#include <string>
#include <vector>

#include "hub_fixture.hpp"

using namespace rooms;
using namespace hub_test;

namespace {

void a_new_client_is_told_who_it_is_and_where_it_was_joined(void**) {
    World world;
    world.policy.joins = &world.joins;
    Client& client = world.connect("u1", "acme");
    const auto inbox = world.take(client);
    assert_int_equal(inbox.size(), 2);
    assert_has(inbox[0], R"("type":"connected","userId":"u1")");
    assert_has(inbox[0], R"("expiresAt":1795332900000)");
    assert_has(inbox[1], R"("type":"subscribed","room":"tenant:acme","epoch":"9f3a1c","offset":0)");
}

void a_room_that_no_rule_opens_is_refused(void**) {
    World world;
    Client& client = world.connect("u1", "acme");
    world.hub.on_message(client, R"({"type":"subscribe","room":"tenant:globex","ref":7})");
    assert_has(world.last(client), R"("code":"forbidden","room":"tenant:globex")");
    assert_has(world.last(client), "Access denied to tenant");
    assert_has(world.last(client), R"("ref":7)");
    world.hub.on_message(client, R"({"type":"presence","room":"tenant:globex"})");
    assert_has(world.last(client), R"("code":"forbidden")");
    assert_int_equal(world.meter.errors[ErrorCode::forbidden], 2);
    assert_int_equal(world.hub.room_count(), 0);
}

void members_get_what_is_published_and_nobody_else(void**) {
    World world;
    Client& one = world.connect("u1", "acme");
    Client& two = world.connect("u2", "acme");
    Client& other = world.connect("u3", "globex");
    for (Client* client : {&one, &two})
        world.hub.on_message(*client, R"({"type":"subscribe","room":"session:1"})");
    world.hub.on_message(other, R"({"type":"subscribe","room":"tenant:globex"})");
    for (Client* client : {&one, &two, &other}) world.take(*client);
    world.broker.event(world.hub, "session:1", "e1");
    world.broker.event(world.hub, "session:1", "e2");
    assert_true(world.transport.flush_wanted);
    assert_true(world.take(one).empty());
    world.hub.flush();
    assert_int_equal(world.transport.fan_outs, 1);
    assert_true(world.take(one) == (std::vector<std::string>{"e1", "e2"}));
    assert_true(world.take(two) == (std::vector<std::string>{"e1", "e2"}));
    assert_true(world.take(other).empty());
    assert_int_equal(world.hub.messages_out(one), 4);  // connected, subscribed, two events
    assert_true(world.hub.bytes_out(one) > 8);
}

void who_joins_now_does_not_get_what_waits_for_others(void**) {
    World world;
    Client& one = world.connect("u1", "acme");
    world.hub.on_message(one, R"({"type":"subscribe","room":"session:1"})");
    world.broker.event(world.hub, "session:1", "before");
    Client& two = world.connect("u2", "acme");
    world.hub.on_message(two, R"({"type":"subscribe","room":"session:1"})");
    assert_has(world.last(two), R"("offset":1)");
    world.take(two);
    world.hub.flush();
    assert_has(world.last(one), "before");
    world.broker.event(world.hub, "session:1", "after");
    world.hub.flush();
    assert_true(world.take(two) == std::vector<std::string>{"after"});
}

// A room of more members than one turn serves.
struct LargeRoom : World {
    explicit LargeRoom(std::size_t size) {
        for (std::size_t i = 0; i < size; ++i) {
            members.push_back(&join());
            take(*members.back());
        }
    }
    Client& join() {
        Client& client = connect("u1", "acme");
        hub.on_message(client, kSubscribe);
        return client;
    }
    // How many of them have it.
    std::size_t served(const std::string& text) {
        std::size_t count = 0;
        for (Client* member : members) {
            for (const std::string& got : transport.inbox[member->handle]) count += got == text;
        }
        return count;
    }
    // All that is under way; in so many turns.
    int finish() {
        int turns = 0;
        do {
            transport.next_turn_wanted = false;
            hub.flush();
            ++turns;
        } while (transport.next_turn_wanted);
        return turns;
    }
    static constexpr char kSubscribe[] = R"({"type":"subscribe","room":"session:1"})";
    std::vector<Client*> members;
};

void a_large_room_is_served_over_several_turns_each_member_once_and_in_order(void**) {
    LargeRoom world(2 * Hub::kTurn + 10);
    world.broker.event(world.hub, "session:1", "e1");
    world.hub.flush();
    assert_true(world.transport.next_turn_wanted);
    assert_int_equal(world.served("e1"), Hub::kTurn);
    world.broker.event(world.hub, "session:1", "e2");
    world.hub.flush();
    assert_int_equal(world.served("e1"), 2 * Hub::kTurn);
    assert_int_equal(world.served("e2"), 0);
    assert_int_equal(world.finish(), 4);
    for (Client* member : world.members)
        assert_true(world.take(*member) == (std::vector<std::string>{"e1", "e2"}));
}

void who_joins_and_leaves_meanwhile_gets_what_is_his_and_counts_it(void**) {
    LargeRoom world(2 * Hub::kTurn);
    Client* served = world.members.front();
    Client* unserved = world.members.back();
    const std::uint64_t served_before = world.hub.bytes_out(*served);
    const std::uint64_t unserved_before = world.hub.bytes_out(*unserved);
    world.broker.event(world.hub, "session:1", "e1");
    world.hub.flush();
    assert_int_equal(world.hub.messages_out(*served), 3);
    assert_int_equal(world.hub.messages_out(*unserved), 2);
    assert_int_equal(world.hub.bytes_out(*unserved), unserved_before);
    assert_int_equal(world.hub.bytes_out(*served), served_before + 4);

    Client& joined = world.join();
    assert_has(world.last(joined), R"("offset":1)");
    world.take(joined);
    for (Client* client : {served, unserved}) {
        assert_int_equal(world.take(*client).size(), client == served);
        std::erase(world.members, client);
        world.disconnect(*client);
    }
    world.broker.event(world.hub, "session:1", "e2");
    Client& late = world.join();  // e2 waits, and e1 is under way
    world.take(late);
    world.finish();
    for (Client* member : world.members)
        assert_true(world.take(*member) == (std::vector<std::string>{"e1", "e2"}));
    assert_true(world.take(joined) == std::vector<std::string>{"e2"});
    assert_true(world.take(late).empty());
    assert_int_equal(world.hub.messages_out(joined), 3);
    assert_int_equal(world.hub.messages_out(late), 2);
}

void who_joins_a_large_room_makes_nobody_wait_for_it(void**) {
    LargeRoom world(Hub::kTurn + 1);
    world.broker.event(world.hub, "session:1", "e1");
    Client& joined = world.join();
    world.take(joined);
    assert_int_equal(world.served("e1"), 0);
    world.hub.flush();
    world.hub.flush();
    assert_int_equal(world.served("e1"), Hub::kTurn + 1);
    assert_true(world.take(joined).empty());
}

void who_unsubscribes_or_subscribes_again_meanwhile_has_everything_first(void**) {
    LargeRoom world(Hub::kTurn + 2);
    for (const char* message : {R"({"type":"unsubscribe","room":"session:1"})", LargeRoom::kSubscribe}) {
        world.broker.event(world.hub, "session:1", "e1");
        world.hub.flush();
        world.broker.event(world.hub, "session:1", "e2");
        world.hub.on_message(*world.members.back(), message);
        const std::vector<std::string> got = world.take(*world.members.back());
        assert_true(got.size() == 3 && got[0] == "e1" && got[1] == "e2");
        world.finish();
        world.members.pop_back();
        for (Client* member : world.members)
            assert_true(world.take(*member) == (std::vector<std::string>{"e1", "e2"}));
    }
}

void nobody_makes_a_turn_long_by_joining_leaving_or_asking(void**) {
    LargeRoom world(4 * Hub::kTurn);
    Client& stranger = world.connect("u9", "acme");
    world.broker.event(world.hub, "session:1", "e1");
    world.hub.flush();
    world.broker.event(world.hub, "session:1", "e2");
    world.hub.on_message(stranger, R"({"type":"unsubscribe","room":"session:1"})");
    world.join();
    assert_int_equal(world.served("e1"), Hub::kTurn);
    assert_int_equal(world.served("e2"), 0);
    world.hub.on_message(*world.members.back(), R"({"type":"unsubscribe","room":"session:1"})");
    assert_int_equal(world.served("e1"), Hub::kTurn + 1);
    assert_int_equal(world.served("e2"), 1);
    world.hub.on_message(*world.members.front(), LargeRoom::kSubscribe);
    assert_int_equal(world.served("e2"), 2);
}

int turns_until_served(LargeRoom& world, const Client& client, const char* busy) {
    int turns = 0;
    while (world.transport.inbox[client.handle].empty()) {
        ++turns;
        if (busy != nullptr) world.broker.event(world.hub, busy, "e");
        world.hub.flush();
        assert_true(turns < 100);
    }
    return turns;
}

void a_small_room_waits_for_no_large_one(void**) {
    LargeRoom world(2 * Hub::kTurn);
    world.policy.rate = {1000000, 10000};
    Client& small = world.connect("u8", "acme");
    world.hub.on_message(small, R"({"type":"subscribe","room":"session:small"})");
    world.take(small);
    for (int i = 0; i < 20; ++i) {  // a room that never ends
        world.broker.event(world.hub, "session:1", "e");
        world.hub.on_message(*world.members.front(), LargeRoom::kSubscribe);
        world.broker.event(world.hub, "session:1", "e");
        world.hub.flush();
    }
    world.broker.event(world.hub, "session:small", "e");
    assert_int_equal(turns_until_served(world, small, "session:1"), 1);

    for (int room = 2; room < 12; ++room) {  // many
        const std::string name = "session:" + std::to_string(room);
        for (std::size_t i = 0; i < Hub::kTurn / 4; ++i) {
            Client& client = world.connect("u1", "acme");
            world.hub.on_message(client, R"({"type":"subscribe","room":")" + name + "\"}");
        }
        world.broker.event(world.hub, name, "e");
    }
    world.take(small);
    world.broker.event(world.hub, "session:small", "e");
    assert_int_equal(turns_until_served(world, small, nullptr), 1);
}

// However many small ones there are: a quarter of a turn is for the others.
void a_large_room_is_served_beside_very_many_small_ones(void**) {
    LargeRoom world(Hub::kTurn);
    std::vector<std::string> rooms;
    for (std::size_t i = 0; i < Hub::kTurn + 10; ++i) {
        rooms.push_back("session:s" + std::to_string(i));
        Client& client = world.connect("u1", "acme");
        world.hub.on_message(client, R"({"type":"subscribe","room":")" + rooms.back() + "\"}");
    }
    world.broker.event(world.hub, "session:1", "e1");
    for (const std::string& room : rooms) world.broker.event(world.hub, room, "e");
    world.hub.flush();
    assert_int_equal(world.served("e1"), Hub::kTurn / 4);
}

// A socket gets 256 KiB a turn, so that a fast reader is not taken for a slow one.
void what_is_much_for_a_socket_leaves_in_several_turns(void**) {
    for (const std::size_t size : {std::size_t{2}, Hub::kTurn + 1}) {
        LargeRoom world(size);
        const std::string text(60000, 'x');
        for (int i = 0; i < 10; ++i) world.broker.event(world.hub, "session:1", text);
        std::vector<std::size_t> got;
        do {
            world.transport.next_turn_wanted = false;
            world.hub.flush();
            if (const std::size_t count = world.take(*world.members.front()).size()) got.push_back(count);
        } while (world.transport.next_turn_wanted);
        assert_true(got == (std::vector<std::size_t>{4, 4, 2}));
    }
}

void all_of_a_large_room_may_leave_meanwhile(void**) {
    LargeRoom world(Hub::kTurn + 2);
    world.broker.event(world.hub, "session:1", "e1");
    world.hub.flush();
    for (std::size_t i = 0; i < world.members.size(); i += 2) world.disconnect(*world.members[i]);
    for (std::size_t i = 1; i < world.members.size(); i += 2) world.disconnect(*world.members[i]);
    assert_int_equal(world.hub.room_count(), 0);
    world.hub.flush();
}

void a_second_subscribe_answers_and_doubles_nothing(void**) {
    World world;
    Client& client = world.connect("u1", "acme");
    for (int i = 0; i < 2; ++i) world.hub.on_message(client, R"({"type":"subscribe","sessionId":1})");
    const auto inbox = world.take(client);
    assert_int_equal(inbox.size(), 3);
    assert_has(inbox[1], R"("type":"subscribed","room":"session:1")");
    assert_has(inbox[2], R"("type":"subscribed","room":"session:1")");
    assert_int_equal(world.broker.connections("session:1"), 1);
    world.broker.event(world.hub, "session:1", "once");
    world.hub.flush();
    assert_true(world.take(client) == std::vector<std::string>{"once"});
}

void a_position_brings_what_was_missed_before_what_is_new(void**) {
    World world;
    Client& client = world.connect("u1", "acme");
    world.broker.rooms["session:1"].position.offset = 5;
    world.hub.on_message(client,
                         R"({"type":"subscribe","room":"session:1","since":{"epoch":"9f3a1c","offset":3}})");
    world.broker.event(world.hub, "session:1", "new");
    world.hub.flush();
    auto inbox = world.take(client);
    assert_has(inbox[1], R"("offset":5,"recovered":true)");
    inbox.erase(inbox.begin(), inbox.begin() + 2);
    assert_true(inbox == (std::vector<std::string>{"missed 4", "missed 5", "new"}));
    world.hub.on_message(client,
                         R"({"type":"subscribe","room":"session:2","since":{"epoch":"9f3a1c","offset":3}})");
    assert_has(world.last(client), R"("recovered":false)");
    world.hub.on_message(client,
                         R"({"type":"subscribe","room":"session:3","since":{"epoch":"what","offset":0}})");
    assert_has(world.last(client), R"("recovered":false)");
}

void a_gap_comes_before_anything_newer(void**) {
    World world;
    Client& client = world.connect("u1", "acme");
    world.hub.on_message(client, R"({"type":"subscribe","room":"session:1"})");
    world.take(client);
    auto& state = world.broker.rooms["session:1"];
    state.position.offset = 171;
    state.room->cursor = state.position;
    world.hub.on_gap(*state.room, state.position, "trimmed");
    world.broker.event(world.hub, "session:1", "newer");
    world.hub.flush();
    const auto inbox = world.take(client);
    assert_has(inbox[0],
               R"({"type":"gap","room":"session:1","epoch":"9f3a1c","offset":171,"reason":"trimmed"})");
    assert_true(inbox[1] == "newer");
}

void unsubscribe_ends_the_membership_after_what_was_published_before(void**) {
    World world;
    Client& client = world.connect("u1", "acme");
    world.hub.on_message(client, R"({"type":"subscribe","room":"session:1"})");
    world.take(client);
    world.broker.event(world.hub, "session:1", "before");
    world.hub.on_message(client, R"({"type":"unsubscribe","room":"session:1","ref":"x"})");
    auto inbox = world.take(client);
    assert_true(inbox[0] == "before");
    assert_has(inbox[1], R"({"type":"unsubscribed","room":"session:1","ref":"x"})");
    assert_int_equal(world.hub.room_count(), 0);
    assert_int_equal(world.broker.released, 1);
    world.hub.on_message(client, R"({"type":"unsubscribe","room":"session:1"})");
    assert_has(world.last(client), "unsubscribed");
}

void leaving_in_any_order_keeps_the_others(void**) {
    World world;
    std::vector<Client*> members;
    for (int i = 0; i < 7; ++i) {
        members.push_back(&world.connect("u" + std::to_string(i), "acme"));
        world.hub.on_message(*members.back(), R"({"type":"subscribe","room":"session:1"})");
        world.hub.on_message(*members.back(), R"({"type":"subscribe","room":"tenant:acme"})");
    }
    for (const std::size_t gone : {3u, 0u, 4u, 1u}) {
        Client& client = *members[gone];
        members.erase(members.begin() + static_cast<long>(gone));
        world.disconnect(client);
        for (Client* client_left : members) world.take(*client_left);
        for (const char* room : {"session:1", "tenant:acme"}) world.broker.event(world.hub, room, room);
        world.hub.flush();
        for (Client* client_left : members) assert_int_equal(world.take(*client_left).size(), 2);
    }
}

void S40_R10_an_answer_that_comes_late_finds_nobody_who_has_gone(void**) {
    World world;
    world.broker.late = true;
    Client& client = world.connect("u1", "acme");
    world.hub.on_message(client, R"({"type":"subscribe","room":"session:1"})");
    world.hub.on_message(client, R"({"type":"presence","room":"session:1"})");
    world.disconnect(client);
    world.broker.answer_all();
    assert_int_equal(world.broker.connections("session:1"), 0);
    assert_int_equal(world.hub.room_count(), 0);
}

void S40_an_unsubscribe_waits_behind_a_subscribe_that_waits(void**) {
    World world;
    world.broker.late = true;
    Client& client = world.connect("u1", "acme");
    world.take(client);
    world.hub.on_message(client, R"({"type":"subscribe","room":"session:1","ref":"in"})");
    for (const char* ref : {"out", "again"}) {
        world.hub.on_message(
            client, R"({"type":"unsubscribe","room":"session:1","ref":")" + std::string(ref) + R"("})");
    }
    assert_true(world.take(client).empty());
    world.broker.answer_all();
    const auto inbox = world.take(client);
    assert_int_equal(inbox.size(), 3);
    assert_has(inbox[0], R"("type":"subscribed","room":"session:1")");
    assert_has(inbox[0], R"("ref":"in")");
    assert_has(inbox[1], R"({"type":"unsubscribed","room":"session:1","ref":"out"})");
    assert_has(inbox[2], R"({"type":"unsubscribed","room":"session:1","ref":"again"})");
    assert_int_equal(world.broker.connections("session:1"), 0);
    assert_int_equal(world.hub.room_count(), 0);
}

void an_unsubscribe_behind_a_subscribe_that_is_refused_is_answered_after_it(void**) {
    World world;
    world.broker.late = true;
    Client& client = world.connect("u1", "acme");
    world.take(client);
    world.hub.on_message(client, R"({"type":"subscribe","room":"session:1","ref":"in"})");
    world.hub.on_message(client, R"({"type":"unsubscribe","room":"session:1","ref":"out"})");
    world.broker.refuse = false;
    world.broker.answer_all();
    const auto inbox = world.take(client);
    assert_int_equal(inbox.size(), 2);
    assert_has(inbox[0], R"("code":"unavailable","room":"session:1")");
    assert_has(inbox[1], R"({"type":"unsubscribed","room":"session:1","ref":"out"})");
    assert_int_equal(world.hub.room_count(), 0);
}

void who_comes_goes_and_comes_again_while_all_waits_is_a_member(void**) {
    World world;
    world.broker.late = true;
    Client& client = world.connect("u1", "acme");
    world.take(client);
    for (const char* type : {"subscribe", "unsubscribe", "subscribe"}) {
        world.hub.on_message(client, R"({"type":")" + std::string(type) + R"(","room":"session:1"})");
    }
    world.broker.answer_all();
    const auto inbox = world.take(client);
    assert_int_equal(inbox.size(), 3);
    assert_has(inbox[0], R"("type":"subscribed")");
    assert_has(inbox[1], R"("type":"unsubscribed")");
    assert_has(inbox[2], R"("type":"subscribed")");
    assert_int_equal(world.broker.connections("session:1"), 1);
}

// Who has gone leaves nothing behind, whatever was to be answered.
void an_unsubscribe_that_waits_for_somebody_who_has_gone_is_dropped(void**) {
    World world;
    world.broker.late = true;
    Client& client = world.connect("u1", "acme");
    world.hub.on_message(client, R"({"type":"subscribe","room":"session:1"})");
    world.hub.on_message(client, R"({"type":"unsubscribe","room":"session:1"})");
    world.disconnect(client);
    world.broker.answer_all();
    assert_int_equal(world.broker.connections("session:1"), 0);
    assert_int_equal(world.hub.room_count(), 0);
}

void two_subscribes_that_wait_make_one_member(void**) {
    World world;
    world.broker.late = true;
    Client& client = world.connect("u1", "acme");
    world.take(client);
    for (int i = 0; i < 2; ++i) world.hub.on_message(client, R"({"type":"subscribe","room":"session:1"})");
    world.broker.answer_all();
    assert_int_equal(world.take(client).size(), 2);
    assert_int_equal(world.broker.connections("session:1"), 1);
}

void a_broker_that_cannot_is_told_as_retryable(void**) {
    World world;
    Client& client = world.connect("u1", "acme");
    world.broker.refuse = false;
    world.hub.on_message(client, R"({"type":"subscribe","room":"session:1"})");
    assert_has(world.last(client), R"("code":"unavailable")");
    assert_has(world.last(client), R"("retryable":true)");
    world.hub.on_message(client, R"({"type":"presence","room":"session:1"})");
    assert_has(world.last(client), R"("code":"unavailable")");
    world.broker.refuse = true;
    world.hub.on_message(client, R"({"type":"subscribe","room":"session:1"})");
    assert_has(world.last(client), R"("code":"limit")");
}

void S48_rooms_are_limited_per_connection(void**) {
    World world;
    Client& client = world.connect("u1", "acme");
    for (int i = 1; i <= 4; ++i) {
        world.hub.on_message(client, R"({"type":"subscribe","room":"session:)" + std::to_string(i) + R"("})");
    }
    assert_has(world.last(client), R"("code":"limit","room":"session:4")");
    world.hub.on_message(client, R"({"type":"subscribe","room":"session:3"})");
    assert_has(world.last(client), "subscribed");
    assert_int_equal(world.hub.room_count(), 3);
}

void a_room_that_is_waited_for_twice_counts_once(void**) {
    World world;
    world.broker.late = true;
    Client& client = world.connect("u1", "acme");
    world.take(client);
    const auto subscribe = [&](int room) {
        world.hub.on_message(client,
                             R"({"type":"subscribe","room":"session:)" + std::to_string(room) + R"("})");
    };
    for (const int room : {1, 1, 2, 1, 3, 3}) subscribe(room);
    assert_true(world.take(client).empty());
    subscribe(4);
    assert_has(world.last(client), R"("code":"limit","room":"session:4")");
    world.take(client);
    world.broker.answer_all();
    const auto inbox = world.take(client);
    assert_int_equal(inbox.size(), 6);
    for (const std::string& answer : inbox) assert_has(answer, R"("type":"subscribed")");
    assert_int_equal(world.hub.room_count(), 3);
    // In two of them and on its way into the third.
    world.hub.on_message(client, R"({"type":"unsubscribe","room":"session:3"})");
    for (const int room : {5, 5, 1}) subscribe(room);
    subscribe(6);
    assert_has(world.last(client), R"("code":"limit","room":"session:6")");
    world.broker.answer_all();
    assert_int_equal(world.broker.connections("session:5"), 1);
}

void S46_too_many_messages_are_refused_and_then_closed(void**) {
    World world;
    Client& client = world.connect("u1", "acme");
    world.take(client);
    for (int i = 0; i < 21; ++i) world.hub.on_message(client, R"({"type":"ping"})");
    assert_has(world.last(client), R"("code":"rate")");
    assert_true(world.transport.closed.empty());
    for (int i = 0; i < 20; ++i) world.hub.on_message(client, R"({"type":"ping"})");
    assert_true(world.transport.closed[client.handle] == CloseCode::rate_limit);
}

void a_message_that_is_none_is_answered_and_the_client_lives(void**) {
    World world;
    Client& client = world.connect("u1", "acme");
    world.hub.on_message(client, "{");
    assert_has(world.last(client), R"("code":"bad_json")");
    world.hub.on_message(client, R"({"type":"dance"})");
    assert_has(world.last(client), R"("code":"unknown_type")");
    world.hub.on_message(client, R"({"type":"subscribe","room":1})");
    assert_has(world.last(client), "room must be a string");
    world.hub.on_message(client, R"({"type":"ping","ref":"p"})");
    assert_has(world.last(client), R"({"type":"pong","timestamp":1795332720690,"ref":"p"})");
}

void presence_names_users_once_and_counts_connections(void**) {
    World world;
    Client& one = world.connect("u1", "acme");
    Client& tab = world.connect("u1", "acme");
    Client& two = world.connect("u2", "acme");
    for (Client* client : {&one, &tab, &two}) {
        world.hub.on_message(*client, R"({"type":"subscribe","room":"session:1"})");
    }
    world.hub.on_message(two, R"({"type":"presence","room":"session:1"})");
    assert_has(world.last(two),
               R"("users":[{"id":"u1","connections":2},{"id":"u2","connections":1}],"count":3)");
}

void a_new_token_of_the_same_person_is_taken_and_rules_are_asked_again(void**) {
    World world;
    Client& client = world.connect("u1", "acme");
    world.hub.on_message(client, R"({"type":"subscribe","room":"session:1"})");
    world.hub.on_message(client, R"({"type":"subscribe","room":"tenant:acme"})");
    const std::string narrower = World::token_of(R"({"sub":"u1","tenant_id":"acme","exp":1795333900})");
    world.hub.on_message(client, R"({"type":"auth","token":")" + narrower + R"(","ref":1})");
    const auto inbox = world.take(client);
    assert_has(inbox[inbox.size() - 2], R"({"type":"auth:ok","expiresAt":1795333900000,"ref":1})");
    assert_has(inbox.back(), R"("code":"forbidden","room":"session:1")");
    assert_int_equal(world.transport.tokens_changed, 1);
    assert_int_equal(world.broker.connections("session:1"), 0);
    assert_int_equal(world.broker.connections("tenant:acme"), 1);
}

void S30_a_token_of_somebody_else_changes_nothing(void**) {
    World world;
    Client& client = world.connect("u1", "acme");
    for (const std::string& token :
         {world.token("u2", "acme"), world.token("u1", "globex"), std::string("junk")}) {
        world.hub.on_message(client, R"({"type":"auth","token":")" + token + R"("})");
        assert_has(world.last(client), R"("code":"bad_token")");
    }
    assert_int_equal(world.transport.tokens_changed, 0);
    assert_true(client.identity.expires_at_ms() == 1795332900000);
}

void a_rule_that_ends_cancels_what_waits(void**) {
    World world;
    world.broker.late = true;
    Client& client = world.connect("u1", "acme");
    world.hub.on_message(client, R"({"type":"subscribe","room":"session:1","ref":"w"})");
    const std::string narrower = World::token_of(R"({"sub":"u1","tenant_id":"acme","exp":1795333900})");
    world.hub.on_message(client, R"({"type":"auth","token":")" + narrower + R"("})");
    assert_has(world.last(client), R"("code":"forbidden","room":"session:1")");
    world.broker.answer_all();
    assert_int_equal(world.broker.connections("session:1"), 0);
}

void a_join_without_a_value_is_skipped_and_one_that_is_no_room_is_told(void**) {
    World world;
    world.policy.joins = &world.joins;
    Client& nobody = world.connect("u1", "");
    assert_int_equal(world.take(nobody).size(), 1);
    Client& odd = world.connect("u1", "a b");
    assert_has(world.last(odd), R"("code":"bad_room")");
}

void the_token_that_ends_is_announced(void**) {
    World world;
    Client& client = world.connect("u1", "acme");
    world.hub.warn_expiry(client);
    assert_has(world.last(client), R"({"type":"token:expiring","expiresAt":1795332900000})");
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(a_new_client_is_told_who_it_is_and_where_it_was_joined),
        cmocka_unit_test(a_room_that_no_rule_opens_is_refused),
        cmocka_unit_test(members_get_what_is_published_and_nobody_else),
        cmocka_unit_test(who_joins_now_does_not_get_what_waits_for_others),
        cmocka_unit_test(a_large_room_is_served_over_several_turns_each_member_once_and_in_order),
        cmocka_unit_test(who_joins_and_leaves_meanwhile_gets_what_is_his_and_counts_it),
        cmocka_unit_test(who_joins_a_large_room_makes_nobody_wait_for_it),
        cmocka_unit_test(who_unsubscribes_or_subscribes_again_meanwhile_has_everything_first),
        cmocka_unit_test(all_of_a_large_room_may_leave_meanwhile),
        cmocka_unit_test(nobody_makes_a_turn_long_by_joining_leaving_or_asking),
        cmocka_unit_test(a_small_room_waits_for_no_large_one),
        cmocka_unit_test(a_large_room_is_served_beside_very_many_small_ones),
        cmocka_unit_test(what_is_much_for_a_socket_leaves_in_several_turns),
        cmocka_unit_test(a_second_subscribe_answers_and_doubles_nothing),
        cmocka_unit_test(a_position_brings_what_was_missed_before_what_is_new),
        cmocka_unit_test(a_gap_comes_before_anything_newer),
        cmocka_unit_test(unsubscribe_ends_the_membership_after_what_was_published_before),
        cmocka_unit_test(leaving_in_any_order_keeps_the_others),
        cmocka_unit_test(S40_R10_an_answer_that_comes_late_finds_nobody_who_has_gone),
        cmocka_unit_test(S40_an_unsubscribe_waits_behind_a_subscribe_that_waits),
        cmocka_unit_test(an_unsubscribe_behind_a_subscribe_that_is_refused_is_answered_after_it),
        cmocka_unit_test(who_comes_goes_and_comes_again_while_all_waits_is_a_member),
        cmocka_unit_test(an_unsubscribe_that_waits_for_somebody_who_has_gone_is_dropped),
        cmocka_unit_test(two_subscribes_that_wait_make_one_member),
        cmocka_unit_test(a_broker_that_cannot_is_told_as_retryable),
        cmocka_unit_test(S48_rooms_are_limited_per_connection),
        cmocka_unit_test(a_room_that_is_waited_for_twice_counts_once),
        cmocka_unit_test(S46_too_many_messages_are_refused_and_then_closed),
        cmocka_unit_test(a_message_that_is_none_is_answered_and_the_client_lives),
        cmocka_unit_test(presence_names_users_once_and_counts_connections),
        cmocka_unit_test(a_new_token_of_the_same_person_is_taken_and_rules_are_asked_again),
        cmocka_unit_test(S30_a_token_of_somebody_else_changes_nothing),
        cmocka_unit_test(a_rule_that_ends_cancels_what_waits),
        cmocka_unit_test(a_join_without_a_value_is_skipped_and_one_that_is_no_room_is_told),
        cmocka_unit_test(the_token_that_ends_is_announced),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

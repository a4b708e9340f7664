// A room whose every allocation fails once: what it had to give is given by the next sync, once and in order.
#include <algorithm>
#include <array>
#include <string>

#include "broker_fixture.hpp"
#include "every_allocation.hpp"

#include "cmocka.hpp"

using namespace redis_test;

namespace {

void when_memory_is_short_no_event_is_lost_or_comes_twice(void**) {
    if (!allocations_can_fail()) return skip();
    const Life life;
    const std::array<std::string, 5> heard = {life.message(1), life.message(3), life.message(4),
                                              life.message(2), life.message(6)};
    const std::string fence = "the id of a replication is 40 hex digits";
    for (long n = 0;; ++n) {
        Room hub_room("session:42");
        RedisRoom room(hub_room, "rooms:{session:42}");
        RecordingSink sink;
        RecordingMeter meter;
        const auto sync = [&](const std::string& resp) {
            ReplyReader reader;
            bool broken = false;
            assert_true(reader.feed(resp));
            const auto reply = reader.next(broken);
            if (!reply) return;  // no memory for it: the link is given up, and the next one asks again
            room.syncing = true;
            room.wants_sync = false;
            const auto parsed = RedisSync::parse(*reply);
            if (parsed) room.on_sync(*parsed, fence, sink, meter);
            room.syncing = false;
            room.on_sync_done();
        };
        sync(life.sync(0));
        const std::string whole = life.sync(6, 1);
        const std::string part = life.sync(5, 1);
        allocations_left = n;
        for (const std::string& message : heard) {
            try {
                room.on_message(message, fence, sink, meter);
            } catch (const std::bad_alloc&) {
            }
        }
        for (int i = 0; i < 2; ++i) {
            try {
                sync(part);
            } catch (const std::bad_alloc&) {
            }
        }
        const bool through = allocations_left >= 0;
        allocations_left = -1;
        sync(whole);
        assert_string_equal(sink.take().c_str(), "1 2 3 4 5 6");
        assert_int_equal(meter[RedisCount::gaps], 0);
        assert_true(room.claim().check == life.check(6));
        if (through) break;
    }
}

// What is answered "not known" may have been carried out; that is what an id is for.
void when_memory_is_short_every_publication_is_answered_and_the_worker_may_end(void**) {
    if (!allocations_can_fail()) return skip();
    for (long n = 0;; ++n) {
        BrokerFixture f;
        f.start();
        f.publish();  // the usual: all has its place
        f.redis.serve();
        f.said.clear();
        f.said.reserve(1000);
        int thrown = 0;
        allocations_left = n;
        for (const char* room : {"session:1", "session:2"}) {
            try {
                f.publish("k", room);
            } catch (const std::bad_alloc&) {
                ++thrown;
            }
        }
        f.reactor.settle();
        const bool through = allocations_left >= 0;
        allocations_left = -1;
        f.run(3000);
        const auto answered = 1 + std::count(f.said.begin(), f.said.end(), ';') - (f.said.empty() ? 1 : 0);
        if (answered + thrown < 2)
            print_error("allocation %ld: answered %s, thrown %d\n", n, f.said.c_str(), thrown);
        assert_true(answered + thrown >= 2);
        assert_true(answered <= 2);
        assert_false(f.reactor.held);
        f.said.clear();
        f.publish();
        f.redis.serve();
        assert_true(f.said.starts_with("ok "));
        if (through) break;
    }
}

// A socket may end at any time. What Redis was not told for want of memory it is told with the next sync.
void S72_when_memory_is_short_a_member_can_be_taken_out(void**) {
    if (!allocations_can_fail()) return skip();
    for (long n = 0;; ++n) {
        BrokerFixture f;
        f.start();
        for (const char* user : {"ann", "bob"}) {
            f.subscribe(user);
            f.redis.serve();
        }
        f.said.clear();
        f.said.reserve(1000);
        allocations_left = n;
        f.broker->unsubscribe(f.room, "bob");
        f.broker->unsubscribe(f.room, "ann");
        f.broker->release(f.room);
        const bool through = allocations_left >= 0;
        allocations_left = -1;
        assert_int_equal(f.members(), 0);
        f.run(3000);
        f.join();
        assert_int_equal(f.members(), 1);
        f.event();
        f.redis.serve();
        f.given("1");
        if (through) break;
    }
}

void S72_when_memory_is_short_the_others_are_told_of_who_has_gone(void**) {
    if (!allocations_can_fail()) return skip();
    for (long n = 0;; ++n) {
        BrokerFixture f;
        f.start();
        for (const char* user : {"ann", "bob"}) {
            f.subscribe(user);
            f.redis.serve();
        }
        f.redis.seen.clear();
        allocations_left = n;
        f.broker->unsubscribe(f.room, "ann");
        const bool through = allocations_left >= 0;
        allocations_left = -1;
        f.run(3000);
        assert_string_not_equal(f.synced_members().c_str(), "");
        if (through) break;
    }
}

// Whatever became of a join while memory was short, the room takes the next one, and its place in the zone is free.
// `answered`: it is short when Redis answers, else when the join begins. `error`: what Redis answers.
void a_join_does_not_close_the_room(bool answered, const std::string& error = {}) {
    for (long n = 0;; ++n) {
        BrokerFixture f;
        f.start();
        int answers = 0;
        bool joined = false;
        // Takes no memory itself.
        const auto subscribe = [&](std::string_view user) {
            f.broker->subscribe(f.room, user, {}, [&answers, &joined](const SubscribeAnswer& answer) {
                ++answers;
                joined = answer.ok;
            });
        };
        f.hold = answered;
        bool thrown = false;
        bool through = true;
        const auto short_of_memory = [&](const auto& step) {
            allocations_left = n;
            try {
                step();
            } catch (const std::bad_alloc&) {
                thrown = true;
            }
            f.reactor.settle();
            through = allocations_left >= 0;
            allocations_left = -1;
        };
        if (answered) {
            subscribe("ann");
            f.redis.serve();
            f.stored = 2;
            const std::string answer = error.empty() ? f.life.sync(2, 1) : error;
            FakeLine& line = f.redis.commands();
            f.redis.held[&line].pop_front();
            f.hold = false;
            short_of_memory([&] { line.feed(answer); });
        } else {
            short_of_memory([&] { subscribe("ann"); });
        }
        f.run(3000);
        assert_int_equal(answers, answered || !thrown ? 1 : 0);
        const int members = joined ? 2 : 1;
        joined = false;
        subscribe("bob");
        f.run(2000);
        assert_true(joined);
        assert_int_equal(f.members(), members);
        if (through) break;
    }
}

void when_memory_is_short_a_join_does_not_close_the_room(void**) {
    if (!allocations_can_fail()) return skip();
    a_join_does_not_close_the_room(false);
    a_join_does_not_close_the_room(true);
    a_join_does_not_close_the_room(true, "-OOM command not allowed when used memory > 'maxmemory'\r\n");
    a_join_does_not_close_the_room(true, "-NOSCRIPT No matching script\r\n");
}

// The first command that is held is answered, and the n-th allocation from there on fails. Whether there were fewer.
bool answered_without_memory(BrokerFixture& f, FakeLine& line, const std::string& answer, long n) {
    f.redis.held[&line].pop_front();
    allocations_left = n;
    try {
        line.feed(answer);
        f.reactor.settle();
    } catch (const std::bad_alloc&) {
    }
    const bool through = allocations_left >= 0;
    allocations_left = -1;
    return through;
}

// A sync that could not be taken leaves its joiners for the next one; if Redis is away by then they are told, as is
// whoever has asked meanwhile.
void when_memory_is_short_and_redis_goes_whoever_joins_is_refused(void**) {
    if (!allocations_can_fail()) return skip();
    for (long n = 0;; ++n) {
        BrokerFixture f;
        f.start();
        f.hold = true;
        int answers = 0;
        const auto subscribe = [&](std::string_view user) {
            f.broker->subscribe(f.room, user, {}, [&answers](const SubscribeAnswer&) { ++answers; });
        };
        subscribe("ann");
        f.redis.serve();
        subscribe("bob");
        f.stored = 2;
        const std::string answer = f.life.sync(2, 1);
        FakeLine& line = f.redis.commands();
        f.redis.silent = true;
        const bool through = answered_without_memory(f, line, answer, n);
        f.redis.accepts = false;
        if (line.alive()) line.hang_up();
        f.run(10000);
        assert_int_equal(answers, 2);
        if (through) break;
    }
}

void when_memory_is_short_whoever_asks_for_presence_is_answered(void**) {
    if (!allocations_can_fail()) return skip();
    for (long n = 0;; ++n) {
        BrokerFixture f;
        f.start();
        f.hold = true;
        int answers = 0;
        f.broker->presence("session:42", [&answers](const PresenceAnswer&) { ++answers; });
        f.redis.serve();
        const std::string answer =
            list({bulk("a worker elsewhere"), list({bulk("ann, who has a long name"), bulk("2")}),
                  bulk("1.1"), list({bulk("bob"), bulk("1")})});
        const bool through = answered_without_memory(f, f.redis.commands(), answer, n);
        f.run(3000);
        assert_int_equal(answers, 1);
        if (through) break;
    }
}

// 200 means that whoever is master next is asked for it: also where the one that said so was not proven.
void when_memory_is_short_no_acknowledgement_is_forgotten(void**) {
    if (!allocations_can_fail()) return skip();
    const std::string third(40, '3');
    for (long n = 0;; ++n) {
        BrokerFixture f;
        f.redis.replication = std::string(40, '1');
        f.start();
        f.join();
        f.publish();
        f.redis.serve();
        f.run(100);
        f.said.clear();
        f.said.reserve(1000);
        const std::string second = f.redis.replication = std::string(40, '2');
        f.redis.answer = [&](FakeLine&, const Words& words) -> std::optional<std::string> {
            if (words[0] == "SUBSCRIBE") return "-NOPERM no\r\n";
            return f.script(words);
        };
        const auto hang_up = [&] {
            for (std::size_t i = 0; i < f.reactor.lines.size(); ++i) {
                const std::shared_ptr<FakeLine> line = f.reactor.lines[i];
                if (line->alive()) line->hang_up();
            }
        };
        hang_up();
        f.run(600);
        f.hold = true;
        f.publish();
        f.redis.serve();
        const std::string answer = f.published({});
        allocations_left = n;
        try {
            f.redis.reply(answer);
        } catch (const std::bad_alloc&) {
        }
        const bool through = allocations_left >= 0;
        allocations_left = -1;
        f.hold = false;
        f.run(10);
        const bool acknowledged = f.said.starts_with("ok 2");
        f.redis.replication = third;
        f.redis.answer = [&](FakeLine&, const Words& words) { return f.script(words); };
        f.redis.seen.clear();
        hang_up();
        f.run(3000);
        bool asked = false;
        for (const std::string& call : f.redis.take("EVALSHA sync"))
            asked = asked || call.find(" 2 " + f.life.check(2) + ' ' + second) != std::string::npos;
        assert_true(asked || !acknowledged);
        if (through) break;
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(when_memory_is_short_no_event_is_lost_or_comes_twice),
        cmocka_unit_test(when_memory_is_short_every_publication_is_answered_and_the_worker_may_end),
        cmocka_unit_test(when_memory_is_short_a_join_does_not_close_the_room),
        cmocka_unit_test(when_memory_is_short_and_redis_goes_whoever_joins_is_refused),
        cmocka_unit_test(when_memory_is_short_whoever_asks_for_presence_is_answered),
        cmocka_unit_test(S72_when_memory_is_short_a_member_can_be_taken_out),
        cmocka_unit_test(S72_when_memory_is_short_the_others_are_told_of_who_has_gone),
        cmocka_unit_test(when_memory_is_short_no_acknowledgement_is_forgotten),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

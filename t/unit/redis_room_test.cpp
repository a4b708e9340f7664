// A room kept in step with Redis: each event once and in order, or a gap that says so.
#include <algorithm>
#include <functional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "redis_fixture.hpp"

#include "cmocka.hpp"

using namespace redis_test;

namespace {

struct Fixture {
    Room hub_room{"session:42"};
    RedisRoom room{hub_room, "rooms:{session:42}"};
    RecordingSink sink;
    RecordingMeter meter;
    Life life;
    std::string fence = "r1";

    void message(std::string_view text) { room.on_message(text, fence, sink, meter); }
    void live(std::uint64_t offset) { message(life.message(offset)); }

    // As the broker does it: `also` runs before the sync is over.
    void sync(std::string_view resp, const std::function<void(const RedisSync&)>& also = {}) {
        ReplyReader reader;
        bool broken = false;
        assert_true(reader.feed(resp));
        const auto reply = reader.next(broken);
        assert_true(reply.has_value());
        const auto parsed = RedisSync::parse(*reply);
        assert_true(parsed.has_value());
        room.on_sync(*parsed, fence, sink, meter);
        if (also) also(*parsed);
        room.syncing = false;
        room.on_sync_done();
    }
    void begin_sync() {
        room.syncing = true;
        room.wants_sync = false;
    }
    void synced(std::uint64_t offset, std::uint64_t first = 0) { sync(life.sync(offset, first)); }

    // "2 3": what came since; "no": not all there.
    [[nodiscard]] std::string missed(const RedisSync& sync, Position since, HistoryLimits limits = {}) {
        const auto frames = room.missed(sync, since, limits);
        return frames ? offsets_of(*frames) : "no";
    }
    void given(const char* wanted) { assert_string_equal(sink.take().c_str(), wanted); }
};

std::optional<std::string> parsed(std::string_view resp) {
    ReplyReader reader;
    bool broken = false;
    assert_true(reader.feed(resp));
    const auto reply = reader.next(broken);
    const auto sync = reply ? RedisSync::parse(*reply) : std::nullopt;
    if (!sync) return std::nullopt;
    std::string text = std::string(sync->epoch) + ":" + std::to_string(sync->offset) + " " +
                       std::string(sync->secret) + " " + std::to_string(sync->now_ms) +
                       (sync->has_events ? " +" : "");
    for (const RedisEvent& event : sync->events) text += " " + std::to_string(event.offset);
    return text;
}

void an_answer_of_sync_is_taken_apart(void**) {
    const Life life;
    assert_string_equal(parsed(life.sync(3))->c_str(), "e1:3 secret 1795332720690");
    assert_string_equal(parsed(life.sync(3, 4))->c_str(), "e1:3 secret 1795332720690 +");
    assert_string_equal(parsed(life.sync(3, 2))->c_str(), "e1:3 secret 1795332720690 + 2 3");
    assert_string_equal(parsed(life.sync(0))->c_str(), "e1:0 secret 1795332720690");
}

void an_answer_that_makes_no_sense_is_none(void**) {
    const auto answer = [](std::string_view epoch, const std::string& offset, std::string_view secret,
                           const std::string& now, const std::string& events) {
        return parsed(list({bulk(epoch), offset, bulk(secret), bulk("check"), now, events}));
    };
    assert_true(answer("e1", number(1), "s", number(1), kNil).has_value());
    assert_false(answer("", number(1), "s", number(1), kNil).has_value());
    assert_false(answer("0", number(1), "s", number(1), kNil).has_value());
    assert_false(answer("E1", number(1), "s", number(1), kNil).has_value());
    assert_false(answer("e1", number(-1), "s", number(1), kNil).has_value());
    assert_false(answer("e1", bulk("x"), "s", number(1), kNil).has_value());
    assert_false(answer("e1", number(1), "", number(1), kNil).has_value());
    assert_false(answer("e1", number(1), "s", bulk("x"), kNil).has_value());
    for (const char* id : {"", "1", "1-1", "x-0", "1-0x", "-1-0", "99999999999999999999-0"}) {
        const std::string entry = list({bulk(id), list({bulk("t"), bulk("1"), bulk("b"), bulk("{")})});
        assert_false(answer("e1", number(1), "s", number(1), list({entry})).has_value());
    }
    assert_false(answer("e1", number(1), "s", number(1), list({bulk("1-0")})).has_value());
    assert_false(answer("e1", number(1), "s", number(1), list({list({bulk("1-0"), list({})})})).has_value());
    for (const std::string& other : {number(1), kNil, std::string("-ERR no\r\n"), bulk("e1"), list({})}) {
        assert_false(parsed(other).has_value());
    }
}

void the_first_sync_gives_the_position_and_nothing_else(void**) {
    Fixture f;
    assert_false(f.room.live());
    f.synced(7, 3);
    assert_true(f.room.live());
    f.given("");
    assert_true(f.hub_room.cursor == (Position{0xe1, 7}));
    const RedisClaim claim = f.room.claim();
    assert_string_equal(claim.epoch.c_str(), "e1");
    assert_int_equal(claim.offset, 7);
    assert_string_equal(claim.check.c_str(), f.life.check(7).c_str());
    assert_string_equal(claim.fence.c_str(), "r1");
}

void live_events_are_given_in_order_and_once(void**) {
    Fixture f;
    f.synced(0);
    for (const std::uint64_t offset : {1, 1, 2, 3, 2, 1, 3, 4}) f.live(offset);
    f.given("1 2 3 4");
    assert_false(f.room.wants_sync);
    assert_int_equal(f.hub_room.cursor.offset, 4);
    assert_true(f.room.claim().check == f.life.check(4));
    assert_true(f.meter.counts.empty());
}

void messages_before_the_first_sync_wait_for_it(void**) {
    Fixture f;
    f.begin_sync();
    for (const std::uint64_t offset : {5, 6, 7}) f.live(offset);
    f.given("");
    assert_false(f.room.wants_sync);
    f.synced(5);
    f.given("6 7");
    assert_int_equal(f.hub_room.cursor.offset, 7);
    assert_true(f.meter.counts.empty());
}

void a_hole_is_held_until_a_sync_fills_it(void**) {
    Fixture f;
    f.synced(1);
    f.live(2);
    f.live(5);
    f.given("2");
    assert_true(f.room.wants_sync);
    f.live(6);
    assert_int_equal(f.meter[RedisCount::holes], 1);
    f.begin_sync();
    f.live(7);
    f.live(8);
    f.given("");
    f.synced(6, 3);
    f.given("3 4 5 6 7 8");
    assert_int_equal(f.meter[RedisCount::holes], 1);
    assert_int_equal(f.meter[RedisCount::gaps], 0);
}

void what_was_missing_may_also_come_late(void**) {
    Fixture f;
    f.synced(1);
    f.live(4);
    f.live(3);
    f.given("");
    f.live(2);
    f.given("2 3 4");
    assert_true(f.room.claim().check == f.life.check(4));
}

void a_second_hole_behind_the_first_asks_again(void**) {
    Fixture f;
    f.synced(0);
    f.live(3);
    f.live(6);
    f.begin_sync();
    f.synced(4, 1);
    f.given("1 2 3 4");
    assert_true(f.room.wants_sync);
    f.begin_sync();
    f.synced(5, 5);
    f.given("5 6");
    assert_false(f.room.wants_sync);
}

void a_sync_that_is_older_than_what_came_live_changes_nothing(void**) {
    Fixture f;
    f.synced(3);
    f.begin_sync();
    f.live(4);
    f.live(5);
    f.synced(4, 4);
    f.given("4 5");
    assert_int_equal(f.hub_room.cursor.offset, 5);
    assert_true(f.room.claim().check == f.life.check(5));
    assert_true(f.meter.counts.empty());
}

void a_trimmed_stream_is_a_gap_and_what_follows_goes_on(void**) {
    Fixture f;
    f.synced(1);
    f.live(9);
    f.begin_sync();
    f.synced(8, 5);  // 2, 3 and 4 are gone
    f.given("");     // or are on their way
    assert_int_equal(f.room.suspect, 8);
    assert_false(f.room.wants_sync);
    f.begin_sync();
    f.synced(8, 5);
    f.given("gap(e1:8 trimmed) 9");
    assert_int_equal(f.meter[RedisCount::gaps], 1);
    assert_true(f.hub_room.cursor == (Position{0xe1, 9}));
    f.begin_sync();
    f.synced(12);  // too many to be asked for
    f.given("");
    f.begin_sync();
    f.synced(12);
    f.given("gap(e1:12 trimmed)");
    assert_true(f.room.claim().check == f.life.check(12));
}

void a_stream_with_a_hole_is_given_up_to_it_then_a_gap(void**) {
    Fixture f;
    f.synced(0);
    f.begin_sync();
    const Life& life = f.life;
    const std::string answer = list({bulk("e1"), number(4), bulk("secret"), bulk(life.check(4)), number(kMs),
                                     list({life.entry(1), life.entry(2), life.entry(4)})});
    f.sync(answer);
    f.given("1 2");
    assert_int_equal(f.room.suspect, 4);
    f.begin_sync();
    f.sync(answer);
    f.given("gap(e1:4 trimmed)");
    assert_int_equal(f.room.suspect, 0);
}

// A room without a history: its events are on the channel only.
void a_doorbell_that_a_sync_overtakes_is_no_gap(void**) {
    for (const std::uint64_t first : {0, 2}) {  // no events in the answer, of two kinds
        Fixture f;
        f.synced(0);
        f.begin_sync();
        f.synced(1, first);
        f.given("");
        assert_int_equal(f.room.suspect, 1);
        assert_false(f.room.wants_sync);
        f.live(1);
        f.given("1");
        assert_false(f.room.wants_sync);
        f.begin_sync();
        f.synced(1, first);
        f.given("");
        assert_int_equal(f.meter[RedisCount::gaps], 0);
        assert_int_equal(f.meter[RedisCount::holes], 0);
    }
}

void a_delivered_event_ends_the_doubt_about_a_stream(void**) {
    Fixture f;
    f.synced(0);
    for (std::uint64_t i = 1; i <= 10; ++i) {
        f.begin_sync();
        f.synced(i + 1);
        f.live(i);
    }
    f.given("1 2 3 4 5 6 7 8 9 10");
    assert_int_equal(f.meter[RedisCount::gaps], 0);
    f.begin_sync();
    f.synced(11);
    f.begin_sync();
    f.synced(11);
    f.given("gap(e1:11 trimmed)");
}

// Another server took over and has lost what was published last; what it says of itself is no proof.
void a_lost_tail_is_told_whatever_the_new_server_says(void**) {
    for (const bool same_life : {true, false}) {
        for (const bool in_stream : {true, false}) {
            Fixture f;
            f.fence = "f1";
            f.synced(0);
            for (std::uint64_t i = 1; i <= 10; ++i) f.live(i);
            f.given("1 2 3 4 5 6 7 8 9 10");
            assert_false(f.room.wants_sync);
            f.fence = "f2";
            f.room.on_acknowledged("e1", 11, f.life.check(11), "f2");
            assert_true(std::exchange(f.room.wants_sync, false));
            f.live(11);
            assert_true(f.room.wants_sync);
            f.live(10);
            f.given("");
            const RedisClaim claim = f.room.claim();
            assert_int_equal(claim.offset, 10);
            assert_string_equal(claim.fence.c_str(), "f1");
            assert_string_equal(claim.check.c_str(), f.life.check(10).c_str());
            assert_true(f.room.is_proven("f1") && !f.room.is_proven("f2"));
            f.begin_sync();
            if (same_life) {
                f.synced(11, in_stream ? 11 : 0);
                f.given("11");
                assert_int_equal(f.room.claim().offset, 11);
            } else {
                f.sync(Life{.epoch = "e2", .secret = "other"}.sync(11, in_stream ? 11 : 0));
                f.given("gap(e2:11 reset)");
                assert_string_equal(f.room.claim().epoch.c_str(), "e2");
            }
            assert_string_equal(f.room.claim().fence.c_str(), "f2");
            assert_true(f.room.is_proven("f2") && !f.room.wants_sync);
            assert_int_equal(f.meter[RedisCount::gaps], 0);
        }
    }
}

// A server that was master for a moment has acknowledged something: whoever is master next must have it, or it is told
// before anything newer.
void what_a_passing_server_acknowledged_is_looked_for_at_the_next(void**) {
    for (const bool is_there : {true, false}) {
        Fixture f;
        f.fence = "f1";
        f.synced(42);
        f.room.on_acknowledged("e1", 43, "passing", "f2");
        f.room.on_acknowledged("e1", 44, "newest", "f2");
        f.room.on_acknowledged("e1", 43, "older", "f2");
        assert_int_equal(f.room.unjudged().size(), 1);
        assert_string_equal(f.room.unjudged().front().check.c_str(), "newest");
        assert_int_equal(f.room.claim().offset, 42);
        // That the members' own position is there is not enough.
        f.fence = "f3";
        f.room.wants_sync = false;
        f.room.on_proven("f3", f.sink, f.meter);
        assert_true(f.room.wants_sync && !f.room.is_proven("f3"));
        f.live(43);
        f.given("");
        f.begin_sync();
        if (is_there) {
            f.synced(44, 43);
            f.given("43 44");
        } else {
            f.sync(Life{.epoch = "e2", .secret = "other"}.sync(0));
            f.given("gap(e2:0 reset)");
        }
        assert_true(f.room.is_proven("f3") && f.room.unjudged().empty() && !f.room.wants_sync);
    }
}

void what_the_server_itself_acknowledged_needs_no_judge(void**) {
    for (const bool by_check : {true, false}) {
        Fixture f;
        f.fence = "f1";
        f.synced(42);
        f.fence = "f2";
        f.room.on_acknowledged("e1", 43, "of f2", "f2");
        f.begin_sync();
        if (by_check) {
            f.room.on_proven("f2", f.sink, f.meter);
        } else {
            f.synced(42);
        }
        assert_true(f.room.is_proven("f2") && f.room.unjudged().empty());
        assert_int_equal(f.room.claim().offset, 43);
        assert_string_equal(f.room.claim().check.c_str(), "of f2");
    }
}

void acknowledgements_of_many_servers_are_bounded(void**) {
    Fixture f;
    f.synced(1);
    for (int i = 0; i < 20; ++i) f.room.on_acknowledged("e1", 2, "c", "server" + std::to_string(i));
    assert_int_equal(f.room.unjudged().size(), 8);
    assert_string_equal(f.room.unjudged().back().fence.c_str(), "server19");
}

// An old event may have been trimmed at the next server, which would look like a loss.
void a_repeat_of_what_was_seen_is_no_claim(void**) {
    Fixture f;
    f.synced(42);
    f.room.on_acknowledged("e1", 2, "old", "r2", true);
    assert_true(std::exchange(f.room.wants_sync, false));
    assert_true(f.room.unjudged().empty());
    f.room.on_acknowledged("e1", 43, "not seen", "r2", true);
    assert_int_equal(f.room.unjudged().size(), 1);
}

void what_is_acknowledged_before_the_first_sync_is_the_rooms_own(void**) {
    Fixture f;
    f.room.on_acknowledged("e1", 8, "c8", "r1");
    f.room.on_acknowledged("e1", 7, "c7", "r1");
    assert_string_equal(f.room.claim().check.c_str(), "c8");
    f.room.on_acknowledged("e1", 9, "of r2", "r2");
    f.fence = "r2";
    f.begin_sync();
    f.synced(8);
    assert_true(f.room.unjudged().empty());
    assert_string_equal(f.room.claim().check.c_str(), "of r2");
    Fixture other;
    other.room.remember({{"e1", 8, "c", "r1"}});
    other.room.on_acknowledged("e2", 1, "another life", "r1");
    assert_string_equal(other.room.claim().epoch.c_str(), "e2");
}

void a_check_proves_a_server_too(void**) {
    Fixture f;
    f.synced(10);
    f.fence = "r2";
    f.live(11);
    f.live(12);
    f.given("");
    f.room.on_proven("r2", f.sink, f.meter);
    f.given("11 12");
    assert_true(f.room.is_proven("r2"));
    f.live(13);
    f.given("13");
    assert_string_equal(f.room.claim().fence.c_str(), "r2");
    assert_int_equal(f.room.claim().offset, 13);
    f.room.on_acknowledged("e1", 15, "acknowledged", "r2");
    assert_int_equal(f.room.claim().offset, 15);
}

void what_came_early_shows_a_rollback(void**) {
    Fixture f;
    f.fence = "f1";
    f.synced(8);
    f.live(12);
    f.live(10);
    RedisClaim claim = f.room.claim();
    assert_int_equal(claim.offset, 12);
    assert_string_equal(claim.check.c_str(), f.life.check(12).c_str());
    assert_string_equal(claim.fence.c_str(), "f1");
    // What another server says meanwhile takes nothing from it.
    f.fence = "f2";
    f.live(12);
    f.live(13);
    claim = f.room.claim();
    assert_int_equal(claim.offset, 12);
    assert_string_equal(claim.fence.c_str(), "f1");
    // That server goes on with the room: what the one before said early is not waited for.
    f.begin_sync();
    f.synced(9, 9);
    f.given("9");
    for (const std::uint64_t offset : {10, 11}) f.live(offset);
    f.given("10 11");
    f.live(12);
    f.given("12 13");
}

void the_early_events_of_another_server_are_dropped_by_a_sync(void**) {
    Fixture f;
    f.synced(8);
    f.live(10);
    f.live(11);
    f.fence = "r2";
    f.begin_sync();
    f.synced(9, 9);
    f.given("9");
    assert_int_equal(f.room.claim().offset, 9);
    f.live(10);
    f.given("10");
}

void another_life_of_the_room_is_one_gap(void**) {
    Fixture f;
    f.synced(3);
    f.live(6);
    Life second{.epoch = "e2", .secret = "other"};
    f.message(second.message(1));
    f.message(second.message(2));
    f.given("");
    assert_true(f.room.wants_sync && f.room.strange);
    f.begin_sync();
    f.sync(second.sync(1, 1));
    f.given("gap(e2:1 reset) 2");
    assert_true(f.hub_room.cursor == (Position{0xe2, 2}));
    assert_true(f.room.members_unsure);
    assert_int_equal(f.meter[RedisCount::resets], 1);
    f.message(second.message(3));
    f.live(4);  // of the life before
    f.given("3");
    assert_string_equal(f.room.claim().epoch.c_str(), "e2");
}

void a_stranger_on_the_channel_reaches_nobody(void**) {
    Fixture f;
    f.synced(3);
    f.message("hello");
    f.message("");
    f.message("{\"type\":\"x\",\"offset\":4}");
    assert_int_equal(f.meter[RedisCount::foreign], 3);
    assert_false(f.room.wants_sync);
    const Life forged{.epoch = "e1", .secret = "guessed"};
    f.message(forged.message(4));
    f.given("");
    assert_true(f.room.wants_sync);
    f.begin_sync();
    f.synced(3, 4);
    f.given("");
    assert_int_equal(f.meter[RedisCount::foreign], 4);
    f.live(4);
    f.given("4");
}

void a_wrong_seal_is_a_strangers_whatever_its_epoch(void**) {
    Fixture f;
    f.synced(3);
    f.message(Life{.epoch = "e9", .secret = "guessed"}.message(4));
    f.begin_sync();
    f.synced(3, 4);
    f.given("");
    assert_int_equal(f.meter[RedisCount::foreign], 1);
}

void replayed_messages_are_not_given_again(void**) {
    Fixture f;
    f.synced(0);
    std::vector<std::string> heard;
    for (std::uint64_t i = 1; i <= 5; ++i) heard.push_back(f.life.message(i));
    for (int round = 0; round < 3; ++round) {
        for (const std::string& message : heard) f.message(message);
    }
    f.given("1 2 3 4 5");
    assert_false(f.room.wants_sync);
}

void a_busy_stranger_costs_bounded_memory_and_no_event(void**) {
    Fixture f;
    f.synced(0);
    const Life forged{.epoch = "e1", .secret = "guessed"};
    for (std::uint64_t i = 1; i <= 1000; ++i) f.message(forged.message(i));
    f.live(1);
    f.begin_sync();
    f.synced(1, 1);
    f.given("1");
    assert_int_equal(f.meter[RedisCount::foreign], 1000);
}

void too_many_early_events_are_left_to_the_stream(void**) {
    Fixture f;
    f.synced(0);
    for (std::uint64_t i = 2; i <= 3000; ++i) f.live(i);
    f.given("");
    f.begin_sync();
    f.synced(2000, 1);
    f.begin_sync();
    f.synced(3000, 2001);
    std::string all;
    for (int i = 1; i <= 3000; ++i) all += (i == 1 ? "" : " ") + std::to_string(i);
    f.given(all.c_str());
}

void a_stored_body_that_is_no_json_is_a_gap_in_its_place(void**) {
    Fixture f;
    f.synced(0);
    f.begin_sync();
    const Life& life = f.life;
    const std::string bad = list({bulk("2-0"), list({bulk("t"), bulk("1"), bulk("b"), bulk("{nonsense")})});
    f.sync(list({bulk("e1"), number(3), bulk("secret"), bulk(life.check(3)), number(kMs),
                 list({life.entry(1), bad, life.entry(3)})}),
           [&](const RedisSync& sync) {
               assert_string_equal(f.missed(sync, {0xe1, 0}).c_str(), "no");
           });
    f.given("1 gap(e1:2 invalid) 3");
    assert_int_equal(f.meter[RedisCount::bad_events], 1);
}

void the_claim_is_the_newest_of_delivered_and_acknowledged(void**) {
    Fixture f;
    assert_true(f.room.claim().epoch.empty());
    f.room.remember({{"e1", 9, "remembered", "r0"}});
    assert_int_equal(f.room.claim().offset, 9);
    assert_string_equal(f.room.claim().fence.c_str(), "r0");
    f.synced(4);
    assert_int_equal(f.room.claim().offset, 9);
    f.room.on_acknowledged("e1", 8, "older", "r1");
    assert_string_equal(f.room.claim().check.c_str(), "remembered");
    for (std::uint64_t i = 5; i <= 9; ++i) f.live(i);
    assert_string_equal(f.room.claim().check.c_str(), f.life.check(9).c_str());
    f.room.on_acknowledged("e1", 11, "acknowledged", "r1");
    assert_int_equal(f.room.claim().offset, 11);
    assert_string_equal(f.room.claim().check.c_str(), "acknowledged");
    f.room.on_acknowledged("e2", 99, "of another life", "r1");
    assert_int_equal(f.room.claim().offset, 11);
    f.room.on_acknowledged("e1", 10, "older", "r1");
    assert_int_equal(f.room.claim().offset, 11);
    f.room.on_acknowledged("e1", 12, "old", "r1");
    f.begin_sync();
    f.sync(Life{.epoch = "e3", .secret = "x"}.sync(2));
    assert_string_equal(f.room.claim().epoch.c_str(), "e3");
    assert_int_equal(f.room.claim().offset, 2);
}

void missed_is_everything_since_or_nothing(void**) {
    Fixture f;
    f.sync(f.life.sync(5, 1), [&](const RedisSync& sync) {
        assert_string_equal(f.missed(sync, {0xe1, 0}).c_str(), "1 2 3 4 5");
        assert_string_equal(f.missed(sync, {0xe1, 3}).c_str(), "4 5");
        assert_string_equal(f.missed(sync, {0xe1, 5}).c_str(), "");
        assert_string_equal(f.missed(sync, {0xe1, 6}).c_str(), "no");
        assert_string_equal(f.missed(sync, {0xe1, UINT64_MAX}).c_str(), "no");
        assert_string_equal(f.missed(sync, {0xe2, 3}).c_str(), "no");
        assert_string_equal(f.missed(sync, {0, 0}).c_str(), "no");
    });
    f.given("");
}

void missed_is_bounded_by_the_rooms_history(void**) {
    Fixture f;
    f.life.now = kMs + 1000;
    f.sync(f.life.sync(5, 1), [&](const RedisSync& sync) {
        assert_string_equal(f.missed(sync, {0xe1, 3}, {2, 5000}).c_str(), "4 5");
        assert_string_equal(f.missed(sync, {0xe1, 2}, {2, 5000}).c_str(), "no");
        assert_string_equal(f.missed(sync, {0xe1, 5}, {0, 5000}).c_str(), "");
        assert_string_equal(f.missed(sync, {0xe1, 4}, {0, 5000}).c_str(), "no");
        assert_string_equal(f.missed(sync, {0xe1, 3}, {128, 1000}).c_str(), "4 5");
        assert_string_equal(f.missed(sync, {0xe1, 3}, {128, 999}).c_str(), "no");
        assert_string_equal(f.missed(sync, {0xe1, 5}, {128, 999}).c_str(), "");
    });
}

void missed_needs_the_whole_stream(void**) {
    Fixture f;
    f.sync(f.life.sync(5, 3), [&](const RedisSync& sync) {
        assert_string_equal(f.missed(sync, {0xe1, 1}).c_str(), "no");
        assert_string_equal(f.missed(sync, {0xe1, 2}).c_str(), "3 4 5");
    });
    f.begin_sync();
    f.sync(f.life.sync(5), [&](const RedisSync& sync) {
        assert_string_equal(f.missed(sync, {0xe1, 4}).c_str(), "no");
        assert_string_equal(f.missed(sync, {0xe1, 5}).c_str(), "");
    });
}

void missed_joins_the_stream_with_what_came_live_meanwhile(void**) {
    Fixture f;
    f.synced(3);
    f.begin_sync();
    f.live(4);
    f.live(5);
    f.live(7);  // a hole: beyond the cursor
    f.given("4 5");
    f.sync(f.life.sync(4, 2), [&](const RedisSync& sync) {
        assert_string_equal(f.missed(sync, {0xe1, 1}).c_str(), "2 3 4 5");
        assert_string_equal(f.missed(sync, {0xe1, 4}).c_str(), "5");
        assert_string_equal(f.missed(sync, {0xe1, 5}).c_str(), "");
    });
    f.begin_sync();
    f.sync(f.life.sync(7, 6), [&](const RedisSync& sync) {
        // What was kept for the sync before is gone.
        assert_string_equal(f.missed(sync, {0xe1, 4}).c_str(), "no");
        assert_string_equal(f.missed(sync, {0xe1, 5}).c_str(), "6 7");
    });
    f.given("6 7");
}

void missed_joins_events_that_were_held_for_the_first_sync(void**) {
    Fixture f;
    f.begin_sync();
    f.live(3);
    f.live(4);
    f.sync(f.life.sync(2, 1), [&](const RedisSync& sync) {
        assert_string_equal(f.missed(sync, {0xe1, 0}).c_str(), "1 2 3 4");
    });
    f.given("3 4");
}

void an_event_that_the_sink_could_not_take_comes_again(void**) {
    for (int after = 0; after < 6; ++after) {
        Fixture f;
        f.synced(0);
        f.sink.throws = 1;
        f.sink.throws_after = after;
        std::vector<std::function<void()>> steps;
        for (const std::uint64_t offset : {1, 2, 4, 5}) steps.push_back([&f, offset] { f.live(offset); });
        std::uint64_t stored = 5;
        steps.push_back([&f] { f.synced(5, f.hub_room.cursor.offset + 1); });
        steps.push_back([&] { f.live(stored = 6); });
        for (const auto& step : steps) {
            try {
                step();
            } catch (const std::bad_alloc&) {
                // The connection is made anew, and then the room is synced.
                f.begin_sync();
                f.synced(stored, f.hub_room.cursor.offset + 1);
            }
        }
        f.given("1 2 3 4 5 6");
    }
}

void a_gap_that_the_sink_could_not_take_comes_again(void**) {
    Fixture f;
    f.synced(3);
    f.sink.throws = 1;
    const Life second{.epoch = "e2", .secret = "other"};
    try {
        f.sync(second.sync(4));
        fail();
    } catch (const std::bad_alloc&) {
    }
    assert_true(f.hub_room.cursor == (Position{0xe1, 3}));
    f.sync(second.sync(4));
    f.given("gap(e2:4 reset)");
}

// Whatever comes in whatever order, with syncs in between: no event twice, none out of order, none missing.
void random_arrival_gives_each_event_once_and_in_order(void**) {
    std::mt19937 random(3);
    for (int round = 0; round < 60; ++round) {
        Fixture f;
        f.synced(0);
        std::uint64_t stored = 0;
        std::vector<std::uint64_t> flying;
        for (int step = 0; step < 300; ++step) {
            switch (random() % 4) {
                case 0: flying.push_back(++stored); break;
                case 1:
                    if (flying.empty()) break;
                    std::swap(flying[random() % flying.size()], flying.back());
                    f.live(flying.back());
                    if (random() % 8 != 0) flying.pop_back();  // or it comes again
                    break;
                case 2:
                    if (!flying.empty() && random() % 4 == 0) flying.pop_back();  // lost
                    break;
                case 3:
                    if (random() % 3 != 0) break;
                    f.begin_sync();
                    f.synced(stored, f.hub_room.cursor.offset + 1);
                    break;
            }
        }
        f.begin_sync();
        f.synced(stored, f.hub_room.cursor.offset + 1);
        std::string all;
        for (std::uint64_t i = 1; i <= stored; ++i) all += (i == 1 ? "" : " ") + std::to_string(i);
        f.given(all.c_str());
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_of_sync_is_taken_apart),
        cmocka_unit_test(an_answer_that_makes_no_sense_is_none),
        cmocka_unit_test(the_first_sync_gives_the_position_and_nothing_else),
        cmocka_unit_test(live_events_are_given_in_order_and_once),
        cmocka_unit_test(messages_before_the_first_sync_wait_for_it),
        cmocka_unit_test(a_hole_is_held_until_a_sync_fills_it),
        cmocka_unit_test(what_was_missing_may_also_come_late),
        cmocka_unit_test(a_second_hole_behind_the_first_asks_again),
        cmocka_unit_test(a_sync_that_is_older_than_what_came_live_changes_nothing),
        cmocka_unit_test(a_trimmed_stream_is_a_gap_and_what_follows_goes_on),
        cmocka_unit_test(a_stream_with_a_hole_is_given_up_to_it_then_a_gap),
        cmocka_unit_test(a_doorbell_that_a_sync_overtakes_is_no_gap),
        cmocka_unit_test(a_delivered_event_ends_the_doubt_about_a_stream),
        cmocka_unit_test(a_lost_tail_is_told_whatever_the_new_server_says),
        cmocka_unit_test(what_a_passing_server_acknowledged_is_looked_for_at_the_next),
        cmocka_unit_test(what_the_server_itself_acknowledged_needs_no_judge),
        cmocka_unit_test(acknowledgements_of_many_servers_are_bounded),
        cmocka_unit_test(a_repeat_of_what_was_seen_is_no_claim),
        cmocka_unit_test(what_is_acknowledged_before_the_first_sync_is_the_rooms_own),
        cmocka_unit_test(a_check_proves_a_server_too),
        cmocka_unit_test(what_came_early_shows_a_rollback),
        cmocka_unit_test(the_early_events_of_another_server_are_dropped_by_a_sync),
        cmocka_unit_test(another_life_of_the_room_is_one_gap),
        cmocka_unit_test(a_stranger_on_the_channel_reaches_nobody),
        cmocka_unit_test(a_wrong_seal_is_a_strangers_whatever_its_epoch),
        cmocka_unit_test(replayed_messages_are_not_given_again),
        cmocka_unit_test(a_busy_stranger_costs_bounded_memory_and_no_event),
        cmocka_unit_test(too_many_early_events_are_left_to_the_stream),
        cmocka_unit_test(a_stored_body_that_is_no_json_is_a_gap_in_its_place),
        cmocka_unit_test(the_claim_is_the_newest_of_delivered_and_acknowledged),
        cmocka_unit_test(missed_is_everything_since_or_nothing),
        cmocka_unit_test(missed_is_bounded_by_the_rooms_history),
        cmocka_unit_test(missed_needs_the_whole_stream),
        cmocka_unit_test(missed_joins_the_stream_with_what_came_live_meanwhile),
        cmocka_unit_test(missed_joins_events_that_were_held_for_the_first_sync),
        cmocka_unit_test(an_event_that_the_sink_could_not_take_comes_again),
        cmocka_unit_test(a_gap_that_the_sink_could_not_take_comes_again),
        cmocka_unit_test(random_arrival_gives_each_event_once_and_in_order),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

// What is remembered of rooms without members: the newest event, of the rooms seen last.
#include <string>
#include <vector>

#include "store/redis_witness.hpp"

#include "cmocka.hpp"

using namespace rooms;

namespace {

RedisClaim claim(std::string epoch, std::uint64_t offset, std::string check = "c", std::string fence = "f") {
    return {std::move(epoch), offset, std::move(check), std::move(fence)};
}

// The only claim of a room; none: an empty one.
RedisClaim only(RedisWitness& witness, std::string_view base) {
    const std::vector<RedisClaim> claims = witness.take(base);
    assert_true(claims.size() <= 1);
    return claims.empty() ? RedisClaim() : claims.front();
}

void what_was_noted_is_taken_once(void**) {
    RedisWitness witness;
    witness.note("rooms:{a:1}", claim("e1", 7, "check", "fence"));
    assert_int_equal(witness.size(), 1);
    const RedisClaim taken = only(witness, "rooms:{a:1}");
    assert_string_equal(taken.epoch.c_str(), "e1");
    assert_int_equal(taken.offset, 7);
    assert_string_equal(taken.check.c_str(), "check");
    assert_string_equal(taken.fence.c_str(), "fence");
    assert_int_equal(witness.size(), 0);
    assert_true(only(witness, "rooms:{a:1}").epoch.empty());
    witness.forget("rooms:{a:1}", "fence");
    assert_int_equal(witness.size(), 0);
}

void the_newer_of_two_events_of_one_life_is_kept(void**) {
    RedisWitness witness;
    witness.note("a", claim("e1", 7));
    witness.note("a", claim("e1", 6, "older"));
    assert_int_equal(only(witness, "a").offset, 7);
    witness.note("a", claim("e1", 7));
    witness.note("a", claim("e1", 9));
    assert_int_equal(only(witness, "a").offset, 9);
    assert_int_equal(witness.size(), 0);
}

void what_each_server_said_stays_until_it_has_been_judged(void**) {
    RedisWitness witness;
    witness.note("a", claim("e1", 7, "c", "old"));
    for (const std::uint64_t offset : {6, 8, 7}) witness.note("a", claim("e1", offset, "d", "new"));
    const std::vector<RedisClaim> taken = witness.take("a");
    assert_int_equal(taken.size(), 2);
    assert_string_equal(taken[0].fence.c_str(), "old");
    assert_int_equal(taken[0].offset, 7);
    assert_string_equal(taken[1].fence.c_str(), "new");
    assert_int_equal(taken[1].offset, 8);
    for (const RedisClaim& one : taken) witness.note("a", one);
    witness.forget("a", "old");
    witness.forget("a", "other");
    witness.forget("b", "old");
    assert_string_equal(only(witness, "a").fence.c_str(), "new");
    witness.note("a", claim("e1", 7, "c", "old"));
    witness.forget("a", "old");
    assert_int_equal(witness.size(), 0);
    // There is no end of servers.
    for (int i = 0; i < 20; ++i) witness.note("a", claim("e1", 7, "c", "server" + std::to_string(i)));
    assert_int_equal(witness.take("a").size(), RedisWitness::kMaxServers);
    // Another life needs no judge.
    witness.note("a", claim("e1", 7, "c", "old"));
    witness.note("a", claim("e1", 7, "c", "new"));
    witness.note("a", claim("e2", 1, "d", "new"));
    assert_string_equal(only(witness, "a").epoch.c_str(), "e2");
}

void another_life_of_the_room_takes_the_place_of_the_one_before(void**) {
    RedisWitness witness;
    witness.note("a", claim("e1", 700));
    witness.note("a", claim("e2", 1));
    const RedisClaim taken = only(witness, "a");
    assert_string_equal(taken.epoch.c_str(), "e2");
    assert_int_equal(taken.offset, 1);
}

void rooms_are_visited_the_newest_first(void**) {
    RedisWitness witness;
    for (const char* base : {"a", "b", "c", "a"}) witness.note(base, claim("e", 1));
    std::string order;
    witness.each([&](const std::string& base, const RedisClaim& known) {
        order += base + std::to_string(known.offset);
    });
    assert_string_equal(order.c_str(), "a1c1b1");
}

void the_room_seen_longest_ago_is_forgotten_first(void**) {
    RedisWitness witness;
    const auto name = [](std::size_t i) { return "room-with-a-long-enough-name:" + std::to_string(i); };
    for (std::size_t i = 0; i < RedisWitness::kMaxRooms; ++i) witness.note(name(i), claim("e", i + 1));
    witness.note(name(0), claim("e", 1));  // seen again
    witness.note("new", claim("e", 5));
    assert_int_equal(witness.size(), RedisWitness::kMaxRooms);
    assert_true(only(witness, name(1)).epoch.empty());
    assert_int_equal(only(witness, name(0)).offset, 1);
    assert_int_equal(only(witness, name(2)).offset, 3);
    assert_int_equal(only(witness, "new").offset, 5);
    for (std::size_t i = 0; i < 100000; ++i) witness.note(name(i), claim("e", i + 1));
    assert_int_equal(witness.size(), RedisWitness::kMaxRooms);
    assert_int_equal(only(witness, name(99999)).offset, 100000);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(what_was_noted_is_taken_once),
        cmocka_unit_test(the_newer_of_two_events_of_one_life_is_kept),
        cmocka_unit_test(what_each_server_said_stays_until_it_has_been_judged),
        cmocka_unit_test(another_life_of_the_room_takes_the_place_of_the_one_before),
        cmocka_unit_test(rooms_are_visited_the_newest_first),
        cmocka_unit_test(the_room_seen_longest_ago_is_forgotten_first),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

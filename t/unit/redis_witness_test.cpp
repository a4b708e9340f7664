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

void what_was_noted_is_taken_once(void**) {
    RedisWitness witness;
    witness.note("rooms:{a:1}", claim("e1", 7, "check", "fence"));
    assert_int_equal(witness.size(), 1);
    const RedisClaim taken = witness.take("rooms:{a:1}");
    assert_string_equal(taken.epoch.c_str(), "e1");
    assert_int_equal(taken.offset, 7);
    assert_string_equal(taken.check.c_str(), "check");
    assert_string_equal(taken.fence.c_str(), "fence");
    assert_int_equal(witness.size(), 0);
    assert_true(witness.take("rooms:{a:1}").epoch.empty());
    witness.forget("rooms:{a:1}");
    assert_int_equal(witness.size(), 0);
}

void the_newer_of_two_events_of_one_life_is_kept(void**) {
    RedisWitness witness;
    witness.note("a", claim("e1", 7));
    witness.note("a", claim("e1", 6, "older"));
    assert_int_equal(witness.take("a").offset, 7);
    witness.note("a", claim("e1", 7));
    witness.note("a", claim("e1", 9));
    assert_int_equal(witness.take("a").offset, 9);
    assert_int_equal(witness.size(), 0);
}

void what_another_server_had_stays_until_it_has_been_judged(void**) {
    RedisWitness witness;
    witness.note("a", claim("e1", 7, "c", "old"));
    for (const std::uint64_t offset : {6, 7, 8}) witness.note("a", claim("e1", offset, "d", "new"));
    const RedisClaim taken = witness.take("a");
    assert_string_equal(taken.fence.c_str(), "old");
    assert_string_equal(taken.check.c_str(), "c");
    assert_int_equal(taken.offset, 7);
    witness.note("a", claim("e1", 8, "d", "new"));
    assert_string_equal(witness.take("a").fence.c_str(), "new");
    // Another life needs no judge.
    witness.note("a", claim("e1", 7, "c", "old"));
    witness.note("a", claim("e2", 1, "d", "new"));
    assert_string_equal(witness.take("a").epoch.c_str(), "e2");
}

void another_life_of_the_room_takes_the_place_of_the_one_before(void**) {
    RedisWitness witness;
    witness.note("a", claim("e1", 700));
    witness.note("a", claim("e2", 1));
    const RedisClaim taken = witness.take("a");
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
    assert_true(witness.take(name(1)).epoch.empty());
    assert_int_equal(witness.take(name(0)).offset, 1);
    assert_int_equal(witness.take(name(2)).offset, 3);
    assert_int_equal(witness.take("new").offset, 5);
    for (std::size_t i = 0; i < 100000; ++i) witness.note(name(i), claim("e", i + 1));
    assert_int_equal(witness.size(), RedisWitness::kMaxRooms);
    assert_int_equal(witness.take(name(99999)).offset, 100000);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(what_was_noted_is_taken_once),
        cmocka_unit_test(the_newer_of_two_events_of_one_life_is_kept),
        cmocka_unit_test(what_another_server_had_stays_until_it_has_been_judged),
        cmocka_unit_test(another_life_of_the_room_takes_the_place_of_the_one_before),
        cmocka_unit_test(rooms_are_visited_the_newest_first),
        cmocka_unit_test(the_room_seen_longest_ago_is_forgotten_first),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

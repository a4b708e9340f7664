// The zone's members, limits, slots, counters and mailboxes, in one process (and a few dead ones).
#include "zone_fixture.hpp"

#include <sys/wait.h>

#include <algorithm>
#include <csignal>

using namespace zone_test;

namespace {

std::string presence_text(Zone& zone, std::string_view room) {
    ZonePresence presence = zone.presence(room, 1000);
    std::sort(presence.users.begin(), presence.users.end(),
              [](const auto& a, const auto& b) { return a.id < b.id; });
    std::string text = std::to_string(presence.count);
    for (const auto& user : presence.users) text += " " + user.id + ":" + std::to_string(user.connections);
    return text;
}

// A child that has died and is waited for, or not (a zombie).
pid_t dead_child(bool reaped) {
    const pid_t pid = fork();
    if (pid == 0) {
        raise(SIGSTOP);
        _exit(0);
    }
    int status;
    waitpid(pid, &status, WUNTRACED);
    kill(pid, SIGKILL);
    siginfo_t info;
    waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | (reaped ? 0 : WNOWAIT));
    return pid;
}

void joining_tells_where_the_room_stands(void**) {
    SharedZone shared(1 << 20);
    Zone& zone = shared.zone;
    const unsigned slot = claim(zone);
    const ZoneSeat first = zone.join(slot, "r:1", "u1", kNow);
    assert_int_equal(first.status, ZoneStatus::ok);
    assert_int_equal(first.offset, 0);
    publish(zone, "r:1", "a");
    const ZoneSeat second = zone.join(slot, "r:1", "u2", kNow);
    assert_int_equal(second.offset, 1);
    assert_int_equal(second.epoch, first.epoch);
    assert_int_equal(second.room_index, first.room_index);
    assert_int_equal(publish(zone, "r:1", "b").subscribers, 2);
    assert_int_equal(zone.position(first.room_index).offset, 2);
    const std::uint32_t rooms[] = {first.room_index, kZoneNone};
    Position positions[2];
    zone.positions(rooms, positions);
    assert_int_equal(positions[0].offset, 2);
    assert_int_equal(positions[1].epoch, 0);
    assert_whole(zone);
}

void presence_counts_connections_and_lists_users_once(void**) {
    SharedZone shared(1 << 20);
    Zone& zone = shared.zone;
    const unsigned a = claim(zone), b = claim(zone);
    for (const unsigned slot : {a, a, b}) (void)zone.join(slot, "r:1", "ann", kNow);
    (void)zone.join(b, "r:1", "bob", kNow);
    (void)zone.join(b, "r:1", "", kNow);
    (void)zone.join(b, "r:2", "bob", kNow);
    assert_string_equal(presence_text(zone, "r:1").c_str(), "5 ann:3 bob:1");
    assert_int_equal(zone.presence("r:1", 1).users.size(), 1);
    assert_string_equal(presence_text(zone, "r:3").c_str(), "0");
    assert_string_equal(presence_text(zone, "").c_str(), "0");
    zone.leave(a, "r:1", "ann");
    zone.leave(b, "r:1", "bob");
    assert_string_equal(presence_text(zone, "r:1").c_str(), "3 ann:2");
    assert_whole(zone);
    zone.leave(b, "r:1", "ann");
    zone.leave(b, "r:1", "");
    zone.leave(a, "r:1", "ann");
    assert_string_equal(presence_text(zone, "r:1").c_str(), "0");
    assert_string_equal(presence_text(zone, "r:2").c_str(), "1 bob:1");
    const auto rooms = zone.active_rooms(10);
    assert_int_equal(rooms.size(), 1);
    assert_string_equal(rooms[0].id.c_str(), "r:2");
    assert_int_equal(rooms[0].members, 1);
    assert_whole(zone);
}

void a_leave_without_a_join_changes_nothing(void**) {
    SharedZone shared(1 << 20);
    Zone& zone = shared.zone;
    const unsigned a = claim(zone), b = claim(zone);
    (void)zone.join(a, "r:1", "ann", kNow);
    zone.leave(b, "r:1", "ann");
    zone.leave(a, "r:1", "bob");
    zone.leave(a, "r:2", "ann");
    zone.leave(a, "", "ann");
    assert_string_equal(presence_text(zone, "r:1").c_str(), "1 ann:1");
    assert_whole(zone);
}

void a_users_id_of_any_length_is_listed_whole(void**) {
    SharedZone shared(2 << 20);
    Zone& zone = shared.zone;
    const unsigned slot = claim(zone);
    std::vector<std::string> ids;
    for (std::size_t size = 1; size <= kZoneUserLength; ++size) {
        std::string id(size, '?');
        for (std::size_t i = 0; i < size; ++i) id[i] = static_cast<char>('a' + (i * 7 + size) % 26);
        ids.push_back(id);
        assert_int_equal(zone.join(slot, "r:1", id, kNow).status, ZoneStatus::ok);
    }
    std::vector<std::string> seen;
    for (const auto& user : zone.presence("r:1", 1000).users) seen.push_back(user.id);
    std::sort(ids.begin(), ids.end());
    std::sort(seen.begin(), seen.end());
    assert_true(ids == seen);
    assert_whole(zone);
    for (const std::string& id : ids) zone.leave(slot, "r:1", id);
    assert_int_equal(zone.usage(kNow).user_cells, 0);
    assert_whole(zone);
}

void a_full_table_of_users_or_members_refuses_and_recovers(void**) {
    for (const bool many_users : {true, false}) {
        SharedZone shared(Zone::min_size());
        Zone& zone = shared.zone;
        const unsigned slot = claim(zone);
        const auto user = [&](int i) {
            return many_users ? std::string(190, 'u') + std::to_string(i) : "u" + std::to_string(i % 20);
        };
        const auto room = [&](int i) { return "r:" + std::to_string(many_users ? 0 : i / 20); };
        for (int cycle = 0; cycle < 20; ++cycle) {
            int joined = 0;
            ZoneSeat seat;
            while ((seat = zone.join(slot, room(joined), user(joined), kNow)).status == ZoneStatus::ok)
                ++joined;
            assert_int_equal(seat.status, many_users ? ZoneStatus::full_users : ZoneStatus::full_members);
            assert_true(joined > 30);
            // Who is there already may have more connections, and others go on.
            assert_int_equal(zone.join(slot, room(0), user(0), kNow).status, ZoneStatus::ok);
            assert_int_equal(publish(zone, room(0), "x").status, ZoneStatus::ok);
            zone.leave(slot, room(0), user(0));
            assert_whole(zone);
            for (int i = 0; i < joined; ++i) zone.leave(slot, room(i), user(i));
            assert_int_equal(zone.usage(kNow).tallies, 0);
        }
        assert_whole(zone);
    }
}

void a_limit_counts_over_all_slots(void**) {
    SharedZone shared(1 << 20);
    Zone& zone = shared.zone;
    const unsigned a = claim(zone), b = claim(zone);
    const std::uint64_t key = zone.hash("per user: ann"), other = zone.hash("per user: bob");
    assert_true(key != other);
    assert_int_equal(zone.limit_add(a, key, 3), ZoneStatus::ok);
    assert_int_equal(zone.limit_add(a, key, 3), ZoneStatus::ok);
    assert_int_equal(zone.limit_add(b, key, 3), ZoneStatus::ok);
    assert_int_equal(zone.limit_add(b, key, 3), ZoneStatus::limit);
    assert_int_equal(zone.limit_add(b, other, 3), ZoneStatus::ok);
    assert_int_equal(zone.limit_add(b, other, 0), ZoneStatus::limit);
    assert_int_equal(zone.limit_count(key), 3);
    zone.limit_release(a, key);
    assert_int_equal(zone.limit_add(b, key, 3), ZoneStatus::ok);
    assert_whole(zone);
    zone.release(b);
    assert_int_equal(zone.limit_count(key), 1);
    assert_int_equal(zone.limit_count(other), 0);
    zone.limit_release(a, key);
    zone.limit_release(a, key);
    assert_int_equal(zone.limit_count(key), 0);
    assert_int_equal(zone.usage(kNow).tallies, 0);
    assert_whole(zone);
}

void only_slots_with_members_get_letters(void**) {
    SharedZone shared(1 << 20);
    Zone& zone = shared.zone;
    const unsigned a = claim(zone), b = claim(zone);
    (void)zone.join(a, "r:1", "u", kNow);
    (void)zone.join(a, "r:1", "v", kNow);
    (void)zone.join(b, "r:2", "u", kNow);
    publish(zone, "r:1", "one");
    publish(zone, "r:2", "two");
    publish(zone, "r:3", "three");
    std::vector<std::uint64_t> letters;
    std::string body;
    assert_false(zone.drain(a, letters));
    assert_int_equal(letters.size(), 1);
    const auto record = read(zone, letters[0], body);
    assert_string_equal(body.c_str(), "one");
    assert_int_equal(record->offset, 1);
    assert_false(zone.drain(b, letters));
    assert_int_equal(letters.size(), 2);
    zone.leave(a, "r:1", "u");
    publish(zone, "r:1", "four");
    zone.leave(a, "r:1", "v");
    publish(zone, "r:1", "five");
    letters.clear();
    assert_false(zone.drain(a, letters));
    assert_int_equal(letters.size(), 1);
}

void only_a_slot_that_has_armed_its_bell_is_rung_and_once(void**) {
    SharedZone shared(1 << 20);
    Zone& zone = shared.zone;
    const unsigned slot = claim(zone);
    (void)zone.join(slot, "r:1", "u", kNow);
    std::vector<std::uint64_t> letters;
    SlotMask rung;
    publish(zone, "r:1", "a", {}, kNow, kHistory, &rung);
    assert_false(rung.any());
    assert_false(zone.arm(slot));
    assert_false(zone.drain(slot, letters));
    assert_true(zone.arm(slot));
    publish(zone, "r:2", "b", {}, kNow, kHistory, &rung);
    assert_false(rung.any());
    publish(zone, "r:1", "c", {}, kNow, kHistory, &rung);
    assert_true(rung.test(slot));
    unsigned count = 0;
    rung.for_each([&](unsigned s) { count += s == slot ? 1 : 100; });
    assert_int_equal(count, 1);
    publish(zone, "r:1", "d", {}, kNow, kHistory, &rung);
    assert_false(rung.any());
    assert_false(zone.drain(slot, letters));
    assert_int_equal(letters.size(), 3);
}

void a_mailbox_that_runs_over_says_so_and_nothing_is_lost(void**) {
    SharedZone shared(1 << 20);
    Zone& zone = shared.zone;
    const unsigned slot = claim(zone);
    const ZoneSeat seat = zone.join(slot, "r:1", "u", kNow);
    std::vector<std::uint64_t> letters;
    const int cap = static_cast<int>(ZoneLayout::of(1 << 20).letters_cap);
    for (int i = 0; i < cap; ++i) publish(zone, "r:1", std::to_string(i));
    assert_false(zone.drain(slot, letters));
    assert_int_equal(letters.size(), cap);
    letters.clear();
    for (int i = 0; i < cap + 3; ++i) publish(zone, "r:1", std::to_string(i));
    assert_false(zone.arm(slot));
    assert_true(zone.drain(slot, letters));
    assert_int_equal(letters.size(), cap);
    assert_false(zone.drain(slot, letters));
    const auto end = static_cast<std::uint64_t>(2 * cap);
    assert_int_equal(zone.position(seat.room_index).offset, end + 3);
    assert_string_equal(past(zone, seat, end, kZoneNoLimits).c_str(), "32,33,34");
}

void there_are_256_slots_and_released_ones_come_again(void**) {
    SharedZone shared(1 << 20);
    Zone& zone = shared.zone;
    for (unsigned i = 0; i < kZoneSlots; ++i) assert_int_equal(claim(zone), i);
    assert_false(zone.claim(getpid(), 1).has_value());
    assert_int_equal(zone.owners().size(), kZoneSlots);
    const std::uint32_t generation = zone.owners()[7].generation;
    zone.release(7);
    zone.release(7);
    assert_int_equal(zone.owners().size(), kZoneSlots - 1);
    assert_int_equal(claim(zone), 7);
    assert_true(zone.owners()[7].generation > generation);
    assert_int_equal(zone.owners()[7].pid, getpid());
    // A member on every slot: the room's list of seats is as long as it can be.
    for (unsigned i = 0; i < kZoneSlots; ++i) (void)zone.join(i, "r:1", "u", kNow);
    assert_int_equal(publish(zone, "r:1", "x").subscribers, kZoneSlots);
    std::vector<std::uint64_t> letters;
    for (unsigned i = 0; i < kZoneSlots; ++i) assert_false(zone.drain(i, letters));
    assert_int_equal(letters.size(), kZoneSlots);
    assert_whole(zone);
}

void a_released_slot_takes_all_that_was_its_own(void**) {
    SharedZone shared(1 << 20);
    Zone& zone = shared.zone;
    const unsigned a = claim(zone), b = claim(zone);
    for (const unsigned slot : {a, a, b}) {
        (void)zone.join(slot, "r:1", "ann", kNow);
        (void)zone.join(slot, "r:2", "user " + std::to_string(slot), kNow);
    }
    publish(zone, "r:1", "x");
    zone.release(a);
    assert_string_equal(presence_text(zone, "r:1").c_str(), "1 ann:1");
    assert_string_equal(presence_text(zone, "r:2").c_str(), "1 user 1:1");
    assert_whole(zone);
    // Its next owner starts with an empty mailbox, and hears nothing of rooms it has not joined.
    assert_int_equal(claim(zone), a);
    std::vector<std::uint64_t> letters;
    assert_false(zone.drain(a, letters));
    publish(zone, "r:1", "y");
    assert_false(zone.drain(a, letters));
    assert_int_equal(letters.size(), 0);
    assert_true(zone.arm(a));
}

void counters_outlive_their_slot_and_gauges_do_not(void**) {
    SharedZone shared(1 << 20);
    Zone& zone = shared.zone;
    const std::size_t gauge = Zone::kGauges - 1, counter = Zone::kGauges, last = Zone::kCounters - 1;
    for (int life = 1; life <= 3; ++life) {
        const unsigned a = claim(zone), b = claim(zone);
        for (const unsigned slot : {a, b})
            for (const std::size_t index : {gauge, counter, last})
                zone.counter(slot, index).fetch_add(5, std::memory_order_relaxed);
        assert_int_equal(zone.total(gauge), 10);
        assert_int_equal(zone.total(counter), 10 * life);
        zone.release(a);
        assert_int_equal(zone.total(gauge), 5);
        assert_int_equal(zone.total(counter), 10 * life);
        zone.release(b);
        assert_int_equal(zone.total(gauge), 0);
        assert_int_equal(zone.totals()[last], 10 * life);
        assert_int_equal(zone.totals()[gauge], 0);
    }
}

void a_dead_process_loses_its_slot_even_as_a_zombie(void**) {
    SharedZone shared(1 << 20);
    Zone& zone = shared.zone;
    const unsigned mine = claim(zone);
    for (const bool reaped : {true, false}) {
        const pid_t pid = dead_child(reaped);
        const auto slot = zone.claim(pid, 12345);
        (void)zone.join(*slot, "r:1", "u", kNow);
        zone.counter(*slot, Zone::kGauges).store(2);
        assert_int_equal(zone.reclaim_dead(), 1);
        assert_int_equal(zone.presence("r:1", 10).count, 0);
        if (!reaped) waitpid(pid, nullptr, 0);
    }
    // A pid that came again is another process.
    assert_true(zone.claim(getpid(), Zone::process_start(getpid()) + 1).has_value());
    assert_int_equal(zone.reclaim_dead(), 1);
    assert_int_equal(zone.reclaim_dead(), 0);
    assert_int_equal(zone.owners().size(), 1);
    assert_int_equal(zone.owners()[0].slot, mine);
    assert_int_equal(zone.total(Zone::kGauges), 4);
    assert_int_equal(Zone::process_start(1 << 30), 0);
    assert_whole(zone);
}

void who_starts_or_cleans_up_rings_those_whose_ringer_died(void**) {
    SharedZone shared(1 << 20);
    Zone& zone = shared.zone;
    const unsigned slot = claim(zone);
    (void)zone.join(slot, "r:1", "u", kNow);
    assert_true(zone.arm(slot));
    SlotMask lost;
    publish(zone, "r:1", "x", {}, kNow, kHistory, &lost);
    assert_true(lost.test(slot));
    const unsigned other = claim(zone);
    const SlotMask rings = zone.take_rings();
    assert_true(rings.test(slot));
    assert_false(rings.test(other));
    assert_false(zone.take_rings().any());
    assert_true(zone.claim(dead_child(true), 1).has_value());
    (void)zone.take_rings();
    assert_int_equal(zone.reclaim_dead(), 1);
    assert_true(zone.take_rings().test(slot));
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(joining_tells_where_the_room_stands),
        cmocka_unit_test(presence_counts_connections_and_lists_users_once),
        cmocka_unit_test(a_leave_without_a_join_changes_nothing),
        cmocka_unit_test(a_users_id_of_any_length_is_listed_whole),
        cmocka_unit_test(a_full_table_of_users_or_members_refuses_and_recovers),
        cmocka_unit_test(a_limit_counts_over_all_slots),
        cmocka_unit_test(only_slots_with_members_get_letters),
        cmocka_unit_test(only_a_slot_that_has_armed_its_bell_is_rung_and_once),
        cmocka_unit_test(a_mailbox_that_runs_over_says_so_and_nothing_is_lost),
        cmocka_unit_test(there_are_256_slots_and_released_ones_come_again),
        cmocka_unit_test(a_released_slot_takes_all_that_was_its_own),
        cmocka_unit_test(counters_outlive_their_slot_and_gauges_do_not),
        cmocka_unit_test(a_dead_process_loses_its_slot_even_as_a_zombie),
        cmocka_unit_test(who_starts_or_cleans_up_rings_those_whose_ringer_died),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

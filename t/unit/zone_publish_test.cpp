// The zone's log, rooms, ids and history, in one process.
#include "zone_fixture.hpp"

#include <cstring>
#include <set>

using namespace zone_test;

namespace {

void a_zone_is_attached_only_as_it_was_formatted(void**) {
    SharedZone shared(Zone::min_size());
    assert_true(Zone::min_size() <= 1024 * 1024);
    assert_true(Zone::attach(shared.base, shared.size).ok());
    assert_false(Zone::attach(shared.base, shared.size - 4096).ok());
    assert_false(Zone::attach(static_cast<char*>(shared.base) + 8, shared.size - 8).ok());
    assert_false(Zone::format(shared.base, Zone::min_size() - 1, 1).ok());
    std::memset(shared.base, 1, 64);
    assert_false(Zone::attach(shared.base, shared.size).ok());
}

void every_size_divides_into_parts_that_fit(void**) {
    for (const std::size_t mb : {1, 2, 3, 7, 32, 64, 1000, 4096, 65536}) {
        for (const std::size_t size : {mb << 20, (mb << 20) + 4096, (mb << 20) - 65}) {
            if (size < Zone::min_size()) continue;
            const ZoneLayout layout = ZoneLayout::of(size);
            assert_true(layout.ring + layout.ring_size <= size);
            assert_true(layout.ring_size >= size / 2 - 4096);
            assert_true(layout.mailboxes + kZoneSlots * layout.letters_cap * 8 <= size);
            assert_true(layout.letters_cap >= 16);
            assert_true(layout.rooms_cap > 50);
        }
    }
    const ZoneLayout layout = ZoneLayout::of(32 << 20);
    assert_true(layout.rooms_cap >= 20'000 && layout.ids_cap >= 40'000);
    assert_true(layout.tallies_cap >= 40'000 && layout.cells_cap >= 30'000);
}

void offsets_count_from_one_in_each_room(void**) {
    SharedZone shared(1 << 20);
    const ZoneAnswer first = publish(shared.zone, "session:1", "a");
    assert_int_equal(first.status, ZoneStatus::ok);
    assert_int_equal(first.offset, 1);
    assert_int_not_equal(first.epoch, 0);
    assert_int_equal(first.subscribers, 0);
    assert_int_equal(publish(shared.zone, "session:1", "b").offset, 2);
    const ZoneAnswer other = publish(shared.zone, "session:2", "c");
    assert_int_equal(other.offset, 1);
    assert_true(other.epoch != first.epoch);
    assert_whole(shared.zone);
}

void a_room_without_a_name_or_with_a_long_one_is_refused(void**) {
    SharedZone shared(1 << 20);
    assert_int_equal(publish(shared.zone, "", "a").status, ZoneStatus::bad_name);
    const std::string longest(kZoneNameLength, 'r');
    assert_int_equal(publish(shared.zone, longest, "a").status, ZoneStatus::ok);
    assert_int_equal(publish(shared.zone, longest + "r", "a").status, ZoneStatus::bad_name);
    const unsigned slot = claim(shared.zone);
    assert_int_equal(shared.zone.join(slot, "r:1", std::string(201, 'u'), kNow).status, ZoneStatus::bad_name);
    assert_int_equal(shared.zone.join(slot, "", "u", kNow).status, ZoneStatus::bad_name);
}

void a_body_of_any_size_up_to_the_largest_comes_back_whole(void**) {
    SharedZone shared(1 << 20);
    Zone& zone = shared.zone;
    const unsigned slot = claim(zone);
    const ZoneSeat seat = zone.join(slot, "r:1", "u", kNow);
    std::uint64_t offset = 0;
    for (std::size_t size = 0; size <= zone.max_body(); size = size < 70 ? size + 1 : size * 3 / 2) {
        std::string body(size, '\0');
        for (std::size_t i = 0; i < size; ++i) body[i] = static_cast<char>('a' + (i + size) % 26);
        assert_int_equal(publish(zone, "r:1", body).offset, ++offset);
        assert_true(past(zone, seat, offset - 1) == body);
    }
    const std::string largest(zone.max_body(), 'x');
    assert_int_equal(publish(zone, "r:1", largest, "key").status, ZoneStatus::ok);
    assert_int_equal(publish(zone, "r:1", largest + "x").status, ZoneStatus::too_large);
    assert_whole(zone);
}

void a_batch_is_answered_in_order(void**) {
    SharedZone shared(1 << 20);
    std::vector<ZonePublication> batch(3 * kZoneBatch + 1);
    std::vector<ZoneAnswer> answers(batch.size());
    for (std::size_t i = 0; i < batch.size(); ++i) {
        batch[i].room = i % 2 ? "r:1" : "r:2";
        batch[i].body = "{}";
    }
    batch[100].room = "";
    SlotMask ring;
    shared.zone.publish(batch, kNow, answers, ring);
    for (std::size_t i = 0; i < batch.size(); ++i) {
        if (i == 100) {
            assert_int_equal(answers[i].status, ZoneStatus::bad_name);
        } else {
            assert_int_equal(answers[i].offset, i / 2 + 1 - (i > 100 && i % 2 == 0));
        }
    }
    assert_false(ring.any());
}

void a_records_time_never_goes_back_in_its_room(void**) {
    SharedZone shared(1 << 20);
    Zone& zone = shared.zone;
    const ZoneSeat seat = zone.join(claim(zone), "r:1", "u", kNow);
    std::string body;
    std::int64_t last = 0;
    for (const std::int64_t now : {kNow, kNow + 5, kNow - 3000, kNow + 6}) {
        publish(zone, "r:1", "x", {}, now);
        const ZoneHistory history = zone.history(seat.room_index, seat.epoch, 0, kHistory, now);
        const auto record = read(zone, history.positions.back(), body);
        assert_true(record->timestamp >= last && record->timestamp >= now);
        last = record->timestamp;
    }
    assert_int_equal(last, kNow + 6);
}

void history_is_what_came_after_a_position_in_order(void**) {
    SharedZone shared(1 << 20);
    Zone& zone = shared.zone;
    const ZoneSeat seat = zone.join(claim(zone), "r:1", "u", kNow);
    for (const char* body : {"a", "b", "c", "d"}) {
        publish(zone, "r:1", body);
        publish(zone, "r:2", "other");
    }
    assert_string_equal(past(zone, seat, 0).c_str(), "a,b,c,d");
    assert_string_equal(past(zone, seat, 2).c_str(), "c,d");
    assert_string_equal(past(zone, seat, 4).c_str(), "");
    assert_true(zone.history(seat.room_index, seat.epoch, 4, kHistory, kNow).complete);
    const ZoneHistory history = zone.history(seat.room_index, seat.epoch, 1, kHistory, kNow);
    assert_int_equal(history.position.offset, 4);
    assert_int_equal(history.position.epoch, seat.epoch);
    assert_int_equal(history.positions.size(), 3);
}

void a_position_ahead_or_of_another_epoch_is_gone(void**) {
    SharedZone shared(1 << 20);
    Zone& zone = shared.zone;
    ZoneSeat seat = zone.join(claim(zone), "r:1", "u", kNow);
    publish(zone, "r:1", "a");
    assert_string_equal(past(zone, seat, 2).c_str(), "gone");
    assert_string_equal(past(zone, seat, ~std::uint64_t{0}).c_str(), "gone");
    assert_int_equal(zone.history(seat.room_index, seat.epoch, 2, kHistory, kNow).position.offset, 1);
    ++seat.epoch;
    assert_string_equal(past(zone, seat, 0).c_str(), "gone");
    assert_false(zone.history(kZoneNone, seat.epoch, 0, kHistory, kNow).complete);
    assert_false(zone.history(77, 0, 0, kHistory, kNow).complete);
}

void history_ends_at_its_size_and_its_age(void**) {
    SharedZone shared(1 << 20);
    Zone& zone = shared.zone;
    const ZoneSeat seat = zone.join(claim(zone), "r:1", "u", kNow);
    for (int i = 0; i < 10; ++i) publish(zone, "r:1", "x", {}, kNow + i * 1000);
    const std::int64_t now = kNow + 9000;
    assert_string_equal(past(zone, seat, 7, {3, 60'000}, now).c_str(), "x,x,x");
    assert_string_equal(past(zone, seat, 6, {3, 60'000}, now).c_str(), "gone");
    assert_string_equal(past(zone, seat, 7, {128, 2000}, now).c_str(), "x,x,x");
    assert_string_equal(past(zone, seat, 6, {128, 2000}, now).c_str(), "gone");
    assert_string_equal(past(zone, seat, 9, {0, 2000}, now).c_str(), "gone");
    assert_string_equal(past(zone, seat, 10, {0, 2000}, now).c_str(), "");
    assert_int_equal(past(zone, seat, 0, kZoneNoLimits, now + (std::int64_t{1} << 50)).size(), 19);
}

void without_members_and_history_only_the_offset_is_kept(void**) {
    SharedZone shared(1 << 20);
    Zone& zone = shared.zone;
    const std::string body(1000, 'x');
    for (int i = 1; i <= 100; ++i) assert_int_equal(publish(zone, "r:1", body, {}, kNow, {0, 0}).offset, i);
    assert_true(zone.usage(kNow).ring_used < 100 * 100);
    const ZoneSeat seat = zone.join(claim(zone), "r:1", "u", kNow);
    assert_int_equal(seat.offset, 100);
    assert_string_equal(past(zone, seat, 99).c_str(), "gone");
    publish(zone, "r:1", "live", {}, kNow, {0, 0});
    assert_string_equal(past(zone, seat, 100, kZoneNoLimits).c_str(), "live");
    assert_string_equal(past(zone, seat, 99).c_str(), "gone");
}

void the_log_goes_round_and_its_positions_never_come_again(void**) {
    SharedZone shared(1 << 20);
    Zone& zone = shared.zone;
    const unsigned slot = claim(zone);
    const ZoneSeat seat = zone.join(slot, "r:1", "u", kNow);
    std::vector<std::uint64_t> all, letters;
    std::string body, copied;
    std::uint64_t bytes = 0;
    for (std::uint64_t n = 1; bytes < 8 * (std::uint64_t{1} << 20); ++n) {
        body.assign(1 + n * 7919 % 3001, static_cast<char>('a' + n % 26));
        bytes += body.size();
        publish(zone, n % 3 ? "r:1" : "r:2", body);
        letters.clear();
        assert_false(zone.drain(slot, letters));
        assert_int_equal(letters.size(), n % 3 ? 1 : 0);
        if (letters.empty()) continue;
        assert_true(all.empty() || letters[0] > all.back());
        all.push_back(letters[0]);
        const auto record = read(zone, letters[0], copied);
        assert_true(record && copied == body);
        assert_int_equal(record->offset, all.size());
        if (n % 500 == 1) assert_whole(zone);
    }
    assert_true(all.back() > 8 << 20);
    // What the log has gone over is gone, for readers and in the history; what it has not is not.
    assert_false(read(zone, all.front(), copied).has_value());
    std::uint64_t intact = 0;
    for (const std::uint64_t position : all) intact += read(zone, position, copied).has_value();
    assert_true(intact > 50 && intact < all.size());
    const std::uint64_t oldest = all.size() - intact;
    assert_string_not_equal(past(zone, seat, oldest, kZoneNoLimits).c_str(), "gone");
    assert_string_equal(past(zone, seat, oldest - 1, kZoneNoLimits).c_str(), "gone");
    assert_false(read(zone, all.back() + (1 << 20), copied).has_value());
    assert_false(read(zone, 0, copied).has_value());
    assert_whole(zone);
}

void a_reader_that_is_overtaken_while_it_copies_is_told(void**) {
    SharedZone shared(1 << 20);
    Zone& zone = shared.zone;
    const unsigned slot = claim(zone);
    (void)zone.join(slot, "r:1", "u", kNow);
    const std::string body(60'000, 'x');
    publish(zone, "r:1", body);
    std::vector<std::uint64_t> letters;
    (void)zone.drain(slot, letters);
    std::string copied;
    const auto record = zone.read(letters[0], [&](const rooms::ZoneRecord& head) {
        assert_int_equal(head.body_size, body.size());
        for (int i = 0; i < 20; ++i) publish(zone, "r:1", body);
        copied.resize(head.body_size);
        return copied.data();
    });
    assert_false(record.has_value());
}

void a_repeated_key_gets_the_first_answer_and_publishes_nothing(void**) {
    SharedZone shared(1 << 20);
    Zone& zone = shared.zone;
    const unsigned slot = claim(zone);
    (void)zone.join(slot, "r:1", "u", kNow);
    const ZoneAnswer first = publish(zone, "r:1", "body", "k1");
    assert_int_equal(first.subscribers, 1);
    (void)zone.join(slot, "r:1", "v", kNow);
    publish(zone, "r:1", "between");
    const ZoneAnswer again = publish(zone, "r:1", "body", "k1", kNow + 599'000);
    assert_int_equal(again.status, ZoneStatus::duplicate);
    assert_int_equal(again.offset, first.offset);
    assert_int_equal(again.epoch, first.epoch);
    assert_int_equal(again.subscribers, 1);
    assert_int_equal(publish(zone, "r:1", "other", "k1").status, ZoneStatus::conflict);
    assert_int_equal(publish(zone, "r:2", "other", "k1").status, ZoneStatus::ok);
    assert_int_equal(publish(zone, "r:1", "c", "k2").offset, 3);
    assert_int_equal(publish(zone, "r:1", "body", "k1", kNow + 601'000).offset, 4);
    assert_whole(zone);
}

void the_fingerprint_decides_what_the_same_body_is(void**) {
    SharedZone shared(1 << 20);
    ZonePublication publication{
        .room = "r:1", .body = "one", .key = "k", .fingerprint = "same", .history = kHistory};
    ZoneAnswer answer;
    SlotMask ring;
    shared.zone.publish({&publication, 1}, kNow, {&answer, 1}, ring);
    assert_int_equal(answer.status, ZoneStatus::ok);
    publication.body = "two";
    shared.zone.publish({&publication, 1}, kNow, {&answer, 1}, ring);
    assert_int_equal(answer.status, ZoneStatus::duplicate);
    publication.fingerprint = "other";
    shared.zone.publish({&publication, 1}, kNow, {&answer, 1}, ring);
    assert_int_equal(answer.status, ZoneStatus::conflict);
}

void a_full_table_of_young_ids_refuses_ids_and_nothing_else(void**) {
    SharedZone shared(Zone::min_size());
    Zone& zone = shared.zone;
    const std::uint64_t cap = zone.usage(kNow).ids_cap;
    std::int64_t now = kNow;
    for (std::uint64_t i = 0; i < cap; ++i)
        assert_int_equal(publish(zone, "r:1", "x", std::to_string(i), ++now).status, ZoneStatus::ok);
    assert_int_equal(publish(zone, "r:1", "x", "more", now).status, ZoneStatus::full_ids);
    assert_int_equal(publish(zone, "r:1", "x", "0", now).status, ZoneStatus::duplicate);
    assert_int_equal(publish(zone, "r:1", "x", {}, now).status, ZoneStatus::ok);
    assert_int_equal(zone.usage(now).ids, cap);
    assert_whole(zone);
    // Ten minutes later the oldest make place, and the row goes round several times.
    now = kNow + kZoneIdsKeptMs + 4;
    assert_int_equal(publish(zone, "r:1", "x", "more", now).status, ZoneStatus::ok);
    assert_int_equal(publish(zone, "r:1", "x", "10", now).status, ZoneStatus::duplicate);
    for (std::uint64_t i = 0; i < 5 * cap; ++i) {
        now += kZoneIdsKeptMs / static_cast<std::int64_t>(cap) + 10;
        assert_int_equal(publish(zone, "r:1", "x", "n" + std::to_string(i), now).status, ZoneStatus::ok);
    }
    assert_whole(zone);
}

void ids_that_are_forgotten_make_place(void**) {
    SharedZone shared(Zone::min_size());
    Zone& zone = shared.zone;
    const std::uint64_t cap = zone.usage(kNow).ids_cap;
    for (std::uint64_t i = 0; i < 5 * cap; ++i) {
        const std::string key = std::to_string(i);
        assert_int_equal(publish(zone, "r:1", "x", key, kNow).status, ZoneStatus::ok);
        assert_int_equal(publish(zone, "r:1", "x", key, kNow).status, ZoneStatus::duplicate);
        zone.forget("r:1", key);
        zone.forget("r:1", "never seen");
        zone.forget("r:2", key);
    }
    assert_int_equal(publish(zone, "r:1", "x", "0", kNow).status, ZoneStatus::ok);
    assert_whole(zone);
}

// Places that a publication would free are as good as free, though nothing has been published since.
void ids_that_are_over_do_not_count(void**) {
    SharedZone shared(Zone::min_size());
    Zone& zone = shared.zone;
    const std::uint64_t cap = zone.usage(kNow).ids_cap;
    assert_int_equal(zone.usage(kNow).ids, 0);
    for (std::uint64_t i = 0; i < cap; ++i)
        publish(zone, "r:1", "x", std::to_string(i), kNow + static_cast<std::int64_t>(i));
    for (std::uint64_t over = 0; over <= cap; ++over) {
        const std::int64_t now = kNow + kZoneIdsKeptMs + static_cast<std::int64_t>(over);
        assert_int_equal(zone.usage(now).ids, cap - over);
    }
    assert_int_equal(zone.usage(kNow + 100 * kZoneIdsKeptMs).ids, 0);
    // Those of a clock that was set back since are over, too.
    assert_int_equal(zone.usage(kNow - kZoneIdsKeptMs - 1).ids, 0);
    const std::int64_t later = kNow + kZoneIdsKeptMs + 100;
    assert_int_equal(publish(zone, "r:1", "x", "new", later).status, ZoneStatus::ok);
    assert_int_equal(zone.usage(later).ids, cap - 100 + 1);
}

void ids_that_are_forgotten_do_not_count(void**) {
    SharedZone shared(Zone::min_size());
    Zone& zone = shared.zone;
    const std::uint64_t cap = zone.usage(kNow).ids_cap;
    // One that is kept before them, or they would be dropped at once.
    publish(zone, "r:1", "x", "kept", kNow);
    std::int64_t now = kNow;
    for (std::uint64_t i = 0; i < 3 * cap; ++i) {
        const std::string key = std::to_string(i);
        assert_int_equal(publish(zone, "r:1", "x", key, ++now).status, ZoneStatus::ok);
        assert_int_equal(zone.usage(now).ids, 2);
        zone.forget("r:1", key);
        zone.forget("r:1", key);
        assert_int_equal(zone.usage(now).ids, 1);
    }
    // What is over and what is forgotten is not counted off twice.
    for (int i = 0; i < 5; ++i) publish(zone, "r:1", "x", "young " + std::to_string(i), now + 1000);
    assert_int_equal(zone.usage(now + 1000).ids, 6);
    assert_true(zone.usage(now + 1000 + kZoneIdsKeptMs).ids >= 5);
    assert_int_equal(zone.usage(now + 1001 + kZoneIdsKeptMs).ids, 0);
    assert_whole(zone);
}

// In a full table those that are kept move behind younger ones: what is young is found nevertheless.
void ids_that_moved_hide_no_younger_ones(void**) {
    SharedZone shared(Zone::min_size());
    Zone& zone = shared.zone;
    const std::uint64_t cap = zone.usage(kNow).ids_cap;
    const std::uint64_t some = cap / 4;
    const auto fill = [&](const std::string& name, std::uint64_t count, std::int64_t now) {
        for (std::uint64_t i = 0; i < count; ++i)
            assert_int_equal(publish(zone, "r:1", "x", name + std::to_string(i), now).status, ZoneStatus::ok);
    };
    fill("first", some, kNow);
    fill("gone", 10, kNow);
    fill("second", some, kNow + 1000);
    fill("more", cap - 2 * some - 10, kNow + 1000);
    for (int i = 0; i < 10; ++i) zone.forget("r:1", "gone" + std::to_string(i));
    fill("third", 10, kNow + 2000);
    assert_int_equal(zone.usage(kNow + 2000).ids, cap);
    assert_int_equal(zone.usage(kNow + 1000 + kZoneIdsKeptMs).ids, cap);
    assert_whole(zone);
}

// What one publisher's ids need must not cost another's that are done.
void ids_that_are_kept_do_not_hold_back_those_that_are_forgotten(void**) {
    SharedZone shared(Zone::min_size());
    Zone& zone = shared.zone;
    const std::uint64_t cap = zone.usage(kNow).ids_cap;
    for (int i = 0; i < 20; ++i)
        assert_int_equal(publish(zone, "r:1", "x", "kept " + std::to_string(i), kNow).status, ZoneStatus::ok);
    for (std::uint64_t i = 0; i < 5 * cap; ++i) {
        const std::string key = std::to_string(i);
        assert_int_equal(publish(zone, "r:1", "x", key, kNow).status, ZoneStatus::ok);
        zone.forget("r:1", key);
        if (i % cap == 0) assert_whole(zone);
    }
    for (int i = 0; i < 20; ++i)
        assert_int_equal(publish(zone, "r:1", "x", "kept " + std::to_string(i), kNow).status,
                         ZoneStatus::duplicate);
    assert_whole(zone);
}

void a_clock_set_back_does_not_block_ids(void**) {
    SharedZone shared(Zone::min_size());
    Zone& zone = shared.zone;
    const std::uint64_t cap = zone.usage(kNow).ids_cap;
    for (std::uint64_t i = 0; i < cap; ++i)
        publish(zone, "r:" + std::to_string(i % 10), "x", std::to_string(i), kNow + 86'400'000);
    assert_int_equal(publish(zone, "r:99", "x", "now", kNow).status, ZoneStatus::ok);
}

void a_full_room_table_reclaims_only_what_is_over(void**) {
    SharedZone shared(Zone::min_size());
    Zone& zone = shared.zone;
    const std::uint64_t cap = zone.usage(kNow).rooms_cap;
    const unsigned slot = claim(zone);
    const ZoneSeat kept = zone.join(slot, "kept:1", "u", kNow);
    std::set<std::uint64_t> epochs{kept.epoch};
    const HistoryLimits history{10, 60'000};
    for (std::uint64_t i = 1; i < cap; ++i)
        epochs.insert(publish(zone, "r:" + std::to_string(i), "x", {}, kNow, history).epoch);
    assert_int_equal(epochs.size(), cap);
    assert_int_equal(publish(zone, "new:1", "x", {}, kNow + 60'000 - 1, history).status,
                     ZoneStatus::full_rooms);
    assert_int_equal(zone.join(slot, "new:1", "u", kNow).status, ZoneStatus::full_rooms);
    assert_int_equal(publish(zone, "r:1", "x", {}, kNow, history).offset, 2);
    assert_whole(zone);

    const ZoneAnswer made = publish(zone, "new:1", "x", {}, kNow + 61'000, history);
    assert_int_equal(made.status, ZoneStatus::ok);
    assert_true(epochs.insert(made.epoch).second);
    assert_int_equal(zone.position(kept.room_index).epoch, kept.epoch);
    assert_whole(zone);
    // The second life of every room has another epoch than any before.
    for (std::uint64_t i = 1; i < 3 * cap; ++i) {
        const ZoneAnswer answer = publish(zone, "s:" + std::to_string(i), "x", {},
                                          kNow + 61'000 + static_cast<std::int64_t>(i) * 1000, history);
        assert_int_equal(answer.status, ZoneStatus::ok);
        assert_int_equal(answer.offset, 1);
        assert_true(epochs.insert(answer.epoch).second);
    }
    assert_int_equal(zone.position(kept.room_index).epoch, kept.epoch);
    assert_whole(zone);
}

void leaving_empty_rooms_frees_a_full_table_at_once(void**) {
    SharedZone shared(Zone::min_size());
    Zone& zone = shared.zone;
    const unsigned slot = claim(zone);
    const std::uint64_t cap = zone.usage(kNow).rooms_cap;
    for (int cycle = 0; cycle < 50; ++cycle) {
        std::uint64_t joined = 0;
        while (
            zone.join(slot, "c" + std::to_string(cycle) + ":" + std::to_string(joined), "u", kNow).status ==
            ZoneStatus::ok)
            ++joined;
        assert_int_equal(joined, cap);
        for (std::uint64_t i = 0; i < joined; ++i)
            zone.leave(slot, "c" + std::to_string(cycle) + ":" + std::to_string(i), "u");
        assert_int_equal(zone.usage(kNow).members, 0);
    }
    assert_whole(zone);
}

void usage_says_how_full_it_is(void**) {
    SharedZone shared(1 << 20);
    Zone& zone = shared.zone;
    assert_int_equal(zone.usage(kNow).ring_used, 0);
    assert_int_equal(zone.usage(kNow).ring_age_ms, 0);
    const unsigned slot = claim(zone);
    (void)zone.join(slot, "r:1", std::string(200, 'u'), kNow);
    (void)zone.join(slot, "r:1", "v", kNow);
    (void)zone.join(slot, "r:2", "v", kNow);
    publish(zone, "r:1", "x", "key");
    publish(zone, "r:3", "x", {}, kNow + 100);
    const ZoneUsage usage = zone.usage(kNow + 5000);
    assert_int_equal(usage.size, 1 << 20);
    assert_int_equal(usage.ring_age_ms, 5000);
    assert_true(usage.ring_used >= 128 && usage.ring_used <= 256);
    assert_int_equal(usage.published, 2);
    assert_int_equal(usage.rooms, 3);
    assert_int_equal(usage.rooms_active, 2);
    assert_int_equal(usage.members, 3);
    assert_int_equal(usage.ids, 1);
    assert_int_equal(usage.users, 2);
    assert_int_equal(usage.user_cells, 6);
    assert_int_equal(usage.tallies, 3);
    assert_int_equal(usage.slots, 1);
    assert_int_equal(usage.recoveries, 0);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(a_zone_is_attached_only_as_it_was_formatted),
        cmocka_unit_test(every_size_divides_into_parts_that_fit),
        cmocka_unit_test(offsets_count_from_one_in_each_room),
        cmocka_unit_test(a_room_without_a_name_or_with_a_long_one_is_refused),
        cmocka_unit_test(a_body_of_any_size_up_to_the_largest_comes_back_whole),
        cmocka_unit_test(a_batch_is_answered_in_order),
        cmocka_unit_test(a_records_time_never_goes_back_in_its_room),
        cmocka_unit_test(history_is_what_came_after_a_position_in_order),
        cmocka_unit_test(a_position_ahead_or_of_another_epoch_is_gone),
        cmocka_unit_test(history_ends_at_its_size_and_its_age),
        cmocka_unit_test(without_members_and_history_only_the_offset_is_kept),
        cmocka_unit_test(the_log_goes_round_and_its_positions_never_come_again),
        cmocka_unit_test(a_reader_that_is_overtaken_while_it_copies_is_told),
        cmocka_unit_test(a_repeated_key_gets_the_first_answer_and_publishes_nothing),
        cmocka_unit_test(the_fingerprint_decides_what_the_same_body_is),
        cmocka_unit_test(a_full_table_of_young_ids_refuses_ids_and_nothing_else),
        cmocka_unit_test(ids_that_are_forgotten_make_place),
        cmocka_unit_test(ids_that_are_over_do_not_count),
        cmocka_unit_test(ids_that_are_forgotten_do_not_count),
        cmocka_unit_test(ids_that_moved_hide_no_younger_ones),
        cmocka_unit_test(ids_that_are_kept_do_not_hold_back_those_that_are_forgotten),
        cmocka_unit_test(a_clock_set_back_does_not_block_ids),
        cmocka_unit_test(a_full_room_table_reclaims_only_what_is_over),
        cmocka_unit_test(leaving_empty_rooms_frees_a_full_table_at_once),
        cmocka_unit_test(usage_says_how_full_it_is),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

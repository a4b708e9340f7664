// Processes that share a zone: publishers and readers at once, and the kill of any of them anywhere.
// Needs the fault points: compiled with -DROOMS_FAULTS like all unit programs.
// Before cmocka, whose fail() is a macro.
#include <chrono>
#include <random>

#include "zone_fixture.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <map>

#include "store/fault_point.hpp"

using namespace zone_test;

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

template <typename F>
pid_t in_child(F&& f) {
    const pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);  // a test that fails leaves nobody behind
        f();
        _exit(0);
    }
    assert_true(pid > 0);
    return pid;
}

bool was_killed(pid_t pid) {
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

int exit_code(pid_t pid) {
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// What a worker does with its mailbox: every publication of one room, once and in order.
class Watcher {
public:
    Watcher(Zone& zone, unsigned slot, std::string room)
        : zone_(zone), slot_(slot), seat_(zone.join(slot, room, "watcher", kNow)), cursor_(seat_.offset) {}

    // False: something is missing.
    bool look(std::vector<std::string>& bodies) {
        letters_.clear();
        if (zone_.drain(slot_, letters_)) {
            const ZoneHistory history =
                zone_.history(seat_.room_index, seat_.epoch, cursor_, kZoneNoLimits, kNow);
            if (!history.complete) return false;
            letters_.insert(letters_.begin(), history.positions.begin(), history.positions.end());
        }
        std::string body;
        for (const std::uint64_t letter : letters_) {
            const auto record = read(zone_, letter, body);
            if (!record) return false;
            if (record->room_index != seat_.room_index || record->offset <= cursor_) continue;
            if (record->epoch != seat_.epoch || record->offset != cursor_ + 1) return false;
            ++cursor_;
            bodies.push_back(body);
        }
        return true;
    }
    [[nodiscard]] std::uint64_t cursor() const { return cursor_; }

private:
    Zone& zone_;
    unsigned slot_;
    ZoneSeat seat_;
    std::uint64_t cursor_;
    std::vector<std::uint64_t> letters_;
};

constexpr int kRooms = 4, kPublishers = 3, kReaders = 2, kEach = 3000;

std::string room_of(int i) { return "r:" + std::to_string(i); }

// Exit codes of a reader: 0 all, 3 never rung, 4 a hole.
int read_all(Zone& zone, unsigned slot, int bell, std::uint32_t (*seen)[kPublishers * kEach]) {
    std::vector<ZoneSeat> seats;
    std::vector<std::uint64_t> cursors(kRooms, 0), letters;
    for (int i = 0; i < kRooms; ++i) seats.push_back(zone.join(slot, room_of(i), "u", kNow));
    std::string body;
    int total = 0;
    while (total < kPublishers * kEach) {
        letters.clear();
        if (zone.drain(slot, letters)) {
            std::vector<std::uint64_t> all;
            for (int i = 0; i < kRooms; ++i) {
                const ZoneSeat& seat = seats[static_cast<std::size_t>(i)];
                const ZoneHistory history = zone.history(
                    seat.room_index, seat.epoch, cursors[static_cast<std::size_t>(i)], kZoneNoLimits, kNow);
                if (!history.complete) return 4;
                all.insert(all.end(), history.positions.begin(), history.positions.end());
            }
            letters.insert(letters.begin(), all.begin(), all.end());
        }
        for (const std::uint64_t letter : letters) {
            const auto record = read(zone, letter, body);
            if (!record) return 4;
            std::size_t i = 0;
            while (seats[i].room_index != record->room_index) ++i;
            if (record->offset <= cursors[i]) continue;
            if (record->offset != ++cursors[i]) return 4;
            seen[i][record->offset - 1] = static_cast<std::uint32_t>(std::stoul(body));
            ++total;
        }
        if (!letters.empty() || !zone.arm(slot)) continue;
        pollfd wait{bell, POLLIN, 0};
        if (poll(&wait, 1, 10'000) != 1) return 3;
        std::uint64_t count;
        if (::read(bell, &count, sizeof count) < 0) return 3;
    }
    return 0;
}

void all_readers_see_every_room_in_one_order(void**) {
    SharedZone shared(8 << 20);
    Zone& zone = shared.zone;
    using Seen = std::uint32_t[kRooms][kPublishers * kEach];
    void* memory =
        mmap(nullptr, kReaders * sizeof(Seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    auto* seen = static_cast<Seen*>(memory);
    std::vector<pid_t> readers, publishers;
    int bells[kReaders];
    unsigned slots[kReaders];
    for (int i = 0; i < kReaders; ++i) {
        bells[i] = eventfd(0, EFD_NONBLOCK);
        slots[i] = claim(zone);
        readers.push_back(in_child([&, i] { _exit(read_all(zone, slots[i], bells[i], seen[i])); }));
    }
    while (zone.usage(kNow).members < kReaders * kRooms) usleep(1000);
    for (int p = 0; p < kPublishers; ++p)
        publishers.push_back(in_child([&, p] {
            std::mt19937 random(static_cast<unsigned>(p));
            for (int n = 0; n < kEach; ++n) {
                SlotMask rung;
                const auto room = room_of(static_cast<int>(random() % kRooms));
                publish(zone, room, std::to_string(1 + p * kEach + n), {}, kNow, kHistory, &rung);
                rung.for_each([&](unsigned slot) {
                    const std::uint64_t one = 1;
                    if (write(bells[slot == slots[1]], &one, sizeof one) < 0) _exit(1);
                });
            }
        }));
    for (const pid_t pid : publishers) assert_int_equal(exit_code(pid), 0);
    for (const pid_t pid : readers) assert_int_equal(exit_code(pid), 0);
    assert_memory_equal(seen[0], seen[1], sizeof(Seen));
    std::vector<int> times(1 + kPublishers * kEach, 0);
    for (auto& room : seen[0]) {
        std::uint32_t last[kPublishers] = {};
        for (const std::uint32_t n : room) {
            if (n == 0) break;
            ++times[n];
            std::uint32_t& before = last[(n - 1) / kEach];
            assert_true(n > before);  // one publisher's own order
            before = n;
        }
    }
    for (std::size_t n = 1; n < times.size(); ++n) assert_int_equal(times[n], 1);
    assert_whole(zone);
    munmap(memory, kReaders * sizeof(Seen));
    for (const int bell : bells) close(bell);
}

void a_reader_in_a_race_with_the_writer_never_sees_a_torn_body(void**) {
    SharedZone shared(Zone::min_size());
    Zone& zone = shared.zone;
    const unsigned slot = claim(zone);
    const ZoneSeat seat = zone.join(slot, "r:1", "u", kNow);
    const pid_t writer = in_child([&] {
        std::string body;
        for (std::uint64_t n = 1;; ++n) {
            body.assign(100 + n * 7919 % 20'000, static_cast<char>('a' + n % 26));
            publish(zone, "r:1", body);
        }
    });
    std::uint64_t whole = 0, overtaken = 0;
    std::string body;
    const auto end = Clock::now() + milliseconds(700);
    while (Clock::now() < end) {
        const std::uint64_t last = zone.position(seat.room_index).offset;
        const ZoneHistory history =
            zone.history(seat.room_index, seat.epoch, last > 30 ? last - 30 : 0, kZoneNoLimits, kNow);
        for (const std::uint64_t position : history.positions) {
            const auto record = read(zone, position, body);
            ++(record ? whole : overtaken);
            if (!record) continue;
            assert_int_equal(body.size(), 100 + record->offset * 7919 % 20'000);
            const char expected = static_cast<char>('a' + record->offset % 26);
            assert_int_equal(body.find_first_not_of(expected), std::string::npos);
        }
    }
    kill(writer, SIGKILL);
    assert_true(was_killed(writer));
    assert_true(whole > 0);
    (void)overtaken;
    assert_whole(zone);
}

// Comes to every fault point, recovery excepted. 40 publications with keys in kept:1.
constexpr int kKept = 40;
constexpr std::size_t kCounter = Zone::kGauges + 3;
constexpr std::int64_t kLater = kNow + 2 * kZoneIdsKeptMs;

void workload(Zone& zone) {
    const auto slot = zone.claim(getpid(), Zone::process_start(getpid()));
    if (!slot) _exit(9);
    zone.counter(*slot, 0).store(1);
    zone.counter(*slot, kCounter).store(7);
    const std::string user(190, 'v');
    for (const char* room : {"kept:1", "new:1", "new:2"}) (void)zone.join(*slot, room, user, kLater);
    (void)zone.join(*slot, "new:1", "w", kLater);
    (void)zone.join(*slot, "new:1", "w", kLater);
    (void)zone.limit_add(*slot, 99, 5);
    (void)zone.limit_add(*slot, 99, 5);
    zone.limit_release(*slot, 99);
    for (int n = 0; n < 30; ++n) publish(zone, "big:1", std::string(20'000, 'x'), {}, kLater);
    for (int n = 0; n < kKept; ++n)
        publish(zone, "kept:1", std::to_string(n), "key" + std::to_string(n), kLater);
    zone.leave(*slot, "new:1", "w");
    zone.leave(*slot, "new:1", "w");
    zone.leave(*slot, "new:2", user);
    zone.release(*slot);
}

// Rooms full of what may be reclaimed, ids full of what is old.
void fill(Zone& zone) {
    const ZoneUsage usage = zone.usage(kNow);
    for (std::uint64_t n = 0; usage.rooms_cap > n + 1; ++n)
        publish(zone, "old:" + std::to_string(n), "x", {}, kNow, {1, 1000});
    for (std::uint64_t n = 0; n < usage.ids_cap; ++n)
        publish(zone, "old:1", "x", std::to_string(n), kNow, {1, 1000});
}

// The zone after a death anywhere in workload(): whole, and as if every call had been done or not.
void assert_survived(Zone& zone, Watcher& watcher, bool counted) {
    while (zone.reclaim_dead() != 0) {
    }
    assert_whole(zone);
    std::vector<std::string> bodies;
    assert_true(watcher.look(bodies));
    for (int n = 0; n < kKept; ++n) {
        const auto answer = publish(zone, "kept:1", std::to_string(n), "key" + std::to_string(n), kLater);
        assert_true(answer.status == ZoneStatus::ok || answer.status == ZoneStatus::duplicate);
        assert_int_equal(answer.offset, n + 1);
        if (n % 10 == 9) assert_true(watcher.look(bodies));
    }
    assert_int_equal(bodies.size(), kKept);
    for (int n = 0; n < kKept; ++n)
        assert_string_equal(bodies[static_cast<std::size_t>(n)].c_str(), std::to_string(n).c_str());
    assert_int_equal(zone.usage(kLater).members, 1);
    assert_int_equal(zone.limit_count(99), 0);
    assert_int_equal(zone.total(0), 0);
    const std::uint64_t counter = zone.total(kCounter);
    assert_true(counter == 7 || (counter == 0 && !counted));
    assert_int_equal(zone.owners().size(), 1);
    const unsigned slot = claim(zone);
    assert_int_equal(zone.join(slot, "after:1", "u", kLater).status, ZoneStatus::ok);
    assert_int_equal(publish(zone, "after:1", "x", "key", kLater).subscribers, 1);
    assert_whole(zone);
}

void a_kill_at_any_fault_point_leaves_the_zone_whole(void**) {
    for (const std::string_view point : kFaultPoints) {
        if (point.starts_with("recover:") || point.starts_with("outbox:") || point.starts_with("sweep:"))
            continue;
        for (const char* hit : {"", ":2", ":3", ":29"}) {
            SharedZone shared(Zone::min_size());
            Zone& zone = shared.zone;
            const unsigned slot = claim(zone);
            Watcher watcher(zone, slot, "kept:1");
            fill(zone);
            const pid_t pid = in_child([&] {
                fault_arm(std::string(point) + hit);
                workload(zone);
            });
            const bool killed = was_killed(pid);
            if (!killed && *hit == 0) std::fprintf(stderr, "# not reached: %s\n", std::string(point).c_str());
            assert_true(killed || *hit != 0);
            assert_survived(zone, watcher,
                            !point.starts_with("claim:") && *hit == 0 && !point.starts_with("room:"));
            if (!killed) break;
        }
    }
}

void a_kill_of_the_one_who_repairs_leaves_it_to_the_next(void**) {
    for (const char* first : {"publish:after_head", "apply:half_room", "ids:committed", "mailbox:written",
                              "release:half_retired", "leave:committed"}) {
        for (const std::string_view second : kFaultPoints) {
            if (!second.starts_with("recover:") && !second.starts_with("apply:") &&
                !second.starts_with("ids:") && !second.starts_with("mailbox:") &&
                !second.starts_with("release:") && second != "join:half_linked" &&
                second != "publish:after_apply")
                continue;
            SharedZone shared(Zone::min_size());
            Zone& zone = shared.zone;
            const unsigned slot = claim(zone);
            Watcher watcher(zone, slot, "kept:1");
            fill(zone);
            assert_true(was_killed(in_child([&] {
                fault_arm(first);
                workload(zone);
            })));
            const bool killed = was_killed(in_child([&] {
                fault_arm(second);
                (void)zone.position(0);
            }));
            assert_true(killed || !second.starts_with("recover:"));
            assert_survived(zone, watcher, true);
        }
    }
}

void who_repairs_rings_those_who_have_mail(void**) {
    for (const char* point : {"publish:after_head", "mailbox:written", "publish:after_bells"}) {
        SharedZone shared(Zone::min_size());
        Zone& zone = shared.zone;
        const unsigned slot = claim(zone);
        Watcher watcher(zone, slot, "kept:1");
        assert_true(zone.arm(slot));
        assert_true(was_killed(in_child([&] {
            fault_arm(point);
            publish(zone, "kept:1", "last words");
        })));
        (void)zone.position(0);
        assert_true(zone.take_rings().test(slot));
        std::vector<std::string> bodies;
        assert_true(watcher.look(bodies));
        assert_int_equal(bodies.size(), 1);
        assert_int_equal(zone.usage(kNow).recoveries, 1);
    }
}

void live_at_random(Zone& zone, unsigned seed) {
    std::mt19937 random(seed);
    const auto claimed = zone.claim(getpid(), Zone::process_start(getpid()));
    if (!claimed) _exit(9);
    unsigned slot = *claimed;
    std::vector<std::uint64_t> letters;
    std::vector<std::pair<std::string, std::string>> seats;
    const std::string name = std::to_string(getpid()) + ":";
    int told = 0;
    for (int published = 0;;) {
        const std::string room = "r:" + std::to_string(random() % 2000);
        switch (random() % 16) {
            case 0:
            case 1:
            case 2:
            case 3:
                if (published++ < 1000)
                    publish(zone, room, std::string(random() % 200, 'x'), random() % 2 ? room : std::string(),
                            kNow, {4, 0});
                break;
            case 4:
            case 5:
            case 6:
                if (published++ < 1000) publish(zone, "watch:1", name + std::to_string(told++));
                break;
            case 7:
            case 8:
            case 9:
            case 10:
                seats.emplace_back(room,
                                   std::string(1 + random() % 180, static_cast<char>('a' + random() % 26)));
                if (zone.join(slot, seats.back().first, seats.back().second, kNow).status != ZoneStatus::ok)
                    seats.pop_back();
                break;
            case 11:
            case 12:
            case 13:
                if (seats.empty()) break;
                std::swap(seats[random() % seats.size()], seats.back());
                zone.leave(slot, seats.back().first, seats.back().second);
                seats.pop_back();
                break;
            case 14:
                letters.clear();
                if (!zone.drain(slot, letters)) (void)zone.arm(slot);
                random() % 2 ? (void)zone.limit_add(slot, random() % 9, 1000)
                             : zone.limit_release(slot, random() % 9);
                break;
            case 15:
                if (random() % 64) break;
                zone.release(slot);
                seats.clear();
                slot = zone.claim(getpid(), Zone::process_start(getpid())).value_or(0);
                break;
        }
    }
}

void kills_at_random_instants_lose_nothing_and_break_nothing(void**) {
    SharedZone shared(2 << 20);
    Zone& zone = shared.zone;
    const unsigned slot = claim(zone);
    Watcher watcher(zone, slot, "watch:1");
    std::mt19937 random(7);
    std::map<int, int> told;  // by pid, how many; a pid comes again only much later
    std::vector<std::string> bodies;
    const char* longer = std::getenv("ROOMS_KILL_MS");
    const auto end = Clock::now() + milliseconds(longer ? std::atoi(longer) : 4000);
    unsigned kills = 0;
    for (; Clock::now() < end; kills += 2) {
        pid_t pids[2];
        for (pid_t& pid : pids) {
            const unsigned seed = static_cast<unsigned>(random());
            pid = in_child([&] { live_at_random(zone, seed); });
        }
        usleep(static_cast<useconds_t>(random() % 2000));
        for (const pid_t pid : pids) kill(pid, SIGKILL);
        for (const pid_t pid : pids) assert_true(was_killed(pid));
        assert_true(zone.reclaim_dead() <= 2);
        for (const pid_t pid : pids) told.erase(pid);
        bodies.clear();
        assert_true(watcher.look(bodies));
        for (const std::string& body : bodies) {
            const std::size_t colon = body.find(':');
            int& next = told[std::stoi(body.substr(0, colon))];
            assert_int_equal(std::stoi(body.substr(colon + 1)), next);
            ++next;
        }
        assert_int_equal(zone.usage(kNow).members, 1);
        if (kills % 20 == 0) assert_whole(zone);
    }
    assert_whole(zone);
    assert_int_equal(zone.usage(kNow).slots, 1);
    std::printf("# %u kills, %llu of them in the lock, %llu publications watched\n", kills,
                static_cast<unsigned long long>(zone.usage(kNow).recoveries),
                static_cast<unsigned long long>(watcher.cursor()));
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(all_readers_see_every_room_in_one_order),
        cmocka_unit_test(a_reader_in_a_race_with_the_writer_never_sees_a_torn_body),
        cmocka_unit_test(a_kill_at_any_fault_point_leaves_the_zone_whole),
        cmocka_unit_test(a_kill_of_the_one_who_repairs_leaves_it_to_the_next),
        cmocka_unit_test(who_repairs_rings_those_who_have_mail),
        cmocka_unit_test(kills_at_random_instants_lose_nothing_and_break_nothing),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

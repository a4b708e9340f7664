// A zone in shared memory for the unit tests, and the few steps that all of them take.
// Children share the mapping; the handle is copied by fork.
#pragma once

#include "cmocka.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "store/zone.hpp"

namespace zone_test {

using namespace rooms;

inline constexpr std::int64_t kNow = 1'795'332'720'690;
inline constexpr HistoryLimits kHistory{128, 300'000};

inline Zone must(Result<Zone> zone) {
    assert_true(zone.ok());
    return *zone;
}

struct SharedZone {
    explicit SharedZone(std::size_t bytes, std::uint64_t seed = 42)
        : size(bytes),
          base(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)),
          zone(must(Zone::format(base, bytes, seed))) {}
    ~SharedZone() { munmap(base, size); }
    SharedZone(const SharedZone&) = delete;
    SharedZone& operator=(const SharedZone&) = delete;

    std::size_t size;
    void* base;
    Zone zone;
};

inline unsigned claim(Zone& zone, std::int32_t pid = getpid()) {
    const auto slot = zone.claim(pid, Zone::process_start(pid));
    assert_true(slot.has_value());
    return *slot;
}

inline ZoneAnswer publish(Zone& zone, std::string_view room, std::string_view body, std::string_view key = {},
                          std::int64_t now = kNow, HistoryLimits history = kHistory,
                          SlotMask* rung = nullptr) {
    const ZonePublication publication{
        .room = room, .body = body, .key = key, .fingerprint = {}, .history = history};
    ZoneAnswer answer;
    SlotMask ring;
    zone.publish({&publication, 1}, now, {&answer, 1}, ring);
    if (rung) *rung = ring;
    return answer;
}

inline std::optional<ZoneRecord> read(Zone& zone, std::uint64_t position, std::string& body) {
    return zone.read(position, [&](const rooms::ZoneRecord& head) {
        body.resize(head.body_size);
        return body.data();
    });
}

// The bodies after `from`, joined by commas; "gone" where they are not all there.
inline std::string past(Zone& zone, const ZoneSeat& seat, std::uint64_t from, HistoryLimits limits = kHistory,
                        std::int64_t now = kNow) {
    const ZoneHistory history = zone.history(seat.room_index, seat.epoch, from, limits, now);
    if (!history.complete) return "gone";
    std::string all, body;
    for (const std::uint64_t position : history.positions) {
        if (!read(zone, position, body)) return "overtaken";
        all += (all.empty() ? "" : ",") + body;
    }
    return all;
}

inline void assert_whole(Zone& zone) {
    const std::string wrong = zone.check();
    if (!wrong.empty()) std::fprintf(stderr, "# %s\n", wrong.c_str());
    assert_string_equal(wrong.c_str(), "");
}

}  // namespace zone_test

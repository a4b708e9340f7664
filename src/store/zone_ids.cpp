// See zone_ids.hpp.
#include "store/zone_ids.hpp"

#include <algorithm>
#include <cstdlib>

#include "store/fault_point.hpp"

namespace rooms::zone {

namespace {

// More than one, so that a table that was full at a busy hour empties itself later.
constexpr int kDropAtOnce = 8;
constexpr int kMoveAtOnce = 64;

IdEntry& entry(const ZoneView& v, std::uint64_t number) { return v.ids[number % v.layout.ids_cap]; }

std::uint32_t& bucket(const ZoneView& v, std::uint64_t hash) {
    return v.id_buckets[bucket_of(hash, v.layout.ids_cap)];
}

// An entry from far in the future is of a clock that was set back since: it would block the row.
bool far(std::int64_t ms, std::int64_t now_ms) {
    return now_ms - ms > kZoneIdsKeptMs || ms - now_ms > kZoneIdsKeptMs;
}

bool old(const IdEntry& id, std::int64_t now_ms) { return id_forgotten(id) || far(id.ms, now_ms); }

// The first whose time is not over, forgotten or not. Steps that double: where the row is not in the order of
// time, what is found is near its beginning, and hardly anything that is young stands before it.
std::uint64_t first_young(const ZoneView& v, std::uint64_t first, std::uint64_t next, std::int64_t now_ms) {
    const auto over = [&](std::uint64_t number) { return far(std::abs(entry(v, number).ms), now_ms); };
    std::uint64_t low = first, high = next;
    for (std::uint64_t step = 1; low < high; step *= 2) {
        const std::uint64_t at = std::min(low + step, next) - 1;
        if (!over(at)) {
            high = at;
            break;
        }
        low = at + 1;
    }
    while (low < high) {
        const std::uint64_t middle = low + (high - low) / 2;
        if (over(middle)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

void drop_first(const ZoneView& v, std::uint64_t first) {
    const auto index = static_cast<std::uint32_t>(first % v.layout.ids_cap);
    fault_point("ids:before_drop");
    commit(v.header->ids_first, first + 1);
    fault_point("ids:after_drop");
    if (id_forgotten(v.ids[index])) --v.header->ids_forgotten;
    std::uint32_t* link = &bucket(v, v.ids[index].id[0]);
    while (*link != index) link = &v.ids[*link].next;
    *link = v.ids[index].next;
}

}  // namespace

const IdEntry* id_find(const ZoneView& v, const Hash128& id, std::int64_t now_ms) {
    for (std::uint32_t index = bucket(v, id.low); index != kZoneNone; index = v.ids[index].next) {
        const IdEntry& found = v.ids[index];
        if (found.id[0] == id.low && found.id[1] == id.high && !old(found, now_ms)) return &found;
    }
    return nullptr;
}

void id_forget(const ZoneView& v, const Hash128& id) {
    for (std::uint32_t index = bucket(v, id.low); index != kZoneNone; index = v.ids[index].next) {
        IdEntry& found = v.ids[index];
        if (found.id[0] != id.low || found.id[1] != id.high || id_forgotten(found)) continue;
        found.ms = -found.ms;  // the row stays in the order of time
        ++v.header->ids_forgotten;
    }
}

bool id_make_place(const ZoneView& v, std::int64_t now_ms) {
    ZoneHeader& header = *v.header;
    std::uint64_t next = header.ids_next.load(std::memory_order_relaxed);
    std::uint64_t first = header.ids_first.load(std::memory_order_relaxed);
    for (int n = 0; n < kDropAtOnce && first != next && old(entry(v, first), now_ms); ++n)
        drop_first(v, first++);
    // In a full table the end of the row is where its first entry is: it moves there as it stands.
    for (int n = 0; n < kMoveAtOnce && next - first == v.layout.ids_cap && header.ids_forgotten != 0; ++n) {
        if (old(entry(v, first), now_ms)) {
            drop_first(v, first++);
            break;
        }
        commit(header.ids_next, ++next);
        commit(header.ids_first, ++first);
    }
    return next - first < v.layout.ids_cap;
}

std::uint64_t id_count(const ZoneView& v, std::int64_t now_ms) {
    const std::uint64_t next = v.header->ids_next.load(std::memory_order_relaxed);
    const std::uint64_t first = v.header->ids_first.load(std::memory_order_relaxed);
    const std::uint64_t young = first_young(v, first, next, now_ms);
    // Those among the old ones are not known: there may be as many as there are old ones.
    const std::uint64_t forgotten = v.header->ids_forgotten;
    const std::uint64_t done = forgotten - std::min(forgotten, young - first);
    return next - young - std::min(next - young, done);
}

void id_apply(const ZoneView& v, const LogRecord& record) {
    ZoneHeader& header = *v.header;
    const std::uint64_t next = header.ids_next.load(std::memory_order_relaxed);
    if (next != header.ids_first.load(std::memory_order_relaxed)) {
        const IdEntry& newest = entry(v, next - 1);  // a redo is of the last record only
        if (newest.epoch == record.epoch && newest.offset == record.offset) return;
    }
    entry(v, next) = {.id = {record.id.low, record.id.high},
                      .body = {record.body.low, record.body.high},
                      .epoch = record.epoch,
                      .offset = record.offset,
                      .ms = record.ms,
                      .subscribers = record.subscribers,
                      .next = kZoneNone};
    fault_point("ids:written");
    commit(header.ids_next, next + 1);
    fault_point("ids:committed");
    id_link(v, next);
}

void id_link(const ZoneView& v, std::uint64_t number) {
    IdEntry& id = entry(v, number);
    std::uint32_t& first = bucket(v, id.id[0]);
    id.next = first;
    first = static_cast<std::uint32_t>(number % v.layout.ids_cap);
}

}  // namespace rooms::zone

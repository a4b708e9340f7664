// See zone_log.hpp. The orders of memory are those of a sequence lock: on the writer's side a
// release fence between `tail` and the data, on the reader's an acquire fence between them.
#include "store/zone_log.hpp"

#include <cstring>

#include "store/fault_point.hpp"

namespace rooms::zone {

namespace {

constexpr std::uint64_t kHeaderSize = 64;
constexpr std::uint64_t kIdSize = 32;

std::uint64_t header_size(std::uint32_t flags) {
    return kHeaderSize + (flags & LogRecord::has_id ? kIdSize : 0);
}

ZoneWord* words_at(const ZoneView& v, std::uint64_t position) {
    return v.ring + position % v.layout.ring_size / sizeof(ZoneWord);
}

std::uint64_t load(const ZoneWord& word) { return word.load(std::memory_order_relaxed); }
void store(ZoneWord& word, std::uint64_t n) { word.store(n, std::memory_order_relaxed); }
std::uint64_t pair(std::uint32_t low, std::uint32_t high) { return low | std::uint64_t{high} << 32; }
std::uint32_t low(std::uint64_t word) { return static_cast<std::uint32_t>(word); }
std::uint32_t high(std::uint64_t word) { return static_cast<std::uint32_t>(word >> 32); }

LogRecord load_header(const ZoneWord* w) {
    LogRecord record;
    record.size = low(load(w[0]));
    record.body_size = high(load(w[0]));
    record.room = low(load(w[1]));
    record.flags = high(load(w[1]));
    if (record.flags & LogRecord::skip) return record;  // it may be all that fits there
    record.epoch = load(w[2]);
    record.offset = load(w[3]);
    record.previous = load(w[4]);
    record.ms = static_cast<std::int64_t>(load(w[5]));
    record.expires_ms = static_cast<std::int64_t>(load(w[6]));
    record.subscribers = low(load(w[7]));
    return record;
}

void store_header(ZoneWord* w, const LogRecord& record) {
    store(w[0], pair(record.size, record.body_size));
    store(w[1], pair(record.room, record.flags));
    store(w[2], record.epoch);
    store(w[3], record.offset);
    store(w[4], record.previous);
    store(w[5], static_cast<std::uint64_t>(record.ms));
    store(w[6], static_cast<std::uint64_t>(record.expires_ms));
    store(w[7], record.subscribers);
    if (!(record.flags & LogRecord::has_id)) return;
    store(w[8], record.id.low);
    store(w[9], record.id.high);
    store(w[10], record.body.low);
    store(w[11], record.body.high);
}

bool overtaken(const ZoneView& v, std::uint64_t position) {
    std::atomic_thread_fence(std::memory_order_acquire);
    return v.header->tail.load(std::memory_order_relaxed) > position;
}

}  // namespace

std::uint64_t log_max_body(const ZoneView& v) { return v.layout.ring_size / 4 - kHeaderSize - kIdSize; }

std::uint64_t log_append(const ZoneView& v, LogRecord& record, std::string_view body) {
    ZoneHeader& header = *v.header;
    const std::uint64_t ring = v.layout.ring_size;
    const std::uint64_t head = load(header.head);
    const std::uint64_t to_body = header_size(record.flags);
    record.body_size = static_cast<std::uint32_t>(body.size());
    record.size = static_cast<std::uint32_t>((to_body + body.size() + 15) / 16 * 16);

    const std::uint64_t left = ring - head % ring;
    const std::uint64_t position = left < record.size ? head + left : head;
    const std::uint64_t end = position + record.size;

    fault_point("publish:before_tail");
    std::uint64_t tail = load(header.tail);
    while (end - tail > ring) tail += low(load(*words_at(v, tail)));
    store(header.tail, tail);
    std::atomic_thread_fence(std::memory_order_release);
    fault_point("publish:after_tail");

    if (position != head) {
        ZoneWord* mark = words_at(v, head);
        store(mark[0], left);
        store(mark[1], pair(0, LogRecord::skip));
        fault_point("publish:after_skip");
    }
    ZoneWord* to = words_at(v, position);
    store_header(to, record);
    fault_point("publish:half_record");
    to += to_body / sizeof(ZoneWord);
    const char* from = body.data();
    std::size_t rest = body.size();
    for (; rest >= sizeof(std::uint64_t); rest -= sizeof(std::uint64_t)) {
        std::uint64_t word;
        std::memcpy(&word, from, sizeof word);
        store(*to++, word);
        from += sizeof word;
    }
    if (rest) {
        std::uint64_t word = 0;
        std::memcpy(&word, from, rest);
        store(*to, word);
    }
    fault_point("publish:after_record");
    commit(header.head, end);
    fault_point("publish:after_head");
    return position;
}

std::optional<LogRecord> log_peek(const ZoneView& v, std::uint64_t position) {
    const ZoneHeader& header = *v.header;
    if (position >= header.head.load(std::memory_order_acquire) ||
        position < header.tail.load(std::memory_order_acquire))
        return std::nullopt;
    const LogRecord record = load_header(words_at(v, position));
    if (overtaken(v, position)) return std::nullopt;
    return record;
}

std::uint32_t log_room(const ZoneView& v, std::uint64_t position) {
    return low(load(words_at(v, position)[1]));
}

bool log_copy(const ZoneView& v, std::uint64_t position, const LogRecord& record, char* to) {
    const ZoneWord* from = words_at(v, position) + header_size(record.flags) / sizeof(ZoneWord);
    std::size_t rest = record.body_size;
    for (; rest >= sizeof(std::uint64_t); rest -= sizeof(std::uint64_t)) {
        const std::uint64_t word = load(*from++);
        std::memcpy(to, &word, sizeof word);
        to += sizeof word;
    }
    if (rest) {
        const std::uint64_t word = load(*from);
        std::memcpy(to, &word, rest);
    }
    return !overtaken(v, position);
}

LogRecord log_load(const ZoneView& v, std::uint64_t position) {
    const ZoneWord* w = words_at(v, position);
    LogRecord record = load_header(w);
    if (record.flags & LogRecord::has_id && !(record.flags & LogRecord::skip)) {
        record.id = {load(w[8]), load(w[9])};
        record.body = {load(w[10]), load(w[11])};
    }
    return record;
}

}  // namespace rooms::zone

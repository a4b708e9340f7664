// The log of a zone: records in a ring, at positions of 64 bits that never wrap.
//
// Writing is for the holder of the lock, reading for anybody at any time: a reader copies, then
// looks at `tail` again and throws the copy away when the writer has come past. That is why every
// word of the ring is an atomic and `tail` is advanced before the first byte is written over.
// A record is real when `head` has passed it. Records are contiguous and 16-aligned; one that does
// not fit before the ring's end leaves a skip mark there and starts at the beginning.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "store/zone_hash.hpp"
#include "store/zone_layout.hpp"

namespace rooms::zone {

struct LogRecord {
    enum Flags : std::uint32_t { has_id = 1, no_body = 2, skip = 4 };

    std::uint32_t size = 0;  // with header and padding
    std::uint32_t body_size = 0;
    std::uint32_t room = 0;
    std::uint32_t flags = 0;
    std::uint64_t epoch = 0;
    std::uint64_t offset = 0;
    std::uint64_t previous = 0;  // position of this room's record before this one, 0: none
    std::int64_t ms = 0;
    std::int64_t expires_ms = 0;
    std::uint32_t subscribers = 0;
    Hash128 id{}, body{};  // if has_id
};

// A quarter of the ring, less the header: one record must not sweep the log away.
[[nodiscard]] std::uint64_t log_max_body(const ZoneView& v);

// REQUIRES: the lock; body.size() <= log_max_body(v). Fills size and body_size of the record and
// commits it. Returns its position.
std::uint64_t log_append(const ZoneView& v, LogRecord& record, std::string_view body);

// The record at a position, which must have been that of a record once; empty: overtaken.
[[nodiscard]] std::optional<LogRecord> log_peek(const ZoneView& v, std::uint64_t position);
// Its room, whether it is overtaken or not.
[[nodiscard]] std::uint32_t log_room(const ZoneView& v, std::uint64_t position);
// Copies its body; false: overtaken, and the copy is garbage.
[[nodiscard]] bool log_copy(const ZoneView& v, std::uint64_t position, const LogRecord& record, char* to);

// REQUIRES: the lock; tail <= position < head. What is there, skip marks included.
[[nodiscard]] LogRecord log_load(const ZoneView& v, std::uint64_t position);

}  // namespace rooms::zone

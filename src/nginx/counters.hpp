// What the status page counts, one cell of the zone for each, per worker slot.
//
// Gauges go with their worker; counters of a worker that has gone are kept in the total. The names
// are those of the status page and of the metrics (docs/status.md).
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "core/approval.hpp"
#include "core/command.hpp"

namespace rooms {

enum class Counter : std::uint8_t {
    // gauges: below Zone::kGauges
    connections = 0,
    rooms,
    members,
    draining,       // 1: the worker takes leave of its sockets
    generation,     // of the configuration it runs
    redis_heard,    // when it last knew that it hears, in ms of the steady clock; 0: not yet
    redis_refused,  // since when Redis refuses what it asks; 0: it does not
    postgres_up,    // 1: connected
    // of the first worker
    approvals_pending,
    outbox_depth,
    outbox_age_ms,

    // counters
    accepted = 16,
    messages_in,
    published,  // publications taken, repeats not counted
    duplicates,
    delivered,  // frames given to sockets in fan-out
    bytes_out,  // of them
    gaps,
    handshakes_refused,
    origins_refused,
    publish_bad,
    publish_forbidden,
    publish_conflict,
    publish_too_large,
    publish_unavailable,
    mailbox_overflows,

    closed_first = 36,  // kCloseCodes, then the others
    error_first = 64,   // by ErrorCode

    redis_foreign = 80,  // messages that publish.lua did not make
    redis_holes,         // found and filled from the stream, or told as gaps
    redis_resets,        // lives of rooms that ended under their members
    redis_losses,        // of a server
    redis_bad_events,    // that no browser could read

    approval_bad = 88,  // requests
    approval_forbidden,
    approval_unavailable,
    outbox_published,
    outbox_refused,  // rows that can never be published
    sweeps,
    sweep_ms,
    postgres_losses,

    approval_told = 96,  // by ApprovalStatus: pages have been told of the end
    lateness_ms = 104,   // of timeouts, summed
    lateness_first,      // how many up to kLatenessMs, then the others
};

inline constexpr std::array<std::uint16_t, 21> kCloseCodes = {1000, 1001, 1002, 1003, 1005, 1006, 1007,
                                                              1008, 1009, 1011, 1012, 1013, 4001, 4002,
                                                              4003, 4101, 4102, 4103, 4201, 4202, 4203};

// Upper bounds of the histogram of lateness: from the deadline until pages are told.
inline constexpr std::array<std::uint32_t, 9> kLatenessMs = {10, 25, 50, 100, 250, 500, 1000, 5000, 30000};

constexpr std::size_t cell(Counter counter) { return static_cast<std::size_t>(counter); }

constexpr std::size_t cell_of_close(std::uint32_t code) {
    std::size_t index = 0;
    while (index < kCloseCodes.size() && kCloseCodes[index] != code) ++index;
    return cell(Counter::closed_first) + index;
}

constexpr std::size_t cell_of_lateness(std::uint64_t ms) {
    std::size_t index = 0;
    while (index < kLatenessMs.size() && ms > kLatenessMs[index]) ++index;
    return cell(Counter::lateness_first) + index;
}

constexpr std::size_t cell_of_told(ApprovalStatus status) {
    return cell(Counter::approval_told) + static_cast<std::size_t>(status);
}

constexpr std::size_t cell_of_error(ErrorCode code) {
    return cell(Counter::error_first) + static_cast<std::size_t>(code);
}

}  // namespace rooms

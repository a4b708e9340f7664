// One reading of all counters, and its two forms: JSON and Prometheus text.
//
// Collected by status.cpp from the zone, so that every worker gives the same answer. The encoders are
// pure; names of fields and metrics are those of docs/status.md.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/approval.hpp"
#include "nginx/counters.hpp"
#include "store/zone.hpp"

namespace rooms {

struct WorkerReport {
    std::int32_t pid = 0;
    unsigned slot = 0;
    std::uint64_t generation = 0;
    std::uint64_t connections = 0;
    std::uint64_t rooms = 0;
    std::uint64_t members = 0;
    bool draining = false;
    std::uint64_t silent_ms = 0;  // since it knew that it hears what is published through Redis
    bool refused = false;         // by Redis, for longer than a moment
};

// A worker that has not heard a word of its own for this long is deaf (RedisNode asks every two seconds);
// one whose calls Redis refuses for this long is refused.
inline constexpr std::uint64_t kDeafAfterMs = 3000;

struct RedisReport {
    std::string server;         // as configured, without user and password
    std::uint64_t workers = 0;  // those that take leave not counted
    std::uint64_t hearing = 0;
};

struct PostgresReport {
    std::string server;         // where it is, without user and password
    std::uint64_t workers = 0;  // those that take leave not counted
    std::uint64_t connected = 0;
};

struct StatusReport {
    std::uint64_t uptime_seconds = 0;  // of the master
    std::array<std::uint64_t, kZoneCounters> totals{};
    std::string_view zone_name;
    ZoneUsage zone;
    std::optional<RedisReport> redis;        // where rooms are shared through it
    std::optional<PostgresReport> postgres;  // where there is a database
    std::string_view approvals;              // the store that keeps them: "postgres", "redis"; empty: none
    std::vector<WorkerReport> workers;
    std::optional<std::vector<ZoneRoom>> rooms;  // where they were asked for

    [[nodiscard]] std::uint64_t total(Counter counter) const { return totals[cell(counter)]; }
};

// The reasons under `errors`, in the order in which they are shown, each with its cell.
inline constexpr std::array<std::pair<std::string_view, std::size_t>, 19> kErrorReasons = {{
    {"bad_json", cell_of_error(ErrorCode::bad_json)},
    {"bad_message", cell_of_error(ErrorCode::bad_message)},
    {"unknown_type", cell_of_error(ErrorCode::unknown_type)},
    {"bad_room", cell_of_error(ErrorCode::bad_room)},
    {"bad_token", cell_of_error(ErrorCode::bad_token)},
    {"forbidden", cell_of_error(ErrorCode::forbidden)},
    {"unavailable", cell_of_error(ErrorCode::unavailable)},
    {"limit", cell_of_error(ErrorCode::limit)},
    {"rate", cell_of_error(ErrorCode::rate)},
    {"handshake", cell(Counter::handshakes_refused)},
    {"origin", cell(Counter::origins_refused)},
    {"publish_bad", cell(Counter::publish_bad)},
    {"publish_forbidden", cell(Counter::publish_forbidden)},
    {"publish_conflict", cell(Counter::publish_conflict)},
    {"publish_too_large", cell(Counter::publish_too_large)},
    {"publish_unavailable", cell(Counter::publish_unavailable)},
    {"approval_bad", cell(Counter::approval_bad)},
    {"approval_forbidden", cell(Counter::approval_forbidden)},
    {"approval_unavailable", cell(Counter::approval_unavailable)},
}};

// The ends that pages are told of.
inline constexpr std::array<ApprovalStatus, 4> kApprovalEnds = {
    ApprovalStatus::approved, ApprovalStatus::rejected, ApprovalStatus::timeout, ApprovalStatus::cancelled};

// Calls `each(code, count)` for every close code that is told apart, then for "other".
template <typename Each>
void for_each_close(const StatusReport& report, Each&& each) {
    for (const std::uint16_t code : kCloseCodes) {
        each(std::to_string(code), report.totals[cell_of_close(code)]);
    }
    each(std::string("other"), report.totals[cell_of_close(0)]);
}

[[nodiscard]] std::string encode_status_json(const StatusReport& report);
// Text format 0.0.4, without the last newline.
[[nodiscard]] std::string encode_status_metrics(const StatusReport& report);

}  // namespace rooms

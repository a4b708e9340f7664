// Approvals as the HTTP API speaks of them: what a request asks for, read from its JSON (contract: HTTP
// of section 6). What becomes of an approval is decided by the store and its clock alone.
//
// Everything here is a copy: it may outlive the request. Instants are ms since 1970.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/result.hpp"

namespace rooms {

inline constexpr std::size_t kMaxApprovalText = 200;                      // of ids, actions, names; bytes
inline constexpr std::int64_t kMaxApprovalMs = 366ll * 24 * 3600 * 1000;  // of a duration
inline constexpr std::int64_t kMaxApprovalInstant = 253402300799999;      // the year 9999
inline constexpr unsigned kMaxApprovalPage = 1000;

enum class ApprovalStatus : std::uint8_t { pending, approved, rejected, timeout, cancelled };
[[nodiscard]] std::string_view approval_status_text(ApprovalStatus status);
[[nodiscard]] std::optional<ApprovalStatus> parse_approval_status(std::string_view text);

// Octets of a context. Each approval comes with it in every list and event.
inline constexpr std::size_t kMaxContext = 512 * 1024;

struct NewApproval {
    std::string session;
    std::string action;
    std::string context;                     // JSON, at most kMaxContext (the store looks); empty: none
    std::optional<std::string> tenant;       // given: must be the session's
    std::optional<std::string> id;           // none: the store gives one
    std::optional<std::int64_t> timeout_ms;  // at most one of the two
    std::optional<std::int64_t> expires_at_ms;
};

struct Resolution {
    ApprovalStatus status = ApprovalStatus::cancelled;
    std::optional<std::string> by;
};

struct ApprovalQuery {
    std::optional<std::string> session;  // at least one of the two
    std::optional<std::string> tenant;
    std::optional<ApprovalStatus> status;
    std::optional<unsigned> limit;
    [[nodiscard]] unsigned page() const { return limit.value_or(100); }
    std::optional<std::string> after;  // the id of the last one seen
};

struct ApprovalError {
    bool bad_json = false;  // else a field is wrong, and named in the message
    std::string message;
};

// Bodies of POST. A field that is not known is an error: a misspelt one must not be ignored.
[[nodiscard]] Result<NewApproval, ApprovalError> parse_new_approval(std::string_view body);
// {status: approved | rejected, resolvedBy}
[[nodiscard]] Result<Resolution, ApprovalError> parse_resolution(std::string_view body);
// {resolvedBy?}, or nothing at all
[[nodiscard]] Result<Resolution, ApprovalError> parse_cancellation(std::string_view body);
// {by}: milliseconds
[[nodiscard]] Result<std::int64_t, ApprovalError> parse_extension(std::string_view body);

// One argument of GET, decoded. Names are sessionId, tenantId, status, limit, after.
[[nodiscard]] std::optional<ApprovalError> read_query_argument(ApprovalQuery& query, std::string_view name,
                                                               std::string_view value);

// "15m", "1h 30m", "500ms": as nginx writes times, without years and months. Milliseconds.
[[nodiscard]] std::optional<std::int64_t> parse_duration_ms(std::string_view text);

// What can be an id in this API: 1 to 200 bytes of UTF-8 without control characters.
[[nodiscard]] bool is_approval_text(std::string_view text);
// What a new one may be called: 1 to 200 of [A-Za-z0-9_.:@~-], so that it fits into a path as it is; "." and
// ".." do not (RFC 3986, section 5.2.4).
[[nodiscard]] bool is_approval_id(std::string_view text);

}  // namespace rooms

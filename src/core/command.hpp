// What a browser says: one text message, one Command or the reason why it is none.
//
// A message that is refused costs its sender an `error` frame, never the connection. Unknown
// members are ignored, so that newer clients can talk to older servers; JSON that two readers
// could understand in two ways (duplicate members) is not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "core/result.hpp"

namespace rooms {

inline constexpr std::size_t kMaxRef = 128;

// The codes of `error` frames.
enum class ErrorCode : std::uint8_t {
    bad_json,
    bad_message,
    unknown_type,
    bad_room,
    bad_token,
    forbidden,
    unavailable,
    limit,
    rate,
};

[[nodiscard]] std::string_view error_code_text(ErrorCode code);

// Whether the same message can succeed later: unavailable and rate.
[[nodiscard]] bool is_retryable(ErrorCode code);

// A client's position. An epoch that is none of ours reads as 0, which no room ever has, so that
// the answer is recovered:false and not an error in a loop.
struct Since {
    std::uint64_t epoch = 0;
    std::uint64_t offset = 0;
    bool operator==(const Since&) const = default;
};

// All rooms in commands have passed is_room().
struct Subscribe {
    std::string room;
    std::optional<Since> since;
};
struct Unsubscribe {
    std::string room;
};
struct Ping {};
struct Auth {
    std::string token;
};
struct Presence {
    std::string room;
};

using Command = std::variant<Subscribe, Unsubscribe, Ping, Auth, Presence>;

struct ParsedCommand {
    Command command;
    std::string ref;  // raw JSON of a scalar, repeated verbatim in the answer; empty: none
};

struct CommandError {
    ErrorCode code = ErrorCode::bad_message;
    std::string message;  // what is wrong, and where
    std::string room;     // as far as known; not necessarily a valid one; empty: unknown
    std::string ref;      // as ParsedCommand::ref
};

// REQUIRES: nothing; `text` may be any bytes.
Result<ParsedCommand, CommandError> parse_command(std::string_view text);

}  // namespace rooms

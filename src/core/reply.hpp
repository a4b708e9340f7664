// What the server says by itself or in answer, as JSON: on the socket and over HTTP.
//
// Events are not made here (core/envelope). `ref` is the raw JSON that came with the command,
// empty for none. Encoding cannot fail; all texts given must be UTF-8. Times are ms since 1970.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/command.hpp"

namespace rooms {

// An epoch as text: lower-case hex, no leading zeros.
[[nodiscard]] std::string epoch_text(std::uint64_t epoch);
// 1 to 16 lower-case hex digits; nothing otherwise.
[[nodiscard]] std::optional<std::uint64_t> parse_epoch(std::string_view text);

// "2026-11-22T07:12:00.690Z"
[[nodiscard]] std::string iso8601_text(std::int64_t time_ms);

struct Connected {
    std::string_view user_id;  // empty: null
    std::string_view connection_id;
    std::optional<std::int64_t> expires_at;  // absent where the token has no exp
    std::uint64_t heartbeat_ms = 0;
    std::int64_t now_ms = 0;
};
[[nodiscard]] std::string encode_connected(const Connected& connected);

struct Subscribed {
    std::string_view room;
    std::uint64_t epoch = 0;
    std::uint64_t offset = 0;
    std::optional<bool> recovered;  // only where the client gave a position
    std::int64_t now_ms = 0;
};
[[nodiscard]] std::string encode_subscribed(const Subscribed& subscribed, std::string_view ref = {});

[[nodiscard]] std::string encode_unsubscribed(std::string_view room, std::string_view ref = {});

// `room` empty: left out.
[[nodiscard]] std::string encode_error(ErrorCode code, std::string_view room, std::string_view message,
                                       bool retryable, std::string_view ref = {});
[[nodiscard]] std::string encode_error(const CommandError& error);

// "Access denied to session": old pages show this sentence. REQUIRES: is_room(room).
[[nodiscard]] std::string forbidden_message(std::string_view room);

// `reason`: "trimmed", ...
[[nodiscard]] std::string encode_gap(std::string_view room, std::uint64_t epoch, std::uint64_t offset,
                                     std::string_view reason);
[[nodiscard]] std::string encode_pong(std::int64_t now_ms, std::string_view ref = {});
// No expiry: null.
[[nodiscard]] std::string encode_auth_ok(std::optional<std::int64_t> expires_at, std::string_view ref = {});
[[nodiscard]] std::string encode_token_expiring(std::int64_t expires_at);
[[nodiscard]] std::string encode_reconnect(std::uint64_t after_ms);

struct PresenceEntry {
    std::string_view id;
    std::uint64_t connections = 0;
};
// `count`: connections, those without a user id included.
[[nodiscard]] std::string encode_presence(std::string_view room, std::span<const PresenceEntry> users,
                                          std::uint64_t count, std::string_view ref = {});

// HTTP bodies, without a last newline.
struct PublishReceipt {
    std::string_view room;
    std::uint64_t epoch = 0;
    std::uint64_t offset = 0;
    std::uint64_t subscribers = 0;
    bool duplicate = false;
};
// All append to `out`: the answer to a batch of thousands is one text.
void append_publish_answer(std::string& out, const PublishReceipt& receipt);
// {"error":{"code":...,"message":...}}
void append_http_error(std::string& out, std::string_view code, std::string_view message);
[[nodiscard]] std::string encode_http_error(std::string_view code, std::string_view message);

// {"results":[...]}, of answers and errors. For a batch, and for one publication with `rooms` (one result for
// each room, in order); such a publication in a batch nests its list.
class PublishResults {
public:
    explicit PublishResults(std::string& out) : out_(out) { out_ += "{\"results\":["; }
    // Where the next result goes.
    [[nodiscard]] std::string& next() {
        if (out_.back() != '[') out_ += ',';
        return out_;
    }
    void finish() { out_ += "]}"; }

private:
    std::string& out_;
};

}  // namespace rooms

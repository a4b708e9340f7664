// One event on its way out of Redis: from a room's channel, where publish.lua sealed it, or from its stream.
//
//   SEAL EPOCH OFFSET MS BODY      SEAL: sha1 of all behind it and the room's secret, in hex
//
// Only publish.lua, which reads the secret in Redis, can seal: what somebody else publishes on the channel
// is told apart. Views into the message.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "core/payload.hpp"

namespace rooms {

struct RedisEvent {
    std::string_view epoch;
    std::uint64_t offset = 0;
    std::int64_t ms = 0;
    std::string_view body;    // JSON without its end, as core/envelope makes it
    std::string_view seal;    // empty: from the stream
    std::string_view sealed;  // what the seal is of

    // Nothing: not of that form.
    [[nodiscard]] static std::optional<RedisEvent> parse(std::string_view message);
    // publish.lua wrote it, in the life of the room that has this secret.
    [[nodiscard]] bool is_sealed(std::string_view secret) const;
    // As scripts know it: the beginning of the seal.
    [[nodiscard]] std::string_view check() const { return seal.substr(0, 16); }
    // What the page gets. Empty: the body is no JSON, and nobody may get it.
    [[nodiscard]] Payload frame() const;
};

}  // namespace rooms

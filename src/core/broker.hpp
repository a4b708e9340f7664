// The broker: what makes a room one for all workers (zone) or for all hosts (Redis).
//
// Brokers order publications, keep the history, know the members, and bring every publication to
// the rooms of this process through the RoomSink. Answers come through callbacks, which may run
// before the call returns (zone) or turns later (Redis); they run at most once, exactly once unless
// the worker ends first. Views in a request live until the call returns, views in an answer until the
// callback returns.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/history.hpp"
#include "core/payload.hpp"

namespace rooms {

class Room;

// Where a room stands: `offset` counts 1, 2, 3 … within the life that `epoch` names.
struct Position {
    std::uint64_t epoch = 0;
    std::uint64_t offset = 0;
    bool operator==(const Position&) const = default;
};

struct PublishRequest {
    std::string_view room;
    std::string_view body;         // the event's JSON up to its offset: encode_event_body
    std::string_view key;          // idempotency key within the room; empty: none
    std::string_view fingerprint;  // what "the same body" means for a repeated key
    HistoryLimits history;
};

enum class PublishStatus : std::uint8_t { ok, duplicate, conflict, too_large, unavailable };

struct PublishAnswer {
    PublishStatus status = PublishStatus::unavailable;
    Position position;
    std::uint32_t subscribers = 0;  // members on this host
    std::string_view reason;        // what the operator can do, where status is not ok
    bool logged = false;            // the operator has been told
};

using PublishDone = std::function<void(std::span<const PublishAnswer>)>;

struct SubscribeAnswer {
    bool ok = false;
    bool full = false;                // !ok: no place left, raise the broker's size
    std::string_view reason;          // where !ok; for people
    bool recovered = false;           // REQUIRES since in the request: `missed` is everything since
    std::span<const Payload> missed;  // encoded frames, in order, up to the room's cursor
};

using SubscribeDone = std::function<void(const SubscribeAnswer&)>;

struct PresenceUser {
    std::string id;
    std::uint32_t connections = 0;
};

struct PresenceAnswer {
    bool ok = false;
    std::vector<PresenceUser> users;
    std::uint64_t connections = 0;
};

using PresenceDone = std::function<void(const PresenceAnswer&)>;

// What a broker tells its process. Implemented by the Hub.
class RoomSink {
public:
    // The next publication of a room, already encoded as a frame. Throws std::bad_alloc, and then it
    // has not been taken: the broker brings it again.
    virtual void on_publication(Room& room, Payload frame) = 0;
    // Publications of a room are lost to this process; what comes is newer than `now`. Throws as above.
    virtual void on_gap(Room& room, Position now, std::string_view reason) = 0;

protected:
    ~RoomSink() = default;
};

class Broker {
public:
    virtual ~Broker() = default;

    virtual void publish(std::span<const PublishRequest> batch, PublishDone done) = 0;

    // No publication with this key will come to the room again: the broker need not remember it.
    virtual void forget(std::string_view /*room*/, std::string_view /*key*/) {}

    // Adds one connection of `user` to the room. When `done` runs, `room.cursor` is the position from
    // which the connection is live: everything newer will come through the sink.
    // Throws std::bad_alloc, and then there has been no subscribe, and will be no answer.
    virtual void subscribe(Room& room, std::string_view user, std::optional<Position> since,
                           SubscribeDone done) = 0;
    // Takes back one successful subscribe.
    virtual void unsubscribe(Room& room, std::string_view user) noexcept = 0;
    // The process has no use for the room any more; `room` is destroyed after the call.
    virtual void release(Room& room) noexcept = 0;

    virtual void presence(std::string_view room, PresenceDone done) = 0;

    // Once, before the first request: from now on the sink is called.
    virtual void start() {}
    // The end of a turn of the event loop in which there was something to do.
    virtual void end_turn() {}
    // Every few seconds, and when processes have come or gone.
    virtual void sweep() {}
};

}  // namespace rooms

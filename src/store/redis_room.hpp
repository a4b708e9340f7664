// One room of this process, kept in step with Redis: what has been given to its members, what has come
// early, and what has to be asked for. Decides; asks and sends nothing itself.
//
// Owned by the RedisBroker. Events come live and by the answers of sync.lua; both lead to the same cursor,
// so that each event is given to the sink once and in order, or a gap is told. REQUIRES `room` (which the
// Hub owns) for everything but claim().
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/broker.hpp"
#include "store/redis_event.hpp"
#include "store/redis_reply.hpp"

namespace rooms {

class RedisNode;

// The newest event of a room that somebody here has seen, or was told is stored: what a server must still
// have for the room to go on. No epoch: nothing.
struct RedisClaim {
    std::string epoch;
    std::uint64_t offset = 0;
    std::string check;  // of the event
    std::string fence;  // of the server that had it
};

// An answer of sync.lua. Views into the reply.
struct RedisSync {
    std::string_view epoch;
    std::uint64_t offset = 0;
    std::string_view secret;
    std::string_view check;
    std::int64_t now_ms = 0;
    bool has_events = false;         // they were asked for, and the room still has this count
    std::vector<RedisEvent> events;  // by offset

    [[nodiscard]] static std::optional<RedisSync> parse(Reply reply);
};

// What the status page counts.
enum class RedisCount : std::uint8_t { foreign, holes, gaps, resets, losses, bad_events };

class RedisMeter {
public:
    virtual void on_redis(RedisCount what, std::string_view room) = 0;

protected:
    ~RedisMeter() = default;
};

// What all keys of a room begin with: PREFIX:{kind:id}.
[[nodiscard]] std::string room_base(std::string_view prefix, std::string_view room);

// A room's channel is its base and this.
inline constexpr std::string_view kChannelSuffix = ":events";

class RedisRoom {
public:
    // A subscribe that has not been answered.
    struct Joiner {
        std::string user;
        std::optional<Position> since;
        SubscribeDone done;
        std::uint64_t deadline = 0;
    };

    RedisRoom(Room& room, std::string base);

    const std::string base;
    const std::string channel;  // base and kChannelSuffix
    Room* room;                 // null once released
    std::uint32_t index = 0;    // the broker's, in room->broker_index

    // --- the broker's notes
    RedisNode* node = nullptr;
    bool asked = false;       // SUBSCRIBE is under way, or has been confirmed
    bool subscribed = false;  // … has been confirmed
    bool syncing = false;
    bool wants_sync = false;
    bool doubtful = false;         // looked after in each tick
    bool listed = false;           // waits for the end of the turn
    bool members_unsure = false;   // what Redis knows of our members must be written anew
    bool members_known = false;    // Redis has been told of a member
    std::uint64_t suspect = 0;     // a check saw this offset; has it come?
    bool strange = false;          // a message came whose seal we could not judge
    std::uint64_t sync_after = 0;  // no sync on account of those before
    std::vector<Joiner> waiting;
    std::vector<Joiner> joining;  // in the sync under way, or for the next one where that could not answer
    std::map<std::string, std::int64_t, std::less<>> changes;  // of members, by user

    // Somebody wants to join, and no sync that is under way will answer.
    [[nodiscard]] bool has_joiners() const { return !waiting.empty() || (!syncing && !joining.empty()); }
    // Of the first of them.
    [[nodiscard]] std::uint64_t deadline() const {
        return syncing || joining.empty() ? waiting.front().deadline : joining.front().deadline;
    }

    // --- the state of the room
    [[nodiscard]] bool live() const { return !secret_.empty(); }
    [[nodiscard]] const std::string& epoch() const { return epoch_; }
    // The newest of what came, early or in order, and of what was acknowledged, from the server that has been
    // proven: what comes from another before it is, says nothing.
    [[nodiscard]] RedisClaim claim() const;
    // Acknowledged by servers that were not proven then, nor since; one for each. A server must have these, too.
    [[nodiscard]] const std::vector<RedisClaim>& unjudged() const { return unjudged_; }
    // `repeat`: the server had it before. May set wants_sync.
    void on_acknowledged(std::string_view epoch, std::uint64_t offset, std::string_view check,
                         const std::string& fence, bool repeat = false);
    // A fresh room begins with what is remembered of it.
    void remember(std::vector<RedisClaim> claims);

    // A message of the channel. May set wants_sync.
    void on_message(std::string_view message, const std::string& fence, RoomSink& sink, RedisMeter& meter);
    // The server has what claim() says: it goes on with the room, unless something is unjudged. May set wants_sync.
    void on_proven(const std::string& fence, RoomSink& sink, RedisMeter& meter);
    [[nodiscard]] bool is_proven(const std::string& fence) const { return proven_ == fence; }
    // It has what claim() and unjudged() say, or another life. Catches up; what is not there may be on its way, so that a gap is told the
    // second time only, and `suspect` is set before. May set wants_sync.
    void on_sync(const RedisSync& sync, const std::string& fence, RoomSink& sink, RedisMeter& meter);
    // After on_sync: everything since a position, up to the cursor; nothing where it is not all there.
    [[nodiscard]] std::optional<std::vector<Payload>> missed(const RedisSync& sync, Position since,
                                                             HistoryLimits limits);
    // The sync is over: what was kept for its joiners goes.
    void on_sync_done();

private:
    void take(const RedisEvent& event, const std::string& fence, RoomSink& sink, RedisMeter& meter);
    void deliver(const RedisEvent& event, Payload frame, RoomSink& sink, RedisMeter& meter);
    void take_early(const std::string& fence, RoomSink& sink, RedisMeter& meter);
    void keep_early(const RedisEvent& event, const std::string& fence);
    void drop_early(const std::string& but_of);
    void hold(std::string_view message, RedisMeter& meter);
    void keep_unjudged(RedisClaim claim);
    void prove(const std::string& fence);
    [[nodiscard]] Payload frame_of(const RedisSync& sync, std::size_t index);

    std::string epoch_;
    std::string secret_;
    std::string check_;  // of the event at the cursor
    std::string fence_;  // of the server that it came from
    RedisClaim acknowledged_;
    std::vector<RedisClaim> unjudged_;  // of other servers than the proven one
    std::string proven_;                // the server that has been found to go on with the room
    struct Early {
        std::string message;
        std::string fence;  // of the server that said it
    };
    std::map<std::uint64_t, Early> early_;  // beyond a hole, or of a server not proven; by offset
    std::size_t early_bytes_ = 0;
    bool unfilled_ = false;                                // the last sync had not all that it spoke of
    std::deque<std::string> held_;                         // messages whose seal cannot be judged yet
    std::vector<std::pair<std::uint64_t, Payload>> tail_;  // delivered while a sync was under way
    std::vector<Payload> frames_;                          // of the sync's events, made once
};

}  // namespace rooms

#include "store/redis_room.hpp"

#include <algorithm>
#include <charconv>
#include <utility>

#include "core/hub.hpp"
#include "core/reply.hpp"

namespace rooms {
namespace {

constexpr std::size_t kMaxEarly = 1024;           // messages beyond a hole
constexpr std::size_t kMaxEarlyBytes = 4u << 20;  // … and their octets; the stream has them too
constexpr std::size_t kMaxHeld = 64;
constexpr std::size_t kMaxUnjudged = 8;
constexpr std::size_t kCheck = 16;  // of an event, in hex
constexpr std::size_t kFence = 40;  // an id of a replication

std::uint64_t epoch_number(std::string_view text) { return parse_epoch(text).value_or(0); }

}  // namespace

std::string room_base(std::string_view prefix, std::string_view room) {
    std::string base;
    base.reserve(prefix.size() + room.size() + 3);
    base.append(prefix).append(":{").append(room).append("}");
    return base;
}

std::optional<RedisSync> RedisSync::parse(Reply reply) {
    RedisSync sync;
    sync.epoch = reply[0].text();
    const auto offset = reply[1].integer();
    sync.secret = reply[2].text();
    sync.check = reply[3].text();
    const auto now = reply[4].integer();
    if (epoch_number(sync.epoch) == 0 || !offset || *offset < 0 || sync.secret.empty() || !now)
        return std::nullopt;
    sync.offset = static_cast<std::uint64_t>(*offset);
    sync.now_ms = *now;
    sync.has_events = reply[5].is_array();
    sync.events.reserve(reply[5].size());
    for (std::size_t i = 0; i < reply[5].size(); ++i) {
        // [ "OFFSET-0", [ "t", ms, "b", body ] ]
        const Reply entry = reply[5][i];
        const std::string_view id = entry[0].text();
        RedisEvent event;
        const auto [end, fault] = std::from_chars(id.data(), id.data() + id.size(), event.offset);
        const auto ms = entry[1][1].integer();
        if (fault != std::errc{} || std::string_view(end, id.data() + id.size()) != "-0" || !ms)
            return std::nullopt;
        event.epoch = sync.epoch;
        event.ms = *ms;
        event.body = entry[1][3].text();
        sync.events.push_back(event);
    }
    return sync;
}

RedisRoom::RedisRoom(Room& hub_room, std::string key)
    : base(std::move(key)), channel(base + std::string(kChannelSuffix)), room(&hub_room) {
    // What an event brings fits from here on: keeping it never needs memory.
    check_.reserve(kCheck);
    fence_.reserve(kFence);
    proven_.reserve(kFence);
}

RedisClaim RedisRoom::claim() const {
    if (!live()) return acknowledged_;
    RedisClaim newest{epoch_, room->cursor.offset, check_, fence_};
    if (acknowledged_.epoch == epoch_ && acknowledged_.offset > newest.offset) newest = acknowledged_;
    for (auto early = early_.rbegin(); early != early_.rend() && early->first > newest.offset; ++early) {
        if (early->second.fence != proven_) continue;
        const std::optional<RedisEvent> event = RedisEvent::parse(early->second.message);
        if (event) newest = {epoch_, event->offset, std::string(event->check()), proven_};
        break;
    }
    return newest;
}

void RedisRoom::on_acknowledged(std::string_view epoch, std::uint64_t offset, std::string_view check,
                                const std::string& fence, bool repeat) {
    if (!live()) {
        const bool known = !acknowledged_.epoch.empty();
        if (known && acknowledged_.epoch == epoch && acknowledged_.fence != fence) {
            keep_unjudged({std::string(epoch), offset, std::string(check), fence});
        } else if (!known || acknowledged_.epoch != epoch || acknowledged_.offset < offset) {
            acknowledged_ = {std::string(epoch), offset, std::string(check), fence};
        }
        return;
    }
    if (epoch != epoch_) return;  // another life, of which a sync will tell
    if (fence != proven_) {
        // A server's own word is no proof of what another one had before; but the next one must have it. An old event
        // may have been trimmed there.
        wants_sync = true;
        if (!repeat || offset > room->cursor.offset)
            keep_unjudged({std::string(epoch), offset, std::string(check), fence});
        return;
    }
    if (acknowledged_.epoch == epoch && acknowledged_.offset >= offset) return;
    // With each publication: where there has been one, it fits, and nothing is half done.
    acknowledged_.epoch.reserve(epoch.size());
    acknowledged_.check.reserve(check.size());
    acknowledged_.fence.reserve(fence.size());
    acknowledged_.epoch = epoch;
    acknowledged_.offset = offset;
    acknowledged_.check = check;
    acknowledged_.fence = fence;
}

void RedisRoom::remember(std::vector<RedisClaim> claims) {
    if (claims.empty()) return;
    acknowledged_ = std::move(claims.front());
    claims.erase(claims.begin());
    unjudged_ = std::move(claims);
}

// Nothing is unjudged any more; what this server itself has acknowledged is the room's own from here on.
void RedisRoom::prove(const std::string& fence) {
    fence_ = proven_ = fence;
    if (acknowledged_.epoch != epoch_) acknowledged_ = {};
    acknowledged_.fence = fence;
    for (RedisClaim& claim : unjudged_) {
        if (claim.epoch == epoch_ && claim.fence == fence && claim.offset > acknowledged_.offset)
            acknowledged_ = std::move(claim);
    }
    unjudged_.clear();
}

void RedisRoom::keep_unjudged(RedisClaim claim) {
    const auto known = std::find_if(unjudged_.begin(), unjudged_.end(),
                                    [&](const RedisClaim& one) { return one.fence == claim.fence; });
    if (known != unjudged_.end()) {
        if (known->epoch != claim.epoch || known->offset < claim.offset) *known = std::move(claim);
        return;
    }
    if (unjudged_.size() == kMaxUnjudged) unjudged_.erase(unjudged_.begin());
    unjudged_.push_back(std::move(claim));
}

void RedisRoom::on_proven(const std::string& fence, RoomSink& sink, RedisMeter& meter) {
    if (proven_ == fence) return;
    const auto of_another = [&](const RedisClaim& claim) { return claim.fence != fence; };
    if (std::any_of(unjudged_.begin(), unjudged_.end(), of_another)) {
        wants_sync = true;
        return;
    }
    prove(fence);
    drop_early(fence);
    take_early(fence, sink, meter);
}

void RedisRoom::on_message(std::string_view message, const std::string& fence, RoomSink& sink,
                           RedisMeter& meter) {
    const std::optional<RedisEvent> event = RedisEvent::parse(message);
    if (!event) return meter.on_redis(RedisCount::foreign, room->name);
    if (live() && event->epoch == epoch_ && event->is_sealed(secret_)) {
        take(*event, fence, sink, meter);
        return;
    }
    // Another life of the room, which the stream will tell of; or a stranger.
    hold(message, meter);
    if (live()) strange = wants_sync = true;
}

void RedisRoom::hold(std::string_view message, RedisMeter& meter) {
    if (held_.size() == kMaxHeld) {
        // A stranger is all that can be that busy: what is ours is in the stream.
        if (live()) meter.on_redis(RedisCount::foreign, room->name);
        held_.pop_front();
    }
    held_.emplace_back(message);
}

void RedisRoom::keep_early(const RedisEvent& event, const std::string& fence) {
    const std::size_t size = event.sealed.size() + event.seal.size() + 1;
    if (early_.size() >= kMaxEarly || early_bytes_ + size > kMaxEarlyBytes) return;
    const auto known = early_.find(event.offset);
    if (known != early_.end()) {
        if (known->second.fence == proven_ || known->second.fence == fence) return;
        early_bytes_ -= known->second.message.size();
        early_.erase(known);
    }
    early_.emplace(event.offset, Early{std::string(event.seal.data(), size), fence});
    early_bytes_ += size;
}

// What another server said is nothing that this one has.
void RedisRoom::drop_early(const std::string& but_of) {
    for (auto early = early_.begin(); early != early_.end();) {
        if (early->second.fence == but_of) {
            ++early;
            continue;
        }
        early_bytes_ -= early->second.message.size();
        early = early_.erase(early);
    }
}

void RedisRoom::take(const RedisEvent& event, const std::string& fence, RoomSink& sink, RedisMeter& meter) {
    if (event.offset <= room->cursor.offset && fence == proven_) return;
    if (fence != proven_) {
        keep_early(event, fence);
        wants_sync = true;
        return;
    }
    if (event.offset != room->cursor.offset + 1) {
        keep_early(event, fence);
        if (suspect > room->cursor.offset) return;  // it has been asked for, and may be on its way
        if (!wants_sync && !syncing) meter.on_redis(RedisCount::holes, room->name);
        wants_sync = true;
        return;
    }
    deliver(event, event.frame(), sink, meter);
    check_ = event.check();
    fence_ = fence;
    if (!early_.empty()) take_early(fence, sink, meter);
}

// The cursor moves once the sink has it: what throws comes again.
void RedisRoom::deliver(const RedisEvent& event, Payload frame, RoomSink& sink, RedisMeter& meter) {
    if (frame) {
        if (syncing) tail_.emplace_back(event.offset, frame);
        sink.on_publication(*room, std::move(frame));
    } else {
        // Written by somebody who passed by publish.lua's checks.
        meter.on_redis(RedisCount::bad_events, room->name);
        sink.on_gap(*room, {room->cursor.epoch, event.offset}, "invalid");
    }
    room->cursor.offset = event.offset;
    unfilled_ = false;
}

void RedisRoom::take_early(const std::string& fence, RoomSink& sink, RedisMeter& meter) {
    while (!early_.empty()) {
        const auto first = early_.begin();
        const std::optional<RedisEvent> event = RedisEvent::parse(first->second.message);
        if (event && event->epoch == epoch_ && event->offset > room->cursor.offset) {
            if (event->offset != room->cursor.offset + 1) {
                if (suspect <= room->cursor.offset) wants_sync = true;
                return;
            }
            deliver(*event, event->frame(), sink, meter);
            check_ = event->check();
            fence_ = fence;
        }
        early_bytes_ -= first->second.message.size();
        early_.erase(first);
    }
}

Payload RedisRoom::frame_of(const RedisSync& sync, std::size_t index) {
    if (frames_.size() < sync.events.size()) frames_.resize(sync.events.size());
    if (!frames_[index]) frames_[index] = sync.events[index].frame();
    return frames_[index];
}

void RedisRoom::on_sync(const RedisSync& sync, const std::string& fence, RoomSink& sink, RedisMeter& meter) {
    frames_.clear();
    suspect = 0;
    const Position now{epoch_number(sync.epoch), sync.offset};
    if (!live()) {
        room->cursor = now;
    } else if (sync.epoch != epoch_) {
        meter.on_redis(RedisCount::resets, room->name);
        sink.on_gap(*room, now, "reset");
        room->cursor = now;
        early_.clear();
        early_bytes_ = 0;
        tail_.clear();
        unfilled_ = false;
        members_unsure = true;
    } else {
        for (std::size_t i = 0; i < sync.events.size() && room->cursor.offset < sync.offset; ++i) {
            const RedisEvent& event = sync.events[i];
            if (event.offset > room->cursor.offset + 1) break;
            if (event.offset == room->cursor.offset + 1) deliver(event, frame_of(sync, i), sink, meter);
        }
        if (room->cursor.offset >= sync.offset) {
            unfilled_ = false;
        } else if (!std::exchange(unfilled_, true)) {
            suspect = sync.offset;  // its doorbell may be slower than this answer
        } else {
            meter.on_redis(RedisCount::gaps, room->name);
            sink.on_gap(*room, now, "trimmed");
            room->cursor = now;
            tail_.clear();
            unfilled_ = false;
        }
    }
    epoch_ = sync.epoch;
    secret_ = sync.secret;
    if (room->cursor.offset == sync.offset) check_ = sync.check;
    prove(fence);
    drop_early(fence);
    take_early(fence, sink, meter);
    for (std::deque<std::string> held = std::exchange(held_, {}); !held.empty(); held.pop_front()) {
        const std::optional<RedisEvent> event = RedisEvent::parse(held.front());
        if (event && event->epoch == epoch_ && event->is_sealed(secret_)) {
            take(*event, fence, sink, meter);
        } else {
            meter.on_redis(RedisCount::foreign, room->name);
        }
    }
}

void RedisRoom::on_sync_done() {
    frames_.clear();
    tail_.clear();
}

std::optional<std::vector<Payload>> RedisRoom::missed(const RedisSync& sync, Position since,
                                                      HistoryLimits limits) {
    const Position now = room->cursor;
    if (since.epoch != now.epoch || since.offset > now.offset) return std::nullopt;
    if (now.offset - since.offset > limits.size) return std::nullopt;
    std::vector<Payload> frames;
    frames.reserve(now.offset - since.offset);
    std::uint64_t next = since.offset + 1;
    for (std::size_t i = 0; i < sync.events.size() && next <= now.offset; ++i) {
        const RedisEvent& event = sync.events[i];
        if (event.offset != next) continue;
        const std::int64_t age = sync.now_ms - event.ms;
        if (age > 0 && static_cast<std::uint64_t>(age) > limits.ttl_ms) return std::nullopt;
        Payload frame = frame_of(sync, i);
        if (!frame) return std::nullopt;
        frames.push_back(std::move(frame));
        ++next;
    }
    for (const auto& [offset, frame] : tail_) {
        if (offset != next || next > now.offset) continue;
        frames.push_back(frame);
        ++next;
    }
    if (next != now.offset + 1) return std::nullopt;
    return frames;
}

}  // namespace rooms

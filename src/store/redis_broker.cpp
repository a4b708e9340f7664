#include "store/redis_broker.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "core/hub.hpp"
#include "core/reply.hpp"
#include "store/fault_point.hpp"
#include "store/redis_approvals.hpp"

namespace rooms {
namespace {

constexpr std::uint64_t kJoinMs = 900;  // a subscribe is answered by then
constexpr std::uint64_t kForeignEveryMs = 60000;

// Of a room's channel; of anything else what no room has.
std::string_view base_in(std::string_view channel) {
    return channel.ends_with(kChannelSuffix) ? channel.substr(0, channel.size() - kChannelSuffix.size())
                                             : std::string_view();
}

}  // namespace

RedisBroker::RedisBroker(Parts parts, const RedisTarget& target)
    : reactor_(parts.reactor),
      zone_(parts.zone),
      slot_(parts.slot),
      sink_(parts.sink),
      meter_(parts.meter),
      on_state_(std::move(parts.on_state)),
      history_(std::move(parts.history)),
      prefix_(target.prefix),
      me_(epoch_text(parts.reactor.random())),
      word_(epoch_text(parts.reactor.random())),
      cluster_(target.kind == RedisTarget::Kind::cluster),
      servers_(make_redis_servers(parts.reactor, target, me_, *this)),
      calls_(parts.reactor, *servers_),
      presence_(parts.reactor, calls_, *servers_, target.prefix),
      publisher_({parts.reactor, parts.zone, calls_, *servers_, prefix_, word_, cluster_,
                  [this](const std::string& base, std::string_view epoch, std::uint64_t offset,
                         std::string_view check, const std::string& fence,
                         bool repeat) { on_stored(base, epoch, offset, check, fence, repeat); }}),
      soon_(parts.reactor.timer([this] { run_pumps(); })),
      tick_(parts.reactor.timer([this] { tick(); })) {}

void RedisBroker::start() {
    started_ = reactor_.now_ms();
    on_state_(started_, 0);
    servers_->start();
    presence_.renew();
    tick_->arm(0);
}

RedisBroker::~RedisBroker() = default;

// --- publishing

void RedisBroker::publish(std::span<const PublishRequest> batch, PublishDone done) {
    publisher_.publish(batch, std::move(done));
}

void RedisBroker::on_stored(const std::string& base, std::string_view epoch, std::uint64_t offset,
                            std::string_view check, const std::string& fence, bool repeat) {
    const auto found = rooms_.find(base);
    if (found == rooms_.end()) {
        return witness_.note(base, {std::string(epoch), offset, std::string(check), fence});
    }
    found->second->on_acknowledged(epoch, offset, check, fence, repeat);
    if (found->second->wants_sync) pump_later(found->second);
}

// --- members

RedisRoom* RedisBroker::at(const Room& room) const {
    if (room.broker_index >= by_index_.size()) return nullptr;
    RedisRoom* found = by_index_[room.broker_index];
    return found != nullptr && found->room == &room ? found : nullptr;
}

RedisBroker::RoomPtr RedisBroker::room_of(Room& room) {
    if (const RedisRoom* known = at(room)) return rooms_.at(known->base);
    auto made = std::make_shared<RedisRoom>(room, room_base(prefix_, room.name));
    if (free_indexes_.empty()) {
        by_index_.push_back(nullptr);
        free_indexes_.reserve(by_index_.capacity());
        free_indexes_.push_back(static_cast<std::uint32_t>(by_index_.size() - 1));
    }
    rooms_.emplace(made->base, made);
    made->index = room.broker_index = free_indexes_.back();
    free_indexes_.pop_back();
    by_index_[made->index] = made.get();
    made->remember(witness_.take(made->base));  // from here on nothing fails
    return made;
}

void RedisBroker::subscribe(Room& hub_room, std::string_view user, std::optional<Position> since,
                            SubscribeDone done) {
    const ZoneSeat seat = zone_.join(slot_, hub_room.name, user, reactor_.wall_ms());
    if (seat.status != ZoneStatus::ok) {
        SubscribeAnswer answer;
        answer.full = seat.status != ZoneStatus::unavailable;
        answer.reason = answer.full ? "the zone is full: raise the size in rooms_zone"
                                    : "the zone cannot be used: restart nginx";
        if (answer.full)
            reactor_.log(LogLevel::error, "no place for another member: raise the size in rooms_zone");
        done(answer);
        return;
    }
    RoomPtr room;
    try {
        room = room_of(hub_room);
        look_after(room);
        room->waiting.push_back({std::string(user), since, std::move(done), reactor_.now_ms() + kJoinMs});
    } catch (const std::bad_alloc&) {
        zone_.leave(slot_, hub_room.name, user);
        throw;
    }
    pump_soon(room);
}

// It waits, and is looked after: what lacks memory now is tried again.
void RedisBroker::pump_soon(const RoomPtr& room) {
    try {
        pump(room);
    } catch (const std::bad_alloc&) {
    }
}

void RedisBroker::unsubscribe(Room& hub_room, std::string_view user) noexcept {
    zone_.leave(slot_, hub_room.name, user);
    RedisRoom* room = at(hub_room);
    if (room == nullptr || !room->members_known) return;
    try {
        --room->changes.emplace(user, 0).first->second;
        pump_later(rooms_.at(room->base));
    } catch (const std::bad_alloc&) {
        begin_anew(room->node);
    }
}

void RedisBroker::release(Room& hub_room) noexcept {
    RedisRoom* const known = at(hub_room);
    if (known == nullptr) return;
    const RoomPtr room = rooms_.at(known->base);
    RedisNode* const node = room->node;
    const bool told = room->members_known || room->syncing;
    try {
        std::vector<RedisClaim> claims = room->unjudged();
        claims.insert(claims.begin(), room->claim());
        for (const RedisClaim& claim : claims) {
            if (claim.epoch.empty() || claim.offset == 0) continue;
            witness_.note(room->base, claim);
            // Nobody asks for this room any more.
            if (node != nullptr && node->commands_up() && claim.fence != node->fence())
                judge(room->base, claim);
        }
        if (room->asked && node != nullptr) node->unsubscribe(room->channel);
    } catch (const std::bad_alloc&) {
        begin_anew(node);
    }
    rooms_.erase(room->base);
    by_index_[room->index] = nullptr;
    free_indexes_.push_back(room->index);  // it has its place, since room_of()
    room->room = nullptr;
    try {
        if (told) forget_members(room->base);
    } catch (const std::bad_alloc&) {
        begin_anew(node);
    }
}

// Redis was to be told something, and there was no memory for it: this worker gets another name there, under which it
// has told nothing, and whose rooms it asks for anew.
void RedisBroker::begin_anew(RedisNode* node) {
    if (node != nullptr) node->restart("out of memory");
}

// The room has no members here. Goes behind whatever is under way for it. On a server that cannot be
// asked this worker will have another name when it can.
void RedisBroker::forget_members(const std::string& base) {
    const RedisNode* node = servers_->node_of(base);
    if (node == nullptr || !node->commands_up() || rooms_.contains(base)) return;
    const std::array<std::string_view, 10> arguments = {node->fence(), "", "", "", "0", "", "", "", "0", "="};
    run_sync(base, *node, arguments, [this, base](const RedisOutcome& outcome) {
        if (!outcome.reply) unforgotten_.insert(base);
    });
}

void RedisBroker::presence(std::string_view room, PresenceDone done) {
    presence_.ask(room_base(prefix_, room), std::move(done));
}

std::unique_ptr<RedisApprovals> RedisBroker::approvals(const ApprovalTimes& times, ApprovalMeter& meter,
                                                       bool polls) {
    return std::make_unique<RedisApprovals>(
        RedisApprovalCalls::Parts{reactor_, calls_, *servers_, prefix_, word_, history_,
                                  [this](const std::string& base, const RedisClaim& claim) {
                                      on_stored(base, claim.epoch, claim.offset, claim.check, claim.fence,
                                                false);
                                  }},
        times, meter, polls);
}

// --- the servers come and go

void RedisBroker::on_commands_up(RedisNode& node) {
    calls_.load_scripts(node);
    judge_all();
    check_all(node);
    presence_.renew();
    for (const auto& [base, room] : rooms_) {
        // Under the name that this worker has now, nobody is known.
        if (room->node != &node) continue;
        room->members_unsure = room->members_known;
        room->sync_after = 0;
    }
    pump_all(node);
}

void RedisBroker::on_lost(RedisNode& node, bool again) {
    if (!again) meter_.on_redis(RedisCount::losses, {});
    servers_->look_again();
    std::vector<RoomPtr> waiting;
    for (const auto& [base, room] : rooms_) {
        if (room->node == &node && room->has_joiners()) waiting.push_back(room);
    }
    for (const RoomPtr& room : waiting) pump(room);
}

void RedisBroker::on_subscriptions_up(RedisNode& node) { pump_all(node); }

void RedisBroker::pump_all(RedisNode& node) {
    std::vector<RoomPtr> rooms;
    rooms.reserve(rooms_.size());
    for (const auto& [base, room] : rooms_) {
        if (room->node == &node || room->node == nullptr) rooms.push_back(room);
    }
    for (const RoomPtr& room : rooms) pump(room);
}

void RedisBroker::on_subscriptions_down(RedisNode& node) {
    bool forgets = has_bug("skip_resubscribe");
    for (const auto& [base, room] : rooms_) {
        if (room->node != &node || std::exchange(forgets, false)) continue;
        room->asked = room->subscribed = false;
    }
}

void RedisBroker::on_event(RedisNode& node, std::string_view channel, std::string_view message) {
    const auto found = rooms_.find(base_in(channel));
    if (found == rooms_.end()) return;
    const RoomPtr room = found->second;
    room->on_message(message, node.events_fence(), sink_, *this);
    if (room->wants_sync) pump_later(room);
}

void RedisBroker::on_unsubscribed(RedisNode& node, std::string_view channel) {
    servers_->look_again();
    const auto found = rooms_.find(base_in(channel));
    if (found == rooms_.end() || found->second->node != &node) return;
    found->second->asked = found->second->subscribed = false;
    // Asked once more it says where the slot is now, which is sooner than the map.
    pump_later(found->second);
    look_after(found->second);
}

void RedisBroker::on_map_changed() {
    calls_.on_map();
    judge_all();
    std::vector<RoomPtr> rooms;
    rooms.reserve(rooms_.size());
    for (const auto& [base, room] : rooms_) rooms.push_back(room);
    for (const RoomPtr& room : rooms) pump(room);
}

void RedisBroker::on_dropped(RedisNode& node) {
    for (const auto& [base, room] : rooms_) {
        if (room->node != &node) continue;
        room->node = nullptr;
        room->asked = room->subscribed = false;
    }
}

void RedisBroker::on_redis(RedisCount what, std::string_view room) {
    meter_.on_redis(what, room);
    if (what != RedisCount::foreign) return;
    ++foreign_;
    const std::uint64_t now = reactor_.now_ms();
    if (foreign_told_ != 0 && now < foreign_told_ + kForeignEveryMs) return;
    reactor_.log(LogLevel::warn, "redis: " + std::to_string(std::exchange(foreign_, 0)) +
                                     " message(s) on \"" + room_base(prefix_, room) +
                                     ":events\" did not come from publish.lua and were dropped: POST to "
                                     "rooms_publish, or call the script as docs/redis.md shows");
    foreign_told_ = now;
}

}  // namespace rooms

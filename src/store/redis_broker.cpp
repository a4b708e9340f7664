#include "store/redis_broker.hpp"

#include <algorithm>
#include <array>
#include <list>
#include <utility>

#include "core/hub.hpp"
#include "core/reply.hpp"
#include "store/fault_point.hpp"
#include "store/redis_approvals.hpp"
#include "store/sha1.hpp"

namespace rooms {
namespace {

constexpr std::uint64_t kPublishMs = 900;  // a publication is answered by then
constexpr std::size_t kMostGathered = 32;  // in a call: Redis does nothing else for half a millisecond
constexpr std::uint64_t kLongestTtl = std::uint64_t{1} << 50;
constexpr std::uint64_t kJoinMs = 900;  // a subscribe is answered by then
constexpr std::uint64_t kForeignEveryMs = 60000;

// What makes the body of a repeat the same: 32 hex digits.
std::string fingerprint_text(std::string_view text) { return std::string(sha1_hex({text}).data(), 32); }

// Of a room's channel; of anything else what no room has.
std::string_view base_in(std::string_view channel) {
    return channel.ends_with(kChannelSuffix) ? channel.substr(0, channel.size() - kChannelSuffix.size())
                                             : std::string_view();
}

PublishAnswer answer_of(Reply reply) {
    PublishAnswer answer;
    const std::string_view status = reply[0].text();
    const auto epoch = parse_epoch(reply[1].text());
    const auto offset = reply[2].integer();
    if (!epoch || !offset) {
        answer.reason = "redis gave an answer that makes no sense";
        return answer;
    }
    answer.position = {*epoch, static_cast<std::uint64_t>(*offset)};
    answer.subscribers = static_cast<std::uint32_t>(reply[3].integer().value_or(0));
    if (status == "ok") answer.status = PublishStatus::ok;
    if (status == "duplicate") answer.status = PublishStatus::duplicate;
    if (status == "conflict") answer.status = PublishStatus::conflict;
    return answer;
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
      soon_(parts.reactor.timer([this] { run_pumps(); })),
      tick_(parts.reactor.timer([this] { tick(); })),
      gathering_(parts.reactor.timer([this] { publish_gathered(); })),
      publish_late_(parts.reactor.timer([this] { end_late_batches(); })) {}

void RedisBroker::start() {
    started_ = reactor_.now_ms();
    on_state_(started_, 0);
    servers_->start();
    presence_.renew();
    tick_->arm(0);
}

std::string RedisBroker::base_of(std::string_view room) const {
    std::string base;
    base.reserve(prefix_.size() + room.size() + 3);
    base.append(prefix_).append(":{").append(room).append("}");
    return base;
}

// --- publishing

// The publications of one request, until the last of them is answered or the time is over. One that is dropped on
// its way, for want of memory, is answered then: it may have been carried out.
struct RedisBroker::Batch {
    explicit Batch(RedisBroker& owner) : broker(owner) {}
    Batch(const Batch&) = delete;
    Batch& operator=(const Batch&) = delete;
    ~Batch() {
        try {
            finish();
        } catch (const std::bad_alloc&) {
        }
    }

    RedisBroker& broker;
    std::vector<PublishAnswer> answers;
    std::list<std::string> reasons;  // what views in the answers are of
    std::size_t open = 0;
    std::uint64_t deadline = 0;
    PublishDone done;

    void finish() {
        if (!done) return;
        if (--broker.open_batches_ == 0) broker.reactor_.hold(false);
        std::exchange(done, nullptr)(answers);
    }
};

// What is open is nobody's any more.
RedisBroker::~RedisBroker() {
    for (const std::weak_ptr<Batch>& open : batches_) {
        if (const std::shared_ptr<Batch> batch = open.lock()) batch->done = nullptr;
    }
}

void RedisBroker::publish(std::span<const PublishRequest> requests, PublishDone done) {
    auto batch = std::make_shared<Batch>(*this);
    PublishAnswer late;
    late.logged = true;  // by the node, once for each change of its state
    late.reason = "redis did not answer in time";
    batch->answers.resize(requests.size(), late);
    batch->open = requests.size();
    batch->deadline = reactor_.now_ms() + kPublishMs;
    batches_.push_back(batch);
    batch->done = std::move(done);
    if (open_batches_++ == 0) reactor_.hold(true);
    if (!publish_late_->armed()) publish_late_->arm(kPublishMs);
    for (std::size_t i = 0; i < requests.size(); ++i) gather(requests[i], batch, i);
}

void RedisBroker::gather(const PublishRequest& request, const std::shared_ptr<Batch>& batch,
                         std::size_t index) {
    const std::string base = base_of(request.room);
    const std::string id = request.key.empty() ? std::string() : ":id:" + std::string(request.key);
    const std::string size = std::to_string(request.history.size);
    const std::string ttl = std::to_string(std::min(request.history.ttl_ms, kLongestTtl));
    const std::string members = std::to_string(static_cast<std::uint32_t>(zone_.members(request.room)));
    const std::string print = request.key.empty() ? "-" : fingerprint_text(request.fingerprint);
    const std::array<std::string_view, 5> arguments = {request.body, size, ttl, members, print};
    const RedisNode* node = servers_->node_of(base);

    // All of it or nothing.
    gathered_.keys.make_room(3, 3 * base.size() + id.size() + 12);
    gathered_.arguments.make_room(
        arguments.size(), request.body.size() + size.size() + ttl.size() + members.size() + print.size());
    gathered_.publications.push_back({batch, index, base});
    gathered_.keys.add_joined(base, ":meta");
    gathered_.keys.add_joined(base, ":stream");
    if (!id.empty()) gathered_.keys.add_joined(base, id);
    gathered_.arguments.add(arguments);

    const bool full = gathered_.publications.size() == kMostGathered;
    if (cluster_ || full || node == nullptr || !node->commands_up()) return publish_gathered();
    if (!gathering_->armed()) gathering_->arm(0);
}

void RedisBroker::publish_gathered() {
    Gathered all = std::exchange(gathered_, {});
    gathering_->disarm();
    if (all.publications.empty()) return;
    const std::string key = all.publications.front().base + ":meta";
    const RedisNode* node = servers_->node_of(key);
    const std::array<std::string_view, 3> arguments = {
        node != nullptr ? std::string_view(node->fence()) : std::string_view(), word_,
        node != nullptr && node->sharded() ? "1" : ""};
    all.arguments.add(arguments);
    const Script script = all.publications.size() == 1 ? Script::publish : Script::publish_all;
    calls_.run(script, key, all.keys, all.arguments,
               [this, publications = std::move(all.publications)](const RedisOutcome& outcome) {
                   on_published_all(publications, outcome);
               });
}

void RedisBroker::on_published_all(const std::vector<Publication>& publications,
                                   const RedisOutcome& outcome) {
    if (publications.size() == 1) return on_published(publications.front(), outcome);
    for (std::size_t i = 0; i < publications.size(); ++i) {
        RedisOutcome part = outcome;
        std::string why;
        if (outcome.reply) part.reply = (*outcome.reply)[i];
        if (part.reply && part.reply->is_error()) {
            why = calls_.judge(*outcome.node, publications[i].base + ":meta", part.reply->text());
            part = {std::nullopt, why, false, outcome.node};
        }
        on_published(publications[i], part);
    }
}

void RedisBroker::on_published(const Publication& publication, const RedisOutcome& outcome) {
    const auto& [batch, index, base] = publication;
    PublishAnswer& answer = batch->answers[index];
    if (outcome.reply) {
        answer = answer_of(*outcome.reply);
        if (answer.status == PublishStatus::ok || answer.status == PublishStatus::duplicate) {
            note_published(base, (*outcome.reply)[1].text(), answer.position.offset,
                           (*outcome.reply)[4].text(), outcome.node->fence());
        }
    } else {
        answer.reason = batch->reasons.emplace_back(outcome.why);
    }
    if (--batch->open == 0) batch->finish();
}

// Who waits is told that it is not known. What comes later still counts for note_published.
void RedisBroker::end_late_batches() {
    const std::uint64_t now = reactor_.now_ms();
    while (!batches_.empty()) {
        const std::shared_ptr<Batch> batch = batches_.front().lock();
        if (batch && batch->done && batch->deadline > now) return publish_late_->arm(batch->deadline - now);
        batches_.pop_front();
        if (batch) batch->finish();
    }
}

void RedisBroker::note_published(const std::string& base, std::string_view epoch, std::uint64_t offset,
                                 std::string_view check, const std::string& fence) {
    const auto found = rooms_.find(base);
    if (found == rooms_.end() || !found->second->live()) {
        return witness_.note(base, {std::string(epoch), offset, std::string(check), fence});
    }
    found->second->on_acknowledged(epoch, offset, check, fence);
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
    auto made = std::make_shared<RedisRoom>(room, base_of(room.name));
    if (free_indexes_.empty()) {
        by_index_.push_back(nullptr);
        free_indexes_.reserve(by_index_.capacity());
        free_indexes_.push_back(static_cast<std::uint32_t>(by_index_.size() - 1));
    }
    made->remember(witness_.take(made->base));
    rooms_.emplace(made->base, made);
    made->index = room.broker_index = free_indexes_.back();
    free_indexes_.pop_back();
    by_index_[made->index] = made.get();
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
        const RedisClaim claim = room->claim();
        if (!claim.epoch.empty() && claim.offset != 0) witness_.note(room->base, claim);
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
    presence_.ask(base_of(room), std::move(done));
}

std::unique_ptr<RedisApprovals> RedisBroker::approvals(const ApprovalTimes& times, ApprovalMeter& meter,
                                                       bool polls) {
    return std::make_unique<RedisApprovals>(
        RedisApprovalCalls::Parts{reactor_, calls_, *servers_, prefix_, word_, history_,
                                  [this](const std::string& base, const RedisClaim& claim) {
                                      note_published(base, claim.epoch, claim.offset, claim.check,
                                                     claim.fence);
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
                                     " message(s) on \"" + base_of(room) +
                                     ":events\" did not come from publish.lua and were dropped: POST to "
                                     "rooms_publish, or call the script as docs/redis.md shows");
    foreign_told_ = now;
}

}  // namespace rooms

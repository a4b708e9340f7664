// The part of the RedisBroker that brings a room forward: subscribe, sync, answer who waits, one thing at a
// time. pump() decides what is next; everything that happens to a room ends in it.
//
// Where memory is short anything here may throw. A room stays in the list it is in until it has been dealt
// with, and a sync that could not be sent or taken is made again.
#include <algorithm>
#include <array>
#include <iterator>
#include <new>
#include <utility>

#include "core/hub.hpp"
#include "store/redis_broker.hpp"

namespace rooms {
namespace {

constexpr std::uint64_t kStrangeEveryMs = 100;  // what strangers say makes a room look no oftener
constexpr std::uint64_t kFailedEveryMs = 1000;  // nor what Redis refuses
constexpr std::uint64_t kMostEvents = 10000;    // in one sync, where no history is longer
constexpr std::uint64_t kMostElements =
    1000000;  // and where one is: a reply's array has no more (redis_reply.cpp)

}  // namespace

void RedisBroker::pump_later(const RoomPtr& room) {
    if (room->listed) return;
    pumps_.push_back(room);
    room->listed = true;
    if (!soon_->armed()) soon_->arm(0);
}

// Once in each tick, until nothing is to be waited for.
void RedisBroker::look_after(const RoomPtr& room) {
    if (room->doubtful) return;
    doubtful_.push_back(room);
    room->doubtful = true;
}

void RedisBroker::run_pumps() {
    check(unheard_, true);
    unheard_.clear();
    while (!pumps_.empty()) {
        const RoomPtr room = std::move(pumps_.back());
        pumps_.pop_back();
        room->listed = false;
        try {
            pump(room);
        } catch (...) {
            // Its place is still there; the timer comes again.
            if (!std::exchange(room->listed, true)) pumps_.push_back(room);
            throw;
        }
    }
}

// The node that has the room now; its subscription at another one ends.
void RedisBroker::bind(const RoomPtr& room) {
    RedisNode* node = servers_->node_of(room->base);
    if (node == room->node) return;
    if (room->node != nullptr && room->asked) room->node->unsubscribe(room->channel);
    room->node = node;
    room->asked = room->subscribed = false;
}

void RedisBroker::pump(const RoomPtr& room) {
    if (room->room == nullptr) return;
    bind(room);
    const bool lost = room->node == nullptr ? servers_->known() : !room->node->takes_commands();
    if (lost && room->has_joiners()) return refuse_joiners(room, "redis cannot be reached");
    if (room->node == nullptr || !room->node->commands_up() || !room->node->subscriptions_up()) return;
    if (!room->asked) return ask_subscription(room);
    if (!room->subscribed || room->syncing) return;
    if (reactor_.now_ms() < room->sync_after && !room->has_joiners()) {
        look_after(room);
        return;
    }
    const bool members = !room->changes.empty() || room->members_unsure;
    if (!room->has_joiners() && !room->wants_sync && !members) return;
    sync(room);
}

void RedisBroker::ask_subscription(const RoomPtr& room) {
    RedisNode* node = room->node;
    room->asked = node->subscribe(room->channel, [this, room, node](bool good, std::string_view why) {
        if (room->room == nullptr || room->node != node || !room->asked) return;
        if (good) {
            room->subscribed = true;
            if (room->live()) {
                // What was published while nobody listened: with that of the other rooms, if it is a crowd.
                unheard_.push_back(room);
                soon_->arm(0);
            }
            return pump(room);
        }
        room->asked = false;
        if (const auto redirect = parse_redirect(why)) {
            if (servers_->follow(*redirect, *node) != nullptr) pump_later(room);
            look_after(room);
            return;
        }
        node->note_refusal(why);
        refuse_joiners(room, "redis refuses the subscription");
        if (room->room != nullptr) look_after(room);
    });
    if (!room->asked) look_after(room);  // too much is on its way
}

void RedisBroker::sync(const RoomPtr& room) {
    try {
        send_sync(room);
    } catch (...) {
        take_back_sync(*room);
        throw;
    }
}

void RedisBroker::take_back_sync(RedisRoom& room) {
    room.syncing = false;
    room.wants_sync = room.live();
    room.members_unsure = true;  // it may have been carried out
    room.on_sync_done();
}

void RedisBroker::send_sync(const RoomPtr& room) {
    // Joiners that a sync could not answer go first.
    room->joining.reserve(room->joining.size() + room->waiting.size());
    std::move(room->waiting.begin(), room->waiting.end(), std::back_inserter(room->joining));
    room->waiting.clear();
    room->syncing = true;
    room->wants_sync = false;
    const RedisClaim claim = room->claim();
    const HistoryLimits history = history_(room->room->name);
    const Position cursor = room->room->cursor;
    std::optional<std::uint64_t> from;
    if (room->live()) from = cursor.offset;
    for (const RedisRoom::Joiner& joiner : room->joining) {
        if (!joiner.since) continue;
        const Position since = *joiner.since;
        // Who cannot be served is not read for.
        if (room->live() && (since.epoch != cursor.epoch || since.offset + history.size < cursor.offset))
            continue;
        from = std::min(from.value_or(since.offset), since.offset);
    }
    const std::uint64_t most = std::clamp<std::uint64_t>(history.size, kMostEvents, kMostElements);

    // Members: what has changed, or all of them where Redis may know something else.
    std::map<std::string, std::int64_t, std::less<>> members = std::exchange(room->changes, {});
    std::string_view mode = "+";
    if (std::exchange(room->members_unsure, false)) {
        members.clear();
        mode = "=";
        for (const Room::Member& member : room->room->members())
            ++members[std::string(member.client->identity.user())];
    }
    for (const RedisRoom::Joiner& joiner : room->joining) ++members[joiner.user];
    std::erase_if(members, [](const auto& entry) { return entry.second == 0; });
    if (members.empty() && mode == "+") mode = "";
    room->members_known = room->members_known || !members.empty();

    const std::string offset = std::to_string(claim.offset);
    std::string seen_at = claim.fence;
    for (const RedisClaim& other : room->unjudged()) {
        if (other.epoch != claim.epoch || other.fence == room->node->fence()) continue;
        seen_at += ' ' + std::to_string(other.offset) + ' ' + other.check + ' ' + other.fence;
    }
    const std::string start = from ? std::to_string(*from) : std::string();
    const std::string count = std::to_string(most);
    std::vector<std::string> numbers;
    numbers.reserve(members.size());
    std::vector<std::string_view> arguments = {room->node->fence(),
                                               word_,
                                               room->node->sharded() ? "1" : "",
                                               claim.epoch,
                                               offset,
                                               claim.check,
                                               seen_at,
                                               start,
                                               count,
                                               mode};
    for (const auto& [user, change] : members) {
        arguments.push_back(user);
        arguments.push_back(numbers.emplace_back(std::to_string(change)));
    }
    run_sync(room->base, *room->node, arguments,
             [this, room](const RedisOutcome& outcome) { on_synced(room, outcome); });
}

void RedisBroker::run_sync(const std::string& base, const RedisNode& node,
                           std::span<const std::string_view> arguments, RedisCalls::Done done) {
    const std::string meta = base + ":meta";
    const std::string stream = base + ":stream";
    const std::string at = base + ":at";
    const std::string mine = at + ":" + node.member_name();
    const std::array<std::string_view, 4> keys = {meta, stream, at, mine};
    calls_.run(Script::sync, keys, arguments, std::move(done));
}

void RedisBroker::on_synced(const RoomPtr& room, const RedisOutcome& outcome) {
    std::optional<RedisSync> sync;
    try {
        if (outcome.reply) sync = RedisSync::parse(*outcome.reply);
    } catch (...) {
        take_back_sync(*room);
        throw;
    }
    if (!sync) {
        room->syncing = false;
        if (room->room == nullptr) return;
        room->members_unsure = true;  // it may have been carried out
        room->wants_sync = room->live();
        room->sync_after = reactor_.now_ms() + kFailedEveryMs;
        room->on_sync_done();
        refuse(room, std::exchange(room->joining, {}),
               outcome.reply ? std::string_view("redis gave an answer that makes no sense") : outcome.why);
        if (room->room != nullptr) look_after(room);
        return;
    }
    if (room->room != nullptr) {
        try {
            if (!room->live()) check_later(room, kCheckEveryMs);
            room->on_sync(*sync, outcome.node->fence(), sink_, *this);
            room->sync_after = room->strange ? reactor_.now_ms() + kStrangeEveryMs : 0;
            room->strange = false;
            if (room->suspect != 0) look_after(room);
            answer_joiners(room, *sync);
        } catch (...) {
            take_back_sync(*room);
            throw;
        }
    }
    room->syncing = false;
    if (room->room == nullptr) return;
    room->on_sync_done();
    pump(room);
}

void RedisBroker::answer_joiners(const RoomPtr& room, const RedisSync& sync) {
    std::vector<RedisRoom::Joiner> joiners = std::exchange(room->joining, {});
    std::size_t answered = 0;
    try {
        while (answered < joiners.size()) {
            if (room->room == nullptr) return;  // never: it waits for these
            RedisRoom::Joiner& joiner = joiners[answered];
            SubscribeAnswer answer;
            answer.ok = true;
            std::vector<Payload> missed;
            if (joiner.since) {
                auto found = room->missed(sync, *joiner.since, history_(room->room->name));
                answer.recovered = found.has_value();
                if (found) missed = std::move(*found);
            }
            answer.missed = missed;
            ++answered;
            joiner.done(answer);
        }
    } catch (...) {
        joiners.erase(joiners.begin(), joiners.begin() + static_cast<std::ptrdiff_t>(answered));
        room->joining = std::move(joiners);
        throw;
    }
}

void RedisBroker::refuse_joiners(const RoomPtr& room, std::string_view why) {
    refuse(room, std::exchange(room->waiting, {}), why);
    if (room->room != nullptr && !room->syncing) refuse(room, std::exchange(room->joining, {}), why);
}

void RedisBroker::refuse(const RoomPtr& room, std::vector<RedisRoom::Joiner> joiners, std::string_view why) {
    for (RedisRoom::Joiner& joiner : joiners) {
        if (room->room == nullptr) return;
        zone_.leave(slot_, room->room->name, joiner.user);
        SubscribeAnswer answer;
        answer.reason = why;
        try {
            joiner.done(answer);
        } catch (const std::bad_alloc&) {
            // The others want to be told as well.
        }
    }
}

}  // namespace rooms

// The part of the RedisBroker that trusts nothing: every room is compared with Redis every few seconds and
// after each reconnect, and rooms without members by what is remembered of them.
#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "core/hub.hpp"
#include "store/redis_broker.hpp"

namespace rooms {
namespace {

constexpr std::size_t kRoomsPerCheck = 256;
constexpr std::size_t kChecksPerTick = 8192;  // crowds that joined together are spread a little
constexpr std::uint64_t kTickMs = 250;

}  // namespace

void RedisBroker::tick() {
    tick_->arm(kTickMs);
    std::uint64_t heard = reactor_.now_ms();
    std::uint64_t refused = 0;
    servers_->each([&](RedisNode& node) {
        heard = std::min(heard, node.heard_ms());
        const std::uint64_t since = node.refusing_since_ms();
        if (since == 0) return;
        refused = refused == 0 ? since : std::min(refused, since);
        ask_refusing(node);
    });
    if (!servers_->known()) heard = started_;
    on_state_(heard, refused);

    const std::uint64_t now = reactor_.now_ms();
    // Out of the list when it has been looked at, should there be no memory for that.
    for (std::size_t left = doubtful_.size(); left != 0; --left, doubtful_.pop_front()) {
        const RoomPtr room = doubtful_.front();
        room->doubtful = false;
        if (room->room == nullptr) continue;
        if (room->suspect > room->room->cursor.offset && !room->syncing) {
            on_redis(RedisCount::holes, room->room->name);
            room->wants_sync = true;
        }
        room->suspect = 0;
        pump(room);
        if (room->room == nullptr || (room->waiting.empty() && room->joining.empty())) continue;
        if (room->has_joiners() && now >= room->deadline()) {
            refuse_joiners(room, "redis did not answer in time");
        } else {
            look_after(room);
        }
    }
    auto unforgotten = std::exchange(unforgotten_, {});
    try {
        for (; !unforgotten.empty(); unforgotten.erase(unforgotten.begin()))
            forget_members(*unforgotten.begin());
    } catch (...) {
        unforgotten_.merge(unforgotten);
        throw;
    }
    if (std::exchange(judge_again_, false)) judge_all();
    check_due();
}

// Whether it still does: nobody else may ask, for a host that says it is ill is spared. A write and a script,
// which are refused for reasons of their own, of a room that is not there, in a slot of the node's.
void RedisBroker::ask_refusing(RedisNode& node) {
    const std::string meta = node.probe() + ":meta";
    const std::string mine = node.probe() + ":at";
    const std::string lease = node.probe() + ":alive";
    const std::array<std::string_view, 5> write = {"SET", lease, "1", "PX", "1000"};
    const bool taken = node.command(write, [&node](std::optional<Reply> reply) {
        if (reply && reply->is_error() && !parse_redirect(reply->text())) node.note_refusal(reply->text());
    });
    if (!taken) return;
    const std::array<std::string_view, 2> keys = {meta, mine};
    const std::array<std::string_view, 4> arguments = {node.fence(), "", "0", ""};
    calls_.run_at(node, Script::check, keys, arguments, nullptr);
}

void RedisBroker::check_later(const RoomPtr& room, std::uint64_t after_ms) {
    checks_.emplace_back(reactor_.now_ms() + after_ms, room);
}

// Each room with members is in checks_ once, or in a check that is under way.
void RedisBroker::check_due() {
    const std::uint64_t now = reactor_.now_ms();
    std::vector<RoomPtr> rooms;
    while (!checks_.empty() && checks_.front().first <= now && rooms.size() < kChecksPerTick) {
        const RoomPtr room = checks_.front().second.lock();
        if (room && room->room != nullptr) {
            if (!room->syncing) rooms.push_back(room);
            check_later(room, kCheckEveryMs);
        }
        checks_.pop_front();
    }
    check(rooms, false);
}

void RedisBroker::check_all(RedisNode& node) {
    std::vector<RoomPtr> rooms;
    for (const auto& [base, room] : rooms_) {
        if (room->node == &node) rooms.push_back(room);
    }
    check(rooms, true);
}

void RedisBroker::check(const std::vector<RoomPtr>& rooms, bool strict) {
    std::map<RedisNode*, std::vector<RoomPtr>> by_node;
    for (const RoomPtr& room : rooms) {
        if (room->room == nullptr || room->node == nullptr || !room->live() || !room->subscribed) continue;
        by_node[room->node].push_back(room);
    }
    for (const auto& [node, theirs] : by_node) check_at(*node, theirs, strict);
}

void RedisBroker::check_at(RedisNode& node, const std::vector<RoomPtr>& rooms, bool strict) {
    // Keys of one command must be in one slot of a cluster.
    const std::size_t most = cluster_ ? 1 : kRoomsPerCheck;
    for (std::size_t first = 0; first < rooms.size(); first += most) {
        const std::size_t count = std::min(most, rooms.size() - first);
        std::vector<RoomPtr> part(rooms.begin() + static_cast<std::ptrdiff_t>(first),
                                  rooms.begin() + static_cast<std::ptrdiff_t>(first + count));
        std::vector<std::string> names;
        std::vector<RedisClaim> claims;
        std::vector<std::string> offsets;
        names.reserve(2 * count);
        claims.reserve(count);
        offsets.reserve(count);
        std::vector<std::string_view> keys;
        std::vector<std::string_view> arguments = {node.fence()};
        for (const RoomPtr& room : part) {
            keys.push_back(names.emplace_back(room->base + ":meta"));
            keys.push_back(names.emplace_back(room->base + ":at:" + node.member_name()));
            const RedisClaim& claim = claims.emplace_back(room->claim());
            arguments.push_back(claim.epoch);
            arguments.push_back(offsets.emplace_back(std::to_string(claim.offset)));
            arguments.push_back(claim.check);
        }
        const auto done = [this, part, strict](const RedisOutcome& outcome) {
            on_checked(part, outcome, strict);
        };
        // While a slot moves its rooms may be found at the other node only.
        if (cluster_) {
            calls_.run(Script::check, keys, arguments, done);
        } else {
            calls_.run_at(node, Script::check, keys, arguments, done);
        }
    }
}

void RedisBroker::on_checked(const std::vector<RoomPtr>& rooms, const RedisOutcome& outcome, bool strict) {
    if (!outcome.reply) {
        for (const RoomPtr& room : rooms) {
            room->wants_sync = room->wants_sync || strict;
            look_after(room);
        }
        return;
    }
    for (std::size_t i = 0; i < rooms.size(); ++i) {
        const RoomPtr& room = rooms[i];
        if (room->room == nullptr) continue;
        if ((*outcome.reply)[2 * i + 1].integer() == 0 && room->members_known) room->members_unsure = true;
        const std::string_view found = (*outcome.reply)[2 * i].text();
        const std::size_t space = found.find(' ');
        std::uint64_t offset = room->claim().offset;
        bool same_life = true;
        if (space != found.npos) {
            std::from_chars(found.data() + space + 1, found.data() + found.size(), offset);
            same_life = found.substr(0, space) == room->epoch();
        }
        const std::string& fence = outcome.node->fence();
        if (space == found.npos) room->on_proven(fence, sink_, *this);
        const bool ahead = same_life && offset > room->room->cursor.offset;
        if (ahead && !strict && room->is_proven(fence)) {
            // Its doorbell may be on the way.
            room->suspect = std::max(room->suspect, offset);
            look_after(room);
        } else if (space != found.npos || ahead) {
            room->wants_sync = true;
        }
        if (room->wants_sync || room->members_unsure) pump_later(room);
    }
}

void RedisBroker::judge_all() {
    std::vector<std::pair<std::string, RedisClaim>> claims;
    witness_.each([&](const std::string& base, const RedisClaim& claim) {
        const RedisNode* node = servers_->node_of(base);
        if (node != nullptr && node->commands_up() && claim.fence != node->fence())
            claims.emplace_back(base, claim);
    });
    for (const auto& [base, claim] : claims) judge(base, claim);
}

// Has this server what somebody saw elsewhere? If not, sync.lua begins another life of the room.
void RedisBroker::judge(const std::string& base, const RedisClaim& claim) {
    const RedisNode* node = servers_->node_of(base);
    if (node == nullptr) return;
    const std::string offset = std::to_string(claim.offset);
    const std::array<std::string_view, 10> arguments = {node->fence(), word_,       "", claim.epoch, offset,
                                                        claim.check,   claim.fence, "", "0",         ""};
    run_sync(base, *node, arguments, [this, key = base, claim](const RedisOutcome& outcome) {
        if (!outcome.reply) {
            judge_again_ = true;
            return;
        }
        const auto sync = RedisSync::parse(*outcome.reply);
        witness_.forget(key, claim.fence);
        if (!sync || sync->epoch != claim.epoch || sync->offset == 0) return;
        RedisClaim now = claim;
        now.fence = outcome.node->fence();
        witness_.note(key, now);
    });
}

}  // namespace rooms

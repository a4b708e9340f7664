// The broker of many hosts: rooms shared through Redis, which has their order, history, ids and members.
//
// Owned by the Worker. Events come over pub/sub, and from the room's stream wherever pub/sub left a hole: a
// room that is subscribed, joined, behind, or in doubt is synced, one sync at a time (RedisRoom decides,
// sync.lua answers). Every room is checked every few seconds, all of them after a reconnect. Members of this
// host are counted in the zone too, for `subscribers` and the status.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/broker.hpp"
#include "store/reactor.hpp"
#include "store/redis_calls.hpp"
#include "store/redis_presence.hpp"
#include "store/redis_publisher.hpp"
#include "store/redis_room.hpp"
#include "store/redis_servers.hpp"
#include "store/redis_target.hpp"
#include "store/redis_witness.hpp"
#include "store/zone.hpp"

namespace rooms {

class ApprovalMeter;
class RedisApprovals;
struct ApprovalTimes;

class RedisBroker final : public Broker, private RedisServers::Handler, private RedisMeter {
public:
    struct Parts {
        Reactor& reactor;
        Zone& zone;
        unsigned slot;
        RoomSink& sink;
        RedisMeter& meter;
        // When this worker last knew that it hears, and since when it is refused (0: it is not); steady clock.
        std::function<void(std::uint64_t heard_ms, std::uint64_t refused_ms)> on_state;
        std::function<HistoryLimits(std::string_view room)> history;
    };

    static constexpr std::uint64_t kCheckEveryMs = 4000;

    RedisBroker(Parts parts, const RedisTarget& target);
    ~RedisBroker() override;

    void start() override;

    void publish(std::span<const PublishRequest> batch, PublishDone done) override;
    void subscribe(Room& room, std::string_view user, std::optional<Position> since,
                   SubscribeDone done) override;
    void unsubscribe(Room& room, std::string_view user) noexcept override;
    void release(Room& room) noexcept override;
    void presence(std::string_view room, PresenceDone done) override;

    // Approvals on the same servers, in the same rooms. To be destroyed before the broker. `polls`: in one
    // worker of a host.
    [[nodiscard]] std::unique_ptr<RedisApprovals> approvals(const ApprovalTimes& times, ApprovalMeter& meter,
                                                            bool polls);

private:
    using RoomPtr = std::shared_ptr<RedisRoom>;

    // RedisServers::Handler
    void on_commands_up(RedisNode& node) override;
    void on_lost(RedisNode& node, bool again) override;
    void on_subscriptions_up(RedisNode& node) override;
    void on_subscriptions_down(RedisNode& node) override;
    void on_event(RedisNode& node, std::string_view channel, std::string_view message) override;
    void on_unsubscribed(RedisNode& node, std::string_view channel) override;
    void on_map_changed() override;
    void on_dropped(RedisNode& node) override;
    // RedisMeter
    void on_redis(RedisCount what, std::string_view room) override;

    [[nodiscard]] RedisRoom* at(const Room& room) const;
    RoomPtr room_of(Room& room);
    // Does whatever the room needs next.
    void pump(const RoomPtr& room);
    void pump_soon(const RoomPtr& room);
    void pump_later(const RoomPtr& room);
    void run_pumps();
    void look_after(const RoomPtr& room);
    void bind(const RoomPtr& room);
    void ask_subscription(const RoomPtr& room);
    void sync(const RoomPtr& room);
    void send_sync(const RoomPtr& room);
    static void take_back_sync(RedisRoom& room);
    void run_sync(const std::string& base, const RedisNode& node, std::span<const std::string_view> arguments,
                  RedisCalls::Done done);
    void on_synced(const RoomPtr& room, const RedisOutcome& outcome);
    void answer_joiners(const RoomPtr& room, const RedisSync& sync);
    void refuse(const RoomPtr& room, std::vector<RedisRoom::Joiner> joiners, std::string_view why);
    void refuse_joiners(const RoomPtr& room, std::string_view why);
    void forget_members(const std::string& base);
    static void begin_anew(RedisNode* node);
    void pump_all(RedisNode& node);
    // Of the publisher, and of approvals.
    void on_stored(const std::string& base, std::string_view epoch, std::uint64_t offset,
                   std::string_view check, const std::string& fence, bool repeat);

    void tick();
    void ask_refusing(RedisNode& node);
    void check_later(const RoomPtr& room, std::uint64_t after_ms);
    void check_due();
    // `strict`: after a reconnect, where nothing can be under way.
    void check(const std::vector<RoomPtr>& rooms, bool strict);
    void check_at(RedisNode& node, const std::vector<RoomPtr>& rooms, bool strict);
    void on_checked(const std::vector<RoomPtr>& rooms, const RedisOutcome& outcome, bool strict);
    void check_all(RedisNode& node);
    // Rooms without members here, by what is remembered of them.
    void judge_all();
    void judge(const std::string& base, const RedisClaim& claim);

    Reactor& reactor_;
    Zone& zone_;
    const unsigned slot_;
    RoomSink& sink_;
    RedisMeter& meter_;
    const std::function<void(std::uint64_t, std::uint64_t)> on_state_;
    const std::function<HistoryLimits(std::string_view)> history_;
    const std::string prefix_;
    const std::string me_;    // this worker, in Redis
    const std::string word_;  // goes into the secrets of rooms
    const bool cluster_;
    std::unique_ptr<RedisServers> servers_;
    RedisCalls calls_;
    RedisPresence presence_;
    RedisPublisher publisher_;
    RedisWitness witness_;
    std::unordered_map<std::string_view, RoomPtr> rooms_;  // by base, which the room owns
    std::vector<RedisRoom*> by_index_;
    std::vector<std::uint32_t> free_indexes_;
    std::set<std::string> unforgotten_;  // rooms that Redis may think have members here
    std::vector<RoomPtr> unheard_;       // subscribed anew: to be checked at the end of the turn
    std::vector<RoomPtr> pumps_;         // at the end of the turn
    std::deque<RoomPtr> doubtful_;       // looked at in each tick: joiners wait, or a check found them behind
    std::deque<std::pair<std::uint64_t, std::weak_ptr<RedisRoom>>> checks_;  // by time
    std::unique_ptr<Timer> soon_;
    std::unique_ptr<Timer> tick_;
    std::uint64_t foreign_ = 0;       // since the log said so
    std::uint64_t foreign_told_ = 0;  // when
    bool judge_again_ = false;        // some could not be judged
    std::uint64_t started_ = 0;
};

}  // namespace rooms

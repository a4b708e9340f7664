// One Redis server as a worker sees it: a link for commands, a link for subscriptions, and the certainty
// that what is published on the one is heard on the other.
//
// Owned by RedisServers. Comes back by itself, with backoff; tells its Handler what it lost meanwhile: all
// subscriptions with the second link, all commands under way with the first. Every two seconds a word is
// published and must be heard: a link that is open and deaf is ended like one that is closed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "store/backoff.hpp"
#include "store/reactor.hpp"
#include "store/redis_link.hpp"

namespace rooms {

class RedisNode final : private RedisLink::Handler {
public:
    class Handler {
    public:
        // Commands are taken. `fence()` is the server's now; it may be another one than before.
        virtual void on_commands_up(RedisNode& node) = 0;
        // The server went, or is no master any more; `again`: it was not there before either.
        virtual void on_lost(RedisNode& node, bool again) = 0;
        // Subscriptions are taken; there are none. Commands are taken too.
        virtual void on_subscriptions_up(RedisNode& node) = 0;
        virtual void on_subscriptions_down(RedisNode& node) = 0;
        virtual void on_event(RedisNode& node, std::string_view channel, std::string_view message) = 0;
        // The server took a subscription back: the slot is another one's.
        virtual void on_unsubscribed(RedisNode& node, std::string_view channel) = 0;

    protected:
        ~Handler() = default;
    };

    struct Options {
        RedisLogin login;
        std::string me;        // the worker
        std::string probe;     // the channel for the word
        bool sharded = false;  // SSUBSCRIBE and SPUBLISH, Redis 7 in a cluster
    };

    static constexpr std::uint64_t kProbeEveryMs = 2000;
    static constexpr std::uint64_t kDeafMs = 3000;  // without a word heard
    // The rest of the pipeline is for channels that are left meanwhile: those cannot wait.
    static constexpr std::size_t kMostSubscribing = RedisLink::kMaxPending / 2;

    RedisNode(Reactor& reactor, Address address, Options options, Handler& handler);
    ~RedisNode();

    void start();
    // Another server takes its place: links end, new ones open.
    void move_to(Address address);
    // The server is not the master, or not well: both links are opened anew.
    void restart(std::string_view why);
    // For good: nothing is tried any more. Commands are answered without a reply.
    void stop();
    // Listens to the new channel before it forgets the old one.
    void set_probe(std::string channel);
    [[nodiscard]] const std::string& probe() const { return options_.probe; }

    [[nodiscard]] const Address& address() const { return address_; }
    [[nodiscard]] const std::string& fence() const { return fence_; }
    // Of the server that events come from; for a moment it may be another one.
    [[nodiscard]] const std::string& events_fence() const { return subscriptions_fence_; }
    // This worker as Redis knows it: another with each connection, so that what an old one still had on its
    // way counts for nobody.
    [[nodiscard]] const std::string& member_name() const { return member_name_; }
    [[nodiscard]] bool sharded() const { return options_.sharded; }
    [[nodiscard]] bool commands_up() const { return commands_.up(); }
    [[nodiscard]] bool subscriptions_up() const { return subscriptions_ready_; }
    // Commands are sent, or wait for the very first login; not so once the server is known to be lost.
    [[nodiscard]] bool takes_commands() const { return !lost_ && !commands_.down(); }
    // When what was published was heard last (steady clock; at first the start).
    [[nodiscard]] std::uint64_t heard_ms() const { return heard_; }
    // Since when it refuses what it is asked (steady clock); 0: it does not.
    [[nodiscard]] std::uint64_t refusing_since_ms() const { return refusing_since_; }
    [[nodiscard]] std::uint64_t losses() const { return losses_; }

    // false: not taken, `done` is not called. See RedisLink::Done.
    [[nodiscard]] bool command(std::span<const std::string_view> words, RedisLink::Done done) {
        return takes_commands() && commands_.command(words, std::move(done));
    }
    [[nodiscard]] bool command_octets(std::string_view octets, RedisLink::Done done) {
        return takes_commands() && commands_.command_octets(octets, std::move(done));
    }
    // `done`: true once events come; false with the server's word. Not called when the link ends:
    // on_subscriptions_down is. false: not taken, too much is on its way.
    [[nodiscard]] bool subscribe(std::string_view channel, std::function<void(bool, std::string_view)> done);
    void unsubscribe(std::string_view channel);

    // What a command was refused with, and that one was not: a line in the log for each change.
    void note_refusal(std::string_view error);
    void note_success() {
        if (!told_.empty()) note_recovery();
    }
    // Of the last refusal, or why it is lost; empty: all is well. For people.
    [[nodiscard]] const std::string& trouble() const { return trouble_; }

private:
    void on_up(RedisLink& link, std::string_view replication) override;
    void on_down(RedisLink& link, std::string_view why) override;
    void on_push(RedisLink& link, Reply push) override;

    void open(RedisLink& link);
    void open_resolved(RedisLink& link);
    void close();
    void lose(std::string_view why);
    void note_recovery();
    void listen_to_probe();
    void send_probe();
    void on_probe_late();
    void on_info(Reply reply);

    Reactor& reactor_;
    Address address_;
    Options options_;
    Handler& handler_;
    std::string fence_;
    std::string subscriptions_fence_;  // of the server behind the other link
    std::string member_name_;
    std::uint64_t connections_ = 0;
    std::string trouble_;                // why it is lost, or refuses
    std::string subscriptions_trouble_;  // why they cannot be had
    std::vector<std::string> told_;      // kinds of refusals since the last recovery
    std::uint64_t refused_ = 0;          // when it refused last
    std::uint64_t heard_ = 0;
    std::uint64_t lost_since_ = 0;
    std::uint64_t losses_ = 0;
    std::uint64_t probed_ = 0;          // just after the word that has not been heard went out
    std::uint64_t word_ = 0;            // of the last probe
    std::uint64_t refusing_since_ = 0;  // 0: it does not
    bool lost_ = false;
    bool told_lost_ = false;  // and no word has been heard since
    bool known_ = false;      // it has been up since start() or move_to()
    bool subscriptions_ready_ = false;
    Backoff commands_backoff_{50, 500};
    Backoff subscriptions_backoff_{50, 500};
    RedisLink commands_;
    RedisLink subscriptions_;
    std::unique_ptr<Timer> reopen_commands_;
    std::unique_ptr<Timer> reopen_subscriptions_;
    std::unique_ptr<Timer> probe_every_;
    std::unique_ptr<Timer> probe_late_;
    std::shared_ptr<int> alive_;  // of look-ups under way
};

}  // namespace rooms

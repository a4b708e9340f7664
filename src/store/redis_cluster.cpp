// The nodes of a Redis cluster: the map of its slots, learnt from any node that answers, and learnt again
// when a node sends us elsewhere, is lost, or takes a subscription back.
//
// Its guide is one of the known masters, and where those fail one of the servers that the configuration
// names. Redis 7 and later hear and publish in the slot's own node (sharded pub/sub); before, every node
// hears everything.
#include <algorithm>
#include <array>
#include <map>
#include <utility>
#include <vector>

#include "store/redis_guide.hpp"
#include "store/redis_servers.hpp"
#include "store/redis_slots.hpp"

namespace rooms {
namespace {

constexpr std::uint64_t kRefreshMs = 10000;  // also when nobody complains
constexpr std::uint64_t kSoonMs = 50;        // complaints come in crowds
constexpr unsigned kFirstSharded = 7;

class Cluster final : public RedisServers, private RedisGuide::Handler {
public:
    Cluster(Reactor& reactor, const RedisTarget& target, std::string_view me, RedisServers::Handler& handler)
        : reactor_(reactor),
          target_(target),
          me_(me),
          handler_(handler),
          guide_(reactor, login_of(target), "cluster node", *this),
          drop_(reactor.timer([this] { dropped_.clear(); })),
          slots_(kRedisSlots, nullptr) {}

    void start() override { guide_.ask(); }
    RedisNode* node_of(std::string_view key) override { return slots_[redis_slot(key)]; }
    bool known() const override { return known_; }
    void each(const std::function<void(RedisNode&)>& visit) override {
        // Others are only passed through, by ASK.
        for (auto& [place, node] : nodes_) {
            if (std::find(slots_.begin(), slots_.end(), node.get()) != slots_.end()) visit(*node);
        }
    }
    void look_again() override {
        if (guide_.link().down()) guide_.ask_in(kSoonMs + reactor_.random() % kSoonMs);
    }
    RedisNode* follow(const RedisRedirect& redirect, const RedisNode& from) override {
        const std::string& host = redirect.host.empty() ? from.address().host : redirect.host;
        RedisNode* node = node_for(host, redirect.port, redirect.slot);
        if (redirect.ask) return node;
        if (node != nullptr) slots_[redirect.slot] = node;
        look_again();
        return node;
    }

private:
    static std::string place_text(const std::string& host, std::uint16_t port) {
        return host + ' ' + std::to_string(port);
    }

    Address choose_guide(std::size_t failures) override {
        std::vector<Address> known;
        for (const auto& [place, node] : nodes_) {
            if (node->commands_up()) known.push_back(node->address());
        }
        const std::size_t turn = failures % (known.size() + target_.servers.size());
        if (turn >= known.size()) return target_.servers[turn - known.size()];
        return known[(reactor_.random() + turn) % known.size()];
    }

    void on_guide_up(RedisLink& link) override {
        const std::array<std::string_view, 2> info = {"INFO", "server"};
        const std::array<std::string_view, 2> slots = {"CLUSTER", "SLOTS"};
        bool taken = link.command(info, [this](std::optional<Reply> reply) {
            if (!reply || known_) return;
            unsigned major = 0;
            for (const char c : info_field(reply->text(), "redis_version")) {
                if (c < '0' || c > '9') break;
                major = major * 10 + static_cast<unsigned>(c - '0');
            }
            sharded_ = major >= kFirstSharded;
        });
        taken = taken && link.command(slots, [this](std::optional<Reply> reply) {
            if (reply) on_slots(*reply);
        });
        if (!taken) link.fail("full");
    }

    void on_guide_push(Reply) override {}

    // [ [ first, last, [ host, port, … ] of the master, … of replicas ], … ]
    void on_slots(Reply reply) {
        RedisLink& link = guide_.link();
        if (reply.is_error()) return link.fail(reply.text());
        if (reply.size() == 0) return link.fail("it has no slots");
        std::vector<RedisNode*> slots(kRedisSlots, nullptr);
        std::string unresolved;
        for (std::size_t i = 0; i < reply.size(); ++i) {
            const std::int64_t first = reply[i][0].integer().value_or(-1);
            const std::int64_t last = reply[i][1].integer().value_or(-1);
            const Reply master = reply[i][2];
            std::string host(master[0].text());
            const std::int64_t port = master[1].integer().value_or(0);
            // It may not know its own address.
            if (host.empty() || host == "?") host = guide_.address().host;
            if (first < 0 || last < first || last >= kRedisSlots || port < 1 || port > 65535) {
                return link.fail("its map of slots makes no sense");
            }
            RedisNode* node =
                node_for(host, static_cast<std::uint16_t>(port), static_cast<std::uint16_t>(first));
            if (node == nullptr) unresolved = host;
            for (std::int64_t slot = first; slot <= last; ++slot)
                slots[static_cast<std::size_t>(slot)] = node;
        }
        if (!unresolved.empty()) {
            guide_.tell("the cluster names its node \"" + unresolved +
                        "\": names need a \"resolver\" in http{}");
        } else {
            guide_.tell({});
        }
        slots_ = std::move(slots);
        known_ = true;
        guide_.note_answer();
        link.close();
        guide_.ask_in(kRefreshMs);
        check_probes();
        drop_unused();
        handler_.on_map_changed();
    }

    RedisNode* node_for(const std::string& host, std::uint16_t port, std::uint16_t slot) {
        const std::string place = place_text(host, port);
        if (const auto known = nodes_.find(place); known != nodes_.end()) return known->second.get();
        auto address = learnt_address(reactor_, host, port);
        if (!address) return nullptr;
        auto& node = nodes_[place];
        node = std::make_unique<RedisNode>(
            reactor_, std::move(*address),
            RedisNode::Options{login_of(target_), me_, probe_of(slot), sharded_}, handler_);
        node->start();
        return node.get();
    }

    // A channel in this very slot, so that the node it is at can be asked to hear it.
    [[nodiscard]] std::string probe_of(std::uint16_t slot) const {
        std::string tag;
        for (unsigned n = 0;; ++n) {
            tag = std::to_string(n);
            if (redis_slot(tag) == slot) break;
        }
        return target_.prefix + ":{" + tag + "}:probe:" + me_;
    }

    // A node whose probe's slot has gone elsewhere would look deaf.
    void check_probes() {
        for (auto& [place, node] : nodes_) {
            if (slots_[redis_slot(node->probe())] == node.get()) continue;
            const auto mine = std::find(slots_.begin(), slots_.end(), node.get());
            if (mine != slots_.end()) {
                node->set_probe(probe_of(static_cast<std::uint16_t>(mine - slots_.begin())));
            }
        }
    }

    void drop_unused() {
        for (auto entry = nodes_.begin(); entry != nodes_.end();) {
            if (std::find(slots_.begin(), slots_.end(), entry->second.get()) != slots_.end()) {
                ++entry;
                continue;
            }
            handler_.on_dropped(*entry->second);
            entry->second->stop();
            dropped_.push_back(std::move(entry->second));
            entry = nodes_.erase(entry);
            drop_->arm(0);
        }
    }

    Reactor& reactor_;
    RedisTarget target_;
    const std::string me_;
    RedisServers::Handler& handler_;
    RedisGuide guide_;
    std::unique_ptr<Timer> drop_;
    std::vector<RedisNode*> slots_;  // of all slots, the node that has it; null: none
    std::map<std::string, std::unique_ptr<RedisNode>> nodes_;
    std::vector<std::unique_ptr<RedisNode>> dropped_;
    bool known_ = false;
    bool sharded_ = false;
};

}  // namespace

std::unique_ptr<RedisServers> make_redis_cluster(Reactor& reactor, const RedisTarget& target,
                                                 std::string_view me, RedisServers::Handler& handler) {
    return std::make_unique<Cluster>(reactor, target, me, handler);
}

}  // namespace rooms

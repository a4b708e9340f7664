// The master that sentinels name: asked for when it is looked for, and followed by +switch-master.
//
// Its guide is one sentinel at a time. A subscribed link takes no more questions, so a new question is a new
// link.
#include <array>
#include <utility>

#include "store/redis_guide.hpp"
#include "store/redis_servers.hpp"

namespace rooms {
namespace {

constexpr std::uint64_t kAskAgainMs = 500;  // no new question sooner
constexpr std::uint64_t kPingEveryMs = 2000;

class Sentinels final : public RedisServers, private RedisGuide::Handler {
public:
    Sentinels(Reactor& reactor, const RedisTarget& target, std::string_view me,
              RedisServers::Handler& handler)
        : reactor_(reactor),
          target_(target),
          me_(me),
          probe_(target.prefix + ":{probe}:" + std::string(me)),
          handler_(handler),
          next_(reactor.random() % target.servers.size()),
          guide_(reactor, sentinel_login(target), "sentinel", *this),
          ping_(reactor.timer([this] { ping(); })) {}

    void start() override { guide_.ask(); }
    RedisNode* node_of(std::string_view) override { return node_.get(); }
    bool known() const override { return node_ != nullptr; }
    void each(const std::function<void(RedisNode&)>& visit) override {
        if (node_) visit(*node_);
    }
    void look_again() override {
        if (!guide_.link().up()) return;  // it is being asked
        guide_.link().close();
        guide_.ask_in(kAskAgainMs);
    }

private:
    // Sentinels have users of their own, or none: the default is none.
    static RedisLogin sentinel_login(const RedisTarget& target) {
        RedisLogin login;
        login.tls = target.tls;
        return login;
    }

    Address choose_guide(std::size_t failures) override {
        if (failures != 0) next_ = (next_ + 1) % target_.servers.size();
        return target_.servers[next_];
    }

    void on_guide_up(RedisLink& link) override {
        const std::array<std::string_view, 3> ask = {"SENTINEL", "get-master-addr-by-name", target_.master};
        const bool taken = link.command(ask, [this](std::optional<Reply> reply) {
            if (reply) on_master(*reply);
        });
        if (!taken) link.fail("full");
    }

    void on_master(Reply reply) {
        RedisLink& link = guide_.link();
        if (reply.is_error()) return link.fail(reply.text());
        if (reply.size() != 2) return link.fail("it knows no master \"" + target_.master + "\"");
        guide_.note_answer();
        guide_.tell({});
        const std::array<std::string_view, 2> words = {"SUBSCRIBE", "+switch-master"};
        const bool taken = link.command(words, [&link](std::optional<Reply> answer) {
            if (answer && answer->is_error()) link.fail(answer->text());
        });
        if (!taken) return link.fail("full");
        ping_->arm(kPingEveryMs);
        follow_master(reply[0].text(), reply[1].integer().value_or(0));
    }

    // A sentinel that is gone without a word would leave us with what it said last.
    void ping() {
        RedisLink& link = guide_.link();
        if (!link.up()) return;
        ping_->arm(kPingEveryMs);
        const std::array<std::string_view, 1> words = {"PING"};
        if (!link.command(words, nullptr)) link.fail("full");
    }

    void on_guide_push(Reply push) override {
        // "NAME OLD-IP OLD-PORT NEW-IP NEW-PORT"
        std::array<std::string_view, 5> words;
        std::string_view rest = push[2].text();
        for (std::string_view& word : words) {
            const std::size_t end = rest.find(' ');
            word = rest.substr(0, end);
            rest = end == rest.npos ? std::string_view() : rest.substr(end + 1);
        }
        if (words[0] != target_.master) return;
        std::int64_t port = 0;
        for (const char c : words[4]) port = port < 100000 ? port * 10 + (c - '0') : port;
        follow_master(words[3], port);
    }

    void follow_master(std::string_view host, std::int64_t port) {
        if (host.empty() || port < 1 || port > 65535) return;
        auto address = learnt_address(reactor_, host, static_cast<std::uint16_t>(port));
        if (!address) {
            guide_.tell("sentinels name the master \"" + std::string(host) +
                        "\": names need a \"resolver\" in http{}");
            return;
        }
        if (node_) return node_->move_to(std::move(*address));
        node_ =
            std::make_unique<RedisNode>(reactor_, std::move(*address),
                                        RedisNode::Options{login_of(target_), me_, probe_, false}, handler_);
        node_->start();
        handler_.on_map_changed();
    }

    Reactor& reactor_;
    RedisTarget target_;
    const std::string me_;
    const std::string probe_;
    RedisServers::Handler& handler_;
    std::size_t next_;
    RedisGuide guide_;
    std::unique_ptr<RedisNode> node_;
    std::unique_ptr<Timer> ping_;
};

}  // namespace

std::unique_ptr<RedisServers> make_redis_sentinel(Reactor& reactor, const RedisTarget& target,
                                                  std::string_view me, RedisServers::Handler& handler) {
    return std::make_unique<Sentinels>(reactor, target, me, handler);
}

}  // namespace rooms

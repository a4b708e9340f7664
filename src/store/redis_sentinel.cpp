// The master that sentinels name: asked for when it is looked for, and followed by +switch-master.
//
// One link to one sentinel at a time, the next one after each failure. A subscribed link takes no more
// questions, so a new question is a new link.
#include <array>
#include <utility>

#include "store/redis_servers.hpp"

namespace rooms {
namespace {

constexpr std::uint64_t kAskAgainMs = 500;  // no new question sooner
constexpr std::uint64_t kPingEveryMs = 2000;

class Sentinels final : public RedisServers, private RedisLink::Handler {
public:
    Sentinels(Reactor& reactor, const RedisTarget& target, std::string_view me,
              RedisServers::Handler& handler)
        : reactor_(reactor),
          target_(target),
          me_(me),
          probe_(target.prefix + ":{probe}:" + std::string(me)),
          handler_(handler),
          next_(reactor.random() % target.servers.size()),
          link_(reactor, sentinel_login(target), *this),
          again_(reactor.timer([this] { open(); })),
          ping_(reactor.timer([this] { ping(); })),
          alive_(std::make_shared<int>(0)) {}

    void start() override { open(); }
    RedisNode* node_of(std::string_view) override { return node_.get(); }
    bool known() const override { return node_ != nullptr; }
    void each(const std::function<void(RedisNode&)>& visit) override {
        if (node_) visit(*node_);
    }
    void look_again() override {
        if (again_->armed() || !link_.up()) return;  // it is being asked
        ping_->disarm();
        link_.close();
        again_->arm(kAskAgainMs);
    }

private:
    // Sentinels have users of their own, or none: the default is none.
    static RedisLogin sentinel_login(const RedisTarget& target) {
        RedisLogin login;
        login.tls = target.tls;
        login.asks_replication = false;
        return login;
    }

    void open() {
        if (!link_.down()) return;
        Address& sentinel = target_.servers[next_];
        if (sentinel.sockaddr.empty() || reactor_.resolves()) {
            reactor_.resolve(sentinel.host, sentinel.port, alive_,
                             [this, &sentinel](Result<std::vector<std::string>> found) {
                                 if (!link_.down()) return;
                                 if (found && !found->empty()) sentinel.sockaddr = found->front();
                                 if (sentinel.sockaddr.empty())
                                     return on_down(link_, "its name has no address");
                                 link_.open(sentinel);
                             });
            return;
        }
        link_.open(sentinel);
    }

    void on_up(RedisLink&, std::string_view) override {
        const std::array<std::string_view, 3> ask = {"SENTINEL", "get-master-addr-by-name", target_.master};
        const bool taken = link_.command(ask, [this](std::optional<Reply> reply) {
            if (reply) on_master(*reply);
        });
        if (!taken) link_.fail("full");
    }

    void on_master(Reply reply) {
        if (reply.is_error()) return link_.fail(reply.text());
        if (reply.size() != 2) return link_.fail("it knows no master \"" + target_.master + "\"");
        backoff_.reset();
        tell({});
        const std::array<std::string_view, 2> words = {"SUBSCRIBE", "+switch-master"};
        const bool taken = link_.command(words, [this](std::optional<Reply> answer) {
            if (answer && answer->is_error()) link_.fail(answer->text());
        });
        if (!taken) return link_.fail("full");
        ping_->arm(kPingEveryMs);
        follow_master(reply[0].text(), reply[1].integer().value_or(0));
    }

    // A sentinel that is gone without a word would leave us with what it said last.
    void ping() {
        ping_->arm(kPingEveryMs);
        const std::array<std::string_view, 1> words = {"PING"};
        if (link_.up() && !link_.command(words, nullptr)) link_.fail("full");
    }

    void on_push(RedisLink&, Reply push) override {
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
            tell("sentinels name the master \"" + std::string(host) +
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

    void on_down(RedisLink&, std::string_view why) override {
        ping_->disarm();
        again_->arm(backoff_.next(reactor_.random()));
        const std::size_t asked = std::exchange(next_, (next_ + 1) % target_.servers.size());
        tell("sentinel \"" + target_.servers[asked].text() + "\": " + std::string(why));
    }

    // Each change of state is told once.
    void tell(std::string trouble) {
        if (trouble == trouble_) return;
        trouble_ = std::move(trouble);
        if (!trouble_.empty()) reactor_.log(LogLevel::warn, "redis: " + trouble_);
    }

    Reactor& reactor_;
    RedisTarget target_;
    const std::string me_;
    const std::string probe_;
    RedisServers::Handler& handler_;
    std::size_t next_;
    RedisLink link_;
    std::unique_ptr<RedisNode> node_;
    Backoff backoff_{100, 1000};
    std::unique_ptr<Timer> again_;
    std::unique_ptr<Timer> ping_;
    std::shared_ptr<int> alive_;
    std::string trouble_;
};

}  // namespace

std::unique_ptr<RedisServers> make_redis_sentinel(Reactor& reactor, const RedisTarget& target,
                                                  std::string_view me, RedisServers::Handler& handler) {
    return std::make_unique<Sentinels>(reactor, target, me, handler);
}

}  // namespace rooms

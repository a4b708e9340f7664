#include "store/redis_node.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace rooms {
namespace {

std::string quoted(const Address& address) { return "redis \"" + address.text() + "\""; }

constexpr std::uint64_t kQuietMs = 3000;  // without a refusal: it works again
constexpr std::size_t kMaxKinds = 16;

// The first word of an error is its kind: "OOM", "LOADING", …
std::string_view kind_of(std::string_view error) { return error.substr(0, error.find(' ')); }

}  // namespace

RedisNode::RedisNode(Reactor& reactor, Address address, Options options, Handler& handler)
    : reactor_(reactor),
      address_(std::move(address)),
      options_(std::move(options)),
      handler_(handler),
      heard_(reactor.now_ms()),
      commands_(reactor, options_.login, *this),
      subscriptions_(reactor, options_.login, *this),
      reopen_commands_(reactor.timer([this] { open(commands_); })),
      reopen_subscriptions_(reactor.timer([this] { open(subscriptions_); })),
      probe_every_(reactor.timer([this] { send_probe(); })),
      probe_late_(reactor.timer([this] { on_probe_late(); })),
      alive_(std::make_shared<int>(0)) {}

RedisNode::~RedisNode() = default;

void RedisNode::start() {
    open(commands_);
    open(subscriptions_);
    probe_every_->arm(kProbeEveryMs);
}

void RedisNode::close() {
    reopen_commands_->disarm();
    reopen_subscriptions_->disarm();
    probe_late_->disarm();
    commands_.close();
    subscriptions_.close();
    if (std::exchange(subscriptions_ready_, false)) handler_.on_subscriptions_down(*this);
}

void RedisNode::stop() {
    probe_every_->disarm();
    alive_.reset();
    close();
}

void RedisNode::set_probe(std::string channel) {
    if (subscriptions_ready_) {
        const std::array<std::string_view, 2> words = {options_.sharded ? "SSUBSCRIBE" : "SUBSCRIBE",
                                                       channel};
        const bool taken = subscriptions_.command(words, [this](std::optional<Reply> reply) {
            if (reply && reply->is_error()) subscriptions_.fail(reply->text());
        });
        if (!taken) subscriptions_.fail("full");
        unsubscribe(options_.probe);
    }
    options_.probe = std::move(channel);
    probe_late_->disarm();
}

void RedisNode::move_to(Address address) {
    if (address.same_place(address_) && !lost_) return;
    if (!address.same_place(address_)) {
        reactor_.log(LogLevel::notice, quoted(address_) + " is replaced by \"" + address.text() + "\"");
    }
    close();
    address_ = std::move(address);
    commands_backoff_.reset();
    subscriptions_backoff_.reset();
    open(commands_);
    open(subscriptions_);
}

void RedisNode::restart(std::string_view why) {
    commands_.fail(why);
    subscriptions_.fail(why);
}

void RedisNode::open(RedisLink& link) {
    if (!link.down()) return;
    if (address_.is_unix() || (!reactor_.resolves() && !address_.sockaddr.empty())) {
        return link.open(address_);
    }
    // The name may mean another address by now: a service that has moved.
    reactor_.resolve(address_.host, address_.port, alive_,
                     [this, &link, host = address_.host](Result<std::vector<std::string>> found) {
                         if (!link.down() || host != address_.host) return;
                         // Should there be no memory for what follows.
                         Timer& again = &link == &commands_ ? *reopen_commands_ : *reopen_subscriptions_;
                         again.arm(kProbeEveryMs);
                         if (found && !found->empty()) {
                             address_.sockaddr = (*found)[reactor_.random() % found->size()];
                         } else if (address_.sockaddr.empty()) {
                             return on_down(link, found ? "its name has no address" : found.error().message);
                         }
                         link.open(address_);
                         again.disarm();
                     });
}

void RedisNode::on_up(RedisLink& link, std::string_view replication) {
    if (&link == &commands_) {
        lost_ = false;
        told_.clear();
        refusing_since_ = 0;
        fence_ = replication;
        member_name_ = options_.me + '.' + std::to_string(++connections_);
        handler_.on_commands_up(*this);
        if (subscriptions_ready_) send_probe();
    } else {
        subscriptions_fence_ = replication;
        listen_to_probe();
    }
    // Behind one address there may be two servers, for a moment.
    const bool both = commands_.up() && subscriptions_.up();
    if (both && subscriptions_fence_ != fence_) restart("it is another server by now");
}

void RedisNode::listen_to_probe() {
    const std::array<std::string_view, 2> words = {options_.sharded ? "SSUBSCRIBE" : "SUBSCRIBE",
                                                   options_.probe};
    const bool taken = subscriptions_.command(words, [this](std::optional<Reply> reply) {
        if (!reply) return;
        if (reply->is_error()) return subscriptions_.fail(reply->text());
        subscriptions_trouble_.clear();
        subscriptions_ready_ = true;
        handler_.on_subscriptions_up(*this);
        send_probe();
    });
    if (!taken) subscriptions_.fail("full");
}

void RedisNode::on_down(RedisLink& link, std::string_view why) {
    if (&link == &commands_) {
        const bool again = lost_;
        reopen_commands_->arm(commands_backoff_.next(reactor_.random()));
        lose(why);
        handler_.on_lost(*this, again);
        return;
    }
    reopen_subscriptions_->arm(subscriptions_backoff_.next(reactor_.random()));
    probe_late_->disarm();
    const bool was_ready = std::exchange(subscriptions_ready_, false);
    if (was_ready) handler_.on_subscriptions_down(*this);
    if (lost_ || !commands_.up()) return;  // the other link tells
    if (was_ready) ++losses_;
    if (!was_ready && why == subscriptions_trouble_) return;
    const char* what = was_ready ? " subscriptions lost: " : " subscriptions cannot be had: ";
    reactor_.log(LogLevel::error, quoted(address_) + what + std::string(why) + ", retrying");
    subscriptions_trouble_ = why;
}

// Once for each change of state: what is tried meanwhile and fails the same way is not told, nor what only
// logs in. The state comes first, for the words may lack memory.
void RedisNode::lose(std::string_view why) {
    const bool told = std::exchange(told_lost_, true);
    if (!std::exchange(lost_, true)) ++losses_;
    refusing_since_ = 0;  // nobody is asked any more
    if (!told) lost_since_ = reactor_.now_ms();
    if (told && trouble_ == why) return;
    const char* what = known_ && !told ? " lost: " : " cannot be reached: ";
    reactor_.log(LogLevel::error, quoted(address_) + what + std::string(why) + ", retrying");
    trouble_ = why;
}

// Some calls succeed while others are refused: each kind is told once, until all is quiet again.
void RedisNode::note_refusal(std::string_view error) {
    refused_ = reactor_.now_ms();
    const std::string_view kind = kind_of(error);
    if (std::find(told_.begin(), told_.end(), kind) != told_.end() || told_.size() == kMaxKinds) return;
    if (told_.empty()) refusing_since_ = refused_;
    told_.emplace_back(kind);
    trouble_ = error;
    reactor_.log(LogLevel::error, quoted(address_) + " refuses: " + trouble_);
}

void RedisNode::note_recovery() {
    if (reactor_.now_ms() < refused_ + kQuietMs) return;
    reactor_.log(LogLevel::notice, quoted(address_) + " works again, after: " + trouble_);
    trouble_.clear();
    told_.clear();
    refusing_since_ = 0;
}

bool RedisNode::subscribe(std::string_view channel, std::function<void(bool, std::string_view)> done) {
    if (subscriptions_.pending() >= kMostSubscribing) return false;
    const std::array<std::string_view, 2> words = {options_.sharded ? "SSUBSCRIBE" : "SUBSCRIBE", channel};
    return subscriptions_.command(words, [done = std::move(done)](std::optional<Reply> reply) {
        if (reply) done(!reply->is_error(), reply->text());
    });
}

void RedisNode::unsubscribe(std::string_view channel) {
    if (!subscriptions_ready_) return;
    const char* command = options_.sharded ? "SUNSUBSCRIBE" : "UNSUBSCRIBE";
    if (!subscriptions_.unsubscribe(command, channel)) subscriptions_.fail("full");
}

void RedisNode::on_push(RedisLink&, Reply push) {
    const std::string_view kind = push[0].text();
    const std::string_view channel = push[1].text();
    if (kind == "sunsubscribe" || kind == "unsubscribe") {
        if (channel == options_.probe) probe_late_->disarm();  // it gets another one with the new map
        return handler_.on_unsubscribed(*this, channel);
    }
    if (channel != options_.probe) return handler_.on_event(*this, channel, push[2].text());
    if (push[2].integer() != static_cast<std::int64_t>(word_)) return;  // not ours, or an old one
    heard_ = reactor_.now_ms();
    probe_late_->disarm();
    // A server that takes the login and nothing else is not there.
    commands_backoff_.reset();
    subscriptions_backoff_.reset();
    known_ = true;
    if (!std::exchange(told_lost_, false)) return;
    trouble_.clear();
    const std::uint64_t away = heard_ - lost_since_;
    reactor_.log(LogLevel::notice, quoted(address_) + " is back after " + std::to_string(away) + "ms");
}

void RedisNode::send_probe() {
    probe_every_->arm(kProbeEveryMs);
    if (!commands_.up() || !subscriptions_ready_) return;
    word_ = reactor_.random() >> 2;
    const std::string word = std::to_string(word_);
    const std::array<std::string_view, 3> publish = {options_.sharded ? "SPUBLISH" : "PUBLISH",
                                                     options_.probe, word};
    const std::array<std::string_view, 2> info = {"INFO", "replication"};
    bool taken = commands_.command(publish, [this](std::optional<Reply> reply) {
        if (!reply || !reply->is_error()) return;
        if (!reply->text().starts_with("MOVED")) return note_refusal(reply->text());
        probe_late_->disarm();
        handler_.on_unsubscribed(*this, options_.probe);
    });
    taken = taken && commands_.command(info, [this](std::optional<Reply> reply) {
        if (reply) on_info(*reply);
    });
    if (!taken || probe_late_->armed()) return;
    probed_ = reactor_.now_ms() + 1;
    probe_late_->arm(RedisLink::kTimeoutMs);
}

// While something comes, the word may be behind it: a worker that is busy is not deaf.
void RedisNode::on_probe_late() {
    if (subscriptions_.received_ms() >= probed_ && reactor_.now_ms() < heard_ + RedisLink::kLongestMs) {
        probed_ = reactor_.now_ms() + 1;
        return probe_late_->arm(RedisLink::kTimeoutMs);
    }
    subscriptions_.fail("deaf: what is published does not come");
}

// A server may be demoted, or get another master's data, while the link stays open.
void RedisNode::on_info(Reply reply) {
    if (info_field(reply.text(), "role") == "slave") return restart("READONLY it is a replica");
    const std::string_view replication = info_field(reply.text(), "master_replid");
    if (replication.empty() || replication == fence_) return;
    fence_ = subscriptions_fence_ = replication;
    handler_.on_commands_up(*this);
}

}  // namespace rooms

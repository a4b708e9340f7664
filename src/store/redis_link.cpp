#include "store/redis_link.hpp"

#include <algorithm>
#include <array>
#include <new>
#include <utility>
#include <vector>

namespace rooms {
namespace {

bool is_message(Reply reply) {
    const std::string_view kind = reply[0].text();
    return reply.size() == 3 && (kind == "message" || kind == "smessage");
}

}  // namespace

std::string_view info_field(std::string_view info, std::string_view key) {
    while (!info.empty()) {
        const std::size_t end = info.find('\n');
        std::string_view line = info.substr(0, end);
        info = end == info.npos ? std::string_view() : info.substr(end + 1);
        if (line.ends_with('\r')) line.remove_suffix(1);
        if (line.size() > key.size() && line.starts_with(key) && line[key.size()] == ':') {
            return line.substr(key.size() + 1);
        }
    }
    return {};
}

RedisLink::RedisLink(Reactor& reactor, RedisLogin login, Handler& handler)
    : reactor_(reactor),
      login_(std::move(login)),
      handler_(handler),
      silence_(reactor.timer([this] { check_silence(); })),
      failing_(reactor.timer([this] { end(std::exchange(failure_, {})); })) {}

RedisLink::~RedisLink() = default;

void RedisLink::open(const Address& address) {
    reader_ = std::make_unique<ReplyReader>();
    stream_ = reactor_.connect(address, login_.tls, kConnectMs, *this);
    state_ = State::opening;
}

void RedisLink::on_open() {
    const auto send = [this](std::initializer_list<std::string_view> words) {
        stream_->write(encode_command(std::span(words.begin(), words.size())));
        ++logins_left_;
        pending_.push_front({nullptr, reactor_.now_ms(), {}});
    };
    if (!login_.password.empty()) {
        if (login_.user.empty()) {
            send({"AUTH", login_.password});
        } else {
            send({"AUTH", login_.user, login_.password});
        }
    }
    if (login_.db != 0) send({"SELECT", std::to_string(login_.db)});
    if (login_.asks_replication) {
        send({"INFO"});
    } else {
        send({"PING"});
    }
    logins_ = logins_left_;
    watch_silence();
}

bool RedisLink::unsubscribe(std::string_view command, std::string_view channel) {
    const std::array<std::string_view, 2> words = {command, channel};
    return send(encode_command(words), {nullptr, 0, std::string(channel)});
}

bool RedisLink::send(std::string_view octets, Pending pending) {
    if (state_ == State::down || !failure_.empty() || pending_.size() >= kMaxPending) return false;
    if ((stream_ ? stream_->queued() : 0) + waiting_.size() > kMaxQueued) return false;
    pending.sent = reactor_.now_ms();
    pending_.push_back(std::move(pending));
    try {
        if (state_ == State::up) {
            stream_->write(octets);
        } else {
            waiting_ += octets;
        }
    } catch (...) {
        pending_.pop_back();
        throw;
    }
    watch_silence();
    return true;
}

void RedisLink::on_bytes(std::string_view bytes) {
    received_ = reactor_.now_ms();
    if (!reader_->feed(bytes)) return fail("it does not speak RESP");
    while (state_ != State::down && failure_.empty()) {
        bool broken = false;
        const std::optional<Reply> reply = reader_->next(broken);
        if (broken) return fail("it does not speak RESP");
        if (!reply) return;
        on_reply(*reply);
    }
}

void RedisLink::on_reply(Reply reply) {
    if (logins_left_ != 0) {
        pending_.pop_front();
        --logins_left_;
        return on_login_reply(reply);
    }
    if (is_message(reply)) return handler_.on_push(*this, reply);
    if (pending_.empty()) return handler_.on_push(*this, reply);
    // A slot that moves takes its subscriptions away without having been asked.
    if (reply[0].text() == "sunsubscribe" && pending_.front().unsubscribes != reply[1].text()) {
        return handler_.on_push(*this, reply);
    }
    Done done = std::move(pending_.front().done);
    pending_.pop_front();
    watch_silence();
    if (done) done(reply);
}

void RedisLink::on_login_reply(Reply reply) {
    if (reply.is_error()) {
        // Some servers repeat what they were sent: of the login only the kind of error is told.
        const std::string_view text = reply.text();
        const bool of_auth = logins_left_ + 1 == logins_ && !login_.password.empty();
        return fail(of_auth ? std::string(text.substr(0, text.find(' '))) + " the login is refused"
                            : std::string(text));
    }
    if (login_.asks_replication && logins_left_ == 0) {
        // It answers before it has read its data, and would be judged by what it has read by then.
        if (info_field(reply.text(), "loading") == "1") return fail("LOADING it reads its data");
        const std::string_view role = info_field(reply.text(), "role");
        if (role != "master") {
            return fail(role == "slave" ? "READONLY it is a replica" : "it does not tell its role");
        }
        replication_ = info_field(reply.text(), "master_replid");
    }
    if (logins_left_ == 0) logged_in();
}

void RedisLink::logged_in() {
    state_ = State::up;
    // What its owner wants to have said first goes before what waited.
    std::string waiting = std::exchange(waiting_, {});
    std::list<Pending> waited = std::exchange(pending_, {});
    try {
        handler_.on_up(*this, replication_);
        if (state_ == State::up) stream_->write(waiting);
    } catch (...) {
        abandon(std::move(waited));
        throw;
    }
    if (state_ != State::up) return abandon(std::move(waited));
    pending_.splice(pending_.end(), waited);
    watch_silence();
}

void RedisLink::fail(std::string_view why) {
    if (state_ == State::down || !failure_.empty()) return;
    failure_ = why.empty() ? "failed" : why;
    failing_->arm(0);
}

// A peer that closes in the same turn does not hide why this side had enough.
void RedisLink::on_closed(std::string_view why) {
    end(failure_.empty() ? std::string(why) : std::exchange(failure_, {}));
}

void RedisLink::close() {
    if (state_ == State::down) return;
    state_ = State::down;
    logins_left_ = 0;
    waiting_.clear();
    failure_.clear();
    failing_->disarm();
    silence_->disarm();
    stream_->close();
    abandon(std::exchange(pending_, {}));
}

// All of them: that one lacks the memory to do something about it is no reason to forget the next.
void RedisLink::abandon(std::list<Pending> commands) {
    for (Pending& pending : commands) {
        try {
            if (pending.done) pending.done(std::nullopt);
        } catch (const std::bad_alloc&) {
        }
    }
}

void RedisLink::end(std::string_view why) {
    if (state_ == State::down) return;
    close();
    handler_.on_down(*this, why);
}

void RedisLink::check_silence() {
    if (pending_.empty()) return;
    if (reactor_.now_ms() >= silence_ends()) return end("no answer in time");
    watch_silence();
}

// Armed once for many commands: it fires early for those that have been answered, and looks again.
void RedisLink::watch_silence() {
    if (pending_.empty() || silence_->armed()) return;
    const std::uint64_t now = reactor_.now_ms();
    const std::uint64_t due = silence_ends();
    silence_->arm(due > now ? due - now : 1);
}

std::uint64_t RedisLink::silence_ends() const {
    const std::uint64_t sent = pending_.front().sent;
    return std::min(std::max(sent, received_) + kTimeoutMs, sent + kLongestMs);
}

}  // namespace rooms

// An event loop for the unit tests: the test moves the clock, and is the other end of every connection.
//
// Nothing happens by itself. As over nginx: what a callback throws ends its connection with a reason; a
// timer whose callback throws comes again in a second; no callback runs inside the call that asked for it.
// Arming a timer and closing a stream allocate nothing.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <new>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "store/reactor.hpp"
#include "store/redis_reply.hpp"
#include "store/redis_scripts.hpp"

namespace redis_test {

using namespace rooms;

[[noreturn]] inline void die(const char* why) {
    std::fprintf(stderr, "# %s\n", why);
    std::abort();
}

using Words = std::vector<std::string>;

inline std::string joined(const Words& words) {
    std::string text;
    for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
    return text;
}

// Commands as people write them; scripts by name.
inline std::string command_text(const Words& words) {
    static constexpr const char* kNames[] = {"publish",  "publish_all", "sync", "check",
                                             "presence", "approval",    "index"};
    Words shown = words;
    for (std::size_t i = 0; i < kScripts && shown.size() > 1; ++i) {
        const auto script = static_cast<Script>(i);
        if (shown[1] == script_sha(script)) shown[1] = kNames[i];
        if (shown.size() > 2 && shown[2] == script_text(script)) shown[2] = kNames[i];
    }
    return joined(shown);
}

// One connection that the store has asked for; stays when the store has closed it.
class FakeLine {
public:
    Address address;
    bool tls = false;
    std::uint64_t timeout_ms = 0;
    std::size_t stuck = 0;  // octets that the kernel does not take

    // What the store's side sees of it:
    [[nodiscard]] bool alive() const { return handler_ != nullptr; }
    [[nodiscard]] bool opened() const { return opened_; }

    void accept() {
        opened_ = true;
        enter([this] { handler_->on_open(); });
    }
    void feed(std::string_view bytes) {
        // Of exactly its size and gone after the call; not by operator new, which tests let fail.
        const std::unique_ptr<char, void (*)(void*)> copy(static_cast<char*>(std::malloc(bytes.size())),
                                                          std::free);
        std::memcpy(copy.get(), bytes.data(), bytes.size());
        enter([&] { handler_->on_bytes({copy.get(), bytes.size()}); });
    }
    void feed_bytewise(std::string_view bytes) {
        for (std::size_t i = 0; i < bytes.size() && alive(); ++i) feed(bytes.substr(i, 1));
    }
    void hang_up(std::string_view why = "closed by the server") {
        if (alive()) end(why);
    }

    // The commands written since the last call.
    std::vector<Words> take() {
        std::vector<Words> commands;
        if (!reader_.feed(std::exchange(written_, {}))) die("not RESP");
        for (;;) {
            bool broken = false;
            const auto reply = reader_.next(broken);
            if (broken) die("not RESP");
            if (!reply) return commands;
            Words& words = commands.emplace_back();
            for (std::size_t i = 0; i < reply->size(); ++i) words.emplace_back((*reply)[i].text());
        }
    }
    // The same, as octets: a crowd of them would take long to read.
    std::string take_octets() { return std::exchange(written_, {}); }
    // "AUTH pw; INFO replication"
    std::string take_text() {
        std::string all;
        for (const Words& words : take()) all += (all.empty() ? "" : "; ") + command_text(words);
        return all;
    }

private:
    friend class FakeReactor;
    friend class FakeStream;

    template <typename Call>
    void enter(Call call) {
        if (!alive()) return;
        ++inside_;
        try {
            call();
            --inside_;
        } catch (const std::bad_alloc&) {
            --inside_;
            if (alive()) end("out of memory");
        }
    }
    void end(std::string_view why) {
        Stream::Handler* handler = std::exchange(handler_, nullptr);
        ++inside_;
        try {
            handler->on_closed(why);
        } catch (const std::bad_alloc&) {
        }
        --inside_;
    }

    Stream::Handler* handler_ = nullptr;
    std::string written_;
    ReplyReader reader_;
    bool opened_ = false;
    int inside_ = 0;
};

class FakeStream final : public Stream {
public:
    explicit FakeStream(std::shared_ptr<FakeLine> line) : line_(std::move(line)) {}
    ~FakeStream() override {
        if (line_->inside_ != 0) die("a stream is destroyed in its own callback");
        line_->handler_ = nullptr;
    }
    void write(std::string_view bytes) override {
        if (line_->alive()) line_->written_ += bytes;
    }
    [[nodiscard]] std::size_t queued() const override { return line_->stuck; }
    void close() override { line_->handler_ = nullptr; }

private:
    const std::shared_ptr<FakeLine> line_;
};

class FakeReactor final : public Reactor {
public:
    std::vector<std::shared_ptr<FakeLine>> lines;  // all that there were
    std::map<std::string, std::vector<std::string>> names;
    bool has_resolver = false;
    bool answers_look_ups = true;
    bool held = false;
    std::vector<std::string> looked_up;
    std::vector<std::string> logs;
    std::uint64_t next_random = 0;  // counts up; what is random in the tests is known

    // The newest connection but `back` others.
    [[nodiscard]] FakeLine& line(std::size_t back = 0) {
        if (lines.size() <= back) die("no such connection");
        return *lines[lines.size() - 1 - back];
    }

    // The end of the turn: whatever is due by now.
    void settle() { advance(0); }
    // Timers fire in the order of their times; the clock stands at each of them.
    void advance(std::uint64_t ms) {
        const std::uint64_t until = now_ + ms;
        for (;;) {
            answer_look_ups();
            Clock* next = nullptr;
            for (Clock* clock : clocks_) {
                if (clock->armed && clock->due <= until && (!next || clock->before(*next))) next = clock;
            }
            if (!next) break;
            now_ = std::max(now_, next->due);
            fire(next->shared_from_this());
        }
        now_ = until;
    }

    [[nodiscard]] bool logged(std::string_view part) const {
        for (const std::string& line : logs) {
            if (line.find(part) != line.npos) return true;
        }
        return false;
    }

    std::unique_ptr<Stream> connect(const Address& address, bool tls, std::uint64_t timeout_ms,
                                    Stream::Handler& handler) override {
        auto line = std::make_shared<FakeLine>();
        auto stream = std::make_unique<FakeStream>(line);
        line->address = address;
        line->tls = tls;
        line->timeout_ms = timeout_ms;
        lines.push_back(line);
        line->handler_ = &handler;
        return stream;
    }

    std::unique_ptr<Timer> timer(std::function<void()> on_fire) override {
        auto clock = std::make_shared<Clock>(*this, std::move(on_fire));
        clocks_.insert(clock.get());
        return std::make_unique<FakeTimer>(std::move(clock));
    }

    std::unique_ptr<Watch> watch(int, std::function<void()>) override { die("no library has sockets here"); }

    void resolve(const std::string& name, std::uint16_t port, std::weak_ptr<void> owner,
                 Resolved done) override {
        look_ups_.push_back({name, port, std::move(owner), std::move(done)});
    }
    [[nodiscard]] bool resolves() const override { return has_resolver; }

    void hold(bool now_held) override {
        holds_ += now_held ? 1 : -1;
        if (holds_ < 0) die("let go of more often than held");
        held = holds_ != 0;
    }
    [[nodiscard]] std::uint64_t now_ms() const override { return now_; }
    [[nodiscard]] std::int64_t wall_ms() const override {
        return 1'795'332'720'690 + static_cast<std::int64_t>(now_);
    }
    std::uint64_t random() override { return ++next_random; }
    void log(LogLevel level, std::string_view text) override {
        static constexpr const char* kLevels[] = {"error: ", "warn: ", "notice: ", "info: "};
        logs.push_back(kLevels[static_cast<std::size_t>(level)] + std::string(text));
    }

private:
    struct Clock : std::enable_shared_from_this<Clock> {
        Clock(FakeReactor& of, std::function<void()> callback) : reactor(of), on_fire(std::move(callback)) {}
        [[nodiscard]] bool before(const Clock& other) const {
            return due != other.due ? due < other.due : order < other.order;
        }
        void arm(std::uint64_t ms) {
            armed = true;
            due = reactor.now_ + ms;
            order = ++reactor.order_;
        }
        FakeReactor& reactor;
        const std::function<void()> on_fire;
        std::uint64_t due = 0;
        std::uint64_t order = 0;
        bool armed = false;
        bool stopped = false;
    };

    class FakeTimer final : public Timer {
    public:
        explicit FakeTimer(std::shared_ptr<Clock> clock) : clock_(std::move(clock)) {}
        ~FakeTimer() override {
            clock_->stopped = true;
            clock_->armed = false;
            clock_->reactor.clocks_.erase(clock_.get());
        }
        void arm(std::uint64_t ms) override { clock_->arm(ms); }
        void disarm() override { clock_->armed = false; }
        [[nodiscard]] bool armed() const override { return clock_->armed; }

    private:
        const std::shared_ptr<Clock> clock_;
    };

    struct LookUp {
        std::string name;
        std::uint16_t port;
        std::weak_ptr<void> owner;
        Resolved done;
    };

    static void fire(const std::shared_ptr<Clock>& clock) {
        clock->armed = false;
        try {
            clock->on_fire();
        } catch (const std::bad_alloc&) {
            if (!clock->stopped && !clock->armed) clock->arm(1000);
        }
    }

    void answer_look_ups() {
        while (answers_look_ups && !look_ups_.empty()) {
            LookUp look_up = std::move(look_ups_.front());
            look_ups_.pop_front();
            looked_up.push_back(look_up.name);
            const auto owner = look_up.owner.lock();
            if (!owner) continue;
            const std::string address = sockaddr_of(look_up.name, look_up.port);
            if (!address.empty()) {
                look_up.done(std::vector{address});
            } else if (names.contains(look_up.name)) {
                look_up.done(names[look_up.name]);
            } else {
                look_up.done(Error{"host not found"});
            }
        }
    }

    int holds_ = 0;
    std::uint64_t now_ = 1'000'000;
    std::uint64_t order_ = 0;
    std::set<Clock*> clocks_;
    std::deque<LookUp> look_ups_;
};

// What a server says about itself.
inline std::string info_text(std::string_view role, std::string_view replication) {
    return "# Replication\r\nrole:" + std::string(role) +
           "\r\nconnected_slaves:0\r\nmaster_replid:" + std::string(replication) +
           "\r\nmaster_repl_offset:0\r\n";
}

inline Address place(std::string_view host = "10.0.0.1", std::uint16_t port = 6379) {
    Address address;
    address.host = host;
    address.port = port;
    address.sockaddr = sockaddr_of(host, port);
    return address;
}

}  // namespace redis_test

// PgLink on a poll() loop, driven by lines: t/80_pg_link.t says what to do and reads what happens.
//
//   link CONNINFO
//     start | drop WHY | quit | destroy | turn
//     destroy-in up|down|message|answer        the link goes in that callback, its next one
//     run ID TIMEOUT NAME TEXT VALUE…          separated by tabs; =text, @N (N times x), - (null)
//     flood N                                  N statements at once, answered by one line
//
// `turn`: the longest turn of the loop since the last question, in ms: its processor time, and if it has
// slept in it all the time that passed but what it was ready for and others had the processor. Sleeping is
// what must not be.
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "store/pg_link.hpp"

namespace {

using namespace rooms;

double clock_ms(clockid_t clock) {
    timespec now{};
    clock_gettime(clock, &now);
    return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) / 1e6;
}

class PollReactor final : public Reactor {
public:
    std::unique_ptr<Stream> connect(const Address&, bool, std::uint64_t, Stream::Handler&) override {
        return nullptr;
    }
    std::unique_ptr<Timer> timer(std::function<void()> on_fire) override {
        return std::make_unique<PollTimer>(*this, std::move(on_fire));
    }
    std::unique_ptr<Watch> watch(int fd, std::function<void()> on_ready) override {
        const int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        if (own == -1) return nullptr;
        return std::make_unique<PollWatch>(*this, own, std::move(on_ready));
    }
    void resolve(const std::string&, std::uint16_t, std::weak_ptr<void>, Resolved) override {}
    bool resolves() const override { return false; }
    void hold(bool) override {}
    std::uint64_t now_ms() const override { return static_cast<std::uint64_t>(clock_ms(CLOCK_MONOTONIC)); }
    std::int64_t wall_ms() const override { return static_cast<std::int64_t>(clock_ms(CLOCK_REALTIME)); }
    std::uint64_t random() override { return random_(); }
    void log(LogLevel level, std::string_view text) override {
        static constexpr const char* kLevels[] = {"error", "warn", "notice", "info"};
        std::printf("log %s %.*s\n", kLevels[static_cast<std::size_t>(level)], static_cast<int>(text.size()),
                    text.data());
    }

    // One turn: what is ready, then what is due, then what was left for its end.
    void turn() {
        std::vector<std::shared_ptr<Entry>> entries(watches_.begin(), watches_.end());
        std::vector<pollfd> fds;
        for (const auto& entry : entries) fds.push_back({entry->fd, entry->events, 0});
        poll(fds.data(), fds.size(), wait_ms());
        begin();
        for (std::size_t i = 0; i < fds.size(); ++i) {
            if (fds[i].revents != 0 && !entries[i]->gone && entries[i]->events != 0) entries[i]->on_ready();
        }
        for (const bool end_of_turn : {false, true}) {
            while (const std::shared_ptr<Clock> clock = due(end_of_turn)) {
                clock->armed = false;
                clock->on_fire();
            }
        }
        end();
    }
    double take_longest() { return std::exchange(longest_, 0); }

private:
    struct Entry {
        int fd;
        std::function<void()> on_ready;
        short events = 0;
        bool gone = false;
    };
    struct Clock {
        std::function<void()> on_fire;
        bool armed = false;
        bool now = false;
        std::uint64_t at = 0;
    };

    class PollTimer final : public Timer {
    public:
        PollTimer(PollReactor& reactor, std::function<void()> on_fire) : reactor_(reactor) {
            clock_->on_fire = std::move(on_fire);
            reactor_.clocks_.insert(clock_);
        }
        ~PollTimer() override {
            clock_->armed = false;
            reactor_.clocks_.erase(clock_);
        }
        void arm(std::uint64_t ms) override {
            clock_->armed = true;
            clock_->now = ms == 0;
            clock_->at = reactor_.now_ms() + ms;
        }
        void disarm() override { clock_->armed = false; }
        bool armed() const override { return clock_->armed; }

    private:
        PollReactor& reactor_;
        std::shared_ptr<Clock> clock_ = std::make_shared<Clock>();
    };

    class PollWatch final : public Watch {
    public:
        PollWatch(PollReactor& reactor, int fd, std::function<void()> on_ready)
            : reactor_(reactor), entry_(std::make_shared<Entry>(Entry{fd, std::move(on_ready)})) {
            reactor_.watches_.insert(entry_);
        }
        ~PollWatch() override {
            entry_->gone = true;
            reactor_.watches_.erase(entry_);
            ::close(entry_->fd);
        }
        bool want(bool read, bool write) override {
            entry_->events = static_cast<short>((read ? POLLIN : 0) | (write ? POLLOUT : 0));
            return true;
        }

    private:
        PollReactor& reactor_;
        std::shared_ptr<Entry> entry_;
    };

    int wait_ms() const {
        std::uint64_t next = now_ms() + 1000;
        for (const auto& clock : clocks_) {
            if (clock->armed) next = std::min(next, clock->now ? 0 : clock->at);
        }
        const std::uint64_t now = now_ms();
        return next > now ? static_cast<int>(next - now) : 0;
    }
    std::shared_ptr<Clock> due(bool end_of_turn) const {
        for (const auto& clock : clocks_) {
            if (clock->armed && clock->now == end_of_turn && (clock->now || clock->at <= now_ms()))
                return clock;
        }
        return nullptr;
    }

    static long sleeps() {
        rusage used{};
        getrusage(RUSAGE_THREAD, &used);
        return used.ru_nvcsw;
    }
    // ms that this process has been ready and not running, so far.
    static double waited() {
        std::uint64_t running = 0, ready = 0;
        std::ifstream("/proc/self/schedstat") >> running >> ready;
        return static_cast<double>(ready) / 1e6;
    }
    void begin() {
        waited_ = waited();
        sleeps_ = sleeps();
        wall_ = clock_ms(CLOCK_MONOTONIC);
        cpu_ = clock_ms(CLOCK_THREAD_CPUTIME_ID);
    }
    void end() {
        const bool slept = sleeps() != sleeps_;
        const double took = slept ? clock_ms(CLOCK_MONOTONIC) - wall_ - (waited() - waited_)
                                  : clock_ms(CLOCK_THREAD_CPUTIME_ID) - cpu_;
        longest_ = std::max(longest_, took);
    }

    std::set<std::shared_ptr<Entry>> watches_;
    std::set<std::shared_ptr<Clock>> clocks_;
    std::mt19937_64 random_{std::random_device{}()};
    long sleeps_ = 0;
    double wall_ = 0, cpu_ = 0, waited_ = 0, longest_ = 0;
};

std::vector<std::string> split(const std::string& text, char by) {
    std::vector<std::string> parts;
    std::size_t from = 0;
    for (;;) {
        const std::size_t at = text.find(by, from);
        parts.push_back(text.substr(from, at - from));
        if (at == std::string::npos) return parts;
        from = at + 1;
    }
}

std::string shown(std::string_view text) {
    std::string one = text.size() > 1000 ? "#" + std::to_string(text.size()) : std::string(text);
    std::replace(one.begin(), one.end(), '\n', '?');
    return one;
}

class Driver final : private PgLink::Handler {
public:
    explicit Driver(const PgTarget& target)
        : link_(std::make_unique<PgLink>(reactor_, target, "rooms test",
                                         static_cast<PgLink::Handler&>(*this))) {
        fcntl(STDIN_FILENO, F_SETFL, fcntl(STDIN_FILENO, F_GETFL) | O_NONBLOCK);
        input_ = reactor_.watch(STDIN_FILENO, [this] { read(); });
        (void)input_->want(true, false);
    }
    void loop() {
        while (!quit_) {
            reactor_.turn();
            std::fflush(stdout);
        }
    }

private:
    void on_up() override {
        std::printf("up %d\n", link_->up());
        destroy_in("up");
    }
    void on_down(std::string_view why) override {
        std::printf("down %s\n", shown(why).c_str());
        destroy_in("down");
    }
    void on_notification(std::string_view channel, std::string_view payload) override {
        std::printf("message %s %s\n", shown(channel).c_str(), shown(payload).c_str());
        destroy_in("message");
    }

    void destroy_in(const std::string& callback) {
        if (callback != destroy_in_) return;
        link_.reset();
        std::printf("destroyed\n");
    }

    void read() {
        char buffer[65536];
        const ssize_t n = ::read(STDIN_FILENO, buffer, sizeof buffer);
        if (n <= 0) {
            quit_ = n == 0;
            return;
        }
        line_.append(buffer, static_cast<std::size_t>(n));
        for (std::size_t end; (end = line_.find('\n')) != std::string::npos;) {
            const std::string line = line_.substr(0, end);
            line_.erase(0, end + 1);
            obey(line);
        }
    }

    void obey(const std::string& line) {
        const std::string word = line.substr(0, line.find_first_of(" \t"));
        const std::string rest = line.size() > word.size() ? line.substr(word.size() + 1) : "";
        if (word == "quit") quit_ = true;
        if (word == "destroy") link_.reset();
        if (word == "destroy-in") destroy_in_ = rest;
        if (word == "turn") std::printf("turn %.1f\n", reactor_.take_longest());
        if (!link_) return;
        if (word == "start") link_->start();
        if (word == "drop") link_->drop(rest);
        if (word == "run") run(split(rest, '\t'));
        if (word == "flood") flood(std::atoi(rest.c_str()));
        if (word == "trouble") std::printf("trouble %s\n", link_->trouble().c_str());
        if (word == "run") std::printf("called\n");
    }

    void run(const std::vector<std::string>& words) {
        // A statement's texts live for ever.
        const auto kept = [this](const std::string& text) { return texts_.insert(text).first->c_str(); };
        std::vector<PgValue> values;
        for (std::size_t i = 4; i < words.size(); ++i) {
            const std::string rest = words[i].substr(1);
            if (words[i][0] == '-') values.emplace_back(std::nullopt);
            if (words[i][0] == '=') values.emplace_back(rest);
            if (words[i][0] == '0') values.emplace_back(std::string("a\0b", 3));
            if (words[i][0] == '@')
                values.emplace_back(std::string(std::strtoul(rest.c_str(), nullptr, 10), 'x'));
        }
        link_->run(
            {kept(words[2]), kept(words[3])}, std::move(values),
            [this, id = words[0]](const PgOutcome& outcome) {
                tell(id, outcome);
                destroy_in("answer");
            },
            std::strtoul(words[1].c_str(), nullptr, 10));
    }

    static void tell(const std::string& id, const PgOutcome& outcome) {
        std::printf("answer %s ", id.c_str());
        switch (outcome.kind) {
            case PgOutcome::Kind::rows:
                std::printf("rows %zu/%zu", outcome.rows.size(),
                            static_cast<std::size_t>(outcome.rows.affected()));
                for (std::size_t row = 0; row < outcome.rows.size(); ++row) {
                    for (std::size_t column = 0; column < outcome.rows.columns(); ++column) {
                        const std::string text = shown(outcome.rows.text(row, column));
                        std::printf("\t%s", outcome.rows.is_null(row, column) ? "-" : ("=" + text).c_str());
                    }
                }
                break;
            case PgOutcome::Kind::refused:
                std::printf("refused %s %s", std::string(outcome.sqlstate).c_str(),
                            shown(outcome.reason).c_str());
                break;
            case PgOutcome::Kind::unavailable:
                std::printf("unavailable %s", shown(outcome.reason).c_str());
                break;
        }
        std::printf("\n");
    }

    void flood(int count) {
        struct Tally {
            int count, answered = 0, good = 0, ordered = 0;
            ~Tally() { std::printf("flood %d good %d ordered %d of %d\n", answered, good, ordered, count); }
        };
        const auto tally = std::make_shared<Tally>(Tally{count});
        for (int i = 0; i < count; ++i) {
            link_->run(
                {"flood", "select $1::int8"}, {std::to_string(i)},
                [tally, i](const PgOutcome& outcome) {
                    tally->ordered += tally->answered++ == i;
                    tally->good += outcome.good() && outcome.rows.integer(0, 0) == i;
                },
                30000);
        }
    }

    PollReactor reactor_;
    std::unique_ptr<PgLink> link_;
    std::unique_ptr<Watch> input_;
    std::string line_;
    std::string destroy_in_;
    std::set<std::string> texts_;
    bool quit_ = false;
};

}  // namespace

int main(int count, char** words) {
    std::signal(SIGPIPE, SIG_IGN);
    if (count != 2) return 2;
    const Result<PgTarget> target = parse_pg_conninfo(words[1]);
    if (!target) {
        std::printf("bad conninfo: %s\n", target.error().message.c_str());
        return 1;
    }
    Driver(*target).loop();
    std::printf("end\n");
    return 0;
}

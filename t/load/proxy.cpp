// A bad line between nginx and Redis: a TCP proxy that swallows, cuts and delays as it is told.
//
//   proxy PORT TARGET          on 127.0.0.1:PORT; TARGET is ADDRESS:PORT or the path of a unix socket
//
// Says "ready", then takes commands on stdin, a line each, and answers each with a line once it holds:
//
//   hole up|down|both|none     bytes to (up) or from (down) the target vanish, ends of streams too, while
//                              connections stay up; with `both` new ones are accepted and lead nowhere
//   cut / mend                 every connection is closed and new ones are refused / taken again
//   delay MS                   each way
//   target TARGET              from now on; what is connected is closed
//   stats                      connections N accepted N up BYTES down BYTES swallowed BYTES
//
// A connection out of which something vanished is reset when its hole ends: TCP loses no bytes in the
// middle of a stream that goes on. stdin's end is the end.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

namespace {

constexpr std::size_t kMaxQueued = 256 * 1024;  // then the sender is left waiting, as on a line

double now_ms() {
    using namespace std::chrono;
    return duration<double, std::milli>(steady_clock::now().time_since_epoch()).count();
}

struct Pair;

// One of the two sockets of a connection, and what is on its way to it.
struct Side {
    struct Chunk {
        double due;
        std::string bytes;
    };

    Pair* pair = nullptr;
    Side* other = nullptr;
    int fd = -1;
    bool connecting = false;
    bool ended = false;  // nothing more comes from it
    bool shut = false;   // it has been told that nothing more will come
    bool full = false;   // the kernel takes no more
    std::uint32_t events = 0;
    std::deque<Chunk> out;
    std::size_t queued = 0;
};

struct Pair {
    Side client, server;
    bool swallowed = false;
    bool dead = false;
};

class Proxy {
public:
    Proxy(int port, const std::string& target) : epoll_(epoll_create1(0)) {
        address_.sin_family = AF_INET;
        address_.sin_port = htons(static_cast<std::uint16_t>(port));
        address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        aim(target);
    }

    int run() {
        if (!listen()) {
            perror("proxy: listen");
            return 1;
        }
        fcntl(0, F_SETFL, fcntl(0, F_GETFL) | O_NONBLOCK);
        epoll_event in{};
        in.events = EPOLLIN;
        in.data.ptr = &stdin_;
        epoll_ctl(epoll_, EPOLL_CTL_ADD, 0, &in);
        say("ready");
        while (!over_) {
            epoll_event events[256];
            const int ready = epoll_wait(epoll_, events, 256, pause());
            for (int i = 0; i < ready; ++i) {
                void* who = events[i].data.ptr;
                if (who == &stdin_) {
                    commands();
                } else if (who == &listener_) {
                    accept();
                } else {
                    serve(*static_cast<Side*>(who), events[i].events);
                }
            }
            if (delayed_ > 0) {
                for (auto& pair : pairs_)
                    for (Side* side : {&pair->client, &pair->server}) flush(*side);
            }
            std::erase_if(pairs_, [](const auto& pair) { return pair->dead; });
        }
        return 0;
    }

private:
    static void say(const std::string& line) {
        printf("%s\n", line.c_str());
        fflush(stdout);
    }

    void aim(const std::string& target) {
        target_path_.clear();
        const std::size_t colon = target.rfind(':');
        if (target[0] == '/' || colon == std::string::npos) {
            target_path_ = target;
            return;
        }
        target_.sin_family = AF_INET;
        target_.sin_port = htons(static_cast<std::uint16_t>(atoi(target.c_str() + colon + 1)));
        inet_pton(AF_INET, target.substr(0, colon).c_str(), &target_.sin_addr);
    }

    bool listen() {
        if (listening_ != -1) return true;
        const int one = 1;
        listening_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        setsockopt(listening_, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        if (bind(listening_, reinterpret_cast<sockaddr*>(&address_), sizeof address_) == -1 ||
            ::listen(listening_, 511) == -1) {
            return false;
        }
        epoll_event event{};
        event.events = EPOLLIN;
        event.data.ptr = &listener_;
        epoll_ctl(epoll_, EPOLL_CTL_ADD, listening_, &event);
        return true;
    }

    void commands() {
        char buffer[4096];
        while (true) {
            const ssize_t n = ::read(0, buffer, sizeof buffer);
            if (n == 0) over_ = true;
            if (n <= 0) break;
            typed_.append(buffer, static_cast<std::size_t>(n));
        }
        for (std::size_t end; (end = typed_.find('\n')) != std::string::npos; typed_.erase(0, end + 1))
            obey(typed_.substr(0, end));
    }

    void obey(const std::string& line) {
        std::istringstream words(line);
        std::string command, word;
        words >> command >> word;
        if (command == "hole") {
            up_ = word == "up" || word == "both";
            down_ = word == "down" || word == "both";
            // What lost bytes in the hole before does not go on, whatever the next one lets through.
            reset_if([](const Pair& pair) { return pair.swallowed; });
        } else if (command == "cut") {
            if (listening_ != -1) close(listening_);
            listening_ = -1;
            reset_if([](const Pair&) { return true; });
        } else if (command == "mend") {
            if (!listen()) return say("error: " + std::string(strerror(errno)));
        } else if (command == "delay") {
            delay_ = atof(word.c_str());
        } else if (command == "target") {
            aim(word);
            reset_if([](const Pair&) { return true; });
        } else if (command == "stats") {
            const auto living = std::count_if(pairs_.begin(), pairs_.end(), [](auto& p) { return !p->dead; });
            std::ostringstream out;
            out << "connections " << living << " accepted " << accepted_ << " up " << bytes_up_ << " down "
                << bytes_down_ << " swallowed " << swallowed_;
            return say(out.str());
        } else {
            return say("error: unknown command");
        }
        say("ok");
    }

    template <class Which>
    void reset_if(Which which) {
        for (auto& pair : pairs_)
            if (!pair->dead && which(*pair)) kill(*pair);
    }

    void accept() {
        while (listening_ != -1) {
            const int fd = accept4(listening_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
            if (fd == -1) return;
            ++accepted_;
            auto pair = std::make_unique<Pair>();
            pair->client.pair = pair->server.pair = pair.get();
            pair->client.other = &pair->server;
            pair->server.other = &pair->client;
            pair->client.fd = fd;
            no_delay(fd);
            if (up_ && down_) {
                pair->swallowed = true;
            } else if (!connect(pair->server)) {
                close(fd);
                continue;
            }
            watch(pair->client);
            watch(pair->server);
            pairs_.push_back(std::move(pair));
        }
    }

    bool connect(Side& side) {
        int done = -1;
        if (target_path_.empty()) {
            side.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
            no_delay(side.fd);
            done = ::connect(side.fd, reinterpret_cast<const sockaddr*>(&target_), sizeof target_);
        } else {
            side.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
            sockaddr_un address{};
            address.sun_family = AF_UNIX;
            target_path_.copy(address.sun_path, sizeof address.sun_path - 1);
            done = ::connect(side.fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
        }
        side.connecting = done == -1 && errno == EINPROGRESS;
        if (done == 0 || side.connecting) return true;
        close(side.fd);
        side.fd = -1;
        return false;
    }

    static void no_delay(int fd) {
        const int one = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }

    // Asks epoll for what this side can do now.
    void watch(Side& side) {
        if (side.fd == -1) return;
        std::uint32_t want = 0;
        if (!side.ended && side.other->queued < kMaxQueued && !side.connecting) want |= EPOLLIN;
        if (side.full || side.connecting) want |= EPOLLOUT;
        if (want == side.events) return;
        epoll_event event{};
        event.events = want;
        event.data.ptr = &side;
        const int how = side.events == 0 ? EPOLL_CTL_ADD : want == 0 ? EPOLL_CTL_DEL : EPOLL_CTL_MOD;
        epoll_ctl(epoll_, how, side.fd, &event);
        side.events = want;
    }

    void serve(Side& side, std::uint32_t events) {
        if (side.fd == -1 || side.pair->dead) return;
        if (side.connecting) {
            int error = 0;
            socklen_t size = sizeof error;
            getsockopt(side.fd, SOL_SOCKET, SO_ERROR, &error, &size);
            if (error) return kill(*side.pair);
            side.connecting = false;
        }
        if (events & EPOLLOUT) {
            side.full = false;
            flush(side);
        }
        if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) read(side);
        if (side.pair->dead) return;
        watch(side);
        watch(*side.other);
    }

    void read(Side& side) {
        const bool upward = &side == &side.pair->client;
        const bool hole = (upward ? up_ : down_) || side.other->fd == -1;
        char buffer[65536];
        for (int turn = 0; turn < 16 && !side.ended && side.other->queued < kMaxQueued; ++turn) {
            const ssize_t n = recv(side.fd, buffer, sizeof buffer, 0);
            if (n == -1 && (errno == EAGAIN || errno == EINTR)) return;
            if (n == -1 && !hole) return kill(*side.pair);
            if (n <= 0) {
                side.ended = true;
                if (hole) {
                    // The other end learns nothing of it. This one is closed, lest it be polled for ever.
                    side.pair->swallowed = true;
                    close(side.fd);
                    side.fd = -1;
                    side.events = 0;
                    drop(side);
                    if (side.other->fd == -1) side.pair->dead = true;
                    return;
                }
                return flush(*side.other);
            }
            const auto size = static_cast<std::size_t>(n);
            if (hole) {
                side.pair->swallowed = true;
                swallowed_ += size;
                continue;
            }
            (upward ? bytes_up_ : bytes_down_) += size;
            side.other->out.push_back({now_ms() + delay_, std::string(buffer, size)});
            side.other->queued += size;
            ++delayed_;
            flush(*side.other);
            if (side.pair->dead) return;
        }
    }

    // Sends what is due, and the end of the stream behind it.
    void flush(Side& side) {
        if (side.fd == -1 || side.connecting || side.pair->dead) return;
        const double at = now_ms();
        while (!side.out.empty() && !side.full && side.out.front().due <= at) {
            std::string& bytes = side.out.front().bytes;
            const ssize_t n = send(side.fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (n == -1 && errno != EAGAIN && errno != EINTR) return kill(*side.pair);
            if (n > 0) side.queued -= static_cast<std::size_t>(n);
            if (n == static_cast<ssize_t>(bytes.size())) {
                side.out.pop_front();
                --delayed_;
            } else {
                if (n > 0) bytes.erase(0, static_cast<std::size_t>(n));
                side.full = true;
            }
        }
        if (side.out.empty() && side.other->ended && !side.shut) {
            side.shut = true;
            shutdown(side.fd, SHUT_WR);
            if (side.ended) return kill(*side.pair, false);
        }
        watch(side);
        watch(*side.other);
    }

    void drop(Side& side) {
        delayed_ -= side.out.size();
        side.out.clear();
        side.queued = 0;
    }

    void kill(Pair& pair, bool reset = true) {
        for (Side* side : {&pair.client, &pair.server}) {
            drop(*side);
            if (side->fd == -1) continue;
            const linger now{1, 0};
            if (reset) setsockopt(side->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
            close(side->fd);
            side->fd = -1;
        }
        pair.dead = true;
    }

    // Until the next delayed bytes are due.
    int pause() const {
        if (delayed_ == 0) return -1;
        double first = HUGE_VAL;
        for (const auto& pair : pairs_)
            for (const Side* side : {&pair->client, &pair->server})
                if (!side->out.empty() && !side->full && !side->connecting && side->fd != -1)
                    first = std::min(first, side->out.front().due);
        if (first == HUGE_VAL) return -1;
        return std::max(0, static_cast<int>(std::ceil(first - now_ms())));
    }

    int epoll_;
    int listening_ = -1;
    char stdin_ = 0, listener_ = 0;  // what their events point at
    sockaddr_in address_{};
    sockaddr_in target_{};
    std::string target_path_;
    std::string typed_;
    bool up_ = false, down_ = false, over_ = false;
    double delay_ = 0;
    std::vector<std::unique_ptr<Pair>> pairs_;
    std::size_t delayed_ = 0;  // chunks on their way
    std::uint64_t accepted_ = 0, bytes_up_ = 0, bytes_down_ = 0, swallowed_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: proxy PORT TARGET\n");
        return 2;
    }
    return Proxy(atoi(argv[1]), argv[2]).run();
}

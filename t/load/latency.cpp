// How long an event takes from its publisher to a member: RATE a second at fixed moments, each of which is
// written into its event, so that a server which falls behind is measured as late.
//
//   latency PUBLISH_PORT SOCKET_PORT SECRET_FILE RATE SECONDS ROOMS
//
// POST /publish over kept connections to the one port, ROOMS members on /ws at the other, which may be another
// host's. Prints one JSON line: sent, received, p50, p99 and most in µs.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

namespace {

constexpr std::size_t kPublishers = 16;
constexpr std::string_view kMark = "\"at\":";

std::uint64_t now_ns() {
    using namespace std::chrono;
    return static_cast<std::uint64_t>(duration_cast<nanoseconds>(steady_clock::now().time_since_epoch()).count());
}

[[noreturn]] void die(const std::string& why) {
    fprintf(stderr, "latency: %s\n", why.c_str());
    exit(1);
}

int dial(int port) {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == -1) die("cannot connect");
    const int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

void send_all(int fd, std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t n = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (n <= 0) die("a connection ended");
        bytes.remove_prefix(static_cast<std::size_t>(n));
    }
}

// One read; the bytes are appended.
void receive(int fd, std::string& in) {
    char buffer[65536];
    const ssize_t n = recv(fd, buffer, sizeof buffer, 0);
    if (n <= 0) die("a connection ended");
    in.append(buffer, static_cast<std::size_t>(n));
}

void read_until(int fd, std::string_view mark) {
    std::string in;
    while (in.find(mark) == std::string::npos) receive(fd, in);
}

std::string base64url(std::string_view bytes) {
    std::string out(4 * ((bytes.size() + 2) / 3) + 1, '\0');
    const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                     reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
    out.resize(static_cast<std::size_t>(size));
    for (char& c : out) c = c == '+' ? '-' : c == '/' ? '_' : c;
    while (!out.empty() && out.back() == '=') out.pop_back();
    return out;
}

std::string mint(const std::string& secret) {
    const std::string text = base64url(R"({"alg":"HS256"})") + "." +
                             base64url(R"({"sub":"u","exp":)" + std::to_string(time(nullptr) + 3600) + "}");
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()),
         reinterpret_cast<const unsigned char*>(text.data()), text.size(), mac, &size);
    return text + "." + base64url({reinterpret_cast<char*>(mac), size});
}

std::string client_frame(const std::string& text) {
    std::string frame = {static_cast<char>(0x81), static_cast<char>(0x80 | text.size())};
    return frame + std::string(4, '\0') + text;
}

// A connection that takes one request at a time.
struct Publisher {
    int fd;
    bool busy = false;
    std::string in;
};

class Run {
public:
    Run(double rate, double seconds) : step_(1e9 / rate), count_(static_cast<std::size_t>(rate * seconds)) {}

    // `write(publisher, n, due)` sends publication n; `answered(publisher)`: its answers have been taken out.
    template <typename Write, typename Answered>
    void go(std::vector<Publisher>& publishers, const std::vector<int>& members, Write&& write, Answered&& answered) {
        std::vector<pollfd> waits;
        for (const Publisher& publisher : publishers) waits.push_back({publisher.fd, POLLIN, 0});
        for (const int fd : members) waits.push_back({fd, POLLIN, 0});
        std::vector<std::string> texts(members.size());
        const std::uint64_t start = now_ns() + 50'000'000;
        const std::uint64_t end = start + static_cast<std::uint64_t>(step_ * static_cast<double>(count_)) + 2'000'000'000;
        std::size_t next = 0;
        std::size_t turn = 0;
        while (received_.size() < count_ && now_ns() < end) {
            for (; next < count_; ++next) {
                const std::uint64_t due = start + static_cast<std::uint64_t>(step_ * static_cast<double>(next));
                if (due > now_ns()) break;
                std::size_t tries = 0;
                while (publishers[turn % publishers.size()].busy && tries < publishers.size()) ++turn, ++tries;
                Publisher& publisher = publishers[turn++ % publishers.size()];
                if (publisher.busy) break;
                publisher.busy = true;
                write(publisher, next, due);
            }
            const timespec none{0, 50'000};
            ppoll(waits.data(), waits.size(), &none, nullptr);
            for (std::size_t i = 0; i < waits.size(); ++i) {
                if (!(waits[i].revents & POLLIN)) continue;
                if (i < publishers.size()) {
                    receive(publishers[i].fd, publishers[i].in);
                    answered(publishers[i]);
                } else {
                    take(waits[i].fd, texts[i - publishers.size()]);
                }
            }
        }
        std::sort(received_.begin(), received_.end());
        const auto at = [this](double part) {
            if (received_.empty()) return 0.0;
            return static_cast<double>(received_[static_cast<std::size_t>(part * static_cast<double>(received_.size() - 1))]) / 1e3;
        };
        printf("{\"sent\":%zu,\"received\":%zu,\"p50\":%.0f,\"p99\":%.0f,\"most\":%.0f}\n", next, received_.size(), at(0.5),
               at(0.99), at(1));
    }

private:
    void take(int fd, std::string& in) {
        receive(fd, in);
        const std::uint64_t now = now_ns();
        std::size_t at = 0;
        std::size_t done = 0;
        while ((at = in.find(kMark, at)) != std::string::npos) {
            const std::size_t first = at + kMark.size();
            const std::size_t last = in.find_first_not_of("0123456789", first);
            if (last == std::string::npos) break;
            received_.push_back(now - strtoull(in.c_str() + first, nullptr, 10));
            at = done = last;
        }
        in.erase(0, done);
    }

    double step_;
    std::size_t count_;
    std::vector<std::uint64_t> received_;
};

std::string event_text(std::uint64_t due) {
    return kMark.data() + std::to_string(due) + R"(,"fill":")" + std::string(130, 'x') + '"';
}

void over_nginx(char** words) {
    const int publish_port = atoi(words[0]);
    const int socket_port = atoi(words[1]);
    std::ifstream file(words[2], std::ios::binary);
    std::string secret{std::istreambuf_iterator<char>(file), {}};
    if (secret.ends_with('\n')) secret.pop_back();
    const int rooms = atoi(words[5]);
    std::vector<int> members;
    for (int room = 0; room < rooms; ++room) {
        const int fd = dial(socket_port);
        send_all(fd, "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                     "Sec-WebSocket-Protocol: rooms.v1, rooms.bearer." + mint(secret) + "\r\n\r\n");
        read_until(fd, "\"connected\"");
        send_all(fd, client_frame(R"({"type":"subscribe","room":"session:)" + std::to_string(room) + R"("})"));
        read_until(fd, "\"subscribed\"");
        members.push_back(fd);
    }
    std::vector<Publisher> publishers;
    for (std::size_t i = 0; i < kPublishers; ++i) publishers.push_back({dial(publish_port), false, {}});
    Run run(atof(words[3]), atof(words[4]));
    run.go(
        publishers, members,
        [rooms](Publisher& publisher, std::size_t n, std::uint64_t due) {
            const std::string body = R"({"room":"session:)" + std::to_string(n % static_cast<std::size_t>(rooms)) +
                                     R"(","type":"x","data":{)" + event_text(due) + "}}";
            send_all(publisher.fd, "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                                   "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
        },
        [](Publisher& publisher) {
            const std::size_t head = publisher.in.find("\r\n\r\n");
            if (head == std::string::npos) return;
            if (!publisher.in.starts_with("HTTP/1.1 200")) die(publisher.in);
            const std::size_t field = publisher.in.find("Content-Length: ");
            const std::size_t size = strtoul(publisher.in.c_str() + field + 16, nullptr, 10);
            if (publisher.in.size() < head + 4 + size) return;
            publisher.in.clear();
            publisher.busy = false;
        });
}

}  // namespace

int main(int count, char** words) {
    if (count != 7) die("see the head of latency.cpp");
    over_nginx(words + 1);
    return 0;
}

// A swarm of pages: thousands of WebSockets in one process, each a member of one room, each coming
// back by position whenever its socket ends, as contract and client do it.
//
//   swarm PORT SECRET_FILE FIRST COUNT ROOM_SIZE LOG [FIRST_ROOM [secure]]
//
// Client i (FIRST <= i < FIRST + COUNT) is in session:r<i / ROOM_SIZE>; with FIRST_ROOM in
// session:r<FIRST_ROOM + (i - FIRST) / ROOM_SIZE>, so that swarms of several hosts can share rooms. secure: over TLS,
// with permessage-deflate.
//
// Each thing that happens to a client becomes a JSON line of LOG, `t` being the monotonic clock:
//   start        joined for the first time: room, epoch, offset
//   event        handed to the page: epoch, offset, id. What a page's second socket brings again while it
//                changes sockets is not; what one socket repeats is
//   gap          told while connected: room, epoch, offset, reason. The page's position from then on
//   reset        recovered:false at its return: room, epoch, offset. Likewise
//   unavailable  a subscribe to be tried again, which is done on the same socket in 100 to 200 ms
//   close        code
//   refused      no socket was had: why
//   broken       a promise: offset, why (a hole, a repeat, another room's event, an error)
//   leave        went away without a word, as it was told to
// Ten times a second a line on stdout gives the numbers of them, and the log is flushed. Lines on stdin:
// "leave N N …" takes these clients' sockets away, "return" lets them come back with their positions; its
// end is the end.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <jansson.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/ssl.h>
#include <zlib.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <queue>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace {

constexpr std::size_t kMaxOpening = 256;  // handshakes at once
constexpr double kHandshakeTimeout = 10;

double now() {
    using namespace std::chrono;
    return duration<double>(steady_clock::now().time_since_epoch()).count();
}

std::string base64url(const std::string& bytes) {
    std::string out(4 * ((bytes.size() + 2) / 3) + 1, '\0');
    const int size =
        EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                        reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
    out.resize(static_cast<std::size_t>(size));
    for (char& c : out) c = c == '+' ? '-' : c == '/' ? '_' : c;
    while (!out.empty() && out.back() == '=') out.pop_back();
    return out;
}

std::string mint(const std::string& secret, const std::string& user) {
    const std::string payload =
        R"({"sub":")" + user + R"(","exp":)" + std::to_string(time(nullptr) + 7 * 86400) + "}";
    const std::string text = base64url(R"({"alg":"HS256","typ":"JWT"})") + "." + base64url(payload);
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()),
         reinterpret_cast<const unsigned char*>(text.data()), text.size(), mac, &size);
    return text + "." + base64url(std::string(reinterpret_cast<char*>(mac), size));
}

// Messages without context: each is a deflate stream of its own (RFC 7692, section 7.2.2).
class Inflater {
public:
    Inflater() {
        if (inflateInit2(&stream_, -15) != Z_OK) abort();
    }
    ~Inflater() { inflateEnd(&stream_); }
    Inflater(const Inflater&) = delete;
    Inflater& operator=(const Inflater&) = delete;

    std::optional<std::string> inflate(std::string octets) {
        octets.append("\0\0\xff\xff", 4);
        inflateReset(&stream_);
        stream_.next_in = reinterpret_cast<unsigned char*>(octets.data());
        stream_.avail_in = static_cast<unsigned>(octets.size());
        std::string text;
        char part[16384];
        do {
            stream_.next_out = reinterpret_cast<unsigned char*>(part);
            stream_.avail_out = sizeof part;
            const int code = ::inflate(&stream_, Z_SYNC_FLUSH);
            if (code != Z_OK && code != Z_BUF_ERROR) return std::nullopt;
            text.append(part, sizeof part - stream_.avail_out);
        } while (stream_.avail_out == 0);
        return text;
    }

private:
    z_stream stream_{};
};

struct FreeSsl {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
};

struct Client;

// One connection of a client. While a page changes sockets it has two.
struct Socket {
    int fd = -1;
    std::unique_ptr<SSL, FreeSsl> tls;  // where the swarm is secure
    Client* client = nullptr;
    std::string in;
    bool upgraded = false;
    bool live = false;
    bool closed = false;     // a Close has been seen or sent
    double deadline = 0;     // of the handshake
    std::string epoch;       // of what it brings; before it is live: of the position it asks from
    std::uint64_t next = 0;  // the offset that must come next; 0: any may
    std::uint64_t serial = 0;
};

struct Client {
    int index = 0;
    std::string room;
    std::string token;
    std::string epoch;
    std::uint64_t offset = 0;  // the last one handed to the page
    std::unique_ptr<Socket> current;
    std::unique_ptr<Socket> next;  // on its way to replace it
    bool queued = false;
    bool away = false;
};

class Swarm {
public:
    Swarm(int port, const std::string& secret, int first, int count, int room_size, const char* log,
          int first_room, bool secure)
        : log_(fopen(log, "w")),
          epoll_(epoll_create1(0)),
          random_(static_cast<unsigned>(first) + 1),
          tls_(secure ? SSL_CTX_new(TLS_client_method()) : nullptr) {
        address_.sin_family = AF_INET;
        address_.sin_port = htons(static_cast<std::uint16_t>(port));
        address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        // An address has 28,000 ports, and each swarm one of its own.
        source_.sin_family = AF_INET;
        source_.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + static_cast<unsigned>(first / 10000 % 250));
        clients_.resize(static_cast<std::size_t>(count));
        for (int i = 0; i < count; ++i) {
            Client& client = clients_[static_cast<std::size_t>(i)];
            client.index = first + i;
            const int room = first_room < 0 ? client.index / room_size : first_room + i / room_size;
            client.room = "session:r" + std::to_string(room);
            client.token = mint(secret, "u" + std::to_string(client.index));
            wake(client, 0);
        }
    }

    int run() {
        double report = 0;
        while (true) {
            const double at = now();
            while (!sleeping_.empty() && sleeping_.top().first <= at && opening_ < kMaxOpening) {
                Client& client = *sleeping_.top().second;
                sleeping_.pop();
                client.queued = false;
                open(client);
            }
            while (!asking_.empty() && asking_.top().first <= at) {
                const auto [client, serial] = asking_.top().second;
                asking_.pop();
                for (Socket* socket : {client->next.get(), client->current.get()})
                    if (socket && socket->serial == serial) subscribe(*socket);
            }
            epoll_event events[512];
            const int ready = epoll_wait(epoll_, events, 512, 20);
            for (int i = 0; i < ready; ++i) read(*static_cast<Socket*>(events[i].data.ptr));
            doomed_.clear();
            if (at >= report) {
                report = at + 0.1;
                expire(at);
                printf("live %zu received %zu closes %zu gaps %zu resets %zu unavailable %zu away %zu\n",
                       live_, received_, closes_, gaps_, resets_, unavailable_, away_);
                fflush(stdout);
                fflush(log_);
                pollfd in{0, POLLIN, 0};
                char text[4096];
                ssize_t n = 1;
                while (n > 0 && poll(&in, 1, 0) == 1) {
                    n = ::read(0, text, sizeof text);
                    if (n > 0) typed_.append(text, static_cast<std::size_t>(n));
                }
                if (n <= 0) break;
                for (std::size_t end; (end = typed_.find('\n')) != std::string::npos;
                     typed_.erase(0, end + 1))
                    obey(typed_.substr(0, end));
            }
        }
        fclose(log_);
        return 0;
    }

private:
    void obey(const std::string& line) {
        std::istringstream words(line);
        std::string command;
        words >> command;
        if (command == "leave") {
            for (int index; words >> index;)
                leave(clients_[static_cast<std::size_t>(index - clients_.front().index)]);
        } else if (command == "return") {
            for (Client& client : clients_) {
                if (client.away) wake(client, static_cast<double>(random_() % 100) / 1000);
                client.away = false;
            }
            away_ = 0;
        }
    }

    void leave(Client& client) {
        if (client.away) return;
        client.away = true;
        ++away_;
        fprintf(log_, "{\"t\":%.4f,\"c\":%d,\"kind\":\"leave\"}\n", now(), client.index);
        if (client.next) --opening_;
        for (auto* socket : {&client.next, &client.current}) {
            if (!*socket) continue;
            drop(**socket);
            doomed_.push_back(std::move(*socket));
        }
    }

    void wake(Client& client, double after) {
        if (client.queued) return;
        client.queued = true;
        sleeping_.push({now() + after, &client});
    }

    void open(Client& client) {
        if (client.next || client.away) return;
        auto socket = std::make_unique<Socket>();
        socket->client = &client;
        socket->serial = ++serial_;
        socket->fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        socket->deadline = now() + kHandshakeTimeout;
        const int one = 1;
        setsockopt(socket->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        // The port comes with connect(): the same one may lead to several places.
        setsockopt(socket->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        bind(socket->fd, reinterpret_cast<sockaddr*>(&source_), sizeof source_);
        if (connect(socket->fd, reinterpret_cast<sockaddr*>(&address_), sizeof address_) == -1 &&
            errno != EINPROGRESS) {
            ::close(socket->fd);
            wake(client, 0.2);
            return;
        }
        if (tls_ != nullptr) {
            socket->tls.reset(SSL_new(tls_));
            SSL_set_fd(socket->tls.get(), socket->fd);
            SSL_set_connect_state(socket->tls.get());
        }
        ++opening_;
        epoll_event event{};
        event.events = EPOLLIN | EPOLLOUT | EPOLLET;
        event.data.ptr = socket.get();
        epoll_ctl(epoll_, EPOLL_CTL_ADD, socket->fd, &event);
        client.next = std::move(socket);
    }

    void hello(Socket& socket) {
        const std::string request =
            "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Protocol: rooms.v1, rooms.bearer." +
            socket.client->token + "\r\n" +
            (tls_ ? "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n\r\n"
                  : "\r\n");
        send_all(socket, request);
    }

    void send_all(Socket& socket, const std::string& bytes) {
        // Small messages: the kernel takes them whole, or the socket is dead and its end is read soon.
        if (socket.tls) {
            SSL_write(socket.tls.get(), bytes.data(), static_cast<int>(bytes.size()));
            ERR_clear_error();
            return;
        }
        [[maybe_unused]] const ssize_t n = ::send(socket.fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    }

    // As recv(); errno is EAGAIN where there is nothing yet.
    static ssize_t receive(Socket& socket, char* buffer, std::size_t size) {
        if (!socket.tls) return recv(socket.fd, buffer, size, 0);
        const int n = SSL_read(socket.tls.get(), buffer, static_cast<int>(size));
        if (n > 0) return n;
        const int error = SSL_get_error(socket.tls.get(), n);
        ERR_clear_error();
        if (error == SSL_ERROR_ZERO_RETURN) return 0;
        errno = error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? EAGAIN : ECONNRESET;
        return -1;
    }

    enum class Greeting { done, on_its_way, failed };

    static Greeting greet(Socket& socket) {
        const int result = socket.tls ? SSL_do_handshake(socket.tls.get()) : 1;
        if (result == 1) return Greeting::done;
        const int error = SSL_get_error(socket.tls.get(), result);
        ERR_clear_error();
        return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? Greeting::on_its_way
                                                                             : Greeting::failed;
    }

    void send_frame(Socket& socket, int opcode, const std::string& payload) {
        std::string frame(1, static_cast<char>(0x80 | opcode));
        if (payload.size() < 126) {
            frame += static_cast<char>(0x80 | payload.size());
        } else {
            frame += static_cast<char>(0x80 | 126);
            frame += static_cast<char>(payload.size() >> 8);
            frame += static_cast<char>(payload.size() & 0xff);
        }
        frame += std::string(4, '\0');
        send_all(socket, frame + payload);
    }

    void read(Socket& socket) {
        if (socket.fd == -1) return;
        if (!socket.upgraded && socket.deadline > 0) {
            int error = 0;
            socklen_t size = sizeof error;
            getsockopt(socket.fd, SOL_SOCKET, SO_ERROR, &error, &size);
            if (error) {
                tell(*socket.client, "refused", 0, strerror(error));
                return end(socket);
            }
            sockaddr_in peer{};
            socklen_t length = sizeof peer;
            if (getpeername(socket.fd, reinterpret_cast<sockaddr*>(&peer), &length) == -1) return;
            const Greeting greeting = greet(socket);
            if (greeting == Greeting::failed) {
                tell(*socket.client, "refused", 0, "no TLS");
                return end(socket);
            }
            if (greeting == Greeting::on_its_way) return;
            socket.deadline = -socket.deadline;
            hello(socket);
        }
        char buffer[65536];
        while (true) {
            const ssize_t n = receive(socket, buffer, sizeof buffer);
            if (n > 0) {
                socket.in.append(buffer, static_cast<std::size_t>(n));
                continue;
            }
            const bool over = n == 0 || (errno != EAGAIN && errno != EINTR);
            if (!parse(socket)) return;
            if (over) {
                if (!socket.upgraded) tell(*socket.client, "refused", 0, "ended without an answer");
                end(socket);
            }
            return;
        }
    }

    // false: the socket is gone.
    bool parse(Socket& socket) {
        if (!socket.upgraded) {
            const std::size_t head = socket.in.find("\r\n\r\n");
            if (head == std::string::npos) return true;
            if (socket.in.compare(0, 12, "HTTP/1.1 101") != 0) {
                tell(*socket.client, "refused", 0, socket.in.substr(0, 12).c_str());
                end(socket);
                return false;
            }
            socket.in.erase(0, head + 4);
            socket.upgraded = true;
        }
        std::size_t at = 0;
        while (socket.fd != -1 && socket.in.size() - at >= 2) {
            const auto* bytes = reinterpret_cast<const unsigned char*>(socket.in.data()) + at;
            std::size_t header = 2;
            std::uint64_t size = bytes[1] & 0x7f;
            const std::size_t have = socket.in.size() - at;
            if (size == 126) {
                header = 4;
                if (have < 4) break;
                size = static_cast<std::uint64_t>(bytes[2]) << 8 | bytes[3];
            } else if (size == 127) {
                header = 10;
                if (have < 10) break;
                size = 0;
                for (int i = 2; i < 10; ++i) size = size << 8 | bytes[i];
            }
            if (have < header + size) break;
            std::string payload = socket.in.substr(at + header, size);
            const int opcode = bytes[0] & 0x0f;
            const bool compressed = (bytes[0] & 0x40) != 0;
            at += header + size;
            if (compressed) {
                const auto text = inflater_.inflate(std::move(payload));
                if (!text) tell(*socket.client, "broken", 0, "not deflate");
                payload = text.value_or("{}");
            }
            if (!on_frame(socket, opcode, payload)) return false;
        }
        socket.in.erase(0, at);
        return true;
    }

    bool on_frame(Socket& socket, int opcode, const std::string& payload) {
        if (opcode == 9) {
            send_frame(socket, 10, payload);
        } else if (opcode == 8) {
            const int code = payload.size() < 2 ? 1005
                                                : static_cast<unsigned char>(payload[0]) << 8 |
                                                      static_cast<unsigned char>(payload[1]);
            if (!socket.closed) {
                fprintf(log_, "{\"t\":%.4f,\"c\":%d,\"kind\":\"close\",\"code\":%d}\n", now(),
                        socket.client->index, code);
                send_frame(socket, 8, payload);
                ++closes_;
            }
            socket.closed = true;
            end(socket);
            return false;
        } else if (opcode == 1) {
            json_error_t error;
            json_t* message = json_loadb(payload.data(), payload.size(), 0, &error);
            if (message == nullptr) {
                fprintf(log_, "{\"t\":%.4f,\"c\":%d,\"kind\":\"broken\",\"why\":\"not JSON\"}\n", now(),
                        socket.client->index);
            } else {
                on_message(socket, message);
                json_decref(message);
            }
            return socket.fd != -1;
        }
        return true;
    }

    void on_message(Socket& socket, json_t* message) {
        Client& client = *socket.client;
        const char* type = json_string_value(json_object_get(message, "type"));
        const std::string kind = type ? type : "";
        if (kind == "connected") {
            subscribe(socket);
        } else if (kind == "subscribed") {
            on_subscribed(socket, message);
        } else if (kind == "gap") {
            ++gaps_;
            move(socket, "gap", message);
        } else if (kind == "reconnect") {
            const double after =
                static_cast<double>(json_integer_value(json_object_get(message, "afterMs"))) / 1000;
            wake(client, after);
        } else if (kind == "error") {
            const std::string code = text_of(message, "code");
            if (code != "unavailable" || !json_is_true(json_object_get(message, "retryable")) || socket.live)
                return tell(client, "broken", 0, code.c_str());
            ++unavailable_;
            tell(client, "unavailable", 0, code.c_str());
            socket.deadline = -(now() + kHandshakeTimeout);
            asking_.push(
                {now() + 0.1 + static_cast<double>(random_() % 100) / 1000, {&client, socket.serial}});
        } else if (json_object_get(message, "offset")) {
            on_event(socket, message);
        }
    }

    void subscribe(Socket& socket) {
        const Client& client = *socket.client;
        std::string text = R"({"type":"subscribe","room":")" + client.room + "\"";
        if (!client.epoch.empty()) {
            text += R"(,"since":{"epoch":")" + client.epoch + R"(","offset":)" +
                    std::to_string(client.offset) + "}";
            socket.epoch = client.epoch;
            socket.next = client.offset + 1;
        }
        send_frame(socket, 1, text + "}");
    }

    static std::uint64_t offset_of(const json_t* message) {
        return static_cast<std::uint64_t>(json_integer_value(json_object_get(message, "offset")));
    }

    static std::string text_of(const json_t* message, const char* name) {
        const char* text = json_string_value(json_object_get(message, name));
        return text ? text : "";
    }

    void on_subscribed(Socket& socket, const json_t* message) {
        Client& client = *socket.client;
        if (client.epoch.empty()) {
            move(socket, "start", message);
        } else if (!json_is_true(json_object_get(message, "recovered"))) {
            ++resets_;
            move(socket, "reset", message);
        } else if (text_of(message, "epoch") != socket.epoch) {
            tell(client, "broken", 0, "recovered into another epoch");
        }
        take_over(socket);
    }

    // The page is told its position anew.
    void move(Socket& socket, const char* kind, const json_t* message) {
        Client& client = *socket.client;
        const std::string epoch = text_of(message, "epoch");
        const std::uint64_t offset = offset_of(message);
        fprintf(log_,
                "{\"t\":%.4f,\"c\":%d,\"kind\":\"%s\",\"room\":\"%s\",\"epoch\":\"%s\",\"offset\":%llu,"
                "\"reason\":\"%s\"}\n",
                now(), client.index, kind, client.room.c_str(), epoch.c_str(),
                static_cast<unsigned long long>(offset), text_of(message, "reason").c_str());
        if (strcmp(kind, "gap") == 0 && text_of(message, "room") != client.room)
            tell(client, "broken", offset, "another room's gap");
        // While sockets change, the other one may have been ahead.
        const bool other = client.current && client.current.get() != &socket;
        if (!other || epoch != client.epoch || offset > client.offset) client.offset = offset;
        client.epoch = epoch;
        socket.epoch = epoch;
        socket.next = offset + 1;
    }

    void on_event(Socket& socket, const json_t* message) {
        Client& client = *socket.client;
        const std::uint64_t offset = offset_of(message);
        if (text_of(message, "room") != client.room) tell(client, "broken", offset, "another room's event");
        const bool repeated = offset < socket.next;
        if (socket.next != 0 && offset != socket.next)
            tell(client, "broken", offset, repeated ? "repeat" : "hole");
        if (!repeated) socket.next = offset + 1;
        // The other socket has brought it, or has been told of a newer epoch.
        if (socket.epoch != client.epoch || (offset <= client.offset && !repeated)) return;
        client.offset = std::max(client.offset, offset);
        ++received_;
        fprintf(log_,
                "{\"t\":%.4f,\"c\":%d,\"kind\":\"event\",\"epoch\":\"%s\",\"offset\":%llu,\"id\":\"%s\"}\n",
                now(), client.index, client.epoch.c_str(), static_cast<unsigned long long>(offset),
                text_of(message, "id").c_str());
    }

    void tell(const Client& client, const char* kind, std::uint64_t offset, const char* why) {
        fprintf(log_, "{\"t\":%.4f,\"c\":%d,\"kind\":\"%s\",\"offset\":%llu,\"why\":\"%s\"}\n", now(),
                client.index, kind, static_cast<unsigned long long>(offset), why);
    }

    // The new socket is live: the old one may go.
    void take_over(Socket& socket) {
        Client& client = *socket.client;
        if (client.next.get() != &socket) return;
        --opening_;
        socket.live = true;
        ++live_;
        std::unique_ptr<Socket> old = std::move(client.current);
        client.current = std::move(client.next);
        if (old) {
            if (!old->closed) send_frame(*old, 8, std::string("\x03\xe8", 2));
            old->closed = true;
            drop(*old);
            doomed_.push_back(std::move(old));
        }
    }

    void drop(Socket& socket) {
        if (socket.fd == -1) return;
        ::close(socket.fd);
        socket.fd = -1;
        if (socket.live) --live_;
        socket.live = false;
    }

    // The connection is over, whoever ended it.
    void end(Socket& socket) {
        Client& client = *socket.client;
        if (!socket.closed && socket.upgraded) {
            fprintf(log_, "{\"t\":%.4f,\"c\":%d,\"kind\":\"close\",\"code\":1006}\n", now(), client.index);
            ++closes_;
        }
        drop(socket);
        if (client.next.get() == &socket) {
            --opening_;
            doomed_.push_back(std::move(client.next));
            wake(client, 0.1 + static_cast<double>(random_() % 200) / 1000);
        } else if (client.current.get() == &socket) {
            doomed_.push_back(std::move(client.current));
            if (!client.next) wake(client, static_cast<double>(random_() % 500) / 1000);
        }
    }

    void expire(double at) {
        for (Client& client : clients_) {
            if (client.next && std::abs(client.next->deadline) < at) {
                tell(client, "refused", 0, "timed out");
                end(*client.next);
            }
        }
        doomed_.clear();
    }

    using Waiting = std::pair<double, Client*>;
    FILE* log_;
    int epoll_;
    sockaddr_in address_{};
    sockaddr_in source_{};
    std::mt19937 random_;
    SSL_CTX* tls_;  // null: in the clear
    Inflater inflater_;
    std::deque<Client> clients_;
    std::priority_queue<Waiting, std::vector<Waiting>, std::greater<>> sleeping_;
    using Asking = std::pair<double, std::pair<Client*, std::uint64_t>>;  // when, whose, on which socket
    std::priority_queue<Asking, std::vector<Asking>, std::greater<>> asking_;
    std::vector<std::unique_ptr<Socket>> doomed_;  // events of this turn may still name them
    std::size_t opening_ = 0;
    std::size_t live_ = 0;
    std::size_t received_ = 0;
    std::size_t closes_ = 0;
    std::size_t gaps_ = 0;
    std::size_t resets_ = 0;
    std::size_t unavailable_ = 0;
    std::size_t away_ = 0;
    std::string typed_;
    std::uint64_t serial_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
    if (argc < 7 || argc > 9) {
        fprintf(stderr, "usage: swarm PORT SECRET_FILE FIRST COUNT ROOM_SIZE LOG [FIRST_ROOM [secure]]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);  // OpenSSL writes without MSG_NOSIGNAL
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    std::ifstream file(argv[2]);
    const std::string secret((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    return Swarm(atoi(argv[1]), secret, atoi(argv[3]), atoi(argv[4]), atoi(argv[5]), argv[6],
                 argc > 7 ? atoi(argv[7]) : -1, argc > 8 && strcmp(argv[8], "secure") == 0)
        .run();
}

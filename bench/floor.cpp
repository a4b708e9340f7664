// The floor: what an event costs where nothing is done but to send it. A bare epoll loop: no checks, no
// tokens, no history, no queues; one plain send() for each member and message, and a socket that does not
// take all of it at once is closed.
//
//   floor PORT [PROCESSES]     on 127.0.0.1:PORT, in 1 process, or in 2 that are joined by a socketpair
//
// GET /ws?rooms=3,4,5 opens a WebSocket in these rooms; POST /publish?room=3 sends its body to one.
#include <err.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <openssl/evp.h>
#include <openssl/sha.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace {

constexpr int kPerTurn = 64;  // accepts, or messages of the other process, before others have their turn
constexpr size_t kMostBytes = 128 * 1024;  // of a head or a body: a message of the socketpair holds it
constexpr size_t kMostRooms = 1 << 20;
constexpr size_t kIncomplete = 0, kEnd = -1;  // of a parser: more is needed; the connection is to be closed

struct Connection {
    bool open = false;
    std::map<size_t, size_t> seats;  // its place in each of its rooms; nowhere: not upgraded yet
    std::string partial;             // the beginning of a request or frame whose rest has not come
};

int epoll = -1, other_process = -1;   // -1: there is none
std::vector<Connection> connections;  // by fd
std::vector<std::vector<int>> rooms;  // the fds of each one's members
char input[64 * 1024];                // what has just come, from whomever
char message[kMostBytes + 64];        // from the other process, which is read while `input` is in use

bool send_at_once(int fd, std::string_view bytes) {
    return send(fd, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL) == std::ssize(bytes);
}

void join(int fd, size_t room) {
    if (rooms.size() <= room) rooms.resize(room + 1);
    if (connections[fd].seats.emplace(room, rooms[room].size()).second) rooms[room].push_back(fd);
}

void hang_up(int fd) {
    for (const auto& [room, place] : connections[fd].seats) {
        const int last = rooms[room].back();
        rooms[room][place] = last;
        connections[last].seats[room] = place;
        rooms[room].pop_back();
    }
    connections[fd] = {};
    close(fd);
}

// Backwards: who is closed leaves the place to the last, who has been served.
void fan_out(size_t room, std::string_view frame) {
    if (rooms.size() <= room) return;
    for (size_t i = rooms[room].size(); i-- > 0;)
        if (!send_at_once(rooms[room][i], frame)) hang_up(rooms[room][i]);
}

void take_from_other_process() {
    for (int i = 0; i < kPerTurn; ++i) {
        const ssize_t got = recv(other_process, message, sizeof message, MSG_DONTWAIT);
        if (got == -1 && errno == EAGAIN) return;
        if (got <= 0) exit(1);  // it is gone
        unsigned room;
        memcpy(&room, message, sizeof room);
        fan_out(room, {message + sizeof room, got - sizeof room});
    }
}

// The room goes before the frame. Who waits takes messages meanwhile: the other one may be waiting, too.
void tell_other_process(unsigned room, char* frame, size_t size) {
    char* const start = frame - sizeof room;
    memcpy(start, &room, sizeof room);
    while (!send_at_once(other_process, {start, size + sizeof room})) {
        if (errno != EAGAIN) err(1, "the other process");
        pollfd either{other_process, POLLIN | POLLOUT, 0};
        poll(&either, 1, -1);
        take_from_other_process();
    }
}

// Frame and message begin before the body, where the request's head was: so nothing is copied.
void publish(size_t room, char* body, size_t size) {
    const int extra = size < 126 ? 0 : size < 65536 ? 2 : 8;
    char* const frame = body - extra - 2;
    frame[0] = '\x81';
    frame[1] = static_cast<char>(extra == 0 ? size : extra == 2 ? 126 : 127);
    for (int i = 0; i < extra; ++i) body[-1 - i] = static_cast<char>(size >> 8 * i);
    if (other_process != -1) tell_other_process(room, frame, 2 + extra + size);
    fan_out(room, {frame, 2 + extra + size});
}

// `name` is in small letters, between the end of the line before it and its colon.
std::string_view header(std::string_view head, std::string_view name) {
    const auto same = [](unsigned char a, char b) { return tolower(a) == b; };
    std::string_view rest{std::search(head.begin(), head.end(), name.begin(), name.end(), same), head.end()};
    rest.remove_prefix(std::min(rest.find_first_not_of(' ', name.size()), rest.size()));
    return rest.substr(0, rest.find_first_of(" \r"));
}

bool answer_upgrade(int fd, std::string_view key) {
    const std::string text = std::string(key) + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    unsigned char digest[SHA_DIGEST_LENGTH], accept[32];
    SHA1(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest);
    EVP_EncodeBlock(accept, digest, sizeof digest);
    std::string answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
    answer.append("Sec-WebSocket-Accept: ").append(reinterpret_cast<char*>(accept)).append("\r\n\r\n");
    return send_at_once(fd, answer);
}

// strtoul() cannot run beyond the head, which ends with a line.
size_t take_request(int fd, std::span<char> bytes) {
    constexpr std::string_view get = "GET /ws?rooms=", post = "POST /publish?room=";
    std::string_view head{bytes.data(), bytes.size()};
    const size_t end = head.find("\r\n\r\n"), body = end + 4;
    if (end == head.npos) return bytes.size() < kMostBytes ? kIncomplete : kEnd;
    head = head.substr(0, end + 2);
    if (head.starts_with(get)) {
        for (char* at = &bytes[get.size() - 1]; *at == '=' || *at == ',';) {
            const size_t room = strtoul(at + 1, &at, 10);
            if (room >= kMostRooms) return kEnd;
            join(fd, room);
        }
        return answer_upgrade(fd, header(head, "\nsec-websocket-key:")) ? body : kEnd;
    }
    const std::string_view length = header(head, "\ncontent-length:");
    if (!head.starts_with(post) || length.empty()) return kEnd;
    const size_t room = strtoul(&head[post.size()], nullptr, 10), size = strtoul(length.data(), nullptr, 10);
    if (room >= kMostRooms || size > kMostBytes) return kEnd;
    if (bytes.size() < body + size) return kIncomplete;
    publish(room, bytes.data() + body, size);
    return send_at_once(fd, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") ? body + size : kEnd;
}

// A member's frames are dropped. A ping's mask is undone where it stands: the pong has none.
size_t take_frame(int fd, std::span<char> bytes) {
    if (bytes.size() < 2) return kIncomplete;
    const int opcode = bytes[0] & 0x0f;
    const size_t size = bytes[1] & 0x7f;
    if (!(bytes[1] & 0x80) || size > 125 || opcode == 8) return kEnd;
    if (bytes.size() < 6 + size) return kIncomplete;
    if (opcode != 9) return 6 + size;
    for (size_t i = 0; i < size; ++i) bytes[6 + i] ^= bytes[2 + i % 4];
    bytes[4] = '\x8a';
    bytes[5] = static_cast<char>(size);
    return send_at_once(fd, {&bytes[4], 2 + size}) ? 6 + size : kEnd;
}

void read_from(int fd) {
    const ssize_t got = recv(fd, input, sizeof input, 0);
    if (got == -1 && errno == EAGAIN) return;
    if (got <= 0) return hang_up(fd);
    std::string& partial = connections[fd].partial;
    const bool goes_on = !partial.empty();
    if (goes_on) partial.append(input, got);
    std::span<char> left = goes_on ? std::span<char>(partial) : std::span<char>(input, got);
    for (size_t used = 1; used != kIncomplete && !left.empty(); left = left.subspan(used)) {
        used = connections[fd].seats.empty() ? take_request(fd, left) : take_frame(fd, left);
        if (used == kEnd) return hang_up(fd);
    }
    if (goes_on) partial.erase(0, partial.size() - left.size());
    else partial.assign(left.data(), left.size());
}

void watch(int fd) {
    epoll_event event{EPOLLIN, {.fd = fd}};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

void accept_from(int listener) {
    for (int i = 0; i < kPerTurn; ++i) {
        const int fd = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK);
        if (fd == -1) return;
        if (std::ssize(connections) <= fd) connections.resize(fd + 1);
        connections[fd].open = true;
        watch(fd);
    }
}

[[noreturn]] void run(int listener) {
    epoll = epoll_create1(0);
    watch(listener);
    if (other_process != -1) watch(other_process);
    while (true) {
        epoll_event events[512];
        const int count = epoll_wait(epoll, events, std::size(events), -1);
        for (int i = 0; i < count; ++i) {
            const int fd = events[i].data.fd;
            if (fd == listener) accept_from(listener);
            else if (fd == other_process) take_from_other_process();
            else if (connections[fd].open) read_from(fd);  // unless an event before has closed it
        }
    }
}

int listen_on(int port, int shared) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &shared, sizeof shared);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);  // what it accepts inherits it
    const sockaddr_in address{AF_INET, htons(port), {htonl(INADDR_LOOPBACK)}, {}};
    const int bound = bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
    if (bound == -1 || listen(fd, 4096) == -1) err(1, "port %d", port);
    return fd;
}

}  // namespace

int main(int count, char** words) {
    if (count < 2) errx(1, "see the head of floor.cpp");
    const int port = atoi(words[1]);
    const bool two = count > 2 && atoi(words[2]) == 2;
    rlimit files{};
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    const int listeners[] = {listen_on(port, two), two ? listen_on(port, two) : -1};
    int ends[2], self = 0;
    if (two) {
        if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) == -1) err(1, "socketpair");
        self = fork() == 0;
        other_process = ends[self];
        close(ends[1 - self]);
        close(listeners[1 - self]);
    }
    prctl(PR_SET_PDEATHSIG, SIGTERM);  // in both, as a child does not inherit it
    if (self == 0) dprintf(1, "ready\n");
    run(listeners[self]);
}

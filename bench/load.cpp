// Load for any WebSocket server: sockets that join rooms, publications over HTTP, and a check of every delivery.
//
//   load NAME=VALUE …     one run, one JSON object on stdout; `load help` lists them
//   load self-test        shows that lost, double, late and misrouted events are found
//
// One thread, and no allocation for a message. Each event carries a mark: by which connection it was published, its
// number in its room on that connection, the room, when it was due, and its number in the run. A latency counts from
// the moment at which the event was due, so that a server which falls behind is late and not asked less often. CPU is
// that of the server's processes, from the first measured publication to its last delivery.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/bio.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace {

using Nanoseconds = std::uint64_t;

constexpr Nanoseconds kSecond = 1'000'000'000;
constexpr Nanoseconds kPatience = 10 * kSecond;  // without a delivery that is missing: lost
constexpr std::size_t kReceive = 1 << 20;
constexpr std::size_t kConnecting = 128;             // sockets at once
constexpr std::size_t kTokens = 64;                  // where signing is slow: sockets take them in turn
constexpr char kKey[] = "dGhlIHNhbXBsZSBub25jZQ==";  // the example of RFC 6455, section 1.3
constexpr char kAccept[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

Nanoseconds now_ns() {
    using namespace std::chrono;
    return static_cast<Nanoseconds>(
        duration_cast<nanoseconds>(steady_clock::now().time_since_epoch()).count());
}

[[noreturn]] void die(const std::string& why) {
    fprintf(stderr, "load: %s\n", why.c_str());
    exit(1);
}

std::string read_file(const std::string& name) {
    std::ifstream file(name, std::ios::binary);
    if (!file) die("cannot read " + name);
    std::string text{std::istreambuf_iterator<char>(file), {}};
    while (text.ends_with('\n')) text.pop_back();
    return text;
}

// --- what is asked for

struct Option {
    std::string_view name;
    std::string_view what;
};

constexpr Option kOptions[] = {
    {"port", "the server's on 127.0.0.1, or several: 8080,8081"},
    {"tls", "1: with TLS"},
    {"source", "the first client address is 127.0.0.SOURCE (2)"},
    {"sources", "so many client addresses (1), of about 28,000 ports each"},
    {"sockets", "so many"},
    {"first", "the number of the first of them (0)"},
    {"rooms", "so many, numbered from 0 (1)"},
    {"each", "socket i is in the rooms i*each … i*each+each-1, modulo rooms (1)"},
    {"slow", "so many sockets read nothing once they have joined"},
    {"path", "of the handshake; template with {i} {room} {rooms} {token}"},
    {"header", "of the handshake; template; may repeat"},
    {"deflate", "1: offers permessage-deflate"},
    {"key", "of the tokens: HS256:FILE, RS256:FILE, ES256:FILE"},
    {"claims", "of the tokens; template with {i} {room} {rooms} {exp}"},
    {"subscribe", "the message that joins a room; template with {room}"},
    {"joined", "what its answer contains"},
    {"publish_port", "where publications go (port)"},
    {"post", "the path of a publication; template with {room}"},
    {"body", "of a publication; template with {room} {mark}"},
    {"publishers", "so many connections for publications (1)"},
    {"batch", "so many publications in a request, as an array (1)"},
    {"rate", "publications a second"},
    {"window", "or: so many that are not answered, and delivered to all, at once"},
    {"size", "octets of an event as it is delivered (200)"},
    {"warmup", "seconds that are not measured (0.5)"},
    {"seconds", "that are (3)"},
    {"listen", "publishes nothing: ends when each socket has got so many events"},
    {"handshakes", "instead of all that: so many, `window` at once"},
    {"spin", "1: never sleeps, so that no send of the server has to wake it"},
    {"pids", "the server's processes: 1,2,3"},
    {"also", "processes whose CPU is told apart"},
};

class Options {
public:
    explicit Options(std::span<char*> words) {
        for (const std::string_view word : words) {
            const std::size_t at = word.find('=');
            if (at == word.npos) die("not NAME=VALUE: " + std::string(word));
            texts_.emplace(word.substr(0, at), word.substr(at + 1));
        }
        for (const auto& [key, value] : texts_) {
            const std::string& name = key;
            const auto same = [&](const Option& option) { return option.name == name; };
            if (std::none_of(std::begin(kOptions), std::end(kOptions), same)) die("no option " + name);
        }
    }

    [[nodiscard]] std::string text(const char* name, const char* other = "") const {
        const auto found = texts_.find(name);
        return found != texts_.end() ? found->second : other;
    }
    [[nodiscard]] double number(const char* name, double other) const {
        const std::string value = text(name);
        if (value.empty()) return other;
        char* end = nullptr;
        const double result = strtod(value.c_str(), &end);
        if (*end != '\0') die(std::string(name) + " is not a number: " + value);
        return result;
    }
    [[nodiscard]] std::size_t count(const char* name, std::size_t other) const {
        const double value = number(name, static_cast<double>(other));
        if (value < 0) die(std::string(name) + " is negative");
        return static_cast<std::size_t>(value);
    }
    [[nodiscard]] std::vector<std::string> all(const char* name) const {
        std::vector<std::string> found;
        for (auto [at, end] = texts_.equal_range(name); at != end; ++at) found.push_back(at->second);
        return found;
    }

private:
    std::multimap<std::string, std::string> texts_;
};

// A text with {names}; the parts between them are found once.
class Template {
public:
    explicit Template(std::string_view text) {
        while (!text.empty()) {
            const std::size_t open = text.find('{');
            const std::size_t close = open != text.npos ? text.find('}', open) : open;
            if (close == text.npos) {
                parts_.push_back({std::string(text), {}});
                return;
            }
            const std::string_view name = text.substr(open + 1, close - open - 1);
            if (std::find(std::begin(kKnown), std::end(kKnown), name) ==
                std::end(kKnown)) {  // a brace of JSON
                parts_.push_back({std::string(text.substr(0, open + 1)), {}});
                text.remove_prefix(open + 1);
                continue;
            }
            parts_.push_back({std::string(text.substr(0, open)), std::string(name)});
            text.remove_prefix(close + 1);
        }
    }

    // `fill(name, out)` appends a value.
    template <typename Fill>
    void append_to(std::string& out, Fill&& fill) const {
        for (const Part& part : parts_) {
            out += part.before;
            if (!part.name.empty()) fill(std::string_view(part.name), out);
        }
    }
    [[nodiscard]] bool empty() const { return parts_.empty(); }

private:
    static constexpr std::string_view kKnown[] = {"i", "room", "rooms", "token", "exp", "mark"};
    struct Part {
        std::string before;
        std::string name;
    };
    std::vector<Part> parts_;
};

void append_number(std::string& out, std::size_t number) {
    char text[20];
    out.append(text, std::to_chars(text, text + sizeof text, number).ptr);
}

// --- tokens (RFC 7515, 7518)

std::string base64url(std::string_view bytes) {
    std::string out(4 * ((bytes.size() + 2) / 3) + 1, '\0');
    out.resize(static_cast<std::size_t>(EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                                        reinterpret_cast<const unsigned char*>(bytes.data()),
                                                        static_cast<int>(bytes.size()))));
    for (char& c : out) c = c == '+' ? '-' : c == '/' ? '_' : c;
    while (!out.empty() && out.back() == '=') out.pop_back();
    return out;
}

class Minter {
public:
    explicit Minter(std::string_view key) {
        const std::size_t colon = key.find(':');
        if (colon == key.npos) die("key is not ALGORITHM:FILE");
        algorithm_ = key.substr(0, colon);
        const std::string text = read_file(std::string(key.substr(colon + 1)));
        if (algorithm_ == "HS256") {
            key_.reset(EVP_PKEY_new_raw_private_key(
                EVP_PKEY_HMAC, nullptr, reinterpret_cast<const unsigned char*>(text.data()), text.size()));
        } else {
            const std::unique_ptr<BIO, decltype(&BIO_free)> bio(
                BIO_new_mem_buf(text.data(), static_cast<int>(text.size())), BIO_free);
            key_.reset(PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, nullptr));
        }
        if (key_ == nullptr) die("no key in " + std::string(key));
    }

    // A token for each socket, or a few for all.
    [[nodiscard]] bool quick() const { return algorithm_ == "HS256"; }
    [[nodiscard]] std::string mint(std::string_view claims) const {
        const std::string text = base64url("{\"alg\":\"" + algorithm_ + "\"}") + '.' + base64url(claims);
        const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                              EVP_MD_CTX_free);
        std::array<unsigned char, 1024> signature{};
        std::size_t size = signature.size();
        if (EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, key_.get()) != 1 ||
            EVP_DigestSign(context.get(), signature.data(), &size,
                           reinterpret_cast<const unsigned char*>(text.data()), text.size()) != 1)
            die("a token cannot be signed");
        std::string bytes(reinterpret_cast<char*>(signature.data()), size);
        return text + '.' + base64url(algorithm_ == "ES256" ? two_numbers(bytes) : bytes);
    }

private:
    // RFC 7518, section 3.4: both numbers, 32 octets each, and not DER.
    static std::string two_numbers(std::string_view der) {
        const auto* at = reinterpret_cast<const unsigned char*>(der.data());
        const std::unique_ptr<ECDSA_SIG, decltype(&ECDSA_SIG_free)> pair(
            d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(der.size())), ECDSA_SIG_free);
        std::string out(64, '\0');
        auto* bytes = reinterpret_cast<unsigned char*>(out.data());
        BN_bn2binpad(ECDSA_SIG_get0_r(pair.get()), bytes, 32);
        BN_bn2binpad(ECDSA_SIG_get0_s(pair.get()), bytes + 32, 32);
        return out;
    }

    std::string algorithm_;
    std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key_{nullptr, EVP_PKEY_free};
};

// --- what is measured

// Of durations, within 0.8 %.
class Histogram {
public:
    void add(Nanoseconds value) {
        const unsigned shift =
            value < (2u << kBits) ? 0 : static_cast<unsigned>(std::bit_width(value)) - kBits - 1;
        ++counts_[(static_cast<std::size_t>(shift) << kBits) + (value >> shift)];
        ++total_;
        most_ = std::max(most_, value);
    }
    [[nodiscard]] double microseconds_at(double part) const {
        auto left = static_cast<std::uint64_t>(part * static_cast<double>(total_));
        for (std::size_t i = 0; i < counts_.size(); ++i) {
            if (left < counts_[i]) {
                const std::size_t shift = i < (2u << kBits) ? 0 : (i >> kBits) - 1;
                return static_cast<double>((i - (shift << kBits)) << shift) / 1e3;
            }
            left -= counts_[i];
        }
        return static_cast<double>(most_) / 1e3;
    }
    [[nodiscard]] double most_microseconds() const { return static_cast<double>(most_) / 1e3; }

private:
    static constexpr unsigned kBits = 7;
    std::array<std::uint32_t, std::size_t{66} << kBits> counts_{};
    std::uint64_t total_ = 0;
    Nanoseconds most_ = 0;
};

// "1,2,3"
std::vector<int> numbers_of(const std::string& list) {
    std::vector<int> numbers;
    for (const char* at = list.c_str(); *at != '\0';) {
        char* end = nullptr;
        numbers.push_back(static_cast<int>(strtol(at, &end, 10)));
        if (end == at) die("not a list of numbers: " + list);
        at = *end == ',' ? end + 1 : end;
    }
    return numbers;
}

// All threads of all of them.
Nanoseconds cpu_of(const std::vector<pid_t>& pids) {
    Nanoseconds sum = 0;
    for (const pid_t pid : pids) {
        clockid_t clock{};
        timespec spent{};
        if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &spent) != 0)
            die("a server has ended");
        sum += static_cast<Nanoseconds>(spent.tv_sec) * kSecond + static_cast<Nanoseconds>(spent.tv_nsec);
    }
    return sum;
}

std::size_t pss_of(const std::vector<pid_t>& pids) {
    std::size_t kilobytes = 0;
    for (const pid_t pid : pids) {
        std::ifstream file("/proc/" + std::to_string(pid) + "/smaps_rollup");
        for (std::string line; std::getline(file, line);) {
            if (line.starts_with("Pss:")) kilobytes += strtoul(line.c_str() + 4, nullptr, 10);
        }
    }
    return kilobytes * 1024;
}

// --- events and the check of them

// As text of a fixed size between two '~', which nothing else in an event contains.
struct Mark {
    std::uint32_t publisher = 0;
    std::uint32_t number = 0;  // 1 …, in this room by this publisher
    std::uint32_t room = 0;
    std::uint32_t id = 0;  // 0 …, of all
    Nanoseconds due = 0;

    static constexpr char kEdge = '~';
    static constexpr std::size_t kSize = 2 + 4 * 8 + 16;

    void append_to(std::string& out) const {
        out += kEdge;
        for (const std::uint32_t each : {publisher, number, room, id}) append_hex(out, each, 8);
        append_hex(out, due, 16);
        out += kEdge;
    }
    static std::optional<Mark> find(std::string_view text) {
        const std::size_t at = text.find(kEdge);
        if (at == text.npos || text.size() < at + kSize || text[at + kSize - 1] != kEdge) return std::nullopt;
        const char* next = text.data() + at + 1;
        Mark mark;
        for (std::uint32_t* each : {&mark.publisher, &mark.number, &mark.room, &mark.id})
            *each = static_cast<std::uint32_t>(take_hex(next, 8));
        mark.due = take_hex(next, 16);
        return mark;
    }

private:
    static void append_hex(std::string& out, std::uint64_t value, int digits) {
        for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4)
            out += "0123456789abcdef"[(value >> shift) & 15];
    }
    static std::uint64_t take_hex(const char*& at, int digits) {
        std::uint64_t value = 0;
        for (; digits > 0; --digits, ++at)
            value = value << 4 | static_cast<std::uint64_t>(*at <= '9' ? *at - '0' : *at - 'a' + 10);
        return value;
    }
};

// Who is in which room, and what of each publication is still to come.
class Ledger {
public:
    struct Shape {
        std::size_t sockets = 0;
        std::size_t first = 0;
        std::size_t slow = 0;
        std::size_t rooms = 1;
        std::size_t each = 1;
        std::size_t publishers = 1;
    };
    struct Counts {
        std::uint64_t deliveries = 0, lost = 0, duplicated = 0, reordered = 0, misrouted = 0, unmarked = 0;
    };

    explicit Ledger(const Shape& shape)
        : shape_(shape),
          next_(shape.sockets * shape.each * shape.publishers, 1),
          missed_(next_.size()),
          left_(kLeft) {
        const std::size_t seats = (shape.sockets - shape.slow) * shape.each;
        if (seats % shape.rooms != 0) die("sockets times each is no multiple of rooms");
        members_ = static_cast<std::uint32_t>(seats / shape.rooms);
    }

    [[nodiscard]] std::size_t room_of(std::size_t socket, std::size_t seat) const {
        return ((shape_.first + socket) * shape_.each + seat) % shape_.rooms;
    }
    [[nodiscard]] std::uint32_t members() const { return members_; }
    [[nodiscard]] Counts& counts() { return counts_; }
    [[nodiscard]] Histogram& latency() { return latency_; }
    [[nodiscard]] std::uint64_t open() const { return open_; }
    [[nodiscard]] Nanoseconds last_ns() const { return last_; }
    // Latencies count from here.
    void measure_from(std::uint32_t id) { measured_ = id; }

    void on_sent(std::uint32_t id) {
        left_[id % kLeft] = members_ + 1;  // and its answer
        ++open_;
    }
    void on_answered(std::uint32_t id) { close_one(id); }

    void on_event(std::size_t socket, std::string_view text, Nanoseconds now) {
        const auto mark = Mark::find(text);
        if (!mark) {
            ++counts_.unmarked;
            return;
        }
        const std::size_t first = room_of(socket, 0);
        const std::size_t seat = (mark->room + shape_.rooms - first) % shape_.rooms;
        if (mark->room >= shape_.rooms || mark->publisher >= shape_.publishers || seat >= shape_.each) {
            ++counts_.misrouted;
            return;
        }
        const std::size_t at = (socket * shape_.each + seat) * shape_.publishers + mark->publisher;
        if (mark->number < next_[at]) {
            if (missed_[at] == 0) {
                ++counts_.duplicated;
                return;
            }
            --missed_[at];
            --counts_.lost;
            ++counts_.reordered;
        } else {
            missed_[at] += mark->number - next_[at];
            counts_.lost += mark->number - next_[at];
            next_[at] = mark->number + 1;
        }
        ++counts_.deliveries;
        last_ = now;
        if (mark->id >= measured_) latency_.add(now > mark->due ? now - mark->due : 0);
        if (open_ != 0) close_one(mark->id);
    }

    // What was sent and has not come by now is lost: `numbers` of each publisher in each room.
    void finish(std::span<const std::uint32_t> numbers) {
        for (std::size_t socket = shape_.slow; socket < shape_.sockets; ++socket) {
            for (std::size_t seat = 0; seat < shape_.each; ++seat) {
                const std::size_t at = (socket * shape_.each + seat) * shape_.publishers;
                const std::size_t room = room_of(socket, seat) * shape_.publishers;
                for (std::size_t p = 0; p < shape_.publishers; ++p)
                    counts_.lost += numbers[room + p] + 1 - next_[at + p];
            }
        }
    }

private:
    static constexpr std::size_t kLeft = 1 << 20;  // publications under way at once, at most

    void close_one(std::uint32_t id) {
        if (--left_[id % kLeft] == 0) --open_;
    }

    const Shape shape_;
    std::uint32_t members_ = 0;  // who read, of each room
    std::vector<std::uint32_t> next_;
    std::vector<std::uint32_t> missed_;
    std::vector<std::uint32_t> left_;
    Counts counts_;
    Histogram latency_;
    std::uint64_t open_ = 0;  // publications that are not delivered whole, or not answered
    std::uint32_t measured_ = 0;
    Nanoseconds last_ = 0;
};

// --- frames (RFC 6455, section 5.2), from a server to us

struct Frame {
    unsigned char opcode = 0;
    bool compressed = false;
    std::string_view payload;
};

// The octets of the first frame; 0: it is not whole.
std::size_t take_frame(std::string_view in, Frame& frame) {
    if (in.size() < 2) return 0;
    const auto octet = [&](std::size_t at) { return static_cast<unsigned char>(in[at]); };
    std::size_t head = 2;
    std::uint64_t size = octet(1) & 0x7f;
    if (octet(1) & 0x80) die("a frame of the server is masked");
    const std::size_t more = size == 126 ? 2 : size == 127 ? 8 : 0;
    if (more != 0) {
        if (in.size() < head + more) return 0;
        size = 0;
        for (std::size_t i = 0; i < more; ++i) size = size << 8 | octet(head + i);
        head += more;
    }
    if (in.size() < head + size) return 0;
    if (!(octet(0) & 0x80)) die("a message is fragmented");
    frame.opcode = octet(0) & 0x0f;
    frame.compressed = octet(0) & 0x40;
    frame.payload = in.substr(head, size);
    return head + size;
}

// Masked with zeros.
std::string client_frame(unsigned char opcode, std::string_view text) {
    std::string frame = {static_cast<char>(0x80 | opcode)};
    if (text.size() < 126) {
        frame += static_cast<char>(0x80 | text.size());
    } else {
        frame +=
            {static_cast<char>(0xfe), static_cast<char>(text.size() >> 8), static_cast<char>(text.size())};
    }
    return frame.append(4, '\0').append(text);
}

// RFC 7692 without context takeover: each message by itself.
class Inflater {
public:
    Inflater() : out_(kReceive) {
        if (inflateInit2(&stream_, -15) != Z_OK) die("out of memory");
    }
    std::string_view inflate(std::string_view in) {
        inflateReset(&stream_);
        stream_.next_out = reinterpret_cast<Bytef*>(out_.data());
        stream_.avail_out = static_cast<uInt>(out_.size());
        for (const std::string_view part : {in, std::string_view("\0\0\xff\xff", 4)}) {
            stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(part.data()));
            stream_.avail_in = static_cast<uInt>(part.size());
            if (::inflate(&stream_, Z_SYNC_FLUSH) == Z_DATA_ERROR) die("a message cannot be inflated");
        }
        return {out_.data(), out_.size() - stream_.avail_out};
    }

private:
    z_stream stream_{};
    std::vector<char> out_;
};

// --- connections

struct SslFree {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};

enum class Io : std::uint8_t { done, again, ended };

// A socket, in the clear or with TLS.
class Wire {
public:
    // Starts to connect, from 127.0.0.SOURCE.
    void open(int port, std::size_t source, SSL_CTX* tls, bool small) {
        fd_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd_ == -1) die("no socket: too few descriptors?");
        const int one = 1;
        const int octets = 4096;
        setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        setsockopt(fd_, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (small) setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &octets, sizeof octets);
        sockaddr_in own = address(0, static_cast<std::uint32_t>(source));
        sockaddr_in server = address(port, 1);
        if (bind(fd_, reinterpret_cast<sockaddr*>(&own), sizeof own) == -1) die("cannot bind");
        if (connect(fd_, reinterpret_cast<sockaddr*>(&server), sizeof server) == -1 && errno != EINPROGRESS)
            die(std::string("cannot connect: ") + strerror(errno));
        if (tls == nullptr) return;
        ssl_.reset(SSL_new(tls));
        SSL_set_fd(ssl_.get(), fd_);
        SSL_set_connect_state(ssl_.get());
    }

    // Once it is writable. again: TLS waits for the server.
    Io greet() {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error != 0) die(std::string("cannot connect: ") + strerror(error));
        return ssl_ == nullptr ? Io::done : verdict(SSL_do_handshake(ssl_.get()));
    }
    Io write(std::string_view bytes) {
        const ssize_t n = ssl_ != nullptr
                              ? SSL_write(ssl_.get(), bytes.data(), static_cast<int>(bytes.size()))
                              : send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        return n == static_cast<ssize_t>(bytes.size()) ? Io::done : Io::ended;  // what we send is small
    }
    Io read(char* to, std::size_t place, std::size_t& got) {
        const ssize_t n =
            ssl_ != nullptr ? SSL_read(ssl_.get(), to, static_cast<int>(place)) : recv(fd_, to, place, 0);
        got = n > 0 ? static_cast<std::size_t>(n) : 0;
        if (n > 0) return Io::done;
        if (ssl_ != nullptr) return verdict(static_cast<int>(n));
        return n == -1 && errno == EAGAIN ? Io::again : Io::ended;
    }
    // Something that is no event of the socket any more.
    [[nodiscard]] bool pending() const { return ssl_ != nullptr && SSL_pending(ssl_.get()) > 0; }
    // With a reset, so that its port is free at once.
    void reset() {
        const linger now{1, 0};
        setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        close();
    }
    void close() {
        ssl_.reset();
        ::close(fd_);
        fd_ = -1;
    }
    [[nodiscard]] int fd() const { return fd_; }

private:
    static sockaddr_in address(int port, std::uint32_t host) {
        sockaddr_in result{};
        result.sin_family = AF_INET;
        result.sin_port = htons(static_cast<std::uint16_t>(port));
        result.sin_addr.s_addr = htonl((INADDR_LOOPBACK & 0xffffff00) | host);
        return result;
    }
    Io verdict(int n) {
        if (n == 1) return Io::done;
        const int error = SSL_get_error(ssl_.get(), n);
        return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? Io::again : Io::ended;
    }

    int fd_ = -1;
    std::unique_ptr<SSL, SslFree> ssl_;
};

struct Member {
    enum class State : std::uint8_t { none, connecting, upgrading, joining, joined, closed };

    Wire wire;
    std::string rest;           // of a frame that is not whole
    std::uint32_t awaited = 0;  // answers to its subscribes
    State state = State::none;
};

// A kept connection for publications; one request at a time.
struct Publisher {
    Wire wire;
    std::string in;
    std::uint32_t first_id = 0;
    std::uint32_t count = 0;  // in the request that is under way
};

class Run {
public:
    explicit Run(const Options& options)
        : options_(options),
          shape_{.sockets = options.count("sockets", 0),
                 .first = options.count("first", 0),
                 .slow = options.count("slow", 0),
                 .rooms = options.count("rooms", 1),
                 .each = options.count("each", 1),
                 .publishers = options.count("publishers", 1)},
          ledger_(shape_),
          pids_(numbers_of(options.text("pids"))),
          also_(numbers_of(options.text("also"))),
          path_(options.text("path", "/ws")),
          claims_(options.text("claims")),
          subscribe_(options.text("subscribe")),
          post_(options.text("post", "/publish")),
          body_(options.text("body", "{mark}")),
          joined_(options.text("joined")),
          ports_(numbers_of(options.text("port"))),
          spin_(options.count("spin", 0) != 0),
          source_(options.count("source", 2)),
          sources_(options.count("sources", 1)),
          batch_(options.count("batch", 1)),
          members_(options.count("handshakes", 0) != 0 ? options.count("window", 32) : shape_.sockets),
          publishers_(shape_.publishers),
          numbers_(shape_.rooms * shape_.publishers),
          buffer_(kReceive) {
        for (const std::string& header : options.all("header")) headers_.emplace_back(header);
        rlimit files{};
        getrlimit(RLIMIT_NOFILE, &files);
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
        epoll_ = epoll_create1(EPOLL_CLOEXEC);
        if (ports_.empty()) die("no port");
        if (options.count("tls", 0) != 0) tls_.reset(SSL_CTX_new(TLS_client_method()));
        if (const std::string key = options.text("key"); !key.empty()) {
            minter_.emplace(key);
            if (!minter_->quick())
                std::generate_n(std::back_inserter(tokens_), kTokens,
                                [this] { return mint(tokens_.size()); });
        }
    }

    int go() {
        const std::size_t before = pss_of(pids_);
        if (const std::size_t wanted = options_.count("handshakes", 0)) return handshakes(wanted);
        join();
        if (options_.count("listen", 0) != 0) return listen(options_.count("listen", 0));
        if (options_.number("rate", 0) != 0 || options_.count("window", 0) != 0) return publish();
        timespec moment{1, 0};  // the server is still busy with the last of them
        nanosleep(&moment, nullptr);
        const std::size_t after = pss_of(pids_);
        printf("{\"sockets\":%zu,\"pss_before\":%zu,\"pss_after\":%zu,\"bytes_per_socket\":%.0f}\n",
               members_.size(), before, after,
               (static_cast<double>(after) - static_cast<double>(before)) /
                   static_cast<double>(members_.size()));
        return 0;
    }

private:
    // epoll's word for a connection: members by number, publishers behind them. Without TLS one read takes all there is,
    // so that epoll has no need to look at the socket once more.
    void watch(const Wire& wire, std::size_t number, std::uint32_t events, int how) {
        if (tls_ == nullptr) events |= EPOLLET;
        epoll_event event{events, {.u64 = number}};
        if (epoll_ctl(epoll_, how, wire.fd(), &event) == -1) die("epoll_ctl");
    }

    [[nodiscard]] std::string mint(std::size_t i) const {
        std::string text;
        claims_.append_to(text, [&](std::string_view name, std::string& out) {
            if (name == "exp") return append_number(out, static_cast<std::size_t>(time(nullptr)) + 86400);
            fill(i, name, out);
        });
        return minter_->mint(text);
    }

    void fill(std::size_t i, std::string_view name, std::string& out) const {
        if (name == "token") {
            if (minter_) out += minter_->quick() ? mint(i) : tokens_[i % tokens_.size()];
        } else if (name == "i") {
            append_number(out, shape_.first + i);
        } else {
            const std::size_t count = name == "rooms" ? shape_.each : 1;
            for (std::size_t seat = 0; seat < count; ++seat) {
                if (seat != 0) out += ',';
                append_number(out, ledger_.room_of(i, seat));
            }
        }
    }

    void open(std::size_t i) {
        Member& member = members_[i];
        // Scattered, so that the members of a room are not all at one of the ports.
        const int port = ports_[(i * 2654435761U >> 20) % ports_.size()];
        member.wire.open(port, source_ + opened_++ % sources_, tls_.get(), i < shape_.slow);
        member.state = Member::State::connecting;
        watch(member.wire, i, EPOLLOUT, EPOLL_CTL_ADD);
    }

    void upgrade(std::size_t i) {
        Member& member = members_[i];
        const Io greeted = member.wire.greet();
        if (greeted == Io::ended) die("the server ends a TLS handshake");
        if (greeted == Io::again) return watch(member.wire, i, EPOLLIN, EPOLL_CTL_MOD);
        std::string request = "GET ";
        const auto filled = [&](std::string_view name, std::string& out) { fill(i, name, out); };
        path_.append_to(request, filled);
        request +=
            " HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: "
            "Upgrade\r\nSec-WebSocket-Key: ";
        request += kKey;
        request += "\r\nSec-WebSocket-Version: 13\r\n";
        for (const Template& header : headers_) {
            header.append_to(request, filled);
            request += "\r\n";
        }
        if (options_.count("deflate", 0) != 0)
            request +=
                "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; "
                "client_no_context_takeover\r\n";
        request += "\r\n";
        if (member.wire.write(request) != Io::done) die("a handshake cannot be sent");
        member.state = Member::State::upgrading;
        watch(member.wire, i, EPOLLIN, EPOLL_CTL_MOD);
    }

    // What of `in` is the server's answer to the handshake; 0: it is not whole.
    std::size_t on_upgraded(std::size_t i, std::string_view in) {
        const std::size_t end = in.find("\r\n\r\n");
        if (end == in.npos) return 0;
        const std::string_view head = in.substr(0, end);
        if (!head.starts_with("HTTP/1.1 101") || head.find(kAccept) == head.npos)
            die("no WebSocket: " + std::string(in));
        if (options_.count("deflate", 0) != 0 && head.find("permessage-deflate") == head.npos)
            die("no deflate");
        Member& member = members_[i];
        if (subscribe_.empty() || options_.count("handshakes", 0) != 0) {
            on_joined(i);
            return end + 4;
        }
        std::string frames;
        for (std::size_t seat = 0; seat < shape_.each; ++seat) {
            std::string text;
            subscribe_.append_to(text, [&](std::string_view, std::string& out) {
                append_number(out, ledger_.room_of(i, seat));
            });
            frames += client_frame(1, text);
        }
        member.awaited = static_cast<std::uint32_t>(shape_.each);
        member.state = Member::State::joining;
        if (member.wire.write(frames) != Io::done) die("a subscribe cannot be sent");
        return end + 4;
    }

    void on_joined(std::size_t i) {
        members_[i].state = Member::State::joined;
        ++members_joined_;
        if (i < shape_.slow) watch(members_[i].wire, i, 0, EPOLL_CTL_MOD);
    }

    void on_frame(std::size_t i, const Frame& frame, Nanoseconds now) {
        Member& member = members_[i];
        switch (frame.opcode) {
            case 1: {
                const std::string_view text =
                    frame.compressed ? inflater_.inflate(frame.payload) : frame.payload;
                delivered_size_ = text.size();
                if (member.state == Member::State::joined) return ledger_.on_event(i, text, now);
                if (text.find(joined_) != text.npos && --member.awaited == 0) on_joined(i);
                if (text.find("\"error\"") != text.npos) die("a subscribe is refused: " + std::string(text));
                return;
            }
            case 8: {
                const std::string_view text = frame.payload;
                const int code = text.size() < 2 ? 1005
                                                 : static_cast<unsigned char>(text[0]) << 8 |
                                                       static_cast<unsigned char>(text[1]);
                die("the server closes a socket with " + std::to_string(code) + " " +
                    std::string(text.substr(std::min<std::size_t>(2, text.size()))));
            }
            case 9:
                if (member.wire.write(client_frame(10, frame.payload)) != Io::done)
                    die("a pong cannot be sent");
                return;
            default: return;
        }
    }

    void read_member(std::size_t i) {
        Member& member = members_[i];
        bool full = false;
        do {
            const std::size_t kept = member.rest.size();
            memcpy(buffer_.data(), member.rest.data(), kept);
            std::size_t got = 0;
            const Io io = member.wire.read(buffer_.data() + kept, buffer_.size() - kept, got);
            if (io == Io::again) return;
            if (io == Io::ended) die("the server ends a connection");
            take(i, {buffer_.data(), kept + got});
            full = kept + got == buffer_.size();
        } while (member.state != Member::State::closed && (full || member.wire.pending()));
    }

    void take(std::size_t i, std::string_view in) {
        Member& member = members_[i];
        const Nanoseconds now = now_ns();
        if (member.state == Member::State::upgrading) in.remove_prefix(on_upgraded(i, in));
        if (member.state != Member::State::upgrading) {
            Frame frame;
            while (const std::size_t used = take_frame(in, frame)) {
                on_frame(i, frame, now);
                in.remove_prefix(used);
            }
        }
        member.rest.assign(in);  // keeps its memory
    }

    // One turn of the loop; `until`: when the next thing is due.
    void turn(Nanoseconds until) {
        std::array<epoll_event, 512> events;
        const Nanoseconds now = now_ns();
        const Nanoseconds left = until > now && !spin_ ? until - now : 0;
        const timespec wait{static_cast<time_t>(left / kSecond), static_cast<long>(left % kSecond)};
        const int count =
            epoll_pwait2(epoll_, events.data(), static_cast<int>(events.size()), &wait, nullptr);
        for (int n = 0; n < count; ++n) {
            const auto i = static_cast<std::size_t>(events[static_cast<std::size_t>(n)].data.u64);
            if (i >= members_.size()) {
                read_publisher(i - members_.size());
            } else if (members_[i].state == Member::State::connecting) {
                upgrade(i);
            } else if (i >= shape_.slow || members_[i].state != Member::State::joined) {
                read_member(i);
            } else {  // hung up: a slow reader may be closed
                members_[i].wire.close();
                members_[i].state = Member::State::closed;
                ++slow_closed_;
            }
        }
    }

    void join() {
        const Nanoseconds began = now_ns();
        std::size_t next = 0;
        while (members_joined_ < members_.size()) {
            while (next < members_.size() && next - members_joined_ < kConnecting) open(next++);
            turn(now_ns() + kSecond);
            if (now_ns() > began + 600 * kSecond) die("the sockets do not come to an end of joining");
        }
        joining_ns_ = now_ns() - began;
    }

    int handshakes(std::size_t wanted) {
        std::size_t begun = 0;
        const Nanoseconds cpu = cpu_of(pids_);
        const Nanoseconds began = now_ns();
        for (std::size_t i = 0; i < members_.size() && begun < wanted; ++i, ++begun) open(i);
        while (members_joined_ < wanted) {
            turn(now_ns() + kSecond);
            for (std::size_t i = 0; i < members_.size(); ++i) {
                if (members_[i].state != Member::State::joined) continue;
                members_[i].wire.reset();
                members_[i].state = Member::State::closed;
                members_[i].rest.clear();
                if (begun < wanted) open(i), ++begun;
            }
        }
        const Nanoseconds took = now_ns() - began;
        timespec moment{0, 300'000'000};  // the server closes the last of them
        nanosleep(&moment, nullptr);
        const Nanoseconds spent = cpu_of(pids_) - cpu;
        printf(
            "{\"handshakes\":%zu,\"seconds\":%.3f,\"handshakes_per_s\":%.0f,\"cpu_us_per_handshake\":%.3f}\n",
            wanted, static_cast<double>(took) / 1e9,
            static_cast<double>(wanted) * 1e9 / static_cast<double>(took),
            static_cast<double>(spent) / 1e3 / static_cast<double>(wanted));
        return 0;
    }

    int listen(std::size_t wanted) {
        printf("{\"joined\":%zu,\"joining_s\":%.2f}\n", members_.size(),
               static_cast<double>(joining_ns_) / 1e9);
        fflush(stdout);
        const std::uint64_t all = wanted * (members_.size() - shape_.slow) * shape_.each;
        const Nanoseconds until = now_ns() + static_cast<Nanoseconds>(options_.number("seconds", 60) * 1e9);
        while (ledger_.counts().deliveries < all && now_ns() < until) turn(now_ns() + kSecond / 10);
        ledger_.counts().lost = all - std::min(all, ledger_.counts().deliveries);
        printf("{\"sockets\":%zu,\"last_ns\":%llu,", members_.size(),
               static_cast<unsigned long long>(ledger_.last_ns()));
        print_checks();
        printf("}\n");
        return 0;
    }

    // --- publications

    void open_publishers() {
        for (std::size_t p = 0; p < publishers_.size(); ++p) {
            Publisher& publisher = publishers_[p];
            const auto port = static_cast<int>(options_.count("publish_port", 0));
            publisher.wire.open(port != 0 ? port : ports_[p % ports_.size()], source_, nullptr, false);
            timespec moment{0, 1'000'000};
            nanosleep(&moment, nullptr);
            if (publisher.wire.greet() == Io::ended) die("cannot connect to publish");
            watch(publisher.wire, members_.size() + p, EPOLLIN, EPOLL_CTL_ADD);
        }
    }

    // -1: all have a request under way.
    std::ptrdiff_t idle_publisher() {
        for (std::size_t tries = 0; tries < publishers_.size(); ++tries) {
            const std::size_t p = turn_++ % publishers_.size();
            if (publishers_[p].count == 0) return static_cast<std::ptrdiff_t>(p);
        }
        return -1;
    }

    void send(std::size_t p, Nanoseconds due) {
        Publisher& publisher = publishers_[p];
        publisher.first_id = next_id_;
        publisher.count = static_cast<std::uint32_t>(batch_);
        text_.clear();
        std::size_t room = 0;
        if (batch_ > 1) text_ += '[';
        for (std::size_t b = 0; b < batch_; ++b) {
            room = any_() % shape_.rooms;
            const Mark mark{static_cast<std::uint32_t>(p), ++numbers_[room * publishers_.size() + p],
                            static_cast<std::uint32_t>(room), next_id_++, due};
            ledger_.on_sent(mark.id);
            if (b != 0) text_ += ',';
            body_.append_to(text_, [&](std::string_view name, std::string& out) {
                if (name == "room") return append_number(out, room);
                mark.append_to(out);
                out.append(pad_, 'x');
            });
        }
        if (batch_ > 1) text_ += ']';
        request_ = "POST ";
        post_.append_to(request_, [&](std::string_view, std::string& out) { append_number(out, room); });
        request_ += " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ";
        append_number(request_, text_.size());
        request_ += "\r\n\r\n";
        request_ += text_;
        if (publisher.wire.write(request_) != Io::done) die("a publication cannot be sent");
    }

    void read_publisher(std::size_t p) {
        Publisher& publisher = publishers_[p];
        std::size_t got = 0;
        const Io io = publisher.wire.read(buffer_.data(), buffer_.size(), got);
        if (io == Io::again) return;
        if (io == Io::ended) die("the server ends a connection of the publisher");
        publisher.in.append(buffer_.data(), got);
        const std::size_t end = publisher.in.find("\r\n\r\n");
        if (end == std::string::npos) return;
        if (!publisher.in.starts_with("HTTP/1.1 2")) die("a publication is refused: " + publisher.in);
        if (publisher.in.size() < end + 4 + content_length(publisher.in, end)) return;
        publisher.in.clear();
        for (std::uint32_t n = 0; n < publisher.count; ++n) ledger_.on_answered(publisher.first_id + n);
        answered_ += publisher.count;
        publisher.count = 0;
    }

    static std::size_t content_length(const std::string& in, std::size_t end) {
        constexpr std::string_view kName = "content-length:";
        for (std::size_t at = in.find('\n'); at < end; at = in.find('\n', at + 1)) {
            if (strncasecmp(in.c_str() + at + 1, kName.data(), kName.size()) == 0)
                return strtoul(in.c_str() + at + 1 + kName.size(), nullptr, 10);
        }
        return 0;
    }

    // Until all that is under way has arrived, or too long nothing has.
    void settle() {
        Nanoseconds quiet_since = now_ns();
        std::uint64_t seen = 0;
        while (ledger_.open() != 0 && now_ns() < quiet_since + kPatience) {
            turn(now_ns() + kSecond / 10);
            const std::uint64_t come = ledger_.counts().deliveries + answered_;
            if (come != seen) quiet_since = now_ns();
            seen = come;
        }
    }

    void publish_for(double seconds) {
        const double rate = options_.number("rate", 0);
        const std::size_t window = options_.count("window", 0);
        const Nanoseconds began = now_ns();
        const Nanoseconds end = began + static_cast<Nanoseconds>(seconds * 1e9);
        const auto wanted = static_cast<std::uint64_t>(rate * seconds);
        for (std::uint64_t sent = 0;;) {
            const Nanoseconds now = now_ns();
            Nanoseconds due = now;
            Nanoseconds wake = now + kSecond / 100;
            if (rate != 0) {
                if (sent >= wanted) break;
                wake = due = began + static_cast<Nanoseconds>(static_cast<double>(sent) * 1e9 / rate);
            } else if (now >= end) {
                break;
            }
            const bool ready = rate != 0 ? due <= now : ledger_.open() + batch_ <= window;
            const std::ptrdiff_t p = ready ? idle_publisher() : -1;
            if (p >= 0) {
                send(static_cast<std::size_t>(p), due);
                sent += batch_;
                continue;
            }
            if (ready) wake = now + kSecond / 100;  // all publishers wait for answers
            turn(wake);
        }
        settle();
    }

    // An event of the size that is wanted is found with one that has no padding.
    void calibrate() {
        const std::size_t size = options_.count("size", 200);
        send(0, now_ns());
        settle();
        if (ledger_.open() != 0) die("the first event does not arrive");
        const std::size_t bare = members_.empty() ? text_.size() / batch_ : delivered_size_;
        pad_ = size > bare ? size - bare : 0;
    }

    int publish() {
        open_publishers();
        calibrate();
        publish_for(options_.number("warmup", 0.5));
        const std::uint32_t first = next_id_;
        ledger_.measure_from(first);
        const std::uint64_t deliveries = ledger_.counts().deliveries;
        const Nanoseconds cpu = cpu_of(pids_);
        const Nanoseconds others = cpu_of(also_);
        const Nanoseconds own = own_cpu();
        const Nanoseconds began = now_ns();
        publish_for(options_.number("seconds", 3));
        const double seconds = static_cast<double>(now_ns() - began) / 1e9;
        const double spent = static_cast<double>(cpu_of(pids_) - cpu) / 1e3;
        const double also = static_cast<double>(cpu_of(also_) - others) / 1e3;
        const double load = static_cast<double>(own_cpu() - own) / 1e9;
        const double published = next_id_ - first;
        const auto delivered = static_cast<double>(ledger_.counts().deliveries - deliveries);
        ledger_.finish(numbers_);
        printf(
            "{\"sockets\":%zu,\"seconds\":%.3f,\"published\":%.0f,\"deliveries\":%.0f,\"publishes_per_s\":%."
            "0f,"
            "\"deliveries_per_s\":%.0f,\"cpu_us_per_publish\":%.3f,\"cpu_us_per_delivery\":%.4f,\"cpu_"
            "share\":%.3f,"
            "\"also_us_per_publish\":%.3f,\"load_share\":%.3f,\"event_octets\":%zu,\"slow_closed\":%zu,",
            members_.size(), seconds, published, delivered, published / seconds, delivered / seconds,
            spent / published, delivered > 0 ? spent / delivered : 0, spent / 1e6 / seconds, also / published,
            load / seconds, members_.empty() ? 0 : delivered_size_, slow_closed_);
        print_checks();
        printf("}\n");
        return 0;
    }

    static Nanoseconds own_cpu() {
        timespec spent{};
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &spent);
        return static_cast<Nanoseconds>(spent.tv_sec) * kSecond + static_cast<Nanoseconds>(spent.tv_nsec);
    }

    void print_checks() {
        const Ledger::Counts& counts = ledger_.counts();
        const auto number = [](std::uint64_t value) { return static_cast<unsigned long long>(value); };
        printf(
            "\"lost\":%llu,\"duplicated\":%llu,\"reordered\":%llu,\"misrouted\":%llu,\"unmarked\":%llu,"
            "\"latency_us\":{\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"most\":%.1f}",
            number(counts.lost), number(counts.duplicated), number(counts.reordered),
            number(counts.misrouted), number(counts.unmarked), ledger_.latency().microseconds_at(0.5),
            ledger_.latency().microseconds_at(0.9), ledger_.latency().microseconds_at(0.99),
            ledger_.latency().microseconds_at(0.999), ledger_.latency().most_microseconds());
    }

    const Options& options_;
    const Ledger::Shape shape_;
    Ledger ledger_;
    const std::vector<pid_t> pids_;
    const std::vector<pid_t> also_;
    const Template path_;
    const Template claims_;
    const Template subscribe_;
    const Template post_;
    const Template body_;
    const std::string joined_;
    const std::vector<int> ports_;
    const bool spin_;
    const std::size_t source_;
    const std::size_t sources_;
    const std::size_t batch_;
    std::vector<Template> headers_;
    std::optional<Minter> minter_;
    std::vector<std::string> tokens_;
    std::unique_ptr<SSL_CTX, SslFree> tls_;
    std::vector<Member> members_;
    std::vector<Publisher> publishers_;
    std::vector<std::uint32_t> numbers_;  // published by [room][publisher]
    std::vector<char> buffer_;
    Inflater inflater_;
    std::string text_;
    std::string request_;
    int epoll_ = -1;
    std::size_t opened_ = 0;
    std::size_t members_joined_ = 0;
    std::size_t slow_closed_ = 0;
    std::size_t delivered_size_ = 0;  // of the last event
    std::size_t pad_ = 0;
    std::size_t turn_ = 0;
    std::minstd_rand any_;  // which room has something to say: the same ones in each run
    std::uint32_t next_id_ = 0;
    std::uint64_t answered_ = 0;
    Nanoseconds joining_ns_ = 0;
};

// --- the checks check

int failures = 0;

void expect(const char* what, std::uint64_t is, std::uint64_t wanted) {
    if (is == wanted) return;
    printf("%s: %llu, not %llu\n", what, static_cast<unsigned long long>(is),
           static_cast<unsigned long long>(wanted));
    ++failures;
}

std::string event(std::uint32_t publisher, std::uint32_t number, std::uint32_t room, std::uint32_t id) {
    std::string text = "{\"m\":\"";
    Mark{publisher, number, room, id, 1000}.append_to(text);
    return text + "xxx\"}";
}

// Two sockets in rooms {0,1} and {2,3}, two publishers; each fault by itself.
void test_ledger() {
    using Shape = Ledger::Shape;
    const Shape shape{.sockets = 2, .first = 0, .slow = 0, .rooms = 4, .each = 2, .publishers = 2};
    const std::vector<std::uint32_t> two_in_room_1 = {0, 0, 0, 2, 0, 0, 0, 0};  // by publisher 1
    const auto counted = [&](std::initializer_list<std::string> events) {
        Ledger ledger(shape);
        ledger.on_sent(0);
        ledger.on_sent(1);
        for (const std::string& each : events) ledger.on_event(0, each, 2000);
        ledger.finish(two_in_room_1);
        return ledger.counts();
    };
    const std::string first = event(1, 1, 1, 0);
    const std::string second = event(1, 2, 1, 1);
    Ledger::Counts counts = counted({first, second});
    expect("good: lost", counts.lost, 0);
    expect("good: deliveries", counts.deliveries, 2);
    expect("good: duplicated", counts.duplicated + counts.reordered + counts.misrouted, 0);
    expect("the first is lost", counted({second}).lost, 1);
    expect("the last is lost", counted({first}).lost, 1);
    expect("all are lost", counted({}).lost, 2);
    expect("twice", counted({first, first, second}).duplicated, 1);
    expect("twice at the end", counted({first, second, second}).duplicated, 1);
    counts = counted({second, first});
    expect("late: reordered", counts.reordered, 1);
    expect("late: lost", counts.lost, 0);
    expect("another's room", counted({first, event(1, 1, 2, 0), second}).misrouted, 1);
    expect("no such room", counted({first, event(1, 1, 9, 0), second}).misrouted, 1);
    expect("no mark", counted({first, "{\"type\":\"gap\"}", second}).unmarked, 1);

    Ledger ledger(shape);
    ledger.on_sent(7);
    expect("under way", ledger.open(), 1);
    ledger.on_answered(7);
    expect("answered, not delivered", ledger.open(), 1);
    ledger.on_event(0, event(0, 1, 0, 7), 4000);
    expect("delivered", ledger.open(), 0);
    expect("3 us", static_cast<std::uint64_t>(ledger.latency().most_microseconds()), 3);
}

void test_frames() {
    std::string stream;
    for (const std::size_t size : {0u, 125u, 126u, 65535u, 65536u}) {
        stream += static_cast<char>(0x81);
        if (size < 126) {
            stream += static_cast<char>(size);
        } else {
            const int octets = size < 65536 ? 2 : 8;
            stream += static_cast<char>(octets == 2 ? 126 : 127);
            for (int shift = 8 * (octets - 1); shift >= 0; shift -= 8)
                stream += static_cast<char>(static_cast<std::uint64_t>(size) >> shift);
        }
        const std::size_t begin = stream.size();
        stream.append(size, 'a');
        Frame frame;
        const std::string_view whole = std::string_view(stream);
        for (std::size_t cut = 0; cut < whole.size(); cut += cut < begin ? 1 : 997)
            expect("a part of a frame", take_frame(whole.substr(0, cut), frame), 0);
        expect("a frame", take_frame(whole, frame), whole.size());
        expect("its payload", frame.payload.size(), size);
        stream.clear();
    }
}

void test_histogram() {
    Histogram histogram;
    for (Nanoseconds value = 1; value <= 1'000'000; ++value) histogram.add(value);
    for (const double part : {0.01, 0.5, 0.99}) {
        const double wanted = part * 1000;
        const double error = (histogram.microseconds_at(part) - wanted) / wanted;
        expect("a percentile, within 1 %", error < 0.01 && error > -0.01, 1);
    }
    expect("the most", static_cast<std::uint64_t>(histogram.most_microseconds()), 1000);
}

}  // namespace

int main(int count, char** words) {
    if (count == 2 && !strcmp(words[1], "self-test")) {
        test_ledger();
        test_frames();
        test_histogram();
        puts(failures == 0 ? "ok" : "failed");
        return failures != 0;
    }
    if (count == 2 && !strcmp(words[1], "help")) {
        for (const auto& [name, what] : kOptions) printf("%-14s %s\n", name.data(), what.data());
        return 0;
    }
    if (count < 2) die("load NAME=VALUE …, load help, load self-test");
    const Options options(std::span(words + 1, static_cast<std::size_t>(count - 1)));
    return Run(options).go();
}

// URLs of Redis, as redis-cli and the client libraries read them (RFC 3986 section 3), and stricter:
// what could be meant in two ways is refused.
//
// No error quotes a word of the URL: where a character in the password was not encoded, any part of it
// may stand where a host, a port or a path was looked for.
#include "store/redis_target.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <iterator>
#include <optional>
#include <utility>

#include "core/ascii.hpp"

namespace rooms {
namespace {

using Kind = RedisTarget::Kind;

constexpr std::uint16_t kRedisPort = 6379;
constexpr std::uint16_t kSentinelPort = 26379;
constexpr std::size_t kMaxHost = 253;  // of a name in the DNS
constexpr std::size_t kMaxMaster = 64;
constexpr std::size_t kMaxPrefix = 64;
constexpr std::size_t kMaxPath = sizeof(sockaddr_un::sun_path) - 1;

struct Scheme {
    std::string_view text;
    Kind kind;
    bool tls;
};
constexpr Scheme kSchemes[] = {
    {"redis://", Kind::single, false},
    {"rediss://", Kind::single, true},
    {"sentinel://", Kind::sentinel, false},
    {"cluster://", Kind::cluster, false},
};

int hex_digit(char c) {
    if (is_digit(c)) return c - '0';
    c = ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

std::optional<std::string> percent_decode(std::string_view text) {
    std::string result;
    result.reserve(text.size());
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '%') {
            result += text[i];
            continue;
        }
        if (text.size() - i < 3) return std::nullopt;
        const int high = hex_digit(text[i + 1]);
        const int low = hex_digit(text[i + 2]);
        if (high < 0 || low < 0) return std::nullopt;
        result += static_cast<char>(high * 16 + low);
        i += 2;
    }
    return result;
}

// Decimal, without leading zeros.
std::optional<std::uint32_t> parse_number(std::string_view text) {
    if (text.empty() || text.size() > 9 || (text.front() == '0' && text.size() > 1)) return std::nullopt;
    std::uint32_t number = 0;
    for (const char c : text) {
        if (!is_digit(c)) return std::nullopt;
        number = number * 10 + static_cast<std::uint32_t>(c - '0');
    }
    return number;
}

bool is_blank_or_control(char c) { return static_cast<unsigned char>(c) <= ' ' || c == '\x7f'; }

bool is_master_char(char c) { return is_alpha(c) || is_digit(c) || c == '_' || c == '.' || c == '-'; }

// Labels with dots between them; one at the end says that the name is complete.
bool is_host_name(std::string_view host) {
    if (host.empty() || host.size() > kMaxHost) return false;
    std::size_t label = 0;
    for (const char c : host) {
        if (c == '.' && label == 0) return false;
        if (c != '.' && c != '-' && c != '_' && !is_alpha(c) && !is_digit(c)) return false;
        label = c == '.' ? 0 : label + 1;
    }
    return true;
}

// Such a host can only be an IPv4 address: no top-level domain is a number.
bool ends_in_number(std::string_view host) {
    if (host.ends_with('.')) host.remove_suffix(1);
    const std::string_view last = host.substr(host.rfind('.') + 1);
    return std::all_of(last.begin(), last.end(), is_digit);
}

std::optional<Error> read_user(std::string_view text, RedisTarget& target) {
    const std::size_t colon = text.find(':');
    auto user = percent_decode(text.substr(0, colon));
    auto password = percent_decode(colon == text.npos ? std::string_view() : text.substr(colon + 1));
    if (!user || !password)
        return Error{"% in user or password is followed by two hexadecimal digits; % itself is %25"};
    if (colon == text.npos && user->empty()) return Error{"nothing stands before the @"};
    if (colon != text.npos && password->empty()) return Error{"the password is empty"};
    target.user = std::move(*user);
    target.password = std::move(*password);
    return std::nullopt;
}

// The host in the one form in which two can be compared.
Result<std::string> read_host(std::string_view text, bool brackets) {
    if (brackets) {
        in6_addr v6;
        char canonical[INET6_ADDRSTRLEN];
        if (text.find('\0') != text.npos || inet_pton(AF_INET6, std::string(text).c_str(), &v6) != 1 ||
            inet_ntop(AF_INET6, &v6, canonical, sizeof canonical) == nullptr) {
            return Error{"between [ and ] stands an IPv6 address"};
        }
        return std::string(canonical);
    }
    if (text.empty()) return Error{"the host is missing"};
    if (!is_host_name(text)) return Error{"the host is a name, an IPv4 address, or an IPv6 address in [ ]"};
    if (ends_in_number(text) && sockaddr_of(text, 1).empty())
        return Error{"the host looks like an IPv4 address and is none"};
    std::string host(text);
    for (char& c : host) c = ascii_lower(c);
    return host;
}

Result<Address> read_server(std::string_view text, std::uint16_t default_port) {
    std::string_view host;
    std::string_view rest;  // the port with its colon
    const bool brackets = text.starts_with('[');
    if (brackets) {
        const std::size_t end = text.find(']');
        if (end == text.npos) return Error{"the ] behind the IPv6 address is missing"};
        host = text.substr(1, end - 1);
        rest = text.substr(end + 1);
    } else {
        const std::size_t colon = text.find(':');
        host = text.substr(0, colon);
        rest = colon == text.npos ? std::string_view() : text.substr(colon);
        if (rest.find(':', 1) != rest.npos) return Error{"an IPv6 address stands in [ ]"};
    }
    auto name = read_host(host, brackets);
    if (!name) return name.error();
    Address address;
    address.host = std::move(*name);
    address.port = default_port;
    if (!rest.empty()) {
        const auto port = rest.front() == ':' ? parse_number(rest.substr(1)) : std::nullopt;
        if (!port || *port == 0 || *port > 65535) return Error{"the port is a number from 1 to 65535"};
        address.port = static_cast<std::uint16_t>(*port);
    }
    address.sockaddr = sockaddr_of(address.host, address.port);
    return address;
}

std::optional<Error> read_servers(std::string_view list, RedisTarget& target) {
    const bool one = list.find(',') == list.npos;
    if (!one && target.kind == Kind::single) {
        return Error{
            "it names one server: several are written sentinel://HOST,HOST/NAME or cluster://HOST,HOST"};
    }
    const std::uint16_t port = target.kind == Kind::sentinel ? kSentinelPort : kRedisPort;
    for (std::size_t number = 1;; ++number) {
        const std::size_t comma = list.find(',');
        auto server = read_server(list.substr(0, comma), port);
        const auto same = [&](const Address& other) { return other.same_place(*server); };
        if (server && std::any_of(target.servers.begin(), target.servers.end(), same))
            server = Error{"it is named twice"};
        if (!server) {
            if (one) return server.error();
            return Error{"server " + std::to_string(number) + ": " + server.error().message};
        }
        target.servers.push_back(std::move(*server));
        if (comma == list.npos) return std::nullopt;
        list.remove_prefix(comma + 1);
    }
}

std::optional<Error> read_path(std::string_view path, RedisTarget& target) {
    switch (target.kind) {
        case Kind::single: {
            if (path.empty()) return std::nullopt;
            const auto db = parse_number(path);
            if (!db) return Error{"behind the server comes at most /DB, the number of a database"};
            target.db = *db;
            return std::nullopt;
        }
        case Kind::sentinel:
            if (path.empty() || path.size() > kMaxMaster ||
                !std::all_of(path.begin(), path.end(), is_master_char)) {
                return Error{
                    "behind the sentinels comes /NAME, under which they watch the master: letters, digits "
                    "and ._-"};
            }
            target.master = path;
            return std::nullopt;
        case Kind::cluster:
            if (path.empty()) return std::nullopt;
            return Error{"nothing comes behind the nodes of a cluster, which has only database 0"};
    }
    return std::nullopt;
}

Result<RedisTarget> parse_unix(std::string_view path) {
    if (!path.starts_with('/') || path.starts_with("//"))
        return Error{"unix: is followed by an absolute path, for example unix:/run/redis/redis.sock"};
    if (path.size() == 1) return Error{"the path of the socket is missing"};
    if (path.find_first_of("?#") != path.npos)
        return Error{"nothing comes behind the path of the socket: no user, no database"};
    if (path.size() > kMaxPath)
        return Error{"the path of a unix socket has at most " + std::to_string(kMaxPath) + " characters"};
    sockaddr_un place{};
    place.sun_family = AF_UNIX;
    std::memcpy(place.sun_path, path.data(), path.size());
    Address server;
    server.host = path;
    server.sockaddr.assign(reinterpret_cast<const char*>(&place),
                           offsetof(sockaddr_un, sun_path) + path.size() + 1);
    RedisTarget target;
    target.servers.push_back(std::move(server));
    return target;
}

}  // namespace

Result<RedisTarget> parse_redis_url(std::string_view url) {
    if (std::any_of(url.begin(), url.end(), is_blank_or_control))
        return Error{"it has blanks or control characters; in user or password a blank is %20"};
    if (url.starts_with("unix:")) return parse_unix(url.substr(5));

    const auto* scheme = std::find_if(std::begin(kSchemes), std::end(kSchemes),
                                      [&](const Scheme& known) { return url.starts_with(known.text); });
    if (scheme == std::end(kSchemes))
        return Error{"it begins with redis://, rediss://, unix:/, sentinel:// or cluster://"};
    url.remove_prefix(scheme->text.size());
    if (url.find_first_of("?#") != url.npos)
        return Error{"? and # mean nothing in it; in user or password they are %3F and %23"};

    RedisTarget target;
    target.kind = scheme->kind;
    target.tls = scheme->tls;
    const std::size_t slash = url.find('/');
    std::string_view servers = url.substr(0, slash);
    const std::string_view path = slash == url.npos ? std::string_view() : url.substr(slash + 1);
    if (path.find('@') != path.npos) return Error{"/ in user or password is %2F"};
    if (const std::size_t at = servers.rfind('@'); at != servers.npos) {
        const std::string_view user = servers.substr(0, at);
        if (user.find('@') != user.npos)
            return Error{"@ in user or password is %40; user and password stand once, before all servers"};
        if (target.kind != Kind::single && user.find(',') != user.npos)
            return Error{", in user or password is %2C; user and password stand before all servers"};
        if (auto fault = read_user(user, target)) return *fault;
        servers.remove_prefix(at + 1);
    }
    if (auto fault = read_servers(servers, target)) return *fault;
    if (auto fault = read_path(path, target)) return *fault;
    return target;
}

std::string RedisTarget::text() const {
    std::string result;
    for (const Address& server : servers) result += (result.empty() ? "" : ",") + server.text();
    if (!servers.empty() && servers.front().is_unix())
        return db != 0 ? result + " db " + std::to_string(db) : result;
    switch (kind) {
        case Kind::single:
            result.insert(0, tls ? "rediss://" : "redis://");
            if (db != 0) result += "/" + std::to_string(db);
            break;
        case Kind::sentinel:
            result.insert(0, "sentinel://");
            result += "/" + master;
            if (db != 0) result += " db " + std::to_string(db);
            break;
        case Kind::cluster: result.insert(0, "cluster://"); break;
    }
    return result;
}

bool is_redis_prefix(std::string_view prefix) {
    const auto fits = [](char c) {
        return is_alpha(c) || is_digit(c) || c == '_' || c == '.' || c == ':' || c == '-';
    };
    return !prefix.empty() && prefix.size() <= kMaxPrefix && std::all_of(prefix.begin(), prefix.end(), fits);
}

}  // namespace rooms

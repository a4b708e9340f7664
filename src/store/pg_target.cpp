// libpq takes the words apart; lists of servers are ours, for their addresses have to be found before, and
// a link begins with another server after one that did not answer.
#include "store/pg_target.hpp"

#include <libpq-fe.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <optional>

#include "core/ascii.hpp"
#include "store/reactor.hpp"

namespace rooms {
namespace {

bool is_socket(std::string_view host) { return host.starts_with('/') || host.starts_with('@'); }

bool is_name_char(char c) { return is_alpha(c) || is_digit(c) || c == '.' || c == '-' || c == '_'; }
bool is_plain(std::string_view name) { return std::all_of(name.begin(), name.end(), is_name_char); }

bool is_port(std::string_view text) {
    return text.size() <= 5 && std::all_of(text.begin(), text.end(), is_digit) &&
           std::atoi(std::string(text).c_str()) >= 1 && std::atoi(std::string(text).c_str()) <= 65535;
}

std::vector<std::string> split(std::string_view list) {
    std::vector<std::string> parts;
    for (;;) {
        const std::size_t comma = list.find(',');
        parts.emplace_back(list.substr(0, comma));
        if (comma == list.npos) return parts;
        list.remove_prefix(comma + 1);
    }
}

// libpq's own sentence quotes what it did not understand.
std::string fault_of(std::string_view said) {
    const struct {
        std::string_view begins;
        const char* says;
    } known[] = {
        {"missing \"=\"", "a word has no =; in key=value words a value with blanks stands in '…'"},
        {"unterminated quoted string", "a ' is not closed"},
        {"invalid connection option", "libpq has no such parameter; a value with blanks stands in '…'"},
        {"invalid URI query parameter", "libpq has no such parameter behind the ? of the URI"},
        {"invalid percent-encoded token",
         "% in the URI is followed by two hexadecimal digits; % itself is %25"},
        {"end of string reached", "the ] behind an IPv6 address is missing"},
        {"out of memory", "out of memory"},
    };
    for (const auto& each : known) {
        if (said.starts_with(each.begins)) return each.says;
    }
    return "it is neither key=value words nor postgresql://[user[:password]@]host[:port]/database as libpq "
           "reads them";
}

std::optional<Error> check(const PgTarget::Server& server) {
    if (!server.address.empty() && sockaddr_of(server.address, 1).empty())
        return Error{"hostaddr is an IPv4 or IPv6 address"};
    if (server.needs_address() && !is_plain(server.host))
        return Error{"a host is a name, an address, or the absolute path of a directory with a unix socket"};
    if (!server.port.empty() && !is_port(server.port)) return Error{"a port is a number from 1 to 65535"};
    return std::nullopt;
}

}  // namespace

bool PgTarget::Server::needs_address() const { return address.empty() && !host.empty() && !is_socket(host); }

std::string PgTarget::Server::text() const {
    const std::string& shown = host.empty() ? address : host;
    if (shown.empty()) return port.empty() ? "local" : "local:" + port;
    const bool v6 = shown.find(':') != shown.npos && !is_socket(shown);
    return (v6 ? "[" + shown + "]" : shown) + ":" + (port.empty() ? "5432" : port);
}

std::string_view PgTarget::parameter(std::string_view name) const {
    for (const auto& [known, value] : parameters) {
        if (known == name) return value;
    }
    return {};
}

std::string PgTarget::text() const {
    std::string result;
    for (const Server& server : servers) result += (result.empty() ? "" : ",") + server.text();
    // One that is not plain may be the end of a password with a / that was not encoded.
    const std::string_view database = parameter("dbname");
    if (!database.empty() && is_plain(database)) result.append("/").append(database);
    return result;
}

Result<PgTarget> parse_pg_conninfo(const std::string& conninfo) {
    if (conninfo.find('\0') != conninfo.npos) return Error{"it has a NUL in it"};
    if (std::all_of(conninfo.begin(), conninfo.end(), [](char c) { return c == ' '; }))
        return Error{"it is empty"};
    char* said = nullptr;
    const std::unique_ptr<PQconninfoOption, decltype(&PQconninfoFree)> options(
        PQconninfoParse(conninfo.c_str(), &said), PQconninfoFree);
    const std::unique_ptr<char, decltype(&PQfreemem)> freed(said, PQfreemem);
    if (options == nullptr) return Error{fault_of(said != nullptr ? said : "out of memory")};

    PgTarget target;
    std::vector<std::string> hosts, addresses, ports;
    for (const PQconninfoOption* option = options.get(); option->keyword != nullptr; ++option) {
        if (option->val == nullptr || *option->val == '\0') continue;
        const std::string_view name = option->keyword;
        if (name == "service") {
            return Error{
                "service= is not read, for its file may name hosts that nobody has looked up: the "
                "parameters stand here"};
        }
        if (name == "host") {
            hosts = split(option->val);
        } else if (name == "hostaddr") {
            addresses = split(option->val);
        } else if (name == "port") {
            ports = split(option->val);
        } else {
            target.parameters.emplace_back(name, option->val);
        }
    }
    const std::size_t count = std::max({hosts.size(), addresses.size(), std::size_t{1}});
    if (!hosts.empty() && !addresses.empty() && hosts.size() != addresses.size())
        return Error{"it has another number of hosts than of hostaddr"};
    if (ports.size() > 1 && ports.size() != count)
        return Error{"it has another number of ports than of hosts: one for all, or one for each"};
    for (std::size_t i = 0; i < count; ++i) {
        PgTarget::Server server;
        if (!hosts.empty()) server.host = hosts[i];
        if (!addresses.empty()) server.address = addresses[i];
        if (!ports.empty()) server.port = ports[ports.size() == 1 ? 0 : i];
        if (server.address.empty() && !sockaddr_of(server.host, 1).empty()) server.address = server.host;
        if (auto fault = check(server)) return *fault;
        target.servers.push_back(std::move(server));
    }
    return target;
}

}  // namespace rooms

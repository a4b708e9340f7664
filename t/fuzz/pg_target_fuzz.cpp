// What rooms_postgres may say. What is accepted leaves no name to be looked up inside the event loop, and no
// password comes to light, neither in what is shown nor in an error.
#include "store/pg_target.hpp"

#include <algorithm>
#include <string>

#include "store/reactor.hpp"

#include "fuzz/split.hpp"

using namespace rooms;

namespace {

constexpr std::string_view kPassword = "n0b0dy-is-sh0wn-this";

bool shows_password(std::string_view text) { return text.find(kPassword) != text.npos; }

void check(const PgTarget::Server& server) {
    const bool socket = server.host.starts_with('/') || server.host.starts_with('@');
    const bool named = server.needs_address();
    FUZZ_CHECK(named == (server.address.empty() && !server.host.empty() && !socket));
    FUZZ_CHECK(server.address.empty() || !sockaddr_of(server.address, 1).empty());
    if (named) FUZZ_CHECK(server.host.find_first_of("/:@,% \t\n'\\") == server.host.npos);
    if (!server.port.empty()) {
        const int port = std::stoi(server.port);
        FUZZ_CHECK(port >= 1 && port <= 65535);
    }
    FUZZ_CHECK(!server.text().empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string conninfo(reinterpret_cast<const char*>(data), size);
    if (shows_password(conninfo)) return 0;
    const auto target = parse_pg_conninfo(conninfo);
    if (!target) FUZZ_CHECK(!target.error().message.empty());
    if (target) {
        FUZZ_CHECK(!target->servers.empty());
        for (const PgTarget::Server& server : target->servers) check(server);
        for (const auto* name : {"host", "hostaddr", "port", "service"})
            FUZZ_CHECK(target->parameter(name).empty());
        const std::string shown = target->text();
        FUZZ_CHECK(static_cast<std::size_t>(std::count(shown.begin(), shown.end(), ',')) >=
                   target->servers.size() - 1);
    }

    // Words may be added before others.
    const auto secret = parse_pg_conninfo("password=" + std::string(kPassword) + " " + conninfo);
    FUZZ_CHECK(!shows_password(secret ? secret->text() : secret.error().message));
    const bool uri = conninfo.starts_with("postgres");
    if (target && !uri) FUZZ_CHECK(secret && secret->text() == target->text());
    // And a password into a URI.
    const std::size_t at = conninfo.find("://");
    if (!uri || at == conninfo.npos) return 0;
    const auto login =
        parse_pg_conninfo(std::string(conninfo).insert(at + 3, "u:" + std::string(kPassword) + "@"));
    if (login) FUZZ_CHECK(!shows_password(login->text()));
    else FUZZ_CHECK(!shows_password(login.error().message));
    return 0;
}

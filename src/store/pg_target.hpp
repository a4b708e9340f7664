// What `rooms_postgres` names: the servers of one database, and everything else that libpq is told.
//
// Parsed once, when the configuration is read; links copy it. A link connects to addresses and sockets
// only: libpq would look a name up inside the event loop. `parameters` may hold a password.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.hpp"

namespace rooms {

struct PgTarget {
    struct Server {
        std::string host;     // a name, an address, or the directory of a unix socket; empty: libpq's own
        std::string address;  // of a name: found when the configuration is read (hostaddr)
        std::string port;     // empty: libpq's own

        // Where libpq would ask the DNS.
        [[nodiscard]] bool needs_address() const;
        [[nodiscard]] std::string text() const;
    };

    std::vector<Server> servers;  // tried in this order; at least one
    // Of libpq, by its names, without host, hostaddr and port.
    std::vector<std::pair<std::string, std::string>> parameters;

    // Empty: not named.
    [[nodiscard]] std::string_view parameter(std::string_view name) const;
    // For logs and the status page: servers and database, "10.0.0.1:5432,10.0.0.2:5432/app".
    [[nodiscard]] std::string text() const;
};

// `key=value …` or `postgresql://…`, as libpq reads them. Names have no addresses yet. The error never
// quotes a word of it: any part may be one of the password.
[[nodiscard]] Result<PgTarget> parse_pg_conninfo(const std::string& conninfo);

}  // namespace rooms

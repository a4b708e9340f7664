// What `rooms_redis` names: the servers, how they are found, and how to log in.
//
// Parsed once, when the configuration is read; the broker gets a copy. `password` never leaves it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.hpp"
#include "store/reactor.hpp"

namespace rooms {

struct RedisTarget {
    enum class Kind : std::uint8_t { single, sentinel, cluster };

    Kind kind = Kind::single;
    std::vector<Address> servers;  // the server; or the sentinels; or some nodes of the cluster
    std::string master;            // sentinel: the name it is watched under
    bool tls = false;              // of the Redis servers; sentinels too
    std::string user;              // empty: the default user
    std::string password;          // empty: no AUTH
    std::uint32_t db = 0;
    std::string prefix = "rooms";

    // For logs and the status page: without user and password.
    [[nodiscard]] std::string text() const;
};

// `redis://[user[:password]@]host[:port][/db]`, `rediss://…` (TLS), `unix:/path`,
// `sentinel://[user[:password]@]host[:port],…/name`, `cluster://[user[:password]@]host[:port],…`.
// User and password are percent-decoded. Ports default to 6379, sentinels' to 26379. Addresses of names
// are left empty. The error names what is wrong and never quotes the password.
[[nodiscard]] Result<RedisTarget> parse_redis_url(std::string_view url);

// Of keys and channels: 1 to 64 of [A-Za-z0-9_.:-].
[[nodiscard]] bool is_redis_prefix(std::string_view prefix);

}  // namespace rooms

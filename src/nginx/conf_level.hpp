// What one level of the configuration (http, a server, a location) says itself, before it is merged
// with the levels around it.
//
// Exists while the configuration is read; LocationConf has the outcome. Nothing set: inherited, or
// the default. Directives that repeat are inherited as a whole or not at all.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "nginx/conf.hpp"

namespace rooms {

// A pattern as written; compiled once every level and every variable is known.
struct PatternText {
    std::string text;
    Place place;
    // of rooms_allow, as written; at most one of the two
    std::optional<std::string> sql;
    std::optional<std::string> request;
    std::optional<ngx_msec_t> cache;
};

// Of two handlers in a location nginx calls the one that is written last.
inline constexpr char kOtherHandler[] =
    "this location has a handler of another module, for example \"proxy_pass\": give each a location";

struct TokenSource {
    ngx_http_complex_value_t* value = nullptr;
    std::vector<std::string> arguments;  // names of the $arg_… in it
};

struct Level {
    std::optional<Place> endpoint;  // of the handler's directive

    KeySet* keys = nullptr;  // rooms_jwt_key and rooms_jwt_jwks together
    std::optional<TokenSource> token;
    std::optional<std::string> issuer;
    std::optional<std::vector<std::string>> audience;
    std::optional<std::int64_t> leeway_s;
    std::optional<std::int64_t> max_age_s;
    std::optional<std::vector<std::string>> required;
    std::optional<bool> exp_in_ms;
    std::optional<std::string> user_claim;
    std::optional<std::string> rooms_claim;
    std::optional<AuthFailure> auth_failure;

    std::vector<PatternText> allow;
    std::vector<PatternText> joins;
    RoomRules* rules = nullptr;  // both, compiled
    OriginRules* origins = nullptr;
    std::vector<ConnectionLimit>* connection_limits = nullptr;

    std::optional<std::size_t> max_message;
    std::optional<ngx_uint_t> max_rooms;
    std::optional<RateLimit> rate;
    std::optional<std::size_t> send_queue;
    std::optional<Heartbeat> heartbeat;
    std::optional<Compression> compression;
    std::optional<ngx_msec_t> drain;
    std::optional<AccessLog> access_log;
};

// Compiles the patterns of a level, which has none compiled yet. NGX_CONF_OK, or the fault is logged
// with the pattern's own place.
char* compile_rules(ngx_conf_t* cf, Level& level);
// After everything has been read: the variables that our directives use exist, and $rooms_claim_…
// is nowhere written with upper-case letters. The fault is logged.
[[nodiscard]] bool check_variables(ngx_conf_t* cf, const MainConf& main);

}  // namespace rooms

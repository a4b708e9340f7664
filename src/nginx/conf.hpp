// What the operator wrote, ready to be used: the module's configuration at http and location level.
//
// Built and merged by conf.cpp (docs/directives.md is the reference). The objects live in the cycle's
// pool and never change after the configuration has been read; a worker keeps pointers into them only
// through the connections and requests that it serves.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/history.hpp"
#include "core/key_set.hpp"
#include "core/lookup_text.hpp"
#include "core/rate.hpp"
#include "core/rules.hpp"
#include "core/session.hpp"
#include "core/token.hpp"
#include "nginx/backend_access.hpp"
#include "nginx/ngx.hpp"
#include "nginx/origin_rules.hpp"
#include "store/pg_target.hpp"
#include "store/approval_times.hpp"
#include "store/redis_target.hpp"

namespace rooms {

struct Level;

enum class Endpoint : std::uint8_t { none, socket, echo, publish, approvals, status };
enum class AuthFailure : std::uint8_t { close, http };
enum class AccessLog : std::uint8_t { end, upgrade };

// Where something was written, for faults that are found only when everything has been read.
struct Place {
    std::string file;
    ngx_uint_t line = 0;
};

// `rooms_claim $var NAME …`.
struct ClaimVariable {
    std::string name;               // of the variable, in lower case, without $
    std::vector<std::string> path;  // of the claim
};

// A variable of nginx which one of our directives reads.
struct UsedVariable {
    std::string name;  // in lower case, without $
    const char* directive;
    Place place;
};

// `sql=…` or `request=…` behind a pattern of rooms_allow.
struct LookupRule {
    enum class Kind : std::uint8_t { sql, request };
    Kind kind = Kind::sql;
    LookupText text;
    std::string name;  // of the prepared statement
    std::string sql;   // with $1, $2 …
    ngx_msec_t cache = 30000;
};

// `rooms_approvals postgres|redis …`.
struct ApprovalsConf {
    enum class Store : std::uint8_t { postgres, redis };
    Store store = Store::postgres;
    ApprovalTimes times;
    Place place;
};

struct MainConf {
    ngx_str_t zone_name = ngx_null_string;
    std::size_t zone_size = 0;
    ngx_shm_zone_t* zone = nullptr;      // set once any location of ours exists
    std::unique_ptr<RedisTarget> redis;  // null: the rooms are those of this host
    std::unique_ptr<PgTarget> postgres;  // null: there is no database
    ngx_ssl_t* redis_ssl = nullptr;      // set where redis->tls is
    std::optional<ApprovalsConf> approvals;
    bool outbox = true;                       // where there is a database
    std::optional<Place> approvals_endpoint;  // of the first rooms_approvals_api
    std::optional<Place> outbox_place;        // of rooms_outbox; nothing: not written
    HistoryRules history;
    std::vector<std::string> history_patterns;  // as written, against repeats
    std::optional<Place> sql_rule;              // of a rooms_allow with sql=
    std::vector<const LookupRule*> sql_rules;   // of all levels
    bool request_rules = false;                 // some rooms_allow has request=
    std::vector<std::unique_ptr<ClaimVariable>> claims;
    std::vector<UsedVariable> used_variables;
    std::vector<std::string> token_arguments;       // lower case: $arg_… that carry tokens, and "token"
    std::vector<std::string> token_headers;         // as in $http_…: lower case, `-` is `_`
    std::vector<std::string> token_cookies;         // lower case
    std::vector<ngx_http_core_loc_conf_t*> levels;  // servers, locations, if{}: each may have an error log
    bool used = false;                              // some location has a handler of ours
    bool reads_tokens = false;                      // some location has a handler or keys of ours
};

// `rooms_allow` and `rooms_join` of a location, compiled. RuleSet and Pattern speak of values by index:
// claim i is the claim at claim_paths[i] of the newest token, captured i is captured[i] at the handshake.
struct RoomRules {
    RuleSet allow;
    std::vector<std::unique_ptr<LookupRule>> lookups;  // by rule; null: the pattern decides
    std::vector<Pattern> joins;
    std::vector<std::vector<std::string>> claim_paths;
    std::vector<ngx_int_t> captured;  // indices of nginx variables
};

// `rooms_max_connections N [per=$variable]`.
struct ConnectionLimit {
    std::uint32_t max = 0;
    ngx_int_t variable = NGX_ERROR;  // NGX_ERROR: counts every connection of the location's limit
    std::uint64_t id = 0;            // hash of the directive's text: equal limits count together
};

struct Heartbeat {
    ngx_msec_t interval = 30000;
    ngx_msec_t timeout = 10000;
};

struct Compression {
    bool on = false;
    std::size_t min = 256;
    int level = 1;
};

// Everything is set, by default or by inheritance, once the configuration has been read.
struct LocationConf {
    Endpoint endpoint = Endpoint::none;
    BackendAccess* access = nullptr;  // publish, approvals, status

    // tokens; keys is null where no level has any: never so where endpoint is socket
    KeySet* keys = nullptr;
    TokenRules token;
    ngx_http_complex_value_t* token_value = nullptr;  // rooms_jwt_token; null: the three default places
    const std::vector<std::string>* token_arguments = nullptr;  // read by it; null: "token"
    AuthFailure auth_failure = AuthFailure::close;

    RoomRules* rules = nullptr;                  // null: no level has any, everything is closed
    ngx_http_core_srv_conf_t* server = nullptr;  // that the location is in
    OriginRules* origins = nullptr;              // null: the default rule of OriginRules
    std::vector<ConnectionLimit>* connection_limits = nullptr;  // null: none

    WireLimits wire;
    ngx_uint_t max_rooms = 128;
    RateLimit rate;
    std::size_t send_queue = 1 << 20;
    Heartbeat heartbeat;
    Compression compression;
    ngx_msec_t drain = 3000;
    AccessLog access_log = AccessLog::end;

    ngx_http_handler_pt handler = nullptr;  // of the endpoint, for if{} below
    Level* level = nullptr;                 // what was written here, and inherited; for the merge only
};

[[nodiscard]] MainConf* main_conf(ngx_http_request_t* r);
// Null where the configuration has no http{}, or it has none of ours.
[[nodiscard]] MainConf* main_conf(ngx_cycle_t* cycle);
// What the present configuration keeps of a room. REQUIRES: it has some of ours.
[[nodiscard]] HistoryLimits history_of(std::string_view room);
[[nodiscard]] LocationConf* location_conf(ngx_http_request_t* r);

// The directives, for the module's definition.
extern ngx_command_t kCommands[];
extern ngx_http_module_t kModuleContext;

}  // namespace rooms

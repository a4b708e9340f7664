// What the operator wrote, ready to be used: the module's configuration at http and location level.
//
// Built and merged by conf.cpp (docs/directives.md is the reference). The objects live in the cycle's
// pool and never change after the configuration has been read; a worker keeps pointers into them only
// through the connections and requests that it serves.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/history.hpp"
#include "core/key.hpp"
#include "core/rate.hpp"
#include "core/rules.hpp"
#include "core/secret.hpp"
#include "core/session.hpp"
#include "core/token.hpp"
#include "nginx/ngx.hpp"

namespace rooms {

enum class Endpoint : std::uint8_t { none, socket, echo, publish, status };
enum class AuthFailure : std::uint8_t { close, http };
enum class AccessLog : std::uint8_t { end, upgrade };

// `rooms_claim $var NAME …`, and every $rooms_claim_NAME that the configuration mentions.
struct ClaimVariable {
    ngx_str_t name;                 // of the variable, without $
    std::vector<std::string> path;  // of the claim
    ngx_int_t index = NGX_ERROR;    // nginx's index, so that a value can be kept beyond the handshake
};

struct MainConf {
    ngx_str_t zone_name = ngx_null_string;
    std::size_t zone_size = 0;
    ngx_shm_zone_t* zone = nullptr;          // set once any location of ours exists
    HistoryRules history;
    std::vector<std::unique_ptr<ClaimVariable>> claims;
    std::vector<std::string> token_arguments;  // names of $arg_… that carry tokens; "token" is always one
    bool used = false;                       // some location has a handler of ours
};

// `rooms_allow` and `rooms_join` of a location, compiled. RuleSet and Pattern speak of values by index:
// claim i is the claim at claim_paths[i] of the newest token, captured i is captured[i] at the handshake.
struct RoomRules {
    RuleSet allow;
    std::vector<Pattern> joins;
    std::vector<std::vector<std::string>> claim_paths;
    std::vector<ngx_int_t> captured;  // indices of nginx variables
};

// `rooms_origin`. Nothing set: Origin's host and port must be those of Host.
struct OriginRules {
    bool any = false;
    std::vector<std::string> exact;
    std::vector<ngx_regex_t*> patterns;

    // `origin` empty: no such header, which passes.
    [[nodiscard]] bool allows(std::string_view origin, std::string_view host) const;
};

// `rooms_max_connections N [per=$variable]`.
struct ConnectionLimit {
    std::uint32_t max = 0;
    ngx_int_t variable = NGX_ERROR;  // NGX_ERROR: counts every connection of the location's limit
    std::uint64_t id = 0;            // hash of the directive's text: equal limits count together
};

// Who may use a backend's endpoint (`rooms_publish`, `rooms_status`): security.md S57–S59.
struct BackendAccess {
    bool has_secret = false;
    SecretFile secret;
    ngx_array_t* cidrs = nullptr;  // of ngx_cidr_t; null: not given
};

struct Heartbeat {
    ngx_msec_t interval = NGX_CONF_UNSET_MSEC;
    ngx_msec_t timeout = NGX_CONF_UNSET_MSEC;
};

struct Compression {
    ngx_flag_t on = NGX_CONF_UNSET;
    std::size_t min = NGX_CONF_UNSET_SIZE;
    ngx_int_t level = NGX_CONF_UNSET;
};

struct LocationConf {
    Endpoint endpoint = Endpoint::none;
    BackendAccess* access = nullptr;  // publish, status

    // tokens; keys is null where the level has none (the socket endpoint then fails `nginx -t`)
    KeySet* keys = nullptr;
    TokenRules token;
    ngx_http_complex_value_t* token_value = nullptr;  // rooms_jwt_token; null: the three default places
    AuthFailure auth_failure = AuthFailure::close;

    RoomRules* rules = nullptr;
    OriginRules* origins = nullptr;
    std::vector<ConnectionLimit>* connection_limits = nullptr;

    WireLimits wire;
    ngx_uint_t max_rooms = NGX_CONF_UNSET_UINT;
    RateLimit rate;
    std::size_t send_queue = NGX_CONF_UNSET_SIZE;
    Heartbeat heartbeat;
    Compression compression;
    ngx_msec_t drain = NGX_CONF_UNSET_MSEC;
    AccessLog access_log = AccessLog::end;
};

[[nodiscard]] MainConf* main_conf(ngx_http_request_t* r);
[[nodiscard]] LocationConf* location_conf(ngx_http_request_t* r);

// The directives, for the module's definition.
extern ngx_command_t kCommands[];
extern ngx_http_module_t kModuleContext;

}  // namespace rooms

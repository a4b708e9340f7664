// One function for each directive: reads its words into the configuration's level.
//
// They return NGX_CONF_OK, a word for nginx ("is duplicate"), or NGX_CONF_ERROR with the fault logged.
#pragma once

#include "nginx/conf_level.hpp"

namespace rooms {

// conf_endpoints.cpp
char* set_rooms(ngx_conf_t* cf, LocationConf& conf);
char* set_rooms_echo(ngx_conf_t* cf, LocationConf& conf);
char* set_rooms_publish(ngx_conf_t* cf, LocationConf& conf);
char* set_rooms_approvals_api(ngx_conf_t* cf, LocationConf& conf);
char* set_rooms_status(ngx_conf_t* cf, LocationConf& conf);

// conf_tokens.cpp
char* set_jwt_key(ngx_conf_t* cf, Level& level);
char* set_jwt_jwks(ngx_conf_t* cf, Level& level);
char* set_jwt_token(ngx_conf_t* cf, Level& level);
char* set_jwt_issuer(ngx_conf_t* cf, Level& level);
char* set_jwt_audience(ngx_conf_t* cf, Level& level);
char* set_jwt_leeway(ngx_conf_t* cf, Level& level);
char* set_jwt_max_age(ngx_conf_t* cf, Level& level);
char* set_jwt_require(ngx_conf_t* cf, Level& level);
char* set_jwt_exp_unit(ngx_conf_t* cf, Level& level);
char* set_jwt_user_claim(ngx_conf_t* cf, Level& level);
char* set_jwt_rooms_claim(ngx_conf_t* cf, Level& level);
char* set_auth_failure(ngx_conf_t* cf, Level& level);

// conf_rooms.cpp
char* set_zone(ngx_conf_t* cf, MainConf& conf);
char* set_history(ngx_conf_t* cf, MainConf& conf);
char* set_claim(ngx_conf_t* cf, MainConf& conf);
char* set_allow(ngx_conf_t* cf, Level& level);
char* set_join(ngx_conf_t* cf, Level& level);

// conf_redis.cpp
char* set_redis(ngx_conf_t* cf, MainConf& conf);

// conf_postgres.cpp
char* set_postgres(ngx_conf_t* cf, MainConf& conf);
// conf_approvals.cpp
char* set_approvals(ngx_conf_t* cf, MainConf& conf);
char* set_outbox(ngx_conf_t* cf, MainConf& conf);
// Whether what they need is there. False: refused.
bool check_stores(ngx_conf_t* cf, MainConf& conf);

// conf_limits.cpp
char* set_origin(ngx_conf_t* cf, Level& level);
char* set_heartbeat(ngx_conf_t* cf, Level& level);
char* set_max_message(ngx_conf_t* cf, Level& level);
char* set_max_rooms(ngx_conf_t* cf, Level& level);
char* set_rate(ngx_conf_t* cf, Level& level);
char* set_send_queue(ngx_conf_t* cf, Level& level);
char* set_max_connections(ngx_conf_t* cf, Level& level);
char* set_compression(ngx_conf_t* cf, Level& level);
char* set_drain(ngx_conf_t* cf, Level& level);
char* set_access_log(ngx_conf_t* cf, Level& level);

// The index of a request variable (name without $), noted for check_variables. nullopt: no memory,
// or no name.
std::optional<ngx_int_t> use_variable(ngx_conf_t* cf, std::string_view name, const char* directive,
                                      const Place& place);

}  // namespace rooms

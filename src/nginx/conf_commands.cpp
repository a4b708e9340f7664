// The table of directives: where each may stand and who reads it.
//
// docs/directives.md and t/30_directives.t are checked against the names here.
#include "nginx/conf_setters.hpp"
#include "nginx/conf_values.hpp"

namespace rooms {
namespace {

constexpr ngx_uint_t kLocation = NGX_HTTP_LOC_CONF;
constexpr ngx_uint_t kHttp = NGX_HTTP_MAIN_CONF;
constexpr ngx_uint_t kAnyLevel = NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF;

}  // namespace

// clang-format off
ngx_command_t kCommands[] = {
    {ngx_string("rooms"), NGX_CONF_NOARGS | kLocation,
     at_location<set_rooms>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("rooms_echo"), NGX_CONF_NOARGS | kLocation,
     at_location<set_rooms_echo>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("rooms_publish"), NGX_CONF_ANY | kLocation,
     at_location<set_rooms_publish>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("rooms_approvals_api"), NGX_CONF_ANY | kLocation,
     at_location<set_rooms_approvals_api>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("rooms_status"), NGX_CONF_ANY | kLocation,
     at_location<set_rooms_status>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},

    {ngx_string("rooms_zone"), NGX_CONF_TAKE1 | kHttp,
     at_http<set_zone>, NGX_HTTP_MAIN_CONF_OFFSET, 0, nullptr},
    {ngx_string("rooms_redis"), NGX_CONF_1MORE | kHttp,
     at_http<set_redis>, NGX_HTTP_MAIN_CONF_OFFSET, 0, nullptr},
    {ngx_string("rooms_postgres"), NGX_CONF_TAKE1 | kHttp,
     at_http<set_postgres>, NGX_HTTP_MAIN_CONF_OFFSET, 0, nullptr},
    {ngx_string("rooms_approvals"), NGX_CONF_1MORE | kHttp,
     at_http<set_approvals>, NGX_HTTP_MAIN_CONF_OFFSET, 0, nullptr},
    {ngx_string("rooms_outbox"), NGX_CONF_TAKE1 | kHttp,
     at_http<set_outbox>, NGX_HTTP_MAIN_CONF_OFFSET, 0, nullptr},
    {ngx_string("rooms_history"), NGX_CONF_TAKE2 | NGX_CONF_TAKE3 | kHttp,
     at_http<set_history>, NGX_HTTP_MAIN_CONF_OFFSET, 0, nullptr},
    {ngx_string("rooms_claim"), NGX_CONF_2MORE | kHttp,
     at_http<set_claim>, NGX_HTTP_MAIN_CONF_OFFSET, 0, nullptr},

    {ngx_string("rooms_jwt_key"), NGX_CONF_TAKE2 | NGX_CONF_TAKE3 | kAnyLevel,
     at_level<set_jwt_key>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("rooms_jwt_jwks"), NGX_CONF_TAKE1 | kAnyLevel,
     at_level<set_jwt_jwks>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("rooms_jwt_token"), NGX_CONF_TAKE1 | kAnyLevel,
     at_level<set_jwt_token>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("rooms_jwt_issuer"), NGX_CONF_TAKE1 | kAnyLevel,
     at_level<set_jwt_issuer>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("rooms_jwt_audience"), NGX_CONF_1MORE | kAnyLevel,
     at_level<set_jwt_audience>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("rooms_jwt_leeway"), NGX_CONF_TAKE1 | kAnyLevel,
     at_level<set_jwt_leeway>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("rooms_jwt_max_age"), NGX_CONF_TAKE1 | kAnyLevel,
     at_level<set_jwt_max_age>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("rooms_jwt_require"), NGX_CONF_1MORE | kAnyLevel,
     at_level<set_jwt_require>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("rooms_jwt_exp_unit"), NGX_CONF_TAKE1 | kAnyLevel,
     at_level<set_jwt_exp_unit>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("rooms_jwt_user_claim"), NGX_CONF_TAKE1 | kAnyLevel,
     at_level<set_jwt_user_claim>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("rooms_jwt_rooms_claim"), NGX_CONF_TAKE1 | kAnyLevel,
     at_level<set_jwt_rooms_claim>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("rooms_auth_failure"), NGX_CONF_TAKE1 | kAnyLevel,
     at_level<set_auth_failure>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},

    {ngx_string("rooms_allow"), NGX_CONF_1MORE | kAnyLevel,
     at_level<set_allow>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("rooms_join"), NGX_CONF_TAKE1 | kAnyLevel,
     at_level<set_join>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("rooms_origin"), NGX_CONF_1MORE | kAnyLevel,
     at_level<set_origin>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},

    {ngx_string("rooms_heartbeat"), NGX_CONF_TAKE1 | NGX_CONF_TAKE2 | kAnyLevel,
     at_level<set_heartbeat>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("rooms_max_message"), NGX_CONF_TAKE1 | kAnyLevel,
     at_level<set_max_message>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("rooms_max_rooms"), NGX_CONF_TAKE1 | kAnyLevel,
     at_level<set_max_rooms>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("rooms_rate"), NGX_CONF_TAKE1 | kAnyLevel,
     at_level<set_rate>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("rooms_send_queue"), NGX_CONF_TAKE1 | kAnyLevel,
     at_level<set_send_queue>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("rooms_max_connections"), NGX_CONF_TAKE1 | NGX_CONF_TAKE2 | kAnyLevel,
     at_level<set_max_connections>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("rooms_compression"), NGX_CONF_TAKE1 | NGX_CONF_TAKE2 | NGX_CONF_TAKE3 | kAnyLevel,
     at_level<set_compression>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("rooms_drain"), NGX_CONF_TAKE1 | kAnyLevel,
     at_level<set_drain>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("rooms_access_log"), NGX_CONF_TAKE1 | kAnyLevel,
     at_level<set_access_log>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},

    ngx_null_command,
};
// clang-format on

}  // namespace rooms

// Made, inherited and settled: the life of the module's configuration while nginx reads its own.
#include "nginx/conf.hpp"

#include <algorithm>

#include "nginx/conf_level.hpp"
#include "nginx/conf_setters.hpp"
#include "nginx/conf_values.hpp"
#include "nginx/inner_request.hpp"
#include "nginx/pool.hpp"
#include "nginx/request_state.hpp"
#include "nginx/zone_broker.hpp"

namespace rooms {
namespace {

constexpr std::size_t kDefaultZone = 32 << 20;
constexpr std::size_t kDefaultMessage = 64 * 1024;
constexpr std::uint32_t kFragments = 128;        // of a message, up to the default size
constexpr std::size_t kOctetsPerFragment = 256;  // and where longer ones are allowed

void* create_main_conf(ngx_conf_t* cf) { return make_in_pool<MainConf>(cf->pool); }

void* create_location_conf(ngx_conf_t* cf) {
    auto* conf = make_in_pool<LocationConf>(cf->pool);
    if (conf == nullptr) return nullptr;
    conf->level = make_in_pool<Level>(cf->pool);
    return conf->level == nullptr ? nullptr : conf;
}

template <typename T>
void inherit(std::optional<T>& mine, const std::optional<T>& theirs) {
    if (!mine) mine = theirs;
}
template <typename T>
void inherit(T*& mine, T* theirs) {
    if (mine == nullptr) mine = theirs;
}

char* inherit_rules(ngx_conf_t* cf, Level& level, Level& parent) {
    // Only http{} itself comes here without having been a child.
    if (parent.rules == nullptr && !(parent.allow.empty() && parent.joins.empty())) {
        if (char* fault = compile_rules(cf, parent); fault != NGX_CONF_OK) return fault;
    }
    if (level.allow.empty() && level.joins.empty()) {
        level.allow = parent.allow;
        level.joins = parent.joins;
        level.rules = parent.rules;
        return NGX_CONF_OK;
    }
    if (level.allow.empty()) level.allow = parent.allow;
    if (level.joins.empty()) level.joins = parent.joins;
    return compile_rules(cf, level);
}

char* inherit_level(ngx_conf_t* cf, Level& level, Level& parent) {
    inherit(level.keys, parent.keys);
    inherit(level.token, parent.token);
    inherit(level.issuer, parent.issuer);
    inherit(level.audience, parent.audience);
    inherit(level.leeway_s, parent.leeway_s);
    inherit(level.max_age_s, parent.max_age_s);
    inherit(level.required, parent.required);
    inherit(level.exp_in_ms, parent.exp_in_ms);
    inherit(level.user_claim, parent.user_claim);
    inherit(level.rooms_claim, parent.rooms_claim);
    inherit(level.auth_failure, parent.auth_failure);
    inherit(level.origins, parent.origins);
    inherit(level.connection_limits, parent.connection_limits);
    inherit(level.max_message, parent.max_message);
    inherit(level.max_rooms, parent.max_rooms);
    inherit(level.rate, parent.rate);
    inherit(level.send_queue, parent.send_queue);
    inherit(level.heartbeat, parent.heartbeat);
    inherit(level.compression, parent.compression);
    inherit(level.drain, parent.drain);
    inherit(level.access_log, parent.access_log);
    return inherit_rules(cf, level, parent);
}

template <typename T>
void settle(T& value, const std::optional<T>& written) {
    if (written) value = *written;
}

// What nothing was written for keeps the default that LocationConf was made with.
void settle(LocationConf& conf, const Level& level) {
    conf.keys = level.keys;
    if (level.token) {
        conf.token_value = level.token->value;
        conf.token_arguments = &level.token->arguments;
    }
    settle(conf.token.issuer, level.issuer);
    settle(conf.token.audience, level.audience);
    settle(conf.token.leeway_s, level.leeway_s);
    settle(conf.token.max_age_s, level.max_age_s);
    settle(conf.token.required_claims, level.required);
    settle(conf.token.exp_in_ms, level.exp_in_ms);
    settle(conf.token.user_claim, level.user_claim);
    settle(conf.token.rooms_claim, level.rooms_claim);
    settle(conf.auth_failure, level.auth_failure);
    conf.rules = level.rules;
    conf.origins = level.origins;
    conf.connection_limits = level.connection_limits;
    settle(conf.wire.max_message, level.max_message);
    conf.wire.max_fragments = kFragments;
    if (conf.wire.max_message > kDefaultMessage) {
        conf.wire.max_fragments = static_cast<std::uint32_t>(conf.wire.max_message / kOctetsPerFragment);
    }
    settle(conf.max_rooms, level.max_rooms);
    settle(conf.rate, level.rate);
    settle(conf.send_queue, level.send_queue);
    settle(conf.heartbeat, level.heartbeat);
    settle(conf.compression, level.compression);
    settle(conf.drain, level.drain);
    settle(conf.access_log, level.access_log);
}

const char* directive_of(Endpoint endpoint) {
    switch (endpoint) {
        case Endpoint::echo: return "rooms_echo";
        case Endpoint::publish: return "rooms_publish";
        case Endpoint::approvals: return "rooms_approvals_api";
        case Endpoint::status: return "rooms_status";
        default: return "rooms";
    }
}

char* merge(ngx_conf_t* cf, LocationConf& parent, LocationConf& conf) {
    auto* main = static_cast<MainConf*>(ngx_http_conf_get_module_main_conf(cf, ngx_http_rooms_module));
    // nginx sets the context to the level that is being merged, its core's part is merged already.
    auto* core =
        static_cast<ngx_http_core_loc_conf_t*>(ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module));
    main->levels.push_back(core);
    conf.server =
        static_cast<ngx_http_core_srv_conf_t*>(ngx_http_conf_get_module_srv_conf(cf, ngx_http_core_module));

    if (conf.endpoint != Endpoint::none && core->handler != conf.handler) {
        return refuse_at(cf, *conf.level->endpoint, directive_of(conf.endpoint), kOtherHandler);
    }
    // if{} and limit_except{} are locations of their own: without this they would lose the handler.
    if (core->noname && conf.endpoint == Endpoint::none && core->handler == nullptr &&
        parent.endpoint != Endpoint::none) {
        conf.endpoint = parent.endpoint;
        conf.access = parent.access;
        conf.level->endpoint = parent.level->endpoint;
        conf.handler = core->handler = parent.handler;
    }
    if (char* fault = inherit_level(cf, *conf.level, *parent.level); fault != NGX_CONF_OK) return fault;
    settle(conf, *conf.level);

    if (conf.endpoint == Endpoint::socket && conf.keys == nullptr) {
        return refuse_at(
            cf, *conf.level->endpoint, "rooms",
            "nobody could connect without a \"rooms_jwt_key ALG FILE;\" or a \"rooms_jwt_jwks FILE;\"");
    }
    if (conf.endpoint == Endpoint::approvals && !main->approvals_endpoint)
        main->approvals_endpoint = conf.level->endpoint;
    main->used = main->used || conf.endpoint != Endpoint::none;
    main->reads_tokens = main->reads_tokens || main->used || conf.keys != nullptr;
    return NGX_CONF_OK;
}

char* merge_location_conf(ngx_conf_t* cf, void* parent, void* child) {
    return guarded(cf->log, conf_error(), [&] {
        return merge(cf, *static_cast<LocationConf*>(parent), *static_cast<LocationConf*>(child));
    });
}

// Before all others in the array.
bool add_first(ngx_array_t& handlers, ngx_http_handler_pt handler) {
    if (ngx_array_push(&handlers) == nullptr) return false;
    auto* list = static_cast<ngx_http_handler_pt*>(handlers.elts);
    std::move_backward(list, list + handlers.nelts - 1, list + handlers.nelts);
    list[0] = handler;
    return true;
}

ngx_int_t add_zone(ngx_conf_t* cf, MainConf& main) {
    if (main.zone_size == 0) {
        ngx_str_set(&main.zone_name, "rooms");
        main.zone_size = kDefaultZone;
    }
    main.zone = ngx_shared_memory_add(cf, &main.zone_name, main.zone_size, &ngx_http_rooms_module);
    if (main.zone == nullptr) return NGX_ERROR;
    main.zone->init = init_zone;
    return NGX_OK;
}

ngx_int_t preconfiguration(ngx_conf_t* cf) { return add_variables(cf); }

ngx_int_t postconfiguration(ngx_conf_t* cf) {
    return guarded(cf->log, ngx_int_t{NGX_ERROR}, [&]() -> ngx_int_t {
        auto* main = static_cast<MainConf*>(ngx_http_conf_get_module_main_conf(cf, ngx_http_rooms_module));
        auto* core = static_cast<ngx_http_core_main_conf_t*>(
            ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module));
        if (!check_variables(cf, *main) || !check_stores(cf, *main)) return NGX_ERROR;
        // Approvals end, and rows are published, also where no location is ours.
        main->used = main->used || main->approvals || (main->postgres != nullptr && main->outbox);
        main->reads_tokens = main->reads_tokens || main->used;
        if (!main->reads_tokens) return NGX_OK;
        main->token_arguments.emplace_back("token");
        std::sort(main->token_arguments.begin(), main->token_arguments.end());
        main->token_arguments.erase(std::unique(main->token_arguments.begin(), main->token_arguments.end()),
                                    main->token_arguments.end());
        if (main->used && add_zone(cf, *main) != NGX_OK) return NGX_ERROR;
        if (main->request_rules) {
            auto* inner = static_cast<ngx_http_handler_pt*>(
                ngx_array_push(&core->phases[NGX_HTTP_SERVER_REWRITE_PHASE].handlers));
            if (inner == nullptr) return NGX_ERROR;
            *inner = admit_inner_request;
        }
        // nginx walks the rewrite phase from the end of the array: the first handler there comes after
        // `set` and `if`, whose variables rooms_jwt_token may use. The log phase it walks from the
        // beginning: the first comes before the access log.
        if (!add_first(core->phases[NGX_HTTP_REWRITE_PHASE].handlers, take_token)) return NGX_ERROR;
        if (!add_first(core->phases[NGX_HTTP_LOG_PHASE].handlers, scrub_token)) return NGX_ERROR;
        auto* last =
            static_cast<ngx_http_handler_pt*>(ngx_array_push(&core->phases[NGX_HTTP_LOG_PHASE].handlers));
        if (last == nullptr) return NGX_ERROR;
        *last = restore_token;
        return NGX_OK;
    });
}

}  // namespace

MainConf* main_conf(ngx_http_request_t* r) {
    return static_cast<MainConf*>(ngx_http_get_module_main_conf(r, ngx_http_rooms_module));
}

MainConf* main_conf(ngx_cycle_t* cycle) {
    if (ngx_get_conf(cycle->conf_ctx, ngx_http_module) == nullptr) return nullptr;
    return static_cast<MainConf*>(ngx_http_cycle_get_module_main_conf(cycle, ngx_http_rooms_module));
}

HistoryLimits history_of(std::string_view room) {
    return main_conf(const_cast<ngx_cycle_t*>(ngx_cycle))->history.limits_for(room);
}

LocationConf* location_conf(ngx_http_request_t* r) {
    return static_cast<LocationConf*>(ngx_http_get_module_loc_conf(r, ngx_http_rooms_module));
}

ngx_http_module_t kModuleContext = {
    preconfiguration,
    postconfiguration,
    create_main_conf,
    nullptr,  // init main
    nullptr,  // create server
    nullptr,  // merge server
    create_location_conf,
    merge_location_conf,
};

}  // namespace rooms

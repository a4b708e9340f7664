// The five handlers that a location can have, and who may use those for backends.
#include "nginx/approvals_api.hpp"
#include "nginx/conf_file.hpp"
#include "nginx/conf_setters.hpp"
#include "nginx/conf_values.hpp"
#include "nginx/pool.hpp"
#include "nginx/publish.hpp"
#include "nginx/status.hpp"
#include "nginx/upgrade.hpp"

namespace rooms {
namespace {

constexpr std::size_t kMaxSecretFile = 4096;
constexpr char kAccessForm[] = "it takes \"secret=FILE\" and \"from=ADDRESS[/MASK]\" or \"from=unix:\"";

char* set_endpoint(ngx_conf_t* cf, LocationConf& conf, Endpoint endpoint, ngx_http_handler_pt handler) {
    if (conf.endpoint == endpoint) return duplicate();
    if (conf.endpoint != Endpoint::none)
        return refuse(cf, "this location has another handler of rooms already");
    auto* core =
        static_cast<ngx_http_core_loc_conf_t*>(ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module));
    if (core->handler != nullptr) return refuse(cf, kOtherHandler);
    conf.endpoint = endpoint;
    conf.level->endpoint = place_of(cf);
    conf.handler = core->handler = handler;
    return NGX_CONF_OK;
}

char* add_secret(ngx_conf_t* cf, std::string_view name, BackendAccess& access) {
    if (access.secret) return refuse(cf, "\"secret=\" is duplicate: two secrets are two lines of one file");
    const auto file = ConfFile::read(cf, name, kMaxSecretFile);
    if (!file) return refuse(cf, "\"secret=\" " + file.error().message);
    auto secret = SecretFile::parse(file->text());
    if (!secret) return refuse(cf, "\"" + file->path() + "\": " + secret.error().message);
    file->warn_if_readable(cf);
    access.secret = *secret;
    return NGX_CONF_OK;
}

char* add_from(ngx_conf_t* cf, std::string_view whole, std::string_view text, BackendAccess& access) {
    ngx_cidr_t cidr;
    ngx_memzero(&cidr, sizeof cidr);
    if (text == "unix:") {
        cidr.family = AF_UNIX;
    } else {
        ngx_str_t value = ngx_view(text);
        const ngx_int_t rc = ngx_ptocidr(&value, &cidr);
        if (rc == NGX_ERROR) {
            return refuse_value(cf, whole,
                                "an address or a network, for example from=10.0.0.0/8, or from=unix:");
        }
        if (rc == NGX_DONE) {
            ngx_conf_log_error(NGX_LOG_WARN, cf, 0, "\"%V\": low address bits of \"%V\" are meaningless",
                               cf->args->elts, &value);
        }
    }
    if (access.from == nullptr) access.from = ngx_array_create(cf->pool, 4, sizeof(ngx_cidr_t));
    auto* slot = access.from == nullptr ? nullptr : static_cast<ngx_cidr_t*>(ngx_array_push(access.from));
    if (slot == nullptr) return conf_error();
    *slot = cidr;
    return NGX_CONF_OK;
}

char* set_backend(ngx_conf_t* cf, LocationConf& conf, Endpoint endpoint, ngx_http_handler_pt handler,
                  const char* directive) {
    if (char* fault = set_endpoint(cf, conf, endpoint, handler); fault != NGX_CONF_OK) return fault;
    conf.access = make_in_pool<BackendAccess>(cf->pool);
    if (conf.access == nullptr) return conf_error();
    conf.access->directive = directive;
    for (std::size_t i = 1; i < word_count(cf); ++i) {
        char* done = NGX_CONF_OK;
        if (const auto file = parameter(word(cf, i), "secret=")) {
            done = add_secret(cf, *file, *conf.access);
        } else if (const auto address = parameter(word(cf, i), "from=")) {
            done = add_from(cf, word(cf, i), *address, *conf.access);
        } else {
            done = refuse_value(cf, word(cf, i), kAccessForm);
        }
        if (done != NGX_CONF_OK) return done;
    }
    return NGX_CONF_OK;
}

}  // namespace

char* set_rooms(ngx_conf_t* cf, LocationConf& conf) {
    return set_endpoint(cf, conf, Endpoint::socket, socket_handler);
}

char* set_rooms_echo(ngx_conf_t* cf, LocationConf& conf) {
    return set_endpoint(cf, conf, Endpoint::echo, echo_handler);
}

char* set_rooms_publish(ngx_conf_t* cf, LocationConf& conf) {
    return set_backend(cf, conf, Endpoint::publish, publish_handler, "rooms_publish");
}

char* set_rooms_approvals_api(ngx_conf_t* cf, LocationConf& conf) {
    const auto* core =
        static_cast<ngx_http_core_loc_conf_t*>(ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module));
    bool plain = !core->named && !core->exact_match;
#if (NGX_PCRE)
    plain = plain && core->regex == nullptr;
#endif
    if (!plain)
        return refuse(cf, "its location must be a prefix, for approvals live below it: location /approvals");
    return set_backend(cf, conf, Endpoint::approvals, approvals_handler, "rooms_approvals_api");
}

char* set_rooms_status(ngx_conf_t* cf, LocationConf& conf) {
    return set_backend(cf, conf, Endpoint::status, status_handler, "rooms_status");
}

}  // namespace rooms

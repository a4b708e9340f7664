// The directives rooms_approvals and rooms_outbox: where approvals are kept, how long they may wait.
#include <algorithm>

#include "nginx/conf_setters.hpp"
#include "nginx/conf_values.hpp"

namespace rooms {
namespace {

constexpr char kTimeForm[] = "a time, for example ";

char* read_time(ngx_conf_t* cf, std::string_view whole, std::string_view text, const char* example,
                std::uint64_t& out) {
    const auto ms = parse_ms(text);
    if (!ms || *ms == 0) return refuse_value(cf, whole, kTimeForm + std::string(example));
    out = *ms;
    return NGX_CONF_OK;
}

// "60s", "5m,60s", "off"
char* read_warnings(ngx_conf_t* cf, std::string_view whole, std::string_view text,
                    std::vector<std::uint64_t>& out) {
    out.clear();
    if (text == "off") return NGX_CONF_OK;
    for (bool last = false; !last;) {
        const std::size_t comma = text.find(',');
        last = comma == text.npos;
        std::uint64_t ms = 0;
        char* done = read_time(cf, whole, text.substr(0, comma),
                               "warn=60s, times, for example warn=5m,60s, or warn=off", ms);
        if (done != NGX_CONF_OK) return done;
        out.push_back(ms);
        if (!last) text.remove_prefix(comma + 1);
    }
    return NGX_CONF_OK;
}

char* read_parameter(ngx_conf_t* cf, std::string_view whole, ApprovalTimes& times) {
    if (const auto text = parameter(whole, "timeout="))
        return read_time(cf, whole, *text, "timeout=15m", times.timeout_ms);
    if (const auto text = parameter(whole, "warn=")) return read_warnings(cf, whole, *text, times.warn_ms);
    if (const auto text = parameter(whole, "max="))
        return read_time(cf, whole, *text, "max=24h", times.max_ms);
    return refuse_value(cf, whole, "behind the store come only timeout=TIME, warn=TIME and max=TIME");
}

}  // namespace

char* set_approvals(ngx_conf_t* cf, MainConf& conf) {
    if (conf.approvals) return duplicate();
    ApprovalsConf& approvals = conf.approvals.emplace();
    approvals.place = place_of(cf);
    if (word(cf, 1) == "postgres") {
        approvals.store = ApprovalsConf::Store::postgres;
    } else if (word(cf, 1) == "redis") {
        approvals.store = ApprovalsConf::Store::redis;
    } else {
        return refuse_value(cf, word(cf, 1), "\"postgres\" or \"redis\"");
    }
    for (std::size_t i = 2; i < word_count(cf); ++i) {
        for (std::size_t n = 2; n < i; ++n) {
            const std::string_view name = word(cf, i).substr(0, word(cf, i).find('='));
            if (word(cf, n).substr(0, word(cf, n).find('=')) == name)
                return refuse(cf, "\"" + std::string(name) + "=\" is duplicate");
        }
        if (char* fault = read_parameter(cf, word(cf, i), approvals.times); fault != NGX_CONF_OK)
            return fault;
    }
    if (approvals.times.timeout_ms > approvals.times.max_ms)
        return refuse(cf, "\"timeout=\" must not be longer than \"max=\"");
    return NGX_CONF_OK;
}

char* set_outbox(ngx_conf_t* cf, MainConf& conf) {
    if (conf.outbox_place) return duplicate();
    if (word(cf, 1) != "on" && word(cf, 1) != "off")
        return refuse_value(cf, word(cf, 1), "\"on\" or \"off\"");
    conf.outbox_place = place_of(cf);
    conf.outbox = word(cf, 1) == "on";
    return NGX_CONF_OK;
}

bool check_stores(ngx_conf_t* cf, MainConf& conf) {
    if (conf.approvals_endpoint && !conf.approvals) {
        refuse_at(cf, *conf.approvals_endpoint, "rooms_approvals_api",
                  "it needs a \"rooms_approvals postgres;\" or \"redis;\" in http{}");
        return false;
    }
    if (conf.approvals) {
        const bool in_postgres = conf.approvals->store == ApprovalsConf::Store::postgres;
        if (in_postgres ? conf.postgres == nullptr : conf.redis == nullptr) {
            refuse_at(
                cf, conf.approvals->place, "rooms_approvals",
                in_postgres ? "it needs a \"rooms_postgres CONNINFO;\"" : "it needs a \"rooms_redis URL;\"");
            return false;
        }
        if (in_postgres && conf.outbox_place && !conf.outbox) {
            refuse_at(cf, *conf.outbox_place, "rooms_outbox",
                      "approvals in Postgres tell pages through the outbox: it must be \"on\"");
            return false;
        }
    }
    if (conf.sql_rule && conf.postgres == nullptr) {
        refuse_at(cf, *conf.sql_rule, "rooms_allow",
                  "\"sql=\" needs a \"rooms_postgres CONNINFO;\" in http{}");
        return false;
    }
    if (conf.outbox_place && conf.outbox && conf.postgres == nullptr) {
        refuse_at(cf, *conf.outbox_place, "rooms_outbox", "it needs a \"rooms_postgres CONNINFO;\"");
        return false;
    }
    return true;
}

}  // namespace rooms

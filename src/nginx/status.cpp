#include "nginx/status.hpp"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "core/ascii.hpp"
#include "core/reply.hpp"
#include "nginx/backend_access.hpp"
#include "nginx/conf.hpp"
#include "nginx/guard.hpp"
#include "nginx/headers.hpp"
#include "nginx/http_answer.hpp"
#include "nginx/status_report.hpp"
#include "nginx/worker.hpp"

namespace rooms {
namespace {

constexpr std::string_view kMetricsType = "text/plain; version=0.0.4; charset=utf-8";
constexpr std::size_t kMaxListedRooms = 100000;

struct Query {
    bool health = false;
    bool rooms = false;
    std::string_view format;  // empty: Accept decides
};

// `?health` as well as `?health=1`; nginx's own $arg_health needs the equals sign.
Query query_of(ngx_http_request_t* r) {
    Query query;
    std::string_view rest = view(r->args);
    while (!rest.empty()) {
        const std::size_t end = rest.find('&');
        const std::string_view argument = rest.substr(0, end);
        rest = end == rest.npos ? std::string_view() : rest.substr(end + 1);
        const std::size_t equals = argument.find('=');
        const std::string_view name = argument.substr(0, equals);
        if (name == "health") query.health = true;
        if (name == "rooms") query.rooms = true;
        if (name == "format" && equals != argument.npos) query.format = argument.substr(equals + 1);
    }
    return query;
}

// The weight of one element of Accept in thousandths (RFC 9110 section 12.4.2); 0 for what is no weight.
unsigned weight_of(std::string_view parameters) {
    unsigned weight = 1000;
    while (!parameters.empty()) {
        const std::size_t end = parameters.find(';');
        const std::string_view parameter = trim_ows(parameters.substr(0, end));
        parameters = end == parameters.npos ? std::string_view() : parameters.substr(end + 1);
        if (parameter.size() < 3 || !equal_caseless(parameter.substr(0, 2), "q=")) continue;
        weight = 0;
        unsigned unit = 1000;
        for (const char c : parameter.substr(2)) {
            if (c == '.') continue;
            if (!is_digit(c)) return 0;
            weight += static_cast<unsigned>(c - '0') * unit;
            unit /= 10;
        }
    }
    return weight;
}

// Only who names text/plain gets it: `*/*` is what curl and browsers send.
bool prefers_text(ngx_http_request_t* r) {
    unsigned text = 0;
    unsigned json = 0;
    for_each_header(r, [&](ngx_table_elt_t& header) {
        if (!equal_caseless(view(header.key), "Accept")) return false;
        std::string_view list = view(header.value);
        while (!list.empty()) {
            const std::string_view element = take_list_element(list);
            const std::size_t semicolon = element.find(';');
            const std::string_view type = trim_ows(element.substr(0, semicolon));
            const unsigned weight =
                semicolon == element.npos ? 1000 : weight_of(element.substr(semicolon + 1));
            if (equal_caseless(type, "text/plain")) text = std::max(text, weight);
            if (equal_caseless(type, kJsonType)) json = std::max(json, weight);
        }
        return false;
    });
    return text > json;
}

std::uint64_t uptime_seconds() {
    const std::uint64_t start = Zone::process_start(ngx_process == NGX_PROCESS_SINGLE ? ngx_pid : ngx_parent);
    const auto per_second = static_cast<std::uint64_t>(sysconf(_SC_CLK_TCK));
    timespec now{};
    if (start == 0 || per_second == 0 || clock_gettime(CLOCK_BOOTTIME, &now) == -1) return 0;
    const auto seconds = static_cast<std::uint64_t>(now.tv_sec);
    return std::max(seconds, start / per_second) - start / per_second;
}

// How long a worker has not known that it hears. The clock is the same in all processes.
std::uint64_t silence(Zone& zone, unsigned slot) {
    const std::uint64_t heard =
        zone.counter(slot, cell(Counter::redis_heard)).load(std::memory_order_relaxed);
    const std::uint64_t now = ngx_current_msec;
    return now > heard ? now - heard : 0;
}

bool refused_by_redis(Zone& zone, unsigned slot) {
    const std::uint64_t since =
        zone.counter(slot, cell(Counter::redis_refused)).load(std::memory_order_relaxed);
    return since != 0 && ngx_current_msec > since + kDeafAfterMs;
}

StatusReport collect(Worker& worker, const MainConf& conf, bool with_rooms) {
    StatusReport report;
    Zone& zone = worker.zone();
    report.uptime_seconds = uptime_seconds();
    report.totals = zone.totals();
    report.zone_name = view(conf.zone->shm.name);
    report.zone = zone.usage(wall_ms());
    for (const ZoneSlotOwner& owner : zone.owners()) {
        const auto gauge = [&](Counter counter) {
            return zone.counter(owner.slot, cell(counter)).load(std::memory_order_relaxed);
        };
        WorkerReport& one = report.workers.emplace_back();
        one.pid = owner.pid;
        one.slot = owner.slot;
        one.generation = gauge(Counter::generation);
        one.connections = gauge(Counter::connections);
        one.rooms = gauge(Counter::rooms);
        one.members = gauge(Counter::members);
        one.draining = gauge(Counter::draining) != 0;
        if (conf.redis != nullptr && !one.draining) {
            one.silent_ms = silence(zone, owner.slot);
            one.refused = refused_by_redis(zone, owner.slot);
        }
    }
    if (conf.redis != nullptr) {
        RedisReport& redis = report.redis.emplace();
        redis.server = conf.redis->text();
        for (const WorkerReport& one : report.workers) {
            if (one.draining) continue;
            ++redis.workers;
            if (one.silent_ms <= kDeafAfterMs) ++redis.hearing;
        }
    }
    if (conf.postgres != nullptr) {
        PostgresReport& postgres = report.postgres.emplace();
        postgres.server = conf.postgres->text();
        for (const WorkerReport& one : report.workers) {
            if (one.draining) continue;
            ++postgres.workers;
            if (zone.counter(one.slot, cell(Counter::postgres_up)).load(std::memory_order_relaxed) != 0)
                ++postgres.connected;
        }
    }
    if (conf.approvals)
        report.approvals = conf.approvals->store == ApprovalsConf::Store::postgres ? "postgres" : "redis";
    if (with_rooms) report.rooms = zone.active_rooms(kMaxListedRooms);
    return report;
}

// Empty: this host can take publications and members.
std::string illness(Worker* worker) {
    if (worker == nullptr) return "this process has no broker";
    // This process has a slot: a zone that counts none could not be locked.
    Zone& zone = worker->zone();
    if (zone.usage(wall_ms()).slots == 0) return "the zone cannot be used: restart nginx";
    return {};
}

// Empty: every worker of this host is served by Redis, and hears what is published.
std::string deafness(Worker& worker, const MainConf& conf) {
    if (conf.redis == nullptr) return {};
    Zone& zone = worker.zone();
    for (const ZoneSlotOwner& owner : zone.owners()) {
        if (zone.counter(owner.slot, cell(Counter::draining)).load(std::memory_order_relaxed) != 0) continue;
        if (refused_by_redis(zone, owner.slot)) {
            return "redis refuses what worker " + std::to_string(owner.pid) + " asks: see the error log";
        }
        const std::uint64_t silent = silence(zone, owner.slot);
        if (silent <= kDeafAfterMs) continue;
        return "worker " + std::to_string(owner.pid) + " has heard nothing through redis for " +
               std::to_string(silent / 1000) + " s";
    }
    return {};
}

ngx_int_t answer_health(ngx_http_request_t* r, std::string_view reason) {
    if (reason.empty()) return answer_json(r, NGX_HTTP_OK, R"({"status":"ok"})");
    std::string json = R"({"status":"unavailable","reason":")";
    json += reason;  // ours: nothing to escape
    json += "\"}";
    return answer_json(r, NGX_HTTP_SERVICE_UNAVAILABLE, json);
}

ngx_int_t show(ngx_http_request_t* r) {
    const Query query = query_of(r);
    if (!add_header(r, "Cache-Control", "no-store")) return NGX_HTTP_INTERNAL_SERVER_ERROR;
    Worker* worker = Worker::get();
    const std::string reason = illness(worker);
    if (query.health) return answer_health(r, reason.empty() ? deafness(*worker, *main_conf(r)) : reason);
    if (!reason.empty()) return answer_error(r, NGX_HTTP_SERVICE_UNAVAILABLE, "unavailable", reason);
    if (!query.format.empty() && query.format != "prometheus" && query.format != "json") {
        return answer_error(r, NGX_HTTP_BAD_REQUEST, "bad_format", "format must be json or prometheus");
    }
    const bool text = query.format.empty() ? prefers_text(r) : query.format == "prometheus";
    const StatusReport report = collect(*worker, *main_conf(r), query.rooms && !text);
    if (text) return answer(r, NGX_HTTP_OK, kMetricsType, encode_status_metrics(report));
    return answer_json(r, NGX_HTTP_OK, encode_status_json(report));
}

}  // namespace

ngx_int_t status_handler(ngx_http_request_t* r) {
    return guarded(r->connection->log, ngx_int_t{NGX_HTTP_INTERNAL_SERVER_ERROR}, [r]() -> ngx_int_t {
        if (r->method != NGX_HTTP_GET && r->method != NGX_HTTP_HEAD)
            return answer_wrong_method(r, "GET, HEAD");
        const ngx_int_t access = check_backend_access(r, *location_conf(r)->access);
        if (access != NGX_OK) return answer_no_access(r, access);
        return show(r);
    });
}

}  // namespace rooms

// The report as JSON. All texts in it are of our own alphabet but the zone's name, which is escaped.
#include "core/json_text.hpp"
#include "nginx/status_report.hpp"
#include "nginx/version.hpp"

namespace rooms {
namespace {

class Writer {
public:
    Writer& open(std::string_view name = {}, char bracket = '{') {
        begin(name);
        out_ += bracket;
        return *this;
    }
    Writer& close(char bracket = '}') {
        out_ += bracket;
        return *this;
    }
    Writer& number(std::string_view name, std::uint64_t value) {
        append_decimal(begin(name), value);
        return *this;
    }
    Writer& text(std::string_view name, std::string_view value) {
        append_json_string(begin(name), value);
        return *this;
    }
    Writer& raw(std::string_view name, std::string_view json) {
        begin(name) += json;
        return *this;
    }
    Writer& share(std::string_view name, std::uint64_t used, std::uint64_t cap) {
        return open(name).number("used", used).number("cap", cap).close();
    }
    [[nodiscard]] std::string take() { return std::move(out_); }

private:
    // Names are ours and need no escaping; elements of lists have none.
    std::string& begin(std::string_view name) {
        if (!out_.empty() && out_.back() != '{' && out_.back() != '[') out_ += ',';
        if (!name.empty()) {
            out_ += '"';
            out_ += name;
            out_ += "\":";
        }
        return out_;
    }

    std::string out_;
};

void put_rooms(Writer& out, const StatusReport& report) {
    out.open("rooms").number("active", report.zone.rooms_active).number("members", report.zone.members);
    if (report.rooms) {
        out.open("list", '[');
        for (const ZoneRoom& room : *report.rooms) {
            out.open().text("id", room.id).number("clients", room.members).close();
        }
        out.close(']');
    }
    out.close();
}

void put_zone(Writer& out, const StatusReport& report) {
    const ZoneUsage& zone = report.zone;
    out.open("zone").text("name", report.zone_name).number("size", zone.size);
    out.open("ring").number("size", zone.ring_size).number("used", zone.ring_used);
    out.number("seconds", static_cast<std::uint64_t>(zone.ring_age_ms) / 1000).close();
    out.share("rooms", zone.rooms, zone.rooms_cap)
        .share("ids", zone.ids, zone.ids_cap)
        .share("users", zone.user_cells, zone.user_cells_cap)
        .share("tallies", zone.tallies, zone.tallies_cap)
        .share("slots", zone.slots, zone.slots_cap)
        .number("recoveries", zone.recoveries)
        .number("mailboxOverflows", report.total(Counter::mailbox_overflows))
        .close();
}

void put_redis(Writer& out, const StatusReport& report) {
    if (!report.redis) {
        out.raw("redis", "null");
        return;
    }
    const RedisReport& redis = *report.redis;
    out.open("redis")
        .text("server", redis.server)
        .raw("up", redis.hearing == redis.workers ? "true" : "false")
        .number("workers", redis.workers)
        .number("hearing", redis.hearing)
        .number("losses", report.total(Counter::redis_losses))
        .number("holes", report.total(Counter::redis_holes))
        .number("resets", report.total(Counter::redis_resets))
        .number("foreign", report.total(Counter::redis_foreign))
        .number("badEvents", report.total(Counter::redis_bad_events))
        .close();
}

void put_postgres(Writer& out, const StatusReport& report) {
    if (!report.postgres) {
        out.raw("postgres", "null");
        return;
    }
    const PostgresReport& postgres = *report.postgres;
    out.open("postgres")
        .text("server", postgres.server)
        .raw("up", postgres.connected == postgres.workers ? "true" : "false")
        .number("workers", postgres.workers)
        .number("connected", postgres.connected)
        .number("losses", report.total(Counter::postgres_losses));
    out.open("outbox")
        .number("published", report.total(Counter::outbox_published))
        .number("refused", report.total(Counter::outbox_refused));
    if (report.approvals == "postgres") {
        out.number("depth", report.total(Counter::outbox_depth))
            .number("oldestMs", report.total(Counter::outbox_age_ms));
    }
    out.close().close();
}

void put_approvals(Writer& out, const StatusReport& report) {
    if (report.approvals.empty()) {
        out.raw("approvals", "null");
        return;
    }
    out.open("approvals")
        .text("store", report.approvals)
        .number("pending", report.total(Counter::approvals_pending));
    for (const ApprovalStatus status : kApprovalEnds)
        out.number(approval_status_text(status), report.totals[cell_of_told(status)]);
    out.number("sweeps", report.total(Counter::sweeps))
        .number("sweepMs", report.total(Counter::sweep_ms))
        .number("latenessMs", report.total(Counter::lateness_ms))
        .close();
}

}  // namespace

std::string encode_status_json(const StatusReport& report) {
    Writer out;
    out.open().text("version", kVersion).number("uptime", report.uptime_seconds);

    out.open("connections").number("active", report.total(Counter::connections));
    out.number("accepted", report.total(Counter::accepted)).open("closed");
    for_each_close(report, [&](const std::string& code, std::uint64_t n) { out.number(code, n); });
    out.close().close();

    put_rooms(out, report);

    out.open("messages")
        .number("published", report.total(Counter::published))
        .number("duplicates", report.total(Counter::duplicates))
        .number("delivered", report.total(Counter::delivered))
        .number("bytes", report.total(Counter::bytes_out))
        .number("received", report.total(Counter::messages_in))
        .number("gaps", report.total(Counter::gaps))
        .close();

    out.open("errors");
    for (const auto& [reason, index] : kErrorReasons) out.number(reason, report.totals[index]);
    out.close();

    put_zone(out, report);
    put_redis(out, report);
    put_postgres(out, report);
    put_approvals(out, report);

    out.open("workers", '[');
    for (const WorkerReport& worker : report.workers) {
        out.open()
            .number("pid", static_cast<std::uint64_t>(worker.pid))
            .number("slot", worker.slot)
            .number("generation", worker.generation)
            .number("connections", worker.connections)
            .number("rooms", worker.rooms)
            .number("members", worker.members)
            .raw("draining", worker.draining ? "true" : "false");
        if (report.redis) {
            out.raw("hearing", worker.silent_ms <= kDeafAfterMs ? "true" : "false");
            out.raw("refused", worker.refused ? "true" : "false");
        }
        out.close();
    }
    return out.close(']').close().take();
}

}  // namespace rooms

// The report in Prometheus' text format 0.0.4. Names end in the unit, counters in _total; values that
// a restart of one worker would reset are summed by the zone and only grow.
#include "core/json_text.hpp"
#include "nginx/status_report.hpp"
#include "nginx/version.hpp"

namespace rooms {
namespace {

// Begins a metric, then writes its samples. Values of labels are ours and need no escaping.
class Metrics {
public:
    Metrics& gauge(std::string_view name, std::string_view help) { return begin(name, "gauge", help); }
    Metrics& counter(std::string_view name, std::string_view help) { return begin(name, "counter", help); }

    Metrics& histogram(std::string_view name, std::string_view help) {
        return begin(name, "histogram", help);
    }
    Metrics& bucket(std::string_view bound, std::uint64_t value) {
        out_ += name_;
        out_ += "_bucket{le=\"";
        out_ += bound;
        out_ += "\"}";
        return finish(value);
    }
    Metrics& part(std::string_view suffix, std::uint64_t value) {
        out_ += name_;
        out_ += suffix;
        return finish(value);
    }

    Metrics& value(std::uint64_t value) {
        out_ += name_;
        return finish(value);
    }
    Metrics& value(std::string_view label, std::string_view text, std::uint64_t value) {
        out_ += name_;
        out_ += '{';
        out_ += label;
        out_ += "=\"";
        out_ += text;
        out_ += "\"}";
        return finish(value);
    }
    [[nodiscard]] std::string take() {
        out_.pop_back();
        return std::move(out_);
    }

private:
    Metrics& begin(std::string_view name, std::string_view type, std::string_view help) {
        name_ = name;
        for (const std::string_view part :
             {std::string_view("# HELP "), name, std::string_view(" "), help, std::string_view("\n# TYPE "),
              name, std::string_view(" "), type, std::string_view("\n")}) {
            out_ += part;
        }
        return *this;
    }
    Metrics& finish(std::uint64_t value) {
        out_ += ' ';
        append_decimal(out_, value);
        out_ += '\n';
        return *this;
    }

    std::string out_;
    std::string_view name_;
};

void put_traffic(Metrics& out, const StatusReport& report) {
    out.gauge("rooms_connections", "Open sockets.").value(report.total(Counter::connections));
    out.counter("rooms_connections_accepted_total", "Sockets opened.").value(report.total(Counter::accepted));
    out.counter("rooms_connections_closed_total", "Sockets closed, by close code.");
    for_each_close(report, [&](const std::string& code, std::uint64_t n) { out.value("code", code, n); });

    out.gauge("rooms_active", "Rooms with members.").value(report.zone.rooms_active);
    out.gauge("rooms_members", "Memberships, summed over rooms.").value(report.zone.members);

    out.counter("rooms_messages_published_total", "Publications taken, repeats not counted.")
        .value(report.total(Counter::published));
    out.counter("rooms_messages_duplicate_total", "Publications that were repeats.")
        .value(report.total(Counter::duplicates));
    out.counter("rooms_messages_delivered_total", "Events given to sockets.")
        .value(report.total(Counter::delivered));
    out.counter("rooms_messages_delivered_bytes_total", "Octets of the events given to sockets.")
        .value(report.total(Counter::bytes_out));
    out.counter("rooms_messages_received_total", "Messages from browsers.")
        .value(report.total(Counter::messages_in));
    out.counter("rooms_gaps_total", "Gaps announced to members.").value(report.total(Counter::gaps));

    out.counter("rooms_errors_total", "What was refused, by reason.");
    for (const auto& [reason, index] : kErrorReasons) out.value("reason", reason, report.totals[index]);
}

void put_zone(Metrics& out, const StatusReport& report) {
    const ZoneUsage& zone = report.zone;
    out.gauge("rooms_zone_size_bytes", "Shared memory.").value(zone.size);
    out.gauge("rooms_zone_ring_size_bytes", "The part of it that keeps events.").value(zone.ring_size);
    out.gauge("rooms_zone_ring_used_bytes", "Of this, in use.").value(zone.ring_used);
    out.gauge("rooms_zone_ring_seconds", "Age of the oldest event kept.")
        .value(static_cast<std::uint64_t>(zone.ring_age_ms) / 1000);
    out.gauge("rooms_zone_rooms", "Rooms known.").value(zone.rooms);
    out.gauge("rooms_zone_rooms_max", "Places for rooms.").value(zone.rooms_cap);
    out.gauge("rooms_zone_ids", "Publication ids that must be remembered.").value(zone.ids);
    out.gauge("rooms_zone_ids_max", "Places for ids.").value(zone.ids_cap);
    out.gauge("rooms_zone_users", "Places taken by ids of users.").value(zone.user_cells);
    out.gauge("rooms_zone_users_max", "Places for ids of users.").value(zone.user_cells_cap);
    out.gauge("rooms_zone_tallies", "Counts of memberships and limits.").value(zone.tallies);
    out.gauge("rooms_zone_tallies_max", "Places for such counts.").value(zone.tallies_cap);
    out.gauge("rooms_zone_slots", "Worker processes.").value(zone.slots);
    out.gauge("rooms_zone_slots_max", "Places for worker processes.").value(zone.slots_cap);
    out.counter("rooms_zone_recoveries_total", "Repairs after a process died in the zone.")
        .value(zone.recoveries);
    out.counter("rooms_zone_mailbox_overflows_total", "Times that a worker had to look for what it missed.")
        .value(report.total(Counter::mailbox_overflows));
}

void put_redis(Metrics& out, const StatusReport& report) {
    if (!report.redis) return;
    out.gauge("rooms_redis_up", "1: every worker hears what is published through Redis.")
        .value(report.redis->hearing == report.redis->workers);
    out.gauge("rooms_redis_workers_hearing", "Workers that do.").value(report.redis->hearing);
    out.counter("rooms_redis_losses_total", "Times that a worker lost a server.")
        .value(report.total(Counter::redis_losses));
    out.counter("rooms_redis_holes_total", "Holes found in a room's events and read from its stream.")
        .value(report.total(Counter::redis_holes));
    out.counter("rooms_redis_resets_total", "Rooms whose count began anew under their members.")
        .value(report.total(Counter::redis_resets));
    out.counter("rooms_redis_foreign_total", "Messages dropped because the script had not made them.")
        .value(report.total(Counter::redis_foreign));
    out.counter("rooms_redis_bad_events_total", "Events dropped because no browser could read them.")
        .value(report.total(Counter::redis_bad_events));
}

void put_lateness(Metrics& out, const StatusReport& report) {
    out.histogram("rooms_approval_lateness_milliseconds",
                  "From a deadline until pages are told, of timeouts.");
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i <= kLatenessMs.size(); ++i) {
        sum += report.totals[cell(Counter::lateness_first) + i];
        out.bucket(i < kLatenessMs.size() ? std::to_string(kLatenessMs[i]) : "+Inf", sum);
    }
    out.part("_sum", report.total(Counter::lateness_ms)).part("_count", sum);
}

void put_postgres(Metrics& out, const StatusReport& report) {
    if (!report.postgres) return;
    out.gauge("rooms_postgres_up", "1: every worker is connected to the database.")
        .value(report.postgres->connected == report.postgres->workers);
    out.gauge("rooms_postgres_workers_connected", "Workers that are.").value(report.postgres->connected);
    out.counter("rooms_postgres_losses_total", "Times that a worker lost the database.")
        .value(report.total(Counter::postgres_losses));
    out.counter("rooms_outbox_published_total", "Events published from rooms_outbox, repeats included.")
        .value(report.total(Counter::outbox_published));
    out.counter("rooms_outbox_refused_total", "Rows of rooms_outbox that can never be published.")
        .value(report.total(Counter::outbox_refused));
    if (report.approvals != "postgres") return;
    out.gauge("rooms_outbox_depth", "Events that wait in rooms_outbox; 10001: more than 10000.")
        .value(report.total(Counter::outbox_depth));
    out.gauge("rooms_outbox_oldest_milliseconds", "Age of the oldest of them.")
        .value(report.total(Counter::outbox_age_ms));
}

void put_approvals(Metrics& out, const StatusReport& report) {
    if (report.approvals.empty()) return;
    out.gauge("rooms_approvals_pending", "Approvals that wait, an estimate beyond 10000.")
        .value(report.total(Counter::approvals_pending));
    out.counter("rooms_approvals_ended_total", "Approvals of whose end pages were told, by status.");
    for (const ApprovalStatus status : kApprovalEnds)
        out.value("status", approval_status_text(status), report.totals[cell_of_told(status)]);
    put_lateness(out, report);
    out.counter("rooms_approval_sweeps_total", "Looks for what is due.").value(report.total(Counter::sweeps));
    out.counter("rooms_approval_sweeps_milliseconds_total", "Time that they took.")
        .value(report.total(Counter::sweep_ms));
}

void put_workers(Metrics& out, const StatusReport& report) {
    const auto each = [&](std::uint64_t (*value)(const WorkerReport&)) {
        for (const WorkerReport& worker : report.workers) {
            out.value("pid", std::to_string(worker.pid), value(worker));
        }
    };
    out.gauge("rooms_worker_connections", "Open sockets of a worker.");
    each([](const WorkerReport& worker) { return worker.connections; });
    out.gauge("rooms_worker_rooms", "Rooms with members in a worker.");
    each([](const WorkerReport& worker) { return worker.rooms; });
    out.gauge("rooms_worker_members", "Memberships in a worker.");
    each([](const WorkerReport& worker) { return worker.members; });
    out.gauge("rooms_worker_generation", "The configuration that a worker runs, counted from the start.");
    each([](const WorkerReport& worker) { return worker.generation; });
    out.gauge("rooms_worker_draining", "1: the worker takes leave of its sockets.");
    each([](const WorkerReport& worker) { return std::uint64_t{worker.draining}; });
    if (!report.redis) return;
    out.gauge("rooms_worker_deaf", "1: the worker does not hear what is published through Redis.");
    each([](const WorkerReport& worker) { return std::uint64_t{worker.silent_ms > kDeafAfterMs}; });
    out.gauge("rooms_worker_refused", "1: Redis refuses what the worker asks.");
    each([](const WorkerReport& worker) { return std::uint64_t{worker.refused}; });
}

}  // namespace

std::string encode_status_metrics(const StatusReport& report) {
    Metrics out;
    out.gauge("rooms_build_info", "Always 1; the version is its label.").value("version", kVersion, 1);
    out.gauge("rooms_uptime_seconds", "Since the master process started.").value(report.uptime_seconds);
    put_traffic(out, report);
    put_zone(out, report);
    put_redis(out, report);
    put_postgres(out, report);
    put_approvals(out, report);
    put_workers(out, report);
    return out.take();
}

}  // namespace rooms

#include "store/approval_sweeper.hpp"

#include <algorithm>
#include <utility>

#include "store/fault_point.hpp"
#include "store/pg_fault.hpp"
#include "store/pg_text.hpp"

namespace rooms {
namespace {

constexpr PgStatement kConfigure = {"approvals_configure",
                                    "select rooms_configure($1::float8, $2::float8[], $3::float8)"};
constexpr PgStatement kListen = {"approvals_listen", "listen rooms_deadline"};
constexpr PgStatement kSweep = {"approvals_sweep", "select * from rooms_sweep($1, $2)"};

// The columns of rooms_sweep.
enum Column : std::size_t { kExpired, kMore, kNextMs, kOutbox, kPending, kDepth, kAgeMs };

std::uint64_t count_of(const PgRows& rows, std::size_t column) {
    return static_cast<std::uint64_t>(std::max<std::int64_t>(0, rows.integer(0, column).value_or(0)));
}

}  // namespace

ApprovalSweeper::ApprovalSweeper(Reactor& reactor, ApprovalMeter& meter, const PgTarget& target,
                                 const ApprovalTimes& times, std::function<void()> on_outbox)
    : reactor_(reactor),
      meter_(meter),
      times_(times),
      on_outbox_(std::move(on_outbox)),
      link_(reactor, target, "rooms approvals", *this),
      timer_(reactor.timer([this] { sweep(); })) {}

ApprovalSweeper::~ApprovalSweeper() = default;

void ApprovalSweeper::start() { link_.start(); }

void ApprovalSweeper::stop() {
    stopped_ = true;
    timer_->disarm();
}

void ApprovalSweeper::on_up() {
    if (stopped_) return;  // the times of our configuration are not in force any more
    configured_ = false;
    link_.run(kListen, {}, nullptr);
    report_ms_ = 0;
    sweep();
}

void ApprovalSweeper::on_down(std::string_view) {
    timer_->disarm();
    sweeping_ = false;
}

// Again until it is taken: the migrations may come later than we.
void ApprovalSweeper::configure() {
    std::string warn;
    for (const std::uint64_t ms : times_.warn_ms) warn += (warn.empty() ? "{" : ",") + pg_seconds(ms);
    warn += warn.empty() ? "{}" : "}";
    link_.run(kConfigure, {pg_seconds(times_.timeout_ms), warn, pg_seconds(times_.max_ms)},
              [this](const PgOutcome& outcome) {
                  configured_ = outcome.good();
                  if (outcome.kind == PgOutcome::Kind::refused) complain(outcome);
              });
}

// Many may come at once, and one sweep is for all of them.
void ApprovalSweeper::on_notification(std::string_view, std::string_view) {
    again_ = true;
    if (sweeping_ || stopped_) return;
    const std::uint64_t since = reactor_.now_ms() - begun_ms_;
    timer_->arm(since < kApartMs ? kApartMs - since : 0);
}

void ApprovalSweeper::sweep() {
    if (stopped_ || sweeping_ || !link_.up()) return;
    sweeping_ = true;
    again_ = false;
    if (!configured_) configure();
    begun_ms_ = reactor_.now_ms();
    const bool report = begun_ms_ >= report_ms_;
    if (report) report_ms_ = begun_ms_ + kReportMs;
    link_.run(kSweep, {std::to_string(batch_), report ? "t" : "f"},
              [this, report](const PgOutcome& outcome) { on_swept(outcome, report); });
}

void ApprovalSweeper::on_swept(const PgOutcome& outcome, bool report) {
    if (outcome.kind == PgOutcome::Kind::unavailable) return link_.drop(outcome.reason);  // on_down follows
    sweeping_ = false;
    if (!outcome.good()) {
        complain(outcome);
        // Fewer may get through where many took too long.
        const bool fewer = batch_ > 1;
        batch_ = std::max<std::size_t>(1, batch_ / 2);
        if (!stopped_) timer_->arm(fewer ? kApartMs : kTickMs);
        return;
    }
    if (configured_) complained_ = false;
    const std::uint64_t took = reactor_.now_ms() - begun_ms_;
    if (took < kQuickMs) batch_ = std::min(kBatch, batch_ * 2);
    const PgRows& rows = outcome.rows;
    meter_.on_sweep(took);
    if (report) meter_.on_report({count_of(rows, kPending), count_of(rows, kDepth), count_of(rows, kAgeMs)});
    if (rows.truth(0, kOutbox)) {
        fault_point("sweep:answered");
        on_outbox_();
    }
    if (stopped_) return;
    if (rows.truth(0, kMore)) return timer_->arm(0);
    std::uint64_t wait = kTickMs;
    if (const auto next = rows.integer(0, kNextMs)) {
        wait = std::min(wait, static_cast<std::uint64_t>(std::max<std::int64_t>(1, *next)));
    }
    timer_->arm(again_ ? std::min(wait, kApartMs) : wait);
}

// Once, until it works again.
void ApprovalSweeper::complain(const PgOutcome& outcome) {
    if (std::exchange(complained_, true)) return;
    reactor_.log(LogLevel::error, "approvals do not expire: " + pg_fault(outcome));
}

}  // namespace rooms

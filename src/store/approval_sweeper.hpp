// The clock of the approvals in Postgres: lets the store end them when they are due, warn of it before.
//
// One statement does it (rooms_sweep), armed for the nearest deadline; LISTEN wakes it for one that comes
// nearer, and each second it looks anyway. The store's clock decides, ours only says when to ask. Any number
// of hosts may sweep at once. Owned by the worker; runs in one worker of a host.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "store/approval_times.hpp"
#include "store/pg_link.hpp"
#include "store/approval_meter.hpp"
#include "store/reactor.hpp"

namespace rooms {

class ApprovalSweeper final : private PgLink::Handler {
public:
    // `on_outbox`: there is something to publish.
    ApprovalSweeper(Reactor& reactor, ApprovalMeter& meter, const PgTarget& target,
                    const ApprovalTimes& times, std::function<void()> on_outbox);
    ~ApprovalSweeper();
    ApprovalSweeper(const ApprovalSweeper&) = delete;
    ApprovalSweeper& operator=(const ApprovalSweeper&) = delete;

    void start();
    // Nothing new is begun.
    void stop();

private:
    static constexpr std::size_t kBatch = 200;  // rows are locked meanwhile, and then published
    static constexpr std::uint64_t kTickMs = 1000;
    static constexpr std::uint64_t kQuickMs = 500;     // twice as many will do as well
    static constexpr std::uint64_t kReportMs = 15000;  // counting costs more than a sweep
    static constexpr std::uint64_t kApartMs = 10;      // sweeps that notifications ask for

    // PgLink::Handler
    void on_up() override;
    void on_down(std::string_view why) override;
    void on_notification(std::string_view channel, std::string_view payload) override;

    void configure();
    void sweep();
    void on_swept(const PgOutcome& outcome, bool report);
    void complain(const PgOutcome& outcome);

    Reactor& reactor_;
    ApprovalMeter& meter_;
    const ApprovalTimes times_;
    const std::function<void()> on_outbox_;
    PgLink link_;
    std::unique_ptr<Timer> timer_;
    std::size_t batch_ = kBatch;  // of the next sweep
    std::uint64_t begun_ms_ = 0;
    std::uint64_t report_ms_ = 0;  // when the next report is due
    bool configured_ = false;      // the store knows our times
    bool sweeping_ = false;
    bool again_ = false;  // asked for meanwhile
    bool stopped_ = false;
    bool complained_ = false;
};

}  // namespace rooms

// What an operator is told of approvals and of the outbox, as numbers. Implemented by the worker.
#pragma once

#include <cstdint>

#include "core/approval.hpp"

namespace rooms {

// What waits, as of a moment ago.
struct ApprovalReport {
    std::uint64_t pending = 0;        // an estimate beyond 10,000
    std::uint64_t outbox_depth = 0;   // 10,001: more than 10,000
    std::uint64_t outbox_age_ms = 0;  // of the oldest event
};

class ApprovalMeter {
public:
    // Pages have been told. `late_ms`: since the deadline, of a timeout only.
    virtual void on_approval_told(ApprovalStatus status, std::int64_t late_ms) = 0;
    virtual void on_sweep(std::uint64_t took_ms) = 0;
    virtual void on_report(const ApprovalReport& report) = 0;
    virtual void on_outbox_published(std::uint64_t events) = 0;
    virtual void on_outbox_refused() = 0;

protected:
    ~ApprovalMeter() = default;
};

}  // namespace rooms

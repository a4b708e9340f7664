// What one worker does with Postgres: questions of rules over one connection, the approvals API over another,
// for a crowd of pages must not hold up a backend; and in the first worker of the host the outbox and the
// deadlines, over one each.
//
// Built with the worker; the connections are made at start(). The first worker's successor after a crash
// and after a reload does the same; two at once harm nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "nginx/conf.hpp"
#include "store/approval_store.hpp"
#include "store/approval_sweeper.hpp"
#include "store/outbox_relay.hpp"
#include "store/pg_approvals.hpp"
#include "store/pg_link.hpp"
#include "store/approval_meter.hpp"

namespace rooms {

class Postgres final : private PgLink::Handler {
public:
    struct Parts {
        Reactor& reactor;
        Broker& broker;
        ApprovalMeter& meter;
        std::function<void(bool up)> on_up;  // all that backends and pages ask by
    };

    // REQUIRES: conf.postgres; `conf` outlives this.
    Postgres(const Parts& parts, const MainConf& conf, bool first_worker);
    ~Postgres();

    void start();
    // The worker takes leave: what is under way is finished, others go on.
    void begin_drain();

    // Null: approvals are not kept here.
    [[nodiscard]] ApprovalStore* approvals() { return approvals_.get(); }
    [[nodiscard]] PgLink& link() { return link_; }

private:
    void note(bool up);
    // PgLink::Handler
    void on_up() override;
    void on_down(std::string_view why) override;
    void on_notification(std::string_view, std::string_view) override {}

    Reactor& reactor_;
    const std::vector<const LookupRule*> sql_rules_;
    const std::function<void(bool)> tell_;
    unsigned links_up_ = 0;
    PgLink link_;
    std::unique_ptr<PgApprovals> approvals_;
    std::unique_ptr<OutboxRelay> relay_;
    std::unique_ptr<ApprovalSweeper> sweeper_;
};

}  // namespace rooms

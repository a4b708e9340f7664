#include "nginx/postgres.hpp"

#include "store/pg_approvals.hpp"

namespace rooms {

Postgres::Postgres(const Parts& parts, const MainConf& conf, bool first_worker)
    : tell_(parts.on_up), link_(parts.reactor, *conf.postgres, "rooms", *this) {
    const bool keeps_approvals = conf.approvals && conf.approvals->store == ApprovalsConf::Store::postgres;
    if (keeps_approvals) approvals_ = std::make_unique<PgApprovals>(link_);
    if (!first_worker) return;
    if (conf.outbox) {
        relay_ = std::make_unique<OutboxRelay>(
            OutboxRelay::Parts{parts.reactor, parts.broker, parts.meter, history_of}, *conf.postgres,
            !keeps_approvals);
    }
    if (keeps_approvals) {
        sweeper_ = std::make_unique<ApprovalSweeper>(parts.reactor, parts.meter, *conf.postgres,
                                                     conf.approvals->times, [this] {
                                                         if (relay_ != nullptr) relay_->ring();
                                                     });
    }
}

Postgres::~Postgres() = default;

void Postgres::start() {
    link_.start();
    if (relay_ != nullptr) relay_->start();
    if (sweeper_ != nullptr) sweeper_->start();
}

void Postgres::begin_drain() {
    if (relay_ != nullptr) relay_->stop();
    if (sweeper_ != nullptr) sweeper_->stop();
}

void Postgres::on_up() { tell_(true); }

void Postgres::on_down(std::string_view) { tell_(false); }

}  // namespace rooms

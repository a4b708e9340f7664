#include "nginx/postgres.hpp"

#include <algorithm>

#include "store/pg_fault.hpp"

namespace rooms {
namespace {

// Levels inherit rules: each text once.
std::vector<const LookupRule*> sql_rules_of(const MainConf& conf) {
    std::vector<const LookupRule*> rules;
    for (const LookupRule* rule : conf.sql_rules) {
        const auto same = [&](const LookupRule* other) { return other->name == rule->name; };
        if (std::none_of(rules.begin(), rules.end(), same)) rules.push_back(rule);
    }
    return rules;
}

}  // namespace

Postgres::Postgres(const Parts& parts, const MainConf& conf, bool first_worker)
    : reactor_(parts.reactor),
      sql_rules_(sql_rules_of(conf)),
      tell_(parts.on_up),
      link_(parts.reactor, *conf.postgres, "rooms", *this) {
    const bool keeps_approvals = conf.approvals && conf.approvals->store == ApprovalsConf::Store::postgres;
    if (keeps_approvals) {
        approvals_ =
            std::make_unique<PgApprovals>(parts.reactor, *conf.postgres, [this](bool up) { note(up); });
    }
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
    if (approvals_ != nullptr) approvals_->start();
    if (relay_ != nullptr) relay_->start();
    if (sweeper_ != nullptr) sweeper_->start();
}

void Postgres::begin_drain() {
    if (relay_ != nullptr) relay_->stop();
    if (sweeper_ != nullptr) sweeper_->stop();
}

// A statement that the server does not understand is told when the worker begins, not when a page asks.
void Postgres::on_up() {
    note(true);
    for (const LookupRule* rule : sql_rules_) {
        link_.prepare({rule->name.c_str(), rule->sql.c_str()}, [this, rule](const PgOutcome& outcome) {
            reactor_.log(LogLevel::error, "\"" + rule->sql + "\" of rooms_allow: " + pg_fault(outcome));
        });
    }
}

void Postgres::on_down(std::string_view) { note(false); }

void Postgres::note(bool up) {
    const unsigned all = approvals_ != nullptr ? 2 : 1;
    const bool before = links_up_ == all;
    up ? ++links_up_ : --links_up_;
    if ((links_up_ == all) != before) tell_(links_up_ == all);
}

}  // namespace rooms

// Approvals in Postgres: each request is one call of a function of the migrations.
//
// Owned by the worker. It has a connection of its own: a crowd of pages whose rules ask the database must not
// hold up a backend.
#pragma once

#include <functional>
#include <utility>

#include "store/approval_store.hpp"
#include "store/pg_link.hpp"

namespace rooms {

class PgApprovals final : public ApprovalStore, private PgLink::Handler {
public:
    PgApprovals(Reactor& reactor, const PgTarget& target, std::function<void(bool up)> on_up)
        : reactor_(reactor), on_up_(std::move(on_up)), link_(reactor, target, "rooms api", *this) {}

    ~PgApprovals() override;
    PgApprovals(const PgApprovals&) = delete;
    PgApprovals& operator=(const PgApprovals&) = delete;

    void start() { link_.start(); }

    void create(const NewApproval& approval, ApprovalDone done) override;
    void get(std::string_view id, ApprovalDone done) override;
    void list(const ApprovalQuery& query, ApprovalDone done) override;
    void resolve(std::string_view id, const Resolution& resolution, ApprovalDone done) override;
    void extend(std::string_view id, std::int64_t by_ms, ApprovalDone done) override;

private:
    void run(const PgStatement& statement, std::vector<PgValue> values, ApprovalDone done);

    // PgLink::Handler
    void on_up() override { on_up_(true); }
    void on_down(std::string_view) override { on_up_(false); }
    void on_notification(std::string_view, std::string_view) override {}

    Reactor& reactor_;
    std::size_t open_ = 0;  // requests that are owed an answer: the process waits for them
    const std::function<void(bool)> on_up_;
    PgLink link_;
};

}  // namespace rooms

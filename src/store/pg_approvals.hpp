// Approvals in Postgres: each request is one call of a function of the migrations.
//
// Owned by the worker; the link is the worker's own and shared with its other questions.
#pragma once

#include "store/approval_store.hpp"
#include "store/pg_link.hpp"

namespace rooms {

class PgApprovals final : public ApprovalStore {
public:
    // `link` outlives this.
    explicit PgApprovals(PgLink& link) : link_(link) {}

    void create(const NewApproval& approval, ApprovalDone done) override;
    void get(std::string_view id, ApprovalDone done) override;
    void list(const ApprovalQuery& query, ApprovalDone done) override;
    void resolve(std::string_view id, const Resolution& resolution, ApprovalDone done) override;
    void extend(std::string_view id, std::int64_t by_ms, ApprovalDone done) override;

private:
    void run(const PgStatement& statement, std::vector<PgValue> values, ApprovalDone done);

    PgLink& link_;
};

}  // namespace rooms

#include "store/pg_approvals.hpp"

#include <algorithm>
#include <utility>

#include "store/pg_fault.hpp"
#include "store/pg_text.hpp"

namespace rooms {
namespace {

// All answer (outcome, approval, status).
constexpr PgStatement kCreate = {"approval_create",
                                 "select outcome, approval, approval ->> 'status'"
                                 " from rooms_create_approval($1, $2, $3, $4, $5, $6::float8, $7::bigint)"};
constexpr PgStatement kGet = {"approval_get",
                              "select outcome, approval, approval ->> 'status' from rooms_get_approval($1)"};
constexpr PgStatement kList = {
    "approval_list", "select outcome, approval, null from rooms_list_approvals($1, $2, $3, $4::integer, $5)"};
constexpr PgStatement kResolve = {
    "approval_resolve",
    "select outcome, approval, approval ->> 'status' from rooms_resolve_approval($1, $2, $3)"};
constexpr PgStatement kExtend = {
    "approval_extend",
    "select outcome, approval, approval ->> 'status' from rooms_extend_approval($1, $2::float8)"};

constexpr struct {
    std::string_view text;
    ApprovalOutcome outcome;
} kOutcomes[] = {
    {"found", ApprovalOutcome::found},         {"created", ApprovalOutcome::created},
    {"exists", ApprovalOutcome::exists},       {"done", ApprovalOutcome::done},
    {"not_found", ApprovalOutcome::not_found}, {"no_session", ApprovalOutcome::no_session},
    {"past", ApprovalOutcome::past},           {"too_long", ApprovalOutcome::too_long},
    {"too_large", ApprovalOutcome::too_large}, {"bad_after", ApprovalOutcome::bad_after},
    {"resolved", ApprovalOutcome::resolved},   {"expired", ApprovalOutcome::expired},
};

// PostgreSQL manual, appendix A: data exceptions (a NUL in the context, which JSON allows and jsonb does
// not); constraints and what a trigger raises, which are somebody's decision. All else passes, or an operator
// mends it.
ApprovalOutcome outcome_of(std::string_view sqlstate) {
    if (sqlstate.starts_with("22")) return ApprovalOutcome::bad_value;
    if (sqlstate.starts_with("23") || sqlstate.starts_with("P0")) return ApprovalOutcome::refused;
    return ApprovalOutcome::busy;
}

ApprovalAnswer answer_of(const PgOutcome& outcome, const std::string& fault) {
    ApprovalAnswer answer;
    answer.reason = fault;
    if (outcome.kind == PgOutcome::Kind::refused) answer.outcome = outcome_of(outcome.sqlstate);
    if (!outcome.good()) return answer;
    const std::string_view text = outcome.rows.text(0, 0);
    for (const auto& known : kOutcomes) {
        if (known.text == text) answer.outcome = known.outcome;
    }
    answer.json = outcome.rows.text(0, 1);
    answer.status = outcome.rows.text(0, 2);
    return answer;
}

template <typename T>
PgValue value(const std::optional<T>& number) {
    return number ? PgValue(std::to_string(*number)) : PgValue();
}

}  // namespace

PgApprovals::~PgApprovals() {
    if (open_ != 0) reactor_.hold(false);
}

void PgApprovals::run(const PgStatement& statement, std::vector<PgValue> values, ApprovalDone done) {
    if (open_++ == 0) reactor_.hold(true);
    link_.run(statement, std::move(values), [this, done = std::move(done)](const PgOutcome& outcome) {
        if (--open_ == 0) reactor_.hold(false);
        done(answer_of(outcome, outcome.good() ? std::string() : pg_fault(outcome)));
    });
}

void PgApprovals::create(const NewApproval& approval, ApprovalDone done) {
    run(kCreate,
        {approval.id, approval.session, approval.tenant, approval.action,
         approval.context.empty() ? PgValue() : approval.context,
         approval.timeout_ms ? PgValue(pg_seconds(static_cast<std::uint64_t>(*approval.timeout_ms)))
                             : PgValue(),
         value(approval.expires_at_ms)},
        std::move(done));
}

void PgApprovals::get(std::string_view id, ApprovalDone done) {
    run(kGet, {std::string(id)}, std::move(done));
}

void PgApprovals::list(const ApprovalQuery& query, ApprovalDone done) {
    PgValue status;
    if (query.status) status = approval_status_text(*query.status);
    run(kList, {query.session, query.tenant, status, std::to_string(query.page()), query.after},
        std::move(done));
}

void PgApprovals::resolve(std::string_view id, const Resolution& resolution, ApprovalDone done) {
    run(kResolve, {std::string(id), std::string(approval_status_text(resolution.status)), resolution.by},
        std::move(done));
}

void PgApprovals::extend(std::string_view id, std::int64_t by_ms, ApprovalDone done) {
    run(kExtend, {std::string(id), pg_seconds(static_cast<std::uint64_t>(by_ms))}, std::move(done));
}

}  // namespace rooms

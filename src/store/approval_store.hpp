// Where approvals are kept: Postgres or Redis, as the API sees it.
//
// Answers come through callbacks, later, exactly once unless the store is destroyed first; views in them
// are valid in the callback. Each transition and the event that tells of it are one: who gets `done` knows
// that pages will be told.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "core/approval.hpp"

namespace rooms {

enum class ApprovalOutcome : std::uint8_t {
    found,
    created,
    exists,  // under this id; nothing has been changed
    done,    // resolved, cancelled, extended
    not_found,
    no_session,
    past,         // the deadline asked for
    too_long,     // beyond rooms_approvals max=
    too_large,    // the context
    bad_after,    // there is none with the id in `after`
    resolved,     // it ended otherwise before
    expired,      // its deadline had come
    bad_value,    // the store cannot hold it: `reason`
    refused,      // the store's own rules forbid it: not carried out, and trying again does not help
    busy,         // not carried out; trying again may help
    unavailable,  // whether it was carried out is unknown
};

struct ApprovalAnswer {
    ApprovalOutcome outcome = ApprovalOutcome::unavailable;
    std::string_view json;    // the approval as it stands, or a page of them
    std::string_view status;  // of `resolved` and `expired`: what stands
    std::string_view reason;  // for people
};

using ApprovalDone = std::function<void(const ApprovalAnswer&)>;

class ApprovalStore {
public:
    virtual ~ApprovalStore() = default;

    virtual void create(const NewApproval& approval, ApprovalDone done) = 0;
    virtual void get(std::string_view id, ApprovalDone done) = 0;
    virtual void list(const ApprovalQuery& query, ApprovalDone done) = 0;
    // Approved, rejected or cancelled.
    virtual void resolve(std::string_view id, const Resolution& resolution, ApprovalDone done) = 0;
    virtual void extend(std::string_view id, std::int64_t by_ms, ApprovalDone done) = 0;
};

}  // namespace rooms

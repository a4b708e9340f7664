// How long approvals may wait, as the directive rooms_approvals has it.
#pragma once

#include <cstdint>
#include <vector>

namespace rooms {

struct ApprovalTimes {
    std::uint64_t timeout_ms = 15 * 60 * 1000;
    std::vector<std::uint64_t> warn_ms = {60 * 1000};  // before the deadline
    std::uint64_t max_ms = 24 * 60 * 60 * 1000;        // of what the API is asked for
};

}  // namespace rooms

// What an operator is told of a statement that failed: the server's words, and what to do.
#pragma once

#include <string>

#include "store/pg_outcome.hpp"

namespace rooms {

[[nodiscard]] inline std::string pg_fault(const PgOutcome& outcome) {
    std::string text(outcome.reason);
    // PostgreSQL manual, appendix A: undefined_function, undefined_table, insufficient_privilege
    if (outcome.sqlstate == "42883" || outcome.sqlstate == "42P01")
        text += " (the database lacks migrations: docs/postgres.md)";
    if (outcome.sqlstate == "42501") text += " (the role lacks a grant: docs/postgres.md)";
    return text;
}

}  // namespace rooms

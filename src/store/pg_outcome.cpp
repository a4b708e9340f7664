#include "store/pg_outcome.hpp"

#include <libpq-fe.h>

#include <charconv>
#include <system_error>

namespace rooms {
namespace {

template <typename Number>
std::optional<Number> number_of(std::string_view text) {
    Number number = 0;
    const char* end = text.data() + text.size();
    const auto [at, fault] = std::from_chars(text.data(), end, number);
    if (fault != std::errc() || at != end) return std::nullopt;
    return number;
}

bool has(const pg_result* result, std::size_t row, std::size_t column) {
    return row < static_cast<std::size_t>(PQntuples(result)) &&
           column < static_cast<std::size_t>(PQnfields(result));
}

}  // namespace

// libpq takes a null result as an empty one.
std::size_t PgRows::size() const { return static_cast<std::size_t>(PQntuples(result_)); }
std::size_t PgRows::columns() const { return static_cast<std::size_t>(PQnfields(result_)); }

std::uint64_t PgRows::affected() const {
    // Which is not const in libpq, and changes nothing.
    return number_of<std::uint64_t>(PQcmdTuples(const_cast<pg_result*>(result_))).value_or(0);
}

std::string_view PgRows::text(std::size_t row, std::size_t column) const {
    if (!has(result_, row, column)) return {};
    const int r = static_cast<int>(row);
    const int c = static_cast<int>(column);
    return {PQgetvalue(result_, r, c), static_cast<std::size_t>(PQgetlength(result_, r, c))};
}

bool PgRows::is_null(std::size_t row, std::size_t column) const {
    return !has(result_, row, column) ||
           PQgetisnull(result_, static_cast<int>(row), static_cast<int>(column)) != 0;
}

std::optional<std::int64_t> PgRows::integer(std::size_t row, std::size_t column) const {
    return number_of<std::int64_t>(text(row, column));
}

bool PgRows::is_false(std::size_t row, std::size_t column) const {
    constexpr Oid kBool = 16;  // pg_type.dat: fixed for ever
    return text(row, column) == "f" && PQftype(result_, static_cast<int>(column)) == kBool;
}

}  // namespace rooms

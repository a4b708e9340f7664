// What becomes of a statement sent to Postgres.
//
// Rows and texts belong to the link and are valid in the callback only. Values are text, both ways; what
// they mean is the statement's business.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

struct pg_result;  // libpq's PGresult

namespace rooms {

// Of one parameter, without NUL; nothing: null.
using PgValue = std::optional<std::string>;

class PgRows {
public:
    PgRows() = default;
    explicit PgRows(const pg_result* result) : result_(result) {}

    [[nodiscard]] std::size_t size() const;
    [[nodiscard]] bool empty() const { return size() == 0; }
    [[nodiscard]] std::size_t columns() const;
    // Rows that an insert, update or delete has changed; of a select: its rows.
    [[nodiscard]] std::uint64_t affected() const;

    // A null, a row and a column that are not there are empty.
    [[nodiscard]] std::string_view text(std::size_t row, std::size_t column) const;
    [[nodiscard]] bool is_null(std::size_t row, std::size_t column) const;
    // Nothing: null, or not a number of 64 bits.
    [[nodiscard]] std::optional<std::int64_t> integer(std::size_t row, std::size_t column) const;
    // A boolean that is true.
    [[nodiscard]] bool truth(std::size_t row, std::size_t column) const { return text(row, column) == "t"; }
    // A boolean that is false: not the text "f".
    [[nodiscard]] bool is_false(std::size_t row, std::size_t column) const;

private:
    const pg_result* result_ = nullptr;  // null: no rows
};

struct PgOutcome {
    enum class Kind : std::uint8_t {
        rows,         // carried out
        refused,      // not carried out: the server has said why
        unavailable,  // whether it was carried out is unknown
    };

    Kind kind = Kind::unavailable;
    PgRows rows;
    std::string_view sqlstate;  // refused: five characters
    std::string_view reason;    // refused: the server's words; unavailable: "not connected", "timed out", …

    [[nodiscard]] bool good() const { return kind == Kind::rows; }
};

using PgDone = std::function<void(const PgOutcome&)>;

}  // namespace rooms

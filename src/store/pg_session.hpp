#pragma once
namespace rooms {
// Prepared at its first use on a connection.
struct PgStatement {
    const char* name;
    const char* text;
};
class PgSession {
public:
    class Handler {};
};
}  // namespace rooms

// One connection to Postgres through libpq, never waiting: it logs in, carries out one statement at a time,
// and ends.
//
// Owned by a PgLink, which keeps the clocks. libpq owns the socket; a Watch tells when it is ready. The
// reasons it gives are one line, without the password, and valid until the handler returns. May be closed
// and destroyed in any callback; no callback runs inside a call.
#pragma once

#include <cstddef>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "store/pg_outcome.hpp"
#include "store/pg_target.hpp"
#include "store/reactor.hpp"

struct pg_conn;  // libpq's PGconn

namespace rooms {

// One SQL command, prepared under `name` at its first use on a connection.
struct PgStatement {
    const char* name;
    const char* text;
};

class PgSession {
public:
    class Handler {
    public:
        virtual void on_open() = 0;
        // Of the statement that was sent; another one may be sent from within. Never `unavailable`: then
        // the session ends.
        virtual void on_outcome(const PgOutcome& outcome) = 0;
        virtual void on_message(std::string_view channel, std::string_view payload) = 0;
        // It has ended, or could not be opened; it is closed already.
        virtual void on_closed(std::string_view why) = 0;

    protected:
        ~Handler() = default;
    };

    PgSession(Reactor& reactor, Handler& handler);
    ~PgSession();
    PgSession(const PgSession&) = delete;
    PgSession& operator=(const PgSession&) = delete;

    // The servers are tried in turn, from number `first` on. Failing at once is a reason, else empty.
    // REQUIRES: closed.
    [[nodiscard]] std::string open(const PgTarget& target, std::size_t first,
                                   const std::string& application_name);
    // on_closed is not called.
    void close();

    [[nodiscard]] bool busy() const { return step_ != Step::idle; }
    // Failing at once is a reason, else empty. REQUIRES: open and not busy.
    [[nodiscard]] std::string send(const PgStatement& statement, const std::vector<PgValue>& values);
    [[nodiscard]] bool has(const PgStatement& prepared) const { return prepared_.contains(prepared.name); }
    // Only prepared, so that the server says what is wrong with it; its rows are none.
    [[nodiscard]] std::string prepare(const PgStatement& statement);

private:
    enum class Step : std::uint8_t { connecting, idle, preparing, executing };

    struct ResultFree {
        void operator()(pg_result* result) const;
    };
    struct ConnectionFree {
        void operator()(pg_conn* connection) const;
    };
    using OwnedResult = std::unique_ptr<pg_result, ResultFree>;

    [[nodiscard]] bool watch_anew(bool read, bool write);
    [[nodiscard]] bool flush();
    [[nodiscard]] std::string execute();
    [[nodiscard]] std::string reason() const;
    [[nodiscard]] std::string words_of(const pg_result* result) const;
    static void on_notice(void* session, const pg_result* notice) noexcept;

    void on_ready();
    void advance_connect();
    void serve();
    void tell_messages();
    void take_results();
    void take_outcome();
    void end(std::string why);

    Reactor& reactor_;
    Handler& handler_;
    std::unique_ptr<pg_conn, ConnectionFree> connection_;
    std::unique_ptr<Watch> watch_;  // goes before the socket does
    Step step_ = Step::idle;
    bool one_server_ = true;
    std::set<std::string_view> prepared_;
    PgStatement statement_{};          // being prepared
    bool execute_next_ = true;         // after that
    std::vector<const char*> values_;  // of it; the link keeps them
    OwnedResult result_;               // of the statement under way; the first error wins
    std::string farewell_;             // what the server said before it hung up
    std::shared_ptr<int> alive_;
};

}  // namespace rooms

// One connection to Postgres that comes back by itself: statements in, outcomes out, one after the other.
//
// Owned by whoever is its Handler; may be destroyed in any callback, its own included. Nothing in it waits:
// deadlines are its own, and when one passes the connection is dropped, for what came after it could not be
// trusted, and asking the server to stop (PQcancel) would block. The server has shorter ones of its own, so
// that in the ordinary case it is the server that says what happened.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "store/backoff.hpp"
#include "store/pg_outcome.hpp"
#include "store/pg_session.hpp"
#include "store/pg_target.hpp"
#include "store/reactor.hpp"

namespace rooms {

class PgLink final : private PgSession::Handler {
public:
    class Handler {
    public:
        // Logged in, at a server that takes writes. Nothing of an earlier connection is there: no LISTEN,
        // no transaction.
        virtual void on_up() = 0;
        // It was up, and is lost. All statements have been answered `unavailable`.
        virtual void on_down(std::string_view why) = 0;
        virtual void on_notification(std::string_view channel, std::string_view payload) = 0;

    protected:
        ~Handler() = default;
    };

    static constexpr std::uint64_t kConnectMs = 5000;  // to log in, all servers together
    static constexpr std::uint64_t kStatementMs = 3000;
    static constexpr std::uint64_t kSettleMs =
        1000;  // up for so long: it is back, for the log and the backoff
    static constexpr std::size_t kMaxQueued = 8192;  // statements without an answer: a crowd that comes back

    PgLink(Reactor& reactor, const PgTarget& target, std::string application_name, Handler& handler);
    ~PgLink();
    PgLink(const PgLink&) = delete;
    PgLink& operator=(const PgLink&) = delete;

    // From now on it connects, and connects again.
    void start();
    [[nodiscard]] bool up() const { return state_ == State::up; }
    // Why it is not up; empty: it is, or has not been tried yet. For people.
    [[nodiscard]] const std::string& trouble() const { return trouble_; }

    // `done` is called exactly once, later, in the order of the calls; not when the link is destroyed
    // first. Until a first attempt to connect has failed it waits for that. Beyond kMaxQueued, or while not
    // up, it is `unavailable` at the end of this turn (and `refused` where a value has a NUL): who then tries
    // again at once keeps the turn from ending. So long it may wait for others, and so long it may take:
    // the connection is given up for a statement that gets no answer.
    // REQUIRES: the statement's texts outlive the link, and a name always means the same text.
    void run(const PgStatement& statement, std::vector<PgValue> values, PgDone done,
             std::uint64_t timeout_ms = kStatementMs);
    // Not carried out: the server is only asked whether it understands. Called where it does not.
    void prepare(const PgStatement& statement, PgDone on_refused);
    // Ends the connection, and the transaction that may be open with it; connects again, with backoff.
    // What is under way is answered, and on_down called, at the end of this turn.
    void drop(std::string_view why);

private:
    enum class State : std::uint8_t { down, connecting, up };

    struct Pending {
        PgStatement statement;
        std::vector<PgValue> values;
        PgDone done;
        std::uint64_t timeout;   // once it has been sent
        std::uint64_t deadline;  // until it is; steady clock
        bool only_prepare = false;
        const char* reason = nullptr;  // ended: why it was not sent; null: why_
    };

    void on_open() override;
    void on_outcome(const PgOutcome& outcome) override;
    void on_message(std::string_view channel, std::string_view payload) override;
    void on_closed(std::string_view why) override;

    void connect();
    void lose(std::string_view why) noexcept;
    void send_next();
    void queue(Pending pending);
    void refuse(Pending pending, const char* reason);
    void check_deadlines();
    void expire(std::uint64_t now, std::uint64_t next);
    void watch_deadline(std::uint64_t deadline);
    void on_ended();
    static void answer(Pending& pending, std::string_view why);
    void note_lost(const std::string& why, std::uint64_t retry_ms);
    void note_settled();
    template <typename Call>
    static void try_to(Call call);

    Reactor& reactor_;
    const PgTarget target_;
    const std::string application_name_;
    const std::string shown_;  // `postgres "…"`
    Handler& handler_;
    State state_ = State::down;
    std::size_t first_ = 0;          // of the servers
    std::list<Pending> pending_;     // the first one is with the server; it moves without memory
    std::list<Pending> ended_;       // to be answered at the end of this turn
    std::string why_;                // it was lost last
    bool lost_ = false;              // on_ended has to deal with it
    bool was_up_ = false;            // on_down is owed
    bool known_ = false;             // it has settled once
    std::vector<std::string> told_;  // causes, since it was well
    bool told_lost_ = false;
    std::uint64_t lost_since_ = 0;
    std::string trouble_;
    Backoff backoff_{100, 1000};
    PgSession session_;
    std::uint64_t deadline_at_ = 0;
    std::uint64_t connect_by_ = 0;  // while connecting
    std::uint64_t sent_ = 0;        // when the statement under way was
    std::unique_ptr<Timer> deadline_;
    std::unique_ptr<Timer> reopen_;
    std::unique_ptr<Timer> ending_;
    std::unique_ptr<Timer> settle_;
    std::shared_ptr<int> alive_;
};

}  // namespace rooms

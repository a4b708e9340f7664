#include "store/pg_link.hpp"

#include <algorithm>
#include <new>
#include <utility>

namespace rooms {
namespace {

constexpr char kNotConnected[] = "not connected";
constexpr char kTimedOut[] = "timed out";
constexpr char kTooMany[] = "too many statements wait";
// The server's answer to one, but libpq would cut the value off there.
constexpr char kHasNul[] = "a value has a NUL in it";
constexpr char kBadCharacter[] = "22021";
constexpr char kOutOfMemory[] = "out of memory";
constexpr std::size_t kMaxCauses = 8;  // told of one outage

bool has_nul(const std::vector<PgValue>& values) {
    return std::any_of(values.begin(), values.end(),
                       [](const PgValue& value) { return value && value->find('\0') != value->npos; });
}

}  // namespace

PgLink::PgLink(Reactor& reactor, const PgTarget& target, std::string application_name, Handler& handler)
    : reactor_(reactor),
      target_(target),
      application_name_(std::move(application_name)),
      shown_("postgres \"" + target.text() + "\""),
      handler_(handler),
      session_(reactor, *this),
      deadline_(reactor.timer([this] { check_deadlines(); })),
      reopen_(reactor.timer([this] { connect(); })),
      ending_(reactor.timer([this] { on_ended(); })),
      settle_(reactor.timer([this] { note_settled(); })),
      alive_(std::make_shared<int>(0)) {}

PgLink::~PgLink() = default;

// That there is no memory for one of them is no reason to leave out the next.
template <typename Call>
void PgLink::try_to(Call call) {
    try {
        call();
    } catch (const std::bad_alloc&) {
    }
}

void PgLink::start() {
    if (state_ == State::down && !lost_) reopen_->arm(0);
}

void PgLink::connect() {
    const std::string fault = session_.open(target_, first_, application_name_);
    state_ = State::connecting;
    if (!fault.empty()) return lose(fault);
    connect_by_ = reactor_.now_ms() + kConnectMs;
    watch_deadline(connect_by_);
}

void PgLink::on_open() {
    state_ = State::up;
    deadline_->disarm();
    trouble_.clear();
    settle_->arm(kSettleMs);
    const std::weak_ptr<int> alive = alive_;
    handler_.on_up();
    if (alive.expired() || pending_.empty()) return;
    watch_deadline(reactor_.now_ms());  // of those that waited for this
    send_next();
}

void PgLink::on_message(std::string_view channel, std::string_view payload) {
    handler_.on_notification(channel, payload);
}

void PgLink::on_closed(std::string_view why) { lose(why); }

void PgLink::drop(std::string_view why) {
    if (state_ != State::down) lose(why);
}

void PgLink::run(const PgStatement& statement, std::vector<PgValue> values, PgDone done,
                 std::uint64_t timeout_ms) {
    queue({statement, std::move(values), std::move(done), timeout_ms, reactor_.now_ms() + timeout_ms});
}

void PgLink::prepare(const PgStatement& statement, PgDone on_refused) {
    PgDone done = [on_refused = std::move(on_refused)](const PgOutcome& outcome) {
        if (outcome.kind == PgOutcome::Kind::refused) on_refused(outcome);
    };
    queue({statement, {}, std::move(done), kStatementMs, reactor_.now_ms() + kStatementMs, true});
}

void PgLink::queue(Pending pending) {
    if (has_nul(pending.values)) return refuse(std::move(pending), kHasNul);
    // Before anything has failed it will be up in a moment: pages come back while a new worker logs in.
    const bool coming = trouble_.empty() && !lost_ && (state_ == State::connecting || reopen_->armed());
    if (state_ != State::up && !coming) return refuse(std::move(pending), kNotConnected);
    if (pending_.size() >= kMaxQueued) return refuse(std::move(pending), kTooMany);
    const std::uint64_t deadline = pending.deadline;
    pending_.push_back(std::move(pending));
    watch_deadline(deadline);
    send_next();
}

void PgLink::refuse(Pending pending, const char* reason) {
    pending.reason = reason;
    ended_.push_back(std::move(pending));
    ending_->arm(0);
}

void PgLink::send_next() {
    if (state_ != State::up || session_.busy()) return;
    // Somebody was faster, and it was understood.
    while (!pending_.empty() && pending_.front().only_prepare && session_.has(pending_.front().statement))
        pending_.pop_front();
    if (pending_.empty()) return;
    try {
        const Pending& next = pending_.front();
        sent_ = reactor_.now_ms();
        const std::string fault =
            next.only_prepare ? session_.prepare(next.statement) : session_.send(next.statement, next.values);
        if (!fault.empty()) lose(fault);
    } catch (const std::bad_alloc&) {
        lose(kOutOfMemory);
    }
}

void PgLink::on_outcome(const PgOutcome& outcome) {
    const std::weak_ptr<int> alive = alive_;
    std::list<Pending> first;
    first.splice(first.end(), pending_, pending_.begin());
    if (PgDone& done = first.front().done) done(outcome);
    if (!alive.expired()) send_next();
}

// The connection is given up for a statement that it does not get an answer to, not for those that wait
// behind a crowd.
void PgLink::check_deadlines() {
    const std::uint64_t now = reactor_.now_ms();
    if (state_ == State::connecting) {
        if (now < connect_by_) return expire(now, connect_by_);
        // The next attempt begins behind the one that did not answer: libpq would wait for it again.
        first_ = (first_ + 1) % target_.servers.size();
        return lose(kTimedOut);
    }
    if (pending_.empty()) return;
    const std::uint64_t answer_by = sent_ + pending_.front().timeout;
    if (session_.busy() && answer_by <= now) return lose(kTimedOut);
    expire(now, answer_by);
}

// Ends those that wait for the connection, or for others, and can wait no longer. Looks again at `next`.
void PgLink::expire(std::uint64_t now, std::uint64_t next) {
    for (auto each = pending_.begin(); each != pending_.end();) {
        const auto pending = each++;
        const bool under_way = pending == pending_.begin() && session_.busy() && state_ == State::up;
        if (under_way) continue;
        if (pending->deadline > now) {
            next = std::min(next, pending->deadline);
            continue;
        }
        pending->reason = state_ == State::up ? kTimedOut : kNotConnected;
        ended_.splice(ended_.end(), pending_, pending);
        ending_->arm(0);
    }
    watch_deadline(next);
}

// Armed once for many statements: it fires early for those that have been answered, and looks again.
void PgLink::watch_deadline(std::uint64_t deadline) {
    if (deadline_->armed() && deadline_at_ <= deadline) return;
    const std::uint64_t now = reactor_.now_ms();
    deadline_at_ = deadline;
    deadline_->arm(deadline > now ? deadline - now : 1);
}

// What follows from it comes at the end of this turn, for it may happen inside a call of the owner's.
void PgLink::lose(std::string_view why) noexcept {
    try {
        why_ = why;
    } catch (const std::bad_alloc&) {
        why_ = kOutOfMemory;  // fits into every string
    }
    was_up_ = was_up_ || state_ == State::up;
    state_ = State::down;
    lost_ = true;
    session_.close();
    deadline_->disarm();
    settle_->disarm();
    ended_.splice(ended_.end(), pending_);
    ending_->arm(0);
}

void PgLink::on_ended() {
    const std::weak_ptr<int> alive = alive_;
    const std::string why = std::move(why_);  // lives longer than the link
    const bool lost = std::exchange(lost_, false);
    const bool was_up = std::exchange(was_up_, false);
    if (lost) {
        const std::uint64_t retry = backoff_.next(reactor_.random());
        reopen_->arm(retry);
        try_to([&] { note_lost(why, retry); });
    }
    std::list<Pending> ended;
    ended.swap(ended_);  // what is asked in an answer has an end of the turn of its own
    for (Pending& pending : ended) {
        if (alive.expired()) return;
        try_to([&] { answer(pending, why); });
    }
    if (was_up && !alive.expired()) try_to([&] { handler_.on_down(why); });
}

void PgLink::answer(Pending& pending, std::string_view why) {
    PgOutcome outcome;
    outcome.reason = pending.reason != nullptr ? pending.reason : why;
    if (pending.reason == kHasNul) {
        outcome.kind = PgOutcome::Kind::refused;
        outcome.sqlstate = kBadCharacter;
    }
    if (pending.done) pending.done(outcome);
}

// Once for each cause in an outage: servers that are tried in turn fail in turn.
void PgLink::note_lost(const std::string& why, std::uint64_t retry_ms) {
    const bool first = !std::exchange(told_lost_, true);
    if (first) lost_since_ = reactor_.now_ms();
    trouble_ = why;
    if (told_.size() >= kMaxCauses || std::find(told_.begin(), told_.end(), why) != told_.end()) return;
    told_.push_back(why);
    const char* what = known_ && first ? " lost: " : " cannot be reached: ";
    reactor_.log(LogLevel::error, shown_ + what + why + ", retrying in " + std::to_string(retry_ms) + "ms");
}

// A server that takes the login and then refuses what it is asked is not there.
void PgLink::note_settled() {
    backoff_.reset();
    known_ = true;
    told_.clear();
    if (!std::exchange(told_lost_, false)) return;
    const std::uint64_t away = reactor_.now_ms() - kSettleMs - lost_since_;
    reactor_.log(LogLevel::notice, shown_ + " is back after " + std::to_string(away) + "ms");
}

}  // namespace rooms

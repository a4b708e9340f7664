#include "store/outbox_relay.hpp"

#include <algorithm>
#include <set>
#include <utility>

#include "core/envelope.hpp"
#include "core/json_text.hpp"
#include "store/fault_point.hpp"
#include "store/pg_fault.hpp"

namespace rooms {
namespace {

constexpr PgStatement kListen = {"outbox_listen", "listen rooms_outbox"};
constexpr PgStatement kBegin = {"outbox_begin", "begin"};
constexpr PgStatement kTake = {"outbox_take", "select * from rooms_take_outbox($1, $2::text[])"};
constexpr PgStatement kFinish = {"outbox_finish",
                                 "select rooms_finish_outbox($1::bigint[], $2::bigint[], $3::text[])"};
constexpr PgStatement kCommit = {"outbox_commit", "commit"};

// The columns of rooms_take_outbox.
enum Column : std::size_t { kId, kKey, kRoom, kType, kData, kStatus, kLateMs };

void append_field(std::string& out, std::string_view name, std::string_view text) {
    out += name;
    append_json_string(out, text);
}

// A literal of an array of Postgres.
void append_element(std::string& out, std::string_view text) {
    out += out.empty() ? "{\"" : ",\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') out += '\\';
        out += c;
    }
    out += '"';
}

std::string closed(std::string array) { return array.empty() ? "{}" : std::move(array) + '}'; }

}  // namespace

struct OutboxRelay::Row {
    enum class State : std::uint8_t { waits, published, unfit, left };

    std::string id;
    std::string room;
    std::string key;
    std::string event;   // as a body of /publish; also what "the same body" means for the key
    std::string body;    // up to its offset
    std::string reason;  // unfit, or left
    std::optional<ApprovalStatus> told;
    std::int64_t late_ms = 0;
    State state = State::waits;
};

struct OutboxRelay::Batch {
    std::vector<Row> rows;
    std::vector<std::size_t> wave;  // of rows, in what the broker has
    std::uint64_t begun_ms = 0;
    bool full = false;    // there may be more
    bool failed = false;  // published, but not deleted: it comes again

    [[nodiscard]] std::size_t count(Row::State state) const {
        return static_cast<std::size_t>(
            std::count_if(rows.begin(), rows.end(), [&](const Row& row) { return row.state == state; }));
    }
};

OutboxRelay::OutboxRelay(Parts parts, const PgTarget& target, bool ticks)
    : reactor_(parts.reactor),
      broker_(parts.broker),
      meter_(parts.meter),
      history_(std::move(parts.history)),
      ticks_(ticks),
      link_(parts.reactor, target, "rooms outbox", *this),
      timer_(parts.reactor.timer([this] { tick(); })) {}

OutboxRelay::~OutboxRelay() = default;

void OutboxRelay::start() { link_.start(); }

void OutboxRelay::stop() {
    stopped_ = true;
    timer_->disarm();
}

void OutboxRelay::on_up() {
    link_.run(kListen, {}, [this](const PgOutcome& outcome) {
        if (!outcome.good()) complain(outcome);
    });
    ring();
    if (ticks_ && !stopped_) timer_->arm(kTickMs);
}

void OutboxRelay::on_down(std::string_view) {
    timer_->disarm();
    batch_.reset();  // its rows come again
    more_ = false;
    left_.clear();
    state_ = State::resting;
}

void OutboxRelay::on_notification(std::string_view, std::string_view) { ring(); }

// A look without a transaction around it takes nothing: it lets go of the rows at once.
void OutboxRelay::tick() {
    timer_->arm(kTickMs);
    if (state_ != State::resting) return;
    link_.run(kTake, {"1", "{}"}, [this](const PgOutcome& outcome) {
        if (outcome.kind == PgOutcome::Kind::refused) complain(outcome);
        if (outcome.good() && !outcome.rows.empty()) ring();
    });
}

void OutboxRelay::ring() {
    if (stopped_ || !link_.up()) return;
    again_ = true;
    if (state_ == State::resting) rest();
}

// No batch is under way: the next one, if there is a reason.
void OutboxRelay::rest() {
    if (stopped_) return;
    if (more_ && left_.size() < kMaxLeft) return take();
    if (!std::exchange(again_, false)) return;
    left_.clear();
    take();
}

void OutboxRelay::take() {
    more_ = false;
    state_ = State::taking;
    std::string without;
    for (const std::string& room : left_) append_element(without, room);
    link_.run(kBegin, {}, nullptr);
    link_.run(kTake, {std::to_string(kBatch), closed(std::move(without))},
              [this](const PgOutcome& outcome) { on_taken(outcome); });
}

void OutboxRelay::on_taken(const PgOutcome& outcome) {
    if (outcome.kind == PgOutcome::Kind::unavailable) return link_.drop(outcome.reason);  // on_down follows
    if (!outcome.good()) complain(outcome);
    if (outcome.good() && outcome.rows.empty()) complained_ = false;
    if (outcome.rows.empty()) return commit(nullptr);
    auto batch = std::make_shared<Batch>();
    batch->begun_ms = reactor_.now_ms();
    batch->rows.resize(outcome.rows.size());
    std::size_t octets = 0;
    for (std::size_t i = 0; i < batch->rows.size(); ++i) {
        prepare(batch->rows[i], outcome.rows, i);
        octets += outcome.rows.text(i, kData).size();
    }
    batch->full = batch->rows.size() == kBatch || octets > kBatchOctets;
    state_ = State::publishing;
    batch_ = batch;
    fault_point("outbox:taken");
    publish(batch);
}

void OutboxRelay::prepare(Row& row, const PgRows& rows, std::size_t index) {
    row.id = rows.text(index, kId);
    row.room = rows.text(index, kRoom);
    row.key = rows.text(index, kKey);
    row.told = parse_approval_status(rows.text(index, kStatus));
    row.late_ms = rows.integer(index, kLateMs).value_or(0);
    append_field(row.event, "{\"room\":", row.room);
    append_field(row.event, ",\"type\":", rows.text(index, kType));
    row.event += ",\"data\":";
    row.event += rows.text(index, kData);
    row.event += '}';
    const auto parsed = parse_publish(row.event, false);
    if (has_bug("drop_outbox_row") && row.id.ends_with("00")) row.state = Row::State::published;
    if (parsed) {
        row.body = encode_event_body(*parsed->items.front(), row.room);
    } else {
        row.state = Row::State::unfit;
        row.reason = parsed.error().message;
    }
}

void OutboxRelay::publish(const std::shared_ptr<Batch>& batch) {
    struct Call {
        bool under_way = true;
        bool answered = false;
    };
    // The broker may answer in the call, and then the loop goes on, or later, and then the callback does.
    for (;;) {
        const std::vector<PublishRequest> requests = next_wave(*batch);
        // The transaction must not stay open for long: what has not been sent comes with the next one.
        const bool late = reactor_.now_ms() - batch->begun_ms > kBatchMs;
        if (late && !requests.empty()) batch->full = true;
        if (late || requests.empty()) return finish(batch);
        auto call = std::make_shared<Call>();
        broker_.publish(requests, [this, call, kept = std::weak_ptr<Batch>(batch)](
                                      std::span<const PublishAnswer> answers) {
            const auto batch = kept.lock();
            if (batch == nullptr) return;  // the connection has been lost meanwhile, or this relay is gone
            on_answers(*batch, answers);
            call->answered = true;
            if (!call->under_way) publish(batch);
        });
        call->under_way = false;
        if (!call->answered) return;
    }
}

// Of each room the first that waits, unless one before it has been left.
std::vector<PublishRequest> OutboxRelay::next_wave(Batch& batch) const {
    std::vector<PublishRequest> requests;
    std::set<std::string_view> rooms;
    batch.wave.clear();
    for (std::size_t i = 0; i < batch.rows.size(); ++i) {
        const Row& row = batch.rows[i];
        if (row.state == Row::State::published || row.state == Row::State::unfit) continue;
        if (!rooms.insert(row.room).second || row.state == Row::State::left) continue;
        batch.wave.push_back(i);
        requests.push_back({row.room, row.body, row.key, row.event, history_(row.room)});
    }
    return requests;
}

void OutboxRelay::on_answers(Batch& batch, std::span<const PublishAnswer> answers) {
    fault_point("outbox:wave");
    for (std::size_t i = 0; i < batch.wave.size(); ++i) {
        Row& row = batch.rows[batch.wave[i]];
        const PublishAnswer answer = i < answers.size() ? answers[i] : PublishAnswer{};
        switch (answer.status) {
            case PublishStatus::ok:
            case PublishStatus::duplicate: row.state = Row::State::published; break;
            case PublishStatus::conflict:
                row.state = Row::State::unfit;
                row.reason = "its key came with another event before";
                break;
            case PublishStatus::too_large:
                row.state = Row::State::unfit;
                row.reason = answer.reason;
                break;
            case PublishStatus::unavailable:
                row.state = Row::State::left;
                row.reason = answer.reason;
                break;
        }
    }
}

void OutboxRelay::finish(const std::shared_ptr<Batch>& batch) {
    fault_point("outbox:published");
    std::string published;
    std::string unfit;
    std::string reasons;
    for (const Row& row : batch->rows) {
        if (row.state == Row::State::published) append_element(published, row.id);
        if (row.state != Row::State::unfit) continue;
        append_element(unfit, row.id);
        append_element(reasons, row.reason);
        reactor_.log(LogLevel::error, "outbox row " + row.id + " for \"" + row.room +
                                          "\" cannot be published and stays: " + row.reason);
    }
    if (!published.empty() || !unfit.empty()) {
        link_.run(kFinish,
                  {closed(std::move(published)), closed(std::move(unfit)), closed(std::move(reasons))},
                  [this, batch](const PgOutcome& outcome) {
                      fault_point("outbox:finished");
                      batch->failed = !outcome.good();
                      if (outcome.kind == PgOutcome::Kind::refused) complain(outcome, "emptied");
                  });
    }
    commit(batch);
}

void OutboxRelay::commit(std::shared_ptr<Batch> batch) {
    state_ = State::ending;
    link_.run(kCommit, {}, [this, batch = std::move(batch)](const PgOutcome& outcome) {
        if (outcome.kind == PgOutcome::Kind::unavailable) return link_.drop(outcome.reason);
        fault_point("outbox:committed");
        state_ = State::resting;
        batch_.reset();
        // What is left waits for the next ring, and other rooms do not wait for it. So does all of a batch
        // that could not be deleted: Postgres calls it good to commit what has failed, and rolls it back.
        if (batch != nullptr && outcome.good() && !batch->failed) {
            complained_ = false;
            count(*batch);
            note_left(*batch);
            for (const Row& row : batch->rows) {
                if (row.state == Row::State::published) broker_.forget(row.room, row.key);
                if (row.state == Row::State::left) left_.insert(row.room);
            }
            more_ = batch->full;
        }
        rest();
    });
}

void OutboxRelay::count(const Batch& batch) {
    meter_.on_outbox_published(batch.count(Row::State::published));
    for (const Row& row : batch.rows) {
        if (row.state == Row::State::unfit) meter_.on_outbox_refused();
        if (row.state == Row::State::published && row.told) meter_.on_approval_told(*row.told, row.late_ms);
    }
}

// Once, until nothing is left: they wait for Redis, or for places in the zone.
void OutboxRelay::note_left(const Batch& batch) {
    const auto left = std::find_if(batch.rows.begin(), batch.rows.end(),
                                   [](const Row& row) { return row.state == Row::State::left; });
    if (left == batch.rows.end()) {
        told_left_ = false;
    } else if (!std::exchange(told_left_, true)) {
        reactor_.log(LogLevel::error, "events of the outbox wait: " + left->reason);
    }
}

// Once, until it works again.
void OutboxRelay::complain(const PgOutcome& outcome, const char* what) {
    if (std::exchange(complained_, true)) return;
    reactor_.log(LogLevel::error, std::string("the outbox cannot be ") + what + ": " + pg_fault(outcome));
}

}  // namespace rooms

// libpq's non-blocking API (PostgreSQL 15, chapter 34.4), and what it does not say there:
//
// - in PQconnectPoll it may close its socket and open another one under the same number, so that the watch
//   is made anew after each step;
// - a result is not the end of a statement: the transaction is committed after it, and an error may follow;
// - when reading fails there may be results of before, and the server's reason, in its buffer;
// - what it leaves in OpenSSL's queue of errors, nginx would take for a fault of the next TLS client.
#include "store/pg_session.hpp"

#include <libpq-fe.h>
#include <openssl/err.h>

#include <algorithm>
#include <new>
#include <utility>

#include "core/ascii.hpp"

namespace rooms {
namespace {

// The server gives up before we do, and says why.
constexpr char kOptions[] =
    "-c statement_timeout=2500 -c lock_timeout=500 -c idle_in_transaction_session_timeout=5000 "
    "-c timezone=UTC -c default_transaction_isolation=read\\ committed";

// Unless the operator names others. A host that has vanished shows within seconds, as with Redis. GSS is
// not asked for: its library waits for the network.
constexpr std::pair<const char*, const char*> kDefaults[] = {
    {"target_session_attrs", "read-write"},
    {"gssencmode", "disable"},
    {"keepalives", "1"},
    {"keepalives_idle", "5"},
    {"keepalives_interval", "2"},
    {"keepalives_count", "3"},
    {"tcp_user_timeout", "5000"},
};

constexpr std::size_t kMaxReason = 400;
constexpr char kNoWatch[] = "its events cannot be watched";

struct EmptyErrorQueue {
    EmptyErrorQueue() = default;
    ~EmptyErrorQueue() { ERR_clear_error(); }
    EmptyErrorQueue(const EmptyErrorQueue&) = delete;
    EmptyErrorQueue& operator=(const EmptyErrorQueue&) = delete;
};

std::string_view field(const pg_result* result, int code) {
    const char* text = PQresultErrorField(result, code);
    return text != nullptr ? std::string_view(text) : std::string_view();
}

bool is_error(const pg_result* result) {
    const ExecStatusType status = PQresultStatus(result);
    return status == PGRES_FATAL_ERROR || status == PGRES_BAD_RESPONSE;
}

// The server hangs up, or is not the one that it was; or what was prepared is not there, or not valid, any
// more. A new connection is what helps.
bool ends_session(const pg_result* error) {
    const std::string_view severity = field(error, PG_DIAG_SEVERITY_NONLOCALIZED);
    const std::string_view state = field(error, PG_DIAG_SQLSTATE);
    if (state.empty() || severity == "FATAL" || severity == "PANIC") return true;
    if (state == "25006" || state == "26000" || state == "42P05" || state.starts_with("57P0")) return true;
    // "cached plan must not change result type", in whatever language.
    return state == "0A000" && field(error, PG_DIAG_SOURCE_FUNCTION) == "RevalidateCachedQuery";
}

// `connection to server at "10.0.0.1", port 5432 failed: FATAL:  …`; `place`: is kept.
std::string_view without_prefix(std::string_view line, bool place) {
    constexpr std::string_view kFailed = " failed: ";
    constexpr std::string_view kFatal = "FATAL:  ";
    if (place) return line;
    if (line.starts_with("connection to server ")) {
        const std::size_t at = line.find(kFailed);
        if (at != line.npos) line.remove_prefix(at + kFailed.size());
    }
    if (line.starts_with(kFatal)) line.remove_prefix(kFatal.size());
    return line;
}

// One line: hints are left out, and what is said twice (with TLS, then without).
std::string one_line(std::string_view text, bool place) {
    std::string result;
    while (!text.empty()) {
        const std::size_t end = text.find('\n');
        std::string_view line = text.substr(0, end);
        text = end == text.npos ? std::string_view() : text.substr(end + 1);
        if (line.empty() || line.front() == '\t') continue;
        line = without_prefix(line, place);
        if (result.find(line) != result.npos) continue;
        if (!result.empty()) result += "; ";
        result += line;
    }
    if (!place && result.size() > 1 && ascii_lower(result[1]) == result[1])
        result[0] = ascii_lower(result[0]);
    if (result.size() > kMaxReason) result.resize(kMaxReason);
    return result;
}

std::string without(std::string text, const char* secret) {
    const std::string_view hidden = secret != nullptr ? secret : "";
    if (hidden.empty()) return text;
    constexpr std::string_view kStars = "***";
    for (std::size_t at = text.find(hidden); at != text.npos; at = text.find(hidden, at + kStars.size()))
        text.replace(at, hidden.size(), kStars);
    return text;
}

// What libpq is told, by name; the texts live in it.
class Parameters {
public:
    Parameters(const PgTarget& target, std::size_t first, const std::string& application_name) {
        add_servers(target, first);
        std::string options = kOptions;
        for (const auto& [name, value] : target.parameters) {
            if (name == "options") {
                options += " " + value;
            } else if (name != "client_encoding" && name != "fallback_application_name") {
                add(name, value);
            }
        }
        for (const auto& [name, value] : kDefaults) {
            if (target.parameter(name).empty()) add(name, value);
        }
        add("options", std::move(options));
        add("client_encoding", "UTF8");
        add("fallback_application_name", application_name);
        for (const auto& [name, value] : all_) {
            names_.push_back(name.c_str());
            values_.push_back(value.c_str());
        }
        names_.push_back(nullptr);
        values_.push_back(nullptr);
    }

    [[nodiscard]] const char* const* names() const { return names_.data(); }
    [[nodiscard]] const char* const* values() const { return values_.data(); }

private:
    void add(std::string_view name, std::string value) { all_.emplace_back(name, std::move(value)); }

    void add_servers(const PgTarget& target, std::size_t first) {
        std::string hosts, addresses, ports;
        for (std::size_t i = 0; i < target.servers.size(); ++i) {
            const PgTarget::Server& server = target.servers[(first + i) % target.servers.size()];
            const char* comma = i != 0 ? "," : "";
            hosts += comma + server.host;
            addresses += comma + server.address;
            ports += comma + server.port;
        }
        add("host", std::move(hosts));
        add("hostaddr", std::move(addresses));
        add("port", std::move(ports));
    }

    std::vector<std::pair<std::string, std::string>> all_;
    std::vector<const char*> names_;
    std::vector<const char*> values_;
};

}  // namespace

void PgSession::ResultFree::operator()(pg_result* result) const { PQclear(result); }
void PgSession::ConnectionFree::operator()(pg_conn* connection) const { PQfinish(connection); }

PgSession::PgSession(Reactor& reactor, Handler& handler)
    : reactor_(reactor), handler_(handler), alive_(std::make_shared<int>(0)) {}

PgSession::~PgSession() { close(); }

std::string PgSession::open(const PgTarget& target, std::size_t first, const std::string& application_name) {
    const EmptyErrorQueue emptied;
    const Parameters parameters(target, first, application_name);
    one_server_ = target.servers.size() == 1;
    connection_.reset(PQconnectStartParams(parameters.names(), parameters.values(), 0));
    if (connection_ == nullptr) return "out of memory";
    std::string fault;
    if (PQstatus(connection_.get()) == CONNECTION_BAD) {
        fault = reason();
    } else {
        PQsetNoticeReceiver(connection_.get(), on_notice, this);
        step_ = Step::connecting;
        // As if PQconnectPoll had asked for it.
        if (!watch_anew(false, true)) fault = kNoWatch;
    }
    if (!fault.empty()) close();
    return fault;
}

void PgSession::close() {
    const EmptyErrorQueue emptied;
    watch_.reset();
    connection_.reset();
    result_.reset();
    prepared_.clear();
    farewell_.clear();
    step_ = Step::idle;
}

bool PgSession::watch_anew(bool read, bool write) {
    watch_.reset();
    watch_ = reactor_.watch(PQsocket(connection_.get()), [this] { on_ready(); });
    return watch_ != nullptr && watch_->want(read, write);
}

// Also while there is more to be written the server may have something to say.
bool PgSession::flush() {
    const int left = PQflush(connection_.get());
    return left >= 0 && watch_->want(true, left > 0);
}

std::string PgSession::send(const PgStatement& statement, const std::vector<PgValue>& values) {
    const EmptyErrorQueue emptied;
    values_.clear();
    for (const PgValue& value : values) values_.push_back(value ? value->c_str() : nullptr);
    statement_ = statement;
    if (prepared_.contains(statement.name)) return execute();
    std::string fault = prepare(statement);
    execute_next_ = true;
    return fault;
}

std::string PgSession::prepare(const PgStatement& statement) {
    const EmptyErrorQueue emptied;
    statement_ = statement;
    execute_next_ = false;
    step_ = Step::preparing;
    if (PQsendPrepare(connection_.get(), statement.name, statement.text, 0, nullptr) != 1 || !flush())
        return reason();
    return {};
}

std::string PgSession::execute() {
    step_ = Step::executing;
    if (PQsendQueryPrepared(connection_.get(), statement_.name, static_cast<int>(values_.size()),
                            values_.data(), nullptr, nullptr, 0) != 1 ||
        !flush()) {
        return reason();
    }
    return {};
}

std::string PgSession::reason() const {
    // It may have said why before it hung up, and libpq's last word is the latter.
    if (result_ != nullptr && is_error(result_.get())) return words_of(result_.get());
    std::string said = farewell_.empty() ? PQerrorMessage(connection_.get()) : farewell_;
    said = without(one_line(said, !one_server_ && step_ == Step::connecting), PQpass(connection_.get()));
    return said.empty() ? "failed" : said;
}

std::string PgSession::words_of(const pg_result* result) const {
    std::string_view said = field(result, PG_DIAG_MESSAGE_PRIMARY);
    if (field(result, PG_DIAG_SQLSTATE).empty()) {  // libpq's words, of a connection that has ended
        said = farewell_.empty() ? std::string_view(PQresultErrorMessage(result)) : farewell_;
    }
    return without(one_line(said, false), PQpass(connection_.get()));
}

// Called by libpq, which prints them otherwise.
void PgSession::on_notice(void* session, const pg_result* notice) noexcept {
    // A server that crashes warns before it hangs up.
    if (field(notice, PG_DIAG_SEVERITY_NONLOCALIZED) != "FATAL" &&
        !field(notice, PG_DIAG_SQLSTATE).starts_with("57P0"))
        return;
    try {
        static_cast<PgSession*>(session)->farewell_ = field(notice, PG_DIAG_MESSAGE_PRIMARY);
    } catch (const std::bad_alloc&) {
    }
}

// The one way in of events.
void PgSession::on_ready() {
    const EmptyErrorQueue emptied;
    const std::weak_ptr<int> alive = alive_;
    try {
        if (step_ == Step::connecting) {
            advance_connect();
        } else {
            serve();
        }
    } catch (const std::bad_alloc&) {
        if (!alive.expired() && connection_ != nullptr) end("out of memory");
    }
}

void PgSession::advance_connect() {
    bool watched = false;
    switch (PQconnectPoll(connection_.get())) {
        case PGRES_POLLING_READING: watched = watch_anew(true, false); break;
        case PGRES_POLLING_WRITING: watched = watch_anew(false, true); break;
        case PGRES_POLLING_OK:
            // Not before: libpq would take a part of the login that waits for one that has failed.
            if (PQsetnonblocking(connection_.get(), 1) != 0) return end(reason());
            if (!watch_anew(true, false)) return end(kNoWatch);
            step_ = Step::idle;
            return handler_.on_open();
        case PGRES_POLLING_FAILED:
        case PGRES_POLLING_ACTIVE: return end(reason());
    }
    if (!watched) end(kNoWatch);
}

void PgSession::serve() {
    const std::weak_ptr<int> alive = alive_;
    const auto gone = [&] { return alive.expired() || connection_ == nullptr; };
    const bool reads = PQconsumeInput(connection_.get()) == 1;
    take_results();
    if (gone()) return;
    tell_messages();
    if (gone()) return;
    if (!reads || PQstatus(connection_.get()) == CONNECTION_BAD || !flush()) end(reason());
}

void PgSession::tell_messages() {
    const std::weak_ptr<int> alive = alive_;
    for (;;) {
        const std::unique_ptr<PGnotify, decltype(&PQfreemem)> message(PQnotifies(connection_.get()),
                                                                      PQfreemem);
        if (message == nullptr) return;
        handler_.on_message(message->relname, message->extra);
        if (alive.expired() || connection_ == nullptr) return;
    }
}

void PgSession::take_results() {
    const std::weak_ptr<int> alive = alive_;
    while (busy() && PQisBusy(connection_.get()) == 0) {
        OwnedResult next(PQgetResult(connection_.get()));
        if (next == nullptr) {
            take_outcome();
            if (alive.expired() || connection_ == nullptr) return;
            continue;
        }
        switch (PQresultStatus(next.get())) {
            case PGRES_COPY_IN:
            case PGRES_COPY_OUT:
            case PGRES_COPY_BOTH: return end("COPY cannot be used here");
            default: break;
        }
        // The first error is the server's, the next may be what libpq makes of its end.
        if (result_ == nullptr || (is_error(next.get()) && !is_error(result_.get())))
            result_ = std::move(next);
    }
}

void PgSession::take_outcome() {
    const OwnedResult result = std::move(result_);
    const Step done = std::exchange(step_, Step::idle);
    if (result == nullptr) return end("it gave no result");
    PgOutcome outcome;
    if (is_error(result.get())) {
        const std::string words = words_of(result.get());
        if (ends_session(result.get())) return end(words);
        outcome.kind = PgOutcome::Kind::refused;
        outcome.sqlstate = field(result.get(), PG_DIAG_SQLSTATE);
        outcome.reason = words;
        return handler_.on_outcome(outcome);
    }
    if (done == Step::preparing) prepared_.insert(statement_.name);
    if (done == Step::preparing && execute_next_) {
        if (std::string fault = execute(); !fault.empty()) end(std::move(fault));
        return;
    }
    outcome.kind = PgOutcome::Kind::rows;
    outcome.rows = PgRows(result.get());
    handler_.on_outcome(outcome);
}

void PgSession::end(std::string why) {
    close();
    handler_.on_closed(why);
}

}  // namespace rooms

#include "nginx/room_lookup.hpp"

#include <new>
#include <utility>

#include "store/pg_fault.hpp"

namespace rooms {

RoomLookup::RoomLookup(Reactor& reactor, PgLink* link, ngx_http_core_srv_conf_t* server,
                       const RoomRules& rules)
    : reactor_(reactor), link_(link), server_(server), rules_(rules) {}

void RoomLookup::ask(std::uint32_t rule, std::vector<std::string> values, Done done) {
    const std::string key = LookupCache::key_of(rule, values);
    if (cache_.has(key, reactor_.now_ms())) return done(Answer::yes);
    std::vector<Done>& asking = asking_[key];
    asking.push_back(std::move(done));
    if (asking.size() > 1) return;
    const LookupRule& lookup = *rules_.lookups[rule];
    try {
        run(lookup, std::move(values),
            [this, key, &lookup](Answer answer) { on_answer(key, lookup, answer); });
    } catch (...) {
        // Whoever asks the same would wait for an answer that nobody brings.
        asking_.erase(key);
        throw;
    }
}

void RoomLookup::on_answer(const std::string& key, const LookupRule& rule, Answer answer) {
    // Who is told may ask again.
    auto asking = asking_.extract(key);
    if (asking.empty()) return;
    const std::uint64_t now = reactor_.now_ms();
    try {
        if (answer == Answer::yes && rule.cache != 0) cache_.keep(key, now + rule.cache, now);
    } catch (const std::bad_alloc&) {
        // It is asked again.
    }
    for (const Done& done : asking.mapped()) done(answer);
}

void RoomLookup::run(const LookupRule& rule, std::vector<std::string> values, Done done) {
    switch (rule.kind) {
        case LookupRule::Kind::sql: return run_sql(rule, values, std::move(done));
        case LookupRule::Kind::request: return run_request(rule, values, std::move(done));
    }
}

void RoomLookup::run_request(const LookupRule& rule, const std::vector<std::string>& values, Done done) {
    const auto uri = uri_text(rule.text, values);
    if (!uri) return done(Answer::no);
    std::erase_if(requests_, [](const auto& request) { return request->over(); });
    std::unique_ptr<InnerRequest> request;
    if (requests_.size() < kMaxRequests) {
        request = InnerRequest::start(reactor_, server_, *uri, [done](unsigned status) {
            if (status >= 200 && status < 300) return done(Answer::yes);
            done(status == 401 || status == 403 ? Answer::no : Answer::unavailable);
        });
    }
    if (request == nullptr) return done(Answer::unavailable);
    requests_.push_back(std::move(request));
}

void RoomLookup::run_sql(const LookupRule& rule, const std::vector<std::string>& values, Done done) {
    std::vector<PgValue> parameters(values.begin(), values.end());
    link_->run(
        {rule.name.c_str(), rule.sql.c_str()}, std::move(parameters),
        [this, &rule, done = std::move(done)](const PgOutcome& outcome) { done(judge(rule, outcome)); });
}

// A row lets in, unless its first column is false or null: `select exists (…)` means what it says.
Lookup::Answer RoomLookup::judge(const LookupRule& rule, const PgOutcome& outcome) {
    if (outcome.good()) {
        failing_.erase(&rule);
        const PgRows& rows = outcome.rows;
        const bool in = !rows.empty() && !rows.is_null(0, 0) && !rows.is_false(0, 0);
        return in ? Answer::yes : Answer::no;
    }
    // Class 22: a value that the column's type cannot be. There is no row for it.
    if (outcome.sqlstate.starts_with("22")) return Answer::no;
    try {
        if (outcome.kind == PgOutcome::Kind::refused && failing_.insert(&rule).second)
            reactor_.log(LogLevel::error, "\"sql=\" of rooms_allow: " + pg_fault(outcome));
    } catch (const std::bad_alloc&) {
        // Whoever waits is answered all the same.
    }
    return Answer::unavailable;
}

}  // namespace rooms

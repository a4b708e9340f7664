#include "store/redis_approvals.hpp"

#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "core/json_text.hpp"
#include "core/room.hpp"

namespace rooms {
namespace {

constexpr unsigned kMaxClaims = 4;
constexpr std::uint64_t kToldEveryMs = 60000;

constexpr struct {
    std::string_view text;
    ApprovalOutcome outcome;
} kOutcomes[] = {
    {"created", ApprovalOutcome::created},   {"exists", ApprovalOutcome::exists},
    {"done", ApprovalOutcome::done},         {"not_found", ApprovalOutcome::not_found},
    {"past", ApprovalOutcome::past},         {"too_long", ApprovalOutcome::too_long},
    {"resolved", ApprovalOutcome::resolved}, {"expired", ApprovalOutcome::expired},
};

ApprovalAnswer answer_of(const ApprovalState& state) {
    ApprovalAnswer answer;
    for (const auto& known : kOutcomes) {
        if (known.text == state.outcome) answer.outcome = known.outcome;
    }
    answer.json = state.json;
    answer.status = state.status;
    if (answer.outcome == ApprovalOutcome::unavailable)
        answer.reason = "this id was begun by somebody who did not go on: it is free in a moment";
    return answer;
}

std::string json_text(const std::optional<std::string>& text) {
    if (!text) return "null";
    std::string json;
    append_json_string(json, *text);
    return json;
}

}  // namespace

// Somebody who is owed an answer.
struct RedisApprovals::Request {
    ApprovalDone done;  // empty: it has been given
    std::uint64_t deadline = 0;
};

RedisApprovals::RedisApprovals(RedisApprovalCalls::Parts parts, const ApprovalTimes& times,
                               ApprovalMeter& meter, bool polls)
    : reactor_(parts.reactor),
      times_(times),
      calls_(std::move(parts), times, meter, [this](std::uint64_t ms) { sweeper_.expect(ms); }),
      sweeper_(reactor_, calls_, meter, polls),
      late_(reactor_.timer([this] { end_late(); })) {}

RedisApprovals::~RedisApprovals() {
    if (open_ != 0) reactor_.hold(false);
}

void RedisApprovals::start() { sweeper_.start(); }

void RedisApprovals::begin_drain() { sweeper_.stop(); }

// --- requests

RedisApprovals::RequestPtr RedisApprovals::open(ApprovalDone done) {
    auto request = std::make_shared<Request>();
    request->deadline = reactor_.now_ms() + kAnswerMs;
    requests_.push_back(request);
    request->done = std::move(done);
    if (open_++ == 0) reactor_.hold(true);
    if (!late_->armed()) late_->arm(kAnswerMs);
    return request;
}

void RedisApprovals::answer(Request& request, const ApprovalAnswer& answer) {
    const ApprovalDone done = std::exchange(request.done, nullptr);
    if (!done) return;
    if (--open_ == 0) reactor_.hold(false);
    done(answer);
}

void RedisApprovals::give_up(Request& request, std::string_view why) {
    ApprovalAnswer unavailable;
    unavailable.reason = why;
    answer(request, unavailable);
}

void RedisApprovals::end_late() {
    const std::uint64_t now = reactor_.now_ms();
    while (!requests_.empty()) {
        const RequestPtr request = requests_.front();
        if (request->done && request->deadline > now) return late_->arm(request->deadline - now);
        requests_.pop_front();
        give_up(*request, "redis did not answer in time");
    }
}

// --- one approval

void RedisApprovals::find(const RequestPtr& request, std::string_view id,
                          std::function<void(const ApprovalPlace&)> then) {
    ApprovalAnswer none;
    none.outcome = ApprovalOutcome::not_found;
    if (!is_approval_id(id)) return answer(*request, none);
    calls_.find(id, [this, request, none, place = ApprovalPlace{std::string(id), {}},
                     then = std::move(then)](const RedisOutcome& outcome) mutable {
        if (!outcome.reply) return give_up(*request, outcome.why);
        if (outcome.reply->is_nil()) return answer(*request, none);
        place.session = outcome.reply->text();
        then(place);
    });
}

void RedisApprovals::change(const RequestPtr& request, std::string_view id, std::string what,
                            std::vector<std::string> arguments) {
    find(request, id,
         [this, request, what = std::move(what),
          arguments = std::move(arguments)](const ApprovalPlace& place) {
             const std::vector<std::string_view> views(arguments.begin(), arguments.end());
             calls_.change(place, what, views,
                           [this, request](const ApprovalState* state, std::string_view why) {
                               if (state == nullptr) return give_up(*request, why);
                               answer(*request, answer_of(*state));
                           });
         });
}

void RedisApprovals::resolve(std::string_view id, const Resolution& resolution, ApprovalDone done) {
    change(open(std::move(done)), id, "resolve",
           {std::string(approval_status_text(resolution.status)), json_text(resolution.by)});
}

void RedisApprovals::extend(std::string_view id, std::int64_t by_ms, ApprovalDone done) {
    change(open(std::move(done)), id, "extend", {std::to_string(by_ms)});
}

void RedisApprovals::get(std::string_view id, ApprovalDone done) {
    const RequestPtr request = open(std::move(done));
    find(request, id, [this, request](const ApprovalPlace& place) {
        calls_.read({&place, 1}, [this, request](const RedisOutcome& outcome) {
            if (!outcome.reply) return give_up(*request, outcome.why);
            const Reply found = (*outcome.reply)[0];
            ApprovalAnswer shown;
            shown.outcome = found.is_nil() ? ApprovalOutcome::not_found : ApprovalOutcome::found;
            shown.json = found[0].text();
            shown.status = found[1].text();
            answer(*request, shown);
        });
    });
}

// --- a new one: its timeout, a claim on its id, then the approval itself

struct RedisApprovals::Creation {
    RequestPtr request;
    ApprovalPlace place;
    std::string action;
    std::string context;
    std::optional<std::string> tenant;
    std::string timeout;  // one of the two
    std::string deadline;
    bool bounded = false;
    bool claimed = false;  // the id was free
    unsigned claims = 0;
};

// A random UUID (RFC 9562, version 4), as Postgres gives one.
std::string RedisApprovals::new_id() {
    const std::uint64_t high = (reactor_.random() & ~0xf000ull) | 0x4000;
    const std::uint64_t low = (reactor_.random() & ~(3ull << 62)) | 1ull << 63;
    std::string id;
    for (unsigned i = 0; i < 32; ++i) {
        if (i == 8 || i == 12 || i == 16 || i == 20) id += '-';
        id += "0123456789abcdef"[(i < 16 ? high : low) >> (60 - 4 * (i % 16)) & 15];
    }
    return id;
}

void RedisApprovals::create(const NewApproval& approval, ApprovalDone done) {
    const RequestPtr request = open(std::move(done));
    ApprovalAnswer refusal;
    if (!is_room("session:" + approval.session)) {
        refusal.outcome = ApprovalOutcome::no_session;
        return answer(*request, refusal);
    }
    if (approval.context.size() > kMaxContext) {
        refusal.outcome = ApprovalOutcome::too_large;
        return answer(*request, refusal);
    }
    auto creation = std::make_shared<Creation>();
    creation->request = request;
    creation->place = {approval.id ? *approval.id : new_id(), approval.session};
    creation->action = approval.action;
    creation->context = approval.context.empty() ? "null" : approval.context;
    creation->tenant = approval.tenant;
    creation->bounded = approval.timeout_ms || approval.expires_at_ms;
    if (approval.timeout_ms) creation->timeout = std::to_string(*approval.timeout_ms);
    if (approval.expires_at_ms) creation->deadline = std::to_string(*approval.expires_at_ms);
    if (creation->bounded) return claim(creation, {});
    calls_.timeouts(approval.tenant, approval.action, [this, creation](const RedisOutcome& outcome) {
        if (!outcome.reply) return give_up(*creation->request, outcome.why);
        set_timeout(creation, outcome);
        claim(creation, {});
    });
}

void RedisApprovals::set_timeout(const CreationPtr& creation, const RedisOutcome& timeouts) {
    creation->timeout = std::to_string(times_.timeout_ms);
    for (std::size_t i = 0; i < timeouts.reply->size(); ++i) {
        // The first two are of its tenant, where it has one.
        if (!creation->tenant && i < 2) continue;
        const std::string_view text = (*timeouts.reply)[i].text();
        const auto ms = parse_duration_ms(text);
        if (ms && *ms > 0) {
            creation->timeout = std::to_string(*ms);
            return;
        }
        const std::uint64_t now = reactor_.now_ms();
        if (text.empty() || (told_timeout_ != 0 && now < told_timeout_ + kToldEveryMs)) continue;
        told_timeout_ = now;
        reactor_.log(LogLevel::error, "redis: approval_timeouts for the action " +
                                          shown_text(creation->action) +
                                          ": a value is no time, write 90 or 15m");
    }
}

void RedisApprovals::claim(const CreationPtr& creation, const std::string& instead_of) {
    if (++creation->claims > kMaxClaims)
        return give_up(*creation->request, "somebody else claims this id again and again");
    calls_.claim(creation->place, instead_of, creation->timeout, creation->deadline,
                 [this, creation](const RedisOutcome& outcome) { on_claimed(creation, outcome); });
}

void RedisApprovals::on_claimed(const CreationPtr& creation, const RedisOutcome& outcome) {
    if (!outcome.reply) return give_up(*creation->request, outcome.why);
    const std::string_view got = (*outcome.reply)[0].text();
    creation->claimed = got == "new";
    if (got != "other") return make(creation);
    // It is another session's, or was to become that: then it must not any more, and the id is free.
    const ApprovalPlace other = {creation->place.id, std::string((*outcome.reply)[1].text())};
    calls_.change(other, "sweep", {},
                  [this, creation, other](const ApprovalState* state, std::string_view why) {
                      if (state == nullptr) return give_up(*creation->request, why);
                      if (state->json.empty()) return claim(creation, other.session);
                      ApprovalAnswer exists = answer_of(*state);
                      exists.outcome = ApprovalOutcome::exists;
                      exists.reason = {};
                      answer(*creation->request, exists);
                  });
}

void RedisApprovals::make(const CreationPtr& creation) {
    const std::string action = json_text(creation->action);
    const std::string tenant = json_text(creation->tenant);
    const std::array<std::string_view, 6> arguments = {action,
                                                       creation->context,
                                                       tenant,
                                                       creation->timeout,
                                                       creation->deadline,
                                                       creation->bounded ? "1" : ""};
    calls_.change(creation->place, "create", arguments,
                  [this, creation](const ApprovalState* state, std::string_view why) {
                      if (state == nullptr) return give_up(*creation->request, why);
                      // Whoever has the same id meanwhile writes the index once more.
                      const bool refused = state->outcome == "past" || state->outcome == "too_long";
                      if (refused && creation->claimed) calls_.forget(creation->place);
                      answer(*creation->request, answer_of(*state));
                  });
}

}  // namespace rooms

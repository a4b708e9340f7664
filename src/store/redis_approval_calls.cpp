#include "store/redis_approval_calls.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "core/json_text.hpp"

namespace rooms {
namespace {

constexpr std::uint64_t kLongestTtl = std::uint64_t{1} << 50;

std::optional<ApprovalState> state_of(Reply reply) {
    ApprovalState state;
    state.outcome = reply[0].text();
    if (state.outcome.empty()) return std::nullopt;
    state.changed = reply[1].integer() == 1;
    state.json = reply[2].text();
    state.status = reply[3].text();
    const std::int64_t due = reply[4].integer().value_or(-1);
    if (due >= 0) state.due_ms = static_cast<std::uint64_t>(due);
    state.deadline = reply[5].text();
    state.tenant = reply[6].text();
    state.late_ms = reply[7].integer().value_or(0);
    return state;
}

}  // namespace

RedisApprovalCalls::RedisApprovalCalls(Parts parts, const ApprovalTimes& times, ApprovalMeter& meter,
                                       std::function<void(std::uint64_t)> on_due)
    : parts_(std::move(parts)),
      meter_(meter),
      on_due_(std::move(on_due)),
      max_(std::to_string(times.max_ms)),
      due_(parts_.prefix + ":{approvals}:due") {
    for (const std::uint64_t ms : times.warn_ms) warn_ += (warn_.empty() ? "" : " ") + std::to_string(ms);
}

std::string RedisApprovalCalls::base_of(std::string_view session) const {
    return room_base(parts_.prefix, "session:" + std::string(session));
}

std::string RedisApprovalCalls::index_key(std::string_view kind, std::string_view name) const {
    return parts_.prefix + ":{approvals}:" + std::string(kind) + ':' + std::string(name);
}

RedisCalls::Done RedisApprovalCalls::guarded(RedisCalls::Done done) const {
    return [done = std::move(done), alive = std::weak_ptr(alive_)](const RedisOutcome& outcome) {
        if (!alive.expired()) done(outcome);
    };
}

// --- one approval

void RedisApprovalCalls::change(const ApprovalPlace& place, std::string_view what,
                                std::span<const std::string_view> arguments, Changed done) {
    const std::string base = base_of(place.session);
    const std::string meta = base + ":meta";
    const std::string stream = base + ":stream";
    const std::string key = base + ":approval:" + place.id;
    const std::string all = base + ":approvals";
    const std::array<std::string_view, 4> keys = {meta, stream, key, all};

    const RedisNode* node = parts_.servers.node_of(base);
    const std::string_view fence = node != nullptr ? node->fence() : std::string_view();
    const std::string_view sharded = node != nullptr && node->sharded() ? "1" : "";
    const HistoryLimits limits = parts_.history("session:" + place.session);
    const std::string size = std::to_string(limits.size);
    const std::string ttl = std::to_string(std::min(limits.ttl_ms, kLongestTtl));
    std::vector<std::string_view> words = {what, size, ttl, fence, parts_.word, sharded, warn_, max_};
    words.insert(words.end(), arguments.begin(), arguments.end());
    parts_.calls.run(Script::approval, keys, words,
                     guarded([this, place, sweeps = what == "sweep", done = std::move(done)](
                                 const RedisOutcome& outcome) { on_changed(place, sweeps, outcome, done); }));
}

void RedisApprovalCalls::on_changed(const ApprovalPlace& place, bool sweeps, const RedisOutcome& outcome,
                                    const Changed& done) {
    if (!outcome.reply) return done(nullptr, outcome.why);
    const Reply reply = *outcome.reply;
    const auto state = state_of(reply);
    if (!state) return done(nullptr, "redis gave an answer that makes no sense");
    const auto status = parse_approval_status(state->status);
    if (state->changed && !state->due_ms && status) meter_.on_approval_told(*status, state->late_ms);
    done(&*state, {});
    // What follows may be cut short by want of memory: the next sweep comes by and makes it good.
    if (state->changed) {
        parts_.on_stored(base_of(place.session), {std::string(reply[8].text()),
                                                  static_cast<std::uint64_t>(reply[9].integer().value_or(0)),
                                                  std::string(reply[10].text()), outcome.node->fence()});
    }
    // A sweep came because the index says so: if it finds nothing to do the index is wrong.
    if (!state->json.empty() && (state->changed || sweeps)) put(place, *state);
    if (state->changed && !sweeps && state->due_ms) on_due_(*state->due_ms);
}

void RedisApprovalCalls::read(std::span<const ApprovalPlace> places, RedisCalls::Done done) {
    const std::string before = base_of(places.front().session) + ":approval:";
    std::vector<std::string> keys;
    keys.reserve(places.size());
    for (const ApprovalPlace& place : places) keys.push_back(before + place.id);
    const std::vector<std::string_view> views(keys.begin(), keys.end());
    const std::array<std::string_view, 1> arguments = {"read"};
    parts_.calls.run(Script::approval, views, arguments, guarded(std::move(done)));
}

// --- the indexes

void RedisApprovalCalls::find(std::string_view id, RedisCalls::Done done) {
    const std::string key = index_key("id", id);
    const std::array<std::string_view, 2> words = {"GET", key};
    parts_.calls.command(key, words, guarded(std::move(done)));
}

void RedisApprovalCalls::claim(const ApprovalPlace& place, std::string_view instead_of,
                               std::string_view timeout, std::string_view deadline, RedisCalls::Done done) {
    const std::string known = index_key("id", place.id);
    const std::array<std::string_view, 2> keys = {due_, known};
    const std::array<std::string_view, 6> arguments = {"claim",    place.id, place.session,
                                                       instead_of, timeout,  deadline};
    parts_.calls.run(Script::approval_index, keys, arguments, guarded(std::move(done)));
}

void RedisApprovalCalls::put(const ApprovalPlace& place, const ApprovalState& state) {
    const std::string known = index_key("id", place.id);
    const auto tenant = unescape_json(state.tenant);  // null is no string
    const std::string listed = tenant ? index_key("tenant", *tenant) : std::string();
    const std::array<std::string_view, 3> keys = {due_, known, listed};
    const std::string due = state.due_ms ? std::to_string(*state.due_ms) : "-1";
    const std::array<std::string_view, 5> arguments = {"put", place.id, place.session, due, state.deadline};
    parts_.calls.run(Script::approval_index, std::span(keys).first(tenant ? 3 : 2), arguments, nullptr);
}

void RedisApprovalCalls::forget(const ApprovalPlace& place) {
    const std::string known = index_key("id", place.id);
    const std::array<std::string_view, 2> keys = {due_, known};
    const std::array<std::string_view, 3> arguments = {"forget", place.id, place.session};
    parts_.calls.run(Script::approval_index, keys, arguments, nullptr);
}

void RedisApprovalCalls::look(std::size_t skip, std::size_t most, RedisCalls::Done done) {
    const std::array<std::string_view, 1> keys = {due_};
    const std::string first = std::to_string(skip);
    const std::string count = std::to_string(most);
    const std::array<std::string_view, 3> arguments = {"look", first, count};
    parts_.calls.run(Script::approval_index, keys, arguments, guarded(std::move(done)));
}

void RedisApprovalCalls::list(bool of_session, std::string_view name, std::string_view from, std::size_t skip,
                              std::size_t most, RedisCalls::Done done) {
    const std::string key = of_session ? base_of(name) + ":approvals" : index_key("tenant", name);
    const std::string first = std::to_string(skip);
    const std::string count = std::to_string(most);
    const std::array<std::string_view, 8> words = {"ZRANGEBYSCORE", key,     from,  "+inf",
                                                   "WITHSCORES",    "LIMIT", first, count};
    parts_.calls.command(key, words, guarded(std::move(done)));
}

void RedisApprovalCalls::timeouts(const std::optional<std::string>& tenant, std::string_view action,
                                  RedisCalls::Done done) {
    const std::string key = parts_.prefix + ":approval_timeouts";
    const std::string of_action = '|' + std::string(action);
    const std::string of_tenant = tenant.value_or("") + '|';
    const std::string of_both = tenant.value_or("") + of_action;
    const std::array<std::string_view, 6> words = {"HMGET", key, of_both, of_tenant, of_action, "|"};
    parts_.calls.command(key, words, guarded(std::move(done)));
}

}  // namespace rooms

#include "store/redis_calls.hpp"

#include <array>
#include <new>
#include <utility>

namespace rooms {
namespace {

constexpr std::uint64_t kFaultEveryMs = 60000;
constexpr unsigned kMaxDetours = 4;
constexpr std::uint64_t kTryAgainMs = 20;
constexpr std::size_t kMaxEarly = 4096;
constexpr std::string_view kUnreachable = "redis cannot be reached";

// Whatever is asked, the server would say it.
bool is_of_server(std::string_view kind) {
    for (const std::string_view one :
         {"OOM", "LOADING", "MISCONF", "NOAUTH", "NOPERM", "CLUSTERDOWN", "BUSY", "NOREPLICAS"}) {
        if (kind == one) return true;
    }
    return false;
}

}  // namespace

// One that is dropped on its way, for want of memory, is answered then; where it does not even begin, the caller
// gets the exception instead.
struct RedisCalls::Call {
    Call() = default;
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;
    ~Call() {
        if (!begun || !done || alive.expired()) return;
        try {
            std::exchange(done, nullptr)({std::nullopt, "out of memory", true, nullptr});
        } catch (const std::bad_alloc&) {
        }
    }

    bool begun = false;
    std::weak_ptr<int> alive;  // the RedisCalls: without it nobody wants to know
    std::string key;           // routes it; empty: goes to the node it was made for
    std::string octets;        // the command in RESP
    Done done;
    std::uint64_t deadline = 0;
    unsigned detours = 0;
    bool script = false;
};

RedisCalls::RedisCalls(Reactor& reactor, RedisServers& servers)
    : reactor_(reactor),
      servers_(servers),
      early_timer_(reactor.timer([this] { expire_early(); })),
      again_timer_(reactor.timer([this] { try_again(); })) {}

RedisCalls::~RedisCalls() { alive_.reset(); }

namespace {

std::string encode_script(Script script, std::span<const std::string_view> keys,
                          std::span<const std::string_view> arguments) {
    const std::string count = std::to_string(keys.size());
    std::vector<std::string_view> words = {"EVALSHA", script_sha(script), count};
    words.reserve(words.size() + keys.size() + arguments.size());
    words.insert(words.end(), keys.begin(), keys.end());
    words.insert(words.end(), arguments.begin(), arguments.end());
    return encode_command(words);
}

std::string encode_script(Script script, const RespWords& keys, const RespWords& arguments) {
    const std::string count = std::to_string(keys.count);
    const std::array<std::string_view, 3> beginning = {"EVALSHA", script_sha(script), count};
    RespWords words;
    words.octets.reserve(128 + keys.octets.size() + arguments.octets.size());
    words.octets = '*' + std::to_string(beginning.size() + keys.count + arguments.count) + "\r\n";
    words.add(beginning);
    words.octets.append(keys.octets).append(arguments.octets);
    return std::move(words.octets);
}

}  // namespace

std::shared_ptr<RedisCalls::Call> RedisCalls::make_call(std::string_view key, std::string octets, Done done) {
    auto call = std::make_shared<Call>();
    call->alive = alive_;
    call->key = key;
    call->octets = std::move(octets);
    call->done = std::move(done);
    call->deadline = reactor_.now_ms() + RedisLink::kTimeoutMs;
    return call;
}

void RedisCalls::run(Script script, std::span<const std::string_view> keys,
                     std::span<const std::string_view> arguments, Done done) {
    auto call = make_call(keys.front(), encode_script(script, keys, arguments), std::move(done));
    call->script = true;
    begin(call);
}

void RedisCalls::run(Script script, std::string_view key, const RespWords& keys, const RespWords& arguments,
                     Done done) {
    auto call = make_call(key, encode_script(script, keys, arguments), std::move(done));
    call->script = true;
    begin(call);
}

void RedisCalls::run_at(RedisNode& node, Script script, std::span<const std::string_view> keys,
                        std::span<const std::string_view> arguments, Done done) {
    const auto call = make_call({}, encode_script(script, keys, arguments), std::move(done));
    call->script = true;
    send(node, call, false);
    call->begun = true;
}

void RedisCalls::command(std::string_view key, std::span<const std::string_view> words, Done done) {
    begin(make_call(key, encode_command(words), std::move(done)));
}

void RedisCalls::begin(const std::shared_ptr<Call>& call) {
    start(call);
    call->begun = true;
}

void RedisCalls::start(std::shared_ptr<Call> call) {
    if (RedisNode* node = servers_.node_of(call->key)) return send(*node, call, false);
    if (servers_.known() || early_.size() == kMaxEarly) {
        return finish(*call, {std::nullopt, kUnreachable, false, nullptr});
    }
    early_.push_back(std::move(call));
    if (!early_timer_->armed()) early_timer_->arm(RedisLink::kTimeoutMs);
}

void RedisCalls::on_map() {
    std::vector<std::shared_ptr<Call>> early = std::exchange(early_, {});
    for (auto& call : early) start(std::move(call));
}

void RedisCalls::try_again() {
    std::vector<std::shared_ptr<Call>> calls = std::exchange(again_, {});
    for (auto& call : calls) start(std::move(call));
}

void RedisCalls::expire_early() {
    std::vector<std::shared_ptr<Call>> early = std::exchange(early_, {});
    for (auto& call : early) {
        if (reactor_.now_ms() >= call->deadline) {
            finish(*call, {std::nullopt, kUnreachable, false, nullptr});
        } else {
            early_.push_back(std::move(call));
        }
    }
    if (!early_.empty()) early_timer_->arm(50);
}

void RedisCalls::send(RedisNode& node, const std::shared_ptr<Call>& call, bool asking) {
    const std::array<std::string_view, 1> ask = {"ASKING"};
    const bool taken = (!asking || node.command(ask, nullptr)) &&
                       node.command_octets(call->octets, [this, &node, call](std::optional<Reply> reply) {
                           on_reply(node, call, reply);
                       });
    if (!taken) finish(*call, {std::nullopt, kUnreachable, call->detours != 0 ? true : false, &node});
}

void RedisCalls::on_reply(RedisNode& node, const std::shared_ptr<Call>& call, std::optional<Reply> reply) {
    if (!reply) return finish(*call, {std::nullopt, "redis did not answer in time", true, &node});
    if (reply->is_error()) return on_error(node, call, reply->text());
    if (call->script) node.note_success();
    finish(*call, {reply, {}, true, &node});
}

void RedisCalls::on_error(RedisNode& node, const std::shared_ptr<Call>& call, std::string_view error) {
    // Half of the keys are elsewhere, while a slot moves.
    if (error.starts_with("TRYAGAIN")) {
        if (reactor_.now_ms() + kTryAgainMs < call->deadline && !call->key.empty()) {
            again_.push_back(call);
            if (!again_timer_->armed()) again_timer_->arm(kTryAgainMs);
            return;
        }
        return finish(*call, {std::nullopt, "the slot of the room is moving", false, &node});
    }
    const bool again = ++call->detours <= kMaxDetours && reactor_.now_ms() < call->deadline;
    if (error.starts_with("NOSCRIPT")) {
        load_scripts(node);
        if (again) return send(node, call, false);
    }
    if (const auto redirect = parse_redirect(error)) {
        node.note_success();  // it refuses nothing
        RedisNode* other = servers_.follow(*redirect, node);
        if (other != nullptr && again && !call->key.empty()) return send(*other, call, redirect->ask);
        return finish(*call, {std::nullopt, "the slot of the room is moving", false, &node});
    }
    const std::string why = judge(node, call->key, error);
    finish(*call, {std::nullopt, why, false, &node});
}

std::string RedisCalls::judge(RedisNode& node, std::string_view key, std::string_view error) {
    if (error.starts_with("READONLY") || error.starts_with("MASTERDOWN")) {
        node.restart(error);
        servers_.look_again();
        return "this redis is no master";
    }
    if (error.starts_with("CLUSTERDOWN")) servers_.look_again();
    const std::string kind(error.substr(0, error.find(' ')));
    if (is_of_server(kind)) {
        node.note_refusal(error);
    } else {
        tell_fault(node, key, error);
    }
    return "redis refuses: " + kind;
}

// About one key: not the state of the server, and often there are many. Once a minute.
void RedisCalls::tell_fault(const RedisNode& node, std::string_view key, std::string_view error) {
    const std::uint64_t now = reactor_.now_ms();
    if (told_fault_ != 0 && now < told_fault_ + kFaultEveryMs) return;
    told_fault_ = now;
    reactor_.log(LogLevel::error, "redis \"" + node.address().text() + "\" refuses a call for \"" +
                                      std::string(key) + "\": " + std::string(error));
}

void RedisCalls::finish(Call& call, const RedisOutcome& outcome) {
    Done done = std::exchange(call.done, nullptr);
    if (done) done(outcome);
}

void RedisCalls::load_scripts(RedisNode& node) {
    // Of a crowd that misses them one is enough.
    if (!loading_.insert(&node).second) return;
    try {
        for (const Script script : {Script::presence, Script::check, Script::sync, Script::approval_index,
                                    Script::approval, Script::publish_all, Script::publish}) {
            const std::array<std::string_view, 3> words = {"SCRIPT", "LOAD", script_text(script)};
            const bool taken = node.command(words, [this, &node](std::optional<Reply> reply) {
                loading_.erase(&node);
                if (reply && reply->is_error()) node.note_refusal(reply->text());
            });
            if (!taken) loading_.erase(&node);
        }
    } catch (...) {
        loading_.erase(&node);
        throw;
    }
}

}  // namespace rooms

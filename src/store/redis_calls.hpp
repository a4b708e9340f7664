// Calls of scripts and commands on the node that has the key: with the detours a Redis may ask for, and
// one answer at the end.
//
// NOSCRIPT loads the scripts and asks again; MOVED and ASK go where they say; TRYAGAIN is done as long as
// there is time; READONLY looks for the master. All else that a server refuses with is the caller's failure, and retryable.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "store/reactor.hpp"
#include "store/redis_reply.hpp"
#include "store/redis_scripts.hpp"
#include "store/redis_servers.hpp"

namespace rooms {

struct RedisOutcome {
    std::optional<Reply> reply;  // nothing: it may or may not have been carried out
    std::string_view why;        // where there is no reply: for people
    bool taken = true;           // false: certainly not carried out
    RedisNode* node = nullptr;   // that answered
};

class RedisCalls {
public:
    using Done = std::function<void(const RedisOutcome&)>;

    RedisCalls(Reactor& reactor, RedisServers& servers);
    ~RedisCalls();

    // The keys are in one slot; the first of them finds the node. `done` may run before the call returns:
    // where nobody is there to be asked.
    void run(Script script, std::span<const std::string_view> keys,
             std::span<const std::string_view> arguments, Done done);
    // The same, of words that are RESP already; `key` finds the node.
    void run(Script script, std::string_view key, const RespWords& keys, const RespWords& arguments,
             Done done);
    // On this node and no other.
    void run_at(RedisNode& node, Script script, std::span<const std::string_view> keys,
                std::span<const std::string_view> arguments, Done done);
    void command(std::string_view key, std::span<const std::string_view> words, Done done);

    // What a script says went wrong with a part of its work, as if it were the reply: why, for people.
    [[nodiscard]] std::string judge(RedisNode& node, std::string_view key, std::string_view error);

    // Before anything else on a new link.
    void load_scripts(RedisNode& node);
    // The map is known: calls that waited for it go.
    void on_map();

private:
    struct Call;

    [[nodiscard]] std::shared_ptr<Call> make_call(std::string_view key, std::string octets, Done done);
    void begin(const std::shared_ptr<Call>& call);
    void start(std::shared_ptr<Call> call);
    void send(RedisNode& node, const std::shared_ptr<Call>& call, bool asking);
    void on_reply(RedisNode& node, const std::shared_ptr<Call>& call, std::optional<Reply> reply);
    void on_error(RedisNode& node, const std::shared_ptr<Call>& call, std::string_view error);
    void tell_fault(const RedisNode& node, std::string_view key, std::string_view error);
    void finish(Call& call, const RedisOutcome& outcome);
    void expire_early();
    void try_again();

    std::shared_ptr<int> alive_ = std::make_shared<int>(0);
    Reactor& reactor_;
    RedisServers& servers_;
    std::vector<std::shared_ptr<Call>> early_;  // before any server was known
    std::unique_ptr<Timer> early_timer_;
    std::vector<std::shared_ptr<Call>> again_;  // told TRYAGAIN
    std::unique_ptr<Timer> again_timer_;
    std::set<const RedisNode*> loading_;  // that are being given the scripts
    std::uint64_t told_fault_ = 0;
};

}  // namespace rooms

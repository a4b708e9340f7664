#include "store/redis_presence.hpp"

#include <array>
#include <new>
#include <utility>

namespace rooms {
namespace {

constexpr std::size_t kMaxUsers = 10000;  // named in one answer; all are counted

}  // namespace

struct RedisPresence::Question {
    struct Roster {
        std::string worker;
        std::vector<std::pair<std::string, std::uint64_t>> users;
        bool lives = false;
    };
    std::string base;
    PresenceDone done;
    std::vector<Roster> rosters;
    std::size_t open = 0;  // leases that have not been looked at
    bool failed = false;
};

RedisPresence::RedisPresence(Reactor& reactor, RedisCalls& calls, RedisServers& servers, std::string prefix)
    : calls_(calls),
      servers_(servers),
      prefix_(std::move(prefix)),
      timer_(reactor.timer([this] { renew(); })) {}

std::string RedisPresence::lease_of(std::string_view worker) const {
    return prefix_ + ":{" + std::string(worker) + "}:alive";
}

void RedisPresence::renew() {
    timer_->arm(kRenewMs);
    const std::string time = std::to_string(kLeaseMs);
    servers_.each([&](RedisNode& node) {
        if (!node.commands_up()) return;
        const std::string lease = lease_of(node.member_name());
        const std::array<std::string_view, 5> words = {"SET", lease, "1", "PX", time};
        calls_.command(lease, words, nullptr);
    });
}

void RedisPresence::ask(std::string_view base, PresenceDone done) {
    auto question = std::make_shared<Question>();
    question->base = base;
    question->done = std::move(done);
    const std::string at = question->base + ":at";
    const std::array<std::string_view, 1> keys = {at};
    calls_.run(Script::presence, keys, {}, [this, question](const RedisOutcome& outcome) {
        question->failed = !outcome.reply;
        try {
            if (outcome.reply) return on_rosters(question, *outcome.reply);
        } catch (const std::bad_alloc&) {
            question->failed = true;
        }
        answer(*question);
    });
}

void RedisPresence::on_rosters(const std::shared_ptr<Question>& question, Reply reply) {
    for (std::size_t i = 0; i + 1 < reply.size(); i += 2) {
        Question::Roster& roster = question->rosters.emplace_back();
        roster.worker = reply[i].text();
        const Reply users = reply[i + 1];
        for (std::size_t n = 0; n + 1 < users.size(); n += 2) {
            const auto count = users[n + 1].integer();
            if (count && *count > 0) {
                roster.users.emplace_back(users[n].text(), static_cast<std::uint64_t>(*count));
            }
        }
    }
    const RedisNode* node = servers_.node_of(question->base);
    const std::string me = node != nullptr ? node->member_name() : std::string();
    question->open = question->rosters.size();
    if (question->open == 0) return answer(*question);
    for (std::size_t i = 0; i < question->rosters.size(); ++i) {
        const std::string lease = lease_of(question->rosters[i].worker);
        const std::array<std::string_view, 2> words = {"EXISTS", lease};
        calls_.command(lease, words, [question, i, me](const RedisOutcome& outcome) {
            Question::Roster& roster = question->rosters[i];
            question->failed = question->failed || !outcome.reply;
            roster.lives = roster.worker == me || (outcome.reply && outcome.reply->integer() != 0);
            if (--question->open == 0) answer(*question);
        });
    }
}

// Once; what comes after is late.
void RedisPresence::answer(Question& question) {
    const PresenceDone done = std::exchange(question.done, nullptr);
    if (!done) return;
    PresenceAnswer answer;
    try {
        if (!question.failed) answer = sum_of(question);
    } catch (const std::bad_alloc&) {
        answer = {};
    }
    done(answer);
}

PresenceAnswer RedisPresence::sum_of(const Question& question) {
    PresenceAnswer answer;
    answer.ok = true;
    std::map<std::string_view, std::uint64_t> users;
    for (const Question::Roster& roster : question.rosters) {
        if (!roster.lives) continue;
        for (const auto& [user, count] : roster.users) {
            answer.connections += count;
            if (!user.empty()) users[user] += count;
        }
    }
    for (const auto& [user, count] : users) {
        if (answer.users.size() == kMaxUsers) break;
        answer.users.push_back({std::string(user), static_cast<std::uint32_t>(count)});
    }
    return answer;
}

}  // namespace rooms

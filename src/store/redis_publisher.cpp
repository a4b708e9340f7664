#include "store/redis_publisher.hpp"

#include <algorithm>
#include <array>
#include <list>
#include <new>
#include <utility>

#include "core/reply.hpp"
#include "store/redis_room.hpp"
#include "store/sha1.hpp"

namespace rooms {
namespace {

constexpr std::uint64_t kPublishMs = 900;  // a publication is answered by then
constexpr std::size_t kMostGathered = 32;  // in a call: Redis does nothing else for half a millisecond
constexpr std::uint64_t kLongestTtl = std::uint64_t{1} << 50;

// What makes the body of a repeat the same: 32 hex digits.
std::string fingerprint_text(std::string_view text) { return std::string(sha1_hex({text}).data(), 32); }

PublishAnswer answer_of(Reply reply) {
    PublishAnswer answer;
    const std::string_view status = reply[0].text();
    const auto epoch = parse_epoch(reply[1].text());
    const auto offset = reply[2].integer();
    if (!epoch || !offset) {
        answer.reason = "redis gave an answer that makes no sense";
        return answer;
    }
    answer.position = {*epoch, static_cast<std::uint64_t>(*offset)};
    answer.subscribers = static_cast<std::uint32_t>(reply[3].integer().value_or(0));
    if (status == "ok") answer.status = PublishStatus::ok;
    if (status == "duplicate") answer.status = PublishStatus::duplicate;
    if (status == "conflict") answer.status = PublishStatus::conflict;
    return answer;
}

}  // namespace

// The publications of one request, until the last of them is answered or the time is over. One that is dropped on
// its way, for want of memory, is answered then: it may have been carried out.
struct RedisPublisher::Batch {
    explicit Batch(RedisPublisher& owner) : publisher(owner) {}
    Batch(const Batch&) = delete;
    Batch& operator=(const Batch&) = delete;
    ~Batch() {
        try {
            finish();
        } catch (const std::bad_alloc&) {
        }
    }

    RedisPublisher& publisher;
    std::vector<PublishAnswer> answers;
    std::list<std::string> reasons;  // what views in the answers are of
    std::size_t open = 0;
    std::uint64_t deadline = 0;
    PublishDone done;

    void finish() {
        if (!done) return;
        if (--publisher.open_ == 0) publisher.parts_.reactor.hold(false);
        std::exchange(done, nullptr)(answers);
    }
};

RedisPublisher::RedisPublisher(Parts parts)
    : parts_(std::move(parts)),
      sending_(parts_.reactor.timer([this] { send(); })),
      late_(parts_.reactor.timer([this] { end_late(); })) {}

// What is open is nobody's any more.
RedisPublisher::~RedisPublisher() {
    for (const std::weak_ptr<Batch>& open : batches_) {
        if (const std::shared_ptr<Batch> batch = open.lock()) batch->done = nullptr;
    }
}

void RedisPublisher::publish(std::span<const PublishRequest> requests, PublishDone done) {
    auto batch = std::make_shared<Batch>(*this);
    PublishAnswer late;
    late.logged = true;  // by the node, once for each change of its state
    late.reason = "redis did not answer in time";
    batch->answers.resize(requests.size(), late);
    batch->open = requests.size();
    batch->deadline = parts_.reactor.now_ms() + kPublishMs;
    batches_.push_back(batch);
    batch->done = std::move(done);
    if (open_++ == 0) parts_.reactor.hold(true);
    if (!late_->armed()) late_->arm(kPublishMs);
    for (std::size_t i = 0; i < requests.size(); ++i) gather(requests[i], batch, i);
}

void RedisPublisher::gather(const PublishRequest& request, const std::shared_ptr<Batch>& batch,
                            std::size_t index) {
    const std::string base = room_base(parts_.prefix, request.room);
    const std::string id = request.key.empty() ? std::string() : ":id:" + std::string(request.key);
    const std::string size = std::to_string(request.history.size);
    const std::string ttl = std::to_string(std::min(request.history.ttl_ms, kLongestTtl));
    const std::string members = std::to_string(static_cast<std::uint32_t>(parts_.zone.members(request.room)));
    const std::string print = request.key.empty() ? "-" : fingerprint_text(request.fingerprint);
    const std::array<std::string_view, 5> arguments = {request.body, size, ttl, members, print};
    const RedisNode* node = parts_.servers.node_of(base);

    // All of it or nothing.
    gathered_.keys.make_room(3, 3 * base.size() + id.size() + 12);
    gathered_.arguments.make_room(
        arguments.size(), request.body.size() + size.size() + ttl.size() + members.size() + print.size());
    gathered_.publications.push_back({batch, index, base});
    gathered_.keys.add_joined(base, ":meta");
    gathered_.keys.add_joined(base, ":stream");
    if (!id.empty()) gathered_.keys.add_joined(base, id);
    gathered_.arguments.add(arguments);

    const bool full = gathered_.publications.size() == kMostGathered;
    if (parts_.cluster || full || node == nullptr || !node->commands_up()) return send();
    if (!sending_->armed()) sending_->arm(0);
}

void RedisPublisher::send() {
    Gathered all = std::exchange(gathered_, {});
    sending_->disarm();
    if (all.publications.empty()) return;
    const std::string key = all.publications.front().base + ":meta";
    const RedisNode* node = parts_.servers.node_of(key);
    const std::array<std::string_view, 3> arguments = {
        node != nullptr ? std::string_view(node->fence()) : std::string_view(), parts_.word,
        node != nullptr && node->sharded() ? "1" : ""};
    all.arguments.add(arguments);
    const Script script = all.publications.size() == 1 ? Script::publish : Script::publish_all;
    parts_.calls.run(script, key, all.keys, all.arguments,
                     [this, publications = std::move(all.publications)](const RedisOutcome& outcome) {
                         on_sent(publications, outcome);
                     });
}

void RedisPublisher::on_sent(const std::vector<Publication>& publications, const RedisOutcome& outcome) {
    if (publications.size() == 1) return on_published(publications.front(), outcome);
    for (std::size_t i = 0; i < publications.size(); ++i) {
        RedisOutcome part = outcome;
        std::string why;
        if (outcome.reply) part.reply = (*outcome.reply)[i];
        if (part.reply && part.reply->is_error()) {
            why = parts_.calls.judge(*outcome.node, publications[i].base + ":meta", part.reply->text());
            part = {std::nullopt, why, false, outcome.node};
        }
        on_published(publications[i], part);
    }
}

void RedisPublisher::on_published(const Publication& publication, const RedisOutcome& outcome) {
    const auto& [batch, index, base] = publication;
    PublishAnswer& answer = batch->answers[index];
    if (outcome.reply) {
        const PublishAnswer given = answer_of(*outcome.reply);
        // Without memory to remember that it is stored, it is not known either.
        if (given.status == PublishStatus::ok || given.status == PublishStatus::duplicate) {
            parts_.on_stored(base, (*outcome.reply)[1].text(), given.position.offset,
                             (*outcome.reply)[4].text(), outcome.node->fence(),
                             given.status == PublishStatus::duplicate);
        }
        answer = given;
    } else {
        answer.reason = batch->reasons.emplace_back(outcome.why);
    }
    if (--batch->open == 0) batch->finish();
}

// Who waits is told that it is not known. What comes later still is told to on_stored.
void RedisPublisher::end_late() {
    const std::uint64_t now = parts_.reactor.now_ms();
    while (!batches_.empty()) {
        const std::shared_ptr<Batch> batch = batches_.front().lock();
        if (batch && batch->done && batch->deadline > now) return late_->arm(batch->deadline - now);
        batches_.pop_front();
        if (batch) batch->finish();
    }
}

}  // namespace rooms

// Publishes what transactions have put into rooms_outbox, in order per room, and deletes it.
//
// A batch is one transaction: it takes rows, publishes, deletes, commits, so that a crash anywhere brings
// them again, under the same idempotency keys. Who takes is alone until the commit: any number of hosts may
// relay. Of a room nothing is sent before what came earlier has been accepted. Owned by the worker; runs in
// one worker of a host.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "core/broker.hpp"
#include "core/history.hpp"
#include "store/pg_link.hpp"
#include "store/approval_meter.hpp"
#include "store/reactor.hpp"

namespace rooms {

class OutboxRelay final : private PgLink::Handler {
public:
    struct Parts {
        Reactor& reactor;
        Broker& broker;
        ApprovalMeter& meter;
        std::function<HistoryLimits(std::string_view room)> history;
    };

    // `ticks`: nobody else says each second whether there is something to do.
    OutboxRelay(Parts parts, const PgTarget& target, bool ticks);
    ~OutboxRelay();
    OutboxRelay(const OutboxRelay&) = delete;
    OutboxRelay& operator=(const OutboxRelay&) = delete;

    void start();
    // There may be something to publish.
    void ring();
    // What is under way is finished, nothing new is begun.
    void stop();

private:
    static constexpr std::size_t kBatch = 200;               // a turn of the event loop must stay short
    static constexpr std::size_t kBatchOctets = 256 * 1024;  // rooms_take_outbox ends beyond it
    static constexpr std::uint64_t kBatchMs = 1000;          // so long a transaction may wait for the broker
    static constexpr std::size_t kMaxLeft = 10000;           // rooms
    static constexpr std::uint64_t kTickMs = 1000;

    struct Row;
    struct Batch;
    enum class State : std::uint8_t {
        resting,
        taking,      // a transaction is open
        publishing,  // the broker has a wave
        ending,      // the transaction is
    };

    // PgLink::Handler
    void on_up() override;
    void on_down(std::string_view why) override;
    void on_notification(std::string_view channel, std::string_view payload) override;

    void tick();
    void rest();
    void take();
    void on_taken(const PgOutcome& outcome);
    static void prepare(Row& row, const PgRows& rows, std::size_t index);
    // Waves, until each row has been published, is unfit, or is left for later.
    void publish(const std::shared_ptr<Batch>& batch);
    [[nodiscard]] std::vector<PublishRequest> next_wave(Batch& batch) const;
    static void on_answers(Batch& batch, std::span<const PublishAnswer> answers);
    void finish(const std::shared_ptr<Batch>& batch);
    void commit(std::shared_ptr<Batch> batch);
    void count(const Batch& batch);
    void complain(const PgOutcome& outcome, const char* what = "read");
    void note_left(const Batch& batch);

    Reactor& reactor_;
    Broker& broker_;
    ApprovalMeter& meter_;
    const std::function<HistoryLimits(std::string_view)> history_;
    const bool ticks_;
    PgLink link_;
    std::unique_ptr<Timer> timer_;
    std::shared_ptr<Batch> batch_;  // while publishing and ending
    State state_ = State::resting;
    bool again_ = false;          // rung meanwhile
    bool more_ = false;           // the last batch was not all
    std::set<std::string> left_;  // rooms that the broker does not take now, since the last ring
    bool stopped_ = false;
    bool complained_ = false;
    bool told_left_ = false;
};

}  // namespace rooms

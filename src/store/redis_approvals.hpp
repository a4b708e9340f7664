// Approvals in Redis: each in the slot of its session's room, so that what becomes of it and the event that
// tells of it are one script; an index beside the rooms says in which session an id is.
//
// Owned by the worker, made by RedisBroker::approvals(), on whose links it lives: destroyed before the
// broker. Each request is answered within a second.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "store/approval_store.hpp"
#include "store/redis_approval_calls.hpp"
#include "store/redis_sweeper.hpp"

namespace rooms {

class RedisApprovals final : public ApprovalStore {
public:
    static constexpr std::uint64_t kAnswerMs = 900;

    // `polls`: in one worker of a host.
    RedisApprovals(RedisApprovalCalls::Parts parts, const ApprovalTimes& times, ApprovalMeter& meter,
                   bool polls);
    ~RedisApprovals() override;
    RedisApprovals(const RedisApprovals&) = delete;
    RedisApprovals& operator=(const RedisApprovals&) = delete;

    void start();
    // The worker takes leave: requests are answered, deadlines are others' business.
    void begin_drain();

    void create(const NewApproval& approval, ApprovalDone done) override;
    void get(std::string_view id, ApprovalDone done) override;
    void list(const ApprovalQuery& query, ApprovalDone done) override;
    void resolve(std::string_view id, const Resolution& resolution, ApprovalDone done) override;
    void extend(std::string_view id, std::int64_t by_ms, ApprovalDone done) override;

private:
    struct Request;
    struct Creation;
    struct Listing;
    using RequestPtr = std::shared_ptr<Request>;
    using CreationPtr = std::shared_ptr<Creation>;
    using ListingPtr = std::shared_ptr<Listing>;

    [[nodiscard]] RequestPtr open(ApprovalDone done);
    void answer(Request& request, const ApprovalAnswer& answer);
    void give_up(Request& request, std::string_view why);
    void end_late();
    [[nodiscard]] std::string new_id();

    // What is done with an approval that has to be found first.
    void find(const RequestPtr& request, std::string_view id,
              std::function<void(const ApprovalPlace& place)> then);
    void change(const RequestPtr& request, std::string_view id, std::string what,
                std::vector<std::string> arguments);

    void set_timeout(const CreationPtr& creation, const RedisOutcome& timeouts);
    void claim(const CreationPtr& creation, const std::string& instead_of);
    void on_claimed(const CreationPtr& creation, const RedisOutcome& outcome);
    void make(const CreationPtr& creation);

    void start_list(const ListingPtr& listing);
    void next_page(const ListingPtr& listing);
    void read_page(const ListingPtr& listing, Reply found);
    void show_page(const ListingPtr& listing);

    Reactor& reactor_;
    const ApprovalTimes times_;
    RedisApprovalCalls calls_;
    RedisSweeper sweeper_;
    std::deque<RequestPtr> requests_;  // by deadline
    std::size_t open_ = 0;
    std::unique_ptr<Timer> late_;
    std::uint64_t told_timeout_ = 0;
};

}  // namespace rooms

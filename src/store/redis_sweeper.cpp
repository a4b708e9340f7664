#include "store/redis_sweeper.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace rooms {

RedisSweeper::RedisSweeper(Reactor& reactor, RedisApprovalCalls& calls, ApprovalMeter& meter, bool polls)
    : reactor_(reactor),
      calls_(calls),
      meter_(meter),
      polls_(polls),
      timer_(reactor.timer([this] { look(); })) {}

void RedisSweeper::start() {
    if (polls_) look_in(0);
}

void RedisSweeper::stop() {
    stopped_ = true;
    timer_->disarm();
}

void RedisSweeper::look_in(std::uint64_t ms) {
    if (stopped_) return;
    next_look_ = reactor_.now_ms() + ms;
    timer_->arm(ms);
}

void RedisSweeper::expect(std::uint64_t ms) {
    if (!polls_ && ms >= kNearMs) return;
    const std::uint64_t due = reactor_.now_ms() + ms;
    expected_until_ = std::max(expected_until_, due);
    if (busy_) {
        expected_first_ = std::min(expected_first_.value_or(due), due);
    } else if (!timer_->armed() || due < next_look_) {
        look_in(ms);
    }
}

void RedisSweeper::look() {
    if (stopped_) return;
    if (!std::exchange(busy_, true)) began_ = reactor_.now_ms();
    try {
        calls_.look(skip_, kBatch, [this](const RedisOutcome& outcome) { on_looked(outcome); });
    } catch (...) {
        busy_ = false;  // the timer comes again
        throw;
    }
}

void RedisSweeper::on_looked(const RedisOutcome& outcome) {
    next_ms_.reset();
    open_ = 1;
    seen_ = outcome.reply.has_value();
    if (seen_) {
        try {
            sweep(*outcome.reply);
        } catch (...) {
            on_swept();  // what was not asked for comes again
            throw;
        }
    }
    on_swept();
}

void RedisSweeper::sweep(Reply due) {
    const std::int64_t next = due[0].integer().value_or(-1);
    if (next >= 0) next_ms_ = static_cast<std::uint64_t>(next);
    if (polls_) meter_.on_report({static_cast<std::uint64_t>(due[1].integer().value_or(0)), 0, 0});
    full_ = due.size() == 2 + kBatch;
    for (std::size_t i = 2; i < due.size(); ++i) {
        const std::string_view member = due[i].text();
        const std::size_t space = std::min(member.find(' '), member.size());
        const ApprovalPlace place = {std::string(member.substr(0, space)),
                                     std::string(member.substr(std::min(space + 1, member.size())))};
        ++open_;
        try {
            calls_.change(place, "sweep", {}, [this, place](const ApprovalState* state, std::string_view) {
                if (state == nullptr) ++skip_;
                on_swept();
                if (state != nullptr && state->outcome == "not_found") calls_.forget(place);
            });
        } catch (...) {
            --open_;
            throw;
        }
    }
}

void RedisSweeper::on_swept() {
    if (--open_ != 0) return;
    if (seen_) meter_.on_sweep(reactor_.now_ms() - began_);
    rest();
}

void RedisSweeper::rest() {
    if (std::exchange(full_, false)) return look_in(0);  // there is more that is due
    busy_ = false;
    skip_ = 0;
    const std::uint64_t now = reactor_.now_ms();
    const std::uint64_t expected = expected_until_ > now ? expected_until_ - now : 0;
    std::optional<std::uint64_t> wait = polls_ ? std::optional(kTickMs) : std::nullopt;
    // A millisecond is lost where the store's is cut off.
    if (next_ms_ && (polls_ || *next_ms_ <= expected + 1))
        wait = std::min(wait.value_or(kTickMs), std::max<std::uint64_t>(1, *next_ms_));
    if (const auto first = std::exchange(expected_first_, std::nullopt)) {
        const std::uint64_t until = *first > now ? *first - now : 0;
        wait = std::min(wait.value_or(until), until);
    }
    if (wait) look_in(*wait);
}

}  // namespace rooms

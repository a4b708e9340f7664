// Whoever knows where the servers are, a sentinel or any node of a cluster: one link to one of them at a
// time, to the next one after each failure.
//
// Owned by the RedisServers that asks: whom, what, and when again is its matter. Here names are looked up,
// failures are waited out, and the log is told of each change of state.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "store/backoff.hpp"
#include "store/reactor.hpp"
#include "store/redis_link.hpp"

namespace rooms {

class RedisGuide final : private RedisLink::Handler {
public:
    class Handler {
    public:
        // Whom to ask. `failures`: in a row, until now.
        virtual Address choose_guide(std::size_t failures) = 0;
        // Logged in: now it can be asked.
        virtual void on_guide_up(RedisLink& link) = 0;
        virtual void on_guide_push(Reply push) = 0;

    protected:
        ~Handler() = default;
    };

    // `kind`: what it is in the log.
    RedisGuide(Reactor& reactor, RedisLogin login, std::string kind, Handler& handler);

    // Now, unless it is being done.
    void ask();
    // Not later than it is due already: complaints would put it off.
    void ask_in(std::uint64_t ms);
    [[nodiscard]] RedisLink& link() { return link_; }
    // That is asked, or was the last one.
    [[nodiscard]] const Address& address() const { return address_; }

    // It knew something: the next failure is the first one.
    void note_answer();
    // Into the log, unless it is known already; empty: all is well.
    void tell(std::string trouble);

private:
    void on_up(RedisLink& link, std::string_view) override { handler_.on_guide_up(link); }
    void on_push(RedisLink&, Reply push) override { handler_.on_guide_push(push); }
    void on_down(RedisLink& link, std::string_view why) override;

    Reactor& reactor_;
    const std::string kind_;
    Handler& handler_;
    RedisLink link_;
    Address address_;
    bool looking_up_ = false;  // its name
    std::size_t failures_ = 0;
    Backoff backoff_{100, 1000};
    std::unique_ptr<Timer> ask_;
    std::uint64_t ask_at_ = 0;  // if it is armed
    std::string trouble_;
    std::shared_ptr<int> alive_;  // of look-ups under way
};

}  // namespace rooms

// What the parts of the Hub share: who waits to enter a room, and how rules are asked. Nobody else's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/hub.hpp"

namespace rooms {

// Rules ask for values as spans; an Identity unpacks them once for a whole question.
struct Question {
    explicit Question(const Identity& identity) : values(identity.values()) {}
    [[nodiscard]] Verdict check(const RuleSet& rules, std::string_view room) const {
        return rules.check(room, rule_values(), values.rooms);
    }
    [[nodiscard]] RuleValues rule_values() const {
        return RuleValues{values.captured, values.claims, values.user};
    }
    Identity::Values values;
};

// Kept by the hub and by the callback of look-up or broker: a client that has gone or changed its mind meanwhile
// is found out by id and by `cancelled`, and what the broker had counted is taken back.
struct Hub::Waiting {
    std::int32_t handle = -1;
    std::uint64_t client_id = 0;
    Room* room = nullptr;
    std::string user;
    std::string ref;
    std::size_t index = 0;  // in waiting_
    std::uint64_t number = 0;
    std::vector<std::string> leaves;  // refs of the unsubscribes that came meanwhile
    std::optional<Position> since;
    std::uint64_t question = 0;  // under way; 0: the broker has it
    std::uint32_t tokens = 0;    // the client's, when somebody was asked
    bool cancelled = false;
};

// A room that nobody is in when this ends is gone.
class Hub::Hold {
public:
    Hold(Hub& hub, Room& room) : hub_(hub), room_(room) { ++room_.waiting_; }
    ~Hold() {
        --room_.waiting_;
        hub_.release_if_empty(room_);
    }
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;

private:
    Hub& hub_;
    Room& room_;
};

// With many hosts thousands of clients may wait at once: who waits for nothing is not looked for.
template <typename Visit>
void Hub::for_each_waiting(const Client& client, Visit&& visit) {
    std::uint32_t left = client.waiting;
    for (std::size_t i = waiting_.size(); left != 0 && i-- > 0;) {
        if (waiting_[i]->client_id != client.id) continue;
        visit(*waiting_[i]);
        --left;
    }
}

}  // namespace rooms

// A client: one open connection as the rooms know it. What it may do, and where it is a member.
//
// Owned by the glue's connection, which registers it with the Hub and takes it out before it dies.
// Knows nothing of sockets: `handle` names its connection to the Transport.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/encodings.hpp"
#include "core/identity.hpp"
#include "core/rate.hpp"
#include "core/rules.hpp"
#include "core/token.hpp"

namespace rooms {

class Lookup;
class Room;

// What the location says about its clients. `joins` and `lookup` may be null. Owned by the worker and
// the configuration; outlives the clients.
struct ClientPolicy {
    const RuleSet* rules = nullptr;
    Lookup* lookup = nullptr;  // REQUIRED where a rule has parameters
    const std::vector<Pattern>* joins = nullptr;
    const std::vector<std::vector<std::string>>* claim_paths = nullptr;
    const KeySet* keys = nullptr;
    const TokenRules* token = nullptr;
    std::uint32_t max_rooms = 128;
    RateLimit rate;
    std::uint32_t heartbeat_ms = 30000;
};

struct Membership {
    Room* room = nullptr;
    std::uint32_t index = 0;  // of this client among the room's members
};

struct Client {
    const ClientPolicy* policy = nullptr;
    Identity identity;
    std::vector<Membership> memberships;
    std::uint64_t id = 0;            // never used twice by a host
    std::uint64_t messages_out = 0;  // of rooms already left, and replies
    std::uint64_t bytes_out = 0;
    std::int32_t handle = -1;
    std::uint32_t joined = 0;   // rooms joined so far
    std::uint32_t waiting = 0;  // subscribes that wait for the broker (Hub's)
    RateMeter rate;
    std::uint32_t tokens = 0;   // how many it has renewed its first one with
    std::uint32_t refused = 0;  // messages over the rate since the last that was not
    Encoding encoding = 0;      // the form of frames that it is sent
};

}  // namespace rooms

#include "core/hub.hpp"

#include <algorithm>
#include <utility>

#include "core/frame.hpp"
#include "core/reply.hpp"
#include "core/room.hpp"

namespace rooms {
namespace {

Payload text_frame(std::string_view json) { return encode_frame(Opcode::text, json); }

std::string connection_name(std::uint64_t id) { return epoch_text(id); }

// Place for one more, so that the next push_back cannot throw.
template <typename T>
void make_room(std::vector<T>& list) {
    if (list.size() == list.capacity()) list.reserve(list.empty() ? 1 : 2 * list.size());
}

// Rules ask for values as spans; an Identity unpacks them once for a whole question.
struct Question {
    explicit Question(const Identity& identity) : values(identity.values()) {}
    [[nodiscard]] bool allowed(const RuleSet& rules, std::string_view room) const {
        return rules.check(room, rule_values(), values.rooms).allowed();
    }
    [[nodiscard]] RuleValues rule_values() const {
        return RuleValues{values.captured, values.claims, values.user};
    }
    Identity::Values values;
};

}  // namespace

// Kept by the hub and by the broker's callback: a client that has gone or changed its mind meanwhile
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
    bool with_position = false;
    bool cancelled = false;
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

// The rooms that a client is in or on its way into, `but` left out.
std::size_t Hub::rooms_of(Client& client, const Room& but) {
    std::vector<const Room*> coming;
    for_each_waiting(client, [&](const Waiting& waiting) {
        if (waiting.cancelled || waiting.room == &but || membership(client, *waiting.room) != nullptr) return;
        if (std::find(coming.begin(), coming.end(), waiting.room) == coming.end())
            coming.push_back(waiting.room);
    });
    return client.memberships.size() + coming.size();
}

Hub::Hub(Broker& broker, Transport& transport, HubMeter& meter)
    : broker_(broker), transport_(transport), meter_(meter) {}

Hub::~Hub() = default;

void Hub::add(Client& client) {
    const auto handle = static_cast<std::size_t>(client.handle);
    if (clients_.size() <= handle) clients_.resize(handle + 1);
    clients_[handle] = &client;

    Connected connected;
    const Question question(client.identity);
    const std::string name = connection_name(client.id);
    connected.user_id = question.values.user;
    connected.connection_id = name;
    if (client.identity.expires_at_ms() != 0) connected.expires_at = client.identity.expires_at_ms();
    connected.heartbeat_ms = client.policy->heartbeat_ms;
    connected.now_ms = now_.wall_ms;
    reply(client, encode_connected(connected));

    if (client.policy->joins == nullptr) return;
    for (const Pattern& pattern : *client.policy->joins) {
        const auto room = pattern.expand(question.rule_values());
        if (!room) continue;
        if (!is_room(*room)) {
            refuse(client, ErrorCode::bad_room, *room, "rooms_join names no room", false, {});
            continue;
        }
        subscribe(client, Subscribe{*room, std::nullopt}, {});
    }
}

void Hub::remove(Client& client) {
    for_each_waiting(client, [](Waiting& waiting) { waiting.cancelled = true; });
    // Nothing here allocates: a client can always be taken out. What waits for the end of the turn
    // is not its business any more.
    while (!client.memberships.empty()) leave(client, *client.memberships.back().room);
    const auto handle = static_cast<std::size_t>(client.handle);
    if (handle < clients_.size() && clients_[handle] == &client) clients_[handle] = nullptr;
}

Client* Hub::find(std::int32_t handle, std::uint64_t id) const {
    const auto index = static_cast<std::size_t>(handle);
    if (index >= clients_.size() || clients_[index] == nullptr) return nullptr;
    return clients_[index]->id == id ? clients_[index] : nullptr;
}

void Hub::on_message(Client& client, std::string_view text) {
    if (!client.rate.allow(client.policy->rate, now_.steady_ms)) {
        refuse(client, ErrorCode::rate, {}, "Too many messages", true, {});
        // A client that does not listen to the warning would cost as much as one without a limit.
        if (++client.refused > client.policy->rate.count) {
            transport_.close(client, CloseCode::rate_limit, "too many messages");
        }
        return;
    }
    client.refused = 0;
    auto parsed = parse_command(text);
    if (!parsed) {
        meter_.on_error(parsed.error().code);
        reply(client, encode_error(parsed.error()));
        return;
    }
    const std::string& ref = parsed->ref;
    if (const auto* command = std::get_if<Subscribe>(&parsed->command)) {
        subscribe(client, *command, ref);
    } else if (const auto* command = std::get_if<Unsubscribe>(&parsed->command)) {
        unsubscribe(client, command->room, ref);
    } else if (std::get_if<Ping>(&parsed->command)) {
        reply(client, encode_pong(now_.wall_ms, ref));
    } else if (const auto* command = std::get_if<Auth>(&parsed->command)) {
        authenticate(client, command->token, ref);
    } else if (const auto* command = std::get_if<Presence>(&parsed->command)) {
        presence(client, command->room, ref);
    }
}

bool Hub::allowed(const Client& client, std::string_view room) const {
    return Question(client.identity).allowed(*client.policy->rules, room);
}

void Hub::subscribe(Client& client, const Subscribe& command, std::string_view ref) {
    if (!allowed(client, command.room)) {
        refuse(client, ErrorCode::forbidden, command.room, forbidden_message(command.room), false, ref);
        return;
    }
    Room& target = room(command.room);
    const bool member = membership(client, target) != nullptr;
    if (!member && rooms_of(client, target) >= client.policy->max_rooms) {
        release_if_empty(target);
        refuse(client, ErrorCode::limit, command.room,
               "At most " + std::to_string(client.policy->max_rooms) + " rooms per connection", false, ref);
        return;
    }

    auto waiting = std::make_shared<Waiting>();
    waiting->handle = client.handle;
    waiting->client_id = client.id;
    waiting->room = &target;
    waiting->user = client.identity.user();
    waiting->ref = ref;
    waiting->with_position = command.since.has_value();
    waiting->index = waiting_.size();
    waiting->number = ++subscribes_;
    waiting_.push_back(waiting);
    ++target.waiting_;
    ++client.waiting;

    std::optional<Position> since;
    if (command.since) since = Position{command.since->epoch, command.since->offset};
    broker_.subscribe(target, waiting->user, since,
                      [this, waiting](const SubscribeAnswer& answer) { on_subscribed(*waiting, answer); });
}

void Hub::on_subscribed(Waiting& waiting, const SubscribeAnswer& answer) {
    Room& target = *waiting.room;
    --target.waiting_;
    const std::shared_ptr<Waiting> keep = std::move(waiting_[waiting.index]);
    if (waiting.index + 1 != waiting_.size()) {
        waiting_[waiting.index] = std::move(waiting_.back());
        waiting_[waiting.index]->index = waiting.index;
    }
    waiting_.pop_back();

    Client* const client = find(waiting.handle, waiting.client_id);
    if (client != nullptr) --client->waiting;
    if (client == nullptr || waiting.cancelled || !answer.ok) {
        if (answer.ok) broker_.unsubscribe(target, waiting.user);
        const std::string name = target.name;
        if (client != nullptr && !waiting.cancelled) {
            refuse(*client, answer.full ? ErrorCode::limit : ErrorCode::unavailable, name, answer.reason,
                   true, waiting.ref);
        }
        release_if_empty(target);
        if (client == nullptr) return;
        for (const std::string& ref : waiting.leaves) reply(*client, encode_unsubscribed(name, ref));
        return;
    }
    // Who joins now must not get what waits for the members of before: its position includes it.
    flush(target);
    if (membership(*client, target) != nullptr) {
        broker_.unsubscribe(target, waiting.user);  // it was one already, and stays one
    } else {
        enter(*client, target);
    }

    Subscribed subscribed;
    subscribed.room = target.name;
    subscribed.epoch = target.cursor.epoch;
    subscribed.offset = target.cursor.offset;
    if (waiting.with_position) subscribed.recovered = answer.recovered;
    subscribed.now_ms = now_.wall_ms;
    reply(*client, encode_subscribed(subscribed, waiting.ref));
    for (const Payload& frame : answer.missed) {
        ++client->messages_out;
        client->bytes_out += frame.size();
        transport_.send(*client, frame);
    }
    if (waiting.leaves.empty()) return;
    const std::string name = target.name;
    leave(*client, target);  // the room may be gone
    for (const std::string& ref : waiting.leaves) reply(*client, encode_unsubscribed(name, ref));
}

void Hub::unsubscribe(Client& client, std::string_view name, std::string_view ref) {
    const auto found = rooms_.find(name);
    if (found != rooms_.end()) {
        // Answered in the order in which they came: first that it is in, then that it is out.
        Waiting* last = nullptr;
        for_each_waiting(client, [&](Waiting& waiting) {
            const bool here = waiting.room == found->second.get() && !waiting.cancelled;
            if (here && (last == nullptr || waiting.number > last->number)) last = &waiting;
        });
        if (last != nullptr) {
            last->leaves.emplace_back(ref);
            return;
        }
    }
    if (found != rooms_.end()) {
        flush(*found->second);  // what was published before belongs to it
        leave(client, *found->second);
    }
    reply(client, encode_unsubscribed(name, ref));
}

void Hub::authenticate(Client& client, std::string_view token, std::string_view ref) {
    const ClientPolicy& policy = *client.policy;
    auto claims = verify_token(token, *policy.keys, *policy.token, now_.wall_ms);
    if (!claims) {
        refuse(client, ErrorCode::bad_token, {}, "Token refused", false, ref);
        return;
    }
    Identity next(*claims, *policy.claim_paths, client.identity.values().captured);
    if (!next.same_person(client.identity)) {
        refuse(client, ErrorCode::bad_token, {}, "Token of another user or tenant", false, ref);
        return;
    }
    client.identity = std::move(next);
    transport_.token_changed(client);
    std::optional<std::int64_t> expires_at;
    if (client.identity.expires_at_ms() != 0) expires_at = client.identity.expires_at_ms();
    reply(client, encode_auth_ok(expires_at, ref));

    const Question question(client.identity);
    for_each_waiting(client, [&](Waiting& waiting) {
        if (waiting.cancelled || question.allowed(*policy.rules, waiting.room->name)) return;
        waiting.cancelled = true;
        refuse(client, ErrorCode::forbidden, waiting.room->name, forbidden_message(waiting.room->name), false,
               waiting.ref);
    });
    for (std::size_t i = client.memberships.size(); i-- > 0;) {
        Room& joined = *client.memberships[i].room;
        if (question.allowed(*policy.rules, joined.name)) continue;
        const std::string name = joined.name;
        flush(joined);
        leave(client, joined);
        refuse(client, ErrorCode::forbidden, name, forbidden_message(name), false, {});
    }
}

void Hub::presence(Client& client, std::string_view name, std::string_view ref) {
    if (!allowed(client, name)) {
        refuse(client, ErrorCode::forbidden, name, forbidden_message(name), false, ref);
        return;
    }
    broker_.presence(name, [this, handle = client.handle, id = client.id, name = std::string(name),
                            ref = std::string(ref)](const PresenceAnswer& answer) {
        Client* asker = find(handle, id);
        if (asker == nullptr) return;
        if (!answer.ok) {
            refuse(*asker, ErrorCode::unavailable, name, "Presence is not known now", true, ref);
            return;
        }
        std::vector<PresenceEntry> users;
        users.reserve(answer.users.size());
        for (const PresenceUser& user : answer.users) users.push_back({user.id, user.connections});
        reply(*asker, encode_presence(name, users, answer.connections, ref));
    });
}

void Hub::warn_expiry(Client& client) {
    reply(client, encode_token_expiring(client.identity.expires_at_ms()));
}

Room& Hub::room(std::string_view name) {
    const auto found = rooms_.find(name);
    if (found != rooms_.end()) return *found->second;
    auto made = std::make_unique<Room>(name);
    Room& result = *made;
    rooms_.emplace(result.name, std::move(made));
    meter_.on_rooms(1);
    return result;
}

Membership* Hub::membership(Client& client, const Room& room) const {
    for (Membership& membership : client.memberships) {
        if (membership.room == &room) return &membership;
    }
    return nullptr;
}

// All or nothing: memory that runs out must not leave a member in one list and not in another.
void Hub::enter(Client& client, Room& room) {
    make_room(client.memberships);
    make_room(room.handles_);
    make_room(room.members_);
    client.memberships.push_back({&room, static_cast<std::uint32_t>(room.handles_.size())});
    room.handles_.push_back(client.handle);
    room.members_.push_back({&client, room.messages_, room.bytes_});
    ++client.joined;
    meter_.on_members(1);
}

void Hub::leave(Client& client, Room& room) {
    Membership* mine = membership(client, room);
    if (mine == nullptr) return;
    const std::uint32_t index = mine->index;
    const Room::Member& member = room.members_[index];
    client.messages_out += room.messages_ - member.messages_before;
    client.bytes_out += room.bytes_ - member.bytes_before;

    const std::size_t last = room.handles_.size() - 1;
    if (index != last) {
        room.handles_[index] = room.handles_[last];
        room.members_[index] = room.members_[last];
        membership(*room.members_[index].client, room)->index = index;
    }
    room.handles_.pop_back();
    room.members_.pop_back();
    *mine = client.memberships.back();
    client.memberships.pop_back();
    meter_.on_members(-1);
    broker_.unsubscribe(room, client.identity.user());
    release_if_empty(room);
}

void Hub::release_if_empty(Room& room) {
    if (!room.handles_.empty() || room.waiting_ != 0) return;
    std::erase(dirty_, &room);
    broker_.release(room);
    rooms_.erase(rooms_.find(room.name));
    meter_.on_rooms(-1);
}

void Hub::on_publication(Room& room, Payload frame) {
    if (room.handles_.empty()) return;
    make_room(room.pending_);
    if (room.pending_.empty()) {
        dirty_.push_back(&room);
        transport_.flush_later();
    }
    room.pending_.push_back(std::move(frame));
}

void Hub::on_gap(Room& room, Position now, std::string_view reason) {
    on_publication(room, text_frame(encode_gap(room.name, now.epoch, now.offset, reason)));
}

void Hub::flush() {
    while (!dirty_.empty()) {
        Room& room = *dirty_.back();
        if (!room.pending_.empty()) flush(room);  // throws: it is still dirty
        dirty_.pop_back();
    }
}

void Hub::flush(Room& room) {
    if (room.pending_.empty()) return;
    transport_.fan_out(room, room.pending_);
    room.messages_ += room.pending_.size();
    for (const Payload& frame : room.pending_) room.bytes_ += frame.size();
    room.pending_.clear();
}

std::uint64_t Hub::messages_out(const Client& client) const {
    std::uint64_t total = client.messages_out;
    for (const Membership& membership : client.memberships) {
        const Room& room = *membership.room;
        total += room.messages_ - room.members_[membership.index].messages_before;
    }
    return total;
}

std::uint64_t Hub::bytes_out(const Client& client) const {
    std::uint64_t total = client.bytes_out;
    for (const Membership& membership : client.memberships) {
        const Room& room = *membership.room;
        total += room.bytes_ - room.members_[membership.index].bytes_before;
    }
    return total;
}

void Hub::reply(Client& client, std::string_view json) {
    Payload frame = text_frame(json);
    ++client.messages_out;
    client.bytes_out += frame.size();
    transport_.send(client, std::move(frame));
}

void Hub::refuse(Client& client, ErrorCode code, std::string_view room, std::string_view message,
                 bool retryable, std::string_view ref) {
    meter_.on_error(code);
    reply(client, encode_error(code, room, message, retryable, ref));
}

}  // namespace rooms

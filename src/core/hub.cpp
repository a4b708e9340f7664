#include "core/hub.hpp"

#include <algorithm>
#include <utility>

#include <openssl/crypto.h>

#include "core/frame.hpp"
#include "core/hub_waiting.hpp"
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

}  // namespace

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

bool Hub::admit(Client& client) {
    if (client.rate.allow(client.policy->rate, now_.steady_ms)) {
        client.refused = 0;
        return true;
    }
    refuse(client, ErrorCode::rate, {}, "Too many messages", true, {});
    // A client that does not listen to the warning would cost as much as one without a limit.
    if (++client.refused > client.policy->rate.count) {
        transport_.close(client, CloseCode::rate_limit, "too many messages");
    }
    return false;
}

void Hub::on_message(Client& client, std::string_view text) {
    if (!admit(client)) return;
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
    } else if (auto* command = std::get_if<Auth>(&parsed->command)) {
        authenticate(client, command->token, ref);
        OPENSSL_cleanse(command->token.data(), command->token.size());
    } else if (const auto* command = std::get_if<Presence>(&parsed->command)) {
        presence(client, command->room, ref);
    }
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
// REQUIRES: seal(room).
void Hub::enter(Client& client, Room& room) {
    make_room(client.memberships);
    make_room(room.handles_);
    make_room(room.members_);
    const auto index = static_cast<std::uint32_t>(room.handles_.size());
    client.memberships.push_back({&room, index});
    room.handles_.push_back(client.handle);
    room.members_.push_back({&client, room.messages_, room.bytes_});
    // To those who have all that is on its way: its position includes it.
    auto place = index;
    for (Room::Spread& spread : room.spreads_) {
        const auto border = static_cast<std::uint32_t>(spread.next++);
        swap_members(room, border, std::exchange(place, border));
    }
    ++client.joined;
    meter_.on_members(1);
}

void Hub::swap_members(Room& room, std::uint32_t one, std::uint32_t other) {
    if (one == other) return;
    std::swap(room.handles_[one], room.handles_[other]);
    std::swap(room.members_[one], room.members_[other]);
    membership(*room.members_[one].client, room)->index = one;
    membership(*room.members_[other].client, room)->index = other;
}

// What the member at this place has got since it joined.
Hub::Totals Hub::given(const Room& room, std::uint32_t index) {
    const Room::Member& member = room.members_[index];
    Totals totals = {room.messages_ - member.messages_before, room.bytes_ - member.bytes_before};
    for (const Room::Spread& spread : room.spreads_) {
        if (index < spread.next) continue;
        for (const Payload& frame : spread.frames) totals.bytes -= frame.size();
        totals.messages -= spread.frames.size();
    }
    return totals;
}

void Hub::leave(Client& client, Room& room) {
    Membership* mine = membership(client, room);
    if (mine == nullptr) return;
    const Totals got = given(room, mine->index);
    client.messages_out += got.messages;
    client.bytes_out += got.bytes;

    // The last takes its place; of those who have what is on its way, the last who has.
    for (auto spread = room.spreads_.rbegin(); spread != room.spreads_.rend(); ++spread) {
        if (mine->index < spread->next)
            swap_members(room, mine->index, static_cast<std::uint32_t>(--spread->next));
    }
    swap_members(room, mine->index, static_cast<std::uint32_t>(room.handles_.size() - 1));
    room.handles_.pop_back();
    room.members_.pop_back();
    *mine = client.memberships.back();
    client.memberships.pop_back();
    drop_finished(room);
    meter_.on_members(-1);
    broker_.unsubscribe(room, client.identity.user());
    release_if_empty(room);
}

void Hub::release_if_empty(Room& room) {
    if (!room.handles_.empty() || room.waiting_ != 0) return;
    if (room.dirty_) std::erase(dirty_, &room);
    broker_.release(room);
    rooms_.erase(rooms_.find(room.name));
    meter_.on_rooms(-1);
}

void Hub::on_publication(Room& room, Payload frame) {
    if (room.handles_.empty()) return;
    make_room(room.pending_);
    if (!room.dirty_) dirty_.push_back(&room);
    room.dirty_ = true;
    room.pending_.push_back(std::move(frame));
    transport_.flush_later();
}

void Hub::on_gap(Room& room, Position now, std::string_view reason) {
    on_publication(room, text_frame(encode_gap(room.name, now.epoch, now.offset, reason)));
}

std::uint64_t Hub::messages_out(const Client& client) const {
    std::uint64_t total = client.messages_out;
    for (const Membership& membership : client.memberships) {
        total += given(*membership.room, membership.index).messages;
    }
    return total;
}

std::uint64_t Hub::bytes_out(const Client& client) const {
    std::uint64_t total = client.bytes_out;
    for (const Membership& membership : client.memberships) {
        total += given(*membership.room, membership.index).bytes;
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

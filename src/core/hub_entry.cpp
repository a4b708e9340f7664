// The door of the Hub: who may enter a room, on whose word, and how long that holds.
#include <algorithm>
#include <new>
#include <utility>

#include "core/hub_waiting.hpp"
#include "core/reply.hpp"
#include "core/room.hpp"

namespace rooms {
namespace {

constexpr std::string_view kUndecided = "Whether you may enter is not known now";
constexpr std::string_view kNoMemory = "Out of memory";

}  // namespace

// What a client is told turns after it asked, or its end: one that got half of it would wait, or miss the rest.
template <typename Tell>
void Hub::tell(Client& client, Tell&& what) {
    try {
        std::forward<Tell>(what)();
    } catch (const std::bad_alloc&) {
        transport_.close(client, CloseCode::internal_error, "out of memory");
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

void Hub::subscribe(Client& client, const Subscribe& command, std::string_view ref) {
    const RuleSet& rules = *client.policy->rules;
    const Verdict verdict = Question(client.identity).check(rules, command.room);
    if (!verdict.allowed()) return refuse_entry(client, Lookup::Answer::no, command.room, ref);
    Room& target = room(command.room);
    const Hold hold(*this, target);
    const bool member = membership(client, target) != nullptr;
    if (!member && rooms_of(client, target) >= client.policy->max_rooms) {
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
    if (command.since) waiting->since = Position{command.since->epoch, command.since->offset};
    waiting->index = waiting_.size();
    waiting->number = ++subscribes_;
    waiting->tokens = client.tokens;
    waiting_.push_back(waiting);
    ++target.waiting_;
    ++client.waiting;
    if (const auto* parameters = rules.parameters(verdict)) return ask(waiting, client, *parameters, verdict);
    go_on(waiting);
}

void Hub::ask(const std::shared_ptr<Waiting>& waiting, const Client& client,
              const RuleSet::Parameters& parameters, const Verdict& verdict) {
    waiting->question = ++questions_;
    waiting->tokens = client.tokens;
    try {
        const Question question(client.identity);
        client.policy->lookup->ask(verdict.rule,
                                   lookup_values(parameters, waiting->room->name, question.rule_values()),
                                   [this, waiting, number = waiting->question](Lookup::Answer answer) {
                                       // With another token it has been asked anew.
                                       if (waiting->question == number) on_answer(waiting, answer);
                                   });
    } catch (const std::bad_alloc&) {
        waiting->question = 0;
        fail(*waiting, ErrorCode::unavailable, kNoMemory);
    }
}

void Hub::on_answer(const std::shared_ptr<Waiting>& waiting, Lookup::Answer answer) {
    waiting->question = 0;
    if (answer == Lookup::Answer::yes && !waiting->cancelled) return go_on(waiting);
    fail(*waiting, [&](Client& client) { refuse_entry(client, answer, waiting->room->name, waiting->ref); });
}

void Hub::go_on(const std::shared_ptr<Waiting>& waiting) {
    try {
        broker_.subscribe(
            *waiting->room, waiting->user, waiting->since,
            [this, waiting](const SubscribeAnswer& answer) { on_subscribed(*waiting, answer); });
    } catch (const std::bad_alloc&) {
        fail(*waiting, ErrorCode::unavailable, kNoMemory);
    }
}

// Out of the list of those that wait.
std::shared_ptr<Hub::Waiting> Hub::take(Waiting& waiting) {
    --waiting.room->waiting_;
    std::shared_ptr<Waiting> taken = std::move(waiting_[waiting.index]);
    if (waiting.index + 1 != waiting_.size()) {
        waiting_[waiting.index] = std::move(waiting_.back());
        waiting_[waiting.index]->index = waiting.index;
    }
    waiting_.pop_back();
    if (Client* client = find(waiting.handle, waiting.client_id)) --client->waiting;
    return taken;
}

// It does not enter. Nobody is told why where it has been told before, or has gone.
template <typename Tell>
void Hub::fail(Waiting& waiting, Tell&& why) {
    const std::shared_ptr<Waiting> keep = take(waiting);
    Room& target = *waiting.room;
    if (Client* const client = find(waiting.handle, waiting.client_id)) {
        tell(*client, [&] {
            if (!waiting.cancelled) why(*client);
            for (const std::string& ref : waiting.leaves)
                reply(*client, encode_unsubscribed(target.name, ref));
        });
    }
    release_if_empty(target);
}

void Hub::fail(Waiting& waiting, ErrorCode code, std::string_view message) {
    fail(waiting,
         [&](Client& client) { refuse(client, code, waiting.room->name, message, true, waiting.ref); });
}

void Hub::on_subscribed(Waiting& waiting, const SubscribeAnswer& answer) {
    Room& target = *waiting.room;
    Client* const client = find(waiting.handle, waiting.client_id);
    if (client == nullptr || waiting.cancelled || !answer.ok) {
        if (answer.ok) broker_.unsubscribe(target, waiting.user);
        return fail(waiting, answer.full ? ErrorCode::limit : ErrorCode::unavailable, answer.reason);
    }
    const std::shared_ptr<Waiting> keep = take(waiting);
    bool entered = false;
    tell(*client, [&] {
        if (membership(*client, target) != nullptr) {
            broker_.unsubscribe(target, waiting.user);  // it was one already, and stays one
            entered = true;
            catch_up(*client, target);  // its position will include it
        } else {
            // Who joins now must not get what waits for the members of before: its position includes it.
            seal(target);
            enter(*client, target);
            entered = true;
        }
        greet(*client, target, waiting, answer);
    });
    if (entered) return;
    broker_.unsubscribe(target, waiting.user);
    release_if_empty(target);
}

// It is in.
void Hub::greet(Client& client, Room& target, const Waiting& waiting, const SubscribeAnswer& answer) {
    Subscribed subscribed;
    subscribed.room = target.name;
    subscribed.epoch = target.cursor.epoch;
    subscribed.offset = target.cursor.offset;
    if (waiting.since) subscribed.recovered = answer.recovered;
    subscribed.now_ms = now_.wall_ms;
    reply(client, encode_subscribed(subscribed, waiting.ref));
    for (const Payload& frame : answer.missed) {
        ++client.messages_out;
        client.bytes_out += frame.size();
        transport_.send(client, frame);
    }
    if (waiting.leaves.empty()) {
        if (waiting.tokens != client.tokens) recheck(client, target);
        return;
    }
    const std::string name = target.name;
    leave(client, target);  // the room may be gone
    for (const std::string& ref : waiting.leaves) reply(client, encode_unsubscribed(name, ref));
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
        catch_up(client, *found->second);  // what was published before belongs to it
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

    ++client.tokens;
    const Question question(client.identity);
    const RuleSet& rules = *policy.rules;
    std::vector<std::shared_ptr<Waiting>> asked;
    for_each_waiting(client, [&](Waiting& waiting) {
        if (waiting.cancelled) return;
        if (!question.check(rules, waiting.room->name).allowed()) {
            waiting.cancelled = true;
            refuse_entry(client, Lookup::Answer::no, waiting.room->name, waiting.ref);
        } else if (waiting.question != 0) {
            asked.push_back(waiting_[waiting.index]);
        }
    });
    for (const auto& waiting : asked) {
        const Verdict verdict = question.check(rules, waiting->room->name);
        if (const auto* parameters = rules.parameters(verdict)) {
            ask(waiting, client, *parameters, verdict);
        } else {
            waiting->question = 0;
            go_on(waiting);
        }
    }
    std::vector<std::string> names;
    for (const Membership& each : client.memberships) names.push_back(each.room->name);
    for (auto name = names.rbegin(); name != names.rend(); ++name) {
        const auto found = rooms_.find(*name);
        if (found != rooms_.end() && membership(client, *found->second) != nullptr)
            recheck(client, *found->second);
    }
}

// Whether a member may stay, now that its token is another one.
void Hub::recheck(Client& client, Room& room) {
    const RuleSet& rules = *client.policy->rules;
    const Question question(client.identity);
    const Verdict verdict = question.check(rules, room.name);
    if (!verdict.allowed()) return expel(client, room, Lookup::Answer::no);
    const auto* parameters = rules.parameters(verdict);
    if (parameters == nullptr) return;
    client.policy->lookup->ask(
        verdict.rule, lookup_values(*parameters, room.name, question.rule_values()),
        [this, handle = client.handle, id = client.id, tokens = client.tokens,
         name = room.name](Lookup::Answer answer) {
            Client* const member = find(handle, id);
            const auto found = rooms_.find(name);
            if (answer == Lookup::Answer::yes || member == nullptr || member->tokens != tokens) return;
            if (found != rooms_.end()) tell(*member, [&] { expel(*member, *found->second, answer); });
        });
}

void Hub::expel(Client& client, Room& room, Lookup::Answer answer) {
    if (membership(client, room) == nullptr) return;
    const std::string name = room.name;
    catch_up(client, room);
    leave(client, room);
    refuse_entry(client, answer, name, {});
}

void Hub::refuse_entry(Client& client, Lookup::Answer answer, std::string_view room, std::string_view ref) {
    if (answer == Lookup::Answer::unavailable)
        return refuse(client, ErrorCode::unavailable, room, kUndecided, true, ref);
    refuse(client, ErrorCode::forbidden, room, forbidden_message(room), false, ref);
}

void Hub::presence(Client& client, std::string_view name, std::string_view ref) {
    const RuleSet& rules = *client.policy->rules;
    const Question question(client.identity);
    const Verdict verdict = question.check(rules, name);
    if (!verdict.allowed()) return refuse_entry(client, Lookup::Answer::no, name, ref);
    const auto* parameters = rules.parameters(verdict);
    if (parameters == nullptr) return show_presence(client, name, ref);
    client.policy->lookup->ask(verdict.rule, lookup_values(*parameters, name, question.rule_values()),
                               [this, handle = client.handle, id = client.id, name = std::string(name),
                                ref = std::string(ref)](Lookup::Answer answer) {
                                   Client* const asker = find(handle, id);
                                   if (asker == nullptr) return;
                                   tell(*asker, [&] {
                                       if (answer != Lookup::Answer::yes)
                                           return refuse_entry(*asker, answer, name, ref);
                                       show_presence(*asker, name, ref);
                                   });
                               });
}

void Hub::show_presence(Client& client, std::string_view name, std::string_view ref) {
    broker_.presence(name, [this, handle = client.handle, id = client.id, name = std::string(name),
                            ref = std::string(ref)](const PresenceAnswer& answer) {
        Client* asker = find(handle, id);
        if (asker == nullptr) return;
        tell(*asker, [&] {
            if (!answer.ok) {
                refuse(*asker, ErrorCode::unavailable, name, "Presence is not known now", true, ref);
                return;
            }
            std::vector<PresenceEntry> users;
            users.reserve(answer.users.size());
            for (const PresenceUser& user : answer.users) users.push_back({user.id, user.connections});
            reply(*asker, encode_presence(name, users, answer.connections, ref));
        });
    });
}

}  // namespace rooms

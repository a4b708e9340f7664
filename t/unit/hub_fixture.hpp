// A world for the hub: the broker, the transport and who answers look-ups are played by the test, so that
// answers can come late.
#pragma once

#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/base64.hpp"
#include "core/encodings.hpp"
#include "core/frame.hpp"
#include "core/hub.hpp"
#include "minter.hpp"

#include "cmocka.hpp"

namespace hub_test {

using namespace rooms;

inline constexpr std::int64_t kNow = 1795332720690;

// Where allocations fail: how many are left (failing_new.hpp).
inline long* failing = nullptr;

// None fails meanwhile: what is played here is not what is tested.
class Played {
public:
    Played() : left_(failing == nullptr ? -1 : std::exchange(*failing, -1)) {}
    ~Played() {
        if (failing != nullptr) *failing = left_;
    }
    Played(const Played&) = delete;
    Played& operator=(const Played&) = delete;

private:
    const long left_;
};

// A broker of one process whose answers wait until they are let go.
class TestBroker final : public Broker {
public:
    struct State {
        Position position{0x9f3a1c, 0};
        std::map<std::string, int> users;
        Room* room = nullptr;
    };

    void publish(std::span<const PublishRequest>, PublishDone) override {}

    void subscribe(Room& room, std::string_view user, std::optional<Position> since,
                   SubscribeDone done) override {
        auto answer = [this, &room, user = std::string(user), since, done = std::move(done)] {
            std::vector<Payload> missed;
            done(entered(room, user, since, missed));
        };
        answer_with(std::move(answer));
    }
    SubscribeAnswer entered(Room& room, const std::string& user, std::optional<Position> since,
                            std::vector<Payload>& missed) {
        const Played played;
        SubscribeAnswer result;
        if (refuse) {
            result.full = *refuse;
            result.reason = "not now";
            return result;
        }
        State& state = rooms[room.name];
        state.room = &room;
        ++state.users[user];
        room.cursor = state.position;
        result.ok = true;
        if (since) {
            result.recovered = since->epoch == state.position.epoch && since->offset <= state.position.offset;
            for (std::uint64_t i = since->offset; result.recovered && i < state.position.offset; ++i) {
                missed.push_back(encode_frame(Opcode::text, "missed " + std::to_string(i + 1)));
            }
        }
        result.missed = missed;
        return result;
    }
    void unsubscribe(Room& room, std::string_view user) noexcept override {
        const Played played;
        State& state = rooms[room.name];
        assert_true(state.users[std::string(user)] > 0);
        if (--state.users[std::string(user)] == 0) state.users.erase(std::string(user));
    }
    void release(Room& room) noexcept override {
        const Played played;
        ++released;
        rooms[room.name].room = nullptr;
    }
    void presence(std::string_view room, PresenceDone done) override {
        auto answer = [this, room = std::string(room), done = std::move(done)] {
            PresenceAnswer result;
            {
                const Played played;
                result.ok = !refuse;
                for (const auto& [id, connections] : rooms[room].users) {
                    result.users.push_back({id, static_cast<std::uint32_t>(connections)});
                    result.connections += static_cast<std::uint64_t>(connections);
                }
            }
            done(result);
        };
        answer_with(std::move(answer));
    }
    void answer_with(std::function<void()> answer) {
        if (!late) return answer();
        const Played played;
        waiting.push_back(std::move(answer));
    }

    void answer_all() {
        while (!waiting.empty()) {
            auto next = std::move(waiting.front());
            waiting.pop_front();
            next();
        }
    }
    void event(RoomSink& sink, const std::string& room, const std::string& text) {
        State& state = rooms[room];
        ++state.position.offset;
        if (state.room == nullptr) return;
        state.room->cursor = state.position;
        sink.on_publication(*state.room, encode_frame(Opcode::text, text));
    }
    int connections(const std::string& room) {
        int total = 0;
        for (const auto& user : rooms[room].users) total += user.second;
        return total;
    }

    std::map<std::string, State> rooms;
    std::deque<std::function<void()>> waiting;
    std::optional<bool> refuse;  // value: full
    bool late = false;
    int released = 0;
};

inline std::string text_of(const Payload& frame) {
    const std::string_view bytes = frame.view();
    return std::string(bytes.substr(static_cast<std::uint8_t>(bytes[1]) == 126 ? 4 : 2));
}

class TestTransport final : public Transport {
public:
    void send(Client& client, Payload frame) override { inbox[client.handle].push_back(text_of(frame)); }
    void fan_out(std::span<const std::int32_t> handles, std::span<const Payload> frames,
                 std::vector<Payload>& forms) override {
        ++fan_outs;
        if (forms.empty()) forms.push_back(join(frames));
        for (const std::int32_t handle : handles) {
            for (const Payload& frame : frames) inbox[handle].push_back(text_of(frame));
        }
    }
    void close(Client& client, CloseCode code, const char*) override {
        const Played played;
        closed[client.handle] = code;
    }
    void token_changed(Client&) override { ++tokens_changed; }
    void flush_later() override { flush_wanted = true; }
    void flush_next_turn() override { next_turn_wanted = true; }

    std::map<int, std::vector<std::string>> inbox;
    std::map<int, CloseCode> closed;
    int fan_outs = 0;
    int tokens_changed = 0;
    bool flush_wanted = false;
    bool next_turn_wanted = false;
};

class TestMeter final : public HubMeter {
public:
    void on_error(ErrorCode code) override {
        const Played played;
        ++errors[code];
    }
    void on_members(std::int64_t change) override { members += change; }
    void on_rooms(std::int64_t change) override { rooms += change; }
    std::map<ErrorCode, int> errors;
    std::int64_t members = 0;
    std::int64_t rooms = 0;
};

// One world a test: tenants may join their own rooms, session rooms come with the token.
struct World {
    World() {
        auto pattern =
            Pattern::compile("tenant:$tenant", [](std::string_view name) -> std::optional<VariableSource> {
                if (name == "tenant") return VariableSource{VariableSource::Kind::claim, 0};
                return std::nullopt;
            });
        joins.push_back(*pattern);
        rules.add(*pattern);
        auto key = Key::from_file_text(Algorithm::hs256, minter::kSecret, "");
        assert_true(!keys.add(std::move(*key)));
        policy.rules = &rules;
        policy.claim_paths = &paths;
        policy.keys = &keys;
        policy.token = &token_rules;
        policy.max_rooms = 3;
        policy.rate = {20, 10000};
        hub.set_now({kNow, 1000});
    }
    ~World() {
        for (auto& client : clients) {
            if (client) hub.remove(*client);
        }
        assert_int_equal(meter.members, 0);
        assert_int_equal(meter.rooms, 0);
        assert_int_equal(hub.room_count(), 0);
        for (auto& room : broker.rooms) assert_int_equal(broker.connections(room.first), 0);
    }

    static std::string payload(const std::string& user, const std::string& tenant,
                               const std::string& more = "") {
        return R"({"sub":")" + user + R"(","tenant_id":")" + tenant +
               R"(","exp":1795332900,"rooms":["session:*"])" + more + "}";
    }
    Client& connect(const std::string& user, const std::string& tenant) {
        auto client = std::make_unique<Client>();
        client->policy = &policy;
        client->handle = static_cast<int>(clients.size());
        client->id = 100 + clients.size();
        auto claims = Claims::read(payload(user, tenant), token_rules, kNow);
        assert_true(claims.ok());
        client->identity = Identity(*claims, paths, {});
        clients.push_back(std::move(client));
        hub.add(*clients.back());
        return *clients.back();
    }
    void disconnect(Client& client) {
        hub.remove(client);
        clients[static_cast<std::size_t>(client.handle)].reset();
    }
    std::string token(const std::string& user, const std::string& tenant, const std::string& more = "") {
        return token_of(payload(user, tenant, more));
    }
    static std::string token_of(const std::string& json) {
        const std::string text = base64url_encode(R"({"alg":"HS256"})") + "." + base64url_encode(json);
        return text + "." + base64url_encode(minter::hmac(EVP_sha256(), minter::kSecret, text));
    }
    std::string last(const Client& client) {
        auto& inbox = transport.inbox[client.handle];
        return inbox.empty() ? "" : inbox.back();
    }
    std::vector<std::string> take(const Client& client) {
        return std::exchange(transport.inbox[client.handle], {});
    }

    RuleSet rules;
    std::vector<Pattern> joins;
    std::vector<std::vector<std::string>> paths = {{"tenant_id"}};
    KeySet keys;
    TokenRules token_rules;
    ClientPolicy policy;
    TestBroker broker;
    TestTransport transport;
    TestMeter meter;
    Hub hub{broker, transport, meter};
    std::vector<std::unique_ptr<Client>> clients;
};

inline void assert_has(const std::string& text, const std::string& part) {
    if (text.find(part) == std::string::npos) print_error("%s\n   has no\n%s\n", text.c_str(), part.c_str());
    assert_true(text.find(part) != std::string::npos);
}

}  // namespace hub_test

// A RedisBroker between a zone, a sink that writes down, and a Redis that knows what its scripts do as far
// as one life of a room goes. The test may hold the scripts' answers, or give its own.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fake_redis.hpp"
#include "store/redis_broker.hpp"
#include "zone_fixture.hpp"

namespace redis_test {

inline const std::string kEvents = "rooms:{session:42}:events";

struct BrokerFixture {
    explicit BrokerFixture(std::size_t zone_bytes = 1 << 20, const char* url = "redis://10.0.0.1")
        : shared(zone_bytes) {
        const auto target = parse_redis_url(url);
        assert_true(target.ok());
        broker =
            std::make_unique<RedisBroker>(RedisBroker::Parts{reactor, shared.zone, slot, sink, meter,
                                                             [this](std::uint64_t when, std::uint64_t since) {
                                                                 heard = when;
                                                                 refused = since;
                                                             },
                                                             [this](std::string_view) { return history; }},
                                          *target);
        redis.answer = [this](FakeLine&, const Words& words) { return script(words); };
    }

    void start() {
        broker->start();
        redis.serve();
        redis.seen.clear();
    }
    // Everything runs for so long.
    void run(std::uint64_t ms) { redis.run(ms); }

    // --- Redis' side: rooms of one life, all at the same offset

    std::optional<std::string> script(const Words& words) {
        if (words[0] != "EVALSHA" || hold) return std::nullopt;
        if (words[1] == script_sha(Script::sync)) return sync(words);
        if (words[1] == script_sha(Script::check)) return check(words);
        if (words[1] == script_sha(Script::publish)) return published(words);
        if (words[1] == script_sha(Script::publish_all)) {
            const std::size_t publications = (words.size() - 3 - std::stoul(words[2]) - 3) / 5;
            std::vector<std::string> answers;
            for (std::size_t i = 0; i < publications; ++i) answers.push_back(published(words));
            return list(answers);
        }
        return std::nullopt;
    }
    std::string sync(const Words& words) {
        const std::string& from = words[14];
        return life.sync(stored, from.empty() ? 0 : std::stoull(from) + 1);
    }
    std::string check(const Words& words) {
        const std::size_t rooms = std::stoul(words[2]) / 2;
        const std::size_t arguments = 3 + 2 * rooms + 1;
        std::vector<std::string> answers;
        for (std::size_t i = 0; i < rooms; ++i) {
            const std::string* seen = &words[arguments + 3 * i];
            const bool same = seen[0] == life.epoch && seen[1] == std::to_string(stored) &&
                              (stored == 0 || seen[2] == life.check(stored));
            answers.push_back(bulk(same ? "" : life.epoch + " " + std::to_string(stored)));
            answers.push_back(number(knows_members));
        }
        return list(answers);
    }
    std::string published(const Words&) {
        ++stored;
        return list({bulk("ok"), bulk(life.epoch), number(static_cast<std::int64_t>(stored)), number(0),
                     bulk(life.check(stored))});
    }
    // An event of another host: stored, and heard if `heard_too`.
    void event(bool heard_too = true) {
        ++stored;
        if (heard_too) redis.publish(kEvents, life.message(stored));
    }

    // --- this worker's side

    void subscribe(std::string_view user = "ann", std::optional<Position> since = {}) {
        broker->subscribe(room, user, since, [this](const SubscribeAnswer& answer) {
            const std::vector<Payload> missed(answer.missed.begin(), answer.missed.end());
            say(!answer.ok ? "refused: " + std::string(answer.reason)
                           : "joined at " + std::to_string(room.cursor.offset) +
                                 (answer.recovered ? " recovered [" + offsets_of(missed) + "]" : ""));
        });
    }
    void publish(std::string_view key = {}, std::string_view name = "session:42") {
        const PublishRequest request{
            .room = name, .body = "{\"type\":\"x\"", .key = key, .fingerprint = "print", .history = history};
        broker->publish({&request, 1}, [this](std::span<const PublishAnswer> answers) {
            for (const PublishAnswer& answer : answers) say(text_of(answer));
        });
    }
    static std::string text_of(const PublishAnswer& answer) {
        static constexpr const char* kNames[] = {"ok", "duplicate", "conflict", "too large", "unavailable"};
        std::string text = kNames[static_cast<std::size_t>(answer.status)];
        if (answer.position.offset != 0) text += " " + std::to_string(answer.position.offset);
        if (!answer.reason.empty()) text += ": " + std::string(answer.reason);
        return text;
    }
    void join() {
        subscribe();
        redis.serve();
        said.clear();
        redis.seen.clear();
    }
    [[nodiscard]] std::uint64_t members(std::string_view name = "session:42") {
        return shared.zone.members(name);
    }

    void say(const std::string& what) { said += (said.empty() ? "" : "; ") + what; }
    void told(const char* wanted) { assert_string_equal(std::exchange(said, {}).c_str(), wanted); }
    void given(const char* wanted) { assert_string_equal(sink.take().c_str(), wanted); }
    // The members' part of the syncs since the last call: "+ ann 1 | =".
    std::string synced_members() {
        std::string all;
        for (const std::string& command : redis.take("EVALSHA sync")) {
            const std::size_t at = command.find(" 10000 ");
            const std::string members = at == command.npos ? "nobody" : command.substr(at + 7);
            all += (all.empty() ? "" : " | ") + members;
        }
        return all;
    }

    FakeReactor reactor;
    FakeRedis redis{reactor};
    zone_test::SharedZone shared;
    unsigned slot = zone_test::claim(shared.zone);
    RecordingSink sink;
    RecordingMeter meter;
    HistoryLimits history;
    std::uint64_t heard = 0;
    std::uint64_t refused = 0;
    Life life;
    std::uint64_t stored = 0;
    bool hold = false;
    int knows_members = 1;
    Room room{"session:42"};
    std::string said;
    std::unique_ptr<RedisBroker> broker;
};

}  // namespace redis_test

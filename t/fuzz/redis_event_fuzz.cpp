// A room that hears anything at all. Each line of the input is a message of its channel as it stands, or a
// letter and digits: `m` a message that is sealed right, `f` one that is forged, `s` a sync, `t` a sync of a
// stream that has been trimmed, `e` a sync after another life has begun, `x` the sink has no memory once, `v`
// the other of two servers is spoken with from now on, `p` it is found to go on with the room.
// Whatever comes: offsets are given one after the other, or a gap says that they are not.
#include <openssl/sha.h>

#include <algorithm>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "core/hub.hpp"
#include "core/json.hpp"
#include "core/reply.hpp"
#include "store/redis_room.hpp"

#include "fuzz/split.hpp"

using namespace rooms;

namespace {

std::string sha1_hex(const std::string& text) {
    unsigned char digest[SHA_DIGEST_LENGTH];
    SHA1(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest);
    std::string hex;
    for (const unsigned char byte : digest) {
        hex += "0123456789abcdef"[byte >> 4];
        hex += "0123456789abcdef"[byte & 15];
    }
    return hex;
}

constexpr std::string_view kBody = "{\"type\":\"t\"";

// Two kinds of calls, and where they must lead to.
struct Sink final : RoomSink {
    Position at;
    bool short_of_memory = false;

    void on_publication(Room& room, Payload frame) override {
        refuse();
        FUZZ_CHECK(static_cast<bool>(frame));
        FUZZ_CHECK(room.cursor == at);
        ++at.offset;
        const std::string_view text = frame.view();
        FUZZ_CHECK(text.find("\"offset\":" + std::to_string(at.offset) + ",") != text.npos);
    }
    void on_gap(Room& room, Position now, std::string_view reason) override {
        refuse();
        FUZZ_CHECK(room.cursor == at && !reason.empty());
        FUZZ_CHECK(now.epoch != at.epoch || now.offset > at.offset);
        at = now;
    }
    void refuse() {
        if (std::exchange(short_of_memory, false)) throw std::bad_alloc();
    }
};

struct Meter final : RedisMeter {
    void on_redis(RedisCount, std::string_view) override {}
};

struct World {
    Room hub_room{"a:1"};
    RedisRoom room{hub_room, "rooms:{a:1}"};
    Sink sink;
    Meter meter;
    std::string epoch = "e1";
    std::string secret = "secret";
    std::string fence = "r1";
    std::uint64_t lives = 0xe1;

    [[nodiscard]] std::string message(std::uint64_t offset, const std::string& with) const {
        const std::string text = epoch + ' ' + std::to_string(offset) + " 7 " + std::string(kBody);
        return sha1_hex(text + with) + ' ' + text;
    }
    void hear(std::string_view message) {
        const Position before = sink.at;
        try {
            room.on_message(message, fence, sink, meter);
        } catch (const std::bad_alloc&) {
        }
        if (!room.is_proven(fence)) FUZZ_CHECK(sink.at == before);
        check();
    }
    void prove() {
        if (!room.live()) return;
        try {
            room.on_proven(fence, sink, meter);
        } catch (const std::bad_alloc&) {
        }
        FUZZ_CHECK(room.is_proven(fence));
        check();
    }
    // Of what may have come early it is the newest, and of the proven server.
    void check() const {
        FUZZ_CHECK(hub_room.cursor == sink.at);
        if (!room.live()) return;
        const RedisClaim claim = room.claim();
        FUZZ_CHECK(claim.epoch == room.epoch() && claim.offset >= hub_room.cursor.offset);
        FUZZ_CHECK(room.is_proven(claim.fence));
    }
    void sync(std::uint64_t offset, std::uint64_t first) {
        const bool fresh = !room.live();
        RedisSync answer;
        answer.epoch = epoch;
        answer.secret = secret;
        answer.offset = offset;
        answer.has_events = true;
        for (std::uint64_t i = first; i <= offset && answer.events.size() < 64; ++i) {
            RedisEvent& event = answer.events.emplace_back();
            event.epoch = epoch;
            event.offset = i;
            event.body = kBody;
        }
        if (fresh) sink.at = {lives, offset};
        hub_room.cursor = sink.at;
        room.syncing = true;
        try {
            room.on_sync(answer, fence, sink, meter);
            for (const std::uint64_t since : {std::uint64_t{0}, first, offset, hub_room.cursor.offset}) {
                const auto missed = room.missed(answer, {hub_room.cursor.epoch, since}, {});
                FUZZ_CHECK(!missed || missed->size() == hub_room.cursor.offset - since);
            }
        } catch (const std::bad_alloc&) {
            if (fresh && !room.live()) sink.at = hub_room.cursor = {};
        }
        room.syncing = room.wants_sync = false;
        room.on_sync_done();
        check();
    }
};

void parse(std::string_view line) {
    const auto event = RedisEvent::parse(line);
    if (!event) return;
    FUZZ_CHECK(event->seal.size() == 40 && event->offset != 0 && !event->epoch.empty());
    FUZZ_CHECK(event->sealed.size() + 41 == line.size() && event->check().size() == 16);
    FUZZ_CHECK(event->is_sealed("secret") ==
               (sha1_hex(std::string(event->sealed) + "secret") == std::string(event->seal)));
    if (const Payload frame = event->frame()) {
        const std::string_view json = frame.view().substr(frame.view().find('{'));
        FUZZ_CHECK(parse_json(json, kMaxJsonDepth + 1).ok());
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::string_view rest(reinterpret_cast<const char*>(data), size);
    World world;
    while (!rest.empty()) {
        const std::size_t end = rest.find('\n');
        const std::string line(rest.substr(0, end));
        rest = end == rest.npos ? std::string_view() : rest.substr(end + 1);
        parse(line);
        std::uint64_t number = 0;
        bool digits = line.size() > 1 && line.size() < 6;
        for (std::size_t i = 1; i < line.size(); ++i) {
            digits = digits && line[i] >= '0' && line[i] <= '9';
            number = number * 10 + static_cast<std::uint64_t>(line[i] - '0');
        }
        switch (digits || line == "x" || line == "v" || line == "p" ? line[0] : '\0') {
            case 'm': world.hear(world.message(number, world.secret)); break;
            case 'f': world.hear(world.message(number, "guessed")); break;
            case 's': world.sync(std::max(number, world.sink.at.offset), world.sink.at.offset + 1); break;
            case 't': world.sync(world.sink.at.offset + number, world.sink.at.offset + number / 2 + 1); break;
            case 'e': {
                const std::string epoch = "e" + std::to_string(number);
                if (epoch == world.epoch) break;
                world.epoch = epoch;
                world.secret = "another" + line;
                world.lives = *parse_epoch(epoch);
                world.sync(number, 1);
                break;
            }
            case 'x': world.sink.short_of_memory = true; break;
            case 'v': world.fence = world.fence == "r1" ? "r2" : "r1"; break;
            case 'p': world.prove(); break;
            default: world.hear(line);
        }
    }
    return 0;
}

// What Redis would say, made by hand: RESP, messages as publish.lua seals them, answers of sync.lua. And a
// sink that writes down what it is given.
#pragma once

#include <openssl/evp.h>

#include <cstdio>
#include <map>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "core/hub.hpp"
#include "store/redis_reply.hpp"
#include "store/redis_room.hpp"

namespace redis_test {

using namespace rooms;

inline constexpr std::int64_t kMs = 1'795'332'720'690;

inline std::string sha1_hex(std::string_view text) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    EVP_Digest(text.data(), text.size(), digest, &size, EVP_sha1(), nullptr);
    std::string hex;
    for (unsigned i = 0; i < size; ++i) {
        char digits[3];
        std::snprintf(digits, sizeof digits, "%02x", digest[i]);
        hex += digits;
    }
    return hex;
}

// --- RESP

inline std::string bulk(std::string_view text) {
    return "$" + std::to_string(text.size()) + "\r\n" + std::string(text) + "\r\n";
}
inline std::string number(std::int64_t value) { return ":" + std::to_string(value) + "\r\n"; }
inline std::string list(const std::vector<std::string>& parts) {
    std::string text = "*" + std::to_string(parts.size()) + "\r\n";
    for (const std::string& part : parts) text += part;
    return text;
}
inline const std::string kNil = "$-1\r\n";

// --- one life of a room, as it is stored

struct Life {
    std::string epoch = "e1";
    std::string secret = "secret";
    std::int64_t ms = kMs;  // of each event
    std::int64_t now = kMs;

    [[nodiscard]] static std::string body(std::uint64_t offset) {
        return R"({"type":"t","n":)" + std::to_string(offset);
    }
    [[nodiscard]] std::string text(std::uint64_t offset) const {
        return epoch + ' ' + std::to_string(offset) + ' ' + std::to_string(ms) + ' ' + body(offset);
    }
    [[nodiscard]] std::string seal(std::uint64_t offset) const { return sha1_hex(text(offset) + secret); }
    [[nodiscard]] std::string check(std::uint64_t offset) const {
        return offset == 0 ? std::string() : seal(offset).substr(0, 16);
    }
    // What comes over the channel.
    [[nodiscard]] std::string message(std::uint64_t offset) const {
        return seal(offset) + ' ' + text(offset);
    }
    [[nodiscard]] std::string entry(std::uint64_t offset) const {
        return list({bulk(std::to_string(offset) + "-0"),
                     list({bulk("t"), bulk(std::to_string(ms)), bulk("b"), bulk(body(offset))})});
    }
    // sync.lua's answer of a room at `offset`, with the events from `first` on; 0: without any.
    [[nodiscard]] std::string sync(std::uint64_t offset, std::uint64_t first = 0) const {
        std::vector<std::string> events;
        for (std::uint64_t i = first; first != 0 && i <= offset; ++i) events.push_back(entry(i));
        return list({bulk(epoch), number(static_cast<std::int64_t>(offset)), bulk(secret),
                     bulk(check(offset)), number(now), first != 0 ? list(events) : kNil});
    }
};

// --- the other side

// The JSON in a frame of a server.
inline std::string json_of(const Payload& frame) {
    const std::string_view bytes = frame.view();
    if (bytes.size() < 2) return {};
    const auto size = static_cast<unsigned char>(bytes[1]);
    return std::string(bytes.substr(size < 126 ? 2 : size == 126 ? 4 : 10));
}

// The offset that a page would read in it, and by it the frame's whole text.
inline std::string offset_of(const Payload& frame) {
    const std::string json = json_of(frame);
    const std::string name = R"("offset":)";
    const std::size_t at = json.rfind(name);
    return at == json.npos ? "?" : json.substr(at + name.size(), json.find(',', at + 1) - at - name.size());
}

inline std::string offsets_of(const std::vector<Payload>& frames) {
    std::string all;
    for (const Payload& frame : frames) all += (all.empty() ? "" : " ") + offset_of(frame);
    return all;
}

// "1 2 gap(e2:0 reset)": what the members of a room have been given. Each of its throws is used once.
struct RecordingSink final : RoomSink {
    std::map<std::string, std::string> of;
    std::string all;
    int throws = 0;         // calls that are refused with bad_alloc
    int throws_after = -1;  // that many calls go well before

    void on_publication(Room& room, Payload frame) override { note(room, offset_of(frame)); }
    void on_gap(Room& room, Position now, std::string_view reason) override {
        char position[64];
        std::snprintf(position, sizeof position, "%llx:%llu", static_cast<unsigned long long>(now.epoch),
                      static_cast<unsigned long long>(now.offset));
        note(room, "gap(" + std::string(position) + " " + std::string(reason) + ")");
    }
    [[nodiscard]] std::string take() { return std::exchange(all, {}); }

private:
    void note(Room& room, const std::string& what) {
        if (throws_after > 0) {
            --throws_after;
        } else if (throws > 0) {
            --throws;
            throw std::bad_alloc();
        }
        of[room.name] += (of[room.name].empty() ? "" : " ") + what;
        all += (all.empty() ? "" : " ") + what;
    }
};

struct RecordingMeter final : RedisMeter {
    std::map<RedisCount, int> counts;
    void on_redis(RedisCount what, std::string_view) override { ++counts[what]; }
    int operator[](RedisCount what) { return counts[what]; }
};

}  // namespace redis_test

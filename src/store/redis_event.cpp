#include "store/redis_event.hpp"

#include <openssl/crypto.h>

#include <charconv>
#include <cstring>
#include <string>

#include "core/envelope.hpp"
#include "core/frame.hpp"
#include "core/json.hpp"
#include "store/sha1.hpp"

namespace rooms {
namespace {

constexpr std::size_t kSeal = 40;

std::string_view take_word(std::string_view& rest) {
    const std::size_t end = rest.find(' ');
    if (end == rest.npos) return {};
    const std::string_view word = rest.substr(0, end);
    rest.remove_prefix(end + 1);
    return word;
}

template <typename T>
bool parse_number(std::string_view text, T& value) {
    const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), value);
    return !text.empty() && fault == std::errc{} && end == text.data() + text.size();
}

}  // namespace

std::optional<RedisEvent> RedisEvent::parse(std::string_view message) {
    RedisEvent event;
    event.seal = take_word(message);
    event.sealed = message;
    event.epoch = take_word(message);
    const bool good =
        parse_number(take_word(message), event.offset) && parse_number(take_word(message), event.ms);
    if (!good || event.seal.size() != kSeal || event.epoch.empty() || event.offset == 0) return std::nullopt;
    event.body = message;
    return event;
}

bool RedisEvent::is_sealed(std::string_view secret) const {
    if (secret.empty()) return false;
    const Sha1Hex hex = sha1_hex({sealed, secret});
    return seal.size() == hex.size() && CRYPTO_memcmp(seal.data(), hex.data(), hex.size()) == 0;
}

Payload RedisEvent::frame() const {
    char tail[kMaxEventTail];
    const std::size_t tail_size = event_tail(tail, offset, ms);
    char header[kMaxServerHeader];
    const std::size_t json_size = body.size() + tail_size;
    const std::size_t header_size = encode_frame_header(header, Opcode::text, json_size);
    Payload frame = Payload::allocate(header_size + json_size);
    char* json = frame.data() + header_size;
    std::memcpy(frame.data(), header, header_size);
    std::memcpy(json, body.data(), body.size());
    std::memcpy(json + body.size(), tail, tail_size);
    // Others may publish too (docs/redis.md), and Redis' own reader of JSON is more lenient than browsers'.
    const auto value = parse_json(std::string_view(json, json_size), kMaxJsonDepth + 1);
    return value && value->type == JsonType::object ? frame : Payload();
}

}  // namespace rooms

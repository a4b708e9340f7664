// One connection's side of RFC 6455 behind the handshake: octets in, events out, no I/O.
//
// Owned by the connection. Idle it is 64 octets or fewer; memory of its own exists only while a message
// or a control frame is incomplete. It never sends, closes or frees anything but that, and never
// answers a ping itself: events say what happened, the caller acts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "core/close_code.hpp"
#include "core/deflate.hpp"
#include "core/extensions.hpp"
#include "core/frame.hpp"
#include "core/utf8.hpp"

namespace rooms {

struct WireLimits {
    std::size_t max_message = 65536;    // octets, after inflating
    std::size_t max_frame = 0;          // octets on the wire; 0: only max_message counts
    std::uint32_t max_fragments = 128;  // frames per message
    std::uint32_t max_ratio = 100;      // see InflateLimits
};

struct Event {
    enum class Type : std::uint8_t {
        need_more,  // the input is used up
        message,    // opcode text or binary, payload
        ping,       // answer with a pong of this payload
        pong,
        close,  // echo `code` (0: an empty body), then close; reason is the peer's
        fail,   // send Close with `code` and `reason` (static) unless we have, then drop
    };
    Type type = Type::need_more;
    Opcode opcode = Opcode::continuation;
    std::uint16_t code = 0;
    std::string_view payload;
    std::string_view reason;
};

// What all sessions of a worker share: the zlib streams and the last event's payload, where that is
// not in the input itself.
class Codec {
public:
    Deflater deflater;

private:
    friend class Session;

    void release();  // ends the life of the last event's views
    std::unique_ptr<Inflater> take_inflater();
    void give_back(std::unique_ptr<Inflater> inflater);

    std::unique_ptr<Inflater> inflater_;  // a spare one
    Bytes message_;
    char control_[kMaxControlPayload];
};

class Session {
public:
    explicit Session(std::optional<DeflateParams> deflate = {});
    Session(Session&&) noexcept;
    Session& operator=(Session&&) noexcept;
    ~Session();

    // Consumes the front of `input`, which is unmasked in place, up to one event; call again until
    // need_more. An event's views live until the next feed with this codec, or until the input
    // buffer is changed. After close or fail everything is swallowed. Never throws.
    [[nodiscard]] Event feed(std::span<char>& input, Codec& codec, const WireLimits& limits);

    // We have sent a Close: from here only the peer's Close (or a broken frame) is an event.
    void on_close_sent();

    // In the middle of a frame or message: a peer that now falls silent is stuck, not idle.
    [[nodiscard]] bool incomplete() const;
    // Octets that an unfinished message holds.
    [[nodiscard]] std::size_t held() const;
    // 0: permessage-deflate was not negotiated; else the window our messages may use.
    [[nodiscard]] std::uint8_t server_window_bits() const { return server_window_bits_; }

private:
    enum class State : std::uint8_t { header, payload, closed };
    struct Pending;

    // One step each; nothing: step on.
    std::optional<Event> read_header(std::span<char>& input, const WireLimits& limits);
    std::optional<Event> begin_frame(const FrameHeader& header, const WireLimits& limits);
    std::optional<Event> read_payload(std::span<char>& input, Codec& codec, const WireLimits& limits);
    std::optional<Event> read_control(std::string_view part, Codec& codec);
    std::optional<Event> read_data(std::string_view part, Codec& codec, const WireLimits& limits);
    InflateStatus inflate(std::string_view part, bool last, Codec& codec, const WireLimits& limits,
                          std::string_view& plain);
    Event on_close(std::string_view body);
    Event fail(CloseCode code, std::string_view reason);
    Pending& pending();

    std::unique_ptr<Pending> pending_;
    std::uint64_t remaining_ = 0;  // of the frame's payload
    std::uint8_t header_[kMaxClientHeader];
    std::uint8_t header_size_ = 0;  // octets of it here; the key is the last four
    std::uint8_t phase_ = 0;        // in the key
    State state_ = State::header;
    Opcode frame_ = Opcode::continuation;    // the current frame's
    Opcode message_ = Opcode::continuation;  // text or binary while a message is open
    Utf8Validator utf8_;
    std::uint8_t server_window_bits_;
    bool fin_ : 1 = false;
    bool compressed_ : 1 = false;  // the open message
    bool close_sent_ : 1 = false;
    std::uint32_t fragments_ = 0;
};

static_assert(sizeof(Session) <= 64);

}  // namespace rooms

// WebSocket frames, RFC 6455 section 5: the header of a client's frame, and whole frames of ours.
//
// Pure functions. Ours are never masked, never fragmented and always of minimal length. What depends
// on the connection's state (continuations, limits, who may set RSV1) is for Session.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "core/payload.hpp"

namespace rooms {

enum class Opcode : std::uint8_t {
    continuation = 0,
    text = 1,
    binary = 2,
    close = 8,
    ping = 9,
    pong = 10,
};

[[nodiscard]] constexpr bool is_control(Opcode opcode) { return static_cast<std::uint8_t>(opcode) >= 8; }

inline constexpr std::size_t kMaxClientHeader = 14;
inline constexpr std::size_t kMaxServerHeader = 10;
inline constexpr std::size_t kMaxControlPayload = 125;

struct FrameHeader {
    std::uint64_t size = 0;  // of the payload
    Opcode opcode = Opcode::continuation;
    bool fin = false;
    bool rsv1 = false;
};

enum class HeaderStatus : std::uint8_t {
    need_more,  // call again when `bytes` has grown to `wanted`
    complete,   // `header` is set; the mask key is the last four of `wanted` octets
    refused,    // 1002, with `reason`; found as soon as the octets tell
};

struct HeaderParse {
    HeaderStatus status = HeaderStatus::need_more;
    std::size_t wanted = 2;
    FrameHeader header;
    std::string_view reason;
};

// Reads a masked client's header from its first octets. `rsv1` set is accepted on data frames
// only where `deflate` was negotiated.
[[nodiscard]] HeaderParse parse_frame_header(std::span<const std::uint8_t> bytes, bool deflate);

// Writes at most kMaxServerHeader octets to `out` and says how many.
[[nodiscard]] std::size_t encode_frame_header(char* out, Opcode opcode, std::size_t payload_size,
                                              bool compressed = false);

// `payload` is on the wire as given: with `compressed` it must come from a Deflater.
// Throws std::bad_alloc.
[[nodiscard]] Payload encode_frame(Opcode opcode, std::string_view payload, bool compressed = false);

// The reason (valid UTF-8) is cut between code points to fit a control frame. A code that may not
// be on the wire, 0 above all, makes an empty body. Throws std::bad_alloc.
[[nodiscard]] Payload encode_close(std::uint16_t code, std::string_view reason = {});

// XORs `size` octets with the key, beginning at its octet `phase` & 3.
void unmask(char* data, std::size_t size, const std::uint8_t key[4], std::size_t phase);

}  // namespace rooms

// The forms in which one frame leaves: plain, or deflated for a window, a level and a least size.
//
// Clients that read the same form share its bytes, so a message is compressed once for all of them
// (RFC 7692, no context takeover). One owner per process; forms are known by a small number.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/deflate.hpp"
#include "core/payload.hpp"

namespace rooms {

// 0 is plain, which every client reads, with or without permessage-deflate.
using Encoding = std::uint8_t;

inline constexpr std::size_t kMaxEncodings = 63;

class Encodings {
public:
    // REQUIRES: window_bits 9 .. 15, level 1 .. 9. Plain when too many forms are in use already.
    [[nodiscard]] Encoding of(std::uint8_t window_bits, int level, std::size_t min);

    // The frame (one of ours, whole and plain) in that form; itself where it is smaller than `min` or
    // does not shrink. Throws std::bad_alloc.
    [[nodiscard]] Payload encode(Encoding encoding, const Payload& frame, Deflater& deflater) const;
    // All frames in that form, one behind the other.
    [[nodiscard]] Payload encode(Encoding encoding, std::span<const Payload> frames,
                                 Deflater& deflater) const;

    [[nodiscard]] std::size_t count() const { return forms_.size(); }

private:
    struct Form {
        std::uint8_t window_bits;
        int level;
        std::size_t min;
        bool operator==(const Form&) const = default;
    };
    std::vector<Form> forms_;  // of encodings 1, 2, 3 …
};

// The frames one behind the other; a single one is not copied.
[[nodiscard]] Payload join(std::span<const Payload> frames);

}  // namespace rooms

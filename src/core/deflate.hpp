// permessage-deflate data, RFC 7692 section 7.2, on zlib: a Deflater and Inflaters that start
// every message anew (no context takeover), so that one of each serves a whole worker.
//
// Nothing here throws but std::bad_alloc from growing an output; zlib's own failures are values.
// Inflating stops at the limit while it inflates and never writes beyond it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "core/bytes.hpp"

namespace rooms {

class Deflater {
public:
    Deflater();
    ~Deflater();

    // The message deflated, without the tail 00 00 ff ff: what a frame with RSV1 carries. The view
    // lives until the next call. Nothing when there is no memory: send it as it is.
    // REQUIRES: window_bits 9 .. 15, level 1 .. 9.
    [[nodiscard]] std::optional<std::string_view> deflate(std::string_view text,
                                                          std::uint8_t window_bits = 15, int level = 1);

private:
    struct Stream;
    // By windowBits - 9, each made when first needed: 64 to 260 KiB.
    std::unique_ptr<Stream> streams_[7];
    Bytes out_;
};

enum class InflateStatus : std::uint8_t { ok, corrupt, too_big, no_memory };

struct InflateLimits {
    std::size_t max_size = 65536;   // inflated octets
    std::uint32_t max_ratio = 100;  // inflated per deflated octet, above 64 KiB; 0: any
};

class Inflater {
public:
    Inflater();
    ~Inflater();

    // Forgets whatever came before.
    void begin();

    // Inflates the next part of a message behind what `out` has of it; `last`: no more follows.
    // Work is linear in the input and in what it makes.
    [[nodiscard]] InflateStatus feed(std::string_view part, bool last, Bytes& out,
                                     const InflateLimits& limits);

private:
    struct Stream;
    InflateStatus run(std::string_view part, Bytes& out, const InflateLimits& limits);

    std::unique_ptr<Stream> stream_;  // made at the first message: 7 KiB and a window
    std::size_t total_in_ = 0;
    bool fresh_ = true;  // between deflate streams: nothing read since begin or a final block
};

}  // namespace rooms

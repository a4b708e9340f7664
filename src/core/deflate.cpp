// zlib behind deflate.hpp. Raw streams (negative windowBits), each message from a reset one.
#include "core/deflate.hpp"

#include <limits>
#include <new>

#define ZLIB_CONST
#include <zlib.h>

namespace rooms {
namespace {

constexpr std::string_view kTail("\0\0\xff\xff", 4);
constexpr std::size_t kRatioFloor = 65536;
constexpr std::size_t kKeptCapacity = 256 * 1024;
constexpr std::size_t kMaxPart = std::numeric_limits<uInt>::max();

// Through operator new, so that a test can let the n-th allocation fail, zlib's included.
void* allocate(void*, uInt items, uInt size) {
    return ::operator new (std::size_t{items} * size, std::nothrow);
}
void release(void*, void* memory) { ::operator delete(memory); }

void set_input(z_stream& z, std::string_view text) {
    z.next_in = reinterpret_cast<const Bytef*>(text.data());
    z.avail_in = static_cast<uInt>(text.size());
}

void set_output(z_stream& z, char* at, std::size_t size) {
    z.next_out = reinterpret_cast<Bytef*>(at);
    z.avail_out = static_cast<uInt>(std::min(size, kMaxPart));
}

}  // namespace

struct Deflater::Stream {
    Stream(int level, int window_bits) : level(level) {
        z.zalloc = allocate;
        z.zfree = release;
        ready = deflateInit2(&z, level, Z_DEFLATED, -window_bits, 8, Z_DEFAULT_STRATEGY) == Z_OK;
    }
    ~Stream() { deflateEnd(&z); }

    z_stream z{};
    int level;
    bool ready;
};

Deflater::Deflater() = default;
Deflater::~Deflater() = default;

std::optional<std::string_view> Deflater::deflate(std::string_view text, std::uint8_t window_bits,
                                                  int level) {
    if (text.size() > kMaxPart) return std::nullopt;
    try {
        if (out_.capacity() > kKeptCapacity) out_.release();
        out_.clear();
        auto& stream = streams_[window_bits - 9];
        if (!stream) stream = std::make_unique<Stream>(level, window_bits);
        if (!stream->ready) {
            stream.reset();
            return std::nullopt;
        }
        z_stream& z = stream->z;
        deflateReset(&z);
        if (stream->level != level) deflateParams(&z, level, Z_DEFAULT_STRATEGY);
        stream->level = level;
        set_input(z, text);
        do {
            if (!out_.spare()) out_.make_room(text.size() / 2 + 64, kMaxPart + out_.size());
            const std::size_t before = out_.spare();
            set_output(z, out_.end(), before);
            ::deflate(&z, Z_SYNC_FLUSH);
            out_.commit(before - z.avail_out);
        } while (z.avail_out == 0);
        return out_.view().substr(0, out_.size() - kTail.size());
    } catch (const std::bad_alloc&) {
        return std::nullopt;
    }
}

struct Inflater::Stream {
    Stream() {
        z.zalloc = allocate;
        z.zfree = release;
        ready = inflateInit2(&z, -15) == Z_OK;
    }
    ~Stream() { inflateEnd(&z); }

    z_stream z{};
    bool ready;
};

Inflater::Inflater() = default;
Inflater::~Inflater() = default;

void Inflater::begin() {
    if (stream_) inflateReset(&stream_->z);
    total_in_ = 0;
    fresh_ = true;
}

InflateStatus Inflater::feed(std::string_view part, bool last, Bytes& out, const InflateLimits& limits) {
    if (part.size() > kMaxPart) return InflateStatus::too_big;
    if (!stream_) stream_ = std::make_unique<Stream>();
    if (!stream_->ready) {
        stream_.reset();
        return InflateStatus::no_memory;
    }
    InflateStatus status = run(part, out, limits);
    // A final block may end the message without an empty block behind it, and a message of no
    // octets at all is empty: RFC 7692 says otherwise, but neither can be read in two ways.
    if (status != InflateStatus::ok || !last || fresh_) return status;
    status = run(kTail, out, limits);
    // The tail completes an empty stored block; had the stream been cut short, it would have been
    // read as something else, and we would not be at the end of a block with no bits left over.
    constexpr int kAtEndOfBlock = 128;
    if (status == InflateStatus::ok && !fresh_ && stream_->z.data_type != kAtEndOfBlock)
        return InflateStatus::corrupt;
    return status;
}

InflateStatus Inflater::run(std::string_view part, Bytes& out, const InflateLimits& limits) {
    z_stream& z = stream_->z;
    set_input(z, part);
    if (!part.empty()) fresh_ = false;
    for (;;) {
        // At the limit one octet of room shows whether there is more to come.
        char beyond;
        const bool full = out.size() >= limits.max_size;
        if (!full && !out.spare())
            out.make_room(std::min(limits.max_size - out.size(), std::size_t{4096}), limits.max_size);
        const std::size_t room = full ? 1 : std::min(out.spare(), limits.max_size - out.size());
        set_output(z, full ? &beyond : out.end(), room);
        const uInt offered_in = z.avail_in;
        const uInt offered_out = z.avail_out;
        const int result = ::inflate(&z, Z_SYNC_FLUSH);
        total_in_ += offered_in - z.avail_in;
        const std::size_t made = offered_out - z.avail_out;
        if (full && made) return InflateStatus::too_big;
        out.commit(made);
        if (limits.max_ratio && out.size() > kRatioFloor && out.size() / limits.max_ratio > total_in_)
            return InflateStatus::too_big;

        if (result == Z_MEM_ERROR) return InflateStatus::no_memory;
        if (result == Z_BUF_ERROR) return InflateStatus::ok;  // all read, all written
        if (result == Z_STREAM_END) {
            // A final block does not end the message (RFC 7692 section 7.2.3.4), and what follows
            // may refer back over it. inflateReset would forget the window; setting it again as a
            // dictionary would cost 32 KiB of copying per octet of hostile input.
            inflateResetKeep(&z);
            fresh_ = z.avail_in == 0;
            if (fresh_) return InflateStatus::ok;
            continue;
        }
        if (result != Z_OK) return InflateStatus::corrupt;
        if (z.avail_in == 0 && z.avail_out > 0) return InflateStatus::ok;
    }
}

}  // namespace rooms

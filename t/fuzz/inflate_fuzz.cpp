// Inflating hostile data: same verdict and text however it is cut, never beyond the limits, and what zlib makes
// of it in one call. And what we deflate ourselves inflates to what it was.
#include "core/deflate.hpp"

#include <zlib.h>

#include <optional>
#include <string>

#include "fuzz/split.hpp"

using namespace rooms;

namespace {

constexpr std::size_t kRatioFloor = 65536;
// The second has room for the ratio to count.
constexpr InflateLimits kLimits[] = {{32768, 100}, {262144, 20}};

struct Outcome {
    InflateStatus status;
    std::string text;
    bool operator==(const Outcome&) const = default;
};

Outcome inflate(Inflater& inflater, std::string_view data, std::uint32_t seed, const InflateLimits& limits) {
    inflater.begin();
    Bytes out;
    InflateStatus status = InflateStatus::ok;
    for_each_part(data, seed, [&](std::vector<char>& part, bool last) {
        if (status == InflateStatus::ok)
            status = inflater.feed({part.data(), part.size()}, last, out, limits);
        FUZZ_CHECK(out.size() <= limits.max_size);
    });
    return {status, status == InflateStatus::ok ? std::string(out.view()) : std::string()};
}

// RFC 7692 section 7.2.2, all at once. Nothing: a block says that it is the last, where zlib stops and we go on.
std::optional<Outcome> inflate_by_zlib(std::string_view data, const InflateLimits& limits) {
    std::string in(data);
    in.append("\0\0\xff\xff", 4);
    std::string out(limits.max_size + 1, '\0');
    z_stream z{};
    FUZZ_CHECK(inflateInit2(&z, -15) == Z_OK);
    z.next_in = reinterpret_cast<Bytef*>(in.data());
    z.avail_in = static_cast<uInt>(in.size());
    z.next_out = reinterpret_cast<Bytef*>(out.data());
    z.avail_out = static_cast<uInt>(out.size());
    const int result = ::inflate(&z, Z_SYNC_FLUSH);
    const bool whole = result == Z_OK && z.avail_in == 0 && z.data_type == 128;  // at the end of a block
    out.resize(z.total_out);
    inflateEnd(&z);
    if (result == Z_STREAM_END) return std::nullopt;
    if (out.size() > limits.max_size) return Outcome{InflateStatus::too_big, {}};
    return whole ? Outcome{InflateStatus::ok, out} : Outcome{InflateStatus::corrupt, {}};
}

void compare(Inflater& inflater, std::string_view data, std::uint32_t seed, const InflateLimits& limits) {
    const Outcome whole = inflate(inflater, data, 0, limits);
    const Outcome in_parts = inflate(inflater, data, seed, limits);
    if (whole.text.size() > kRatioFloor)
        FUZZ_CHECK(whole.text.size() / limits.max_ratio <= data.size() + 4);  // with the tail
    // The ratio counts for what has come so far, which is not the same where it comes in parts.
    if (limits.max_size > kRatioFloor) {
        for (const Outcome& each : {whole, in_parts})
            if (each.status == InflateStatus::too_big) return;
    }
    FUZZ_CHECK(whole == in_parts);
    // A message of no octets at all is empty for us.
    const auto expected = data.empty() ? std::nullopt : inflate_by_zlib(data, limits);
    if (expected) FUZZ_CHECK(whole == *expected);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 1) return 0;
    const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
    static Inflater* const inflater = new Inflater;
    static Deflater* const deflater = new Deflater;
    const InflateLimits& limits = kLimits[data[0] & 1];
    compare(*inflater, text, data[0] + 1u, limits);

    const auto deflated =
        deflater->deflate(text, static_cast<std::uint8_t>(9 + data[0] % 7), 1 + data[0] % 9);
    FUZZ_CHECK(deflated.has_value());
    if (text.size() > kLimits[0].max_size) return 0;
    FUZZ_CHECK(
        (inflate(*inflater, *deflated, data[0], limits) == Outcome{InflateStatus::ok, std::string(text)}));
    return 0;
}

// Inflating hostile data: same verdict and text however it is cut, never beyond the limit. And what
// we deflate ourselves inflates to what it was.
#include "core/deflate.hpp"

#include <string>

#include "fuzz/split.hpp"

using namespace rooms;

namespace {

constexpr InflateLimits kLimits{32768, 100};

struct Outcome {
    InflateStatus status;
    std::string text;
    bool operator==(const Outcome&) const = default;
};

Outcome inflate(Inflater& inflater, std::string_view data, std::uint32_t seed) {
    inflater.begin();
    Bytes out;
    InflateStatus status = InflateStatus::ok;
    for_each_part(data, seed, [&](std::vector<char>& part, bool last) {
        if (status == InflateStatus::ok)
            status = inflater.feed({part.data(), part.size()}, last, out, kLimits);
        FUZZ_CHECK(out.size() <= kLimits.max_size);
    });
    return {status, status == InflateStatus::ok ? std::string(out.view()) : std::string()};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 1) return 0;
    const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
    static Inflater* const inflater = new Inflater;
    static Deflater* const deflater = new Deflater;
    FUZZ_CHECK(inflate(*inflater, text, 0) == inflate(*inflater, text, data[0] + 1u));

    const auto deflated =
        deflater->deflate(text, static_cast<std::uint8_t>(9 + data[0] % 7), 1 + data[0] % 9);
    FUZZ_CHECK(deflated.has_value());
    if (text.size() > kLimits.max_size) return 0;
    FUZZ_CHECK((inflate(*inflater, *deflated, data[0]) == Outcome{InflateStatus::ok, std::string(text)}));
    return 0;
}

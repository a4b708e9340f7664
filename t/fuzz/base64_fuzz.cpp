// Whatever decodes must encode to the very text it came from: no value has two spellings.
#include "core/base64.hpp"

#include "fuzz/split.hpp"

using namespace rooms;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    if (const auto bytes = base64_decode(text)) FUZZ_CHECK(base64_encode(*bytes) == text);
    if (const auto bytes = base64url_decode(text)) FUZZ_CHECK(base64url_encode(*bytes) == text);
    FUZZ_CHECK(base64_decode(base64_encode(text)) == text);
    FUZZ_CHECK(base64url_decode(base64url_encode(text)) == text);
    return 0;
}

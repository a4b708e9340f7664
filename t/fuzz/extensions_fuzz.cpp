// Header lines, cut at newlines, through the negotiation. What it answers must itself be an offer that it
// would take and answer in the same words.
#include "core/extensions.hpp"

#include <vector>

#include "fuzz/split.hpp"

using namespace rooms;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::string_view text(reinterpret_cast<const char*>(data), size);
    std::vector<std::string_view> lines;
    for (;;) {
        const std::size_t end = text.find('\n');
        lines.push_back(text.substr(0, end));
        if (end == text.npos) break;
        text.remove_prefix(end + 1);
    }
    DeflateConfig config;
    config.enabled = true;
    const ExtensionsResult result = negotiate_extensions(lines, config);
    FUZZ_CHECK(result.deflate.has_value() != result.response.empty());
    if (result.malformed) FUZZ_CHECK(!result.deflate);
    if (!result.deflate) return 0;
    FUZZ_CHECK(result.deflate->server_max_window_bits >= 9 && result.deflate->server_max_window_bits <= 15);
    const std::string_view answer = result.response;
    FUZZ_CHECK(negotiate_extensions({&answer, 1}, config).response == answer);
    return 0;
}

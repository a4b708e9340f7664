// The validator against a decoder that is slow and plain, however the text is cut: the same verdict, at the first
// octet that tells. And prefixes, the longest that cut no code point.
#include "core/utf8.hpp"

#include "fuzz/plain_utf8.hpp"
#include "fuzz/split.hpp"

using namespace rooms;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 1) return 0;
    const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
    const bool valid = is_utf8_plainly(text);
    FUZZ_CHECK(is_valid_utf8(text) == valid);

    Utf8Validator validator;
    bool good = true;
    for_each_part(text, data[0] + 1u, [&](std::vector<char>& part, bool) {
        good = validator.feed({part.data(), part.size()});
    });
    FUZZ_CHECK((good && validator.complete()) == valid);
    FUZZ_CHECK(good == may_become_utf8(text));
    if (!valid) return 0;

    const std::size_t max = data[0];
    const std::string_view prefix = utf8_prefix(text, max);
    FUZZ_CHECK(prefix.size() <= max && is_utf8_plainly(prefix));
    for (std::size_t longer = prefix.size() + 1; longer <= std::min(max, text.size()); ++longer)
        FUZZ_CHECK(!is_utf8_plainly(text.substr(0, longer)));
    return 0;
}

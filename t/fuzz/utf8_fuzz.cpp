// The validator against a decoder that is slow and plain, however the text is cut; and prefixes.
#include "core/utf8.hpp"

#include "fuzz/split.hpp"

using namespace rooms;

namespace {

bool is_valid_slowly(std::string_view text) {
    for (std::size_t i = 0; i < text.size();) {
        const auto octet = [&](std::size_t at) {
            return at < text.size() ? static_cast<std::uint8_t>(text[at]) : 0u;
        };
        const std::uint32_t lead = octet(i);
        const std::size_t more = lead < 0x80 ? 0 : (lead & 0xe0) == 0xc0 ? 1 : (lead & 0xf0) == 0xe0 ? 2 : 3;
        if (more == 3 && (lead & 0xf8) != 0xf0) return false;
        std::uint32_t c = more == 0 ? lead : lead & (0x3fu >> more);
        for (std::size_t k = 1; k <= more; ++k) {
            if ((octet(i + k) & 0xc0) != 0x80) return false;
            c = c << 6 | (octet(i + k) & 0x3f);
        }
        constexpr std::uint32_t kLeast[] = {0, 0x80, 0x800, 0x10000};
        if (c < kLeast[more] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) return false;
        i += more + 1;
    }
    return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 1) return 0;
    const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
    const bool valid = is_valid_slowly(text);
    FUZZ_CHECK(is_valid_utf8(text) == valid);

    Utf8Validator validator;
    bool good = true;
    for_each_part(text, data[0] + 1u, [&](std::vector<char>& part, bool) {
        good = validator.feed({part.data(), part.size()});
    });
    FUZZ_CHECK((good && validator.complete()) == valid);
    if (valid) FUZZ_CHECK(is_valid_utf8(utf8_prefix(text, data[0])));
    return 0;
}

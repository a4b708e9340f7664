// Cuts fuzzed octets into parts of pseudo-random sizes, each in memory of exactly its size, so that
// a parser that reads or writes past a part's end is caught.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#define FUZZ_CHECK(condition)               \
    do {                                    \
        if (!(condition)) __builtin_trap(); \
    } while (0)

namespace rooms {

// Calls each(part, last) at least once. `seed` 0: one part.
template <typename Each>
void for_each_part(std::string_view text, std::uint32_t seed, Each each) {
    do {
        std::size_t size = text.size();
        if (seed) {
            seed = seed * 1664525 + 1013904223;
            size = std::min<std::size_t>(size, 1 + (seed >> 28));
        }
        std::vector<char> part(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(size));
        text.remove_prefix(size);
        each(part, text.empty());
    } while (!text.empty());
}

}  // namespace rooms

// The product's version: the file VERSION, which `config` gives to the compiler. Shown by the status page and $rooms_version.
#pragma once

#include <string_view>

#define ROOMS_TEXT_OF(name) #name
#define ROOMS_TEXT(name) ROOMS_TEXT_OF(name)

namespace rooms {

#ifdef ROOMS_FAULTS
inline constexpr std::string_view kVersion = ROOMS_TEXT(ROOMS_VERSION) "+faults";
#else
inline constexpr std::string_view kVersion = ROOMS_TEXT(ROOMS_VERSION);
#endif

}  // namespace rooms

#undef ROOMS_TEXT
#undef ROOMS_TEXT_OF

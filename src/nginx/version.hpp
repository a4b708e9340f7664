// The product's version, as the status page shows it.
#pragma once

#include <string_view>

namespace rooms {

inline constexpr std::string_view kVersion = "0.1.0";

}  // namespace rooms

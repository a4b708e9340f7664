// Values as Postgres reads them from text.
#pragma once

#include <cstdint>
#include <string>

namespace rooms {

// Milliseconds as seconds: "1.500".
[[nodiscard]] inline std::string pg_seconds(std::uint64_t ms) {
    const std::string rest = std::to_string(1000 + ms % 1000);
    return std::to_string(ms / 1000) + '.' + rest.substr(1);
}

}  // namespace rooms

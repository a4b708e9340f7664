// SHA-1, as Redis has it: of a script (EVALSHA) and of an event (publish.lua seals it so). Nothing that has to
// withstand collisions.
#pragma once

#include <array>
#include <initializer_list>
#include <string_view>

namespace rooms {

using Sha1Hex = std::array<char, 40>;

// Of the parts, one behind the other. Takes no memory, and cannot fail.
[[nodiscard]] Sha1Hex sha1_hex(std::initializer_list<std::string_view> parts);

}  // namespace rooms

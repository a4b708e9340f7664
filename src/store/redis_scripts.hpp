// The Lua that runs in Redis, compiled into the module from the .lua files beside this one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace rooms {

enum class Script : std::uint8_t { publish, publish_all, sync, check, presence, approval, approval_index };
inline constexpr std::size_t kScripts = 7;

[[nodiscard]] std::string_view script_text(Script script);
// What EVALSHA calls it: 40 hex digits.
[[nodiscard]] std::string_view script_sha(Script script);

}  // namespace rooms

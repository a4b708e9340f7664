// The name of a room: `kind:id`, and what follows from it.
//
// kind is [a-z][a-z0-9_-]{0,31}, id is 1 to 200 of [A-Za-z0-9_.:@~-]. Names come from browsers and
// from backends; nothing that is not such a name may reach a broker, a log or a rule.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace rooms {

inline constexpr std::size_t kMaxRoomKind = 32;
inline constexpr std::size_t kMaxRoomId = 200;
inline constexpr std::size_t kMaxRoom = kMaxRoomKind + 1 + kMaxRoomId;

struct RoomName {
    std::string_view kind;
    std::string_view id;
};

[[nodiscard]] bool is_room(std::string_view room);

// The parts are views into `room`. Nothing if it is no room.
[[nodiscard]] std::optional<RoomName> parse_room(std::string_view room);

// One byte of the alphabet of ids, which holds that of kinds.
[[nodiscard]] bool is_room_byte(char byte);

// An event in `session:1` carries `sessionId`: the kind, literally, and "Id".
[[nodiscard]] bool is_id_field(std::string_view name, std::string_view kind);
void append_id_field(std::string& out, std::string_view kind);
// Of some kind.
[[nodiscard]] bool may_be_id_field(std::string_view name);

}  // namespace rooms

// The grammar of room names, by hand: it is asked for every command and every publication.
#include "core/room.hpp"

#include <array>

namespace rooms {
namespace {

constexpr bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }

// A look-up, for every command and every publication asks it for each byte of a room.
constexpr std::array<bool, 256> kIdBytes = [] {
    std::array<bool, 256> bytes{};
    for (const char c : std::string_view("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                         "0123456789_.:@~-")) {
        bytes[static_cast<unsigned char>(c)] = true;
    }
    return bytes;
}();

constexpr std::string_view kIdSuffix = "Id";

}  // namespace

bool is_room_byte(char byte) { return kIdBytes[static_cast<unsigned char>(byte)]; }

std::optional<RoomName> parse_room(std::string_view room) {
    const std::size_t colon = room.substr(0, kMaxRoomKind + 1).find(':');
    if (colon == std::string_view::npos) return std::nullopt;
    const RoomName name{room.substr(0, colon), room.substr(colon + 1)};
    if (name.kind.empty() || !is_lower(name.kind.front())) return std::nullopt;
    for (const char c : name.kind) {
        if (!is_lower(c) && !is_digit(c) && c != '_' && c != '-') return std::nullopt;
    }
    if (name.id.empty() || name.id.size() > kMaxRoomId) return std::nullopt;
    for (const char c : name.id) {
        if (!kIdBytes[static_cast<unsigned char>(c)]) return std::nullopt;
    }
    return name;
}

bool is_room(std::string_view room) { return parse_room(room).has_value(); }

bool is_id_field(std::string_view name, std::string_view kind) {
    return name.size() == kind.size() + kIdSuffix.size() && name.starts_with(kind) &&
           name.ends_with(kIdSuffix);
}

bool may_be_id_field(std::string_view name) { return name.ends_with(kIdSuffix); }

void append_id_field(std::string& out, std::string_view kind) {
    out += kind;
    out += kIdSuffix;
}

}  // namespace rooms

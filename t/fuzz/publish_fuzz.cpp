// Any bytes as the body of a publish. Every event that comes of it is one JSON object in which
// type, room and id are the publication's, once each, and the rest is data's, byte for byte.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "core/envelope.hpp"
#include "core/json.hpp"
#include "core/room.hpp"

namespace {

void require(bool condition) {
    if (!condition) std::abort();
}

void check_event(const rooms::PublishItem& item, std::string_view room) {
    require(rooms::is_room(room));
    std::string event = rooms::encode_event_body(item, room);
    char tail[rooms::kMaxEventTail];
    event.append(tail, rooms::event_tail(tail, 42, 1));
    const auto members = rooms::parse_json_object(event);
    require(members.ok());

    std::size_t ours = 0;
    std::size_t of_data = 0;
    const std::string id_field = std::string(room.substr(0, room.find(':'))) + "Id";
    bool id_field_seen = false;
    for (const rooms::JsonMember& member : *members) {
        id_field_seen |= member.name() == id_field;
        if (member.name() == "type") ours += member.raw == item.raw_type;
        else if (member.name() == "room") ours += member.raw == "\"" + std::string(room) + "\"";
        else if (member.name() == "offset") ours += member.raw == "42";
        else if (member.name() == "timestamp") ours += member.raw == "1";
        else if (member.name() == "id" && !item.raw_id.empty()) require(member.raw == item.raw_id);
        else ++of_data;
    }
    require(ours == 4 && id_field_seen);

    std::size_t expected = 0;
    bool own_id_field = false;
    rooms::JsonMember member;
    for (rooms::JsonMembers data(item.data); data.next(member);) {
        const std::string_view name = member.name();
        if (name == "type" || name == "room" || name == "offset" || name == "timestamp") continue;
        if (name == "id" && !item.raw_id.empty()) continue;
        own_id_field |= name == id_field;
        require(event.find(member.span()) != std::string::npos);
        ++expected;
    }
    require(of_data == expected + (own_id_field ? 0 : 1));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    rooms::PublishLimits limits;
    limits.max_rooms = 8;
    limits.max_items = 8;
    // The first byte's lowest bit says whether the content type is that of a batch.
    const bool ndjson = data[0] & 1;
    const std::string_view body(reinterpret_cast<const char*>(data) + 1, size - 1);
    const auto result = rooms::parse_publish(body, ndjson, limits);
    if (!result) {
        require(!result.error().message.empty() && result.error().message.size() < 512);
        return 0;
    }
    require(result->items.size() <= limits.max_items);
    require(result->batch || (result->items.size() == 1 && result->items.front().ok()));
    std::size_t index = 0;
    for (const auto& item : result->items) {
        if (item) {
            require(!item->rooms.empty() && item->rooms.size() <= limits.max_rooms);
            require(!item->type.empty() && item->type.size() <= rooms::kMaxEventType);
            require(item->id.size() <= rooms::kMaxEventId && item->key.size() <= rooms::kMaxEventId);
            for (const std::string_view room : item->rooms) check_event(*item, room);
        } else {
            require(item.error().index == index && item.error().message.size() < 512);
        }
        ++index;
    }
    return 0;
}

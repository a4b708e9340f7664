// Any bytes as the body of a publish. What is read of it is what jansson reads in it, and each event that comes
// of it is the one that jansson makes of the same publication, with the members of data byte for byte.
#include "core/envelope.hpp"

#include <algorithm>
#include <string>
#include <vector>

#include "core/room.hpp"

#include "fuzz/jansson.hpp"
#include "fuzz/split.hpp"

using namespace rooms;

namespace {

constexpr std::uint64_t kOffset = 42;
constexpr std::int64_t kTimestamp = 1795332720700;

std::string event_of(const PublishItem& item, std::string_view room) {
    std::string event = encode_event_body(item, room);
    FUZZ_CHECK(event.size() <= max_event_body(item, room));
    char tail[kMaxEventTail];
    event.append(tail, event_tail(tail, kOffset, kTimestamp));
    // Two readers could understand a name that stands there twice in two ways.
    FUZZ_CHECK(parse_json_object(event).ok());
    JsonMember member;
    for (JsonMembers data(item.data); data.next(member);) {
        const std::string_view name = member.name();
        const bool ours = name == "type" || name == "room" || name == "offset" || name == "timestamp" ||
                          (name == "id" && !item.raw_id.empty());
        if (!ours) FUZZ_CHECK(event.find(member.span()) != event.npos);
    }
    return event;
}

json_t* string_of(std::string_view text) { return json_stringn(text.data(), text.size()); }

// Contract, section 3: data, flat, and what only the server writes.
Tree event_of(const json_t* publication, std::string_view room) {
    const json_t* data = json_object_get(publication, "data");
    Tree event(data ? json_copy(const_cast<json_t*>(data)) : json_object());
    const std::string id_field = std::string(room.substr(0, room.find(':'))) + "Id";
    if (!json_object_get(event.get(), id_field.c_str()))
        json_object_set_new(event.get(), id_field.c_str(), string_of(room.substr(room.find(':') + 1)));
    if (json_t* id = json_object_get(publication, "id")) json_object_set(event.get(), "id", id);
    json_object_set(event.get(), "type", json_object_get(publication, "type"));
    json_object_set_new(event.get(), "room", string_of(room));
    json_object_set_new(event.get(), "offset", json_integer(kOffset));
    json_object_set_new(event.get(), "timestamp", json_integer(kTimestamp));
    return event;
}

void check_rooms(const PublishItem& item, const json_t* publication) {
    std::vector<std::string_view> expected;
    const json_t* list = json_object_get(publication, "rooms");
    FUZZ_CHECK(item.several == (list != nullptr));
    if (!list) expected.push_back(text_of(json_object_get(publication, "room")));
    for (std::size_t i = 0; i < json_array_size(list); ++i) {
        const std::string_view room = text_of(json_array_get(list, i));
        if (std::find(expected.begin(), expected.end(), room) == expected.end()) expected.push_back(room);
    }
    FUZZ_CHECK(item.rooms == expected);
}

void check(const PublishItem& item) {
    FUZZ_CHECK(item.type.size() <= kMaxEventType && !item.type.empty());
    FUZZ_CHECK(item.id.size() <= kMaxEventId && item.key.size() <= kMaxEventId);
    FUZZ_CHECK(item.raw_id.empty() == item.id.empty());
    const Judgement theirs = judge(item.raw);
    FUZZ_CHECK(theirs.undecided || json_is_object(theirs.tree.get()));
    if (theirs.tree) {
        const json_t* publication = theirs.tree.get();
        check_rooms(item, publication);
        FUZZ_CHECK(item.type == text_of(json_object_get(publication, "type")));
        FUZZ_CHECK(item.id == text_of(json_object_get(publication, "id")));
        FUZZ_CHECK(item.key == text_of(json_object_get(publication, "key")));
    }
    for (const std::string_view room : item.rooms) {
        FUZZ_CHECK(is_room(room));
        const std::string event = event_of(item, room);
        if (theirs.tree)
            FUZZ_CHECK(json_equal(judge(event).tree.get(), event_of(theirs.tree.get(), room).get()));
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    PublishLimits limits;
    limits.max_rooms = 8;
    limits.max_items = 8;
    // The first byte's lowest bit says whether the content type is that of a batch.
    const bool ndjson = data[0] & 1;
    const std::string_view body(reinterpret_cast<const char*>(data) + 1, size - 1);
    const auto result = parse_publish(body, ndjson, limits);
    if (!result) {
        FUZZ_CHECK(!result.error().message.empty() && result.error().message.size() < 512);
        return 0;
    }
    FUZZ_CHECK(result->items.size() <= limits.max_items);
    FUZZ_CHECK(result->batch || (result->items.size() == 1 && result->items.front().ok()));
    std::size_t index = 0;
    for (const auto& item : result->items) {
        if (item) {
            FUZZ_CHECK(!item->rooms.empty() && item->rooms.size() <= limits.max_rooms);
            check(*item);
        } else {
            FUZZ_CHECK(item.error().index == index && item.error().message.size() < 512);
        }
        ++index;
    }
    return 0;
}

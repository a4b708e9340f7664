// Reading a publication is one walk over its members; making an event is one copy of data's
// members between our own. Nothing is decoded but names and strings with escapes.
#include "core/envelope.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <iterator>
#include <unordered_set>
#include <utility>

#include "core/room.hpp"

namespace rooms {
namespace {

// The names that only the server writes. By size first: most names of data have another.
bool is_reserved(std::string_view name, bool id_is_ours) {
    switch (name.size()) {
        case 2: return id_is_ours && name == "id";
        case 4: return name == "type" || name == "room";
        case 6: return name == "offset";
        case 9: return name == "timestamp";
        default: return false;
    }
}

// What stands between the braces of an object, without the space around it.
std::string_view inside(std::string_view object) {
    constexpr std::string_view kSpace = " \n\r\t";
    object = object.substr(1, object.size() - 2);
    const std::size_t first = object.find_first_not_of(kSpace);
    if (first == object.npos) return {};
    return object.substr(first, object.find_last_not_of(kSpace) + 1 - first);
}

// Reads one publication. Its texts with escapes go to `texts`.
class ItemReader {
public:
    ItemReader(std::forward_list<std::string>& texts, const PublishLimits& limits, std::size_t index)
        : texts_(texts), limits_(limits), index_(index) {}

    Result<PublishItem, PublishError> read(const JsonValue& value) {
        if (!object(value)) return std::move(error_);
        return std::move(item_);
    }

private:
    bool object(const JsonValue& value);
    bool member(const JsonMember& member);
    bool text(const JsonMember& member, std::size_t max, std::string_view& out);
    bool room(const JsonMember& member);
    bool rooms(const JsonMember& member);
    void fold_rooms();
    bool data(const JsonMember& member);
    std::string_view unescaped(std::string_view literal);

    bool fail(PublishCode code, std::string message) {
        error_ = PublishError{code, std::move(message), index_};
        return false;
    }
    bool must_be(std::string_view name, std::string_view what, JsonType found) {
        return fail(PublishCode::bad_field, std::string(name) + " must be " + std::string(what) + ", not " +
                                                std::string(json_type_text(found)));
    }
    bool add_room(std::string_view field, std::string_view literal);

    std::forward_list<std::string>& texts_;
    const PublishLimits& limits_;
    std::size_t index_;
    unsigned seen_ = 0;  // of the fields, a bit each
    PublishItem item_;
    PublishError error_;
    bool has_room_ = false;
};

std::string_view ItemReader::unescaped(std::string_view literal) {
    if (literal.find('\\') == std::string_view::npos) {
        return literal.substr(1, literal.size() - 2);
    }
    // The text has been validated: there is always a value.
    return texts_.emplace_front(unescape_json(literal).value_or(std::string()));
}

bool ItemReader::object(const JsonValue& value) {
    item_.raw = value.raw;
    item_.data = "{}";
    if (value.type != JsonType::object) {
        return fail(PublishCode::bad_json,
                    "a publication must be an object, not " + std::string(json_type_text(value.type)));
    }
    JsonMember member;
    for (JsonMembers members(value.raw); members.next(member);) {
        if (!this->member(member)) return false;
    }
    if (has_room_ && item_.several) {
        return fail(PublishCode::bad_field, "room and rooms exclude each other");
    }
    if (item_.rooms.empty()) return fail(PublishCode::bad_field, "room is missing");
    if (item_.raw_type.empty()) return fail(PublishCode::bad_field, "type is missing");
    return true;
}

bool ItemReader::member(const JsonMember& member) {
    constexpr std::string_view kFields[] = {"room", "rooms", "type", "data", "id", "key"};
    enum Field : std::size_t { kRoom, kRooms, kType, kData, kId, kKey };
    const std::string_view name = member.name();
    const auto* const found = std::find(std::begin(kFields), std::end(kFields), name);
    const auto field = static_cast<std::size_t>(found - std::begin(kFields));
    // A misspelt name must not cost the data behind it.
    if (found == std::end(kFields)) {
        return fail(PublishCode::bad_field,
                    "unknown field " + shown_text(name) + ": known are room, rooms, type, data, id, key");
    }
    if (seen_ >> field & 1U) return fail(PublishCode::bad_json, "duplicate field " + shown_text(name));
    seen_ |= 1U << field;
    switch (field) {
        case kRoom: return room(member);
        case kRooms: return rooms(member);
        case kType: item_.raw_type = member.raw; return text(member, kMaxEventType, item_.type);
        case kData: return data(member);
        case kId: item_.raw_id = member.raw; return text(member, kMaxEventId, item_.id);
        default: return text(member, kMaxEventId, item_.key);
    }
}

bool ItemReader::text(const JsonMember& member, std::size_t max, std::string_view& out) {
    const std::string_view name = member.name();
    if (member.type != JsonType::string) return must_be(name, "a string", member.type);
    out = unescaped(member.raw);
    if (out.empty() || out.size() > max) {
        return fail(PublishCode::bad_field,
                    std::string(name) + " must have 1 to " + std::to_string(max) + " bytes");
    }
    return true;
}

bool ItemReader::add_room(std::string_view field, std::string_view literal) {
    const std::string_view room = unescaped(literal);
    if (!is_room(room)) {
        return fail(PublishCode::bad_room,
                    std::string(field) + ": " + shown_text(room) +
                        " is no room: it must be kind:id, the kind [a-z][a-z0-9_-]{0,31}, "
                        "the id 1 to 200 of [A-Za-z0-9_.:@~-]");
    }
    item_.rooms.push_back(room);
    return true;
}

bool ItemReader::room(const JsonMember& member) {
    has_room_ = true;
    if (member.type != JsonType::string) return must_be("room", "a string", member.type);
    return add_room("room", member.raw);
}

bool ItemReader::rooms(const JsonMember& member) {
    item_.several = true;
    if (member.type != JsonType::array) return must_be("rooms", "an array", member.type);
    JsonValue element;
    std::size_t count = 0;
    for (JsonElements elements(member.raw); elements.next(element); ++count) {
        if (count == limits_.max_rooms) {
            return fail(PublishCode::bad_field,
                        "rooms has more than " + std::to_string(limits_.max_rooms) + " rooms");
        }
        if (element.type != JsonType::string) {
            return must_be("rooms[" + std::to_string(count) + "]", "a string", element.type);
        }
        if (!add_room("rooms[" + std::to_string(count) + "]", element.raw)) return false;
    }
    if (count == 0) return fail(PublishCode::bad_field, "rooms is empty");
    fold_rooms();
    return true;
}

void ItemReader::fold_rooms() {
    if (item_.rooms.size() < 2) return;
    std::unordered_set<std::string_view> seen;
    std::erase_if(item_.rooms, [&](std::string_view room) { return !seen.insert(room).second; });
}

bool ItemReader::data(const JsonMember& member) {
    if (member.type != JsonType::object) return must_be("data", "an object", member.type);
    // An event with two members of one name would be read differently by different clients.
    const auto note = [this](const JsonMember& each) {
        if (each.escaped || is_reserved(each.name(), true) || may_be_id_field(each.name()))
            item_.plain_data = false;
    };
    if (const auto twice = find_duplicate_member(member.raw, note)) {
        return fail(PublishCode::bad_json, "duplicate field " + shown_text(twice->name()) + " in data");
    }
    item_.data = member.raw;
    return true;
}

PublishError bad_body(std::string message, std::size_t index) {
    if (index != 0) message = "publication " + std::to_string(index + 1) + ": " + message;
    return PublishError{PublishCode::bad_json, std::move(message), index};
}

PublishError too_many(const PublishLimits& limits) {
    return PublishError{PublishCode::bad_field,
                        "more than " + std::to_string(limits.max_items) + " publications in one body",
                        limits.max_items};
}

}  // namespace

std::string_view publish_code_text(PublishCode code) {
    switch (code) {
        case PublishCode::bad_json: return "bad_json";
        case PublishCode::bad_field: return "bad_field";
        case PublishCode::bad_room: return "bad_room";
    }
    return "bad_json";
}

Result<PublishBody, PublishError> parse_publish(std::string_view body, bool ndjson,
                                                const PublishLimits& limits) {
    PublishBody result;
    const auto add = [&](const JsonValue& value) {
        ItemReader reader(result.texts, limits, result.items.size());
        result.items.push_back(reader.read(value));
    };

    constexpr std::size_t kUsual = 128;  // octets of a small publication
    result.items.reserve(std::min(limits.max_items, body.size() / kUsual + 1));
    std::size_t at = 0;
    skip_json_space(body, at);
    if (at == body.size()) return bad_body("the body is empty", 0);
    if (body[at] == '[') {
        bool more = false;
        const auto wrong = parse_json_array(body, limits.max_depth + 1, [&](const JsonValue& element) {
            more = result.items.size() == limits.max_items;
            if (!more) add(element);
            return !more;
        });
        if (wrong) return bad_body(wrong->message(), 0);
        if (more) return too_many(limits);
        result.batch = true;
        return result;
    }

    while (at != body.size()) {
        if (result.items.size() == limits.max_items) return too_many(limits);
        const auto value = parse_next_json(body, at, limits.max_depth);
        if (!value) return bad_body(value.error().message(), result.items.size());
        add(*value);
        const std::size_t end = at;
        skip_json_space(body, at);
        if (at == end && at != body.size()) {
            return bad_body("no white space between publications at byte " + std::to_string(at),
                            result.items.size());
        }
    }
    result.batch = ndjson || result.items.size() > 1;
    if (!result.batch && !result.items.front()) return result.items.front().error();
    return result;
}

std::optional<std::string> check_idempotency_key(std::string_view key) {
    if (key.empty() || key.size() > kMaxEventId) {
        return "Idempotency-Key must have 1 to " + std::to_string(kMaxEventId) + " bytes";
    }
    return std::nullopt;
}

std::size_t max_event_body(const PublishItem& item, std::string_view room) {
    constexpr std::size_t kNamesAndMarks = 64;
    return kNamesAndMarks + item.raw_type.size() + 2 * room.size() + item.data.size() + item.raw_id.size();
}

std::string encode_event_body(const PublishItem& item, std::string_view room) {
    std::string out;
    out.reserve(max_event_body(item, room));
    append_event_body(out, item, room);
    return out;
}

void append_event_body(std::string& out, const PublishItem& item, std::string_view room) {
    const std::size_t colon = room.find(':');
    const std::string_view kind = room.substr(0, colon);
    const std::string_view id = room.substr(colon + 1);
    out += "{\"type\":";
    out += item.raw_type;

    // Rooms have no byte that JSON escapes. Written at once, taken back if data has its own.
    const std::size_t id_field = out.size();
    out += ",\"";
    append_id_field(out, kind);
    out += "\":\"";
    out += id;
    out += '"';
    const std::size_t id_field_size = out.size() - id_field;

    if (item.plain_data) {
        if (const std::string_view members = inside(item.data); !members.empty()) {
            out += ',';
            out += members;
        }
    } else {
        bool own_id_field = false;
        JsonMember member;
        for (JsonMembers members(item.data); members.next(member);) {
            const std::string_view name = member.name();
            if (is_reserved(name, !item.raw_id.empty())) continue;
            if (is_id_field(name, kind)) own_id_field = true;
            out += ',';
            out += member.span();
        }
        if (own_id_field) out.erase(id_field, id_field_size);
    }

    out += ",\"room\":\"";
    out += room;
    out += '"';
    if (!item.raw_id.empty()) {
        out += ",\"id\":";
        out += item.raw_id;
    }
}

std::size_t event_tail(char* out, std::uint64_t offset, std::int64_t timestamp_ms) {
    char* at = out;
    char* const end = out + kMaxEventTail;
    const auto put = [&](std::string_view text) {
        std::memcpy(at, text.data(), text.size());
        at += text.size();
    };
    put(",\"offset\":");
    at = std::to_chars(at, end, offset).ptr;
    put(",\"timestamp\":");
    at = std::to_chars(at, end, timestamp_ms).ptr;
    put("}");
    return static_cast<std::size_t>(at - out);
}

}  // namespace rooms

// From the members of a browser's message to a Command. Each refusal names the member and what it
// should be, for the page's developer reads it in the browser's console.
#include "core/command.hpp"

#include <utility>

#include "core/json.hpp"
#include "core/reply.hpp"
#include "core/room.hpp"
#include "core/utf8.hpp"

namespace rooms {
namespace {

// A message's members, as far as they are ours. Others are passed over.
struct Fields {
    std::optional<JsonMember> type, room, session_id, since, token, ref;
};

constexpr std::string_view kRoomGrammar =
    "room must be kind:id, the kind [a-z][a-z0-9_-]{0,31}, the id 1 to 200 of [A-Za-z0-9_.:@~-]";

std::string text_of(const JsonMember& string) {
    // The text has been validated: there is always a value.
    return unescape_json(string.raw).value_or(std::string());
}

CommandError bad_message(std::string message) { return {ErrorCode::bad_message, std::move(message), {}, {}}; }

CommandError must_be(std::string_view name, std::string_view what, JsonType found) {
    return bad_message(std::string(name) + " must be " + std::string(what) + ", not " +
                       std::string(json_type_text(found)));
}

CommandError bad_json(const JsonError& error) { return {ErrorCode::bad_json, error.message(), {}, {}}; }

Fields pick_fields(std::string_view object) {
    Fields fields;
    JsonMember member;
    for (JsonMembers members(object); members.next(member);) {
        const std::string_view name = member.name();
        if (name == "type") fields.type = member;
        else if (name == "room") fields.room = member;
        else if (name == "sessionId") fields.session_id = member;
        else if (name == "since") fields.since = member;
        else if (name == "token") fields.token = member;
        else if (name == "ref") fields.ref = member;
    }
    return fields;
}

Result<std::string, CommandError> read_room(const Fields& fields) {
    std::string room;
    if (fields.room) {
        if (fields.room->type != JsonType::string) {
            CommandError error = must_be("room", "a string", fields.room->type);
            error.code = ErrorCode::bad_room;
            return error;
        }
        room = text_of(*fields.room);
    } else if (fields.session_id) {
        room = "session:";
        if (fields.session_id->type == JsonType::string) {
            room += text_of(*fields.session_id);
        } else if (const auto number = parse_json_i64(fields.session_id->raw)) {
            append_decimal_signed(room, *number);  // -0 is 0
        } else {
            CommandError error = must_be("sessionId", "a string or an integer", fields.session_id->type);
            error.code = ErrorCode::bad_room;
            return error;
        }
    } else {
        return bad_message("room is missing");
    }
    if (!is_room(room)) {
        // Repeated so that a page knows which of its requests this answers; but not a whole book.
        room = utf8_prefix(room, kMaxRoom);
        return CommandError{ErrorCode::bad_room, std::string(kRoomGrammar), std::move(room), {}};
    }
    return room;
}

Result<Since, CommandError> read_since(const JsonMember& member) {
    if (member.type != JsonType::object) return must_be("since", "an object", member.type);
    if (const auto twice = find_duplicate_member(member.raw)) {
        return CommandError{
            ErrorCode::bad_json, "duplicate member " + shown_text(twice->name()) + " in since", {}, {}};
    }
    std::optional<JsonMember> epoch;
    std::optional<JsonMember> offset;
    JsonMember part;
    for (JsonMembers members(member.raw); members.next(part);) {
        if (part.name() == "epoch") epoch = part;
        if (part.name() == "offset") offset = part;
    }
    if (!epoch) return bad_message("since.epoch is missing");
    if (epoch->type != JsonType::string) return must_be("since.epoch", "a string", epoch->type);
    if (!offset) return bad_message("since.offset is missing");
    Since since;
    since.epoch = parse_epoch(text_of(*epoch)).value_or(0);
    const auto number = parse_json_u64(offset->raw);
    if (!number) return bad_message("since.offset must be an integer, 0 or more");
    since.offset = *number;
    return since;
}

template <typename T>
Result<Command, CommandError> room_command(const Fields& fields) {
    auto room = read_room(fields);
    if (!room) return room.error();
    return Command(T{std::move(*room)});
}

Result<Command, CommandError> subscribe(const Fields& fields) {
    auto room = read_room(fields);
    if (!room) return room.error();
    Subscribe command{std::move(*room), std::nullopt};
    if (fields.since) {
        const auto since = read_since(*fields.since);
        if (!since) {
            CommandError error = since.error();
            error.room = std::move(command.room);
            return error;
        }
        command.since = *since;
    }
    return Command(std::move(command));
}

Result<Command, CommandError> auth(const Fields& fields) {
    if (!fields.token) return bad_message("token is missing");
    if (fields.token->type != JsonType::string) {
        return must_be("token", "a string", fields.token->type);
    }
    return Command(Auth{text_of(*fields.token)});
}

Result<Command, CommandError> read_command(const Fields& fields) {
    if (!fields.type) return bad_message("type is missing");
    if (fields.type->type != JsonType::string) return must_be("type", "a string", fields.type->type);
    const std::string type = text_of(*fields.type);
    if (type == "subscribe") return subscribe(fields);
    if (type == "unsubscribe") return room_command<Unsubscribe>(fields);
    if (type == "ping") return Command(Ping{});
    if (type == "auth") return auth(fields);
    if (type == "presence") return room_command<Presence>(fields);
    return CommandError{
        ErrorCode::unknown_type,
        "unknown type " + shown_text(type) + ": known are subscribe, unsubscribe, ping, auth, presence",
        {},
        {}};
}

// The answer to a refused command carries its ref, so the ref is read first.
Result<std::string, CommandError> read_ref(const Fields& fields) {
    if (!fields.ref) return std::string();
    if (fields.ref->type == JsonType::object || fields.ref->type == JsonType::array) {
        return must_be("ref", "a string or a number", fields.ref->type);
    }
    if (fields.ref->raw.size() > kMaxRef) {
        return bad_message("ref is longer than " + std::to_string(kMaxRef) + " bytes");
    }
    return std::string(fields.ref->raw);
}

}  // namespace

std::string_view error_code_text(ErrorCode code) {
    switch (code) {
        case ErrorCode::bad_json: return "bad_json";
        case ErrorCode::bad_message: return "bad_message";
        case ErrorCode::unknown_type: return "unknown_type";
        case ErrorCode::bad_room: return "bad_room";
        case ErrorCode::bad_token: return "bad_token";
        case ErrorCode::forbidden: return "forbidden";
        case ErrorCode::unavailable: return "unavailable";
        case ErrorCode::limit: return "limit";
        case ErrorCode::rate: return "rate";
    }
    return "bad_message";
}

bool is_retryable(ErrorCode code) { return code == ErrorCode::unavailable || code == ErrorCode::rate; }

Result<ParsedCommand, CommandError> parse_command(std::string_view text) {
    const auto value = parse_json(text);
    if (!value) return bad_json(value.error());
    if (value->type != JsonType::object) {
        return must_be("a message", "an object", value->type);
    }
    if (const auto twice = find_duplicate_member(value->raw)) {
        return bad_json({static_cast<std::size_t>(twice->raw_name.data() - text.data()),
                         "duplicate member " + shown_text(twice->name())});
    }
    const Fields fields = pick_fields(value->raw);
    auto ref = read_ref(fields);
    if (!ref) return ref.error();
    auto command = read_command(fields);
    if (!command) {
        CommandError error = command.error();
        error.ref = std::move(*ref);
        return error;
    }
    return ParsedCommand{std::move(*command), std::move(*ref)};
}

}  // namespace rooms

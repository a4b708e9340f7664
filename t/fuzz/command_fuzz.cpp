// Any bytes as a browser's message. What is accepted says what jansson reads in it, and every answer is JSON.
#include "core/command.hpp"

#include <cstdlib>
#include <string>

#include "core/json.hpp"
#include "core/reply.hpp"
#include "core/room.hpp"

#include "fuzz/jansson.hpp"
#include "fuzz/split.hpp"

using namespace rooms;

namespace {

// What a command says, in one line.
struct Said {
    std::string operator()(const Subscribe& it) const {
        std::string line = "subscribe " + it.room;
        if (it.since) line += " " + epoch_text(it.since->epoch) + " " + std::to_string(it.since->offset);
        return line;
    }
    std::string operator()(const Unsubscribe& it) const { return "unsubscribe " + it.room; }
    std::string operator()(const Presence& it) const { return "presence " + it.room; }
    std::string operator()(const Auth& it) const { return "auth " + it.token; }
    std::string operator()(const Ping&) const { return "ping"; }
};

// The same of jansson's tree. REQUIRES: a message that is accepted.
std::string said(const json_t* message) {
    const std::string type(text_of(json_object_get(message, "type")));
    if (type == "ping") return type;
    if (type == "auth") return type + " " + std::string(text_of(json_object_get(message, "token")));

    const json_t* room = json_object_get(message, "room");
    const json_t* session = json_object_get(message, "sessionId");
    std::string line = type + " ";
    if (room) line += text_of(room);
    else if (json_is_integer(session)) line += "session:" + std::to_string(json_integer_value(session));
    else line += "session:" + std::string(text_of(session));
    const json_t* since = json_object_get(message, "since");
    if (type != "subscribe" || !since) return line;

    const std::string epoch(text_of(json_object_get(since, "epoch")));
    const bool ours =
        !epoch.empty() && epoch.size() <= 16 && epoch.find_first_not_of("0123456789abcdef") == epoch.npos;
    line += " " + epoch_text(ours ? std::strtoull(epoch.c_str(), nullptr, 16) : 0);
    return line + " " + std::to_string(json_integer_value(json_object_get(since, "offset")));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const auto result = parse_command(text);
    if (!result) {
        const CommandError& error = result.error();
        FUZZ_CHECK(!error.message.empty() && error.message.size() < 512);
        FUZZ_CHECK(error.room.size() <= kMaxRoom && error.ref.size() <= kMaxRef);
        FUZZ_CHECK(parse_json(encode_error(error)).ok());
        return 0;
    }
    FUZZ_CHECK(result->ref.size() <= kMaxRef);
    FUZZ_CHECK(parse_json(encode_pong(0, result->ref)).ok());
    const Judgement theirs = judge(text);
    if (theirs.undecided) return 0;
    const json_t* message = theirs.tree.get();
    FUZZ_CHECK(json_is_object(message));
    FUZZ_CHECK(std::visit(Said(), result->command) == said(message));
    const json_t* ref = json_object_get(message, "ref");
    FUZZ_CHECK(result->ref.empty() == (ref == nullptr));
    if (ref) FUZZ_CHECK(json_equal(judge(result->ref).tree.get(), ref));
    if (!std::holds_alternative<Ping>(result->command) && !std::holds_alternative<Auth>(result->command)) {
        const std::string line = std::visit(Said(), result->command);
        const std::size_t begin = line.find(' ') + 1;
        FUZZ_CHECK(is_room(std::string_view(line).substr(begin, line.find(' ', begin) - begin)));
    }
    return 0;
}

// Any bytes as a browser's message. The verdict on JSON is compared with jansson's; what is
// accepted keeps the promises of core/command; every answer to it is JSON.
#include <jansson.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <variant>

#include "core/command.hpp"
#include "core/json.hpp"
#include "core/reply.hpp"
#include "core/room.hpp"

namespace {

void require(bool condition) {
    if (!condition) std::abort();
}

// Jansson has no opinion on numbers that a double cannot hold and on NUL in a name, and it
// overlooks a NUL behind a number.
void compare_with_jansson(std::string_view text) {
    if (text.find('\0') != std::string_view::npos) {
        require(!rooms::parse_json(text, 64).ok());
        return;
    }
    json_error_t error;
    json_t* json = json_loadb(text.data(), text.size(), JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    const auto ours = rooms::parse_json(text, 64);
    if (json) {
        json_decref(json);
        require(ours.ok() || ours.error().what == "deeper than 64 levels");
        return;
    }
    const auto code = json_error_code(&error);
    if (code == json_error_numeric_overflow || code == json_error_null_byte_in_key ||
        code == json_error_stack_overflow) {
        return;
    }
    require(!ours.ok());
    require(ours.error().at <= text.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    compare_with_jansson(text);

    const auto result = rooms::parse_command(text);
    if (!result) {
        const rooms::CommandError& error = result.error();
        require(!error.message.empty() && error.message.size() < 512);
        require(error.room.size() <= rooms::kMaxRoom && error.ref.size() <= rooms::kMaxRef);
        require(rooms::parse_json(rooms::encode_error(error)).ok());
        return 0;
    }
    require(rooms::parse_json(text).ok());
    require(result->ref.size() <= rooms::kMaxRef);
    require(rooms::parse_json(rooms::encode_pong(0, result->ref)).ok());
    if (const auto* subscribe = std::get_if<rooms::Subscribe>(&result->command)) {
        require(rooms::is_room(subscribe->room));
    } else if (const auto* unsubscribe = std::get_if<rooms::Unsubscribe>(&result->command)) {
        require(rooms::is_room(unsubscribe->room));
    } else if (const auto* presence = std::get_if<rooms::Presence>(&result->command)) {
        require(rooms::is_room(presence->room));
    }
    return 0;
}

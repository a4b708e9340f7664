// The assembler puts the files into the object as they are: whoever publishes from elsewhere loads the
// very same bytes, and EVALSHA finds them under the same name.
#include "store/redis_scripts.hpp"

#include <array>

#include "store/sha1.hpp"

// `before`: directives of the assembler for what stands before the file.
#define ROOMS_EMBED(name, before)                                                                     \
    __asm__(                                                                                          \
        ".section .rodata\n"                                                                          \
        ".balign 16\n"                                                                                \
        "rooms_lua_" #name ":\n" before ".incbin \"store/" #name                                      \
        ".lua\"\n"                                                                                    \
        "rooms_lua_" #name                                                                            \
        "_end:\n"                                                                                     \
        ".byte 0\n"                                                                                   \
        ".previous\n");                                                                               \
    extern const char lua_##name[] __asm__("rooms_lua_" #name) __attribute__((visibility("hidden"))); \
    extern const char lua_##name##_end[] __asm__("rooms_lua_" #name "_end")                           \
        __attribute__((visibility("hidden")))

ROOMS_EMBED(publish, "");
ROOMS_EMBED(sync, "");
ROOMS_EMBED(check, "");
ROOMS_EMBED(presence, "");
// Publishing is written once, and what an approval becomes is told in the script that makes it so.
#define ROOMS_PUBLISH_FUNCTION                           \
    ".ascii \"local function publish(KEYS, ARGV)\\n\"\n" \
    ".incbin \"store/publish.lua\"\n"                    \
    ".ascii \"end\\n\"\n"
ROOMS_EMBED(publish_all, ROOMS_PUBLISH_FUNCTION);
ROOMS_EMBED(approval, ROOMS_PUBLISH_FUNCTION);
ROOMS_EMBED(approval_index, "");

namespace rooms {

std::string_view script_text(Script script) {
    const auto between = [](const char* begin, const char* end) {
        return std::string_view(begin, static_cast<std::size_t>(end - begin));
    };
    switch (script) {
        case Script::publish: return between(lua_publish, lua_publish_end);
        case Script::publish_all: return between(lua_publish_all, lua_publish_all_end);
        case Script::sync: return between(lua_sync, lua_sync_end);
        case Script::check: return between(lua_check, lua_check_end);
        case Script::presence: return between(lua_presence, lua_presence_end);
        case Script::approval: return between(lua_approval, lua_approval_end);
        case Script::approval_index: return between(lua_approval_index, lua_approval_index_end);
    }
    return {};
}

std::string_view script_sha(Script script) {
    // Plain data, filled at the first use: it owns nothing that would have to be destroyed.
    static std::array<Sha1Hex, kScripts> known{};
    Sha1Hex& hex = known[static_cast<std::size_t>(script)];
    if (hex[0] == '\0') hex = sha1_hex({script_text(script)});
    return {hex.data(), hex.size()};
}

}  // namespace rooms

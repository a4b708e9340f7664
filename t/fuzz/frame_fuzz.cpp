// A session's events must not depend on how its input is cut. First octet: options; second: the cuts.
#include "core/session.hpp"

#include <string>
#include <vector>

#include "fuzz/split.hpp"

using namespace rooms;

namespace {

std::vector<std::string> run(std::string_view script, std::uint32_t seed, std::uint8_t options) {
    WireLimits limits;
    limits.max_message = options & 1 ? 4096 : 100;
    limits.max_frame = options & 2 ? 64 : 0;
    limits.max_fragments = 8;
    Session session(options & 4 ? std::optional(DeflateParams{}) : std::nullopt);
    if (options & 8) session.on_close_sent();
    Codec codec;
    std::vector<std::string> events;
    bool over = false;
    for_each_part(script, seed, [&](std::vector<char>& part, bool) {
        std::span<char> input(part);
        for (;;) {
            const Event event = session.feed(input, codec, limits);
            if (event.type == Event::Type::need_more) break;
            FUZZ_CHECK(!over && event.payload.size() <= limits.max_message + kMaxControlPayload);
            over = event.type == Event::Type::close || event.type == Event::Type::fail;
            events.push_back(std::to_string(static_cast<int>(event.type)) + ' ' + std::to_string(event.code) +
                             ' ' + std::string(event.payload) + std::string(event.reason));
            if (event.opcode == Opcode::text) FUZZ_CHECK(is_valid_utf8(event.payload));
        }
        FUZZ_CHECK(input.empty());
        FUZZ_CHECK(session.held() == 0 || session.incomplete());
    });
    return events;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 2) return 0;
    const std::string_view script(reinterpret_cast<const char*>(data) + 2, size - 2);
    FUZZ_CHECK(run(script, 0, data[0]) == run(script, data[1] + 1u, data[0]));
    return 0;
}

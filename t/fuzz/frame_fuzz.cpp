// A session's events must not depend on how its input is cut, and without compression they are those of a reader
// that is plain. First octet: options; second: the cuts.
#include "core/session.hpp"

#include <string>
#include <vector>

#include "fuzz/plain_frames.hpp"
#include "fuzz/split.hpp"

using namespace rooms;

namespace {

enum Options : std::uint8_t { kLong = 1, kShortFrames = 2, kDeflate = 4, kCloseSent = 8 };

WireLimits limits_of(std::uint8_t options) {
    WireLimits limits;
    limits.max_message = options & kLong ? 4096 : 100;
    limits.max_frame = options & kShortFrames ? 64 : 0;
    limits.max_fragments = 8;
    return limits;
}

std::vector<PlainEvent> run(std::string_view script, std::uint32_t seed, std::uint8_t options) {
    const WireLimits limits = limits_of(options);
    Session session(options & kDeflate ? std::optional(DeflateParams{}) : std::nullopt);
    if (options & kCloseSent) session.on_close_sent();
    Codec codec;
    std::vector<PlainEvent> events;
    bool over = false;
    for_each_part(script, seed, [&](std::vector<char>& part, bool) {
        std::span<char> input(part);
        for (;;) {
            const Event event = session.feed(input, codec, limits);
            if (event.type == Event::Type::need_more) break;
            FUZZ_CHECK(!over && event.payload.size() <= limits.max_message + kMaxControlPayload);
            over = event.type == Event::Type::close || event.type == Event::Type::fail;
            const bool close = event.type == Event::Type::close;
            events.push_back({event.type, event.code, std::string(close ? event.reason : event.payload)});
            if (event.type == Event::Type::fail) FUZZ_CHECK(!event.reason.empty());
            if (event.opcode == Opcode::text) FUZZ_CHECK(is_utf8_plainly(event.payload));
        }
        FUZZ_CHECK(input.empty());
        FUZZ_CHECK(session.held() == 0 || session.incomplete());
    });
    return events;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 2) return 0;
    const std::uint8_t options = data[0];
    const std::string_view script(reinterpret_cast<const char*>(data) + 2, size - 2);
    const std::vector<PlainEvent> events = run(script, 0, options);
    FUZZ_CHECK(events == run(script, data[1] + 1u, options));
    if (!(options & kDeflate))
        FUZZ_CHECK(events == PlainFrames(script, limits_of(options), options & kCloseSent).read());
    return 0;
}

// What a server sends: the first four octets seed the splits, the rest is RESP or not. However it is cut, the
// same replies come out, and whatever looks into them finds nothing that is not there.
#include <string>
#include <vector>

#include "store/redis_link.hpp"
#include "store/redis_reply.hpp"
#include "store/redis_room.hpp"
#include "store/redis_servers.hpp"

#include "fuzz/split.hpp"

using namespace rooms;

namespace {

// Reads all of it, each octet once.
void walk(Reply reply, std::string& out, unsigned depth) {
    FUZZ_CHECK(depth < 16);
    FUZZ_CHECK(reply.is_array() || reply.size() == 0);
    FUZZ_CHECK(reply[reply.size()].is_nil());
    out += reply.is_nil() ? 'n' : reply.is_error() ? 'e' : reply.is_array() ? 'a' : 's';
    out += reply.text();
    if (const auto number = reply.integer()) out += std::to_string(*number);
    for (std::size_t i = 0; i < reply.size(); ++i) walk(reply[i], out, depth + 1);
    out += ';';
}

void look(Reply reply) {
    if (const auto sync = RedisSync::parse(reply)) {
        FUZZ_CHECK(!sync->epoch.empty() && !sync->secret.empty());
        FUZZ_CHECK(sync->has_events || sync->events.empty());
        FUZZ_CHECK(sync->events.size() == reply[5].size());
    }
    const std::string_view text = reply.text();
    if (const auto redirect = parse_redirect(text)) {
        FUZZ_CHECK(redirect->port != 0 && text.find(redirect->host) != text.npos);
        FUZZ_CHECK(text.starts_with(redirect->ask ? "ASK " : "MOVED "));
    }
    const std::string_view role = info_field(text, "role");
    FUZZ_CHECK(role.find('\n') == role.npos);
    FUZZ_CHECK(role.empty() ||
               (role.data() >= text.data() && role.data() + role.size() <= text.data() + text.size()));
}

std::string read(std::string_view bytes, std::uint32_t seed) {
    ReplyReader reader;
    std::string all;
    bool broken = false;
    for_each_part(bytes, seed, [&](const std::vector<char>& part, bool) {
        if (broken || !reader.feed({part.data(), part.size()})) return;
        while (const auto reply = reader.next(broken)) {
            walk(*reply, all, 0);
            look(*reply);
        }
    });
    return all + (broken ? "!" : "");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::uint32_t seed = 0;
    const std::size_t head = std::min(size, sizeof seed);
    for (std::size_t i = 0; i < head; ++i) seed = seed << 8 | data[i];
    const std::string_view bytes(reinterpret_cast<const char*>(data) + head, size - head);
    FUZZ_CHECK(read(bytes, seed) == read(bytes, 0));
    return 0;
}

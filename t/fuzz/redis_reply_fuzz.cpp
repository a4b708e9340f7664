// What a server sends: the first four octets seed the splits, the rest is RESP or not. However it is cut, the
// same replies come out, those of hiredis' own tree, and whatever looks into them finds nothing that is not
// there. The same octets, a word each line, are a command as hiredis would write it.
#include <hiredis/hiredis.h>

#include <cerrno>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "store/redis_link.hpp"
#include "store/redis_reply.hpp"
#include "store/redis_room.hpp"
#include "store/redis_servers.hpp"

#include "fuzz/plain_regex.hpp"
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

// The same of what hiredis makes by itself.
void walk(const redisReply& reply, std::string& out) {
    const bool array = reply.type == REDIS_REPLY_ARRAY;
    const bool text = reply.type == REDIS_REPLY_STRING || reply.type == REDIS_REPLY_STATUS;
    const bool error = reply.type == REDIS_REPLY_ERROR;
    out += reply.type == REDIS_REPLY_NIL ? 'n' : error ? 'e' : array ? 'a' : 's';
    if (reply.type == REDIS_REPLY_INTEGER) out += std::to_string(reply.integer);
    if (text || error) {
        const std::string octets(reply.str, reply.len);
        out += octets;
        const bool minus = octets.starts_with('-');
        const bool digits =
            octets.size() > minus && octets.find_first_not_of("0123456789", minus) == octets.npos;
        errno = 0;
        const long long number = std::strtoll(octets.c_str(), nullptr, 10);
        if (digits && errno == 0) out += std::to_string(number);
    }
    for (std::size_t i = 0; array && i < reply.elements; ++i) walk(*reply.element[i], out);
    out += ';';
}

std::string read_by_hiredis(std::string_view bytes) {
    const std::unique_ptr<redisReader, decltype(&redisReaderFree)> reader(redisReaderCreate(),
                                                                          redisReaderFree);
    static const redisReplyObjectFunctions own = *reader->fn;
    // It takes the memory for as many as it is told of.
    static redisReplyObjectFunctions functions = {own.createString,
                                                  [](const redisReadTask* task, int size) -> void* {
                                                      return size > 1 << 20 ? nullptr
                                                                            : own.createArray(task, size);
                                                  },
                                                  own.createInteger, own.createNil, own.freeObject};
    reader->fn = &functions;
    std::string all;
    if (bytes.empty()) return all;
    FUZZ_CHECK(redisReaderFeed(reader.get(), bytes.data(), bytes.size()) == REDIS_OK);
    for (;;) {
        void* reply = nullptr;
        if (redisReaderGetReply(reader.get(), &reply) != REDIS_OK) return all + "!";
        if (reply == nullptr) return all;
        walk(*static_cast<redisReply*>(reply), all);
        freeReplyObject(reply);
    }
}

void write(std::string_view bytes) {
    const std::vector<std::string_view> words = split_plainly(bytes, '\n');
    std::vector<const char*> texts;
    std::vector<std::size_t> sizes;
    for (const std::string_view word : words) {
        texts.push_back(word.data());
        sizes.push_back(word.size());
    }
    char* command = nullptr;
    const int size =
        redisFormatCommandArgv(&command, static_cast<int>(words.size()), texts.data(), sizes.data());
    FUZZ_CHECK(size > 0 &&
               encode_command(words) == std::string_view(command, static_cast<std::size_t>(size)));
    redisFreeCommand(command);
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

// An array takes the memory for all that it announces, up to a million: time for nothing else.
bool announces_many(std::string_view bytes) {
    for (std::size_t at = bytes.find('*'); at != bytes.npos; at = bytes.find('*', at + 1)) {
        const std::size_t digits = bytes.substr(at + 1).find_first_not_of("0123456789");
        if (digits != bytes.npos && digits > 4 && digits < 8) return true;
    }
    return false;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::uint32_t seed = 0;
    const std::size_t head = std::min(size, sizeof seed);
    for (std::size_t i = 0; i < head; ++i) seed = seed << 8 | data[i];
    const std::string_view bytes(reinterpret_cast<const char*>(data) + head, size - head);
    if (announces_many(bytes)) return 0;
    const std::string replies = read(bytes, 0);
    FUZZ_CHECK(replies == read(bytes, seed));
    FUZZ_CHECK(replies == read_by_hiredis(bytes));
    write(bytes);
    return 0;
}

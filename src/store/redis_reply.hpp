// RESP, the protocol of Redis: commands out, and replies in, through hiredis' reader. Its formatter calls sprintf
// for each word, of which a publication has a dozen: 3 % of a worker's time.
//
// A Reply is a view into a tree that hiredis owns: valid until the ReplyReader's next call. Accessors of
// the wrong kind give empty values, for what comes from a network is never trusted to have a form.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

struct redisReply;
struct redisReader;

namespace rooms {

class Reply {
public:
    Reply() = default;
    explicit Reply(const redisReply* reply) : reply_(reply) {}

    [[nodiscard]] bool is_error() const;
    [[nodiscard]] bool is_nil() const;
    [[nodiscard]] bool is_array() const;
    // Of strings, statuses and errors.
    [[nodiscard]] std::string_view text() const;
    // Of integers, and of strings that are decimal.
    [[nodiscard]] std::optional<std::int64_t> integer() const;
    // Of arrays.
    [[nodiscard]] std::size_t size() const;
    [[nodiscard]] Reply operator[](std::size_t index) const;

private:
    const redisReply* reply_ = nullptr;
};

class ReplyReader {
public:
    ReplyReader();
    ~ReplyReader();
    ReplyReader(const ReplyReader&) = delete;
    ReplyReader& operator=(const ReplyReader&) = delete;

    // false: this is not RESP, the connection is of no use any more.
    [[nodiscard]] bool feed(std::string_view bytes);
    // The next whole reply; nothing while it is incomplete. `broken` as for feed().
    [[nodiscard]] std::optional<Reply> next(bool& broken);

private:
    struct FreeReader {
        void operator()(redisReader* reader) const;
    };
    struct FreeReply {
        void operator()(redisReply* reply) const;
    };
    std::unique_ptr<redisReader, FreeReader> reader_;
    std::unique_ptr<redisReply, FreeReply> current_;
};

// Words of a command, as RESP. Throws std::bad_alloc, and is then as it was.
struct RespWords {
    std::string octets;
    std::size_t count = 0;

    void add(std::span<const std::string_view> words);
    // Adding these will take no memory.
    void make_room(std::span<const std::string_view> words);
};

// One command as RESP. Throws std::bad_alloc.
[[nodiscard]] std::string encode_command(std::span<const std::string_view> words);

}  // namespace rooms

// RESP, the protocol of Redis: commands out, and replies in, through hiredis' reader. Its formatter calls sprintf
// for each word, of which a publication has a dozen: 3 % of a worker's time.
//
// A Reply is a view into what its ReplyReader holds: valid until the reader's next call. Accessors of the wrong kind
// give empty values, for what comes from a network is never trusted to have a form.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

struct redisReader;

namespace rooms {

// The replies and texts of one reply, with all it has in it, each in one piece: hiredis' own tree takes three
// allocations for each text.
struct ReplyTree {
    enum class Kind : std::uint8_t { nil, text, error, integer, array };
    struct Node {
        Kind kind = Kind::nil;
        std::uint32_t size = 0;   // octets of the text, members of the array
        std::int64_t number = 0;  // the integer; where in `texts` it begins; the node of the first member
    };
    std::vector<Node> nodes;  // the first is the whole
    std::string texts;
};

class Reply {
public:
    Reply() = default;
    // REQUIRES: the tree has that node.
    explicit Reply(const ReplyTree& tree, std::size_t node = 0) : tree_(&tree), node_(node) {}

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
    [[nodiscard]] ReplyTree::Node node() const;

    const ReplyTree* tree_ = nullptr;
    std::size_t node_ = 0;
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
    ReplyTree tree_;
    bool whole_ = false;  // the tree: it has been given out
    std::unique_ptr<redisReader, FreeReader> reader_;
};

// Words of a command, as RESP. Throws std::bad_alloc, and is then as it was.
struct RespWords {
    std::string octets;
    std::size_t count = 0;

    void add(std::span<const std::string_view> words);
    // One word of two parts.
    void add_joined(std::string_view word, std::string_view rest);
    // Adding this many words of so many octets in all will take no memory.
    void make_room(std::size_t words, std::size_t size);
};

// One command as RESP. Throws std::bad_alloc.
[[nodiscard]] std::string encode_command(std::span<const std::string_view> words);

}  // namespace rooms

#include "store/redis_reply.hpp"

#include <hiredis/hiredis.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <new>
#include <utility>

namespace rooms {
namespace {

// An array says its length first, and the memory for that many is taken at once.
constexpr int kMaxElements = 1 << 20;
// Nor is a text that says it is long read for ever.
constexpr std::size_t kMaxBuffer = std::size_t{512} << 20;
// "$", 20 digits, CR, LF
constexpr std::size_t kMostLength = 23;

void append_length(std::string& command, char kind, std::size_t length) {
    char digits[20];
    const char* const end = std::to_chars(digits, digits + sizeof digits, length).ptr;
    command.append(1, kind).append(digits, static_cast<std::size_t>(end - digits)).append("\r\n");
}

constexpr std::size_t kKept = 64 * 1024;  // octets of memory from one reply to the next

using Kind = ReplyTree::Kind;
using Node = ReplyTree::Node;

// What hiredis takes for an object is the node's number + 1: it never looks into it.
std::size_t node_of(const void* object) { return reinterpret_cast<std::uintptr_t>(object) - 1; }

// The place of what is being read: the array that it is in has kept one for it. Null: no memory.
template <typename Make>
void* place(const redisReadTask* task, Make make) noexcept {
    ReplyTree& tree = *static_cast<ReplyTree*>(task->privdata);
    try {
        if (task->parent == nullptr) tree.nodes.resize(1);
        std::size_t index = 0;
        if (task->parent != nullptr) {
            const Node& array = tree.nodes[node_of(task->parent->obj)];
            index = static_cast<std::size_t>(array.number) + static_cast<std::size_t>(task->idx);
        }
        const Node made = make(tree);  // which may move the nodes
        tree.nodes[index] = made;
        return reinterpret_cast<void*>(index + 1);
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

void* create_text(const redisReadTask* task, char* text, std::size_t size) {
    const Kind kind = task->type == REDIS_REPLY_ERROR ? Kind::error : Kind::text;
    return place(task, [&](ReplyTree& tree) {
        const std::size_t begin = tree.texts.size();
        tree.texts.append(text, size);
        return Node{kind, static_cast<std::uint32_t>(size), static_cast<std::int64_t>(begin)};
    });
}

void* create_array(const redisReadTask* task, int elements) {
    if (elements < 0 || elements > kMaxElements) return nullptr;
    return place(task, [&](ReplyTree& tree) {
        const std::size_t first = tree.nodes.size();
        tree.nodes.resize(first + static_cast<std::size_t>(elements));
        return Node{Kind::array, static_cast<std::uint32_t>(elements), static_cast<std::int64_t>(first)};
    });
}

void* create_integer(const redisReadTask* task, long long value) {
    return place(task, [&](ReplyTree&) { return Node{Kind::integer, 0, value}; });
}

void* create_nil(const redisReadTask* task) {
    return place(task, [](ReplyTree&) { return Node{}; });
}

void free_nothing(void* /*object*/) {}

// hiredis does not change it.
redisReplyObjectFunctions functions = {create_text, create_array, create_integer, create_nil, free_nothing};

template <typename Container>
void empty(Container& container) {
    container.clear();
    if (container.capacity() * sizeof(*container.data()) > kKept) Container().swap(container);
}

}  // namespace

ReplyTree::Node Reply::node() const { return tree_ == nullptr ? Node{} : tree_->nodes[node_]; }

bool Reply::is_error() const { return node().kind == Kind::error; }
bool Reply::is_nil() const { return node().kind == Kind::nil; }
bool Reply::is_array() const { return node().kind == Kind::array; }

std::string_view Reply::text() const {
    const Node it = node();
    if (it.kind != Kind::text && it.kind != Kind::error) return {};
    return std::string_view(tree_->texts).substr(static_cast<std::size_t>(it.number), it.size);
}

std::optional<std::int64_t> Reply::integer() const {
    if (node().kind == Kind::integer) return node().number;
    const std::string_view digits = text();
    std::int64_t value = 0;
    const auto [end, fault] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (digits.empty() || fault != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
    return value;
}

std::size_t Reply::size() const { return is_array() ? node().size : 0; }

Reply Reply::operator[](std::size_t index) const {
    return index < size() ? Reply(*tree_, static_cast<std::size_t>(node().number) + index) : Reply();
}

void ReplyReader::FreeReader::operator()(redisReader* reader) const { redisReaderFree(reader); }

ReplyReader::ReplyReader() : reader_(redisReaderCreateWithFunctions(&functions)) {
    if (!reader_) throw std::bad_alloc();
    reader_->privdata = &tree_;
}
ReplyReader::~ReplyReader() = default;

bool ReplyReader::feed(std::string_view bytes) {
    if (reader_->len > kMaxBuffer) return false;
    return redisReaderFeed(reader_.get(), bytes.data(), bytes.size()) == REDIS_OK;
}

std::optional<Reply> ReplyReader::next(bool& broken) {
    if (std::exchange(whole_, false)) {
        empty(tree_.nodes);
        empty(tree_.texts);
    }
    void* reply = nullptr;
    broken = redisReaderGetReply(reader_.get(), &reply) != REDIS_OK;
    if (broken || reply == nullptr) return std::nullopt;
    whole_ = true;
    return Reply(tree_);
}

void RespWords::make_room(std::size_t words, std::size_t size) {
    const std::size_t wanted = octets.size() + words * (kMostLength + 2) + size;
    // By the half at least, as strings grow: many that come one by one are not to be moved each time.
    if (octets.capacity() < wanted) octets.reserve(std::max(wanted, octets.size() + octets.size() / 2));
}

void RespWords::add(std::span<const std::string_view> words) {
    std::size_t size = 0;
    for (const std::string_view word : words) size += word.size();
    make_room(words.size(), size);
    for (const std::string_view word : words) add_joined(word, {});
}

void RespWords::add_joined(std::string_view word, std::string_view rest) {
    make_room(1, word.size() + rest.size());
    append_length(octets, '$', word.size() + rest.size());
    octets.append(word).append(rest).append("\r\n");
    ++count;
}

std::string encode_command(std::span<const std::string_view> words) {
    RespWords command;
    command.octets.reserve(512);
    append_length(command.octets, '*', words.size());
    command.add(words);
    return std::move(command.octets);
}

}  // namespace rooms

#include "store/redis_reply.hpp"

#include <hiredis/hiredis.h>

#include <charconv>
#include <new>
#include <utility>

namespace rooms {
namespace {

// An array says its length first, and hiredis takes the memory for that many at once.
constexpr int kMaxElements = 1 << 22;
// Nor is a text that says it is long read for ever.
constexpr std::size_t kMaxBuffer = std::size_t{512} << 20;
// "$", 20 digits, CR, LF
constexpr std::size_t kMostLength = 23;

void append_length(std::string& command, char kind, std::size_t length) {
    char digits[20];
    const char* const end = std::to_chars(digits, digits + sizeof digits, length).ptr;
    command.append(1, kind).append(digits, static_cast<std::size_t>(end - digits)).append("\r\n");
}

void* create_array(const redisReadTask* task, int elements) {
    if (elements > kMaxElements) return nullptr;
    return static_cast<const redisReplyObjectFunctions*>(task->privdata)->createArray(task, elements);
}

// For all readers: the usual ones, which the reader's privdata keeps, but for arrays.
redisReplyObjectFunctions* bounded(const redisReplyObjectFunctions& usual) {
    static redisReplyObjectFunctions functions{};
    functions = usual;
    functions.createArray = create_array;
    return &functions;
}

}  // namespace

bool Reply::is_error() const { return reply_ != nullptr && reply_->type == REDIS_REPLY_ERROR; }
bool Reply::is_nil() const { return reply_ == nullptr || reply_->type == REDIS_REPLY_NIL; }
bool Reply::is_array() const { return reply_ != nullptr && reply_->type == REDIS_REPLY_ARRAY; }

std::string_view Reply::text() const {
    if (reply_ == nullptr) return {};
    switch (reply_->type) {
        case REDIS_REPLY_STRING:
        case REDIS_REPLY_STATUS:
        case REDIS_REPLY_ERROR: return {reply_->str, static_cast<std::size_t>(reply_->len)};
        default: return {};
    }
}

std::optional<std::int64_t> Reply::integer() const {
    if (reply_ == nullptr) return std::nullopt;
    if (reply_->type == REDIS_REPLY_INTEGER) return reply_->integer;
    const std::string_view digits = text();
    std::int64_t value = 0;
    const auto [end, fault] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (digits.empty() || fault != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
    return value;
}

std::size_t Reply::size() const { return is_array() ? reply_->elements : 0; }

Reply Reply::operator[](std::size_t index) const {
    return index < size() ? Reply(reply_->element[index]) : Reply();
}

void ReplyReader::FreeReader::operator()(redisReader* reader) const { redisReaderFree(reader); }
void ReplyReader::FreeReply::operator()(redisReply* reply) const { freeReplyObject(reply); }

ReplyReader::ReplyReader() : reader_(redisReaderCreate()) {
    if (!reader_) throw std::bad_alloc();
    reader_->privdata = reader_->fn;
    reader_->fn = bounded(*reader_->fn);
}
ReplyReader::~ReplyReader() = default;

bool ReplyReader::feed(std::string_view bytes) {
    if (reader_->len > kMaxBuffer) return false;
    return redisReaderFeed(reader_.get(), bytes.data(), bytes.size()) == REDIS_OK;
}

std::optional<Reply> ReplyReader::next(bool& broken) {
    current_.reset();
    void* reply = nullptr;
    broken = redisReaderGetReply(reader_.get(), &reply) != REDIS_OK;
    if (broken || reply == nullptr) return std::nullopt;
    current_.reset(static_cast<redisReply*>(reply));
    return Reply(current_.get());
}

void RespWords::make_room(std::span<const std::string_view> words) {
    std::size_t size = octets.size();
    for (const std::string_view word : words) size += kMostLength + word.size() + 2;
    octets.reserve(size);
}

void RespWords::add(std::span<const std::string_view> words) {
    make_room(words);
    for (const std::string_view word : words) {
        append_length(octets, '$', word.size());
        octets.append(word).append("\r\n");
    }
    count += words.size();
}

std::string encode_command(std::span<const std::string_view> words) {
    RespWords command;
    command.octets.reserve(512);
    append_length(command.octets, '*', words.size());
    command.add(words);
    return std::move(command.octets);
}

}  // namespace rooms

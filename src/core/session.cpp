// The state machine of RFC 6455 sections 5 to 7 for one server-side connection. A step reads a
// header or a part of a payload, and yields an event or nothing; feed() steps until there is one.
#include "core/session.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <new>

#include "core/bytes.hpp"

namespace rooms {
namespace {

constexpr std::size_t kKeptCapacity = 64 * 1024;
constexpr std::size_t kInflaterMemory = 40 * 1024;

// How many deflated octets may stand for max_message inflated ones: zlib adds a few per 16 KiB at
// worst, a sender that flushes often adds more, and blocks of nothing must not go on for ever.
std::size_t max_deflated(std::size_t max_message) {
    const std::size_t extra = max_message / 8 + 1024;
    constexpr std::size_t kMost = std::numeric_limits<std::size_t>::max();
    return max_message > kMost - extra ? kMost : max_message + extra;
}

Event need_more() { return {}; }

}  // namespace

// What is incomplete: a message, or a control frame, also one between a message's fragments.
struct Session::Pending {
    Bytes data;                          // plain octets of the message so far
    std::unique_ptr<Inflater> inflater;  // of a compressed message, in the middle of it
    std::size_t deflated = 0;            // octets it has had
    std::uint8_t control_size = 0;
    char control[kMaxControlPayload];

    bool has_message() const { return data.size() > 0 || inflater; }
};

void Codec::release() {
    if (message_.capacity() > kKeptCapacity) message_.release();
    message_.clear();
}

std::unique_ptr<Inflater> Codec::take_inflater() {
    if (!inflater_) inflater_ = std::make_unique<Inflater>();
    inflater_->begin();
    return std::move(inflater_);
}

void Codec::give_back(std::unique_ptr<Inflater> inflater) { inflater_ = std::move(inflater); }

Session::Session(std::optional<DeflateParams> deflate)
    : server_window_bits_(deflate ? deflate->server_max_window_bits : 0) {}
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;
Session::~Session() = default;

Event Session::feed(std::span<char>& input, Codec& codec, const WireLimits& limits) {
    codec.release();
    std::optional<Event> event;
    try {
        while (!event && state_ != State::closed)
            event = state_ == State::header ? read_header(input, limits) : read_payload(input, codec, limits);
    } catch (const std::bad_alloc&) {
        event = fail(CloseCode::internal_error, "out of memory");
    }
    if (state_ == State::closed) input = input.last(0);
    return event.value_or(need_more());
}

std::optional<Event> Session::read_header(std::span<char>& input, const WireLimits& limits) {
    for (;;) {
        const HeaderParse parse = parse_frame_header({header_, header_size_}, server_window_bits_ > 0);
        if (parse.status == HeaderStatus::refused) return fail(CloseCode::protocol_error, parse.reason);
        if (parse.status == HeaderStatus::complete) return begin_frame(parse.header, limits);
        const std::size_t size = std::min(parse.wanted - header_size_, input.size());
        if (size == 0) return need_more();
        std::memcpy(header_ + header_size_, input.data(), size);
        header_size_ = static_cast<std::uint8_t>(header_size_ + size);
        input = input.subspan(size);
    }
}

std::optional<Event> Session::begin_frame(const FrameHeader& header, const WireLimits& limits) {
    state_ = State::payload;
    frame_ = header.opcode;
    fin_ = header.fin;
    remaining_ = header.size;
    phase_ = 0;
    if (is_control(frame_) || close_sent_) return std::nullopt;

    const bool open = message_ != Opcode::continuation;
    if (frame_ == Opcode::continuation) {
        if (!open) return fail(CloseCode::protocol_error, "continuation of nothing");
    } else {
        if (open) return fail(CloseCode::protocol_error, "message inside a message");
        message_ = frame_;
        compressed_ = header.rsv1;
        utf8_.reset();
        fragments_ = 0;
    }
    if (++fragments_ > limits.max_fragments) return fail(CloseCode::too_big, "too many fragments");
    if (limits.max_frame && remaining_ > limits.max_frame) return fail(CloseCode::too_big, "frame too big");
    const std::size_t most = compressed_ ? max_deflated(limits.max_message) : limits.max_message;
    const std::size_t have = !pending_ ? 0 : compressed_ ? pending_->deflated : pending_->data.size();
    if (remaining_ > most - have) return fail(CloseCode::too_big, "message too big");
    return std::nullopt;
}

std::optional<Event> Session::read_payload(std::span<char>& input, Codec& codec, const WireLimits& limits) {
    if (input.empty() && remaining_ > 0) return need_more();
    const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(remaining_, input.size()));
    const std::string_view part(input.data(), size);
    unmask(input.data(), size, header_ + header_size_ - 4, phase_);
    input = input.subspan(size);
    phase_ = (phase_ + size) & 3;
    remaining_ -= size;
    if (remaining_ == 0) {
        state_ = State::header;
        header_size_ = 0;
    }
    if (is_control(frame_)) return read_control(part, codec);
    return close_sent_ ? std::nullopt : read_data(part, codec, limits);
}

std::optional<Event> Session::read_control(std::string_view part, Codec& codec) {
    std::string_view body = part;
    if (remaining_ > 0 || (pending_ && pending_->control_size > 0)) {
        Pending& held = pending();
        std::memcpy(held.control + held.control_size, part.data(), part.size());
        held.control_size = static_cast<std::uint8_t>(held.control_size + part.size());
        if (remaining_ > 0) return std::nullopt;
        std::memcpy(codec.control_, held.control, held.control_size);
        body = {codec.control_, std::exchange(held.control_size, 0)};
        if (!held.has_message()) pending_.reset();
    }
    if (frame_ == Opcode::close) return on_close(body);
    if (close_sent_) return std::nullopt;
    Event event;
    event.type = frame_ == Opcode::ping ? Event::Type::ping : Event::Type::pong;
    event.opcode = frame_;
    event.payload = body;
    return event;
}

std::optional<Event> Session::read_data(std::string_view part, Codec& codec, const WireLimits& limits) {
    const bool last = fin_ && remaining_ == 0;
    const bool whole = last && !pending_;  // nothing of it came before: no copy
    std::string_view plain = part;
    InflateStatus status = InflateStatus::ok;
    if (compressed_) {
        status = inflate(part, last, codec, limits, plain);
    } else if (!whole && !part.empty()) {
        Bytes& data = pending().data;
        const auto rest = part.size() + static_cast<std::size_t>(remaining_);
        data.append(part, fin_ ? data.size() + rest : limits.max_message);
    }
    // Text first: the verdict must not depend on how far inflating came in one go.
    if (message_ == Opcode::text && !utf8_.feed(plain)) return fail(CloseCode::invalid_data, "invalid UTF-8");
    if (status == InflateStatus::corrupt) return fail(CloseCode::invalid_data, "broken deflate data");
    if (status == InflateStatus::too_big) return fail(CloseCode::too_big, "message too big");
    if (status == InflateStatus::no_memory) return fail(CloseCode::internal_error, "out of memory");
    if (!last) return std::nullopt;
    if (message_ == Opcode::text && !utf8_.complete()) return fail(CloseCode::invalid_data, "invalid UTF-8");

    Event event;
    event.type = Event::Type::message;
    event.opcode = std::exchange(message_, Opcode::continuation);
    event.payload = plain;
    if (!whole) {
        codec.message_ = std::move(pending_->data);
        pending_.reset();
        event.payload = codec.message_.view();
    }
    return event;
}

InflateStatus Session::inflate(std::string_view part, bool last, Codec& codec, const WireLimits& limits,
                               std::string_view& plain) {
    const InflateLimits bounds{limits.max_message, limits.max_ratio};
    InflateStatus status = InflateStatus::ok;
    plain = {};
    if (last && !pending_) {
        auto inflater = codec.take_inflater();
        status = inflater->feed(part, last, codec.message_, bounds);
        plain = codec.message_.view();
        codec.give_back(std::move(inflater));
    } else if (pending_ || !part.empty()) {
        Pending& held = pending();
        if (!held.inflater) held.inflater = codec.take_inflater();
        const std::size_t before = held.data.size();
        held.deflated += part.size();
        status = held.inflater->feed(part, last, held.data, bounds);
        plain = held.data.view().substr(before);
        if (last) codec.give_back(std::move(held.inflater));
    }
    return status;
}

Event Session::on_close(std::string_view body) {
    if (body.size() == 1) return fail(CloseCode::protocol_error, "close code cut short");
    Event event;
    event.type = Event::Type::close;
    event.opcode = Opcode::close;
    if (body.size() >= 2) {
        event.code = static_cast<std::uint16_t>(static_cast<std::uint8_t>(body[0]) << 8 |
                                                static_cast<std::uint8_t>(body[1]));
        event.reason = body.substr(2);
        if (!may_be_received(event.code)) return fail(CloseCode::protocol_error, "bad close code");
        if (!is_valid_utf8(event.reason)) return fail(CloseCode::invalid_data, "invalid UTF-8");
    }
    state_ = State::closed;
    pending_.reset();
    return event;
}

Event Session::fail(CloseCode code, std::string_view reason) {
    state_ = State::closed;
    pending_.reset();
    Event event;
    event.type = Event::Type::fail;
    event.code = static_cast<std::uint16_t>(code);
    event.reason = reason;
    return event;
}

void Session::on_close_sent() {
    close_sent_ = true;
    message_ = Opcode::continuation;
    if (!pending_) return;
    pending_->data.release();
    pending_->inflater.reset();
    // Half of the peer's own Close may be in it.
    if (pending_->control_size == 0) pending_.reset();
}

bool Session::incomplete() const {
    if (state_ == State::closed) return false;
    return state_ == State::payload || header_size_ > 0 || message_ != Opcode::continuation;
}

std::size_t Session::held() const {
    if (!pending_) return 0;
    return sizeof(Pending) + pending_->data.capacity() + (pending_->inflater ? kInflaterMemory : 0);
}

Session::Pending& Session::pending() {
    if (!pending_) pending_ = std::make_unique_for_overwrite<Pending>();
    return *pending_;
}

}  // namespace rooms

// RFC 6455 read plainly: all octets at once, frame by frame, without compression. Beside the session, which
// gets them in parts and keeps what is unfinished.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/close_code.hpp"
#include "core/session.hpp"

#include "fuzz/plain_utf8.hpp"

namespace rooms {

struct PlainEvent {
    Event::Type type;
    std::uint16_t code = 0;
    std::string payload;  // of a close its reason
    bool operator==(const PlainEvent&) const = default;
};

class PlainFrames {
public:
    PlainFrames(std::string_view octets, const WireLimits& limits, bool close_sent)
        : rest_(octets), limits_(limits), close_sent_(close_sent) {}

    std::vector<PlainEvent> read() {
        while (!over_ && frame()) {
        }
        return std::move(events_);
    }

private:
    bool fail(CloseCode code) {
        events_.push_back({Event::Type::fail, static_cast<std::uint16_t>(code), {}});
        over_ = true;
        return false;
    }
    bool protocol_error() { return fail(CloseCode::protocol_error); }

    [[nodiscard]] std::uint64_t octet(std::size_t at) const { return static_cast<std::uint8_t>(rest_[at]); }
    [[nodiscard]] std::uint64_t number(std::size_t at, std::size_t size) const {
        std::uint64_t value = 0;
        for (std::size_t i = 0; i < size; ++i) value = value * 256 + octet(at + i);
        return value;
    }

    // Section 5.2. False: there are no more.
    bool frame() {
        if (rest_.size() < 2) return false;
        const bool fin = octet(0) >= 128;
        const unsigned opcode = octet(0) % 16;
        const bool control = opcode >= 8;
        std::uint64_t size = octet(1) % 128;
        if (octet(0) / 16 % 8 != 0) return protocol_error();
        if (opcode > 10 || (opcode > 2 && opcode < 8)) return protocol_error();
        if (octet(1) < 128) return protocol_error();
        if (control && (!fin || size > 125)) return protocol_error();
        std::size_t head = 2;
        if (size >= 126) {
            const std::size_t extended = size == 126 ? 2 : 8;
            if (rest_.size() < 2 + extended) return false;
            size = number(2, extended);
            if (size >= (std::uint64_t{1} << 63) || size < (extended == 2 ? 126 : 65536))
                return protocol_error();
            head += extended;
        }
        if (rest_.size() < head + 4) return false;
        const std::string_view key = rest_.substr(head, 4);
        rest_.remove_prefix(head + 4);

        const bool ignored = close_sent_ && !control;
        if (!control && !ignored && !begin(opcode, size)) return false;
        std::string payload(rest_.substr(0, size));
        rest_.remove_prefix(payload.size());
        for (std::size_t i = 0; i < payload.size(); ++i)
            payload[i] = static_cast<char>(payload[i] ^ key[i % 4]);
        const bool whole = payload.size() == size;
        if (ignored) return whole;
        return control ? whole && on_control(opcode, payload) : on_data(payload, whole, fin);
    }

    // Section 5.4, and the limits.
    bool begin(unsigned opcode, std::uint64_t size) {
        if ((opcode == 0) != message_.has_value()) return protocol_error();
        if (opcode != 0) {
            message_ = "";
            text_ = opcode == 1;
            frames_ = 0;
        }
        if (++frames_ > limits_.max_fragments) return fail(CloseCode::too_big);
        if (limits_.max_frame && size > limits_.max_frame) return fail(CloseCode::too_big);
        return size <= limits_.max_message - message_->size() || fail(CloseCode::too_big);
    }

    bool on_data(const std::string& payload, bool whole, bool fin) {
        *message_ += payload;
        if (text_ && !may_become_utf8(*message_)) return fail(CloseCode::invalid_data);
        if (!whole || !fin) return whole;
        if (text_ && !is_utf8_plainly(*message_)) return fail(CloseCode::invalid_data);
        events_.push_back({Event::Type::message, 0, *message_});
        message_.reset();
        return true;
    }

    // Section 5.5.
    bool on_control(unsigned opcode, const std::string& payload) {
        if (opcode == 8) return on_close(payload);
        if (!close_sent_)
            events_.push_back({opcode == 9 ? Event::Type::ping : Event::Type::pong, 0, payload});
        return true;
    }

    bool on_close(const std::string& payload) {
        if (payload.size() == 1) return protocol_error();
        PlainEvent close{Event::Type::close, 0, {}};
        if (!payload.empty()) {
            close.code = static_cast<std::uint16_t>(static_cast<std::uint8_t>(payload[0]) * 256 +
                                                    static_cast<std::uint8_t>(payload[1]));
            close.payload = payload.substr(2);
            if (!may_be_received(close.code)) return protocol_error();
            if (!is_utf8_plainly(close.payload)) return fail(CloseCode::invalid_data);
        }
        events_.push_back(close);
        over_ = true;
        return false;
    }

    std::string_view rest_;
    const WireLimits limits_;
    const bool close_sent_;
    bool over_ = false;
    std::vector<PlainEvent> events_;
    std::optional<std::string> message_;  // that is open
    bool text_ = false;
    std::uint32_t frames_ = 0;
};

}  // namespace rooms

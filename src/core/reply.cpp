// The shapes of answers, member by member, in the order in which the contract shows them.
#include "core/reply.hpp"

#include <charconv>

#include "core/json.hpp"
#include "core/room.hpp"

namespace rooms {
namespace {

// Builds one flat object. Names are ours and need no escaping.
class Object {
public:
    Object() {
        out_.reserve(192);
        out_ = "{";
    }
    explicit Object(std::string_view type) : Object() { text("type", type); }

    Object& text(std::string_view name, std::string_view value) {
        append_json_string(begin(name), value);
        return *this;
    }
    Object& number(std::string_view name, std::uint64_t value) {
        append_decimal(begin(name), value);
        return *this;
    }
    Object& time(std::string_view name, std::int64_t ms) {
        append_decimal_signed(begin(name), ms);
        return *this;
    }
    Object& time_or_null(std::string_view name, std::optional<std::int64_t> ms) {
        return ms ? time(name, *ms) : raw(name, "null");
    }
    Object& boolean(std::string_view name, bool value) { return raw(name, value ? "true" : "false"); }
    Object& raw(std::string_view name, std::string_view json) {
        begin(name) += json;
        return *this;
    }
    Object& ref(std::string_view json) { return json.empty() ? *this : raw("ref", json); }

    // For values that are built in place.
    std::string& begin(std::string_view name) {
        if (out_.size() > 1) out_ += ',';
        out_ += '"';
        out_ += name;
        out_ += "\":";
        return out_;
    }
    [[nodiscard]] std::string finish() {
        out_ += '}';
        return std::move(out_);
    }

private:
    std::string out_;
};

void put_digits(char* end, int width, std::int64_t value) {
    for (; width > 0; --width) {
        *--end = static_cast<char>('0' + value % 10);
        value /= 10;
    }
}

}  // namespace

std::string epoch_text(std::uint64_t epoch) {
    char digits[16];
    const auto [end, error] = std::to_chars(digits, digits + sizeof digits, epoch, 16);
    static_cast<void>(error);  // 16 digits hold any 64-bit number
    return {digits, end};
}

std::optional<std::uint64_t> parse_epoch(std::string_view text) {
    if (text.empty() || text.size() > 16) return std::nullopt;
    for (const char c : text) {
        if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'f')) return std::nullopt;
    }
    std::uint64_t epoch = 0;
    std::from_chars(text.data(), text.data() + text.size(), epoch, 16);
    return epoch;
}

std::string iso8601_text(std::int64_t time_ms) {
    constexpr std::int64_t kDayMs = 86'400'000;
    std::int64_t day = time_ms / kDayMs;
    std::int64_t ms = time_ms % kDayMs;
    if (ms < 0) {
        ms += kDayMs;
        --day;
    }
    // The Gregorian calendar, counted from 0000-03-01, so that the leap day is a year's last day
    // and every 400 years are alike.
    constexpr std::int64_t kDaysTo1970 = 719'468;
    constexpr std::int64_t kDaysIn400Years = 146'097;
    day += kDaysTo1970;
    const std::int64_t era = (day >= 0 ? day : day - kDaysIn400Years + 1) / kDaysIn400Years;
    const std::int64_t day_of_era = day - era * kDaysIn400Years;
    const std::int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36'524 - day_of_era / 146'096) / 365;
    const std::int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    const std::int64_t march_month = (5 * day_of_year + 2) / 153;  // 0 is March
    const std::int64_t month = march_month < 10 ? march_month + 3 : march_month - 9;
    const std::int64_t year = year_of_era + era * 400 + (month <= 2 ? 1 : 0);

    std::string text = "0000-00-00T00:00:00.000Z";
    char* const at = text.data();
    put_digits(at + 4, 4, year);
    put_digits(at + 7, 2, month);
    put_digits(at + 10, 2, day_of_year - (153 * march_month + 2) / 5 + 1);
    put_digits(at + 13, 2, ms / 3'600'000);
    put_digits(at + 16, 2, ms / 60'000 % 60);
    put_digits(at + 19, 2, ms / 1000 % 60);
    put_digits(at + 23, 3, ms % 1000);
    return text;
}

std::string encode_connected(const Connected& connected) {
    Object object("connected");
    if (connected.user_id.empty()) {
        object.raw("userId", "null");
    } else {
        object.text("userId", connected.user_id);
    }
    return object.text("connectionId", connected.connection_id)
        .time_or_null("expiresAt", connected.expires_at)
        .number("heartbeat", connected.heartbeat_ms)
        .time("serverTime", connected.now_ms)
        .text("timestamp", iso8601_text(connected.now_ms))
        .finish();
}

std::string encode_subscribed(const Subscribed& subscribed, std::string_view ref) {
    Object object("subscribed");
    object.text("room", subscribed.room)
        .text("epoch", epoch_text(subscribed.epoch))
        .number("offset", subscribed.offset);
    if (subscribed.recovered) object.boolean("recovered", *subscribed.recovered);
    return object.time("timestamp", subscribed.now_ms).ref(ref).finish();
}

std::string encode_unsubscribed(std::string_view room, std::string_view ref) {
    return Object("unsubscribed").text("room", room).ref(ref).finish();
}

std::string encode_error(ErrorCode code, std::string_view room, std::string_view message, bool retryable,
                         std::string_view ref) {
    Object object("error");
    object.text("code", error_code_text(code));
    if (!room.empty()) object.text("room", room);
    return object.text("message", message).boolean("retryable", retryable).ref(ref).finish();
}

std::string encode_error(const CommandError& error) {
    return encode_error(error.code, error.room, error.message, is_retryable(error.code), error.ref);
}

std::string forbidden_message(std::string_view room) {
    return "Access denied to " + std::string(room.substr(0, room.find(':')));
}

std::string encode_gap(std::string_view room, std::uint64_t epoch, std::uint64_t offset,
                       std::string_view reason) {
    return Object("gap")
        .text("room", room)
        .text("epoch", epoch_text(epoch))
        .number("offset", offset)
        .text("reason", reason)
        .finish();
}

std::string encode_pong(std::int64_t now_ms, std::string_view ref) {
    return Object("pong").time("timestamp", now_ms).ref(ref).finish();
}

std::string encode_auth_ok(std::optional<std::int64_t> expires_at, std::string_view ref) {
    return Object("auth:ok").time_or_null("expiresAt", expires_at).ref(ref).finish();
}

std::string encode_token_expiring(std::int64_t expires_at) {
    return Object("token:expiring").time("expiresAt", expires_at).finish();
}

std::string encode_reconnect(std::uint64_t after_ms) {
    return Object("reconnect").number("afterMs", after_ms).finish();
}

std::string encode_presence(std::string_view room, std::span<const PresenceEntry> users, std::uint64_t count,
                            std::string_view ref) {
    Object object("presence");
    std::string& out = object.text("room", room).begin("users");
    out += '[';
    for (const PresenceEntry& user : users) {
        if (out.back() != '[') out += ',';
        out += Object().text("id", user.id).number("connections", user.connections).finish();
    }
    out += ']';
    return object.number("count", count).ref(ref).finish();
}

void append_publish_answer(std::string& out, const PublishReceipt& receipt) {
    out += "{\"room\":";
    append_json_string(out, receipt.room);
    out += ",\"epoch\":\"";
    out += epoch_text(receipt.epoch);
    out += "\",\"offset\":";
    append_decimal(out, receipt.offset);
    out += ",\"subscribers\":";
    append_decimal(out, receipt.subscribers);
    out += receipt.duplicate ? ",\"duplicate\":true}" : "}";
}

void append_http_error(std::string& out, std::string_view code, std::string_view message) {
    out += "{\"error\":{\"code\":";
    append_json_string(out, code);
    out += ",\"message\":";
    append_json_string(out, message);
    out += "}}";
}

std::string encode_http_error(std::string_view code, std::string_view message) {
    std::string out;
    append_http_error(out, code, message);
    return out;
}

}  // namespace rooms

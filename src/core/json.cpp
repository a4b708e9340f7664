// The grammar of RFC 8259 as a state machine over bytes: one bit per open container, no stack.
#include "core/json.hpp"

#include <cstring>

#include "core/json_bytes.hpp"
#include "core/utf8.hpp"

namespace rooms {
namespace {

using json_bytes::is_space;
using json_bytes::skip_plain;

constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }

constexpr int hex_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

std::string byte_text(char c) {
    constexpr char kHex[] = "0123456789abcdef";
    const auto byte = static_cast<unsigned char>(c);
    if (byte > 0x20 && byte < 0x7f) return std::string("'") + c + "'";
    return std::string("0x") + kHex[byte >> 4] + kHex[byte & 15];
}

// The four hex digits behind "\u", or -1.
int code_unit(const char* at, const char* end) {
    if (end - at < 4) return -1;
    int unit = 0;
    for (int i = 0; i < 4; ++i) {
        const int digit = hex_value(at[i]);
        if (digit < 0) return -1;
        unit = unit << 4 | digit;
    }
    return unit;
}

constexpr bool is_high_surrogate(int unit) { return unit >= 0xd800 && unit <= 0xdbff; }
constexpr bool is_low_surrogate(int unit) { return unit >= 0xdc00 && unit <= 0xdfff; }

// Where a text that is not UTF-8 ceases to be: the first character that does not stand alone.
std::size_t find_invalid_utf8(std::string_view text) {
    std::size_t at = 0;
    while (at < text.size()) {
        const auto lead = static_cast<unsigned char>(text[at]);
        const std::size_t size = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
        if (!is_valid_utf8(text.substr(at, size))) break;
        at += size;
    }
    return at;
}

class Scanner {
public:
    Scanner(std::string_view text, std::size_t at)
        : begin_(text.data()), at_(begin_ + at), end_(begin_ + text.size()) {}

    // `outside`: containers around the value that are open already.
    [[nodiscard]] bool value(unsigned max_depth, JsonValue& out, unsigned outside = 0);
    [[nodiscard]] bool string();
    void space() {
        while (at_ != end_ && is_space(*at_)) ++at_;
    }
    // Moves over this byte, where it is next.
    [[nodiscard]] bool take(char byte) {
        if (at_ == end_ || *at_ != byte) return false;
        ++at_;
        return true;
    }
    [[nodiscard]] std::size_t position() const { return static_cast<std::size_t>(at_ - begin_); }
    [[nodiscard]] bool at_end() const { return at_ == end_; }
    [[nodiscard]] JsonError take_error() { return std::move(error_); }
    bool fail(std::string what) {
        error_ = JsonError{position(), std::move(what)};
        return false;
    }
    bool fail_expected(std::string_view expected) {
        if (at_ == end_) return fail("the text ends where " + std::string(expected) + " should be");
        return fail("unexpected " + byte_text(*at_) + " where " + std::string(expected) + " should be");
    }

private:
    [[nodiscard]] bool escape();
    [[nodiscard]] bool number();
    [[nodiscard]] bool word(std::string_view expected);
    [[nodiscard]] bool digits();
    [[nodiscard]] bool scalar(JsonType& type);

    const char* begin_;
    const char* at_;
    const char* end_;
    JsonError error_;
};

bool Scanner::escape() {
    const char* const start = at_++;
    if (at_ == end_) return fail_expected("an escape");
    if (std::memchr("\"\\/bfnrt", *at_, 8)) {
        ++at_;
        return true;
    }
    if (*at_ != 'u') return fail("unknown escape " + byte_text(*at_));
    const int unit = code_unit(at_ + 1, end_);
    if (unit < 0) return fail("\\u without four hex digits");
    at_ += 5;
    if (is_high_surrogate(unit) && end_ - at_ >= 6 && at_[0] == '\\' && at_[1] == 'u' &&
        is_low_surrogate(code_unit(at_ + 2, end_))) {
        at_ += 6;
        return true;
    }
    if (is_high_surrogate(unit) || is_low_surrogate(unit)) {
        at_ = start;
        return fail("lone surrogate");
    }
    return true;
}

// REQUIRES: at_ is at the opening quote.
bool Scanner::string() {
    const char* const start = ++at_;
    bool ascii = true;
    for (;;) {
        at_ = skip_plain(at_, end_);
        if (at_ == end_) return fail("the text ends in a string");
        const auto byte = static_cast<unsigned char>(*at_);
        if (byte == '"') break;
        if (byte == '\\') {
            if (!escape()) return false;
            continue;
        }
        if (byte < 0x20) return fail("control character " + byte_text(*at_) + " in a string");
        ascii = false;
        while (at_ != end_ && static_cast<unsigned char>(*at_) >= 0x80) ++at_;
    }
    const std::string_view content(start, static_cast<std::size_t>(at_ - start));
    if (!ascii && !is_valid_utf8(content)) {
        at_ = start + find_invalid_utf8(content);
        return fail("invalid UTF-8 in a string");
    }
    ++at_;
    return true;
}

bool Scanner::digits() {
    if (at_ == end_ || !is_digit(*at_)) return fail_expected("a digit");
    while (at_ != end_ && is_digit(*at_)) ++at_;
    return true;
}

bool Scanner::number() {
    if (*at_ == '-') ++at_;
    if (at_ != end_ && *at_ == '0') {
        ++at_;
        if (at_ != end_ && is_digit(*at_)) return fail("a number begins with 0");
    } else if (!digits()) {
        return false;
    }
    if (at_ != end_ && *at_ == '.') {
        ++at_;
        if (!digits()) return false;
    }
    if (at_ != end_ && (*at_ == 'e' || *at_ == 'E')) {
        ++at_;
        if (at_ != end_ && (*at_ == '+' || *at_ == '-')) ++at_;
        if (!digits()) return false;
    }
    return true;
}

bool Scanner::word(std::string_view expected) {
    if (!std::string_view(at_, static_cast<std::size_t>(end_ - at_)).starts_with(expected)) {
        return fail_expected("a value");
    }
    at_ += expected.size();
    return true;
}

bool Scanner::scalar(JsonType& type) {
    switch (at_ == end_ ? '\0' : *at_) {
        case '"': type = JsonType::string; return string();
        case 't': type = JsonType::boolean; return word("true");
        case 'f': type = JsonType::boolean; return word("false");
        case 'n': type = JsonType::null; return word("null");
        case '-':
        case '0':
        case '1':
        case '2':
        case '3':
        case '4':
        case '5':
        case '6':
        case '7':
        case '8':
        case '9': type = JsonType::number; return number();
        default: return fail_expected("a value");
    }
}

bool Scanner::value(unsigned max_depth, JsonValue& out, unsigned outside) {
    enum class State { value, first_element, first_name, name, after_value };

    space();
    const char* const start = at_;
    std::uint64_t objects = 0;  // bit 0: the innermost container is an object
    unsigned depth = 0;
    State state = State::value;
    JsonType type = JsonType::null;

    for (;;) {
        space();
        const char byte = at_ == end_ ? '\0' : *at_;
        switch (state) {
            case State::first_element:
                if (byte == ']') {
                    state = State::after_value;
                    continue;
                }
                [[fallthrough]];
            case State::value:
                if (byte == '{' || byte == '[') {
                    if (depth + outside == max_depth) {
                        return fail("deeper than " + std::to_string(max_depth) + " levels");
                    }
                    if (depth == 0) type = byte == '{' ? JsonType::object : JsonType::array;
                    ++depth;
                    objects = objects << 1 | static_cast<unsigned>(byte == '{');
                    ++at_;
                    state = byte == '{' ? State::first_name : State::first_element;
                    continue;
                }
                {
                    JsonType found = JsonType::null;
                    if (!scalar(found)) return false;
                    if (depth == 0) type = found;
                }
                state = State::after_value;
                break;
            case State::first_name:
                if (byte == '}') {
                    state = State::after_value;
                    continue;
                }
                [[fallthrough]];
            case State::name:
                if (byte != '"') return fail_expected("a name in quotes");
                if (!string()) return false;
                space();
                if (at_ == end_ || *at_ != ':') return fail_expected("':'");
                ++at_;
                state = State::value;
                continue;
            case State::after_value:
                if (byte == ',') {
                    ++at_;
                    state = objects & 1 ? State::name : State::value;
                    continue;
                }
                if (byte != (objects & 1 ? '}' : ']')) {
                    return fail_expected(objects & 1 ? "',' or '}'" : "',' or ']'");
                }
                ++at_;
                objects >>= 1;
                --depth;
                break;
        }
        if (depth == 0) break;
    }
    out = JsonValue{type, {start, static_cast<std::size_t>(at_ - start)}};
    return true;
}

}  // namespace

std::string_view json_type_text(JsonType type) {
    switch (type) {
        case JsonType::object: return "an object";
        case JsonType::array: return "an array";
        case JsonType::string: return "a string";
        case JsonType::number: return "a number";
        case JsonType::boolean: return "a boolean";
        case JsonType::null: return "null";
    }
    return "null";
}

std::string JsonError::message() const { return what + " at byte " + std::to_string(at); }

void skip_json_space(std::string_view text, std::size_t& at) {
    while (at < text.size() && is_space(text[at])) ++at;
}

Result<JsonValue, JsonError> parse_next_json(std::string_view text, std::size_t& at, unsigned max_depth) {
    Scanner scanner(text, at);
    JsonValue value;
    if (!scanner.value(max_depth, value)) return scanner.take_error();
    at = scanner.position();
    return value;
}

Result<JsonValue, JsonError> parse_json(std::string_view text, unsigned max_depth) {
    Scanner scanner(text, 0);
    JsonValue value;
    if (!scanner.value(max_depth, value)) return scanner.take_error();
    scanner.space();
    if (!scanner.at_end()) {
        scanner.fail_expected("the end");
        return scanner.take_error();
    }
    return value;
}

std::optional<JsonError> parse_json_array(std::string_view text, unsigned max_depth,
                                          const std::function<bool(const JsonValue&)>& visit) {
    Scanner scanner(text, 0);
    const auto fail_expected = [&](std::string_view expected) {
        scanner.fail_expected(expected);
        return scanner.take_error();
    };
    scanner.space();
    if (!scanner.take('[')) return fail_expected("an array");
    scanner.space();
    for (bool more = !scanner.take(']'); more;) {
        JsonValue element;
        if (!scanner.value(max_depth, element, 1)) return scanner.take_error();
        if (!visit(element)) return std::nullopt;
        scanner.space();
        more = scanner.take(',');
        if (!more && !scanner.take(']')) return fail_expected("',' or ']'");
    }
    scanner.space();
    if (!scanner.at_end()) return fail_expected("the end");
    return std::nullopt;
}

Result<std::vector<JsonMember>, JsonError> parse_json_object(std::string_view text, unsigned max_depth) {
    const auto value = parse_json(text, max_depth);
    if (!value) return value.error();
    const auto at = [&](std::string_view part) {
        return static_cast<std::size_t>(part.data() - text.data());
    };
    if (value->type != JsonType::object) {
        return JsonError{at(value->raw),
                         std::string(json_type_text(value->type)) + " where an object should be"};
    }
    if (const auto twice = find_duplicate_member(value->raw)) {
        return JsonError{at(twice->raw_name), "duplicate member " + shown_text(twice->name())};
    }
    std::vector<JsonMember> result;
    JsonMember member;
    for (JsonMembers members(value->raw); members.next(member);) result.push_back(member);
    return result;
}

}  // namespace rooms

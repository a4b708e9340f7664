// Sec-WebSocket-Extensions, RFC 6455 section 9.1, and the offers of RFC 7692 section 7.1 in it.
//
// Everything is parsed, also behind the offer that is taken: a header against the ABNF fails the
// handshake wherever the fault is. Names and values are compared as they are, case included.
#include "core/extensions.hpp"

#include "core/ascii.hpp"

namespace rooms {
namespace {

constexpr std::string_view kDeflate = "permessage-deflate";

// Reads a header value from the front. The RFC 2616 grammar that RFC 6455 uses allows whitespace
// between any two tokens.
class Reader {
public:
    explicit Reader(std::string_view text) : rest_(text) {}

    bool at_end() {
        skip_space();
        return rest_.empty();
    }

    bool take(char c) {
        skip_space();
        if (!rest_.starts_with(c)) return false;
        rest_.remove_prefix(1);
        return true;
    }

    // Empty: no token here.
    std::string_view take_token() {
        skip_space();
        std::size_t size = 0;
        while (size < rest_.size() && is_token_char(rest_[size])) ++size;
        const std::string_view token = rest_.substr(0, size);
        rest_.remove_prefix(size);
        return token;
    }

    // A token, or a quoted string that is one when unquoted, as it must be.
    std::optional<std::string> take_value() {
        if (!take('"')) {
            const std::string_view token = take_token();
            if (token.empty()) return std::nullopt;
            return std::string(token);
        }
        std::string value;
        for (std::size_t i = 0; i < rest_.size(); ++i) {
            if (rest_[i] == '"') {
                rest_.remove_prefix(i + 1);
                if (value.empty()) return std::nullopt;
                return value;
            }
            if (rest_[i] == '\\' && ++i == rest_.size()) break;
            if (!is_token_char(rest_[i])) break;
            value += rest_[i];
        }
        return std::nullopt;
    }

private:
    void skip_space() {
        while (rest_.starts_with(' ') || rest_.starts_with('\t')) rest_.remove_prefix(1);
    }

    std::string_view rest_;
};

// 8 .. 15 without leading zeros, else 0.
std::uint8_t parse_window_bits(const std::optional<std::string>& value) {
    if (!value || value->empty() || value->size() > 2) return 0;
    int bits = 0;
    for (char c : *value) {
        if (!is_digit(c)) return 0;
        bits = bits * 10 + (c - '0');
    }
    if (bits < 8 || bits > 15 || value->front() == '0') return 0;
    return static_cast<std::uint8_t>(bits);
}

class Offer {
public:
    void add(std::string_view name, const std::optional<std::string>& value) {
        if (name == "server_no_context_takeover") {
            require(first(kServerTakeover) && !value);
        } else if (name == "client_no_context_takeover") {
            require(first(kClientTakeover) && !value);
        } else if (name == "client_max_window_bits") {
            require(first(kClientBits) && (!value || parse_window_bits(value)));
        } else if (name == "server_max_window_bits") {
            server_bits_ = parse_window_bits(value);
            // zlib's raw deflate has no window of 256 octets.
            require(first(kServerBits) && server_bits_ >= 9);
        } else {
            require(false);
        }
    }

    bool acceptable() const { return acceptable_; }
    std::uint8_t server_bits() const { return server_bits_; }  // 0: not asked for

private:
    enum Seen : unsigned { kServerTakeover = 1, kClientTakeover = 2, kClientBits = 4, kServerBits = 8 };

    bool first(Seen parameter) {
        const bool repeated = seen_ & parameter;
        seen_ |= parameter;
        return !repeated;
    }
    void require(bool condition) { acceptable_ = acceptable_ && condition; }

    unsigned seen_ = 0;
    std::uint8_t server_bits_ = 0;
    bool acceptable_ = true;
};

void accept(const Offer& offer, ExtensionsResult& result) {
    result.deflate = DeflateParams();
    // client_no_context_takeover may be said unasked (section 7.1.1.2) and lets every message be
    // inflated by whichever stream is free.
    result.response = kDeflate;
    result.response += "; server_no_context_takeover; client_no_context_takeover";
    if (!offer.server_bits()) return;
    result.deflate->server_max_window_bits = offer.server_bits();
    result.response += "; server_max_window_bits=" + std::to_string(offer.server_bits());
}

// One extension with its parameters. False: against the ABNF.
bool read_extension(Reader& reader, const DeflateConfig& config, ExtensionsResult& result) {
    const std::string_view name = reader.take_token();
    if (name.empty()) return false;
    Offer offer;
    while (reader.take(';')) {
        const std::string_view parameter = reader.take_token();
        if (parameter.empty()) return false;
        std::optional<std::string> value;
        if (reader.take('=') && !(value = reader.take_value())) return false;
        offer.add(parameter, value);
    }
    if (!reader.at_end() && !reader.take(',')) return false;
    if (config.enabled && name == kDeflate && offer.acceptable() && !result.deflate) accept(offer, result);
    return true;
}

}  // namespace

ExtensionsResult negotiate_extensions(std::span<const std::string_view> header_lines,
                                      const DeflateConfig& config) {
    ExtensionsResult result;
    for (std::string_view line : header_lines) {
        Reader reader(line);
        while (!reader.at_end()) {
            if (reader.take(',')) continue;
            if (read_extension(reader, config, result)) continue;
            ExtensionsResult malformed;
            malformed.malformed = true;
            return malformed;
        }
    }
    return result;
}

}  // namespace rooms

// Verification of a token, cheapest refusals first, and nothing believed before the signature.
#include "core/token.hpp"

#include <algorithm>
#include <array>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <openssl/crypto.h>

#include "core/base64.hpp"
#include "core/json.hpp"

namespace rooms {
namespace {

using Reason = TokenError::Reason;

struct Segments {
    std::string_view header;
    std::string_view payload;
    std::string_view signature;
    std::string_view signed_text;  // RFC 7515 section 5.2, step 8: as received, never re-encoded
};

std::optional<Segments> split(std::string_view token) {
    const auto first = token.find('.');
    if (first == std::string_view::npos) return std::nullopt;
    const auto second = token.find('.', first + 1);
    if (second == std::string_view::npos) return std::nullopt;
    const Segments segments{token.substr(0, first), token.substr(first + 1, second - first - 1),
                            token.substr(second + 1), token.substr(0, second)};
    if (segments.header.empty() || segments.payload.empty() || segments.signature.empty()) {
        return std::nullopt;
    }
    return segments;  // a third dot is no letter of base64url
}

struct Header {
    std::string algorithm;
    std::optional<std::string> kid;
};

Result<Header, TokenError> read_header(std::string_view text) {
    const auto refuse = [](const char* why) { return TokenError{Reason::bad_header, why}; };
    const auto members = parse_json_object(text, kMaxTokenDepth);
    if (!members) return refuse("the header is not a JSON object without duplicates");
    std::optional<std::string> algorithm;
    std::optional<std::string> kid;
    for (const JsonMember& member : *members) {
        const bool is_string = member.type == JsonType::string;
        const std::string_view name = member.name();
        if (name == "alg") {
            if (!is_string) return refuse("\"alg\" is not a string");
            algorithm = unescape_json(member.raw);
        } else if (name == "typ") {
            if (!is_string) return refuse("\"typ\" is not a string");
        } else if (name == "kid") {
            if (is_string) kid = unescape_json(member.raw);
            if (!kid || !is_kid(*kid)) {
                return refuse("\"kid\" is not 1 to 128 printable characters");
            }
        } else if (name == "crit") {
            // RFC 7515 section 4.1.11: understood by us is none of them, `b64` included.
            return refuse("\"crit\" is not supported");
        }
        const bool sound = holds_throughout({member.type, member.raw}, [](const JsonValue& value) {
            return value.type != JsonType::object || !find_duplicate_member(value.raw);
        });
        if (!sound) return refuse("a header member occurs twice");
    }
    if (!algorithm) return refuse("no \"alg\"");
    return Header{std::move(*algorithm), std::move(kid)};
}

bool is_none(std::string_view name) {
    constexpr std::string_view kNone = "none";
    return std::equal(name.begin(), name.end(), kNone.begin(), kNone.end(),
                      [](char a, char b) { return (a | 0x20) == b; });
}

Result<KeySet::Candidates, TokenError> find_keys(const Header& header, const KeySet& keys) {
    const auto algorithm = parse_algorithm(header.algorithm);
    if (!algorithm) {
        return TokenError{Reason::bad_algorithm, is_none(header.algorithm) ? "unsigned: \"alg\" is none"
                                                                           : "\"alg\" is not supported"};
    }
    const auto found = keys.find(*algorithm, header.kid);
    if (found.count != 0) return found;
    if (keys.find(*algorithm, std::nullopt).count != 0) {
        return TokenError{Reason::unknown_key,
                          "no " + std::string(algorithm_name(*algorithm)) + " key has its \"kid\""};
    }
    return TokenError{Reason::bad_algorithm, "no key for " + std::string(algorithm_name(*algorithm))};
}

std::optional<TokenError> check_signature(const Segments& segments, const KeySet::Candidates& candidates) {
    auto signature = base64url_decode(segments.signature);
    if (!signature) return TokenError{Reason::malformed, "the signature is not base64url"};
    bool failed = false;
    bool good = false;
    for (const Key* key : candidates) {
        const Key::Verdict verdict = key->verify(segments.signed_text, *signature);
        failed = failed || verdict == Key::Verdict::failed;
        good = verdict == Key::Verdict::good;
        if (good) break;
    }
    OPENSSL_cleanse(signature->data(), signature->size());
    if (good) return std::nullopt;
    // That says nothing of the token: whoever has it must not be told that it is bad, and stop.
    if (failed) throw std::bad_alloc();
    return TokenError{Reason::bad_signature, candidates.more
                                                 ? "no \"kid\", and not signed by any of the first " +
                                                       std::to_string(kMaxCandidates) + " keys"
                                                 : std::string("the signature does not match")};
}

}  // namespace

Result<Claims, TokenError> verify_token(std::string_view token, const KeySet& keys, const TokenRules& rules,
                                        std::int64_t now_ms) {
    if (token.size() > kMaxToken) {
        return TokenError{Reason::too_long, "longer than " + std::to_string(kMaxToken) + " bytes"};
    }
    const auto segments = split(token);
    if (!segments) return TokenError{Reason::malformed, "not three segments"};
    const auto header_text = base64url_decode(segments->header);
    if (!header_text) return TokenError{Reason::malformed, "the header is not base64url"};
    const auto header = read_header(*header_text);
    if (!header) return header.error();
    const auto candidates = find_keys(*header, keys);
    if (!candidates) return candidates.error();
    if (auto refused = check_signature(*segments, *candidates)) return *refused;
    const auto payload = base64url_decode(segments->payload);
    if (!payload) return TokenError{Reason::malformed, "the payload is not base64url"};
    return Claims::read(*payload, rules, now_ms);
}

}  // namespace rooms

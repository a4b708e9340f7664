// Header lines of an opening handshake (RFC 6455 section 4.2.1), beside regular expressions over them.
#include "core/handshake.hpp"

#include <openssl/evp.h>
#include <openssl/sha.h>

#include <algorithm>
#include <string>
#include <vector>

#include "fuzz/plain_regex.hpp"

using namespace rooms;

namespace {

constexpr std::size_t kLongest = 1000;  // expressions are slow

using Headers = std::vector<HeaderField>;

// Lines: name:value.
Headers read(std::string_view text) {
    Headers headers;
    for (const std::string_view line : split_plainly(text, '\n')) {
        const std::size_t colon = line.find(':');
        if (colon != line.npos) headers.push_back({line.substr(0, colon), line.substr(colon + 1)});
    }
    return headers;
}

const PlainRegex kWebSocket("(^|,)[ \t]*websocket[ \t]*(,|$)", REG_ICASE);
const PlainRegex kUpgrade("(^|,)[ \t]*upgrade[ \t]*(,|$)", REG_ICASE);
const PlainRegex kVersion("^[ \t]*13[ \t]*$");
const PlainRegex kKey("^[ \t]*([A-Za-z0-9+/]{21}[AQgw]==)[ \t]*$");
const PlainRegex kProtocol("^[ \t]*(" + kTokenChars + "+)[ \t]*$");

std::vector<std::string_view> values(const Headers& headers, std::string_view name) {
    std::vector<std::string_view> result;
    for (const HeaderField& field : headers) {
        if (lower_plainly(field.name) == name) result.push_back(field.value);
    }
    return result;
}

bool one(const Headers& headers, std::string_view name, const PlainRegex& form) {
    const auto found = values(headers, name);
    return found.size() == 1 && form.matches(found[0]);
}

bool any(const Headers& headers, std::string_view name, const PlainRegex& form) {
    const auto found = values(headers, name);
    return std::any_of(found.begin(), found.end(),
                       [&](std::string_view value) { return form.matches(value); });
}

bool is_good(const Headers& headers) {
    return values(headers, "host").size() == 1 && any(headers, "upgrade", kWebSocket) &&
           any(headers, "connection", kUpgrade) && one(headers, "sec-websocket-version", kVersion) &&
           one(headers, "sec-websocket-key", kKey) && values(headers, "origin").size() <= 1;
}

std::string accept_of(std::string_view key) {
    const std::string text = std::string(kKey.match(key)[1]) + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    unsigned char digest[SHA_DIGEST_LENGTH];
    SHA1(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest);
    unsigned char encoded[32];
    return {reinterpret_cast<char*>(encoded),
            static_cast<std::size_t>(EVP_EncodeBlock(encoded, digest, sizeof digest))};
}

std::vector<std::string_view> protocols(const Headers& headers) {
    std::vector<std::string_view> result;
    for (const std::string_view value : values(headers, "sec-websocket-protocol")) {
        for (const std::string_view element : split_plainly(value, ',')) {
            if (const auto groups = kProtocol.match(element); !groups.empty()) result.push_back(groups[1]);
        }
    }
    return result;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), std::min(size, kLongest));
    const Headers headers = read(text);
    const HandshakeResult result = check_handshake({"GET", 1001, headers, false});
    FUZZ_CHECK((result.status == 101) == is_good(headers));
    if (result.status == 101) {
        FUZZ_CHECK(result.accept_value() == accept_of(values(headers, "sec-websocket-key")[0]));
    } else {
        FUZZ_CHECK((result.status == 400 || result.status == 426) && !result.reason.empty());
    }

    std::vector<std::string_view> offered;
    ProtocolList list(headers);
    while (const auto protocol = list.next()) offered.push_back(*protocol);
    FUZZ_CHECK(offered == protocols(headers));
    return 0;
}

// The checks of RFC 6455 section 4.2.1, in the order in which a refusal helps most: first what makes
// it no WebSocket request at all, then what is wrong with it.
#include "core/handshake.hpp"

#include <string>

#include <openssl/err.h>
#include <openssl/evp.h>

#include "core/ascii.hpp"
#include "core/base64.hpp"

namespace rooms {
namespace {

// A token is at most 8 KiB and travels among the subprotocols.
constexpr std::size_t kMaxProtocols = 16 * 1024;
constexpr std::size_t kMaxExtensions = 4 * 1024;

struct Lines {
    std::size_t count = 0;
    std::size_t size = 0;
    std::string_view value;  // of the last, trimmed
};

Lines find(std::span<const HeaderField> headers, std::string_view name) {
    Lines lines;
    for (const HeaderField& field : headers) {
        if (!equal_caseless(field.name, name)) continue;
        ++lines.count;
        lines.size += field.value.size();
        lines.value = trim_ows(field.value);
    }
    return lines;
}

bool list_has(std::span<const HeaderField> headers, std::string_view name, std::string_view word) {
    for (const HeaderField& field : headers) {
        if (!equal_caseless(field.name, name)) continue;
        for (std::string_view list = field.value; !list.empty();)
            if (equal_caseless(take_list_element(list), word)) return true;
    }
    return false;
}

bool is_nonce(std::string_view key) {
    const auto nonce = base64_decode(key);
    return nonce && nonce->size() == 16;
}

HandshakeResult refuse(int status, std::string_view reason) {
    HandshakeResult result;
    result.status = status;
    result.reason = reason;
    result.send_allow = status == 405;
    result.send_upgrade = status == 426;
    return result;
}

HandshakeResult refuse_version(int status, std::string_view reason) {
    HandshakeResult result = refuse(status, reason);
    result.send_version = true;
    return result;
}

// Looked up once: EVP_sha1() is looked up again by each EVP_Digest, which doubles what the digest costs.
const EVP_MD* sha1() {
    static const EVP_MD* const fetched = EVP_MD_fetch(nullptr, "SHA1", nullptr);
    return fetched != nullptr ? fetched : EVP_sha1();
}

HandshakeResult accept(std::string_view key) {
    std::string text(key);
    text += "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    if (EVP_Digest(text.data(), text.size(), digest, &size, sha1(), nullptr) != 1) {
        ERR_clear_error();  // nginx would take it for one of its own
        return refuse(500, "SHA-1 is not to be had");
    }
    HandshakeResult result;
    result.status = 101;
    base64_encode({reinterpret_cast<const char*>(digest), size}).copy(result.accept, sizeof result.accept);
    return result;
}

}  // namespace

HandshakeResult check_handshake(const HandshakeRequest& request) {
    const auto headers = request.headers;
    if (request.method != "GET") return refuse(405, "method is not GET");
    if (request.http_version != 1001) return refuse(400, "not HTTP/1.1");
    if (find(headers, "host").count != 1) return refuse(400, "not exactly one Host");
    if (!list_has(headers, "upgrade", "websocket")) return refuse(400, "Upgrade without websocket");
    if (!list_has(headers, "connection", "upgrade")) return refuse(400, "Connection without Upgrade");
    if (request.has_body) return refuse(400, "request with a body");

    const Lines version = find(headers, "sec-websocket-version");
    if (version.count != 1) return refuse_version(400, "not exactly one Sec-WebSocket-Version");
    if (version.value != "13") return refuse_version(426, "Sec-WebSocket-Version is not 13");

    const Lines key = find(headers, "sec-websocket-key");
    if (key.count != 1) return refuse(400, "not exactly one Sec-WebSocket-Key");
    if (!is_nonce(key.value)) return refuse(400, "Sec-WebSocket-Key is not 16 octets in base64");

    if (find(headers, "origin").count > 1) return refuse(400, "Origin twice");
    if (find(headers, "sec-websocket-protocol").size > kMaxProtocols)
        return refuse(400, "Sec-WebSocket-Protocol too long");
    if (find(headers, "sec-websocket-extensions").size > kMaxExtensions)
        return refuse(400, "Sec-WebSocket-Extensions too long");
    return accept(key.value);
}

std::optional<std::string_view> ProtocolList::next() {
    for (;;) {
        while (!rest_.empty()) {
            const std::string_view element = take_list_element(rest_);
            if (is_token(element)) return element;
        }
        if (headers_.empty()) return std::nullopt;
        if (equal_caseless(headers_.front().name, "sec-websocket-protocol")) rest_ = headers_.front().value;
        headers_ = headers_.subspan(1);
    }
}

bool offers_protocol(std::span<const HeaderField> headers, std::string_view name) {
    ProtocolList list(headers);
    while (const auto protocol = list.next())
        if (*protocol == name) return true;
    return false;
}

std::optional<std::string_view> find_protocol(std::span<const HeaderField> headers, std::string_view prefix) {
    ProtocolList list(headers);
    while (const auto protocol = list.next())
        if (protocol->starts_with(prefix)) return protocol;
    return std::nullopt;
}

}  // namespace rooms

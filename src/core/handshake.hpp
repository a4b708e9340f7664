// The opening handshake, RFC 6455 section 4.2: whether a request may become a WebSocket, and the
// Sec-WebSocket-Accept that says so. Origin, extensions and tokens are checked elsewhere.
//
// Pure: views in, a verdict out. The views must outlive the call, for ProtocolList its own life.
#pragma once

#include <optional>
#include <span>
#include <string_view>

namespace rooms {

struct HeaderField {
    std::string_view name;  // compared without regard to case
    std::string_view value;
};

struct HandshakeRequest {
    std::string_view method;
    int http_version = 0;  // as nginx has it: 1000, 1001, 2000
    // At least every Host, Upgrade, Connection, Origin and Sec-WebSocket-* line of the request, in
    // its order; any others are ignored.
    std::span<const HeaderField> headers;
    bool has_body = false;  // Content-Length > 0 or chunked
};

struct HandshakeResult {
    int status = 400;           // 101, or the 4xx to answer
    std::string_view reason;    // for the log and the answer's body; static
    bool send_version = false;  // add "Sec-WebSocket-Version: 13"
    bool send_upgrade = false;  // add "Upgrade: websocket" (RFC 9110 section 15.5.22)
    bool send_allow = false;    // add "Allow: GET" (RFC 9110 section 15.5.6)
    char accept[28] = {};       // when status is 101

    [[nodiscard]] std::string_view accept_value() const { return {accept, sizeof accept}; }
};

[[nodiscard]] HandshakeResult check_handshake(const HandshakeRequest& request);

// The subprotocols offered, in the client's order of preference, over all Sec-WebSocket-Protocol
// lines. An element that is no token, an empty one included, is passed over; the others still count.
class ProtocolList {
public:
    explicit ProtocolList(std::span<const HeaderField> headers) : headers_(headers) {}

    [[nodiscard]] std::optional<std::string_view> next();

private:
    std::span<const HeaderField> headers_;
    std::string_view rest_;
};

// Case-sensitive, as RFC 6455 section 4.2.2 has it.
[[nodiscard]] bool offers_protocol(std::span<const HeaderField> headers, std::string_view name);

// The first offered element that begins with `prefix`, the prefix included.
[[nodiscard]] std::optional<std::string_view> find_protocol(std::span<const HeaderField> headers,
                                                            std::string_view prefix);

}  // namespace rooms

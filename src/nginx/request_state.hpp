// What the module knows of one HTTP request: its token, the verdict on it, and what the access log
// will say of the socket it became.
//
// Lives in the request's pool, found through the module's context slot, or after an internal redirect
// (which empties that slot) through its pool cleanup. Subrequests share that of their main request.
// Never holds token bytes longer than needed.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/token.hpp"
#include "nginx/conf.hpp"
#include "nginx/ngx.hpp"

namespace rooms {

// unknown: memory was short.
enum class TokenVerdict : std::uint8_t { unread, absent, refused, accepted, unknown };

// What is needed only until the request is a socket. A socket lives for hours: none of this does, nor
// is it in the request's pool, which gives nothing back.
struct Handshake {
    std::string token;                                    // our copy; wiped once the endpoint has its verdict
    std::optional<Claims> claims;                         // REQUIRES accepted
    std::vector<ngx_str_t> in_headers;                    // where else the token stands, until the log phase
    std::vector<std::pair<u_char*, std::string>> hidden;  // while a subrequest is being logged

    Handshake() = default;
    Handshake(const Handshake&) = delete;
    Handshake& operator=(const Handshake&) = delete;
    ~Handshake() { wipe_token(); }
    void wipe_token();
};

struct RequestState {
    std::unique_ptr<Handshake> handshake;  // null once the request is a socket
    TokenVerdict verdict = TokenVerdict::unread;
    TokenError::Reason reason{};                          // REQUIRES refused
    bool token_taken = false;                             // the rewrite phase has looked for it
    const LocationConf* judge = nullptr;                  // whose keys and rules the verdict is by
    std::vector<std::pair<std::string, ngx_str_t>> kept;  // variables, once the claims are dropped

    // for the access log; written before the request's log phase
    std::uint32_t close_code = 0;
    std::uint32_t joined = 0;
    std::uint64_t messages_in = 0;
    std::uint64_t messages_out = 0;
};

// nullptr only where memory ran out.
[[nodiscard]] RequestState* request_state(ngx_http_request_t* r);
// nullptr where there is none yet.
[[nodiscard]] RequestState* find_request_state(ngx_http_request_t* r);

// Rewrite phase: finds the token (rooms_jwt_token, or subprotocol, Authorization, ?token=), copies it
// and overwrites its bytes in the request line, arguments and URI. NGX_DECLINED, or an HTTP error.
ngx_int_t take_token(ngx_http_request_t* r);

// Log phase, before the access log: overwrites what take_token never saw (a request cut off or refused
// earlier), and the token's bytes in the headers. Always NGX_OK.
ngx_int_t scrub_token(ngx_http_request_t* r);

// Log phase, behind the access log: after a subrequest was logged, its main request may still pass the
// token on, so it gets the bytes back. Always NGX_OK.
ngx_int_t restore_token(ngx_http_request_t* r);

// Verifies the token once, lazily; the verdict stays for all locations with the same keys and rules.
// The reason of a refusal goes to the log at info. In a location without keys: unread.
TokenVerdict verify_request(ngx_http_request_t* r);

// The request is a socket now: every variable made of claims gets its value for good, the headers no
// longer show the token, and the handshake's state is dropped.
void drop_handshake(ngx_http_request_t* r);
// Its first step.
void keep_claim_variables(ngx_http_request_t* r);

// Adds the module's variables. NGX_OK or NGX_ERROR.
ngx_int_t add_variables(ngx_conf_t* cf);

}  // namespace rooms

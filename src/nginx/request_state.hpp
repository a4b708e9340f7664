// What the module knows of one HTTP request: its token, the verdict on it, and what the access log
// will say of the socket it became.
//
// Lives in the request's pool, found through the module's context slot, or after an internal redirect
// (which empties that slot) through its pool cleanup. Never holds token bytes longer than needed.
#pragma once

#include <cstdint>
#include <optional>

#include "core/token.hpp"
#include "nginx/conf.hpp"
#include "nginx/ngx.hpp"

namespace rooms {

enum class TokenVerdict : std::uint8_t { unread, absent, refused, accepted };

struct RequestState {
    ngx_str_t token = ngx_null_string;  // our copy; overwritten after the verification
    bool token_taken = false;           // the rewrite phase has looked for it
    TokenVerdict verdict = TokenVerdict::unread;
    std::optional<Claims> claims;       // REQUIRES accepted; dropped after the upgrade

    // for the access log; written before the request's log phase
    std::uint32_t close_code = 0;
    std::uint64_t messages_in = 0;
    std::uint64_t messages_out = 0;
    std::uint32_t joined = 0;
};

// nullptr only where memory ran out.
[[nodiscard]] RequestState* request_state(ngx_http_request_t* r);

// Rewrite phase: finds the token (rooms_jwt_token, or subprotocol, Authorization, ?token=), copies it
// and overwrites its bytes in the request line, arguments and URI. NGX_DECLINED, or an HTTP error.
ngx_int_t take_token(ngx_http_request_t* r);

// Log phase, before the access log: overwrites what take_token never saw (a request cut off or refused
// earlier), and the token's bytes in the headers. Always NGX_OK.
ngx_int_t scrub_token(ngx_http_request_t* r);

// Verifies the token once, lazily; the verdict stays. The reason of a refusal goes to the log at info.
TokenVerdict verify_request(ngx_http_request_t* r);

// Evaluates the module's variables now, for the access log: the claims go with the handshake.
void keep_claim_variables(ngx_http_request_t* r);

// Adds the module's variables. NGX_OK or NGX_ERROR.
ngx_int_t add_variables(ngx_conf_t* cf);

// Puts a filter before the error log's description of requests, so that the line of a request which
// was cut off in the middle does not show its token. Called once the listening sockets are known.
void guard_error_log(ngx_cycle_t* cycle);

}  // namespace rooms

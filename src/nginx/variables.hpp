// The module's variables: $rooms_user, $rooms_claim_NAME and those of `rooms_claim`, which verify the
// request's token when they are first asked for, and what the log says of a socket: $rooms_close_code,
// $rooms_messages_in, $rooms_messages_out, $rooms_joined.
//
// A claim with control characters in it is no value: it could end a header that it is put into.
#pragma once

#include <string_view>

#include "nginx/conf.hpp"
#include "nginx/ngx.hpp"

namespace rooms {

inline constexpr std::string_view kClaimPrefix = "rooms_claim_";

// `claim` has to live as long as the configuration. The fault is logged.
[[nodiscard]] bool add_claim_variable(ngx_conf_t* cf, ClaimVariable& claim);

}  // namespace rooms

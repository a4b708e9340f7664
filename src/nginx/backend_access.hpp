// Who may use an endpoint for backends (`rooms_publish`, `rooms_status`): security.md S57–S61.
//
// Lives in the configuration. With neither secret nor from, only local peers that show no sign of a
// proxy. Without a secret nobody who shows one of a browser. Never tells the client which of the checks failed; the log does.
#pragma once

#include <optional>

#include "core/secret.hpp"
#include "nginx/ngx.hpp"

namespace rooms {

struct BackendAccess {
    std::optional<SecretFile> secret;  // secret=FILE
    ngx_array_t* from = nullptr;       // of ngx_cidr_t, from=CIDR …; null: not given
    const char* directive = "";        // for the log
};

// NGX_OK, or the status to answer: 401 (no or wrong secret) or 403. With secret and from, both count.
[[nodiscard]] ngx_int_t check_backend_access(ngx_http_request_t* r, const BackendAccess& access);

}  // namespace rooms

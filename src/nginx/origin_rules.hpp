// `rooms_origin`: the pages that may open a socket here.
//
// Lives in the configuration. Nothing set: Origin's host and port must be those of Host.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "nginx/ngx.hpp"

namespace rooms {

struct OriginRules {
    bool any = false;
    std::vector<std::string> exact;
#if (NGX_PCRE)
    std::vector<ngx_regex_t*> patterns;  // anchored at both ends
#endif

    // `origin` empty: no such header, which passes.
    [[nodiscard]] bool allows(std::string_view origin, std::string_view host) const;
};

}  // namespace rooms

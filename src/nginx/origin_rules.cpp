// `rooms_origin` applied: exact origins first, then the expressions.
#include "nginx/origin_rules.hpp"

#include "core/origin.hpp"

namespace rooms {

bool OriginRules::allows(std::string_view origin, std::string_view host) const {
    if (origin.empty() || any) return true;
    bool listed = !exact.empty();
    for (const auto& one : exact) {
        if (origin_equals(origin, one)) return true;
    }
#if (NGX_PCRE)
    listed = listed || !patterns.empty();
    ngx_str_t text = ngx_view(origin);
    for (ngx_regex_t* pattern : patterns) {
        if (ngx_regex_exec(pattern, &text, nullptr, 0) >= 0) return true;
    }
#endif
    return !listed && origin_is_host(origin, host);
}

}  // namespace rooms

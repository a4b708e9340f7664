// The words of a directive, taken apart, and the one way to refuse them.
//
// Every refusal names the directive, the word and what would be right; nginx adds file and line.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "nginx/conf.hpp"
#include "nginx/guard.hpp"
#include "nginx/ngx.hpp"

namespace rooms {

// The directive is word 0.
[[nodiscard]] inline std::size_t word_count(const ngx_conf_t* cf) { return cf->args->nelts; }
[[nodiscard]] inline std::string_view word(const ngx_conf_t* cf, std::size_t index) {
    return view(static_cast<ngx_str_t*>(cf->args->elts)[index]);
}

[[nodiscard]] Place place_of(const ngx_conf_t* cf);

// `"rooms_x": WHAT in FILE:LINE`. Both return NGX_CONF_ERROR.
char* refuse(ngx_conf_t* cf, const std::string& what);
// `invalid value "VALUE" in "rooms_x": RIGHT in FILE:LINE`
char* refuse_value(ngx_conf_t* cf, std::string_view value, const std::string& right);
// The same for a place that has been left: `"rooms_x": WHAT in FILE:LINE`.
char* refuse_at(ngx_conf_t* cf, const Place& place, const char* directive, const std::string& what);

inline constexpr char kDuplicate[] = "is duplicate";
inline char* duplicate() { return const_cast<char*>(kDuplicate); }

// Nothing: not of that form, or more than a size_t holds.
[[nodiscard]] std::optional<ngx_msec_t> parse_ms(std::string_view text);         // 10s, 500ms, 1m
[[nodiscard]] std::optional<std::int64_t> parse_seconds(std::string_view text);  // 10s, 1h; no ms
[[nodiscard]] std::optional<std::size_t> parse_bytes(std::string_view text);     // 64k, 1m, 1g
[[nodiscard]] std::optional<std::uint32_t> parse_count(std::string_view text);   // decimal
// What stands behind `name` (which ends with "="); nothing if the word does not begin with it.
[[nodiscard]] std::optional<std::string_view> parameter(std::string_view word, std::string_view name);
[[nodiscard]] std::string lower(std::string_view text);

// ngx_command_t::set of a setter that takes the level, the location, or the http{} conf.
template <char* (*Set)(ngx_conf_t*, Level&)>
char* at_level(ngx_conf_t* cf, ngx_command_t*, void* conf) {
    return guarded(cf->log, conf_error(), [&] { return Set(cf, *static_cast<LocationConf*>(conf)->level); });
}
template <char* (*Set)(ngx_conf_t*, LocationConf&)>
char* at_location(ngx_conf_t* cf, ngx_command_t*, void* conf) {
    return guarded(cf->log, conf_error(), [&] { return Set(cf, *static_cast<LocationConf*>(conf)); });
}
template <char* (*Set)(ngx_conf_t*, MainConf&)>
char* at_http(ngx_conf_t* cf, ngx_command_t*, void* conf) {
    return guarded(cf->log, conf_error(), [&] { return Set(cf, *static_cast<MainConf*>(conf)); });
}

}  // namespace rooms

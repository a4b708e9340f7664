// Times and sizes are read by nginx's own parsers, so that they mean what they mean everywhere.
#include "nginx/conf_values.hpp"

#include "core/ascii.hpp"

namespace rooms {
namespace {

template <typename Number, typename Parse>
std::optional<Number> parse_with(std::string_view text, Parse&& parse) {
    if (text.empty()) return std::nullopt;
    ngx_str_t value = ngx_view(text);
    const auto number = parse(&value);
    if (number == NGX_ERROR) return std::nullopt;
    return static_cast<Number>(number);
}

}  // namespace

Place place_of(const ngx_conf_t* cf) {
    return {std::string(view(cf->conf_file->file.name)), cf->conf_file->line};
}

char* refuse(ngx_conf_t* cf, const std::string& what) {
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"%V\": %s", cf->args->elts, what.c_str());
    return conf_error();
}

char* refuse_value(ngx_conf_t* cf, std::string_view value, const std::string& right) {
    ngx_str_t shown = ngx_view(value);
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid value \"%V\" in \"%V\": %s", &shown, cf->args->elts,
                       right.c_str());
    return conf_error();
}

char* refuse_at(ngx_conf_t* cf, const Place& place, const char* directive, const std::string& what) {
    ngx_log_error(NGX_LOG_EMERG, cf->log, 0, "\"%s\": %s in %s:%ui", directive, what.c_str(),
                  place.file.c_str(), place.line);
    return conf_error();
}

std::optional<ngx_msec_t> parse_ms(std::string_view text) {
    return parse_with<ngx_msec_t>(text, [](ngx_str_t* value) { return ngx_parse_time(value, 0); });
}

std::optional<std::int64_t> parse_seconds(std::string_view text) {
    return parse_with<std::int64_t>(text, [](ngx_str_t* value) { return ngx_parse_time(value, 1); });
}

std::optional<std::size_t> parse_bytes(std::string_view text) {
    return parse_with<std::size_t>(text, [](ngx_str_t* value) { return ngx_parse_offset(value); });
}

std::optional<std::uint32_t> parse_count(std::string_view text) {
    if (text.empty() || text.size() > 9) return std::nullopt;
    std::uint32_t number = 0;
    for (const char c : text) {
        if (!is_digit(c)) return std::nullopt;
        number = number * 10 + static_cast<std::uint32_t>(c - '0');
    }
    return number;
}

std::optional<std::string_view> parameter(std::string_view word, std::string_view name) {
    if (!word.starts_with(name)) return std::nullopt;
    return word.substr(name.size());
}

std::string lower(std::string_view text) {
    std::string result(text);
    for (char& c : result) c = ascii_lower(c);
    return result;
}

}  // namespace rooms

// Origins as text: taken apart strictly, compared caselessly, never resolved or normalised further.
#include "core/origin.hpp"

#include "core/ascii.hpp"

namespace rooms {
namespace {

struct Authority {
    std::string_view host;
    std::uint16_t port = 0;  // 0: none given
};

std::uint16_t default_port(std::string_view scheme) {
    if (equal_caseless(scheme, "http") || equal_caseless(scheme, "ws")) return 80;
    if (equal_caseless(scheme, "https") || equal_caseless(scheme, "wss")) return 443;
    return 0;
}

bool is_scheme(std::string_view text) {
    for (char c : text)
        if (!is_alpha(c) && !is_digit(c) && c != '+' && c != '-' && c != '.') return false;
    return !text.empty() && is_alpha(text.front());
}

bool is_host(std::string_view text) {
    const bool literal = text.size() > 2 && text.front() == '[' && text.back() == ']';
    if (literal) text = text.substr(1, text.size() - 2);
    for (char c : text) {
        const bool hex = is_digit(c) || (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'f');
        const bool name = is_alpha(c) || is_digit(c) || c == '-' || c == '_';
        if (c != '.' && !(literal ? hex || c == ':' : name)) return false;
    }
    return !text.empty();
}

std::optional<std::uint16_t> parse_port(std::string_view text) {
    if (text.empty() || text.size() > 5 || text.front() == '0') return std::nullopt;
    std::uint32_t port = 0;
    for (char c : text) {
        if (!is_digit(c)) return std::nullopt;
        port = port * 10 + static_cast<std::uint32_t>(c - '0');
    }
    if (port > 65535) return std::nullopt;
    return static_cast<std::uint16_t>(port);
}

std::optional<Authority> parse_authority(std::string_view text) {
    Authority authority;
    const std::size_t colon = text.rfind(':');
    const bool has_port = colon != text.npos && !text.ends_with(']');
    if (has_port) {
        const auto port = parse_port(text.substr(colon + 1));
        if (!port) return std::nullopt;
        authority.port = *port;
    }
    authority.host = has_port ? text.substr(0, colon) : text;
    if (!is_host(authority.host)) return std::nullopt;
    return authority;
}

}  // namespace

std::optional<Origin> parse_origin(std::string_view text) {
    const std::size_t mark = text.find("://");
    if (mark == text.npos || !is_scheme(text.substr(0, mark))) return std::nullopt;
    const auto authority = parse_authority(text.substr(mark + 3));
    if (!authority) return std::nullopt;
    Origin origin{text.substr(0, mark), authority->host, authority->port};
    if (origin.port == default_port(origin.scheme)) origin.port = 0;
    return origin;
}

bool origin_is_host(std::string_view origin, std::string_view host) {
    const auto from = parse_origin(origin);
    auto to = parse_authority(host);
    if (!from || !to) return false;
    if (to->port == default_port(from->scheme)) to->port = 0;
    return from->port == to->port && equal_caseless(from->host, to->host);
}

bool origin_equals(std::string_view origin, std::string_view configured) {
    if (origin == "null" || configured == "null") return origin == configured;
    const auto a = parse_origin(origin);
    const auto b = parse_origin(configured);
    return a && b && a->port == b->port && equal_caseless(a->scheme, b->scheme) &&
           equal_caseless(a->host, b->host);
}

}  // namespace rooms

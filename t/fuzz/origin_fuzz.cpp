// Two lines, an Origin and a Host or a configured origin. Beside a regular expression, and origins that are
// compared as texts of one form.
#include "core/origin.hpp"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <string>

#include "fuzz/plain_regex.hpp"

using namespace rooms;

namespace {

constexpr std::size_t kLongest = 300;  // expressions are slow

const std::string kHostAndPort = R"((\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:([1-9][0-9]{0,4}))?$)";
const PlainRegex kOrigin("^([A-Za-z][A-Za-z0-9+.-]*)://" + kHostAndPort);
const PlainRegex kHost("^" + kHostAndPort);

struct Plain {
    std::string scheme;
    std::string host;
    std::string port;  // empty: the scheme's default

    [[nodiscard]] bool fits(const Plain& other) const { return host == other.host && port == other.port; }
};

// Without the port that `scheme` has anyway.
std::optional<Plain> plain(std::string_view scheme, std::string_view host, std::string_view port) {
    if (std::atoi(std::string(port).c_str()) > 65535) return std::nullopt;
    Plain result{lower_plainly(scheme), lower_plainly(host), std::string(port)};
    const bool web = result.scheme == "http" || result.scheme == "ws";
    const bool secure = result.scheme == "https" || result.scheme == "wss";
    if ((web && port == "80") || (secure && port == "443")) result.port.clear();
    return result;
}

std::optional<Plain> plain_origin(std::string_view text) {
    const auto groups = kOrigin.match(text);
    if (groups.empty()) return std::nullopt;
    return plain(groups[1], groups[2], groups[4]);
}

std::optional<Plain> plain_host(std::string_view text, std::string_view scheme) {
    const auto groups = kHost.match(text);
    if (groups.empty()) return std::nullopt;
    return plain(scheme, groups[1], groups[3]);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), std::min(size, kLongest));
    const std::size_t end = text.find('\n');
    const std::string_view first = text.substr(0, end);
    const std::string_view second = end == text.npos ? std::string_view() : text.substr(end + 1);

    const auto ours = parse_origin(first);
    const auto expected = plain_origin(first);
    FUZZ_CHECK(ours.has_value() == expected.has_value());
    if (ours) {
        const std::string port = ours->port == 0 ? std::string() : std::to_string(ours->port);
        FUZZ_CHECK(lower_plainly(ours->scheme) == expected->scheme &&
                   lower_plainly(ours->host) == expected->host);
        FUZZ_CHECK(port == expected->port);
    }

    const auto other = plain_origin(second);
    const bool equal = expected && other && expected->fits(*other) && expected->scheme == other->scheme;
    FUZZ_CHECK(origin_equals(first, second) == (equal || (first == "null" && second == "null")));
    FUZZ_CHECK(origin_equals(second, first) == origin_equals(first, second));

    const auto host = expected ? plain_host(second, expected->scheme) : std::nullopt;
    FUZZ_CHECK(origin_is_host(first, second) == (host && expected->fits(*host)));
    return 0;
}

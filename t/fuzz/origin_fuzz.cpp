// Two lines, an Origin and a Host or a configured origin. The comparison is symmetric, whatever parses equals
// itself, and an origin is at home at its own host and port and at no other host.
#include "core/origin.hpp"

#include <string>

#include "fuzz/split.hpp"

using namespace rooms;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const std::size_t end = text.find('\n');
    const std::string_view first = text.substr(0, end);
    const std::string_view second = end == text.npos ? std::string_view() : text.substr(end + 1);
    FUZZ_CHECK(origin_equals(first, second) == origin_equals(second, first));

    const auto origin = parse_origin(first);
    FUZZ_CHECK(origin_equals(first, first) == (origin.has_value() || first == "null"));
    if (!origin) {
        FUZZ_CHECK(!origin_is_host(first, second));
        return 0;
    }
    FUZZ_CHECK(!origin->host.empty() && origin->host.find_first_of("/@?# \t,") == origin->host.npos);
    const std::string host(origin->host);
    const std::string port = origin->port ? ":" + std::to_string(origin->port) : "";
    FUZZ_CHECK(origin_is_host(first, host + port));
    FUZZ_CHECK(!origin_is_host(first, host + "x" + port));
    if (origin_is_host(first, second)) FUZZ_CHECK(second.size() >= host.size());
    return 0;
}

// Names and families of the signature algorithms (RFC 7518 section 3.1, RFC 8037 section 3.1).
// One table, in the order of the enum.
#include "core/algorithm.hpp"

#include <array>
#include <cstddef>

namespace rooms {
namespace {

struct Entry {
    std::string_view name;
    KeyFamily family;
};

constexpr std::array<Entry, 13> kTable = {{
    {"HS256", KeyFamily::hmac},
    {"HS384", KeyFamily::hmac},
    {"HS512", KeyFamily::hmac},
    {"RS256", KeyFamily::rsa},
    {"RS384", KeyFamily::rsa},
    {"RS512", KeyFamily::rsa},
    {"PS256", KeyFamily::rsa_pss},
    {"PS384", KeyFamily::rsa_pss},
    {"PS512", KeyFamily::rsa_pss},
    {"ES256", KeyFamily::ec},
    {"ES384", KeyFamily::ec},
    {"ES512", KeyFamily::ec},
    {"EdDSA", KeyFamily::okp},
}};
static_assert(kTable.size() == static_cast<std::size_t>(Algorithm::eddsa) + 1);

}  // namespace

std::optional<Algorithm> parse_algorithm(std::string_view name) {
    for (std::size_t i = 0; i < kTable.size(); ++i) {
        if (kTable[i].name == name) return static_cast<Algorithm>(i);
    }
    return std::nullopt;
}

std::string_view algorithm_name(Algorithm algorithm) {
    return kTable[static_cast<std::size_t>(algorithm)].name;
}

KeyFamily key_family(Algorithm algorithm) { return kTable[static_cast<std::size_t>(algorithm)].family; }

}  // namespace rooms

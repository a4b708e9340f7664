// What is encoded is what OpenSSL makes of it. And whatever decodes must encode to the very text it came from:
// no value has two spellings.
#include "core/base64.hpp"

#include <openssl/evp.h>

#include <algorithm>

#include "fuzz/split.hpp"

using namespace rooms;

namespace {

std::string encode_by_openssl(std::string_view bytes) {
    std::string text(bytes.size() / 3 * 4 + 5, '\0');  // with its NUL
    const int size =
        EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                        reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
    text.resize(static_cast<std::size_t>(size));
    return text;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    std::string encoded = encode_by_openssl(text);
    FUZZ_CHECK(base64_encode(text) == encoded && base64_decode(encoded) == text);
    encoded.erase(std::min(encoded.find('='), encoded.size()));
    std::replace(encoded.begin(), encoded.end(), '+', '-');
    std::replace(encoded.begin(), encoded.end(), '/', '_');
    FUZZ_CHECK(base64url_encode(text) == encoded && base64url_decode(encoded) == text);

    if (const auto bytes = base64_decode(text)) FUZZ_CHECK(base64_encode(*bytes) == text);
    if (const auto bytes = base64url_decode(text)) FUZZ_CHECK(base64url_encode(*bytes) == text);
    return 0;
}

// Shared secrets of the HTTP endpoints: SHA-256 of both sides, compared with CRYPTO_memcmp.
#include "core/secret.hpp"

#include <algorithm>
#include <string>

#include <openssl/crypto.h>
#include <openssl/evp.h>

namespace rooms {
namespace {

// The first two are the defaults of the platform that this module replaces; the rest are what
// tutorials and token debuggers print.
constexpr std::string_view kSamples[] = {
    "dev-secret-change-in-production",
    "swarm-internal-dev-key-2024",
    "your-256-bit-secret",
    "your-384-bit-secret",
    "your-512-bit-secret",
    "a-string-secret-at-least-256-bits-long",
    "a-valid-string-secret-that-is-at-least-512-bits-long",
    "qwertyuiopasdfghjklzxcvbnm123456",
    "change-me",
    "changeme",
};

bool sha256(std::string_view text, std::array<unsigned char, 32>& digest) {
    return EVP_Digest(text.data(), text.size(), digest.data(), nullptr, EVP_sha256(), nullptr) == 1;
}

// The next line and the rest behind it.
std::string_view take_line(std::string_view& text) {
    const auto end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    return line;
}

}  // namespace

bool is_sample_secret(std::string_view secret) {
    for (const auto sample : kSamples) {
        if (secret.starts_with(sample)) return true;
    }
    return std::all_of(secret.begin(), secret.end(), [&](char c) { return c == secret.front(); });
}

Result<SecretFile> SecretFile::parse(std::string_view file_bytes) {
    if (file_bytes.empty()) return Error{"the secret file is empty"};
    SecretFile file;
    for (int number = 1; !file_bytes.empty(); ++number) {
        const std::string_view line = take_line(file_bytes);
        const std::string where = "line " + std::to_string(number) + " of the secret file ";
        if (file.count_ == file.digests_.size()) {
            return Error{
                "the secret file has more than two lines; one secret, or two while one is "
                "replaced"};
        }
        if (line.size() < kMinSecret) {
            return Error{where + "has " + std::to_string(line.size()) + " bytes; at least " +
                         std::to_string(kMinSecret) + " are needed"};
        }
        if (is_sample_secret(line)) return Error{where + "is a well-known sample, not a secret"};
        if (!sha256(line, file.digests_[file.count_])) return Error{"out of memory"};
        ++file.count_;
    }
    return file;
}

bool SecretFile::matches(std::string_view presented) const {
    Digest digest;
    if (!sha256(presented, digest)) return false;
    unsigned matched = 0;
    for (std::size_t i = 0; i < count_; ++i) {
        // Every secret is compared, also after a match: which of the two it was does not show.
        matched |= CRYPTO_memcmp(digest.data(), digests_[i].data(), digest.size()) == 0 ? 1U : 0U;
    }
    return matched != 0;
}

}  // namespace rooms

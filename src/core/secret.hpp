// The shared secrets of `rooms_publish secret=FILE` and its kin: one, or two while one is rotated.
//
// Only their SHA-256 is kept. A comparison takes the same time for every presented text of a given
// length, whichever secret it is near to, and says nothing of a secret's length.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

#include "core/result.hpp"

namespace rooms {

inline constexpr std::size_t kMinSecret = 16;  // bytes

class SecretFile {
public:
    // `file_bytes`: one or two lines, each a secret of kMinSecret bytes or more; the end of a line
    // (LF or CR LF) is not part of it. The error never quotes the file.
    static Result<SecretFile> parse(std::string_view file_bytes);

    [[nodiscard]] bool matches(std::string_view presented) const;
    [[nodiscard]] std::size_t size() const { return count_; }

private:
    using Digest = std::array<unsigned char, 32>;

    SecretFile() = default;
    std::array<Digest, 2> digests_{};
    std::size_t count_ = 0;
};

// Secrets that everybody knows: examples from documentation, defaults of the replaced platform (also
// with something appended), and one byte repeated.
[[nodiscard]] bool is_sample_secret(std::string_view secret);

}  // namespace rooms

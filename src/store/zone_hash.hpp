// SipHash-1-3 with 128 bits of result: a keyed hash, so that nobody outside can make rooms, users
// or keys collide. The key is drawn from the zone's seed; results mean nothing in another zone.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace rooms::zone {

struct Hash128 {
    std::uint64_t low, high;
    bool operator==(const Hash128&) const = default;
};

// Text that comes in pieces; each piece goes in with its length, so that "ab"+"c" is not "a"+"bc".
class Hasher {
public:
    explicit Hasher(std::uint64_t seed) {
        const std::uint64_t k0 = spread(seed), k1 = spread(seed + 1);
        v0_ = k0 ^ 0x736f6d6570736575;
        v1_ = k1 ^ 0x646f72616e646f6d ^ 0xee;
        v2_ = k0 ^ 0x6c7967656e657261;
        v3_ = k1 ^ 0x7465646279746573;
    }

    void add(std::string_view text) {
        const char* at = text.data();
        std::size_t left = text.size();
        std::uint64_t word;
        for (; left >= 8; left -= 8, at += 8) {
            std::memcpy(&word, at, 8);
            mix(word);
        }
        word = 0;
        if (left) std::memcpy(&word, at, left);
        mix(word | std::uint64_t{text.size()} << 56);
    }

    [[nodiscard]] Hash128 finish() {
        v2_ ^= 0xee;
        round(), round(), round();
        const std::uint64_t low = v0_ ^ v1_ ^ v2_ ^ v3_;
        v1_ ^= 0xdd;
        round(), round(), round();
        return {low, v0_ ^ v1_ ^ v2_ ^ v3_};
    }

    // A bijection of 64 bits: different numbers stay different.
    [[nodiscard]] static std::uint64_t spread(std::uint64_t n) {
        n += 0x9e3779b97f4a7c15;
        n = (n ^ n >> 30) * 0xbf58476d1ce4e5b9;
        n = (n ^ n >> 27) * 0x94d049bb133111eb;
        return n ^ n >> 31;
    }

private:
    void mix(std::uint64_t word) {
        v3_ ^= word;
        round();
        v0_ ^= word;
    }
    void round() {
        v0_ += v1_, v1_ = std::rotl(v1_, 13), v1_ ^= v0_, v0_ = std::rotl(v0_, 32);
        v2_ += v3_, v3_ = std::rotl(v3_, 16), v3_ ^= v2_;
        v0_ += v3_, v3_ = std::rotl(v3_, 21), v3_ ^= v0_;
        v2_ += v1_, v1_ = std::rotl(v1_, 17), v1_ ^= v2_, v2_ = std::rotl(v2_, 32);
    }

    std::uint64_t v0_, v1_, v2_, v3_;
};

inline Hash128 hash_of(std::uint64_t seed, std::string_view text) {
    Hasher hasher(seed);
    hasher.add(text);
    return hasher.finish();
}

}  // namespace rooms::zone

// One verification key, parsed once: an algorithm, the key it belongs to, and maybe a kid.
//
// A key has exactly one algorithm, chosen by the configuration: a token cannot turn an RSA key into
// an HMAC secret by naming another (RFC 8725 section 3.1). The OpenSSL context is prepared here, so
// that a verification copies it and fetches nothing. Secrets are kept by OpenSSL only, which
// cleanses them. Owned by a KeySet; movable, immutable. Never holds or accepts a private key.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "core/algorithm.hpp"
#include "core/result.hpp"

struct evp_md_ctx_st;
struct evp_pkey_st;

namespace rooms {

inline constexpr std::size_t kMinHmacSecret = 32;  // bytes, RFC 7518 section 3.2
inline constexpr int kMinRsaBits = 2048;           // RFC 7518 section 3.3
inline constexpr int kMaxRsaBits = 8192;           // a verification must not take milliseconds
inline constexpr std::size_t kMaxKid = 128;        // bytes, printable ASCII

class Key {
public:
    enum class Verdict : std::uint8_t { good, bad, failed };  // failed: no memory

    // `file_bytes`: what `rooms_jwt_key ALG FILE` names, whole. HS*: the secret, without its last
    // newline. Others: a PEM public key. The error is a sentence that never quotes the file.
    // An empty kid: the key has none.
    static Result<Key> from_file_text(Algorithm algorithm, std::string_view file_bytes, std::string kid = {});

    // HS* only. REQUIRES: key_family(algorithm) == KeyFamily::hmac. All bytes of `secret` count.
    static Result<Key> from_secret(Algorithm algorithm, std::string_view secret, std::string kid = {});

    struct PkeyFree {
        void operator()(evp_pkey_st* pkey) const;
    };
    using Pkey = std::unique_ptr<evp_pkey_st, PkeyFree>;
    // All but HS*. REQUIRES: pkey. Checks that it is a sound key of the algorithm's kind and size.
    static Result<Key> from_pkey(Algorithm algorithm, Pkey pkey, std::string kid = {});

    [[nodiscard]] Algorithm algorithm() const { return algorithm_; }
    [[nodiscard]] const std::string& kid() const { return kid_; }  // empty: none

    // `signature` as decoded from the token, of exactly the length that the key gives; for ES* the two
    // numbers r and s of RFC 7518 section 3.4.
    [[nodiscard]] Verdict verify(std::string_view signed_text, std::string_view signature) const;

private:
    struct DigestFree {
        void operator()(evp_md_ctx_st* context) const;
    };

    Key(Algorithm algorithm, std::string kid) : algorithm_(algorithm), kid_(std::move(kid)) {}
    [[nodiscard]] Verdict verify_mac(std::string_view signed_text, std::string_view mac) const;
    [[nodiscard]] Verdict verify_signature(std::string_view signed_text, std::string_view signature) const;

    using Digest = std::unique_ptr<evp_md_ctx_st, DigestFree>;

    Algorithm algorithm_;
    std::string kid_;
    Digest inner_;                    // HS*: HMAC's two hashes, each with its block of the key
    Digest outer_;                    //
    Digest verifier_;                 // others: initialised, no input yet
    std::size_t signature_size_ = 0;  // others: that of every signature
};

// A kid that may be compared and written into a message: 1..kMaxKid bytes of printable ASCII.
[[nodiscard]] bool is_kid(std::string_view text);

}  // namespace rooms

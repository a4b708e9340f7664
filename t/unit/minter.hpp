// Mints tokens of every algorithm with OpenSSL alone, for the tests of the verifier.
//
// Nothing here uses the code under test but base64url_encode. A Signer owns a private key; what a
// test wants wrong (header, payload, segments, signature) it writes itself.
#pragma once

#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "core/algorithm.hpp"
#include "core/base64.hpp"
#include "core/freed.hpp"

namespace minter {

using rooms::Algorithm;
using rooms::KeyFamily;
using Pkey = std::shared_ptr<EVP_PKEY>;

inline const std::string kSecret = "a secret that only this test knows, 48 bytes....";

constexpr Algorithm kAllAlgorithms[] = {
    Algorithm::hs256, Algorithm::hs384, Algorithm::hs512, Algorithm::rs256, Algorithm::rs384,
    Algorithm::rs512, Algorithm::ps256, Algorithm::ps384, Algorithm::ps512, Algorithm::es256,
    Algorithm::es384, Algorithm::es512, Algorithm::eddsa};

inline void require(bool condition) {
    if (!condition) std::abort();  // the test's own tools are broken
}

inline Pkey generate(const char* type, const char* curve = nullptr, unsigned bits = 2048) {
    EVP_PKEY* pkey = std::string_view(type) == "RSA"
                         ? EVP_PKEY_Q_keygen(nullptr, nullptr, type, std::size_t{bits})
                     : curve ? EVP_PKEY_Q_keygen(nullptr, nullptr, type, curve)
                             : EVP_PKEY_Q_keygen(nullptr, nullptr, type);
    require(pkey != nullptr);
    return {pkey, EVP_PKEY_free};
}

// One RSA key for all: under valgrind each takes half a minute to find.
inline const Pkey& shared_rsa() {
    static const auto* const pkey = new Pkey(generate("RSA"));
    return *pkey;
}

inline std::string from_bio(const std::unique_ptr<BIO, rooms::Freed<BIO_free>>& bio) {
    char* data = nullptr;
    const long size = BIO_get_mem_data(bio.get(), &data);
    return {data, static_cast<std::size_t>(size)};
}

inline std::string public_pem(const Pkey& pkey) {
    const std::unique_ptr<BIO, rooms::Freed<BIO_free>> bio(BIO_new(BIO_s_mem()));
    require(PEM_write_bio_PUBKEY(bio.get(), pkey.get()) == 1);
    return from_bio(bio);
}

inline std::string private_pem(const Pkey& pkey) {
    const std::unique_ptr<BIO, rooms::Freed<BIO_free>> bio(BIO_new(BIO_s_mem()));
    require(PEM_write_bio_PrivateKey(bio.get(), pkey.get(), nullptr, nullptr, 0, nullptr, nullptr) == 1);
    return from_bio(bio);
}

inline const EVP_MD* hash_of(Algorithm algorithm) {
    switch (rooms::algorithm_name(algorithm).back()) {
        case '6': return EVP_sha256();
        case '4': return EVP_sha384();
        case '2': return EVP_sha512();
        default: return nullptr;  // EdDSA
    }
}

inline std::string hmac(const EVP_MD* hash, std::string_view secret, std::string_view text) {
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    require(HMAC(hash, secret.data(), static_cast<int>(secret.size()),
                 reinterpret_cast<const unsigned char*>(text.data()), text.size(), mac, &size) != nullptr);
    return {reinterpret_cast<char*>(mac), size};
}

// r and s of RFC 7518 section 3.4.
inline std::string raw_signature(std::string_view der, std::size_t number) {
    const auto* at = reinterpret_cast<const unsigned char*>(der.data());
    ECDSA_SIG* parsed = d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(der.size()));
    require(parsed != nullptr);
    std::string raw(2 * number, '\0');
    auto* out = reinterpret_cast<unsigned char*>(raw.data());
    const int size = static_cast<int>(number);
    require(BN_bn2binpad(ECDSA_SIG_get0_r(parsed), out, size) == size);
    require(BN_bn2binpad(ECDSA_SIG_get0_s(parsed), out + number, size) == size);
    ECDSA_SIG_free(parsed);
    return raw;
}

class Signer {
public:
    // `pkey` may be left out: a key of the right kind is made, or for RSA taken.
    explicit Signer(Algorithm algorithm, Pkey pkey = nullptr)
        : algorithm_(algorithm), pkey_(std::move(pkey)) {
        if (pkey_) return;
        switch (rooms::key_family(algorithm)) {
            case KeyFamily::hmac: break;
            case KeyFamily::rsa:
            case KeyFamily::rsa_pss: pkey_ = shared_rsa(); break;
            case KeyFamily::ec: pkey_ = generate("EC", curve()); break;
            case KeyFamily::okp: pkey_ = generate("ED25519"); break;
        }
    }

    [[nodiscard]] Algorithm algorithm() const { return algorithm_; }
    [[nodiscard]] std::string name() const { return std::string(rooms::algorithm_name(algorithm_)); }
    [[nodiscard]] const Pkey& pkey() const { return pkey_; }
    [[nodiscard]] const char* curve() const {
        return algorithm_ == Algorithm::es256 ? "P-256" : algorithm_ == Algorithm::es384 ? "P-384" : "P-521";
    }
    [[nodiscard]] std::size_t number() const {
        return algorithm_ == Algorithm::es256 ? 32 : algorithm_ == Algorithm::es384 ? 48 : 66;
    }
    // What the verifier's file holds.
    [[nodiscard]] std::string key_file() const { return pkey_ ? public_pem(pkey_) : kSecret + "\n"; }

    // DER for ES*, as OpenSSL makes it; else what belongs into the token.
    [[nodiscard]] std::string sign_der(std::string_view text) const {
        const std::unique_ptr<EVP_MD_CTX, rooms::Freed<EVP_MD_CTX_free>> context(EVP_MD_CTX_new());
        EVP_PKEY_CTX* options = nullptr;
        require(EVP_DigestSignInit(context.get(), &options, hash_of(algorithm_), nullptr, pkey_.get()) == 1);
        if (rooms::key_family(algorithm_) == KeyFamily::rsa_pss) {
            require(EVP_PKEY_CTX_set_rsa_padding(options, RSA_PKCS1_PSS_PADDING) == 1);
            require(EVP_PKEY_CTX_set_rsa_pss_saltlen(options, salt_) == 1);
        }
        std::string signature(1024, '\0');
        std::size_t size = signature.size();
        require(EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(signature.data()), &size,
                               reinterpret_cast<const unsigned char*>(text.data()), text.size()) == 1);
        signature.resize(size);
        return signature;
    }

    [[nodiscard]] std::string sign(std::string_view text) const {
        if (!pkey_) return hmac(hash_of(algorithm_), kSecret, text);
        const std::string signature = sign_der(text);
        return rooms::key_family(algorithm_) == KeyFamily::ec ? raw_signature(signature, number())
                                                              : signature;
    }

    [[nodiscard]] std::string header(std::string_view more = {}) const {
        return R"({"alg":")" + name() + R"(","typ":"JWT")" + std::string(more) + "}";
    }
    // A token with these two texts, properly signed.
    [[nodiscard]] std::string mint(std::string_view payload) const { return mint(header(), payload); }
    [[nodiscard]] std::string mint(std::string_view header, std::string_view payload) const {
        return sealed(rooms::base64url_encode(header) + "." + rooms::base64url_encode(payload));
    }
    // The same for segments that are encoded already.
    [[nodiscard]] std::string sealed(const std::string& signed_text) const {
        return signed_text + "." + rooms::base64url_encode(sign(signed_text));
    }

    void set_pss_salt(int length) { salt_ = length; }

private:
    Algorithm algorithm_;
    Pkey pkey_;
    int salt_ = RSA_PSS_SALTLEN_DIGEST;
};

}  // namespace minter

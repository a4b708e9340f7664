// Verification keys on OpenSSL 3: HMAC over its hashes for HS*, EVP_DigestVerify for all others.
//
// EVP_DigestVerifyInit and EVP_DigestInit look algorithms up and take locks; copying a context that
// has been initialised does not, hence the templates. nginx reports whatever it finds in OpenSSL's
// error queue as a fault of the next TLS connection, so every road out of here empties the queue.
#include "core/key.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <utility>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "core/freed.hpp"
#include "core/secret.hpp"

namespace rooms {
namespace {

constexpr std::size_t kMaxHashBlock = 128;  // of SHA-384 and SHA-512, RFC 6234 section 1

class EmptyErrorQueue {
public:
    EmptyErrorQueue() = default;
    EmptyErrorQueue(const EmptyErrorQueue&) = delete;
    EmptyErrorQueue& operator=(const EmptyErrorQueue&) = delete;
    ~EmptyErrorQueue() { ERR_clear_error(); }
};

using Bio = std::unique_ptr<BIO, Freed<BIO_free>>;
using Md = std::unique_ptr<EVP_MD, Freed<EVP_MD_free>>;
using PkeyContext = std::unique_ptr<EVP_PKEY_CTX, Freed<EVP_PKEY_CTX_free>>;

// What an algorithm asks of its hash and curve; `number` is the size of r and of s in an ES
// signature (RFC 7518 section 3.4).
struct Shape {
    const char* hash;
    const char* curve;
    const char* curve_name;
    std::size_t number;
};

Shape shape_of(Algorithm algorithm) {
    switch (algorithm) {
        case Algorithm::hs256:
        case Algorithm::rs256:
        case Algorithm::ps256: return {"SHA256", nullptr, nullptr, 0};
        case Algorithm::hs384:
        case Algorithm::rs384:
        case Algorithm::ps384: return {"SHA384", nullptr, nullptr, 0};
        case Algorithm::hs512:
        case Algorithm::rs512:
        case Algorithm::ps512: return {"SHA512", nullptr, nullptr, 0};
        case Algorithm::es256: return {"SHA256", "prime256v1", "P-256", 32};
        case Algorithm::es384: return {"SHA384", "secp384r1", "P-384", 48};
        case Algorithm::es512: return {"SHA512", "secp521r1", "P-521", 66};
        case Algorithm::eddsa: return {nullptr, nullptr, nullptr, 0};
    }
    return {nullptr, nullptr, nullptr, 0};
}

std::size_t signature_size(Algorithm algorithm, const EVP_PKEY* pkey) {
    // Of an EC key it would be the most that DER takes.
    if (key_family(algorithm) == KeyFamily::ec) return 2 * shape_of(algorithm).number;
    return static_cast<std::size_t>(EVP_PKEY_get_size(pkey));
}

const unsigned char* bytes_of(std::string_view text) {
    return reinterpret_cast<const unsigned char*>(text.data());
}

Error out_of_memory() { return Error{"out of memory"}; }

std::string name_of(Algorithm algorithm) { return std::string(algorithm_name(algorithm)); }

std::optional<Error> check_kid(std::string_view kid) {
    if (kid.empty() || is_kid(kid)) return std::nullopt;
    return Error{"a kid has 1 to " + std::to_string(kMaxKid) + " printable ASCII characters"};
}

// One of the two hashes of HMAC (RFC 2104 section 2): its first block is the secret, or the hash of one that
// is longer, XORed with `pad`. Null where memory ran out.
EVP_MD_CTX* begin_hmac(const EVP_MD* md, std::string_view secret, unsigned char pad) {
    std::array<unsigned char, kMaxHashBlock> block{};
    const auto size = static_cast<std::size_t>(EVP_MD_get_block_size(md));
    std::unique_ptr<EVP_MD_CTX, Freed<EVP_MD_CTX_free>> context(EVP_MD_CTX_new());
    bool begun = context != nullptr;
    if (secret.size() <= size) {
        std::copy(secret.begin(), secret.end(), block.begin());
    } else {
        begun = begun && EVP_Digest(secret.data(), secret.size(), block.data(), nullptr, md, nullptr) == 1;
    }
    for (unsigned char& byte : block) byte ^= pad;
    begun = begun && EVP_DigestInit_ex(context.get(), md, nullptr) == 1 &&
            EVP_DigestUpdate(context.get(), block.data(), size) == 1;
    OPENSSL_cleanse(block.data(), block.size());
    return begun ? context.release() : nullptr;
}

std::optional<Error> check_rsa(Algorithm algorithm, const EVP_PKEY* pkey) {
    // An RSA-PSS key says itself that it is not for PKCS#1 v1.5.
    const bool pss = key_family(algorithm) == KeyFamily::rsa_pss;
    if (!EVP_PKEY_is_a(pkey, "RSA") && !(pss && EVP_PKEY_is_a(pkey, "RSA-PSS"))) {
        return Error{name_of(algorithm) + " needs an RSA key"};
    }
    const int bits = EVP_PKEY_get_bits(pkey);
    if (bits < kMinRsaBits || bits > kMaxRsaBits) {
        return Error{"an RSA key of " + std::to_string(bits) + " bits; between " +
                     std::to_string(kMinRsaBits) + " and " + std::to_string(kMaxRsaBits) + " are accepted"};
    }
    return std::nullopt;
}

std::optional<Error> check_ec(Algorithm algorithm, const EVP_PKEY* pkey) {
    const Shape shape = shape_of(algorithm);
    if (!EVP_PKEY_is_a(pkey, "EC")) {
        return Error{name_of(algorithm) + " needs an EC key on " + shape.curve_name};
    }
    // Parameters spelt out could be those of a curve of the writer's own (CVE-2020-0601).
    int is_explicit = 0;
    std::array<char, 64> curve{};
    if (EVP_PKEY_get_int_param(pkey, OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS, &is_explicit) != 1 ||
        is_explicit != 0 ||
        EVP_PKEY_get_utf8_string_param(pkey, OSSL_PKEY_PARAM_GROUP_NAME, curve.data(), curve.size(),
                                       nullptr) != 1) {
        return Error{"an EC key without a named curve"};
    }
    if (std::string_view(curve.data()) != shape.curve) {
        return Error{name_of(algorithm) + " needs an EC key on " + shape.curve_name + ", this is " +
                     curve.data()};
    }
    return std::nullopt;
}

std::optional<Error> check_pkey(Algorithm algorithm, EVP_PKEY* pkey) {
    std::optional<Error> error;
    switch (key_family(algorithm)) {
        case KeyFamily::hmac: return Error{name_of(algorithm) + " needs a secret"};
        case KeyFamily::rsa:
        case KeyFamily::rsa_pss: error = check_rsa(algorithm, pkey); break;
        case KeyFamily::ec: error = check_ec(algorithm, pkey); break;
        case KeyFamily::okp:
            if (!EVP_PKEY_is_a(pkey, "ED25519") && !EVP_PKEY_is_a(pkey, "ED448")) {
                error = Error{"EdDSA needs an Ed25519 or Ed448 key"};
            }
            break;
    }
    if (error) return error;
    const PkeyContext context(EVP_PKEY_CTX_new(pkey, nullptr));
    if (!context) return out_of_memory();
    if (EVP_PKEY_public_check(context.get()) != 1) return Error{"an unsound key"};
    return std::nullopt;
}

// Says any of OpenSSL's errors. It empties their queue.
bool memory_was_short() {
    bool found = false;
    while (const unsigned long error = ERR_get_error()) {
        found = found || ERR_GET_REASON(error) == ERR_R_MALLOC_FAILURE;
    }
    return found;
}

// DER of one INTEGER (X.690 section 8.3) from a number of fixed size. Returns its end.
unsigned char* put_integer(unsigned char* out, std::string_view number) {
    while (number.size() > 1 && number.front() == '\0') number.remove_prefix(1);
    const bool high = (static_cast<unsigned char>(number.front()) & 0x80) != 0;
    *out++ = 0x02;
    *out++ = static_cast<unsigned char>(number.size() + (high ? 1 : 0));
    if (high) *out++ = 0;
    std::memcpy(out, number.data(), number.size());
    return out + number.size();
}

// ECDSA-Sig-Value (RFC 3279 section 2.2.3), which is what OpenSSL verifies.
struct DerSignature {
    std::array<unsigned char, 3 + 2 * (3 + 66)> bytes;
    std::size_t size;
};

DerSignature der_signature(std::string_view r_and_s) {
    const std::size_t half = r_and_s.size() / 2;
    std::array<unsigned char, 2 * (3 + 66)> integers;
    unsigned char* end = put_integer(integers.data(), r_and_s.substr(0, half));
    end = put_integer(end, r_and_s.substr(half));
    const auto length = static_cast<std::size_t>(end - integers.data());

    DerSignature der;
    unsigned char* out = der.bytes.data();
    *out++ = 0x30;
    if (length >= 0x80) *out++ = 0x81;
    *out++ = static_cast<unsigned char>(length);
    std::memcpy(out, integers.data(), length);
    der.size = static_cast<std::size_t>(out - der.bytes.data()) + length;
    return der;
}

}  // namespace

void Key::PkeyFree::operator()(evp_pkey_st* pkey) const { EVP_PKEY_free(pkey); }
void Key::DigestFree::operator()(evp_md_ctx_st* context) const { EVP_MD_CTX_free(context); }

bool is_kid(std::string_view text) {
    return !text.empty() && text.size() <= kMaxKid &&
           std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c <= 0x7e; });
}

Result<Key> Key::from_file_text(Algorithm algorithm, std::string_view file_bytes, std::string kid) {
    const bool pem = file_bytes.find("-----BEGIN") != std::string_view::npos;
    if (key_family(algorithm) == KeyFamily::hmac) {
        // A public key as an HMAC secret is a secret that everybody has.
        if (pem) return Error{name_of(algorithm) + " takes a secret, and this is a PEM key"};
        if (file_bytes.ends_with('\n')) file_bytes.remove_suffix(1);
        if (file_bytes.ends_with('\r')) file_bytes.remove_suffix(1);
        return from_secret(algorithm, file_bytes, std::move(kid));
    }
    if (!pem) return Error{"no PEM public key (\"-----BEGIN PUBLIC KEY-----\")"};
    if (file_bytes.find("PRIVATE KEY-----") != std::string_view::npos) {
        return Error{
            "a private key; only the public one belongs here "
            "(openssl pkey -in FILE -pubout)"};
    }
    if (file_bytes.find("BEGIN CERTIFICATE") != std::string_view::npos) {
        return Error{
            "a certificate; its public key is wanted "
            "(openssl x509 -in FILE -pubkey -noout)"};
    }
    if (file_bytes.find("-----BEGIN") != file_bytes.rfind("-----BEGIN")) {
        return Error{"more than one PEM key; one file, one key"};
    }
    const EmptyErrorQueue guard;
    const Bio bio(BIO_new_mem_buf(file_bytes.data(), static_cast<int>(file_bytes.size())));
    if (!bio) return out_of_memory();
    Pkey pkey(PEM_read_bio_PUBKEY(bio.get(), nullptr, nullptr, nullptr));
    if (!pkey) return Error{"no readable PEM public key"};
    return from_pkey(algorithm, std::move(pkey), std::move(kid));
}

Result<Key> Key::from_secret(Algorithm algorithm, std::string_view secret, std::string kid) {
    if (auto error = check_kid(kid)) return *error;
    if (secret.size() < kMinHmacSecret) {
        return Error{"a secret of " + std::to_string(secret.size()) + " bytes; at least " +
                     std::to_string(kMinHmacSecret) + " are needed"};
    }
    if (is_sample_secret(secret)) return Error{"a well-known sample, not a secret"};

    const EmptyErrorQueue guard;
    Key key(algorithm, std::move(kid));
    const Md md(EVP_MD_fetch(nullptr, shape_of(algorithm).hash, nullptr));
    if (!md) return out_of_memory();
    key.inner_.reset(begin_hmac(md.get(), secret, 0x36));
    key.outer_.reset(begin_hmac(md.get(), secret, 0x5c));
    if (!key.inner_ || !key.outer_) return out_of_memory();
    return key;
}

Result<Key> Key::from_pkey(Algorithm algorithm, Pkey pkey, std::string kid) {
    const EmptyErrorQueue guard;
    if (auto error = check_kid(kid)) return *error;
    if (auto error = check_pkey(algorithm, pkey.get())) return *error;

    Key key(algorithm, std::move(kid));
    key.signature_size_ = signature_size(algorithm, pkey.get());
    key.verifier_.reset(EVP_MD_CTX_new());
    if (!key.verifier_) return out_of_memory();
    EVP_PKEY_CTX* context = nullptr;  // belongs to the verifier
    if (EVP_DigestVerifyInit_ex(key.verifier_.get(), &context, shape_of(algorithm).hash, nullptr, nullptr,
                                pkey.get(), nullptr) != 1) {
        return Error{"OpenSSL cannot verify " + name_of(algorithm) + " with this key"};
    }
    if (key_family(algorithm) == KeyFamily::rsa_pss &&
        (EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PSS_PADDING) != 1 ||
         // RFC 7518 section 3.5: the salt is as long as the hash, no other length is valid.
         EVP_PKEY_CTX_set_rsa_pss_saltlen(context, RSA_PSS_SALTLEN_DIGEST) != 1)) {
        return Error{"this RSA-PSS key does not allow " + name_of(algorithm)};
    }
    return key;
}

Key::Verdict Key::verify(std::string_view signed_text, std::string_view signature) const {
    const EmptyErrorQueue guard;
    return inner_ ? verify_mac(signed_text, signature) : verify_signature(signed_text, signature);
}

// Both hashes of RFC 2104 begin with the key, and its section 4 has them kept from there on. A copy of an
// EVP_MAC is half a dozen contexts: it took 0.8 µs for a token, and this takes 0.35.
Key::Verdict Key::verify_mac(std::string_view signed_text, std::string_view mac) const {
    const Digest context(EVP_MD_CTX_new());
    std::array<unsigned char, EVP_MAX_MD_SIZE> expected;
    unsigned size = 0;
    const auto hash = [&](const Digest& begun, const void* data, std::size_t length) {
        return EVP_MD_CTX_copy_ex(context.get(), begun.get()) == 1 &&
               EVP_DigestUpdate(context.get(), data, length) == 1 &&
               EVP_DigestFinal_ex(context.get(), expected.data(), &size) == 1;
    };
    const bool made = context && hash(inner_, signed_text.data(), signed_text.size()) &&
                      hash(outer_, expected.data(), size);
    const bool good = made && mac.size() == size && CRYPTO_memcmp(mac.data(), expected.data(), size) == 0;
    OPENSSL_cleanse(expected.data(), expected.size());
    return !made ? Verdict::failed : good ? Verdict::good : Verdict::bad;
}

Key::Verdict Key::verify_signature(std::string_view signed_text, std::string_view signature) const {
    // OpenSSL leaves that to us: PSS takes an RSA signature without its leading zeros (RFC 8017 section 8.1.2).
    if (signature.size() != signature_size_) return Verdict::bad;
    DerSignature der;
    if (key_family(algorithm_) == KeyFamily::ec) {
        der = der_signature(signature);
        signature = {reinterpret_cast<const char*>(der.bytes.data()), der.size};
    }
    const Digest context(EVP_MD_CTX_new());
    if (!context || EVP_MD_CTX_copy_ex(context.get(), verifier_.get()) != 1) {
        return Verdict::failed;
    }
    ERR_clear_error();
    const int result = EVP_DigestVerify(context.get(), bytes_of(signature), signature.size(),
                                        bytes_of(signed_text), signed_text.size());
    if (result == 1) return Verdict::good;
    return memory_was_short() ? Verdict::failed : Verdict::bad;
}

}  // namespace rooms

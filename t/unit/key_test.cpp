// core/key and core/key_set: what a key file may hold, and which keys a token may be tried with.
#include <string>
#include <string_view>
#include <vector>

#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/hmac.h>
#include <openssl/param_build.h>

#include "core/key.hpp"
#include "core/key_set.hpp"
#include "unit/minter.hpp"

#include "cmocka.hpp"

using namespace std::literals;
using minter::Signer;
using rooms::Algorithm;
using rooms::Key;
using rooms::KeyFamily;
using rooms::KeySet;

namespace {

constexpr std::string_view kRsa3072 =
    "-----BEGIN PUBLIC KEY-----\n"
    "MIIBojANBgkqhkiG9w0BAQEFAAOCAY8AMIIBigKCAYEAyhuF2gYFIW4RTd3jGQTX\n"
    "PeFnO4MkoQz2fr+ArnmWY6FnG1rpJLzrcfERnGdtfaX2YTg85v1bieotL+vLFwIo\n"
    "fSD93u7XmKWVu8C+hBJmeU513kR1SJqBkQLa3IvpEAmQhbGtWz89d5HFS1KiZUe8\n"
    "EaXjfYw6HVjBxdo9V8Wg701aDtgdN3Wd0MoQxR7S8cZZm64toLCXu/2c+GkUDs1f\n"
    "HOJWpFC0XDWBlrHZZO+U4d5Z6VWzzoYgMlfmFKAkN3GkeT+51uwE4l52aVr0haWi\n"
    "CQ9yeAbmfAXFU1Ni9Qbc8IrIYcHAoeLNPSzHlyoz6i5XFPj93xAf4NueP6zqMEWU\n"
    "d9Eb8Afta+YxZXMgj90+eiOE+LgCK01cifsaJ4rC0aDCOY+fH/ym8nQnQeNBNG2s\n"
    "vd5Xbu0rPpJLc/e4TpaihA+16L3qo5IkqFpY8KLXo4ljlHBr0veMZVLFWXWbQr1B\n"
    "b4rTmBxMs7R5m1G0/E4zzDsxqnZtKt7EvHu557+6lD0nAgMBAAE=\n"
    "-----END PUBLIC KEY-----\n";

// A modulus of this many bits, of which nothing else is asked.
std::string rsa_pem(int bits) {
    const std::unique_ptr<BIGNUM, rooms::Freed<BN_free>> n(BN_new());
    minter::require(BN_set_bit(n.get(), bits - 1) == 1 && BN_set_bit(n.get(), 0) == 1);
    const std::unique_ptr<OSSL_PARAM_BLD, rooms::Freed<OSSL_PARAM_BLD_free>> builder(OSSL_PARAM_BLD_new());
    minter::require(OSSL_PARAM_BLD_push_BN(builder.get(), "n", n.get()) == 1 &&
                    OSSL_PARAM_BLD_push_uint(builder.get(), "e", 65537) == 1);
    const std::unique_ptr<OSSL_PARAM, rooms::Freed<OSSL_PARAM_free>> params(
        OSSL_PARAM_BLD_to_param(builder.get()));
    const std::unique_ptr<EVP_PKEY_CTX, rooms::Freed<EVP_PKEY_CTX_free>> context(
        EVP_PKEY_CTX_new_from_name(nullptr, "RSA", nullptr));
    EVP_PKEY* pkey = nullptr;
    minter::require(EVP_PKEY_fromdata_init(context.get()) == 1 &&
                    EVP_PKEY_fromdata(context.get(), &pkey, EVP_PKEY_PUBLIC_KEY, params.get()) == 1);
    return minter::public_pem(minter::Pkey(pkey, EVP_PKEY_free));
}

const Signer& signer(Algorithm algorithm) {
    static const auto* const all = [] {
        auto* signers = new std::vector<Signer>;  // NOLINT: lives as long as the program
        for (const Algorithm each : minter::kAllAlgorithms) signers->emplace_back(each);
        return signers;
    }();
    return (*all)[static_cast<std::size_t>(algorithm)];
}

void assert_refused(const rooms::Result<Key>& key, std::string_view part) {
    assert_false(key.ok());
    if (key.error().message.find(part) == std::string::npos) {
        print_error("\"%s\" does not say \"%s\"\n", key.error().message.c_str(), std::string(part).c_str());
        fail();
    }
    assert_int_equal(ERR_peek_error(), 0);
}

void assert_refused(Algorithm algorithm, std::string_view file, std::string_view part) {
    assert_refused(Key::from_file_text(algorithm, file), part);
}

Key some_key(Algorithm algorithm, std::string kid = {}) {
    auto key = Key::from_file_text(algorithm, signer(algorithm).key_file(), std::move(kid));
    assert_true(key.ok());
    return std::move(*key);
}

void every_algorithm_has_one_exact_name(void**) {
    std::string names;
    for (const Algorithm algorithm : minter::kAllAlgorithms) {
        const auto name = rooms::algorithm_name(algorithm);
        assert_true(rooms::parse_algorithm(name) == algorithm);
        names += (names.empty() ? "" : " ") + std::string(name);
    }
    assert_true(names == rooms::kAlgorithmNames);
    for (const auto name :
         {"none", "None", "NONE", "hs256", "HS256 ", "HS25", "HS2566", "EDDSA", "eddsa", "ES256K", ""}) {
        assert_false(rooms::parse_algorithm(name).has_value());
    }
}

void a_key_of_every_algorithm_verifies_what_was_signed_with_it(void**) {
    for (const Algorithm algorithm : minter::kAllAlgorithms) {
        const Key key = some_key(algorithm);
        const std::string signature = signer(algorithm).sign("some text");
        assert_true(key.algorithm() == algorithm);
        for (int i = 0; i < 2; ++i) {  // the template is not used up
            assert_true(key.verify("some text", signature) == Key::Verdict::good);
            assert_true(key.verify("some texu", signature) == Key::Verdict::bad);
            assert_true(key.verify("", signature) == Key::Verdict::bad);
        }
        for (std::size_t at = 0; at < signature.size(); at += 7) {
            std::string wrong = signature;
            wrong[at] = static_cast<char>(wrong[at] ^ 0x10);
            assert_true(key.verify("some text", wrong) == Key::Verdict::bad);
        }
        assert_true(key.verify("some text", signature + '\0') == Key::Verdict::bad);
        assert_true(key.verify("some text", std::string_view(signature).substr(1)) == Key::Verdict::bad);
        assert_true(key.verify("some text", "") == Key::Verdict::bad);
        assert_int_equal(ERR_peek_error(), 0);
    }
}

// Shorter than a block of the hash, as long, and longer: there the secret's hash counts (RFC 2104 section 2).
void a_mac_is_that_of_openssl_for_secrets_of_all_lengths(void**) {
    for (const auto& [algorithm, md] : {std::pair(Algorithm::hs256, EVP_sha256()),
                                        {Algorithm::hs384, EVP_sha384()},
                                        {Algorithm::hs512, EVP_sha512()}}) {
        for (std::size_t size = 32; size <= 260; ++size) {
            const std::string secret = std::string(size - 1, 's') + '\0';
            std::string mac(EVP_MAX_MD_SIZE, '\0');
            unsigned length = 0;
            assert_non_null(HMAC(md, secret.data(), static_cast<int>(size),
                                 reinterpret_cast<const unsigned char*>("text"), 4,
                                 reinterpret_cast<unsigned char*>(mac.data()), &length));
            const auto key = Key::from_secret(algorithm, secret);
            assert_true(key->verify("text", std::string_view(mac).substr(0, length)) == Key::Verdict::good);
        }
    }
}

// RFC 8017, step 1 of sections 8.1.2 and 8.2.2. One signature in some two hundred begins with a zero; to
// OpenSSL's PSS it is the same number without it.
void an_rsa_signature_is_as_long_as_the_modulus(void**) {
    for (const Algorithm algorithm : {Algorithm::rs256, Algorithm::ps256}) {
        const Key key = some_key(algorithm);
        std::string text = "text";
        std::string signature;
        do {
            text += '.';
            signature = signer(algorithm).sign(text);
        } while (signature[0] != '\0');
        assert_true(key.verify(text, signature) == Key::Verdict::good);
        assert_true(key.verify(text, std::string_view(signature).substr(1)) == Key::Verdict::bad);
        assert_true(key.verify(text, '\0' + signature) == Key::Verdict::bad);
    }
}

void ed448_is_eddsa_too(void**) {
    const Signer signer448(Algorithm::eddsa, minter::generate("ED448"));
    const auto key = Key::from_file_text(Algorithm::eddsa, signer448.key_file());
    assert_true(key.ok());
    assert_true(key->verify("text", signer448.sign("text")) == Key::Verdict::good);
    assert_true(key->verify("text", signer(Algorithm::eddsa).sign("text")) == Key::Verdict::bad);
}

void S11_a_pem_is_no_hmac_secret(void**) {
    for (const Algorithm algorithm : {Algorithm::rs256, Algorithm::es256, Algorithm::eddsa}) {
        const auto pem = minter::public_pem(signer(algorithm).pkey());
        assert_refused(Algorithm::hs256, pem, "takes a secret");
        assert_refused(Algorithm::hs512, "\n" + pem, "takes a secret");
        assert_refused(Algorithm::hs256, minter::private_pem(signer(algorithm).pkey()), "takes a secret");
    }
}

void S18_an_es_key_is_on_the_curve_of_its_algorithm(void**) {
    const auto p256 = signer(Algorithm::es256).key_file();
    const auto p384 = signer(Algorithm::es384).key_file();
    const auto p521 = signer(Algorithm::es512).key_file();
    assert_refused(Algorithm::es256, p384, "ES256 needs an EC key on P-256, this is secp384r1");
    assert_refused(Algorithm::es256, p521, "P-256");
    assert_refused(Algorithm::es384, p256, "ES384 needs an EC key on P-384, this is prime256v1");
    assert_refused(Algorithm::es512, p256, "P-521");
    assert_refused(Algorithm::es256, minter::public_pem(minter::generate("EC", "secp256k1")),
                   "this is secp256k1");
    assert_refused(Algorithm::es256, signer(Algorithm::rs256).key_file(), "ES256 needs an EC key");
    assert_refused(Algorithm::es256, signer(Algorithm::eddsa).key_file(), "ES256 needs an EC key");
}

void S18_a_curve_spelt_out_in_the_key_is_refused(void**) {
    const minter::Pkey pkey = minter::generate("EC", "P-256");
    assert_int_equal(EVP_PKEY_set_utf8_string_param(pkey.get(), "encoding", "explicit"), 1);
    assert_refused(Algorithm::es256, minter::public_pem(pkey), "without a named curve");
}

void S19_an_rsa_key_has_2048_bits_or_more(void**) {
    for (const int bits : {1024, 2047, 8193, 16384}) {
        const auto pem = rsa_pem(bits);
        assert_refused(Algorithm::rs256, pem,
                       "an RSA key of " + std::to_string(bits) + " bits; between 2048 and 8192");
        assert_refused(Algorithm::ps512, pem, "between 2048");
    }
    assert_refused(Algorithm::rs256, rsa_pem(2048), "an unsound key");  // 2^2047 + 1
    assert_true(Key::from_file_text(Algorithm::rs384, kRsa3072).ok());
    assert_refused(Algorithm::rs256, signer(Algorithm::es256).key_file(), "RS256 needs an RSA key");
    assert_refused(Algorithm::eddsa, signer(Algorithm::es256).key_file(), "Ed25519 or Ed448");
    assert_refused(Algorithm::eddsa, minter::public_pem(minter::generate("X25519")), "Ed25519 or Ed448");
}

void an_rsa_pss_key_is_for_ps_only(void**) {
    std::unique_ptr<EVP_PKEY_CTX, rooms::Freed<EVP_PKEY_CTX_free>> context(
        EVP_PKEY_CTX_new_from_name(nullptr, "RSA-PSS", nullptr));
    EVP_PKEY* made = nullptr;
    assert_int_equal(EVP_PKEY_keygen_init(context.get()), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_pss_keygen_md(context.get(), EVP_sha256()), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_pss_keygen_mgf1_md(context.get(), EVP_sha256()), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_pss_keygen_saltlen(context.get(), 32), 1);
    assert_int_equal(EVP_PKEY_generate(context.get(), &made), 1);
    const Signer pss(Algorithm::ps256, minter::Pkey(made, EVP_PKEY_free));
    const auto key = Key::from_file_text(Algorithm::ps256, pss.key_file());
    assert_true(key.ok());
    assert_true(key->verify("text", pss.sign("text")) == Key::Verdict::good);
    assert_refused(Algorithm::rs256, pss.key_file(), "RS256 needs an RSA key");
    assert_refused(Algorithm::ps512, pss.key_file(), "PS512");
}

void a_pss_salt_is_as_long_as_the_hash(void**) {
    const Key key = some_key(Algorithm::ps256);
    Signer other = signer(Algorithm::ps256);
    for (const int salt : {0, 20, 31, 33, 64}) {
        other.set_pss_salt(salt);
        assert_true(key.verify("text", other.sign("text")) == Key::Verdict::bad);
    }
    other.set_pss_salt(32);
    assert_true(key.verify("text", other.sign("text")) == Key::Verdict::good);
    // PKCS#1 v1.5 by the same key is another algorithm's signature.
    const Signer pkcs1(Algorithm::rs256, other.pkey());
    assert_true(key.verify("text", pkcs1.sign("text")) == Key::Verdict::bad);
}

void S19_a_secret_has_32_bytes_or_more_without_its_last_newline(void**) {
    const auto secret = "0123456789abcdef0123456789abcde"s;  // 31
    assert_refused(Algorithm::hs256, "", "a secret of 0 bytes; at least 32");
    assert_refused(Algorithm::hs256, "\n", "a secret of 0 bytes");
    assert_refused(Algorithm::hs256, secret, "a secret of 31 bytes; at least 32");
    assert_refused(Algorithm::hs256, secret + "\n", "a secret of 31 bytes");
    assert_refused(Algorithm::hs512, secret + "\r\n", "a secret of 31 bytes");
    for (const auto end : {"", "\n", "\r\n"}) {
        const auto key = Key::from_file_text(Algorithm::hs256, secret + "X" + end);
        assert_true(key.ok());
        const auto mac = minter::hmac(EVP_sha256(), secret + "X", "text");
        assert_true(key->verify("text", mac) == Key::Verdict::good);
    }
    // Only one newline is not part of it.
    const auto key = Key::from_file_text(Algorithm::hs256, secret + "\n\n");
    assert_true(key.ok());
    assert_true(key->verify("text", minter::hmac(EVP_sha256(), secret + "\n", "text")) == Key::Verdict::good);
    // Any bytes make a secret, NUL among them.
    const auto binary = secret + "\0\xff"s;
    const auto odd = Key::from_file_text(Algorithm::hs256, binary);
    assert_true(odd.ok());
    assert_true(odd->verify("text", minter::hmac(EVP_sha256(), binary, "text")) == Key::Verdict::good);
    assert_true(odd->verify("text", minter::hmac(EVP_sha256(), secret, "text")) == Key::Verdict::bad);
}

void S19_R5_secrets_that_everybody_knows_are_refused(void**) {
    for (const auto secret :
         {"dev-secret-change-in-production\n\n", "dev-secret-change-in-production-and-more",
          "swarm-internal-dev-key-2024000000000000", "your-256-bit-secretyour-256-bit-secret",
          "a-string-secret-at-least-256-bits-long", "00000000000000000000000000000000"}) {
        assert_refused(Algorithm::hs256, secret, "well-known sample");
    }
}

void what_is_no_public_key_is_told_apart(void**) {
    const auto& rsa = signer(Algorithm::rs256);
    const auto pem = rsa.key_file();
    assert_refused(Algorithm::rs256, minter::private_pem(rsa.pkey()), "a private key");
    assert_refused(Algorithm::rs256, "-----BEGIN RSA PRIVATE KEY-----\nMII", "a private key");
    assert_refused(Algorithm::rs256, "-----BEGIN CERTIFICATE-----\nMII", "openssl x509");
    assert_refused(Algorithm::rs256, pem + pem, "more than one PEM key");
    assert_refused(Algorithm::rs256, "", "no PEM public key");
    assert_refused(Algorithm::rs256, minter::kSecret, "no PEM public key");
    assert_refused(Algorithm::rs256, "-----BEGIN PUBLIC KEY-----\n????\n-----END PUBLIC KEY-----\n",
                   "no readable PEM");
    for (std::size_t size = 0; size < pem.size() - 2; size += 11) {
        assert_false(Key::from_file_text(Algorithm::rs256, pem.substr(0, size)).ok());
        assert_int_equal(ERR_peek_error(), 0);
    }
    // Text around the block, as tools write it, and CR LF do no harm.
    std::string dos;
    for (const char c : pem) dos += c == '\n' ? "\r\n"s : std::string(1, c);
    assert_true(Key::from_file_text(Algorithm::rs256, "my key\n" + pem + "\n").ok());
    assert_true(Key::from_file_text(Algorithm::rs256, dos).ok());
}

void a_point_that_is_not_on_the_curve_is_no_key(void**) {
    const auto pem = signer(Algorithm::es256).key_file();
    int refused = 0;
    for (std::size_t at = 60; at < 100; ++at) {
        std::string other = pem;
        if (other[at] == '\n') continue;
        other[at] = other[at] == 'A' ? 'B' : 'A';
        refused += other != pem && !Key::from_file_text(Algorithm::es256, other).ok();
    }
    assert_true(refused > 30);
}

void a_secret_algorithm_takes_no_pkey(void**) {
    assert_refused(
        Key::from_pkey(Algorithm::hs256, Key::Pkey(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"))),
        "HS256 needs a secret");
}

void S24_a_kid_has_1_to_128_printable_characters(void**) {
    assert_true(rooms::is_kid("a"));
    assert_true(rooms::is_kid(" ~"));
    assert_true(rooms::is_kid("../../etc/passwd"));  // a name like any other
    assert_true(rooms::is_kid(std::string(128, 'k')));
    for (const auto& kid : {""s, std::string(129, 'k'), "a\nb"s, "\x1f"s, "\x7f"s, "\xc3\xa9"s, "a\0b"s}) {
        assert_false(rooms::is_kid(kid));
        if (kid.empty()) continue;
        assert_refused(Key::from_file_text(Algorithm::hs256, minter::kSecret, kid), "a kid has");
        assert_refused(Key::from_file_text(Algorithm::eddsa, signer(Algorithm::eddsa).key_file(), kid),
                       "a kid has");
    }
    assert_string_equal(some_key(Algorithm::es256, "k1").kid().c_str(), "k1");
}

std::string found(const KeySet& set, Algorithm algorithm,
                  std::optional<std::string_view> kid = std::nullopt) {
    std::string names;
    for (const Key* key : set.find(algorithm, kid)) {
        assert_true(key->algorithm() == algorithm);
        names += key->kid().empty() ? "-" : key->kid();
    }
    return names;
}

void S24_a_kid_finds_its_key_and_no_other(void**) {
    KeySet set;
    assert_true(set.empty());
    for (const auto kid : {"a", "", "b", ""}) {
        assert_false(set.add(some_key(Algorithm::hs256, kid)).has_value());
    }
    assert_false(set.add(some_key(Algorithm::es256, "e")).has_value());
    assert_int_equal(set.size(), 5);

    assert_string_equal(found(set, Algorithm::hs256, "a").c_str(), "a");
    assert_string_equal(found(set, Algorithm::hs256, "b").c_str(), "b");
    assert_string_equal(found(set, Algorithm::hs256).c_str(), "a-b-");
    // Nobody has it: the keys without a name may be meant.
    assert_string_equal(found(set, Algorithm::hs256, "z").c_str(), "--");
    assert_string_equal(found(set, Algorithm::hs256, "A").c_str(), "--");
    // Somebody has it, but not for this algorithm.
    assert_string_equal(found(set, Algorithm::hs256, "e").c_str(), "");
    assert_string_equal(found(set, Algorithm::es256, "z").c_str(), "");
    assert_string_equal(found(set, Algorithm::es384).c_str(), "");
}

void a_token_without_kid_is_tried_against_eight_keys(void**) {
    KeySet set;
    for (char kid = 'a'; kid < 'a' + 8; ++kid) {
        assert_false(set.add(some_key(Algorithm::hs256, {kid})).has_value());
    }
    assert_false(set.find(Algorithm::hs256, std::nullopt).more);
    assert_false(set.add(some_key(Algorithm::hs256, "x")).has_value());
    assert_string_equal(found(set, Algorithm::hs256).c_str(), "abcdefgh");
    assert_true(set.find(Algorithm::hs256, std::nullopt).more);
    assert_string_equal(found(set, Algorithm::hs256, "x").c_str(), "x");
}

void a_key_set_refuses_what_could_never_be_reached(void**) {
    KeySet set;
    assert_false(set.add(some_key(Algorithm::hs256, "a")).has_value());
    assert_false(set.add(some_key(Algorithm::hs384, "a")).has_value());
    const auto again = set.add(some_key(Algorithm::hs256, "a"));
    assert_true(again.has_value());
    assert_string_equal(again->message.c_str(), "a second HS256 key with kid \"a\"");
    for (int i = 0; i < 8; ++i) assert_false(set.add(some_key(Algorithm::hs256)).has_value());
    assert_string_equal(set.add(some_key(Algorithm::hs256))->message.c_str(),
                        "more than 8 HS256 keys without a kid");
    for (int i = 0; set.size() < 64; ++i) {
        assert_false(set.add(some_key(Algorithm::hs256, "k" + std::to_string(i))).has_value());
    }
    assert_string_equal(set.add(some_key(Algorithm::hs512))->message.c_str(), "more than 64 keys");
}

void S29_two_keys_are_valid_side_by_side(void**) {
    const Signer old_signer(Algorithm::es256);
    const Signer new_signer(Algorithm::es256);
    KeySet set;
    for (const Signer* each : {&new_signer, &old_signer}) {
        auto key = Key::from_file_text(Algorithm::es256, each->key_file());
        assert_true(key.ok());
        assert_false(set.add(std::move(*key)).has_value());
    }
    for (const Signer* each : {&new_signer, &old_signer}) {
        int good = 0;
        for (const Key* key : set.find(Algorithm::es256, std::nullopt)) {
            good += key->verify("text", each->sign("text")) == Key::Verdict::good;
        }
        assert_int_equal(good, 1);
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(every_algorithm_has_one_exact_name),
        cmocka_unit_test(a_key_of_every_algorithm_verifies_what_was_signed_with_it),
        cmocka_unit_test(a_mac_is_that_of_openssl_for_secrets_of_all_lengths),
        cmocka_unit_test(an_rsa_signature_is_as_long_as_the_modulus),
        cmocka_unit_test(ed448_is_eddsa_too),
        cmocka_unit_test(S11_a_pem_is_no_hmac_secret),
        cmocka_unit_test(S18_an_es_key_is_on_the_curve_of_its_algorithm),
        cmocka_unit_test(S18_a_curve_spelt_out_in_the_key_is_refused),
        cmocka_unit_test(S19_an_rsa_key_has_2048_bits_or_more),
        cmocka_unit_test(an_rsa_pss_key_is_for_ps_only),
        cmocka_unit_test(a_pss_salt_is_as_long_as_the_hash),
        cmocka_unit_test(S19_a_secret_has_32_bytes_or_more_without_its_last_newline),
        cmocka_unit_test(S19_R5_secrets_that_everybody_knows_are_refused),
        cmocka_unit_test(what_is_no_public_key_is_told_apart),
        cmocka_unit_test(a_point_that_is_not_on_the_curve_is_no_key),
        cmocka_unit_test(a_secret_algorithm_takes_no_pkey),
        cmocka_unit_test(S24_a_kid_has_1_to_128_printable_characters),
        cmocka_unit_test(S24_a_kid_finds_its_key_and_no_other),
        cmocka_unit_test(a_token_without_kid_is_tried_against_eight_keys),
        cmocka_unit_test(a_key_set_refuses_what_could_never_be_reached),
        cmocka_unit_test(S29_two_keys_are_valid_side_by_side),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

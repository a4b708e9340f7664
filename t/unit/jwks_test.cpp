// core/jwks: keys from a JWKS file. The examples of the RFCs are verified with what they print.
#include <string>
#include <string_view>
#include <vector>

#include <openssl/err.h>

#include "core/base64.hpp"
#include "core/jwks.hpp"
#include "unit/minter.hpp"

#include "cmocka.hpp"

using namespace std::literals;
using minter::Signer;
using rooms::Algorithm;
using rooms::Key;
using rooms::parse_jwks;

namespace {

std::string number_of(const minter::Pkey& pkey, const char* name, std::size_t size = 0) {
    BIGNUM* number = nullptr;
    minter::require(EVP_PKEY_get_bn_param(pkey.get(), name, &number) == 1);
    std::string octets(size ? size : static_cast<std::size_t>(BN_num_bytes(number)), '\0');
    BN_bn2binpad(number, reinterpret_cast<unsigned char*>(octets.data()), static_cast<int>(octets.size()));
    BN_free(number);
    return rooms::base64url_encode(octets);
}

std::string member(std::string_view name, std::string_view value) {
    return ",\"" + std::string(name) + "\":\"" + std::string(value) + "\"";
}

// The members that describe the key itself, the first without its comma.
std::string public_members(const Signer& signer) {
    const auto& pkey = signer.pkey();
    switch (rooms::key_family(signer.algorithm())) {
        case rooms::KeyFamily::hmac:
            return R"("kty":"oct")" + member("k", rooms::base64url_encode(minter::kSecret));
        case rooms::KeyFamily::rsa:
        case rooms::KeyFamily::rsa_pss:
            return R"("kty":"RSA")" + member("n", number_of(pkey, "n")) + member("e", number_of(pkey, "e"));
        case rooms::KeyFamily::ec:
            return R"("kty":"EC")" + member("crv", signer.curve()) +
                   member("x", number_of(pkey, "qx", signer.number())) +
                   member("y", number_of(pkey, "qy", signer.number()));
        case rooms::KeyFamily::okp: break;
    }
    std::string raw(57, '\0');
    std::size_t size = raw.size();
    minter::require(
        EVP_PKEY_get_raw_public_key(pkey.get(), reinterpret_cast<unsigned char*>(raw.data()), &size) == 1);
    raw.resize(size);
    return R"("kty":"OKP")" + member("crv", size == 57 ? "Ed448" : "Ed25519") +
           member("x", rooms::base64url_encode(raw));
}

std::string jwk(const std::string& members) { return "{" + members + "}"; }
std::string jwks(const std::string& keys) { return R"({"keys":[)" + keys + "]}"; }

std::vector<Key> assert_read(std::string_view text, std::size_t count) {
    auto keys = parse_jwks(text);
    if (!keys) print_error("%s\n", keys.error().message.c_str());
    assert_true(keys.ok());
    assert_int_equal(keys->size(), count);
    assert_int_equal(ERR_peek_error(), 0);
    return std::move(*keys);
}

void assert_refused(std::string_view text, std::string_view message) {
    const auto keys = parse_jwks(text);
    assert_false(keys.ok());
    if (keys.error().message.find(message) == std::string::npos) {
        print_error("\"%s\" does not say \"%s\"\n", keys.error().message.c_str(),
                    std::string(message).c_str());
        fail();
    }
    assert_int_equal(ERR_peek_error(), 0);
}

const Signer& rsa() {
    static const auto* const signer = new Signer(Algorithm::rs256);
    return *signer;
}
const Signer& ec() {
    static const auto* const signer = new Signer(Algorithm::es256);
    return *signer;
}
const Signer& okp() {
    static const auto* const signer = new Signer(Algorithm::eddsa);
    return *signer;
}

void a_key_of_every_kind_verifies_what_was_signed_with_it(void**) {
    for (const Algorithm algorithm : minter::kAllAlgorithms) {
        const Signer signer(algorithm);
        const auto keys = assert_read(
            jwks(jwk(public_members(signer) + member("alg", signer.name()) + member("kid", "one"))), 1);
        assert_true(keys[0].algorithm() == algorithm);
        assert_string_equal(keys[0].kid().c_str(), "one");
        assert_true(keys[0].verify("text", signer.sign("text")) == Key::Verdict::good);
        assert_true(keys[0].verify("texu", signer.sign("text")) == Key::Verdict::bad);
    }
    const Signer signer(Algorithm::eddsa, minter::generate("ED448"));
    const auto keys = assert_read(jwks(jwk(public_members(signer))), 1);
    assert_true(keys[0].verify("text", signer.sign("text")) == Key::Verdict::good);
}

void the_examples_of_rfc_7515_and_8037_are_verified(void**) {
    struct Example {
        const char* key;
        std::string token;
    };
    const Example examples[] = {
        // RFC 7515 A.1
        {R"({"kty":"oct","alg":"HS256","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"})",
         "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9"
         ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
         ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"},
        // RFC 7515 A.2
        {R"({"kty":"RSA","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"})",
         "eyJhbGciOiJSUzI1NiJ9"
         ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
         ".cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_"
         "O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_"
         "nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-"
         "eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_"
         "IoypGlUPQGe77Rw"},
        // RFC 7515 A.3
        {R"({"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"})",
         "eyJhbGciOiJFUzI1NiJ9"
         ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
         ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"},
        // RFC 8037 A.4
        {R"({"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"})",
         "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
         ".hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"},
    };
    for (const auto& example : examples) {
        const auto keys = assert_read(jwks(example.key), 1);
        const auto dot = example.token.rfind('.');
        const auto signature = rooms::base64url_decode(example.token.substr(dot + 1));
        assert_true(signature.has_value());
        assert_true(keys[0].verify(example.token.substr(0, dot), *signature) == Key::Verdict::good);
    }
}

void an_algorithm_is_derived_where_there_is_no_choice(void**) {
    for (const Algorithm algorithm :
         {Algorithm::rs256, Algorithm::es256, Algorithm::es384, Algorithm::es512, Algorithm::eddsa}) {
        const auto keys = assert_read(jwks(jwk(public_members(Signer(algorithm)))), 1);
        assert_true(keys[0].algorithm() == algorithm);
        assert_true(keys[0].kid().empty());
    }
    assert_refused(jwks(jwk(public_members(Signer(Algorithm::hs256)))),
                   "key 0: a secret (\"oct\") needs \"alg\"");
}

void keys_come_in_the_order_of_the_file(void**) {
    const auto keys = assert_read(jwks(jwk(public_members(rsa()) + member("kid", "r")) + "," +
                                       jwk(public_members(ec()) + member("kid", "e")) + "," +
                                       jwk(public_members(ec())) + "," + jwk(public_members(okp()))),
                                  4);
    assert_string_equal(keys[0].kid().c_str(), "r");
    assert_string_equal(keys[1].kid().c_str(), "e");
    assert_true(keys[3].algorithm() == Algorithm::eddsa);
}

void S26_keys_that_are_not_for_verifying_are_passed_over(void**) {
    const auto ours = jwk(public_members(ec()) + R"(,"use":"sig","key_ops":["sign","verify"])");
    const std::string others[] = {
        jwk(public_members(rsa()) + R"(,"use":"enc")"),
        jwk(public_members(rsa()) + R"(,"alg":"RSA-OAEP")"),
        jwk(public_members(rsa()) + R"(,"alg":"none")"),
        jwk(public_members(rsa()) + R"(,"alg":"rs256")"),
        jwk(public_members(ec()) + R"(,"key_ops":["deriveKey"])"),
        jwk(public_members(ec()) + R"(,"key_ops":[1,null,"encrypt"])"),
        R"({"kty":"EC","crv":"secp256k1","x":"AA","y":"AA"})",
        R"({"kty":"OKP","crv":"X25519","x":"AA"})",
        R"({"kty":"AKP","alg":"ML-DSA-44","pub":"AA"})",
    };
    for (const auto& other : others) {
        const auto keys = assert_read(jwks(other + "," + ours), 1);
        assert_true(keys[0].algorithm() == Algorithm::es256);
        assert_refused(jwks(other), "no key to verify with; key 0: ");
    }
    assert_refused(jwks(jwk(public_members(rsa()) + R"(,"use":"enc","kid":"k")")),
                   "key 0 (kid \"k\"): \"use\" is not \"sig\"");
}

void S26_alg_must_fit_the_kind_of_key(void**) {
    const auto with = [](const Signer& signer, std::string_view alg) {
        return jwks(jwk(public_members(signer) + member("alg", alg)));
    };
    for (const auto alg : {"HS256", "ES256", "EdDSA"}) {
        assert_refused(with(rsa(), alg), "key 0: \"alg\" does not fit \"kty\"");
    }
    for (const auto alg : {"HS256", "RS256", "PS256", "EdDSA"}) {
        assert_refused(with(ec(), alg), "does not fit");
    }
    for (const auto alg : {"HS256", "RS256", "ES256"}) assert_refused(with(okp(), alg), "not fit");
    for (const auto alg : {"RS256", "ES256", "EdDSA"}) {
        assert_refused(with(Signer(Algorithm::hs256), alg), "does not fit");
    }
    assert_refused(with(ec(), "ES384"), "ES384 needs an EC key on P-384");
}

void S26_a_private_key_is_refused(void**) {
    for (const Signer* signer : {&rsa(), &ec(), &okp()}) {
        assert_refused(jwks(jwk(public_members(*signer) + member("d", "AQAB"))), "key 0: a private key");
    }
}

void S19_sizes_are_checked_in_a_set_too(void**) {
    const std::string small =
        R"("kty":"RSA","e":"AQAB")" + member("n", rooms::base64url_encode(std::string(128, '\xff')));
    assert_refused(jwks(jwk(public_members(ec())) + "," + jwk(small)), "key 1: an RSA key of 1024 bits");
    assert_refused(jwks(R"({"kty":"oct","alg":"HS256","kid":"s","k":"c2hvcnQ"})"),
                   "key 0 (kid \"s\"): a secret of 5 bytes; at least 32");
    const std::string huge(2000, '\xff');
    assert_refused(jwks(R"({"kty":"RSA","e":"AQAB","n":")" + rooms::base64url_encode(huge) + "\"}"),
                   "an RSA key of 16000 bits");
}

void members_that_are_missing_or_wrong_are_named(void**) {
    const auto refused = [](const char* key, std::string_view message) {
        assert_refused(jwks(key), message);
    };
    refused(R"({})", "key 0: no \"kty\"");
    refused(R"({"kty":1})", "key 0: \"kty\" is not a string");
    refused(R"({"kty":"RSA","use":1})", "\"use\" is not a string");
    refused(R"({"kty":"RSA","alg":[]})", "\"alg\" is not a string");
    refused(R"({"kty":"EC","crv":{}})", "\"crv\" is not a string");
    refused(R"({"kty":"RSA","key_ops":"verify"})", "\"key_ops\" is not an array");
    refused(R"({"kty":"RSA"})", "no \"n\"");
    refused(R"({"kty":"RSA","n":5,"e":"AQAB"})", "\"n\" is not a string");
    refused(R"({"kty":"RSA","n":"","e":"AQAB"})", "\"n\" is not base64url");
    refused(R"({"kty":"RSA","n":"AA==","e":"AQAB"})", "\"n\" is not base64url");
    refused(R"({"kty":"RSA","n":"AQAB"})", "no \"e\"");
    refused(R"({"kty":"EC","crv":"P-256"})", "no \"x\"");
    refused(R"({"kty":"EC","crv":"P-256","x":"AA","y":"AA"})", "of P-256 have 32 bytes");
    refused(R"({"kty":"OKP","crv":"Ed25519","x":"AA"})", "\"x\" has 32 bytes");
    refused(R"({"kty":"OKP","crv":"Ed448","x":"AA"})", "\"x\" has 57 bytes");
    refused(R"({"kty":"OKP","crv":"Ed25519"})", "no \"x\"");
    refused(R"({"kty":"oct","alg":"HS256"})", "no \"k\"");
    refused(R"({"kty":"oct","alg":"HS256","kty":"oct"})", "key 0: a member occurs twice");
    refused(R"({"kty":"RSA","kid":7})", "key 0: \"kid\" is not 1 to 128 printable characters");
    refused(R"({"kty":"RSA","kid":""})", "\"kid\" is not 1 to 128");
    refused(R"({"kty":"RSA","kid":"a\nb"})", "\"kid\" is not 1 to 128");
    refused(R"("RSA")", "key 0: not an object");
}

void a_point_off_the_curve_and_a_bad_exponent_are_refused(void**) {
    const std::string x = rooms::base64url_encode(std::string(32, '\x01'));
    assert_refused(jwks(jwk(R"("kty":"EC","crv":"P-256")" + member("x", x) + member("y", x))),
                   "key 0: OpenSSL refuses it");
    for (const auto e : {"AA", "AQ", "Ag", "BA"}) {  // 0, 1, 2, 4
        assert_refused(
            jwks(jwk(R"("kty":"RSA")" + member("n", number_of(rsa().pkey(), "n")) + member("e", e))),
            "key 0: ");
    }
}

void S26_a_second_key_with_the_same_kid_is_refused(void**) {
    assert_refused(jwks(jwk(public_members(ec()) + member("kid", "a")) + "," +
                        jwk(public_members(rsa()) + member("kid", "a"))),
                   "key 1 (kid \"a\"): a second key with this kid");
}

void what_is_no_set_is_refused(void**) {
    assert_refused("", "not a JSON object");
    assert_refused("[]", "not a JSON object");
    assert_refused("{\"keys\":[}", "not a JSON object");
    assert_refused("{}", "no array \"keys\"");
    assert_refused(R"({"keys":{}})", "no array \"keys\"");
    assert_refused(R"({"keys":[]})", "no keys");
    assert_refused(R"({"keys":[],"keys":[]})", "not a JSON object");
    assert_refused(jwk(public_members(ec())), "no array \"keys\"");
    assert_refused(R"({"keys":[{"a":[[[[[[1]]]]]]}]})", "not a JSON object");
    assert_refused(std::string((1 << 20) + 1, ' '), "more than 1 MiB");
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(a_key_of_every_kind_verifies_what_was_signed_with_it),
        cmocka_unit_test(the_examples_of_rfc_7515_and_8037_are_verified),
        cmocka_unit_test(an_algorithm_is_derived_where_there_is_no_choice),
        cmocka_unit_test(keys_come_in_the_order_of_the_file),
        cmocka_unit_test(S26_keys_that_are_not_for_verifying_are_passed_over),
        cmocka_unit_test(S26_alg_must_fit_the_kind_of_key),
        cmocka_unit_test(S26_a_private_key_is_refused),
        cmocka_unit_test(S19_sizes_are_checked_in_a_set_too),
        cmocka_unit_test(members_that_are_missing_or_wrong_are_named),
        cmocka_unit_test(a_point_off_the_curve_and_a_bad_exponent_are_refused),
        cmocka_unit_test(S26_a_second_key_with_the_same_kid_is_refused),
        cmocka_unit_test(what_is_no_set_is_refused),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

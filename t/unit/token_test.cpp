// core/token: what is accepted and what is refused before the claims are looked at, and that no
// allocation that fails, of ours or OpenSSL's, does harm or opens the door.
#include <algorithm>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <openssl/crypto.h>
#include <openssl/err.h>

#include "core/token.hpp"
#include "unit/minter.hpp"

#include "cmocka.hpp"
#include "every_allocation.hpp"

using namespace std::literals;
using minter::Signer;
using rooms::Algorithm;
using rooms::base64url_encode;
using rooms::Key;
using rooms::KeySet;
using rooms::TokenError;
using rooms::TokenRules;
using rooms::verify_token;
using Reason = rooms::TokenError::Reason;

namespace {

constexpr std::int64_t kNow = 1'700'000'000'000;
const std::string kPayload = R"({"sub":"u1","exp":1700003600})";

const Signer& signer(Algorithm algorithm) {
    static const auto* const all = [] {
        auto* signers = new std::vector<Signer>;
        for (const Algorithm each : minter::kAllAlgorithms) signers->emplace_back(each);
        return signers;
    }();
    return (*all)[static_cast<std::size_t>(algorithm)];
}

KeySet keys_of(std::initializer_list<const Signer*> signers, const std::string& kid = {}) {
    KeySet keys;
    for (const Signer* each : signers) {
        auto key = Key::from_file_text(each->algorithm(), each->key_file(), kid);
        assert_true(key.ok());
        assert_false(keys.add(std::move(*key)).has_value());
    }
    return keys;
}

const KeySet& keys_of(Algorithm algorithm) {
    static const auto* const all = [] {
        auto* sets = new std::vector<KeySet>;
        for (const Algorithm each : minter::kAllAlgorithms) sets->push_back(keys_of({&signer(each)}));
        return sets;
    }();
    return (*all)[static_cast<std::size_t>(algorithm)];
}

const Signer& hs() { return signer(Algorithm::hs256); }
const KeySet& hs_keys() { return keys_of(Algorithm::hs256); }

void assert_accepted(std::string_view token, const KeySet& keys) {
    const auto claims = verify_token(token, keys, TokenRules(), kNow);
    if (!claims) print_error("refused: %s\n", claims.error().detail.c_str());
    assert_true(claims.ok());
    assert_string_equal(claims->user_id().c_str(), "u1");
    assert_int_equal(claims->expires_at_ms(), 1'700'003'600'000);
    assert_int_equal(ERR_peek_error(), 0);
}

// Besides: no eight bytes of the token stand in what is logged.
void assert_refused(std::string_view token, const KeySet& keys, Reason reason) {
    const auto claims = verify_token(token, keys, TokenRules(), kNow);
    if (claims.ok() || claims.error().reason != reason) {
        print_error("%.*s: %s\n", static_cast<int>(std::min<std::size_t>(token.size(), 300)), token.data(),
                    claims.ok() ? "accepted" : claims.error().detail.c_str());
    }
    assert_false(claims.ok());
    assert_int_equal(static_cast<int>(claims.error().reason), static_cast<int>(reason));
    assert_false(claims.error().detail.empty());
    for (std::size_t at = 0; at + 8 < std::min<std::size_t>(token.size(), 1000); ++at) {
        assert_true(claims.error().detail.find(token.substr(at, 8)) == std::string::npos);
    }
    assert_int_equal(ERR_peek_error(), 0);
}

void a_token_of_every_algorithm_is_accepted(void**) {
    for (const Algorithm algorithm : minter::kAllAlgorithms) {
        assert_accepted(signer(algorithm).mint(kPayload), keys_of(algorithm));
    }
}

void all_keys_in_one_set_do_not_get_in_each_others_way(void**) {
    KeySet keys;
    for (const Algorithm algorithm : minter::kAllAlgorithms) {
        auto key = Key::from_file_text(algorithm, signer(algorithm).key_file());
        assert_false(keys.add(std::move(*key)).has_value());
    }
    for (const Algorithm algorithm : minter::kAllAlgorithms) {
        assert_accepted(signer(algorithm).mint(kPayload), keys);
    }
}

void S10_alg_must_be_that_of_a_configured_key(void**) {
    for (const Algorithm configured : minter::kAllAlgorithms) {
        for (const Algorithm named : minter::kAllAlgorithms) {
            if (named == configured) continue;
            assert_refused(signer(named).mint(kPayload), keys_of(configured), Reason::bad_algorithm);
        }
    }
    // The same RSA key under the other hash or padding is another algorithm.
    const Signer pss(Algorithm::ps256, signer(Algorithm::rs256).pkey());
    assert_refused(pss.mint(kPayload), keys_of(Algorithm::rs256), Reason::bad_algorithm);
    assert_refused(pss.mint(signer(Algorithm::rs256).header(), kPayload), keys_of(Algorithm::rs256),
                   Reason::bad_signature);
}

void S11_hs256_signed_with_the_public_pem_is_refused(void**) {
    for (const Algorithm algorithm :
         {Algorithm::rs256, Algorithm::ps256, Algorithm::es256, Algorithm::eddsa}) {
        const std::string pem = minter::public_pem(signer(algorithm).pkey());
        const std::string text =
            base64url_encode(R"({"alg":"HS256","typ":"JWT"})") + "." + base64url_encode(kPayload);
        for (const std::string& secret : {pem, pem.substr(0, pem.size() - 1)}) {
            const std::string mac = minter::hmac(EVP_sha256(), secret, text);
            const std::string token = text + "." + base64url_encode(mac);
            assert_refused(token, keys_of(algorithm), Reason::bad_algorithm);
            assert_refused(token, keys_of({&signer(algorithm), &hs()}), Reason::bad_signature);
        }
    }
}

void S12_none_in_any_case_is_refused(void**) {
    for (const auto name : {"none", "None", "NONE", "nOnE", "none ", "", "null"}) {
        const std::string header = R"({"alg":")"s + name + "\"}";
        const std::string text = base64url_encode(header) + "." + base64url_encode(kPayload);
        for (const Algorithm algorithm : {Algorithm::hs256, Algorithm::rs256}) {
            assert_refused(text + ".", keys_of(algorithm), Reason::malformed);
            assert_refused(text, keys_of(algorithm), Reason::malformed);
            assert_refused(text + ".AAAA", keys_of(algorithm), Reason::bad_algorithm);
            assert_refused(hs().sealed(text), keys_of(algorithm), Reason::bad_algorithm);
        }
    }
    const auto none = verify_token(hs().mint(R"({"alg":"nOne"})", kPayload), hs_keys(), TokenRules(), kNow);
    assert_string_equal(none.error().detail.c_str(), "unsigned: \"alg\" is none");
    assert_refused(hs().mint(kPayload), KeySet(), Reason::bad_algorithm);
}

void S13_the_name_of_an_algorithm_is_case_exact(void**) {
    for (const auto name :
         {"hs256", "Hs256", "hS256", "HS256 ", " HS256", "HS0256", "HS256\\u0000", "HS256,HS256", "HS-256"}) {
        assert_refused(hs().mint(R"({"alg":")"s + name + "\"}", kPayload), hs_keys(), Reason::bad_algorithm);
    }
    // Escapes are a way to write the same name.
    assert_accepted(hs().mint(R"({"alg":"HS\u003256"})", kPayload), hs_keys());
    assert_accepted(hs().mint(R"({"\u0061lg":"HS256"})", kPayload), hs_keys());
}

void S14_crit_is_refused_whatever_is_in_it(void**) {
    for (const auto crit : {R"(["b64"],"b64":false)", R"(["exp"])", "[]", "null", "\"\"", "{}",
                            R"(["http://example.invalid/UNDEFINED"])"}) {
        assert_refused(hs().mint(hs().header(R"(,"crit":)"s + crit), kPayload), hs_keys(),
                       Reason::bad_header);
    }
    assert_refused(hs().mint(hs().header(R"(,"\u0063rit":["b64"])"), kPayload), hs_keys(),
                   Reason::bad_header);
}

void S15_three_segments_of_base64url_and_nothing_else(void**) {
    const std::string token = hs().mint(kPayload);
    const auto first = token.find('.');
    const auto second = token.rfind('.');
    for (const auto& wrong : {""s, "."s, ".."s, "..."s, token.substr(0, first), token.substr(0, second),
                              token.substr(0, second + 1), token.substr(first), token.substr(second),
                              "." + token, token.substr(0, first) + "." + token.substr(second)}) {
        assert_refused(wrong, hs_keys(), Reason::malformed);
    }
    assert_refused(token + ".", hs_keys(), Reason::malformed);
    assert_refused(token + "." + token, hs_keys(), Reason::malformed);
    for (const auto& wrong : {token + "=", token + "==", token + " ", token + "\n", " " + token,
                              token + "\0"s, "Bearer " + token, "\"" + token + "\""}) {
        assert_refused(wrong, hs_keys(), Reason::malformed);
    }
    // Each segment, with a byte of no alphabet or of the other one, signed as it stands.
    const std::string header = base64url_encode(hs().header());
    const std::string payload = base64url_encode(kPayload);
    for (const auto& add : {"="s, " "s, "\n"s, "+"s, "/"s, "%"s, "\x80"s, "\0"s}) {
        assert_refused(hs().sealed(header + add + "." + payload), hs_keys(), Reason::malformed);
        assert_refused(hs().sealed(add + header + "." + payload), hs_keys(), Reason::malformed);
        assert_refused(hs().sealed(header + "." + payload + add), hs_keys(), Reason::malformed);
        assert_refused(hs().sealed(header + "." + add + payload), hs_keys(), Reason::malformed);
    }
}

void S15_unused_last_bits_are_zero(void**) {
    // 32 bytes of MAC: 43 letters, the last of which has two bits that mean nothing.
    const std::string token = hs().mint(kPayload);
    static constexpr std::string_view kLetters =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const std::size_t last = kLetters.find(token.back());
    assert_int_equal(last % 4, 0);
    for (std::size_t bits = 1; bits < 4; ++bits) {
        std::string other = token;
        other.back() = kLetters[last + bits];
        assert_refused(other, hs_keys(), Reason::malformed);
    }
    assert_accepted(token, hs_keys());
}

void S16_a_token_of_more_than_8_KiB_is_refused_unread(void**) {
    const auto with_padding = [](std::size_t size) {
        return hs().mint(R"({"exp":1700003600,"sub":"u1","x":")" + std::string(size, 'x') + "\"}");
    };
    std::size_t size = 6000;
    while (with_padding(size + 1).size() <= 8192) ++size;
    assert_true(with_padding(size).size() > 8188);
    assert_accepted(with_padding(size), hs_keys());
    assert_refused(with_padding(size + 2), hs_keys(), Reason::too_long);
    assert_refused(std::string(8193, 'A'), hs_keys(), Reason::too_long);
    assert_refused(std::string(8192, 'A'), hs_keys(), Reason::malformed);
    assert_refused(std::string(16 << 20, '.'), hs_keys(), Reason::too_long);
}

void S17_header_and_payload_are_objects(void**) {
    for (const auto text : {"", "[]", "null", "1", "\"alg\"", "{", "{}x", "{\"alg\":\"HS256\"", "{}{}",
                            "\xef\xbb\xbf{}", "{'alg':'HS256'}", "{\"alg\":\"HS256\",}",
                            "{\"alg\":\"HS256\"}\x01", "{\"a\":\"\xff\"}", "{\"a\":\"\xed\xa0\x80\"}"}) {
        if (*text) assert_refused(hs().mint(text, kPayload), hs_keys(), Reason::bad_header);
        if (*text) assert_refused(hs().mint(text), hs_keys(), Reason::bad_payload);
    }
    assert_refused(hs().mint("{}", kPayload), hs_keys(), Reason::bad_header);
    assert_refused(hs().mint(R"({"exp":1700003600,"\u0000":1})"), hs_keys(), Reason::bad_payload);
    assert_refused(hs().mint(R"({"exp":1700003600,"a":"\u0000"})"), hs_keys(), Reason::bad_payload);
    assert_refused(hs().mint("{\"exp\":1700003600}\0"s), hs_keys(), Reason::bad_payload);
    assert_accepted(hs().mint(" {\"alg\" : \"HS256\"}\r\n", "\t" + kPayload + "\n"), hs_keys());
}

void S17_no_member_occurs_twice(void**) {
    for (const auto header :
         {R"({"alg":"HS256","alg":"HS256"})", R"({"alg":"none","alg":"HS256"})",
          R"({"alg":"HS256","typ":"a","typ":"b"})", R"({"alg":"HS256","\u0061lg":"none"})",
          R"({"alg":"HS256","jwk":{"k":1,"k":2}})", R"({"alg":"HS256","x":[1,[{"k":1,"k":2}]]})"}) {
        assert_refused(hs().mint(header, kPayload), hs_keys(), Reason::bad_header);
    }
    for (const auto payload : {R"({"exp":1700003600,"sub":"u1","sub":"u2"})", R"({"exp":1,"exp":1700003600})",
                               R"({"exp":1700003600,"sub":"u1","s\u0075b":"u2"})",
                               R"({"exp":1700003600,"a":{"b":[{"c":1,"c":1}]}})"}) {
        assert_refused(hs().mint(payload), hs_keys(), Reason::bad_payload);
    }
    assert_accepted(hs().mint(R"({"alg":"HS256","x":[{"k":1},{"k":[2]}]})",
                              R"({"exp":1700003600,"sub":"u1","x":[{"k":1},{"k":2}]})"),
                    hs_keys());
}

void S17_depth_is_at_most_8(void**) {
    const auto nested = [](std::size_t depth, char open, char close) {
        std::string text;
        for (std::size_t i = 0; i < depth; ++i) text += open == '{' ? "{\"a\":"s : "["s;
        return text + "1" + std::string(depth, close);
    };
    for (const bool array : {true, false}) {
        const auto deep = [&](std::size_t depth) {
            return array ? nested(depth - 1, '[', ']') : nested(depth - 1, '{', '}');
        };
        const auto payload = [&](std::size_t depth) {
            return R"({"sub":"u1","exp":1700003600,"x":)" + deep(depth) + "}";
        };
        assert_accepted(hs().mint(payload(8)), hs_keys());
        assert_refused(hs().mint(payload(9)), hs_keys(), Reason::bad_payload);
        assert_accepted(hs().mint(hs().header(R"(,"x":)" + deep(8)), kPayload), hs_keys());
        assert_refused(hs().mint(hs().header(R"(,"x":)" + deep(9)), kPayload), hs_keys(), Reason::bad_header);
    }
    assert_refused(hs().mint(R"({"x":)" + std::string(5000, '[')), hs_keys(), Reason::bad_payload);
    assert_refused(hs().mint(std::string(5000, '['), kPayload), hs_keys(), Reason::bad_header);
}

void S18_an_es_signature_is_two_numbers_of_the_curves_size(void**) {
    for (const Algorithm algorithm : {Algorithm::es256, Algorithm::es384, Algorithm::es512}) {
        const Signer& es = signer(algorithm);
        const std::string text = base64url_encode(es.header()) + "." + base64url_encode(kPayload);
        const std::string raw = es.sign(text);
        assert_int_equal(raw.size(), 2 * es.number());
        const auto token = [&](std::string_view bytes) { return text + "." + base64url_encode(bytes); };
        assert_accepted(token(raw), keys_of(algorithm));
        const std::string half = raw.substr(0, es.number());
        const std::string zeros(es.number(), '\0');
        const std::string ones(es.number(), '\xff');
        for (const auto& wrong :
             {es.sign_der(text), raw + '\0', '\0' + raw, raw.substr(1), raw.substr(0, raw.size() - 1), half,
              raw + raw, zeros + zeros, ones + ones, half + zeros, zeros + half, half + half,
              raw.substr(es.number()) + half, std::string("\x30\x00", 2), "0"s}) {
            assert_refused(token(wrong), keys_of(algorithm), Reason::bad_signature);
        }
    }
    // Sizes of the other curves under this one's name.
    for (const std::size_t size : {64U, 96U, 132U}) {
        const std::string text = base64url_encode(R"({"alg":"ES384"})") + "." + base64url_encode(kPayload);
        assert_refused(text + "." + base64url_encode(std::string(size, '\x01')), keys_of(Algorithm::es384),
                       Reason::bad_signature);
    }
    // Numbers with leading zeros and with a high bit: enough signatures to have met both.
    for (int i = 0; i < 600; ++i) {
        const Signer& es = signer(Algorithm::es256);
        assert_accepted(es.mint(kPayload), keys_of(Algorithm::es256));
    }
}

void S23_typ_is_a_string_if_there(void**) {
    for (const auto typ : {R"("JWT")", R"("at+jwt")", R"("")"}) {
        assert_accepted(hs().mint(R"({"alg":"HS256","typ":)"s + typ + "}", kPayload), hs_keys());
    }
    for (const auto typ : {"1", "null", "[]", "{}", "true"}) {
        assert_refused(hs().mint(R"({"alg":"HS256","typ":)"s + typ + "}", kPayload), hs_keys(),
                       Reason::bad_header);
    }
    for (const auto alg : {"1", "null", R"(["HS256"])", R"({"HS256":1})", "true"}) {
        assert_refused(hs().mint(R"({"alg":)"s + alg + "}", kPayload), hs_keys(), Reason::bad_header);
    }
}

void S24_kid_is_a_name_and_nothing_more(void**) {
    const auto token = [](const std::string& kid) {
        return hs().mint(hs().header(R"(,"kid":)" + kid), kPayload);
    };
    const KeySet named = keys_of({&hs()}, "k1");
    assert_accepted(token(R"("k1")"), named);
    assert_accepted(hs().mint(kPayload), named);
    for (const auto kid : {R"("k2")", R"("K1")", R"("k1 ")", R"("../../../dev/null")", R"("/dev/null")",
                           R"("k1' or '1'='1")", R"("http://127.0.0.1/key")", R"("k")"}) {
        assert_refused(token(kid), named, Reason::unknown_key);
        assert_accepted(token(kid), hs_keys());  // the key without a name may be meant
    }
    assert_accepted(token("\"" + std::string(128, 'k') + "\""), hs_keys());
    for (const auto& kid : {"\"" + std::string(129, 'k') + "\"", R"("")"s, R"("\u0000")"s, R"("k1\u0000")"s,
                            R"("a\nb")"s, "\"\xc3\xa9\""s, "1"s, "null"s, "[]"s}) {
        assert_refused(token(kid), named, Reason::bad_header);
        assert_refused(token(kid), hs_keys(), Reason::bad_header);
    }
    // The kid of a key of another algorithm leads nowhere.
    const KeySet both = keys_of({&hs(), &signer(Algorithm::es256)}, "k1");
    assert_accepted(token(R"("k1")"), both);
    assert_refused(token(R"("k2")"), both, Reason::unknown_key);
}

void S24_without_kid_eight_keys_are_tried(void**) {
    KeySet keys;
    for (int i = 0; i < 10; ++i) {
        const std::string secret =
            i == 9 ? minter::kSecret : "secret number " + std::to_string(i) + " of somebody else's";
        auto key = Key::from_secret(Algorithm::hs256, secret, "k" + std::to_string(i));
        assert_true(key.ok());
        assert_false(keys.add(std::move(*key)).has_value());
    }
    assert_refused(hs().mint(kPayload), keys, Reason::bad_signature);
    assert_accepted(hs().mint(hs().header(R"(,"kid":"k9")"), kPayload), keys);
    assert_refused(hs().mint(hs().header(R"(,"kid":"k8")"), kPayload), keys, Reason::bad_signature);
}

void S25_S62_keys_and_urls_in_the_header_are_never_used(void**) {
    // The forger's own key, offered in every way the header knows.
    const std::string secret = "a secret of the forger, long enough";
    const std::string k = base64url_encode(secret);
    for (const auto& more : {R"(,"jwk":{"kty":"oct","alg":"HS256","k":")" + k + R"("})",
                             R"(,"jku":"https://127.0.0.1:1/jwks.json")"s, R"(,"x5u":"file:///etc/passwd")"s,
                             R"(,"x5c":["MIIB"])"s, R"(,"jku":1,"x5u":{},"x5c":null,"jwk":"","x5t":[])"s}) {
        const std::string header = hs().header(more);
        const std::string text = base64url_encode(header) + "." + base64url_encode(kPayload);
        const std::string mac = minter::hmac(EVP_sha256(), secret, text);
        assert_refused(text + "." + base64url_encode(mac), hs_keys(), Reason::bad_signature);
        assert_accepted(hs().mint(header, kPayload), hs_keys());
    }
}

void S27_a_mac_that_differs_anywhere_is_refused(void**) {
    const std::string text = base64url_encode(hs().header()) + "." + base64url_encode(kPayload);
    const std::string mac = hs().sign(text);
    for (std::size_t bit = 0; bit < 8 * mac.size(); ++bit) {
        std::string wrong = mac;
        wrong[bit / 8] = static_cast<char>(wrong[bit / 8] ^ (1 << bit % 8));
        assert_refused(text + "." + base64url_encode(wrong), hs_keys(), Reason::bad_signature);
    }
    for (std::size_t size = 1; size < mac.size(); ++size) {
        assert_refused(text + "." + base64url_encode(mac.substr(0, size)), hs_keys(), Reason::bad_signature);
    }
    assert_refused(text + "." + base64url_encode(mac + mac), hs_keys(), Reason::bad_signature);
}

void S28_a_reason_has_a_name_and_no_bytes_of_the_token(void**) {
    std::vector<std::string> names;
    for (int reason = 0; reason <= static_cast<int>(Reason::bad_audience); ++reason) {
        names.emplace_back(rooms::token_reason_text(static_cast<Reason>(reason)));
    }
    std::sort(names.begin(), names.end());
    assert_true(std::unique(names.begin(), names.end()) == names.end());
    assert_int_equal(names.size(), 13);
    // Every claim that is refused for its content, with a content that would show.
    const std::string mark = "SHOWS-IN-THE-LOG";
    for (const auto& payload :
         {R"({"exp":"@"})"s, R"({"exp":1700003600,"nbf":"@"})"s, R"({"exp":1700003600,"rooms":"@"})"s,
          R"({"exp":1700003600,"sub":["@"]})"s, R"({"exp":1700003600,"sub":"@\u0007"})"s,
          R"({"exp":1700003600,"@":1,"@":2})"s, R"({"exp":1700003600,"@":"\u0000"})"s, R"({"@"})"s,
          R"({"exp":1700003600,"iss":"@"})"s, R"({"exp":1700003600,"iss":"i","aud":"@"})"s}) {
        std::string text = payload;
        for (auto at = text.find('@'); at != std::string::npos; at = text.find('@')) {
            text.replace(at, 1, mark);
        }
        TokenRules rules;
        rules.issuer = "i";
        rules.audience = {"a"};
        const auto claims = verify_token(hs().mint(text), hs_keys(), rules, kNow);
        assert_false(claims.ok());
        assert_true(claims.error().detail.find(mark) == std::string::npos);
    }
}

void no_single_bit_of_a_token_can_be_changed(void**) {
    for (const Algorithm algorithm : {Algorithm::hs256, Algorithm::es256}) {
        const std::string token = signer(algorithm).mint(kPayload);
        for (std::size_t bit = 0; bit < 8 * token.size(); ++bit) {
            std::string other = token;
            other[bit / 8] = static_cast<char>(other[bit / 8] ^ (1 << bit % 8));
            assert_false(verify_token(other, keys_of(algorithm), TokenRules(), kNow).ok());
        }
    }
}

void no_part_of_a_token_can_be_cut_out_or_doubled(void**) {
    const std::string token = hs().mint(kPayload);
    for (std::size_t at = 0; at < token.size(); ++at) {
        for (const std::size_t size : {1U, 2U, 4U, 13U}) {
            if (at + size > token.size()) continue;
            std::string other = token;
            other.erase(at, size);
            assert_false(verify_token(other, hs_keys(), TokenRules(), kNow).ok());
            other = token;
            other.insert(at, token, at, size);
            assert_false(verify_token(other, hs_keys(), TokenRules(), kNow).ok());
        }
        assert_false(verify_token(token.substr(0, at), hs_keys(), TokenRules(), kNow).ok());
    }
}

// --- the n-th allocation fails -------------------------------------------------------------

std::uint64_t c_until_failure = UINT64_MAX;  // of OpenSSL
bool c_failed = false;

bool c_allocation_fails() {
    if (c_until_failure == UINT64_MAX || c_until_failure-- != 0) return false;
    c_until_failure = UINT64_MAX;
    c_failed = true;
    return true;
}
void* crypto_malloc(std::size_t size, const char*, int) {
    return c_allocation_fails() ? nullptr : std::malloc(size);
}
void* crypto_realloc(void* memory, std::size_t size, const char*, int) {
    return c_allocation_fails() ? nullptr : std::realloc(memory, size);
}
void crypto_free(void* memory, const char*, int) { std::free(memory); }

// Runs f with the n-th allocation of the C libraries failing, until none failed. Beyond the first
// `dense`, in growing steps: reading a PEM takes thousands. The number of runs with a failure.
int every_c_allocation_fails(const std::function<void()>& f, std::uint64_t dense = 100) {
    int runs = 0;
    for (std::uint64_t n = 0;; n += 1 + n / dense) {
        c_failed = false;
        c_until_failure = n;
        f();
        c_until_failure = UINT64_MAX;
        ERR_clear_error();
        if (!c_failed) return runs;
        ++runs;
    }
}

void no_allocation_of_ours_that_fails_leaks(void**) {
    if (!allocations_can_fail()) skip();
    for (const Algorithm algorithm : {Algorithm::hs256, Algorithm::es256}) {
        const std::string token = signer(algorithm).mint(
            signer(algorithm).header(R"(,"kid":"a kid of more than fifteen bytes","x":[{"y":1}])"),
            R"({"sub":"a user of more than fifteen bytes","exp":1700003600,"rooms":["a room of more than fifteen bytes"]})");
        const TokenRules rules;
        const auto failures = every_allocation_fails(
            [&] { assert_true(verify_token(token, keys_of(algorithm), rules, kNow).ok()); });
        assert_true(failures > 5);
    }
    const std::string file = hs().key_file();
    assert_true(every_allocation_fails([&] {
                    assert_true(
                        Key::from_file_text(Algorithm::hs256, file, "a kid of more than 15 bytes").ok());
                }) > 0);
}

void no_allocation_of_the_libraries_that_fails_opens_the_door(void**) {
    for (const Algorithm algorithm :
         {Algorithm::hs256, Algorithm::rs256, Algorithm::ps256, Algorithm::es256, Algorithm::eddsa}) {
        const KeySet& keys = keys_of(algorithm);
        const std::string good =
            signer(algorithm).mint(R"({"sub":"u1","exp":1700003600,"a":{"b":[1,2.5,"c"]}})");
        std::string bad = good;
        bad[bad.size() - 10] = bad[bad.size() - 10] == 'A' ? 'B' : 'A';
        bool accepted = false;
        const int failures = every_c_allocation_fails([&] {
            accepted = false;
            try {
                const auto claims = verify_token(good, keys, TokenRules(), kNow);
                accepted = claims.ok();
                if (accepted) assert_string_equal(claims->user_id().c_str(), "u1");
                // A page that is told so would stop. Of public keys OpenSSL does not always say what it lacked.
                if (!accepted) {
                    assert_true(algorithm != Algorithm::hs256 &&
                                claims.error().reason == Reason::bad_signature);
                }
            } catch (const std::bad_alloc&) {
            }
        });
        assert_true(failures > 2);
        assert_true(accepted);
        (void)every_c_allocation_fails([&] {
            try {
                assert_false(verify_token(bad, keys, TokenRules(), kNow).ok());
            } catch (const std::bad_alloc&) {
            }
        });
        assert_accepted(good, keys);
    }
}

void no_allocation_of_the_libraries_that_fails_spoils_a_key(void**) {
    for (const Algorithm algorithm :
         {Algorithm::hs256, Algorithm::rs256, Algorithm::ps256, Algorithm::es256, Algorithm::eddsa}) {
        const std::string file = signer(algorithm).key_file();
        const std::string signature = signer(algorithm).sign("text");
        bool read = false;
        const int failures = every_c_allocation_fails(
            [&] {
                const auto key = Key::from_file_text(algorithm, file);
                read = key.ok();
                if (!read) return;
                c_until_failure = UINT64_MAX;
                assert_true(key->verify("text", signature) == Key::Verdict::good);
            },
            16);
        assert_true(failures > 3);
        assert_true(read);
    }
}

}  // namespace

int main() {
    // Before OpenSSL has allocated anything, or it refuses.
    if (CRYPTO_set_mem_functions(crypto_malloc, crypto_realloc, crypto_free) != 1) return 1;
    const CMUnitTest tests[] = {
        cmocka_unit_test(a_token_of_every_algorithm_is_accepted),
        cmocka_unit_test(all_keys_in_one_set_do_not_get_in_each_others_way),
        cmocka_unit_test(S10_alg_must_be_that_of_a_configured_key),
        cmocka_unit_test(S11_hs256_signed_with_the_public_pem_is_refused),
        cmocka_unit_test(S12_none_in_any_case_is_refused),
        cmocka_unit_test(S13_the_name_of_an_algorithm_is_case_exact),
        cmocka_unit_test(S14_crit_is_refused_whatever_is_in_it),
        cmocka_unit_test(S15_three_segments_of_base64url_and_nothing_else),
        cmocka_unit_test(S15_unused_last_bits_are_zero),
        cmocka_unit_test(S16_a_token_of_more_than_8_KiB_is_refused_unread),
        cmocka_unit_test(S17_header_and_payload_are_objects),
        cmocka_unit_test(S17_no_member_occurs_twice),
        cmocka_unit_test(S17_depth_is_at_most_8),
        cmocka_unit_test(S18_an_es_signature_is_two_numbers_of_the_curves_size),
        cmocka_unit_test(S23_typ_is_a_string_if_there),
        cmocka_unit_test(S24_kid_is_a_name_and_nothing_more),
        cmocka_unit_test(S24_without_kid_eight_keys_are_tried),
        cmocka_unit_test(S25_S62_keys_and_urls_in_the_header_are_never_used),
        cmocka_unit_test(S27_a_mac_that_differs_anywhere_is_refused),
        cmocka_unit_test(S28_a_reason_has_a_name_and_no_bytes_of_the_token),
        cmocka_unit_test(no_single_bit_of_a_token_can_be_changed),
        cmocka_unit_test(no_part_of_a_token_can_be_cut_out_or_doubled),
        cmocka_unit_test(no_allocation_of_ours_that_fails_leaks),
        cmocka_unit_test(no_allocation_of_the_libraries_that_fails_opens_the_door),
        cmocka_unit_test(no_allocation_of_the_libraries_that_fails_spoils_a_key),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

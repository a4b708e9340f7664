// libFuzzer: whatever bytes arrive as a token, as a signed header or payload, or as a key or secret
// file. The first byte chooses. A token that nobody signed is never accepted, nor one that libjwt refuses, and the
// claims of an accepted one are what jansson reads.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "core/jwks.hpp"
#include "core/secret.hpp"
#include "core/token.hpp"

#include "fuzz/jansson.hpp"
#include "oracle/libjwt.hpp"
#include "unit/minter.hpp"

namespace {

using minter::Signer;
using rooms::Algorithm;
using rooms::Key;

constexpr std::int64_t kNow = 1'300'000'000'000;  // the RFC's examples are valid then

// Public keys of the examples of RFC 7515 A.2, A.3 and RFC 8037 A.4: no run makes others.
constexpr std::string_view kJwks =
    R"({"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},)"
    R"({"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"ed"},)"
    R"({"kty":"RSA","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}]})";

// The signed texts of the tokens in the corpus that are good: RFC 7515 A.2, A.3, and our own.
constexpr std::string_view kSigned[] = {
    "eyJhbGciOiJSUzI1NiJ9."
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ",
    "eyJhbGciOiJFUzI1NiJ9."
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ",
    "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjEzMDA4MTkzODAsInN1YiI6InUxIn0",
};

struct Fixture {
    Signer hs{Algorithm::hs256};
    rooms::KeySet keys;
    rooms::TokenRules plain;
    rooms::TokenRules strict;
    rooms::TokenRules loose;

    Fixture() {
        auto read = rooms::parse_jwks(kJwks);
        minter::require(read.ok());
        for (Key& key : *read) minter::require(!keys.add(std::move(key)));
        minter::require(!keys.add(std::move(*Key::from_secret(Algorithm::hs256, minter::kSecret))));
        strict.issuer = "joe";
        strict.audience = {"rooms"};
        strict.max_age_s = 3600;
        strict.leeway_s = 10;
        loose.required_claims = {};
        loose.exp_in_ms = true;
    }
};

void look_at(const rooms::Claims& claims, const rooms::TokenRules& rules) {
    minter::require(claims.user_id().size() <= rooms::kMaxUserId);
    minter::require(claims.expires_at_ms() == 0 || claims.expires_at_ms() > kNow - rules.leeway_s * 1000);
    minter::require(claims.expires_at_ms() < kNow + std::int64_t{11} * 366 * 86400 * 1000);
    for (const auto* name : {"sub", "a", "b", "exp"}) {
        const auto text = claims.text(name);
        minter::require(!text || text->find('\0') == std::string::npos);
    }
    const std::vector<std::string> path = {"a", "b"};
    (void)claims.text(path);
}

// Two numbers are the same if the same double is nearest to both.
void compare_claims(const rooms::Claims& claims, std::string_view payload) {
    const rooms::Tree tree = rooms::judge(payload, JSON_REJECT_DUPLICATES).tree;
    minter::require(json_is_object(tree.get()));
    const char* name = nullptr;
    json_t* value = nullptr;
    json_object_foreach(tree.get(), name, value) {
        const auto ours = claims.text(name);
        if (json_is_string(value)) minter::require(ours == rooms::text_of(value));
        else if (json_is_boolean(value)) minter::require(ours == (json_is_true(value) ? "true" : "false"));
        else if (json_is_integer(value)) minter::require(ours == std::to_string(json_integer_value(value)));
        else if (json_is_real(value))
            minter::require(ours && std::strtod(ours->c_str(), nullptr) == json_real_value(value));
        else minter::require(!ours);
    }
}

void verify(const Fixture& fixture, std::string_view token, bool is_signed) {
    for (const auto* rules : {&fixture.plain, &fixture.strict, &fixture.loose}) {
        const auto claims = rooms::verify_token(token, fixture.keys, *rules, kNow);
        if (!claims) {
            minter::require(!claims.error().detail.empty());
            continue;
        }
        look_at(*claims, *rules);
        const std::size_t first = token.find('.') + 1;
        compare_claims(*claims,
                       rooms::base64url_decode(token.substr(first, token.rfind('.') - first)).value_or(""));
        if (is_signed) {
            minter::require(oracle::libjwt_accepts(std::string(token), minter::kSecret) ||
                            oracle::alg_for_libjwt(token).empty());
            continue;
        }
        bool known = false;
        for (const auto text : kSigned) {
            known = known || token.substr(0, token.rfind('.')) == text;
        }
        minter::require(known);
    }
}

}  // namespace

extern "C" __attribute__((visibility("default"))) int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                                                             std::size_t size) {
    static const auto* const fixture = new Fixture;
    if (size == 0) return 0;
    const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
    const std::string payload = R"({"exp":1300819380})";
    switch (data[0]) {
        case 'h': verify(*fixture, fixture->hs.mint(text, payload), true); break;
        case 'p': verify(*fixture, fixture->hs.mint(text), true); break;
        case 's': (void)rooms::SecretFile::parse(text); break;
        case 'k':
            if (text.empty()) break;
            (void)Key::from_file_text(minter::kAllAlgorithms[static_cast<unsigned char>(text[0]) % 13],
                                      text.substr(1));
            break;
        default: verify(*fixture, text, false);
    }
    return 0;
}

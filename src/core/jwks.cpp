// JWKS members to EVP_PKEYs. The numbers stay as decoded: big-endian octets.
#include "core/jwks.hpp"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>

#include "core/base64.hpp"
#include "core/freed.hpp"
#include "core/json.hpp"

namespace rooms {
namespace {

constexpr unsigned kMaxDepth = 8;

using Builder = std::unique_ptr<OSSL_PARAM_BLD, Freed<OSSL_PARAM_BLD_free>>;
using Params = std::unique_ptr<OSSL_PARAM, Freed<OSSL_PARAM_free>>;
using PkeyContext = std::unique_ptr<EVP_PKEY_CTX, Freed<EVP_PKEY_CTX_free>>;
using Number = std::unique_ptr<BIGNUM, Freed<BN_free>>;

// A member that is absent is not the same as one of a wrong type, which `error` tells.
class Jwk {
public:
    explicit Jwk(std::string_view object) : object_(object) {}

    [[nodiscard]] std::optional<JsonMember> find(std::string_view name) const {
        JsonMember member;
        for (JsonMembers members(object_); members.next(member);) {
            if (member.name() == name) return member;
        }
        return std::nullopt;
    }

    // Absent: empty. Not a string: error() is set.
    std::string text(std::string_view name) {
        const auto member = find(name);
        if (!member) return {};
        if (member->type == JsonType::string) return unescape_json(member->raw).value_or("");
        fail("\"" + std::string(name) + "\" is not a string");
        return {};
    }

    // What base64url of a required member says.
    std::string octets(std::string_view name) {
        const auto member = find(name);
        if (!member) {
            fail("no \"" + std::string(name) + "\"");
            return {};
        }
        auto decoded = base64url_decode(text(name));
        if (decoded && !decoded->empty()) return std::move(*decoded);
        fail("\"" + std::string(name) + "\" is not base64url");
        return {};
    }

    void fail(std::string why) {
        if (!error_) error_ = Error{std::move(why)};
    }
    [[nodiscard]] const std::optional<Error>& error() const { return error_; }

private:
    std::string_view object_;
    std::optional<Error> error_;
};

Key::Pkey pkey_from(const char* type, OSSL_PARAM_BLD* builder) {
    const Params params(OSSL_PARAM_BLD_to_param(builder));
    const PkeyContext context(EVP_PKEY_CTX_new_from_name(nullptr, type, nullptr));
    EVP_PKEY* pkey = nullptr;
    if (params && context && EVP_PKEY_fromdata_init(context.get()) == 1) {
        EVP_PKEY_fromdata(context.get(), &pkey, EVP_PKEY_PUBLIC_KEY, params.get());
    }
    return Key::Pkey(pkey);
}

Number number_from(std::string_view octets) {
    return Number(BN_bin2bn(reinterpret_cast<const unsigned char*>(octets.data()),
                            static_cast<int>(octets.size()), nullptr));
}

Key::Pkey rsa_pkey(Jwk& jwk) {
    const Number n = number_from(jwk.octets("n"));
    const Number e = number_from(jwk.octets("e"));
    const Builder builder(OSSL_PARAM_BLD_new());
    if (jwk.error() || !n || !e || !builder ||
        OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, n.get()) != 1 ||
        OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_E, e.get()) != 1) {
        return nullptr;
    }
    return pkey_from("RSA", builder.get());
}

struct Curve {
    std::string_view name;
    const char* group;
    std::size_t size;  // of a coordinate
    Algorithm algorithm;
};

constexpr Curve kCurves[] = {{"P-256", "prime256v1", 32, Algorithm::es256},
                             {"P-384", "secp384r1", 48, Algorithm::es384},
                             {"P-521", "secp521r1", 66, Algorithm::es512}};

const Curve* find_curve(std::string_view name) {
    const auto* const found = std::find_if(std::begin(kCurves), std::end(kCurves),
                                           [&](const Curve& curve) { return curve.name == name; });
    return found == std::end(kCurves) ? nullptr : found;
}

Key::Pkey ec_pkey(Jwk& jwk, const Curve& curve) {
    const std::string x = jwk.octets("x");
    const std::string y = jwk.octets("y");
    // RFC 7518 section 6.2.1.2: the full size, with leading zeros.
    if (x.size() != curve.size || y.size() != curve.size) {
        jwk.fail("\"x\" and \"y\" of " + std::string(curve.name) + " have " + std::to_string(curve.size) +
                 " bytes");
    }
    const std::string point = "\x04" + x + y;
    const Builder builder(OSSL_PARAM_BLD_new());
    if (jwk.error() || !builder ||
        OSSL_PARAM_BLD_push_utf8_string(builder.get(), OSSL_PKEY_PARAM_GROUP_NAME, curve.group, 0) != 1 ||
        OSSL_PARAM_BLD_push_octet_string(builder.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(),
                                         point.size()) != 1) {
        return nullptr;
    }
    return pkey_from("EC", builder.get());
}

Key::Pkey okp_pkey(Jwk& jwk, bool is_448) {
    const std::string x = jwk.octets("x");
    const std::size_t size = is_448 ? 57 : 32;
    if (x.size() != size) jwk.fail("\"x\" has " + std::to_string(size) + " bytes");
    if (jwk.error()) return nullptr;
    return Key::Pkey(EVP_PKEY_new_raw_public_key_ex(nullptr, is_448 ? "ED448" : "ED25519", nullptr,
                                                    reinterpret_cast<const unsigned char*>(x.data()),
                                                    x.size()));
}

// One key; or why it is passed over; or an error.
struct Reading {
    std::optional<Key> key;
    std::string passed_over;
    std::optional<Error> error;
};

Reading wrong(std::string why) { return {std::nullopt, {}, Error{std::move(why)}}; }
Reading not_ours(std::string why) { return {std::nullopt, std::move(why), std::nullopt}; }

// `key_ops`, if there, allows verifying (RFC 7517 section 4.3).
bool verifies(Jwk& jwk) {
    const auto operations = jwk.find("key_ops");
    if (!operations) return true;
    if (operations->type != JsonType::array) {
        jwk.fail("\"key_ops\" is not an array");
        return true;
    }
    JsonValue element;
    for (JsonElements elements(operations->raw); elements.next(element);) {
        if (unescape_json(element.raw) == "verify") return true;
    }
    return false;
}

// What `alg` says, or what the key's kind and curve leave no choice about.
std::optional<Algorithm> choose_algorithm(const std::string& kty, const std::string& curve,
                                          const std::string& alg) {
    if (!alg.empty()) return parse_algorithm(alg);
    if (kty == "RSA") return Algorithm::rs256;
    if (kty == "OKP") return Algorithm::eddsa;
    if (kty == "EC") return find_curve(curve)->algorithm;
    return std::nullopt;
}

Reading finish(Result<Key> key) {
    if (!key) return wrong(key.error().message);
    return {std::move(*key), {}, std::nullopt};
}

Reading read_secret(Jwk& jwk, Algorithm algorithm, std::string kid) {
    std::string secret = jwk.octets("k");
    auto reading = jwk.error() ? wrong(jwk.error()->message)
                               : finish(Key::from_secret(algorithm, secret, std::move(kid)));
    OPENSSL_cleanse(secret.data(), secret.size());
    return reading;
}

Reading read_key(std::string_view object, std::string kid) {
    Jwk jwk(object);
    const std::string kty = jwk.text("kty");
    const std::string use = jwk.text("use");
    const std::string alg = jwk.text("alg");
    const std::string crv = jwk.text("crv");
    const bool may_verify = verifies(jwk);
    if (jwk.error()) return wrong(jwk.error()->message);
    if (kty.empty()) return wrong("no \"kty\"");
    if (!use.empty() && use != "sig") return not_ours("\"use\" is not \"sig\"");
    if (!may_verify) return not_ours("\"key_ops\" has no \"verify\"");

    const bool is_448 = crv == "Ed448";
    if (kty == "EC"    ? !find_curve(crv)
        : kty == "OKP" ? !is_448 && crv != "Ed25519"
                       : kty != "RSA" && kty != "oct") {
        return not_ours("its kind or curve is not supported");
    }
    if (kty == "oct" && alg.empty()) return wrong("a secret (\"oct\") needs \"alg\"");
    const auto algorithm = choose_algorithm(kty, crv, alg);
    if (!algorithm) return not_ours("its \"alg\" is not supported");
    const KeyFamily family = key_family(*algorithm);
    const bool fits = kty == "RSA"   ? family == KeyFamily::rsa || family == KeyFamily::rsa_pss
                      : kty == "EC"  ? family == KeyFamily::ec
                      : kty == "OKP" ? family == KeyFamily::okp
                                     : family == KeyFamily::hmac;
    if (!fits) return wrong("\"alg\" does not fit \"kty\"");
    if (kty == "oct") return read_secret(jwk, *algorithm, std::move(kid));
    if (jwk.find("d")) return wrong("a private key (it has \"d\"); only public ones belong here");

    Key::Pkey pkey = kty == "RSA"  ? rsa_pkey(jwk)
                     : kty == "EC" ? ec_pkey(jwk, *find_curve(crv))
                                   : okp_pkey(jwk, is_448);
    if (jwk.error()) return wrong(jwk.error()->message);
    if (!pkey) return wrong("OpenSSL refuses it");
    return finish(Key::from_pkey(*algorithm, std::move(pkey), std::move(kid)));
}

}  // namespace

Result<std::vector<Key>> parse_jwks(std::string_view json) {
    if (json.size() > kMaxJwksFile) return Error{"a JWKS of more than 1 MiB"};
    const auto set = parse_json_object(json, kMaxDepth);
    if (!set) return Error{"not a JSON object: " + set.error().message()};
    const auto list = std::find_if(set->begin(), set->end(),
                                   [](const JsonMember& member) { return member.name() == "keys"; });
    if (list == set->end() || list->type != JsonType::array) {
        return Error{"no array \"keys\": a JWKS is {\"keys\":[...]}"};
    }

    std::vector<Key> keys;
    std::vector<std::string> kids;
    std::string passed_over;
    JsonValue element;
    std::size_t index = 0;
    for (JsonElements elements(list->raw); elements.next(element); ++index) {
        std::string where = "key " + std::to_string(index);
        if (element.type != JsonType::object) return Error{where + ": not an object"};
        if (find_duplicate_member(element.raw)) return Error{where + ": a member occurs twice"};
        Jwk jwk(element.raw);
        const std::string kid = jwk.text("kid");
        if (jwk.error() || (jwk.find("kid") && !is_kid(kid))) {
            return Error{where + ": \"kid\" is not 1 to 128 printable characters"};
        }
        if (!kid.empty()) where += " (kid \"" + kid + "\")";

        Reading reading = read_key(element.raw, kid);
        ERR_clear_error();
        if (reading.error) return Error{where + ": " + reading.error->message};
        if (!reading.key) {
            if (passed_over.empty()) passed_over = where + ": " + reading.passed_over;
            continue;
        }
        if (!kid.empty() && std::find(kids.begin(), kids.end(), kid) != kids.end()) {
            return Error{where + ": a second key with this kid"};
        }
        kids.push_back(kid);
        keys.push_back(std::move(*reading.key));
    }
    if (keys.empty()) {
        return Error{passed_over.empty() ? "no keys" : "no key to verify with; " + passed_over};
    }
    return keys;
}

}  // namespace rooms

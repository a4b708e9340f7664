// Tokens by the thousand, good ones and such that are wrong in every part of them, each with our verdict, for
// token_verdicts.mjs to compare with those of other libraries. `token_cases SEED COUNT` prints JSON: a line with the
// keys and the rules, then a line for each token.
//
// The seed chooses what is wrong; keys and random signatures are new in each run.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "core/json_text.hpp"
#include "core/token.hpp"

#include "oracle/libjwt.hpp"
#include "unit/minter.hpp"

namespace {

using minter::Signer;
using rooms::Algorithm;
using rooms::base64url_decode;
using rooms::base64url_encode;

constexpr std::int64_t kNowS = 1'700'000'000;

std::mt19937 random_numbers;

std::size_t below(std::size_t count) { return random_numbers() % count; }
bool one_in(std::size_t count) { return below(count) == 0; }

template <typename List>
auto one_of(const List& list) {
    return *(std::begin(list) + static_cast<std::ptrdiff_t>(below(std::size(list))));
}

// A byte more, less or different.
void spoil(std::string& text, std::string_view bytes) {
    const std::size_t at = below(text.size() + 1);
    switch (below(3)) {
        case 0: text.insert(at, 1, one_of(bytes)); break;
        case 1: text.erase(std::min(at, text.size()), 1 + below(2)); break;
        default:
            if (at < text.size()) text[at] = one_of(bytes);
    }
}

// --- what stands in a token

std::string quoted(std::string_view text) {
    std::string literal;
    rooms::append_json_string(literal, text);
    return literal;
}

std::string object(const std::vector<std::string>& members) {
    std::string text;
    for (const std::string& member : members) text += (text.empty() ? "{" : ",") + member;
    return text.empty() ? "{}" : text + "}";
}

void insert(std::vector<std::string>& members, std::string member) {
    members.insert(members.begin() + static_cast<std::ptrdiff_t>(below(members.size() + 1)),
                   std::move(member));
}

// A member that makes its object so deep.
std::string nested(std::size_t depth) {
    return "\"deep\":" + std::string(depth - 1, '[') + std::string(depth - 1, ']');
}

std::string header(const Signer& signer) {
    static const std::string_view kAlgorithms[] = {
        R"("none")",  R"("None")",  R"("hs256")",   R"("HS256 ")", R"("HS1")",   R"("")",
        "null",       "1",          R"(["HS256"])", R"("HS256")",  R"("RS256")", R"("PS256")",
        R"("ES256")", R"("EdDSA")", R"("ES256K")",  R"("A128KW")"};
    static const std::string_view kMembers[] = {R"("kid":"k1")",
                                                R"("kid":"\u006b1")",
                                                R"("kid":1)",
                                                R"("kid":"")",
                                                R"("kid":"a\nb")",
                                                R"("kid":"é")",
                                                R"("typ":"at+jwt")",
                                                R"("typ":1)",
                                                R"("cty":"JWT")",
                                                R"("zip":"DEF")",
                                                R"("b64":false)",
                                                R"("crit":["b64"],"b64":true)",
                                                R"("crit":["b64"],"b64":false)",
                                                R"("crit":["exp"],"exp":1)",
                                                R"("crit":[])",
                                                R"("crit":null)",
                                                R"("crit":"b64")",
                                                R"("alg":"none")",
                                                R"("alg":"HS256")",
                                                R"("ALG":"none")",
                                                R"("\u0061lg":"HS256")",
                                                R"("jku":"https://other.example/keys")",
                                                R"("x5c":["MIIB"])",
                                                R"("jwk":{"kty":"oct","k":"AAAA","alg":"HS256"})",
                                                R"("a":{"b":1,"b":2})",
                                                R"("a":{"b":[{"c":1}]})",
                                                R"("__proto__":{"alg":"none"})"};
    const std::string name = one_in(16) ? std::string(one_of(kAlgorithms)) : quoted(signer.name());
    std::vector<std::string> members = {"\"alg\":" + name};
    if (!one_in(4)) members.emplace_back(R"("typ":"JWT")");
    while (one_in(5)) insert(members, std::string(one_of(kMembers)));
    if (one_in(40)) insert(members, nested(7 + below(4)));
    return object(members);
}

// Of exp, nbf and iat: at the edges of what the rules below allow, and no time at all.
std::string instant() {
    static const std::int64_t kSteps[] = {0,    1,    9,    10,   11,        60,       3599,
                                          3600, 3601, 3610, 3611, 315619199, 315619201};
    static const std::string_view kOthers[] = {"0",
                                               "-1",
                                               "1e300",
                                               "-1e300",
                                               "1e400",
                                               "1.7e9",
                                               "1e-9",
                                               "null",
                                               R"("1700003600")",
                                               R"("x")",
                                               "true",
                                               "[1700003600]",
                                               "{}",
                                               "99999999999999999999",
                                               "1700003600000",
                                               "-0"};
    if (one_in(4)) return std::string(one_of(kOthers));
    const std::int64_t step = one_of(kSteps);
    std::string text = std::to_string(kNowS + (one_in(2) ? step : -step));
    if (one_in(8)) text += one_in(2) ? ".5" : "e0";
    return text;
}

// A claim with its usual value, or an odd one, or not at all.
void add(std::vector<std::string>& members, const std::string& usual, const std::vector<std::string>& odd) {
    if (!one_in(8)) members.push_back(one_in(8) ? one_of(odd) : usual);
}

std::string payload() {
    static const std::string longest(200, 'u');
    static const std::vector<std::string> kUsers = {R"("sub":"")",
                                                    R"("sub":7)",
                                                    R"("sub":-0)",
                                                    R"("sub":1.5)",
                                                    R"("sub":null)",
                                                    R"("sub":[])",
                                                    R"("sub":"a\u0000b")",
                                                    R"("sub":"a\u0007b")",
                                                    R"("sub":"a\u0085b")",
                                                    R"("sub":"\ud800")",
                                                    R"("sub":"ü😀")",
                                                    R"("sub":"\ud83d\ude00\u0041")",
                                                    R"("\u0073ub":"u3")",
                                                    R"("id":8)",
                                                    R"("id":"u4")",
                                                    "\"sub\":\"" + longest + "\"",
                                                    "\"sub\":\"" + longest + "u\""};
    static const std::vector<std::string> kIssuers = {R"("iss":"https://id.example/")", R"("iss":null)",
                                                      R"("iss":["https://id.example"])", R"("iss":"")"};
    static const std::vector<std::string> kAudiences = {
        R"("aud":["x","rooms"])", R"("aud":["rooms",1,null])", R"("aud":[])",   R"("aud":[["rooms"]])",
        R"("aud":"Rooms")",       R"("aud":{"rooms":1})",      R"("aud":null)", R"("aud":"chat")"};
    static const std::vector<std::string> kOthers = {R"("rooms":["session:1"])",
                                                     R"("rooms":"session:1")",
                                                     R"("rooms":[1])",
                                                     R"("rooms":null)",
                                                     R"("rooms":{})",
                                                     R"("jti":"1")",
                                                     R"("a":{"b":{"c":[1,{"d":null}]}})",
                                                     R"("a":{"b":1,"b":2})",
                                                     R"("a":[{"b":1,"\u0062":2}])",
                                                     R"("n":1e999)",
                                                     R"("n":-12345678901234567890)",
                                                     R"("n":0.1e-5)",
                                                     R"("t":"\\u0000")",
                                                     R"("t":"\u0000")",
                                                     R"("__proto__":{"exp":1700003600})",
                                                     R"("EXP":1)",
                                                     R"("exp ":1)",
                                                     "\"t\":\"\x80\"",
                                                     "\"t\":\"\xed\xa0\x80\"",
                                                     "\"t\":\"" + std::string(7000, 'x') + "\""};
    std::vector<std::string> members;
    add(members, "\"exp\":" + std::to_string(kNowS + 3600), {"\"exp\":" + instant()});
    add(members, "\"iat\":" + std::to_string(kNowS - 60), {"\"iat\":" + instant()});
    add(members, R"("sub":"u1")", kUsers);
    add(members, R"("iss":"https://id.example")", kIssuers);
    add(members, R"("aud":"rooms")", kAudiences);
    if (one_in(8)) insert(members, "\"nbf\":" + instant());
    while (one_in(6)) insert(members, one_of(kOthers));
    if (one_in(40)) insert(members, "\"exp\":" + instant());
    if (one_in(40)) insert(members, nested(7 + below(4)));
    return object(members);
}

// JSON that has been tampered with before it was signed.
std::string tampered(std::string json) {
    using namespace std::literals;
    static const std::string_view kWholes[] = {"", "[]", "null", "1", "\"x\"", "{}", "{", "{}{}"};
    if (one_in(60)) return std::string(one_of(kWholes));
    if (one_in(60)) return "\xef\xbb\xbf" + json;
    for (std::size_t i = one_in(12) ? 1 + below(2) : 0; i > 0; --i)
        spoil(json, "{}[]\",:\\/u0123456789.eE+-tfn \t\r\n\v\0\x7f\x80\xc3\xed\xff"sv);
    return json;
}

// --- how it is written and signed

constexpr std::string_view kUrlLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

// Other spellings of the same octets, for readers who are not strict.
std::string respelt(std::string text) {
    switch (below(5)) {
        case 0: return text + "=";
        case 1: return text + "==";
        case 2: {
            const std::size_t value = text.empty() ? 0 : kUrlLetters.find(text.back());
            if (text.size() % 4 == 2 || text.size() % 4 == 3) text.back() = kUrlLetters[value ^ 1];
            return text;
        }
        case 3: {
            for (char& c : text) c = c == '-' ? '+' : c == '_' ? '/' : c;
            return text;
        }
        default: return text.insert(below(text.size() + 1), 1, one_of(std::string_view(" \t\r\n!%~\x80")));
    }
}

std::string segment(const std::string& octets) {
    const std::string text = base64url_encode(octets);
    return one_in(30) ? respelt(text) : text;
}

// Signatures of `text` that are not those of the signer, or not quite.
std::string odd_signature(const Signer& signer, const std::vector<Signer>& signers, const std::string& text) {
    const bool has_key = signer.pkey() != nullptr;
    std::string signature = signer.sign(text);
    switch (below(8)) {
        case 0: signature[below(signature.size())] ^= static_cast<char>(1 << below(8)); break;
        case 1: spoil(signature, std::string_view("\0\1\xff", 3)); break;
        case 2: return one_of(signers).sign(text);
        case 3: return has_key ? minter::hmac(EVP_sha256(), minter::public_pem(signer.pkey()), text) : "";
        case 4: return has_key ? signer.sign_der(text) : signature.substr(0, signature.size() / 2);
        case 5: return std::string(signature.size(), '\0');
        case 6: return Signer(signer.algorithm()).sign(text + " ");
        default: {
            Signer salted = signer;
            salted.set_pss_salt(static_cast<int>(below(64)));
            return salted.sign(text);
        }
    }
    return signature;
}

std::string token_by(const Signer& signer, const std::vector<Signer>& signers) {
    const std::string text = segment(tampered(header(signer))) + "." + segment(tampered(payload()));
    std::string signature =
        base64url_encode(one_in(12) ? odd_signature(signer, signers, text) : signer.sign(text));
    if (one_in(30)) signature = respelt(signature);
    std::string token = text + "." + signature;
    if (one_in(30)) spoil(token, "ABCDEFabcdef0189-_+/=. \t\n%\x80\xff");
    if (one_in(80)) token += one_in(2) ? "." : ".x";
    if (one_in(80)) token = token.substr(token.find('.') + 1);
    return token;
}

// --- who judges it

struct Rules {
    std::string_view name;
    rooms::TokenRules rules;
};

std::vector<Rules> all_rules() {
    Rules plain{"plain", {}};
    Rules loose{"loose", {}};
    loose.rules.required_claims = {};
    Rules strict{"strict", {}};
    strict.rules.issuer = "https://id.example";
    strict.rules.audience = {"rooms", "chat"};
    strict.rules.leeway_s = 10;
    strict.rules.max_age_s = 3600;
    return {plain, loose, strict};
}

std::string quoted_list(const std::vector<std::string>& list) {
    std::string text;
    for (const std::string& each : list) text += (text.empty() ? "" : ",") + quoted(each);
    return "[" + text + "]";
}

void print_terms(const std::vector<Signer>& signers, const std::vector<Rules>& rules, const char* seed) {
    std::string keys;
    for (const Signer& signer : signers) {
        keys += (keys.empty() ? "" : ",") + quoted(signer.name()) + ":" +
                quoted(signer.pkey() ? minter::public_pem(signer.pkey()) : minter::kSecret);
    }
    std::string named;
    for (const auto& [name, each] : rules) {
        named += (named.empty() ? "" : ",") + quoted(name) + ":" +
                 object({"\"issuer\":" + quoted(each.issuer), "\"audience\":" + quoted_list(each.audience),
                         "\"leeway\":" + std::to_string(each.leeway_s),
                         "\"maxAge\":" + std::to_string(each.max_age_s),
                         "\"required\":" + quoted_list(each.required_claims)});
    }
    std::printf("{\"seed\":%s,\"now\":%lld,\"keys\":{%s},\"rules\":{%s}}\n", quoted(seed).c_str(),
                static_cast<long long>(kNowS), keys.c_str(), named.c_str());
}

// Libjwt's verdict on a token that we accept; null: it has none, and knows neither PS* nor EdDSA.
std::string by_libjwt(const std::string& token, const std::vector<Signer>& signers) {
    const std::string alg = oracle::alg_for_libjwt(token);
    const auto signer =
        std::find_if(signers.begin(), signers.end(), [&](const Signer& each) { return each.name() == alg; });
    if (signer == signers.end()) return "null";
    const auto family = rooms::key_family(signer->algorithm());
    if (family == rooms::KeyFamily::rsa_pss || family == rooms::KeyFamily::okp) return "null";
    const std::string key = signer->pkey() ? minter::public_pem(signer->pkey()) : minter::kSecret;
    return oracle::libjwt_accepts(token, key) ? "true" : "false";
}

void print_case(const std::string& token, const Rules& rules, const rooms::KeySet& keys,
                const std::vector<Signer>& signers) {
    const auto claims = rooms::verify_token(token, keys, rules.rules, kNowS * 1000);
    std::vector<std::string> members = {"\"rules\":" + quoted(rules.name),
                                        "\"token\":" + quoted(base64url_encode(token))};
    if (claims) {
        members.push_back("\"user\":" + quoted(claims->user_id()));
        members.push_back("\"ends\":" + std::to_string(claims->expires_at_ms()));
        members.push_back("\"libjwt\":" + by_libjwt(token, signers));
    } else {
        members.push_back("\"refused\":" + quoted(claims.error().detail));
    }
    std::puts(object(members).c_str());
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) return 2;
    random_numbers.seed(static_cast<unsigned>(std::strtoul(argv[1], nullptr, 10)));
    std::vector<Signer> signers;
    rooms::KeySet keys;
    for (const Algorithm algorithm : minter::kAllAlgorithms) {
        signers.emplace_back(algorithm);
        auto key = rooms::Key::from_file_text(algorithm, signers.back().key_file());
        minter::require(key.ok() && !keys.add(std::move(*key)));
    }
    const std::vector<Rules> rules = all_rules();
    print_terms(signers, rules, argv[1]);
    for (long i = std::atol(argv[2]); i > 0; --i) {
        // HS256 signs a hundred times faster than others.
        const Signer& signer = one_in(2) ? signers.front() : one_of(signers);
        print_case(token_by(signer, signers), one_of(rules), keys, signers);
    }
    return std::fflush(stdout) == 0 ? 0 : 1;
}

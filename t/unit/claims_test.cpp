// core/claims: the registered claims, and what is read out of a payload. Times are in ms since the
// epoch; `exp`, `nbf` and `iat` in the payloads are in seconds unless a test says otherwise.
#include <jansson.h>

#include <cstdlib>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "core/claims.hpp"

#include "cmocka.hpp"

using namespace std::literals;
using rooms::Claims;
using rooms::TokenError;
using rooms::TokenRules;
using Reason = rooms::TokenError::Reason;

namespace {

constexpr std::int64_t kNowS = 1'700'000'000;
constexpr std::int64_t kNow = kNowS * 1000;

// "%" stands for now in seconds, "@" for now in ms, each with an optional +n or -n behind it.
std::string at(std::string_view text, std::int64_t now_s = kNowS) {
    std::string out;
    for (std::size_t i = 0; i < text.size();) {
        if (text[i] != '%' && text[i] != '@') {
            out += text[i++];
            continue;
        }
        std::int64_t value = text[i] == '%' ? now_s : now_s * 1000;
        ++i;
        if (i < text.size() && (text[i] == '+' || text[i] == '-')) {
            std::size_t used = 0;
            value += std::stoll(std::string(text.substr(i)), &used);
            i += used;
        }
        out += std::to_string(value);
    }
    return out;
}

Claims assert_accepted(std::string_view payload, const TokenRules& rules = {}, std::int64_t now_ms = kNow) {
    auto claims = Claims::read(at(payload), rules, now_ms);
    if (!claims) print_error("%s: %s\n", at(payload).c_str(), claims.error().detail.c_str());
    assert_true(claims.ok());
    return std::move(*claims);
}

void assert_refused(std::string_view payload, Reason reason, std::string_view detail,
                    const TokenRules& rules = {}, std::int64_t now_ms = kNow) {
    const auto claims = Claims::read(at(payload), rules, now_ms);
    if (claims.ok()) print_error("accepted: %s\n", at(payload).c_str());
    assert_false(claims.ok());
    if (claims.error().detail.find(detail) == std::string::npos) {
        print_error("%s\n", claims.error().detail.c_str());
        fail();
    }
    assert_int_equal(static_cast<int>(claims.error().reason), static_cast<int>(reason));
}

TokenRules lenient() {
    TokenRules rules;
    rules.required_claims = {};
    return rules;
}

void S20_exp_is_required_unless_told_otherwise(void**) {
    assert_refused(R"({"sub":"u"})", Reason::missing_claim, "no claim \"exp\"");
    assert_refused(R"({"sub":"u","exp":null})", Reason::missing_claim, "no claim \"exp\"");
    const Claims claims = assert_accepted(R"({"sub":"u"})", lenient());
    assert_int_equal(claims.expires_at_ms(), 0);
    // But what is there is checked.
    assert_refused(R"({"exp":%})", Reason::expired, "expired", lenient());
    for (const auto exp : {R"({"exp":"%+60"})", R"({"exp":null})"})
        assert_refused(exp, Reason::bad_payload, "\"exp\" is not a number", lenient());
}

void S20_exp_is_a_number_of_seconds(void**) {
    assert_int_equal(assert_accepted(R"({"exp":%+60})").expires_at_ms(), kNow + 60'000);
    assert_int_equal(assert_accepted(R"({"exp":%+1.25})").expires_at_ms() % 1000, 250);
    assert_int_equal(assert_accepted(R"({"exp":1.7000000605e9})").expires_at_ms(), kNow + 60'500);
    for (const auto exp : {R"("%+60")", "true", "[%+60]", "{}", "\"\""}) {
        assert_refused(R"({"exp":)"s + exp + "}", Reason::bad_payload, "\"exp\" is not a number");
    }
    assert_refused(R"({"exp":99999999999999999999})", Reason::bad_payload, "out of range");
    assert_refused(R"({"exp":1e999})", Reason::bad_payload, "out of range");
}

void S20_a_token_ends_at_exp_not_after_it(void**) {
    assert_refused(R"({"exp":%})", Reason::expired, "expired 0 s ago");
    assert_refused(R"({"exp":%-35})", Reason::expired, "expired 35 s ago");
    (void)assert_accepted(R"({"exp":%+1})");
    (void)assert_accepted(R"({"exp":%})", {}, kNow - 1);
    for (const auto exp : {"0", "-1", "-9223372036854775808", "-1e300", "0.5", "1e-300"}) {
        assert_refused(R"({"exp":)"s + exp + "}", Reason::expired, "expired");
    }
    TokenRules rules;
    rules.leeway_s = 30;
    (void)assert_accepted(R"({"exp":%-29})", rules);
    assert_refused(R"({"exp":%-30})", Reason::expired, "expired 30 s ago", rules);
    // The leeway is no part of what is told.
    assert_int_equal(assert_accepted(R"({"exp":%-29})", rules).expires_at_ms(), kNow - 29'000);
}

void S20_R3_an_exp_in_milliseconds_is_told_from_a_long_life(void**) {
    assert_refused(R"({"exp":@+3600000})", Reason::exp_out_of_range,
                   "looks like milliseconds (rooms_jwt_exp_unit ms)");
    for (const auto exp : {"9223372036854775807", "1e300", "1700000000000000"}) {
        assert_refused(R"({"exp":)"s + exp + "}", Reason::exp_out_of_range, "rooms_jwt_exp_unit");
    }
    (void)assert_accepted(R"({"exp":%+315000000})");  // nearly ten years
    assert_refused(R"({"exp":%+316000000})", Reason::exp_out_of_range, "ten years");
}

void S21_R3_exp_in_milliseconds_obeys_the_same_rules(void**) {
    TokenRules rules;
    rules.exp_in_ms = true;
    assert_int_equal(assert_accepted(R"({"exp":@+3600000})", rules).expires_at_ms(), kNow + 3'600'000);
    assert_int_equal(assert_accepted(R"({"exp":@+1})", rules).expires_at_ms(), kNow + 1);
    assert_refused(R"({"exp":@})", Reason::expired, "expired", rules);
    assert_refused(R"({"exp":%-1})", Reason::expired, "expired", rules);
    assert_refused(R"({"exp":%+60})", Reason::expired, "looks like seconds (rooms_jwt_exp_unit s)", rules);
    assert_refused(R"({"exp":@+316000000000})", Reason::exp_out_of_range, "ten years", rules);
    const auto far = Claims::read(at(R"({"exp":@+316000000000})"), rules, kNow);
    assert_true(far.error().detail.find("rooms_jwt_exp_unit") == std::string::npos);
    // iat and nbf in either unit.
    (void)assert_accepted(R"({"exp":@+60000,"iat":%,"nbf":%})", rules);
    (void)assert_accepted(R"({"exp":@+60000,"iat":@,"nbf":@})", rules);
    assert_refused(R"({"exp":@+60000,"iat":@+1})", Reason::not_yet_valid, "\"iat\"", rules);
    assert_refused(R"({"exp":@+60000,"iat":%+1})", Reason::not_yet_valid, "\"iat\"", rules);
    assert_refused(R"({"exp":@+60000,"nbf":@+1})", Reason::not_yet_valid, "\"nbf\"", rules);
    // Without the switch, a time in ms is one in the far future.
    assert_refused(R"({"exp":%+60,"iat":@})", Reason::not_yet_valid, "\"iat\"");
}

void S22_nbf_and_iat_do_not_lie_in_the_future(void**) {
    for (const auto name : {"nbf", "iat"}) {
        const std::string start = R"({"exp":%+60,")"s + name + "\":";
        const std::string said = "\""s + name + "\"";
        (void)assert_accepted(start + "%}");
        (void)assert_accepted(start + "%-100}");
        (void)assert_accepted(start + "-5}");
        assert_refused(start + "null}", Reason::bad_payload, said + " is not a number");
        assert_refused(start + "%+1}", Reason::not_yet_valid, said + " is in the future");
        assert_refused(start + "1e300}", Reason::not_yet_valid, said);
        assert_refused(start + "9223372036854775807}", Reason::not_yet_valid, said);
        assert_refused(start + "\"%\"}", Reason::bad_payload, said + " is not a number");
        assert_refused(start + "[]}", Reason::bad_payload, said + " is not a number");
        TokenRules rules;
        rules.leeway_s = rooms::kMaxLeewaySeconds;
        (void)assert_accepted(start + "%+300}", rules);
        assert_refused(start + "%+301}", Reason::not_yet_valid, said, rules);
    }
}

void S20_max_age_counts_from_iat(void**) {
    TokenRules rules;
    rules.max_age_s = 600;
    (void)assert_accepted(R"({"exp":%+60,"iat":%-600})", rules);
    assert_refused(R"({"exp":%+60,"iat":%-601})", Reason::expired, "older than rooms_jwt_max_age", rules);
    assert_refused(R"({"exp":%+60})", Reason::missing_claim, "rooms_jwt_max_age needs", rules);
    assert_refused(R"({"exp":%+60,"iat":-9223372036854775808})", Reason::expired, "older", rules);
    rules.leeway_s = 10;
    (void)assert_accepted(R"({"exp":%+60,"iat":%-610})", rules);
    assert_refused(R"({"exp":%+60,"iat":%-611})", Reason::expired, "older", rules);
}

void S23_iss_is_exact(void**) {
    TokenRules rules = lenient();
    rules.issuer = "https://id.example.com";
    (void)assert_accepted(R"({"iss":"https://id.example.com"})", rules);
    (void)assert_accepted(R"({"iss":"https:\/\/id.example.com"})", rules);
    for (const auto payload :
         {R"({})", R"({"iss":null})", R"({"iss":""})", R"({"iss":"https://id.example.com/"})",
          R"({"iss":"HTTPS://id.example.com"})", R"({"iss":["https://id.example.com"]})", R"({"iss":1})",
          R"({"iss":"https://id.example.co"})", R"({"Iss":"https://id.example.com"})"}) {
        assert_refused(payload, Reason::bad_issuer, "rooms_jwt_issuer", rules);
    }
    (void)assert_accepted(R"({"iss":5})", lenient());
}

void S23_aud_contains_ours(void**) {
    TokenRules rules = lenient();
    rules.audience = {"rooms", "dashboard"};
    for (const auto payload : {R"({"aud":"rooms"})", R"({"aud":"dashboard"})", R"({"aud":["rooms"]})",
                               R"({"aud":["x","dashboard",5]})"}) {
        (void)assert_accepted(payload, rules);
    }
    for (const auto payload : {R"({})", R"({"aud":null})", R"({"aud":""})", R"({"aud":"Rooms"})",
                               R"({"aud":"room"})", R"({"aud":[]})", R"({"aud":["x",1,null,["rooms"]]})",
                               R"({"aud":{"rooms":1}})", R"({"aud":"rooms dashboard"})", R"({"aud":true})"}) {
        assert_refused(payload, Reason::bad_audience, "rooms_jwt_audience", rules);
    }
    (void)assert_accepted(R"({"aud":"somebody else"})", lenient());
}

void required_claims_must_be_there(void**) {
    TokenRules rules;
    rules.required_claims = {"exp", "tenant_id", "jti"};
    (void)assert_accepted(R"({"exp":%+60,"tenant_id":"t","jti":false})", rules);
    assert_refused(R"({"exp":%+60,"tenant_id":"t"})", Reason::missing_claim, "no claim \"jti\"", rules);
    assert_refused(R"({"exp":%+60,"tenantId":"t","jti":1})", Reason::missing_claim, "no claim \"tenant_id\"",
                   rules);
    assert_refused(R"({"exp":%+60,"tenant_id":null,"jti":1})", Reason::missing_claim,
                   "no claim \"tenant_id\"", rules);
}

void the_user_is_a_string_or_an_integer(void**) {
    const auto user = [](std::string_view payload, const TokenRules& rules = lenient()) {
        return assert_accepted(payload, rules).user_id();
    };
    assert_string_equal(user(R"({"sub":"u1","id":"other"})").c_str(), "u1");
    assert_string_equal(user(R"({"sub":42})").c_str(), "42");
    assert_string_equal(user(R"({"sub":-9223372036854775808})").c_str(), "-9223372036854775808");
    assert_string_equal(user(R"({"id":"u2"})").c_str(), "u2");
    assert_string_equal(user(R"({"id":7,"sub":null})").c_str(), "7");
    assert_string_equal(user(R"({"id":7,"sub":""})").c_str(), "7");
    assert_string_equal(user(R"({})").c_str(), "");
    assert_string_equal(user(R"({"sub":""})").c_str(), "");
    assert_string_equal(user("{\"sub\":\"Zo\xc3\xab \xe2\x82\xac\"}").c_str(), "Zo\xc3\xab \xe2\x82\xac");
    TokenRules rules = lenient();
    rules.user_claim = "userId";
    assert_string_equal(user(R"({"userId":"u3","sub":"s"})", rules).c_str(), "u3");
    assert_string_equal(user(R"({"sub":"s"})", rules).c_str(), "");
    assert_string_equal(user(R"({"userid":"s","id":"i"})", rules).c_str(), "i");
}

void a_user_that_cannot_be_named_is_refused(void**) {
    for (const auto payload : {R"({"sub":[]})", R"({"sub":{}})", R"({"sub":true})", R"({"sub":1.5})",
                               R"({"id":["u"]})", R"({"sub":"","id":false})"}) {
        assert_refused(payload, Reason::bad_payload, "neither a string nor an integer", lenient());
    }
    for (const auto user : {R"(a\nb)", R"(\u0001)", R"(\u007f)", R"(\u0080)", R"(a\u009fb)", R"(\t)"}) {
        assert_refused(R"({"sub":")"s + user + "\"}", Reason::bad_payload, "control character", lenient());
    }
    (void)assert_accepted("{\"sub\":\"\\u00a0\\u00c2\"}", lenient());
    (void)assert_accepted("{\"sub\":\"" + std::string(200, 'u') + "\"}", lenient());
    assert_refused("{\"sub\":\"" + std::string(201, 'u') + "\"}", Reason::bad_payload,
                   "\"sub\" is longer than 200 bytes", lenient());
}

void the_rooms_claim_is_an_array_of_strings(void**) {
    const auto rooms = [](std::string_view payload, const TokenRules& rules = lenient()) {
        return assert_accepted(payload, rules).rooms();
    };
    assert_true(rooms(R"({"rooms":["session:1","tenant:*"]})") ==
                std::vector<std::string>({"session:1", "tenant:*"}));
    assert_true(rooms(R"({"rooms":[]})").empty());
    assert_true(rooms(R"({"rooms":null})").empty());
    assert_true(rooms(R"({})").empty());
    for (const auto value : {R"("session:1")", "1", "{}", "true", R"(["a",1])", "[null]", R"([["a"]])"}) {
        assert_refused(R"({"rooms":)"s + value + "}", Reason::bad_payload,
                       "\"rooms\" is not an array of strings", lenient());
    }
    TokenRules rules = lenient();
    rules.rooms_claim = "may_join";
    assert_true(rooms(R"({"may_join":["a:1"],"rooms":5})", rules) == std::vector<std::string>({"a:1"}));
}

void a_claim_is_found_by_its_exact_path(void**) {
    const Claims claims = assert_accepted(
        R"({"s":"text","e":"","i":-12,"f":1.5,"g":1e22,"t":true,"n":null,"no":false,"a":["x"],)"
        R"("o":{"in":{"deep":7},"a.b":"dot"},"Tenant":"T","tenant":"t","":"empty name"})",
        lenient());
    const auto text = [&](std::vector<std::string> path) { return claims.text(path).value_or("(nothing)"); };
    assert_string_equal(text({"s"}).c_str(), "text");
    assert_string_equal(text({"e"}).c_str(), "");
    assert_string_equal(text({"i"}).c_str(), "-12");
    assert_string_equal(text({"f"}).c_str(), "1.5");
    assert_string_equal(text({"g"}).c_str(), "1e+22");
    assert_string_equal(text({"t"}).c_str(), "true");
    assert_string_equal(text({"no"}).c_str(), "false");
    assert_string_equal(text({"o", "in", "deep"}).c_str(), "7");
    assert_string_equal(text({"o", "a.b"}).c_str(), "dot");
    assert_string_equal(text({"Tenant"}).c_str(), "T");
    assert_string_equal(text({"tenant"}).c_str(), "t");
    assert_string_equal(text({""}).c_str(), "empty name");
    for (const std::vector<std::string>& path :
         std::vector<std::vector<std::string>>{{},
                                               {"n"},
                                               {"a"},
                                               {"o"},
                                               {"o", "in"},
                                               {"missing"},
                                               {"TENANT"},
                                               {"s", "x"},
                                               {"a", "0"},
                                               {"a", "x"},
                                               {"o", "in", "deep", "er"},
                                               {"o.in.deep"},
                                               {"n", "x"},
                                               {"s\0"s},
                                               {"te"}}) {
        assert_false(claims.text(path).has_value());
    }
    assert_string_equal(claims.text("s")->c_str(), "text");
    assert_false(claims.text("o.in").has_value());
}

// jansson's verdict on a payload: no name twice at any depth, no NUL, each number in 64 bits or a double. And its values.
void what_is_accepted_is_what_jansson_accepts(void**) {
    const std::string seeds[] = {
        R"({"f":1.5e3,"s":"u\u0041","r":["a","b\\u0000"],"o":{"a":1,"b":[{"c":-0.25E+2,"d":null}]},"t":true})",
        R"({"a":[1,{"b":9223372036854775807}],"\u0061b":"\u00e9","":{"":-9223372036854775808},"ab0":1e308,"z":-0})"};
    constexpr std::string_view kPieces[] = {
        "\\", "\\u0000", "\\\\u0000", "\"a\":1,", "\"o\":2,", "\"\\u006f\":3,",
        "0",  "9",       "e9",        "99999",    "e400",     "-",
        ".",  "null",    "{",         "}",        "[",        "]"};
    TokenRules rules = lenient();
    rules.user_claim = rules.rooms_claim = "none of these";
    std::mt19937 random(7);  // NOLINT: the same ones each time
    int accepted = 0;
    for (int i = 0; i < 100'000; ++i) {
        std::string text = seeds[random() % 2];
        for (unsigned changes = random() % 3; changes > 0; --changes) {
            const std::size_t at = random() % text.size();
            text.replace(at, random() % 3, kPieces[random() % std::size(kPieces)]);
        }
        if (!rooms::parse_json(text, rooms::kMaxTokenDepth)) continue;  // jansson allows more depth
        json_t* const tree = json_loadb(text.data(), text.size(), JSON_REJECT_DUPLICATES, nullptr);
        const auto claims = Claims::read(text, rules, kNow);
        if (claims.ok() != json_is_object(tree)) print_error("%s\n", text.c_str());
        assert_int_equal(claims.ok(), json_is_object(tree));
        const char* name = nullptr;
        json_t* value = nullptr;
        json_object_foreach(tree, name, value) {
            const auto ours = claims->text(name);
            assert_int_equal(ours.has_value(),
                             json_is_string(value) || json_is_number(value) || json_is_boolean(value));
            if (json_is_string(value)) assert_string_equal(ours->c_str(), json_string_value(value));
            if (json_is_integer(value)) assert_true(*ours == std::to_string(json_integer_value(value)));
            if (json_is_real(value))
                assert_true(std::strtod(ours->c_str(), nullptr) == json_real_value(value));
        }
        accepted += claims.ok() ? 1 : 0;
        json_decref(tree);
    }
    assert_true(accepted > 10'000);
}

void claims_may_move(void**) {
    Claims first = assert_accepted(R"({"exp":%+60,"sub":"u","x":"y"})");
    Claims second = std::move(first);
    assert_string_equal(second.text("x")->c_str(), "y");
    first = std::move(second);
    assert_string_equal(first.text("x")->c_str(), "y");
}

void S30_the_end_of_a_token_is_told_in_milliseconds(void**) {
    assert_int_equal(assert_accepted(R"({"exp":%+60})").expires_at_ms(), kNow + 60'000);
    assert_int_equal(assert_accepted(R"({"exp":%+60.0})").expires_at_ms(), kNow + 60'000);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(S20_exp_is_required_unless_told_otherwise),
        cmocka_unit_test(S20_exp_is_a_number_of_seconds),
        cmocka_unit_test(S20_a_token_ends_at_exp_not_after_it),
        cmocka_unit_test(S20_R3_an_exp_in_milliseconds_is_told_from_a_long_life),
        cmocka_unit_test(S21_R3_exp_in_milliseconds_obeys_the_same_rules),
        cmocka_unit_test(S22_nbf_and_iat_do_not_lie_in_the_future),
        cmocka_unit_test(S20_max_age_counts_from_iat),
        cmocka_unit_test(S23_iss_is_exact),
        cmocka_unit_test(S23_aud_contains_ours),
        cmocka_unit_test(required_claims_must_be_there),
        cmocka_unit_test(the_user_is_a_string_or_an_integer),
        cmocka_unit_test(a_user_that_cannot_be_named_is_refused),
        cmocka_unit_test(the_rooms_claim_is_an_array_of_strings),
        cmocka_unit_test(a_claim_is_found_by_its_exact_path),
        cmocka_unit_test(what_is_accepted_is_what_jansson_accepts),
        cmocka_unit_test(claims_may_move),
        cmocka_unit_test(S30_the_end_of_a_token_is_told_in_milliseconds),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

// core/rules: patterns, the order of rules, and 10,000 random verdicts against a plain reference.
#include <array>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "cmocka.hpp"
#include "every_allocation.hpp"

#include "core/room.hpp"
#include "core/rules.hpp"

using namespace std::literals;
using rooms::Pattern;
using rooms::RuleSet;
using rooms::RuleValues;
using rooms::VariableSource;
using rooms::Verdict;

namespace {

std::optional<VariableSource> resolve(std::string_view name) {
    using Kind = VariableSource::Kind;
    if (name == "arg_p") return VariableSource{Kind::captured, 0};
    if (name == "arg_q") return VariableSource{Kind::captured, 1};
    if (name == "rooms_claim_tenant_id") return VariableSource{Kind::claim, 0};
    if (name == "rooms_claim_team") return VariableSource{Kind::claim, 1};
    if (name == "rooms_user") return VariableSource{Kind::user, 0};
    if (name == "rooms_room") return VariableSource{Kind::room, 0};
    if (name == "rooms_room_kind") return VariableSource{Kind::room_kind, 0};
    if (name == "rooms_room_id") return VariableSource{Kind::room_id, 0};
    return std::nullopt;
}

Pattern pattern(std::string_view text) {
    auto compiled = Pattern::compile(text, resolve);
    if (!compiled) print_error("%s\n", compiled.error().message.c_str());
    assert_true(compiled.ok());
    return *compiled;
}

bool matches(std::string_view text, std::string_view room, const RuleValues& values = {}) {
    return pattern(text).matches(room, values);
}

void assert_refused(std::string_view text, std::string_view what,
                    Pattern::Star star = Pattern::Star::allowed) {
    const auto compiled = Pattern::compile(text, resolve, star);
    assert_false(compiled.ok());
    const std::string expected = "\"" + std::string(text) + "\": " + std::string(what);
    if (compiled.error().message.find(expected) != 0) {
        print_error("%s\n", compiled.error().message.c_str());
        fail();
    }
}

void a_literal_matches_itself(void**) {
    assert_true(matches("session:1", "session:1"));
    assert_false(matches("session:1", "session:12"));
    assert_false(matches("session:12", "session:1"));
    assert_false(matches("session:1", "Session:1"));
}

void a_star_stands_for_one_or_more_bytes_at_the_end(void**) {
    assert_true(matches("session:*", "session:1"));
    assert_true(matches("session:*", "session:a:b"));
    assert_false(matches("session:*", "sessions:1"));
    assert_true(matches("session*", "sessions:1"));
    assert_true(matches("*", "anything:at-all"));
    assert_true(matches("session:1*", "session:12"));
    assert_false(matches("session:1*", "session:1"));
    assert_true(pattern("a:*").has_star());
    assert_false(pattern("a:b").has_star());
}

void variables_stand_for_their_values(void**) {
    const std::array captured{"42"sv, ""sv};
    const std::array claims{"acme"sv, "blue"sv};
    const RuleValues values{captured, claims, "u1"};
    assert_true(matches("tenant:$rooms_claim_tenant_id", "tenant:acme", values));
    assert_false(matches("tenant:$rooms_claim_tenant_id", "tenant:acme2", values));
    assert_false(matches("tenant:$rooms_claim_tenant_id", "tenant:acm", values));
    assert_true(matches("user:$rooms_user", "user:u1", values));
    assert_true(matches("project:$arg_p:*", "project:42:x", values));
    assert_false(matches("project:$arg_p:*", "project:42", values));
    assert_false(matches("project:$arg_p:*", "project:42:", values));
    assert_true(matches("t:${rooms_claim_tenant_id}-$rooms_claim_team", "t:acme-blue", values));
    assert_true(matches("t:${rooms_claim_tenant_id}${rooms_claim_team}.x", "t:acmeblue.x", values));
    assert_true(pattern("user:$rooms_user").text() == "user:$rooms_user");
}

void R1_an_empty_value_matches_nothing(void**) {
    const std::array captured{"42"sv, ""sv};
    const RuleValues values{captured, {}, ""};
    for (const auto room : {"a:", "a:b", "a:$arg_q", "a:x"}) {
        assert_false(matches("a:$arg_q*", room, values));
        assert_false(matches("a:b$arg_q", room, values));
        assert_false(matches("a:$rooms_user*", room, values));
        // Not even known to this connection.
        assert_false(matches("a:$rooms_claim_tenant_id*", room, values));
    }
}

void a_value_with_a_star_or_a_dollar_opens_nothing(void**) {
    for (const auto value : {"*"sv, "acme*"sv, "$rooms_user"sv, "a b"sv, "\xc3\xa4"sv, "x\0"sv}) {
        const std::array claims{value};
        const RuleValues values{{}, claims, {}};
        for (const auto room : {"tenant:acme", "tenant:x", "tenant:a"}) {
            assert_false(matches("tenant:$rooms_claim_tenant_id", room, values));
        }
    }
}

void a_wrong_pattern_says_what_is_wrong(void**) {
    assert_refused("a:*b", "\"*\" may stand only at the end");
    assert_refused("a:**", "\"*\" may stand only at the end");
    assert_refused("a:$", "\"$\" without a variable's name");
    assert_refused("a:$-b", "\"$\" without a variable's name");
    assert_refused("a:${}", "\"$\" without a variable's name");
    assert_refused("a:${arg_p", "\"${arg_p\" without \"}\"");
    assert_refused("a:$nobody", "unknown variable \"$nobody\"");
    assert_refused("a:$rooms_room_id", "\"$rooms_room_id\" has no value before the room is known");
    assert_refused("a:$rooms_room", "\"$rooms_room\" has no value");
    assert_refused("a:${rooms_room_kind}", "\"$rooms_room_kind\" has no value");
    assert_refused("a:b c", "a byte that no room has, at position 4");
    assert_refused("a:\xc3\xa4", "a byte that no room has, at position 3");
    for (const auto text : {"", "session", "session:", "Session:*", "Session:$arg_p", "1$arg_p"}) {
        assert_refused(text, "matches no room");
    }
    assert_refused(std::string(33, 'k') + "$arg_p", "matches no room");
    assert_refused("tenant:*", "\"*\" names no room to join", Pattern::Star::refused);
    // These can be rooms, if the values are right.
    for (const auto text : {"$arg_p", "$arg_p$arg_q", "k$arg_p", "$arg_p:1", "$arg_p*", "k*", "*"}) {
        assert_true(Pattern::compile(text, resolve).ok());
    }
}

void a_pattern_to_join_expands_or_is_skipped(void**) {
    const std::array captured{"42"sv, ""sv};
    const std::array claims{"acme"sv};
    const RuleValues values{captured, claims, "u 1"};
    assert_true(pattern("t:$rooms_claim_tenant_id:$arg_p").expand(values) == "t:acme:42");
    assert_true(pattern("lobby:all").expand({}) == "lobby:all");
    assert_true(pattern("u:$rooms_user").expand(values) == "u:u 1");
    assert_false(pattern("t:$arg_q").expand(values).has_value());
    assert_false(pattern("t:$rooms_claim_team").expand(values).has_value());
    assert_false(pattern("t:*").expand(values).has_value());
}

void S33_without_a_rule_nobody_joins(void**) {
    const RuleSet rules;
    assert_true(rules.check("session:1", {}) == Verdict{});
    assert_false(rules.check("session:1", {}).allowed());
}

void the_first_rule_that_matches_decides(void**) {
    const std::array claims{"acme"sv};
    RuleSet rules;
    for (const auto text : {"tenant:$rooms_claim_tenant_id", "session:1", "session:*", "*"}) {
        rules.add(pattern(text));
    }
    assert_int_equal(rules.size(), 4);
    assert_true(rules[2].text() == "session:*");
    const RuleValues values{{}, claims, {}};
    assert_true((rules.check("tenant:acme", values) == Verdict{Verdict::By::rule, 0}));
    assert_true((rules.check("session:1", values) == Verdict{Verdict::By::rule, 1}));
    assert_true((rules.check("session:2", values) == Verdict{Verdict::By::rule, 2}));
    assert_true((rules.check("tenant:other", values) == Verdict{Verdict::By::rule, 3}));
    for (const auto bad : {"", "session:", "session:a b", "*"}) {
        assert_false(rules.check(bad, values).allowed());
    }
}

void the_token_grants_what_its_rooms_name(void**) {
    const RuleSet none;
    const std::array token{"project:7"sv, "design:*"sv, "$rooms_user:x"sv, "a*b"sv, ""sv, "t:**"sv};
    const Verdict granted{Verdict::By::token, 0};
    assert_true(none.check("project:7", {}, token) == granted);
    assert_true(none.check("design:x", {}, token) == granted);
    for (const auto room : {"project:8", "project:77", "designs:x", "t:x", "a:b"}) {
        assert_false(none.check(room, {}, token).allowed());
    }
    const std::array all{"*"sv};
    assert_true(none.check("any:thing", {}, all) == granted);
    assert_false(none.check("no room", {}, all).allowed());
    // What the token grants needs no look-up of a rule.
    RuleSet rules;
    rules.add(pattern("project:*"));
    assert_true(rules.check("project:7", {}, token) == granted);
    assert_true((rules.check("project:8", {}, token) == Verdict{Verdict::By::rule, 0}));
}

// The reference: the contract's sentences, on whole strings and without compiling anything.
struct Token {
    std::string tenant, team, user, p, q;
    std::vector<std::string> rooms;
};

bool reference_room(const std::string& room) {
    const auto in = [](char c, const char* set) {
        return c && std::string_view(set).find(c) != std::string_view::npos;
    };
    const char* lower = "abcdefghijklmnopqrstuvwxyz";
    const char* kind = "abcdefghijklmnopqrstuvwxyz0123456789_-";
    const char* id = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:@~-";
    const auto colon = room.find(':');
    if (colon == std::string::npos || colon < 1 || colon > 32 || !in(room[0], lower)) return false;
    for (std::size_t i = 0; i < colon; ++i)
        if (!in(room[i], kind)) return false;
    const auto rest = room.size() - colon - 1;
    if (rest < 1 || rest > 200) return false;
    for (std::size_t i = colon + 1; i < room.size(); ++i)
        if (!in(room[i], id)) return false;
    return true;
}

using Variables = std::vector<std::pair<std::string, const std::string*>>;

Variables variables_of(const Token& token) {
    return {{"$rooms_claim_tenant_id", &token.tenant},
            {"$rooms_claim_team", &token.team},
            {"$rooms_user", &token.user},
            {"$arg_p", &token.p},
            {"$arg_q", &token.q}};
}

// A room that a pattern could be about: for draws that come near to the truth.
std::string room_like(std::string text, const Token& token, const std::string& rest) {
    for (const auto& [name, value] : variables_of(token)) {
        const auto at = text.find(name);
        if (at != std::string::npos) text.replace(at, name.size(), *value);
    }
    if (!text.empty() && text.back() == '*') text.replace(text.size() - 1, 1, rest);
    return text;
}

bool reference_matches(std::string text, const Token& token, const std::string& room) {
    bool star = false;
    if (!text.empty() && text.back() == '*') {
        star = true;
        text.pop_back();
    }
    std::string wanted;
    while (!text.empty()) {
        bool found = false;
        for (const auto& [name, value] : variables_of(token)) {
            if (text.rfind(name, 0) == 0) {
                if (value->empty()) return false;
                wanted += *value;
                text.erase(0, name.size());
                found = true;
                break;
            }
        }
        if (!found) {
            wanted += text[0];
            text.erase(0, 1);
        }
    }
    if (!star) return room == wanted;
    return room.size() > wanted.size() && room.compare(0, wanted.size(), wanted) == 0;
}

int reference_verdict(const std::vector<std::string>& rules, const Token& token, const std::string& room) {
    if (!reference_room(room)) return -1;
    for (std::string grant : token.rooms) {
        if (!grant.empty() && grant.back() == '*') {
            grant.pop_back();
            if (room.size() > grant.size() && room.substr(0, grant.size()) == grant) return 1000;
        } else if (grant == room) {
            return 1000;
        }
    }
    for (std::size_t i = 0; i < rules.size(); ++i) {
        if (reference_matches(rules[i], token, room)) return static_cast<int>(i);
    }
    return -1;
}

void S36_ten_thousand_random_tokens_and_rooms_get_the_verdicts_of_the_reference(void**) {
    const std::vector<std::string> patterns{"tenant:$rooms_claim_tenant_id",
                                            "tenant:$rooms_claim_tenant_id:*",
                                            "user:$rooms_user",
                                            "project:$arg_p:*",
                                            "project:$arg_p-$arg_q",
                                            "team:$rooms_claim_team*",
                                            "session:*",
                                            "session:a",
                                            "lobby:a:*",
                                            "$arg_q:a",
                                            "$rooms_claim_team"};
    const std::vector<std::string> words{"a", "b",           "ab",  "a:b", "A",       "*",         "a*", "",
                                         "",  "$rooms_user", "a b", "a-b", "session", "session:a", "b:b"};
    const std::vector<std::string> kinds{"tenant", "user", "project", "team", "session",
                                         "lobby",  "a",    "Session", "b"};
    const std::vector<std::string> ids{"a", "b", "ab", "a-b", "A", "a:b", "b-a"};
    const std::vector<std::string> grants{"session:a",        "session:*", "*", "tenant:a*",
                                          "user:$rooms_user", "a*:b",      "",  "lobby:b"};
    std::mt19937 random(36);
    const auto any = [&](const std::vector<std::string>& of) { return of[random() % of.size()]; };
    int allowed = 0;
    int by_token = 0;
    for (int i = 0; i < 10000; ++i) {
        std::vector<std::string> texts;
        RuleSet rules;
        for (std::size_t n = random() % 6; n > 0; --n) {
            texts.push_back(any(patterns));
            rules.add(pattern(texts.back()));
        }
        Token token{any(words), any(words), any(words), any(words), any(words), {}};
        if (random() % 4 == 0) token.rooms = {any(grants), any(grants)};
        std::string room = any(kinds);
        if (random() % 16) room += ':';
        room += random() % 8 ? any(ids) : any(words);
        if (random() % 4 == 0) room += ":" + any(ids);
        if (!texts.empty() && random() % 2) room = room_like(any(texts), token, any(ids));
        if (random() % 200 == 0) room += std::string(200, 'x');

        const std::array<std::string_view, 2> captured{token.p, token.q};
        const std::array<std::string_view, 2> claims{token.tenant, token.team};
        const std::vector<std::string_view> grants_of(token.rooms.begin(), token.rooms.end());
        const Verdict verdict = rules.check(room, RuleValues{captured, claims, token.user}, grants_of);
        const int ours = verdict.by == Verdict::By::token  ? 1000
                         : verdict.by == Verdict::By::rule ? static_cast<int>(verdict.rule)
                                                           : -1;
        const int expected = reference_verdict(texts, token, room);
        if (ours != expected) print_error("%s: %d, not %d\n", room.c_str(), ours, expected);
        assert_int_equal(ours, expected);
        allowed += ours >= 0;
        by_token += ours == 1000;
    }
    // The draw must have met all three verdicts often.
    print_message("%d allowed, %d of them by the token\n", allowed, by_token);
    assert_true(allowed > 1000 && by_token > 200 && allowed < 8000);
}

void no_allocation_that_fails_leaks(void**) {
    assert_true(every_allocation_fails([] {
                    RuleSet rules;
                    rules.add(*Pattern::compile("a_kind_with_a_long_name:$rooms_user:*", resolve));
                    rules.add(*Pattern::compile("a_kind_with_a_long_name:$rooms_user", resolve));
                    static_cast<void>(rules[1].expand(RuleValues{{}, {}, "a user with a long name"}));
                }) > 5);
    RuleSet rules;
    rules.add(pattern("a_kind_with_a_long_name:$rooms_user:*"));
    assert_int_equal(allocations_of([&] {
                         assert_true(rules.check("a_kind_with_a_long_name:u:1", {{}, {}, "u"}).allowed());
                     }),
                     0);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(a_literal_matches_itself),
        cmocka_unit_test(a_star_stands_for_one_or_more_bytes_at_the_end),
        cmocka_unit_test(variables_stand_for_their_values),
        cmocka_unit_test(R1_an_empty_value_matches_nothing),
        cmocka_unit_test(a_value_with_a_star_or_a_dollar_opens_nothing),
        cmocka_unit_test(a_wrong_pattern_says_what_is_wrong),
        cmocka_unit_test(a_pattern_to_join_expands_or_is_skipped),
        cmocka_unit_test(S33_without_a_rule_nobody_joins),
        cmocka_unit_test(the_first_rule_that_matches_decides),
        cmocka_unit_test(the_token_grants_what_its_rooms_name),
        cmocka_unit_test(S36_ten_thousand_random_tokens_and_rooms_get_the_verdicts_of_the_reference),
        cmocka_unit_test(no_allocation_that_fails_leaks),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

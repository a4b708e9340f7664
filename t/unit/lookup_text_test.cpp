// core/lookup_text: what rules ask, with variables that are values and never text.
#include <string>
#include <vector>

#include "cmocka.hpp"

#include "core/lookup_text.hpp"

using namespace rooms;

namespace {

std::vector<std::string> seen;

std::optional<VariableSource> resolve(std::string_view name) {
    if (name == "unknown") return std::nullopt;
    seen.emplace_back(name);
    return VariableSource{VariableSource::Kind::claim, static_cast<std::uint32_t>(seen.size() - 1)};
}

std::string sql(std::string_view text) {
    seen.clear();
    const auto compiled = compile_sql(text, resolve);
    if (!compiled) return "wrong: " + compiled.error().message;
    assert_int_equal(compiled->parameters.size(), seen.size());
    assert_int_equal(compiled->literals.size(), seen.size() + 1);
    return sql_text(*compiled);
}

std::string uri(std::string_view text, std::vector<std::string> values = {}) {
    seen.clear();
    const auto compiled = compile_uri(text, resolve);
    if (!compiled) return "wrong: " + compiled.error().message;
    return uri_text(*compiled, values).value_or("elsewhere");
}

void variables_become_parameters(void**) {
    assert_string_equal(sql("select 1 from s where id = $rooms_room_id and t = ${rooms_claim_t}").c_str(),
                        "select 1 from s where id = $1 and t = $2");
    assert_int_equal(seen.size(), 2);
    assert_string_equal(seen[0].c_str(), "rooms_room_id");
    assert_string_equal(seen[1].c_str(), "rooms_claim_t");
    assert_string_equal(sql("select $a::uuid, $a").c_str(), "select $1::uuid, $2");
    assert_string_equal(sql("select true").c_str(), "select true");
    assert_string_equal(sql("select 'it''s', \"a\"\"b\" -- why\n, /* x */ $a").c_str(),
                        "select 'it''s', \"a\"\"b\" -- why\n, /* x */ $1");
}

void a_variable_that_would_be_text_is_refused(void**) {
    const char* quoted =
        "wrong: a \"$\" in quotes or in a comment: variables are values, and stand without quotes";
    for (const char* text : {"select '$a'", "select \"$a\"", "select 1 -- $a", "select 1 /* $a */",
                             "select '$a", "select 'it''s $a'", "select /* $a"})
        assert_string_equal(sql(text).c_str(), quoted);
    assert_string_equal(sql("select $1").c_str(), "wrong: \"$\" without a variable's name");
    assert_string_equal(sql("select $$x$$").c_str(), "wrong: \"$\" without a variable's name");
    assert_string_equal(sql("select $").c_str(), "wrong: \"$\" without a variable's name");
    assert_string_equal(sql("select ${a").c_str(), "wrong: \"${a\" without \"}\"");
    assert_string_equal(sql("select $unknown").c_str(), "wrong: unknown variable \"$unknown\"");
    assert_string_equal(sql(" \n").c_str(), "wrong: there is no statement");
}

void values_in_a_uri_are_escaped(void**) {
    assert_string_equal(uri("/may/$a?t=$b&x=$c", {"a b:c", "\xc3\xa4&y=2#", "../c"}).c_str(),
                        "/may/a%20b%3Ac?t=%C3%A4%26y%3D2%23&x=..%2Fc");
    for (const char* value : {"../x", "x/..", "a/b", ".", "..", "/"})
        assert_string_equal(uri("/may/$a/x", {value}).c_str(), "elsewhere");
    assert_string_equal(uri("/may/.$a", {"."}).c_str(), "elsewhere");
    assert_string_equal(uri("/may/$a$b", {".", "."}).c_str(), "elsewhere");
    assert_string_equal(uri("/may/$a", {"..."}).c_str(), "/may/...");
    assert_string_equal(uri("/may", {}).c_str(), "/may");
    assert_string_equal(uri("/$a$b", {"x"}).c_str(), "/x");
    assert_string_equal(uri("may").c_str(), "wrong: it must begin with \"/\"");
    assert_string_equal(uri("http://h/").c_str(), "wrong: it must begin with \"/\"");
    assert_string_equal(uri("/a b").c_str(), "wrong: a byte that no URI has");
    assert_string_equal(uri("/a\r\nX: 1").c_str(), "wrong: a byte that no URI has");
    assert_string_equal(uri("/$unknown").c_str(), "wrong: unknown variable \"$unknown\"");
}

void parameters_have_their_values_in_order(void**) {
    using Kind = VariableSource::Kind;
    const std::vector<std::string_view> captured = {"c0", "c1"};
    const std::vector<std::string_view> claims = {"acme"};
    const auto values = lookup_values({{Kind::room_id, 0},
                                       {Kind::captured, 1},
                                       {Kind::claim, 0},
                                       {Kind::user, 0},
                                       {Kind::room_kind, 0},
                                       {Kind::room, 0}},
                                      "session:7", {captured, claims, "ann"});
    assert_true(values == (std::vector<std::string>{"7", "c1", "acme", "ann", "session", "session:7"}));
}

void a_rule_with_an_empty_parameter_does_not_match(void**) {
    RuleSet rules;
    const auto star = *Pattern::compile("session:*", resolve);
    rules.add(star, {{VariableSource::Kind::claim, 0}});
    rules.add(star, {{VariableSource::Kind::room_id, 0}});
    rules.add(star);
    const std::vector<std::string_view> some = {"acme"};
    const std::vector<std::string_view> none = {""};
    assert_int_equal(rules.check("session:1", {{}, some, {}}).rule, 0);
    const Verdict second = rules.check("session:1", {{}, none, {}});
    assert_int_equal(second.rule, 1);
    assert_int_equal(rules.parameters(second)->size(), 1);
    assert_null(rules.parameters(Verdict{Verdict::By::rule, 2}));
    assert_null(rules.parameters(Verdict{Verdict::By::token, 0}));
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(variables_become_parameters),
        cmocka_unit_test(a_variable_that_would_be_text_is_refused),
        cmocka_unit_test(values_in_a_uri_are_escaped),
        cmocka_unit_test(parameters_have_their_values_in_order),
        cmocka_unit_test(a_rule_with_an_empty_parameter_does_not_match),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

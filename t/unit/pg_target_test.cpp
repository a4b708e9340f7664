// rooms_postgres' connection string, taken apart: servers and their addresses, and refusals that quote
// nothing of it.
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <csetjmp>
extern "C" {
#include <cmocka.h>
}

#include <cstring>
#include <string>

#include "store/pg_target.hpp"

namespace {

using namespace rooms;

PgTarget parsed(const std::string& text) {
    auto target = parse_pg_conninfo(text);
    if (!target) fail_msg("%s: %s", text.c_str(), target.error().message.c_str());
    return *target;
}

std::string refusal(const std::string& text) {
    const auto target = parse_pg_conninfo(text);
    if (target) fail_msg("%s is taken", text.c_str());
    return target.error().message;
}

void words_and_uris_name_the_same(void**) {
    for (const char* text : {"host=10.0.0.1 port=5433 dbname=app user=me password=secret",
                             "postgresql://me:secret@10.0.0.1:5433/app",
                             "postgres://10.0.0.1:5433/app?user=me&password=secret"}) {
        const PgTarget target = parsed(text);
        assert_int_equal(target.servers.size(), 1);
        assert_string_equal(target.servers[0].host.c_str(), "10.0.0.1");
        assert_string_equal(target.servers[0].address.c_str(), "10.0.0.1");
        assert_string_equal(target.servers[0].port.c_str(), "5433");
        assert_string_equal(std::string(target.parameter("password")).c_str(), "secret");
        assert_string_equal(std::string(target.parameter("user")).c_str(), "me");
        assert_true(target.parameter("host").empty());
        assert_string_equal(target.text().c_str(), "10.0.0.1:5433/app");
    }
}

void only_names_need_an_address(void**) {
    assert_true(parsed("host=db.example.com").servers[0].needs_address());
    for (const char* text :
         {"host=/run/postgresql", "host=@abstract", "dbname=app", "host=10.0.0.1", "host=::1",
          "host=db.example.com hostaddr=10.0.0.1", "hostaddr=10.0.0.1", "postgresql:///app",
          "postgresql://%2Frun%2Fpostgresql/app", "postgresql://[::1]/app"}) {
        assert_false(parsed(text).servers[0].needs_address());
    }
}

void lists_are_lists_of_servers(void**) {
    const PgTarget one_port = parsed("host=a,b,/run/pg port=5433 dbname=app");
    assert_string_equal(one_port.text().c_str(), "a:5433,b:5433,/run/pg:5433/app");
    const PgTarget each = parsed("postgresql://a:1,[::1],b:3/app?password=x");
    assert_string_equal(each.text().c_str(), "a:1,[::1]:5432,b:3/app");
    assert_true(each.servers[0].needs_address());
    assert_false(each.servers[1].needs_address());
    const PgTarget mixed = parsed("host=a,/run/pg hostaddr=10.0.0.1,");
    assert_false(mixed.servers[0].needs_address());
    assert_true(mixed.servers[1].address.empty());
}

void what_is_shown_has_no_secret(void**) {
    assert_string_equal(parsed("dbname=app password=secret").text().c_str(), "local/app");
    assert_string_equal(parsed("port=5433").text().c_str(), "local:5433");
    assert_string_equal(parsed("hostaddr=::1").text().c_str(), "[::1]:5432");
    // A / in a password that was not encoded.
    assert_string_equal(parsed("postgresql://me:12/secret@host/app").text().c_str(), "me:12");
}

void refusals_quote_nothing(void**) {
    for (const char* text : {"password=secret secret",
                             "password=my secret=x",
                             "password='secret",
                             "secret",
                             "postgresql://me:p@secret@host/app",
                             "postgresql://me:secret/x@host/app",
                             "postgresql://me:sec%ret@host",
                             "postgresql://host/app?secret=1",
                             "postgresql://[secret/app",
                             "host=secret:5432",
                             "host=a,b hostaddr=10.0.0.1 password=secret",
                             "port=secret",
                             "port=0 password=secret",
                             "port=65536 password=secret",
                             "host=a port=1,2 password=secret",
                             "hostaddr=secret",
                             "service=secret",
                             "http://secret",
                             "host=sec/ret",
                             "postgresql://ho st:secret@x y/"}) {
        const std::string said = refusal(text);
        if (said.empty() || said.find("secret") != said.npos) fail_msg("%s: %s", text, said.c_str());
    }
    assert_string_equal(refusal("").c_str(), "it is empty");
    assert_string_equal(refusal("  ").c_str(), "it is empty");
    assert_string_equal(refusal(std::string("host=a\0b", 8)).c_str(), "it has a NUL in it");
    assert_non_null(std::strstr(refusal("hsot=a").c_str(), "no such parameter"));
    assert_non_null(std::strstr(refusal("host").c_str(), "has no ="));
    assert_non_null(std::strstr(refusal("service=app").c_str(), "service= is not read"));
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(words_and_uris_name_the_same), cmocka_unit_test(only_names_need_an_address),
        cmocka_unit_test(lists_are_lists_of_servers),   cmocka_unit_test(what_is_shown_has_no_secret),
        cmocka_unit_test(refusals_quote_nothing),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

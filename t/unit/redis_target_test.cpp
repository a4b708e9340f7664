// The URL of rooms_redis: what each form means, and that everything doubtful is refused without a word
// of it being quoted.
#include "store/redis_target.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>

#include "unit/cmocka.hpp"
#include "unit/every_allocation.hpp"

using rooms::Address;
using rooms::is_redis_prefix;
using rooms::parse_redis_url;
using rooms::RedisTarget;
using rooms::sockaddr_of;

namespace {

using Kind = RedisTarget::Kind;

RedisTarget parsed(std::string_view url) {
    const auto target = parse_redis_url(url);
    if (!target) fail_msg("%.*s: %s", int(url.size()), url.data(), target.error().message.c_str());
    return *target;
}

std::string fault(std::string_view url) {
    const auto target = parse_redis_url(url);
    if (target) fail_msg("%.*s is accepted", int(url.size()), url.data());
    return target.error().message;
}

void assert_fault(std::string_view url, std::string_view part) {
    const std::string message = fault(url);
    if (message.find(part) == message.npos)
        fail_msg("%.*s: %s", int(url.size()), url.data(), message.c_str());
}

void a_server_is_a_host_with_or_without_a_port(void**) {
    const RedisTarget target = parsed("redis://redis.internal");
    assert_true(target.kind == Kind::single && !target.tls && target.db == 0);
    assert_string_equal(target.prefix.c_str(), "rooms");
    assert_true(target.user.empty() && target.password.empty() && target.master.empty());
    assert_int_equal(target.servers.size(), 1);
    assert_string_equal(target.servers[0].host.c_str(), "redis.internal");
    assert_int_equal(target.servers[0].port, 6379);
    assert_int_equal(parsed("redis://redis:1").servers[0].port, 1);
    assert_int_equal(parsed("redis://redis:65535").servers[0].port, 65535);
    assert_string_equal(parsed("redis://Redis_1.Internal.:1").servers[0].host.c_str(), "redis_1.internal.");
    assert_string_equal(parsed("redis://unix").text().c_str(), "redis://unix:6379");
    assert_string_equal(parsed("redis://redis/").text().c_str(), "redis://redis:6379");
}

void the_scheme_with_two_s_means_tls(void**) {
    assert_true(parsed("rediss://redis").tls);
    assert_string_equal(parsed("rediss://redis").text().c_str(), "rediss://redis:6379");
    assert_false(parsed("redis://redis").tls);
}

void ip_addresses_need_no_resolving_and_names_are_left_empty(void**) {
    const RedisTarget v4 = parsed("redis://10.0.0.1:6380");
    sockaddr_in in;
    assert_int_equal(v4.servers[0].sockaddr.size(), sizeof in);
    std::memcpy(&in, v4.servers[0].sockaddr.data(), sizeof in);
    assert_true(in.sin_family == AF_INET && in.sin_port == htons(6380));
    assert_true(in.sin_addr.s_addr == htonl(0x0a000001));

    const RedisTarget v6 = parsed("redis://[::1]:6380/3");
    sockaddr_in6 in6;
    assert_int_equal(v6.servers[0].sockaddr.size(), sizeof in6);
    std::memcpy(&in6, v6.servers[0].sockaddr.data(), sizeof in6);
    assert_true(in6.sin6_family == AF_INET6 && in6.sin6_port == htons(6380));
    assert_memory_equal(&in6.sin6_addr, &in6addr_loopback, sizeof in6addr_loopback);
    assert_string_equal(v6.servers[0].host.c_str(), "::1");
    assert_string_equal(v6.text().c_str(), "redis://[::1]:6380/3");
    assert_string_equal(parsed("redis://[2001:DB8:0:0::1]").servers[0].host.c_str(), "2001:db8::1");

    assert_true(parsed("redis://localhost").servers[0].sockaddr.empty());
    for (const std::string_view name :
         {"", "localhost", "10.0.0", "10.0.0.256", "[::1]", "::1%lo", "1.2.3.4 "})
        assert_true(sockaddr_of(name, 1).empty());
    assert_true(sockaddr_of(std::string_view("10.0.0.1\0x", 10), 1).empty());
}

void a_unix_socket_is_a_path(void**) {
    const RedisTarget target = parsed("unix:/run/redis@1/r.sock");
    assert_true(target.kind == Kind::single && target.servers.size() == 1);
    const Address& server = target.servers[0];
    assert_true(server.is_unix() && server.host == "/run/redis@1/r.sock");
    assert_string_equal(server.text().c_str(), "unix:/run/redis@1/r.sock");
    assert_string_equal(target.text().c_str(), "unix:/run/redis@1/r.sock");
    sockaddr_un place{};
    assert_in_range(server.sockaddr.size(), sizeof(sa_family_t) + 20, sizeof place);
    std::memcpy(&place, server.sockaddr.data(), server.sockaddr.size());
    assert_int_equal(place.sun_family, AF_UNIX);
    assert_string_equal(place.sun_path, "/run/redis@1/r.sock");

    const std::string longest = "/" + std::string(106, 'x');
    assert_int_equal(parsed("unix:" + longest).servers[0].sockaddr.size(), sizeof place);
    assert_fault("unix:" + longest + "x", "at most 107");
    for (const char* url : {"unix:", "unix:run/r.sock", "unix://run/r.sock", "unix:///run/r.sock"})
        assert_fault(url, "absolute path");
    assert_fault("unix:/", "path of the socket is missing");
    assert_fault("unix:/run/r.sock?db=1", "no database");
    assert_fault("unix:/run/r.sock#1", "no database");
    assert_fault(std::string_view("unix:/a\0b", 9), "control characters");
}

void the_database_is_a_number_behind_the_server(void**) {
    assert_int_equal(parsed("redis://redis/0").db, 0);
    assert_int_equal(parsed("redis://redis:1/15").db, 15);
    assert_int_equal(parsed("redis://redis/999999999").db, 999999999);
    assert_string_equal(parsed("redis://redis/15").text().c_str(), "redis://redis:6379/15");
    for (const char* url : {"redis://redis/x", "redis://redis/-1", "redis://redis/1/", "redis://redis//",
                            "redis://redis/01", "redis://redis/1000000000", "redis://redis/1x"})
        assert_fault(url, "/DB");
}

void user_and_password_are_percent_decoded(void**) {
    const RedisTarget target = parsed("redis://us%65r:p%40ss%3A%2F%25%00@redis");
    assert_string_equal(target.user.c_str(), "user");
    assert_true(target.password == std::string_view("p@ss:/%\0", 8));
    const RedisTarget alone = parsed("redis://:secret@redis");
    assert_true(alone.user.empty() && alone.password == "secret");
    const RedisTarget user = parsed("redis://user@redis");
    assert_true(user.user == "user" && user.password.empty());
    // A colon in the password cannot be mistaken (RFC 3986 section 3.2.1).
    assert_string_equal(parsed("redis://u:a:b%3a@redis").password.c_str(), "a:b:");
    assert_string_equal(parsed("redis://u:\xc3\xa9,@redis").password.c_str(), "\xc3\xa9,");
    assert_string_equal(target.text().c_str(), "redis://redis:6379");

    for (const char* url : {"redis://u:%@h", "redis://u:%4@h", "redis://u:%4g@h", "redis://%g4:p@h"})
        assert_fault(url, "%25");
    assert_fault("redis://@redis", "before the @");
    assert_fault("redis://user:@redis", "password is empty");
    assert_fault("redis://:@redis", "password is empty");
    assert_fault("redis://u:p@ss@redis", "%40");
    assert_fault("redis://u:p/ss@redis", "%2F");
    assert_fault("redis://u:p?ss@redis", "%3F");
    assert_fault("redis://u:p#ss@redis", "%23");
    assert_fault("redis://u:p ss@redis", "%20");
    assert_fault("redis://u:p@", "host is missing");
}

void sentinels_are_a_list_with_the_name_of_the_master(void**) {
    const RedisTarget target = parsed("sentinel://u:p@s1,10.0.0.2:5000,[::1]/my-master_1.x");
    assert_true(target.kind == Kind::sentinel && !target.tls && target.user == "u" && target.password == "p");
    assert_int_equal(target.servers.size(), 3);
    assert_int_equal(target.servers[0].port, 26379);
    assert_int_equal(target.servers[1].port, 5000);
    assert_int_equal(target.servers[2].port, 26379);
    assert_true(target.servers[0].sockaddr.empty() && !target.servers[1].sockaddr.empty());
    assert_string_equal(target.master.c_str(), "my-master_1.x");
    assert_string_equal(target.text().c_str(), "sentinel://s1:26379,10.0.0.2:5000,[::1]:26379/my-master_1.x");
    for (const char* url : {"sentinel://s1", "sentinel://s1,s2/", "sentinel://s1/a/0", "sentinel://s1/a,b"})
        assert_fault(url, "/NAME");
    assert_fault("sentinel://s1/" + std::string(65, 'a'), "/NAME");
}

void nodes_of_a_cluster_are_a_list_without_a_database(void**) {
    const RedisTarget target = parsed("cluster://n1,n2:7001");
    assert_true(target.kind == Kind::cluster && target.servers.size() == 2);
    assert_int_equal(target.servers[0].port, 6379);
    assert_int_equal(target.servers[1].port, 7001);
    assert_string_equal(parsed("cluster://n1,n2:7001/").text().c_str(), "cluster://n1:6379,n2:7001");
    assert_fault("cluster://n1/0", "only database 0");
}

void several_servers_are_a_sentinel_or_a_cluster(void**) {
    for (const char* url : {"redis://a,b", "rediss://a,b", "redis://u:p@a,b/1", "redis://a,"}) {
        assert_fault(url, "sentinel://");
        assert_fault(url, "cluster://");
    }
}

void a_server_named_twice_is_refused(void**) {
    for (const char* url : {"cluster://a,b,a", "cluster://a:6379,A", "cluster://[::1],[0:0::1]",
                            "sentinel://10.0.0.1,10.0.0.1/m"})
        assert_fault(url, "named twice");
    assert_fault("cluster://a,b,a", "server 3:");
    assert_int_equal(parsed("cluster://a:1,a:2").servers.size(), 2);
}

void anything_else_is_no_server(void**) {
    for (const char* url : {"redis://", "redis:///0", "redis://:6379", "redis://u:p@/0", "redis://u:p@:6379"})
        assert_fault(url, "host is missing");
    for (const char* url : {"cluster://a,,b", "cluster://,a", "cluster://a,", "sentinel:///m"})
        assert_fault(url, "host is missing");
    for (const char* url : {"redis://a:", "redis://a:0", "redis://a:65536", "redis://a:123456", "redis://a:x",
                            "redis://a:-1", "redis://a:06379", "redis://[::1]:", "redis://[::1]x"})
        assert_fault(url, "1 to 65535");
    for (const char* url : {"redis://::1", "redis://::1:6379", "redis://a:1:2"})
        assert_fault(url, "IPv6 address stands in [ ]");
    assert_fault("redis://[::1", "] behind");
    for (const char* url : {"redis://[]", "redis://[10.0.0.1]", "redis://[::1%25lo]", "redis://[g::1]"})
        assert_fault(url, "between [ and ]");
    for (const char* url : {"redis://a..b", "redis://.a", "redis://a!b", "redis://\xc3\xa9", "redis://a%41"})
        assert_fault(url, "the host is a name");
    assert_fault("redis://" + std::string(254, 'a'), "the host is a name");
    for (const char* url : {"redis://10.0.0.256", "redis://10.0.1", "redis://1", "redis://10.0.0.1."})
        assert_fault(url, "looks like an IPv4 address");
    for (const char* url :
         {"", "redis", "localhost:6379", "redis:/a", "http://a", "Redis://a", "redis+tls://a"})
        assert_fault(url, "begins with redis://");
    for (const char* url : {" redis://a", "redis://a\n", "redis://a\tb", "redis://a\x7f"})
        assert_fault(url, "blanks or control");
}

void user_and_password_stand_once_before_all_servers(void**) {
    assert_fault("sentinel://u:p@a,u:p@b/m", "%40");
    assert_fault("cluster://a,u:p@b", "%2C");
}

void no_error_quotes_the_url(void**) {
    // Wherever the password is not encoded, a part of it is taken for something else.
    for (const char* mark :
         {"", "@", "/", ":", ",", "?", "#", "%", "[", " ", "\n", "\xff", "@/", ":/@", "/@"}) {
        for (const char* scheme :
             {"", "redis://", "rediss://", "unix:", "unix:/", "sentinel://", "cluster://"}) {
            for (const char* end : {"", "@", "@host", "@host:x", "@host/x", "@a,b", "@a,b/m", ",b"}) {
                const std::string url = std::string(scheme) + "u5er:5ecret" + mark + "p455" + end;
                const auto target = parse_redis_url(url);
                const std::string said = target ? target->text() : target.error().message;
                // Without an @ it is no password, and a path is a path.
                if (target && (*end != '@' || std::strncmp(scheme, "unix", 4) == 0)) continue;
                for (const char* part : {"u5er", "5ecret", "p455"})
                    assert_null(std::strstr(said.c_str(), part));
            }
        }
    }
}

void a_prefix_is_a_short_word(void**) {
    for (const char* prefix : {"rooms", "a", "App-1_b.c:d"}) assert_true(is_redis_prefix(prefix));
    for (const char* prefix : {"", "a b", "a{b}", "\xc3\xa9", "a/b", "a*"})
        assert_false(is_redis_prefix(prefix));
    assert_true(is_redis_prefix(std::string(64, 'a')));
    assert_false(is_redis_prefix(std::string(65, 'a')));
}

void texts_say_the_database_where_the_url_cannot(void**) {
    RedisTarget target = parsed("unix:/r.sock");
    target.db = 2;
    assert_string_equal(target.text().c_str(), "unix:/r.sock db 2");
    target = parsed("sentinel://a/m");
    target.db = 2;
    assert_string_equal(target.text().c_str(), "sentinel://a:26379/m db 2");
}

void it_runs_out_of_memory_without_harm(void**) {
    for (const char* url :
         {"sentinel://user:a%20long%20password%20indeed@a-long-name-of-a-sentinel.internal,[::1]/m",
          "unix:/run/a/long/path/to/redis.sock", "cluster://a,a"}) {
        const long failures = every_allocation_fails([&] {
            const auto target = parse_redis_url(url);
            if (target) (void)target->text();
        });
        assert_true(failures > 0);
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(a_server_is_a_host_with_or_without_a_port),
        cmocka_unit_test(the_scheme_with_two_s_means_tls),
        cmocka_unit_test(ip_addresses_need_no_resolving_and_names_are_left_empty),
        cmocka_unit_test(a_unix_socket_is_a_path),
        cmocka_unit_test(the_database_is_a_number_behind_the_server),
        cmocka_unit_test(user_and_password_are_percent_decoded),
        cmocka_unit_test(sentinels_are_a_list_with_the_name_of_the_master),
        cmocka_unit_test(nodes_of_a_cluster_are_a_list_without_a_database),
        cmocka_unit_test(several_servers_are_a_sentinel_or_a_cluster),
        cmocka_unit_test(a_server_named_twice_is_refused),
        cmocka_unit_test(anything_else_is_no_server),
        cmocka_unit_test(user_and_password_stand_once_before_all_servers),
        cmocka_unit_test(no_error_quotes_the_url),
        cmocka_unit_test(a_prefix_is_a_short_word),
        cmocka_unit_test(texts_say_the_database_where_the_url_cannot),
        cmocka_unit_test(it_runs_out_of_memory_without_harm),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

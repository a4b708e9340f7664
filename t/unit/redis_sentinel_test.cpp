// The master that sentinels name, and the guide that asks them: one after the other, in time, and in few
// words.
#include <array>
#include <memory>
#include <string>
#include <string_view>

#include "fake_redis.hpp"
#include "store/redis_servers.hpp"

#include "cmocka.hpp"

using namespace redis_test;

namespace {

struct Fixture final : RedisServers::Handler {
    explicit Fixture(const char* url = "sentinel://10.0.0.1:26379,10.0.0.1:26380/mymaster") {
        const auto target = parse_redis_url(url);
        assert_true(target.ok());
        servers = make_redis_servers(reactor, *target, "me", *this);
        for (FakeRedis* sentinel : {&first, &second}) {
            sentinel->answer = [this](FakeLine&, const Words& words) -> std::optional<std::string> {
                if (words[0] == "SENTINEL") return master;
                return std::nullopt;
            };
        }
    }
    void run(std::uint64_t ms) {
        for (; ms > 0; ms -= 10) {
            for (FakeRedis* one : {&first, &second, &redis}) one->serve();
            reactor.advance(10);
        }
    }
    // Questions since the last call.
    std::size_t asked() { return first.take("SENTINEL").size() + second.take("SENTINEL").size(); }

    void on_commands_up(RedisNode&) override {}
    void on_lost(RedisNode&, bool) override {}
    void on_subscriptions_up(RedisNode&) override {}
    void on_subscriptions_down(RedisNode&) override {}
    void on_event(RedisNode&, std::string_view, std::string_view) override {}
    void on_unsubscribed(RedisNode&, std::string_view) override {}
    void on_map_changed() override { ++maps; }
    void on_dropped(RedisNode&) override {}

    FakeReactor reactor;
    FakeRedis first{reactor, 26379};
    FakeRedis second{reactor, 26380};
    FakeRedis redis{reactor, 6379};
    std::string master = list({bulk("10.0.0.1"), bulk("6379")});
    std::unique_ptr<RedisServers> servers;
    int maps = 0;
};

void the_master_that_a_sentinel_names_is_the_only_node(void**) {
    Fixture f;
    f.servers->start();
    assert_false(f.servers->known());
    f.run(100);
    assert_true(f.servers->known());
    assert_int_equal(f.maps, 1);
    assert_int_equal(f.servers->node_of("x")->address().port, 6379);
    assert_true(f.servers->node_of("x")->commands_up());
    f.run(30000);
    assert_int_equal(f.asked(), 1);
    assert_true(f.reactor.logs.empty());
}

void the_next_sentinel_is_asked_after_each_failure(void**) {
    Fixture f;
    f.first.accepts = f.second.accepts = false;
    f.servers->start();
    f.run(3000);
    // By turns, and each change is a line.
    std::uint16_t before = 0;
    for (const auto& line : f.reactor.lines) {
        assert_int_not_equal(line->address.port, before);
        before = line->address.port;
    }
    assert_in_range(f.reactor.lines.size(), 4, 30);
    assert_true(f.reactor.logged("error: redis: sentinel \"10.0.0.1:26379\": connection refused"));
    assert_true(f.reactor.logged("error: redis: sentinel \"10.0.0.1:26380\": connection refused"));
    f.first.accepts = true;
    f.run(2500);
    assert_true(f.servers->known());
}

void a_sentinel_that_answered_is_asked_again_first(void**) {
    Fixture f;
    f.servers->start();
    f.run(1000);
    const std::uint16_t at = f.reactor.lines.front()->address.port;
    FakeRedis& other = at == 26379 ? f.second : f.first;
    for (int i = 0; i < 5; ++i) {
        f.servers->look_again();
        f.run(1000);
    }
    assert_true(other.seen.empty());
    assert_int_equal(f.asked(), 6);
}

void a_crowd_of_complaints_is_few_questions_but_some(void**) {
    Fixture f;
    f.servers->start();
    f.run(100);
    assert_int_equal(f.asked(), 1);
    for (int i = 0; i < 1000; ++i) {
        f.servers->look_again();
        f.run(10);
    }
    assert_in_range(f.asked(), 15, 20);
}

void a_switch_of_the_master_is_followed(void**) {
    Fixture f;
    FakeRedis next(f.reactor, 6380);
    f.servers->start();
    f.run(100);
    for (FakeRedis* sentinel : {&f.first, &f.second}) {
        sentinel->publish("+switch-master", "another 10.0.0.1 6379 10.0.0.1 1");
        sentinel->publish("+switch-master", "mymaster 10.0.0.1 6379 10.0.0.1 6380");
    }
    next.serve();
    f.run(100);
    assert_int_equal(f.servers->node_of("x")->address().port, 6380);
    assert_true(f.servers->node_of("x")->commands_up());
}

void a_sentinel_that_says_nothing_any_more_is_left(void**) {
    Fixture f;
    f.servers->start();
    f.run(100);
    assert_int_equal(f.asked(), 1);
    f.first.silent = f.second.silent = true;
    f.run(4000);
    assert_true(f.reactor.logged("\": no answer in time"));
    f.first.silent = f.second.silent = false;
    f.run(3000);
    assert_true(f.asked() >= 1);
    assert_true(f.servers->known());
}

// A resolver that takes its time gets one question, and its answer is of the name that was asked for.
void a_name_is_looked_up_once_at_a_time(void**) {
    Fixture f("sentinel://one:26379,two:26380/mymaster");
    f.reactor.has_resolver = true;
    f.reactor.names["one"] = f.reactor.names["two"] = {sockaddr_of("10.0.0.7", 1)};
    f.reactor.answers_look_ups = false;
    f.servers->start();
    f.servers->start();
    f.run(5000);
    assert_true(f.reactor.lines.empty());
    f.reactor.answers_look_ups = true;
    f.run(1000);
    assert_true(f.servers->known());
    assert_string_equal(f.reactor.looked_up.front().c_str(), f.reactor.lines.front()->address.host.c_str());
    std::size_t names = 0;
    for (const std::string& name : f.reactor.looked_up) names += name == "one" || name == "two" ? 1 : 0;
    assert_int_equal(names, 1);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(the_master_that_a_sentinel_names_is_the_only_node),
        cmocka_unit_test(the_next_sentinel_is_asked_after_each_failure),
        cmocka_unit_test(a_sentinel_that_answered_is_asked_again_first),
        cmocka_unit_test(a_crowd_of_complaints_is_few_questions_but_some),
        cmocka_unit_test(a_switch_of_the_master_is_followed),
        cmocka_unit_test(a_sentinel_that_says_nothing_any_more_is_left),
        cmocka_unit_test(a_name_is_looked_up_once_at_a_time),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

// The map of a cluster's slots: learnt, learnt again in time, and corrected by redirections.
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
    Fixture() {
        const auto target = parse_redis_url("cluster://10.0.0.1:7001,10.0.0.1:7002");
        assert_true(target.ok());
        servers = make_redis_servers(reactor, *target, "me", *this);
        for (FakeRedis* node : {&first, &second}) {
            node->answer = [this](FakeLine&, const Words& words) -> std::optional<std::string> {
                if (words[0] == "CLUSTER") return slots();
                if (joined(words) == "INFO server") return bulk("redis_version:7.0.15\r\n");
                return std::nullopt;
            };
        }
    }
    [[nodiscard]] std::string slots() const {
        const auto range = [](int from, int to, int port) {
            return list({number(from), number(to), list({bulk("10.0.0.1"), number(port), bulk("id")})});
        };
        return list({range(0, border - 1, 7001), range(border, 16383, 7002)});
    }
    void run(std::uint64_t ms) {
        for (; ms > 0; ms -= 10) {
            first.serve();
            second.serve();
            reactor.advance(10);
        }
    }
    void start() {
        servers->start();
        run(500);
        (void)asked();
    }
    // Maps since the last call.
    std::size_t asked() { return first.take("CLUSTER SLOTS").size() + second.take("CLUSTER SLOTS").size(); }
    [[nodiscard]] int port_of(std::string_view key) const {
        const RedisNode* node = servers->node_of(key);
        return node == nullptr ? 0 : node->address().port;
    }

    void on_commands_up(RedisNode&) override {}
    void on_lost(RedisNode&, bool) override {}
    void on_subscriptions_up(RedisNode&) override {}
    void on_subscriptions_down(RedisNode&) override {}
    void on_event(RedisNode&, std::string_view, std::string_view) override {}
    void on_unsubscribed(RedisNode&, std::string_view) override {}
    void on_map_changed() override {}
    void on_dropped(RedisNode&) override {}

    FakeReactor reactor;
    FakeRedis first{reactor, 7001};
    FakeRedis second{reactor, 7002};
    int border = 8192;  // the first slot of the second node
    std::unique_ptr<RedisServers> servers;
};

// Slots 12182, 5061 and 866.
constexpr std::string_view kFoo = "foo", kBar = "bar", kHello = "hello";

void each_slot_has_its_node(void**) {
    Fixture f;
    f.servers->start();
    assert_false(f.servers->known());
    assert_int_equal(f.port_of(kFoo), 0);
    f.run(500);
    assert_true(f.servers->known());
    assert_int_equal(f.port_of(kFoo), 7002);
    assert_int_equal(f.port_of(kBar), 7001);
    int nodes = 0;
    f.servers->each([&](RedisNode& node) {
        ++nodes;
        assert_true(node.sharded() && node.commands_up() && node.subscriptions_up());
        // It hears itself in a slot of its own.
        assert_int_equal(f.port_of(node.probe()), node.address().port);
    });
    assert_int_equal(nodes, 2);
    assert_true(f.reactor.logs.empty());
}

void the_map_is_learnt_again_every_ten_seconds(void**) {
    Fixture f;
    f.start();
    f.run(30000);
    assert_in_range(f.asked(), 2, 3);
    f.border = 1000;
    f.run(11000);
    assert_int_equal(f.port_of(kBar), 7002);
    assert_int_equal(f.port_of(kHello), 7001);
}

void complaints_bring_the_map_sooner_but_few_times(void**) {
    Fixture f;
    f.start();
    f.border = 1000;
    for (int i = 0; i < 100; ++i) f.servers->look_again();
    f.run(200);
    assert_int_equal(f.port_of(kBar), 7002);
    assert_int_equal(f.asked(), 1);
}

void complaints_without_end_put_the_map_off_at_no_time(void**) {
    Fixture f;
    f.start();
    for (int second = 0; second < 20; ++second) {
        f.border = 1000 + second;
        for (int i = 0; i < 100; ++i) {
            f.servers->look_again();
            f.run(10);
        }
        assert_in_range(f.asked(), 5, 20);
    }
    // Nor while those that are asked fail.
    f.first.accepts = f.second.accepts = false;
    f.first.commands().hang_up();
    f.second.commands().hang_up();
    const std::size_t lines = f.reactor.lines.size();
    for (int i = 0; i < 300; ++i) {
        f.servers->look_again();
        f.run(10);
    }
    assert_true(f.reactor.lines.size() > lines + 10);
    f.first.accepts = f.second.accepts = true;
    f.border = 8192;
    for (int i = 0; i < 100; ++i) {
        f.servers->look_again();
        f.run(10);
    }
    assert_int_equal(f.port_of(kBar), 7001);
}

void a_moved_slot_is_known_at_once_and_the_map_soon(void**) {
    Fixture f;
    f.start();
    const RedisNode* first = f.servers->node_of(kBar);
    const auto moved = parse_redirect("MOVED 5061 10.0.0.1:7002");
    const auto ask = parse_redirect("ASK 866 10.0.0.1:7002");
    assert_int_equal(f.servers->follow(*ask, *first)->address().port, 7002);
    assert_int_equal(f.port_of(kHello), 7001);
    f.run(200);
    assert_int_equal(f.asked(), 0);
    assert_int_equal(f.servers->follow(*moved, *first)->address().port, 7002);
    assert_int_equal(f.port_of(kBar), 7002);
    f.run(200);
    assert_int_equal(f.asked(), 1);
    assert_int_equal(f.port_of(kBar), 7001);  // as the map has it
}

void a_node_without_slots_is_left_and_passed_through_by_ask(void**) {
    Fixture f;
    f.start();
    f.border = 16384 - 1;
    f.servers->look_again();
    f.run(500);
    assert_int_equal(f.port_of(kFoo), 7001);
    FakeRedis third(f.reactor, 7003);
    const auto ask = parse_redirect("ASK 866 10.0.0.1:7003");
    assert_int_equal(f.servers->follow(*ask, *f.servers->node_of(kHello))->address().port, 7003);
    third.serve();
    f.servers->each([](RedisNode& node) { assert_int_not_equal(node.address().port, 7003); });
}

void a_cluster_that_cannot_be_asked_is_told_once(void**) {
    Fixture f;
    f.first.accepts = f.second.accepts = false;
    f.servers->start();
    f.run(5000);
    assert_false(f.servers->known());
    assert_true(f.reactor.logged("error: redis: cluster node \"10.0.0.1:7001\": connection refused"));
    assert_true(f.reactor.logged("error: redis: cluster node \"10.0.0.1:7002\": connection refused"));
    f.first.accepts = true;
    f.run(2500);
    assert_true(f.servers->known());
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(each_slot_has_its_node),
        cmocka_unit_test(the_map_is_learnt_again_every_ten_seconds),
        cmocka_unit_test(complaints_bring_the_map_sooner_but_few_times),
        cmocka_unit_test(complaints_without_end_put_the_map_off_at_no_time),
        cmocka_unit_test(a_moved_slot_is_known_at_once_and_the_map_soon),
        cmocka_unit_test(a_node_without_slots_is_left_and_passed_through_by_ask),
        cmocka_unit_test(a_cluster_that_cannot_be_asked_is_told_once),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

// Calls of scripts: the detours that a Redis may ask for, and one answer at the end.
#include <array>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fake_redis.hpp"
#include "store/redis_calls.hpp"

#include "cmocka.hpp"

using namespace redis_test;

namespace {

// Servers whose map the test draws: one node a port.
class FakeServers final : public RedisServers, public RedisNode::Handler {
public:
    explicit FakeServers(FakeReactor& reactor) : reactor_(reactor) {}
    RedisNode& add(std::uint16_t port) {
        auto& node = nodes[port];
        node = std::make_unique<RedisNode>(reactor_, place("10.0.0.1", port),
                                           RedisNode::Options{{}, "me", "probe", false}, *this);
        node->start();
        return *node;
    }

    void start() override {}
    RedisNode* node_of(std::string_view) override {
        return nodes.contains(home) ? nodes[home].get() : nullptr;
    }
    bool known() const override { return is_known; }
    void each(const std::function<void(RedisNode&)>&) override {}
    void look_again() override { ++looked_again; }
    RedisNode* follow(const RedisRedirect& redirect, const RedisNode& from) override {
        if (!redirect.ask) ++moved;
        const std::string& host = redirect.host.empty() ? from.address().host : redirect.host;
        return host == "10.0.0.1" && nodes.contains(redirect.port) ? nodes[redirect.port].get() : nullptr;
    }
    void on_commands_up(RedisNode&) override {}
    void on_lost(RedisNode&, bool) override {}
    void on_subscriptions_up(RedisNode&) override {}
    void on_subscriptions_down(RedisNode&) override {}
    void on_event(RedisNode&, std::string_view, std::string_view) override {}
    void on_unsubscribed(RedisNode&, std::string_view) override {}

    std::map<std::uint16_t, std::unique_ptr<RedisNode>> nodes;
    std::uint16_t home = 6379;  // of all keys
    bool is_known = true;
    int looked_again = 0;
    int moved = 0;

private:
    FakeReactor& reactor_;
};

struct Fixture {
    Fixture() {
        servers.add(6379);
        redis.serve();
        redis.seen.clear();
    }

    FakeReactor reactor;
    FakeRedis redis{reactor};
    FakeRedis second{reactor, 6380};
    FakeServers servers{reactor};
    RedisCalls calls{reactor, servers};
    std::string said;

    RedisCalls::Done say() {
        return [this](const RedisOutcome& outcome) {
            const std::string text = outcome.reply
                                         ? "=" + std::string(outcome.reply->text())
                                         : std::string(outcome.taken ? "?" : "!") + std::string(outcome.why);
            said += (said.empty() ? "" : "; ") + text;
        };
    }
    void run(Script script = Script::presence) {
        const std::array<std::string_view, 1> keys = {"rooms:{a:1}:at"};
        const std::array<std::string_view, 1> arguments = {"x"};
        calls.run(script, keys, arguments, say());
        redis.serve();
        second.serve();
    }
    void told(const char* wanted) { assert_string_equal(std::exchange(said, {}).c_str(), wanted); }
};

constexpr const char* kCall = "EVALSHA presence 1 rooms:{a:1}:at x";

void redirections_name_a_place(void**) {
    const auto text = [](std::string_view error) {
        const auto found = parse_redirect(error);
        if (!found) return std::string("none");
        return std::string(found->ask ? "ask " : "moved ") + found->host + " " + std::to_string(found->port);
    };
    assert_string_equal(text("MOVED 3999 127.0.0.1:6381").c_str(), "moved 127.0.0.1 6381");
    assert_string_equal(text("ASK 3999 127.0.0.1:6381").c_str(), "ask 127.0.0.1 6381");
    assert_string_equal(text("MOVED 3999 :6381").c_str(), "moved  6381");
    assert_string_equal(text("MOVED 3999 ::1:6381").c_str(), "moved ::1 6381");
    assert_string_equal(text("MOVED 3999 redis-1.internal:65535").c_str(), "moved redis-1.internal 65535");
    for (const char* bad : {"", "MOVED", "MOVED ", "MOVED 3999", "MOVED 3999 a",
                            "MOVED 3999 a:", "MOVED 3999 a:0", "MOVED 3999 a:65536", "MOVED 3999 a:12x",
                            "MOVED 3999 a:-1", "ASKING", "moved 1 a:1", "ERR MOVED 3999 127.0.0.1:6381"}) {
        assert_string_equal(text(bad).c_str(), "none");
    }
}

void a_call_is_one_command_and_one_answer(void**) {
    Fixture f;
    f.run();
    assert_string_equal(f.redis.waiting().c_str(), kCall);
    f.redis.reply("+good\r\n");
    f.told("=good");
    const std::array<std::string_view, 2> words = {"EXISTS", "k"};
    f.calls.command("k", words, f.say());
    f.redis.serve();
    f.redis.reply("+1\r\n");
    f.told("=1");
    f.reactor.advance(5000);
    f.told("");
}

void nobody_knows_what_became_of_a_call_that_was_cut_off(void**) {
    Fixture f;
    f.run();
    f.redis.commands().hang_up();
    f.told("?redis did not answer in time");
    // And while the server is known to be lost nothing is sent at all.
    f.run();
    f.told("!redis cannot be reached");
}

void a_server_without_the_scripts_gets_them_and_is_asked_again(void**) {
    Fixture f;
    f.run();
    f.redis.reply("-NOSCRIPT No matching script. Please use EVAL.\r\n");
    assert_string_equal(f.redis.waiting().c_str(), kCall);
    const auto seen = f.redis.take("");
    assert_int_equal(seen.size(), kScripts + 2);
    assert_string_equal(seen[0].c_str(), kCall);
    assert_string_equal(seen[1].c_str(), "SCRIPT LOAD presence");
    assert_string_equal(seen[kScripts].c_str(), "SCRIPT LOAD publish");
    assert_string_equal(seen[kScripts + 1].c_str(), kCall);
    f.redis.reply("+good\r\n");
    f.told("=good");
}

void a_crowd_that_misses_the_scripts_loads_them_once(void**) {
    Fixture f;
    for (int i = 0; i < 3; ++i) f.run();
    for (int i = 0; i < 3; ++i) f.redis.reply("-NOSCRIPT No matching script.\r\n");
    assert_int_equal(f.redis.take("SCRIPT LOAD").size(), kScripts);
    for (int i = 0; i < 3; ++i) f.redis.reply("+good\r\n");
    f.told("=good; =good; =good");
    // Should they be gone once more, so are they loaded.
    f.run();
    f.redis.reply("-NOSCRIPT No matching script.\r\n");
    assert_int_equal(f.redis.take("SCRIPT LOAD").size(), kScripts);
    // The link ended before any was loaded: the next one begins anew.
    f.redis.reply("+good\r\n");
    f.run();
    f.redis.silent = true;
    f.redis.reply("-NOSCRIPT No matching script.\r\n");
    f.redis.commands().hang_up();
    f.redis.silent = false;
    f.redis.run(1000);
    f.redis.seen.clear();
    f.said.clear();
    f.run();
    f.redis.reply("-NOSCRIPT No matching script.\r\n");
    assert_int_equal(f.redis.take("SCRIPT LOAD").size(), kScripts);
    f.redis.reply("+good\r\n");
    f.told("=good");
}

void a_slot_of_which_half_has_gone_is_asked_again_in_a_while(void**) {
    Fixture f;
    f.run();
    f.redis.reply("-TRYAGAIN Multiple keys request during rehashing of slot\r\n");
    f.told("");
    f.redis.run(100);
    assert_string_equal(f.redis.waiting().c_str(), kCall);
    f.redis.reply("+good\r\n");
    f.told("=good");
    f.run();
    for (int i = 0; i < 200 && f.said.empty(); ++i) {
        if (!f.redis.waiting().empty()) f.redis.reply("-TRYAGAIN Multiple keys request\r\n");
        f.redis.run(10);
    }
    f.told("!the slot of the room is moving");
    f.redis.run(5000);
    f.told("");
}

void detours_have_an_end(void**) {
    Fixture f;
    f.run();
    int answers = 0;
    while (f.said.empty()) {
        f.redis.reply("-NOSCRIPT No matching script.\r\n");
        assert_true(++answers < 20);
    }
    f.told("!redis refuses: NOSCRIPT");
}

void a_refusal_is_the_callers_with_its_kind_and_logged_once(void**) {
    Fixture f;
    RedisNode& node = *f.servers.nodes[6379];
    assert_int_equal(node.refusing_since_ms(), 0);
    for (const char* error :
         {"OOM command not allowed", "MISCONF no disk", "LOADING Redis is loading",
          "NOAUTH Authentication required.", "NOPERM no", "CLUSTERDOWN Hash slot not served",
          "BUSY Redis is busy running a script", "NOREPLICAS Not enough good replicas to write."}) {
        f.run();
        f.redis.reply("-" + std::string(error) + "\r\n");
        const std::string kind = std::string(error).substr(0, std::string(error).find(' '));
        f.told(("!redis refuses: " + kind).c_str());
        assert_true(f.reactor.logged("refuses: " + std::string(error)));
    }
    assert_int_equal(f.servers.looked_again, 1);
    assert_int_equal(node.refusing_since_ms(), f.reactor.now_ms());
    const std::size_t logs = f.reactor.logs.size();
    const auto answered = [&](const char* resp) {
        f.run();
        f.redis.reply(resp);
    };
    // What still succeeds, and what is no script, ends it not.
    answered("-OOM again\r\n");
    answered("+good\r\n");
    f.redis.run(2900);
    answered("+good\r\n");
    assert_int_equal(f.reactor.logs.size(), logs);
    f.redis.run(200);
    const std::array<std::string_view, 2> words = {"EXISTS", "k"};
    f.calls.command("k", words, nullptr);
    f.redis.serve();
    f.redis.reply("+1\r\n");
    assert_int_equal(f.reactor.logs.size(), logs);
    assert_true(node.refusing_since_ms() != 0);
    answered("+good\r\n");
    assert_int_equal(f.reactor.logs.size(), logs + 1);
    assert_true(f.reactor.logged("works again, after: NOREPLICAS"));
    assert_int_equal(node.refusing_since_ms(), 0);
    answered("-OOM once more\r\n");
    assert_true(f.reactor.logged("refuses: OOM once more"));
}

void a_fault_of_one_key_is_no_state_of_the_server(void**) {
    Fixture f;
    f.redis.run(1000);
    const RedisNode& node = *f.servers.nodes[6379];
    for (const char* error : {"ROOMS the event must be a JSON object", "WRONGTYPE of a key", "ERR what"}) {
        f.run();
        f.redis.reply("-" + std::string(error) + "\r\n");
    }
    f.told("!redis refuses: ROOMS; !redis refuses: WRONGTYPE; !redis refuses: ERR");
    assert_int_equal(f.reactor.logs.size(), 1);
    assert_string_equal(f.reactor.logs[0].c_str(),
                        "error: redis \"10.0.0.1:6379\" refuses a call for \"rooms:{a:1}:at\": ROOMS the "
                        "event must be a JSON object");
    assert_int_equal(node.refusing_since_ms(), 0);
    assert_true(node.trouble().empty());
    f.redis.run(60000);
    f.run();
    f.redis.reply("-WRONGTYPE of a key\r\n");
    assert_int_equal(f.reactor.logs.size(), 2);
}

void a_moved_slot_is_followed(void**) {
    for (const char* place : {"10.0.0.1:6380", ":6380"}) {
        Fixture f;
        f.servers.add(6380);
        f.second.serve();
        f.second.seen.clear();
        f.run();
        f.redis.reply("-MOVED 3999 " + std::string(place) + "\r\n");
        f.second.serve();
        assert_int_equal(f.servers.moved, 1);
        assert_string_equal(f.second.waiting().c_str(), kCall);
        f.second.reply("+there\r\n");
        f.told("=there");
    }
}

void a_slot_on_its_way_is_asked_for_where_it_goes(void**) {
    Fixture f;
    f.servers.add(6380);
    f.second.serve();
    f.second.seen.clear();
    f.run();
    f.redis.reply("-ASK 3999 10.0.0.1:6380\r\n");
    f.second.serve();
    const auto seen = f.second.take("");
    assert_int_equal(seen.size(), 2);
    assert_string_equal(seen[0].c_str(), "ASKING");
    assert_string_equal(seen[1].c_str(), kCall);
    assert_int_equal(f.servers.moved, 0);
    f.second.reply("+there\r\n");
    f.told("=there");
}

void a_slot_that_went_where_nobody_knows_is_the_callers_failure(void**) {
    Fixture f;
    f.run();
    f.redis.reply("-MOVED 3999 10.0.0.9:6380\r\n");
    f.told("!the slot of the room is moving");
    assert_int_equal(f.servers.moved, 1);
    // What is for this node only does not go elsewhere.
    f.servers.add(6380);
    f.second.serve();
    const std::array<std::string_view, 1> keys = {"k"};
    f.calls.run_at(*f.servers.nodes[6379], Script::check, keys, {}, f.say());
    f.redis.serve();
    f.redis.reply("-MOVED 3999 10.0.0.1:6380\r\n");
    f.told("!the slot of the room is moving");
}

void servers_that_send_each_other_are_left_in_the_end(void**) {
    Fixture f;
    f.servers.add(6380);
    f.second.serve();
    f.run();
    for (int i = 0; i < 10 && f.said.empty(); ++i) {
        if (!f.redis.waiting().empty()) f.redis.reply("-MOVED 3999 10.0.0.1:6380\r\n");
        f.second.serve();
        if (!f.second.waiting().empty()) f.second.reply("-MOVED 3999 10.0.0.1:6379\r\n");
        f.redis.serve();
    }
    f.told("!the slot of the room is moving");
}

void a_replica_is_restarted_and_the_master_looked_for(void**) {
    for (const char* error :
         {"READONLY You can't write against a read only replica.", "MASTERDOWN Link is down"}) {
        Fixture f;
        f.run();
        f.redis.reply("-" + std::string(error) + "\r\n");
        f.told("!this redis is no master");
        assert_int_equal(f.servers.looked_again, 1);
        assert_false(f.servers.nodes[6379]->takes_commands());
        f.redis.run(1000);
        assert_true(f.servers.nodes[6379]->commands_up());
    }
}

void calls_before_a_map_is_known_go_with_it(void**) {
    Fixture f;
    f.servers.is_known = false;
    f.servers.home = 6380;
    f.run();
    f.run();
    f.told("");
    f.servers.add(6380);
    f.servers.is_known = true;
    f.calls.on_map();
    f.second.serve();
    f.second.reply("+1\r\n");
    f.second.reply("+2\r\n");
    f.told("=1; =2");
    f.reactor.advance(5000);
    f.told("");
}

void calls_before_a_map_is_known_do_not_wait_for_ever(void**) {
    Fixture f;
    f.servers.is_known = false;
    f.servers.home = 1;
    f.run();
    f.reactor.advance(500);
    f.run();
    f.reactor.advance(299);
    f.told("");
    f.reactor.advance(1);
    f.told("!redis cannot be reached");
    f.reactor.advance(499);
    f.told("");
    f.reactor.advance(1);
    f.told("!redis cannot be reached");
    f.reactor.advance(5000);
    f.told("");
    // Once there is a map without a place for them they do not wait at all.
    f.servers.is_known = true;
    f.run();
    f.told("!redis cannot be reached");
}

void a_call_nobody_waits_for_needs_no_callback(void**) {
    Fixture f;
    const std::array<std::string_view, 2> words = {"SET", "k"};
    f.calls.command("k", words, nullptr);
    f.redis.serve();
    f.calls.command("k", words, nullptr);
    f.redis.commands().hang_up();
    f.calls.command("k", words, nullptr);
    f.told("");
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(redirections_name_a_place),
        cmocka_unit_test(a_call_is_one_command_and_one_answer),
        cmocka_unit_test(nobody_knows_what_became_of_a_call_that_was_cut_off),
        cmocka_unit_test(a_server_without_the_scripts_gets_them_and_is_asked_again),
        cmocka_unit_test(a_crowd_that_misses_the_scripts_loads_them_once),
        cmocka_unit_test(a_slot_of_which_half_has_gone_is_asked_again_in_a_while),
        cmocka_unit_test(detours_have_an_end),
        cmocka_unit_test(a_refusal_is_the_callers_with_its_kind_and_logged_once),
        cmocka_unit_test(a_fault_of_one_key_is_no_state_of_the_server),
        cmocka_unit_test(a_moved_slot_is_followed),
        cmocka_unit_test(a_slot_on_its_way_is_asked_for_where_it_goes),
        cmocka_unit_test(a_slot_that_went_where_nobody_knows_is_the_callers_failure),
        cmocka_unit_test(servers_that_send_each_other_are_left_in_the_end),
        cmocka_unit_test(a_replica_is_restarted_and_the_master_looked_for),
        cmocka_unit_test(calls_before_a_map_is_known_go_with_it),
        cmocka_unit_test(calls_before_a_map_is_known_do_not_wait_for_ever),
        cmocka_unit_test(a_call_nobody_waits_for_needs_no_callback),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

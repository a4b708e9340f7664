// One Redis server: two links, and the certainty that what is published on the one is heard on the other.
#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "every_allocation.hpp"
#include "fake_redis.hpp"
#include "store/redis_node.hpp"

#include "cmocka.hpp"

using namespace redis_test;

namespace {

constexpr std::string_view kProbe = "rooms:{probe}:me";

struct Fixture final : RedisNode::Handler {
    explicit Fixture(bool sharded = false, Address address = place()) {
        node = std::make_unique<RedisNode>(reactor, std::move(address),
                                           RedisNode::Options{{}, "me", std::string(kProbe), sharded}, *this);
    }

    FakeReactor reactor;
    FakeRedis redis{reactor};
    std::unique_ptr<RedisNode> node;
    std::string said;
    std::string events_were_of;  // when commands came up

    void say(const std::string& what) { said += (said.empty() ? "" : "; ") + what; }
    void on_commands_up(RedisNode& up) override {
        say("up " + up.fence());
        events_were_of = up.events_fence();
    }
    void on_lost(RedisNode&, bool again) override { say(again ? "lost again" : "lost"); }
    void on_subscriptions_up(RedisNode&) override { say("hears"); }
    void on_subscriptions_down(RedisNode&) override { say("deaf"); }
    void on_event(RedisNode&, std::string_view channel, std::string_view message) override {
        say("event " + std::string(channel) + "=" + std::string(message));
    }
    void on_unsubscribed(RedisNode&, std::string_view channel) override {
        say("unsubscribed " + std::string(channel));
    }

    [[nodiscard]] bool command(const std::string& name) {
        const std::array<std::string_view, 1> words = {name};
        return node->command(
            words, [this, name](std::optional<Reply> reply) { say(name + (reply ? "=1" : "=none")); });
    }
    void start() {
        node->start();
        redis.serve();
        said.clear();
    }
    void told(const char* wanted) { assert_string_equal(std::exchange(said, {}).c_str(), wanted); }
};

void a_node_takes_commands_then_subscriptions(void**) {
    Fixture f;
    f.node->start();
    assert_false(f.node->commands_up());
    f.redis.serve();
    f.told("up r1; hears");
    assert_true(f.node->commands_up() && f.node->subscriptions_up());
    assert_true(f.redis.is_subscribed(kProbe));
    assert_true(f.reactor.logs.empty());
}

void commands_before_the_first_login_wait_for_it(void**) {
    Fixture f;
    f.node->start();
    assert_true(f.node->takes_commands());
    assert_true(f.command("PING"));
    f.redis.serve();
    f.told("up r1; PING=1; hears");
}

void a_lost_server_takes_no_commands_at_all(void**) {
    Fixture f;
    f.start();
    assert_true(f.command("x"));
    f.redis.accepts = false;
    f.redis.commands().hang_up("reset by peer");
    f.told("x=none; lost");
    assert_false(f.node->takes_commands());
    assert_false(f.command("y"));
    f.redis.run(300);  // attempts are under way now and then
    assert_false(f.command("z"));
    f.redis.accepts = true;
    f.redis.run(1000);
    assert_true(f.node->takes_commands());
    assert_true(f.node->trouble().empty());
}

void a_loss_is_logged_once_and_so_is_the_return(void**) {
    Fixture f;
    f.start();
    f.redis.commands().hang_up("reset by peer");
    f.redis.accepts = false;
    f.redis.run(5000);
    assert_string_equal(f.node->trouble().c_str(), "connection refused");
    assert_int_equal(f.node->losses(), 1);
    f.redis.accepts = true;
    f.redis.run(1000);
    assert_int_equal(f.reactor.logs.size(), 3);
    assert_string_equal(f.reactor.logs[0].c_str(),
                        "error: redis \"10.0.0.1:6379\" lost: reset by peer, retrying");
    assert_string_equal(f.reactor.logs[1].c_str(),
                        "error: redis \"10.0.0.1:6379\" cannot be reached: connection refused, retrying");
    assert_true(f.reactor.logs[2].starts_with("notice: redis \"10.0.0.1:6379\" is back after "));
}

void a_server_that_was_never_there_cannot_be_reached(void**) {
    Fixture f;
    f.redis.accepts = false;
    f.node->start();
    assert_true(f.command("a"));
    f.redis.run(3000);
    assert_true(f.said.starts_with("a=none; lost; lost again; lost again"));
    assert_int_equal(f.reactor.logs.size(), 1);
    assert_true(f.reactor.logged("cannot be reached: connection refused"));
}

void a_lost_server_is_tried_at_least_twice_a_second_and_not_in_a_row(void**) {
    Fixture f;
    f.redis.accepts = false;
    f.node->start();
    f.redis.run(10000);
    assert_true(f.reactor.lines.size() >= 2 * 20);
    assert_true(f.reactor.lines.size() <= 2 * 50);
}

void a_word_that_is_heard_every_two_seconds_keeps_all_as_it_is(void**) {
    Fixture f;
    f.start();
    const std::uint64_t before = f.node->heard_ms();
    f.redis.run(60000);
    f.told("");
    assert_int_equal(f.reactor.lines.size(), 2);
    assert_true(f.node->heard_ms() >= before + 57000);
    assert_true(f.redis.take("PUBLISH").size() >= 30);
    assert_true(f.reactor.logs.empty());
}

void a_word_that_is_not_heard_reopens_the_subscriptions(void**) {
    Fixture f;
    f.start();
    f.redis.delivers = false;
    f.redis.run(3000);
    assert_true(f.said.starts_with("deaf; hears"));
    assert_true(f.reactor.logged("subscriptions lost: deaf: what is published does not come"));
    assert_true(f.node->commands_up());
    f.redis.delivers = true;
    f.redis.run(2000);
    f.said.clear();
    f.redis.run(10000);
    f.told("");
}

void anothers_word_is_not_heard_as_ours(void**) {
    Fixture f;
    f.start();
    f.redis.run(1000);
    f.redis.delivers = false;
    const std::uint64_t before = f.node->heard_ms();
    for (int i = 0; i < 20; ++i) {
        f.redis.publish(kProbe, "123456789");
        f.redis.publish(kProbe, "not a number");
        f.redis.run(100);
    }
    assert_int_equal(f.node->heard_ms(), before);
    f.told("");  // while anything comes, the word may be behind it
    f.redis.run(2000);
    assert_true(f.said.starts_with("deaf"));
}

void a_server_that_says_nothing_is_lost_within_three_seconds(void**) {
    Fixture f;
    f.start();
    f.redis.silent = true;
    f.redis.run(2900);
    assert_true(f.said.find("lost") != std::string::npos);
    assert_true(f.said.find("deaf") != std::string::npos);
    assert_false(f.node->takes_commands());
}

void two_servers_behind_one_address_are_told_apart(void**) {
    Fixture f;
    int logins = 0;
    f.redis.answer = [&](FakeLine&, const Words& words) -> std::optional<std::string> {
        if (words[0] != "INFO") return std::nullopt;
        return bulk(info_text("master", ++logins == 2 ? "another" : "r1"));
    };
    f.node->start();
    f.redis.run(1000);
    assert_true(f.reactor.logged("it is another server by now"));
    assert_true(f.node->commands_up() && f.node->subscriptions_up());
    assert_int_equal(f.reactor.lines.size(), 4);
    assert_string_equal(f.node->fence().c_str(), "r1");
}

void a_master_that_becomes_a_replica_is_lost(void**) {
    Fixture f;
    f.start();
    f.redis.role = "slave";
    f.redis.run(2500);
    assert_true(f.said.find("lost") != std::string::npos);
    assert_string_equal(f.node->trouble().c_str(), "READONLY it is a replica");
    assert_false(f.node->takes_commands());
    f.redis.role = "master";
    f.redis.run(1000);
    assert_true(f.node->commands_up() && f.node->subscriptions_up());
}

void other_data_under_an_open_link_is_told_as_a_new_server(void**) {
    Fixture f;
    f.start();
    f.redis.replication = "r2";
    f.redis.run(2500);
    f.told("up r2");
    assert_string_equal(f.node->fence().c_str(), "r2");
    f.redis.run(10000);
    f.told("");
}

void events_come_with_their_channel(void**) {
    Fixture f;
    f.start();
    assert_true(
        f.node->subscribe("c", [&](bool good, std::string_view) { f.say(good ? "subscribed" : "refused"); }));
    f.redis.serve();
    f.redis.publish("c", "hello");
    f.node->unsubscribe("c");
    f.redis.serve();
    f.redis.publish("c", "not any more");
    f.told("subscribed; event c=hello");
}

void a_refused_subscription_is_told_with_the_servers_word(void**) {
    Fixture f;
    f.start();
    f.redis.answer = [](FakeLine&, const Words& words) -> std::optional<std::string> {
        if (words[0] == "SUBSCRIBE") return "-NOPERM no\r\n";
        return std::nullopt;
    };
    assert_true(f.node->subscribe(
        "c", [&](bool good, std::string_view why) { f.say((good ? "good " : "") + std::string(why)); }));
    f.redis.serve();
    f.told("NOPERM no");
    assert_true(f.node->subscriptions_up());
}

void a_refused_probe_is_tried_again_and_nothing_is_up(void**) {
    Fixture f;
    f.redis.answer = [](FakeLine&, const Words& words) -> std::optional<std::string> {
        if (words[0] == "SUBSCRIBE") return "-NOPERM no\r\n";
        return std::nullopt;
    };
    f.node->start();
    f.redis.run(2000);
    f.told("up r1");
    assert_false(f.node->subscriptions_up());
    f.redis.answer = nullptr;
    f.redis.run(1000);
    f.told("hears");
}

void a_subscription_under_way_when_the_link_ends_is_not_answered(void**) {
    Fixture f;
    f.start();
    f.redis.silent = true;
    assert_true(f.node->subscribe("c", [&](bool, std::string_view) { f.say("answered"); }));
    f.redis.serve();
    f.redis.subscriptions().hang_up();
    f.told("deaf");
    assert_int_equal(f.node->losses(), 1);
}

void sharded_channels_have_commands_of_their_own(void**) {
    Fixture f(true);
    f.start();
    assert_true(
        f.node->subscribe("c", [&](bool good, std::string_view) { f.say(good ? "subscribed" : "refused"); }));
    f.redis.serve();
    f.redis.publish("c", "hello");
    f.node->unsubscribe("c");
    f.redis.run(3000);
    f.told("subscribed; event c=hello");
    assert_true(f.redis.take("SPUBLISH").size() >= 2);
}

void a_slot_that_moves_takes_its_subscriptions_along(void**) {
    Fixture f(true);
    f.start();
    f.redis.subscriptions().feed(list({bulk("sunsubscribe"), bulk("c"), number(0)}));
    f.told("unsubscribed c");
    // The probe's own slot: the node is not deaf for that.
    f.redis.answer = [](FakeLine&, const Words& words) -> std::optional<std::string> {
        if (words[0] == "SPUBLISH") return "-MOVED 3999 10.0.0.2:6379\r\n";
        return std::nullopt;
    };
    f.redis.run(2500);
    f.told("unsubscribed rooms:{probe}:me");
    assert_int_equal(f.reactor.lines.size(), 2);
    // It gets a probe in a slot that is its own.
    f.redis.answer = nullptr;
    f.node->set_probe("rooms:{7}:probe:me");
    f.redis.run(10000);
    f.told("");
    assert_int_equal(f.reactor.lines.size(), 2);
    assert_true(f.redis.is_subscribed("rooms:{7}:probe:me"));
    assert_false(f.redis.is_subscribed(kProbe));
}

void a_node_moves_to_another_address(void**) {
    Fixture f;
    f.start();
    f.node->move_to(place());
    f.redis.serve();
    f.told("");
    FakeRedis other(f.reactor, 6380);
    other.replication = "r2";
    f.node->move_to(place("10.0.0.2", 6380));
    other.serve();
    f.told("deaf; up r2; hears");
    assert_true(f.reactor.logged("is replaced by \"10.0.0.2:6380\""));
    assert_int_equal(f.reactor.lines.size(), 4);
    assert_false(f.reactor.lines[0]->alive() || f.reactor.lines[1]->alive());
}

void a_stopped_node_answers_and_is_silent(void**) {
    Fixture f;
    f.start();
    assert_true(f.command("x"));
    f.node->stop();
    f.told("x=none; deaf");
    f.redis.run(10000);
    f.told("");
    assert_int_equal(f.reactor.lines.size(), 2);
    assert_false(f.command("y"));
}

void a_name_is_looked_up_for_each_attempt(void**) {
    Address by_name;
    by_name.host = "redis.internal";
    by_name.port = 6379;
    Fixture f(false, by_name);
    f.reactor.has_resolver = true;
    f.node->start();
    f.redis.run(1000);
    assert_true(f.said.starts_with("lost; lost again"));
    assert_true(f.reactor.logged("redis \"redis.internal:6379\" cannot be reached: host not found"));
    assert_true(f.reactor.lines.empty());
    f.said.clear();
    f.reactor.names["redis.internal"] = {sockaddr_of("10.0.0.7", 6379)};
    f.redis.run(1000);
    f.told("up r1; hears");
    assert_true(f.reactor.line().address.sockaddr == sockaddr_of("10.0.0.7", 6379));
    // The service moves; a name that cannot be looked up for a moment is where it was.
    f.reactor.names["redis.internal"] = {sockaddr_of("10.0.0.8", 6379)};
    f.redis.commands().hang_up();
    f.redis.run(1000);
    assert_true(f.reactor.line().address.sockaddr == sockaddr_of("10.0.0.8", 6379));
    f.reactor.names.clear();
    f.redis.commands().hang_up();
    f.redis.run(1000);
    assert_true(f.node->commands_up());
    assert_true(f.reactor.line().address.sockaddr == sockaddr_of("10.0.0.8", 6379));
}

void a_stopped_node_hears_of_no_name(void**) {
    Address by_name;
    by_name.host = "redis.internal";
    by_name.port = 6379;
    Fixture f(false, by_name);
    f.reactor.has_resolver = true;
    f.reactor.names["redis.internal"] = {sockaddr_of("10.0.0.7", 6379)};
    f.node->start();
    f.node->stop();
    f.reactor.settle();
    assert_true(f.reactor.lines.empty());
}

void a_node_has_another_name_with_each_connection_for_commands(void**) {
    Fixture f;
    f.start();
    assert_string_equal(f.node->member_name().c_str(), "me.1");
    f.redis.subscriptions().hang_up();
    f.redis.run(1000);
    assert_string_equal(f.node->member_name().c_str(), "me.1");
    f.redis.commands().hang_up();
    f.redis.run(1000);
    assert_string_equal(f.node->member_name().c_str(), "me.2");
}

void events_are_of_the_server_that_they_come_from(void**) {
    Fixture f;
    f.start();
    assert_string_equal(f.node->events_fence().c_str(), "r1");
    f.redis.replication = "r2";
    f.redis.commands().hang_up();
    f.redis.run(30);
    while (f.said.find("up r2") == std::string::npos) f.redis.run(1);
    assert_string_equal(f.events_were_of.c_str(), "r1");
    f.redis.run(1000);
    assert_string_equal(f.node->fence().c_str(), "r2");
    assert_string_equal(f.node->events_fence().c_str(), "r2");
}

// A server that takes the login and says nothing else is told as lost once, and not as back.
void a_server_is_back_when_a_word_is_heard(void**) {
    Fixture f;
    f.start();
    f.redis.delivers = false;
    f.redis.commands().hang_up("reset by peer");
    for (int i = 0; i < 10; ++i) {
        f.redis.run(700);
        f.redis.commands().hang_up("reset by peer");
    }
    f.redis.run(1000);
    assert_true(f.node->commands_up());
    assert_false(f.reactor.logged("is back after"));
    std::size_t lost = 0;
    for (const std::string& line : f.reactor.logs) lost += line.find(" lost: reset") != line.npos ? 1 : 0;
    assert_int_equal(lost, 1);
    f.redis.delivers = true;
    f.redis.run(3000);
    assert_true(f.reactor.logs.back().starts_with("notice: redis \"10.0.0.1:6379\" is back after "));
    assert_true(f.node->trouble().empty());
}

void what_others_say_hides_a_missing_word_for_ten_seconds_at_the_most(void**) {
    Fixture f;
    f.start();
    f.redis.delivers = false;
    const std::uint64_t heard = f.node->heard_ms();
    while (f.said.empty() && f.reactor.now_ms() < heard + 20000) {
        f.redis.publish(kProbe, "not ours");
        f.redis.run(100);
    }
    assert_true(f.said.starts_with("deaf"));
    assert_in_range(f.reactor.now_ms() - heard, RedisLink::kLongestMs, RedisLink::kLongestMs + 1000);
}

void refusals_are_logged_once_a_kind_and_so_is_the_end(void**) {
    Fixture f;
    f.start();
    f.node->note_refusal("OOM command not allowed");
    f.node->note_refusal("OOM command not allowed when used memory > 'maxmemory'.");
    f.node->note_refusal("MISCONF Redis is configured");
    assert_string_equal(f.node->trouble().c_str(), "MISCONF Redis is configured");
    f.node->note_success();
    f.redis.run(2000);
    f.node->note_refusal("OOM command not allowed");
    f.redis.run(2900);
    f.node->note_success();
    assert_int_equal(f.reactor.logs.size(), 2);
    assert_true(f.node->refusing_since_ms() != 0);
    f.redis.run(100);
    f.node->note_success();
    f.node->note_success();
    assert_true(f.node->trouble().empty());
    assert_int_equal(f.node->refusing_since_ms(), 0);
    assert_int_equal(f.reactor.logs.size(), 3);
    assert_true(f.reactor.logged("error: redis \"10.0.0.1:6379\" refuses: OOM command not allowed"));
    assert_true(f.reactor.logged("notice: redis \"10.0.0.1:6379\" works again, after: MISCONF"));
}

void a_server_that_is_gone_refuses_nothing(void**) {
    Fixture f;
    f.start();
    f.node->note_refusal("OOM command not allowed");
    assert_true(f.node->refusing_since_ms() != 0);
    f.redis.accepts = false;
    f.redis.commands().hang_up("reset by peer");
    f.redis.run(100);
    assert_int_equal(f.node->refusing_since_ms(), 0);
}

// Each allocation fails once in a life with a loss in it: the node comes back all the same.
void when_memory_is_short_a_node_still_comes_back(void**) {
    if (!allocations_can_fail()) return skip();
    for (long n = 0;; ++n) {
        Fixture f;
        f.node->start();
        f.redis.serve();
        const auto lines = f.reactor.lines;
        f.reactor.lines.reserve(100);
        allocations_left = n;
        for (const auto& line : lines) line->hang_up("a reason too long to be kept in place");
        const bool through = allocations_left >= 0;
        allocations_left = -1;
        f.redis.run(5000);
        assert_true(f.node->commands_up() && f.node->subscriptions_up());
        if (through) break;
    }
    // And where it fails while a link is opened.
    for (long n = 0;; ++n) {
        Fixture f;
        f.node->start();
        f.redis.serve();
        f.redis.commands().hang_up();
        f.redis.subscriptions().hang_up();
        allocations_left = n;
        f.reactor.advance(100);
        const bool through = allocations_left >= 0;
        allocations_left = -1;
        f.redis.run(5000);
        assert_true(f.node->commands_up() && f.node->subscriptions_up());
        if (through) break;
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(a_node_takes_commands_then_subscriptions),
        cmocka_unit_test(commands_before_the_first_login_wait_for_it),
        cmocka_unit_test(a_lost_server_takes_no_commands_at_all),
        cmocka_unit_test(a_loss_is_logged_once_and_so_is_the_return),
        cmocka_unit_test(a_server_that_was_never_there_cannot_be_reached),
        cmocka_unit_test(a_lost_server_is_tried_at_least_twice_a_second_and_not_in_a_row),
        cmocka_unit_test(a_word_that_is_heard_every_two_seconds_keeps_all_as_it_is),
        cmocka_unit_test(a_word_that_is_not_heard_reopens_the_subscriptions),
        cmocka_unit_test(anothers_word_is_not_heard_as_ours),
        cmocka_unit_test(a_server_that_says_nothing_is_lost_within_three_seconds),
        cmocka_unit_test(two_servers_behind_one_address_are_told_apart),
        cmocka_unit_test(a_master_that_becomes_a_replica_is_lost),
        cmocka_unit_test(other_data_under_an_open_link_is_told_as_a_new_server),
        cmocka_unit_test(events_come_with_their_channel),
        cmocka_unit_test(a_refused_subscription_is_told_with_the_servers_word),
        cmocka_unit_test(a_refused_probe_is_tried_again_and_nothing_is_up),
        cmocka_unit_test(a_subscription_under_way_when_the_link_ends_is_not_answered),
        cmocka_unit_test(sharded_channels_have_commands_of_their_own),
        cmocka_unit_test(a_slot_that_moves_takes_its_subscriptions_along),
        cmocka_unit_test(a_node_moves_to_another_address),
        cmocka_unit_test(a_stopped_node_answers_and_is_silent),
        cmocka_unit_test(a_name_is_looked_up_for_each_attempt),
        cmocka_unit_test(a_stopped_node_hears_of_no_name),
        cmocka_unit_test(a_node_has_another_name_with_each_connection_for_commands),
        cmocka_unit_test(events_are_of_the_server_that_they_come_from),
        cmocka_unit_test(a_server_is_back_when_a_word_is_heard),
        cmocka_unit_test(what_others_say_hides_a_missing_word_for_ten_seconds_at_the_most),
        cmocka_unit_test(refusals_are_logged_once_a_kind_and_so_is_the_end),
        cmocka_unit_test(a_server_that_is_gone_refuses_nothing),
        cmocka_unit_test(when_memory_is_short_a_node_still_comes_back),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

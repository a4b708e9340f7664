// One connection to Redis: logging in, a pipeline of commands, and each of them answered once.
#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "every_allocation.hpp"
#include "fake_reactor.hpp"
#include "redis_fixture.hpp"
#include "store/redis_link.hpp"

#include "cmocka.hpp"
#undef fail  // a link has one of its own

using namespace redis_test;

namespace {

struct Fixture final : RedisLink::Handler {
    explicit Fixture(RedisLogin login = {})
        : link(std::make_unique<RedisLink>(reactor, std::move(login), *this)) {}

    FakeReactor reactor;
    std::unique_ptr<RedisLink> link;
    std::string said;  // what the handler was told, and the replies
    std::function<void()> when_up;

    void say(const std::string& what) { said += (said.empty() ? "" : "; ") + what; }
    void on_up(RedisLink&, std::string_view replication) override {
        say("up " + std::string(replication));
        if (when_up) when_up();
    }
    void on_down(RedisLink&, std::string_view why) override { say("down " + std::string(why)); }
    void on_push(RedisLink&, Reply push) override {
        say("push " + std::string(push[0].text()) + " " + std::string(push[2].text()));
    }

    [[nodiscard]] bool command(const std::string& name) {
        const std::array<std::string_view, 1> words = {name};
        return link->command(words, [this, name](std::optional<Reply> reply) {
            say(name + "=" + (!reply ? "none" : reply->is_error() ? "!" : std::string(reply->text())));
        });
    }
    void open() { link->open(place()); }
    void log_in(std::string_view replication = "r1") {
        reactor.line().accept();
        (void)reactor.line().take();
        reactor.line().feed(bulk(info_text("master", replication)));
    }
    void written(const char* wanted) { assert_string_equal(reactor.line().take_text().c_str(), wanted); }
    void told(const char* wanted) { assert_string_equal(std::exchange(said, {}).c_str(), wanted); }
};

void info_is_read_line_by_line(void**) {
    const std::string info = info_text("master", "abc");
    assert_true(info_field(info, "role") == "master");
    assert_true(info_field(info, "master_replid") == "abc");
    assert_true(info_field(info, "rol").empty());
    assert_true(info_field(info, "replid").empty());
    assert_true(info_field("x:1\nrole:slave", "role") == "slave");
    assert_true(info_field("role:", "role").empty());
    assert_true(info_field("role", "role").empty());
    assert_true(info_field("", "").empty());
}

void a_login_is_what_the_server_needs(void**) {
    const auto login = [](RedisLogin with) {
        Fixture f(std::move(with));
        f.open();
        f.reactor.line().accept();
        return f.reactor.line().take_text();
    };
    assert_string_equal(login({}).c_str(), "INFO");
    assert_string_equal(login({.user = {}, .password = "p w"}).c_str(), "AUTH p w; INFO");
    assert_string_equal(login({.user = "u", .password = "p", .db = 3}).c_str(), "AUTH u p; SELECT 3; INFO");
    assert_string_equal(
        login({.user = {}, .password = {}, .db = 0, .tls = false, .asks_replication = false}).c_str(),
        "PING");
}

void a_connection_is_asked_for_as_configured(void**) {
    Fixture f({.user = {}, .password = {}, .db = 0, .tls = true});
    f.open();
    assert_true(f.reactor.line().tls);
    assert_string_equal(f.reactor.line().address.text().c_str(), "10.0.0.1:6379");
    assert_int_equal(f.reactor.line().timeout_ms, RedisLink::kConnectMs);
}

void a_link_is_up_after_the_last_reply_of_its_login(void**) {
    Fixture f({.user = {}, .password = "p", .db = 2});
    assert_true(f.link->down());
    f.open();
    assert_false(f.link->up() || f.link->down());
    f.reactor.line().accept();
    f.reactor.line().feed("+OK\r\n");
    f.reactor.line().feed("+OK\r\n");
    assert_false(f.link->up());
    f.told("");
    f.reactor.line().feed_bytewise(bulk(info_text("master", "r1")));
    assert_true(f.link->up());
    f.told("up r1");
}

void a_sentinel_is_up_when_it_answers(void**) {
    Fixture f({.user = {}, .password = {}, .db = 0, .tls = false, .asks_replication = false});
    f.open();
    f.reactor.line().accept();
    f.reactor.line().feed("+PONG\r\n");
    f.told("up ");
}

// The server's word may have what it was sent in it.
void a_refused_password_ends_the_link_and_is_not_told(void**) {
    for (const char* kind : {"WRONGPASS", "NOAUTH", "ERR"}) {
        Fixture f({.user = {}, .password = "p", .db = 2});
        f.open();
        assert_true(f.command("a"));
        f.reactor.line().accept();
        f.reactor.line().feed("-" + std::string(kind) +
                              " unknown command AUTH, with args beginning with: p\r\n" + "+OK\r\n" +
                              bulk(info_text("master", "r1")));
        f.told("");
        f.reactor.settle();
        f.told(("a=none; down " + std::string(kind) + " the login is refused").c_str());
        assert_true(f.link->down());
        assert_false(f.reactor.line().alive());
    }
}

void another_refusal_at_login_ends_the_link_with_the_servers_word(void**) {
    Fixture f({.user = {}, .password = "p", .db = 2});
    f.open();
    f.reactor.line().accept();
    f.reactor.line().feed("+OK\r\n-ERR DB index is out of range\r\n");
    f.reactor.settle();
    f.told("down ERR DB index is out of range");
    Fixture open;
    open.open();
    open.reactor.line().accept();
    open.reactor.line().feed("-NOAUTH Authentication required.\r\n");
    open.reactor.settle();
    open.told("down NOAUTH Authentication required.");
}

void a_server_that_reads_its_data_is_refused(void**) {
    Fixture f;
    f.open();
    f.reactor.line().accept();
    f.reactor.line().feed(bulk("loading:1\r\n" + info_text("master", "r1")));
    f.reactor.settle();
    f.told("down LOADING it reads its data");
    f.open();
    f.reactor.line().accept();
    f.reactor.line().feed(bulk("loading:0\r\nasync_loading:1\r\n" + info_text("master", "r1")));
    f.told("up r1");
}

void a_server_that_is_no_master_is_refused(void**) {
    for (const auto& [info, why] : std::initializer_list<std::pair<std::string, const char*>>{
             {bulk(info_text("slave", "r1")), "down READONLY it is a replica"},
             {bulk("nothing"), "down it does not tell its role"},
             {number(1), "down it does not tell its role"},
             {kNil, "down it does not tell its role"}}) {
        Fixture f;
        f.open();
        f.reactor.line().accept();
        f.reactor.line().feed(info);
        f.reactor.settle();
        f.told(why);
    }
}

void commands_wait_for_the_login_and_go_behind_what_is_said_first(void**) {
    Fixture f;
    f.when_up = [&] { assert_true(f.command("first")); };
    f.open();
    assert_true(f.command("a"));
    f.reactor.line().accept();
    assert_true(f.command("b"));
    f.written("INFO");
    f.reactor.line().feed(bulk(info_text("master", "r1")));
    f.written("first; a; b");
    assert_true(f.command("c"));
    f.written("c");
    f.reactor.line().feed("+1\r\n+2\r\n-ERR\r\n$-1\r\n");
    f.told("up r1; first=1; a=2; b=!; c=");
}

void replies_byte_by_byte_are_given_in_order(void**) {
    Fixture f;
    f.open();
    f.log_in();
    f.told("up r1");
    for (const char* name : {"a", "b", "c"}) assert_true(f.command(name));
    f.reactor.line().feed_bytewise("+1\r\n$2\r\n\r\n\r\n*1\r\n+x\r\n");
    f.told("a=1; b=\r\n; c=");
}

void a_link_that_is_down_takes_nothing(void**) {
    Fixture f;
    assert_false(f.command("a"));
    f.open();
    f.log_in();
    f.told("up r1");
    f.reactor.line().hang_up();
    f.told("down closed by the server");
    assert_false(f.command("b"));
    f.told("");
    f.open();
    assert_true(f.command("c"));
    f.log_in("r2");
    f.written("c");
    f.told("up r2");
}

void a_lost_link_answers_every_command_without_a_reply_once(void**) {
    Fixture f;
    f.open();
    f.log_in();
    for (const char* name : {"a", "b", "c"}) assert_true(f.command(name));
    f.reactor.line().feed("+1\r\n$5\r\nhal");
    f.reactor.line().hang_up("reset");
    f.told("up r1; a=1; b=none; c=none; down reset");
    f.reactor.advance(10000);
    f.told("");
}

void a_closed_link_answers_its_commands_and_tells_nobody_else(void**) {
    Fixture f;
    f.open();
    assert_true(f.command("a"));
    f.link->close();
    f.told("a=none");
    f.link->close();
    f.open();
    f.log_in();
    assert_true(f.command("b"));
    f.link->close();
    f.link->fail("no matter");
    f.reactor.advance(10000);
    f.told("up r1; b=none");
    assert_false(f.reactor.line().alive());
}

void a_command_without_an_answer_in_time_ends_the_link(void**) {
    Fixture f;
    f.open();
    f.log_in();
    f.reactor.advance(100);
    assert_true(f.command("a"));
    f.reactor.advance(500);
    assert_true(f.command("b"));
    f.reactor.advance(299);
    f.told("up r1");
    f.reactor.line().feed("+1\r\n");
    f.reactor.advance(799);
    f.told("a=1");
    f.reactor.advance(1);
    f.told("b=none; down no answer in time");
    f.reactor.advance(10000);
    f.told("");
}

void a_long_answer_that_goes_on_coming_is_waited_for(void**) {
    Fixture f;
    f.open();
    f.log_in();
    assert_true(f.command("a"));
    f.reactor.line().feed("$5\r\n");
    for (const char* part : {"h", "e", "l", "l", "o"}) {
        f.reactor.advance(700);
        f.reactor.line().feed(part);
    }
    f.told("up r1");
    f.reactor.line().feed("\r\n");
    f.told("a=hello");
    f.reactor.advance(10000);
    assert_true(f.link->up());
}

void an_answer_that_never_ends_is_not_waited_for_without_end(void**) {
    Fixture f;
    f.open();
    f.log_in();
    assert_true(f.command("a"));
    f.reactor.line().feed("$99999\r\n");
    for (std::uint64_t ms = 0; ms + 500 < RedisLink::kLongestMs; ms += 500) {
        f.reactor.advance(500);
        f.reactor.line().feed("x");
    }
    f.reactor.advance(499);
    f.told("up r1");
    f.reactor.advance(1);
    f.told("a=none; down no answer in time");
}

void a_login_without_an_answer_in_time_ends_the_link(void**) {
    Fixture f({.user = {}, .password = "p"});
    f.open();
    f.reactor.line().accept();
    f.reactor.advance(100);
    f.reactor.line().feed("+OK\r\n");
    f.reactor.advance(799);
    f.told("");
    f.reactor.advance(1);
    f.told("down no answer in time");
}

void commands_that_wait_for_the_connection_are_not_waited_for_longer(void**) {
    Fixture f;
    f.open();
    assert_true(f.command("a"));
    f.reactor.advance(RedisLink::kTimeoutMs);
    f.told("a=none; down no answer in time");
    f.open();
    f.reactor.advance(100);
    assert_true(f.command("b"));
    f.reactor.advance(600);
    f.log_in();
    f.reactor.advance(799);
    f.told("up r1");
    f.reactor.advance(1);
    f.told("b=none; down no answer in time");
}

void what_is_no_resp_ends_the_link(void**) {
    Fixture f;
    f.open();
    f.reactor.line().accept();
    assert_true(f.command("a"));
    f.reactor.line().feed("HTTP/1.1 400 Bad Request\r\n\r\n");
    f.reactor.settle();
    f.told("a=none; down it does not speak RESP");
    f.open();
    f.log_in();
    assert_true(f.command("b"));
    f.reactor.line().feed("+1\r\nno\r\n+2\r\n");
    f.reactor.line().feed("+3\r\n");
    f.reactor.settle();
    f.told("up r1; b=1; down it does not speak RESP");
    f.open();
    f.reactor.line().accept();
    f.reactor.line().feed("HTTP/1.1 400 Bad Request\r\n\r\n");
    f.reactor.line().hang_up();  // in the same turn
    f.reactor.settle();
    f.told("down it does not speak RESP");
}

void a_failed_link_takes_no_more_and_hears_no_more(void**) {
    Fixture f;
    f.open();
    f.log_in();
    assert_true(f.command("a"));
    f.link->fail("deaf");
    f.link->fail("another reason");
    assert_false(f.command("b"));
    f.reactor.line().feed("+1\r\n");
    f.told("up r1");
    f.reactor.settle();
    f.told("a=none; down deaf");
}

void messages_between_replies_are_told_apart(void**) {
    Fixture f;
    f.open();
    f.log_in();
    assert_true(f.command("a"));
    assert_true(f.command("b"));
    const auto message = [](std::string_view kind, std::string_view text) {
        return list({bulk(kind), bulk("channel"), bulk(text)});
    };
    f.reactor.line().feed(message("message", "1") + list({bulk("subscribe"), bulk("a"), number(1)}) +
                          message("smessage", "2") + "+x\r\n" + message("message", "3"));
    f.told("up r1; push message 1; a=; push smessage 2; b=x; push message 3");
}

void a_subscription_that_the_server_takes_back_is_no_reply(void**) {
    Fixture f;
    f.open();
    f.log_in();
    const auto taken_back = [](std::string_view channel) {
        return list({bulk("sunsubscribe"), bulk(channel), number(0)});
    };
    assert_true(f.command("a"));
    assert_true(f.link->unsubscribe("SUNSUBSCRIBE", "mine"));
    assert_true(f.command("b"));
    f.written("a; SUNSUBSCRIBE mine; b");
    f.reactor.line().feed(taken_back("other") + "+1\r\n" + taken_back("other") + taken_back("mine") +
                          taken_back("mine") + "+2\r\n" + taken_back("other"));
    f.told("up r1; push sunsubscribe ; a=1; push sunsubscribe ; push sunsubscribe ; b=2; push sunsubscribe ");
}

void a_link_is_full_rather_than_without_bounds(void**) {
    Fixture f;
    f.open();
    f.log_in();
    f.reactor.line().stuck = RedisLink::kMaxQueued + 1;
    assert_false(f.command("a"));
    f.reactor.line().stuck = 0;
    for (std::size_t i = 0; i < RedisLink::kMaxPending; ++i) {
        assert_true(f.link->command_octets("*1\r\n$1\r\nx\r\n", nullptr));
    }
    assert_false(f.command("b"));
    f.reactor.line().feed("+1\r\n");
    assert_true(f.command("c"));
    f.told("up r1");

    Fixture waiting;
    waiting.open();
    assert_true(waiting.link->command_octets(std::string(RedisLink::kMaxQueued + 1, 'x'), nullptr));
    assert_false(waiting.command("a"));
}

void an_answer_may_close_or_fail_the_link(void**) {
    Fixture f;
    f.open();
    f.log_in();
    const std::array<std::string_view, 1> words = {"x"};
    assert_true(f.link->command(words, [&](std::optional<Reply>) { f.link->close(); }));
    assert_true(f.command("a"));
    f.reactor.line().feed("+1\r\n+2\r\n");
    f.told("up r1; a=none");
    f.open();
    f.log_in();
    assert_true(f.link->command(words, [&](std::optional<Reply>) { f.link->fail("bad answer"); }));
    assert_true(f.command("b"));
    f.reactor.line().feed("+1\r\n+2\r\n");
    f.reactor.settle();
    f.told("up r1; b=none; down bad answer");
}

void a_destroyed_link_calls_nobody(void**) {
    Fixture f;
    f.open();
    f.log_in();
    assert_true(f.command("a"));
    f.link.reset();
    f.reactor.advance(10000);
    f.told("up r1");
}

// Each allocation fails once, on a link of its own: what was taken is answered once, and the link either
// works on or has told that it is down.
void when_memory_is_short_every_command_is_still_answered_once(void**) {
    if (!allocations_can_fail()) return skip();
    struct Counting final : RedisLink::Handler {
        int ups = 0, downs = 0;
        void on_up(RedisLink&, std::string_view) override { ++ups; }
        void on_down(RedisLink&, std::string_view) override { ++downs; }
        void on_push(RedisLink&, Reply) override {}
    };
    const std::string login = bulk(info_text("master", "a replication id too long to be kept in place"));
    for (long n = 0;; ++n) {
        FakeReactor reactor;
        Counting handler;
        RedisLink link(reactor, {}, handler);
        link.open(place());
        std::array<int, 6> answers{};
        std::array<bool, 6> taken{};
        const auto command = [&](std::size_t i) {
            try {
                taken[i] = link.command_octets("*1\r\n$30\r\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n",
                                               [&answers, i](std::optional<Reply>) { ++answers[i]; });
            } catch (const std::bad_alloc&) {
            }
        };
        allocations_left = n;
        command(0);
        command(1);
        if (reactor.line().alive()) reactor.line().accept();
        command(2);
        if (reactor.line().alive()) reactor.line().feed(login);
        command(3);
        if (reactor.line().alive()) reactor.line().feed("+1\r\n+2\r\n");
        command(4);
        if (reactor.line().alive()) reactor.line().feed("+3\r\n*1\r\n+4\r\n");
        command(5);
        const bool through = allocations_left >= 0;
        allocations_left = -1;
        reactor.line().hang_up();
        reactor.advance(20000);
        assert_true(link.down());
        assert_int_equal(handler.downs, 1);
        for (std::size_t i = 0; i < answers.size(); ++i) assert_int_equal(answers[i], taken[i] ? 1 : 0);
        if (through) break;
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(info_is_read_line_by_line),
        cmocka_unit_test(a_login_is_what_the_server_needs),
        cmocka_unit_test(a_connection_is_asked_for_as_configured),
        cmocka_unit_test(a_link_is_up_after_the_last_reply_of_its_login),
        cmocka_unit_test(a_sentinel_is_up_when_it_answers),
        cmocka_unit_test(a_refused_password_ends_the_link_and_is_not_told),
        cmocka_unit_test(another_refusal_at_login_ends_the_link_with_the_servers_word),
        cmocka_unit_test(a_server_that_reads_its_data_is_refused),
        cmocka_unit_test(a_server_that_is_no_master_is_refused),
        cmocka_unit_test(commands_wait_for_the_login_and_go_behind_what_is_said_first),
        cmocka_unit_test(replies_byte_by_byte_are_given_in_order),
        cmocka_unit_test(a_link_that_is_down_takes_nothing),
        cmocka_unit_test(a_lost_link_answers_every_command_without_a_reply_once),
        cmocka_unit_test(a_closed_link_answers_its_commands_and_tells_nobody_else),
        cmocka_unit_test(a_command_without_an_answer_in_time_ends_the_link),
        cmocka_unit_test(a_long_answer_that_goes_on_coming_is_waited_for),
        cmocka_unit_test(an_answer_that_never_ends_is_not_waited_for_without_end),
        cmocka_unit_test(a_login_without_an_answer_in_time_ends_the_link),
        cmocka_unit_test(commands_that_wait_for_the_connection_are_not_waited_for_longer),
        cmocka_unit_test(what_is_no_resp_ends_the_link),
        cmocka_unit_test(a_failed_link_takes_no_more_and_hears_no_more),
        cmocka_unit_test(messages_between_replies_are_told_apart),
        cmocka_unit_test(a_subscription_that_the_server_takes_back_is_no_reply),
        cmocka_unit_test(a_link_is_full_rather_than_without_bounds),
        cmocka_unit_test(an_answer_may_close_or_fail_the_link),
        cmocka_unit_test(a_destroyed_link_calls_nobody),
        cmocka_unit_test(when_memory_is_short_every_command_is_still_answered_once),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

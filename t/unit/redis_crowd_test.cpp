// A worker with more rooms than the pipeline takes at once: they are subscribed in portions, and in the end
// all of them.
#include <deque>
#include <string>

#include "broker_fixture.hpp"

#include "cmocka.hpp"

using namespace redis_test;

namespace {

constexpr std::size_t kPortion = RedisNode::kMostSubscribing;

struct Crowd : BrokerFixture {
    static constexpr std::size_t kRooms = kPortion + 3000;

    // Nobody waits for an answer any more: what comes is subscriptions and nothing else.
    Crowd() : BrokerFixture(std::size_t{1} << 27) {
        broker->start();
        for (std::size_t i = 0; i < kRooms; ++i) {
            Room& one = rooms.emplace_back("session:" + std::to_string(i));
            broker->subscribe(one, "ann", {}, [this](const SubscribeAnswer&) { ++answered; });
        }
        reactor.advance(1500);
        for (const auto& line : reactor.lines) {
            line->accept();
            (void)line->take_octets();
            line->feed(bulk(info_text("master", "r1")));
        }
        assert_string_equal(listener().take_text().c_str(), "SUBSCRIBE rooms:{probe}:1");
        confirm(1);
    }
    FakeLine& listener() { return *reactor.lines[1]; }
    // Commands like it since the last call.
    std::size_t asked(std::string_view command = "\r\nSUBSCRIBE\r\n") {
        const std::string octets = listener().take_octets();
        std::size_t count = 0;
        for (std::size_t at = 0; (at = octets.find(command, at)) != octets.npos; ++at) ++count;
        return count;
    }
    // As a socket gives them: not all in one piece.
    void confirm(std::size_t count) {
        const std::string reply = list({bulk("subscribe"), bulk("c"), number(1)});
        std::string piece;
        for (std::size_t i = 0; i < 200; ++i) piece += reply;
        for (; count >= 200; count -= 200) listener().feed(piece);
        listener().feed(std::string_view(piece).substr(0, count * reply.size()));
    }
    // To the next tick and beyond, with an answer to whatever else is asked.
    void tick() {
        for (std::size_t left = reactor.lines[0]->take().size(); left != 0; --left)
            reactor.lines[0]->feed("+OK\r\n");
        reactor.advance(250);
    }

    std::deque<Room> rooms;
    std::size_t answered = 0;
};

void more_rooms_than_the_pipeline_takes_are_subscribed_in_portions(void**) {
    Crowd f;
    assert_int_equal(f.answered, Crowd::kRooms);
    assert_int_equal(f.asked(), kPortion);
    f.tick();
    assert_int_equal(f.asked(), 0);
    f.confirm(1000);
    f.tick();
    assert_int_equal(f.asked(), 1000);
    f.confirm(kPortion);
    f.tick();
    assert_int_equal(f.asked(), 2000);
    f.confirm(2000);
    f.tick();
    assert_int_equal(f.asked(), 0);
    assert_true(f.reactor.logs.empty());
    // All once more over the next connection.
    f.listener().hang_up();
    f.reactor.advance(50);
    f.reactor.lines[1] = f.reactor.lines.back();
    f.listener().accept();
    f.listener().feed(bulk(info_text("master", "r1")));
    f.confirm(1);
    assert_int_equal(f.asked(), 1 + kPortion);
    f.confirm(kPortion);
    f.tick();
    assert_int_equal(f.asked(), 3000);
}

void rooms_that_are_left_while_a_crowd_subscribes_do_not_end_the_connection(void**) {
    Crowd f;
    for (std::size_t i = 0; i < 2000; ++i) {
        f.broker->unsubscribe(f.rooms[i], "ann");
        f.broker->release(f.rooms[i]);
    }
    f.reactor.settle();
    assert_true(f.asked("\r\nUNSUBSCRIBE\r\n") > 1000);
    assert_true(f.listener().alive());
    f.confirm(kPortion);
    f.tick();
    assert_true(f.asked() > 0);
    assert_true(f.reactor.logs.empty());
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(more_rooms_than_the_pipeline_takes_are_subscribed_in_portions),
        cmocka_unit_test(rooms_that_are_left_while_a_crowd_subscribes_do_not_end_the_connection),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

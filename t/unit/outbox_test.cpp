// The send queue: what went in comes out once, in order, however the socket cuts it.
#include <array>
#include <cstring>
#include <random>
#include <string>

#include "core/outbox.hpp"

#include "cmocka.hpp"

using rooms::Outbox;
using rooms::Payload;

namespace {

Payload payload(const std::string& text) {
    Payload result = Payload::allocate(text.size());
    std::memcpy(result.data(), text.data(), text.size());
    return result;
}

// What a socket that takes `most` octets at a time would read.
std::string take(Outbox& outbox, std::size_t most) {
    std::array<std::string_view, 4> pieces;
    std::string out;
    const std::size_t count = outbox.peek(pieces);
    for (std::size_t i = 0; i < count && out.size() < most; ++i) {
        out += pieces[i].substr(0, most - out.size());
    }
    outbox.advance(out.size());
    return out;
}

void an_empty_queue_has_nothing_to_send(void**) {
    Outbox outbox;
    assert_true(outbox.empty());
    assert_int_equal(outbox.bytes(), 0);
    std::array<std::string_view, 2> pieces;
    assert_int_equal(outbox.peek(pieces), 0);
    outbox.push(payload("abc"), 3);
    assert_true(outbox.empty());
    outbox.drop_unbegun();
    assert_true(outbox.empty());
}

void frames_leave_in_order_at_every_cut(void**) {
    std::string all;
    for (int i = 0; i < 300; ++i) all += "frame " + std::to_string(i) + ";";
    for (std::size_t most = 1; most < 40; ++most) {
        Outbox outbox;
        for (int i = 0; i < 300; ++i) outbox.push(payload("frame " + std::to_string(i) + ";"));
        assert_int_equal(outbox.bytes(), all.size());
        std::string got;
        while (!outbox.empty()) got += take(outbox, most);
        assert_string_equal(got.c_str(), all.c_str());
        assert_int_equal(outbox.bytes(), 0);
    }
}

void the_part_that_a_socket_took_before_is_not_sent_again(void**) {
    Outbox outbox;
    outbox.push(payload("0123456789"), 4);
    outbox.push(payload("abc"));
    assert_int_equal(outbox.bytes(), 9);
    assert_string_equal(take(outbox, 100).c_str(), "456789abc");
    assert_true(outbox.empty());
}

void dropping_keeps_the_frame_that_has_begun(void**) {
    Outbox outbox;
    outbox.push(payload("begun"), 2);
    outbox.push(payload("dropped"));
    outbox.drop_unbegun();
    outbox.push(payload("close"));
    assert_int_equal(outbox.bytes(), 8);
    assert_string_equal(take(outbox, 100).c_str(), "gunclose");

    outbox.push(payload("not begun"));
    outbox.drop_unbegun();
    assert_true(outbox.empty());
}

void a_queue_that_never_empties_keeps_what_it_must(void**) {
    std::mt19937 random(7);
    Outbox outbox;
    std::string in;
    std::string out;
    for (int i = 0; i < 5000; ++i) {
        const std::string text(random() % 50 + 1, static_cast<char>('a' + i % 26));
        in += text;
        outbox.push(payload(text));
        if (i > 100) out += take(outbox, random() % 50 + 1);
    }
    while (!outbox.empty()) out += take(outbox, 1000);
    assert_true(in == out);
}

void payloads_are_shared_not_copied(void**) {
    Payload shared = payload("shared");
    Outbox first;
    Outbox second;
    first.push(shared);
    second.push(shared);
    std::array<std::string_view, 1> one;
    std::array<std::string_view, 1> two;
    assert_int_equal(first.peek(one), 1);
    assert_int_equal(second.peek(two), 1);
    assert_ptr_equal(one[0].data(), two[0].data());
    first.clear();
    shared = Payload();
    assert_true(two[0] == "shared");
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_queue_has_nothing_to_send),
        cmocka_unit_test(frames_leave_in_order_at_every_cut),
        cmocka_unit_test(the_part_that_a_socket_took_before_is_not_sent_again),
        cmocka_unit_test(dropping_keeps_the_frame_that_has_begun),
        cmocka_unit_test(a_queue_that_never_empties_keeps_what_it_must),
        cmocka_unit_test(payloads_are_shared_not_copied),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

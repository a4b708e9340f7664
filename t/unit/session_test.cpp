// One session against scripts of octets. Every script runs whole, octet by octet, split in two at
// every place and at random, and must give the same events each time.
#include "core/session.hpp"

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "unit/cmocka.hpp"
#include "unit/failing_new.hpp"

using namespace rooms;
using namespace std::string_literals;
using Events = std::vector<std::string>;

namespace {

constexpr std::uint8_t kFin = 0x80, kRsv1 = 0x40;
constexpr std::uint8_t kText = 1, kBinary = 2, kClose = 8, kPing = 9, kPong = 10;
constexpr DeflateParams kParams{};

// A client's frame: first octet as given, minimal length, masked.
std::string frame(int first, std::string_view payload, const char (&key)[5] = "\x37\xfa\x21\x3d") {
    std::string out(1, static_cast<char>(first));
    const auto size = static_cast<std::uint64_t>(payload.size());
    const int extended = size < 126 ? 0 : size < 65536 ? 2 : 8;
    out += static_cast<char>(0x80 | (extended == 0 ? size : extended == 2 ? 126 : 127));
    for (int i = extended - 1; i >= 0; --i) out += static_cast<char>(size >> 8 * i);
    out.append(key, 4);
    for (std::size_t i = 0; i < payload.size(); ++i) out += static_cast<char>(payload[i] ^ key[i & 3]);
    return out;
}

std::string close_frame(int code, std::string_view reason = "") {
    return frame(kFin | kClose,
                 std::string{static_cast<char>(code >> 8), static_cast<char>(code)} + std::string(reason));
}

std::string describe(const Event& event) {
    switch (event.type) {
        case Event::Type::need_more: return "more";
        case Event::Type::message:
            return (event.opcode == Opcode::text ? "text:" : "binary:") + std::string(event.payload);
        case Event::Type::ping: return "ping:" + std::string(event.payload);
        case Event::Type::pong: return "pong:" + std::string(event.payload);
        case Event::Type::close:
            return "close:" + std::to_string(event.code) + ":" + std::string(event.reason);
        case Event::Type::fail:
            assert_false(event.reason.empty());
            return "fail:" + std::to_string(event.code);
    }
    return "";
}

// Feeds `chunk` from memory of exactly its size, so that ASan sees any step beyond.
void feed(Session& session, Codec& codec, const WireLimits& limits, std::string_view chunk, Events& events) {
    std::vector<char> memory(chunk.begin(), chunk.end());
    std::span<char> input(memory);
    for (;;) {
        const Event event = session.feed(input, codec, limits);
        if (event.type == Event::Type::need_more) break;
        events.push_back(describe(event));
    }
    assert_true(input.empty());
}

struct Options {
    bool deflate = false;
    WireLimits limits{};
    bool every_split = true;
};

Events run(const std::string& script, const std::vector<std::size_t>& cuts, const Options& options) {
    Session session(options.deflate ? std::optional(kParams) : std::nullopt);
    Codec codec;
    Events events;
    std::size_t from = 0;
    for (std::size_t cut : cuts) {
        feed(session, codec, options.limits, std::string_view(script).substr(from, cut - from), events);
        from = cut;
    }
    feed(session, codec, options.limits, std::string_view(script).substr(from), events);
    if (!session.incomplete()) assert_int_equal(session.held(), 0);
    return events;
}

void assert_events(const Events& events, const Events& expected) {
    if (events == expected) return;
    std::string all = "got";
    for (const std::string& event : events) all += " [" + event.substr(0, 80) + "]";
    all += ", expected";
    for (const std::string& event : expected) all += " [" + event.substr(0, 80) + "]";
    fail_msg("%s", all.c_str());
}

void expect(const std::string& script, const Events& expected, const Options& options = {}) {
    assert_events(run(script, {}, options), expected);
    std::vector<std::size_t> all;
    for (std::size_t i = 1; i < script.size(); ++i) all.push_back(i);
    assert_events(run(script, all, options), expected);
    if (options.every_split)
        for (std::size_t i = 0; i <= script.size(); ++i) assert_events(run(script, {i}, options), expected);
    std::mt19937 random(static_cast<unsigned>(script.size()));
    for (int round = 0; round < 10; ++round) {
        std::vector<std::size_t> cuts;
        const std::size_t step = 1 + script.size() / (1 + random() % 8);
        for (std::size_t at = random() % step; at < script.size(); at += 1 + random() % step)
            cuts.push_back(at);
        assert_events(run(script, cuts, options), expected);
    }
}

// ---- messages ----

void masked_text_split_at_every_byte_is_one_message(void**) {
    expect(frame(kFin | kText, "Hello"), {"text:Hello"});
    expect(frame(kFin | kText, "Hello", "\0\0\0\0"), {"text:Hello"});
    expect(frame(kFin | kText, "Hello", "\xff\xff\xff\xff"), {"text:Hello"});
    expect(frame(kFin | kText, ""), {"text:"});
    expect(frame(kFin | kBinary, "\0\xff\x80"s), {"binary:\0\xff\x80"s});
}

void several_frames_in_one_segment_are_several_events(void**) {
    expect(frame(kFin | kText, "one") + frame(kFin | kPing, "two") + frame(kFin | kPong, "") +
               frame(kFin | kBinary, "four"),
           {"text:one", "ping:two", "pong:", "binary:four"});
}

void boundary_sizes_arrive_intact(void**) {
    for (std::size_t size : {1u, 125u, 126u, 127u, 128u, 4095u, 65535u, 65536u, 65537u}) {
        Options options;
        options.limits.max_message = 65537;
        options.every_split = false;
        const std::string payload(size, 'p');
        expect(frame(kFin | kBinary, payload), {"binary:" + payload}, options);
        expect(frame(kText, payload.substr(0, size / 2)) + frame(kFin, payload.substr(size / 2)),
               {"text:" + payload}, options);
    }
}

void a_whole_message_is_a_view_of_the_input(void**) {
    std::string script = frame(kFin | kText, "Hello") + frame(kText, "") + frame(kFin, "again");
    Session session;
    Codec codec;
    std::span<char> input(script);
    allocations_left = 0;
    const Event first = session.feed(input, codec, {});
    const Event second = session.feed(input, codec, {});
    allocations_left = -1;
    assert_ptr_equal(first.payload.data(), script.data() + 6);
    assert_true(second.payload == "again");
    assert_ptr_equal(second.payload.data(), script.data() + script.size() - 5);
}

void fragments_are_one_message_of_the_first_ones_type(void**) {
    expect(frame(kText, "Hel") + frame(0, "l") + frame(kFin, "o"), {"text:Hello"});
    expect(frame(kBinary, "\xff") + frame(kFin, "\xfe"), {"binary:\xff\xfe"});
    expect(frame(kText, "") + frame(0, "") + frame(kFin, ""), {"text:"});
    expect(frame(kText, "") + frame(0, "x") + frame(kFin, ""), {"text:x"});
    expect(frame(kText, "") + frame(0, "") + frame(kFin, "x"), {"text:x"});
}

void control_frames_between_fragments_come_at_once(void**) {
    expect(frame(kText, "Hel") + frame(kFin | kPing, "\xff") + frame(0, "") + frame(kFin | kPong, "x") +
               frame(kFin, "lo"),
           {"ping:\xff", "pong:x", "text:Hello"});
    expect(frame(kText, "") + frame(kFin | kPing, "early") + frame(kFin, "x"), {"ping:early", "text:x"});
}

void pings_of_every_size_keep_their_payload(void**) {
    for (std::size_t size : {0u, 1u, 124u, 125u})
        expect(frame(kFin | kPing, std::string(size, '\xfe')), {"ping:" + std::string(size, '\xfe')});
}

// ---- violations ----

void broken_headers_fail_with_1002_and_what_follows_is_swallowed(void**) {
    const std::string after = frame(kFin | kText, "after") + close_frame(1000);
    for (const std::string& bad :
         {"\x81\x05Hello"s, "\x89\x00"s, "\x88\x00"s, frame(kFin | 0x20 | kText, "x"),
          frame(kFin | 0x10 | kPing, ""), frame(kFin | kRsv1 | kText, "x"), frame(kFin | 3, ""),
          frame(kFin | 15, "x"), frame(kPing, ""), frame(kClose, ""),
          frame(kFin | kPing, std::string(126, 'x')), "\x82\xfe\x00\x05"s, "\x82\xff\x80\0\0\0\0\0\0\0"s})
        expect(frame(kFin | kText, "before") + bad + after, {"text:before", "fail:1002"});
}

void a_broken_frame_inside_a_message_fails_too(void**) {
    expect(frame(kText, "a") + frame(kFin | 5, "x") + frame(kFin, "b"), {"fail:1002"});
    expect(frame(kText, "a") + frame(kRsv1, "x"), {"fail:1002"}, {.deflate = true});
}

void continuations_of_nothing_and_messages_in_messages_fail(void**) {
    expect(frame(0, "x"), {"fail:1002"});
    expect(frame(kFin, ""), {"fail:1002"});
    expect(frame(kText, "a") + frame(kFin, "b") + frame(kFin, "c"), {"text:ab", "fail:1002"});
    expect(frame(kText, "a") + frame(kFin | kText, "b"), {"fail:1002"});
    expect(frame(kBinary, "") + frame(kBinary, "b"), {"fail:1002"});
}

// ---- text ----

void code_points_may_be_cut_by_fragments(void**) {
    const std::string text = "\xc2\xa9\xe2\x82\xac\xf0\x9f\x98\x80";
    for (std::size_t i = 0; i <= text.size(); ++i)
        expect(frame(kText, text.substr(0, i)) + frame(kFin | kPing, "") + frame(kFin, text.substr(i)),
               {"ping:", "text:" + text});
}

void text_that_is_not_utf8_fails_with_1007(void**) {
    for (const char* text :
         {"\xff", "ok\x80", "\xed\xa0\x80", "\xc0\xaf", "\xf4\x90\x80\x80", "cut\xe2\x82"}) {
        expect(frame(kFin | kText, text), {"fail:1007"});
        expect(frame(kText, text) + frame(kFin, ""), {"fail:1007"});
        expect(frame(kFin | kBinary, text), {"binary:"s + text});
    }
    expect(frame(kFin | kText, "\xe2\x82") + frame(kFin | kText, "\xac"), {"fail:1007"});
}

void S45_a_bad_octet_fails_before_its_frame_is_complete(void**) {
    const std::string script = frame(kText, "ab\xff" + std::string(100, 'c'));
    assert_events(run(script.substr(0, 8), {}, {}), {});
    assert_events(run(script.substr(0, 9), {}, {}), {"fail:1007"});
    assert_events(run(script.substr(0, 9), {6, 7, 8}, {}), {"fail:1007"});
}

// ---- closing ----

void a_close_is_one_event_and_the_last(void**) {
    const std::string after =
        frame(kFin | kPing, "x") + frame(kFin | kText, "y") + close_frame(1001) + "\x81\x00"s;
    expect(close_frame(1000, "bye") + after, {"close:1000:bye"});
    expect(frame(kFin | kClose, "") + after, {"close:0:"});
    expect(close_frame(4999, std::string(123, 'r')), {"close:4999:" + std::string(123, 'r')});
    expect(frame(kText, "half") + close_frame(1001) + after, {"close:1001:"});
}

void bad_close_bodies_fail(void**) {
    expect(frame(kFin | kClose, "\x03"), {"fail:1002"});
    for (int code : {0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535})
        expect(close_frame(code), {"fail:1002"});
    for (int code : {1000, 1003, 1007, 1014, 3000, 4999})
        expect(close_frame(code), {"close:" + std::to_string(code) + ":"});
    expect(close_frame(1000, "\xff"), {"fail:1007"});
    expect(close_frame(1000, "\xe2\x82"), {"fail:1007"});
}

void after_our_close_only_the_peers_close_counts(void**) {
    const std::string head = frame(kFin | kText, "one") + frame(kText, "two, unfini");
    const std::string rest = frame(kFin | kPing, "x") + frame(0, "y") + frame(kFin | kText, "\xff") +
                             frame(kFin, std::string(70000, 'z')) + frame(kFin | kPong, "");
    for (std::size_t cut = 0; cut <= head.size(); ++cut) {
        Session session;
        Codec codec;
        Events events;
        feed(session, codec, {}, head.substr(0, cut), events);
        events.clear();
        session.on_close_sent();
        assert_int_equal(session.held(), 0);
        feed(session, codec, {}, head.substr(cut) + rest, events);
        assert_events(events, {});
        feed(session, codec, {}, close_frame(1000) + close_frame(1000), events);
        assert_events(events, {"close:1000:"});
        assert_false(session.incomplete());
    }
}

void a_close_half_read_when_ours_is_sent_is_still_read(void**) {
    const std::string script = close_frame(1000, "bye");
    for (std::size_t cut = 0; cut < script.size(); ++cut) {
        Session session(kParams);
        Codec codec;
        Events events;
        feed(session, codec, {}, frame(kRsv1 | kText, "\xf2\x48\xcd") + script.substr(0, cut), events);
        session.on_close_sent();
        feed(session, codec, {}, script.substr(cut), events);
        assert_events(events, {"close:1000:bye"});
        session.on_close_sent();
        assert_int_equal(session.held(), 0);
    }
}

void a_broken_frame_after_our_close_still_fails(void**) {
    Session session;
    Codec codec;
    Events events;
    session.on_close_sent();
    feed(session, codec, {}, frame(kFin | kText, "x") + "\x81\x00"s, events);
    assert_events(events, {"fail:1002"});
}

// ---- limits ----

void S41_a_message_of_the_limit_passes_and_one_octet_more_does_not(void**) {
    Options options;
    options.limits.max_message = 10;
    expect(frame(kFin | kBinary, "0123456789"), {"binary:0123456789"}, options);
    expect(frame(kBinary, "01234") + frame(kFin, "56789"), {"binary:0123456789"}, options);
    expect(frame(kBinary, "0123456789") + frame(kFin, ""), {"binary:0123456789"}, options);
    expect(frame(kFin | kBinary, "0123456789a"), {"fail:1009"}, options);
    expect(frame(kBinary, "01234") + frame(kFin, "56789a"), {"fail:1009"}, options);
    expect(frame(kFin | kPing, std::string(125, 'p')), {"ping:" + std::string(125, 'p')}, options);
}

void a_frame_too_big_is_refused_at_its_header_and_nothing_is_allocated(void**) {
    std::string script = "\x82\xff\x40\0\0\0\0\0\0\0keyx"s;
    Session session;
    Codec codec;
    std::span<char> input(script);
    allocations_left = 0;
    const Event event = session.feed(input, codec, {});
    const bool untouched = allocations_left == 0;
    allocations_left = -1;
    assert_true(untouched);
    assert_string_equal(describe(event).c_str(), "fail:1009");
}

void a_big_claim_alone_costs_no_memory(void**) {
    Session session;
    Codec codec;
    Events events;
    const std::string script = frame(kFin | kBinary, std::string(65536, 'x'));
    feed(session, codec, {}, script.substr(0, 14), events);
    assert_int_equal(session.held(), 0);
    feed(session, codec, {}, script.substr(14, 10), events);
    assert_true(session.held() > 0 && session.held() < 1024);
    assert_true(session.incomplete());
}

void the_frame_limit_is_apart_from_the_messages(void**) {
    Options options;
    options.limits.max_frame = 4;
    expect(frame(kBinary, "0123") + frame(kFin, "4567"), {"binary:01234567"}, options);
    expect(frame(kBinary, "0123") + frame(kFin, "45678"), {"fail:1009"}, options);
}

void S42_fragments_are_counted_the_empty_ones_too(void**) {
    Options options;
    options.limits.max_fragments = 3;
    expect(frame(kText, "") + frame(0, "") + frame(kFin, "x") + frame(kText, "") + frame(kFin, "y"),
           {"text:x", "text:y"}, options);
    expect(frame(kText, "") + frame(0, "") + frame(0, "") + frame(kFin, "x"), {"fail:1009"}, options);
}

// ---- permessage-deflate ----

std::string deflated(std::string_view text) { return std::string(*Deflater().deflate(text)); }

void compressed_messages_are_inflated_alone_and_in_fragments(void**) {
    const std::string text = "Hello, Hello, Hello, Hello, \xe2\x82\xac \xe2\x82\xac \xe2\x82\xac";
    const std::string data = deflated(text);
    const Options options{.deflate = true};
    expect(frame(kFin | kRsv1 | kText, data), {"text:" + text}, options);
    expect(frame(kFin | kRsv1 | kText, data) + frame(kFin | kText, "plain") +
               frame(kFin | kRsv1 | kBinary, data),
           {"text:" + text, "text:plain", "binary:" + text}, options);
    for (std::size_t i = 0; i <= data.size(); ++i)
        expect(
            frame(kRsv1 | kText, data.substr(0, i)) + frame(kFin | kPing, "p") + frame(kFin, data.substr(i)),
            {"ping:p", "text:" + text}, options);
    expect(frame(kFin | kRsv1 | kText, "\0"s) + frame(kFin | kRsv1 | kText, ""), {"text:", "text:"}, options);
    expect(frame(kRsv1 | kText, "") + frame(kFin, ""), {"text:"}, options);
}

void sessions_that_inflate_at_the_same_time_do_not_mix(void**) {
    const std::string one(deflated(std::string(500, 'a') + "one")),
        two(deflated(std::string(500, 'b') + "two"));
    const std::string scripts[] = {frame(kFin | kRsv1 | kText, one), frame(kFin | kRsv1 | kText, two)};
    Session sessions[] = {Session(kParams), Session(kParams)};
    Codec codec;
    Events events[2];
    for (std::size_t i = 0; i < std::max(scripts[0].size(), scripts[1].size()); ++i)
        for (int s : {0, 1})
            if (i < scripts[s].size()) feed(sessions[s], codec, {}, scripts[s].substr(i, 1), events[s]);
    assert_events(events[0], {"text:" + std::string(500, 'a') + "one"});
    assert_events(events[1], {"text:" + std::string(500, 'b') + "two"});
}

void bad_compressed_data_fails_with_1007(void**) {
    const Options options{.deflate = true};
    expect(frame(kFin | kRsv1 | kText, "\xff\xff"), {"fail:1007"}, options);
    expect(frame(kRsv1 | kBinary, "\xf2\x48") + frame(kFin, ""), {"fail:1007"}, options);
    expect(frame(kFin | kRsv1 | kText, deflated("ab\xff")), {"fail:1007"}, options);
    expect(frame(kFin | kRsv1 | kText, deflated("ab\xe2\x82")), {"fail:1007"}, options);
    expect(frame(kFin | kRsv1 | kBinary, deflated("ab\xff")), {"binary:ab\xff"}, options);
}

void bad_text_in_a_compressed_fragment_fails_before_the_message_ends(void**) {
    Session session(kParams);
    Codec codec;
    Events events;
    feed(session, codec, {}, frame(kRsv1 | kText, deflated("bad \xff text") + "\0\0\xff\xff"s), events);
    assert_events(events, {"fail:1007"});
}

void S54_inflated_octets_are_what_counts(void**) {
    Options options{.deflate = true};
    options.limits.max_message = 1000;
    const std::string fits(1000, 'x');
    expect(frame(kFin | kRsv1 | kText, deflated(fits)), {"text:" + fits}, options);
    expect(frame(kFin | kRsv1 | kText, deflated(fits + "x")), {"fail:1009"}, options);
    expect(frame(kFin | kRsv1 | kText, deflated("\xff" + fits)), {"fail:1007"}, options);
    const std::string data = deflated(fits + fits);
    expect(frame(kRsv1 | kText, data.substr(0, 5)) + frame(kFin, data.substr(5)), {"fail:1009"}, options);
}

void compressed_octets_have_a_bound_of_their_own(void**) {
    Options options{.deflate = true, .limits = {}, .every_split = false};
    options.limits.max_message = 1000;
    std::string nothing;
    while (nothing.size() <= 1000 + 125 + 1024) nothing += "\x00\x00\x00\xff\xff"s;
    expect(frame(kFin | kRsv1 | kText, nothing), {"fail:1009"}, options);
    expect(frame(kRsv1 | kText, nothing.substr(0, 2000)) + frame(kFin, nothing.substr(2000)), {"fail:1009"},
           options);
    options.limits.max_message = SIZE_MAX;
    expect(frame(kFin | kRsv1 | kText, deflated("x")), {"text:x"}, options);
}

void S54_a_bomb_ends_with_1009(void**) {
    Options options{.deflate = true, .limits = {}, .every_split = false};
    options.limits.max_message = 16 << 20;
    expect(frame(kFin | kRsv1 | kBinary, deflated(std::string(8 << 20, '\0'))), {"fail:1009"}, options);
}

// ---- memory ----

void big_messages_are_let_go_at_the_next_feed(void**) {
    Session session;
    Codec codec;
    Events events;
    WireLimits limits;
    limits.max_message = 1 << 20;
    const std::string script = frame(kFin | kBinary, std::string(1 << 20, 'x'));
    feed(session, codec, limits, script.substr(0, 1000), events);
    feed(session, codec, limits, script.substr(1000), events);
    assert_int_equal(events.size(), 1);
    assert_int_equal(session.held(), 0);
}

void without_memory_any_allocation_ends_with_1011(void**) {
    if (!allocations_can_fail()) skip();
    const std::string body = deflated(std::string(3000, 'x') + "tail");
    const std::string script = frame(kFin | kPing, "ping") + frame(kText, "Hel") + frame(kFin, "lo") +
                               frame(kRsv1 | kText, body.substr(0, 7)) + frame(kFin, body.substr(7)) +
                               frame(kFin | kRsv1 | kText, body) + close_frame(1000);
    const Options options{.deflate = true};
    const Events all = run(script, {}, options);
    assert_int_equal(all.size(), 5);
    for (std::size_t step : {std::size_t{1}, std::size_t{9}, script.size()}) {
        int failures = 0;
        for (long n = 0;; ++n) {
            Session session(kParams);
            Codec codec;
            Events events;
            bool failed = false;
            long left = n;
            for (std::size_t at = 0; at < script.size(); at += step) {
                std::string chunk = script.substr(at, step);
                std::span<char> input(chunk);
                Event event;
                do {
                    if (!failed) allocations_left = left;
                    event = session.feed(input, codec, {});
                    left = allocations_left;
                    allocations_left = -1;
                    failed = failed || left < 0;
                    if (event.type != Event::Type::need_more) events.push_back(describe(event));
                } while (event.type != Event::Type::need_more);
            }
            if (!failed) {
                assert_events(events, all);
                break;
            }
            assert_string_equal(events.back().c_str(), "fail:1011");
            assert_int_equal(session.held(), 0);
            ++failures;
        }
        assert_true(failures >= 5);
    }
}

void a_session_moves_in_the_middle_of_a_message(void**) {
    const std::string script = frame(kText, "Hel") + frame(kFin, "lo");
    Codec codec;
    Events events;
    Session first;
    feed(first, codec, {}, script.substr(0, 11), events);
    Session second(std::move(first));
    Session third;
    third = std::move(second);
    feed(third, codec, {}, script.substr(11), events);
    assert_events(events, {"text:Hello"});
    assert_int_equal(third.server_window_bits(), 0);
    assert_int_equal(Session(DeflateParams{11}).server_window_bits(), 11);
}

// ---- a model ----

void random_streams_of_valid_frames_give_what_was_put_in(void**) {
    std::mt19937 random(20261122);
    for (int round = 0; round < 150; ++round) {
        std::string script;
        Events expected;
        Deflater deflater;
        for (int m = 0; m < 6; ++m) {
            const bool binary = random() % 2, compressed = random() % 2;
            std::string text;
            for (std::size_t i = random() % 400; i > 0; --i) {
                if (binary) text += static_cast<char>(random());
                else text += random() % 3 ? "x" : "\xe2\x82\xac";
            }
            std::string data = compressed ? std::string(*deflater.deflate(text, 9)) : text;
            int first = (compressed ? kRsv1 : 0) | (binary ? kBinary : kText);
            while (random() % 3) {
                const std::size_t size = random() % (data.size() + 1);
                script += frame(first, data.substr(0, size));
                data.erase(0, size);
                first = 0;
                if (random() % 2 == 0) {
                    const std::string ping(random() % 126, 'p');
                    script += frame(kFin | kPing, ping);
                    expected.push_back("ping:" + ping);
                }
            }
            script += frame(kFin | first, data);
            expected.push_back((binary ? "binary:" : "text:") + text);
        }
        expect(script, expected, {.deflate = true, .limits = {}, .every_split = false});
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(masked_text_split_at_every_byte_is_one_message),
        cmocka_unit_test(several_frames_in_one_segment_are_several_events),
        cmocka_unit_test(boundary_sizes_arrive_intact),
        cmocka_unit_test(a_whole_message_is_a_view_of_the_input),
        cmocka_unit_test(fragments_are_one_message_of_the_first_ones_type),
        cmocka_unit_test(control_frames_between_fragments_come_at_once),
        cmocka_unit_test(pings_of_every_size_keep_their_payload),
        cmocka_unit_test(broken_headers_fail_with_1002_and_what_follows_is_swallowed),
        cmocka_unit_test(a_broken_frame_inside_a_message_fails_too),
        cmocka_unit_test(continuations_of_nothing_and_messages_in_messages_fail),
        cmocka_unit_test(code_points_may_be_cut_by_fragments),
        cmocka_unit_test(text_that_is_not_utf8_fails_with_1007),
        cmocka_unit_test(S45_a_bad_octet_fails_before_its_frame_is_complete),
        cmocka_unit_test(a_close_is_one_event_and_the_last),
        cmocka_unit_test(bad_close_bodies_fail),
        cmocka_unit_test(after_our_close_only_the_peers_close_counts),
        cmocka_unit_test(a_close_half_read_when_ours_is_sent_is_still_read),
        cmocka_unit_test(a_broken_frame_after_our_close_still_fails),
        cmocka_unit_test(S41_a_message_of_the_limit_passes_and_one_octet_more_does_not),
        cmocka_unit_test(a_frame_too_big_is_refused_at_its_header_and_nothing_is_allocated),
        cmocka_unit_test(a_big_claim_alone_costs_no_memory),
        cmocka_unit_test(the_frame_limit_is_apart_from_the_messages),
        cmocka_unit_test(S42_fragments_are_counted_the_empty_ones_too),
        cmocka_unit_test(compressed_messages_are_inflated_alone_and_in_fragments),
        cmocka_unit_test(sessions_that_inflate_at_the_same_time_do_not_mix),
        cmocka_unit_test(bad_compressed_data_fails_with_1007),
        cmocka_unit_test(bad_text_in_a_compressed_fragment_fails_before_the_message_ends),
        cmocka_unit_test(S54_inflated_octets_are_what_counts),
        cmocka_unit_test(compressed_octets_have_a_bound_of_their_own),
        cmocka_unit_test(S54_a_bomb_ends_with_1009),
        cmocka_unit_test(big_messages_are_let_go_at_the_next_feed),
        cmocka_unit_test(without_memory_any_allocation_ends_with_1011),
        cmocka_unit_test(a_session_moves_in_the_middle_of_a_message),
        cmocka_unit_test(random_streams_of_valid_frames_give_what_was_put_in),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

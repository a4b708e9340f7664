// permessage-deflate data: RFC 7692's examples, windows, bombs, broken streams, and no memory.
#include "core/deflate.hpp"

#include <string>

#include <zlib.h>

#include "unit/cmocka.hpp"
#include "unit/failing_new.hpp"

using namespace rooms;
using namespace std::string_literals;

namespace {

constexpr InflateLimits kLimits{1 << 20, 100};

struct Inflated {
    InflateStatus status;
    std::string text;
};

// In parts of `step` octets; the first bad status ends it.
Inflated inflate(std::string_view data, InflateLimits limits = kLimits,
                 std::size_t step = std::string::npos) {
    Inflater inflater;
    inflater.begin();
    Bytes out;
    InflateStatus status = InflateStatus::ok;
    do {
        const std::string part(data.substr(0, step));
        data.remove_prefix(part.size());
        status = inflater.feed(part, data.empty(), out, limits);
        assert_true(out.size() <= limits.max_size);
    } while (status == InflateStatus::ok && !data.empty());
    return {status, std::string(out.view())};
}

void assert_inflates(std::string_view data, std::string_view text) {
    for (std::size_t step : {std::size_t{1}, std::size_t{2}, std::size_t{3}, std::size_t{1000}}) {
        const Inflated result = inflate(data, kLimits, step);
        assert_true(result.status == InflateStatus::ok);
        assert_true(result.text == text);
    }
}

void assert_status(std::string_view data, InflateStatus status, InflateLimits limits = kLimits) {
    for (std::size_t step : {std::size_t{1}, std::size_t{7}, std::string::npos})
        assert_true(inflate(data, limits, step).status == status);
}

std::string noise(std::size_t size) {
    std::string text(size, ' ');
    std::uint32_t state = 1;
    for (char& c : text) c = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
    return text;
}

std::string deflate_plainly(std::string_view text, int flush, int level = 9) {
    z_stream z{};
    assert_int_equal(deflateInit2(&z, level, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY), Z_OK);
    std::string out(text.size() + text.size() / 2 + 100, ' ');
    z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
    z.avail_in = static_cast<uInt>(text.size());
    z.next_out = reinterpret_cast<Bytef*>(out.data());
    z.avail_out = static_cast<uInt>(out.size());
    deflate(&z, flush);
    out.resize(z.total_out);
    deflateEnd(&z);
    return out;
}

std::string without_tail(std::string data) {
    assert_true(data.ends_with("\0\0\xff\xff"s));
    return data.substr(0, data.size() - 4);
}

void the_examples_of_the_rfc_are_inflated(void**) {
    assert_inflates("\xf2\x48\xcd\xc9\xc9\x07\x00"s, "Hello");
    assert_inflates("\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00"s, "Hello");
    assert_inflates("\xf3\x48\xcd\xc9\xc9\x07\x00\x00"s, "Hello");
    assert_inflates("\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"s, "Hello");
    assert_inflates("\x00"s, "");
}

void an_example_that_needs_the_last_messages_window_is_refused(void**) {
    assert_status("\xf2\x00\x11\x00\x00"s, InflateStatus::corrupt);
}

void nothing_at_all_is_an_empty_message(void**) { assert_inflates("", ""); }

void a_final_block_may_stand_at_the_end_or_in_the_middle(void**) {
    assert_inflates("\xf3\x48\xcd\xc9\xc9\x07\x00"s, "Hello");
    assert_inflates("\x01"s, "");
    assert_inflates("\xf3\x48\xcd\xc9\xc9\x07\x00\xf2\x48\xcd\xc9\xc9\x07\x00"s, "HelloHello");
    // The second block repeats "Hello" out of the first one's window.
    assert_inflates("\xf3\x48\xcd\xc9\xc9\x07\x00\xf2\x00\x11\x00\x00"s, "HelloHello");
}

void a_message_knows_nothing_of_the_one_before(void**) {
    Inflater inflater;
    Bytes out;
    inflater.begin();
    assert_true(inflater.feed("\xf2\x48\xcd\xc9\xc9\x07\x00"s, true, out, kLimits) == InflateStatus::ok);
    inflater.begin();
    out.clear();
    assert_true(inflater.feed("\xf2\x00\x11\x00\x00"s, true, out, kLimits) == InflateStatus::corrupt);
    inflater.begin();
    out.clear();
    assert_true(inflater.feed("\xf2\x48\xcd\xc9\xc9\x07\x00"s, true, out, kLimits) == InflateStatus::ok);
    assert_true(out.view() == "Hello");
}

void broken_streams_are_corrupt(void**) {
    assert_status("\x07"s, InflateStatus::corrupt);  // block type 3
    assert_status("\xff\xff\xff\xff"s, InflateStatus::corrupt);
    assert_status("\x00\x05\x00\x00\x00Hello"s, InflateStatus::corrupt);  // LEN is not ~NLEN
    assert_status("\x00\x05\x00\xfa\xffHel"s, InflateStatus::corrupt);    // stored block cut short
    assert_status("\xf2\x48\xcd"s, InflateStatus::corrupt);               // fixed block cut short
    assert_status("\xf2\x48\xcd\xc9\xc9\x07\x00\xde\xad\xbe\xef"s, InflateStatus::corrupt);
    assert_status("\xf3\x48\xcd\xc9\xc9\x07\x00\xde\xad\xbe\xef"s, InflateStatus::corrupt);
    assert_status("\xf3\x48"s, InflateStatus::corrupt);
}

void every_cut_of_a_stream_is_noticed(void**) {
    const std::string text = "a text with a table of its own: " + noise(300) + std::string(300, 'x');
    const std::string data = without_tail(deflate_plainly(text, Z_SYNC_FLUSH));
    assert_inflates(data, text);
    // The last octet may be nothing but the empty block's first bits.
    for (std::size_t size = 1; size + 2 < data.size(); ++size)
        assert_true(inflate(data.substr(0, size)).status == InflateStatus::corrupt);
}

void S54_the_limit_holds_to_the_octet(void**) {
    for (std::size_t size : {1u, 255u, 4096u, 4097u, 70000u}) {
        const std::string text = noise(size);
        const std::string data = without_tail(deflate_plainly(text, Z_SYNC_FLUSH));
        assert_status(data, InflateStatus::ok, {size, 100});
        assert_status(data, InflateStatus::too_big, {size - 1, 100});
    }
}

void S54_a_bomb_stops_at_the_limit_or_at_a_hundred_to_one(void**) {
    const std::string data = without_tail(deflate_plainly(std::string(16 << 20, '\0'), Z_SYNC_FLUSH));
    assert_status(data, InflateStatus::too_big, {65536, 100});
    const Inflated stopped = inflate(data, {64 << 20, 100});
    assert_true(stopped.status == InflateStatus::too_big && stopped.text.size() < (4 << 20));
    assert_status(data, InflateStatus::ok, {64 << 20, 0});
}

void what_is_below_64_kib_may_be_of_any_ratio(void**) {
    const std::string text(65536, 'z');
    assert_inflates(without_tail(deflate_plainly(text, Z_SYNC_FLUSH)), text);
    assert_true(inflate(without_tail(deflate_plainly(text + "zz", Z_SYNC_FLUSH))).status ==
                InflateStatus::too_big);
}

void many_empty_blocks_take_time_like_their_length(void**) {
    std::string stored, final_fixed;
    for (int i = 0; i < 20000; ++i) stored += "\x00\x00\x00\xff\xff"s;
    for (int i = 0; i < 50000; ++i) final_fixed += "\x03\x00"s;
    assert_inflates(stored + "\0"s, "");
    assert_inflates(final_fixed, "");
}

void what_is_deflated_inflates_again_at_every_window_and_level(void**) {
    Deflater deflater;
    const std::string texts[] = {
        "", "a", "Hello", std::string(100000, 'q'), noise(100000), noise(700) + noise(700) + noise(700)};
    for (const std::string& text : texts)
        for (std::uint8_t bits = 9; bits <= 15; ++bits)
            for (int level : {1, 1, 6, 9, 1}) {
                const auto data = deflater.deflate(text, bits, level);
                assert_true(data.has_value());
                assert_false(data->ends_with("\0\0\xff\xff"s));
                // As a client that keeps to the window it asked for.
                z_stream z{};
                assert_int_equal(inflateInit2(&z, -bits), Z_OK);
                const std::string whole = std::string(*data) + "\0\0\xff\xff"s;
                std::string out;
                z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(whole.data()));
                z.avail_in = static_cast<uInt>(whole.size());
                do {  // a window's worth at a time, so that only the window can be referred to
                    char part[512];
                    z.next_out = reinterpret_cast<Bytef*>(part);
                    z.avail_out = sizeof part;
                    const int result = ::inflate(&z, Z_SYNC_FLUSH);
                    assert_true(result == Z_OK || result == Z_BUF_ERROR);
                    out.append(part, sizeof part - z.avail_out);
                } while (z.avail_out == 0 || z.avail_in > 0);
                inflateEnd(&z);
                assert_true(out == text);
                assert_true(inflate(*data, {1 << 20, 0}).text == text);
            }
    assert_true(deflater.deflate("") == "\0"s);
}

void equal_messages_deflate_equally(void**) {
    Deflater deflater;
    const std::string first(*deflater.deflate("the same the same the same"));
    assert_true(deflater.deflate("something else altogether").has_value());
    assert_true(deflater.deflate("the same the same the same") == first);
}

void more_than_zlib_can_count_is_not_deflated(void**) {
    const char octet = 'x';
    const std::string_view endless(&octet, std::size_t{1} << 32);
    Deflater deflater;
    assert_false(deflater.deflate(endless).has_value());
    Inflater inflater;
    Bytes out;
    assert_true(inflater.feed(endless, true, out, kLimits) == InflateStatus::too_big);
}

void deflating_without_memory_says_so_and_recovers(void**) {
    if (!allocations_can_fail()) skip();
    const std::string text = noise(3000);
    int failures = 0;
    for (long n = 0;; ++n) {
        Deflater deflater;
        allocations_left = n;
        const bool done = deflater.deflate(text, 12).has_value();
        allocations_left = -1;
        assert_true(deflater.deflate(text, 12).has_value());
        if (done) break;
        ++failures;
    }
    assert_true(failures >= 6);
}

void inflating_without_memory_says_so_and_recovers(void**) {
    if (!allocations_can_fail()) skip();
    const std::string text = noise(3000);
    Deflater deflater;
    const std::string data(*deflater.deflate(text));
    int failures = 0;
    for (long n = 0;; ++n) {
        Inflater inflater;
        Bytes out;
        InflateStatus status = InflateStatus::no_memory;
        allocations_left = n;
        try {
            status = inflater.feed(data, true, out, kLimits);
        } catch (const std::bad_alloc&) {
        }
        allocations_left = -1;
        out.clear();
        inflater.begin();
        assert_true(inflater.feed(data, true, out, kLimits) == InflateStatus::ok && out.view() == text);
        if (status == InflateStatus::ok) break;
        assert_true(status == InflateStatus::no_memory);
        ++failures;
    }
    assert_true(failures >= 4);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(the_examples_of_the_rfc_are_inflated),
        cmocka_unit_test(an_example_that_needs_the_last_messages_window_is_refused),
        cmocka_unit_test(nothing_at_all_is_an_empty_message),
        cmocka_unit_test(a_final_block_may_stand_at_the_end_or_in_the_middle),
        cmocka_unit_test(a_message_knows_nothing_of_the_one_before),
        cmocka_unit_test(broken_streams_are_corrupt),
        cmocka_unit_test(every_cut_of_a_stream_is_noticed),
        cmocka_unit_test(S54_the_limit_holds_to_the_octet),
        cmocka_unit_test(S54_a_bomb_stops_at_the_limit_or_at_a_hundred_to_one),
        cmocka_unit_test(what_is_below_64_kib_may_be_of_any_ratio),
        cmocka_unit_test(many_empty_blocks_take_time_like_their_length),
        cmocka_unit_test(what_is_deflated_inflates_again_at_every_window_and_level),
        cmocka_unit_test(equal_messages_deflate_equally),
        cmocka_unit_test(more_than_zlib_can_count_is_not_deflated),
        cmocka_unit_test(deflating_without_memory_says_so_and_recovers),
        cmocka_unit_test(inflating_without_memory_says_so_and_recovers),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

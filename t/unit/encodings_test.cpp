// The forms of a frame: shared where they are equal, inflated again to the same text, never larger.
#include <string>
#include <vector>

#include "core/deflate.hpp"
#include "core/encodings.hpp"
#include "core/frame.hpp"

#include "cmocka.hpp"

using namespace rooms;

namespace {

std::string inflated(std::string_view frame) {
    Inflater inflater;
    inflater.begin();
    Bytes out;
    const std::size_t header = (frame[1] & 0x7f) == 127 ? 10 : (frame[1] & 0x7f) == 126 ? 4 : 2;
    assert_true(inflater.feed(frame.substr(header), true, out, {1 << 20, 0}) == InflateStatus::ok);
    return std::string(out.view());
}

void plain_is_the_frame_itself(void**) {
    Encodings encodings;
    Deflater deflater;
    const Payload frame = encode_frame(Opcode::text, "hello");
    assert_ptr_equal(encodings.encode(0, frame, deflater).view().data(), frame.view().data());
}

void equal_forms_have_one_number(void**) {
    Encodings encodings;
    const Encoding one = encodings.of(15, 1, 256);
    assert_int_not_equal(one, 0);
    assert_int_equal(encodings.of(15, 1, 256), one);
    assert_int_not_equal(encodings.of(9, 1, 256), one);
    assert_int_not_equal(encodings.of(15, 2, 256), one);
    assert_int_not_equal(encodings.of(15, 1, 0), one);
    assert_int_equal(encodings.count(), 4);
}

void more_forms_than_there_are_numbers_for_read_plain(void**) {
    Encodings encodings;
    for (std::size_t min = 0; min < kMaxEncodings; ++min) assert_int_equal(encodings.of(15, 1, min), min + 1);
    assert_int_equal(encodings.of(15, 1, 1000), 0);
    assert_int_equal(encodings.of(15, 1, 5), 6);
}

void a_compressed_frame_inflates_to_its_text_in_every_window(void**) {
    for (const std::size_t size : {40u, 125u, 126u, 5000u, 65536u, 200000u}) {
        std::string text;
        while (text.size() < size) text += "the same words again and " + std::to_string(text.size());
        const Payload frame = encode_frame(Opcode::text, text);
        for (std::uint8_t bits = 9; bits <= 15; ++bits) {
            Encodings encodings;
            Deflater deflater;
            const Payload encoded = encodings.encode(encodings.of(bits, 6, 0), frame, deflater);
            assert_true(encoded.size() < frame.size());
            assert_int_equal(static_cast<std::uint8_t>(encoded.view()[0]), 0xc1);
            assert_true(inflated(encoded.view()) == text);
        }
    }
}

void small_frames_and_those_that_do_not_shrink_stay_plain(void**) {
    Encodings encodings;
    Deflater deflater;
    const Encoding encoding = encodings.of(15, 1, 20);
    for (const char* text : {"aaaaaaaaaaaaaaaaaaa", "q8Zx0LmP3vT7yB1nKcWd5RfGhJ2s"}) {
        const Payload frame = encode_frame(Opcode::text, text);
        assert_ptr_equal(encodings.encode(encoding, frame, deflater).view().data(), frame.view().data());
    }
}

void frames_of_one_turn_leave_as_one(void**) {
    Encodings encodings;
    Deflater deflater;
    const std::vector<Payload> frames = {encode_frame(Opcode::text, "one"),
                                         encode_frame(Opcode::text, std::string(300, 'x'))};
    assert_int_equal(join(frames).size(), frames[0].size() + frames[1].size());
    const Payload both = encodings.encode(encodings.of(15, 1, 100), frames, deflater);
    assert_true(both.view().substr(0, frames[0].size()) == frames[0].view());
    assert_true(inflated(both.view().substr(frames[0].size())) == std::string(300, 'x'));
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(plain_is_the_frame_itself),
        cmocka_unit_test(equal_forms_have_one_number),
        cmocka_unit_test(more_forms_than_there_are_numbers_for_read_plain),
        cmocka_unit_test(a_compressed_frame_inflates_to_its_text_in_every_window),
        cmocka_unit_test(small_frames_and_those_that_do_not_shrink_stay_plain),
        cmocka_unit_test(frames_of_one_turn_leave_as_one),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

// Headers of clients' frames octet by octet, our own frames, the mask, and the close codes.
#include "core/frame.hpp"

#include <string>
#include <vector>

#include "core/close_code.hpp"
#include "unit/cmocka.hpp"

using namespace rooms;
using Octets = std::vector<std::uint8_t>;

namespace {

// Asks for octets as Session does, and sees that none beyond is looked at.
HeaderParse parse(const Octets& bytes, bool deflate = false) {
    std::size_t size = 0;
    for (;;) {
        const Octets held(bytes.begin(), bytes.begin() + static_cast<long>(size));
        const HeaderParse result = parse_frame_header(held, deflate);
        if (result.status != HeaderStatus::need_more || size == bytes.size()) return result;
        assert_true(result.wanted > size && result.wanted <= kMaxClientHeader);
        ++size;
    }
}

void assert_header(const Octets& bytes, Opcode opcode, bool fin, std::uint64_t size) {
    const HeaderParse result = parse(bytes);
    assert_true(result.status == HeaderStatus::complete);
    assert_int_equal(result.wanted, bytes.size());
    assert_true(result.header.opcode == opcode && result.header.fin == fin && result.header.size == size);
}

void assert_refused(const Octets& bytes, bool deflate = false) {
    const HeaderParse result = parse(bytes, deflate);
    assert_true(result.status == HeaderStatus::refused);
    assert_false(result.reason.empty());
}

void headers_of_all_three_lengths_are_read(void**) {
    assert_header({0x81, 0x80, 1, 2, 3, 4}, Opcode::text, true, 0);
    assert_header({0x02, 0xfd, 1, 2, 3, 4}, Opcode::binary, false, 125);
    assert_header({0x80, 0xfe, 0, 126, 1, 2, 3, 4}, Opcode::continuation, true, 126);
    assert_header({0x82, 0xfe, 0xff, 0xff, 1, 2, 3, 4}, Opcode::binary, true, 65535);
    assert_header({0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4}, Opcode::binary, true, 65536);
    assert_header({0x82, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}, Opcode::binary, true, 1ull << 62);
    assert_header({0x88, 0xfd, 0, 0, 0, 0}, Opcode::close, true, 125);
    assert_header({0x89, 0x80, 0, 0, 0, 0}, Opcode::ping, true, 0);
    assert_header({0x8a, 0x80, 0, 0, 0, 0}, Opcode::pong, true, 0);
}

void a_header_cut_short_asks_for_more(void**) {
    const Octets whole = {0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4};
    for (std::size_t size = 0; size < whole.size(); ++size)
        assert_true(parse({whole.begin(), whole.begin() + static_cast<long>(size)}).status ==
                    HeaderStatus::need_more);
}

void an_unmasked_frame_is_refused_at_its_second_octet(void**) {
    for (std::uint8_t first : {0x81, 0x82, 0x00, 0x88, 0x89, 0x8a}) {
        assert_refused({first, 0});
        assert_refused({first, 5});
    }
}

void S44_unknown_opcodes_are_refused(void**) {
    for (std::uint8_t opcode : {3, 4, 5, 6, 7, 11, 12, 13, 14, 15}) {
        assert_refused({static_cast<std::uint8_t>(0x80 | opcode), 0x80});
        assert_refused({opcode, 0xfe});
    }
}

void S44_reserved_bits_are_refused_unless_deflate_owns_them(void**) {
    for (std::uint8_t opcode : {0, 1, 2, 8, 9, 10})
        for (std::uint8_t bits = 0x10; bits < 0x80; bits += 0x10)
            for (bool deflate : {false, true}) {
                const bool fine = deflate && bits == 0x40 && (opcode == 1 || opcode == 2);
                const Octets bytes = {static_cast<std::uint8_t>(0x80 | bits | opcode), 0x80, 0, 0, 0, 0};
                if (fine) assert_true(parse(bytes, true).header.rsv1);
                else assert_refused(bytes, deflate);
            }
}

void lengths_that_are_not_minimal_are_refused(void**) {
    for (std::uint8_t size : {0, 1, 125}) assert_refused({0x82, 0xfe, 0, size});
    assert_refused({0x82, 0xff, 0, 0, 0, 0, 0, 0, 0, 0});
    assert_refused({0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff});
}

void a_length_with_the_top_bit_is_refused(void**) {
    assert_refused({0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0});
    assert_refused({0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff});
}

void S43_control_frames_are_short_and_whole(void**) {
    for (std::uint8_t opcode : {8, 9, 10}) {
        assert_refused({static_cast<std::uint8_t>(0x80 | opcode), 0xfe});
        assert_refused({static_cast<std::uint8_t>(0x80 | opcode), 0xff});
        assert_refused({opcode, 0x80});
    }
}

void assert_frame(const Payload& frame, const Octets& header, std::string_view payload) {
    const std::string expected = std::string(header.begin(), header.end()) + std::string(payload);
    assert_true(frame.view() == expected);
}

void our_frames_are_minimal_unmasked_and_final(void**) {
    for (std::size_t size : {0u, 1u, 125u, 126u, 127u, 65535u, 65536u, 65537u}) {
        const std::string payload(size, 'x');
        Octets header = {0x82};
        const auto octet = [&](int shift) { return static_cast<std::uint8_t>(size >> shift); };
        if (size < 126) header.push_back(octet(0));
        else if (size < 65536) header.insert(header.end(), {126, octet(8), octet(0)});
        else header.insert(header.end(), {127, 0, 0, 0, 0, octet(24), octet(16), octet(8), octet(0)});
        assert_frame(encode_frame(Opcode::binary, payload), header, payload);
    }
    assert_frame(encode_frame(Opcode::text, "hi", true), {0xc1, 2}, "hi");
    assert_frame(encode_frame(Opcode::pong, ""), {0x8a, 0}, "");
    char header[kMaxServerHeader];
    assert_int_equal(encode_frame_header(header, Opcode::binary, std::size_t{1} << 40), kMaxServerHeader);
    assert_int_equal(header[4], 1);
}

void a_close_frame_has_a_code_and_as_much_reason_as_fits(void**) {
    assert_frame(encode_close(1000), {0x88, 2, 0x03, 0xe8}, "");
    assert_frame(encode_close(4201, "token expired"), {0x88, 15, 0x10, 0x69}, "token expired");
    assert_frame(encode_close(1000, std::string(123, 'r')), {0x88, 125, 0x03, 0xe8}, std::string(123, 'r'));
    assert_frame(encode_close(1000, std::string(124, 'r')), {0x88, 125, 0x03, 0xe8}, std::string(123, 'r'));
    const std::string before(121, 'r');
    assert_frame(encode_close(1000, before + "\xe2\x82\xac"), {0x88, 123, 0x03, 0xe8}, before);
}

void codes_that_may_not_be_on_the_wire_make_an_empty_close(void**) {
    for (std::uint16_t code : {0, 999, 1004, 1005, 1006, 1015, 2999, 5000})
        assert_frame(encode_close(code, "reason"), {0x88, 0}, "");
}

void the_codes_a_peer_may_send_are_those_of_the_rfc_and_the_registry(void**) {
    for (std::uint32_t code = 0; code <= 65535; ++code) {
        const bool fine = (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
                          (code >= 3000 && code <= 4999);
        assert_int_equal(may_be_received(static_cast<std::uint16_t>(code)), fine);
    }
}

void the_mask_is_right_at_every_phase_length_and_alignment(void**) {
    const std::uint8_t keys[][4] = {{0, 0, 0, 0}, {0xff, 0xff, 0xff, 0xff}, {0x37, 0xfa, 0x21, 0x3d}};
    for (const auto& key : keys)
        for (std::size_t size = 0; size < 40; ++size)
            for (std::size_t phase = 0; phase < 8; ++phase)
                for (std::size_t shift = 0; shift < 8; ++shift) {
                    std::string data(shift + size, 'a');
                    unmask(data.data() + shift, size, key, phase);
                    for (std::size_t i = 0; i < size; ++i)
                        assert_int_equal(static_cast<std::uint8_t>(data[shift + i]),
                                         'a' ^ key[(phase + i) & 3]);
                    for (std::size_t i = 0; i < shift; ++i) assert_int_equal(data[i], 'a');
                }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(headers_of_all_three_lengths_are_read),
        cmocka_unit_test(a_header_cut_short_asks_for_more),
        cmocka_unit_test(an_unmasked_frame_is_refused_at_its_second_octet),
        cmocka_unit_test(S44_unknown_opcodes_are_refused),
        cmocka_unit_test(S44_reserved_bits_are_refused_unless_deflate_owns_them),
        cmocka_unit_test(lengths_that_are_not_minimal_are_refused),
        cmocka_unit_test(a_length_with_the_top_bit_is_refused),
        cmocka_unit_test(S43_control_frames_are_short_and_whole),
        cmocka_unit_test(our_frames_are_minimal_unmasked_and_final),
        cmocka_unit_test(a_close_frame_has_a_code_and_as_much_reason_as_fits),
        cmocka_unit_test(codes_that_may_not_be_on_the_wire_make_an_empty_close),
        cmocka_unit_test(the_codes_a_peer_may_send_are_those_of_the_rfc_and_the_registry),
        cmocka_unit_test(the_mask_is_right_at_every_phase_length_and_alignment),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

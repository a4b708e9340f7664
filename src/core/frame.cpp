// Frames, RFC 6455 section 5.2: one layout, read and written here and nowhere else.
#include "core/frame.hpp"

#include <cstring>

#include "core/close_code.hpp"
#include "core/utf8.hpp"

namespace rooms {
namespace {

constexpr std::uint8_t kFin = 0x80;
constexpr std::uint8_t kRsv1 = 0x40;
constexpr std::uint8_t kRsv2And3 = 0x30;
constexpr std::uint8_t kMasked = 0x80;
constexpr std::size_t kKeySize = 4;

bool is_known(std::uint8_t opcode) { return opcode <= 2 || (opcode >= 8 && opcode <= 10); }

HeaderParse refused(std::string_view reason) {
    HeaderParse parse;
    parse.status = HeaderStatus::refused;
    parse.reason = reason;
    return parse;
}

std::uint64_t read_big_endian(std::span<const std::uint8_t> bytes) {
    std::uint64_t value = 0;
    for (std::uint8_t byte : bytes) value = value << 8 | byte;
    return value;
}

}  // namespace

HeaderParse parse_frame_header(std::span<const std::uint8_t> bytes, bool deflate) {
    HeaderParse parse;
    if (bytes.size() < parse.wanted) return parse;

    const std::uint8_t opcode = bytes[0] & 0x0f;
    parse.header.opcode = static_cast<Opcode>(opcode);
    parse.header.fin = bytes[0] & kFin;
    parse.header.rsv1 = bytes[0] & kRsv1;
    parse.header.size = bytes[1] & 0x7f;
    const bool control = is_control(parse.header.opcode);

    if (bytes[0] & kRsv2And3) return refused("reserved bit set");
    if (!is_known(opcode)) return refused("unknown opcode");
    // RFC 7692 section 6: RSV1 marks the first frame of a compressed message and no other.
    if (parse.header.rsv1 && (!deflate || control || parse.header.opcode == Opcode::continuation))
        return refused("reserved bit set");
    if (!(bytes[1] & kMasked)) return refused("unmasked frame");
    if (control && !parse.header.fin) return refused("fragmented control frame");
    if (control && parse.header.size > kMaxControlPayload) return refused("control frame too long");

    if (parse.header.size >= 126) {
        const std::size_t extended = parse.header.size == 126 ? 2 : 8;
        parse.wanted += extended;
        if (bytes.size() < parse.wanted) return parse;
        parse.header.size = read_big_endian(bytes.subspan(2, extended));
        if (parse.header.size >> 63) return refused("length with the top bit set");
        if (parse.header.size < (extended == 2 ? 126 : 65536)) return refused("length not minimal");
    }
    parse.wanted += kKeySize;
    if (bytes.size() >= parse.wanted) parse.status = HeaderStatus::complete;
    return parse;
}

std::size_t encode_frame_header(char* out, Opcode opcode, std::size_t payload_size, bool compressed) {
    out[0] = static_cast<char>(kFin | (compressed ? kRsv1 : 0) | static_cast<std::uint8_t>(opcode));
    if (payload_size < 126) {
        out[1] = static_cast<char>(payload_size);
        return 2;
    }
    const std::size_t extended = payload_size < 65536 ? 2 : 8;
    out[1] = extended == 2 ? 126 : 127;
    for (std::size_t i = 0; i < extended; ++i)
        out[2 + i] = static_cast<char>(static_cast<std::uint64_t>(payload_size) >> 8 * (extended - 1 - i));
    return 2 + extended;
}

Payload encode_frame(Opcode opcode, std::string_view payload, bool compressed) {
    char header[kMaxServerHeader];
    const std::size_t header_size = encode_frame_header(header, opcode, payload.size(), compressed);
    Payload frame = Payload::allocate(header_size + payload.size());
    std::memcpy(frame.data(), header, header_size);
    if (!payload.empty()) std::memcpy(frame.data() + header_size, payload.data(), payload.size());
    return frame;
}

Payload encode_close(std::uint16_t code, std::string_view reason) {
    if (!may_be_received(code)) return encode_frame(Opcode::close, {});
    char body[kMaxControlPayload] = {static_cast<char>(code >> 8), static_cast<char>(code & 0xff)};
    reason = utf8_prefix(reason, sizeof body - 2);
    if (!reason.empty()) std::memcpy(body + 2, reason.data(), reason.size());
    return encode_frame(Opcode::close, {body, 2 + reason.size()});
}

void unmask(char* data, std::size_t size, const std::uint8_t key[4], std::size_t phase) {
    std::uint8_t turned[8];
    for (std::size_t i = 0; i < sizeof turned; ++i) turned[i] = key[(phase + i) & 3];
    std::uint64_t key_word;
    std::memcpy(&key_word, turned, sizeof key_word);
    for (; size >= sizeof key_word; size -= sizeof key_word, data += sizeof key_word) {
        std::uint64_t word;
        std::memcpy(&word, data, sizeof word);
        word ^= key_word;
        std::memcpy(data, &word, sizeof word);
    }
    for (std::size_t i = 0; i < size; ++i) data[i] = static_cast<char>(data[i] ^ turned[i]);
}

}  // namespace rooms

#include "core/encodings.hpp"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "core/frame.hpp"

namespace rooms {
namespace {

// Where the payload begins in a frame of ours: unmasked, of minimal length (RFC 6455 section 5.2).
std::size_t header_size(std::string_view frame) {
    const auto length = static_cast<std::uint8_t>(frame[1]);
    return length == 127 ? 10 : length == 126 ? 4 : 2;
}

}  // namespace

Encoding Encodings::of(std::uint8_t window_bits, int level, std::size_t min) {
    const Form form{window_bits, level, min};
    const auto known = std::find(forms_.begin(), forms_.end(), form);
    if (known != forms_.end()) return static_cast<Encoding>(known - forms_.begin() + 1);
    if (forms_.size() == kMaxEncodings) return 0;
    forms_.push_back(form);
    return static_cast<Encoding>(forms_.size());
}

Payload Encodings::encode(Encoding encoding, const Payload& frame, Deflater& deflater) const {
    if (encoding == 0) return frame;
    const Form& form = forms_[encoding - 1];
    const std::string_view bytes = frame.view();
    const std::string_view text = bytes.substr(header_size(bytes));
    if (text.size() < form.min) return frame;
    const auto deflated = deflater.deflate(text, form.window_bits, form.level);
    if (!deflated || deflated->size() >= text.size()) return frame;
    return encode_frame(static_cast<Opcode>(bytes[0] & 0x0f), *deflated, true);
}

Payload Encodings::encode(Encoding encoding, std::span<const Payload> frames, Deflater& deflater) const {
    std::vector<Payload> encoded;
    encoded.reserve(frames.size());
    for (const Payload& frame : frames) encoded.push_back(encode(encoding, frame, deflater));
    return join(encoded);
}

Payload join(std::span<const Payload> frames) {
    if (frames.size() == 1) return frames.front();
    std::size_t size = 0;
    for (const Payload& frame : frames) size += frame.size();
    Payload joined = Payload::allocate(size);
    char* out = joined.data();
    for (const Payload& frame : frames) {
        std::memcpy(out, frame.view().data(), frame.size());
        out += frame.size();
    }
    return joined;
}

}  // namespace rooms

// libFuzzer: whatever bytes a JWKS file holds. A set that is read has keys, each of which survives a
// signature that is not its own and refuses it.
#include <cstdint>
#include <string>
#include <string_view>

#include "core/key_set.hpp"
#include "core/jwks.hpp"
#include "unit/minter.hpp"

extern "C" __attribute__((visibility("default"))) int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                                                             std::size_t size) {
    auto keys = rooms::parse_jwks({reinterpret_cast<const char*>(data), size});
    if (!keys) {
        minter::require(!keys.error().message.empty());
        return 0;
    }
    minter::require(!keys->empty());
    rooms::KeySet set;
    for (rooms::Key& key : *keys) {
        minter::require(key.kid().empty() || rooms::is_kid(key.kid()));
        for (const std::size_t length : {0, 32, 48, 64, 96, 114, 132, 256}) {
            const std::string signature(length, '\x01');
            minter::require(key.verify("text", signature) == rooms::Key::Verdict::bad);
        }
        (void)set.add(std::move(key));
    }
    return 0;
}

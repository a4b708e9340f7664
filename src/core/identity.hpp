// Who a connection is, as far as rules ask: its user, and the values that the rules of its location
// name. One block of memory, immutable; a new token makes a new one.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/token.hpp"

namespace rooms {

class Identity {
public:
    Identity() = default;
    // Takes from the token the user, its rooms, and the claims at `claim_paths` (absent: empty), and
    // keeps `captured`, the values of the handshake's variables. Throws std::bad_alloc.
    Identity(const Claims& claims, std::span<const std::vector<std::string>> claim_paths,
             std::span<const std::string_view> captured);

    // Views into the block; they live as long as the Identity.
    struct Values {
        std::string_view user;
        std::vector<std::string_view> claims;
        std::vector<std::string_view> captured;
        std::vector<std::string_view> rooms;  // patterns that the token grants
    };
    [[nodiscard]] Values values() const;
    [[nodiscard]] std::string_view user() const;
    // Milliseconds since the epoch; 0: the token does not expire.
    [[nodiscard]] std::int64_t expires_at_ms() const { return expires_at_ms_; }

    // The same person of the same tenant: what `auth` may replace. A tenant is what the claims tenant_id,
    // tenantId and tenant say, at the top of the token or where the rules look for them.
    [[nodiscard]] bool same_person(const Identity& other) const;

private:
    std::unique_ptr<char[]> block_;  // counts, lengths, then the texts one after the other
    std::int64_t expires_at_ms_ = 0;
};

}  // namespace rooms

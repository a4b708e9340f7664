#include "core/identity.hpp"

#include <algorithm>
#include <cstring>

namespace rooms {
namespace {

// The block's head: how many texts of each kind, in the order in which they lie.
struct Head {
    std::uint16_t claims;
    std::uint16_t captured;
    std::uint16_t rooms;
};

constexpr std::size_t kFixedTexts = 2;  // the user, and the tenant for same_person

bool names_tenant(std::string_view claim) {
    return claim == "tenant_id" || claim == "tenantId" || claim == "tenant";
}

// All that the token says about its tenant, at the top or where the rules look for it.
std::string tenant_of(const Claims& claims, std::span<const std::vector<std::string>> claim_paths) {
    std::string tenant;
    for (const char* name : {"tenant_id", "tenantId", "tenant"}) {
        tenant += claims.text(std::string_view(name)).value_or(std::string()) + '\n';
    }
    for (const auto& path : claim_paths) {
        if (path.size() > 1 && names_tenant(path.back()))
            tenant += claims.text(path).value_or(std::string()) + '\n';
    }
    return tenant;
}

class Texts {
public:
    explicit Texts(const char* block) {
        std::memcpy(&head_, block, sizeof head_);
        lengths_ = block + sizeof head_;
        text_ = lengths_ + count() * sizeof(std::uint32_t);
    }
    [[nodiscard]] const Head& head() const { return head_; }
    [[nodiscard]] std::size_t count() const {
        return kFixedTexts + head_.claims + head_.captured + head_.rooms;
    }
    std::string_view next() {
        std::uint32_t length = 0;
        std::memcpy(&length, lengths_, sizeof length);
        lengths_ += sizeof length;
        const std::string_view result(text_, length);
        text_ += length;
        return result;
    }

private:
    Head head_{};
    const char* lengths_ = nullptr;
    const char* text_ = nullptr;
};

}  // namespace

Identity::Identity(const Claims& claims, std::span<const std::vector<std::string>> claim_paths,
                   std::span<const std::string_view> captured)
    : expires_at_ms_(claims.expires_at_ms()) {
    std::vector<std::string> owned;
    owned.reserve(1 + claim_paths.size());
    owned.push_back(tenant_of(claims, claim_paths));
    for (const auto& path : claim_paths) {
        owned.push_back(claims.text(path).value_or(std::string()));
    }

    std::vector<std::string_view> texts;
    texts.push_back(claims.user_id());
    texts.insert(texts.end(), owned.begin(), owned.end());
    texts.insert(texts.end(), captured.begin(), captured.end());
    texts.insert(texts.end(), claims.rooms().begin(), claims.rooms().end());

    std::size_t size = sizeof(Head) + texts.size() * sizeof(std::uint32_t);
    for (const auto text : texts) size += text.size();
    block_ = std::make_unique_for_overwrite<char[]>(size);

    const Head head{static_cast<std::uint16_t>(claim_paths.size()),
                    static_cast<std::uint16_t>(captured.size()),
                    static_cast<std::uint16_t>(claims.rooms().size())};
    char* out = block_.get();
    std::memcpy(out, &head, sizeof head);
    out += sizeof head;
    for (const auto text : texts) {
        const auto length = static_cast<std::uint32_t>(text.size());
        std::memcpy(out, &length, sizeof length);
        out += sizeof length;
    }
    for (const auto text : texts) out = std::copy(text.begin(), text.end(), out);
}

std::string_view Identity::user() const {
    if (!block_) return {};
    return Texts(block_.get()).next();
}

Identity::Values Identity::values() const {
    Values values;
    if (!block_) return values;
    Texts texts(block_.get());
    values.user = texts.next();
    (void)texts.next();  // the tenant
    for (std::size_t i = 0; i < texts.head().claims; ++i) values.claims.push_back(texts.next());
    for (std::size_t i = 0; i < texts.head().captured; ++i) values.captured.push_back(texts.next());
    for (std::size_t i = 0; i < texts.head().rooms; ++i) values.rooms.push_back(texts.next());
    return values;
}

bool Identity::same_person(const Identity& other) const {
    if (!block_ || !other.block_) return !block_ && !other.block_;
    Texts mine(block_.get());
    Texts theirs(other.block_.get());
    for (std::size_t i = 0; i < kFixedTexts; ++i) {
        if (mine.next() != theirs.next()) return false;
    }
    return true;
}

}  // namespace rooms

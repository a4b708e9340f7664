// See zone_users.hpp.
#include "store/zone_users.hpp"

#include <algorithm>
#include <cstring>

#include "store/fault_point.hpp"
#include "store/zone_hash.hpp"

namespace rooms::zone {

namespace {

constexpr std::size_t kCellText = sizeof(UserCell::text);

std::uint32_t hash_user(const ZoneView& v, std::string_view id) {
    return static_cast<std::uint32_t>(hash_of(v.header->seed, id).low);
}

std::uint32_t& bucket(const ZoneView& v, std::uint32_t hash) {
    return v.cell_buckets[bucket_of(std::uint64_t{hash} << 32, v.layout.cells_cap)];
}

bool same_text(const ZoneView& v, std::uint32_t user, std::string_view id) {
    if (v.cells[user].length != id.size()) return false;
    for (std::uint32_t cell = user; !id.empty(); cell = v.cells[cell].more) {
        const std::string_view part = id.substr(0, kCellText);
        if (std::memcmp(v.cells[cell].text, part.data(), part.size()) != 0) return false;
        id.remove_prefix(part.size());
    }
    return true;
}

}  // namespace

std::uint32_t user_find(const ZoneView& v, std::string_view id) {
    const std::uint32_t hash = hash_user(v, id);
    std::uint32_t user = bucket(v, hash);
    while (user != kZoneNone && (v.cells[user].hash != hash || !same_text(v, user, id)))
        user = v.cells[user].next;
    return user;
}

std::uint32_t user_create(const ZoneView& v, std::string_view id) {
    ZoneHeader& header = *v.header;
    const std::size_t needed = id.empty() ? 1 : (id.size() + kCellText - 1) / kCellText;
    if (v.layout.cells_cap - header.cells_used < needed) return kZoneNone;

    const std::uint32_t hash = hash_user(v, id);
    const std::uint32_t user = header.free_cell;
    UserCell* cell = &v.cells[user];
    cell->hash = hash;
    cell->length = static_cast<std::uint8_t>(id.size());
    for (;;) {
        header.free_cell = cell->next;
        ++header.cells_used;
        fault_point("user:taken");
        const std::string_view part = id.substr(0, kCellText);
        if (!part.empty()) std::memcpy(cell->text, part.data(), part.size());
        id.remove_prefix(part.size());
        if (id.empty()) break;
        cell->more = header.free_cell;
        cell = &v.cells[cell->more];
    }
    cell->more = kZoneNone;
    fault_point("user:written");
    user_link(v, user);
    return user;
}

void user_ref(const ZoneView& v, std::uint32_t user) { ++v.cells[user].refs; }

void user_unref(const ZoneView& v, std::uint32_t user) {
    UserCell& first = v.cells[user];
    if (first.refs > 1) {
        --first.refs;
        return;
    }
    std::uint32_t* link = &bucket(v, first.hash);
    while (*link != user) link = &v.cells[*link].next;
    *link = first.next;
    --v.header->users_used;
    for (std::uint32_t cell = user; cell != kZoneNone;) {
        const std::uint32_t more = v.cells[cell].more;
        cell_put_free(v, cell);
        --v.header->cells_used;
        fault_point("user:freed");
        cell = more;
    }
}

std::string user_id(const ZoneView& v, std::uint32_t user) {
    std::string id;
    std::size_t left = v.cells[user].length;
    id.reserve(left);
    for (std::uint32_t cell = user; left != 0; cell = v.cells[cell].more) {
        const std::size_t part = std::min(left, kCellText);
        id.append(v.cells[cell].text, part);
        left -= part;
    }
    return id;
}

void user_link(const ZoneView& v, std::uint32_t user) {
    UserCell& first = v.cells[user];
    first.refs = 0;
    std::uint32_t& head = bucket(v, first.hash);
    first.next = head;
    head = user;
    ++v.header->users_used;
}

void cell_put_free(const ZoneView& v, std::uint32_t cell) {
    v.cells[cell].next = v.header->free_cell;
    v.header->free_cell = cell;
}

}  // namespace rooms::zone

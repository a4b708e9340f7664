// The division of a zone: half for the log, a sixteenth for the mailboxes, the rest for tables.
#include "store/zone_layout.hpp"

namespace rooms {

namespace {

constexpr std::uint64_t kAlign = 64;

constexpr std::uint64_t aligned(std::uint64_t n) { return (n + kAlign - 1) / kAlign * kAlign; }

template <typename T>
T* part(void* base, std::uint64_t offset) {
    return reinterpret_cast<T*>(static_cast<char*>(base) + offset);
}

}  // namespace

ZoneLayout ZoneLayout::of(std::uint64_t size) {
    ZoneLayout layout{};
    layout.ring_size = size / 2 / 4096 * 4096;
    layout.letters_cap = static_cast<std::uint32_t>(size / 16 / kZoneSlots / sizeof(ZoneWord));

    std::uint64_t at = aligned(sizeof(ZoneHeader));
    const auto place = [&at](std::uint64_t count, std::uint64_t each) {
        const std::uint64_t offset = at;
        at = aligned(at + count * each);
        return offset;
    };
    layout.slots = place(kZoneSlots, sizeof(SlotEntry));
    layout.mailboxes = place(kZoneSlots, sizeof(MailboxEntry));
    layout.letters = place(kZoneSlots * layout.letters_cap, sizeof(ZoneWord));

    // What is left for tables, less what aligning ten of them may take. At the default of 32 MiB:
    // 20,000 rooms, 41,000 ids, 45,000 tallies, 32,000 cells. An index fits 31 bits: a zone of
    // terabytes has no more of them.
    const std::uint64_t left = size - layout.ring_size - at - 10 * kAlign;
    const auto entries = [left](std::uint64_t thousandths, std::uint64_t each) {
        const std::uint64_t count = left / 1000 * thousandths / each;
        return static_cast<std::uint32_t>(count < 0x7fffffff ? count : 0x7fffffff);
    };
    constexpr std::uint64_t kLink = sizeof(std::uint32_t);  // an entry's share of the buckets
    layout.rooms_cap = entries(460, sizeof(RoomEntry) + kLink);
    layout.ids_cap = entries(195, sizeof(IdEntry) + kLink);
    layout.tallies_cap = entries(190, sizeof(TallyEntry) + sizeof(SeatEntry) + kLink);
    layout.cells_cap = entries(155, sizeof(UserCell) + kLink);

    layout.rooms = place(layout.rooms_cap, sizeof(RoomEntry));
    layout.room_buckets = place(layout.rooms_cap, kLink);
    layout.tallies = place(layout.tallies_cap, sizeof(TallyEntry));
    layout.tally_buckets = place(layout.tallies_cap, kLink);
    layout.seats = place(layout.tallies_cap, sizeof(SeatEntry));
    layout.cells = place(layout.cells_cap, sizeof(UserCell));
    layout.cell_buckets = place(layout.cells_cap, kLink);
    layout.ids = place(layout.ids_cap, sizeof(IdEntry));
    layout.id_buckets = place(layout.ids_cap, kLink);
    layout.ring = at;
    return layout;
}

ZoneView ZoneView::at(void* base, std::uint64_t size) {
    ZoneView view{};
    view.layout = ZoneLayout::of(size);
    const ZoneLayout& layout = view.layout;
    view.header = part<ZoneHeader>(base, 0);
    view.slots = part<SlotEntry>(base, layout.slots);
    view.mailboxes = part<MailboxEntry>(base, layout.mailboxes);
    view.letters = part<ZoneWord>(base, layout.letters);
    view.rooms = part<RoomEntry>(base, layout.rooms);
    view.room_buckets = part<std::uint32_t>(base, layout.room_buckets);
    view.tallies = part<TallyEntry>(base, layout.tallies);
    view.tally_buckets = part<std::uint32_t>(base, layout.tally_buckets);
    view.seats = part<SeatEntry>(base, layout.seats);
    view.cells = part<UserCell>(base, layout.cells);
    view.cell_buckets = part<std::uint32_t>(base, layout.cell_buckets);
    view.ids = part<IdEntry>(base, layout.ids);
    view.id_buckets = part<std::uint32_t>(base, layout.id_buckets);
    view.ring = part<ZoneWord>(base, layout.ring);
    return view;
}

}  // namespace rooms

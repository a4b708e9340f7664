// See zone_slots.hpp.
#include "store/zone_slots.hpp"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "store/fault_point.hpp"
#include "store/zone_tally.hpp"

namespace rooms::zone {

namespace {

std::uint64_t load(const ZoneWord& word) { return word.load(std::memory_order_relaxed); }

ZoneWord* letters_of(const ZoneView& v, unsigned slot) {
    return v.letters + std::size_t{slot} * v.layout.letters_cap;
}

bool has_mail(const MailboxEntry& box) {
    return load(box.written) != load(box.read) || load(box.overflow) != 0;
}

struct Process {
    bool dead = false;        // a zombie: killed, but its parent has not looked yet
    std::uint64_t start = 0;  // 0: not known
};

Process look_at(std::int32_t pid) {
    char path[32];
    std::snprintf(path, sizeof path, "/proc/%d/stat", static_cast<int>(pid));
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return {};
    char text[1024];
    const ssize_t size = ::read(fd, text, sizeof text);
    close(fd);
    if (size <= 0) return {};
    // The name, in parentheses, may hold anything; then the state, and 19 fields on the start.
    std::string_view stat(text, static_cast<std::size_t>(size));
    const std::size_t name_end = stat.rfind(')');
    if (name_end == std::string_view::npos || name_end + 2 >= stat.size()) return {};
    stat.remove_prefix(name_end + 2);
    Process process{.dead = stat[0] == 'Z' || stat[0] == 'X'};
    for (int field = 0; field < 19; ++field) {
        const std::size_t space = stat.find(' ');
        if (space == std::string_view::npos) return process;
        stat.remove_prefix(space + 1);
    }
    std::from_chars(stat.data(), stat.data() + stat.size(), process.start);
    return process;
}

}  // namespace

std::optional<unsigned> slot_claim(const ZoneView& v, std::int32_t pid, std::uint64_t start) {
    for (unsigned slot = 0; slot < kZoneSlots; ++slot) {
        if (owner_of(v, slot) != 0) continue;
        SlotEntry& entry = v.slots[slot];
        fault_point("claim:found");
        for (ZoneWord& counter : entry.counters) counter.store(0, std::memory_order_relaxed);
        entry.start.store(start, std::memory_order_relaxed);
        fault_point("claim:half_reset");
        MailboxEntry& box = v.mailboxes[slot];
        box.read.store(load(box.written), std::memory_order_relaxed);
        box.overflow.store(0, std::memory_order_relaxed);
        box.armed.store(0, std::memory_order_relaxed);
        const std::uint64_t generation = load(v.header->generations) + 1;
        commit(v.header->generations, generation);
        fault_point("claim:before_owner");
        commit(entry.owner, generation << 32 | static_cast<std::uint32_t>(pid));
        fault_point("claim:owned");
        return slot;
    }
    return std::nullopt;
}

// The sums are written down before, so that adding can be done again from the start: a counter
// must not be counted twice because someone died between two of them.
void slot_release(const ZoneView& v, unsigned slot) {
    ZoneHeader& header = *v.header;
    tally_drop_slot(v, slot);
    fault_point("release:tallies");
    for (std::size_t i = 0; i < kZoneCounters; ++i) header.retired_before[i] = load(header.retired[i]);
    fault_point("release:snapshot");
    commit(header.retiring, slot + 1);
    fault_point("release:retiring");
    slot_finish_retiring(v);
    fault_point("release:done");
}

void slot_finish_retiring(const ZoneView& v) {
    ZoneHeader& header = *v.header;
    const std::uint64_t retiring = load(header.retiring);
    if (retiring == 0) return;
    SlotEntry& entry = v.slots[retiring - 1];
    for (std::size_t i = kZoneGauges; i < kZoneCounters; ++i) {
        header.retired[i].store(header.retired_before[i] + load(entry.counters[i]),
                                std::memory_order_relaxed);
        if (i == kZoneCounters / 2) fault_point("release:half_retired");
    }
    fault_point("release:retired");
    commit(entry.owner, 0);
    fault_point("release:disowned");
    commit(header.retiring, 0);
}

std::uint64_t counter_total(const ZoneView& v, std::size_t index) {
    std::uint64_t sum = load(v.header->retired[index]);
    for (unsigned slot = 0; slot < kZoneSlots; ++slot)
        if (owner_of(v, slot) != 0) sum += load(v.slots[slot].counters[index]);
    return sum;
}

void mailbox_fill(const ZoneView& v, std::uint32_t room, std::uint64_t position, SlotMask& filled) {
    const std::uint64_t cap = v.layout.letters_cap;
    for (std::uint32_t seat = v.rooms[room].seats; seat != kZoneNone; seat = v.seats[seat].next) {
        const unsigned slot = v.seats[seat].slot;
        MailboxEntry& box = v.mailboxes[slot];
        const std::uint64_t written = load(box.written);
        filled.set(slot);
        if (written - box.read.load(std::memory_order_acquire) >= cap) {
            box.overflow.store(1, std::memory_order_release);
            fault_point("mailbox:overflow");
            continue;
        }
        letters_of(v, slot)[written % cap].store(position, std::memory_order_relaxed);
        fault_point("mailbox:letter");
        box.written.store(written + 1, std::memory_order_release);
        fault_point("mailbox:written");
    }
}

SlotMask mailbox_bells(const ZoneView& v, const SlotMask& filled) {
    SlotMask bells;
    if (!filled.any()) return bells;
    std::atomic_thread_fence(std::memory_order_seq_cst);
    filled.for_each([&](unsigned slot) {
        ZoneWord& armed = v.mailboxes[slot].armed;
        if (load(armed) != 0 && armed.exchange(0, std::memory_order_acq_rel) != 0) bells.set(slot);
    });
    return bells;
}

SlotMask mailbox_unread(const ZoneView& v) {
    SlotMask unread;
    for (unsigned slot = 0; slot < kZoneSlots; ++slot)
        if (owner_of(v, slot) != 0 && has_mail(v.mailboxes[slot])) unread.set(slot);
    return unread;
}

bool mailbox_drain(const ZoneView& v, unsigned slot, std::vector<std::uint64_t>& out) {
    MailboxEntry& box = v.mailboxes[slot];
    const std::uint64_t cap = v.layout.letters_cap;
    // First the flag: what is dropped after this sets it again.
    const bool overflow = load(box.overflow) != 0 && box.overflow.exchange(0, std::memory_order_acq_rel) != 0;
    const std::uint64_t written = box.written.load(std::memory_order_acquire);
    std::uint64_t read = load(box.read);
    const ZoneWord* letters = letters_of(v, slot);
    for (; read != written; ++read) out.push_back(load(letters[read % cap]));
    box.read.store(read, std::memory_order_release);
    return overflow;
}

bool mailbox_arm(const ZoneView& v, unsigned slot) {
    MailboxEntry& box = v.mailboxes[slot];
    box.armed.store(1, std::memory_order_seq_cst);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (!has_mail(box)) return true;
    box.armed.store(0, std::memory_order_relaxed);
    return false;
}

std::uint64_t process_start(std::int32_t pid) {
    const Process process = look_at(pid);
    return process.dead ? 0 : process.start;
}

bool process_lives(std::int32_t pid, std::uint64_t start) {
    if (kill(pid, 0) != 0 && errno == ESRCH) return false;
    const Process process = look_at(pid);
    if (process.dead) return false;
    // A /proc that hides others says nothing; then the pid alone has to do.
    return process.start == 0 || start == 0 || process.start == start;
}

}  // namespace rooms::zone

// How publications get from a room to its members: at the end of a turn, one send for each, and no more in a turn
// than others can wait for.
//
// What is on its way stands in the room as a list of spreads, the oldest first. A spread divides the members: those
// before its `next` have it. Who enters is put behind every border, who leaves is taken out of the part that it stands in, so
// that nobody gets anything twice or misses it.
#include <algorithm>
#include <iterator>
#include <utility>

#include "core/hub.hpp"

namespace rooms {
namespace {

constexpr std::size_t kAhead = 4;  // rooms: by then what was prefetched is there

// So many of the frames make one batch.
std::size_t batch_size(std::span<const Payload> frames) {
    std::size_t count = 0;
    for (std::size_t octets = 0; count < frames.size(); ++count) {
        octets += frames[count].size();
        if (count != 0 && octets > Hub::kBatch) break;
    }
    return count;
}

}  // namespace

// Small rooms first, and the rest of the turn is shared by the others: none keeps another waiting that would be
// served at once. Where serving one throws, all are still dirty.
void Hub::flush() {
    std::size_t left = kTurn;
    std::size_t others = 0;
    for (std::size_t i = 0; i < dirty_.size(); ++i) {
        // Where many rooms are small, most are in no cache: first the room, then its members.
        if (i + 2 * kAhead < dirty_.size()) dirty_[i + 2 * kAhead]->prefetch();
        if (i + kAhead < dirty_.size()) __builtin_prefetch(dirty_[i + kAhead]->handles_.data());
        Room* const room = dirty_[i];
        if (room->handles_.size() > kSmall) {
            ++others;
        } else if (left != 0) {
            left -= std::min(left, serve(*room, kSmall));
        }
    }
    left = std::max(left, kTurn / 4);
    const std::size_t share = std::max(kSmall, left / std::max<std::size_t>(others, 1));
    std::size_t unserved = dirty_.size();
    for (std::size_t i = 0; i < dirty_.size(); ++i) {
        if (dirty_[i]->handles_.size() <= kSmall) continue;
        if (left == 0) unserved = std::min(unserved, i);
        if (left != 0) left -= std::min(left, serve(*dirty_[i], share));
    }
    std::rotate(dirty_.begin(), dirty_.begin() + static_cast<std::ptrdiff_t>(unserved), dirty_.end());
    std::erase_if(dirty_, [](Room* room) {
        room->dirty_ = !room->spreads_.empty() || !room->pending_.empty();
        return !room->dirty_;
    });
    if (!dirty_.empty()) transport_.flush_next_turn();
}

// Serves at most `most` members with what is oldest; returns how many.
std::size_t Hub::serve(Room& room, std::size_t most) {
    const std::span<const std::int32_t> all = room.handles_;
    if (room.spreads_.empty() && all.size() <= most) {
        const std::size_t size = batch_size(room.pending_);
        const std::span<const Payload> frames = std::span(room.pending_).first(size);
        forms_.clear();
        if (size != 0) transport_.fan_out(all, frames, forms_);
        forms_.clear();
        count(room, frames);
        room.pending_.erase(room.pending_.begin(), room.pending_.begin() + static_cast<std::ptrdiff_t>(size));
        return all.size();
    }
    if (room.spreads_.empty()) seal(room);
    if (room.spreads_.empty()) return 0;
    Room::Spread& spread = room.spreads_.front();
    const std::span<const std::int32_t> some =
        all.subspan(spread.next, std::min(most, all.size() - spread.next));
    transport_.fan_out(some, spread.frames, spread.forms);
    spread.next += some.size();
    drop_finished(room);
    return some.size();
}

// What is pending is on its way: who enters now does not get it.
void Hub::seal(Room& room) {
    while (const std::size_t size = batch_size(room.pending_)) {
        std::vector<Payload> frames;
        frames.reserve(size);
        Room::Spread& spread = room.spreads_.emplace_back();
        const auto end = room.pending_.begin() + static_cast<std::ptrdiff_t>(size);
        std::move(room.pending_.begin(), end, std::back_inserter(frames));
        room.pending_.erase(room.pending_.begin(), end);
        count(room, frames);
        spread.frames = std::move(frames);
    }
}

// This member gets what is pending or on its way, before the others.
void Hub::catch_up(Client& client, Room& room) {
    const Membership* const mine = membership(client, room);
    if (mine == nullptr) return;
    seal(room);
    for (Room::Spread& spread : room.spreads_) {
        if (mine->index < spread.next) continue;
        transport_.fan_out({&client.handle, 1}, spread.frames, spread.forms);
        swap_members(room, mine->index, static_cast<std::uint32_t>(spread.next++));
    }
    drop_finished(room);
}

void Hub::count(Room& room, std::span<const Payload> frames) {
    room.messages_ += frames.size();
    for (const Payload& frame : frames) room.bytes_ += frame.size();
}

void Hub::drop_finished(Room& room) {
    std::erase_if(room.spreads_,
                  [&](const Room::Spread& spread) { return spread.next == room.handles_.size(); });
}

}  // namespace rooms

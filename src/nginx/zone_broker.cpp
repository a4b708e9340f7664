#include "nginx/zone_broker.hpp"

#include <openssl/rand.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <utility>

#include "core/envelope.hpp"
#include "core/frame.hpp"
#include "core/hub.hpp"
#include "nginx/conf.hpp"

namespace rooms {
namespace {

constexpr std::size_t kMaxPresenceUsers = 10000;
constexpr std::size_t kAhead = 4;  // deliveries: by then the next room is in the cache
constexpr std::string_view kZoneFull = "the zone is full: raise the size in rooms_zone";

// Filled by the master before the first fork; plain data, for the module has no global constructors.
int bells[kZoneSlots];
bool bells_made = false;

// The slab header stays, because the master's force-unlock after a crash looks at its mutex; the slab
// behind it is never used, the zone lies over its pages.
struct Block {
    char* base;
    std::size_t size;
};

Block block_of(ngx_shm_zone_t* shm) {
    auto address = reinterpret_cast<std::uintptr_t>(shm->shm.addr) + sizeof(ngx_slab_pool_t);
    address = (address + 63) & ~std::uintptr_t{63};
    const auto end = reinterpret_cast<std::uintptr_t>(shm->shm.addr) + shm->shm.size;
    return {reinterpret_cast<char*>(address), end - address};
}

}  // namespace

ngx_int_t init_zone(ngx_shm_zone_t* shm, void* old) {
    if (old != nullptr) {
        shm->data = old;
        return NGX_OK;
    }
    const Block block = block_of(shm);
    shm->data = block.base;
    if (shm->shm.exists) return NGX_OK;
    std::uint64_t seed = 0;
    if (RAND_bytes(reinterpret_cast<unsigned char*>(&seed), sizeof seed) != 1) {
        ngx_log_error(NGX_LOG_EMERG, shm->shm.log, 0, "rooms: no random numbers for the zone");
        return NGX_ERROR;
    }
    const auto zone = Zone::format(block.base, block.size, seed);
    if (!zone) {
        ngx_log_error(NGX_LOG_EMERG, shm->shm.log, 0, "rooms: zone \"%V\": %s", &shm->shm.name,
                      zone.error().message.c_str());
        return NGX_ERROR;
    }
    return NGX_OK;
}

Result<Zone> open_zone(ngx_shm_zone_t* shm) {
    const Block block = block_of(shm);
    return Zone::attach(block.base, block.size);
}

ngx_int_t make_bells(ngx_log_t* log) {
    if (bells_made) return NGX_OK;
    for (unsigned slot = 0; slot < kZoneSlots; ++slot) {
        bells[slot] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        if (bells[slot] != -1) continue;
        ngx_log_error(NGX_LOG_EMERG, log, ngx_errno, "rooms: eventfd() failed");
        while (slot-- > 0) close(bells[slot]);
        return NGX_ERROR;
    }
    bells_made = true;
    return NGX_OK;
}

int bell_of(unsigned slot) { return bells[slot]; }

ZoneBroker::ZoneBroker(Zone& zone, unsigned slot, RoomSink& sink, std::function<void()> work)
    : zone_(zone), slot_(slot), sink_(sink), work_(std::move(work)) {}

void ZoneBroker::ring(const SlotMask& slots) {
    slots.for_each([this](unsigned slot) {
        if (slot == slot_) {
            work_();
            return;
        }
        const std::uint64_t one = 1;
        // EAGAIN: the counter is full, so the bell is ringing as loud as it can.
        [[maybe_unused]] const ssize_t n = write(bells[slot], &one, sizeof one);
    });
}

void ZoneBroker::count(Counter counter) {
    zone_.counter(slot_, cell(counter)).fetch_add(1, std::memory_order_relaxed);
}

void ZoneBroker::tell_full(std::string_view room) {
    if (told_full_ == ngx_time()) return;
    told_full_ = ngx_time();
    ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                  "rooms: no place for another member of \"%*s\": raise the size in rooms_zone", room.size(),
                  room.data());
}

void ZoneBroker::sweep() { ring(zone_.take_rings()); }

void ZoneBroker::publish(std::span<const PublishRequest> batch, PublishDone done) {
    std::vector<ZonePublication> publications(batch.size());
    std::vector<ZoneAnswer> answers(batch.size());
    for (std::size_t i = 0; i < batch.size(); ++i) {
        publications[i].room = batch[i].room;
        publications[i].body = batch[i].body;
        publications[i].key = batch[i].key;
        publications[i].fingerprint = batch[i].fingerprint;
        publications[i].history = batch[i].history;
    }
    SlotMask to_ring;
    zone_.publish(publications, wall_ms(), answers, to_ring);
    ring(to_ring);

    std::vector<PublishAnswer> results(batch.size());
    for (std::size_t i = 0; i < batch.size(); ++i) {
        const ZoneAnswer& answer = answers[i];
        PublishAnswer& result = results[i];
        result.position = {answer.epoch, answer.offset};
        result.subscribers = static_cast<std::uint32_t>(answer.subscribers);
        switch (answer.status) {
            case ZoneStatus::ok: result.status = PublishStatus::ok; break;
            case ZoneStatus::duplicate: result.status = PublishStatus::duplicate; break;
            case ZoneStatus::conflict: result.status = PublishStatus::conflict; break;
            case ZoneStatus::too_large:
                result.status = PublishStatus::too_large;
                result.reason = "the event is too large for the zone: raise the size in rooms_zone";
                break;
            case ZoneStatus::full_rooms:
                result.reason = "no place for another room: raise the size in rooms_zone";
                break;
            case ZoneStatus::full_ids:
                result.reason =
                    "no place for another id, all are younger than 10 minutes: raise the size in rooms_zone";
                break;
            case ZoneStatus::full_members:
            case ZoneStatus::full_users: result.reason = kZoneFull; break;
            case ZoneStatus::limit:
            case ZoneStatus::bad_name:
            case ZoneStatus::unavailable: result.reason = "the zone cannot be used: restart nginx"; break;
        }
    }
    done(results);
}

Room* ZoneBroker::room_at(std::uint32_t index) const {
    return index < rooms_.size() ? rooms_[index] : nullptr;
}

void ZoneBroker::subscribe(Room& room, std::string_view user, std::optional<Position> since,
                           SubscribeDone done) {
    const ZoneSeat seat = zone_.join(slot_, room.name, user, wall_ms());
    sweep();
    SubscribeAnswer answer;
    if (seat.status != ZoneStatus::ok) {
        answer.full = seat.status != ZoneStatus::unavailable;
        if (answer.full) tell_full(room.name);
        answer.reason = answer.full ? kZoneFull : "the zone cannot be used: restart nginx";
        done(answer);
        return;
    }
    answer.ok = true;
    std::vector<Payload> missed;
    try {
        take_seat(room, seat);
        if (since) answer.recovered = find_missed(room, *since, missed);
    } catch (const std::bad_alloc&) {
        zone_.leave(slot_, room.name, user);
        throw;
    }
    answer.missed = missed;
    done(answer);
}

void ZoneBroker::take_seat(Room& room, const ZoneSeat& seat) {
    if (room_at(seat.room_index) != &room) {
        if (rooms_.size() <= seat.room_index) rooms_.resize(seat.room_index + 1, nullptr);
        rooms_[seat.room_index] = &room;
        room.broker_index = seat.room_index;
        room.cursor = {seat.epoch, seat.offset};
    } else if (room.cursor.offset < seat.offset) {
        // The members of before get now what their mailbox would bring later, for all members of a
        // room share its cursor.
        catch_up(room);
    }
}

// All that came since, or false and nothing.
bool ZoneBroker::find_missed(const Room& room, Position since, std::vector<Payload>& missed) {
    const HistoryLimits limits = history_of(room.name);
    const ZoneHistory history =
        zone_.history(room.broker_index, since.epoch, since.offset, limits, wall_ms());
    if (!history.complete || since.offset > room.cursor.offset) return false;
    const std::size_t wanted = room.cursor.offset - since.offset;
    missed.reserve(wanted);
    for (std::size_t i = 0; i < wanted && i < history.positions.size(); ++i) {
        Payload frame = read_frame(history.positions[i]);
        if (!frame) break;
        missed.push_back(std::move(frame));
    }
    if (missed.size() == wanted) return true;
    missed.clear();
    return false;
}

void ZoneBroker::unsubscribe(Room& room, std::string_view user) noexcept {
    zone_.leave(slot_, room.name, user);
    sweep();
}

void ZoneBroker::release(Room& room) noexcept {
    if (room_at(room.broker_index) == &room) rooms_[room.broker_index] = nullptr;
}

void ZoneBroker::presence(std::string_view room, PresenceDone done) {
    const ZonePresence found = zone_.presence(room, kMaxPresenceUsers);
    PresenceAnswer answer;
    answer.ok = true;
    answer.connections = found.count;
    for (const auto& user : found.users) {
        answer.users.push_back({user.id, static_cast<std::uint32_t>(user.connections)});
    }
    done(answer);
}

namespace {

// A frame for the record; the place of its body, which is to be copied there.
char* begin_frame(Payload& frame, const ZoneRecord& record) {
    char tail[kMaxEventTail];
    const std::size_t tail_size = event_tail(tail, record.offset, record.timestamp);
    char header[kMaxServerHeader];
    const std::size_t header_size = encode_frame_header(header, Opcode::text, record.body_size + tail_size);
    frame = Payload::allocate(header_size + record.body_size + tail_size);
    char* const body = frame.data() + header_size;
    ngx_memcpy(frame.data(), header, header_size);
    ngx_memcpy(body + record.body_size, tail, tail_size);
    return body;
}

}  // namespace

// The record as a frame: the body goes from the ring into its place in the frame, copied once.
// Empty: the log has gone over it, or it was published without a body.
Payload ZoneBroker::read_frame(std::uint64_t position) {
    Payload frame;
    const auto record = zone_.read(position, [&](const ZoneRecord& head) {
        return head.body_size == 0 ? nullptr : begin_frame(frame, head);
    });
    return record ? std::move(frame) : Payload();
}

// Many rooms are in no cache; so they come while others are served.
void ZoneBroker::prefetch(std::uint64_t position) const {
    if (const Room* const room = room_at(zone_.room_hint(position))) room->prefetch();
}

void ZoneBroker::deliver(std::uint64_t position) {
    Room* room = nullptr;
    Payload frame;
    const auto record = zone_.read(position, [&](const ZoneRecord& head) -> char* {
        room = room_at(head.room_index);
        if (room == nullptr || head.epoch != room->cursor.epoch) return nullptr;
        if (head.offset != room->cursor.offset + 1 || head.body_size == 0) return nullptr;
        return begin_frame(frame, head);
    });
    if (!record) return catch_up_all();  // lapped: whose it was is not known any more
    if (room == nullptr || record->epoch != room->cursor.epoch) return;
    if (record->offset <= room->cursor.offset) return;
    if (!frame) return catch_up(*room);
    sink_.on_publication(*room, std::move(frame));
    room->cursor.offset = record->offset;
}

void ZoneBroker::catch_up(Room& room) {
    const ZoneHistory history =
        zone_.history(room.broker_index, room.cursor.epoch, room.cursor.offset, kZoneNoLimits, wall_ms());
    if (history.complete) {
        for (const std::uint64_t position : history.positions) {
            Payload frame = read_frame(position);
            if (!frame) break;
            sink_.on_publication(room, std::move(frame));
            ++room.cursor.offset;
        }
        if (room.cursor.offset >= history.position.offset) return;
    }
    const Position now = zone_.position(room.broker_index);
    count(Counter::gaps);
    sink_.on_gap(room, now, "trimmed");
    room.cursor = now;
}

void ZoneBroker::catch_up_all() {
    std::vector<std::uint32_t> indexes;
    for (std::uint32_t i = 0; i < rooms_.size(); ++i) {
        if (rooms_[i] != nullptr) indexes.push_back(i);
    }
    std::vector<Position> now(indexes.size());
    zone_.positions(indexes, now);
    for (std::size_t i = 0; i < indexes.size(); ++i) {
        Room* room = room_at(indexes[i]);
        if (room != nullptr && now[i].offset > room->cursor.offset) catch_up(*room);
    }
}

void ZoneBroker::end_turn() {
    do {
        positions_.clear();
        // What was taken out of the mailbox and not given on, for want of memory, is found by position.
        const bool behind = std::exchange(behind_, true);
        if (zone_.drain(slot_, positions_)) {
            count(Counter::mailbox_overflows);
            catch_up_all();
        } else if (behind) {
            catch_up_all();
        }
        for (std::size_t i = 0; i < positions_.size(); ++i) {
            if (i + kAhead < positions_.size()) prefetch(positions_[i + kAhead]);
            deliver(positions_[i]);
        }
        behind_ = false;
    } while (!zone_.arm(slot_));
    sweep();
}

}  // namespace rooms

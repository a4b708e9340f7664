// The broker of one host: rooms shared by its workers through the zone.
//
// Owned by the Worker. Publications come out of this worker's mailbox in the zone; each room's cursor
// tells what is new, what comes twice and what is missing, and the log is read again for what is
// missing. Other workers are woken through eventfds, one for each slot, which the master makes once.
#pragma once

#include <vector>

#include "core/broker.hpp"
#include "nginx/counters.hpp"
#include "nginx/ngx.hpp"
#include "store/zone.hpp"

namespace rooms {

// nginx's callback for the shared memory: makes the zone, or takes over the one of the old cycle.
ngx_int_t init_zone(ngx_shm_zone_t* shm, void* old);
// The zone of a mapped block. REQUIRES: init_zone has run.
[[nodiscard]] Result<Zone> open_zone(ngx_shm_zone_t* shm);

class ZoneBroker final : public Broker {
public:
    // `work` is called when the mailbox has to be looked at before this turn ends.
    ZoneBroker(Zone& zone, unsigned slot, RoomSink& sink, std::function<void()> work);

    void publish(std::span<const PublishRequest> batch, PublishDone done) override;
    void forget(std::string_view room, std::string_view key) override { zone_.forget(room, key); }
    void subscribe(Room& room, std::string_view user, std::optional<Position> since,
                   SubscribeDone done) override;
    void unsubscribe(Room& room, std::string_view user) noexcept override;
    void release(Room& room) noexcept override;
    void presence(std::string_view room, PresenceDone done) override;

    void start() override { end_turn(); }
    // Empties the mailbox into the sink and arms the bell.
    void end_turn() override;
    // Rings the bells that repairs of the zone found to be rung.
    void sweep() override;

private:
    void take_seat(Room& room, const ZoneSeat& seat);
    [[nodiscard]] bool find_missed(const Room& room, Position since, std::vector<Payload>& missed);
    [[nodiscard]] Payload read_frame(std::uint64_t position);
    void prefetch(std::uint64_t position) const;
    void deliver(std::uint64_t position);
    void catch_up(Room& room);
    void catch_up_all();
    void ring(const SlotMask& slots);
    void count(Counter counter);
    void tell_full(std::string_view room);
    [[nodiscard]] Room* room_at(std::uint32_t index) const;

    Zone& zone_;
    const unsigned slot_;
    RoomSink& sink_;
    std::function<void()> work_;
    std::vector<Room*> rooms_;              // by the zone's room index
    std::vector<std::uint64_t> positions_;  // scratch of end_turn()
    time_t told_full_ = 0;                  // the log says so once a second
    bool behind_ = false;                   // the last end_turn() did not come to its end
};

// The bells, made by the master before it forks, kept over reloads. NGX_OK or NGX_ERROR.
ngx_int_t make_bells(ngx_log_t* log);
[[nodiscard]] int bell_of(unsigned slot);

}  // namespace rooms

// All that the module has in one worker process: the zone's handle, broker, hub, codec, sockets and
// clocks. Built in init_process, destroyed in exit_process; nothing else of ours is global.
//
// It is the Hub's transport: frames go to the sockets of a room here, one send() for each.
#pragma once

#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "core/encodings.hpp"
#include "core/hub.hpp"
#include "core/session.hpp"
#include "core/wheel.hpp"
#include "nginx/alarm.hpp"
#include "nginx/connection.hpp"
#include "nginx/counters.hpp"
#include "nginx/ngx.hpp"
#include "nginx/postgres.hpp"
#include "nginx/reactor.hpp"
#include "nginx/room_lookup.hpp"
#include "store/redis_approvals.hpp"
#include "store/redis_room.hpp"
#include "store/zone.hpp"

namespace rooms {

// The module's process hooks.
ngx_int_t worker_init_module(ngx_cycle_t* cycle);
ngx_int_t worker_init_process(ngx_cycle_t* cycle);
void worker_exit_process(ngx_cycle_t* cycle);

class Worker final : public Transport, public HubMeter, private RedisMeter, private ApprovalMeter {
public:
    // The worker of this process; null in helpers, and where no location is ours.
    [[nodiscard]] static Worker* get();

    Worker(Zone zone, unsigned slot, std::uint64_t generation, const MainConf& conf, ngx_log_t* log);
    ~Worker();

    // nginx's side of construction and destruction: events, timers, the bell.
    [[nodiscard]] bool start();
    void stop();

    [[nodiscard]] Zone& zone() { return zone_; }
    [[nodiscard]] unsigned slot() const { return slot_; }
    [[nodiscard]] Broker& broker() { return *broker_; }
    [[nodiscard]] Hub& hub() { return hub_; }
    // Null: none are kept here.
    [[nodiscard]] ApprovalStore* approvals();
    [[nodiscard]] Codec& codec() { return codec_; }
    [[nodiscard]] Wheel& wheel() { return wheel_; }
    [[nodiscard]] Now now();  // and tells the hub
    [[nodiscard]] std::span<char> receive_buffer() { return {buffer_.get(), kReceiveBuffer}; }
    [[nodiscard]] bool draining() const { return draining_; }
    [[nodiscard]] std::uint64_t next_client_id();

    // The policy that a location's clients share.
    [[nodiscard]] const ClientPolicy* policy_of(const LocationConf& conf);
    // The form in which a client that negotiated deflate is sent frames.
    [[nodiscard]] Encoding encoding_of(std::uint8_t window_bits, const Compression& compression);
    [[nodiscard]] Payload encode_for(Encoding encoding, const Payload& frame) {
        return encodings_.encode(encoding, frame, codec_.deflater);
    }

    Connection* open(Connection::Opening opening);  // null where memory ran out
    void close(Connection& connection);
    [[nodiscard]] Connection* find(int fd) const;
    void touch(Connection& connection);
    // What fan-out may do with the socket has changed.
    void update_lane(const Connection& connection);
    // The end of the worker has been announced.
    void begin_drain();
    // The sockets' clock runs while there are any.
    void run_clock();

    void count(Counter counter, std::uint64_t n = 1) { add(cell(counter), n); }
    void count_close(std::uint32_t code) { add(cell_of_close(code), 1); }

    // Transport
    void send(Client& client, Payload frame) override;
    void fan_out(std::span<const std::int32_t> handles, std::span<const Payload> frames,
                 std::vector<Payload>& forms) override;
    void close(Client& client, CloseCode code, const char* reason) override;
    void token_changed(Client& client) override;
    void flush_later() override { end_turn_later(); }
    void flush_next_turn() override { end_of_turn_.next_turn(); }

    // HubMeter
    void on_error(ErrorCode code) override { add(cell_of_error(code), 1); }
    void on_members(std::int64_t change) override {
        add(cell(Counter::members), static_cast<std::uint64_t>(change));
    }
    void on_rooms(std::int64_t change) override {
        add(cell(Counter::rooms), static_cast<std::uint64_t>(change));
    }

private:
    static constexpr std::size_t kReceiveBuffer = 64 * 1024;

    [[nodiscard]] std::unique_ptr<Broker> make_broker(const MainConf& conf);
    // RedisMeter
    void on_redis(RedisCount what, std::string_view room) override;
    // ApprovalMeter
    void on_outbox_published(std::uint64_t events) override { count(Counter::outbox_published, events); }
    void on_outbox_refused() override { count(Counter::outbox_refused); }
    void on_approval_told(ApprovalStatus status, std::int64_t late_ms) override;
    void on_sweep(std::uint64_t took_ms) override;
    void on_report(const ApprovalReport& report) override;

    [[nodiscard]] std::unique_ptr<Postgres> make_postgres(const MainConf& conf);
    [[nodiscard]] std::unique_ptr<RedisApprovals> make_redis_approvals(const MainConf& conf);
    void set(Counter gauge, std::uint64_t value);
    void end_turn_later();
    void end_turn();
    void tick();
    void sweep();
    // The counter's own slot is written by nobody else: no locked instruction is needed.
    void add(std::size_t index, std::uint64_t n) {
        auto& counter = zone_.counter(slot_, index);
        counter.store(counter.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
    }

    Zone zone_;
    const unsigned slot_;
    const std::uint64_t generation_;
    ngx_log_t* log_;
    NginxReactor reactor_;
    std::unique_ptr<Broker> broker_;
    Hub hub_;
    std::unique_ptr<Postgres> postgres_;               // null: there is no database
    std::unique_ptr<RedisApprovals> redis_approvals_;  // null: they are not kept there; on broker_'s links
    Codec codec_;
    Wheel wheel_;
    std::unique_ptr<char[]> buffer_;
    std::vector<std::unique_ptr<Connection>> connections_;  // by descriptor
    std::vector<std::uint8_t> lanes_;                       // by descriptor: kDirect | encoding
    std::vector<int> touched_;
    Encodings encodings_;
    std::unordered_map<const LocationConf*, std::unique_ptr<ClientPolicy>> policies_;
    std::unordered_map<const LocationConf*, std::unique_ptr<RoomLookup>> room_lookups_;
    const RoomRules no_rules_;  // of a location without rooms_allow: closed
    std::size_t connection_count_ = 0;
    std::vector<std::uint64_t> client_ids_;  // random, of the next to come
    std::uint64_t clients_ = 0;
    Alarm end_of_turn_{this, [](void* worker) noexcept { static_cast<Worker*>(worker)->end_turn(); }};
    Alarm clock_{this, [](void* worker) noexcept { static_cast<Worker*>(worker)->tick(); }};
    Alarm sweeper_{this, [](void* worker) noexcept { static_cast<Worker*>(worker)->sweep(); }};
    ngx_connection_t* bell_ = nullptr;
    bool draining_ = false;
};

}  // namespace rooms

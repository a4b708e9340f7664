#include "nginx/worker.hpp"

#include <openssl/rand.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <exception>

#include "nginx/guard.hpp"
#include "nginx/request_memory.hpp"
#include "nginx/zone_broker.hpp"
#include "store/redis_broker.hpp"

namespace rooms {
namespace {

constinit Worker* the_worker = nullptr;
// Counted by the master at each configuration; workers inherit the number of theirs.
constinit std::uint64_t generation = 0;

constexpr ngx_msec_t kSweepEvery = 2000;
constexpr ngx_msec_t kRetry = 50;  // after memory was short
constexpr std::uint8_t kDirect = 0x80;
constexpr std::uint8_t kEncodingBits = 0x3f;
constexpr std::size_t kMaxDrainingGenerations = 2;

MainConf* main_conf_of(ngx_cycle_t* cycle) {
    if (ngx_get_conf(cycle->conf_ctx, ngx_http_module) == nullptr) return nullptr;
    return static_cast<MainConf*>(ngx_http_cycle_get_module_main_conf(cycle, ngx_http_rooms_module));
}

void on_bell(ngx_event_t* event) {
    auto* c = static_cast<ngx_connection_t*>(event->data);
    // With edges each ring is an event of its own; otherwise the count has to be taken out.
    if (!(ngx_event_flags & NGX_USE_CLEAR_EVENT)) {
        std::uint64_t rings = 0;
        [[maybe_unused]] const ssize_t n = read(c->fd, &rings, sizeof rings);
    }
    if (the_worker != nullptr) the_worker->flush_later();
}

// What a thread notes of its exceptions is made when one is thrown for the first time, as all that is local to a thread in
// a library that was loaded later. Where there is no memory for it the dynamic linker ends the process, so: now.
void prepare_to_throw() { [[maybe_unused]] const volatile int none = std::uncaught_exceptions(); }

}  // namespace

ngx_int_t worker_init_module(ngx_cycle_t* cycle) {
    const MainConf* conf = main_conf_of(cycle);
    if (conf == nullptr || !conf->used) return NGX_OK;
    ++generation;
    fit_request_memory(cycle);
    return make_bells(cycle->log);
}

ngx_int_t worker_init_process(ngx_cycle_t* cycle) {
    // The cache manager and loader run this as well, and say that they are worker 0.
    if (ngx_process != NGX_PROCESS_WORKER && ngx_process != NGX_PROCESS_SINGLE) return NGX_OK;
    const MainConf* conf = main_conf_of(cycle);
    if (conf == nullptr || !conf->used || the_worker != nullptr) return NGX_OK;
    prepare_to_throw();
    return guarded(cycle->log, ngx_int_t{NGX_ERROR}, [&]() -> ngx_int_t {
        auto zone = open_zone(conf->zone);
        if (!zone) {
            ngx_log_error(NGX_LOG_EMERG, cycle->log, 0, "rooms: zone \"%V\": %s", &conf->zone->shm.name,
                          zone.error().message.c_str());
            return NGX_ERROR;
        }
        zone->reclaim_dead();
        const auto slot = zone->claim(ngx_pid, Zone::process_start(ngx_pid));
        if (!slot) {
            // To fail here would make nginx do without this worker for good; so it serves all but rooms.
            ngx_log_error(NGX_LOG_ERR, cycle->log, 0,
                          "rooms: %uz processes share the zone already, those that take leave included: "
                          "this one answers 503",
                          kZoneSlots);
            return NGX_OK;
        }
        auto worker = std::make_unique<Worker>(std::move(*zone), *slot, generation, *conf, cycle->log);
        if (!worker->start()) return NGX_ERROR;
        the_worker = worker.release();
        return NGX_OK;
    });
}

void worker_exit_process(ngx_cycle_t*) {
    if (the_worker == nullptr) return;
    (void)guarded(ngx_cycle->log, false, [] {
        the_worker->stop();
        return true;
    });
    delete std::exchange(the_worker, nullptr);
}

Worker* Worker::get() { return the_worker; }

Worker::Worker(Zone zone, unsigned slot, std::uint64_t generation_number, const MainConf& conf,
               ngx_log_t* log)
    : zone_(std::move(zone)),
      slot_(slot),
      generation_(generation_number),
      log_(log),
      reactor_(conf.redis_ssl, [this] { (void)now(); }),
      broker_(make_broker(conf)),
      hub_(*broker_, *this, *this),
      postgres_(make_postgres(conf)),
      redis_approvals_(make_redis_approvals(conf)),
      buffer_(std::make_unique_for_overwrite<char[]>(kReceiveBuffer)) {}

Worker::~Worker() = default;

// The broker gets the hub's address only: it is not called before start().
std::unique_ptr<Broker> Worker::make_broker(const MainConf& conf) {
    if (conf.redis == nullptr) {
        return std::make_unique<ZoneBroker>(zone_, slot_, hub_, [this] { end_turn_later(); });
    }
    const auto on_state = [this](std::uint64_t heard_ms, std::uint64_t refused_ms) {
        set(Counter::redis_heard, heard_ms);
        set(Counter::redis_refused, refused_ms);
    };
    return std::make_unique<RedisBroker>(
        RedisBroker::Parts{reactor_, zone_, slot_, hub_, *this, on_state, history_of}, *conf.redis);
}

std::unique_ptr<Postgres> Worker::make_postgres(const MainConf& conf) {
    if (conf.postgres == nullptr) return nullptr;
    const auto on_up = [this](bool up) {
        set(Counter::postgres_up, up ? 1 : 0);
        if (!up) count(Counter::postgres_losses);
    };
    return std::make_unique<Postgres>(Postgres::Parts{reactor_, *broker_, *this, on_up}, conf,
                                      ngx_worker == 0);
}

std::unique_ptr<RedisApprovals> Worker::make_redis_approvals(const MainConf& conf) {
    if (!conf.approvals || conf.approvals->store != ApprovalsConf::Store::redis) return nullptr;
    // The configuration was refused without rooms_redis, and with it the broker is this one.
    return static_cast<RedisBroker&>(*broker_).approvals(conf.approvals->times, *this, ngx_worker == 0);
}

ApprovalStore* Worker::approvals() {
    if (redis_approvals_ != nullptr) return redis_approvals_.get();
    return postgres_ != nullptr ? postgres_->approvals() : nullptr;
}

void Worker::set(Counter gauge, std::uint64_t value) {
    zone_.counter(slot_, cell(gauge)).store(value, std::memory_order_relaxed);
}

void Worker::on_approval_told(ApprovalStatus status, std::int64_t late_ms) {
    add(cell_of_told(status), 1);
    if (status != ApprovalStatus::timeout) return;
    const auto late = static_cast<std::uint64_t>(std::max<std::int64_t>(0, late_ms));
    add(cell_of_lateness(late), 1);
    count(Counter::lateness_ms, late);
}

void Worker::on_sweep(std::uint64_t took_ms) {
    count(Counter::sweeps);
    count(Counter::sweep_ms, took_ms);
}

void Worker::on_report(const ApprovalReport& report) {
    set(Counter::approvals_pending, report.pending);
    set(Counter::outbox_depth, report.outbox_depth);
    set(Counter::outbox_age_ms, report.outbox_age_ms);
}

void Worker::on_redis(RedisCount what, std::string_view) {
    switch (what) {
        case RedisCount::foreign: return count(Counter::redis_foreign);
        case RedisCount::holes: return count(Counter::redis_holes);
        case RedisCount::gaps: return count(Counter::gaps);
        case RedisCount::resets: count(Counter::redis_resets); return count(Counter::gaps);
        case RedisCount::losses: return count(Counter::redis_losses);
        case RedisCount::bad_events: count(Counter::redis_bad_events); return count(Counter::gaps);
    }
}

bool Worker::start() {
    bell_ = ngx_get_connection(bell_of(slot_), log_);
    if (bell_ == nullptr) return false;
    bell_->read->handler = on_bell;
    bell_->read->log = log_;
    bell_->write->log = log_;
    ngx_uint_t flags = NGX_LEVEL_EVENT;
    if (ngx_event_flags & NGX_USE_CLEAR_EVENT) flags = NGX_CLEAR_EVENT;
    if (ngx_add_event(bell_->read, NGX_READ_EVENT, flags) != NGX_OK) return false;

    zone_.counter(slot_, cell(Counter::generation)).store(generation_);
    sweeper_.after(kSweepEvery);
    broker_->start();
    if (postgres_ != nullptr) postgres_->start();
    if (redis_approvals_ != nullptr) redis_approvals_->start();
    return true;
}

void Worker::stop() {
    // Sockets left by a TERM, or by a QUIT with a TERM behind it: each has its access line to be
    // written, and nginx calls one that is still open after a QUIT a leak. Nobody is told anything.
    for (auto& connection : connections_) {
        if (connection == nullptr) continue;
        connection->fail();
        connection->destroy();
    }
    for (Alarm* alarm : {&end_of_turn_, &clock_, &sweeper_}) alarm->stop();
    if (bell_ != nullptr) {
        ngx_del_event(bell_->read, NGX_READ_EVENT, 0);
        if (bell_->read->posted) {  // the macro is two statements
            ngx_delete_posted_event(bell_->read);
        }
        bell_->fd = static_cast<ngx_socket_t>(-1);  // the bell itself belongs to all
        ngx_free_connection(bell_);
        bell_ = nullptr;
    }
    room_lookups_.clear();
    postgres_.reset();
    redis_approvals_.reset();
    zone_.release(slot_);
    broker_->sweep();
}

Now Worker::now() {
    const Now now{wall_ms(), ngx_current_msec};
    hub_.set_now(now);
    return now;
}

std::uint64_t Worker::next_client_id() {
    // Unique among the workers of a host and not to be guessed from a neighbour's. Drawn 64 at a time, which
    // costs what one does: 0.8 µs.
    if (client_ids_.empty()) {
        client_ids_.resize(64);
        auto* bytes = reinterpret_cast<unsigned char*>(client_ids_.data());
        if (RAND_bytes(bytes, static_cast<int>(client_ids_.size() * sizeof(std::uint64_t))) != 1) {
            client_ids_ = {zone_.hash({reinterpret_cast<const char*>(&clients_), sizeof clients_})};
        }
    }
    const std::uint64_t random = client_ids_.back();
    client_ids_.pop_back();
    ++clients_;
    return random | 1;
}

const ClientPolicy* Worker::policy_of(const LocationConf& conf) {
    auto& policy = policies_[&conf];
    if (!policy) {
        policy = std::make_unique<ClientPolicy>();
        const RoomRules& rules = conf.rules != nullptr ? *conf.rules : no_rules_;
        policy->rules = &rules.allow;
        policy->joins = &rules.joins;
        policy->claim_paths = &rules.claim_paths;
        if (std::any_of(rules.lookups.begin(), rules.lookups.end(),
                        [](const auto& each) { return each != nullptr; })) {
            auto& lookup = room_lookups_[&conf];
            lookup = std::make_unique<RoomLookup>(reactor_, postgres_ ? &postgres_->link() : nullptr,
                                                  conf.server, rules);
            policy->lookup = lookup.get();
        }
        policy->keys = conf.keys;
        policy->token = &conf.token;
        policy->max_rooms = static_cast<std::uint32_t>(conf.max_rooms);
        policy->rate = conf.rate;
        policy->heartbeat_ms = static_cast<std::uint32_t>(conf.heartbeat.interval);
    }
    return policy.get();
}

Encoding Worker::encoding_of(std::uint8_t window_bits, const Compression& compression) {
    return encodings_.of(window_bits, static_cast<int>(compression.level), compression.min);
}

Connection* Worker::open(Connection::Opening opening) {
    const auto fd = static_cast<std::size_t>(opening.request->connection->fd);
    if (connections_.size() <= fd) {
        const std::size_t size = std::max(fd + 1, connections_.size() * 2);
        connections_.resize(size);
        lanes_.resize(size);
        touched_.reserve(size);
    }
    connections_[fd] = std::make_unique<Connection>(*this, std::move(opening));
    ++connection_count_;
    count(Counter::connections);
    count(Counter::accepted);
    update_lane(*connections_[fd]);
    run_clock();
    return connections_[fd].get();
}

void Worker::close(Connection& connection) {
    const auto fd = static_cast<std::size_t>(connection.fd());
    lanes_[fd] = 0;
    --connection_count_;
    add(cell(Counter::connections), static_cast<std::uint64_t>(-1));
    connections_[fd].reset();
    if (connection_count_ == 0) clock_.stop();
}

Connection* Worker::find(int fd) const {
    const auto index = static_cast<std::size_t>(fd);
    return index < connections_.size() ? connections_[index].get() : nullptr;
}

void Worker::touch(Connection& connection) {
    if (connection.touched_) return;
    connection.touched_ = true;
    touched_.push_back(connection.fd());
    end_turn_later();
}

void Worker::update_lane(const Connection& connection) {
    const auto fd = static_cast<std::size_t>(connection.fd());
    lanes_[fd] = static_cast<std::uint8_t>((connection.direct() ? kDirect : 0) | connection.client_.encoding);
}

void Worker::run_clock() {
    if (!clock_.is_set()) clock_.after(Wheel::kTick);
}

void Worker::tick() {
    (void)now();
    wheel_.expire(ngx_current_msec, [](WheelNode& node) { Connection::of(node).on_deadline(); });
    if (connection_count_ != 0) run_clock();
}

void Worker::sweep() {
    guarded(log_, 0, [this] {
        zone_.reclaim_dead();
        broker_->sweep();
        return 0;
    });
    // A publisher may have died between its commit and our bell.
    end_turn_later();
    if (!ngx_exiting) sweeper_.after(kSweepEvery);
}

void Worker::begin_drain() {
    if (draining_) return;
    draining_ = true;
    zone_.counter(slot_, cell(Counter::draining)).store(1);
    if (postgres_ != nullptr) postgres_->begin_drain();
    if (redis_approvals_ != nullptr) redis_approvals_->begin_drain();
    on_report({});
    std::vector<std::uint64_t> generations;
    for (const ZoneSlotOwner& owner : zone_.owners()) {
        if (owner.slot == slot_ || zone_.counter(owner.slot, cell(Counter::draining)).load() == 0) continue;
        const std::uint64_t other = zone_.counter(owner.slot, cell(Counter::generation)).load();
        if (other == generation_) continue;
        if (std::find(generations.begin(), generations.end(), other) == generations.end()) {
            generations.push_back(other);
        }
    }
    const bool crowded = generations.size() >= kMaxDrainingGenerations;
    // The clock must hold the process until every socket has been told.
    clock_.hold_worker();
    (void)now();
    for (std::size_t fd = 0; fd < connections_.size(); ++fd) {
        Connection* connection = connections_[fd].get();
        if (connection == nullptr) continue;
        connection->drain(crowded ? 0 : connection->conf_->drain);
    }
}

void Worker::end_turn_later() { end_of_turn_.at_end_of_turn(); }

void Worker::end_turn() {
    const auto done = [this](auto part) {
        return guarded(log_, false, [&] {
            part();
            return true;
        });
    };
    (void)now();
    const bool heard = done([this] { broker_->end_turn(); });
    const bool flushed = done([this] { hub_.flush(); });
    if ((!heard || !flushed) && !end_of_turn_.is_set()) end_of_turn_.after(kRetry);
    // Settling one connection may touch another: its rooms are left, its answers queued.
    for (std::size_t i = 0; i < touched_.size(); ++i) {
        Connection* connection = find(touched_[i]);
        if (connection == nullptr || !connection->touched_) continue;
        connection->touched_ = false;
        connection->settle();
    }
    touched_.clear();
}

void Worker::send(Client& client, Payload frame) {
    if (Connection* connection = find(client.handle)) connection->reply(std::move(frame));
}

void Worker::close(Client& client, CloseCode code, const char* reason) {
    if (Connection* connection = find(client.handle)) connection->close_later(code, reason);
}

void Worker::token_changed(Client& client) {
    if (Connection* connection = find(client.handle)) connection->on_token_changed();
}

// `forms` by encoding; the others than plain are made only where somebody reads them.
void Worker::fan_out(std::span<const std::int32_t> handles, std::span<const Payload> frames,
                     std::vector<Payload>& forms) {
    if (forms.empty()) forms.push_back(join(frames));
    const auto form = [&](Encoding encoding) -> const Payload& {
        if (encoding == 0) return forms[0];
        try {
            if (forms.size() <= encoding) forms.resize(encodings_.count() + 1);
            Payload& made = forms[encoding];
            if (!made) made = encodings_.encode(encoding, frames, codec_.deflater);
            return made;
        } catch (const std::bad_alloc&) {
            return forms[0];  // which everybody understands
        }
    };

    std::uint64_t bytes = 0;
    for (const std::int32_t fd : handles) {
        const std::uint8_t lane = lanes_[static_cast<std::size_t>(fd)];
        const Payload& data = form(lane & kEncodingBits);
        bytes += data.size();
        if (!(lane & kDirect)) {
            connections_[static_cast<std::size_t>(fd)]->queue(data, 0);
            continue;
        }
        const std::string_view view = data.view();
        const ssize_t sent = ::send(fd, view.data(), view.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent == static_cast<ssize_t>(view.size())) continue;
        Connection& connection = *connections_[static_cast<std::size_t>(fd)];
        if (sent < 0 && ngx_socket_errno != NGX_EAGAIN && ngx_socket_errno != NGX_EINTR) {
            connection.fail();
            touch(connection);
            continue;
        }
        connection.queue(data, sent < 0 ? 0 : static_cast<std::size_t>(sent));
    }
    count(Counter::delivered, handles.size() * frames.size());
    count(Counter::bytes_out, bytes);
}

}  // namespace rooms

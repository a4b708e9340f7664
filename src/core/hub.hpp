// The hub: all rooms and clients of this process.
//
// Answers what browsers ask, asks the broker, and brings each publication to the members of its room:
// publications wait in the room until flush(), so that what arrives together leaves together; a room with
// very many members is served over several turns. Owns the rooms, not the clients. Never sends or closes by
// itself: the Transport does, and closes only later.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/broker.hpp"
#include "core/client.hpp"
#include "core/close_code.hpp"
#include "core/command.hpp"
#include "core/lookup.hpp"
#include "core/payload.hpp"

namespace rooms {

// A room with members in this process.
class Room {
public:
    struct Member {
        Client* client = nullptr;
        std::uint64_t messages_before = 0;  // the room's totals when it joined
        std::uint64_t bytes_before = 0;
    };

    explicit Room(std::string_view room_name) : name(room_name) {}

    const std::string name;
    Position cursor;                 // up to here everything has been given to the members (broker's)
    std::uint32_t broker_index = 0;  // the broker's own name for the room

    [[nodiscard]] std::span<const Member> members() const { return members_; }
    // It will be given a publication soon: a hint to the processor.
    void prefetch() const {
        __builtin_prefetch(&cursor);
        __builtin_prefetch(&pending_);
        __builtin_prefetch(&dirty_);
    }

private:
    friend class Hub;
    // Parallel arrays: fan-out walks only the first.
    std::vector<std::int32_t> handles_;
    std::vector<Member> members_;
    std::vector<Payload> pending_;  // publications of this turn
    // What is on its way to the members. Those before `next` have it.
    struct Spread {
        std::vector<Payload> frames;
        std::vector<Payload> forms;
        std::size_t next = 0;
    };
    std::vector<Spread> spreads_;  // the oldest first: nobody has a later one who has not got an earlier one
    bool dirty_ = false;           // the hub will look after it
    std::uint64_t messages_ = 0;   // given to each member so far, by what is on its way too
    std::uint64_t bytes_ = 0;
    std::uint32_t waiting_ = 0;  // subscribes that the broker has not answered
};

// How frames leave and connections end. Implemented by the glue.
class Transport {
public:
    virtual void send(Client& client, Payload frame) = 0;
    // One send per member: all frames, in order. `forms` is the transport's: what it makes of these frames, kept for
    // further members. Throws std::bad_alloc before the first send, and then only where `forms` was empty.
    virtual void fan_out(std::span<const std::int32_t> handles, std::span<const Payload> frames,
                         std::vector<Payload>& forms) = 0;
    // After what is queued; the client stays registered until the glue takes it out. `reason` is static.
    virtual void close(Client& client, CloseCode code, const char* reason) = 0;
    // The token of the client is another one: its deadlines have changed.
    virtual void token_changed(Client& client) = 0;
    // Publications wait for flush(): call it at the end of this turn.
    virtual void flush_later() = 0;
    // There is more to be flushed than this turn should do.
    virtual void flush_next_turn() = 0;

protected:
    ~Transport() = default;
};

// What happened, for the status page. Plain counts of this process.
class HubMeter {
public:
    virtual void on_error(ErrorCode code) = 0;
    virtual void on_members(std::int64_t change) = 0;
    virtual void on_rooms(std::int64_t change) = 0;

protected:
    ~HubMeter() = default;
};

// The clocks of one turn.
struct Now {
    std::int64_t wall_ms = 0;     // since 1970; for tokens and timestamps
    std::uint64_t steady_ms = 0;  // never jumps; for rates
};

class Hub final : public RoomSink {
public:
    // So many deliveries a turn, about 5 ms: others want to be accepted, read and answered meanwhile.
    static constexpr std::size_t kTurn = 1024;
    // Rooms of at most so many members are served first, and whole.
    static constexpr std::size_t kSmall = 64;
    // So many octets to a socket in a turn, but at least one frame: a quarter of what may wait for a slow one.
    static constexpr std::size_t kBatch = 256 * 1024;

    Hub(Broker& broker, Transport& transport, HubMeter& meter);
    ~Hub();
    Hub(const Hub&) = delete;
    Hub& operator=(const Hub&) = delete;

    void set_now(Now now) { now_ = now; }

    // The connection is open: `connected`, then the rooms that the location joins by itself.
    // REQUIRES handle >= 0 and free.
    void add(Client& client);
    // Whether the client's rate allows one more message. If not it has been told, and who goes on is closed.
    [[nodiscard]] bool admit(Client& client);
    // One text message of the client.
    void on_message(Client& client, std::string_view text);
    // The client goes: out of every room, and no answer of the broker will find it.
    void remove(Client& client);
    // The token ends soon.
    void warn_expiry(Client& client);

    // Gives the publications of this turn to their members; what is too much for a turn goes on in the next.
    void flush();

    void on_publication(Room& room, Payload frame) override;
    void on_gap(Room& room, Position now, std::string_view reason) override;

    [[nodiscard]] std::size_t room_count() const { return rooms_.size(); }
    // What the client has been sent, memberships that still stand included.
    [[nodiscard]] std::uint64_t messages_out(const Client& client) const;
    [[nodiscard]] std::uint64_t bytes_out(const Client& client) const;

private:
    struct Totals {
        std::uint64_t messages = 0;
        std::uint64_t bytes = 0;
    };
    struct Waiting;  // a subscribe on its way through look-up and broker
    class Hold;      // keeps a room while somebody may enter it

    void subscribe(Client& client, const Subscribe& command, std::string_view ref);
    void unsubscribe(Client& client, std::string_view room, std::string_view ref);
    void authenticate(Client& client, std::string_view token, std::string_view ref);
    void presence(Client& client, std::string_view room, std::string_view ref);
    void ask(const std::shared_ptr<Waiting>& waiting, const Client& client,
             const RuleSet::Parameters& parameters, const Verdict& verdict);
    void on_answer(const std::shared_ptr<Waiting>& waiting, Lookup::Answer answer);
    void go_on(const std::shared_ptr<Waiting>& waiting);
    void on_subscribed(Waiting& waiting, const SubscribeAnswer& answer);
    void greet(Client& client, Room& target, const Waiting& waiting, const SubscribeAnswer& answer);
    template <typename Tell>
    void tell(Client& client, Tell&& what);
    template <typename Tell>
    void fail(Waiting& waiting, Tell&& why);
    void fail(Waiting& waiting, ErrorCode code, std::string_view message);
    std::shared_ptr<Waiting> take(Waiting& waiting);
    void show_presence(Client& client, std::string_view room, std::string_view ref);
    void recheck(Client& client, Room& room);
    void expel(Client& client, Room& room, Lookup::Answer answer);
    void refuse_entry(Client& client, Lookup::Answer answer, std::string_view room, std::string_view ref);
    [[nodiscard]] std::size_t rooms_of(Client& client, const Room& but);
    template <typename Visit>
    void for_each_waiting(const Client& client, Visit&& visit);

    [[nodiscard]] Membership* membership(Client& client, const Room& room) const;
    [[nodiscard]] Client* find(std::int32_t handle, std::uint64_t id) const;
    Room& room(std::string_view name);
    void enter(Client& client, Room& room);
    void leave(Client& client, Room& room);
    void release_if_empty(Room& room);
    void seal(Room& room);
    void catch_up(Client& client, Room& room);
    std::size_t serve(Room& room, std::size_t most);
    void swap_members(Room& room, std::uint32_t one, std::uint32_t other);
    void count(Room& room, std::span<const Payload> frames);
    static void drop_finished(Room& room);
    [[nodiscard]] static Totals given(const Room& room, std::uint32_t index);
    void reply(Client& client, std::string_view json);
    void refuse(Client& client, ErrorCode code, std::string_view room, std::string_view message,
                bool retryable, std::string_view ref);

    Broker& broker_;
    Transport& transport_;
    HubMeter& meter_;
    Now now_;
    std::unordered_map<std::string_view, std::unique_ptr<Room>> rooms_;  // keys are the rooms' names
    std::vector<Client*> clients_;                                       // by handle
    std::vector<Room*> dirty_;                                           // those that say so
    std::vector<Payload> forms_;                                         // scratch of serve()
    std::uint64_t subscribes_ = 0;
    std::uint64_t questions_ = 0;
    std::vector<std::shared_ptr<Waiting>> waiting_;
};

}  // namespace rooms

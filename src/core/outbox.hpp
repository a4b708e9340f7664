// A connection's send queue: frames that its socket has not taken yet, in order.
//
// Costs one pointer while it is empty, as it is for nearly every socket nearly always. Frames are
// shared payloads; only the first can have been sent in part, and it is finished before any other.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "core/payload.hpp"

namespace rooms {

class Outbox {
public:
    // `offset` bytes of the payload have been sent already. REQUIRES 0 where the queue is not empty.
    void push(Payload payload, std::size_t offset = 0);

    [[nodiscard]] bool empty() const { return queue_ == nullptr; }
    // Bytes still to be sent.
    [[nodiscard]] std::size_t bytes() const { return queue_ ? queue_->bytes : 0; }

    // Fills `pieces` with the first bytes to send and returns how many it used. The views live until
    // the next advance, push or clear.
    [[nodiscard]] std::size_t peek(std::span<std::string_view> pieces) const;
    // The socket took `sent` bytes. REQUIRES sent <= bytes().
    void advance(std::size_t sent);
    // Drops whole frames that have not been begun; what is begun must be finished. With
    // `first_has_begun` the first one stays even where no byte of it is known to have gone.
    void drop_unbegun(bool first_has_begun = false);
    void clear() { queue_.reset(); }

private:
    struct Queue {
        std::vector<Payload> frames;
        std::size_t first = 0;   // index of the first frame that is not sent whole
        std::size_t offset = 0;  // sent bytes of that frame
        std::size_t bytes = 0;
    };
    std::unique_ptr<Queue> queue_;
};

}  // namespace rooms

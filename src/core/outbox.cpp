#include "core/outbox.hpp"

namespace rooms {

void Outbox::push(Payload payload, std::size_t offset) {
    const std::size_t left = payload.size() - offset;
    if (left == 0) return;
    if (!queue_) {
        auto queue = std::make_unique<Queue>();
        queue->frames.push_back(std::move(payload));
        queue->offset = offset;
        queue->bytes = left;
        queue_ = std::move(queue);
        return;
    }
    queue_->frames.push_back(std::move(payload));
    queue_->bytes += left;
}

std::size_t Outbox::peek(std::span<std::string_view> pieces) const {
    if (!queue_) return 0;
    std::size_t used = 0;
    std::size_t offset = queue_->offset;
    for (std::size_t i = queue_->first; i < queue_->frames.size() && used < pieces.size(); ++i) {
        pieces[used++] = queue_->frames[i].view().substr(offset);
        offset = 0;
    }
    return used;
}

void Outbox::advance(std::size_t sent) {
    if (!queue_) return;
    queue_->bytes -= sent;
    while (sent > 0) {
        Payload& frame = queue_->frames[queue_->first];
        const std::size_t left = frame.size() - queue_->offset;
        if (sent < left) {
            queue_->offset += sent;
            break;
        }
        sent -= left;
        frame = Payload();
        queue_->offset = 0;
        ++queue_->first;
    }
    if (queue_->bytes == 0) {
        queue_.reset();
        return;
    }
    // A queue that never empties must not keep the slots of all that it has sent.
    if (queue_->first >= 64 && queue_->first * 2 >= queue_->frames.size()) {
        queue_->frames.erase(queue_->frames.begin(),
                             queue_->frames.begin() + static_cast<std::ptrdiff_t>(queue_->first));
        queue_->first = 0;
    }
}

void Outbox::drop_unbegun(bool first_has_begun) {
    if (!queue_) return;
    if (queue_->offset == 0 && !first_has_begun) {
        queue_.reset();
        return;
    }
    queue_->frames.resize(queue_->first + 1);
    queue_->bytes = queue_->frames[queue_->first].size() - queue_->offset;
}

}  // namespace rooms

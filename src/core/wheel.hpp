// Deadlines of many connections without a timer for each: a hashed wheel of time slots.
//
// A node waits in the slot of its deadline. Deadlines beyond one turn of the wheel are met again at
// each turn, which is cheap and rare. One owner, one thread; a node unlinks itself when destroyed.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace rooms {

// Milliseconds on a clock that never jumps.
using Monotonic = std::uint64_t;

class WheelNode {
public:
    WheelNode() = default;
    WheelNode(const WheelNode&) = delete;
    WheelNode& operator=(const WheelNode&) = delete;
    ~WheelNode() { unlink(); }

    [[nodiscard]] bool linked() const { return next_ != nullptr; }
    [[nodiscard]] Monotonic deadline() const { return deadline_; }
    void unlink() {
        if (!next_) return;
        next_->previous_ = previous_;
        previous_->next_ = next_;
        next_ = previous_ = nullptr;
    }

private:
    friend class Wheel;
    WheelNode* next_ = nullptr;
    WheelNode* previous_ = nullptr;
    Monotonic deadline_ = 0;
};

class Wheel {
public:
    static constexpr std::size_t kSlots = 1024;
    static constexpr Monotonic kTick = 64;  // milliseconds a slot

    Wheel() {
        for (auto& slot : slots_) slot.next_ = slot.previous_ = &slot;
    }
    ~Wheel() {
        for (auto& slot : slots_) {
            while (slot.next_ != &slot) slot.next_->unlink();
            slot.next_ = slot.previous_ = nullptr;
        }
    }
    Wheel(const Wheel&) = delete;
    Wheel& operator=(const Wheel&) = delete;

    // (Re)places the node; it becomes due in the first expire() at or after `deadline`.
    void place(WheelNode& node, Monotonic deadline) {
        node.unlink();
        node.deadline_ = deadline;
        // A deadline that is past already goes where expire() will look next.
        const Monotonic tick = deadline / kTick < next_tick_ ? next_tick_ : deadline / kTick;
        WheelNode& slot = slots_[tick % kSlots];
        node.previous_ = slot.previous_;
        node.next_ = &slot;
        slot.previous_->next_ = &node;
        slot.previous_ = &node;
    }

    // Unlinks every node whose deadline has come and hands it to `due`, which may place it again.
    template <typename Due>
    void expire(Monotonic now, Due&& due) {
        const Monotonic last = now / kTick;
        Monotonic first = next_tick_;
        if (first == 0 || last - first >= kSlots) first = last >= kSlots ? last - kSlots + 1 : 0;
        // The last slot's time is not over: it will be looked at again.
        next_tick_ = last;
        for (Monotonic tick = first; tick <= last; ++tick) expire_slot(slots_[tick % kSlots], now, due);
    }

private:
    template <typename Due>
    void expire_slot(WheelNode& slot, Monotonic now, Due& due) {
        // Those that are due move to a list of their own first: `due` may place nodes in this slot.
        WheelNode ready;
        ready.next_ = ready.previous_ = &ready;
        for (WheelNode* node = slot.next_; node != &slot;) {
            WheelNode* next = node->next_;
            if (node->deadline_ <= now) {
                node->unlink();
                node->previous_ = ready.previous_;
                node->next_ = &ready;
                ready.previous_->next_ = node;
                ready.previous_ = node;
            }
            node = next;
        }
        while (ready.next_ != &ready) {
            WheelNode* node = ready.next_;
            node->unlink();
            due(*node);
        }
        ready.next_ = ready.previous_ = nullptr;
    }

    std::array<WheelNode, kSlots> slots_;
    Monotonic next_tick_ = 0;
};

}  // namespace rooms

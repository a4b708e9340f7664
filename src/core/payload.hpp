// Immutable bytes ready for the wire, shared by every socket that still has to send them.
//
// One allocation holds the count and the bytes. The count is not atomic: a Payload never leaves
// the process and the thread that made it. Written once by its maker, before it is shared.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <string_view>
#include <utility>

namespace rooms {

class Payload {
public:
    Payload() = default;
    Payload(const Payload& other) : block_(other.block_) {
        if (block_) ++block_->refs;
    }
    Payload(Payload&& other) noexcept : block_(std::exchange(other.block_, nullptr)) {}
    Payload& operator=(Payload other) noexcept {
        std::swap(block_, other.block_);
        return *this;
    }
    ~Payload() {
        if (block_ && --block_->refs == 0) std::free(block_);
    }

    // `size` bytes to be filled through data() before the payload is copied. Throws std::bad_alloc.
    [[nodiscard]] static Payload allocate(std::size_t size) {
        void* memory = std::malloc(sizeof(Block) + size);
        if (!memory) throw std::bad_alloc();
        Payload payload;
        payload.block_ = ::new (memory) Block{1, size};
        return payload;
    }

    [[nodiscard]] char* data() { return reinterpret_cast<char*>(block_ + 1); }
    [[nodiscard]] std::string_view view() const {
        return block_ ? std::string_view(reinterpret_cast<const char*>(block_ + 1), block_->size)
                      : std::string_view();
    }
    [[nodiscard]] std::size_t size() const { return block_ ? block_->size : 0; }
    explicit operator bool() const { return block_ != nullptr; }

    // Gives back the end of the buffer: the bytes behind `size` were not needed.
    void shrink(std::size_t size) { block_->size = size; }

private:
    struct Block {
        std::uint64_t refs;
        std::size_t size;
    };
    Block* block_ = nullptr;
};

}  // namespace rooms

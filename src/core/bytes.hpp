// A growing run of octets that is never filled with zeros first: inflated text and unfinished
// messages go straight into it.
//
// One owner, movable. Grows by doubling up to a bound that the caller knows. Throws std::bad_alloc.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>

namespace rooms {

class Bytes {
public:
    Bytes() = default;
    Bytes(Bytes&& other) noexcept { *this = std::move(other); }
    Bytes& operator=(Bytes&& other) noexcept {
        data_ = std::move(other.data_);
        size_ = std::exchange(other.size_, 0);
        capacity_ = std::exchange(other.capacity_, 0);
        return *this;
    }

    [[nodiscard]] std::string_view view() const { return {data_.get(), size_}; }
    [[nodiscard]] std::size_t size() const { return size_; }
    [[nodiscard]] std::size_t capacity() const { return capacity_; }
    [[nodiscard]] std::size_t spare() const { return capacity_ - size_; }
    [[nodiscard]] char* end() { return data_.get() + size_; }

    // Room for `more` octets behind end(), and where that needs memory, for as many again as there
    // are, but for no more than `most` in all. REQUIRES: size() + more <= most.
    void make_room(std::size_t more, std::size_t most) {
        if (spare() >= more) return;
        const std::size_t wanted = std::max({size_ + more, 2 * capacity_, std::size_t{256}});
        const std::size_t capacity = std::min(wanted, most);
        auto data = std::make_unique_for_overwrite<char[]>(capacity);
        if (size_) std::memcpy(data.get(), data_.get(), size_);
        data_ = std::move(data);
        capacity_ = capacity;
    }

    // `size` octets behind end() have been written.
    void commit(std::size_t size) { size_ += size; }

    void append(std::string_view text, std::size_t most) {
        if (text.empty()) return;
        make_room(text.size(), most);
        std::memcpy(end(), text.data(), text.size());
        commit(text.size());
    }

    void clear() { size_ = 0; }
    void release() { *this = Bytes(); }

private:
    std::unique_ptr<char[]> data_;
    std::size_t size_ = 0;
    std::size_t capacity_ = 0;
};

}  // namespace rooms

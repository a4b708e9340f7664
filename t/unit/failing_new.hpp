// Replaces operator new, so that a test can let the n-th allocation fail. Include it in the one
// source of a test program. zlib allocates through operator new as well, in our code.
#pragma once

#include <cstdlib>
#include <new>

// Allocations until one fails: 0 is the next. Negative: none does.
inline long allocations_left = -1;

inline void* allocate_or_null(std::size_t size) noexcept {
    if (allocations_left >= 0 && allocations_left-- == 0) return nullptr;
    return std::malloc(size ? size : 1);
}

inline void* allocate_or_throw(std::size_t size) {
    if (void* memory = allocate_or_null(size)) return memory;
    throw std::bad_alloc();
}

// Never inline: gcc would see free() end what new began, and valgrind, which puts its own in the
// place of these, would see one half of a pair only.
#define ROOMS_REPLACED [[gnu::noinline]]

ROOMS_REPLACED void* operator new(std::size_t size) { return allocate_or_throw(size); }
ROOMS_REPLACED void* operator new[](std::size_t size) { return allocate_or_throw(size); }
ROOMS_REPLACED void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
    return allocate_or_null(size);
}
ROOMS_REPLACED void* operator new[](std::size_t size, const std::nothrow_t&) noexcept {
    return allocate_or_null(size);
}
ROOMS_REPLACED void operator delete(void* memory) noexcept { std::free(memory); }
ROOMS_REPLACED void operator delete[](void* memory) noexcept { std::free(memory); }
ROOMS_REPLACED void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
ROOMS_REPLACED void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
ROOMS_REPLACED void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
ROOMS_REPLACED void operator delete[](void* memory, const std::nothrow_t&) noexcept { std::free(memory); }

// False where valgrind puts its own in the place of these, which t/00_unit.t tells it not to do: a test that
// counts on failures skips itself.
inline bool allocations_can_fail() {
    allocations_left = 0;
    void* const memory = ::operator new(1, std::nothrow);
    ::operator delete(memory);
    allocations_left = -1;
    return !memory;
}

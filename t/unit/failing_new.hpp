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

void* operator new(std::size_t size) { return allocate_or_throw(size); }
void* operator new[](std::size_t size) { return allocate_or_throw(size); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return allocate_or_null(size); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return allocate_or_null(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
void operator delete[](void* memory, const std::nothrow_t&) noexcept { std::free(memory); }

// Runs code with its first allocation failing, then its second, and so on until it runs through.
// Leaks and double frees on the way are the sanitizer's to find. Brings failing_new.hpp along.
#pragma once

#include <new>

// Inlined, the replaced operators look to gcc as if they mixed malloc with new.
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"
#endif

#include "failing_new.hpp"

// How many times it failed: the number of allocations in a run.
template <typename F>
long every_allocation_fails(F f) {
    for (long n = 0;; ++n) {
        allocations_left = n;
        try {
            f();
            allocations_left = -1;
            return n;
        } catch (const std::bad_alloc&) {
        }
    }
}

template <typename F>
long allocations_of(F f) {
    constexpr long kMany = 1'000'000'000;
    allocations_left = kMany;
    f();
    const long used = kMany - allocations_left;
    allocations_left = -1;
    return used;
}

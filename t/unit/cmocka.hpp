// cmocka for C++: the C headers that it expects before it, and its C linkage.
// Every t/unit/*_test.cpp includes this file and nothing else of cmocka.
#pragma once

#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>

extern "C" {
#include <cmocka.h>
}

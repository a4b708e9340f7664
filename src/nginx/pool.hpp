// C++ objects in an nginx pool: constructed there, destroyed when the pool is.
//
// Configuration lives in the cycle's pool, request state in the request's. The pool owns the object.
#pragma once

#include <new>
#include <utility>

#include "nginx/ngx.hpp"

namespace rooms {

// nullptr where memory ran out or the constructor threw std::bad_alloc.
template <typename T, typename... Args>
T* make_in_pool(ngx_pool_t* pool, Args&&... args) {
    ngx_pool_cleanup_t* cleanup = ngx_pool_cleanup_add(pool, 0);
    if (cleanup == nullptr) return nullptr;
    void* memory = ngx_palloc(pool, sizeof(T));
    if (memory == nullptr) return nullptr;
    try {
        T* object = ::new (memory) T(std::forward<Args>(args)...);
        cleanup->data = object;
        cleanup->handler = [](void* data) { static_cast<T*>(data)->~T(); };
        return object;
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

}  // namespace rooms

// The zone's lock: a process-shared robust mutex, held for microseconds.
//
// Robust, because a worker may be killed anywhere: the kernel then hands the lock to the next who
// waits, and says so. That one must repair the zone before it calls consistent().
#pragma once

#include <pthread.h>

namespace rooms::zone {

[[nodiscard]] bool make_lock(pthread_mutex_t& mutex);

class Lock {
public:
    explicit Lock(pthread_mutex_t& mutex);
    ~Lock();
    Lock(const Lock&) = delete;
    Lock& operator=(const Lock&) = delete;

    [[nodiscard]] bool held() const { return state_ != State::none; }
    [[nodiscard]] bool owner_died() const { return state_ == State::inherited; }
    void consistent();
    void unlock();

private:
    enum class State { none, held, inherited };
    pthread_mutex_t& mutex_;
    State state_;
};

}  // namespace rooms::zone

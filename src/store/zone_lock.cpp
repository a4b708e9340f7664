// See zone_lock.hpp.
#include "store/zone_lock.hpp"

#include <cerrno>

namespace rooms::zone {

bool make_lock(pthread_mutex_t& mutex) {
    pthread_mutexattr_t attributes;
    if (pthread_mutexattr_init(&attributes) != 0) return false;
    const bool made = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) == 0 &&
                      pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) == 0 &&
                      pthread_mutex_init(&mutex, &attributes) == 0;
    pthread_mutexattr_destroy(&attributes);
    return made;
}

Lock::Lock(pthread_mutex_t& mutex) : mutex_(mutex), state_(State::none) {
    switch (pthread_mutex_lock(&mutex)) {
        case 0: state_ = State::held; break;
        case EOWNERDEAD: state_ = State::inherited; break;
        default: break;  // not recoverable: the caller answers `unavailable`
    }
}

Lock::~Lock() { unlock(); }

void Lock::consistent() {
    pthread_mutex_consistent(&mutex_);
    state_ = State::held;
}

void Lock::unlock() {
    if (state_ == State::none) return;
    state_ = State::none;
    pthread_mutex_unlock(&mutex_);
}

}  // namespace rooms::zone

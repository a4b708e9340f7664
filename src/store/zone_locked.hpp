// How the facade takes the lock: afterwards the zone is whole, whoever died in it before.
// For zone*.cpp only.
#pragma once

#include "store/zone.hpp"
#include "store/zone_lock.hpp"
#include "store/zone_recovery.hpp"

namespace rooms {

class Zone::Locked {
public:
    explicit Locked(Zone& zone) : lock_(zone.view_.header->mutex) {
        if (!lock_.owner_died()) return;
        zone::recover(zone.view_, zone.rings_);
        lock_.consistent();
    }
    explicit operator bool() const { return lock_.held(); }

private:
    zone::Lock lock_;
};

}  // namespace rooms

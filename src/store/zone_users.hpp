// The users of a zone: their ids, once each, however many rooms and slots they are in.
//
// A user is alive while a member tally names it. References are therefore counted anew after a
// crash, and what none names is free. REQUIRES everywhere: the lock.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "store/zone_layout.hpp"

namespace rooms::zone {

[[nodiscard]] std::uint32_t user_find(const ZoneView& v, std::string_view id);
// REQUIRES: user_find() has found none. Without references yet: user_ref() or user_unref() follows.
// kZoneNone: full.
[[nodiscard]] std::uint32_t user_create(const ZoneView& v, std::string_view id);
void user_ref(const ZoneView& v, std::uint32_t user);
// The last one frees it.
void user_unref(const ZoneView& v, std::uint32_t user);
[[nodiscard]] std::string user_id(const ZoneView& v, std::uint32_t user);

// Derived data.
void user_link(const ZoneView& v, std::uint32_t user);
void cell_put_free(const ZoneView& v, std::uint32_t cell);

}  // namespace rooms::zone

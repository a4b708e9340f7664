// Names of servers, looked up while the configuration is read: only then may it block.
#pragma once

#include <string>

#include "core/result.hpp"

namespace rooms {

// The first address of a name as in a struct sockaddr, without a port: IPv4 before IPv6, as nginx does with
// the servers of an upstream. The error quotes the name.
[[nodiscard]] Result<std::string> find_address(const std::string& host);

}  // namespace rooms

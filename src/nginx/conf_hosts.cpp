#include "nginx/conf_hosts.hpp"

#include <netdb.h>
#include <sys/socket.h>

#include <memory>

namespace rooms {

Result<std::string> find_address(const std::string& host) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_ADDRCONFIG;
    addrinfo* list = nullptr;
    const int rc = getaddrinfo(host.c_str(), nullptr, &hints, &list);
    if (rc != 0) return Error{"host \"" + host + "\" not found: " + gai_strerror(rc)};
    const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> found(list, freeaddrinfo);
    for (const int family : {AF_INET, AF_INET6}) {
        for (const addrinfo* each = list; each != nullptr; each = each->ai_next) {
            if (each->ai_family == family)
                return std::string(reinterpret_cast<const char*>(each->ai_addr), each->ai_addrlen);
        }
    }
    return Error{"host \"" + host + "\" has no address"};
}

}  // namespace rooms

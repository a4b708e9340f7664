// Addresses in text and as the kernel takes them.
#include "store/reactor.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace rooms {
namespace {

template <typename T>
std::string bytes_of(const T& address) {
    return {reinterpret_cast<const char*>(&address), sizeof address};
}

}  // namespace

std::string Address::text() const {
    if (is_unix()) return "unix:" + host;
    const bool v6 = host.find(':') != std::string::npos;
    return (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

std::string sockaddr_of(std::string_view ip, std::uint16_t port) {
    // inet_pton stops at a NUL: what stands behind one would go unseen.
    if (ip.find('\0') != ip.npos) return {};
    const std::string text(ip);
    sockaddr_in v4{};
    if (inet_pton(AF_INET, text.c_str(), &v4.sin_addr) == 1) {
        v4.sin_family = AF_INET;
        v4.sin_port = htons(port);
        return bytes_of(v4);
    }
    sockaddr_in6 v6{};
    if (inet_pton(AF_INET6, text.c_str(), &v6.sin6_addr) == 1) {
        v6.sin6_family = AF_INET6;
        v6.sin6_port = htons(port);
        return bytes_of(v6);
    }
    return {};
}

}  // namespace rooms

// The three doors of a backend's endpoint, and the log line of each that stays shut.
#include "nginx/backend_access.hpp"

#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <span>

#include "core/ascii.hpp"
#include "nginx/headers.hpp"

namespace rooms {
namespace {

constexpr std::array<std::string_view, 2> kBrowserHeaders = {"Origin", "Sec-Fetch-Site"};
constexpr std::array<std::string_view, 4> kProxyHeaders = {"X-Forwarded-For", "Forwarded", "Via",
                                                           "X-Real-IP"};

// realip and the PROXY protocol change c->sockaddr, never the socket.
bool ask_peer_is_local(const ngx_connection_t* c) {
    union {
        sockaddr any;
        sockaddr_in in;
        sockaddr_in6 in6;
        sockaddr_storage storage;
    } peer = {};
    socklen_t size = sizeof peer.storage;
    if (getpeername(c->fd, &peer.any, &size) == -1) return false;
    if (size < sizeof(peer.any.sa_family)) return false;
    switch (peer.any.sa_family) {
        case AF_UNIX: return true;
        case AF_INET: return (ntohl(peer.in.sin_addr.s_addr) >> 24) == 127;
        case AF_INET6: {
            const in6_addr& address = peer.in6.sin6_addr;
            return IN6_IS_ADDR_LOOPBACK(&address) ||
                   (IN6_IS_ADDR_V4MAPPED(&address) && address.s6_addr[12] == 127);
        }
        default: return false;
    }
}

void remember_local(void* /*unused*/) {}  // its address is the note

// The socket is asked once in a connection's life: a system call less for each further request.
bool peer_is_local(const ngx_connection_t* c) {
    for (const ngx_pool_cleanup_t* note = c->pool->cleanup; note != nullptr; note = note->next) {
        if (note->handler == remember_local) return true;
    }
    if (!ask_peer_is_local(c)) return false;
    if (ngx_pool_cleanup_t* note = ngx_pool_cleanup_add(c->pool, 0)) note->handler = remember_local;
    return true;
}

// The first of these that the request has; empty: none.
std::string_view find_one(ngx_http_request_t* r, std::span<const std::string_view> names) {
    for (const std::string_view name : names) {
        if (find_header(r, name) != nullptr) return name;
    }
    return {};
}

// An address tells a backend from a web page only where no browser is.
ngx_int_t refuse_browser(ngx_http_request_t* r, const BackendAccess& access) {
    const std::string_view found = find_one(r, kBrowserHeaders);
    if (found.empty()) return NGX_OK;
    const ngx_str_t shown = ngx_view(found);
    ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                  "rooms: \"%s\" refused a request that has the header \"%V\", for it comes from a "
                  "browser: give it \"secret=\"",
                  access.directive, &shown);
    return NGX_HTTP_FORBIDDEN;
}

ngx_int_t check_local(ngx_http_request_t* r, const BackendAccess& access) {
    if (!peer_is_local(r->connection)) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "rooms: \"%s\" refused a peer that is not local: give it \"secret=\" or \"from=\"",
                      access.directive);
        return NGX_HTTP_FORBIDDEN;
    }
    const std::string_view proxy = find_one(r, kProxyHeaders);
    if (proxy.empty()) return refuse_browser(r, access);
    const ngx_str_t shown = ngx_view(proxy);
    ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                  "rooms: \"%s\" refused a local peer whose request has the header \"%V\", for it comes "
                  "through a proxy: give it \"secret=\" or \"from=\"",
                  access.directive, &shown);
    return NGX_HTTP_FORBIDDEN;
}

ngx_int_t check_secret(ngx_http_request_t* r, const BackendAccess& access) {
    const ngx_table_elt_t* header = r->headers_in.authorization;
    const auto presented = header == nullptr ? std::nullopt : bearer_of(view(header->value));
    if (presented && access.secret->matches(*presented)) return NGX_OK;
    ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                  presented ? "rooms: \"%s\" refused a wrong secret"
                            : "rooms: \"%s\" refused a request without \"Authorization: Bearer\"",
                  access.directive);
    return NGX_HTTP_UNAUTHORIZED;
}

}  // namespace

ngx_int_t check_backend_access(ngx_http_request_t* r, const BackendAccess& access) {
    // X-Accel-Redirect, error_page, SSI: the way here was the user's, the connection is not the backend's.
    if (r != r->main || r->internal) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "rooms: \"%s\" refused an internal redirect or subrequest", access.directive);
        return NGX_HTTP_FORBIDDEN;
    }
    if (!access.secret && access.from == nullptr) return check_local(r, access);
    if (access.from != nullptr && ngx_cidr_match(r->connection->sockaddr, access.from) != NGX_OK) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0, "rooms: \"%s\" refused a peer outside of \"from=\"",
                      access.directive);
        return NGX_HTTP_FORBIDDEN;
    }
    return access.secret ? check_secret(r, access) : refuse_browser(r, access);
}

}  // namespace rooms

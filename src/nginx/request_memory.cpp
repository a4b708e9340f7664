#include "nginx/request_memory.hpp"

#include "nginx/request_state.hpp"

namespace rooms {
namespace {

// ngx_http_core_module's defaults.
constexpr std::size_t kDefaultPool = 4096;
constexpr std::size_t kDefaultHeaderBuffer = 1024;
constexpr std::size_t kDefaultConnectionPool = NGX_PTR_SIZE == 8 ? 512 : 256;

// Measured: 384 octets with addresses of IPv4, 45 more with IPv6. It grows for TLS.
constexpr std::size_t kConnectionPool = 432;

// A browser's handshake with its JWT is about 1.5 KB.
constexpr std::size_t kHeaderBuffer = 1664;
// Measured: the 101's buffers and headers, the URI, our state, and what alignment takes.
constexpr std::size_t kOurs = 912 + sizeof(RequestState);
constexpr std::size_t kListed = 20;  // headers that ngx_http_create_request makes room for

std::size_t pool_size(const ngx_http_core_main_conf_t& core) {
    const std::size_t size = sizeof(ngx_pool_t) + sizeof(ngx_http_request_t) +
                             2 * kListed * sizeof(ngx_table_elt_t) + ngx_http_max_module * sizeof(void*) +
                             core.variables.nelts * sizeof(ngx_http_variable_value_t) + kOurs;
    return (size + NGX_POOL_ALIGNMENT - 1) & ~static_cast<std::size_t>(NGX_POOL_ALIGNMENT - 1);
}

}  // namespace

void fit_request_memory(ngx_cycle_t* cycle) {
    auto* core = static_cast<ngx_http_core_main_conf_t*>(
        ngx_http_cycle_get_module_main_conf(cycle, ngx_http_core_module));
    const std::size_t size = pool_size(*core);
    auto* servers = static_cast<ngx_http_core_srv_conf_t**>(core->servers.elts);
    for (ngx_uint_t i = 0; i < core->servers.nelts; ++i) {
        if (servers[i]->request_pool_size == kDefaultPool && size > kDefaultPool) {
            servers[i]->request_pool_size = size;
        }
        if (servers[i]->client_header_buffer_size == kDefaultHeaderBuffer) {
            servers[i]->client_header_buffer_size = kHeaderBuffer;
        }
    }
    auto* listening = static_cast<ngx_listening_t*>(cycle->listening.elts);
    for (ngx_uint_t i = 0; i < cycle->listening.nelts; ++i) {
        ngx_listening_t& one = listening[i];
        if (one.handler == ngx_http_init_connection && one.pool_size == kDefaultConnectionPool) {
            one.pool_size = kConnectionPool;
        }
    }
}

// What ngx_http_set_keepalive does for a connection that idles.
void release_request(ngx_http_request_t* r) {
    ngx_connection_t* c = r->connection;
    ngx_http_connection_t* hc = r->http_connection;
    ngx_http_free_request(r, 0);
    c->data = hc;
    c->destroyed = 0;
    for (ngx_chain_t** list : {&hc->free, &hc->busy}) {
        for (ngx_chain_t* link = *list; link != nullptr;) {
            ngx_chain_t* next = link->next;
            ngx_pfree(c->pool, link->buf->start);
            ngx_free_chain(c->pool, link);
            link = next;
        }
        *list = nullptr;
    }
    hc->nbusy = 0;
    if (c->buffer != nullptr && ngx_pfree(c->pool, c->buffer->start) == NGX_OK) c->buffer->pos = nullptr;
}

}  // namespace rooms

#include "nginx/request_body.hpp"

namespace rooms {
namespace {

std::size_t size_of(const ngx_buf_t* buffer) { return static_cast<std::size_t>(ngx_buf_size(buffer)); }

bool read_in_full(ngx_buf_t* buffer, u_char* to) {
    off_t at = buffer->file_pos;
    while (at < buffer->file_last) {
        const ssize_t n =
            ngx_read_file(buffer->file, to, static_cast<std::size_t>(buffer->file_last - at), at);
        if (n <= 0) return false;
        to += n;
        at += n;
    }
    return true;
}

}  // namespace

std::optional<std::string_view> request_body(ngx_http_request_t* r) {
    if (r->request_body == nullptr || r->request_body->bufs == nullptr) return std::string_view();
    ngx_chain_t* const first = r->request_body->bufs;
    if (first->next == nullptr && ngx_buf_in_memory(first->buf)) {
        return std::string_view(reinterpret_cast<const char*>(first->buf->pos), size_of(first->buf));
    }

    std::size_t size = 0;
    for (const ngx_chain_t* link = first; link != nullptr; link = link->next) size += size_of(link->buf);
    auto* const all = static_cast<u_char*>(ngx_pnalloc(r->pool, size));
    if (all == nullptr) return std::nullopt;
    u_char* at = all;
    for (const ngx_chain_t* link = first; link != nullptr; link = link->next) {
        if (ngx_buf_in_memory(link->buf)) {
            ngx_memcpy(at, link->buf->pos, size_of(link->buf));
        } else if (!read_in_full(link->buf, at)) {
            return std::nullopt;
        }
        at += size_of(link->buf);
    }
    return std::string_view(reinterpret_cast<const char*>(all), size);
}

}  // namespace rooms

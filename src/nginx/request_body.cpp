#include "nginx/request_body.hpp"

#include <algorithm>
#include <string>

#include "nginx/headers.hpp"
#include "nginx/http_answer.hpp"

namespace rooms {
namespace {

constexpr std::size_t kMaxShownEncoding = 64;
constexpr std::string_view kNdjson = "application/x-ndjson";

// The media type without parameters; empty: none was sent.
std::string_view media_type(ngx_http_request_t* r) {
    const ngx_table_elt_t* header = r->headers_in.content_type;
    if (header == nullptr) return {};
    const std::string_view value = view(header->value);
    return trim_ows(value.substr(0, value.find(';')));
}

// Of the header Content-Encoding what is not identity; empty: nothing.
std::string_view content_encoding(ngx_http_request_t* r) {
    std::string_view found;
    for_each_header(r, [&](const ngx_table_elt_t& header) {
        if (!equal_caseless(view(header.key), "Content-Encoding")) return false;
        const std::string_view value = trim_ows(view(header.value));
        if (!equal_caseless(value, "identity")) found = value;
        return !found.empty();
    });
    return found;
}

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

bool is_ndjson(ngx_http_request_t* r) { return equal_caseless(media_type(r), kNdjson); }

std::optional<ngx_int_t> refuse_media(ngx_http_request_t* r, MediaTypes taken, const char* what) {
    const bool ndjson = taken == MediaTypes::json_or_ndjson;
    const std::string_view type = media_type(r);
    if (!type.empty() && !equal_caseless(type, kJsonType) && !(ndjson && is_ndjson(r)) &&
        !equal_caseless(type, "application/x-www-form-urlencoded")) {
        ngx_log_error(NGX_LOG_INFO, r->connection->log, 0, "rooms: %s refused: content type \"%V\"", what,
                      &r->headers_in.content_type->value);
        return answer_error(r, NGX_HTTP_UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type",
                            ndjson ? "the body must be application/json or application/x-ndjson"
                                   : "the body must be application/json");
    }
    const std::string_view encoding = content_encoding(r);
    if (encoding.empty()) return std::nullopt;
    const ngx_str_t shown = ngx_view(encoding);
    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0, "rooms: %s refused: content encoding \"%V\"", what,
                  &shown);
    std::string name(encoding.substr(0, kMaxShownEncoding));
    std::replace_if(
        name.begin(), name.end(), [](char c) { return c < 0x20 || c > 0x7e; }, '?');
    return answer_error(r, NGX_HTTP_UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type",
                        "the body must come without Content-Encoding, not as " + name);
}

}  // namespace rooms

#include "nginx/http_answer.hpp"

#include <string>

#include "core/reply.hpp"

namespace rooms {
namespace {

constexpr std::string_view kRetryAfter = "1";

// Nobody waits for "100 Continue" any more: the answer is known.
void discard_body(ngx_http_request_t* r) {
    r->expect_tested = 1;
    if (ngx_http_discard_request_body(r) != NGX_OK) r->keepalive = 0;
}

bool add_status_header(ngx_http_request_t* r, ngx_uint_t status) {
    switch (status) {
        case NGX_HTTP_UNAUTHORIZED: return add_header(r, "WWW-Authenticate", "Bearer");
        case NGX_HTTP_SERVICE_UNAVAILABLE: return add_header(r, "Retry-After", kRetryAfter);
        default: return true;
    }
}

}  // namespace

ngx_int_t answer(ngx_http_request_t* r, ngx_uint_t status, std::string_view content_type,
                 std::string_view body) {
    discard_body(r);
    if (!add_status_header(r, status)) return NGX_HTTP_INTERNAL_SERVER_ERROR;

    ngx_buf_t* buffer = ngx_create_temp_buf(r->pool, body.size() + 1);
    if (buffer == nullptr) return NGX_HTTP_INTERNAL_SERVER_ERROR;
    buffer->last = ngx_cpymem(buffer->last, body.data(), body.size());
    *buffer->last++ = '\n';
    buffer->last_buf = r == r->main ? 1 : 0;
    buffer->last_in_chain = 1;

    r->headers_out.status = status;
    r->headers_out.content_length_n = static_cast<off_t>(body.size() + 1);
    r->headers_out.content_type = ngx_view(content_type);
    // Without its parameters: this is what other modules' lists of types are compared with.
    r->headers_out.content_type_len = content_type.substr(0, content_type.find(';')).size();
    r->headers_out.content_type_lowcase = nullptr;

    const ngx_int_t rc = ngx_http_send_header(r);
    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) return rc;
    ngx_chain_t out = {buffer, nullptr};
    return ngx_http_output_filter(r, &out);
}

ngx_int_t answer_json(ngx_http_request_t* r, ngx_uint_t status, std::string_view json) {
    return answer(r, status, kJsonType, json);
}

ngx_int_t answer_error(ngx_http_request_t* r, ngx_uint_t status, std::string_view code,
                       std::string_view message) {
    return answer_json(r, status, encode_http_error(code, message));
}

ngx_int_t answer_wrong_method(ngx_http_request_t* r, std::string_view allow) {
    if (!add_header(r, "Allow", allow)) return NGX_HTTP_INTERNAL_SERVER_ERROR;
    return answer_error(r, NGX_HTTP_NOT_ALLOWED, "method_not_allowed",
                        "this endpoint takes " + std::string(allow) + " only");
}

ngx_int_t answer_no_access(ngx_http_request_t* r, ngx_int_t status) {
    if (status == NGX_HTTP_UNAUTHORIZED) {
        return answer_error(r, NGX_HTTP_UNAUTHORIZED, "unauthorized",
                            "Authorization: Bearer with the secret of this endpoint is needed");
    }
    return answer_error(r, NGX_HTTP_FORBIDDEN, "forbidden", "not from here: the server's error log says why");
}

}  // namespace rooms

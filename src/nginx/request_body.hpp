// The body of a request: what it may be, and its octets as one run, wherever nginx put them: buffers, a
// temporary file, both.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "nginx/ngx.hpp"

namespace rooms {

// Lives as long as the request. Nothing where memory ran out or the file could not be read (which
// nginx has logged). REQUIRES: called in or after the handler of ngx_http_read_client_request_body.
[[nodiscard]] std::optional<std::string_view> request_body(ngx_http_request_t* r);

enum class MediaTypes : std::uint8_t { json, json_or_ndjson };

// The 415 of a body that has another media type or a Content-Encoding, sent and logged as "rooms: WHAT
// refused: …"; nothing: it may be read. No type at all, and what `curl -d` says of any body, will do.
[[nodiscard]] std::optional<ngx_int_t> refuse_media(ngx_http_request_t* r, MediaTypes taken,
                                                    const char* what);
[[nodiscard]] bool is_ndjson(ngx_http_request_t* r);

}  // namespace rooms

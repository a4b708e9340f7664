// Publications as backends send them, and events as browsers see them.
//
// The body of a POST is validated once; the bytes of `data` are then spliced into the event and
// never dumped again, so a number keeps its digits and nested values their spelling. `type`,
// `room`, `offset` and `timestamp` of an event are ours: data cannot overwrite them, however it
// spells their names. Together with core/reply and core/command: all that knows field names.
#pragma once

#include <cstddef>
#include <cstdint>
#include <forward_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.hpp"
#include "core/reply.hpp"
#include "core/result.hpp"

namespace rooms {

inline constexpr std::size_t kMaxEventType = 128;
inline constexpr std::size_t kMaxEventId = 200;

struct PublishLimits {
    unsigned max_depth = kMaxJsonDepth;  // of one publication; an array around several is not counted
    std::size_t max_rooms = 1000;        // of one publication
    std::size_t max_items = 10000;       // of one body
};

// One publication. Views into the body, or into PublishBody::texts where it had escapes.
struct PublishItem {
    std::vector<std::string_view> rooms;  // at least one; each is_room(); no two alike
    std::string_view type;
    std::string_view raw_type;  // as written, with quotes
    std::string_view data;      // an object; "{}" if absent
    std::string_view id;        // empty: none
    std::string_view raw_id;    // as written, with quotes
    std::string_view key;       // empty: none
    std::string_view raw;       // the whole publication as written
    bool several = false;       // it came with `rooms`: the answer is a list
    bool plain_data = true;     // no name in data is ours, or could be

    // What makes a repeat harmless; empty: nothing does. `key` before `id`.
    [[nodiscard]] std::string_view idempotency_key() const { return key.empty() ? id : key; }
};

enum class PublishCode : std::uint8_t { bad_json, bad_field, bad_room };
[[nodiscard]] std::string_view publish_code_text(PublishCode code);

struct PublishError {
    PublishCode code = PublishCode::bad_json;
    std::string message;    // names the field
    std::size_t index = 0;  // of the publication in the body
};

struct PublishBody {
    // In a batch each publication has its own verdict. Not in a batch: one, and it is good.
    std::vector<Result<PublishItem, PublishError>> items;
    bool batch = false;                    // the answer is a list, even of one
    std::forward_list<std::string> texts;  // owns what had escapes; stays put when moved

    PublishBody() = default;
    PublishBody(PublishBody&&) = default;
    PublishBody& operator=(PublishBody&&) = default;
    PublishBody(const PublishBody&) = delete;  // a copy's views would point into the original
    PublishBody& operator=(const PublishBody&) = delete;
};

// One object, an array of objects, or objects with white space between them. The body must outlive
// the result. `ndjson`: by its content type the body is a batch, even of one.
// An error means that nothing of the body can be published: 400.
Result<PublishBody, PublishError> parse_publish(std::string_view body, bool ndjson,
                                                const PublishLimits& limits = {});

// The Idempotency-Key header's value: same rules as for `key`. The sentence, or nothing if good.
[[nodiscard]] std::optional<std::string> check_idempotency_key(std::string_view key);

// The event for one room, from `{` up to the offset, which only the broker knows.
// REQUIRES: `item` from parse_publish, `room` one of its rooms. One allocation.
[[nodiscard]] std::string encode_event_body(const PublishItem& item, std::string_view room);
// The same behind what is in `out`, of which it takes at most max_event_body() bytes.
void append_event_body(std::string& out, const PublishItem& item, std::string_view room);
[[nodiscard]] std::size_t max_event_body(const PublishItem& item, std::string_view room);

// Writes `,"offset":42,"timestamp":1795332720700}`; returns its size, at most kMaxEventTail.
inline constexpr std::size_t kMaxEventTail = 64;
[[nodiscard]] std::size_t event_tail(char* out, std::uint64_t offset, std::int64_t timestamp_ms);

}  // namespace rooms

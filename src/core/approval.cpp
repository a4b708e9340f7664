#include "core/approval.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>

#include "core/json.hpp"
#include "core/room.hpp"
#include "core/utf8.hpp"

namespace rooms {
namespace {

constexpr std::string_view kStatuses[] = {"pending", "approved", "rejected", "timeout", "cancelled"};

// Reads the members of one body. Every function that fails has set the error.
class Fields {
public:
    [[nodiscard]] bool open(std::string_view body) {
        auto members = parse_json_object(body);
        if (!members) {
            error_ = {true, members.error().message()};
            return false;
        }
        members_ = std::move(*members);
        return true;
    }

    [[nodiscard]] bool wrong(std::string_view name, std::string_view what) {
        error_ = {false, std::string(name) + ' ' + std::string(what)};
        return false;
    }

    // A member that is absent or null is not there.
    [[nodiscard]] const JsonMember* find(std::string_view name) {
        known_.push_back(name);
        const auto at = std::find_if(members_.begin(), members_.end(),
                                     [&](const auto& each) { return each.name() == name; });
        return at == members_.end() || at->type == JsonType::null ? nullptr : &*at;
    }
    [[nodiscard]] bool text(std::string_view name, std::optional<std::string>& out) {
        const JsonMember* member = find(name);
        if (member == nullptr) return true;
        if (member->type != JsonType::string) return wrong(name, "must be a string");
        out = unescape_json(member->raw);
        if (!out || !is_approval_text(*out)) return wrong(name, kTextForm);
        return true;
    }
    [[nodiscard]] bool text(std::string_view name, std::string& out) {
        std::optional<std::string> found;
        if (!text(name, found)) return false;
        if (!found) return wrong(name, "is missing");
        out = std::move(*found);
        return true;
    }
    // Seconds, or a time as nginx writes it.
    [[nodiscard]] bool duration(std::string_view name, std::optional<std::int64_t>& out) {
        const JsonMember* member = find(name);
        if (member == nullptr) return true;
        if (member->type == JsonType::number) {
            double seconds = 0;
            const auto [end, fault] =
                std::from_chars(member->raw.data(), member->raw.data() + member->raw.size(), seconds);
            // A number beyond a double is as wrong as one that is too large.
            if (fault == std::errc() && seconds * 1000 <= static_cast<double>(kMaxApprovalMs))
                out = std::llround(seconds * 1000);
        } else if (member->type == JsonType::string) {
            if (const auto value = unescape_json(member->raw)) out = parse_duration_ms(*value);
        }
        if (!out || *out <= 0) {
            return wrong(name, "must be seconds, or a time like \"15m\", more than 0 and at most 366 days");
        }
        return true;
    }
    [[nodiscard]] bool instant(std::string_view name, std::optional<std::int64_t>& out) {
        const JsonMember* member = find(name);
        if (member == nullptr) return true;
        if (member->type == JsonType::number) out = parse_json_i64(member->raw);
        if (!out || *out <= 0 || *out > kMaxApprovalInstant)
            return wrong(name, "must be milliseconds since 1970, a whole number");
        return true;
    }
    // All that is there has been asked for.
    [[nodiscard]] bool close() {
        for (const JsonMember& member : members_) {
            if (std::find(known_.begin(), known_.end(), member.name()) != known_.end()) continue;
            std::string known;
            for (const std::string_view name : known_)
                known += (known.empty() ? "" : ", ") + std::string(name);
            error_ = {false, "unknown field " + shown_text(member.name()) +
                                 (known.empty() ? ": there are none" : ": known are " + known)};
            return false;
        }
        return true;
    }
    [[nodiscard]] ApprovalError take_error() { return std::move(error_); }

    static constexpr std::string_view kTextForm = "must have 1 to 200 bytes, without control characters";

private:
    std::vector<JsonMember> members_;
    std::vector<std::string_view> known_;
    ApprovalError error_;
};

bool read_new(Fields& fields, NewApproval& approval) {
    if (!fields.text("sessionId", approval.session) || !fields.text("action", approval.action)) return false;
    if (const JsonMember* context = fields.find("context")) approval.context = context->raw;
    if (!fields.text("tenantId", approval.tenant) || !fields.duration("timeout", approval.timeout_ms) ||
        !fields.instant("expiresAt", approval.expires_at_ms) || !fields.text("id", approval.id))
        return false;
    if (approval.timeout_ms && approval.expires_at_ms)
        return fields.wrong("timeout", "and expiresAt exclude each other");
    if (approval.id && !is_approval_id(*approval.id))
        return fields.wrong("id", "must be 1 to 200 of [A-Za-z0-9_.:@~-], and neither . nor ..");
    return fields.close();
}

bool read_resolution(Fields& fields, Resolution& resolution) {
    std::string status;
    if (!fields.text("status", status)) return false;
    const auto parsed = parse_approval_status(status);
    if (parsed != ApprovalStatus::approved && parsed != ApprovalStatus::rejected)
        return fields.wrong("status", "must be \"approved\" or \"rejected\"");
    resolution.status = *parsed;
    return fields.text("resolvedBy", resolution.by) && fields.close();
}

bool is_blank(std::string_view body) { return body.find_first_not_of(" \t\r\n") == body.npos; }

}  // namespace

std::string_view approval_status_text(ApprovalStatus status) {
    return kStatuses[static_cast<std::size_t>(status)];
}

std::optional<ApprovalStatus> parse_approval_status(std::string_view text) {
    const auto* const at = std::find(std::begin(kStatuses), std::end(kStatuses), text);
    if (at == std::end(kStatuses)) return std::nullopt;
    return static_cast<ApprovalStatus>(at - std::begin(kStatuses));
}

bool is_approval_text(std::string_view text) {
    return !text.empty() && text.size() <= kMaxApprovalText && is_valid_utf8(text) &&
           std::none_of(text.begin(), text.end(),
                        [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

bool is_approval_id(std::string_view text) {
    return !text.empty() && text.size() <= kMaxApprovalText && text != "." && text != ".." &&
           std::all_of(text.begin(), text.end(), is_room_byte);
}

std::optional<std::int64_t> parse_duration_ms(std::string_view text) {
    constexpr struct {
        std::string_view unit;
        std::int64_t ms;
    } kUnits[] = {{"w", 604800000}, {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};
    std::int64_t sum = 0;
    std::size_t next = 0;  // units come from the largest to the smallest, each once
    while (!text.empty()) {
        std::uint64_t count = 0;
        const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), count);
        if (fault != std::errc()) return std::nullopt;
        text.remove_prefix(static_cast<std::size_t>(end - text.data()));
        const std::size_t length = std::min(text.find_first_of(" 0123456789"), text.size());
        // Without a unit: seconds, as everywhere in nginx.
        const std::string_view unit = length == 0 ? "s" : text.substr(0, length);
        while (next < std::size(kUnits) && kUnits[next].unit != unit) ++next;
        if (next == std::size(kUnits)) return std::nullopt;
        const std::int64_t unit_ms = kUnits[next++].ms;
        if (count > static_cast<std::uint64_t>((kMaxApprovalMs - sum) / unit_ms)) return std::nullopt;
        sum += static_cast<std::int64_t>(count) * unit_ms;
        text.remove_prefix(length);
        text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
    }
    return next == 0 ? std::nullopt : std::optional(sum);
}

Result<NewApproval, ApprovalError> parse_new_approval(std::string_view body) {
    Fields fields;
    NewApproval approval;
    if (!fields.open(body) || !read_new(fields, approval)) return fields.take_error();
    return approval;
}

Result<Resolution, ApprovalError> parse_resolution(std::string_view body) {
    Fields fields;
    Resolution resolution;
    if (!fields.open(body) || !read_resolution(fields, resolution)) return fields.take_error();
    return resolution;
}

Result<Resolution, ApprovalError> parse_cancellation(std::string_view body) {
    Fields fields;
    Resolution resolution;
    if (is_blank(body)) return resolution;
    if (!fields.open(body) || !fields.text("resolvedBy", resolution.by) || !fields.close())
        return fields.take_error();
    return resolution;
}

Result<std::int64_t, ApprovalError> parse_extension(std::string_view body) {
    Fields fields;
    std::optional<std::int64_t> by;
    if (!fields.open(body) || !fields.duration("by", by)) return fields.take_error();
    if (!by) return ApprovalError{false, "by is missing"};
    if (!fields.close()) return fields.take_error();
    return *by;
}

std::optional<ApprovalError> read_query_argument(ApprovalQuery& query, std::string_view name,
                                                 std::string_view value) {
    const auto wrong = [&](std::string_view what) {
        return ApprovalError{false, std::string(name) + ' ' + std::string(what)};
    };
    const auto text = [&](std::optional<std::string>& out) -> std::optional<ApprovalError> {
        if (out) return wrong("came twice");
        if (!is_approval_text(value)) return wrong(Fields::kTextForm);
        out = value;
        return std::nullopt;
    };
    if (name == "sessionId") return text(query.session);
    if (name == "tenantId") return text(query.tenant);
    if (name == "after") return text(query.after);
    if (name == "status") {
        if (query.status) return wrong("came twice");
        query.status = parse_approval_status(value);
        if (!query.status) return wrong("must be pending, approved, rejected, timeout or cancelled");
        return std::nullopt;
    }
    if (name == "limit") {
        if (query.limit) return wrong("came twice");
        const auto limit = parse_json_u64(value);
        if (!limit || *limit == 0 || *limit > kMaxApprovalPage) return wrong("must be 1 to 1000");
        query.limit = static_cast<unsigned>(*limit);
        return std::nullopt;
    }
    return ApprovalError{false, "unknown argument " +
                                    (is_valid_utf8(name) ? shown_text(name) : std::string("")) +
                                    ": known are sessionId, tenantId, status, limit, after"};
}

}  // namespace rooms

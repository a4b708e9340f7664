// What the approvals API is sent. The first byte chooses: a body of one of the four requests, a query, a duration.
// What is accepted says what jansson reads in it; durations are those of a regular expression.
#include "core/approval.hpp"

#include <cmath>
#include <cstdlib>
#include <string>

#include "core/room.hpp"

#include "fuzz/jansson.hpp"
#include "fuzz/plain_regex.hpp"
#include "fuzz/plain_utf8.hpp"

using namespace rooms;

namespace {

constexpr double kMostMs = 366.0 * 24 * 3600 * 1000;

const PlainRegex kDuration(
    "^(([0-9]+)w *)?(([0-9]+)d *)?(([0-9]+)h *)?(([0-9]+)m *)?(([0-9]+)(s *| +|$))?(([0-9]+)ms *)?$");

std::optional<double> plain_duration(std::string_view text) {
    constexpr struct {
        std::size_t group;
        double ms;
    } kUnits[] = {{2, 604800000}, {4, 86400000}, {6, 3600000}, {8, 60000}, {10, 1000}, {13, 1}};
    const auto groups = kDuration.match(text);
    if (text.empty() || groups.empty()) return std::nullopt;
    double sum = 0;
    for (const auto& unit : kUnits) sum += std::atof(std::string(groups[unit.group]).c_str()) * unit.ms;
    return sum <= kMostMs ? std::optional(sum) : std::nullopt;
}

void check_duration(std::string_view text) {
    if (text.size() > 300) return;  // the expression is slow
    const auto ours = parse_duration_ms(text);
    const auto expected = plain_duration(text);
    FUZZ_CHECK(ours.has_value() == expected.has_value());
    if (ours) FUZZ_CHECK(static_cast<double>(*ours) == *expected);
}

// An optional text: absent, or null, or what jansson reads.
void check_text(const std::optional<std::string>& ours, const json_t* theirs) {
    FUZZ_CHECK(ours.has_value() == json_is_string(theirs));
    if (!ours) {
        FUZZ_CHECK(!theirs || json_is_null(theirs));
        return;
    }
    FUZZ_CHECK(*ours == text_of(theirs) && !ours->empty() && ours->size() <= kMaxApprovalText);
    FUZZ_CHECK(is_utf8_plainly(*ours));
    for (const char c : *ours) FUZZ_CHECK(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f);
}

void check_ms(const std::optional<std::int64_t>& ours, const json_t* theirs) {
    FUZZ_CHECK(ours.has_value() == (theirs && !json_is_null(theirs)));
    if (!ours) return;
    FUZZ_CHECK(*ours > 0 && static_cast<double>(*ours) <= kMostMs);
    const auto written = plain_duration(text_of(theirs));
    const double expected =
        json_is_string(theirs) ? written.value_or(0) : std::round(json_number_value(theirs) * 1000);
    FUZZ_CHECK(static_cast<double>(*ours) == expected);
}

// The tree of a body that has been accepted; null: jansson has no verdict.
Tree tree_of(std::string_view body) {
    Judgement judgement = judge(body, JSON_REJECT_DUPLICATES);
    FUZZ_CHECK(judgement.undecided || json_is_object(judgement.tree.get()));
    return std::move(judgement.tree);
}

// True: accepted.
template <typename T>
bool check_error(const Result<T, ApprovalError>& result) {
    if (!result) FUZZ_CHECK(!result.error().message.empty() && result.error().message.size() < 512);
    return result.ok();
}

void check_new(std::string_view body) {
    const auto approval = parse_new_approval(body);
    if (!check_error(approval)) return;
    FUZZ_CHECK(!approval->timeout_ms || !approval->expires_at_ms);
    if (approval->id) FUZZ_CHECK(is_room("a:" + *approval->id));
    const Tree tree = tree_of(body);
    if (!tree) return;
    check_text(approval->session, json_object_get(tree.get(), "sessionId"));
    check_text(approval->action, json_object_get(tree.get(), "action"));
    check_text(approval->tenant, json_object_get(tree.get(), "tenantId"));
    check_text(approval->id, json_object_get(tree.get(), "id"));
    check_ms(approval->timeout_ms, json_object_get(tree.get(), "timeout"));
    const json_t* context = json_object_get(tree.get(), "context");
    FUZZ_CHECK(approval->context.empty() == (!context || json_is_null(context)));
    if (!approval->context.empty()) FUZZ_CHECK(json_equal(judge(approval->context).tree.get(), context));
    const json_t* expires = json_object_get(tree.get(), "expiresAt");
    FUZZ_CHECK(approval->expires_at_ms.has_value() == json_is_integer(expires));
    if (approval->expires_at_ms) FUZZ_CHECK(*approval->expires_at_ms == json_integer_value(expires));
}

void check_resolution(std::string_view body) {
    const auto resolution = parse_resolution(body);
    if (!check_error(resolution)) return;
    const Tree tree = tree_of(body);
    if (!tree) return;
    check_text(resolution->by, json_object_get(tree.get(), "resolvedBy"));
    const std::string_view status = text_of(json_object_get(tree.get(), "status"));
    FUZZ_CHECK(status == "approved" || status == "rejected");
    FUZZ_CHECK(approval_status_text(resolution->status) == status);
}

void check_cancellation(std::string_view body) {
    const auto cancellation = parse_cancellation(body);
    if (!check_error(cancellation)) return;
    FUZZ_CHECK(cancellation->status == ApprovalStatus::cancelled);
    const bool blank = body.find_first_not_of(" \t\r\n") == body.npos;
    const Tree tree = blank ? Tree(json_object()) : tree_of(body);
    if (tree) check_text(cancellation->by, json_object_get(tree.get(), "resolvedBy"));
}

void check_extension(std::string_view body) {
    const auto by = parse_extension(body);
    if (!check_error(by)) return;
    if (const Tree tree = tree_of(body)) check_ms(*by, json_object_get(tree.get(), "by"));
}

// Lines: name=value.
void check_query(std::string_view text) {
    ApprovalQuery query;
    for (const std::string_view line : split_plainly(text, '\n')) {
        const std::size_t end = line.find('=');
        const std::string_view value = end == line.npos ? std::string_view() : line.substr(end + 1);
        const auto fault = read_query_argument(query, line.substr(0, end), value);
        if (fault) FUZZ_CHECK(!fault->message.empty() && fault->message.size() < 512);
        FUZZ_CHECK(query.page() >= 1 && query.page() <= kMaxApprovalPage);
        for (const auto* each : {&query.session, &query.tenant, &query.after})
            if (*each) FUZZ_CHECK(is_approval_text(**each) && is_utf8_plainly(**each));
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
    switch (data[0]) {
        case 'r': check_resolution(text); break;
        case 'c': check_cancellation(text); break;
        case 'e': check_extension(text); break;
        case 'q': check_query(text); break;
        case 'd': check_duration(text); break;
        default: check_new(text);
    }
    return 0;
}

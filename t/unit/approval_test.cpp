// core/approval: what requests of the approvals API ask for, and what is wrong with them.
#include <string>
#include <string_view>

#include "cmocka.hpp"

#include "core/approval.hpp"

using namespace rooms;

namespace {

std::string wrong(std::string_view body) {
    const auto approval = parse_new_approval(body);
    if (approval) return "good";
    return (approval.error().bad_json ? "json: " : "") + approval.error().message;
}

void a_new_approval_is_read_whole(void**) {
    const auto approval = parse_new_approval(
        R"({"sessionId":"s\u0031","action":"deploy","context":{"n":1.50},"tenantId":"acme","id":"a-1","timeout":"15m"})");
    assert_true(approval.ok());
    assert_string_equal(approval->session.c_str(), "s1");
    assert_string_equal(approval->action.c_str(), "deploy");
    assert_string_equal(approval->context.c_str(), "{\"n\":1.50}");
    assert_string_equal(approval->tenant->c_str(), "acme");
    assert_string_equal(approval->id->c_str(), "a-1");
    assert_int_equal(*approval->timeout_ms, 15 * 60 * 1000);
    assert_false(approval->expires_at_ms.has_value());
}

void what_is_absent_or_null_is_left_to_the_store(void**) {
    const auto approval =
        parse_new_approval(R"({"sessionId":"1","action":"a","context":null,"id":null,"timeout":null})");
    assert_true(approval.ok());
    assert_true(approval->context.empty());
    assert_false(approval->id || approval->tenant || approval->timeout_ms || approval->expires_at_ms);
}

void an_instant_is_milliseconds(void**) {
    const auto approval = parse_new_approval(R"({"sessionId":"1","action":"a","expiresAt":1795332900000})");
    assert_true(approval.ok());
    assert_true(*approval->expires_at_ms == 1795332900000);
    for (const char* value : {"\"1795332900000\"", "1.5", "0", "-1", "1e99", "253402300800000", "true"}) {
        assert_string_equal(
            wrong(R"({"sessionId":"1","action":"a","expiresAt":)" + std::string(value) + "}").c_str(),
            "expiresAt must be milliseconds since 1970, a whole number");
    }
}

void durations_are_seconds_or_times_of_nginx(void**) {
    const auto ms = [](std::string_view value) {
        const auto by = parse_extension("{\"by\":" + std::string(value) + "}");
        return by ? *by : -1;
    };
    assert_int_equal(ms("10"), 10000);
    assert_int_equal(ms("0.25"), 250);
    assert_int_equal(ms("1e2"), 100000);
    assert_int_equal(ms("\"15m\""), 900000);
    assert_int_equal(ms("\"1h 30m\""), 5400000);
    assert_int_equal(ms("\"1h30m\""), 5400000);
    assert_int_equal(ms("\"500ms\""), 500);
    assert_int_equal(ms("\"90\""), 90000);
    assert_int_equal(ms("\"366d\""), kMaxApprovalMs);
    assert_int_equal(ms("\"31622400000ms\""), kMaxApprovalMs);
    for (const char* bad : {"0", "-1", "1e300", "1e-9", "\"\"", "\"m\"", "\"15x\"", "\"1m1h\"", "\"1m1m\"",
                            "\"-1m\"", "\"1.5m\"", "\"367d\"", "\"99999999999\"",
                            "\"18446744073709551616ms\"", "true", "[1]", "31622401"}) {
        if (ms(bad) != -1) fail_msg("%s is taken", bad);
    }
    assert_string_equal(parse_extension("{}").error().message.c_str(), "by is missing");
    assert_string_equal(parse_extension("{\"by\":1,\"x\":2}").error().message.c_str(),
                        "unknown field \"x\": known are by");
}

void what_is_wrong_is_named(void**) {
    assert_string_equal(wrong("{\"action\":\"a\"}").c_str(), "sessionId is missing");
    assert_string_equal(wrong("{\"sessionId\":\"1\"}").c_str(), "action is missing");
    assert_string_equal(wrong("{\"sessionId\":1,\"action\":\"a\"}").c_str(), "sessionId must be a string");
    const char* form = "sessionId must have 1 to 200 bytes, without control characters";
    assert_string_equal(wrong("{\"sessionId\":\"\",\"action\":\"a\"}").c_str(), form);
    assert_string_equal(wrong("{\"sessionId\":\"a\\u0000b\",\"action\":\"a\"}").c_str(), form);
    assert_string_equal(wrong("{\"sessionId\":\"" + std::string(201, 'x') + "\",\"action\":\"a\"}").c_str(),
                        form);
    for (const std::string id : {"a/b", ".", ".."})
        assert_string_equal(wrong(R"({"sessionId":"1","action":"a","id":")" + id + "\"}").c_str(),
                            "id must be 1 to 200 of [A-Za-z0-9_.:@~-], and neither . nor ..");
    assert_string_equal(wrong(R"({"sessionId":"1","action":"a","id":"..."})").c_str(), "good");
    assert_string_equal(wrong(R"({"sessionId":"1","action":"a","timeout":1,"expiresAt":2})").c_str(),
                        "timeout and expiresAt exclude each other");
    assert_string_equal(
        wrong(R"({"sessionId":"1","action":"a","tennantId":"x"})").c_str(),
        "unknown field \"tennantId\": known are sessionId, action, context, tenantId, timeout, "
        "expiresAt, id");
    assert_true(wrong("[]").starts_with("json: "));
    assert_true(wrong("").starts_with("json: "));
    assert_true(wrong("{\"sessionId\":\"1\",\"sessionId\":\"2\"}").starts_with("json: "));
}

void a_resolution_is_approved_or_rejected(void**) {
    const auto good = parse_resolution(R"({"status":"rejected","resolvedBy":"ann"})");
    assert_true(good.ok());
    assert_true(good->status == ApprovalStatus::rejected);
    assert_string_equal(good->by->c_str(), "ann");
    assert_true(parse_resolution(R"({"status":"approved"})").ok());
    for (const char* status : {"pending", "timeout", "cancelled", "Approved"}) {
        const auto bad = parse_resolution("{\"status\":\"" + std::string(status) + "\"}");
        assert_false(bad.ok());
        assert_string_equal(bad.error().message.c_str(), "status must be \"approved\" or \"rejected\"");
    }
    assert_string_equal(parse_resolution("{}").error().message.c_str(), "status is missing");
}

void a_cancellation_may_say_nothing(void**) {
    assert_true(parse_cancellation("").ok());
    assert_true(parse_cancellation(" \r\n").ok());
    assert_true(parse_cancellation("{}").ok());
    assert_string_equal(parse_cancellation(R"({"resolvedBy":"bob"})")->by->c_str(), "bob");
    assert_true(parse_cancellation("").ok() && parse_cancellation("")->status == ApprovalStatus::cancelled);
    assert_false(parse_cancellation("{\"status\":\"approved\"}").ok());
}

void arguments_of_a_list_are_read(void**) {
    ApprovalQuery query;
    const auto read = [&](const char* name, const char* value) {
        const auto error = read_query_argument(query, name, value);
        return error ? error->message : std::string("good");
    };
    assert_string_equal(read("sessionId", "s 1").c_str(), "good");
    assert_string_equal(read("sessionId", "s2").c_str(), "sessionId came twice");
    assert_string_equal(read("tenantId", "").c_str(),
                        "tenantId must have 1 to 200 bytes, without control characters");
    assert_string_equal(read("status", "open").c_str(),
                        "status must be pending, approved, rejected, timeout or cancelled");
    assert_string_equal(read("status", "timeout").c_str(), "good");
    assert_true(query.status == ApprovalStatus::timeout);
    assert_string_equal(read("status", "pending").c_str(), "status came twice");
    for (const char* limit : {"0", "1001", "x", "", "-1", "1.0"})
        assert_string_equal(read("limit", limit).c_str(), "limit must be 1 to 1000");
    assert_string_equal(read("limit", "1000").c_str(), "good");
    assert_int_equal(query.page(), 1000);
    assert_string_equal(read("limit", "1000").c_str(), "limit came twice");
    assert_string_equal(read("session", "1").c_str(),
                        "unknown argument \"session\": known are sessionId, tenantId, status, limit, after");
    assert_true(read("\xff", "1").starts_with("unknown argument : known"));
}

void statuses_have_their_names(void**) {
    for (const auto status : {ApprovalStatus::pending, ApprovalStatus::approved, ApprovalStatus::rejected,
                              ApprovalStatus::timeout, ApprovalStatus::cancelled})
        assert_true(parse_approval_status(approval_status_text(status)) == status);
    assert_false(parse_approval_status("").has_value());
    assert_string_equal(std::string(approval_status_text(ApprovalStatus::timeout)).c_str(), "timeout");
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(a_new_approval_is_read_whole),
        cmocka_unit_test(what_is_absent_or_null_is_left_to_the_store),
        cmocka_unit_test(an_instant_is_milliseconds),
        cmocka_unit_test(durations_are_seconds_or_times_of_nginx),
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(a_resolution_is_approved_or_rejected),
        cmocka_unit_test(a_cancellation_may_say_nothing),
        cmocka_unit_test(arguments_of_a_list_are_read),
        cmocka_unit_test(statuses_have_their_names),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

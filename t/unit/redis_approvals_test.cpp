// Approvals in Redis, with a Redis whose scripts say what the test wants: what is asked of it in which order,
// what comes of each answer, and when the sweeper looks. What the scripts themselves do: t/85.
#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "broker_fixture.hpp"
#include "failing_new.hpp"
#include "store/redis_approvals.hpp"

#include "cmocka.hpp"

using namespace redis_test;

namespace {

constexpr std::string_view kOutcomes[] = {
    "found",     "created",   "exists",   "done",    "not_found", "no_session", "past", "too_long",
    "too_large", "bad_after", "resolved", "expired", "bad_value", "refused",    "busy", "unavailable"};

struct Meter final : ApprovalMeter {
    std::string told;
    unsigned sweeps = 0;
    std::uint64_t pending = 0;

    void on_approval_told(ApprovalStatus status, std::int64_t late_ms) override {
        told += std::string(approval_status_text(status)) + '+' + std::to_string(late_ms) + ' ';
    }
    void on_sweep(std::uint64_t) override { ++sweeps; }
    void on_report(const ApprovalReport& report) override { pending = report.pending; }
    void on_outbox_published(std::uint64_t) override {}
    void on_outbox_refused() override {}
};

struct Fixture : BrokerFixture {
    explicit Fixture(bool polls = false) {
        approvals = broker->approvals(times, meter, polls);
        redis.answer = [this](FakeLine&, const Words& words) { return reply_to(words); };
        start();
        approvals->start();
        redis.serve();
        calls.clear();
    }

    // --- what Redis says, and has been asked

    std::optional<std::string> reply_to(const Words& words) {
        if (words[0] == "EVALSHA" && words[1] == script_sha(Script::approval_index)) return index(words);
        if (words[0] == "EVALSHA" && words[1] == script_sha(Script::approval)) return approval(words);
        if (words[0] == "GET" || words[0] == "HMGET" || words[0] == "ZRANGEBYSCORE") return command(words);
        return script(words);
    }
    std::optional<std::string> index(const Words& words) {
        const std::size_t keys = std::stoul(words[2]);
        assert_string_equal(words[3].c_str(), "rooms:{approvals}:due");
        const std::string& what = words[3 + keys];
        std::string text = what;
        for (std::size_t i = 4 + keys; i < words.size(); ++i) text += ' ' + words[i];
        if (keys == 3) text += " in " + words[5];
        if (what != "look")
            assert_string_equal(words[4].c_str(), ("rooms:{approvals}:id:" + words[4 + keys]).c_str());
        calls.push_back(text);
        if (replies.contains(what)) return replies[what];
        if (what == "claim") return list({bulk("new"), bulk("s1")});
        if (what == "look") {
            std::vector<std::string> parts = {number(next), number(static_cast<std::int64_t>(due.size()))};
            const std::size_t skip = std::stoul(words[4 + keys]);
            for (std::size_t i = skip; i < due.size() && i < skip + 100; ++i) parts.push_back(bulk(due[i]));
            return list(parts);
        }
        if (what == "forget" || (what == "put" && words[6 + keys] == "-1"))
            std::erase(due, words[4 + keys] + ' ' + words[5 + keys]);
        return list({});
    }
    std::optional<std::string> approval(const Words& words) {
        const std::size_t keys = std::stoul(words[2]);
        const std::string& what = words[3 + keys];
        if (what == "read") {
            std::vector<std::string> parts;
            std::string text = "read";
            for (std::size_t i = 3; i < 3 + keys; ++i) {
                const std::string id = words[i].substr(words[i].rfind(':') + 1);
                text += ' ' + words[i];
                parts.push_back(there.contains(id) ? there[id] : kNil);
            }
            calls.push_back(text);
            return list(parts);
        }
        assert_int_equal(keys, 4);
        assert_string_equal(words[3].c_str(), "rooms:{session:s1}:meta");
        assert_string_equal(words[4].c_str(), "rooms:{session:s1}:stream");
        assert_string_equal(words[6].c_str(), "rooms:{session:s1}:approvals");
        std::string text = what + ' ' + words[5].substr(words[5].rfind(':') + 1);
        // Size, time to live, the replication, a word, plain pub/sub, warnings, max=.
        assert_string_equal((words[8] + ' ' + words[9] + ' ' + words[10]).c_str(), "128 300000 r1");
        assert_false(words[11].empty());
        assert_string_equal((words[12] + ' ' + words[13] + ' ' + words[14]).c_str(), " 60000 30000 86400000");
        for (std::size_t i = 15; i < words.size(); ++i) text += ' ' + words[i];
        calls.push_back(text);
        return replies.contains(what) ? replies[what] : state("done", true, "approved", -1);
    }
    std::optional<std::string> command(const Words& words) {
        calls.push_back(joined(words));
        if (replies.contains(words[0])) return replies[words[0]];
        if (words[0] == "GET") return bulk("s1");
        if (words[0] == "HMGET") return list({kNil, kNil, kNil, kNil});
        const std::size_t skip = std::stoul(words[6]);
        std::vector<std::string> parts;
        for (std::size_t i = 2 * skip; i < listed.size() && i < 2 * (skip + 200); ++i)
            parts.push_back(bulk(listed[i]));
        return list(parts);
    }
    static std::string state(std::string_view outcome, bool changed, std::string_view status,
                             std::int64_t wait, std::string_view tenant = "null", std::int64_t late = -1) {
        return list({bulk(outcome), number(changed), bulk("{\"" + std::string(status) + "\"}"), bulk(status),
                     number(wait), bulk("77"), bulk(tenant), number(late), bulk("e1"), number(7), bulk("c")});
    }
    static std::string nothing(std::string_view outcome) {
        return list({bulk(outcome), number(0), bulk(""), bulk(""), number(-1), bulk(""), bulk("")});
    }
    static std::string shown(std::string_view json, std::string_view status = "pending",
                             std::string_view deadline = "5", std::string_view tenant = "null") {
        return list({bulk(json), bulk(status), bulk(deadline), bulk(tenant)});
    }
    void asked(const char* wanted) {
        redis.serve();
        std::string all;
        for (const std::string& call : std::exchange(calls, {})) all += (all.empty() ? "" : "; ") + call;
        assert_string_equal(all.c_str(), wanted);
    }
    std::size_t count(std::string_view beginning) const {
        return static_cast<std::size_t>(std::count_if(
            calls.begin(), calls.end(), [&](const auto& call) { return call.starts_with(beginning); }));
    }

    // --- what is wanted of it

    ApprovalDone say() {
        return [this](const ApprovalAnswer& answer) {
            std::string text(kOutcomes[static_cast<std::size_t>(answer.outcome)]);
            for (const std::string_view part : {answer.json, answer.status, answer.reason}) {
                if (!part.empty()) text += ' ' + std::string(part);
            }
            BrokerFixture::say(text);
        };
    }
    static NewApproval new_approval() {
        NewApproval approval;
        approval.session = "s1";
        approval.action = "deploy";
        approval.id = "a1";
        return approval;
    }
    void create(const NewApproval& approval = new_approval()) {
        approvals->create(approval, say());
        redis.serve();
    }
    void resolve(std::string_view id = "a1") {
        approvals->resolve(id, {ApprovalStatus::approved, "ann"}, say());
        redis.serve();
    }
    void list_of(const ApprovalQuery& query) {
        approvals->list(query, say());
        redis.serve();
    }

    ApprovalTimes times{.warn_ms = {60000, 30000}};
    Meter meter;
    std::map<std::string, std::string> replies;  // by what is asked
    std::map<std::string, std::string> there;    // what is read, by id
    std::vector<std::string> listed;             // member, deadline, …
    std::vector<std::string> due;
    std::int64_t next = -1;
    std::vector<std::string> calls;
    std::unique_ptr<RedisApprovals> approvals;
};

// --- one approval

void a_new_one_claims_its_id_is_made_and_put_into_the_index(void**) {
    Fixture f;
    f.replies["create"] = Fixture::state("created", true, "pending", 840000, R"("t\"1")");
    NewApproval approval = Fixture::new_approval();
    approval.tenant = "t\"1";
    approval.context = R"({"n":1.10})";
    f.create(approval);
    f.told("created {\"pending\"} pending");
    f.asked(
        "HMGET rooms:approval_timeouts t\"1|deploy t\"1| |deploy |; claim a1 s1  900000 ; "
        "create a1 \"deploy\" {\"n\":1.10} \"t\\\"1\" 900000  ; "
        "put a1 s1 840000 77 in rooms:{approvals}:tenant:t\"1");
    assert_string_equal(f.meter.told.c_str(), "");
}

void a_timeout_or_a_deadline_that_is_given_is_bounded_and_asks_nobody(void**) {
    Fixture f;
    f.replies["create"] = Fixture::state("created", true, "pending", 5000);
    NewApproval approval = Fixture::new_approval();
    approval.timeout_ms = 90000;
    f.create(approval);
    f.asked("claim a1 s1  90000 ; create a1 \"deploy\" null null 90000  1; put a1 s1 5000 77");
    approval.timeout_ms.reset();
    approval.expires_at_ms = 1234;
    f.create(approval);
    f.asked("claim a1 s1   1234; create a1 \"deploy\" null null  1234 1; put a1 s1 5000 77");
}

void the_most_exact_timeout_of_the_table_counts(void**) {
    const auto timeout = [](const std::vector<std::string>& values, bool with_tenant = true) {
        Fixture f;
        std::vector<std::string> parts;
        for (const std::string& value : values) parts.push_back(value.empty() ? kNil : bulk(value));
        f.replies["HMGET"] = list(parts);
        f.replies["create"] = Fixture::nothing("past");
        NewApproval approval = Fixture::new_approval();
        if (with_tenant) approval.tenant = "t";
        f.create(approval);
        const std::string call = f.calls.at(2);
        const std::size_t at = call.find(with_tenant ? "\"t\" " : "null null ");
        return call.substr(at + (with_tenant ? 4 : 10)) + (f.reactor.logged("approval_timeouts") ? "!" : "");
    };
    assert_string_equal(timeout({"1m", "2", "3", "4"}).c_str(), "60000  ");
    assert_string_equal(timeout({"", "2", "3", "4"}).c_str(), "2000  ");
    assert_string_equal(timeout({"", "", "3", "4"}).c_str(), "3000  ");
    assert_string_equal(timeout({"", "", "", "1h 30m"}).c_str(), "5400000  ");
    // Without a tenant nobody's lines count, not even those of an empty name.
    assert_string_equal(timeout({"1", "2", "3", "4"}, false).c_str(), "3000  ");
    // What is no time is passed over, and told.
    assert_string_equal(timeout({"soon", "0", "3", "4"}).c_str(), "3000  !");
    assert_string_equal(timeout({"-1", "1.5", "", "x"}).c_str(), "900000  !");
}

void without_an_id_it_gets_a_uuid(void**) {
    Fixture f;
    NewApproval approval = Fixture::new_approval();
    approval.id.reset();
    approval.timeout_ms = 1000;
    f.create(approval);
    const std::string claim = f.calls.at(0);
    assert_int_equal(claim.size(), 6 + 36 + 10);
    const std::string id = claim.substr(6, 36);
    for (const std::size_t dash : {8, 13, 18, 23}) assert_int_equal(id[dash], '-');
    assert_int_equal(id[14], '4');
    assert_true(std::string("89ab").find(id[19]) != std::string::npos);
    assert_int_equal(std::count_if(id.begin(), id.end(), [](char c) { return std::isxdigit(c) != 0; }), 32);
}

void a_session_that_can_have_no_room_and_an_id_that_can_be_none_ask_nobody(void**) {
    Fixture f;
    NewApproval approval = Fixture::new_approval();
    for (const std::string& session :
         {std::string("a b"), std::string("}"), std::string("ä"), std::string(201, 'x')}) {
        approval.session = session;
        f.create(approval);
        f.told("no_session");
    }
    for (const std::string_view id : {"", "a b", "x}:id", "ä"}) {
        f.resolve(id);
        f.told("not_found");
        f.approvals->get(id, f.say());
        f.told("not_found");
        f.approvals->extend(id, 1, f.say());
        f.told("not_found");
        ApprovalQuery query;
        query.session = "s1";
        query.after = id;
        f.list_of(query);
        f.told("bad_after");
    }
    f.asked("");
}

void what_is_refused_at_once_gives_the_id_back_that_it_had_claimed(void**) {
    for (const char* outcome : {"past", "too_long"}) {
        Fixture f;
        f.replies["create"] = Fixture::nothing(outcome);
        NewApproval approval = Fixture::new_approval();
        approval.timeout_ms = 1;
        f.create(approval);
        f.told(outcome);
        f.asked("claim a1 s1  1 ; create a1 \"deploy\" null null 1  1; forget a1 s1");
        // Not so one that somebody else has.
        f.replies["claim"] = list({bulk("known"), bulk("s1")});
        f.create(approval);
        f.told(outcome);
        f.asked("claim a1 s1  1 ; create a1 \"deploy\" null null 1  1");
    }
}

void an_id_that_is_there_already_is_shown(void**) {
    Fixture f;
    f.replies["claim"] = list({bulk("known"), bulk("s1")});
    f.replies["create"] = Fixture::state("exists", false, "approved", -1);
    NewApproval approval = Fixture::new_approval();
    approval.timeout_ms = 1;
    f.create(approval);
    f.told("exists {\"approved\"} approved");
    f.asked("claim a1 s1  1 ; create a1 \"deploy\" null null 1  1");
}

void an_id_of_another_session_is_shown_or_taken_over(void**) {
    Fixture f;
    NewApproval approval = Fixture::new_approval();
    approval.timeout_ms = 1;
    approval.session = "s2";
    f.replies["claim"] = list({bulk("other"), bulk("s1")});
    f.replies["sweep"] = Fixture::state("resolved", false, "approved", -1);
    f.create(approval);
    f.told("exists {\"approved\"} approved");
    f.asked("claim a1 s2  1 ; sweep a1; put a1 s1 -1 77");
    // The other session has not got it, and by then cannot get it any more.
    f.replies["sweep"] = Fixture::nothing("not_found");
    f.create(approval);
    f.told("unavailable somebody else claims this id again and again");
    f.asked(
        "claim a1 s2  1 ; sweep a1; claim a1 s2 s1 1 ; sweep a1; claim a1 s2 s1 1 ; sweep a1; claim a1 s2 s1 "
        "1 ; sweep "
        "a1");
}

void an_id_that_somebody_began_and_left_is_free_in_a_moment(void**) {
    Fixture f;
    f.replies["create"] = Fixture::nothing("void");
    f.create();
    f.told("unavailable this id was begun by somebody who did not go on: it is free in a moment");
}

void a_decision_is_looked_up_made_counted_and_put_into_the_index(void**) {
    Fixture f;
    f.resolve();
    f.told("done {\"approved\"} approved");
    f.asked("GET rooms:{approvals}:id:a1; resolve a1 approved \"ann\"; put a1 s1 -1 77");
    f.approvals->resolve("a1", {ApprovalStatus::cancelled, std::nullopt}, f.say());
    f.asked("GET rooms:{approvals}:id:a1; resolve a1 cancelled null; put a1 s1 -1 77");
    f.replies["extend"] = Fixture::state("done", true, "pending", 8000);
    f.approvals->extend("a1", 1500, f.say());
    f.asked("GET rooms:{approvals}:id:a1; extend a1 1500; put a1 s1 8000 77");
    f.told("done {\"approved\"} approved; done {\"pending\"} pending");
    assert_string_equal(f.meter.told.c_str(), "approved+-1 approved+-1 ");
}

void a_late_or_second_decision_is_told_what_stands(void**) {
    Fixture f;
    f.replies["resolve"] = Fixture::state("resolved", false, "rejected", -1);
    f.resolve();
    f.told("resolved {\"rejected\"} rejected");
    f.asked("GET rooms:{approvals}:id:a1; resolve a1 approved \"ann\"");
    assert_string_equal(f.meter.told.c_str(), "");
    // It has ended now, by this very call.
    f.replies["resolve"] = Fixture::state("expired", true, "timeout", -1, "null", 12);
    f.resolve();
    f.told("expired {\"timeout\"} timeout");
    f.asked("GET rooms:{approvals}:id:a1; resolve a1 approved \"ann\"; put a1 s1 -1 77");
    assert_string_equal(f.meter.told.c_str(), "timeout+12 ");
    f.replies["GET"] = kNil;
    f.resolve();
    f.told("not_found");
    f.asked("GET rooms:{approvals}:id:a1");
    // Known to the index only.
    f.replies.erase("GET");
    f.replies["resolve"] = Fixture::nothing("not_found");
    f.resolve();
    f.told("not_found");
}

void one_is_shown_as_it_stands(void**) {
    Fixture f;
    f.there["a1"] = Fixture::shown("{1}", "timeout");
    f.approvals->get("a1", f.say());
    f.asked("GET rooms:{approvals}:id:a1; read rooms:{session:s1}:approval:a1");
    f.told("found {1} timeout");
    f.there.clear();
    f.approvals->get("a1", f.say());
    f.redis.serve();
    f.told("not_found");
}

// --- no answer

void a_redis_that_is_away_is_said_at_once_and_one_that_is_silent_within_a_second(void**) {
    Fixture f;
    f.redis.silent = true;
    ApprovalQuery query;
    query.session = "s1";
    const auto all = [&] {
        f.create();
        f.resolve();
        f.approvals->get("a1", f.say());
        f.list_of(query);
    };
    all();
    assert_true(f.reactor.held);
    f.run(790);
    assert_string_equal(f.said.c_str(), "");
    f.run(110);
    f.told(
        "unavailable redis did not answer in time; unavailable redis did not answer in time; "
        "unavailable redis did not answer in time; unavailable redis did not answer in time");
    assert_false(f.reactor.held);
    all();
    assert_false(f.reactor.held);
    f.told(
        "unavailable redis cannot be reached; unavailable redis cannot be reached; "
        "unavailable redis cannot be reached; unavailable redis cannot be reached");
}

void a_slow_chain_of_calls_is_cut_off_and_still_ends_as_it_should(void**) {
    Fixture f;
    f.replies["create"] = Fixture::state("created", true, "pending", 840000);
    const auto quick = f.redis.answer;
    bool slow = true;
    f.redis.answer = [&](FakeLine& line, const Words& words) -> std::optional<std::string> {
        if (slow && words[0] == "EVALSHA") return std::nullopt;
        return quick(line, words);
    };
    f.create();
    f.run(600);
    const Words claim = {"EVALSHA",
                         std::string(script_sha(Script::approval_index)),
                         "2",
                         "rooms:{approvals}:due",
                         "rooms:{approvals}:id:a1",
                         "claim",
                         "a1",
                         "s1",
                         "",
                         "900000",
                         ""};
    f.redis.reply(*f.index(claim));
    assert_string_equal(f.said.c_str(), "");
    f.run(300);
    f.told("unavailable redis did not answer in time");
    f.calls.clear();
    slow = false;
    f.redis.serve();
    f.asked("create a1 \"deploy\" null null 900000  ; put a1 s1 840000 77");
    f.told("");
}

void a_refusal_is_the_callers(void**) {
    Fixture f;
    f.replies["resolve"] = "-OOM command not allowed\r\n";
    f.resolve();
    f.told("unavailable redis refuses: OOM");
    f.replies["resolve"] = "+what\r\n";
    f.resolve();
    f.told("unavailable redis gave an answer that makes no sense");
}

void a_store_that_is_gone_calls_nobody_and_holds_nothing(void**) {
    Fixture f(true);
    f.redis.silent = true;
    f.create();
    f.resolve();
    assert_true(f.reactor.held);
    f.approvals.reset();
    assert_false(f.reactor.held);
    f.redis.silent = false;
    f.run(3000);
    f.told("");
}

void what_is_stored_is_remembered_as_the_rooms_newest_event(void**) {
    Fixture f;
    f.resolve();
    // The replication behind the address changes: the room is compared with what was stored here.
    f.redis.seen.clear();
    f.redis.replication = "r2";
    f.redis.commands().hang_up();
    f.run(1000);
    bool compared = false;
    for (const std::string& command : f.redis.take("EVALSHA ")) {
        compared = compared || (command.starts_with("EVALSHA sync") &&
                                command.find("{session:s1}:meta") != command.npos &&
                                command.find(" e1 7 c r1 ") != command.npos);
    }
    assert_true(compared);
}

// --- lists

void a_page_of_a_session_is_read_in_one_call(void**) {
    Fixture f;
    f.listed = {"a1", "5", "gone", "6", "a2", "7"};
    f.there = {{"a1", Fixture::shown("{1}")}, {"a2", Fixture::shown("{2}", "approved", "7", "\"t\"")}};
    ApprovalQuery query;
    query.session = "s1";
    f.list_of(query);
    f.told("found {\"approvals\":[{1},{2}],\"next\":null}");
    f.asked(
        "ZRANGEBYSCORE rooms:{session:s1}:approvals -inf +inf WITHSCORES LIMIT 0 200; "
        "read rooms:{session:s1}:approval:a1 rooms:{session:s1}:approval:gone "
        "rooms:{session:s1}:approval:a2");
    query.tenant = "t";
    f.list_of(query);
    f.told("found {\"approvals\":[{2}],\"next\":null}");
    query.tenant.reset();
    query.status = ApprovalStatus::pending;
    f.list_of(query);
    f.told("found {\"approvals\":[{1}],\"next\":null}");
    // What waits has its deadline before it.
    assert_int_equal(f.count("ZRANGEBYSCORE rooms:{session:s1}:approvals 179533"), 1);
    f.listed.clear();
    f.list_of(query);
    f.told("found {\"approvals\":[],\"next\":null}");
}

void a_page_of_a_tenant_is_read_session_by_session(void**) {
    Fixture f;
    f.listed = {"a1 s1", "5", "a2 s1", "6", "b1 s2", "7", "a3 s1", "8", "odd", "9"};
    f.there = {{"a1", Fixture::shown("{1}")},
               {"a2", Fixture::shown("{2}")},
               {"b1", Fixture::shown("{b}")},
               {"a3", Fixture::shown("{3}")}};
    ApprovalQuery query;
    query.tenant = "t 1";
    f.list_of(query);
    f.told("found {\"approvals\":[{1},{2},{b},{3}],\"next\":null}");
    f.asked(
        "ZRANGEBYSCORE rooms:{approvals}:tenant:t 1 -inf +inf WITHSCORES LIMIT 0 200; "
        "read rooms:{session:s1}:approval:a1 rooms:{session:s1}:approval:a2; read "
        "rooms:{session:s2}:approval:b1; "
        "read rooms:{session:s1}:approval:a3; read rooms:{session:}:approval:odd");
}

void a_full_page_says_where_the_next_begins_and_that_one_begins_there(void**) {
    Fixture f;
    f.listed = {"a", "5", "b", "5", "c", "5", "d", "6"};
    for (const char* id : {"a", "b", "c", "d"})
        f.there[id] = Fixture::shown(id, "pending", id[0] == 'd' ? "6" : "5");
    ApprovalQuery query;
    query.session = "s1";
    query.limit = 2;
    f.list_of(query);
    f.told("found {\"approvals\":[a,b],\"next\":\"b\"}");
    f.calls.clear();
    query.after = "b";
    f.list_of(query);
    f.told("found {\"approvals\":[c,d],\"next\":\"d\"}");
    assert_string_equal(f.calls.at(2).c_str(),
                        "ZRANGEBYSCORE rooms:{session:s1}:approvals 5 +inf WITHSCORES LIMIT 0 200");
    query.limit = 3;
    f.list_of(query);
    f.told("found {\"approvals\":[c,d],\"next\":null}");
    f.there.erase("b");
    f.list_of(query);
    f.told("bad_after");
    f.replies["GET"] = kNil;
    f.list_of(query);
    f.told("bad_after");
}

void a_page_is_filled_from_as_many_reads_as_it_takes(void**) {
    Fixture f;
    for (int i = 0; i < 450; ++i) {
        const std::string id = "x" + std::to_string(1000 + i);
        f.listed.push_back(id);
        f.listed.push_back("5");
        f.there[id] = Fixture::shown("{}", i % 200 == 199 ? "approved" : "timeout");
    }
    ApprovalQuery query;
    query.session = "s1";
    query.status = ApprovalStatus::approved;
    f.list_of(query);
    f.told("found {\"approvals\":[{},{}],\"next\":null}");
    assert_int_equal(f.count("ZRANGEBYSCORE"), 3);
    assert_int_equal(f.count("ZRANGEBYSCORE rooms:{session:s1}:approvals 5 +inf WITHSCORES LIMIT 400 200"),
                     1);
    // One that takes long ends early, with a place to go on from.
    f.calls.clear();
    const auto quick = f.redis.answer;
    f.redis.answer = [&](FakeLine& line, const Words& words) {
        if (words[0] == "ZRANGEBYSCORE") f.reactor.advance(300);
        return quick(line, words);
    };
    f.list_of(query);
    f.told("found {\"approvals\":[{},{}],\"next\":\"x1399\"}");
}

void a_page_of_which_a_part_is_not_answered_is_none(void**) {
    Fixture f;
    f.listed = {"a1", "5"};
    f.replies["ZRANGEBYSCORE"] = "-WRONGTYPE no\r\n";
    ApprovalQuery query;
    query.session = "s1";
    f.list_of(query);
    f.told("unavailable redis refuses: WRONGTYPE");
    f.replies.clear();
    const auto good = f.redis.answer;
    f.redis.answer = [&](FakeLine& line, const Words& words) -> std::optional<std::string> {
        if (words[0] == "EVALSHA") return "-OOM no\r\n";
        return good(line, words);
    };
    f.list_of(query);
    f.told("unavailable redis did not answer all that it was asked");
}

// --- the sweeper

void while_nothing_is_due_it_looks_once_a_second(void**) {
    Fixture f(true);
    f.run(10000);
    assert_int_equal(f.calls.size(), 10);
    assert_int_equal(f.count("look 0 100"), 10);
    assert_int_equal(f.meter.sweeps, 11);
    f.approvals->begin_drain();
    f.run(3000);
    assert_int_equal(f.calls.size(), 10);
}

void it_looks_at_the_nearest_instant_that_it_knows(void**) {
    Fixture f(true);
    f.next = 340;
    f.run(1000);
    f.calls.clear();
    f.run(330);
    f.asked("");
    f.next = -1;
    f.run(20);
    f.asked("look 0 100");
    // What becomes due by a request here is nearer than the next look.
    f.replies["create"] = Fixture::state("created", true, "pending", 250);
    f.create();
    f.calls.clear();
    f.run(240);
    f.asked("");
    f.run(10);
    f.asked("look 0 100");
}

void what_is_due_is_swept_counted_and_put_where_it_belongs(void**) {
    Fixture f(true);
    f.due = {"a1 s1", "a2 s1"};
    f.replies["sweep"] = Fixture::state("expired", true, "timeout", -1, R"("t")", 4);
    f.run(1000);
    f.asked(
        "look 0 100; sweep a1; sweep a2; put a1 s1 -1 77 in rooms:{approvals}:tenant:t; "
        "put a2 s1 -1 77 in rooms:{approvals}:tenant:t");
    assert_string_equal(f.meter.told.c_str(), "timeout+4 timeout+4 ");
    assert_int_equal(f.meter.pending, 2);
    // Another host was there first, or it has been extended: the index is corrected.
    f.due = {"a3 s1"};
    f.replies["sweep"] = Fixture::state("done", false, "pending", 5000);
    f.run(1000);
    f.asked("look 0 100; sweep a3; put a3 s1 5000 77");
    assert_string_equal(f.meter.told.c_str(), "timeout+4 timeout+4 ");
    f.replies["sweep"] = Fixture::nothing("not_found");
    f.run(1000);
    f.asked("look 0 100; sweep a3; forget a3 s1");
    assert_true(f.due.empty());
}

void many_are_swept_in_batches_without_a_pause_and_those_that_cannot_be_are_passed_over(void**) {
    Fixture f(true);
    f.replies["sweep"] = Fixture::state("expired", true, "timeout", -1);
    for (int i = 0; i < 250; ++i) f.due.push_back("a" + std::to_string(i) + " s1");
    f.run(1000);
    assert_int_equal(f.count("sweep"), 250);
    assert_int_equal(f.count("look 0 100"), 3);
    assert_true(f.due.empty());
    f.calls.clear();
    // A hundred broken ones do not keep the others from their end.
    const auto good = f.redis.answer;
    f.redis.answer = [&](FakeLine& line, const Words& words) -> std::optional<std::string> {
        if (words[0] == "EVALSHA" && words.size() > 7 && words[7] == "sweep" &&
            words[5].find(":broken") != std::string::npos)
            return "-WRONGTYPE no\r\n";
        return good(line, words);
    };
    for (int i = 0; i < 130; ++i) f.due.push_back("broken" + std::to_string(i) + " s1");
    f.due.push_back("last s1");
    f.run(1000);
    assert_int_equal(f.count("sweep last"), 1);
    assert_int_equal(f.count("look 0 100"), 1);
    assert_int_equal(f.count("look 100 100"), 1);
    assert_int_equal(f.due.size(), 130);
    f.calls.clear();
    f.run(1000);
    assert_int_equal(f.count("look 0 100"), 1);
}

void after_an_outage_all_that_is_overdue_is_swept_within_a_second(void**) {
    Fixture f(true);
    f.redis.accepts = false;
    f.redis.commands().hang_up();
    f.run(5000);
    f.calls.clear();
    const unsigned sweeps = f.meter.sweeps;
    f.due = {"a1 s1"};
    f.replies["sweep"] = Fixture::state("expired", true, "timeout", -1, "null", 4000);
    f.redis.accepts = true;
    f.run(500);
    f.run(1000);
    assert_int_equal(f.count("sweep a1"), 1);
    assert_string_equal(f.meter.told.c_str(), "timeout+4000 ");
    assert_true(f.meter.sweeps > sweeps);
}

void who_does_not_poll_looks_only_for_what_it_made_due_itself(void**) {
    Fixture f;
    f.run(5000);
    f.asked("");
    f.replies["create"] = Fixture::state("created", true, "pending", 2000);
    f.create();
    f.calls.clear();
    f.run(5000);
    f.asked("");
    f.replies["create"] = Fixture::state("created", true, "pending", 1500);
    f.replies["extend"] = Fixture::state("done", true, "pending", 1000);
    f.create();
    f.approvals->extend("a1", 1, f.say());
    f.redis.serve();
    f.calls.clear();
    f.next = 499;
    f.run(1000);
    f.asked("look 0 100");
    // A look too early by a moment is repeated.
    f.run(490);
    f.next = 2;
    f.run(10);
    f.asked("look 0 100");
    f.next = 1;
    f.run(5000);
    f.asked("");
}

void want_of_memory_ends_no_sweeping(void**) {
    if (!allocations_can_fail()) return skip();
    Fixture f(true);
    const std::string timeout = Fixture::state("expired", true, "timeout", -1);
    f.replies["sweep"] = timeout;
    const auto good = f.redis.answer;
    for (const bool in_sweep : {false, true}) {
        for (long n = 0; n < 40; ++n) {
            const Script held = in_sweep ? Script::approval : Script::approval_index;
            f.redis.answer = [&](FakeLine& line, const Words& words) -> std::optional<std::string> {
                if (words[0] == "EVALSHA" && words[1] == script_sha(held)) return std::nullopt;
                return good(line, words);
            };
            f.due = {"a1 s1"};
            f.run(1000);
            assert_true(f.redis.waiting().starts_with(in_sweep ? "EVALSHA approval" : "EVALSHA index"));
            FakeLine& line = f.redis.commands();
            f.redis.held[&line].pop_front();
            const std::string reply = in_sweep ? timeout : list({number(-1), number(1), bulk("a1 s1")});
            allocations_left = n;
            line.feed(reply);
            allocations_left = -1;
            f.redis.answer = good;
            f.run(3000);
            assert_true(f.due.empty());
        }
    }
    // And where the timer itself has none.
    for (long n = 0; n < 40; ++n) {
        f.due = {"a1 s1"};
        allocations_left = n;
        f.reactor.advance(1000);
        allocations_left = -1;
        f.run(3000);
        assert_true(f.due.empty());
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(a_new_one_claims_its_id_is_made_and_put_into_the_index),
        cmocka_unit_test(a_timeout_or_a_deadline_that_is_given_is_bounded_and_asks_nobody),
        cmocka_unit_test(the_most_exact_timeout_of_the_table_counts),
        cmocka_unit_test(without_an_id_it_gets_a_uuid),
        cmocka_unit_test(a_session_that_can_have_no_room_and_an_id_that_can_be_none_ask_nobody),
        cmocka_unit_test(what_is_refused_at_once_gives_the_id_back_that_it_had_claimed),
        cmocka_unit_test(an_id_that_is_there_already_is_shown),
        cmocka_unit_test(an_id_of_another_session_is_shown_or_taken_over),
        cmocka_unit_test(an_id_that_somebody_began_and_left_is_free_in_a_moment),
        cmocka_unit_test(a_decision_is_looked_up_made_counted_and_put_into_the_index),
        cmocka_unit_test(a_late_or_second_decision_is_told_what_stands),
        cmocka_unit_test(one_is_shown_as_it_stands),
        cmocka_unit_test(a_redis_that_is_away_is_said_at_once_and_one_that_is_silent_within_a_second),
        cmocka_unit_test(a_slow_chain_of_calls_is_cut_off_and_still_ends_as_it_should),
        cmocka_unit_test(a_refusal_is_the_callers),
        cmocka_unit_test(a_store_that_is_gone_calls_nobody_and_holds_nothing),
        cmocka_unit_test(what_is_stored_is_remembered_as_the_rooms_newest_event),
        cmocka_unit_test(a_page_of_a_session_is_read_in_one_call),
        cmocka_unit_test(a_page_of_a_tenant_is_read_session_by_session),
        cmocka_unit_test(a_full_page_says_where_the_next_begins_and_that_one_begins_there),
        cmocka_unit_test(a_page_is_filled_from_as_many_reads_as_it_takes),
        cmocka_unit_test(a_page_of_which_a_part_is_not_answered_is_none),
        cmocka_unit_test(while_nothing_is_due_it_looks_once_a_second),
        cmocka_unit_test(it_looks_at_the_nearest_instant_that_it_knows),
        cmocka_unit_test(what_is_due_is_swept_counted_and_put_where_it_belongs),
        cmocka_unit_test(many_are_swept_in_batches_without_a_pause_and_those_that_cannot_be_are_passed_over),
        cmocka_unit_test(after_an_outage_all_that_is_overdue_is_swept_within_a_second),
        cmocka_unit_test(who_does_not_poll_looks_only_for_what_it_made_due_itself),
        cmocka_unit_test(want_of_memory_ends_no_sweeping),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

#!/usr/bin/python3
"""Approvals in Postgres, from end to end: the HTTP API, what pages are told, and the clock, with the platform's own
statements beside it."""
import json
import os
import re
import sys
import threading
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import SCALE, approval_rig, http, tap, wait_until                                    # noqa: E402
from rooms.approvals import (LOCATIONS, OPTIONS, Watch, act, approvals_host, ask, connected, create, insert,  # noqa: E402
                             migrate, new_session, row)
from rooms.page import join, open_page                                                        # noqa: E402
from rooms.postgres import Postgres, SqlError                                                 # noqa: E402
from rooms.redis import Redis                                                                 # noqa: E402

LATE_MS = 250 * SCALE
DAY = 24 * 3600

pg = Postgres(options=OPTIONS)
migrate(pg)
for name in ("warns", "shared", "idle", "idle_outbox", "waits", "changes", "slow"):
    pg.sql(f"create database {name}")
    migrate(pg, name)
sql = pg.session()
server = approvals_host(pg, locations=LOCATIONS + """
    location /guarded { rooms_approvals_api secret=@DIR@/api; }
""", files={"api": "0123456789abcdef0123456789abcdef"})


def now():
    return time.time() * 1000


def near(got, want, what, by=5000):
    tap.ok(abs(got - want) < by * SCALE, f"{what}: {got}, expected about {want}")


def in_time(event):
    """A timeout's event: neither the store nor the broadcast was early, nor late."""
    tap.ok(event["resolvedAt"] >= event["expiresAt"] and event["lateMs"] >= 0, f"not early: {event}")
    tap.ok(0 <= event["timestamp"] - event["expiresAt"] <= LATE_MS, f"in time: {event}")


def refuse(status, code, response):
    tap.is_((response.status, response.json["error"]["code"]), (status, code), repr(response))
    tap.is_(response.get("Content-Type"), "application/json")
    return response.json["error"]["message"]


def sweeper_of(database="postgres"):
    got = sql(f"select pid from pg_stat_activity where application_name = 'rooms approvals' and datname = '{database}'")
    return [one[0] for one in got]


def caught_up(session):
    wait_until(lambda: session("select count(*) from rooms_outbox") == [["0"]], "the outbox to be empty")


def history_of(host, room, epoch, worker=None):
    """Every event of the room since its offset 0: consecutive offsets, read by a page that comes back."""
    with open_page(host, worker=worker) as page:
        got = join(page, room, since={"epoch": epoch, "offset": 0})
        tap.is_(got["recovered"], True)
        events = [page.expect(offset=offset) for offset in range(1, got["offset"] + 1)]
        page.expect_nothing()
        return events


# --- the API: create

@tap.case("create: 201 with the approval, approval:requested to the session's pages at every worker, once")
def _():
    of = new_session(sql)
    with Watch(of, server) as pages:
        began = now()
        made = create(server, of, action="deploy", context={"n": [1, None, "ü"]}, timeout=90.5, tenantId="t1")
        tap.is_(sorted(made), sorted(["id", "sessionId", "tenantId", "action", "context", "status", "resolvedBy", "createdAt", "expiresAt", "resolvedAt"]))
        tap.is_({k: made[k] for k in ("sessionId", "tenantId", "action", "context", "status", "resolvedBy", "resolvedAt")},
                {"sessionId": of, "tenantId": "t1", "action": "deploy", "context": {"n": [1, None, "ü"]}, "status": "pending",
                 "resolvedBy": None, "resolvedAt": None})
        near(made["createdAt"], began, "createdAt")
        near(made["expiresAt"], began + 90500, "expiresAt")
        event = pages.expect(type="approval:requested", approvalId=made["id"], action="deploy", context=made["context"], tenantId="t1",
                             expiresAt=made["expiresAt"], id=f"approval:{made['id']}:requested", offset=1, sessionId=of)
        tap.is_(sorted(event), sorted(["type", "sessionId", "id", "action", "context", "tenantId", "expiresAt", "approvalId", "room", "offset", "timestamp"]))
        tap.is_(ask(server, path=f"/{made['id']}", expect=200), made, "what GET shows")
        pages.nothing()


@tap.case("the timeout may be seconds, a time of nginx' or an instant; without one it is the directive's")
def _():
    of = new_session(sql)
    for fields, seconds in (({"timeout": 90}, 90), ({"timeout": "15m"}, 900), ({"timeout": "1h 30m"}, 5400), ({"timeout": 0.5}, 0.5),
                            ({"timeout": None}, 900), ({}, 900), ({"timeout": "24h"}, DAY)):
        near(create(server, of, **fields)["expiresAt"], now() + seconds * 1000, f"{fields}")
    at = int(now()) + 123456
    tap.is_(create(server, of, expiresAt=at)["expiresAt"], at)


@tap.case("an id of one's own: the repeat is 200 with what stands, changes nothing and tells nobody")
def _():
    of = new_session(sql)
    with Watch(of, server) as pages:
        made = create(server, of, id="own:1.~@-_", timeout=60)
        tap.is_(made["id"], "own:1.~@-_")
        pages.expect(type="approval:requested", id="approval:own:1.~@-_:requested")
        for fields in ({"timeout": 60}, {"timeout": 999, "action": "other"}):
            tap.is_(create(server, of, 200, id="own:1.~@-_", **fields), made)
        act(server, "own:1.~@-_", "resolve", status="approved", resolvedBy="ann")
        tap.is_(create(server, of, 200, id="own:1.~@-_")["status"], "approved")
        pages.expect(type="approval:resolved", offset=2)
        pages.nothing()


@tap.case("an unknown session is 404, and so is another tenant's")
def _():
    of = new_session(sql, "t2")
    for body in ({"sessionId": "nobody"}, {"sessionId": of, "tenantId": "t1"}, {"sessionId": new_session(sql, None), "tenantId": "t1"}):
        tap.like(refuse(404, "unknown_session", ask(server, "POST", "", {"action": "x", **body})), "sessionId")
    tap.is_(create(server, of, tenantId="t2")["tenantId"], "t2")
    tap.is_(create(server, of)["tenantId"], "t2", "without a tenant in the request")


WRONG = [
    ("sessionId", {"action": "x"}), ("sessionId", {"sessionId": 1, "action": "x"}), ("sessionId", {"sessionId": "", "action": "x"}),
    ("action", {"sessionId": "s"}), ("action", {"sessionId": "s", "action": "x" * 201}), ("action", {"sessionId": "s", "action": "a\nb"}),
    ("tenantId", {"sessionId": "s", "action": "x", "tenantId": {}}),
    ("timeout", {"sessionId": "s", "action": "x", "timeout": 0}), ("timeout", {"sessionId": "s", "action": "x", "timeout": -1}),
    ("timeout", {"sessionId": "s", "action": "x", "timeout": "soon"}), ("timeout", {"sessionId": "s", "action": "x", "timeout": "1y"}),
    ("timeout", {"sessionId": "s", "action": "x", "timeout": True}), ("timeout", {"sessionId": "s", "action": "x", "timeout": 1e300}),
    ("expiresAt", {"sessionId": "s", "action": "x", "expiresAt": "2030-01-01"}), ("expiresAt", {"sessionId": "s", "action": "x", "expiresAt": 1.5}),
    ("expiresAt", {"sessionId": "s", "action": "x", "expiresAt": -1}), ("expiresAt", {"sessionId": "s", "action": "x", "timeout": 1, "expiresAt": 1}),
    ("id", {"sessionId": "s", "action": "x", "id": "a/b"}), ("id", {"sessionId": "s", "action": "x", "id": "ü"}), ("id", {"sessionId": "s", "action": "x", "id": ""}),
    ("timout", {"sessionId": "s", "action": "x", "timout": 5}),
]


@tap.case("a wrong field is 400 and named; a deadline in the past or too far away too; nothing is made")
def _():
    of = new_session(sql)
    before = sql("select count(*) from hitl_approvals")
    for field, body in WRONG:
        tap.like(refuse(400, "bad_field", ask(server, "POST", "", body)), rf"\b{field}\b")
    tap.like(refuse(400, "bad_field", ask(server, "POST", "", {"sessionId": of, "action": "x", "expiresAt": int(now()) - 1000})), "expiresAt is in the past")
    for fields in ({"timeout": "25h"}, {"timeout": 86401}, {"expiresAt": int(now()) + 90000000}):
        tap.like(refuse(400, "bad_field", ask(server, "POST", "", {"sessionId": of, "action": "x", **fields})), "max=")
    for context in ({"a": "\0"}, {"\0": 1}, {"a": "\ud800"}):
        refuse(400, "bad_field" if "\0" in json.dumps(context) or "u0000" in json.dumps(context) else "bad_json",
               ask(server, "POST", "", {"sessionId": of, "action": "x", "context": context}))
    for text in ('{"sessionId": "a\\u0000b", "action": "x"}', '{"sessionId": "s", "action": "\\u0000"}'):
        refuse(400, "bad_field", ask(server, "POST", "", text))
    tap.is_(sql("select count(*) from hitl_approvals"), before)


@tap.case("a body that is no object of JSON is 400 bad_json, another type of content 415")
def _():
    for text in ("", "x", "[]", "1", '{"sessionId": "s"', '{"action": NaN}', b'{"action": "\xff"}', "[" * 5000):
        for path in ("", "/x/resolve", "/x/extend"):
            refuse(400, "bad_json", ask(server, "POST", path, text))
    refuse(400, "bad_json", ask(server, "POST", "/x/cancel", "[]"))
    for kind in ("text/plain", "application/x-ndjson", "multipart/form-data"):
        tap.is_(ask(server, "POST", "", "{}", headers={"Content-Type": kind}).status, 415, kind)


@tap.case("a context of 300 KB is kept to the digit and told to all; one of a megabyte behind client_max_body_size is 413")
def _():
    of = new_session(sql)
    text = '{"sessionId": "%s", "action": "x", "context": {"digits": 12345678901234567890.10, "long": "%s"}}' % (of, "ü" * 150000)
    with Watch(of, server) as pages:
        response = ask(server, "POST", "", text)
        tap.is_(response.status, 201, repr(response))
        tap.ok(b"12345678901234567890.10" in response.body and len(response.body) > 300000, "the answer has it")
        tap.ok(b"12345678901234567890.10" in ask(server, path=f"/{response.json['id']}").body, "GET has it")
        for page in pages.pages:
            raw = page.recv_text()
            tap.ok("12345678901234567890.10" in raw, "the event has the digits")
            tap.is_(json.loads(raw)["context"]["long"], "ü" * 150000)
    tap.is_(ask(server, "POST", "", text.replace("ü" * 150000, "x" * 5000000)).status, 413)


# --- paths, methods, access

@tap.case("methods that a path has not are 405 with Allow; what lies below or beside is 404")
def _():
    of = new_session(sql)
    id_ = create(server, of)["id"]
    for path, methods, allow in (("", ("PUT", "DELETE", "PATCH", "OPTIONS"), "GET, HEAD, POST"), (f"/{id_}", ("POST", "PUT", "DELETE"), "GET, HEAD"),
                                 *((f"/{id_}/{verb}", ("GET", "HEAD", "PUT", "DELETE"), "POST") for verb in ("resolve", "extend", "cancel"))):
        for method in methods:
            response = ask(server, method, path)
            tap.is_((response.status, response.get("Allow")), (405, allow), f"{method} {path}")
    for path in (f"/{id_}/", f"/{id_}/approve", f"/{id_}/resolve/", f"/{id_}/resolve/x", "X", "s", f"/{'x' * 201}", "/%00", "/%0a"):
        for method in ("GET", "POST"):
            tap.in_(ask(server, method, path, "{}" if method == "POST" else None).status, (400, 404) if path == "/%00" else (404,), f"{method} {path}")
    tap.is_(ask(server, path="/nobody").status, 404)
    for verb, body in (("resolve", {"status": "approved", "resolvedBy": "a"}), ("extend", {"by": 1}), ("cancel", {})):
        refuse(404, "not_found", ask(server, "POST", f"/nobody/{verb}", body))


@tap.case("an id of the platform's with any characters is reached percent-encoded; HEAD is GET without a body")
def _():
    of = new_session(sql)
    for id_ in ("a b", "ü-ß", "100%", "a?b=c&d", "a#b", "q\"uote'"):
        sql("insert into hitl_approvals (id, session_id, action) values ('%s', '%s', 'x')" % (id_.replace("'", "''"), of))
        path = "/" + "".join(c if c.isalnum() and c.isascii() else "".join(f"%{octet:02X}" for octet in c.encode()) for c in id_)
        got = ask(server, path=path, expect=200)
        tap.is_(got["id"], id_)
        head = ask(server, "HEAD", path)
        tap.is_((head.status, head.body, head.get("Content-Length")), (200, b"", ask(server, path=path).get("Content-Length")))
        tap.is_(ask(server, "POST", path + "/cancel", "{}", 200)["status"], "cancelled")
    tap.is_(ask(server, "HEAD", "/nobody").status, 404)
    tap.is_(ask(server, "HEAD", f"?sessionId={of}").status, 200)
    tap.is_(len(ask(server, path=f"/?sessionId={of}", expect=200)["approvals"]), 6, "with a slash behind it")


@tap.case("who is no backend gets 403 or 401, before anything is said of approvals")
def _():
    of = new_session(sql)
    id_ = create(server, of)["id"]
    for path, method in (("", "GET"), (f"/{id_}", "GET"), (f"/{id_}/resolve", "POST"), ("/x/y/z", "GET"), ("", "DELETE")):
        for header in ("X-Forwarded-For", "Origin", "Via"):
            refuse(403, "forbidden", ask(server, method, path, headers={header: "x"}))
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic x"}):
            response = ask(server, method, path, headers=headers, base="/guarded")
            refuse(401, "unauthorized", response)
            tap.is_(response.get("WWW-Authenticate"), "Bearer")
    good = {"Authorization": "Bearer 0123456789abcdef0123456789abcdef", "X-Forwarded-For": "10.0.0.1"}
    tap.is_(ask(server, path=f"/{id_}", headers=good, base="/guarded", expect=200)["id"], id_)
    tap.is_(row(sql, id_), "pending")
    tap.ok(http.status(server)["errors"]["approval_forbidden"] >= 30, "counted")


# --- list

@tap.case("list: oldest deadline first, page after page to the end, by session, tenant and status")
def _():
    of, other = new_session(sql, "lister"), new_session(sql, "lister")
    made = [create(server, of, timeout=60 + (7 * n) % 10 * 10, id=f"list{n}")["id"] for n in range(10)]
    elsewhere = create(server, other, timeout=65)["id"]
    act(server, "list3", "resolve", status="rejected", resolvedBy="ann")
    act(server, "list4", "cancel")
    ends = sql(f"select id from hitl_approvals where session_id = '{of}' order by expires_at, id")
    want = [one[0] for one in ends]

    def pages(query):
        seen, after = [], ""
        while True:
            got = ask(server, path=f"?{query}{after}", expect=200)
            tap.is_(sorted(got), ["approvals", "next"])
            seen += got["approvals"]
            if got["next"] is None:
                return seen
            after = f"&after={got['next']}"
    for limit in ("", "&limit=3", "&limit=1", "&limit=10", "&limit=1000"):
        tap.is_([a["id"] for a in pages(f"sessionId={of}{limit}")], want, limit)
    tap.is_([a["id"] for a in pages("tenantId=lister&limit=4")].count(elsewhere), 1)
    tap.is_(len(pages("tenantId=lister&limit=4")), 11)
    tap.is_([a["id"] for a in pages(f"sessionId={of}&status=rejected")], ["list3"])
    tap.is_([a["id"] for a in pages(f"sessionId={of}&status=cancelled")], ["list4"])
    tap.is_([a["id"] for a in pages(f"sessionId={of}&status=pending&limit=3")], [id_ for id_ in want if id_ not in ("list3", "list4")])
    tap.is_(pages(f"sessionId={of}&tenantId=another"), [])
    tap.is_(pages("sessionId=nobody"), [])
    tap.is_(pages(f"sessionId={of}&limit=3")[0], ask(server, path=f"/{want[0]}", expect=200), "each as GET shows it")
    for query, word in (("", "sessionId"), ("?status=pending", "sessionId"), (f"?sessionId={of}&limit=0", "limit"), (f"?sessionId={of}&limit=1001", "limit"),
                        (f"?sessionId={of}&limit=x", "limit"), (f"?sessionId={of}&status=open", "status"), (f"?sessionId={of}&after=nobody", "after"),
                        (f"?sessionId={of}&sessionId={of}", "sessionId"), (f"?sessionid={of}", "sessionid"), ("?sessionId=", "sessionId"), ("?sessionId=%00", "sessionId")):
        tap.like(refuse(400, "bad_field", ask(server, path=query)), word)


# --- resolve, extend, cancel

@tap.case("resolve: 200, approval:resolved with status and who; the second decision is 409 with what stands")
def _():
    of = new_session(sql)
    for status in ("approved", "rejected"):
        with Watch(of, server) as pages:
            made = create(server, of)
            pages.expect(type="approval:requested")
            got = act(server, made["id"], "resolve", status=status, resolvedBy="ann@x")
            near(got["resolvedAt"], now(), "resolvedAt")
            tap.is_(got, {**made, "status": status, "resolvedBy": "ann@x", "resolvedAt": got["resolvedAt"]})
            event = pages.expect(type="approval:resolved", approvalId=made["id"], action="deploy", status=status, resolvedBy="ann@x",
                                 resolvedAt=got["resolvedAt"], expiresAt=made["expiresAt"], id=f"approval:{made['id']}:{status}")
            tap.ok("lateMs" not in event, "lateMs is of timeouts only")
            for verb, fields in (("resolve", {"status": "approved", "resolvedBy": "bob"}), ("resolve", {"status": "rejected", "resolvedBy": "bob"}),
                                 ("cancel", {}), ("extend", {"by": 60})):
                answer = act(server, made["id"], verb, 409, **fields)
                tap.is_((answer["error"]["code"], answer["status"], answer["approval"]), ("resolved", status, got))
            tap.is_(ask(server, path=f"/{made['id']}", expect=200), got)
            pages.nothing()
    tap.is_(sql(f"select event_type from hitl_events where session_id = '{of}' order by 1"), [["approval:approved"], ["approval:rejected"]])


@tap.case("cancel: by somebody or by nobody, with a body or without one")
def _():
    of = new_session(sql)
    for body, who in ((None, None), ("", None), ({}, None), ({"resolvedBy": "ann"}, "ann")):
        with Watch(of, server) as pages:
            id_ = create(server, of)["id"]
            pages.expect(type="approval:requested")
            got = ask(server, "POST", f"/{id_}/cancel", body, 200)
            tap.is_((got["status"], got["resolvedBy"]), ("cancelled", who))
            pages.expect(type="approval:resolved", status="cancelled", resolvedBy=who, id=f"approval:{id_}:cancelled")
            pages.nothing()
    id_ = create(server, of)["id"]
    tap.like(refuse(400, "bad_field", ask(server, "POST", f"/{id_}/cancel", {"status": "cancelled"})), "status")
    for body, word in (({"resolvedBy": "x"}, "status"), ({"status": "cancelled"}, "status"), ({"status": "timeout", "resolvedBy": "x"}, "status"),
                       ({"status": "approved", "resolvedBy": 1}, "resolvedBy"), ({"status": "approved", "by": "x"}, "by")):
        tap.like(refuse(400, "bad_field", ask(server, "POST", f"/{id_}/resolve", body)), word)
    for body, word in (({}, "by"), ({"by": 0}, "by"), ({"by": -5}, "by"), ({"by": "later"}, "by"), ({"by": 60, "to": 1}, "to")):
        tap.like(refuse(400, "bad_field", ask(server, "POST", f"/{id_}/extend", body)), word)
    tap.is_(row(sql, id_), "pending")


@tap.case("extend: the deadline moves by so much, approval:extended; beyond max= it is 400")
def _():
    of = new_session(sql)
    with Watch(of, server) as pages:
        made = create(server, of, timeout=60)
        pages.expect(type="approval:requested")
        for by, ms in ((30, 30000), ("5m", 300000), (0.25, 250)):
            got = act(server, made["id"], "extend", by=by)
            tap.is_(got, {**made, "expiresAt": made["expiresAt"] + ms})
            made = got
            pages.expect(type="approval:extended", approvalId=made["id"], action="deploy", expiresAt=made["expiresAt"],
                         id=f"approval:{made['id']}:extended:{made['expiresAt']}")
        tap.like(refuse(400, "bad_field", ask(server, "POST", f"/{made['id']}/extend", {"by": "24h"})), "max=")
        pages.nothing()


@tap.case("a decision after the deadline is 410 with status and approval, though nothing has swept; the API ends it then")
def _():
    of = new_session(sql)
    for verb, fields in (("resolve", {"status": "approved", "resolvedBy": "ann"}), ("extend", {"by": 60}), ("cancel", {})):
        with pg.session() as other, Watch(of, server) as pages:
            other("begin")
            id_ = insert(other, of, "-1 second")
            other("commit")
            answer = act(server, id_, verb, 410, **fields)
            tap.is_((answer["error"]["code"], answer["status"], answer["approval"]["status"], answer["approval"]["resolvedBy"]), ("expired", "timeout", "timeout", None))
            pages.expect(type="approval:resolved", status="timeout", resolvedBy=None)
            tap.is_(act(server, id_, verb, 410, **fields)["status"], "timeout")
            pages.nothing()


# --- the platform's own statements

@tap.case("a plain update is told to the pages after its commit, and a rolled back one is not")
def _():
    of = new_session(sql)
    with Watch(of, server) as pages:
        id_ = insert(sql, of)
        near(float(row(sql, id_, "rooms_ms(expires_at)")), now() + 900000, "the deadline that was filled in")
        sql(f"begin; update hitl_approvals set status = 'rejected' where id = '{id_}'; rollback")
        pages.nothing()
        sql(f"update hitl_approvals set status = 'approved', approved_by = 'ann', ip_address = '10.0.0.1' where id = '{id_}'")
        pages.expect(type="approval:resolved", approvalId=id_, status="approved", resolvedBy="ann", id=f"approval:{id_}:approved")
        try:
            sql(f"update hitl_approvals set status = 'rejected' where id = '{id_}'")
            tap.fail("a second decision was taken")
        except SqlError as error:
            tap.is_(error.code, "RM409")
        tap.is_(act(server, id_, "resolve", 409, status="rejected", resolvedBy="bob")["approval"]["resolvedBy"], "ann")
        pages.nothing()


@tap.case("the platform's late decision is refused by the database; all are told of the timeout")
def _():
    of = new_session(sql)
    with Watch(of, server) as pages, pg.session() as other:
        id_ = insert(sql, of, "150 milliseconds")
        other(f"begin; select from hitl_approvals where id = '{id_}' for update")      # the sweep leaves it
        wait_until(lambda: sql(f"select expires_at < clock_timestamp() from hitl_approvals where id = '{id_}'") == [["t"]], "the deadline")
        try:
            other(f"update hitl_approvals set status = 'approved' where id = '{id_}'")
            tap.fail("a late decision was taken")
        except SqlError as error:
            tap.is_(error.code, "RM410")
        other("rollback")
        pages.expect(type="approval:resolved", status="timeout", approvalId=id_)
        pages.nothing()


# --- the clock

@tap.case("a deadline less than a second away, made by the API: told in time, never early, once, and recorded")
def _():
    of = new_session(sql)
    with Watch(of, server) as pages:
        for n in range(12):
            id_ = create(server, of, timeout=round(0.05 + 0.07 * n, 3))["id"]
            pages.expect(type="approval:requested", approvalId=id_)
            event = pages.expect(type="approval:resolved", approvalId=id_, status="timeout", resolvedBy=None, action="deploy", id=f"approval:{id_}:timeout")
            in_time(event)
            got = ask(server, path=f"/{id_}", expect=200)
            tap.is_((got["status"], got["resolvedBy"], got["resolvedAt"], got["expiresAt"]), ("timeout", None, event["resolvedAt"], event["expiresAt"]))
        pages.nothing()
    tap.is_(sql(f"select event_type, count(*) from hitl_events where session_id = '{of}' group by 1"), [["approval:timeout", "12"]])


@tap.case("a deadline less than a second away, by a plain insert: told in time")
def _():
    of = new_session(sql)
    with Watch(of, server) as pages:
        for n in range(12):
            id_ = insert(sql, of, f"{30 + 70 * n} milliseconds")
            in_time(pages.expect(type="approval:resolved", approvalId=id_, status="timeout"))
        pages.nothing()


@tap.case("a deadline that is moved nearer, by SQL, is kept; one moved further, by SQL or the API, too")
def _():
    of = new_session(sql)
    with Watch(of, server) as pages:
        id_ = insert(sql, of)
        sql(f"update hitl_approvals set expires_at = clock_timestamp() + interval '300 milliseconds' where id = '{id_}'")
        moved = pages.expect(type="approval:extended", approvalId=id_)
        in_time(pages.expect(type="approval:resolved", status="timeout", approvalId=id_, expiresAt=moved["expiresAt"]))
        for by_sql in (True, False):
            id_ = insert(sql, of, "300 milliseconds")
            if by_sql:
                sql(f"update hitl_approvals set expires_at = expires_at + interval '400 milliseconds' where id = '{id_}'")
            else:
                act(server, id_, "extend", by=0.4)
            moved = pages.expect(type="approval:extended", approvalId=id_)
            event = pages.expect(type="approval:resolved", status="timeout", approvalId=id_, expiresAt=moved["expiresAt"])
            in_time(event)
        pages.nothing()


@tap.case("rooms_approval_timeouts counts from the next approval on: tenant and action, tenant, action, neither, then the directive")
def _():
    one, two = new_session(sql, "deft"), new_session(sql, "other")

    def seconds(of, action):
        got = create(server, of, action=action)
        near(got["expiresAt"] - got["createdAt"], round((got["expiresAt"] - got["createdAt"]) / 60000) * 60000, "whole minutes", 2000)
        return round((got["expiresAt"] - got["createdAt"]) / 60000)
    tap.is_(seconds(one, "ship"), 15)
    sql("insert into rooms_approval_timeouts values (null, null, '1 minute')")
    tap.is_((seconds(one, "ship"), seconds(two, "x")), (1, 1))
    sql("insert into rooms_approval_timeouts values (null, 'ship', '2 minutes')")
    tap.is_((seconds(one, "ship"), seconds(one, "x")), (2, 1))
    sql("insert into rooms_approval_timeouts values ('deft', null, '3 minutes')")
    tap.is_((seconds(one, "ship"), seconds(one, "x"), seconds(two, "ship")), (3, 3, 2))
    sql("insert into rooms_approval_timeouts values ('deft', 'ship', '4 minutes')")
    tap.is_((seconds(one, "ship"), seconds(one, "x"), seconds(two, "ship"), seconds(two, "x")), (4, 3, 2, 1))
    near(float(row(sql, insert(sql, one, action="ship"), "rooms_ms(expires_at)")), now() + 240000, "a plain insert")
    sql("delete from rooms_approval_timeouts")
    tap.is_(seconds(one, "ship"), 15)


@tap.case("warnings: approval:expiring at each of the times, once at every page, with what remains")
def _():
    with pg.session(dbname="warns") as session:
        warner = approvals_host(pg, "rooms_approvals postgres timeout=15m warn=1200ms,700ms,300ms;", database="warns", name="warner")
        wait_until(lambda: session("select warn from rooms_approval_defaults") == [["{00:00:01.2,00:00:00.7,00:00:00.3}"]], "the times to be known")
        of = new_session(session)
        with Watch(of, warner) as pages:
            for make in (lambda: create(warner, of, timeout=1.5)["id"], lambda: insert(session, of, "1500 milliseconds"),
                         lambda: insert(session, of, "500 milliseconds")):
                id_ = make()
                ends = int(float(row(session, id_, "rooms_ms(expires_at)")))
                warnings = (300,) if ends - now() < 600 else (1200, 700, 300)
                for left in warnings:
                    event = pages.expect(approvalId=id_) if left != warnings[0] else None
                    while event is None or event["type"] == "approval:requested":
                        event = pages.expect(approvalId=id_)
                    tap.is_((event["type"], event["action"], event["expiresAt"]), ("approval:expiring", "deploy", ends))
                    tap.ok(left - LATE_MS <= event["remainingMs"] <= left, f"{left}: {event}")
                    near(event["timestamp"] + event["remainingMs"], ends, "the rest", 250)
                in_time(pages.expect(type="approval:resolved", status="timeout", approvalId=id_))
            id_ = create(warner, of, timeout=60)["id"]
            pages.expect(type="approval:requested")
            act(warner, id_, "resolve", status="approved", resolvedBy="a")
            pages.expect(type="approval:resolved", approvalId=id_)
            pages.nothing()
        warner.reload(wait_old=True, http=warner.pieces["http"].replace("warn=1200ms,700ms,300ms", "warn=400ms"))
        connected(warner)
        wait_until(lambda: session("select warn from rooms_approval_defaults") == [["{00:00:00.4}"]], "the new times to be known")
        with Watch(of, warner) as pages:
            id_ = create(warner, of, timeout=0.8)["id"]
            pages.expect(type="approval:requested")
            tap.ok(pages.expect(type="approval:expiring", approvalId=id_)["remainingMs"] <= 400, "one warning")
            pages.expect(type="approval:resolved", approvalId=id_)
            pages.nothing()
        tap.is_(warner.stop(), [])


@tap.case("a reload with another timeout= counts for the next approval; a worker that takes leave does not bring the old one back")
def _():
    with pg.session(dbname="changes") as session:
        host = approvals_host(pg, database="changes", name="changing", locations=LOCATIONS.replace("rooms_rate", "rooms_drain 30s; rooms_rate"))
        of = new_session(session)
        made = create(host, of)
        near(made["expiresAt"] - made["createdAt"], 900000, "before")
        first, (old,) = min(host.workers()), sweeper_of("changes")
        with open_page(host, worker=first) as page:     # holds the old first worker
            host.reload(http=host.pieces["http"].replace("timeout=15m", "timeout=20m"))
            wait_until(lambda: session("select timeout from rooms_approval_defaults") == [["00:20:00"]], "the new one to be known")
            made = create(host, of)
            near(made["expiresAt"] - made["createdAt"], 1200000, "after")
            wait_until(lambda: [one["draining"] for one in http.status(host)["workers"] if one["pid"] == first] == [True], "the old worker to take leave")
            session(f"select pg_terminate_backend({old})")
            wait_until(lambda: len(sweeper_of("changes")) == 2 and old not in sweeper_of("changes"), "its connection to be back")
            for _ in range(2):
                sweeps = http.status(host)["approvals"]["sweeps"]
                wait_until(lambda: http.status(host)["approvals"]["sweeps"] > sweeps, "a sweep")
            tap.is_(session("select timeout from rooms_approval_defaults"), [["00:20:00"]])
            page.wire.close()
        tap.is_(host.stop(), [])


@tap.case("what fell due while no nginx ran ends within a second of its start")
def _():
    with pg.session(dbname="waits") as session:
        of = new_session(session)
        ids = [insert(session, of, f"-{n + 1} seconds") for n in range(20)]
        began = time.monotonic()
        host = approvals_host(pg, database="waits", name="late")
        wait_until(lambda: session("select count(*) from hitl_approvals where status = 'pending'") == [["0"]], "all to end")
        tap.ok(time.monotonic() - began < 1 * SCALE + 1, f"took {time.monotonic() - began:.2f} s, the start included")
        caught_up(session)
        with open_page(host) as page:
            tap.is_(join(page, f"session:{of}")["offset"], 20, "events")
        tap.is_(session("select status, count(*) from hitl_approvals group by 1"), [["timeout", "20"]])
        tap.is_(len(ids), 20)
        tap.is_(host.stop(), [])


def spread(of, count, over_ms, first_ms=400):
    sql("insert into hitl_approvals (id, session_id, action, expires_at) select '%s-' || n, '%s', 'x', clock_timestamp() + (%d + n * %f) * "
        "interval '1 ms' from generate_series(1, %d) n" % (of, of, first_ms, over_ms / count, count))


def told(of):
    return int(sql(f"select count(*) from hitl_approvals where session_id = '{of}' and status = 'timeout'")[0][0])


def each_once(host, of, epoch, count):
    room = f"session:{of}"
    wait_until(lambda: sql(f"select count(*) from hitl_approvals where session_id = '{of}' and status = 'pending'") == [["0"]], "all to end", 15 * SCALE)
    caught_up(sql)
    for pid in host.workers():
        events = history_of(host, room, epoch, pid)
        tap.is_(sorted(e["id"] for e in events), sorted(f"approval:{of}-{n}:timeout" for n in range(1, count + 1)))
        for event in events:
            tap.ok(event["type"] == "approval:resolved" and event["timestamp"] >= event["expiresAt"], repr(event))
    return events


@tap.case("nginx is reloaded in the middle: deadlines go on, each event once", kills_workers=True)
def _():
    of = new_session(sql)
    with open_page(server) as page:
        epoch = join(page, f"session:{of}")["epoch"]
    spread(of, 60, 1500)
    for ended in (5, 25, 45):
        wait_until(lambda: told(of) >= ended, f"{ended} to end")
        server.reload()
    connected(server)
    worst = max(e["timestamp"] - e["expiresAt"] for e in each_once(server, of, epoch, 60))
    tap.diag(f"60 deadlines over 1.5 s and three reloads: at most {worst} ms late")
    tap.ok(worst < 1500 * SCALE, f"{worst}")


@tap.case("the worker that sweeps is killed: its successor goes on, each event once", kills_workers=True)
def _():
    server.restart()
    connected(server)
    of = new_session(sql)
    with open_page(server) as page:
        epoch = join(page, f"session:{of}")["epoch"]
    spread(of, 60, 1500)
    worker, kept = server.workers()     # nginx starts the first one first; its successor has its number
    for ended in (5, 25, 45):
        wait_until(lambda: told(of) >= ended, f"{ended} to end")
        before = sweeper_of()
        server.kill_worker(worker)
        wait_until(lambda: (found := sweeper_of()) and not set(found) & set(before), "the successor to sweep")
        worker = next(pid for pid in server.workers() if pid != kept)
    worst = max(e["timestamp"] - e["expiresAt"] for e in each_once(server, of, epoch, 60))
    tap.diag(f"60 deadlines over 1.5 s and three kills: at most {worst} ms late")
    tap.ok(worst < 2500 * SCALE, f"{worst}")


@tap.case("a request that waits for a locked row while nginx is reloaded is answered: it was carried out, or 503 says that it was not", kills_workers=True)
def _():
    of = new_session(sql)
    locks = {"resolve": "hitl_approvals", "extend": "hitl_approvals", "cancel": "hitl_approvals", "create": "hitl_sessions"}

    def shown(id_):
        return sql(f"select status, expires_at from hitl_approvals where id = '{id_}'")
    for to_the_end in (False, True):    # the row is locked until the reload is over, or for longer than a request waits
        for verb, table in locks.items():
            id_ = f"{verb} {'to the end' if to_the_end else ''}".strip().replace(" ", "-")
            if verb != "create":
                create(server, of, id=id_)
            before, body = shown(id_), {"resolve": {"status": "approved", "resolvedBy": "ann"}, "extend": {"by": 60}, "cancel": {},
                                        "create": {"sessionId": of, "action": "deploy", "id": id_}}[verb]
            answers = []
            asker = threading.Thread(target=lambda: answers.append(ask(server, "POST", "" if verb == "create" else f"/{id_}/{verb}", body)))
            with pg.session() as other:
                other(f"begin; select from {table} where id = '{of if verb == 'create' else id_}' for update")
                began = time.monotonic()
                asker.start()
                wait_until(lambda: answers or sql("select count(*) from pg_stat_activity where application_name = 'rooms api' and wait_event_type = 'Lock'") != [["0"]],
                           "it to wait for the lock")
                tap.is_(answers, [], "answers so far")
                server.reload()
                if to_the_end:
                    asker.join()
                other("rollback")
                asker.join()
            tap.is_(len(answers), 1, f"answers to {verb}")
            took = (time.monotonic() - began) * 1000
            tap.in_(answers[0].status, (503,) if to_the_end else (201 if verb == "create" else 200, 503), f"{verb}: {answers[0]!r}")
            tap.diag(f"{verb}: {answers[0].status} after {took:.0f} ms")
            if answers[0].status == 503:
                tap.like(refuse(503, "unavailable", answers[0]), "it was not carried out")
            tap.is_(shown(id_) == before, answers[0].status == 503, f"{verb} changed nothing: {shown(id_)}, {before}")
    wait_until(lambda: server.processes() == server.workers(), "the old workers to leave")
    connected(server)


@tap.case("a sweep that takes longer than a statement may is made smaller: all end, each once")
def _():
    with pg.session(dbname="slow") as session:
        session("create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(0.02); return new; end $$;"
                "create trigger slow before update on hitl_approvals for each row when (new.status = 'timeout') execute function slow()")
        host = approvals_host(pg, database="slow", name="slow")
        of = new_session(session)
        with Watch(of, host) as pages:
            began = time.monotonic()
            session(f"insert into hitl_approvals (id, session_id, action, expires_at) select 'slow-' || n, '{of}', 'x', clock_timestamp() from generate_series(1, 300) n")
            events = [pages.expect(30 * SCALE, type="approval:resolved", status="timeout", offset=n) for n in range(1, 301)]
            tap.is_(sorted(event["approvalId"] for event in events), sorted(f"slow-{n}" for n in range(1, 301)), "told")
            pages.nothing()
        tap.diag(f"300 that take 20 ms each: {time.monotonic() - began:.1f} s")
        tap.is_(session("select status, count(*) from hitl_approvals group by 1"), [["timeout", "300"]])
        tap.is_(session("select count(*), count(distinct payload ->> 'approvalId') from hitl_events"), [["300", "300"]], "recorded")
        tap.like(host.log(), r"\[error\].*approvals do not expire: .*statement timeout")
        tap.is_(http.status(host)["postgres"]["losses"], 0, "connections that were lost")
        tap.is_(host.stop(), [])


@tap.case("S65: what the database forbids is 422, an overdue approval is not revived, a context that is too large is 413")
def _():
    of = new_session(sql)
    made = create(server, of)["id"]
    sql("""create function no_deploy() returns trigger language plpgsql as $$ begin raise exception 'not on Fridays'; end $$;
           create trigger no_deploy before update on hitl_approvals for each row when (new.approved_by = 'friday') execute function no_deploy()""")
    answer = act(server, made, "resolve", expect=422, status="approved", resolvedBy="friday")
    tap.is_(answer["error"]["code"], "refused")
    tap.unlike(json.dumps(answer), "Fridays", "the database's words")
    tap.like(server.log(), r"\[error\].*approval request failed: not on Fridays")
    sql("drop trigger no_deploy on hitl_approvals")
    act(server, made, "resolve", status="approved", resolvedBy="friday")
    create(server, of, expect=413, context="x" * 600000)
    create(server, of, expect=413, context={"n": [float("1e300")] * 2000})     # written out it is 600 KB


# --- numbers

@tap.case("status and metrics: what was told by status, pending, the outbox, lateness")
def _():
    of = new_session(sql)
    before = http.status(server)
    for status in ("approved", "rejected"):
        act(server, create(server, of)["id"], "resolve", status=status, resolvedBy="a")
    act(server, create(server, of)["id"], "cancel")
    create(server, of, timeout=0.05)
    wait_until(lambda: http.status(server)["approvals"]["timeout"] > before["approvals"]["timeout"], "the timeout to be counted")
    caught_up(sql)
    got = http.status(server)
    tap.is_([got["approvals"][s] - before["approvals"][s] for s in ("approved", "rejected", "cancelled", "timeout")], [1, 1, 1, 1])
    wait_until(lambda: http.status(server)["postgres"]["outbox"]["published"] - before["postgres"]["outbox"]["published"] == 8, "four requested, four resolved")
    database = got["postgres"]
    tap.is_((database["up"], database["workers"], database["connected"], database["outbox"]["refused"]), (True, 2, 2, 0))
    tap.ok(got["approvals"]["sweeps"] > before["approvals"]["sweeps"], "sweeps")
    # Counted when a sweeper begins, and then every 15 seconds.
    server.reload(wait_old=True)
    connected(server)
    waiting = int(sql("select count(*) from hitl_approvals where status = 'pending'")[0][0])
    wait_until(lambda: http.status(server)["approvals"]["pending"] == waiting and http.status(server)["postgres"]["outbox"]["depth"] == 0,
               "pending, and what waits")
    text = http.get(server, "/status?format=prometheus").text
    got = http.status(server)
    for line in ("rooms_postgres_up 1", "rooms_postgres_workers_connected 2", f"rooms_approvals_pending {waiting}", "rooms_outbox_depth 0",
                 f"rooms_outbox_published_total {got['postgres']['outbox']['published']}", "rooms_outbox_refused_total 0",
                 *(f'rooms_approvals_ended_total{{status="{s}"}} {got["approvals"][s]}' for s in ("approved", "rejected", "timeout", "cancelled"))):
        tap.like(text, f"^{re.escape(line)}$")
    buckets = [(float(le.replace("+Inf", "inf")), int(n)) for le, n in
               re.findall(r'^rooms_approval_lateness_milliseconds_bucket\{le="([^"]+)"\} (\d+)$', text, re.M)]
    tap.is_(buckets, sorted(buckets, key=lambda one: (one[0], one[1])), "buckets")
    tap.is_([n for _, n in buckets], sorted(n for _, n in buckets), "cumulated")
    tap.is_(buckets[-1], (float("inf"), got["approvals"]["timeout"]))
    tap.like(text, rf"^rooms_approval_lateness_milliseconds_count {got['approvals']['timeout']}$")


def statements_a_second(database, host):
    """While nothing is due: what the database is asked, all connections of the host together."""
    def asked(since):
        return re.findall(r"^\S+ \d+:(\d+):([\d.]+) \S+ \[\d+\] LOG:  ((?:execute|statement)[^\n]*)", pg.log()[since:], re.M)
    pg.sql(f"alter database {database} set log_statement = 'all'")
    sql(f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{database}'")
    connected(host)
    at_rest = len(pg.log())
    wait_until(lambda: len(asked(at_rest)) >= 8, "what it asks at first", 10 * SCALE)
    since = len(pg.log())
    wait_until(lambda: len(asked(since)) >= 6, "six looks", 20 * SCALE)
    pg.sql(f"alter database {database} reset log_statement")
    found = asked(since)
    first, last = (60 * int(minute) + float(second) for minute, second, _ in (found[0], found[-1]))
    rate = (len(found) - 1) / ((last - first) % 3600)
    tap.diag(f"{database}: {rate:.2f} statements a second: {sorted({text for _, _, text in found})}")
    return rate


@tap.case("while nothing is due the database is asked at most once a second")
def _():
    with pg.session(dbname="idle") as session:
        insert(session, new_session(session))
        host = approvals_host(pg, database="idle", name="idle")
        tap.ok(statements_a_second("idle", host) <= 1.03, "with approvals")
        tap.is_(host.stop(), [])
    host = approvals_host(pg, "", database="idle_outbox", name="idle outbox", locations=LOCATIONS.replace("location /approvals { rooms_approvals_api; client_max_body_size 4m; }", ""))
    tap.ok(statements_a_second("idle_outbox", host) <= 1.03, "without approvals")
    tap.is_(host.stop(), [])


# --- two hosts

@tap.case("two hosts on one database and one Redis: every event once at every page of both, whoever did it")
def _():
    with Redis() as redis, pg.session(dbname="shared") as session:
        hosts = [approvals_host(pg, "rooms_approvals postgres warn=200ms;", http=f"rooms_redis {redis.url};", database="shared", name=f"host {n}") for n in (1, 2)]
        of = new_session(session)
        with Watch(of, *hosts) as pages:
            for n in range(10):
                id_ = create(hosts[n % 2], of, timeout=0.4)["id"]
                pages.expect(type="approval:requested", approvalId=id_)
                pages.expect(type="approval:expiring", approvalId=id_)
                in_time(pages.expect(type="approval:resolved", approvalId=id_, status="timeout", offset=3 * n + 3))
            for n in range(10):
                id_ = insert(session, of)
                act(hosts[n % 2], id_, "resolve", status="approved", resolvedBy="ann")
                pages.expect(type="approval:resolved", approvalId=id_, status="approved", offset=31 + n)
                tap.is_(act(hosts[1 - n % 2], id_, "resolve", 409, status="rejected", resolvedBy="bob")["status"], "approved")
            pages.nothing()
        wait_until(lambda: sum(http.status(host)["postgres"]["outbox"]["published"] for host in hosts) >= 40, "all to be counted")
        tap.is_(sum(http.status(host)["postgres"]["outbox"]["published"] for host in hosts), 40, "published by both together")
        for host in hosts:
            tap.is_(host.stop(), [])


# --- where it is tightest: t/faults/approvals.py runs these at full length

for kind, how in (("race", "by plain statements, four sweepers: each approval ends once and in time, told once"),
                  ("race_api", "through the API: each answer is true")):
    tap.add(f"decisions raced against the deadline {how}", approval_rig.race, "approvals.py", kind)


@tap.case("a thousand due at one instant all end, and every page is told of each once")
def _():
    tap.is_(approval_rig.run("approvals.py", "due", 1000)["ended"], {"timeout": 1000})


@tap.case("deadlines at rest are told within 50 ms, by the median, and never early")
def _():
    late = approval_rig.run("approvals.py", "rest", 20)["late_ms"]
    tap.ok(late["page"]["p50"] <= 50 * SCALE and late["transition"]["least"] >= 0, f"{late}")


tap.run()

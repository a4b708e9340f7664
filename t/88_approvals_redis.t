#!/usr/bin/python3
"""Approvals in Redis over HTTP: two hosts, their pages, deadlines that come while workers die, configurations change and
Redis is away. What the scripts do by themselves: t/85."""
import json
import os
import statistics
import sys
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import SCALE, approval_rig, http, jwt, tap, wait_until       # noqa: E402
from rooms.nginx import Nginx                                   # noqa: E402
from rooms.page import open_page                                # noqa: E402
from rooms.redis import Redis                                   # noqa: E402

redis = Redis()
made = 0


def host(name):
    return Nginx("""
        location = /ws      { rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_allow *; }
        location /approvals { rooms_approvals_api; }
        location = /publish { rooms_publish; }
        location = /status  { rooms_status; }
    """, http=f"rooms_redis {redis.url}; rooms_approvals redis timeout=30m warn=1s max=2h;", files={"secret": jwt.SECRET}, name=name)


first, second = host("host 1"), host("host 2")


def new_session():
    global made
    made += 1
    return f"s{made}"


def ask(server, method, path, body=None, expect=200):
    """The JSON of an answer with that status."""
    headers = [("Content-Type", "application/json")] if body is not None else []
    response = http.request(server, method, "/approvals" + path, headers, b"" if body is None else json.dumps(body).encode())
    tap.is_(response.status, expect, f"status of {method} {path}: {response.text}")
    return response.json


def create(server, session, expect=201, **more):
    return ask(server, "POST", "", {"sessionId": session, "action": "deploy", **more}, expect)


def event_of(page, kind, approval, **more):
    return page.expect(type=f"approval:{kind}", approvalId=approval["id"], action="deploy", **more)


@tap.case("created, extended and decided on either host: each page hears each of it once, and both hosts show it")
def _():
    session = new_session()
    pages = [open_page(one, f"session:{session}") for one in (first, second)]
    approval = create(first, session, tenantId="acme", context={"n": 12345678901234567890}, timeout="10m")
    tap.is_(approval["expiresAt"] - approval["createdAt"], 600000, "the time it has")
    tap.is_(ask(second, "GET", f"/{approval['id']}"), approval)
    longer = ask(second, "POST", f"/{approval['id']}/extend", {"by": 60})
    tap.is_(longer, dict(approval, expiresAt=approval["expiresAt"] + 60000))
    done = ask(second, "POST", f"/{approval['id']}/resolve", {"status": "approved", "resolvedBy": "ann"})
    tap.is_(done, dict(longer, status="approved", resolvedBy="ann", resolvedAt=done["resolvedAt"]))
    refused = ask(first, "POST", f"/{approval['id']}/cancel", {}, 409)
    tap.is_((refused["error"]["code"], refused["status"], refused["approval"]), ("resolved", "approved", done))
    for page in pages:
        event_of(page, "requested", approval, offset=1, context={"n": 12345678901234567890}, tenantId="acme", sessionId=session,
                 expiresAt=approval["expiresAt"], id=f"approval:{approval['id']}:requested")
        event_of(page, "extended", approval, offset=2, expiresAt=longer["expiresAt"])
        event_of(page, "resolved", approval, offset=3, status="approved", resolvedBy="ann", resolvedAt=done["resolvedAt"])
        page.expect_nothing()
        page.close()


@tap.case("at its deadline it becomes timeout, after a warning, and pages hear of it within 50 ms")
def _():
    session = new_session()
    page = open_page(second, f"session:{session}")
    late = []
    for n in range(12):
        approval = create((first, second)[n % 2], session, timeout=1.2 if n == 0 else 0.2 + 0.05 * n)
        event_of(page, "requested", approval)
        if n == 0:
            tap.ok(0 < event_of(page, "expiring", approval)["remainingMs"] <= 1000, "remainingMs")
        told = event_of(page, "resolved", approval, status="timeout", resolvedBy=None, expiresAt=approval["expiresAt"],
                        id=f"approval:{approval['id']}:timeout")
        late.append(told["lateMs"])
        gone = ask(first, "POST", f"/{approval['id']}/resolve", {"status": "approved", "resolvedBy": "ann"}, 410)
        tap.is_((gone["error"]["code"], gone["status"], gone["approval"]["resolvedBy"]), ("expired", "timeout", None))
    tap.diag(f"lateMs: {late}")
    tap.ok(min(late) >= 0, "not before the deadline")
    tap.ok(statistics.median(late) < 50 * SCALE, "the median")
    told = [http.status(host)["approvals"] for host in (first, second)]
    tap.is_({one["store"] for one in told}, {"redis"}, "the store of the status page")
    tap.ok(sum(one["timeout"] for one in told) >= len(late), f"timeouts of the status page: {told}")
    page.expect_nothing()
    page.close()


@tap.case("how long it may wait: what is asked for, the table's most exact line, the directive; not beyond max=")
def _():
    with redis.client() as client:
        client("HSET", "rooms:approval_timeouts", "|", "20m", "acme|", "3000", "|deploy", "15m", "acme|deploy", "1h 1s", "odd|", "soon")
    for more, seconds in (({}, 900), ({"tenantId": "acme"}, 3601), ({"tenantId": "odd"}, 900), ({"action": "x"}, 1200),
                          ({"action": "x", "tenantId": "acme"}, 3000), ({"timeout": "5s"}, 5)):
        approval = create(second, new_session(), **more)
        tap.is_(approval["expiresAt"] - approval["createdAt"], seconds * 1000, str(more))
    with redis.client() as client:
        client("DEL", "rooms:approval_timeouts")
    approval = create(second, new_session())
    tap.is_(approval["expiresAt"] - approval["createdAt"], 1800000, "the directive")
    tap.is_(create(second, new_session(), 400, timeout="3h")["error"]["code"], "bad_field")
    tap.is_(create(second, new_session(), 400, expiresAt=1)["error"]["code"], "bad_field")
    second.allow(r"approval_timeouts for the action .* is no time")


@tap.case("an id is one approval, on both hosts, for all sessions; a session that can have no room is unknown")
def _():
    session = new_session()
    page = open_page(first, f"session:{session}")
    approval = create(first, session, id="mine@1", timeout=60)
    tap.is_(create(second, session, 200, id="mine@1", timeout=90), approval)
    tap.is_(create(second, new_session(), 200, id="mine@1"), approval)
    event_of(page, "requested", approval)
    page.expect_nothing()
    page.close()
    tap.is_(create(first, "no room", 404)["error"]["code"], "unknown_session")
    for path in ("/nobody", "/a%20b"):
        tap.is_(ask(first, "GET", path, expect=404)["error"]["code"], "not_found")


@tap.case("a context that is too large is 413, and no approval is there")
def _():
    session = new_session()
    tap.is_(ask(first, "POST", "", {"sessionId": session, "action": "deploy", "id": "large", "context": "x" * 600000}, expect=413)
            ["error"]["code"], "too_large", "code")
    ask(first, "GET", "/large", expect=404)
    ask(first, "POST", "", {"sessionId": session, "action": "deploy", "id": "large", "context": "x" * 500000}, expect=201)


@tap.case("lists: by session and by tenant, oldest deadline first, page by page")
def _():
    sessions = [new_session() for _ in range(3)]
    approvals = [create((first, second)[n % 2], sessions[n % 3], tenantId="lister", timeout=600 - 10 * n) for n in range(9)]
    approvals.reverse()
    ask(first, "POST", f"/{approvals[4]['id']}/cancel", {})
    approvals[4] = ask(second, "GET", f"/{approvals[4]['id']}")

    def pages(query):
        found, after = [], ""
        while after is not None:
            got = ask(second, "GET", f"?{query}&limit=2" + (f"&after={after}" if after else ""))
            tap.ok(len(got["approvals"]) <= 2, "the page's size")
            found, after = found + got["approvals"], got["next"]
        return found
    wait_until(lambda: pages("tenantId=lister") == approvals, "the tenant's list", 2 * SCALE)
    tap.is_(pages("tenantId=lister&status=pending"), approvals[:4] + approvals[5:])
    tap.is_(pages("tenantId=lister&status=cancelled"), approvals[4:5])
    tap.is_(pages(f"sessionId={sessions[0]}"), [one for one in approvals if one["sessionId"] == sessions[0]])
    tap.is_(pages(f"sessionId={sessions[0]}&tenantId=other"), [])
    tap.is_(ask(first, "GET", "?sessionId=x&after=nobody", expect=400)["error"]["code"], "bad_field")


@tap.case("deadlines are kept while workers are killed and configurations reloaded", kills_workers=True)
def _():
    session = new_session()
    page = open_page(second, f"session:{session}")
    approvals = [create(first, session, timeout=0.8 + 0.2 * n) for n in range(10)]
    for _ in approvals:
        page.expect(type="approval:requested")
    for n in range(4):
        first.kill_worker(first.workers()[n % 2])
        first.reload()
        time.sleep(0.3)
    told = {}
    while len(told) < len(approvals):
        got = page.expect()
        if got["type"] == "approval:resolved":
            tap.ok(got["approvalId"] not in told, "told once")
            told[got["approvalId"]] = got
    tap.is_(set(told), {approval["id"] for approval in approvals})
    tap.ok(all(0 <= got["lateMs"] < 2000 * SCALE for got in told.values()), "in time")
    page.expect_nothing()
    page.close()


@tap.case("while Redis is away requests are 503 within a second; once it is back all that is overdue ends within one")
def _():
    session = new_session()
    page = open_page(second, f"session:{session}")
    approvals = [create(first, session, timeout=0.8 + 0.01 * n) for n in range(30)]
    redis.kill()
    for server in (first, second):
        for _ in range(3):
            began = time.monotonic()
            tap.is_(ask(server, "GET", f"/{approvals[0]['id']}", expect=503)["error"]["code"], "unavailable")
            tap.ok(time.monotonic() - began < 1 * SCALE, "answered in time")
    time.sleep(1.5)
    redis.start()
    began = time.monotonic()
    wait_until(lambda: http.request(first, "GET", f"/approvals?sessionId={session}&status=timeout").status == 200, "redis to be back")
    told = []
    while len(told) < len(approvals):
        got = page.expect()
        if got["type"] == "approval:resolved":
            told.append(got["approvalId"])
    took = time.monotonic() - began
    tap.diag(f"all told {took:.2f} s after the start")
    tap.is_(sorted(told), sorted(approval["id"] for approval in approvals), "each once")
    tap.ok(took < 2.5 * SCALE, "in time")
    page.expect_nothing()
    page.close()


@tap.case("an idle host asks once a second for what is due")
def _():
    with redis.client() as client:
        def looks():
            lines = client("INFO", "commandstats").splitlines()
            line = next((line for line in lines if line.startswith("cmdstat_zcard:")), "calls=0,")
            return int(line.split("calls=")[1].split(",")[0])
        before = looks()
        time.sleep(4)
        tap.ok(4 <= looks() - before <= 12, f"{looks() - before} looks of two hosts in four seconds")


tap.add("decisions raced against the deadline while a host is reloaded: each approval ends once and in time, told once, each answer is true",
        approval_rig.race, "approvals_redis.py", "race")


tap.run()

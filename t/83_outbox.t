#!/usr/bin/python3
"""Publishing from SQL: what a transaction inserts into rooms_outbox, and what pages get of it."""
import json
import os
import re
import statistics
import sys
import threading
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import ROOT, SCALE, http, tap, wait_until                                                # noqa: E402
from rooms.approvals import LOCATIONS, OPTIONS, Watch, act, approvals_host, connected, create, insert, migrate, new_session  # noqa: E402
from rooms.page import join, new_room, open_page                                                     # noqa: E402
from rooms.postgres import Postgres, SqlError                                                        # noqa: E402
from rooms.proxy import Proxy                                                                        # noqa: E402
from rooms.redis import Redis                                                                        # noqa: E402

NO_API = re.sub(r"\s*location /approvals .*\n", "\n", LOCATIONS)
PAGE = open(os.path.join(ROOT, "docs/postgres.md"), encoding="utf-8").read()

pg = Postgres(options=OPTIONS)
migrate(pg)
sql = pg.session()
server = approvals_host(pg, "", locations=NO_API, http="rooms_zone rooms:12m;")     # of its ids: each row is one, for ten minutes


def database(name, migrated=True):
    pg.sql(f"create database {name}")
    if migrated:
        migrate(pg, name)
    return pg.session(dbname=name)


def block(name):
    found = re.findall(rf"^```sql {name}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    tap.is_(len(found), 1, f"blocks {name}")
    return found[0]


def put(session, room, type_="x", data="{}"):
    return "insert into rooms_outbox (room, type, data) values ('%s', '%s', '%s')" % (room, type_, data.replace("'", "''")) \
        if session is None else session(put(None, room, type_, data))


def empty(session):
    wait_until(lambda: session("select count(*) from rooms_outbox where refused is null") == [["0"]], "the outbox to be empty", 15 * SCALE)


def watch(room, *servers):
    """Like Watch, of any room."""
    pages = Watch.__new__(Watch)
    pages.room = room
    pages.pages = [open_page(one, room, worker=pid) for one in servers or (server,) for pid in one.workers()]
    return pages


def outbox(host):
    return http.status(host)["postgres"]["outbox"]


@tap.case("docs/postgres.md's insert reaches the pages of every worker, once, and the row is gone")
def _():
    with watch("session:42") as pages:
        sql(block("publish"))
        pages.expect(type="session:update", sessionId="42", state="building", progress=90, offset=1)
        empty(sql)
        tap.is_(sql("select count(*) from rooms_outbox"), [["0"]], "rows")
        pages.nothing()


@tap.case("after the commit and not before; after a rollback, of all or to a savepoint, never")
def _():
    room = new_room()
    with watch(room) as pages, pg.session() as other:
        other("begin")
        put(other, room, data='{"n": 1}')
        put(sql, room, data='{"n": 2}')
        pages.expect(n=2, offset=1)
        empty(sql)
        pages.nothing()
        other("commit")
        pages.expect(n=1, offset=2)
        other("begin")
        put(other, room, data='{"n": 3}')
        other("rollback")
        other("begin")
        put(other, room, data='{"n": 4}')
        other("savepoint s")
        put(other, room, data='{"n": 5}')
        other("rollback to s")
        put(other, room, data='{"n": 6}')
        other("commit")
        pages.expect(n=4, offset=3)
        pages.expect(n=6, offset=4)
        pages.nothing()


@tap.case("3,000 rows of many transactions: in order per room, several rooms interleaved, each once")
def _():
    rooms = [new_room(), new_room("ticket"), new_room("tenant"), new_room("a-kind_9")]
    pages = [watch(room) for room in rooms]
    try:
        sent, per_room = 0, [0] * 4
        while sent < 3000:
            many = min(3000 - sent, 1 + sent % 97 * 3)
            rows = [(per_room.__setitem__((sent + i) * 7 % 4, per_room[(sent + i) * 7 % 4] + 1), (sent + i) * 7 % 4)[1] for i in range(many)]
            counts = list(per_room)
            for which in rows:
                counts[which] -= 1
            values = []
            for which in rows:
                counts[which] += 1
                values.append("('%s', 'x', '{\"n\": %d}')" % (rooms[which], counts[which]))
            sql("insert into rooms_outbox (room, type, data) values " + ", ".join(values))
            sent += many
        for watched, count in zip(pages, per_room):
            for n in range(1, count + 1):
                watched.expect(n=n, offset=n, type="x")
        for watched in pages:
            watched.nothing()
        empty(sql)
    finally:
        for watched in pages:
            watched.__exit__()


@tap.case("one transaction of 1,000 rows, several batches, stays in order while others insert")
def _():
    room, other_room = new_room(), new_room()
    with watch(room) as pages, watch(other_room) as others:
        sql("begin")
        for n in range(1, 1001):
            put(sql, room, data='{"n": %d}' % n)
            if n % 100 == 0:
                with pg.session() as other:
                    put(other, other_room, data='{"n": %d}' % (n // 100))
        sql("commit")
        for n in range(1, 11):
            others.expect(n=n, offset=n)
        for n in range(1, 1001):
            pages.expect(n=n, offset=n)
        pages.nothing()
        others.nothing()


@tap.case("the fields of data are those of the event, as /publish does it: ours win, data.id stays, digits and spelling are kept")
def _():
    for room, name in ((new_room(), "sessionId"), (new_room("ticket"), "ticketId"), (new_room("tenant"), "tenantId")):
        text = ('{"id": "mine", "n": 12345678901234567890.10, "e": 1e2, "t": "ü\\u2028\\"", "deep": {"room": "z", "offset": 7}, "room": "session:other",'
                ' "offset": 99, "timestamp": 1, "type": "y", "null": null}')
        with watch(room) as pages:
            put(sql, room, "kind:of", text)
            http.publish(server, '{"room": "%s", "type": "kind:of", "data": %s}' % (room, text))
            got = []
            for page in pages.pages:
                page.wire.auto_pong = True
                got.append([page.recv_text() for _ in range(2)])
            tap.is_(got[0], got[1], "at both workers")
            for n, raw in enumerate(got[0]):
                tap.ok("12345678901234567890.10" in raw, raw)
                event = json.loads(raw)
                tap.is_({k: event[k] for k in ("type", "room", "offset", "id", "deep", "null", "t")},
                        {"type": "kind:of", "room": room, "offset": n + 1, "id": "mine", "deep": {"room": "z", "offset": 7}, "null": None, "t": "ü\u2028\""})
                tap.is_(event[name], room.split(":")[1])
                tap.ok(event["timestamp"] > 1e12, "timestamp")
            a, b = (json.loads(raw) for raw in got[0])
            for event in (a, b):
                del event["offset"], event["timestamp"]
            tap.is_(a, b, "by SQL and by HTTP")


@tap.case("two equal rows are two events; a wrong row is refused by a check that names its column, and nothing is sent")
def _():
    room = new_room()
    with watch(room) as pages:
        sql(f"{put(None, room)}; {put(None, room)}")
        pages.expect(type="x", offset=1)
        pages.expect(type="x", offset=2)
        for values, column in (("('noroom', 'x', '{}')", "room"), ("('session:a b', 'x', '{}')", "room"), (f"('{room}', '', '{{}}')", "type"),
                               (f"('{room}', 'x', '[]')", "data"), (f"('{room}', 'x', '1')", "data")):
            try:
                sql(f"insert into rooms_outbox (room, type, data) values {values}")
                tap.fail(f"{values} was taken")
            except SqlError as error:
                tap.like(str(error), f"rooms_outbox_{column}_check")
        pages.nothing()


@tap.case("what can never be published stays with its reason, logged once and counted, and holds up nobody; it goes when it is repaired")
def _():
    room = new_room()
    before = outbox(server)
    deep = "[" * 200 + "]" * 200
    since = len(server.log())
    with watch(room) as pages:
        sql("begin")
        put(sql, room, data='{"n": 1}')
        put(sql, room, "deeper", '{"n": [%s]}' % deep)
        put(sql, room, "deep", '{"n": %s}' % deep)
        put(sql, room, data='{"n": 2}')
        sql("commit")
        pages.expect(n=1, offset=1)
        pages.expect(n=2, offset=2)
        wait_until(lambda: sql("select count(*) from rooms_outbox where refused is not null") == [["2"]], "the refusals")
        put(sql, room, data='{"n": 3}')
        pages.expect(n=3, offset=3)
        empty(sql)
        reasons = dict(sql("select type, refused from rooms_outbox"))
        tap.is_(sorted(reasons), ["deep", "deeper"])
        tap.diag(f"{reasons}")
        tap.ok(all(reasons.values()), "reasons")
        wait_until(lambda: outbox(server)["refused"] - before["refused"] == 2, "refused, in the status")
        for type_ in reasons:
            id_ = sql(f"select id from rooms_outbox where type = '{type_}'")[0][0]
            lines = re.findall(rf"\[error\].*rooms: outbox row {id_} for \"{room}\" cannot be published and stays: .*", server.log()[since:])
            tap.is_(len(lines), 1, type_)
        # Tried again without a repair: refused again. With one, it goes.
        sql("update rooms_outbox set refused = null where type = 'deeper'")
        wait_until(lambda: outbox(server)["refused"] - before["refused"] == 3, "refused again")
        sql("update rooms_outbox set refused = null, data = '{\"n\": 4}'")
        got = [pages.expect(n=4) for _ in range(2)]
        tap.is_([e["type"] for e in got], ["deeper", "deep"])
        empty(sql)
        pages.nothing()
    tap.is_(sql("select count(*) from rooms_outbox"), [["0"]])


@tap.case("how long from an insert's commit until a page has it")
def _():
    room = new_room()
    took = []
    with open_page(server, room) as page:
        for n in range(200):
            began = time.monotonic()
            put(sql, room, data='{"n": %d}' % n)
            page.expect(n=n)
            took.append((time.monotonic() - began) * 1000)
    took.sort()
    tap.diag(f"insert → page: p50 {statistics.median(took):.2f} ms, p99 {took[197]:.2f} ms, worst {took[-1]:.2f} ms")
    tap.ok(statistics.median(took) < 50 * SCALE, "p50")


@tap.case("the worker that relays is killed again and again: nothing lost, nothing twice, all in order", kills_workers=True)
def _():
    server.restart()
    connected(server)
    room = new_room()
    worker, kept = server.workers()
    with open_page(server, room, worker=kept) as page:
        stop = threading.Event()
        sent = []

        def write():
            with pg.session() as session:
                while not stop.is_set():
                    values = ", ".join("('%s', 'x', '{\"n\": %d}')" % (room, len(sent) + i + 1) for i in range(20))
                    session(f"insert into rooms_outbox (room, type, data) values {values}")
                    sent.extend(range(20))
        writer = threading.Thread(target=write)
        writer.start()
        try:
            for n in range(5):
                published = len(sent)
                wait_until(lambda: len(sent) > published + 200, "more rows")
                relays = [one[0] for one in sql("select pid from pg_stat_activity where application_name = 'rooms outbox'")]
                server.kill_worker(worker)
                wait_until(lambda: (found := [one[0] for one in sql("select pid from pg_stat_activity where application_name = 'rooms outbox'")])
                           and not set(found) & set(relays), "the successor to relay")
                worker = next(pid for pid in server.workers() if pid != kept)
        finally:
            stop.set()
            writer.join()
        for n in range(1, len(sent) + 1):
            page.expect(n=n, offset=n, timeout=10 * SCALE)
        page.expect_nothing()
    tap.diag(f"{len(sent)} rows, five kills")
    empty(sql)


@tap.case("Postgres restarts, and crashes: what was committed is published once, in order", kills_workers=True)
def _():
    global sql
    room = new_room()
    with watch(room) as pages:
        n = 0
        for mode in ("fast", "immediate"):
            for _ in range(300):
                n += 1
                put(sql, room, data='{"n": %d}' % n)
            pg.sql("checkpoint")        # fsync is off, and synchronous_commit too
            pg.restart(mode)
            sql = pg.session()
            for _ in range(10):
                n += 1
                put(sql, room, data='{"n": %d}' % n)
        for i in range(1, n + 1):
            pages.expect(n=i, offset=i, timeout=20 * SCALE)
        empty(sql)
        pages.nothing()
    connected(server)


@tap.case("a zone without places for more ids: the rows wait, the log says so once and what to do, a larger zone takes them")
def _():
    with database("crowded") as session:
        host = approvals_host(pg, "", database="crowded", name="full", http="rooms_zone rooms:960k;", locations=NO_API)
        # A backend's ids are kept for ten minutes, those of rows only until the row is gone.
        places = http.status(host)["zone"]["ids"]["cap"]
        session(f"insert into rooms_outbox (room, type, data) select 'session:full', 'x', jsonb_build_object('n', n) from generate_series(1, {3 * places}) n")
        empty(session)
        for n in range(places):
            http.publish(host, {"room": "session:other", "type": "x", "id": f"kept {n}"})
        many = 500
        session(f"insert into rooms_outbox (room, type, data) select 'session:full', 'x', jsonb_build_object('n', n) from generate_series(1, {many}) n")
        host.wait_log(r"\[error\].*rooms: events of the outbox wait: .*rooms_zone")
        looked = int(session("select xact_commit from pg_stat_database where datname = 'crowded'")[0][0])
        wait_until(lambda: int(session("select xact_commit from pg_stat_database where datname = 'crowded'")[0][0]) > looked + 5, "it to be tried again")
        tap.is_(len(re.findall("events of the outbox wait", host.log())), 1, "lines")
        tap.ok(int(session("select count(*) from rooms_outbox where refused is null")[0][0]) >= 300, "they wait")
        host.pieces["http"] = host.pieces["http"].replace("rooms:960k", "rooms:8m")
        host.restart()
        connected(host)
        empty(session)
        tap.is_(host.stop(), [])


@tap.case("rooms that find no place, many rows of one and one row of many, hold up none of those that have one")
def _():
    with database("no_rooms") as session:
        host = approvals_host(pg, "", database="no_rooms", name="no rooms", http="rooms_zone rooms:960k; rooms_history kept:* size=1 ttl=10m;", locations=NO_API)
        room, other_room = new_room(), new_room()
        with watch(room, host) as pages, watch(other_room, host) as others:
            for n in range(5000):
                if http.publish(host, {"room": f"kept:{n}", "type": "x"}, expect=None).status != 200:
                    break
            used = http.status(host)["zone"]["rooms"]
            tap.is_(used["used"], used["cap"], "rooms")
            many = "insert into rooms_outbox (room, type, data) select '{}', 'x', jsonb_build_object('n', n) from generate_series({}, {}) n"
            session("begin")
            session(many.format("ticket:lost", 1, 250))
            session(many.format("ticket:lost-' || n || '", 1, 1500))
            session(many.format("ticket:lost", 251, 500))
            session(many.format(room, 1, 10))
            session("commit")
            began = time.monotonic()
            for n in range(1, 11):
                pages.expect(2 * SCALE, n=n, offset=n)
            tap.diag(f"behind 2000 rows that wait: {(time.monotonic() - began) * 1000:.0f} ms")
            host.wait_log(r"\[error\].*rooms: events of the outbox wait: no place for another room: raise the size in rooms_zone")
            took = []
            for n in range(1, 21):
                began = time.monotonic()
                session(many.format(other_room, n, n))
                others.expect(2 * SCALE, n=n, offset=n)
                took.append((time.monotonic() - began) * 1000)
            tap.diag(f"insert → page beside them: p50 {statistics.median(took):.1f} ms, worst {max(took):.1f} ms")
            tap.ok(statistics.median(took) < 500 * SCALE, "p50")
            wait_until(lambda: session(f"select count(*) from rooms_outbox where room in ('{room}', '{other_room}')") == [["0"]], "theirs to be gone")
            tap.is_(session("select count(*) from rooms_outbox where refused is null"), [["2000"]], "rows that wait")
            tap.is_(len(re.findall("events of the outbox wait", host.log())), 1, "lines")
            pages.nothing()
            others.nothing()
        host.pieces["http"] = host.pieces["http"].replace("rooms:960k", "rooms:8m")
        host.restart()
        connected(host)
        empty(session)
        with open_page(host) as page:
            tap.is_([join(page, room)["offset"] for room in ("ticket:lost", "ticket:lost-1", "ticket:lost-1500")], [500, 1, 1], "events, when there is place")
        tap.is_(host.stop(), [])


@tap.case("rows of up to a mebibyte are published, sixty of 900 KB in one transaction; a larger one is refused by rooms_outbox_data_check")
def _():
    with database("large") as session:
        host = approvals_host(pg, "", database="large", name="large", locations=NO_API.replace("rooms_rate", "rooms_send_queue 64m; rooms_rate"))
        room = new_room()
        big = "insert into rooms_outbox (room, type, data) select '{}', 'x', jsonb_build_object('n', n, 'x', repeat('x', {})) from generate_series({}, {}) n"
        with watch(room, host) as pages:
            session(big.format(room, 900000, 1, 60))
            for n in range(1, 61):
                got = [page.expect(n=n, offset=n) for page in pages.pages]
                tap.is_([len(event["x"]) for event in got], [900000] * len(got), "octets")
            most = 1048576 - len('{"n": 61, "x": ""}')
            session(big.format(room, most, 61, 61))
            tap.is_([len(page.expect(n=61, offset=61)["x"]) for page in pages.pages], [most] * len(pages.pages), "octets")
            try:
                session(big.format(room, most + 1, 62, 62))
                tap.fail("more than a mebibyte was taken")
            except SqlError as error:
                tap.is_(error.code, "23514")
                tap.like(str(error), "rooms_outbox_data_check")
            empty(session)
            pages.nothing()
        tap.is_(session("select count(*) from rooms_outbox"), [["0"]], "rows")
        got = http.status(host)["postgres"]
        tap.is_((got["outbox"]["published"], got["outbox"]["refused"], got["losses"]), (61, 0, 0), "published, refused, connections lost")
        tap.is_(host.stop(), [])


# --- Redis between hosts

@tap.case("a Redis that is 40 ms away: 250 rows of a room arrive in order, once, and another room's does not wait for all of them")
def _():
    with Redis() as redis, Proxy(redis) as far, database("far") as session:
        host = approvals_host(pg, "", http=f"rooms_redis {far.url};", database="far", name="far", locations=NO_API)
        room, other_room = new_room(), new_room()
        with watch(room, host) as pages, watch(other_room, host) as others:
            before = http.status(host)["postgres"]["losses"]
            far.delay(20)
            began = time.monotonic()
            session("insert into rooms_outbox (room, type, data) select room, 'x', jsonb_build_object('n', n) from "
                    f"(select '{room}' as room, n from generate_series(1, 250) n union all select '{other_room}', 251) made order by n")
            others.expect(20 * SCALE, n=251, offset=1)
            other_took, waiting = time.monotonic() - began, int(session(f"select count(*) from rooms_outbox where room = '{room}'")[0][0])
            for n in range(1, 251):
                pages.expect(20 * SCALE, n=n, offset=n)
            took = time.monotonic() - began
            empty(session)
            tap.diag(f"250 rows took {took:.1f} s; the other room's came after {other_took:.1f} s, when {waiting} were left")
            tap.ok(waiting > 50 and other_took < took / 2, f"{waiting} were left, {other_took:.1f} s of {took:.1f} s")
            pages.nothing()
            others.nothing()
            tap.is_(http.status(host)["postgres"]["losses"], before, "connections lost")
        tap.is_(session("select count(*) from rooms_outbox"), [["0"]], "rows")
        far.delay(0)
        tap.is_(host.stop(), [])


@tap.case("two hosts relay at once: each row once and in order, at every page of both")
def _():
    with Redis() as redis, database("shared") as session:
        hosts = [approvals_host(pg, "", http=f"rooms_redis {redis.url};", database="shared", name=f"host {n}", locations=NO_API) for n in (1, 2)]
        room, other_room = new_room(), new_room("ticket")
        with watch(room, *hosts) as pages, watch(other_room, *hosts) as others:
            n = 0
            while n < 1500:
                sql_ = ", ".join("('%s', 'x', '{\"n\": %d}'), ('%s', 'x', '{\"n\": %d}')" % (room, n + i, other_room, n + i) for i in range(1, 26))
                session(f"insert into rooms_outbox (room, type, data) values {sql_}")
                n += 25
                if n % 100 == 0:
                    empty(session)      # whoever wakes first is the next to relay
            for watched in (pages, others):
                for i in range(1, n + 1):
                    watched.expect(n=i, offset=i)
                watched.nothing()
            empty(session)
            shares = [outbox(host)["published"] for host in hosts]
            tap.diag(f"published by the two hosts: {shares}")
            wait_until(lambda: sum(outbox(host)["published"] for host in hosts) == 2 * n, "all to be counted")
        for host in hosts:
            tap.is_(host.stop(), [])


@tap.case("Redis is down for a while: nothing is lost, the order is kept, nothing comes twice")
def _():
    with Redis() as redis, database("redis_down") as session:
        hosts = [approvals_host(pg, "", http=f"rooms_redis {redis.url}; rooms_history session:* size=2000;", database="redis_down", name=f"host {n}", locations=NO_API) for n in (1, 2)]
        room = new_room()
        with watch(room, *hosts) as pages:
            n = 0
            for _ in range(2):
                for _ in range(50):
                    n += 1
                    put(session, room, data='{"n": %d}' % n)
                redis.stop()
                for _ in range(250):
                    n += 1
                    put(session, room, data='{"n": %d}' % n)
                redis.start()
                for _ in range(10):
                    n += 1
                    put(session, room, data='{"n": %d}' % n)
                empty(session)
            for i in range(1, n + 1):
                pages.expect(n=i, offset=i)
            pages.nothing()
        tap.is_(session("select count(*) from rooms_outbox"), [["0"]])
        for host in hosts:
            tap.is_(host.stop(), [])


# --- configuration

@tap.case("rooms_outbox off: nobody takes the rows; on again, they go")
def _():
    with database("off") as session:
        host = approvals_host(pg, "rooms_outbox off;", database="off", name="off", locations=NO_API)
        room = new_room()
        put(session, room, data='{"n": 1}')
        tap.is_(session("select count(*) from pg_stat_activity where datname = 'off' and application_name in ('rooms outbox', 'rooms approvals')"), [["0"]])
        tap.is_(session("select count(*) from rooms_outbox"), [["1"]])
        host.reload(wait_old=True, http=host.pieces["http"].replace("rooms_outbox off", "rooms_outbox on"))
        connected(host)
        empty(session)
        with open_page(host) as page:
            tap.is_(join(page, room)["offset"], 1)
        tap.is_(host.stop(), [])


@tap.case("S73: the role of docs/postgres.md has all the rights that nginx needs, and no others")
def _():
    pg.sql("create database roles")
    migrate(pg, "roles")
    with pg.session(dbname="roles") as session:
        session(block("role"))
        host = approvals_host(pg, user="nginx", database="roles", name="role")
        of = new_session(session)
        with Watch(of, host) as pages:
            put(session, f"session:{of}", data='{"n": 1}')
            pages.expect(n=1, offset=1)
            id_ = create(host, of, timeout=60)["id"]
            pages.expect(type="approval:requested")
            act(host, id_, "extend", by=60)
            pages.expect(type="approval:extended")
            act(host, id_, "resolve", status="approved", resolvedBy="a")
            pages.expect(type="approval:resolved", status="approved")
            insert(session, of, "50 milliseconds")
            pages.expect(type="approval:resolved", status="timeout")
            pages.nothing()
        with pg.session(user="nginx", dbname="roles") as nobody:
            for statement in ("select * from rooms_outbox", "insert into rooms_outbox (room, type) values ('a:b', 'x')", "select * from hitl_approvals",
                              "update hitl_approvals set status = 'approved'", "select * from rooms_approval_timeouts", "select spec_card from hitl_sessions"):
                try:
                    nobody(statement)
                    tap.fail(f"{statement} was allowed")
                except SqlError as error:
                    tap.is_(error.code, "42501", statement)
            # What anybody may hold is not what the relay waits for.
            nobody("select pg_advisory_lock(classid::int, objid::int) from (values (hashtext('rooms_outbox'), hashtext('public'))) o (classid, objid)")
            with Watch(of, host) as pages:
                put(session, f"session:{of}", data='{"n": 2}')
                pages.expect(n=2)
        tap.is_(re.findall(r"permission denied.*", host.log()), [])
        tap.is_(host.stop(), [])


@tap.case("a database without the migrations: one clear line for each task, and it heals when they are applied, without a restart")
def _():
    with database("bare", migrated=False) as session:
        host = approvals_host(pg, database="bare", name="bare")
        host.wait_log(r"\[error\].*approvals do not expire: .*")
        host.wait_log(r"\[error\].*the outbox cannot be read: .*")
        sweeps = len(re.findall("approvals_sweep|rooms_sweep", pg.log()))
        wait_until(lambda: len(re.findall("rooms_sweep", pg.log())) >= sweeps + 3, "it to be tried again")
        for line in ("approvals do not expire", "the outbox cannot be read"):
            found = re.findall(rf".*{line}.*", host.log())
            tap.diag(found[0])
            tap.is_(len(found), 1, line)
        tap.is_(http.request(host, "GET", "/approvals/x").status, 503)
        migrate(pg, "bare")
        of = new_session(session)
        with Watch(of, host) as pages:
            put(session, f"session:{of}", data='{"n": 1}')
            pages.expect(n=1, offset=1)
            id_ = insert(session, of, "50 milliseconds")
            pages.expect(type="approval:resolved", status="timeout", approvalId=id_)
            pages.nothing()
        wait_until(lambda: session("select timeout, warn from rooms_approval_defaults") == [["00:15:00", "{}"]], "the configuration to be told")
        tap.is_(host.stop(), [])


tap.run()

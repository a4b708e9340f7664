#!/usr/bin/python3
"""Postgres fails in every way: each event comes to each page once, in order, nothing that does not need the database notices, and the
event loop never waits for it. (t/89: the workers die.)"""
import contextlib
import json
import os
import re
import signal
import sys
import threading
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import ASAN, SCALE, TIMEOUT, http, tap, wait_until      # noqa: E402
from rooms.page import open_page                                   # noqa: E402
from rooms.postgres_load import PASSWORD, Load, first_worker, pg, prepare, server, settled, start, up     # noqa: E402
from rooms.probe import Probe                                      # noqa: E402
from rooms.proxy import Proxy                                      # noqa: E402

# ms, without what the machine takes. A password costs 3 ms, and 240 where a sanitizer looks at each allocation; a slow core took
# 26 for those of a worker's three connections.
OWN_STALL = 2000 if ASAN else 20 * SCALE
PASSWORDS_STALL = 2000 if ASAN else 60 * SCALE
ANY_STALL = 3000 if ASAN else 1000 * SCALE      # with it: other tests, compilers
TICK = 1.0


def calm(stalls, lost=0, own=OWN_STALL):
    """Nothing in the event loop waited."""
    tap.diag(str(stalls))
    if lost is not None:
        tap.is_(stalls.lost, lost, "lines lost")
    # The host of a virtual machine may pause it, and does not say so: of the turns one, and not for long.
    tap.ok(stalls.own[-2] < own and stalls.own[-1] < 3 * own, f"no turns of {stalls.own[-2]:.1f} and {stalls.own[-1]:.1f} ms: {stalls.worst}")
    tap.ok(stalls.times[-1] < ANY_STALL, f"no answer after {stalls.times[-1]:.1f} ms")


def restarts(mode):
    up()
    load = Load()
    names = load.due(200, first=0.2, last=3)
    for _ in range(20):
        load.write(load.sql, 5)
    probe = Probe(server)
    time.sleep(0.7)
    since = time.monotonic()
    pg.stop(mode)
    stopped = time.monotonic()
    page = open_page(server, "session:elsewhere")
    refused = []
    while time.monotonic() < since + 3.5:
        begun = time.monotonic()
        response = http.get(server, "/approvals/x")
        refused.append(time.monotonic() - begun)
        tap.is_((response.status, response.get("Retry-After")), (503, "1"), "the API's answer")
        http.publish(server, {"room": "session:elsewhere", "type": "x", "data": {"n": len(refused)}})
        page.expect(type="x", n=len(refused))
        time.sleep(0.02)
    pg.start()
    recovered = time.time()
    tap.diag(f"{mode}: stopped in {stopped - since:.2f} s, {len(refused)} answers of 503, the slowest after {max(refused) * 1000:.0f} ms")
    tap.ok(max(refused) < 1 * SCALE, "503 within a second")
    load.drained()
    late = load.later_than(recovered, names)
    tap.diag(f"all that was overdue has expired {late:.2f} s after the server was back")
    tap.ok(late < TICK + 2 * SCALE, "within a tick and 2 s")
    calm(probe.stop())
    load.write(load.sql, 20)
    load.check(f"restart {mode}")
    tap.ok(all(page.losses == 0 for page in load.pages), "every socket stayed open")
    page.close()


for how in ("immediate", "fast"):
    tap.add(f"restart {how}: sockets and /publish notice nothing, the API says 503, all that is overdue expires soon, once", restarts, how)


@tap.case("stopped for 6 s and continued: nothing waits, all that is overdue expires soon, once")
def _():
    up()
    load = Load()
    load.due(200, first=0.2, last=5)
    writing = load.keep_writing(1)
    probe = Probe(server)
    time.sleep(0.7)
    pg.signal(signal.SIGSTOP)
    since = time.monotonic()
    took = []
    try:
        while time.monotonic() < since + 6:
            begun = time.monotonic()
            tap.is_(http.get(server, "/approvals/x").status, 503, "the API's answer")
            took.append(time.monotonic() - begun)
            time.sleep(0.02)
    finally:
        pg.signal(signal.SIGCONT)
    continued = time.time()
    writing.join()
    load.drained()
    late = load.later_than(continued)
    tap.diag(f"503 after at most {max(took):.2f} s, after {sorted(took)[len(took) // 2] * 1000:.1f} ms in the middle; the last timeout "
             f"{late:.2f} s after SIGCONT")
    tap.ok(max(took) < 3 + 1 * SCALE, "a statement has 3 s")
    tap.ok(late < TICK + 2 * SCALE, "within a tick and 2 s")
    calm(probe.stop())
    load.check("SIGSTOP")
    tap.ok(all(page.losses == 0 for page in load.pages), "every socket stayed open")


def create(session):
    body = json.dumps({"sessionId": session, "action": "deploy", "timeout": 3600})
    return http.request(server, "POST", "/approvals", {"Content-Type": "application/json"}, body)


def marks():
    return len(server.log()), len(pg.log())


def attempts(since, seconds, what):
    """Lines of both logs per second."""
    ours = [line for line in server.log()[since[0]:].splitlines() if "postgres" in line or "outbox" in line or "expire" in line]
    logins = pg.log()[since[1]:].count("connection received")
    tap.diag(f"{what}: in {seconds:g} s {len(ours)} lines of our log, {logins} attempts to connect ({logins / seconds:.1f}/s of 6 links)")
    return ours, logins / seconds


@tap.zone_case("read-only: it is no server then, few attempts and few lines; writable again, all expires, once")
def _():
    up()
    load = Load()
    load.due(100, first=0.2, last=3)
    time.sleep(0.5)
    probe = Probe(server)
    pg.read_only(True)
    try:
        since = marks()
        time.sleep(5)
        ours, rate = attempts(since, 5, "read-only")
        tap.is_(create(load.sessions[0]).status, 503, "the answer to one who writes")
    finally:
        pg.read_only(False)
    writable = time.time()
    load.drained()
    late = load.later_than(writable)
    tap.diag(f"the last timeout {late:.2f} s after it was writable")
    tap.ok(late < TICK + 2 * SCALE, "within a tick and 2 s")
    tap.ok(len(ours) <= 12, f"few lines: {ours}")
    tap.ok(rate < 12, "few attempts")
    calm(probe.stop())
    load.check("read-only")


@tap.zone_case("a black hole in front: known within the deadlines, nothing waits for it; gone, all expires, once")
def _():
    prepare("far")
    with Proxy(("127.0.0.1", pg.port)) as proxy, start("far", pg.conninfo(
            host="127.0.0.1", port=proxy.port, user="nginx", password=PASSWORD, dbname="far")) as far:
        for way in ("both", "down", "up"):
            up(far)
            load = Load(far, database="far")
            load.due(100, first=0.2, last=3)
            time.sleep(0.4)
            probe = Probe(far)
            proxy.black_hole() if way == "both" else proxy.one_way(way)
            since, took = time.monotonic(), []
            while time.monotonic() < since + 5:
                begun = time.monotonic()
                response = http.get(far, "/approvals/x")
                took.append(time.monotonic() - begun)
                tap.is_(response.status, 503, "the API's answer")
                time.sleep(0.02)
            proxy.black_hole(False)
            over = time.time()
            load.drained()
            late = load.later_than(over)
            tap.diag(f"{way}: 503 after at most {max(took):.2f} s; the last timeout {late:.2f} s after its end")
            tap.ok(max(took) < 3 + 1 * SCALE, "a statement has 3 s")
            tap.ok(late < TICK + 2 * SCALE, "within a tick and 2 s")
            calm(probe.stop())
            load.check(f"black hole, {way}")
        tap.ok(PASSWORD not in far.log(), "no password in the log")


def locked(owner, load, lock):
    """What falls due once the lock is there: three approvals, of which the first is locked, and sixty others; and in how long all
    of it has."""
    for stretch in (SCALE, 4 * SCALE):
        held = load.due(3, first=1.5 * stretch, last=1.6 * stretch)
        others = load.due(60, first=1.6 * stretch, last=3 * stretch)
        owner("begin")
        owner(lock.replace("@ID@", held[0]).replace("@SESSION@", load.approvals[held[0]]))
        if owner(f"select status from hitl_approvals where id = '{held[0]}'") == [["pending"]]:
            return held, others, 3.5 * stretch
        owner("rollback")
        load.drained()
    tap.fail("the approvals had ended before they were locked")


def locks(what, lock, stuck, others_late, then):
    """The others end in time; what is locked, soon after it is not."""
    up()
    load = Load()
    probe = Probe(server)
    with pg.session() as owner:
        held, others, due = locked(owner, load, lock)
        if "rooms_outbox" not in lock:
            load.write(load.sql, 30)
            wait_until(lambda: load.sql("select count(*) from rooms_outbox where type = 'x'") == [["0"]], "the outbox to go on", 2 * SCALE)
        time.sleep(due)
        states = dict(owner("select id, status from hitl_approvals where id in ('" + "', '".join(held + others) + "')"))
        free = {name for name in held + others if not stuck(name, held, load)}
        if others_late is not None:
            tap.is_({name for name, status in states.items() if status == "timeout"} - set(held), free - set(held), "what has ended")
            latest = max(float(row[0]) for row in pg.sql("select extract(epoch from resolved_at - expires_at) from hitl_approvals where id in ('"
                                                         + "', '".join(free) + "')"))
            tap.diag(f"{what}: {len(free)} others ended, the last {latest:.2f} s late")
            tap.ok(latest < others_late * SCALE, "in time")
        tap.is_(states[held[0]], "pending", "the locked one")
        owner("rollback")
        released = time.time()
    load.drained()
    late = load.later_than(released)
    tap.diag(f"{what}: all have ended {late:.2f} s after its release")
    tap.ok(late < then + 0.5 * SCALE, f"within {then} s")
    calm(probe.stop())
    load.check(what)


tap.zone_add("an approval's row is locked by another session: the others end in time, that one within a second of its release",
             locks, "row", "select from hitl_approvals where id = '@ID@' for update", lambda name, held, load: name == held[0], 0.5, TICK)
tap.zone_add("a session's row is locked: the approvals of others end in time, its own within a second of its release", locks, "session",
             "select from hitl_sessions where id = '@SESSION@' for update",
             lambda name, held, load: load.approvals[name] == load.approvals[held[0]], 0.5, TICK)
tap.zone_add("hitl_approvals is locked as a table: other events go on, all end within a second of its release", locks, "table",
             "lock table hitl_approvals", lambda *_: True, None, TICK + 0.5)
tap.zone_add("hitl_events is locked as a table: all end within the 5 s that the sweep waits before it tries again", locks, "hitl_events",
             "lock table hitl_events", lambda *_: True, None, 5 + TICK)
tap.zone_add("rooms_outbox is locked as a table: all end soon after its release", locks, "outbox", "lock table rooms_outbox",
             lambda *_: True, None, 5 + TICK)


@tap.zone_case("what is published and cannot be deleted comes again each second, not in a loop, and is shown once")
def _():
    up()
    load = Load()
    published = http.status(server)["postgres"]["outbox"]["published"]
    probe = Probe(server)
    pg.sql("revoke execute on function rooms_finish_outbox from nginx")
    try:
        since = marks()
        load.write(load.sql, 450)
        time.sleep(4)
        refusals = pg.log()[since[1]:].count("permission denied for function rooms_finish_outbox")
        ours = re.findall(r"the outbox cannot be emptied: .*", server.log()[since[0]:])
        tap.diag(f"{refusals} attempts in 4 s, {len(ours)} lines of our log")
        tap.ok(2 <= refusals <= 6, "one a second")
        tap.is_(len(ours), 1, f"one line: {ours}")
        tap.like(ours[0], r"the role lacks a grant")
        tap.is_(http.status(server)["postgres"]["outbox"]["published"], published, "nothing is counted")
    finally:
        pg.sql("grant execute on function rooms_finish_outbox to nginx")
    load.drained()
    wait_until(lambda: http.status(server)["postgres"]["outbox"]["published"] == published + 450, "each to be counted once")
    calm(probe.stop())
    load.check("cannot be deleted")


@tap.zone_case("warnings that a trigger of the platform forbids are tried again each second, not in a loop, and hold up no deadline")
def _():
    up()
    load = Load()
    forbidden = load.due(600, first=30, last=31)        # more than a batch
    due = load.due(30, first=0.5, last=3)
    pg.sql("""create function no_warning() returns trigger language plpgsql as
        $$ begin if new.warn_at is distinct from old.warn_at and new.status = 'pending' then raise exception 'no'; end if; return new; end $$;
        update hitl_approvals set warn_at = clock_timestamp() where status = 'pending' and expires_at > now() + interval '10 s';
        create trigger no_warning before update on hitl_approvals for each row execute function no_warning()""")
    try:
        wait_until(lambda: pg.sql("select count(*) from hitl_approvals where status = 'timeout' and id in ('" + "', '".join(due) + "')")
                   == [["30"]], "the others to end")
        before = http.status(server)["approvals"]["sweeps"]
        time.sleep(4)
        sweeps = http.status(server)["approvals"]["sweeps"] - before
        tap.diag(f"{sweeps} sweeps in 4 s in which nothing fell due")
        tap.ok(sweeps <= 6, "a second apart")
        late = pg.sql("select extract(epoch from max(resolved_at - expires_at)) from hitl_approvals where id in ('" + "', '".join(due) + "')")
        tap.ok(float(late[0][0]) < 1 * SCALE, f"deadlines are kept: {late}")
    finally:
        pg.sql("drop trigger no_warning on hitl_approvals; drop function no_warning")
        pg.sql("update hitl_approvals set status = 'cancelled' where id in ('" + "', '".join(forbidden) + "')")


def keeps_out(what, shut, open_again, cause, on=None, database="postgres", secret=None):
    on = on or server
    up(on)
    load = Load(on, database=database)
    load.due(60, first=0.2, last=2)
    time.sleep(0.3)
    probe = Probe(on)
    since = len(on.log()), len(pg.log())
    pg.sql(shut)
    pg.sql("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'nginx'")
    try:
        time.sleep(4)
        tap.is_(http.get(on, "/approvals/x").status, 503, "the API's answer")
        lines = [line for line in on.log()[since[0]:].splitlines() if "rooms: postgres" in line]
        logins = pg.log()[since[1]:].count("connection received") / 4
        tap.diag(f"{what}: {len(lines)} lines, {logins:.1f} attempts/s of 6 links")
        tap.ok(any(re.search(cause, line) for line in lines), f"the cause is told: {lines}")
        tap.ok(len(lines) <= 18 and logins < 18, f"few attempts, few lines: {lines}")
        if secret:
            tap.ok(secret not in on.log(), "no password in the log")
    finally:
        pg.sql(open_again)
    opened = time.time()
    load.drained()
    late = load.later_than(opened)
    tap.diag(f"{what}: the last timeout {late:.2f} s after its end")
    tap.ok(late < TICK + 2 * SCALE, "within a tick and 2 s")
    calm(probe.stop(), own=PASSWORDS_STALL if secret else OWN_STALL)
    load.check(what)


tap.zone_add("too many clients: said, few attempts; when there is room again all expires, once", keeps_out, "too many connections",
             "alter role nginx connection limit 0", "alter role nginx connection limit -1", "too many connections for role")


@tap.zone_case("the server is full to its last connection: said, and well again when somebody leaves")
def _():
    up()
    probe = Probe(server)
    pg.sql("create role crowd login; grant connect on database postgres to crowd; alter role nginx connection limit 0")
    pg.sql("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'nginx'")
    crowd = []
    try:
        with_room = 50 - 3

        def crowded():
            with contextlib.suppress(AssertionError):   # one of nginx' attempts may just have the last place
                crowd.append(pg.session(user="crowd"))
            return int(pg.sql("select count(*) from pg_stat_activity where backend_type = 'client backend'")[0][0]) - 1 >= with_room
        wait_until(crowded, "all places to be taken", 3 * TIMEOUT)
        since = len(server.log())
        pg.sql("alter role nginx connection limit -1")
        wait_until(lambda: re.search("remaining connection slots are reserved|too many clients already", server.log()[since:]),
                   "the cause to be told")
        tap.is_(http.get(server, "/approvals/x").status, 503, "the API's answer")
    finally:
        for session in crowd:
            session.close()
        pg.sql("alter role nginx connection limit -1")
    up()
    calm(probe.stop())


@tap.zone_case("the password is wrong, then right: said without the password, and in again without a reload")
def _():
    prepare("guarded")
    with start("by-password", pg.conninfo(host="127.0.0.1", user="nginx", password=PASSWORD, dbname="guarded")) as other:
        keeps_out("password", "alter role nginx password 'other'", f"alter role nginx password '{PASSWORD}'",
                  'password authentication failed for user "nginx"', on=other, database="guarded", secret=PASSWORD)


@tap.case("Postgres restarts while nginx is reloaded, twice, under load: each event once at each page", kills_workers=True)
def _():
    up()
    load = Load()
    load.due(300, first=0.2, last=5)
    probe = Probe(server)
    for mode in ("immediate", "fast"):
        for _ in range(10):
            load.write(load.sql, 10)
        reloading = threading.Thread(target=lambda: (server.reload(), server.reload()))
        reloading.start()
        pg.restart(mode)        # not in a thread: the server goes with who started it
        reloading.join()
    for _ in range(10):
        load.write(load.sql, 10)
    settled()
    load.check("restarts and reloads")
    calm(probe.stop(), lost=None)


@tap.zone_case("the database is dropped and made anew: the old connections are given up, and what is in the new one expires")
def _():
    prepare("other")
    with start("elsewhere", pg.conninfo(user="nginx", dbname="other")) as other:
        wait_until(lambda: http.status(other)["postgres"]["up"], "it to be connected")
        load = Load(other, database="other")
        load.due(50, first=0.1, last=0.5)
        load.write(load.sql, 50)
        load.check("before")
        probe = Probe(other)
        pg.sql("drop database other with (force)")
        wait_until(lambda: re.search('database "other" does not exist', other.log()), "the cause to be told")
        tap.is_(http.get(other, "/approvals/x").status, 503, "the API's answer")
        prepare("other")
        load = Load(other, database="other")
        load.due(50, first=0.1, last=0.5)
        load.write(load.sql, 50)
        load.check("after")
        calm(probe.stop())


# --- rules that ask

def asks(page, room):
    page.send_json(type="subscribe", room=room)
    return page.recv_json()


@tap.zone_case("S37: a sql= rule while the database is down: unavailable and retryable, never a join; it joins once it is back, without a reload")
def _():
    up()
    pg.sql("insert into hitl_sessions (id, tenant_id) values ('rule', 't')")
    pages = [open_page(server, worker=worker) for worker in server.workers()]
    probe = Probe(server)
    for page in pages:
        tap.is_(asks(page, "doc:nobody")["type"], "error", "what no row lets in")
    pg.stop("immediate")
    for _ in range(20):
        for page in pages:
            got = asks(page, "doc:rule")
            tap.is_((got["type"], got["code"], got["retryable"]), ("error", "unavailable", True), "the answer")
    pg.start()
    for page in pages:
        wait_until(lambda: asks(page, "doc:rule")["type"] == "subscribed", "the join")
        page.close()
    calm(probe.stop())


@tap.zone_case("S40 R10: a slow sql= statement: the others of the worker wait for no event, sockets that close meanwhile harm nothing")
def _():
    up()
    probe = Probe(server)
    worker = first_worker()
    page = open_page(server, "session:slow", worker=worker)
    for n in range(40):
        leaver = open_page(server, worker=worker)
        leaver.send_json(type="subscribe", room=f"slow:0.1{n:03d}")
        leaver.abort() if n % 2 else leaver.drop()
    page.send_json(type="subscribe", room="slow:0.2")
    for n in range(50):
        http.publish(server, {"room": "session:slow", "type": "x", "data": {"n": n}})
    answers = [page.recv_json() for _ in range(51)]
    tap.is_([event["n"] for event in answers if event["type"] == "x"], list(range(50)), "events meanwhile")
    last = [event for event in answers if event["type"] != "x"]
    tap.is_([(event["type"], event.get("code")) for event in last], [("error", "unavailable")], "it waited for 4 s of others")
    up()
    wait_until(lambda: asks(page, "slow:0.05")["type"] == "subscribed", "the link to be free again")
    page.send_json(type="subscribe", room="slow:9")
    page.expect(timeout=5 * SCALE, type="error", code="unavailable", retryable=True)
    page.send_json(type="subscribe", room="slow:0.3")       # alone: it is let in
    page.expect(type="subscribed")
    page.close()
    calm(probe.stop())


@tap.zone_case("a request= location that hangs: unavailable after 5 s, others are let in meanwhile")
def _():
    probe = Probe(server)
    pages = [open_page(server, worker=first_worker()) for _ in range(30)]
    begun = time.monotonic()
    for n, page in enumerate(pages):
        page.send_json(type="subscribe", room=f"hung:{n}")
    for page in pages[20:]:
        page.abort()        # while it is asked
    with open_page(server, worker=first_worker()) as other:
        for n in range(50):
            tap.is_(asks(other, f"open:{n}")["type"], "subscribed", "another question")
        tap.ok(time.monotonic() - begun < 2 * SCALE, "at once")
    for page in pages[:20]:
        page.expect(type="error", code="unavailable", retryable=True)
        tap.ok(4.9 < time.monotonic() - begun < 5 + 1 * SCALE, f"after 5 s: {time.monotonic() - begun:.2f}")
        page.close()
    tap.diag(f"unavailable after {time.monotonic() - begun:.2f} s")
    calm(probe.stop())


@tap.zone_case("a crowd of 500 questions at once, of different rooms and of the same: all are let in, and nothing waits")
def _():
    up()
    pg.sql("insert into hitl_sessions (id, tenant_id) select 'crowd' || n, 't' from generate_series(1, 500) n")
    probe = Probe(server)
    page = open_page(server, worker=first_worker())
    begun = time.monotonic()
    for n in range(1, 501):
        page.send_json(type="subscribe", room=f"doc:crowd{n}")
    for n in range(1, 501):
        page.expect(type="subscribed", room=f"doc:crowd{n}")
    tap.diag(f"500 rooms of one page after {(time.monotonic() - begun) * 1000:.0f} ms")
    pages = [open_page(server) for _ in range(250)]
    begun = time.monotonic()
    for n, one in enumerate(pages):
        one.send_json(type="subscribe", room=f"doc:crowd{n % 25 + 1}")
        one.send_json(type="subscribe", room=f"doc:crowd{n + 100}")
    for one in pages:
        for _ in range(2):
            tap.is_(one.recv_json()["type"], "subscribed", "the answer")
    tap.diag(f"500 rooms of 250 pages after {(time.monotonic() - begun) * 1000:.0f} ms")
    for one in pages + [page]:
        one.drop()
    calm(probe.stop())


tap.run()

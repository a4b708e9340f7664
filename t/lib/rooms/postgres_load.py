# Postgres with an nginx on it, both started when this is imported, and a load whose every event is counted at each page: approvals that
# expire, and rows of the outbox.
import itertools
import re
import socket
import subprocess
import threading
import time

from . import ROOT, SCALE, http, jwt, tap, wait_until, ws
from .nginx import Nginx
from .page import join, open_page
from .postgres import Postgres

PASSWORD = "s3cret-Word"

# A crash of the server must lose no commit: what was told would be undone.
pg = Postgres(options="synchronous_commit = on\nlog_connections = on")
silent = socket.socket()        # takes connections and says nothing
silent.bind(("127.0.0.1", 0))
silent.listen(600)

LOCATIONS = """
    location = /ws       { rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_rate 100000/10s; rooms_drain 1s; rooms_max_rooms 600;
                           rooms_allow session:*;
                           rooms_allow doc:* "sql=select 1 from hitl_sessions where id = $rooms_room_id";
                           rooms_allow slow:* "sql=select pg_sleep($rooms_room_id::float8) is not null";
                           rooms_allow hung:* request=/hangs?id=$rooms_room_id;
                           rooms_allow open:* request=/opens; }
    location = /publish  { rooms_publish; }
    location = /status   { rooms_status; }
    location /approvals  { rooms_approvals_api; }
    location = /opens    { internal; return 204; }
    location = /hangs    { internal; proxy_pass http://127.0.0.1:%d; proxy_read_timeout 60s; }
""" % silent.getsockname()[1]


def prepare(database):
    """A database, migrated, with a role for nginx that has the rights of docs/postgres.md."""
    if database != "postgres":
        pg.sql(f"create database {database}")
    done = subprocess.run([f"{ROOT}/migrations/migrate", pg.conninfo(dbname=database)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with open(f"{ROOT}/docs/postgres.md", encoding="utf-8") as page:
        rights = re.search(r"```sql role\n(.*?)```", page.read(), re.S)[1]
    if pg.sql("select 1 from pg_roles where rolname = 'nginx'", database):
        rights = rights.replace("create role nginx login;", "")
    pg.sql(rights + f"alter role nginx password '{PASSWORD}'", database)


def start(name, conninfo, more="", **options):
    return Nginx(LOCATIONS, files={"secret": jwt.SECRET}, name=name, expect=[r"worker process \d+ exited on signal 9"], http=f"""
        rooms_postgres "{conninfo}";
        rooms_approvals postgres timeout=1h warn=off;
        rooms_history session:* size=20000 ttl=10m;
        rooms_zone faults:32m;
        {more}
        keepalive_requests 100000; proxy_connect_timeout 60s;
    """, **options)


prepare("postgres")
server = start("nginx", pg.conninfo(user="nginx"))
numbers = itertools.count(1)


class Page:
    """Comes back by position, whoever dies."""

    def __init__(self, on, room, worker=None):
        self.on, self.room, self.events = on, room, []
        self.epoch, self.offset, self.socket = None, 0, None
        self.losses = 0
        self.connect(worker)

    def connect(self, worker=None):
        def joined():
            nonlocal worker
            try:
                self.socket = open_page(self.on, worker=worker)
                since = {"since": {"epoch": self.epoch, "offset": self.offset}} if self.epoch else {}
                return join(self.socket, self.room, **since)
            except (AssertionError, OSError):
                worker = None
                return None
        answer = wait_until(joined, f"{self.room} to be joined")
        tap.ok(self.epoch is None or answer["recovered"], f"recovered {self.room} from {self.offset}")
        if self.epoch is None:
            self.epoch, self.offset = answer["epoch"], answer["offset"]

    def read_to(self, offset):
        while self.offset < offset:
            try:
                event = self.socket.recv_json()
                if event["type"] != "reconnect":
                    tap.is_(event.get("offset"), self.offset + 1, f"the next event of {self.room}: {event}")
                    self.offset += 1
                    self.events.append(event)
                    continue
            except (ws.Closed, OSError):
                pass
            self.losses += 1
            self.socket.drop()
            self.connect()

    def position(self):
        """Where the room is now."""
        with open_page(self.on) as late:
            return join(late, self.room)["offset"]


class Load:
    """Approvals that expire and rows of the outbox, both of some sessions, each with a page at each worker."""

    def __init__(self, on=None, sessions=10, database="postgres"):
        self.on, self.database = on or server, database
        self.sessions = [f"s{next(numbers)}" for _ in range(sessions)]
        self.sql("insert into hitl_sessions (id, tenant_id) values " + ", ".join(f"('{s}', 't')" for s in self.sessions))
        self.approvals, self.written = {}, dict.fromkeys(self.sessions, 0)
        workers = wait_until(lambda: (lambda pids: len(pids) == 2 and pids)(self.on.workers()), "two workers")
        self.pages = [Page(self.on, f"session:{s}", worker) for s in self.sessions for worker in workers]

    def sql(self, text):
        return pg.sql(text, self.database)

    def due(self, count, first=0.3, last=2.5):
        """So many approvals that expire between these seconds from now; their ids."""
        made = {f"a{next(numbers)}": self.sessions[n % len(self.sessions)] for n in range(count)}
        step = (last - first) / max(1, count - 1)
        self.sql("insert into hitl_approvals (id, session_id, action, expires_at) values " + ", ".join(
            f"('{name}', '{session}', 'deploy', clock_timestamp() + interval '{first + n * step:.4f} s')"
            for n, (name, session) in enumerate(made.items())))
        self.approvals.update(made)
        return list(made)

    def write(self, run, rows):
        """A transaction of rows of the outbox; run: of a pg.session() or pg.sql."""
        values = []
        for n in range(rows):
            session = self.sessions[(next(numbers) + n) % len(self.sessions)]
            self.written[session] += 1
            values.append(f"('session:{session}', 'x', '{{\"n\": {self.written[session]}}}')")
        run("insert into rooms_outbox (room, type, data) values " + ", ".join(values))

    def keep_writing(self, seconds, rows=5, pause=0.02):
        """In a thread of its own; join() it."""
        def go():
            with pg.session(dbname=self.database) as session:
                end = time.monotonic() + seconds
                while time.monotonic() < end:
                    self.write(session, rows)
                    time.sleep(pause)
        thread = threading.Thread(target=go)
        thread.start()
        return thread

    def pending(self):
        return int(self.sql("select count(*) from hitl_approvals where status = 'pending' and expires_at <= clock_timestamp()")[0][0])

    def drained(self, timeout=20 * SCALE):
        wait_until(lambda: self.sql("""select (select count(*) from hitl_approvals where status = 'pending'
            and expires_at < clock_timestamp() + interval '1 minute') + (select count(*) from rooms_outbox)""") == [["0"]],
                   "all to be expired and published", timeout)

    def check(self, what):
        """Counts what each page got against what was written: L lost, D duplicated, O out of order."""
        self.drained()
        lost = duplicated = disordered = total = losses = 0
        ends = {}
        for page in self.pages:
            session = page.room.partition(":")[2]
            if page.room not in ends:
                ends[page.room] = page.position()
            page.read_to(ends[page.room])
            expected = {f"approval:{name}:timeout" for name, of in self.approvals.items() if of == session}
            expected |= set(range(1, self.written[session] + 1))
            got = [event["n"] if event["type"] == "x" else event["id"] for event in page.events]
            lost += len(expected - set(got))
            duplicated += len(got) - len(set(got))
            ns = [n for n in got if isinstance(n, int)]
            disordered += sum(b < a for a, b in zip(ns, ns[1:]))
            tap.is_(set(got) - expected, set(), f"what nobody wrote, in {page.room}")
            total, losses = total + len(expected), losses + page.losses
            page.socket.drop()
        states = self.sql("select status, count(*) from hitl_approvals where id in ('" + "', '".join(self.approvals) + "') group by 1")
        told = self.sql("select count(*), count(distinct payload ->> 'approvalId') from hitl_events where event_type = 'approval:timeout'"
                        " and payload ->> 'approvalId' in ('" + "', '".join(self.approvals) + "')")
        tap.diag(f"{what}: {len(self.approvals)} approvals, {sum(self.written.values())} rows, {len(self.pages)} pages that came back "
                 f"{losses} times: {total} events, L={lost} D={duplicated} O={disordered}")
        tap.is_((lost, duplicated, disordered), (0, 0, 0), "lost, duplicated, out of order")
        count = str(len(self.approvals))
        if self.approvals:
            tap.is_((states, told), ([["timeout", count]], [[count, count]]), "states and hitl_events")

    def later_than(self, moment, names=None):
        """By how much the last of them ended after a moment of the wall clock, in s."""
        latest = self.sql("select extract(epoch from max(resolved_at)) from hitl_approvals where id in ('"
                          + "', '".join(names or self.approvals) + "')")[0][0]
        return float(latest) - moment


def up(on=None):
    def connected():
        postgres = http.status(on or server)["postgres"]
        return postgres["up"] and postgres["workers"] == 2
    wait_until(connected, "nginx to be connected", 15 * SCALE)
    database = re.search("dbname='(.*?)'", (on or server).pieces["http"])[1]
    wait_until(lambda: {"rooms approvals", "rooms outbox"} <= {row[0] for row in pg.sql(
        f"select application_name from pg_stat_activity where state = 'idle' and datname = '{database}'")}, "sweeper and relay")


def first_worker():
    return server.workers()[0]      # they start in this order


def settled():
    wait_until(lambda: len(server.workers()) == 2 and len(server.processes()) == 2, "the old workers to leave", 15 * SCALE)

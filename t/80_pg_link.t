#!/usr/bin/python3
"""The link to Postgres (PgLink) on a loop of its own beside a real server: statements, outages, deadlines, and that the
loop never waits for any of it. The program is t/pg/link.cpp."""
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import ROOT, SCALE, TIMEOUT, tap, wait_until       # noqa: E402
from rooms.nginx import _die_with_parent, make_certificate    # noqa: E402
from rooms.postgres import Postgres                           # noqa: E402

PROGRAM = os.path.join(ROOT, os.environ.get("ROOMS_UNIT_DIR") or "build/unit", "pg_link")
LONGEST_TURN = 50 * SCALE      # ms, without what the machine takes: a password is hashed in it
PASSWORD = "s3cret-Word"

pg = Postgres(tls=True)
pg.sql(f"create role app login password '{PASSWORD}'")


class Link:
    """The program, started; what it says is consumed in order."""

    def __init__(self, conninfo, start=True):
        self.process = subprocess.Popen([PROGRAM, conninfo], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, cwd=pg.dir, preexec_fn=_die_with_parent,
                                        env={"PATH": "/usr/bin:/bin", "ASAN_OPTIONS": "detect_leaks=1"})
        os.set_blocking(self.process.stdout.fileno(), False)
        self.text, self.lines = b"", []
        self.heard = []
        self.longest_turn = LONGEST_TURN
        if start:
            self.tell("start")

    def tell(self, *lines):
        self.process.stdin.write("".join(f"{line}\n" for line in lines).encode())
        self.process.stdin.flush()

    def run(self, what, text, *values, name=None, timeout=3000):
        self.tell("\t".join([f"run {what}", str(timeout), name or f"s{abs(hash(text))}", text, *values]))

    def _fill(self, seconds):
        if select.select([self.process.stdout], [], [], seconds)[0]:
            more = os.read(self.process.stdout.fileno(), 1 << 20)
            assert more, f"the program has ended: {self.process.stderr.read().decode()[-3000:]}\nheard: {self.heard[-10:]}"
            self.text += more
            *lines, self.text = self.text.split(b"\n")
            self.lines += [line.decode() for line in lines]

    def next(self, pattern, timeout=TIMEOUT):
        """The next line that matches; those before it are passed over, and kept in `heard`."""
        end = time.monotonic() + timeout
        while True:
            while self.lines:
                line = self.lines.pop(0)
                self.heard.append(line)
                if found := re.match(pattern, line):
                    return found
            left = end - time.monotonic()
            if left <= 0:
                raise AssertionError(f"waited {timeout:g} s in vain for {pattern}; heard {self.heard[-10:]}")
            self._fill(left)

    def ask(self, text, *values, timeout=3000):
        self.run("q", text, *values, timeout=timeout)
        return self.next("answer q (.*)")[1]

    def turn(self):
        self.tell("turn")
        return float(self.next(r"turn (\S+)")[1])

    def end(self):
        """Ends it as it should, and gives everything that it has said."""
        self.tell("quit")
        self.next("end")
        self.process.stdin.close()
        said = self.process.stderr.read().decode()
        tap.is_((self.process.wait(TIMEOUT), said), (0, ""), "exit status and stderr")
        return "\n".join(self.heard)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            if kind is None and self.process.poll() is None:
                tap.ok((turn := self.turn()) < self.longest_turn, f"no turn waits: {turn} ms")
                self.end()
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()


def up(conninfo=None):
    link = Link(conninfo or pg.conninfo())
    link.next("up 1")
    return link


def sessions():
    return pg.sql("select pid from pg_stat_activity where application_name = 'rooms test'")


@tap.case("statements are prepared once and answered: rows, values, nulls, booleans, counts")
def _():
    with up() as link:
        for n in ("1", "2"):
            tap.is_(link.ask("select $1::int8 + 1, $2::text, $3::bool", f"={n}", "-", "=true"), f"rows 1/1\t={int(n) + 1}\t-\t=t")
        tap.is_(link.ask("select count(*) from pg_prepared_statements where statement like 'select $1::int8 + 1%'"), "rows 1/1\t=1")
        tap.is_(link.ask("create temp table things (n int)"), "rows 0/0")
        tap.is_(link.ask("insert into things values (1), (2), ($1)", "=3"), "rows 0/3")
        tap.is_(link.ask("select n from things order by n"), "rows 3/3\t=1\t=2\t=3")
        tap.is_(link.ask("select 'è€'"), "rows 1/1\t=è€")


@tap.case("the session has its own deadlines, its name, UTC and UTF-8; the operator's options come after ours")
def _():
    settings = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "TimeZone", "client_encoding",
                "application_name", "work_mem")
    query = "select " + ", ".join(f"current_setting('{name}')" for name in settings)
    with up() as link:
        tap.is_(link.ask(query), "rows 1/1\t=2500ms\t=500ms\t=5s\t=UTC\t=UTF8\t=rooms test\t=4MB")
    with up(pg.conninfo(options="-c work_mem=5MB -c lock_timeout=700", client_encoding="latin1", application_name="mine")) as link:
        tap.is_(link.ask(query), "rows 1/1\t=2500ms\t=700ms\t=5s\t=UTC\t=UTF8\t=mine\t=5MB")


@tap.case("what the server refuses comes with its state and its words, and the next statement is carried out")
def _():
    with up() as link:
        tap.is_(link.ask("select 1 / $1::int", "=0"), "refused 22012 division by zero")
        tap.is_(link.ask("selec 1"), 'refused 42601 syntax error at or near "selec"')
        tap.is_(link.ask("select 1"), "rows 1/1\t=1")
        tap.is_(link.ask("select $1::text", "0"), "refused 22021 a value has a NUL in it")
        tap.is_(link.ask("select pg_sleep(20)", timeout=5000), "refused 57014 canceling statement due to statement timeout")
        tap.is_(link.ask("create temp table late (n int unique deferrable initially deferred)"), "rows 0/0")
        tap.like(link.ask("insert into late values (1), (1)"), "^refused 23505 ")    # comes after its result
        tap.is_(link.ask("select 1"), "rows 1/1\t=1")
        tap.like(link.ask("copy late to stdout"), "^unavailable COPY cannot be used here")


@tap.case("a lock that somebody holds is given up after 500 ms")
def _():
    pg.sql("create table held (n int)")
    with up() as owner, up() as link:
        owner.ask("begin")
        owner.ask("lock table held")
        began = time.monotonic()
        tap.is_(link.ask("select * from held"), "refused 55P03 canceling statement due to lock timeout")
        tap.ok(0.4 < time.monotonic() - began < 1.5 * SCALE, "after half a second")
        owner.ask("rollback")


@tap.case("notifications come, also between statements; notices are not printed")
def _():
    with up() as link:
        link.ask("listen things")
        pg.sql("notify things, 'a'")
        link.next("message things a")
        link.ask("do $$ begin raise notice 'hello'; raise warning 'there'; end $$")
        link.tell("run n\t3000\tn\tselect pg_notify('things', 'b')", "flood 50")
        link.next("message things b")
        pg.sql("notify things, 'c'")
        link.next("message things c")


@tap.case("1000 statements that wait are answered in order; one too many is unavailable at once")
def _():
    with up() as link:
        link.tell("flood 1000")
        link.next("flood 1000 good 1000 ordered 1000 of 1000")
        link.run("slow", "select pg_sleep(0.3)")
        link.tell("flood 8200")
        tap.is_(link.next("flood 8200 good (.*) ordered")[1], "8191")


@tap.case("5 MB go both ways without a turn that waits")
def _():
    with up() as link:
        link.longest_turn *= 2      # the megabytes are copied in it
        tap.is_(link.ask("select length($1), $1", "@5000000", timeout=20000), "rows 1/1\t=5000000\t=#5000000")
        tap.is_(link.ask("select length($1), $1", "@5000000", timeout=20000), "rows 1/1\t=5000000\t=#5000000")
    with up(pg.conninfo(host="127.0.0.1", user="app", password=PASSWORD, sslmode="require")) as link:
        link.longest_turn *= 2
        tap.is_(link.ask("select ssl from pg_stat_ssl where pid = pg_backend_pid()"), "rows 1/1\t=t")
        tap.is_(link.ask("select length($1), $1", "@5000000", timeout=20000), "rows 1/1\t=5000000\t=#5000000")


@tap.case("run and drop answer after the call, not in it; before the start nothing is connected")
def _():
    with Link(pg.conninfo(), start=False) as link:
        link.run("a", "select 1")
        link.next("called")
        link.next("answer a unavailable not connected")
        link.tell("start")
        link.next("up 1")
        link.tell("run b\t3000\tb\tselect 1", "drop on purpose", "run c\t3000\tc\tselect 1")
        for line in ("called", "called", "log error .*cannot be reached: on purpose, retrying in", "answer b unavailable on purpose",
                     "answer c unavailable not connected", "down on purpose", "up 1"):
            link.next(line)


@tap.case("what is asked while the first connection is made waits for it, and is unavailable where it fails")
def _():
    with Link(pg.conninfo(), start=False) as link:
        link.tell("start", "run a\t3000\ta\tselect 1", "run b\t3000\tb\tselect 2")
        for line in ("called", "called", "up 1", "answer a rows 1/1", "answer b rows 1/1"):
            link.next(line)
    with Link(pg.conninfo(dbname="nothere"), start=False) as link:
        link.tell("start", "run a\t3000\ta\tselect 1")
        for line in ("called", "log error .*cannot be reached", 'answer a unavailable database "nothere" does not exist'):
            link.next(line)
        link.run("b", "select 1")
        link.next("called")
        link.next("answer b unavailable not connected")


@tap.case("a drop rolls back what was open")
def _():
    pg.sql("create table kept (n int)")
    with up() as link:
        link.ask("begin")
        link.ask("insert into kept values (1)")
        link.tell("drop enough")
        link.next("down enough")
        link.next("up 1")
        wait_until(lambda: pg.sql("select count(*) from pg_stat_activity where state = 'idle in transaction'") == [["0"]],
                   "the transaction to be gone")
        tap.is_(link.ask("select count(*) from kept"), "rows 1/1\t=0")


@tap.case("the server ends and comes back: down, the causes once each, up again by itself")
def _():
    for mode, cause in (("fast", "terminating connection due to administrator command"), ("immediate", "terminating connection .*")):
        with up() as link:
            time.sleep(1.1)     # it has settled
            link.run("x", "select pg_sleep(2)")
            wait_until(lambda: pg.sql("select 1 from pg_stat_activity where wait_event = 'PgSleep'"), "it to sleep")
            pg.stop(mode)
            link.next(rf'log error postgres "[^"]*:{pg.port}/postgres" lost: {cause}, retrying in \d+ms')
            link.next(f"answer x unavailable {cause}")
            link.next(f"down {cause}")
            time.sleep(2)
            pg.start()
            link.next("up 1")
            link.next(r'log notice postgres ".*" is back after \d+ms')
            tap.is_(link.ask("select 1"), "rows 1/1\t=1")
            causes = [line for line in link.heard if line.startswith("log error")]
            tap.ok(len(causes) <= 4, f"few lines: {causes}")
            tap.is_(len(set(re.sub("retrying.*", "", line) for line in causes)), len(causes), "different ones")


@tap.case("an idle session that is ended is noticed, with the server's reason")
def _():
    with up() as link:
        time.sleep(1.1)
        pg.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'rooms test'")
        link.next("log error .* lost: terminating connection due to administrator command")
        link.next("up 1")


@tap.case("a server that is stopped: the deadline answers all that wait, in time; after SIGCONT it is up again")
def _():
    with up() as link:
        link.ask("select 1")
        time.sleep(1.1)
        pg.signal(signal.SIGSTOP)
        began = time.monotonic()
        try:
            link.run("a", "select 1", timeout=1000)
            link.run("b", "select 1", timeout=9000)
            link.next("answer a unavailable timed out")
            tap.ok(0.9 < time.monotonic() - began < 1.3 * SCALE, "after a second")
            link.next("answer b unavailable timed out")
            link.next("down timed out")
        finally:
            pg.signal(signal.SIGCONT)
        link.next("up 1")
        link.next("log notice .* is back")
        tap.is_(link.ask("select 1"), "rows 1/1\t=1")


@tap.case("who waits too long behind another is answered, and the connection stays; a statement without an answer ends it")
def _():
    with up() as link:
        began = time.monotonic()
        link.run("a", "select pg_sleep(2)", timeout=9000)
        link.run("b", "select 1", timeout=500)
        link.run("c", "select 2", timeout=9000)
        link.next("answer b unavailable timed out")
        tap.ok(time.monotonic() - began < 1 * SCALE, "after half a second")
        link.next("answer a rows 1/1")
        link.next("answer c rows 1/1")
        link.run("d", "select pg_sleep(2)", timeout=500)
        link.next("answer d unavailable timed out")
        link.next("up 1")


@tap.case("a server that cannot be written to is none; it is up when it can be again")
def _():
    with up() as link:
        time.sleep(1.1)
        pg.read_only(True)
        try:
            tap.like(link.ask("create table never (n int)"), "^unavailable cannot execute CREATE TABLE in a read-only")
            link.next("log error .* cannot be reached: session is read-only")
            time.sleep(2)
        finally:
            pg.read_only(False)
        link.next("up 1")
        tap.ok(sum(line.startswith("log") for line in link.heard) <= 3, "three lines at most")


@tap.case("where the operator wants any server, one that refuses writes is lost again with a growing pause")
def _():
    pg.read_only(True)
    try:
        with up(pg.conninfo(target_session_attrs="any")) as link:
            end = time.monotonic() + 3
            while time.monotonic() < end:
                link.ask("create table never (n int)")
                time.sleep(0.02)
            tap.ok(sum(line == "up 1" for line in link.heard) <= 10, "few attempts")
            tap.ok(sum(line.startswith("log") for line in link.heard) <= 2, "few lines")
    finally:
        pg.read_only(False)


for title, more, cause in (
        ("a wrong password", {"user": "app", "password": PASSWORD + "x"}, 'password authentication failed for user "app"'),
        ("a wrong database", {"user": "app", "password": PASSWORD, "dbname": "nothere"}, 'database "nothere" does not exist'),
        ("a password that is part of the server's words", {"user": "app", "password": "app"},
         r'password authentication failed for user "\*\*\*"'),
        ("no password", {"user": "app"}, "fe_sendauth: no password supplied"),
        ("an unknown sslmode", {"user": "app", "password": PASSWORD, "sslmode": "maybe"}, 'invalid sslmode value: "maybe"'),
        ("nobody there", {"port": 1}, "connection refused")):
    @tap.case(f"{title}: one line says it, without the password, and attempts go on")
    def _(more=more, cause=cause):
        with Link(pg.conninfo(host="127.0.0.1", **more)) as link:
            link.next(f'log error postgres "127.0.0.1:.*" cannot be reached: {cause}, retrying in ')
            time.sleep(1)
            link.tell("trouble")
            link.next("trouble " + cause)
            tap.ok((turn := link.turn()) < LONGEST_TURN, f"no turn waits: {turn} ms")
            said = link.end()
            tap.is_(said.count("log "), 1, "lines")
            tap.ok(PASSWORD not in said, "no password")


@tap.case("S74: sslmode=verify-full: the certificate's authority and its name count, and the log says which of them was wrong")
def _():
    ca, user = os.path.join(pg.dir, "server.crt"), {"user": "app", "password": PASSWORD, "sslmode": "verify-full"}
    make_certificate(other := tempfile.mkdtemp(prefix="rooms-other-"))
    for host in ({"host": "localhost", "hostaddr": "127.0.0.1"}, {"host": "127.0.0.1"}):
        with up(pg.conninfo(**host, **user, sslrootcert=ca)) as link:
            tap.is_(link.ask("select ssl from pg_stat_ssl where pid = pg_backend_pid()"), "rows 1/1\t=t", "TLS")
    for host, root, why in (({"host": "other.example", "hostaddr": "127.0.0.1"}, ca, '.*does not match host name "other.example"'),
                            ({"host": "127.0.0.1"}, os.path.join(other, "server.crt"), ".*certificate verify failed"),
                            ({"host": "127.0.0.1"}, "/nowhere/root.crt", '.*root certificate file "/nowhere/root.crt" does not exist')):
        with Link(pg.conninfo(**host, **user, sslrootcert=root)) as link:
            link.next(f"log error postgres .* cannot be reached: {why}")
            tap.is_(link.end().count("up 1"), 0, "it is never up")
    shutil.rmtree(other)


@tap.case("a port that takes connections and is silent: the deadline, and then the next server of the list")
def _():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(10)
        port = silent.getsockname()[1]
        with Link(pg.conninfo(host=f"127.0.0.1,{pg.dir}", port=f"{port},{pg.port}")) as link:
            began = time.monotonic()
            link.next("log error .* cannot be reached: timed out", 7 * SCALE)
            tap.ok(4.5 < time.monotonic() - began < 6 * SCALE, "after five seconds")
            link.next("up 1")


@tap.case("a host that does not answer at all: the deadline")
def _():
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)      # the kernel drops what comes beyond
        crowd = [socket.socket() for _ in range(3)]
        for each in crowd:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        with Link(pg.conninfo(host="127.0.0.1", port=full.getsockname()[1])) as link:
            # Ours, or the kernel's, which is due at the same moment.
            link.next("log error .* cannot be reached: (connection )?timed out", 7 * SCALE)
            for each in crowd:
                each.close()


@tap.case("of several servers the one that takes writes is used, and each that does not is named")
def _():
    with Link(pg.conninfo(host="127.0.0.1,127.0.0.1", port=f"1,{pg.port}", user="app", password=PASSWORD)) as link:
        link.next("up 1")
    with Link(pg.conninfo(host="127.0.0.1,127.0.0.2", port=1, user="app", password=PASSWORD)) as link:
        link.next(r'log error postgres "127.0.0.1:1,127.0.0.2:1/postgres" cannot be reached: connection to server at "127.0.0.1", '
                  r'port 1 failed: Connection refused; connection to server at "127.0.0.2", port 1 failed')


@tap.case("the link may be destroyed in each of its callbacks, and while it is connecting")
def _():
    for where, then in (("up", []), ("message", ["notify things, 'x'"]), ("answer", ["select 1"]), ("down", None)):
        with Link(pg.conninfo(), start=False) as link:
            link.tell(f"destroy-in {where}", "start")
            link.next("up 1")
            if where == "message":
                link.run("l", "listen things")
            for text in then or []:
                link.run("x", text)
                link.run("y", text)
            if where == "down":
                link.tell("drop x")
            link.next("destroyed")
            link.run("z", "select 1")
            tap.is_(link.turn() < LONGEST_TURN, True)
    # where an answer is given because it is lost
    with up() as link:
        link.tell("destroy-in answer")
        link.tell("run a\t3000\ta\tselect pg_sleep(9)", "run b\t3000\tb\tselect 1", "drop x")
        link.next("answer a unavailable x")
        link.next("destroyed")
        link.turn()
        tap.ok(not any(line.startswith(("answer b", "down")) for line in link.heard), "nothing after it")
    for text in ("start\ndestroy", "start\nturn\ndestroy", "start\nturn\nturn\nturn\ndestroy"):
        with Link(pg.conninfo(), start=False) as link:
            link.tell(text)
            link.turn()
    wait_until(lambda: not sessions(), "no session to be left")


@tap.case("what was prepared and is not valid any more makes a new connection")
def _():
    pg.sql("create table shape (a int)")
    with up() as link:
        tap.is_(link.ask("select * from shape"), "rows 0/0")
        pg.sql("alter table shape add b int")
        tap.like(link.ask("select * from shape"), "^unavailable cached plan must not change")
        link.next("up 1")
        tap.is_(link.ask("select * from shape"), "rows 0/0")
        link.ask("deallocate all")
        tap.like(link.ask("select * from shape"), "^unavailable prepared statement .* does not exist")
        link.next("up 1")


tap.run()

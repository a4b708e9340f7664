#!/usr/bin/python3
"""docs/operations.md on a server that lives: keys that are replaced, modes, limits, times, logs that rotate, upgrades, and
what each of them keeps. The blocks are the page's own; t/34_site.t has those that say who reaches what."""
import grp
import os
import pwd
import re
import resource
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import ROOT, SCALE, VERSION, example, http, jwt, tap, wait_until, ws     # noqa: E402
from rooms.example import block, paste, replaced                           # noqa: E402
from rooms.nginx import BINARY, MODULE, Nginx, workers_of                  # noqa: E402
from rooms.page import join, open_page                                     # noqa: E402

PAGE = example.page("docs/operations.md")
USER, GROUP = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
KEYS = [os.urandom(32).hex().encode() for _ in range(4)]
COMMON = "rooms; rooms_allow session:*;"


def shown(info, words=None):
    """A block of the page, with other addresses and paths."""
    return replaced(block(PAGE, info), words or {})


def nginx_command(server):
    """What makes `nginx` in a shell of the page be this server's."""
    own = [item for item in server._environment().items() if item not in os.environ.items()]
    env = " ".join(f"{name}={shlex.quote(value)}" for name, value in own)
    return f"nginx() {{ {env} {BINARY} -p {server.dir} -c {server.path('nginx.conf')} -e {server.path('error.log')} \"$@\"; }}\n"


def reload_as(server, text):
    """Runs these lines of the page, which reload, and waits for the new workers."""
    before = set(server.processes())
    server.changed_workers = True
    paste(nginx_command(server) + text)
    wait_until(lambda: len(set(server.workers()) - before) >= server.workers_wanted, "new workers")
    return before


def opens(server, token, path="/ws"):
    """Whether this token opens a socket; the other outcome is 4002."""
    with ws.connect(server, path, token=token) as page:
        try:
            page.expect(type="connected")
            return True
        except ws.Closed as closed:
            tap.is_(closed.code, 4002, "close code")
            return False


# --- keys

class Follower:
    """A page that comes back where it was, with the token that it is given, whenever it is told to."""

    def __init__(self, server, token):
        self.server, self.room, self.n = server, "session:42", 0
        self.socket = ws.connect(server, "/ws", token=token)
        self.socket.expect(type="connected")
        self.epoch = join(self.socket, self.room)["epoch"]

    def hears(self):
        self.n += 1
        http.publish(self.server, {"room": self.room, "type": "x", "data": {"n": self.n}})
        self.socket.expect(type="x", n=self.n, offset=self.n)

    def comes_back(self, token):
        self.socket.wait_for(type="reconnect")
        http.publish(self.server, {"room": self.room, "type": "x", "data": {"n": self.n + 1}})
        old, self.socket = self.socket, ws.connect(self.server, "/ws", token=token)
        self.socket.expect(type="connected")
        tap.is_(join(self.socket, self.room, since={"epoch": self.epoch, "offset": self.n})["recovered"], True, "recovered")
        self.n += 1
        self.socket.expect(type="x", n=self.n, offset=self.n)
        old.send_close()
        old.expect_closed(1012, answer=False)


@tap.case("a key is replaced as the page does it: at each step those tokens are good that it says, and a page misses nothing")
def _():
    def server_conf(info):
        return shown(info, {"/etc/nginx": "@DIR@"})

    with Nginx(f"location = /ws {{ {COMMON} }} location = /publish {{ rooms_publish; }}", server=server_conf("nginx one-key"),
               files={"rooms-2026.secret": KEYS[0] + b"\n"}, name="with a key to replace") as server:
        old = jwt.mint(sub="u1", key=KEYS[0], header={"kid": "2026"})

        def new():
            return jwt.mint(sub="u1", key=server.read("rooms-2027.secret").strip().encode(), header={"kid": "2027"})
        page = Follower(server, old)
        page.hears()

        paste(shown("sh new-secret", {"/etc/nginx": server.dir}))
        tap.is_(stat.S_IMODE(os.stat(server.path("rooms-2027.secret")).st_mode), 0o600, "the new secret's mode")
        tap.is_((opens(server, old), opens(server, new())), (True, False), "old and new token before the reload")
        server.pieces["server"] = server_conf("nginx both-keys")
        server.write("nginx.conf", server.config())
        reload_as(server, shown("sh reload"))
        page.comes_back(old)
        tap.is_((opens(server, old), opens(server, new())), (True, True), "old and new token with both keys")
        page.hears()

        server.pieces["server"] = server_conf("nginx new-key")
        server.write("nginx.conf", server.config())
        reload_as(server, shown("sh reload"))
        page.comes_back(new())
        wait_until(lambda: len(server.processes()) == 2, "the old workers to leave")
        tap.is_((opens(server, old), opens(server, new())), (False, True), "old and new token with the new key")
        page.hears()
        page.socket.close()


@tap.case("a configuration that is wrong is not reloaded: the page's line ends at nginx -t, and the keys are the old ones")
def _():
    with Nginx(f"location = /ws {{ {COMMON} rooms_jwt_key HS256 @DIR@/secret; }}", files={"secret": KEYS[0]},
               name="with a mistake") as server:
        workers = server.workers()
        server.write("secret", "short")
        paste(nginx_command(server) + shown("sh reload"), expect=1)
        tap.is_(server.workers(), workers, "workers")
        tap.ok(opens(server, jwt.mint(sub="u1", key=KEYS[0])), "the old key")
        server.allow(r"\[emerg\].*rooms_jwt_key")


@tap.case("a backend's secret is replaced as the page does it: both are good in between, and the file's mode stays")
def _():
    with Nginx("location = /publish { rooms_publish secret=@DIR@/publish.secret; }", files={"publish.secret": KEYS[0] + b"\n"},
               name="with a secret to replace") as server:
        def publishes(secret):
            status = http.publish(server, {"room": "session:1", "type": "x"}, expect=None,
                                  headers={"Authorization": f"Bearer {secret}"}).status
            return tap.in_(status, (200, 401)) == 200
        reload_as(server, shown("sh second-line", {"/etc/nginx": server.dir}))
        lines = server.read("publish.secret").split()
        tap.is_(len(lines), 2, "lines")
        wait_until(lambda: len(server.processes()) == 2, "the old workers to leave")
        tap.is_([publishes(line) for line in lines], [True, True], "old and new, with both")
        tap.is_(paste(f"tail -n 1 {server.path('publish.secret')}").strip(), lines[1], "what backends are given")
        reload_as(server, shown("sh first-line-out", {"/etc/nginx": server.dir}))
        wait_until(lambda: len(server.processes()) == 2, "the old workers to leave")
        tap.is_([publishes(line) for line in lines], [False, True], "old and new, with the new one")
        tap.is_(stat.S_IMODE(os.stat(server.path("publish.secret")).st_mode), 0o600, "the file's mode")


# --- files

@tap.case("a secret that everybody may read is warned about in the page's words; 600, 640 and a public key are silent")
def _():
    server = Nginx(f"location = /ws {{ {COMMON} rooms_jwt_key HS256 @DIR@/rooms.secret; rooms_jwt_key ES256 @DIR@/ES256.pub; }} "
                   "location = /publish { rooms_publish secret=@DIR@/publish.secret; }", name="with modes", start=False,
                   files={"rooms.secret": KEYS[0], "publish.secret": KEYS[0]})
    os.chmod(jwt.Key(server.dir, "ES256").public, 0o644)
    server.write("nginx.conf", server.config())
    warning = shown("text mode", {"/etc/nginx": server.dir}).strip()
    for mode in (0o600, 0o640):
        for name in ("rooms.secret", "publish.secret"):
            os.chmod(server.path(name), mode)
        code, said = server.test_config()
        tap.is_((code, "warn" in said), (0, False), f"{mode:o}: {said}")
    for name, directive in (("rooms.secret", "rooms_jwt_key"), ("publish.secret", "rooms_publish")):
        os.chmod(server.path(name), 0o644)
        said = paste(nginx_command(server) + "nginx -t 2>&1")
        tap.in_(replaced(warning, {"rooms_jwt_key": directive, "rooms.secret": name}), said)
    paste(shown("sh modes", {"/etc/nginx": server.dir, "root:root": f"{USER}:{GROUP}"}))
    tap.unlike(server.test_config()[1], "warn", "after the page's lines")


@tap.case("nginx -t by somebody who may not read the secret says which it is")
def _():
    server = Nginx(f"location = /ws {{ {COMMON} rooms_jwt_key HS256 @DIR@/rooms.secret; }}", name="unreadable", start=False,
                   files={"rooms.secret": KEYS[0]}, module="own")     # the checkout may be where nobody else looks
    conf = server.write("nginx.conf", server.config(), 0o644)
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody").pw_uid
        os.chown(server.dir, nobody, -1)
        leave = lambda: os.setuid(nobody)                                  # noqa: E731
    else:
        os.chmod(server.path("rooms.secret"), 0)
        leave = None
    done = subprocess.run([BINARY, "-t", "-p", server.dir, "-c", conf, "-e", "stderr"], capture_output=True, text=True,
                          preexec_fn=leave, env=server._environment())
    tap.like(done.stderr, rf'\[emerg\].*"rooms_jwt_key".* cannot read "{server.path("rooms.secret")}": Permission denied')


# --- limits

# Where this test may not go beyond a lower limit than the page's, that one.
MOST = min(40000, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
LIMITS = shown("nginx limits")
MAIN, EVENTS = tap.like(LIMITS, r"(?s)^(.*)events \{\n(.*)\}$").groups()
WARNINGS = re.findall(r"^\| `([^`]*(?:worker_connections|accept4|setrlimit)[^`]*)` \|", PAGE, re.M)


def warned(words):
    return next(line for line in WARNINGS if words in line)


@tap.case("more worker_connections than descriptors: nginx says so in the page's words, and with its limits each worker has them")
def _():
    with Nginx("location = /status { rooms_status; }", main=replaced(MAIN, {"40000": MOST}), events=EVENTS,
               name="with limits") as server:
        for pid in server.workers():
            with open(f"/proc/{pid}/limits", encoding="utf-8") as file:
                tap.like(file.read(), rf"^Max open files +{MOST} ", "the worker's limits")
        conf = server.write("test.conf", server.config(main=""))
        done = subprocess.run([BINARY, "-t", "-p", server.dir, "-c", conf, "-e", "stderr"], capture_output=True, text=True,
                              env=server._environment(), preexec_fn=lambda: resource.setrlimit(
                                  resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
        tap.in_(warned("exceed"), done.stderr)


@tap.case("a limit that may not be raised is told in the page's words")
def _():
    through = ["prlimit", "--nofile=1024:1024"]
    if os.geteuid() == 0:               # as in a container, or confined: a root that has not this right
        through = ["setpriv", "--bounding-set=-sys_resource", *through]
    with Nginx("location = /status { rooms_status; }", main=MAIN, through=through, name="with its limit from outside",
               expect=["setrlimit"]) as server:
        server.wait_log(re.escape(warned("setrlimit")))
        tap.is_(http.get(server, "/status").status, 200, "it serves nevertheless")


def sockets_until_full(server, most=80):
    pages = []
    while len(pages) < most:
        try:
            page = open_page(server, "session:1", timeout=0.3 * SCALE)
        except (OSError, AssertionError):
            return pages
        pages.append(page)
    tap.fail(f"{most} sockets, and no limit")


def full(server, words):
    pages = sockets_until_full(server)
    server.wait_log(re.escape(words))
    tap.ok(len(pages) > 5, f"{len(pages)} had place")
    for _ in range(5):
        pages.pop().close()             # place for who publishes
    wait_until(lambda: publishes_at(server), "a publication")
    for page in pages:
        page.wait_for(type="x")
        page.drop()


def publishes_at(server):
    try:
        return http.publish(server, {"room": "session:1", "type": "x"}, timeout=1.5 * SCALE)
    except (OSError, AssertionError):
        return None


@tap.case("when worker_connections or descriptors are used up the log says it in the page's words, and who is there stays")
def _():
    place = f"location = /ws {{ {COMMON} rooms_jwt_key HS256 @DIR@/secret; }} location = /publish {{ rooms_publish; }}"
    files = {"secret": jwt.SECRET}
    with Nginx(place, workers=1, events=replaced(EVENTS, {"20000": 24}), files=files, name="out of connections",
               expect=["worker_connections are not enough"]) as server:
        full(server, replaced(warned("enough"), {"20000": 24}))
    with Nginx(place, workers=1, main=replaced(MAIN, {"40000": 310}), files=files, name="out of descriptors",
               expect=["24: Too many open files"]) as server:
        own, = server.workers()
        tap.ok(250 < len(os.listdir(f"/proc/{own}/fd")) < 290, "its descriptors without sockets")
        full(server, warned("accept4"))


DROP_IN = shown("ini limits")
STOP = tap.like(DROP_IN, r"^ExecStop=-(.*)$")[1]
DRAIN = shown("nginx drain")


def lives(drain, name, **more):
    return Nginx(f"""location = /ws {{ {COMMON} rooms_jwt_key HS256 @DIR@/secret; }}
                     location /slow {{ limit_rate 1k; }}""", http=drain, files={"secret": jwt.SECRET, "html/slow": "x" * 100000},
                 name=name, **more)


@tap.case("the page's times are each longer than the one before it")
def _():
    seconds = [int(tap.like(text, pattern)[1]) for text, pattern in (
        (DRAIN, r"^rooms_drain (\d+)s;"), (MAIN, r"worker_shutdown_timeout (\d+)s;"), (STOP, r"--retry QUIT/(\d+) "),
        (DROP_IN, r"^TimeoutStopSec=(\d+)$"))]
    tap.is_(seconds, sorted(set(seconds)), "seconds")
    tap.is_(tap.like(DROP_IN, r"^LimitNOFILE=(\d+)$")[1], tap.like(MAIN, r"worker_rlimit_nofile +(\d+);")[1], "descriptors")


@tap.case("a reload: sockets have rooms_drain, and what is left is cut at worker_shutdown_timeout")
def _():
    with lives(replaced(DRAIN, {"10s": "600ms"}), "reloaded", main=replaced(MAIN, {"12s": "1200ms", "40000": MOST})) as server, \
            open_page(server, "session:1") as page:
        wire = ws.open_wire(server)
        wire.send(http.request_octets("GET", "/slow/../slow"))
        wire.take_until(b"\r\n\r\n")
        begun = time.monotonic()
        old = reload_as(server, shown("sh reload"))
        tap.in_(page.expect(type="reconnect")["afterMs"], range(0, 401), "afterMs")
        page.expect_closed(1012)
        tap.ok(time.monotonic() - begun < 0.6 + 0.5 * SCALE, "the socket's end")
        tap.ok(old & set(server.processes()), "an old worker goes on with the download")
        wait_until(lambda: not old & set(server.processes()), "old workers to leave", 3 * SCALE)
        took = time.monotonic() - begun
        tap.ok(1 < took < 1.2 + 1 * SCALE, f"the old workers' end after {took:.2f} s")
        wire.poll()
        tap.ok(wire.ended, "the download was cut")
        wire.close()


def stopped(server, line):
    """The exit code of the unit's ExecStop, on this nginx."""
    pid = server.path("nginx.pid")
    process = subprocess.Popen(["bash", "-c", replaced(line, {"/run/nginx.pid": pid})])
    while process.poll() is None:
        server.process.poll()           # else it remains a zombie, which start-stop-daemon takes for alive
        time.sleep(0.02)
    return process.returncode


@tap.case("ExecStop of the drop-in lets nginx quit: sockets are told, and have the whole of rooms_drain")
def _():
    with lives(replaced(DRAIN, {"10s": "1s"}), "stopped by its service") as server, open_page(server, "session:1") as page:
        tap.is_(stopped(server, STOP), 0, "exit code")
        tap.ok(not server.is_running(), "nginx has gone")
        page.expect(type="reconnect")
        page.expect_closed(1012, answer=False)


@tap.case("ExecStop with a time below rooms_drain gives up, and the SIGTERM that follows tells nobody")
def _():
    with lives(DRAIN, "stopped too soon") as server, open_page(server, "session:1") as page:
        tap.is_(stopped(server, replaced(STOP, {"QUIT/15": "QUIT/1"})), 2, "exit code")
        page.expect(type="reconnect")
        tap.ok(server.is_running(), "nginx still runs")
        server.send_signal(signal.SIGTERM)
        tap.is_(page.next_frame(), None, "what it hears")


@tap.case("the drop-in is one that systemd understands")
def _():
    def faults(text):
        """Each line is a section or a setting; systemd itself is asked where it is."""
        known = r"\[Service\]|(LimitNOFILE|ExecStop|TimeoutStopSec)=.*"
        said = [line for line in text.splitlines() if not re.fullmatch(known, line)]
        if not shutil.which("systemd-analyze"):
            return said
        with tempfile.TemporaryDirectory(prefix="rooms-units-") as units:
            os.mkdir(f"{units}/nginx.service.d")
            with open(f"{units}/nginx.service", "w", encoding="utf-8") as unit:
                unit.write(f"[Unit]\nDescription=nginx\n[Service]\nType=forking\nExecStart={BINARY}\n")
            with open(f"{units}/nginx.service.d/limits.conf", "w", encoding="utf-8") as drop_in:
                drop_in.write(text)
            done = subprocess.run(["systemd-analyze", "verify", f"{units}/nginx.service"], capture_output=True, text=True,
                                  env={**os.environ, "SYSTEMD_UNIT_PATH": units + ":"})
        return said + [line for line in (done.stdout + done.stderr).splitlines() if "limits.conf" in line]
    tap.is_(faults(DROP_IN), [], "what is said of it")
    tap.ok(faults(DROP_IN + "TimeoutStopSecs=1\n"), "a mistake is found")


# --- logs

@tap.case("logrotate with the page's file: sockets that are open write their line into the new log, also those that drain")
def _():
    with Nginx(f"location = /ws {{ {COMMON} rooms_jwt_key HS256 @DIR@/secret; rooms_drain 20s; }}", name="rotated",
               files={"secret": jwt.SECRET, "logs/other.log": ""},
               server="access_log @DIR@/logs/access.log of_user;", http="log_format of_user '$rooms_user $status';") as server:
        text = shown("logrotate rooms", {"/var/log/rooms": server.path("logs"), "www-data adm": f"{USER} {GROUP}",
                                         "/run/nginx.pid": server.path("nginx.pid")})
        conf = server.write("logrotate.conf", text)
        pages = [open_page(server, user="drains"), open_page(server, user="gone")]
        pages.pop().close()
        wait_until(lambda: "gone 101" in server.read("logs/access.log"), "a line")
        server.reload()
        pages.append(open_page(server, user="stays"))
        paste(f"/usr/sbin/logrotate -f -s {server.path('state')} {conf}")
        wait_until(lambda: all(log_of(pid, server) == {server.path("logs/access.log")} for pid in server.processes()),
                   "all workers to write the new log")
        for page in pages:
            page.send_close(1000)
            page.expect_closed(answer=False)
        wait_until(lambda: sorted(server.read("logs/access.log").splitlines()) == ["drains 101", "stays 101"], "the lines")
        tap.is_(server.read("logs/access.log.1"), "gone 101\n", "the old log")
        tap.is_(stat.S_IMODE(os.stat(server.path("logs/access.log")).st_mode), 0o640, "the new log's mode")

        os.rename(server.path("logs/access.log"), server.path("logs/by-hand"))
        page = open_page(server, user="by-hand")
        paste(nginx_command(server) + tap.like(PAGE, r"By hand it is `(nginx -s reopen)`")[1])
        wait_until(lambda: all(log_of(pid, server) == {server.path("logs/access.log")} for pid in server.processes()),
                   "all workers to write the new log again")
        page.close()
        wait_until(lambda: server.read("logs/access.log") == "by-hand 101\n", "the line")


def log_of(pid, server):
    """The files below logs/ that the process has open."""
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except OSError:
            pass
    return {path for path in found if path.startswith(server.path("logs/"))}


# --- upgrades

def patched(path, old, new):
    """A copy of the module in which these octets are others."""
    with open(MODULE, "rb") as file:
        octets = file.read()
    tap.ok(old in octets and len(old) == len(new), f"{old!r} is there")
    with open(path + ".new", "wb") as file:
        file.write(octets.replace(old, new))
    os.rename(path + ".new", path)


@tap.case("a module that was built for another nginx does not start, and nginx -t says it in the page's words")
def _():
    server = Nginx(name="another nginx", start=False)
    says = re.findall(r"^\| `(version \d+ instead of \d+|is not binary compatible)` \|", PAGE, re.M)
    tap.is_(len(says), 2, "lines of the table")
    this = subprocess.run([BINARY, "-v"], capture_output=True, text=True).stderr
    number = "{}{:03}{:03}".format(*map(int, tap.like(this, r"nginx/(\d+)\.(\d+)\.(\d+)").groups()))
    signature = tap.like(octets_of_nginx(), r"(8,4,8,[01]{30,})")[1]
    other = signature[:-1] + ("1" if signature[-1] == "0" else "0")
    for old, new, words in (
            (int(number).to_bytes(8, "little"), (1018000).to_bytes(8, "little"), replaced(says[0], {"1022001": number})),
            (signature.encode(), other.encode(), says[1])):
        patched(server.path("other.so"), old, new)
        conf = server.write("nginx.conf", replaced(server.config(), {MODULE: server.path("other.so")}))
        done = subprocess.run([BINARY, "-t", "-p", server.dir, "-c", conf, "-e", "stderr"], capture_output=True, text=True,
                              env=server._environment())
        tap.is_(done.returncode, 1, "exit code")
        tap.like(done.stderr, rf'\[emerg\].* module "{server.path("other.so")}" {words} in ')


def octets_of_nginx():
    with open(BINARY, "rb") as file:
        return file.read().decode("latin-1")


ROWS = re.findall(r"^\| (.+?) \| .* \| ((?:`t/\S+`(?:, )?)+) \|$", PAGE.partition("## What reload,")[2], re.M)


@tap.case("reload, restart and binary upgrade keep what the page's table says: history, counters, keys, the module's file")
def _():
    server = Nginx(f"""location = /ws {{ {COMMON} rooms_jwt_key HS256 @DIR@/secret; rooms_drain 0s; }}
                       location = /publish {{ rooms_publish; }} location = /status {{ rooms_status; }}""",
                   name="that lives", daemon=True, start=False, files={"secret": KEYS[0]})
    names = [VERSION] + [VERSION[:-1] + last for last in "xyz"]

    def install_module(name):
        """By rename, as install(1) and dpkg do: the file that runs is not written to."""
        patched(server.path("module.so"), f"\0{VERSION}\0".encode(), f"\0{name}\0".encode())
    install_module(VERSION)
    server.whole = replaced(server.config(), {MODULE: "@DIR@/module.so"})
    server.start()

    def change_files(n):
        install_module(names[n])
        server.write("secret", KEYS[n])

    def position():
        with ws.connect(server, "/ws", token=jwt.mint(sub="u1", key=key)) as page:
            page.expect(type="connected")
            return join(page, "session:1")

    def is_now(n, module, published, since, recovered):
        nonlocal key
        tap.is_((opens(server, jwt.mint(sub="u1", key=KEYS[n - 1])), opens(server, jwt.mint(sub="u1", key=KEYS[n]))),
                (False, True), "old and new key")
        key = KEYS[n]
        status = http.status(server)
        tap.is_((status["version"], status["messages"]["published"]), (names[module], published), "module, publications counted")
        with ws.connect(server, "/ws", token=jwt.mint(sub="u1", key=key)) as page:
            page.expect(type="connected")
            tap.is_(join(page, "session:1", since=since)["recovered"], recovered, "recovered")

    def publish():
        http.publish(server, {"room": "session:1", "type": "x"})
        at = position()
        return {"epoch": at["epoch"], "offset": at["offset"] - 1}

    with server:
        key = KEYS[0]
        since = publish()
        change_files(1)
        reload_as(server, shown("sh reload"))
        wait_until(lambda: len(server.processes()) == 2, "the old workers to leave")
        is_now(1, 0, 1, since, True)

        change_files(2)
        server.changed_workers = True
        server.send_signal(signal.SIGQUIT)
        server.process.wait(8 * SCALE)
        tap.is_(refused(server), True, "refused while it is away")
        server.start()
        is_now(2, 2, 0, since, False)

        since = publish()
        change_files(3)
        old = server.process
        for line in shown("sh upgrade", {"/run/nginx.pid": server.path("nginx.pid")}).splitlines():
            paste(line)
            server.changed_workers = True
            if "-USR2" in line:
                wait_until(lambda: server.read("nginx.pid.oldbin").strip() == str(old.pid) and
                           server.read("nginx.pid").strip() not in ("", str(old.pid)), "the new master")
                server.process = type(old)(int(server.read("nginx.pid")))
                wait_until(lambda: len(server.workers()) == 2, "its workers")
            elif "-WINCH" in line:
                wait_until(lambda: not workers_of(old.pid, leaving=True), "the old workers to leave")
        wait_until(lambda: old.poll() is not None, "the old master to leave")
        is_now(3, 3, 0, since, False)
        key = KEYS[3]
        tap.is_(refused(server), False, "refused now")


def refused(server):
    try:
        http.status(server)
        return False
    except ConnectionRefusedError:
        return True


@tap.case("the table's tests are there")
def _():
    tap.is_(len(ROWS), 6, "rows")
    for row, files in ROWS:
        for file in re.findall(r"`(t/\S+)`", files):
            tap.ok(os.path.exists(os.path.join(ROOT, file)), f"{file}, for {row}")


@tap.case("every block of the page is run by a test")
def _():
    tests = ""
    for name in ("34_site.t", "98_operations.t"):
        with open(os.path.join(ROOT, "t", name), encoding="utf-8") as file:
            tests += file.read()
    fences = re.findall(r"^ *```(.*)$", PAGE, re.M)
    tap.is_(set(fences[1::2]), {""}, "ends of blocks")
    tap.is_([info for info in fences[::2] if f'"{info}"' not in tests], [], "blocks that are not")


tap.run()

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
import threading
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import ROOT, SCALE, VERSION, example, http, jwt, tap, wait_until, ws     # noqa: E402
from rooms.example import block, paste, replaced                           # noqa: E402
from rooms.nginx import BINARY, MODULE, Nginx, workers_of                  # noqa: E402
from rooms.page import join, open_page                                     # noqa: E402
from rooms.process import open_files                                       # noqa: E402
from rooms.redis import Redis                                              # noqa: E402

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
        self.workers = set(server.workers())

    def hears(self):
        self.n += 1
        http.publish(self.server, {"room": self.room, "type": "x", "data": {"n": self.n}})
        self.socket.expect(type="x", n=self.n, offset=self.n)

    def comes_back(self, token):
        self.socket.wait_for(type="reconnect")
        # Another old worker may not have been told yet, and would take the page.
        wait_until(lambda: len(self.server.workers()) == 2 and not self.workers & set(self.server.workers()), "the new workers")
        self.workers = set(self.server.workers())
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


def replaces_secret(end):
    with Nginx("location = /publish { rooms_publish secret=@DIR@/publish.secret; }", files={"publish.secret": KEYS[0] + end},
               name="with a secret to replace") as server:
        def publishes(secret):
            status = http.publish(server, {"room": "session:1", "type": "x"}, expect=None,
                                  headers={"Authorization": f"Bearer {secret}"}).status
            return tap.in_(status, (200, 401)) == 200
        reload_as(server, shown("sh second-line", {"/etc/nginx": server.dir}))
        lines = server.read("publish.secret").split()
        tap.is_((len(lines), lines[0]), (2, KEYS[0].decode()), "lines")
        wait_until(lambda: len(server.processes()) == 2, "the old workers to leave")
        tap.is_([publishes(line) for line in lines], [True, True], "old and new, with both")
        tap.is_(paste(f"tail -n 1 {server.path('publish.secret')}").strip(), lines[1], "what backends are given")
        reload_as(server, shown("sh first-line-out", {"/etc/nginx": server.dir}))
        wait_until(lambda: len(server.processes()) == 2, "the old workers to leave")
        tap.is_([publishes(line) for line in lines], [False, True], "old and new, with the new one")
        tap.is_(stat.S_IMODE(os.stat(server.path("publish.secret")).st_mode), 0o600, "the file's mode")


for last, secret_end in (("with", b"\n"), ("without", b"")):
    tap.add(f"a backend's secret is replaced as the page does it, {last} a last newline: both are good meanwhile, the mode stays",
            replaces_secret, secret_end)


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
        said = int(tap.like(PAGE, r"A worker has some (\d+) descriptors\s+besides")[1])
        tap.in_(len(os.listdir(f"/proc/{own}/fd")), range(said - 15, said + 16), "its descriptors without sockets")
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


TIMES = dict(re.findall(r"^\| `([^`]+)`[^|]* \| ([^|]+) \| [^|]+ \|$",
                        PAGE.partition("| time | default |")[2].partition("\n\n")[0], re.M))


class Left:
    """What a reload leaves to an old worker that has the default times: a socket, and a download. Watched beside other cases."""

    def __init__(self):
        self.server = lives("", "with the default times")
        self.page, self.wire = open_page(self.server, "session:1"), download(self.server)
        self.old, self.told, self.took, self.begun = set(self.server.processes()), None, None, time.monotonic()
        self.server.reload()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()

    def watch(self):
        self.told = self.page.expect(type="reconnect")["afterMs"]
        self.page.expect_closed(1012, timeout=40 * SCALE)
        self.took = time.monotonic() - self.begun


def download(server):
    wire = ws.open_wire(server)
    wire.send(http.request_octets("GET", "/slow/../slow"))
    wire.take_until(b"\r\n\r\n")
    return wire


left = Left()


@tap.case("the page's default times: that of rooms_drain is seen, no end comes to a download, Debian's unit has the others")
def _():
    left.thread.join()
    drain = int(tap.like(TIMES["rooms_drain"], r"^(\d+) s$")[1])
    tap.ok(drain - 0.05 < (left.took or 0) < drain + 0.9 * SCALE, f"{left.took} s until a socket was closed")
    tap.in_(left.told, range(0, drain * 2000 // 3 + 1), "afterMs")
    left.wire.poll()
    goes_on = not left.wire.ended and bool(left.old & set(left.server.processes()))
    left.wire.close()
    with open("/lib/systemd/system/nginx.service", encoding="utf-8") as file:
        unit = file.read()
    tap.is_({name: by for name, by in TIMES.items() if name != "rooms_drain"}, {
        "worker_shutdown_timeout": "none" if goes_on else "one",
        "QUIT/": tap.like(unit, r"^ExecStop=.* --retry QUIT/(\d+) ")[1] + " s",
        "TimeoutStopSec": tap.like(unit, r"^TimeoutStopSec=(\d+)$")[1] + " s"}, "default times")


@tap.case("a reload: sockets have rooms_drain, and what is left is cut at worker_shutdown_timeout")
def _():
    with lives(replaced(DRAIN, {"10s": "600ms"}), "reloaded", main=replaced(MAIN, {"12s": "1200ms", "40000": MOST})) as server, \
            open_page(server, "session:1") as page:
        wire = download(server)
        old = reload_as(server, shown("sh reload"))
        tap.in_(page.expect(type="reconnect")["afterMs"], range(0, 401), "afterMs")
        begun = time.monotonic()
        page.expect_closed(1012)
        tap.ok(time.monotonic() - begun < 0.6 + 0.5 * SCALE, "the socket's end")
        tap.ok(old & set(server.processes()), "an old worker goes on with the download")
        wait_until(lambda: not old & set(server.processes()), "old workers to leave", 3 * SCALE)
        took = time.monotonic() - begun
        tap.ok(0.6 < took < 1.2 + 1 * SCALE, f"the old workers' end after {took:.2f} s")
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


@tap.case("the drop-ins are such that systemd understands them")
def _():
    def faults(text):
        """Each line is a section or a setting; systemd itself is asked where it is."""
        known = r"\[Service\]|(LimitNOFILE|ExecStop|ExecStartPre|TimeoutStopSec)=.*"
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
    for text in (DROP_IN, shown("ini socket")):
        tap.is_(faults(text), [], "what is said of it")
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
    return {path for path in open_files(pid) if path.startswith(server.path("logs/"))}


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


KEEPS = re.findall(r"^\| ([^|]*?) ?\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", PAGE.partition("## What reload,")[2], re.M)


class Knocker:
    """Asks for the status again and again: whether everybody was let in."""

    def __init__(self, server):
        self.server, self.ends, self.failed = server, False, 0
        self.thread = threading.Thread(target=self.knock)
        self.thread.start()

    def knock(self):
        while not self.ends:
            try:
                http.status(self.server)
            except (OSError, AssertionError):
                self.failed += 1
            time.sleep(0.01)

    def says(self):
        self.ends = True
        self.thread.join()
        return "refused until it is up" if self.failed else "taken"


def end_of(page):
    """(whether it was told, the code with which it was closed)."""
    told = False
    while (got := page.next_frame()) and got.opcode != ws.CLOSE:
        told = told or b'"reconnect"' in got.payload
    if got:
        page.send_close(got.code)
    page.wire.close()
    return told, got.code if got else 1006


def told_then(end):
    return f"told, then {end[1]}" if end[0] else f"{end[1]}"


class Life:
    """A server to which a reload, two restarts and an upgrade of the binary happen, each with a new key and a new module."""

    def __init__(self, name, more=""):
        self.n, self.names = 0, [VERSION] + [VERSION[:-1] + last for last in "wxyz"]
        self.keys = [os.urandom(32).hex().encode() for _ in self.names]
        self.server = Nginx(f"""location = /ws {{ {COMMON} rooms_jwt_key HS256 @DIR@/secret; rooms_drain 300ms; }}
                                location = /publish {{ rooms_publish; }} location = /status {{ rooms_status; }}""",
                            http=more, name=name, daemon=True, start=False, files={"secret": self.keys[0]})
        self.install_module()
        self.server.whole = replaced(self.server.config(), {MODULE: "@DIR@/module.so"})
        self.server.start()

    def install_module(self):
        """By rename, as install(1) and dpkg do: the file that runs is not written to."""
        patched(self.server.path("module.so"), f"\0{VERSION}\0".encode(), f"\0{self.names[self.n]}\0".encode())

    def open(self):
        page = ws.connect(self.server, "/ws", token=jwt.mint(sub="u1", key=self.keys[self.n]))
        page.expect(type="connected")
        return page

    def publish(self):
        wait_until(lambda: http.get(self.server, "/status?health").status == 200, "it to be healthy")
        return http.publish(self.server, {"room": "session:1", "type": "x", "id": f"of {self.n}"})

    def after(self, how):
        """What the page's table says of this: a text for each row."""
        published = self.publish()
        at, number = {"epoch": published["epoch"], "offset": published["offset"] - 1}, self.n
        counted = http.status(self.server)["messages"]["published"]
        page, knocker = self.open(), Knocker(self.server)
        self.n += 1
        self.install_module()
        self.server.write("secret", self.keys[self.n])
        said = {"sockets": how(page), "new connections": knocker.says()}
        tap.is_(refused(self.server), False, "refused now")
        status = http.status(self.server)
        said["counters of the status page"] = {counted: "kept", 0: "from 0"}[status["messages"]["published"]]
        said["a new file of the module"] = "used" if status["version"] == self.names[self.n] else "not used"
        said["keys, secrets, rules"] = {(False, True): "read anew", (True, False): "kept"}[tuple(
            opens(self.server, jwt.mint(sub="u1", key=key)) for key in (self.keys[number], self.keys[self.n]))]
        wait_until(lambda: http.get(self.server, "/status?health").status == 200, "it to be healthy")
        with self.open() as page:
            recovered = join(page, "session:1", since=at)["recovered"]
        again = http.publish(self.server, {"room": "session:1", "type": "x", "id": f"of {number}"}).get("duplicate", False)
        tap.is_(recovered, again, "history and ids, each kept")
        said["rooms, history, ids"] = "kept" if recovered else "gone"
        return said

    def reload(self, page):
        reload_as(self.server, shown("sh reload"))
        end = end_of(page)
        wait_until(lambda: len(self.server.processes()) == 2, "the old workers to leave")
        return told_then(end)

    def restart(self, how):
        def restarted(page):
            self.server.changed_workers = True
            self.server.send_signal(how)
            end = end_of(page)
            self.server.process.wait(8 * SCALE)
            tap.is_(refused(self.server), True, "refused while it is away")
            self.server.output.close()
            self.server.start()
            return told_then(end)
        return restarted

    def upgrade(self, page):
        server, old, said = self.server, self.server.process, ""
        for line in shown("sh upgrade", {"/run/nginx.pid": server.path("nginx.pid")}).splitlines():
            paste(line)
            server.changed_workers = True
            if "-USR2" in line:
                wait_until(lambda: server.read("nginx.pid.oldbin").strip() == str(old.pid) and
                           server.read("nginx.pid").strip() not in ("", str(old.pid)), "the new master")
                server.process = type(old)(int(server.read("nginx.pid")))
                wait_until(lambda: len(server.workers()) == 2, "its workers")
                page.expect_nothing()
                said = "stay until WINCH"
            elif "-WINCH" in line:
                told, code = end_of(page)
                said += f", then {'told, ' if told else ''}{code}"
                wait_until(lambda: not workers_of(old.pid, leaving=True), "the old workers to leave")
        wait_until(lambda: old.poll() is not None, "the old master to leave")
        return said

    def seen(self):
        """{row: [a text for each column]}."""
        with self.server:
            reloaded, quit_, ended, upgraded = (self.after(how) for how in (
                self.reload, self.restart(signal.SIGQUIT), self.restart(signal.SIGTERM), self.upgrade))
        tap.is_({**ended, "sockets": ""}, {**quit_, "sockets": ""}, "a restart by SIGTERM, and one by QUIT")
        quit_["sockets"] += f"; with SIGTERM {ended['sockets']}"
        return {row: [reloaded[row], quit_[row], upgraded[row]] for row in reloaded}


@tap.case("what reload, restart and binary upgrade keep is seen, with and without Redis, and the page's table says just that")
def _():
    alone = Life("that lives").seen()
    with Redis() as redis:
        shared = Life("that lives, with Redis", f"rooms_redis {redis.url};").seen()
    row = "rooms, history, ids"
    for n, (zone, store) in enumerate(zip(alone[row], shared[row])):
        alone[row][n] = zone if zone == store else f"{zone}; {store} with `rooms_redis`"
    tap.is_({**shared, row: alone[row]}, alone, "the other rows, with Redis and without")
    tap.is_(KEEPS[0], ("", "reload", "restart", "USR2, WINCH, QUIT"), "columns")
    tap.is_({row: cells for row, *cells in KEEPS[1:]}, alone, "the page's table")


def refused(server):
    try:
        http.status(server)
        return False
    except ConnectionRefusedError:
        return True


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

#!/usr/bin/python3
"""What surrounds the code: who the workers are, what the master leaves alone, the confinement of docs/security.md, how the
module is built, and that no exception leaves it."""
import glob
import mmap
import os
import pwd
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import ASAN, ROOT, SCALE, http, jwt, tap, wait_until, ws     # noqa: E402
from rooms.nginx import BINARY, MODULE, Nginx                           # noqa: E402
from rooms.page import open_page                                        # noqa: E402
from rooms.postgres import Postgres                                     # noqa: E402
from rooms.process import open_files                                    # noqa: E402
from rooms.redis import Redis                                           # noqa: E402

LOCATIONS = """
    location = /ws      { rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_rate 5000/10s; rooms_allow session:*;
                          rooms_allow sql:* "sql=select 1 where $rooms_room_id = 'in'"; }
    location = /publish { rooms_publish secret=@DIR@/backend; }
    location = /status  { rooms_status; }
"""
SECRET = "a backend's secret, long enough"
FILES = {"secret": jwt.SECRET, "backend": SECRET}
with open(os.path.join(ROOT, "docs/security.md"), encoding="utf-8") as page:
    SETTINGS = re.search(r"^```ini systemd\n(.*?)^```", page.read(), re.M | re.S)[1]
CONFINED = os.path.join(ROOT, "t/lib/rooms/confined.py")

redis = Redis()
postgres = Postgres()
postgres.sql("create role app login password 'a password of Postgres'")
DATABASE = f"rooms_postgres \"{postgres.conninfo(host='127.0.0.1', user='app', password='a password of Postgres')}\";"
BEHIND = f"rooms_redis {redis.url}; {DATABASE} rooms_outbox off;"


def asks(page, room):
    page.send_json(type="subscribe", room=room)
    return page.wait_for(room=room)["type"]


def works(server):
    """Members on each worker enter, by the database too, and get what is published; soon, where Redis was away."""
    for pid in server.workers():
        with open_page(server, worker=pid) as page:
            for room in ("session:1", "sql:in"):
                wait_until(lambda: asks(page, room) == "subscribed", room)
            page.send_json(type="subscribe", room="sql:out")
            page.expect(type="error", code="forbidden", room="sql:out")
            event = {"room": "session:1", "type": "x", "data": {"n": pid}, "id": f"to {pid}, {os.urandom(6).hex()}"}
            answer = wait_until(lambda: published(server, event), "a publication")
            page.wait_for(type="x", n=pid, offset=answer["offset"])
            page.close()


def published(server, event, **options):
    response = http.publish(server, event, headers={"Authorization": f"Bearer {SECRET}"}, expect=None, **options)
    return response.json if response.status == 200 else None


def status_of(pid):
    with open(f"/proc/{pid}/status") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def connections(pid):
    """The process' sockets of TCP that do not listen."""
    inodes = set(re.findall(r"socket:\[(\d+)\]", " ".join(open_files(pid))))
    with open("/proc/net/tcp") as file:
        return [line.split() for line in file if line.split()[9] in inodes and line.split()[3] != "0A"]


# --- processes

@tap.case("S70: the master has no connection, though Redis and Postgres are configured: workers have those, of their own")
def _():
    with Nginx(LOCATIONS, http=BEHIND, files=FILES, name="with Redis and Postgres") as server:
        works(server)
        server.reload(wait_old=True)
        works(server)
        tap.is_(connections(server.pid), [], "the master's")
        for pid in server.workers():
            tap.ok(len(connections(pid)) >= 3, "a worker's: two to Redis, one to Postgres")


@tap.case("S70: workers that are nobody serve with keys and secrets that only root may read, also after a reload")
def _():
    if os.geteuid() != 0:
        tap.skip("not root: workers are who the master is")
    server = Nginx(LOCATIONS, http=BEHIND, files=FILES, name="as nobody", start=False)
    server.whole = server.config().replace("user root;", "user nobody nogroup;")
    with server.start():
        for _ in range(2):
            for pid in server.workers():
                tap.is_(set(status_of(pid)["Uid"].split()), {str(pwd.getpwnam("nobody").pw_uid)}, "the worker's user")
                tap.is_(int(status_of(pid)["CapEff"], 16), 0, "its capabilities")
            tap.is_(os.stat(server.path("secret")).st_mode & 0o777, 0o600, "the file's mode")
            works(server)
            server.reload(wait_old=True)


# --- the service's confinement

def confined(settings, name):
    return Nginx(LOCATIONS, http=BEHIND, files=FILES, name=name, through=[sys.executable, CONFINED, settings])


def confined_python(settings, code):
    return subprocess.run([sys.executable, CONFINED, settings, sys.executable, "-c", code], capture_output=True, text=True)


WITHOUT_FILTER = re.sub(r"^SystemCallFilter=.*\n", "", SETTINGS, flags=re.M)


@tap.case("S71: all works where memory is never writable and code, with three families of sockets and without new rights")
def _():
    if ASAN:
        tap.skip("sanitizers have their own ideas of memory")
    for name in ("NoNewPrivileges", "ProtectSystem", "PrivateTmp", "RestrictAddressFamilies", "MemoryDenyWriteExecute",
                 "SystemCallFilter"):
        tap.like(SETTINGS, f"^{name}=", "the settings of docs/security.md")
    # That the confinement confines.
    for code, error in (("import socket; socket.socket(socket.AF_NETLINK)", "Address family not supported"),
                        ("import mmap; mmap.mmap(-1, 4096, prot=7)", "Operation not permitted")):
        tap.like(confined_python(WITHOUT_FILTER, code).stderr, error, code)
    with confined(WITHOUT_FILTER, "confined") as server:
        for _ in range(2):
            for pid in server.workers():
                tap.is_((status_of(pid)["NoNewPrivs"], status_of(pid)["Seccomp"]), ("1", "2"), "the worker's state")
            works(server)
            server.reload(wait_old=True)


@tap.case("S71: no other system calls than those of @system-service are made")
def _():
    if ASAN or not shutil.which("systemd-analyze"):
        tap.skip("no systemd-analyze, which knows what @system-service is" if not ASAN else "sanitizers make others")
    tap.is_(confined_python(SETTINGS, "import os; os.chroot('/')").returncode, -signal.SIGSYS, "chroot(2) is none of them")
    with confined(SETTINGS, "with a filter") as server:
        works(server)
        server.reload(wait_old=True)
        works(server)


@tap.case("S71: systemd understands each line of the drop-in")
def _():
    if not shutil.which("systemd-analyze"):
        tap.skip("no systemd-analyze")

    def said(settings):
        with tempfile.TemporaryDirectory(prefix="rooms-units-") as units:
            os.mkdir(f"{units}/nginx.service.d")
            with open(f"{units}/nginx.service", "w") as unit, open(f"{units}/nginx.service.d/rooms.conf", "w") as drop_in:
                unit.write(f"[Unit]\nDescription=nginx\n[Service]\nExecStart={BINARY}\n")
                drop_in.write(settings)
            done = subprocess.run(["systemd-analyze", "verify", f"{units}/nginx.service"], capture_output=True, text=True,
                                  env={**os.environ, "SYSTEMD_UNIT_PATH": units + ":"})
            return [line for line in (done.stdout + done.stderr).splitlines() if "rooms.conf" in line]
    tap.is_(said(SETTINGS), [], "what it says")
    tap.like("\n".join(said(SETTINGS + "NoNewPrivileged=yes\n")), "NoNewPrivileged", "what it says of a mistake")


# --- the module

@tap.case("S72: the module has RELRO, BIND_NOW, a stack that is no code, stack protectors and checked functions of libc")
def _():
    if ASAN:
        tap.skip("a build of its own")
    def readelf(*options):
        return subprocess.run(["readelf", "-W", *options, MODULE], capture_output=True, text=True, check=True).stdout
    segments, dynamic = readelf("-l"), readelf("-d")
    symbols = set(re.findall(r"UND (\w+)", readelf("--dyn-syms")))
    tap.like(readelf("-h"), r"Type:\s+DYN", "position independent")
    tap.like(segments, r"^\s+GNU_RELRO", "RELRO")
    tap.like(dynamic, r"BIND_NOW|FLAGS.*\bNOW\b", "BIND_NOW")
    tap.unlike(dynamic, r"TEXTREL|R(UN)?PATH", "relocations of code, or a path of libraries")
    tap.like(segments, r"^\s+GNU_STACK(\s+0x\w+){5} RW ", "the stack")
    for line in re.findall(r"^\s+LOAD.*", segments, re.M):
        tap.unlike(line, "RWE", "a segment that is writable and code")
    tap.in_("__stack_chk_fail", symbols, "stack protectors")
    tap.ok(any(re.fullmatch(r"__\w+_chk", symbol) for symbol in symbols), "checked functions of libc")
    # And by the Makefile, for what shows in no symbol.
    with open(os.path.join(ROOT, "Makefile"), encoding="utf-8") as file:
        tap.like(file.read(), r"(?s)HARDENING := -fstack-protector-strong\n.*OPTIMISED := .*\$\(HARDENING\) -D_FORTIFY_SOURCE=2",
                 "the flags")


SHIM = r"""
#include <cstdlib>
#include <new>
#include <fcntl.h>
#include <sys/mman.h>
namespace {
unsigned* control;      // how often to fail (0: never), how often it has
__attribute__((constructor)) void begin() {
    const int fd = open(std::getenv("ROOMS_TEST_CONTROL"), O_RDWR);
    void* const memory = mmap(nullptr, 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory != MAP_FAILED) control = static_cast<unsigned*>(memory);
}
bool fails() {
    static unsigned count;
    if (!control || !control[0] || ++count % control[0] != 0) return false;
    ++control[1];
    return true;
}
}
void* operator new(std::size_t size) {
    void* const memory = fails() ? nullptr : std::malloc(size);
    if (!memory) throw std::bad_alloc();
    return memory;
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return fails() ? nullptr : std::malloc(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
"""


def no_exception_leaves(behind, recovers):
    if ASAN:
        tap.skip("sanitizers have an operator new of their own")
    folder = tempfile.mkdtemp(prefix="rooms-shim-")
    with open(f"{folder}/shim.cpp", "w") as file:
        file.write(SHIM)
    with open(f"{folder}/control", "wb") as file:
        file.write(b"\0" * mmap.PAGESIZE)
    subprocess.run(["g++", "-O1", "-fPIC", "-shared", "-o", f"{folder}/shim.so", f"{folder}/shim.cpp"], check=True)
    server = Nginx(LOCATIONS, files=FILES, http=f"rooms_zone shim:1m; {behind}", name="short of memory",
                   env={"LD_PRELOAD": f"{folder}/shim.so", "ROOMS_TEST_CONTROL": f"{folder}/control"})
    with server, open(f"{folder}/control", "r+b") as file, mmap.mmap(file.fileno(), mmap.PAGESIZE) as control:
        works(server)
        workers = server.workers()
        for every in (2, 3, 5, 7, 11, 17, 29, 53, 97, 193):
            control[:8] = struct.pack("II", every, 0)
            for attempt in range(12):
                use(server, attempt)
            fails = struct.unpack("I", control[4:8])[0]
            control[:4] = struct.pack("I", 0)
            tap.ok(fails > 0, f"allocations failed, every {every}th")
            tap.is_(http.request(server, "GET", "/status").status, 200, "the status page")
            tap.is_(server.workers(), workers, f"workers, every {every}th")
        tap.like(server.log(), r"\[error\].*rooms: out of memory: std::bad_alloc", "the log")
        recovers(server)
    shutil.rmtree(folder)


tap.add("S72: no exception leaves a callback: while any allocation may fail no worker dies, and all is well afterwards",
        no_exception_leaves, f"{DATABASE} rooms_outbox off;", works)
tap.add("S72: nor where there is Redis", no_exception_leaves, BEHIND, lambda server: None)


def use(server, n):
    """Everything that a page and a backend do; what fails is no matter here."""
    soon = {"timeout": 0.2 * SCALE}
    user, room = f"a user with a long name, {n}", f"session:a-room-with-a-long-name-{n}"
    try:
        with ws.connect(server, "/ws", token=jwt.mint(sub=user), **soon) as page:
            for message in ({"type": "subscribe", "room": room}, {"type": "subscribe", "room": "sql:in"},
                            {"type": "presence", "room": "session:1"}, {"type": "auth", "token": jwt.mint(sub=user)},
                            {"type": "subscribe", "room": "session:1", "since": {"epoch": "x", "offset": 1}}):
                page.send_json(message)
                page.send_text('{"type":"ping"}'.ljust(3000))
            page.send(ws.frame(ws.TEXT, b'{"type":', fin=False) + ws.frame(ws.CONT, b'"ping"}') + ws.frame(ws.PING, b"x"))
            published(server, {"rooms": [room, "session:1"], "type": "x", "data": {"text": "x" * 5000}, "id": f"i{n}"}, **soon)
            http.request(server, "GET", "/status?rooms", **soon)
            http.request(server, "GET", "/status?format=prometheus", **soon)
            while page.next_frame(0.02) is not None:
                pass
    except (AssertionError, OSError, ValueError):
        pass


@tap.case("S27: a token's MAC, a backend's secret and a seal are compared by CRYPTO_memcmp and by nothing else")
def _():
    symbols = subprocess.run(["nm", "-D", "--undefined-only", MODULE], capture_output=True, text=True, check=True).stdout
    tap.like(symbols, r" U CRYPTO_memcmp\b", "the module's symbols")
    for file, function in (("core/key.cpp", "Key::verify_mac"), ("core/secret.cpp", "SecretFile::matches"),
                           ("store/redis_event.cpp", "RedisEvent::is_sealed")):
        with open(os.path.join(ROOT, "src", file), encoding="utf-8") as source:
            body = re.search(rf"\b{function}\(.*?\n}}\n", source.read(), re.S)[0]
        tap.is_(body.count("CRYPTO_memcmp("), 1, f"in {function}")
        tap.unlike(body.replace("CRYPTO_memcmp(", ""),
                   r"memcmp|strn?cmp|equal\(|compare\(|\] [!=]= |(mac|digest|seal|presented|expected) [!=]= ", function)


@tap.case("S75: SECURITY.md says how to report a hole; each parser has a fuzz target with a corpus that is part of the tree")
def _():
    with open(os.path.join(ROOT, "SECURITY.md"), encoding="utf-8") as file:
        tap.like(file.read(), "(?i)report", "SECURITY.md")
    targets = glob.glob(os.path.join(ROOT, "t/fuzz/*_fuzz.cpp"))
    tap.ok(len(targets) >= 13, f"{len(targets)} targets")
    for target in targets:
        name = os.path.basename(target).removesuffix("_fuzz.cpp")
        tap.ok(len(os.listdir(os.path.join(ROOT, "t/fuzz/corpus", name))) > 0, f"the corpus of {name}")


@tap.case("S75: what the module is built of is the same, byte for byte, when it is built elsewhere")
def _():
    built = os.path.join(ROOT, "build/module/objs")
    with open(MODULE, "rb") as file:
        octets = file.read()
    try:
        with open(f"{built}/ngx_http_rooms_module.so", "rb") as file:
            if file.read() != octets:
                tap.skip("another build than the Makefile's own")
    except FileNotFoundError:
        tap.skip("not built by the Makefile")
    for place in (ROOT, os.path.expanduser("~")):
        if len(place) > 5:
            tap.ok(place.encode() not in octets, f"{place} in the module")
    with tempfile.TemporaryDirectory(prefix="rooms-elsewhere-") as elsewhere:
        for name in ("src", "config", "Makefile"):
            path = os.path.join(ROOT, name)
            (shutil.copytree if os.path.isdir(path) else shutil.copy)(path, os.path.join(elsewhere, name))
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
        objects = ["core/rate.o", "core/outbox.o", "nginx/quiet_log.o"]
        for command in (["make", "-s", "build/module/objs/Makefile"],
                        ["make", "-s", "-C", "build/module", "-f", "with-deps.mk", *(f"objs/addon/{name}" for name in objects)]):
            done = subprocess.run(command, cwd=elsewhere, env=clean, capture_output=True, text=True)
            tap.is_(done.returncode, 0, f"{' '.join(command)}: {done.stderr[-2000:]}")
        for name in objects:
            with open(os.path.join(built, "addon", name), "rb") as here, open(os.path.join(elsewhere, "build/module/objs/addon", name), "rb") as there:
                tap.ok(here.read() == there.read(), f"{name} is the same")


tap.run()

# A real nginx with the module: own temporary directory, free ports, unix socket, two workers, error log at info.
# Stopped by pid with a graceful QUIT; what it then leaves behind (alerts, sanitizer reports, processes) are problems.
# Never touches a process that it did not start.
import atexit
import ctypes
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from . import ASAN, ON_REDIS, ROOT, SCALE, TIMEOUT, wait_until
from .process import alive, children, title

BINARY = os.environ.get("ROOMS_NGINX", "/usr/sbin/nginx")
MODULE = os.path.abspath(os.environ.get("ROOMS_MODULE") or os.path.join(ROOT, "build/ngx_http_rooms_module.so"))
# The same with fault points, which says so in its version.
MODULE_FAULTS = os.path.abspath(os.environ.get("ROOMS_MODULE_FAULTS") or
                                os.path.join(ROOT, "build/module-faults/ngx_http_rooms_module.so"))
_servers = []
_BAD = re.compile(r"\[(alert|crit|emerg)\]")


def running():
    return [server for server in _servers if server.is_running()]


def all_started():
    return list(_servers)


_ports = {}


def _ours(port):
    """Whether no other test has chosen it and not bound it yet; it is this process' from now on."""
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0rooms-test-port-{port}")
    except OSError:
        claim.close()
        return False
    _ports[port] = claim
    return True


def free_port():
    """A port below the ephemeral range, so that no outgoing connection takes it before nginx binds it."""
    for _ in range(200):
        port = random.randrange(20000, 32000)
        if not _ours(port):
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise RuntimeError("no free port")


def workers_of(master, leaving=False):
    """The pids of a master's serving workers; leaving: also of those that shut down."""
    # A child has the master's title until it has run init_process: wait for its own.
    titles = {pid: title(pid) for pid in children(master)}
    return sorted(pid for pid, text in titles.items() if "worker process" in text and (leaving or "shutting down" not in text))


def _die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _library(name):
    found = subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
    return os.path.realpath(found)


class _Adopted:
    """A process that is not our child: the part of Popen that Nginx uses."""

    def __init__(self, pid):
        self.pid = pid

    def poll(self):
        return None if alive(self.pid) else 0

    def wait(self, timeout=None):
        end = time.monotonic() + (timeout or TIMEOUT)
        while alive(self.pid):
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("nginx", timeout)
            time.sleep(0.01)
        return 0

    def kill(self):
        for pid in children(self.pid) + [self.pid]:
            _signal(pid, signal.SIGKILL)


def make_certificate(directory):
    """server.crt and server.key (P-256, localhost and 127.0.0.1) in directory."""
    key, cert = os.path.join(directory, "server.key"), os.path.join(directory, "server.crt")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                    "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


class Nginx:
    """Started at construction. Words in the pieces of configuration that are replaced: @DIR@ (temporary directory),
    @PORT@, @SOCK@, @TLS_PORT@. Pieces: `locations` into server{}, `server` before them, `http`, `events`, `main`; or
    `conf` for a whole file. `files` {name: text} are written (mode 0600) before the start. `expect` is a list of
    regexes of [alert]/[crit]/[emerg] lines that this test causes on purpose."""

    def __init__(self, locations="", server="", http="", events="", main="", conf=None, files=None, workers=2,
                 tls=False, tls_options="", listen_options="", expect=(), name="nginx", start=True, env=None, module=True,
                 daemon=False, through=(), binary=BINARY):
        self.name = name
        self.module = module        # False: a plain nginx, e.g. a proxy in front. "own": a copy, for install_module()
        self.through = list(through)    # a command in front of nginx, which becomes it
        self.binary = binary
        self.daemon = daemon        # needed for upgrade_binary(): nginx ignores USR2 while its parent is the same
        self.dir = tempfile.mkdtemp(prefix="rooms-t-")
        os.chmod(self.dir, 0o755)
        self.port = free_port()
        self.tls_port = free_port() if tls else None
        self.sock = os.path.join(self.dir, "http.sock")
        self.certificate = None
        self.pieces = dict(locations=locations, server=server, http=http, events=events, main=main)
        self.workers_wanted = workers
        self.tls_options = tls_options
        self.listen_options = listen_options    # of the port without TLS
        self.whole = conf
        self.expected = [re.compile(pattern) for pattern in expect]
        self.env = dict(env or {})
        self.process = None
        self.stopped = False
        self.other_masters = []         # of start_second_master(): stop() finds them gone, or ends them
        self.checked_to = 0
        self.changed_workers = False    # by reload() or kill_worker(), since the last check
        self.problems = None
        self.report_dir = os.path.join(self.dir, "sanitizer")
        os.mkdir(self.report_dir)
        os.mkdir(os.path.join(self.dir, "html"))
        for file, text in (files or {}).items():
            self.write(file, text)
        if tls:
            self.certificate, _ = make_certificate(self.dir)
        _servers.append(self)
        if module == "own":
            self.install_module()
        if start:
            self.start()

    # --- configuration

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text, mode=0o600):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(text.encode() if isinstance(text, str) else text)
        os.chmod(path, mode)
        return path

    def fill(self, text):
        return (text.replace("@DIR@", self.dir).replace("@PORT@", str(self.port)).replace("@SOCK@", self.sock)
                .replace("@TLS_PORT@", str(self.tls_port)))

    def config(self, **pieces):
        """The text of nginx.conf, with the pieces given here in place of those of the constructor."""
        if self.whole is not None and not pieces:
            return self.fill(self.whole)
        part = dict(self.pieces, **pieces)
        user = "user root;" if os.geteuid() == 0 else ""
        keep = "".join(f"env {name};" for name in ("LD_PRELOAD", "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS")) if ASAN else ""
        keep += "".join(f"env {name};" for name in self.env)
        keep += "env ROOMS_BUG;" if "ROOMS_BUG" in os.environ else ""
        tls = ""
        if self.tls_port:
            tls = (f"listen 127.0.0.1:@TLS_PORT@ ssl {self.tls_options};\n"
                   "ssl_certificate @DIR@/server.crt;\nssl_certificate_key @DIR@/server.key;\n")
        broker = ""
        if self.module and ON_REDIS and "rooms_redis" not in part["http"]:
            broker = f"rooms_redis {os.environ['ROOMS_BROKER']} prefix={os.path.basename(self.dir)};"
        return self.fill(f"""{user}
{keep}
daemon {"on" if self.daemon else "off"};
master_process on;
worker_processes {self.workers_wanted};
pid @DIR@/nginx.pid;
error_log @DIR@/error.log info;
{self._load_module()}
{part['main']}
events {{
    {"" if "worker_connections" in part['events'] else "worker_connections 4096;"}
    {part['events']}
}}
http {{
    access_log @DIR@/access.log;
    client_body_temp_path @DIR@/body; proxy_temp_path @DIR@/proxy; fastcgi_temp_path @DIR@/fastcgi;
    uwsgi_temp_path @DIR@/uwsgi; scgi_temp_path @DIR@/scgi;
    root @DIR@/html;
    {part['http']}
    {broker}
    server {{
        listen 127.0.0.1:@PORT@ {self.listen_options};
        listen unix:@SOCK@;
        {tls}
        server_name localhost;
        add_header X-Worker $pid always;
        {part['server']}
        {part['locations']}
    }}
}}
""")

    def _load_module(self):
        if self.module == "own":
            return "load_module @DIR@/module.so;"
        return f"load_module {MODULE};" if self.module else ""

    def install_module(self, path=MODULE):
        """For the next master; by rename, as install(1) and dpkg do: the file that runs is not written to."""
        shutil.copy(path, self.path("module.new"))
        os.rename(self.path("module.new"), self.path("module.so"))

    def test_config(self, **pieces):
        """nginx -t on these pieces: (exit code, what it printed). Does not disturb a server that runs."""
        conf = self.write("test.conf", self.config(**pieces))
        done = subprocess.run([self.binary, "-t", "-p", self.dir, "-c", conf, "-e", "stderr"], env=self._environment(),
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30 * SCALE)
        return done.returncode, done.stderr + done.stdout

    # --- life

    def _environment(self):
        env = dict(os.environ)
        env.update(self.env)
        if ASAN:
            here = os.path.dirname(os.path.abspath(__file__))
            # libstdc++ too: the module is opened later, and asan looks up __cxa_throw when it starts. Not the module:
            # libpq's libraries, loaded so early, leave libc's lock of locales in a state in which exit() hangs.
            env["LD_PRELOAD"] = " ".join(_library(name) for name in ("libasan.so", "libubsan.so", "libstdc++.so.6"))
            log = f"log_path={self.report_dir}/report"
            env["ASAN_OPTIONS"] = f"{log}:abort_on_error=0:detect_leaks=1:detect_odr_violation=0:strict_string_checks=1"
            # nginx is built without frame pointers: only the slow unwinder finds who asked for the memory.
            env["ASAN_OPTIONS"] += ":fast_unwind_on_malloc=0:malloc_context_size=40"
            env["LSAN_OPTIONS"] = f"{log}:exitcode=0:print_suppressions=0"
            env["UBSAN_OPTIONS"] = f"{log}:print_stacktrace=1:halt_on_error=1:suppressions={here}/ubsan.supp"
        return env

    def start(self):
        conf = self.write("nginx.conf", self.config())
        if self.module and not os.path.exists(MODULE):
            raise RuntimeError(f"module not built: {MODULE}")
        self.output = open(self.path("output.txt"), "ab")
        self.process = subprocess.Popen([*self.through, self.binary, "-p", self.dir, "-c", conf, "-e", self.path("error.log")],
                                        stdin=subprocess.DEVNULL, stdout=self.output, stderr=self.output,
                                        env=self._environment(), preexec_fn=_die_with_parent)
        self.stopped = False
        if self.daemon:
            code = self.process.wait(30 * SCALE)
            assert code == 0, f"nginx did not start:\n{self.log()[-3000:]}{self.read('output.txt')[-3000:]}"
            wait_until(lambda: self.read("nginx.pid").strip(), "the pid file")
            self.process = _Adopted(int(self.read("nginx.pid")))

        def up():
            if self.process.poll() is not None:
                raise AssertionError(f"nginx did not start:\n{self.log()[-3000:]}{self.read('output.txt')[-3000:]}")
            return len(self.workers()) >= self.workers_wanted and self._listens()
        wait_until(up, "nginx to start")
        return self

    def _listens(self):
        if not os.path.exists(self.sock):
            return self.whole is not None
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(self.sock)
            return True
        except OSError:
            return False

    @property
    def pid(self):
        return self.process.pid

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def processes(self):
        """Every child of the master that runs, workers on their way out included."""
        return sorted(pid for pid in children(self.pid) if alive(pid)) if self.is_running() else []

    def workers(self):
        """The pids of the serving workers."""
        return workers_of(self.pid) if self.is_running() else []

    def settle(self):
        """After a case that broke workers: wait until the full number serves again."""
        try:
            wait_until(lambda: len(self.workers()) >= self.workers_wanted, "workers", 3 * SCALE)
        except AssertionError:
            pass
        self.checked_to = len(self.log())
        self.changed_workers = False

    def send_signal(self, signum):
        os.kill(self.pid, signum)

    def reload(self, wait_old=False, **pieces):
        """HUP with changed pieces (none: same file). Returns when the new workers serve, and none of the old takes a connection
        any more; wait_old: and they have left."""
        if pieces:
            self.pieces.update(pieces)
        self.write("nginx.conf", self.config())
        old = set(self.processes())
        self.changed_workers = True
        self.send_signal(signal.SIGHUP)
        wait_until(lambda: len(self.workers()) >= self.workers_wanted and not old & set(self.workers()), "new workers after reload")
        if wait_old:
            wait_until(lambda: not old & set(self.processes()), "old workers to leave", TIMEOUT + 5)
        return self

    def restart(self, how=signal.SIGTERM):
        """Ends it and starts it again, with the same configuration and files."""
        self.changed_workers = True
        self.send_signal(how)
        code = self.process.wait(10 * SCALE)
        assert code == 0, f"nginx left with exit code {code}"
        self.output.close()
        return self.start()

    def kill_worker(self, pid, signum=signal.SIGKILL):
        """Kills one worker of ours and waits for its successor. Expects the master's line about it."""
        assert pid in self.processes(), f"{pid} is no process of this nginx"
        self.changed_workers = True
        self.allow(rf"worker process {pid} exited on signal {int(signum)}")
        os.kill(pid, signum)
        wait_until(lambda: pid not in self.processes() and len(self.workers()) >= self.workers_wanted,
                   "a new worker after a kill")

    def start_second_master(self):
        """USR2 (a server with daemon=True): the process of a new master beside this one, whose workers serve."""
        self.changed_workers = True
        os.kill(self.pid, signal.SIGUSR2)
        pid = wait_until(lambda: set(self.read("nginx.pid").split()) - {str(self.pid)}, "the new master's pid file").pop()
        new = _Adopted(int(pid))
        self.other_masters.append(new)
        wait_until(lambda: len(workers_of(new.pid)) >= self.workers_wanted, "the new master's workers")
        return new

    def become(self, master):
        """From here on this object is that master. Returns the one that it was."""
        old, self.process = self.process, master
        self.changed_workers = True
        self.other_masters[self.other_masters.index(master)] = old
        return old

    def upgrade_binary(self, quit_old=True):
        """A second master, then QUIT to the old one. Returns the old one; this object is the new one."""
        old = self.become(self.start_second_master())
        if quit_old:
            os.kill(old.pid, signal.SIGQUIT)
        return old

    def stop(self, how=signal.SIGQUIT, timeout=None):
        """Ends it (QUIT by default) and returns the list of problems, empty when clean. May be called twice."""
        if self.stopped:
            return self.problems or []
        problems = []
        if self.process is not None:
            self.seen = set(self.processes())
            for other in self.other_masters:
                if other.poll() is None:
                    problems.append(f"the other master {other.pid} still runs")
                    other.kill()
            if self.is_running():
                self.send_signal(how)
            try:
                code = self.process.wait(timeout or 12 * SCALE)
                if code != 0:
                    problems.append(f"nginx left with exit code {code}")
            except subprocess.TimeoutExpired:
                problems.append(f"nginx did not end within {timeout or 12 * SCALE:g} s; left: "
                                + ", ".join(f"{pid} {title(pid)}" for pid in [self.pid] + self.processes()))
                self._kill()
            problems += self.left_processes()
            self.output.close()
        problems += self.bad_lines() + self.sanitizer_reports()
        if self.process is not None:
            stray = self.read("output.txt").strip()
            if stray and re.search(r"runtime error|Sanitizer|terminate called", stray):
                problems.append(stray[-2000:])
        self.stopped = True
        self.problems = problems
        if problems:
            problems = problems + ["last lines of the error log:"] + self.log().splitlines()[-12:]
        if os.environ.get("ROOMS_KEEP") or (problems and os.environ.get("ROOMS_KEEP_FAILED")):
            print(f"# kept {self.dir}", flush=True)
        else:
            self.last_log = self.log()
            shutil.rmtree(self.dir, ignore_errors=True)
        return problems

    def _kill(self):
        for pid in self.processes():
            _signal(pid, signal.SIGKILL)
        if self.is_running():
            self.process.kill()
            self.process.wait()

    def left_processes(self):
        """Workers that this nginx ever started (its log names them) and that still run."""
        pids = {int(pid) for pid in re.findall(r"start (?:worker|cache manager|cache loader) process (\d+)", self.log())}
        pids |= self.seen
        left = [pid for pid in pids if alive(pid) and "nginx" in title(pid)]
        for pid in list(left):  # an orphan may need a moment longer than its master
            try:
                wait_until(lambda: not alive(pid), "orphan", 2 * SCALE)
                left.remove(pid)
            except AssertionError:
                _signal(pid, signal.SIGKILL)
        return [f"process {pid} remained" for pid in left]

    # --- what it wrote

    def read(self, name):
        try:
            with open(self.path(name), encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return ""

    def log(self):
        return self.read("error.log")

    def access_log(self):
        return self.read("access.log")

    def wait_log(self, pattern, what=None, timeout=TIMEOUT, since=0):
        return wait_until(lambda: re.search(pattern, self.log()[since:]), what or f"error log to match {pattern}", timeout)

    def wait_access_log(self, pattern, timeout=TIMEOUT, since=0):
        return wait_until(lambda: re.search(pattern, self.access_log()[since:], re.M),
                          f"access log to match {pattern}", timeout)

    def allow(self, pattern):
        """From now on, and backwards, log lines that match are not held against this nginx."""
        self.expected.append(re.compile(pattern))

    def bad_lines(self, since=0):
        return [line for line in self.log()[since:].splitlines()
                if _BAD.search(line) and not any(pattern.search(line) for pattern in self.expected)]

    def sanitizer_reports(self):
        reports = []
        for name in sorted(os.listdir(self.report_dir)) if os.path.isdir(self.report_dir) else []:
            text = self.read(os.path.join("sanitizer", name))
            if "LeakSanitizer: detected" in text:
                # What nginx itself leaves to the end of its process has no frame in the module; but ngx_regex_compile
                # makes nginx's one compile context for whoever calls it first. And `nginx -t` leaves its whole cycle, on
                # which only a variable of main() points, or does not any more: then what hangs on that is no leak.
                whole_cycle = re.search(r"in ngx_create_pool .*\n.*in ngx_init_cycle ", text)
                leaks = [block for block in text.split("\n\n") if re.match(r"Direct leak" if whole_cycle else r"(Direct|Indirect) leak", block)
                         and "in pcre2_compile_context_create" not in block
                         and (os.path.basename(MODULE) in block or re.search(r"rooms::|src/\w+/\w+\.[ch]pp", block))]
                text = "ERROR: LeakSanitizer\n" + "\n\n".join(leaks) if leaks else ""
            if re.search(r"ERROR: |runtime error", text):
                reports.append(f"{name}:\n{text[:4000]}")
        return reports

    def check(self, workers=None):
        """Raises when a worker changed (workers: those before), or a bad line or sanitizer report appeared."""
        since, self.checked_to = self.checked_to, len(self.log())
        bad = self.bad_lines(since)
        assert not bad, "error log:\n" + "\n".join(bad)
        reports = self.sanitizer_reports()
        assert not reports, "\n".join(reports)
        changed, self.changed_workers = self.changed_workers, False
        if workers is not None and not changed:
            assert self.workers() == workers, f"workers were {workers}, are {self.workers()}"

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        problems = self.stop()
        if kind is None and problems:
            raise AssertionError("\n".join(problems))


def _signal(pid, signum):
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        pass


@atexit.register
def _stop_all():
    for server in _servers:
        if not server.stopped:
            if server.process is not None:
                server._kill()
            if not os.environ.get("ROOMS_KEEP"):
                shutil.rmtree(server.dir, ignore_errors=True)

# A real Postgres for tests: a cluster of its own in a temporary directory, on a unix socket and on 127.0.0.1 (where it
# wants a password), without fsync. Started at construction, stopped by pid, at the latest when the test ends. As root the
# server runs as another user, for it refuses to be root. ROOMS_PG_BIN names another installation's programs.
import atexit
import csv
import ctypes
import glob
import io
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import threading

from . import SCALE, TIMEOUT, wait_until
from .process import children
from .nginx import free_port, make_certificate

_started = []
_ENVIRONMENT = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C"}      # without PG…


def programs():
    """The directory of initdb and postgres: the newest that is installed."""
    if found := os.environ.get("ROOMS_PG_BIN"):
        return found
    found = glob.glob("/usr/lib/postgresql/*/bin")
    assert found, "no Postgres server is installed"
    return max(found, key=lambda path: int(re.search(r"/(\d+)/bin", path)[1]))


def _server_user():
    """Who the server is: nothing where we are not root."""
    if os.getuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        except KeyError:
            continue
    raise AssertionError("neither postgres nor nobody is a user here")


def _quit_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGQUIT)


class SqlError(Exception):
    """What the server said no to; code is the SQLSTATE."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


class Postgres:
    """superuser `postgres`, database `postgres`; by the socket everybody is let in. tls=True: 127.0.0.1 with TLS too.
    options: further lines of postgresql.conf."""

    def __init__(self, *, tls=False, options="", name="postgres"):
        self.name = name
        self.dir = tempfile.mkdtemp(prefix=f"rooms-{name}-")
        os.chmod(self.dir, 0o755)
        self.port = free_port()
        self.user = _server_user()
        self.process = None
        _started.append(self)
        if self.user:
            os.chown(self.dir, self.user["user"], self.user["group"])
        self.data = os.path.join(self.dir, "data")
        made = self._run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N",
                         "--no-instructions")
        assert made.returncode == 0, f"initdb: {made.stderr}"
        lines = [f"unix_socket_directories = '{self.dir}'", "listen_addresses = '127.0.0.1'", "fsync = off",
                 "synchronous_commit = off", "full_page_writes = off", "max_connections = 50", "shared_buffers = 16MB",
                 "log_line_prefix = '%m [%p] '"]
        if tls:
            certificate, key = make_certificate(self.dir)
            if self.user:
                os.chown(key, self.user["user"], self.user["group"])
            os.chmod(key, 0o600)
            lines += ["ssl = on", f"ssl_cert_file = '{certificate}'", f"ssl_key_file = '{key}'"]
        with open(os.path.join(self.data, "postgresql.conf"), "a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n" + options + "\n")
        with open(os.path.join(self.data, "pg_hba.conf"), "w", encoding="utf-8") as file:
            file.write("local all all trust\nlocal replication all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        self.start()

    def _run(self, program, *arguments, **options):
        return subprocess.run([os.path.join(programs(), program), *arguments], capture_output=True, text=True, cwd=self.dir,
                              check=False, **{"env": _ENVIRONMENT, **self.user, **options})

    @property
    def pid(self):
        return self.process.pid

    def conninfo(self, **parameters):
        """Of the socket; host="127.0.0.1" for TCP. Other parameters of libpq are added, or replace."""
        all_of_them = {"host": self.dir, "port": self.port, "user": "postgres", "dbname": "postgres", **parameters}
        quoted = {name: str(value).replace("\\", "\\\\").replace("'", "\\'") for name, value in all_of_them.items()}
        return " ".join(f"{name}='{value}'" for name, value in quoted.items())

    def sql(self, text, database="postgres"):
        """Runs it, past every read_only(); the rows as lists of str, a null is ''."""
        done = self._run("psql", "-X", "-q", "-t", "--csv", "-v", "ON_ERROR_STOP=1", "-d", self.conninfo(dbname=database),
                         "-f", "-", input=text, env={**_ENVIRONMENT, "PGOPTIONS": "-c default_transaction_read_only=off"})
        assert done.returncode == 0, f"psql: {done.stderr.strip()}"
        return list(csv.reader(io.StringIO(done.stdout)))

    def session(self, **parameters):
        return Session(self.conninfo(**parameters))

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def start(self):
        with open(os.path.join(self.dir, "log"), "ab") as output:
            self.process = subprocess.Popen([os.path.join(programs(), "postgres"), "-D", self.data, "-p", str(self.port)],
                                            stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self.dir,
                                            env=_ENVIRONMENT, preexec_fn=_quit_with_parent, **self.user)

        def up():
            assert self.is_running(), f"{self.name} did not start:\n{self.log()[-2000:]}"
            return self._run("psql", "-X", "-q", "-d", self.conninfo(), "-c", "select 1").returncode == 0
        wait_until(up, f"{self.name} to answer", 2 * TIMEOUT)
        return self

    def stop(self, mode="fast"):
        """As pg_ctl stop -m MODE: smart waits for clients, fast rolls back, immediate is a crash."""
        if self.is_running():
            self.signal(signal.SIGCONT)
            os.kill(self.pid, {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode])
            try:
                self.process.wait(20 * SCALE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"{self.name} did not end:\n{self.log()[-2000:]}")
        return self

    def restart(self, mode="fast"):
        self.stop(mode)
        return self.start()

    def signal(self, number):
        """To the server and all its processes: SIGSTOP, the kernel goes on taking connections and bytes; SIGCONT."""
        for pid in [self.pid, *children(self.pid)]:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def read_only(self, on=True):
        """New transactions cannot write, unless they say so; sessions that are open too."""
        self.sql(f"alter system set default_transaction_read_only = {'on' if on else 'off'}")
        self.sql("select pg_reload_conf()")
        wait_until(lambda: self._run("psql", "-X", "-q", "-t", "-A", "-d", self.conninfo(), "-c",
                                     "show default_transaction_read_only").stdout.strip() == ("on" if on else "off"),
                   "the setting to be in force")

    def log(self):
        try:
            with open(os.path.join(self.dir, "log"), encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return ""

    def close(self):
        """Ends it without ceremony and removes its directory."""
        self.stop("immediate")
        if os.environ.get("ROOMS_KEEP"):
            print(f"# kept {self.dir}", flush=True)
        else:
            shutil.rmtree(self.dir, ignore_errors=True)
        if self in _started:
            _started.remove(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Session:
    """A psql that stays: session("select 1") is [["1"]]; the first error is raised. send() and read() apart let
    others work meanwhile."""

    def __init__(self, conninfo):
        self.process = subprocess.Popen(
            [os.path.join(programs(), "psql"), "-X", "-q", "-At", "-F", "\x1f", "-P", "null=\x02", "-v", "VERBOSITY=verbose", conninfo],
            env=_ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1)
        self("set client_min_messages = error")

    def __call__(self, text):
        self.send(text)
        return self.read()

    def send(self, text):
        self.process.stdin.write(text.rstrip().rstrip(";") + "\n;\n\\echo \x03\n")
        self.process.stdin.flush()

    def read(self, timeout=30 * SCALE):
        """A psql that does not answer in time is killed."""
        rows, errors = [], []
        alarm = threading.Timer(timeout, self.process.kill)
        alarm.start()
        try:
            return self._read(rows, errors)
        finally:
            alarm.cancel()

    def _read(self, rows, errors):
        for line in self.process.stdout:
            line = line.rstrip("\n")
            if line == "\x03":
                if errors:
                    raise SqlError(errors[0].split(":")[1].strip(), "\n".join(errors))
                return rows
            if errors or line.startswith(("ERROR:", "FATAL:", "psql:")):
                errors.append(line)
            elif not line.startswith("Asynchronous notification "):
                rows.append([None if value == "\x02" else value for value in line.split("\x1f")])
        raise AssertionError("psql has ended: " + "\n".join(errors))

    def close(self):
        self.process.stdin.close()
        self.process.stdout.read()
        self.process.wait(20 * SCALE)
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


@atexit.register
def _stop_all():
    for server in list(_started):
        server.close()

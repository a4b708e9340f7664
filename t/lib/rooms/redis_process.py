# What is common to redis-server as a server and as a sentinel: a process with a configuration file in a temporary
# directory of its own, stopped by pid, at the latest when the test ends. ROOMS_REDIS_SERVER names another program
# (valkey-server), ROOMS_KEEP=1 keeps the directories.
import os
import re
import shutil
import signal
import subprocess
import tempfile

from . import SCALE, TIMEOUT, started, wait_until
from .nginx import _die_with_parent
from .resp import ReplyError, Resp

BINARY = os.environ.get("ROOMS_REDIS_SERVER", "redis-server")


def info_fields(text):
    """What INFO and CLUSTER INFO say, as a dict; numbers are int."""
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line and not line.startswith("#"))
    return {name: int(value) if re.fullmatch(r"-?\d+", value) else value for name, value in pairs}


class RedisProcess:
    """A process with a configuration file in a directory of its own. Redis and Sentinel say what is in the file."""

    arguments = ()
    through = ()        # a command in front of it, which becomes it
    password = user = None

    def __init__(self, name):
        self.name = name
        self.dir = tempfile.mkdtemp(prefix=f"rooms-{name}-")
        os.chmod(self.dir, 0o755)
        self.port = None
        self.process = None
        self.paused = False
        started.add(self)

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        return self.path(name)

    def config(self):
        raise NotImplementedError

    @property
    def address(self):
        return ("127.0.0.1", self.port)

    @property
    def admin(self):
        """Where cli() connects to: past every proxy."""
        return self.address

    @property
    def pid(self):
        return self.process.pid

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    # What a server has written into its file (replicaof, sentinels) is there at its next start.
    def start(self):
        for _ in range(5):
            if self.port is None:
                self.port = started.port()
                self.write("redis.conf", self.config())
            with open(self.path("output.txt"), "ab") as output:
                self.process = subprocess.Popen([*self.through, BINARY, self.path("redis.conf"), *self.arguments],
                                                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                                preexec_fn=_die_with_parent)
            try:
                return self.wait_up()
            except AssertionError:
                # Somebody else was given the port in the same moment: only a first start may take another.
                if os.path.exists(self.path("started")) or "already in use" not in self.log():
                    raise
                self.port = None
                os.remove(self.path("redis.log"))
        raise AssertionError(f"{self.name} finds no free port")

    def wait_up(self, timeout=TIMEOUT):
        """Until it answers, its data loaded."""
        def up():
            if self.process.poll() is not None:
                raise AssertionError(f"{self.name} did not start, exit code {self.process.returncode}:\n{self.log()[-2000:]}")
            try:
                # Logged in: NOAUTH comes before LOADING.
                return self.cli("PING") == "PONG"
            except (OSError, ReplyError):
                return False
        wait_until(up, f"{self.name} to answer", timeout)
        self.write("started", "")
        return self

    def stop(self, how=signal.SIGTERM):
        """Ends it as an init system does: SIGTERM, then the wait for its end."""
        if self.is_running():
            self.resume()
            os.kill(self.pid, how)
            try:
                self.process.wait(20 * SCALE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"{self.name} did not end:\n{self.log()[-2000:]}")
        return self

    def kill(self):
        """SIGKILL."""
        if self.is_running():
            self.process.kill()
            self.process.wait()
        self.paused = False
        return self

    def restart(self, kill=False):
        self.kill() if kill else self.stop()
        return self.start()

    def pause(self):
        """SIGSTOP: the kernel goes on taking connections and bytes for it."""
        os.kill(self.pid, signal.SIGSTOP)
        self.paused = True

    def resume(self):
        if self.is_running():
            os.kill(self.pid, signal.SIGCONT)
        self.paused = False

    def client(self, **options):
        """A connection by TCP, logged in."""
        return Resp(self.address, **{"user": self.user, "password": self.password, **options})

    def cli(self, *words, timeout=None):
        """One command on a connection of its own."""
        with Resp(self.admin, user=self.user, password=self.password) as client:
            return client(*words, timeout=timeout)

    def info(self, section="default"):
        """INFO as a dict; numbers are int."""
        try:
            return info_fields(self.cli("INFO", section))
        except ConnectionResetError:    # a sentinel ends every connection when it changes what a server is
            return info_fields(self.cli("INFO", section))

    def log(self):
        text = ""
        for name in ("redis.log", "output.txt"):
            try:
                with open(self.path(name), encoding="utf-8", errors="replace") as file:
                    text += file.read()
            except OSError:
                pass
        return text

    def wait_log(self, pattern, what=None, timeout=TIMEOUT, since=0):
        what = what or f"{self.name}'s log to match {pattern}"
        return wait_until(lambda: re.search(pattern, self.log()[since:]), what, timeout)

    def close(self):
        """Ends it without ceremony and removes its directory."""
        self.kill()
        if "BUG REPORT START" in self.log():
            print(f"# {self.name} crashed, kept {self.dir}", flush=True)
        elif os.environ.get("ROOMS_KEEP"):
            print(f"# kept {self.dir}", flush=True)
        else:
            shutil.rmtree(self.dir, ignore_errors=True)
        started.remove(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

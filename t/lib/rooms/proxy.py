# A bad line before a server: t/load/proxy.cpp, told what to do.
import subprocess
import threading

from . import TIMEOUT, started, wait_until
from .load import build
from .nginx import _die_with_parent


class Proxy:
    """A TCP proxy before a Redis, (host, port) of any server, or the path of a unix socket; see t/load/proxy.cpp. Each
    method returns when it holds."""

    def __init__(self, target):
        self.lock = threading.Lock()
        for _ in range(5):
            self.port = started.port()
            self.process = subprocess.Popen([build("proxy"), str(self.port), self._text(target)], stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1,
                                            preexec_fn=_die_with_parent)
            if self.process.stdout.readline() == "ready\n":
                break
            self.process.wait()
        else:
            raise AssertionError("the proxy does not start")
        started.add(self)

    @staticmethod
    def _text(target):
        target = target.address if hasattr(target, "address") else target
        return target if isinstance(target, str) else f"{target[0]}:{target[1]}"

    @property
    def address(self):
        return ("127.0.0.1", self.port)

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}"

    def _tell(self, *words):
        with self.lock:
            self.process.stdin.write(" ".join(str(word) for word in words) + "\n")
            answer = self.process.stdout.readline().strip()
        assert answer and not answer.startswith("error"), f"proxy: {' '.join(map(str, words))}: {answer or 'it has ended'}"
        return answer

    def black_hole(self, on=True):
        """Bytes vanish both ways while connections stay up; new ones are taken and lead nowhere. At its end those that
        lost something are reset."""
        self._tell("hole", "both" if on else "none")

    def one_way(self, direction):
        """Only what goes "up" to Redis vanishes, or only what comes "down" from it; None ends it."""
        self._tell("hole", direction or "none")

    def cut(self):
        """Every connection is closed, new ones are refused."""
        self._tell("cut")

    def mend(self):
        """After cut(), until connections are taken again."""
        wait_until(lambda: not self._refused(), "the proxy's port to be free", TIMEOUT)

    def _refused(self):
        try:
            self._tell("mend")
        except AssertionError:
            if self.process.poll() is not None:
                raise
            return True
        return False

    def delay(self, ms):
        """Each way."""
        self._tell("delay", ms)

    def retarget(self, target):
        """Leads elsewhere from now on; present connections are closed."""
        self._tell("target", self._text(target))

    def stats(self):
        """connections, accepted, up, down, swallowed (bytes)."""
        words = self._tell("stats").split()
        return {name: int(value) for name, value in zip(words[::2], words[1::2])}

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        started.remove(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

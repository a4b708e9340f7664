# Whether the event loop of each worker stands still: pings of the protocol, one every 5 ms a worker, from a process of
# its own. What the machine took (time in which a process was ready to run and did not) is told apart from the rest.
import json
import os
import select
import subprocess
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    __package__ = "rooms"       # pylint: disable=redefined-builtin
import time                                     # noqa: E402

from . import TIMEOUT, jwt, ws                  # noqa: E402
from .nginx import _die_with_parent, workers_of     # noqa: E402

_EVERY = 0.005


class Stalls:
    """In ms: `times` as a client sees them, `own` without the machine's part; how often a line was lost; `worst` is
    (monotonic moment, time, own)."""

    def __init__(self, samples, lost):
        assert samples, "no ping was answered"
        self.times = sorted(sample[1] for sample in samples)
        self.own = sorted(sample[2] for sample in samples)
        self.lost = lost
        self.worst = max(samples, key=lambda sample: sample[2])

    @staticmethod
    def _at(sorted_times, share):
        return sorted_times[int(share * (len(sorted_times) - 1))]

    def __str__(self):
        return (f"event loop: {len(self.times)} pings, p99 {self._at(self.times, 0.99):.1f} ms, max {self.times[-1]:.1f} ms; "
                f"without the machine's part p99 {self._at(self.own, 0.99):.1f} ms, max {self.own[-1]:.1f} ms")


class Probe:
    """Runs until stop(), which returns Stalls. The server's /ws takes tokens by jwt.SECRET."""

    def __init__(self, server):
        self.process = subprocess.Popen([sys.executable, os.path.abspath(__file__), str(server.pid), str(server.port)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=_die_with_parent)
        assert self.process.stdout.readline() == "ready\n", "the probe does not start"

    def stop(self):
        said, _ = self.process.communicate(timeout=2 * TIMEOUT)
        return Stalls(**json.loads(said))


# --- the process

class _Server:
    def __init__(self, master, port):
        self.master, self.port = master, port

    def workers(self):
        return workers_of(self.master)


def _waited(pid):
    """Nanoseconds that a process has been ready and not running, so far."""
    try:
        with open(f"/proc/{pid}/schedstat", encoding="ascii") as file:
            return int(file.read().split()[1])
    except OSError:
        return 0


def _open(server, pid):
    socket = ws.connect_to_worker(server, pid, "/ws", token=jwt.mint(sub="probe"))
    socket.expect(type="connected")
    return socket


def _replace(server, sockets):
    for pid in set(server.workers()) - set(sockets):
        try:
            sockets[pid] = _open(server, pid)
        except (AssertionError, OSError):
            pass        # it is being replaced itself; the next that is lost tries again


def _ping(socket):
    try:
        socket.send_ping(b"p")
        while True:
            got = socket.next_frame()
            if got is None or got.opcode == ws.CLOSE:
                return False
            if got.opcode == ws.PONG:
                return True
            if got.opcode == ws.TEXT and b'"reconnect"' in got.payload:
                return False
    except (AssertionError, OSError):
        return False


def _run(server):
    samples, lost = [], 0
    sockets = {pid: _open(server, pid) for pid in server.workers()}
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], _EVERY)[0]:
        for pid in list(sockets):
            before, begun = _waited(pid) + _waited("self"), time.monotonic()
            if not _ping(sockets[pid]):
                lost += 1
                sockets.pop(pid).drop()
                _replace(server, sockets)
                continue
            took = (time.monotonic() - begun) * 1000
            waited = (_waited(pid) + _waited("self") - before) / 1e6
            samples.append((begun, took, max(0.0, took - waited)))
    try:
        os.write(1, json.dumps({"samples": samples, "lost": lost}).encode())
    except BrokenPipeError:
        pass        # the case has failed, and nobody reads


if __name__ == "__main__":
    _run(_Server(int(sys.argv[1]), int(sys.argv[2])))

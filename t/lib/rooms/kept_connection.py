# HTTP on a connection that is kept, to one worker.
import time

from . import TIMEOUT, http
from .wire import Wire


class KeptConnection:
    """The server has a /status of the module. worker: a pid, or None for any."""

    def __init__(self, server, worker=None):
        self.server, self.wire = server, None
        self.find(worker)

    def find(self, worker):
        # On a busy machine one worker may take all for a while.
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            self.open()
            response = self.ask("GET", "/status")
            if response is not None and worker in (None, int(response.get("X-Worker"))):
                return
        raise AssertionError(f"worker {worker} took no request in {TIMEOUT:g} s")

    def open(self):
        """Anew, to whichever worker takes it."""
        if self.wire is not None:
            self.wire.close()
        self.wire = Wire(http.address_of(self.server))

    def ask(self, method, path, body=b""):
        """The Response; None where the connection ended without one."""
        self.wire.send(http.request_octets(method, path, [("Content-Type", "application/json")] if body else [], body,
                                           connection="keep-alive"))
        return http.read_response(self.wire, method)

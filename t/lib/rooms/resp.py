# A client that speaks RESP2, to Redis itself and to everything that looks like it.
from . import TIMEOUT
from .wire import Wire


class ReplyError(Exception):
    """An error as the server said it; code is its first word."""

    @property
    def code(self):
        return str(self).split(" ", 1)[0]


def encode(*words):
    """The octets of a command."""
    parts = [word if isinstance(word, bytes) else str(word).encode("utf-8", "surrogateescape") for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


class Resp:
    """One connection. client("SET", "a", 1) is the reply: str, int, None or a list of them; an error is raised.
    address: (host, port), or the path of a unix socket. decode=False: bytes in place of str."""

    def __init__(self, address, *, password=None, user=None, tls=None, decode=True, timeout=TIMEOUT):
        self.wire = Wire(address, tls=tls)
        self.decode, self.timeout = decode, timeout
        if password is not None:
            self("AUTH", *([user] if user else []), password)

    def __call__(self, *words, timeout=None):
        self.send(*words)
        reply = self.read(timeout)
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    def pipeline(self, *commands):
        """Sends all (tuples of words), then gives the replies in order; errors are among them, not raised."""
        self.wire.send(b"".join(encode(*words) for words in commands))
        return [self.read() for _ in commands]

    def send(self, *words):
        self.wire.send(encode(*words))

    def read(self, timeout=None):
        """The next reply; a ReplyError is returned. ConnectionError when the stream has ended."""
        timeout = self.timeout if timeout is None else timeout
        line = self._taken(self.wire.take_until(b"\r\n", timeout))[:-2]
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return self._text(rest)
        if kind == b"-":
            return ReplyError(rest.decode("utf-8", "replace"))
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self._text(self._taken(self.wire.take(int(rest) + 2, timeout))[:-2])
        if kind == b"*":
            return None if rest == b"-1" else [self.read(timeout) for _ in range(int(rest))]
        raise AssertionError(f"no RESP2: {line!r}")

    def push(self, timeout=TIMEOUT):
        """What a subscribed connection is brought next; None when nothing came in time."""
        if not self.wire.buffer and not self.wire.ended and not self.wire.fill(timeout):
            return None
        return self.read()

    def close(self):
        self.wire.close()

    def _taken(self, octets):
        if octets is None:
            raise ConnectionResetError(f"the server ended the connection ({self.wire.ended})")
        return octets

    def _text(self, octets):
        return octets.decode("utf-8", "surrogateescape") if self.decode else octets

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

# What the conformance files share: the nginx with the locations that they send to, the four ways to deliver the same
# octets, and the outcome of a script: every frame that came back and how the stream ended. Asserts on octets only.
import os
import time

from . import SCALE, TIMEOUT, jwt, tap, wait_until, ws
from .http import read_response, status
from .nginx import Nginx
from .ws import BINARY, CLOSE, CONT, PING, PONG, TEXT, close_payload, frame

MODES = ("one write", "octet-wise", "header boundaries", "handshake's segment")

LOCATIONS = """
        location = /echo     { rooms_echo; }
        location = /small    { rooms_echo; rooms_max_message 1k; }
        location = /big      { rooms_echo; rooms_max_message 16m; rooms_send_queue 64m; }
        location = /deflate  { rooms_echo; rooms_compression on min=1; }
        location = /deflate/min   { rooms_echo; rooms_compression on min=256 level=1; }
        location = /deflate/small { rooms_echo; rooms_compression on min=1; rooms_max_message 1k; }
        location = /deflate/big   { rooms_echo; rooms_compression on min=1; rooms_max_message 16m; rooms_send_queue 64m; }
        location = /ws       { rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_allow session:*; rooms_origin any; }
        location = /publish  { rooms_publish; }
        location = /status   { rooms_status; }
        location = /hello    { return 200 hello; }
"""
_server = None


def serve(locations="", **pieces):
    """The nginx of this file (or the peer of a differential run), with LOCATIONS and those given."""
    global _server
    if os.environ.get("ROOMS_PEER"):
        from .peer import Peer
        _server = Peer(os.environ["ROOMS_PEER"])
    else:
        files = dict({"secret": jwt.SECRET}, **pieces.pop("files", {}))
        _server = Nginx(locations=LOCATIONS + locations, files=files, **pieces)
    return _server


def needs_nginx():
    if os.environ.get("ROOMS_PEER"):
        tap.skip("another server")


def echo_works(server=None, path="/echo"):
    """A fresh connection echoes and closes cleanly."""
    with ws.connect(server or _server, path) as client:
        client.send_text("still here")
        assert client.recv() == (TEXT, b"still here")
        client.close()


def settled():
    """After a case: a fresh echo works, and the server counts no connection any more."""
    echo_works()
    if not os.environ.get("ROOMS_PEER"):
        wait_until(lambda: status(_server)["connections"]["active"] == 0, "the count of connections to return to zero")


def split_points(octets):
    """Where one masked or unmasked frame may be cut: after each part of its header, and inside the payload."""
    if len(octets) < 2:
        return []
    extended = {126: 2, 127: 8}.get(octets[1] & 0x7F, 0)
    points = [1, 2, 2 + extended]
    if octets[1] & 0x80:
        points += [2 + extended + 2, 2 + extended + 4]
    points += [points[-1] + 1, len(octets) - 1]
    return sorted({point for point in points if 0 < point < len(octets)})


def pieces_of(octets, points):
    cuts = [0] + list(points) + [len(octets)]
    return [octets[a:b] for a, b in zip(cuts, cuts[1:]) if a < b]


class Outcome:
    def __init__(self):
        self.frames = []
        self.messages = []     # (opcode, octets), reassembled and inflated
        self.pongs = []
        self.close = None
        self.ended = None
        self.after_close = 0.0   # seconds from the Close to the end of the stream

    def __repr__(self):
        shown = ", ".join(repr(f) for f in self.frames[:12]) + (" …" if len(self.frames) > 12 else "")
        return f"[{shown}] then {self.ended or 'still open'}"


def deliver(client_or_wire, frames, mode):
    """Sends the frames over an open wire in a mode; stops when the server takes no more."""
    wire = getattr(client_or_wire, "wire", client_or_wire)
    if mode == "octet-wise":
        for octets in frames:
            # The long payloads' insides say nothing new one octet at a time.
            head, tail = (octets, b"") if len(octets) <= 1500 else (octets[:300], octets[300:])
            if not wire.send_octets(head):
                return False
            if tail and not wire.send(tail):
                return False
        return True
    if mode == "header boundaries":
        for octets in frames:
            for piece in pieces_of(octets, split_points(octets)):
                if not wire.send(piece):
                    return False
                wire.poll()
        return True
    return wire.send(b"".join(frames))


def run_script(frames, mode="one write", path="/echo", *, server=None, answer_close=True, timeout=None, **options):
    """Opens a connection, sends the frames in the mode, reads until the server ends the stream. Answers its Close."""
    server = server or _server
    if mode == "handshake's segment":
        client = ws.connect(server, path, first=b"".join(frames), **options)
    else:
        client = ws.connect(server, path, **options)
        deliver(client, frames, mode)
    try:
        return read_outcome(client, answer_close=answer_close, timeout=timeout)
    finally:
        client.drop()


def read_outcome(client, *, answer_close=True, timeout=None):
    out = Outcome()
    end = time.monotonic() + (timeout or TIMEOUT)
    parts, opcode, compressed, closed_at = [], None, False, None
    while True:
        try:
            got = client.next_frame(max(0, end - time.monotonic()))
        except AssertionError as error:
            raise type(error)(f"{error}\nso far: {out!r}") if not isinstance(error, ws.Closed) else error
        if got is None:
            break
        out.frames.append(got)
        if got.opcode == CLOSE:
            out.close = got
            closed_at = time.monotonic()
            if answer_close:
                client.send(frame(CLOSE, got.payload[:2]))
        elif got.opcode == PONG:
            out.pongs.append(got.payload)
        elif got.opcode != PING:
            if got.opcode != CONT:
                opcode, compressed = got.opcode, bool(got.rsv)
            parts.append(got.payload)
            if got.fin:
                data = b"".join(parts)
                out.messages.append((opcode, client.inflater.message(data) if compressed else data))
                parts = []
    out.ended = client.wire.ended
    if closed_at is not None:
        out.after_close = time.monotonic() - closed_at
    return out


def expect_failure(out, codes, messages=(), pongs=(), what=""):
    """The server failed the connection: what came before was answered, then Close with one of the codes, then the end."""
    tap.is_(out.messages, list(messages), f"{what}: messages before the failure, in {out!r}")
    tap.is_(out.pongs, list(pongs), f"{what}: pongs before the failure, in {out!r}")
    tap.ok(out.close is not None, f"{what}: a Close frame in {out!r}")
    tap.in_(out.close.code, set(codes), f"{what}: close code in {out!r}")
    tap.ok(out.ended in ("fin", "rst"), f"{what}: the server ends the stream: {out!r}")
    tap.ok(out.after_close < 3 * SCALE, f"{what}: stream ended {out.after_close:.1f} s after the Close that we answered")


def fails(name, frames, codes=(1002,), *, messages=(), pongs=(), path="/echo", modes=MODES, **options):
    """Registers a case: these frames end the connection with one of the codes, however they are delivered."""
    def body():
        for mode in modes:
            out = run_script(frames() if callable(frames) else frames, mode, path, **options)
            expect_failure(out, codes, messages, pongs, mode)
        settled()
    tap.add(name, body)


def passes(name, frames, messages=(), *, pongs=(), path="/echo", modes=MODES, check=None, **options):
    """Registers a case: these frames, then Close 1000, are answered with the messages and pongs and Close 1000."""
    def body():
        for mode in modes:
            script = list(frames() if callable(frames) else frames) + [frame(CLOSE, close_payload(1000))]
            out = run_script(script, mode, path, **options)
            want = list(messages() if callable(messages) else messages)
            if out.messages != want:
                tap.is_([(o, len(d), d[:40]) for o, d in out.messages], [(o, len(d), d[:40]) for o, d in want],
                        f"{mode}: messages in {out!r}")
                tap.fail(f"{mode}: a message differs")
            tap.is_(out.pongs, list(pongs), f"{mode}: pongs in {out!r}")
            tap.ok(out.close is not None and out.close.payload == close_payload(1000), f"{mode}: Close 1000 in {out!r}")
            tap.is_(out.ended, "fin", f"{mode}: the server ends the stream: {out!r}")
            if check:
                check(out)
        settled()
    tap.add(name, body)


def deliver_request(octets, mode, *, server=None, tls=False, unix=False, timeout=None):
    """A handshake's octets in a mode (the last one: with a frame behind). Returns (response or None, wire)."""
    wire = ws.open_wire(server or _server, tls=tls, unix=unix)
    if mode == "octet-wise":
        wire.send_octets(octets)
    elif mode == "header boundaries":
        for line in octets.splitlines(keepends=True):
            wire.send(line)
            wire.poll()
    elif mode == "handshake's segment":
        wire.send(octets + frame(TEXT, b"early"))
    else:
        wire.send(octets)
    return read_response(wire, octets[:5].split(b" ")[0].decode(), timeout), wire


def held_sockets(port, peer_port):
    """True while a process still holds the server's side of the TCP connection 127.0.0.1:peer_port → :port."""
    mine, theirs = f"0100007F:{port:04X}", f"0100007F:{peer_port:04X}"
    with open("/proc/net/tcp") as file:
        for text in file.readlines()[1:]:
            field = text.split()
            if field[1] == mine and field[2] == theirs and field[9] != "0":
                return True
    return False


def rss(pids):
    """Resident KiB of these processes together."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/status") as file:
            total += sum(int(text.split()[1]) for text in file if text.startswith("VmRSS"))
    return total


__all__ = ["MODES", "LOCATIONS", "serve", "needs_nginx", "echo_works", "deliver", "run_script", "read_outcome", "expect_failure",
           "fails", "passes", "deliver_request", "held_sockets", "rss", "split_points", "pieces_of", "Outcome", "frame",
           "close_payload", "BINARY", "CLOSE", "CONT", "PING", "PONG", "TEXT"]

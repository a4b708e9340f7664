# A WebSocket client over a Wire (RFC 6455, RFC 7692) for tests: sends any octets, legal or not, and parses what comes
# itself, strictly. No WebSocket library in the path: a test asserts on octets, not on another client's opinion.
import base64
import hashlib
import json as _json
import os
import time
import zlib

from . import TIMEOUT
from .http import address_of, read_response
from .wire import Wire

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
NAMES = {CONT: "continuation", TEXT: "text", BINARY: "binary", CLOSE: "close", PING: "ping", PONG: "pong"}


class ProtocolError(AssertionError):
    """The server sent what no server may send."""


class HandshakeRefused(AssertionError):
    def __init__(self, response, ended=None):
        super().__init__(f"handshake refused: {response!r}" if response else f"handshake: connection ended ({ended})")
        self.response = response
        self.status = response.status if response else None


class Closed(AssertionError):
    """The connection closed where a message was awaited."""

    def __init__(self, code, reason, ended):
        super().__init__(f"closed: code {code}, reason {reason!r}, stream {ended}")
        self.code, self.reason, self.ended = code, reason, ended


# --- octets out

def mask_octets(data, key):
    if not data or key == b"\0\0\0\0":
        return bytes(data)
    n = len(data)
    pad = (key * (n // 4 + 1))[:n]
    return (int.from_bytes(data, "little") ^ int.from_bytes(pad, "little")).to_bytes(n, "little")


def header_octets(opcode, length, *, fin=True, rsv=0, mask=b"\x12\x34\x56\x78", form=None):
    """A frame header. rsv: 4, 2, 1 for RSV1, 2, 3. mask None: unmasked. form: 7, 16 or 64, else the minimal one."""
    form = form or (7 if length < 126 else 16 if length < 65536 else 64)
    bit = 0x80 if mask is not None else 0
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    if form == 7:
        head += bytes([bit | length])
    elif form == 16:
        head += bytes([bit | 126]) + length.to_bytes(2, "big")
    else:
        head += bytes([bit | 127]) + length.to_bytes(8, "big")
    return head + (mask or b"")


def frame(opcode, payload=b"", *, fin=True, rsv=0, mask=b"\x12\x34\x56\x78", form=None, length=None):
    """The octets of a client's frame. length: another length in the header than the payload's."""
    if isinstance(payload, str):
        payload = payload.encode()
    head = header_octets(opcode, len(payload) if length is None else length, fin=fin, rsv=rsv, mask=mask, form=form)
    return head + (mask_octets(payload, mask) if mask is not None else bytes(payload))


def close_payload(code=None, reason=b""):
    if isinstance(reason, str):
        reason = reason.encode()
    return b"" if code is None else code.to_bytes(2, "big") + reason


def new_key():
    return base64.b64encode(os.urandom(16)).decode()


def accept_of(key):
    return base64.b64encode(hashlib.sha1(key.strip().encode() + GUID).digest()).decode()


def handshake_octets(path="/echo", *, key=None, host="localhost", version="13", upgrade="websocket", connection="Upgrade",
                     protocols=(), extensions=None, origin=None, headers=(), method="GET", http="HTTP/1.1", token=None):
    """The request's octets. None for a value leaves its header out; headers: further (name, value) pairs."""
    lines = [f"{method} {path} {http}"]
    for name, value in (("Host", host), ("Upgrade", upgrade), ("Connection", connection),
                        ("Sec-WebSocket-Key", key), ("Sec-WebSocket-Version", version), ("Origin", origin),
                        ("Sec-WebSocket-Extensions", extensions)):
        if value is not None:
            lines.append(f"{name}: {value}")
    protocols = list(protocols)
    if token is not None:
        protocols += [p for p in ("rooms.v1", "rooms.bearer." + token) if p not in protocols]
    if protocols:
        lines.append("Sec-WebSocket-Protocol: " + ", ".join(protocols))
    lines += [f"{name}: {value}" for name, value in (headers.items() if isinstance(headers, dict) else headers)]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


# --- deflate

class Deflater:
    """Compresses messages as RFC 7692 7.2.1 says; takeover keeps the window between them."""

    def __init__(self, bits=15, takeover=False, level=6):
        self.bits, self.takeover, self.level, self.z = bits, takeover, level, None

    def message(self, data):
        if self.z is None or not self.takeover:
            self.z = zlib.compressobj(self.level, zlib.DEFLATED, -self.bits)
        out = self.z.compress(data) + self.z.flush(zlib.Z_SYNC_FLUSH)
        assert out.endswith(b"\0\0\xff\xff")
        return out[:-4] or b"\0"


class Inflater:
    """Inflates messages of a server that resets its window after each (server_no_context_takeover)."""

    def __init__(self, bits=15, takeover=False):
        self.bits, self.takeover, self.z = bits, takeover, None

    def message(self, data):
        if self.z is None or not self.takeover:
            self.z = zlib.decompressobj(-self.bits)
        try:
            out = self.z.decompress(data + b"\0\0\xff\xff")
        except zlib.error as error:
            raise ProtocolError(f"the server's message does not inflate with {self.bits} bits: {error}")
        if self.z.unused_data or self.z.eof:
            self.z = None
        return out


def parse_extensions(value):
    """[(name, {parameter: value or None})]"""
    found = []
    for item in value.split(","):
        words = [word.strip() for word in item.split(";")]
        parameters = {}
        for word in words[1:]:
            name, equals, text = word.partition("=")
            assert name not in parameters, f"parameter twice: {value!r}"
            parameters[name] = text if equals else None
        found.append((words[0], parameters))
    return found


# --- frames in

class Frame:
    def __init__(self, opcode, payload, fin=True, rsv=0):
        self.opcode, self.payload, self.fin, self.rsv = opcode, payload, fin, rsv

    @property
    def code(self):
        return int.from_bytes(self.payload[:2], "big") if len(self.payload) >= 2 else None

    @property
    def reason(self):
        return self.payload[2:].decode()

    def __eq__(self, other):
        return isinstance(other, Frame) and vars(self) == vars(other)

    def __repr__(self):
        name = NAMES.get(self.opcode, self.opcode)
        if self.opcode == CLOSE:
            return f"<close {self.code} {self.payload[2:]!r}>"
        text = repr(self.payload[:60]) + (f"… {len(self.payload)} octets" if len(self.payload) > 60 else "")
        return f"<{name}{'' if self.fin else ' FIN=0'}{f' RSV={self.rsv}' if self.rsv else ''} {text}>"


def read_frame(wire, timeout=None, deflate=False, in_message=False):
    """The server's next frame, None when the stream has ended between frames. Strict about all a server may do wrong."""
    head = wire.take(2, timeout)
    if head is None:
        if wire.buffer and wire.ended == "fin":
            raise ProtocolError(f"stream ended inside a header: {bytes(wire.buffer)!r}")
        return None
    fin, rsv, opcode = bool(head[0] & 0x80), head[0] >> 4 & 7, head[0] & 15
    length = head[1] & 0x7F
    if head[1] & 0x80:
        raise ProtocolError("masked frame from the server")
    if opcode not in NAMES:
        raise ProtocolError(f"opcode {opcode} from the server")
    if rsv and not (rsv == 4 and deflate and opcode in (TEXT, BINARY)):
        raise ProtocolError(f"RSV {rsv} on {NAMES[opcode]} from the server")
    if opcode >= 8 and (not fin or length > 125):
        raise ProtocolError("fragmented or long control frame from the server")
    if opcode == CONT and not in_message:
        raise ProtocolError("continuation from the server without a message")
    if opcode in (TEXT, BINARY) and in_message:
        raise ProtocolError("new message from the server inside a fragmented one")
    for octets, code, least in ((2, 126, 126), (8, 127, 65536)):
        if length == code:
            extended = wire.take(octets, timeout)
            if extended is None:
                raise ProtocolError("stream ended inside a header")
            length = int.from_bytes(extended, "big")
            if length < least:
                raise ProtocolError(f"length {length} from the server is not minimal")
            if length >> 63:
                raise ProtocolError("length with the top bit set from the server")
            break
    payload = wire.take(length, timeout)
    if payload is None:
        if wire.ended == "fin":
            raise ProtocolError(f"stream ended inside a {NAMES[opcode]} frame of {length} octets")
        return None
    if opcode == CLOSE and payload:
        if len(payload) == 1:
            raise ProtocolError("close with a body of one octet from the server")
        code = int.from_bytes(payload[:2], "big")
        if code < 1000 or code in (1004, 1005, 1006, 1015) or 1016 <= code < 3000 or code >= 5000:
            raise ProtocolError(f"close code {code} from the server")
        payload[2:].decode()
    return Frame(opcode, payload, fin, rsv)


# --- a connection

class WebSocket:
    """An open WebSocket; see connect(). Reading methods answer pings by themselves unless auto_pong is False."""

    def __init__(self, wire, response, key=None):
        self.wire, self.response = wire, response
        self.auto_pong = True
        self.closed = None          # the Close frame that the server sent
        self.pings = 0
        self.in_message = False
        self.pending = []           # frames read ahead of a message
        workers = response.all("X-Worker")     # the first is that of the server itself, others come from proxies
        self.worker = int(workers[0]) if workers else None
        self.protocol = response.get("Sec-WebSocket-Protocol")
        self.deflate = None
        value = response.get("Sec-WebSocket-Extensions")
        if value is not None:
            extensions = parse_extensions(value)
            if len(extensions) != 1 or extensions[0][0] != "permessage-deflate":
                raise ProtocolError(f"extensions in the response: {value!r}")
            self.deflate = extensions[0][1]
            bits = int(self.deflate.get("server_max_window_bits") or 15)
            self.inflater = Inflater(bits, "server_no_context_takeover" not in self.deflate)
            bits = int(self.deflate.get("client_max_window_bits") or 15)
            self.deflater = Deflater(max(bits, 9), "client_no_context_takeover" not in self.deflate)

    # sending

    def send(self, octets):
        """Octets as they are."""
        return self.wire.send(octets)

    def send_frame(self, opcode, payload=b"", **options):
        return self.wire.send(frame(opcode, payload, **options))

    def send_text(self, text, compress=False):
        data = text.encode() if isinstance(text, str) else text
        if compress:
            return self.wire.send(frame(TEXT, self.deflater.message(data), rsv=4))
        return self.wire.send(frame(TEXT, data))

    def send_binary(self, data):
        return self.wire.send(frame(BINARY, data))

    def send_json(self, value=None, **fields):
        """send_json({"type": "ping"}) or send_json(type="ping")."""
        return self.send_text(_json.dumps(fields if value is None else value))

    def send_ping(self, data=b""):
        return self.wire.send(frame(PING, data))

    def send_close(self, code=1000, reason=b""):
        return self.wire.send(frame(CLOSE, close_payload(code, reason)))

    # reading

    def next_frame(self, timeout=None):
        """The next frame of any kind, None at the end of the stream. Answers nothing by itself."""
        got = read_frame(self.wire, timeout, self.deflate is not None, self.in_message)
        if got is not None:
            if self.closed is not None:
                raise ProtocolError(f"{got!r} from the server after its Close")
            if got.opcode == CLOSE:
                self.closed = got
            elif got.opcode < 8:
                self.in_message = not got.fin
        return got

    def recv(self, timeout=None):
        """The next data message, (opcode, octets), inflated. Closed when the connection closes before."""
        end = time.monotonic() + (TIMEOUT if timeout is None else timeout)
        parts, opcode, compressed = [], None, False
        while True:
            got = self.next_frame(max(0, end - time.monotonic()))
            if got is None or got.opcode == CLOSE:
                frame_ = self.closed
                raise Closed(frame_.code if frame_ else 1006, frame_.reason if frame_ and frame_.code else "", self.wire.ended)
            if got.opcode == PING:
                self.pings += 1
                if self.auto_pong:
                    self.wire.send(frame(PONG, got.payload))
            elif got.opcode != PONG:
                if got.opcode != CONT:
                    opcode, compressed = got.opcode, bool(got.rsv)
                parts.append(got.payload)
                if got.fin:
                    data = b"".join(parts)
                    return opcode, self.inflater.message(data) if compressed else data

    def recv_text(self, timeout=None):
        opcode, data = self.recv(timeout)
        assert opcode == TEXT, f"binary message {data[:80]!r}"
        return data.decode()

    def recv_json(self, timeout=None):
        text = self.recv_text(timeout)
        try:
            return _json.loads(text)
        except ValueError:
            raise AssertionError(f"no JSON: {text[:400]!r}")

    def expect(self, timeout=None, **fields):
        """The next message must be a JSON object with these fields; returns it."""
        got = self.recv_json(timeout)
        self._match(got, fields)
        return got

    @staticmethod
    def _match(got, fields):
        wrong = [f"{name}: got {got.get(name)!r}, expected {value!r}" for name, value in fields.items()
                 if name not in got or got[name] != value]
        assert not wrong, f"message {got!r}\n" + "\n".join(wrong)

    def wait_for(self, timeout=None, **fields):
        """Skips messages until one has these fields; returns it."""
        end = time.monotonic() + (TIMEOUT if timeout is None else timeout)
        skipped = []
        while True:
            try:
                got = self.recv_json(max(0, end - time.monotonic()))
            except AssertionError as error:
                if skipped and not isinstance(error, Closed):
                    raise AssertionError(f"{error}\nwaiting for {fields!r}, skipped {skipped[-5:]!r}")
                raise
            if all(name in got and got[name] == value for name, value in fields.items()):
                return got
            skipped.append(got)

    def expect_nothing(self):
        """No message is on its way: the answer to a ping of the protocol comes first. Other frames are failures."""
        mark = os.urandom(6).hex().encode()
        self.send_ping(mark)
        end = time.monotonic() + TIMEOUT
        while True:
            got = self.next_frame(max(0, end - time.monotonic()))
            if got is not None and got.opcode == PING:
                self.wire.send(frame(PONG, got.payload))
                continue
            assert got is not None and got.opcode == PONG and got.payload == mark, f"expected nothing, got {got!r}"
            return

    def expect_closed(self, code=None, timeout=None, answer=True):
        """Data aside, the server must send Close with this code (or one of these) and then end the stream itself.
        Returns the Close frame. answer: we answer its Close, as a good client does."""
        end = time.monotonic() + (TIMEOUT if timeout is None else timeout)
        allowed = None if code is None else set(code) if isinstance(code, (set, list, tuple)) else {code}
        while self.closed is None:
            got = self.next_frame(max(0, end - time.monotonic()))
            assert got is not None, f"stream ended ({self.wire.ended}) without Close, expected {allowed}"
            if got.opcode == PING and self.auto_pong:
                self.wire.send(frame(PONG, got.payload))
        assert allowed is None or self.closed.code in allowed, f"got {self.closed!r}, expected {allowed}"
        if answer:
            self.wire.send(frame(CLOSE, self.closed.payload[:2]))
        while True:
            got = self.next_frame(max(0, end - time.monotonic()))
            if got is None:
                break
        self.wire.close()
        return self.closed

    def close(self, code=1000, reason=b""):
        """A clean close from our side: Close, the server's answer with the same code, its end of the stream."""
        self.send_close(code, reason)
        got = self.expect_closed(answer=False)
        assert got.code == code, f"sent close {code}, answered {got!r}"

    def drop(self):
        """Goes without a word (FIN only)."""
        self.wire.close()

    def abort(self):
        """Goes with RST."""
        self.wire.abort()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.wire.close()


def open_wire(server, *, tls=False, unix=False, rcvbuf=None):
    return Wire(address_of(server, tls, unix), tls=tls, rcvbuf=rcvbuf)


def check_101(response, key, protocols=(), extensions=None):
    """What every 101 must be (RFC 6455 4.1, 4.2.2)."""
    assert response.tokens("Upgrade") == ["websocket"], f"Upgrade in {response!r}"
    assert response.tokens("Connection") == ["upgrade"], f"Connection in {response!r}"
    accept = response.all("Sec-WebSocket-Accept")
    assert accept == [accept_of(key)], f"Accept {accept}, expected {accept_of(key)}"
    for name in ("Content-Length", "Transfer-Encoding"):
        assert not response.all(name), f"{name} in {response!r}"
    protocol = response.get("Sec-WebSocket-Protocol")
    assert protocol is None or protocol in protocols, f"protocol {protocol!r} was not offered ({protocols})"
    got = response.get("Sec-WebSocket-Extensions")
    assert got is None or extensions is not None, f"extension {got!r} was not offered"


def connect(server, path="/echo", *, tls=False, unix=False, timeout=None, key=None, first=b"", rcvbuf=None, **options):
    """Opens a WebSocket or raises HandshakeRefused (with .response). options: those of handshake_octets, e.g. origin=,
    protocols=, token= (as subprotocol), extensions=, headers=. first: octets sent in the handshake's own segment."""
    key = key or new_key()
    wire = open_wire(server, tls=tls, unix=unix, rcvbuf=rcvbuf)
    try:
        octets = handshake_octets(path, key=key, **options)
        wire.send(octets + first)
        response = read_response(wire, timeout=timeout)
        if response is None or response.status != 101:
            raise HandshakeRefused(response, wire.ended)
        offered = list(options.get("protocols", ()))
        if options.get("token") is not None:
            offered += ["rooms.v1"]
        check_101(response, key, offered, options.get("extensions"))
        return WebSocket(wire, response)
    except BaseException:
        wire.close()
        raise


def connect_to_worker(server, pid, path="/echo", *, tries=400, **options):
    """A WebSocket that the worker with this pid serves. The kernel picks the worker: tries again until it is right."""
    spare = []
    try:
        for _ in range(tries):
            ws = connect(server, path, **options)
            if ws.worker == pid:
                return ws
            spare.append(ws)    # kept meanwhile: an accept by the other worker is then likelier
            if len(spare) > 20:
                spare.pop(0).drop()
        raise AssertionError(f"worker {pid} took none of {tries} connections; workers: {server.workers()}")
    finally:
        for ws in spare:
            ws.drop()

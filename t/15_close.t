#!/usr/bin/python3
"""Closing, X01-X17: RFC 6455 sections 5.5.1, 7.1 and 7.4."""
import os
import sys
import signal
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import SCALE, http, jwt, tap, wait_until, ws             # noqa: E402
from rooms.conform import *                                  # noqa: E402,F403

server = serve("""
        location = /slow { rooms_echo; rooms_max_message 16m; rooms_send_queue 64m; }
""", http="rooms_drain 2s;")
X = frame(TEXT, b"x")
ECHO_X = [(TEXT, b"x")]
TOKEN = jwt.mint(sub="u1")


def closes(name, payload, *, answer=None, before=(), messages=(), behind=(), modes=MODES):
    """The client sends Close with this payload: the server answers with the same code (or empty) and ends the stream first."""
    def body():
        want = payload[:2] if answer is None else answer
        for mode in modes:
            out = run_script(list(before) + [frame(CLOSE, payload)] + list(behind), mode, answer_close=False)
            tap.is_(out.messages, list(messages), f"{mode}: messages in {out!r}")
            tap.is_([f for f in out.frames if f.opcode >= 8], [ws.Frame(CLOSE, out.close.payload if out.close else b"")], f"{mode}: one Close in {out!r}")
            tap.is_(out.close.payload[:2], want, f"{mode}: code of the answer")
            tap.in_(out.close.payload, {want, payload}, f"{mode}: body of the answer")
            tap.is_(out.ended, "fin", f"{mode}: the server ends the stream first")
            tap.ok(out.after_close < 2 * SCALE, f"{mode}: at once, not after {out.after_close:.1f} s")
        echo_works()
    tap.add(name, body)


closes("X01 a Close is answered, and the server closes TCP first", close_payload(1000), before=[X], messages=ECHO_X)
closes("X01 a Close as the very first frame", close_payload(1001, b"going"))
for code in (1000, 1001, 3000, 4999):
    closes(f"X02 the answer echoes {code}", close_payload(code))
closes("X02 an empty Close is answered with an empty one", b"")
closes("X03 no data of ours follows our Close", close_payload(1000), before=[X, X], behind=[X, X], messages=ECHO_X * 2)
closes("X04 data and pings behind the peer's Close are ignored", close_payload(1000),
       behind=[frame(TEXT, b"late"), frame(PING, b"late"), frame(BINARY, b"l" * 1000), frame(TEXT, b"f", fin=False)])
closes("X04 a second Close gets no second answer", close_payload(1000), behind=[frame(CLOSE, close_payload(1001)), frame(CLOSE)])
closes("X04 octets that are no frames behind the peer's Close do no harm", close_payload(1000), behind=[b"\xff" * 200, frame(TEXT, b"u", mask=None)])

fails("X05 a Close with a body of one octet is 1002", [X, frame(CLOSE, b"\x03")], messages=ECHO_X)
for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3001, 3999, 4000, 4999):
    closes(f"X06 code {code} is accepted", close_payload(code, b"why"), modes=MODES[:2])
for code in (0, 1, 2, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999, 5000, 5001, 65535):
    fails(f"X07 code {code} is 1002", [X, frame(CLOSE, close_payload(code, b"why"))], messages=ECHO_X)
    fails(f"X07 code {code} without a reason is 1002", [frame(CLOSE, close_payload(code))], modes=MODES[:2])

for size in (0, 1, 2, 122, 123):
    closes(f"X08 a reason of {size} octets is accepted", close_payload(1000, b"r" * size))
closes("X08 a reason of 123 octets that ends with a long code point is accepted", close_payload(1000, b"r" * 119 + "😀".encode()))


@tap.case("X08 our own reasons are UTF-8 and at most 123 octets")
def _():
    # read_frame() refuses a longer frame and a reason that is no UTF-8; here every way to make us give one.
    for bad in (frame(TEXT, b"\xff"), frame(3), frame(TEXT, b"a" * 70000), frame(CLOSE, b"\x00"), frame(TEXT, b"a", rsv=7), frame(CONT)):
        out = run_script([bad])
        tap.ok(out.close is not None and len(out.close.payload) <= 125, f"Close in {out!r}")
    with ws.connect(server, "/ws", token="x" * 200) as client:
        client.expect_closed(4002)


@tap.case("X09 1005, 1006 and 1015 never appear on the wire")
def _():
    for octets in ([frame(CLOSE)], [frame(CLOSE, close_payload(1005))], [frame(CLOSE, close_payload(1006))], [frame(CLOSE, close_payload(1015))],
                   [frame(TEXT, b"a", fin=False), frame(CLOSE)], [frame(CLOSE, b"\x03")]):
        for mode in MODES:
            out = run_script(octets, mode)
            tap.ok(out.close is not None and out.close.code not in (1005, 1006, 1015), f"{mode}: {out!r}")
    for cut in (0, 1, 5):
        client = ws.connect(server)
        client.send(frame(TEXT, b"abc")[:cut])
        client.wire.shutdown_write()
        left = client.wire.take_all()
        tap.in_(left[2:4], (b"", b"\x03\xea", b"\x03\xe8", b"\x03\xe9"), f"what came after a FIN: {left!r}")
        client.drop()


@tap.case("X10 a peer that never answers our Close is dropped after the close timeout")
def _():
    needs_nginx()
    client = ws.connect(server, "/ws", token="no.real.token")
    got = client.next_frame()
    tap.is_(got.code, 4002, "our Close")
    started = time.monotonic()
    while client.next_frame(12 * SCALE) is not None:
        pass
    port = client.wire.sock.getsockname()[1]
    waited = time.monotonic() - started
    tap.ok(waited < 7 * SCALE, f"stream ended after {waited:.1f} s, at most 5 are promised")
    wait_until(lambda: not held_sockets(server.port, port), "the server to let the socket go", 8 * SCALE)
    client.drop()


@tap.case("X10 one that goes on sending instead of answering is dropped as well")
def _():
    needs_nginx()
    client = ws.connect(server, "/ws", token="no.real.token")
    tap.is_(client.next_frame().code, 4002, "our Close")
    started = time.monotonic()
    last = started

    def ended():
        nonlocal last
        if time.monotonic() - last > 0.05:
            last = time.monotonic()
            client.send(frame(TEXT, b"still talking") + frame(PING))
        client.wire.poll()
        return client.wire.ended or client.wire.broken
    wait_until(ended, "the server to end the stream", 12 * SCALE)
    tap.ok(time.monotonic() - started < 7 * SCALE, "within the close timeout")
    tap.is_(bytes(client.wire.buffer), b"", "nothing came after the Close")
    client.drop()
    echo_works()


@tap.case("X11 a peer that answers but never closes TCP: we close at once and linger a bounded time")
def _():
    needs_nginx()
    for ours in (True, False):
        client = ws.connect(server, "/ws", token="no.real.token") if ours else ws.connect(server)
        port = client.wire.sock.getsockname()[1]
        if not ours:
            client.send_close()
        started = time.monotonic()
        got = client.next_frame()
        tap.is_(got.opcode, CLOSE, "Close")
        if ours:
            client.send(frame(CLOSE, got.payload[:2]))
        tap.is_(client.next_frame(), None, "the end of the stream")
        tap.ok(time.monotonic() - started < 1.5 * SCALE, f"after {time.monotonic() - started:.1f} s")
        wait_until(lambda: not held_sockets(server.port, port), "the server to let the socket go", 10 * SCALE)
        client.drop()
    echo_works()


@tap.case("X12 a peer that half-closes without Close is let go")
def _():
    needs_nginx()
    for octets in (b"", X, frame(TEXT, b"a", fin=False), frame(TEXT, b"abc")[:4]):
        client = ws.connect(server)
        port = client.wire.sock.getsockname()[1]
        client.send(octets)
        client.wire.shutdown_write()
        client.wire.take_all()
        wait_until(lambda: not held_sockets(server.port, port), "the server to let the socket go", 8 * SCALE)
        client.drop()
    echo_works()


BAD = frame(3)
fails("X13 input behind the offending frame is not processed", [X, BAD, frame(TEXT, b"not me"), frame(PING, b"nor me"), frame(CLOSE, close_payload(1000))],
      messages=ECHO_X)
fails("X13 a second offence behind the first changes nothing", [X, frame(TEXT, b"\xff"), frame(TEXT, b"a" * 3, mask=None), frame(TEXT, b"b" * 70000)], {1007},
      messages=ECHO_X)


@tap.case("X13 the Close arrives although the peer sends a megabyte more")
def _():
    for _ in range(3):
        out = run_script([X, BAD + frame(BINARY, b"y" * 60000) * 17])
        expect_failure(out, {1002}, ECHO_X, what="a megabyte behind the offence")
    echo_works()


closes("X14 a Close in the middle of a fragmented message is a clean close", close_payload(1000), before=[X, frame(TEXT, b"half", fin=False)], messages=ECHO_X)
closes("X14 a Close in the middle of a fragmented message with continuations", close_payload(4000, b"later"),
       before=[frame(BINARY, b"a", fin=False), frame(CONT, b"b", fin=False), frame(CONT, b"", fin=False)])


@tap.case("X15 a large echo is queued, then the peer closes: no frame is cut in two before our Close")
def _():
    needs_nginx()
    data = os.urandom(1 << 16) * 32
    for reason in (close_payload(1000), b""):
        client = ws.connect(server, "/slow", rcvbuf=8192)
        client.wire.sock.setblocking(True)
        client.wire.sock.settimeout(20)
        client.wire.sock.sendall(frame(BINARY, data) + frame(TEXT, b"tail") + frame(CLOSE, reason))
        client.wire.sock.setblocking(False)
        out = read_outcome(client, answer_close=False, timeout=20 * SCALE)
        # next_frame() fails on a frame that is cut short.
        tap.in_([(o, d == data or d) for o, d in out.messages], [[(BINARY, True), (TEXT, b"tail")], [(BINARY, True)], []], "what was sent of the queue")
        tap.ok(out.close is not None and out.close.payload == reason, f"then our Close: {out!r}")
        client.drop()
    echo_works()


@tap.case("X16 a reload tells every client 1012, and the old workers leave within the drain time")
def _():
    needs_nginx()
    echo = [ws.connect(server) for _ in range(4)]
    pages = [ws.connect(server, "/ws", token=TOKEN) for _ in range(4)]
    for page in pages:
        page.expect(type="connected")
    old = server.workers()
    started = time.monotonic()
    server.reload()
    for page in pages:
        told = page.wait_for(type="reconnect")
        tap.ok(0 <= told["afterMs"] <= 2000 * 2 / 3 + 1, f"afterMs in {told}")
        page.expect_closed(1012)
    for client in echo:
        client.expect_closed(1012)
    wait_until(lambda: not set(old) & set(server.processes()), "the old workers to leave", 6 * SCALE)
    tap.ok(time.monotonic() - started < (2 + 2) * SCALE, f"gone after {time.monotonic() - started:.1f} s, drain is 2 s")
    echo_works()


@tap.case("X16 at a reload a client that closes when told gets 1012 at once")
def _():
    needs_nginx()
    page = ws.connect(server, "/ws", token=TOKEN)
    page.expect(type="connected")
    server.reload()
    page.wait_for(type="reconnect")
    started = time.monotonic()
    page.send_close(1000)
    page.expect_closed({1000, 1012}, answer=False)
    tap.ok(time.monotonic() - started < 1 * SCALE, "at once")


@tap.case("X17 binary on a rooms location is 1003")
def _():
    needs_nginx()
    for octets in (frame(BINARY, b"x"), frame(BINARY, b""), frame(BINARY, b"x", fin=False) + frame(CONT, b"y")):
        client = ws.connect(server, "/ws", token=TOKEN)
        client.expect(type="connected")
        client.send(octets)
        client.expect_closed(1003)
    echo_works()


@tap.case("X17 a message beyond the limit is 1009, bad text 1007, a broken frame 1002 on a rooms location")
def _():
    needs_nginx()
    for octets, code in ((frame(TEXT, b"a" * 65537), 1009), (frame(TEXT, b"\xff"), 1007), (frame(3), 1002), (frame(TEXT, b"a", mask=None), 1002)):
        for mode in MODES:
            early = octets if mode == MODES[3] else b""
            client = ws.connect(server, "/ws", token=TOKEN, first=early)
            if not early:
                deliver(client, [octets], mode)
            client.expect_closed(code)
    echo_works()


@tap.case("X16 a graceful quit tells every client 1012 and the process ends")
def _():
    needs_nginx()
    echo, page = ws.connect(server), ws.connect(server, "/ws", token=TOKEN)
    page.expect(type="connected")
    server.send_signal(signal.SIGQUIT)
    page.wait_for(type="reconnect")
    page.expect_closed(1012)
    echo.expect_closed(1012)
    wait_until(lambda: not server.is_running(), "nginx to end", 6 * SCALE)


tap.run()

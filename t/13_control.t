#!/usr/bin/python3
"""Control frames, C01-C08: RFC 6455 section 5.5."""
import os
import sys
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import SCALE, jwt, tap, wait_until, ws                       # noqa: E402
from rooms.conform import *                                  # noqa: E402,F403

server = serve("""
        location = /beat       { rooms_echo; rooms_heartbeat 1s timeout=1s; }
        location = /beat/rooms { rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_heartbeat 1s timeout=1s; }
""")
X = frame(TEXT, b"x")
ECHO_X = [(TEXT, b"x")]

for opcode in (CLOSE, PING, PONG):
    name = ws.NAMES[opcode]
    body = b"\x03\xe8" if opcode == CLOSE else b""
    for size in (126, 127, 1000):
        fails(f"C01 S43 {name} of {size} octets is 1002", [X, frame(opcode, body + b"a" * (size - len(body)))], messages=ECHO_X)
    fails(f"C01 S43 {name} of 65536 octets is 1002", [X, frame(opcode, body + b"a" * (65536 - len(body)))], messages=ECHO_X)
    fails(f"C01 S43 {name} of 5 octets in the 16-bit form is 1002", [X, frame(opcode, b"\x03\xe8abc", form=16)], messages=ECHO_X)
    fails(f"C01 S43 {name} of 5 octets in the 64-bit form is 1002", [X, frame(opcode, b"\x03\xe8abc", form=64)], messages=ECHO_X)
    fails(f"C01 S43 {name} with a header of 2^63-1 octets is 1002", [X, ws.header_octets(opcode, (1 << 63) - 1)], messages=ECHO_X)
    fails(f"C02 S43 {name} without FIN is 1002", [X, frame(opcode, body, fin=False)], messages=ECHO_X)
    fails(f"C02 S43 {name} without FIN and its continuation are 1002",
          [X, frame(opcode, body, fin=False), frame(CONT, b"a")], messages=ECHO_X)
    fails(f"C02 S43 {name} without FIN inside a fragmented message is 1002",
          [X, frame(TEXT, b"a", fin=False), frame(opcode, body, fin=False), frame(CONT, b"b")], messages=ECHO_X)

PINGS = [bytes(range(256))[i % 131:][:size] for i, size in enumerate((0, 1, 2, 3, 4, 5, 7, 8, 63, 64, 100, 123, 124, 125))]
passes("C03 pings of 0 to 125 octets are answered with the same payload", [frame(PING, p) for p in PINGS], pongs=PINGS)
passes("C03 binary payloads of pings come back as they are", [frame(PING, b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"), frame(PING, b"\xff" * 125, mask=b"\xff\0\xff\0")],
       pongs=[b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", b"\xff" * 125])


@tap.case("C03 a ping that arrives an octet at a time is answered when it is whole, and at once")
def _():
    with ws.connect(server) as client:
        for size in (0, 1, 125):
            octets = frame(PING, b"q" * size)
            client.wire.send_octets(octets)
            started = time.monotonic()
            tap.is_(client.next_frame(), ws.Frame(PONG, b"q" * size), f"{size} octets")
            tap.ok(time.monotonic() - started < 0.5 * SCALE, "as soon as practical")
        client.close()


MANY = [b"%d" % i for i in range(300)]
passes("C04 many outstanding pings are all answered, in order", [frame(PING, p) for p in MANY], pongs=MANY)
passes("C04 pings between messages are answered in order with them", [frame(PING, b"1"), X, frame(PING, b"2"), X], ECHO_X * 2, pongs=[b"1", b"2"])
passes("C05 an unsolicited pong is no error and has no answer", [frame(PONG), frame(PONG, b"abc"), X, frame(PONG, b"z" * 125), X], ECHO_X * 2)


@tap.case("C06 a flood of pings that reads no pongs costs bounded memory")
def _():
    needs_nginx()
    before = rss(server.workers())
    client = ws.connect(server, rcvbuf=4096)
    sock, flood = client.wire.sock, frame(PING, b"f" * 125) * 500
    sent, stuck_since, peak = 0, None, 0
    while sent < 48 << 20:
        try:
            sent += sock.send(flood[sent % 131:])      # a torn frame goes on where it was torn
            stuck_since = None
        except BlockingIOError:
            stuck_since = stuck_since or time.monotonic()
            if time.monotonic() - stuck_since > 0.5:
                break                                   # the server stopped reading: back pressure
            time.sleep(0.01)
        except OSError:
            break                                       # or it closed: its policy for a peer that does not read
        if sent % (1 << 20) < 70000:
            peak = max(peak, rss(server.workers()) - before)
    peak = max(peak, rss(server.workers()) - before)
    client.abort()
    tap.ok(peak < 12288, f"workers grew by {peak} KiB after {sent} octets of pings")
    echo_works()


passes("C07 no pong after a Close was received", [X, frame(CLOSE, close_payload(1000)), frame(PING, b"late"), frame(PING)], ECHO_X)
passes("C07 no pong for a ping in the middle of a fragmented message after Close",
       [frame(TEXT, b"a", fin=False), frame(CLOSE, close_payload(1000)), frame(PING, b"late")])


@tap.case("C08 the server's ping is well formed, an answered one keeps the connection")
def _():
    needs_nginx()
    with ws.connect(server, "/beat") as client:
        for _ in range(2):
            got = client.next_frame(4 * SCALE)
            tap.ok(got is not None and got.opcode == PING, f"a ping: {got!r}")
            client.send_frame(PONG, got.payload)
        client.send_text("alive")
        while True:
            got = client.next_frame(4 * SCALE)
            if got.opcode != PING:
                break
            client.send_frame(PONG, got.payload)
        tap.is_(got, ws.Frame(TEXT, b"alive"), "echo")
        client.close()


@tap.case("C08 a missing pong closes the connection after the configured time")
def _():
    needs_nginx()
    token = jwt.mint(sub="u1")
    for path, options in (("/beat", {}), ("/beat/rooms", {"token": token})):
        client = ws.connect(server, path, **options)
        port = client.wire.sock.getsockname()[1]
        client.auto_pong = False
        started = time.monotonic()
        pinged = None
        while True:
            got = client.next_frame(8 * SCALE)
            if got is None or got.opcode == CLOSE:
                break
            if got.opcode == PING and pinged is None:
                pinged = time.monotonic()
        tap.ok(pinged is not None, f"{path}: a ping before the end")
        waited = time.monotonic() - started
        tap.ok(1.2 < waited < 5 * SCALE, f"{path}: ended {waited:.1f} s after the handshake (1 s + 1 s)")
        wait_until(lambda: not held_sockets(server.port, port), "the server to free the socket", 8 * SCALE)
        client.drop()
    echo_works()


tap.run()

#!/usr/bin/python3
"""Limits, L01-L08: RFC 6455 sections 7.4.1 and 10.4, and what the contract adds."""
import multiprocessing
import os
import random
import sys
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import ASAN, SCALE, http, jwt, tap, wait_until, ws       # noqa: E402
from rooms.conform import *                                  # noqa: E402,F403

ROOMS = "rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_allow session:*;"
server = serve(f"""
        location = /stuck  {{ rooms_echo; rooms_heartbeat 1s timeout=1s; rooms_max_message 16m; rooms_send_queue 64m; }}
        location = /queue  {{ rooms_echo; rooms_send_queue 256k; }}
        location = /narrow {{ {ROOMS} rooms_send_queue 64k; }}
""")
X = frame(TEXT, b"x")
ECHO_X = [(TEXT, b"x")]
TOKEN = jwt.mint(sub="u1")
DEFLATE = dict(extensions="permessage-deflate")
MEMORY = 16384 * (6 if ASAN else 1)
pack = ws.Deflater(level=9).message
RANDOM = random.Random(10)

# --- L01-L03: plain messages

for opcode in (TEXT, BINARY):
    fails(f"L01 S41 a {ws.NAMES[opcode]} frame of one octet over the limit is 1009 at its header", [X, ws.header_octets(opcode, 65537)], {1009}, messages=ECHO_X)
    fails(f"L01 S41 a {ws.NAMES[opcode]} frame over the limit is 1009, its payload is not read as frames",
          [X, frame(opcode, frame(TEXT, b"smuggled", mask=b"\0\0\0\0") * 6000)], {1009}, messages=ECHO_X)
passes("L01 S41 exactly the limit passes", [frame(BINARY, b"a" * 65536), frame(TEXT, b"b" * 65536)], [(BINARY, b"a" * 65536), (TEXT, b"b" * 65536)])
fails("L01 S41 a small limit: 1025 octets are 1009", [frame(TEXT, b"a" * 1024), ws.header_octets(TEXT, 1025)], {1009}, messages=[(TEXT, b"a" * 1024)], path="/small")
passes("L01 S41 a small limit: 1024 octets pass", [frame(TEXT, b"a" * 1024)], [(TEXT, b"a" * 1024)], path="/small")


@tap.case("L01 S41 a claimed 16 MiB allocates nothing before its octets come")
def _():
    needs_nginx()
    before = rss(server.workers())
    clients = [ws.connect(server, "/big") for _ in range(40)]
    for client in clients:
        client.send(ws.header_octets(BINARY, 16 << 20) + b"abc")
        client.send(b"d")
    echo_works()
    grown = rss(server.workers()) - before
    for client in clients:
        client.drop()
    tap.ok(grown < MEMORY, f"workers grew by {grown} KiB for 40 headers of 16 MiB")


fails("L02 S41 fragments over the limit together are 1009", [X, frame(BINARY, b"a" * 40000, fin=False), frame(CONT, b"b" * 25537)], {1009}, messages=ECHO_X)
fails("L02 S41 the fragment that exceeds is 1009 at its header",
      [X, frame(BINARY, b"a" * 40000, fin=False), frame(CONT, b"b" * 25536, fin=False), ws.header_octets(CONT, 1)], {1009}, messages=ECHO_X)
passes("L02 S41 fragments of exactly the limit pass", [frame(TEXT, b"a" * 40000, fin=False), frame(CONT, b"b" * 25536), X], [(TEXT, b"a" * 40000 + b"b" * 25536)] + ECHO_X)
passes("L02 S41 fragments of exactly a small limit pass", [frame(TEXT, b"a", fin=False)] + [frame(CONT, b"b" * 11, fin=False)] * 93 + [frame(CONT)],
       [(TEXT, b"a" + b"b" * 1023)], path="/small")
fails("L02 S41 one octet more than a small limit is 1009", [frame(TEXT, b"a", fin=False)] + [frame(CONT, b"b" * 11, fin=False)] * 93 + [frame(CONT, b"c")],
      {1009}, path="/small")
passes("L02 S41 control frames between do not count", [frame(TEXT, b"a" * 1000, fin=False)] + [frame(PING, b"p" * 125)] * 5 + [frame(CONT, b"b" * 24)],
       [(TEXT, b"a" * 1000 + b"b" * 24)], pongs=[b"p" * 125] * 5, path="/small")
fails("L03 S41 a first fragment over the limit is 1009 at its header", [X, ws.header_octets(TEXT, 65537, fin=False)], {1009}, messages=ECHO_X)
fails("L03 S41 a continuation over the limit is 1009 at its header", [X, frame(TEXT, b"", fin=False), ws.header_octets(CONT, 65537, fin=False)], {1009}, messages=ECHO_X)

# --- L04, L05: compressed messages

passes("L04 S54 exactly the limit of decompressed octets passes", [frame(BINARY, pack(b"a" * 65536), rsv=4)], [(BINARY, b"a" * 65536)], path="/deflate", **DEFLATE)
fails("L04 S54 one decompressed octet over the limit is 1009", [X, frame(BINARY, pack(b"a" * 65537), rsv=4)], {1009}, messages=ECHO_X, path="/deflate", **DEFLATE)
fails("L04 S54 fragments of a compressed message over the limit are 1009",
      lambda: [X, frame(TEXT, pack(b"a" * 90000)[:50], rsv=4, fin=False), frame(CONT, pack(b"a" * 90000)[50:])], {1009}, messages=ECHO_X, path="/deflate", **DEFLATE)
passes("L04 S54 a small limit counts decompressed octets: 1024 pass", [frame(TEXT, pack(b"ab" * 512), rsv=4)], [(TEXT, b"ab" * 512)], path="/deflate/small", **DEFLATE)
fails("L04 S54 a small limit counts decompressed octets: 1025 are 1009", [frame(TEXT, pack(b"ab" * 512 + b"c"), rsv=4)], {1009}, path="/deflate/small", **DEFLATE)
fails("L04 S54 compressed input has its own bound", [X, ws.header_octets(BINARY, 1 << 30, rsv=4)], {1009}, messages=ECHO_X, path="/deflate", **DEFLATE)
EMPTY = b"\x00\x00\x00\xff\xff" * 8000
fails("L04 S54 input that decompresses to nothing is bounded over fragments too",
      [X, frame(BINARY, EMPTY, rsv=4, fin=False)] + [frame(CONT, EMPTY, fin=False)] * 40, {1009, 1007, 1008}, messages=ECHO_X, path="/deflate", **DEFLATE)

BOMB = pack(b"\0" * (15 << 20))
fails("L05 S54 a bomb of 1000:1 below the message limit is 1009", [X, frame(BINARY, BOMB, rsv=4)], {1009}, messages=ECHO_X, path="/deflate/big", modes=MODES[:1], **DEFLATE)
fails("L05 S54 a bomb far over the message limit is 1009", [X, frame(BINARY, pack(b"\0" * (60 << 20)), rsv=4)], {1009}, messages=ECHO_X, path="/deflate/big",
      modes=MODES[:1], **DEFLATE)
fails("L05 S54 many empty blocks in one frame end in 1009", [X, frame(BINARY, EMPTY * 25, rsv=4)], {1009, 1007, 1008}, messages=ECHO_X, path="/deflate", **DEFLATE)


@tap.case("L05 S54 an honest compressed message of 2 MiB passes where the limit allows it")
def _():
    needs_nginx()
    text = " ".join(str(RANDOM.randrange(10 ** 9)) for _ in range(220000)).encode()[:2 << 20]
    with ws.connect(server, "/deflate/big", **DEFLATE) as client:
        client.send_text(text, compress=True)
        tap.is_(client.recv(20) == (TEXT, text), True, "the echo")
        client.close()


@tap.case("L05 S54 many bombs hold neither memory nor the event loop")
def _():
    needs_nginx()
    before = rss(server.workers())
    pid = server.workers()[0]
    victim = ws.connect_to_worker(server, pid)
    worst, peak = 0, 0
    for _ in range(25):
        bombs = [ws.connect_to_worker(server, pid, "/deflate/big", **DEFLATE) for _ in range(2)]
        for bomb in bombs:
            bomb.send(frame(BINARY, BOMB, rsv=4))
        started = time.monotonic()
        victim.send_ping(b"v")
        tap.is_(victim.next_frame(), ws.Frame(PONG, b"v"), "the neighbour's pong")
        worst = max(worst, time.monotonic() - started)
        peak = max(peak, rss(server.workers()) - before)
        for bomb in bombs:
            bomb.drop()
    victim.close()
    tap.ok(worst < 0.3 * SCALE, f"a neighbour waited {worst * 1000:.0f} ms")
    tap.ok(peak < 2 * MEMORY, f"workers grew by {peak} KiB")
    echo_works()


@tap.case("L05 S54 a stream of tiny bombs, each legal, is served and stays bounded")
def _():
    needs_nginx()
    before = rss(server.workers())
    tiny = frame(BINARY, pack(b"\0" * 65536), rsv=4)
    with ws.connect(server, "/deflate", **DEFLATE) as client:
        for _ in range(10):
            client.send(tiny * 20)
            for _ in range(20):
                tap.is_(client.recv() == (BINARY, b"\0" * 65536), True, "the echo")
        client.close()
    grown = rss(server.workers()) - before
    tap.ok(grown < MEMORY, f"workers grew by {grown} KiB")


# --- L06-L08: time

@tap.case("L06 a peer stuck inside a header, a payload or a message is closed after the heartbeat's time")
def _():
    needs_nginx()
    stuck = [ws.connect(server, "/stuck") for _ in range(4)]
    ports = [client.wire.sock.getsockname()[1] for client in stuck]
    for client, octets in zip(stuck, (b"\x81", frame(TEXT, b"hello")[:5], frame(BINARY, b"y" * 1000)[:500], frame(TEXT, b"a", fin=False))):
        client.auto_pong = False
        client.send(octets)
    started = time.monotonic()
    for client in stuck:
        read_outcome(client, timeout=8 * SCALE)
    tap.ok(time.monotonic() - started < 6 * SCALE, f"gone after {time.monotonic() - started:.1f} s")
    for port in ports:
        wait_until(lambda: not held_sockets(server.port, port), "the server to let the socket go", 8 * SCALE)
    for client in stuck:
        client.drop()
    echo_works()


@tap.case("L06 a peer that does not read what we send is closed, and what it was owed is freed")
def _():
    needs_nginx()
    before = rss(server.workers())
    client = ws.connect(server, "/stuck", rcvbuf=4096)
    port = client.wire.sock.getsockname()[1]
    octets = memoryview(frame(BINARY, os.urandom(1 << 20) * 12))
    while octets:
        try:
            octets = octets[client.wire.sock.send(octets):]
        except BlockingIOError:
            time.sleep(0.002)
        except OSError:
            break
    started = time.monotonic()
    wait_until(lambda: not held_sockets(server.port, port), "the server to let the socket go", 10 * SCALE)
    tap.ok(time.monotonic() - started < 7 * SCALE, f"gone after {time.monotonic() - started:.1f} s")
    client.abort()
    echo_works()
    wait_until(lambda: rss(server.workers()) - before < 2 * MEMORY, "the memory to come back")


@tap.case("L06 an echo that is not read is bounded by the send queue")
def _():
    needs_nginx()
    before, sent, stuck = rss(server.workers()), 0, None
    client = ws.connect(server, "/queue", rcvbuf=4096)
    octets = frame(BINARY, b"q" * 60000)
    at = 0
    while sent < 64 << 20:
        try:
            n = client.wire.sock.send(octets[at:])
            sent, at, stuck = sent + n, (at + n) % len(octets), None
        except BlockingIOError:
            stuck = stuck or time.monotonic()
            if time.monotonic() - stuck > 0.5:
                break
            time.sleep(0.01)
        except OSError:
            break
    grown = rss(server.workers()) - before
    client.abort()
    tap.ok(grown < MEMORY, f"workers grew by {grown} KiB after {sent} octets")
    echo_works()


@tap.case("L07 S52 a slow reader in a room is closed with 4101 when its queue is full; the others get everything")
def _():
    needs_nginx()
    slow, dead = (ws.connect(server, "/narrow", token=TOKEN, rcvbuf=4096) for _ in range(2))
    fast = ws.connect(server, "/narrow", token=TOKEN)
    for page in (slow, dead, fast):
        page.expect(type="connected")
        page.send_json(type="subscribe", room="session:slow")
        page.expect(type="subscribed", room="session:slow")
    dead_port = dead.wire.sock.getsockname()[1]
    already = http.status(server)["connections"]["closed"]["4101"]
    before = rss(server.workers())
    pad, last, started = "p" * 50000, 160, time.monotonic()        # 8 MB: more than the kernel keeps for a socket
    for n in range(1, last + 1):
        http.publish(server, {"room": "session:slow", "type": "x", "data": {"n": n, "pad": pad}})
        got = fast.expect(type="x", n=n, offset=n)
        tap.is_(len(got["pad"]), 50000, "the event's length")
    fast.expect_nothing()
    tap.ok(rss(server.workers()) - before < 40000 * (4 if ASAN else 1), "what was queued for the slow ones")
    # What the slow one then reads: whole frames, in order, and at the end 4101, with which it comes back by position.
    n = 0
    try:
        while True:
            got = slow.recv_json()["n"]
            tap.is_(got, n + 1, "order")
            n = got
    except ws.ProtocolError as error:       # read too late, after the close timeout of 5 s
        tap.ok(time.monotonic() - started > 4.5, f"{error}, after {time.monotonic() - started:.1f} s")
    except ws.Closed as closed:
        tap.in_(closed.code, {4101} if time.monotonic() - started < 4.5 else {4101, 1006}, f"how the slow reader ended ({closed})")
    tap.ok(0 < n < last, f"it missed the end: {n} of {last}")
    slow.drop()
    # One that never reads is let go after the close timeout.
    wait_until(lambda: not held_sockets(server.port, dead_port), "the server to let the dead socket go", 9 * SCALE)
    def closed():
        return {code: count for code, count in http.status(server)["connections"]["closed"].items() if count}
    try:
        wait_until(lambda: closed().get("4101", 0) == already + 2, "status to count 4101 twice")
    except AssertionError:
        tap.fail(f"4101 is not counted twice: {closed()}, the slow one read {n}, {time.monotonic() - started:.1f} s")
    dead.drop()
    fast.close()


@tap.case("L08 a sender of 16 MiB messages does not delay a neighbour's pings")
def _():
    needs_nginx()
    pid = server.workers()[0]
    neighbour = ws.connect_to_worker(server, pid)
    sender = ws.connect_to_worker(server, pid, "/big")
    octets = frame(BINARY, b"\x5a" * (16 << 20))
    here, there = multiprocessing.Pipe()

    def send():
        try:
            sizes = []
            for _ in range(3):
                sender.send(octets)
                sizes.append(len(sender.recv(60)[1]))
            there.send(sizes)
        except BaseException as error:
            there.send(repr(error))
    # A process of its own: in a thread, what it does with megabytes would delay our pings.
    process = multiprocessing.get_context("fork").Process(target=send, daemon=True)
    process.start()
    waits = []
    while not here.poll() and len(waits) < 2000:
        started = time.monotonic()
        neighbour.send_ping(b"n")
        tap.is_(neighbour.next_frame(20), ws.Frame(PONG, b"n"), "pong")
        waits.append(time.monotonic() - started)
        time.sleep(0.01)
    tap.is_(here.poll(60) and here.recv(), [16 << 20] * 3, "the sender's echoes")
    process.join(10)
    tap.ok(len(waits) > 3, "pings meanwhile")
    tap.ok(max(waits) < 0.4 * SCALE, f"the slowest of {len(waits)} pongs took {max(waits) * 1000:.0f} ms")
    neighbour.close()
    sender.close()


tap.run()

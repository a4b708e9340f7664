#!/usr/bin/python3
"""Framing and masking, F01-F11: RFC 6455 sections 5.1 to 5.3."""
import os
import sys
import random
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import http, tap, wait_until, ws                        # noqa: E402
from rooms.conform import *                                  # noqa: E402,F403

server = serve()
X = frame(TEXT, b"x")
ECHO_X = [(TEXT, b"x")]
RANDOM = random.Random(6455)

# --- F01, F02: masks

for what, octets in (("text", frame(TEXT, b"hello", mask=None)), ("binary", frame(BINARY, b"hello", mask=None)),
                     ("empty text", frame(TEXT, mask=None)), ("ping", frame(PING, b"hello", mask=None)),
                     ("pong", frame(PONG, mask=None)), ("close", frame(CLOSE, close_payload(1000), mask=None)),
                     ("empty close", frame(CLOSE, mask=None)), ("long binary", frame(BINARY, b"y" * 70000, mask=None))):
    fails(f"F01 an unmasked {what} frame is 1002, nothing of it is answered", [X, octets], messages=ECHO_X)
fails("F01 an unmasked continuation is 1002", [X, frame(TEXT, b"a", fin=False), frame(CONT, b"b", mask=None)], messages=ECHO_X)


@tap.case("F02 no frame of the server is masked")
def _():
    # next_frame() refuses masked frames; here the octets themselves, once for each kind.
    with ws.connect(server, "/big") as client:
        for opcode, payload in ((TEXT, b"t"), (BINARY, b"b" * 200), (TEXT, b""), (PING, b"p"), (BINARY, b"c" * 70000)):
            client.send_frame(opcode, payload)
            head = client.wire.take(2)
            tap.is_(head[1] & 0x80, 0, f"mask bit of the answer to {opcode}")
            extended = {126: 2, 127: 8}.get(head[1], 0)
            client.wire.take(extended)
            tap.is_(client.wire.take(len(payload)), payload, "payload in clear")
        client.send_close()
        tap.is_(client.wire.take(4), b"\x88\x02\x03\xe8", "the Close")


# --- F03, F04: reserved bits and opcodes

for rsv in range(1, 8):
    bits = "+".join(f"RSV{i + 1}" for i in range(3) if rsv & 4 >> i)
    fails(f"F03 S44 {bits} without an extension is 1002 on text", [X, frame(TEXT, b"a", rsv=rsv)], messages=ECHO_X)
    fails(f"F03 S44 {bits} without an extension is 1002 on binary", [X, frame(BINARY, b"a" * 130, rsv=rsv)], messages=ECHO_X)
    fails(f"F03 S44 {bits} without an extension is 1002 on a continuation",
          [X, frame(TEXT, b"a", fin=False), frame(CONT, b"a", rsv=rsv)], messages=ECHO_X)
    for opcode in (CLOSE, PING, PONG):
        fails(f"F03 S44 {bits} without an extension is 1002 on {ws.NAMES[opcode]}", [X, frame(opcode, b"", rsv=rsv)], messages=ECHO_X)

for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
    fails(f"F04 S44 opcode {opcode} is 1002, whatever its length",
          [X, frame(opcode, b"")], messages=ECHO_X)
    fails(f"F04 S44 opcode {opcode} with 5 octets is 1002", [X, frame(opcode, b"hello")], messages=ECHO_X)
    fails(f"F04 S44 opcode {opcode} with 300 octets is 1002", [X, frame(opcode, b"h" * 300)], messages=ECHO_X)
    fails(f"F04 S44 opcode {opcode} inside a fragmented message is 1002",
          [X, frame(TEXT, b"a", fin=False), frame(opcode, b"b"), frame(CONT, b"c")], messages=ECHO_X)
    fails(f"F04 S44 opcode {opcode} without FIN is 1002", [X, frame(opcode, b"b", fin=False)], messages=ECHO_X)

# --- F05, F06: lengths

for length in (0, 1, 5, 125):
    fails(f"F05 length {length} in the 16-bit form is 1002", [X, frame(BINARY, b"a" * length, form=16)], messages=ECHO_X)
for length in (0, 1, 125, 126, 65535):
    fails(f"F05 length {length} in the 64-bit form is 1002", [X, frame(TEXT, b"a" * length, form=64)], messages=ECHO_X)
fails("F05 a continuation with a length that is not minimal is 1002",
      [X, frame(TEXT, b"a", fin=False), frame(CONT, b"b", form=16)], messages=ECHO_X)

for opcode in (TEXT, BINARY):
    for length in (1 << 63, (1 << 63) | 5, (1 << 64) - 1):
        fails(f"F06 {ws.NAMES[opcode]} of length {length:#x}, top bit set, is 1002 at the header",
              [X, ws.header_octets(opcode, length)], messages=ECHO_X)


@tap.case("F06 a legal length of 2^62 is 1009 at the header, and nothing is allocated")
def _():
    needs_nginx()
    before = rss(server.workers())
    for path in ("/echo", "/big"):
        for length in (1 << 62, (1 << 63) - 1, 1 << 40, 1 << 32):
            for mode in MODES:
                out = run_script([X, ws.header_octets(BINARY, length)], mode, path)
                expect_failure(out, {1009}, ECHO_X, what=f"{mode}, {length:#x} at {path}")
    grown = rss(server.workers()) - before
    tap.ok(grown < 8192 * (4 if ws.os.environ.get("ROOMS_ASAN") else 1), f"workers grew by {grown} KiB")
    echo_works()


# --- F07-F10: what must come through

def pattern(size):
    return (bytes(range(256)) * (size // 256 + 1))[:size]


def echoes(name, sizes, path="/echo", opcode=BINARY):
    passes(name, lambda: [frame(opcode, pattern(size) if opcode == BINARY else b"t" * size, mask=RANDOM.randbytes(4)) for size in sizes],
           lambda: [(opcode, pattern(size) if opcode == BINARY else b"t" * size) for size in sizes], path=path)


echoes("F07 sizes 0 to 128 echo intact", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 32, 33, 124, 125, 126, 127, 128])
echoes("F07 text of 0 to 127 octets echoes intact", [0, 1, 125, 126, 127], opcode=TEXT)
echoes("F07 sizes around the buffers' echo intact", [n + d for n in (1024, 2048, 4096, 8192, 16384, 32768) for d in (-9, -1, 0, 1, 9)])
echoes("F07 65535, 65536 octets echo intact", [65535, 65536], path="/echo")
echoes("F07 65535, 65536, 65537 octets of text echo intact", [65535, 65536, 65537], path="/big", opcode=TEXT)
echoes("F07 65537, 131072 octets echo intact", [65537, 131071, 131072, 131073], path="/big")
echoes("F07 1 MiB echoes intact", [1 << 20, (1 << 20) + 1], path="/big")


@tap.case("F07 16 MiB echo intact")
def _():
    needs_nginx()
    data = RANDOM.randbytes(1 << 20) * 16
    with ws.connect(server, "/big") as client:
        client.send(frame(BINARY, data))
        opcode, got = client.recv(30)
        tap.ok(opcode == BINARY and got == data, f"the 16 MiB ({len(got)} octets came)")
        client.close()
    echo_works()


@tap.case("F07 sizes 0 to 300 at every mask phase, in every cut")
def _():
    with ws.connect(server) as client:
        for size in range(0, 301):
            payload = pattern(size)
            octets = frame(BINARY, payload, mask=b"\xa1\x52\x0f\xe7")
            cut = len(octets) - size + size * (size % 5) // 5
            client.send(octets[:cut])
            client.send(octets[cut:])
            tap.is_(client.recv(), (BINARY, payload), f"{size} octets cut at {cut}")
        client.close()


@tap.case("F08 mask keys 00000000, ffffffff and random unmask right over every split")
def _():
    payload = RANDOM.randbytes(23)
    with ws.connect(server) as client:
        for mask in (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\0\0\0", b"\0\0\0\x01", RANDOM.randbytes(4)):
            octets = frame(BINARY, payload, mask=mask)
            for cut in range(1, len(octets)):
                client.send(octets[:cut])
                client.send(octets[cut:])
                tap.is_(client.recv(), (BINARY, payload), f"mask {mask.hex()} cut at {cut}")
            for cut in range(6, len(octets) - 1, 2):
                for piece in pieces_of(octets, [2, cut, cut + 1]):
                    client.send(piece)
                tap.is_(client.recv(), (BINARY, payload), f"mask {mask.hex()} cut at 2, {cut}, {cut + 1}")
        client.close()


STREAM = [frame(RANDOM.choice((TEXT, BINARY)), bytes(RANDOM.choices(b"abc", k=RANDOM.choice((0, 1, 7, 125, 126, 300)))),
                mask=RANDOM.randbytes(4)) for _ in range(60)]
WANT = [(octets[0] & 15, ws.mask_octets(octets[6 + (2 if octets[1] & 127 == 126 else 0):],
                                        octets[2 + (2 if octets[1] & 127 == 126 else 0):][:4])) for octets in STREAM]
passes("F09 sixty frames give the same answers however they are cut", STREAM, WANT)


@tap.case("F09 random cuts of a stream give the same answers")
def _():
    octets = b"".join(STREAM)
    for _ in range(20):
        points = sorted(RANDOM.sample(range(1, len(octets)), 40))
        with ws.connect(server) as client:
            for piece in pieces_of(octets, points):
                client.send(piece)
            for want in WANT:
                tap.is_(client.recv(), want, f"cuts {points}")
            client.close()


@tap.case("F09 a frame that spans reads and a hundred frames in one segment")
def _():
    with ws.connect(server) as client:
        big = pattern(60000)
        client.send(frame(BINARY, big)[:30000])
        client.send(frame(BINARY, big)[30000:] + b"".join(frame(TEXT, b"%d" % i) for i in range(100)) + frame(BINARY, big)[:7])
        client.send(frame(BINARY, big)[7:])
        tap.is_(client.recv()[1] == big, True, "the first big frame")
        for i in range(100):
            tap.is_(client.recv(), (TEXT, b"%d" % i), f"small frame {i}")
        tap.is_(client.recv()[1] == big, True, "the second big frame")
        client.close()


@tap.case("F10 the server's frames have minimal lengths, legal opcodes and FIN")
def _():
    needs_nginx()
    with ws.connect(server, "/big") as client:
        for size in (0, 1, 125, 126, 127, 65535, 65536, 65537):
            client.send_binary(b"z" * size)
            want = ws.header_octets(BINARY, size, mask=None)
            tap.is_(client.wire.take(len(want)), want, f"header of the echo of {size} octets")
            client.wire.take(size)
        for size in (0, 1, 124, 125):
            client.send_ping(b"z" * size)
            tap.is_(client.wire.take(2), bytes([0x8A, size]), f"header of the pong of {size} octets")
            client.wire.take(size)
        client.close()


# --- F11: ends inside a frame

def counts(where):
    return http.status(where)["connections"]


@tap.case("F11 FIN or RST inside a header or payload drops the connection, counted as 1006")
def _():
    needs_nginx()
    short, long = frame(TEXT, b"hello"), frame(BINARY, b"y" * 300)
    wait_until(lambda: counts(server)["active"] == 0, "earlier connections to be gone")
    before = counts(server)
    opened = 0
    for octets in (short, long, ws.header_octets(BINARY, 60000) + b"z" * 1000, frame(TEXT, b"abc", fin=False), short + long[:3],
                   frame(PING, b"abc")):
        for cut in sorted({1, 2, 3, 4, 5, 6, 7, 8, 9, len(octets) - 1}):
            for how in ("fin", "rst", "half"):
                client = ws.connect(server)
                opened += 1
                client.send(octets[:cut])
                if how == "rst":
                    client.abort()
                elif how == "fin":
                    client.drop()
                else:
                    client.wire.shutdown_write()
                    client.wire.take_all()
                    client.drop()
    echo_works()
    wait_until(lambda: counts(server)["active"] == 0, "the dropped connections to be gone")
    after = counts(server)
    tap.is_(after["accepted"] - before["accepted"], opened + 1, "accepted")
    closed = {str(code): n for code, n in after["closed"].items()}
    tap.is_(closed.get("1006", 0) - before["closed"].get("1006", 0), opened, f"closed with 1006 in {closed}")


tap.run()

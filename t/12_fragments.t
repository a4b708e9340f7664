#!/usr/bin/python3
"""Fragmentation, G01-G06: RFC 6455 section 5.4."""
import os
import sys
import random
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import tap, ws                                          # noqa: E402
from rooms.conform import *                                  # noqa: E402,F403

server = serve()
X = frame(TEXT, b"x")
ECHO_X = [(TEXT, b"x")]
RANDOM = random.Random(54)


def fragments(opcode, *parts):
    """The frames of one message, a part each."""
    last = len(parts) - 1
    return [frame(CONT if i else opcode, part, fin=i == last, mask=RANDOM.randbytes(4)) for i, part in enumerate(parts)]


for opcode in (TEXT, BINARY):
    name = ws.NAMES[opcode]
    passes(f"G01 {name} of two and of five fragments", fragments(opcode, b"Hel", b"lo") + fragments(opcode, b"a", b"b", b"c", b"d", b"e"),
           [(opcode, b"Hello"), (opcode, b"abcde")])
    passes(f"G01 {name} with empty first, middle and last fragments",
           fragments(opcode, b"", b"Hello") + fragments(opcode, b"He", b"", b"llo") + fragments(opcode, b"Hello", b"") +
           fragments(opcode, b"", b"", b"") + fragments(opcode, b"", b"", b"Hello", b"", b""),
           [(opcode, b"Hello")] * 3 + [(opcode, b"")] + [(opcode, b"Hello")])
    passes(f"G01 {name} of one-octet fragments", fragments(opcode, *[bytes([65 + i % 26]) for i in range(100)]),
           [(opcode, bytes(65 + i % 26 for i in range(100)))])
    passes(f"G01 {name} of fragments of all length forms", fragments(opcode, b"a" * 125, b"b" * 126, b"c" * 40000, b"d" * 10, b"e" * 300),
           [(opcode, b"a" * 125 + b"b" * 126 + b"c" * 40000 + b"d" * 10 + b"e" * 300)])

PARTS = [[RANDOM.randbytes(RANDOM.choice((0, 1, 3, 4, 5, 125, 126, 700))) for _ in range(RANDOM.randrange(1, 9))] for _ in range(30)]
passes("G01 thirty binary messages of random fragments", [octets for parts in PARTS for octets in fragments(BINARY, *parts)],
       [(BINARY, b"".join(parts)) for parts in PARTS])

for fin in (True, False):
    fails(f"G02 a continuation with FIN {int(fin)} and no message open is 1002", [X, frame(CONT, b"a", fin=fin)], messages=ECHO_X)
    fails(f"G02 an empty continuation with FIN {int(fin)} and no message open is 1002", [X, frame(CONT, b"", fin=fin)], messages=ECHO_X)
fails("G02 a continuation as the very first frame is 1002", [frame(CONT, b"a")])
fails("G02 a continuation after a finished fragmented message is 1002", fragments(TEXT, b"a", b"b") + [frame(CONT, b"c")], messages=[(TEXT, b"ab")])

for opcode in (TEXT, BINARY):
    for fin in (True, False):
        fails(f"G03 new {ws.NAMES[opcode]} with FIN {int(fin)} inside a fragmented message is 1002",
              [X, frame(TEXT, b"a", fin=False), frame(opcode, b"b", fin=fin), frame(CONT, b"c")], messages=ECHO_X)
    fails(f"G03 new {ws.NAMES[opcode]} after some continuations is 1002",
          [X, frame(BINARY, b"a", fin=False), frame(CONT, b"b", fin=False), frame(opcode, b"")], messages=ECHO_X)


@tap.case("G04 a ping between fragments is answered before the message is complete")
def _():
    for opcode in (TEXT, BINARY):
        with ws.connect(server) as client:
            client.send(frame(opcode, b"one ", fin=False))
            client.send(frame(PING, b"first"))
            tap.is_(client.next_frame(), ws.Frame(PONG, b"first"), "after the first fragment")
            client.send(frame(CONT, b"two ", fin=False) + frame(PING, b"second"))
            tap.is_(client.next_frame(), ws.Frame(PONG, b"second"), "after the second fragment")
            client.send(frame(CONT, b"three"))
            tap.is_(client.recv(), (opcode, b"one two three"), "the message")
            client.close()


@tap.case("G04 a ping in the middle of fragments cut anywhere keeps the message whole")
def _():
    octets = frame(TEXT, b"abc", fin=False) + frame(PING, b"P") + frame(CONT, b"def")
    for cut in range(1, len(octets)):
        with ws.connect(server) as client:
            client.send(octets[:cut])
            client.send(octets[cut:])
            tap.is_(client.next_frame(), ws.Frame(PONG, b"P"), f"pong, cut at {cut}")
            tap.is_(client.recv(), (TEXT, b"abcdef"), f"message, cut at {cut}")
            client.close()


passes("G04 pings and pongs between all fragments",
       [frame(TEXT, b"a", fin=False), frame(PING, b"1"), frame(PONG, b"no"), frame(CONT, b"b", fin=False), frame(PING, b"2"), frame(PING, b"3"),
        frame(CONT, b"", fin=False), frame(PONG), frame(CONT, b"c")], [(TEXT, b"abc")], pongs=[b"1", b"2", b"3"])
passes("G05 the type of the message is that of its first frame", fragments(BINARY, b"\xff", b"\xfe") + fragments(TEXT, b"t", b"u") + fragments(BINARY, b"b", b"c"),
       [(BINARY, b"\xff\xfe"), (TEXT, b"tu"), (BINARY, b"bc")])

passes("G06 S42 128 fragments are a message", fragments(TEXT, *[b"f"] * 128), [(TEXT, b"f" * 128)])
fails("G06 S42 more than 128 fragments are refused", [X] + [frame(TEXT, b"f", fin=False)] + [frame(CONT, b"f", fin=False)] * 127 + [frame(CONT, b"f")],
      {1009, 1008}, messages=ECHO_X)
fails("G06 S42 endless empty fragments are refused", [X] + [frame(BINARY, b"", fin=False)] + [frame(CONT, b"", fin=False)] * 500, {1009, 1008}, messages=ECHO_X)
fails("G06 S42 fragments are bounded in octets together", [X] + fragments(BINARY, *[b"f" * 1000] * 70), {1009}, messages=ECHO_X)


@tap.case("G06 S42 65,536 fragments are a message where the limit is 16 MiB")
def _():
    needs_nginx()
    with ws.connect(server, "/big") as client:
        client.send(frame(BINARY, b"0", fin=False) + frame(CONT, b"1", fin=False) * 65534 + frame(CONT, b"2"))
        tap.is_(client.recv() == (BINARY, b"0" + b"1" * 65534 + b"2"), True, "the message")
        client.close()
    echo_works()


@tap.case("G06 S42 endless empty fragments are refused there too, and cost no memory")
def _():
    needs_nginx()
    before = rss(server.workers())
    with ws.connect(server, "/big") as client:
        client.send(frame(TEXT, b"", fin=False) + frame(CONT, b"", fin=False) * 70000)
        expect_failure(read_outcome(client), {1009, 1008}, what="70,000 empty fragments")
    grown = rss(server.workers()) - before
    tap.ok(grown < 16384, f"workers grew by {grown} KiB")
    echo_works()


tap.run()

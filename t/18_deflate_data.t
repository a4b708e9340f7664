#!/usr/bin/python3
"""Data of permessage-deflate, D01-D13: RFC 7692 sections 6 and 7.2."""
import os
import sys
import random
import zlib
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import http, jwt, tap, ws                               # noqa: E402
from rooms.conform import *                                  # noqa: E402,F403

ROOMS = "rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_allow session:*;"
server = serve(f"location = /packed {{ {ROOMS} rooms_compression on min=256 level=1; }}")
RANDOM = random.Random(76921)
DEFLATE = dict(path="/deflate", extensions="permessage-deflate")
CORRUPT = {1007, 1002}
X = frame(TEXT, b"x")
ECHO_X = [(TEXT, b"x")]
pack = ws.Deflater().message
HELLO = bytes.fromhex("f248cdc9c90700")
TEXT_300 = b"abcdefghij" * 30


def packed(payload, opcode=TEXT, **options):
    return frame(opcode, payload, rsv=4, **options)


# --- D01-D05

passes("D01 RSV1 on the first frame of a message only", [packed(HELLO[:3], fin=False), frame(CONT, HELLO[3:]), packed(HELLO)], [(TEXT, b"Hello")] * 2, **DEFLATE)
fails("D01 RSV1 on a continuation is 1002", [X, packed(HELLO[:3], fin=False), frame(CONT, HELLO[3:], rsv=4)], messages=ECHO_X, **DEFLATE)
fails("D01 RSV1 on a continuation of an uncompressed message is 1002", [X, frame(TEXT, b"a", fin=False), frame(CONT, HELLO, rsv=4)], messages=ECHO_X, **DEFLATE)
for opcode, body in ((PING, b""), (PING, HELLO), (PONG, HELLO), (CLOSE, close_payload(1000)), (CLOSE, b"")):
    fails(f"D01 RSV1 on {ws.NAMES[opcode]} with {len(body)} octets is 1002", [X, frame(opcode, body, rsv=4)], messages=ECHO_X, **DEFLATE)
for rsv in (1, 2, 3, 5, 6, 7):
    fails(f"D02 RSV bits {rsv:03b} are 1002 after negotiation too", [X, frame(TEXT, HELLO, rsv=rsv)], messages=ECHO_X, **DEFLATE)
    fails(f"D02 RSV bits {rsv & 3:02b} on a continuation are 1002", [X, packed(HELLO[:3], fin=False), frame(CONT, HELLO[3:], rsv=rsv & 3 or 1)], messages=ECHO_X, **DEFLATE)
passes("D03 uncompressed messages are accepted between compressed ones", [packed(HELLO), X, packed(HELLO, BINARY), frame(BINARY, b"\xf2\x48"), frame(TEXT), packed(HELLO)],
       [(TEXT, b"Hello"), (TEXT, b"x"), (BINARY, b"Hello"), (BINARY, b"\xf2\x48"), (TEXT, b""), (TEXT, b"Hello")], **DEFLATE)
passes("D03 uncompressed fragments between compressed ones",
       [frame(TEXT, b"a", fin=False), frame(CONT, b"b"), packed(HELLO[:2], fin=False), frame(CONT, HELLO[2:]), frame(BINARY, HELLO, fin=False), frame(CONT, b"")],
       [(TEXT, b"ab"), (TEXT, b"Hello"), (BINARY, HELLO)], **DEFLATE)


@tap.case("D04 a compressed message cut anywhere into fragments, with pings between")
def _():
    plain = "naïve € text 😀 ".encode() * 9
    octets = pack(plain)
    with ws.connect(server, "/deflate", extensions="permessage-deflate") as client:
        for cut in range(len(octets) + 1):
            client.send(packed(octets[:cut], fin=False) + frame(PING, b"%d" % cut) + frame(CONT, octets[cut:]))
            tap.is_(client.next_frame(), ws.Frame(PONG, b"%d" % cut), "pong")
            tap.is_(client.recv(), (TEXT, plain), f"cut at {cut}")
        client.send(packed(octets[:1], fin=False) + b"".join(frame(CONT, octets[i:i + 1], fin=False) + frame(PING) for i in range(1, len(octets))) + frame(CONT))
        tap.is_(client.recv(), (TEXT, plain), "one octet a fragment")
        client.close()


passes("D04 compressed fragments in every delivery", [packed(HELLO[:1], fin=False), frame(PING, b"p"), frame(CONT, b"", fin=False), frame(CONT, HELLO[1:4], fin=False), frame(CONT, HELLO[4:])],
       [(TEXT, b"Hello")], pongs=[b"p"], **DEFLATE)


@tap.case("D05 the server drops the trailing 00 00 ff ff")
def _():
    with ws.connect(server, "/deflate", extensions="permessage-deflate") as client:
        for plain in (TEXT_300, b"x" * 5000, RANDOM.randbytes(5000), bytes(range(256))):
            client.send_binary(plain)
            got = client.next_frame()
            if got.rsv:
                tap.ok(not got.payload.endswith(b"\0\0\xff\xff"), "no tail")
                tap.is_(ws.Inflater().message(got.payload), plain, "with the tail it inflates")
        client.close()


passes("D05 a message that keeps its tail inflates all the same", [packed(HELLO[:-1] + b"\0\0\0\xff\xff\0")], [(TEXT, b"Hello")], **DEFLATE)

# --- D06: the examples of RFC 7692 7.2.3

passes("D06 7.2.3.1 one block", [packed(HELLO), packed(HELLO[:3], fin=False), frame(CONT, HELLO[3:])], [(TEXT, b"Hello")] * 2, **DEFLATE)
fails("D06 7.2.3.2 a second message that leans on the first one's window is refused: client_no_context_takeover", [packed(HELLO), packed(bytes.fromhex("f200110000"))], CORRUPT,
      messages=[(TEXT, b"Hello")], **DEFLATE)
passes("D06 7.2.3.3 a stored block", [packed(bytes.fromhex("000500faff48656c6c6f00"))], [(TEXT, b"Hello")], **DEFLATE)
passes("D06 7.2.3.4 a block with BFINAL and 00 behind it", [packed(bytes.fromhex("f348cdc9c9070000"))], [(TEXT, b"Hello")], **DEFLATE)
passes("D06 7.2.3.5 two blocks", [packed(bytes.fromhex("f248050000 00ffffcac9c90700".replace(" ", "")))], [(TEXT, b"Hello")], **DEFLATE)
passes("D06 7.2.3.6 an empty message", [packed(b"\0"), packed(b"\0", BINARY), X], [(TEXT, b""), (BINARY, b"")] + ECHO_X, **DEFLATE)
passes("D06 messages of every level and strategy inflate",
       lambda: [packed((lambda z: z.compress(TEXT_300) + z.flush(zlib.Z_SYNC_FLUSH))(zlib.compressobj(level, zlib.DEFLATED, -15, 9, strategy))[:-4])
                for level in range(10) for strategy in (0, 1, 2, 3, 4)], [(TEXT, TEXT_300)] * 50, **DEFLATE)


@tap.case("D07 without context takeover each message decodes alone, equal ones to equal octets")
def _():
    with ws.connect(server, "/deflate", extensions="permessage-deflate") as client:
        seen = []
        for _ in range(4):
            client.send_text(TEXT_300, compress=True)
            got = client.next_frame()
            tap.is_((got.rsv, ws.Inflater().message(got.payload)), (4, TEXT_300), "decodes alone")
            seen.append(got.payload)
        tap.is_(len(set(seen)), 1, "equal octets")
        tap.ok(len(seen[0]) < 60, f"300 octets became {len(seen[0])}")
        client.close()


@tap.case("D07 short messages go uncompressed below min, long ones compressed")
def _():
    with ws.connect(server, "/deflate/min", extensions="permessage-deflate") as client:
        for size, rsv in ((1, 0), (100, 0), (255, 0), (256, 4), (257, 4), (5000, 4)):
            client.send_text("a" * size)
            got = client.next_frame()
            tap.is_(got.rsv, rsv, f"RSV of {size} octets")
            tap.is_(ws.Inflater().message(got.payload) if rsv else got.payload, b"a" * size, f"{size} octets")
        client.close()


passes("D08 after BFINAL inside a message the connection goes on", [packed(bytes.fromhex("f348cdc9c9070000")), packed(HELLO), packed(bytes.fromhex("f348cdc9c9070000")), X],
       [(TEXT, b"Hello")] * 3 + ECHO_X, **DEFLATE)
passes("D08 blocks behind a BFINAL block of the same message count", [packed(bytes.fromhex("f348cdc9c90700") + HELLO), X], [(TEXT, b"HelloHello")] + ECHO_X, **DEFLATE)

# --- D09, D10

raw = zlib.compressobj(9, zlib.DEFLATED, -15)
LONG_PLAIN = RANDOM.randbytes(300) + b"".join(b"%d," % i for i in range(2000))
LONG = raw.compress(LONG_PLAIN) + raw.flush(zlib.Z_SYNC_FLUSH)
for what, octets in (("a reserved block type", b"\x06"), ("a reserved block type with BFINAL", b"\x07\0"), ("a stored block with a wrong complement", bytes.fromhex("000500ffff48656c6c6f00")),
                     ("a distance beyond the window", bytes.fromhex("f200110000")), ("octets that are no deflate", b"\xff" * 40),
                     ("a dynamic block with a broken table", b"\x04\xff\xff\xff\xff\xff"), ("garbage behind BFINAL", bytes.fromhex("f348cdc9c90700") + b"\xff\xff\xff"),
                     ("a compressed message that is plain text", b"Hello, world, this was never compressed")):
    fails(f"D09 {what} is 1007 or 1002", [X, packed(octets, BINARY)], CORRUPT, messages=ECHO_X, **DEFLATE)
    fails(f"D09 {what}, in fragments, is 1007 or 1002", [X, packed(octets[:1], BINARY, fin=False), frame(CONT, octets[1:], fin=False), frame(CONT)], CORRUPT,
          messages=ECHO_X, modes=MODES[:2], **DEFLATE)
fails("D09 a stored block that ends too early is 1007 or 1002", [X, packed(bytes.fromhex("006400 9bff".replace(" ", "")) + b"only this", BINARY)], CORRUPT, messages=ECHO_X, **DEFLATE)
fails("D09 a truncated stream is 1007 or 1002", [X, packed(LONG[:len(LONG) // 2], BINARY)], CORRUPT, messages=ECHO_X, **DEFLATE)
fails("D09 a flipped octet in a stored length is 1007 or 1002", [X, packed(b"\0\x05\x01\xfa\xff" + b"Hello", BINARY)], CORRUPT, messages=ECHO_X, **DEFLATE)


@tap.case("D09 random damage is an echo of something or 1007, 1002, 1009, never anything else")
def _():
    for _ in range(150):
        octets = bytearray(LONG[:-4])
        for _ in range(RANDOM.choice((1, 1, 2, 8))):
            octets[RANDOM.randrange(len(octets))] ^= 1 << RANDOM.randrange(8)
        del octets[RANDOM.choice((len(octets), len(octets), RANDOM.randrange(1, len(octets)))):]
        with ws.connect(server, "/deflate", extensions="permessage-deflate") as client:
            client.send(packed(bytes(octets), BINARY) + frame(CLOSE, close_payload(1000)))
            out = read_outcome(client)
            tap.ok(out.close is not None, f"Close in {out!r}")
            tap.in_((len(out.messages), out.close.code), {(1, 1000), (0, 1007), (0, 1002), (0, 1009)}, f"{out!r}")
    echo_works()


passes("D10 a first frame without octets, then data in continuations", [packed(b"", fin=False), frame(CONT, HELLO), packed(b"", fin=False), frame(CONT, b"", fin=False),
       frame(CONT, HELLO[:2], fin=False), frame(CONT, b"", fin=False), frame(CONT, HELLO[2:], fin=False), frame(CONT, b"")], [(TEXT, b"Hello")] * 2, **DEFLATE)


@tap.case("D10 a compressed message without any octet is an empty message, or refused")
def _():
    for frames in ([packed(b"")], [packed(b"", fin=False), frame(CONT, b"")]):
        for mode in MODES:
            out = run_script(frames + [frame(CLOSE, close_payload(1000))], mode, **DEFLATE)
            tap.in_((out.messages == [(TEXT, b"")], out.close.code), {(True, 1000), (False, 1007), (False, 1002)}, f"{mode}: {out!r}")


# --- D11-D13

@tap.case("D11 pongs and Close are never compressed, nor read as compressed")
def _():
    with ws.connect(server, "/deflate", extensions="permessage-deflate") as client:
        client.send_ping(b"a" * 125)
        tap.is_(client.next_frame(), ws.Frame(PONG, b"a" * 125), "pong")
        client.send_ping(HELLO)
        tap.is_(client.next_frame(), ws.Frame(PONG, HELLO), "pong")
        client.send_close(1000, b"a" * 123)
        got = client.next_frame()
        tap.is_((got.opcode, got.rsv, got.code), (CLOSE, 0, 1000), "Close")


@tap.case("D12 one message to clients with different parameters: each decodes")
def _():
    needs_nginx()
    offers = [None, "permessage-deflate", "permessage-deflate; server_max_window_bits=9", "permessage-deflate; server_max_window_bits=12; client_max_window_bits=10",
              "permessage-deflate; server_no_context_takeover; client_no_context_takeover", "permessage-deflate; client_max_window_bits", "foo", None]
    pages = []
    for value in offers:
        page = ws.connect(server, "/packed", token=jwt.mint(sub="u1"), extensions=value)
        page.expect(type="connected")
        page.send_json(type="subscribe", room="session:1")
        page.expect(type="subscribed")
        tap.is_(page.deflate is not None, bool(value and "deflate" in value), f"negotiated for {value!r}")
        pages.append(page)
    for n in range(1, 6):
        pad = ("häh? " * 60 * n) if n != 3 else "short"
        answer = http.publish(server, {"room": "session:1", "type": "x", "data": {"n": n, "pad": pad}})
        tap.is_(answer["subscribers"], len(pages), "subscribers")
        for page, value in zip(pages, offers):
            head = page.wire.take(1)
            page.wire.buffer[:0] = head
            page.expect(type="x", n=n, pad=pad, offset=n)
            tap.is_(bool(head[0] & 0x40), page.deflate is not None and n != 3, f"compressed for {value!r}, event {n}")
    for page in pages:
        page.expect_nothing()
        page.close()


@tap.case("D12 compressed and plain commands are understood on a rooms location")
def _():
    needs_nginx()
    with ws.connect(server, "/packed", token=jwt.mint(sub="u1"), extensions="permessage-deflate") as page:
        page.expect(type="connected")
        for compress in (True, False, True):
            page.send_text('{"type":"ping","ref":7}', compress=compress)
            page.expect(type="pong", ref=7)
        page.close()


@tap.case("D13 S68 compression is off unless it is switched on, and the pages say why")
def _():
    needs_nginx()
    for path, options in (("/echo", {}), ("/ws", {"token": jwt.mint(sub="u1")})):
        with ws.connect(server, path, extensions="permessage-deflate", **options) as client:
            tap.is_(client.deflate, None, f"{path} without rooms_compression")
    page = open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../docs/protocol.md"), encoding="utf-8").read()
    tap.like(page.partition("## Compression")[2].partition("\n## ")[0], r"(?i)secret", "docs/protocol.md on compression")


tap.run()

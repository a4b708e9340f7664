#!/usr/bin/python3
"""UTF-8 of text messages and close reasons, U01-U09: RFC 6455 sections 5.6 and 8.1, RFC 3629."""
import os
import sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import tap, ws                                          # noqa: E402
from rooms.conform import *                                  # noqa: E402,F403

server = serve()
X = frame(TEXT, b"x")
ECHO_X = [(TEXT, b"x")]
GREEK = "κόσμε".encode()

INVALID = [
    ("a lone continuation", b"\x80"), ("a lone last continuation", b"\xbf"), ("continuations behind text", b"abc\x80\xbf"),
    ("overlong / in 2", b"\xc0\xaf"), ("overlong NUL in 2", b"\xc0\x80"), ("c1", b"\xc1\xbf"),
    ("overlong in 3", b"\xe0\x80\xaf"), ("overlong in 3, highest", b"\xe0\x9f\xbf"), ("overlong in 4", b"\xf0\x80\x80\xaf"),
    ("overlong in 4, highest", b"\xf0\x8f\xbf\xbf"), ("overlong in 5", b"\xf8\x80\x80\x80\xaf"), ("overlong in 6", b"\xfc\x80\x80\x80\x80\xaf"),
    ("U+D800", b"\xed\xa0\x80"), ("U+DBFF", b"\xed\xaf\xbf"), ("U+DC00", b"\xed\xb0\x80"), ("U+DFFF", b"\xed\xbf\xbf"),
    ("a surrogate pair", b"\xed\xa0\x80\xed\xb0\x80"), ("U+110000", b"\xf4\x90\x80\x80"), ("f4 bf", b"\xf4\xbf\xbf\xbf"),
    ("f5", b"\xf5\x80\x80\x80"), ("f8", b"\xf8\x88\x80\x80\x80"), ("fe", b"\xfe"), ("ff", b"\xff"),
    ("a start followed by ASCII", b"\xc3("), ("three octets cut by ASCII", b"\xe2\x82x"), ("four octets cut by ASCII", b"\xf0\x9f\x98x"),
    ("a start followed by a start", b"\xe2\xe2\x82\xac"), ("the word of Autobahn 6.3", GREEK + b"\xed\xa0\x80edited"),
]
VALID = [("U+0000", b"\0"), ("U+007F", b"\x7f"), ("U+0080", b"\xc2\x80"), ("U+07FF", b"\xdf\xbf"), ("U+0800", b"\xe0\xa0\x80"),
         ("U+D7FF", b"\xed\x9f\xbf"), ("U+E000", b"\xee\x80\x80"), ("U+FFFD", b"\xef\xbf\xbd"), ("U+FFFE", b"\xef\xbf\xbe"),
         ("U+FFFF", b"\xef\xbf\xbf"), ("U+FDD0", b"\xef\xb7\x90"), ("U+10000", b"\xf0\x90\x80\x80"), ("U+1FFFE", b"\xf0\x9f\xbf\xbe"),
         ("U+10FFFF", b"\xf4\x8f\xbf\xbf"), ("Greek", GREEK), ("a byte order mark", b"\xef\xbb\xbf"), ("NUL inside", b"a\0b\0")]

fails("U01 S45 a text message that is not UTF-8 is 1007", [X, frame(TEXT, GREEK + b"\xed\xa0\x80edited")], {1007}, messages=ECHO_X)
fails("U01 S45 a long text message with one bad octet at its end is 1007", [X, frame(TEXT, b"a" * 40000 + b"\xff")], {1007}, messages=ECHO_X)
for where in range(0, 34):
    fails(f"U01 S45 a bad octet at place {where} of 34 is 1007", [frame(TEXT, b"a" * where + b"\xff" + b"a" * (33 - where))], {1007}, modes=MODES[:2])
passes("U01 S45 text of every plane echoes", [frame(TEXT, "aé€😀".encode() * 700)], [(TEXT, "aé€😀".encode() * 700)])

for what, octets in (("2-octet", "é".encode()), ("3-octet", "€".encode()), ("4-octet", "😀".encode()), ("mixed", "aé€😀z".encode())):
    passes(f"U02 a {what} sequence split over fragments at every place",
           [part for cut in range(len(octets) + 1) for part in (frame(TEXT, octets[:cut], fin=False), frame(CONT, octets[cut:]))],
           [(TEXT, octets)] * (len(octets) + 1))
    passes(f"U02 a {what} sequence in one-octet fragments with pings between",
           [part for i in range(len(octets)) for part in (frame(CONT if i else TEXT, octets[i:i + 1], fin=i == len(octets) - 1), frame(PING, b"%d" % i))],
           [(TEXT, octets)], pongs=[b"%d" % i for i in range(len(octets))])


@tap.case("U02 sequences split over TCP reads, and over fragments and reads, at every place")
def _():
    text = "aé€😀".encode()
    with ws.connect(server) as client:
        for cut in range(1, len(text)):
            octets = frame(TEXT, text)
            client.send(octets[:6 + cut])
            client.send(octets[6 + cut:])
            tap.is_(client.recv(), (TEXT, text), f"read cut at {cut}")
            for read in range(1, cut + 1):
                first = frame(TEXT, text[:cut], fin=False)
                client.send(first[:6 + read])
                client.send(first[6 + read:] + frame(CONT, text[cut:])[:7])
                client.send(frame(CONT, text[cut:])[7:])
                tap.is_(client.recv(), (TEXT, text), f"fragment cut at {cut}, read cut at {read}")
        client.close()


for what, octets in (("2", b"\xc3"), ("3", b"\xe2"), ("3", b"\xe2\x82"), ("4", b"\xf0"), ("4", b"\xf0\x9f"), ("4", b"\xf0\x9f\x98")):
    fails(f"U03 a message that ends after {len(octets)} of {what} octets is 1007", [X, frame(TEXT, b"ok" + octets)], {1007}, messages=ECHO_X)
    fails(f"U03 a last fragment that ends after {len(octets)} of {what} octets is 1007",
          [X, frame(TEXT, b"ok", fin=False), frame(CONT, octets)], {1007}, messages=ECHO_X)
    fails(f"U03 an empty last fragment behind {len(octets)} of {what} octets is 1007",
          [X, frame(TEXT, b"ok" + octets, fin=False), frame(CONT, b"")], {1007}, messages=ECHO_X)
fails("U03 the rest of a sequence in the next message does not save it", [frame(TEXT, b"\xe2\x82"), frame(TEXT, b"\xac")], {1007})

for what, octets in INVALID:
    fails(f"U04 {what} is 1007", [X, frame(TEXT, octets)], {1007}, messages=ECHO_X)
    fails(f"U04 {what} in one-octet fragments is 1007",
          [X] + [frame(CONT if i else TEXT, octets[i:i + 1], fin=False) for i in range(len(octets))] + [frame(CONT)], {1007}, messages=ECHO_X,
          modes=MODES[:1])
for what, octets in VALID:
    passes(f"U04 {what} is valid", [frame(TEXT, octets), frame(TEXT, b"<" + octets + b">")], [(TEXT, octets), (TEXT, b"<" + octets + b">")])


def fails_fast(name, parts):
    """The octets stop inside the message: the failure must come without the rest."""
    def body():
        for mode in MODES:
            out = run_script(parts, mode)
            expect_failure(out, {1007}, what=mode)
        echo_works()
    tap.add(name, body)


LONG = ws.header_octets(TEXT, 200, mask=b"\0\0\0\0")
fails_fast("U05 S45 a bad octet in the middle of a frame fails before the frame ends", [LONG + GREEK + b"\xff"])
fails_fast("U05 S45 an impossible second octet fails before the sequence ends", [LONG + GREEK + b"\xf4\x90"])
fails_fast("U05 S45 a surrogate fails at its second octet", [LONG + b"\xed\xa0"])
fails_fast("U05 S45 an overlong form fails at its second octet", [LONG + b"\xe0\x80"])
fails_fast("U05 S45 a bad octet in a fragment that is not the last fails at once", [frame(TEXT, GREEK + b"\xed\xa0\x80edited", fin=False)])
fails_fast("U05 S45 a bad octet in a continuation fails at once", [frame(TEXT, GREEK, fin=False), frame(CONT, b"\x80", fin=False)])

passes("U06 binary messages are never validated", [frame(BINARY, octets) for _, octets in INVALID] + [frame(BINARY, b"\xff", fin=False), frame(CONT, b"\xc3")],
       [(BINARY, octets) for _, octets in INVALID] + [(BINARY, b"\xff\xc3")])

DEFLATE = dict(path="/deflate", extensions="permessage-deflate")
pack = ws.Deflater().message
passes("U07 the decompressed text is what is validated", [frame(TEXT, pack(GREEK * 50), rsv=4), frame(BINARY, pack(b"\xff\xfe" * 50), rsv=4)],
       [(TEXT, GREEK * 50), (BINARY, b"\xff\xfe" * 50)], **DEFLATE)
for what, octets in INVALID[::4]:
    fails(f"U07 {what}, compressed, is 1007", [frame(TEXT, b"x"), frame(TEXT, pack(b"abc" + octets + b"abc"), rsv=4)], {1007}, messages=ECHO_X, **DEFLATE)
fails("U07 compressed text that ends inside a sequence is 1007", [frame(TEXT, pack(b"abc\xe2\x82"), rsv=4)], {1007}, **DEFLATE)

for what, octets in INVALID[::3]:
    fails(f"U08 {what} in a close reason is 1007 or 1002", [X, frame(CLOSE, close_payload(1000, b"bye" + octets))], {1007, 1002}, messages=ECHO_X)
fails("U08 a close reason that ends inside a sequence is 1007 or 1002", [X, frame(CLOSE, close_payload(1000, b"\xe2\x82"))], {1007, 1002}, messages=ECHO_X)

passes("U09 a ping with octets that are no UTF-8 inside a text message",
       [frame(TEXT, GREEK[:1], fin=False), frame(PING, b"\xff\xfe\x80\xed\xa0\x80"), frame(CONT, GREEK[1:])], [(TEXT, GREEK)],
       pongs=[b"\xff\xfe\x80\xed\xa0\x80"])
passes("U09 a pong with such octets inside a text message", [frame(TEXT, GREEK[:3], fin=False), frame(PONG, b"\xff"), frame(CONT, GREEK[3:])], [(TEXT, GREEK)])

tap.run()

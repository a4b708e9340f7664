#!/usr/bin/python3
"""Negotiation of permessage-deflate, N01-N14: RFC 7692 sections 5 and 7."""
import os
import sys
import random
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import tap, ws                                          # noqa: E402
from rooms.conform import *                                  # noqa: E402,F403

server = serve()
RANDOM = random.Random(7692)
# A text that a long window compresses and a short one does not: the same 400 octets at many distances.
CHUNK = bytes(RANDOM.choices(b"abcdefghijklmnop", k=400))
FAR = b"".join(CHUNK + bytes(RANDOM.choices(b"ABCDEFGHIJKLMNOP", k=gap)) for gap in (0, 100, 400, 900, 2000, 5000, 12000, 20000)) + CHUNK


def offer(value, path="/deflate"):
    """A connection with this offer, or None where the server answers an HTTP error."""
    try:
        return ws.connect(server, path, extensions=value)
    except ws.HandshakeRefused as refused:
        tap.is_(refused.status, 400, f"refusal of {value!r}")
        return None


def legal(client, value):
    """The response's parameters are legal, asked for where they must be, and obeyed both ways."""
    parameters = client.deflate
    tap.ok(parameters is not None, f"{value!r} accepted")
    allowed = {"server_no_context_takeover", "client_no_context_takeover", "server_max_window_bits", "client_max_window_bits"}
    tap.is_(set(parameters) - allowed, set(), f"unknown parameters in the response to {value!r}")
    for name in ("server_no_context_takeover", "client_no_context_takeover"):
        tap.in_(parameters.get(name, "absent"), (None, "absent"), f"{name} has no value")
    for name in ("server_max_window_bits", "client_max_window_bits"):
        if name in parameters:
            tap.like(parameters[name] or "", r"^(8|9|1[0-5])$", f"value of {name}")
    for compress in (False, True, True):
        client.send_text(FAR, compress=compress)
        head = client.wire.take(1)
        client.wire.buffer[:0] = head
        tap.is_(head[0] & 0x40, 0x40, "RSV1 of the echo")
        tap.is_(client.recv() == (TEXT, FAR), True, f"the echo with {value!r}")


def accepted(name, offers, check=None):
    def body():
        for value in offers:
            with offer(value) as client:
                legal(client, value)
                if check:
                    check(client.deflate, value)
                client.close()
        echo_works()
    tap.add(name, body)


def declined(name, offers, may_refuse=False):
    """101 without an extension, no RSV1 either way; or 400 where the offer is no ABNF."""
    def body():
        for value in offers:
            client = offer(value)
            if client is None:
                tap.ok(may_refuse, f"{value!r} refused with 400, it is well formed")
                continue
            with client:
                tap.is_(client.response.all("Sec-WebSocket-Extensions"), [], f"extensions for {value!r}")
                client.send_text(FAR)
                tap.is_(client.recv() == (TEXT, FAR), True, "the echo")      # next_frame() refuses RSV1
                client.send(frame(TEXT, ws.Deflater().message(b"x"), rsv=4))
                client.expect_closed(1002)
        echo_works()
    tap.add(name, body)


P = "permessage-deflate"


@tap.case("N01 without an offer there is no extension header and no RSV1")
def _():
    for path in ("/deflate", "/echo"):
        with ws.connect(server, path) as client:
            tap.is_(client.response.all("Sec-WebSocket-Extensions"), [], path)
            client.send_text(FAR)
            tap.is_(client.recv() == (TEXT, FAR), True, "the echo")
            client.close()


@tap.case("N01 where compression is off an offer is declined")
def _():
    with ws.connect(server, "/echo", extensions=P) as client:
        tap.is_(client.response.all("Sec-WebSocket-Extensions"), [], "extensions")
        client.send_text(FAR)
        tap.is_(client.recv() == (TEXT, FAR), True, "the echo")
        client.close()


accepted("N02 a plain offer is accepted with legal parameters", [P, P + ";client_max_window_bits", " " + P + " ; client_max_window_bits "])


@tap.case("N02 S68 both directions go without context takeover, and the response says so")
def _():
    needs_nginx()
    for value in (P, P + "; client_max_window_bits", P + "; server_no_context_takeover", P + "; server_max_window_bits=12"):
        with ws.connect(server, "/deflate", extensions=value) as client:
            for name in ("server_no_context_takeover", "client_no_context_takeover"):
                tap.in_(name, client.deflate, f"response to {value!r}")


declined("N03 an offer with an unknown parameter is declined", [P + "; foo", P + "; foo=1", P + "; server_no_context_takeover; x-level=9", P + "; Server_max_window_bit=10"])
for name in ("server_max_window_bits", "client_max_window_bits"):
    declined(f"N04 an invalid {name} is declined", [f"{P}; {name}={bits}" for bits in
             ("7", "16", "0", "1", "08", "09", "010", "+9", "-9", "9x", "x", "1e1", "99", "256", "4294967305", "18446744073709551626")])
    declined(f"N04 an invalid quoted {name} is declined or refused", [f'{P}; {name}="{bits}"' for bits in ("16", "08", " 9", "9 ", "1 0", "", "9,")], may_refuse=True)
    declined(f"N04 an empty {name} is declined or refused", [f"{P}; {name}="], may_refuse=True)
for name in ("server_no_context_takeover", "client_no_context_takeover"):
    declined(f"N04 a value on {name} is declined", [f"{P}; {name}=1", f"{P}; {name}=true", f'{P}; {name}="x"'])
declined("N05 a parameter twice is declined",
         [f"{P}; {a}; {a}" for a in ("server_no_context_takeover", "client_no_context_takeover", "client_max_window_bits", "server_max_window_bits=10")] +
         [f"{P}; client_max_window_bits=10; client_max_window_bits", f"{P}; server_max_window_bits=10; server_max_window_bits=11"])

accepted("N06 the first acceptable offer wins, bad ones are skipped",
         [f"foo, {P}", f"{P}; foo, {P}", f"{P}; server_max_window_bits=7, {P}; client_max_window_bits=7, {P}", f"{P}; a, {P}; b, {P}", f"x-webkit-deflate-frame, {P}"])
accepted("N06 the second offer's parameters do not leak into the first", [f"{P}, {P}; server_max_window_bits=10", f"{P}; client_max_window_bits, {P}; server_max_window_bits=9"],
         lambda got, value: tap.ok("server_max_window_bits" not in got or got["server_max_window_bits"] == "15", f"{got} for {value!r}"))
accepted("N06 the parameters are those of the offer that won", [f"{P}; foo, {P}; server_max_window_bits=10", f"{P}; server_max_window_bits=10, {P}"],
         lambda got, value: tap.ok(int(got.get("server_max_window_bits") or 99) <= 10, f"{got} for {value!r}"))
accepted("N07 server_no_context_takeover is in the response when offered, and obeyed", [P + "; server_no_context_takeover", P + '; client_max_window_bits; server_no_context_takeover'],
         lambda got, value: tap.in_("server_no_context_takeover", got, f"response to {value!r}"))


@tap.case("N07 S68 equal messages are equal octets, for no window is kept")
def _():
    with ws.connect(server, "/deflate", extensions=P + "; server_no_context_takeover") as client:
        seen = []
        for _ in range(3):
            client.send_text(CHUNK * 3)
            seen.append(client.next_frame().payload)
        tap.is_(seen[1:], seen[:2], "compressed octets of three equal messages")
        client.close()


accepted("N08 client_no_context_takeover, offered or not, leaves the inflater right", [P + "; client_no_context_takeover", P,
                                                                                     P + "; client_no_context_takeover; server_no_context_takeover"])
for bits in range(9, 16):
    accepted(f"N09 server_max_window_bits={bits} is in the response, at most that, and obeyed", [f"{P}; server_max_window_bits={bits}", f'{P}; server_max_window_bits="{bits}"'],
             lambda got, value, bits=bits: tap.ok(8 <= int(got.get("server_max_window_bits") or 99) <= bits, f"{got} for {value!r}"))


@tap.case("N09 a short window really is used: the message inflates with 2^n, and is longer than with 2^15")
def _():
    sizes = {}
    for bits in (9, 12, 15):
        with ws.connect(server, "/deflate", extensions=f"{P}; server_max_window_bits={bits}") as client:
            client.send_text(FAR)
            packed = client.next_frame().payload
            tap.is_(ws.Inflater(bits).message(packed) == FAR, True, f"inflates with a window of 2^{bits}")
            sizes[bits] = len(packed)
            client.close()
    tap.ok(sizes[9] > sizes[12] >= sizes[15], f"lengths {sizes}")


@tap.case("N10 server_max_window_bits=8 is declined, or really obeyed")
def _():
    client = offer(P + "; server_max_window_bits=8")
    if client.deflate is None:
        client.send_text(FAR)
        tap.is_(client.recv() == (TEXT, FAR), True, "the echo")
    else:
        tap.is_(client.deflate.get("server_max_window_bits"), "8", "response")
        client.inflater = ws.Inflater(8)
        legal(client, "8")
    client.close()


accepted("N10 behind server_max_window_bits=8 the next offer is taken", [f"{P}; server_max_window_bits=8, {P}", f"{P}; server_max_window_bits=8, {P}; server_max_window_bits=9"])
declined("N11 server_max_window_bits without a value is declined", [P + "; server_max_window_bits", P + "; server_max_window_bits; client_max_window_bits"])


def client_bits(got, value):
    offered = {"client_max_window_bits": None}
    for item in value.split(","):
        for name, text in ws.parse_extensions(item)[0][1].items():
            offered[name] = text
    if "client_max_window_bits" not in value:
        tap.ok("client_max_window_bits" not in got, f"not offered in {value!r}, got {got}")
    elif "client_max_window_bits" in got:
        tap.ok(int(got["client_max_window_bits"]) <= int((offered["client_max_window_bits"] or "15").strip('"')), f"{got} for {value!r}")


accepted("N12 client_max_window_bits is in the response only when offered, at most as offered, with a value",
         [P, P + "; server_max_window_bits=10", P + "; client_max_window_bits"] + [f"{P}; client_max_window_bits={n}" for n in range(9, 16)], client_bits)
accepted("N13 client_max_window_bits is accepted without and with a value, 8 to 15",
         [P + "; client_max_window_bits"] + [f"{P}; client_max_window_bits={n}" for n in range(8, 16)] + [P + '; client_max_window_bits="11"'], client_bits)


@tap.case("N13 messages of clients with every window inflate")
def _():
    for bits in range(9, 16):
        with ws.connect(server, "/deflate", extensions=f"{P}; client_max_window_bits={bits}") as client:
            client.send(frame(TEXT, ws.Deflater(bits).message(FAR), rsv=4))
            tap.is_(client.recv() == (TEXT, FAR), True, f"a message of a window of 2^{bits}")
            client.close()


accepted("N14 at most one extension is accepted, unknown ones that compress are ignored",
         [f"{P}, {P}", f"permessage-bzip2, {P}", f"{P}, permessage-bzip2", f"permessage-foo; x=1, {P}; client_max_window_bits, {P}"])
declined("N14 only unknown compressions: none is accepted", ["permessage-bzip2", "permessage-foo, x-webkit-deflate-frame", "permessage-deflat", "permessage-deflate2", "deflate-frame"])


@tap.case("N14 the name of the extension is compared without regard to case, or not known")
def _():
    client = offer("Permessage-Deflate")
    client.send_text(FAR)
    tap.is_(client.recv() == (TEXT, FAR), True, "the echo")
    client.close()


tap.run()

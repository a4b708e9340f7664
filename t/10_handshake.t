#!/usr/bin/python3
"""The opening handshake, H01-H31: RFC 6455 section 4, and what HTTP itself asks."""
import base64
import os
import sys
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import SCALE, http, jwt, tap, wait_until, ws      # noqa: E402
from rooms.conform import *                                  # noqa: E402,F403
from rooms.nginx import Nginx                                # noqa: E402

ROOMS = "rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_allow session:*;"
server = serve(f"""
        location = /origin      {{ {ROOMS} rooms_origin https://a.example http://b.example:8080; }}
        location = /origin/re   {{ {ROOMS} rooms_origin "~^https://[a-z]{{2,8}}\\.c\\.example$"; }}
        location = /origin/null {{ {ROOMS} rooms_origin null; }}
        location = /origin/same {{ {ROOMS} }}
        location = /auth        {{ rooms_echo; auth_basic x; auth_basic_user_file @DIR@/htpasswd; }}
        location = /deny        {{ rooms_echo; deny all; }}
        location = /moved       {{ return 302 /echo; }}
        location = /one         {{ rooms_echo; limit_conn one 1; limit_conn_status 429; }}
        location = /rate        {{ rooms_echo; limit_req zone=rate; }}
        location = /tls-only    {{ if ($scheme = http) {{ return 403; }} {ROOMS} }}
""", tls=True, http="limit_conn_zone $binary_remote_addr zone=one:1m;\nlimit_req_zone $binary_remote_addr zone=rate:1m rate=1r/m;",
    files={"htpasswd": "u:{PLAIN}p\n"})
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
TOKEN = jwt.mint(sub="u1")


def hs(path="/echo", **options):
    return ws.handshake_octets(path, **dict({"key": KEY}, **options))


def refuses(name, octets, statuses=(400,), check=None):
    """In all four modes: an HTTP error of the set, never 101, and no frame is answered."""
    def body():
        for request in octets if isinstance(octets, list) else [octets]:
            for mode in MODES:
                response, wire = deliver_request(request, mode)
                try:
                    tap.ok(response is not None, f"{mode}: a response to {request!r}")
                    tap.in_(response.status, set(statuses), f"{mode}: status for {request!r}")
                    tap.is_(response.all("Sec-WebSocket-Accept"), [], f"{mode}: Accept header")
                    if check:
                        check(response)
                finally:
                    wire.close()
        echo_works()
    tap.add(name, body)


def accepts(name, requests, path="/echo", check=None, hello=True):
    """In all four modes: 101 with the right Accept, and a text is echoed."""
    def body():
        for request in requests:
            for mode in MODES:
                response, wire = deliver_request(request, mode)
                try:
                    tap.ok(response is not None, f"{mode}: a response to {request!r}")
                    tap.is_(response.status, 101, f"{mode}: status for {request!r}")
                    tap.is_(response.all("Sec-WebSocket-Accept"), ["s3pPLMBiTxaQ9kYGzzhZRbK+xOo="], f"{mode}: Accept")
                    client = ws.WebSocket(wire, response)
                    if hello:
                        if mode == MODES[3]:
                            tap.is_(client.recv(), (TEXT, b"early"), "the frame in the handshake's segment")
                        client.send_text("hello")
                        tap.is_(client.recv(), (TEXT, b"hello"), "echo")
                    if check:
                        check(response)
                finally:
                    wire.close()
    tap.add(name, body)


# --- H01-H03: the request line and Host

for method in ("POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"):
    refuses(f"H01 S1 {method} with a valid handshake is 405", hs(method=method), {405})
refuses("H01 a method in lower case is refused", hs(method="get"), {400, 405})
refuses("H02 S1 HTTP/1.0 is refused even with Upgrade", hs(http="HTTP/1.0"), {400, 426, 505})


@tap.case("H02 HTTP/0.9 gets no upgrade")
def _():
    for mode in MODES[:2]:
        wire = ws.open_wire(server)
        octets = b"GET /echo\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
        wire.send_octets(octets) if mode == "octet-wise" else wire.send(octets)
        wire.shutdown_write()
        answer = wire.take_all()
        tap.unlike(answer.decode("latin-1"), r" 101 |Sec-WebSocket-Accept", "answer")
        wire.close()
    echo_works()


refuses("H03 a missing Host is 400", hs(host=None))
refuses("H03 Host twice is 400", hs(headers=[("Host", "localhost")]))

# --- H04-H07: Upgrade and Connection

accepts("H04 websocket in Upgrade is found in any case",
        [hs(upgrade=value) for value in ("websocket", "WebSocket", "WEBSOCKET", "wEbSoCkEt")])
accepts("H05 a list in Upgrade that has websocket counts",
        [hs(upgrade=value) for value in ("h2c, websocket", "websocket, h2c", "h2c,websocket", "h2c , WebSocket , foo/1")])
accepts("H05 a list over two Upgrade lines counts", [hs(upgrade="h2c", headers=[("Upgrade", "websocket")])])
for value in ("websockets", "xwebsocket", "websocket2", "", "web socket", "h2c", "h2c, websockets", '"websocket"', None):
    refuses(f"H05 S1 Upgrade {value!r} is refused", hs(upgrade=value), {400, 426})
accepts("H06 the token Upgrade is found in Connection, in any case, in lists, with odd whitespace",
        [hs(connection=value) for value in ("Upgrade", "upgrade", "UPGRADE", "keep-alive, Upgrade", "Upgrade,keep-alive",
                                            "  keep-alive ,\t upgrade\t", ", ,Upgrade,", "foo,  upGrade  ,bar")])
accepts("H06 the token Upgrade is found over several Connection lines",
        [hs(connection="keep-alive", headers=[("Connection", "Upgrade")]),
         hs(connection="Upgrade", headers=[("Connection", "keep-alive")]),
         hs(connection="foo", headers=[("connection", "bar"), ("CONNECTION", "baz, upgrade")])])
for value in (None, "", "upgraded", "no-upgrade", "keep-alive", "up grade", "upgrade-insecure", "xupgrade, keep-alive", "close"):
    refuses(f"H07 S1 Connection {value!r} is refused", hs(connection=value), {400, 426})

# --- H08-H11: the key

refuses("H08 S1 a missing key is 400", hs(key=None))
refuses("H08 an empty key is 400", [hs(key=""), hs(key="  ")])
for what, value in (("15 octets", base64.b64encode(b"x" * 15).decode()), ("17 octets", base64.b64encode(b"x" * 17).decode()),
                    ("18 octets", base64.b64encode(b"x" * 18).decode()), ("no octets", "===="),
                    ("a bad alphabet", "dGhlIHNhbXBsZSBub25jZ!=="), ("the URL alphabet", "-_hlIHNhbXBsZSBub25jZQ=="),
                    ("no padding", "dGhlIHNhbXBsZSBub25jZQ"), ("half the padding", "dGhlIHNhbXBsZSBub25jZQ="),
                    ("too much padding", "dGhlIHNhbXBsZSBub25jZQ==="), ("a space inside", "dGhlIHNhbXBs ZSBub25jZQ=="),
                    ("padding inside", "dGhlIHNhbXBs==Bub25jZQ=="), ("more behind", "dGhlIHNhbXBsZSBub25jZQ==, x")):
    refuses(f"H09 S1 a key of {what} is 400", hs(key=value))
refuses("H09 S2 a key of 4096 octets is 400", hs(key="A" * 5460 + "A==="))
refuses("H10 S2 the key twice is 400", [hs(headers=[("Sec-WebSocket-Key", KEY)]),
                                        hs(headers=[("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA==")])])
refuses("S2 subprotocols of more than 16 KiB in all are 400", hs(headers=[("Sec-WebSocket-Protocol", "x" * 7000)] * 3))
refuses("S2 extensions of more than 4 KiB are 400", hs(headers=[("Sec-WebSocket-Extensions", "x" * 5000)]))
accepts("H11 the accept value is that of RFC 6455 1.3, whitespace around the key ignored",
        [hs(), hs(key="  " + KEY), hs(key=KEY + " \t "), hs(key="\t" + KEY)])


@tap.case("H11 the accept value is right for random keys")
def _():
    for _ in range(50):
        ws.connect(server).drop()       # connect() compares


# --- H12-H14: the version

def wants_13(response):
    tap.is_(response.all("Sec-WebSocket-Version"), ["13"], "Sec-WebSocket-Version of the refusal")


def wants_upgrade(response):
    wants_13(response)
    tap.in_("websocket", response.tokens("Upgrade"), "Upgrade of the 426")


refuses("H12 a missing version is refused", hs(version=None), {400, 426})
for value in ("0", "7", "8", "12", "14", "130", "256"):
    refuses(f"H12 S1 version {value} is 426 and names 13", hs(version=value), {426}, wants_13)
refuses("H13 426 carries Upgrade: websocket", hs(version="8"), {426}, wants_upgrade)
for value in ("13, 8", "8, 13", "013", "+13", "13abc", "13 13", "", "-13", "0x0d", "13;"):
    refuses(f"H14 version {value!r} is refused", hs(version=value), {400, 426})
refuses("H14 S2 the version twice is 400", [hs(headers=[("Sec-WebSocket-Version", "13")]), hs(headers=[("Sec-WebSocket-Version", "8")])])


# --- H15, H16: the responses

@tap.case("H15 after a refusal the connection is correct HTTP, or closed")
def _():
    for bad, connection in ((hs(key=None), "close"), (hs(key=None, connection="Upgrade, keep-alive"), "keep-alive"),
                            (hs(version="8"), "close"), (hs(path="/nowhere"), "close"), (hs(connection="keep-alive"), "")):
        response, wire = deliver_request(bad, MODES[0])
        tap.ok(400 <= response.status < 500, "refused")
        wire.send(http.request_octets("GET", "/hello"))
        second = http.read_response(wire)
        if second is not None:
            tap.is_((second.status, second.body), (200, b"hello"), "the next request on the connection")
        else:
            tap.is_(response.tokens("Connection"), ["close"], "an end that was announced")
        wire.close()
    echo_works()


@tap.case("H16 the 101 is HTTP/1.1 with Upgrade, Connection and one Accept, no body, no length")
def _():
    for mode in MODES[:3]:
        response, wire = deliver_request(hs(), mode)
        tap.like(response.head.decode(), r"^HTTP/1\.1 101 ", "status line")
        ws.check_101(response, KEY)
        tap.is_(response.all("Sec-WebSocket-Protocol") + response.all("Sec-WebSocket-Extensions"), [], "unasked headers")
        tap.is_(response.all("Keep-Alive") + response.all("Content-Type"), [], "headers of a body")
        wire.send(frame(TEXT, b"x"))
        tap.is_(wire.take(3), b"\x81\x01x", "the first octets behind the head are the first frame")
        wire.close()


# --- H17, H18: Origin

def origin_case(name, path, origins, status, **more):
    def body():
        for value in origins:
            for mode in MODES[:3]:
                response, wire = deliver_request(hs(path, origin=value, token=TOKEN, **more), mode)
                tap.in_(response.status, status, f"{mode}: status for Origin {value!r}")
                if response.status == 101:
                    ws.WebSocket(wire, response).expect(type="connected", userId="u1")
                wire.close()
        echo_works()
    tap.add(name, body)


origin_case("H17 S3 an origin of the list passes, compared without case", "/origin",
            ["https://a.example", "HTTPS://A.Example", "http://b.example:8080", "http://B.EXAMPLE:8080"], {101})
origin_case("H17 S3 an origin that is not in the list is 403", "/origin",
            ["https://evil.example", "http://a.example", "https://a.example:8443", "http://b.example", "http://b.example:80",
             "http://b.example:80800", "https://a.example.evil.com", "https://xa.example", "https://a.example@evil.com",
             "https://evil.com/https://a.example", "null", "a.example", "https://", "file://", "https://a.exampl",
             "https://evil.com https://a.example", "*"], {403})
origin_case("H17 an origin with the scheme's default port written out", "/origin", ["https://a.example:443"], {101, 403})
origin_case("H17 an empty Origin is refused", "/origin", [""], {400, 403})
origin_case("H17 Origin twice is refused", "/origin", ["https://a.example"], {400, 403}, headers=[("Origin", "https://a.example")])
origin_case("H17 a regex matches the whole origin", "/origin/re", ["https://ab.c.example", "https://ABCD.c.example"], {101})
origin_case("H17 a regex that does not match the whole origin is 403", "/origin/re",
            ["https://a.c.example", "https://ab.c.example.evil.com", "xhttps://ab.c.example", "null", "https://ab.c.example:1"], {403})
origin_case("H17 S3 null passes where it is listed", "/origin/null", ["null"], {101})
origin_case("H17 S3 other origins are 403 where null is listed", "/origin/null", ["https://a.example"], {403})
origin_case("H17 without a list the origin must be the host asked", "/origin/same", ["http://localhost", "https://localhost"], {101})
origin_case("H17 without a list the port counts as well", "/origin/same", ["http://localhost:8081"], {101},
            host="localhost:8081")
origin_case("H17 S3 without a list other hosts, ports and null are 403", "/origin/same",
            ["http://evil.example", "http://localhost:8081", "http://localhost.evil.example", "null"], {403})
origin_case("H18 S4 a missing Origin is no error", "/origin", [None], {101})
origin_case("H18 S4 a missing Origin is no error without a list", "/origin/same", [None], {101})


# --- H19-H22: subprotocols

def protocol_case(name, offers, want, statuses=(101,)):
    def body():
        for lines in offers:
            lines = [lines] if isinstance(lines, str) else lines
            for path in ("/ws?token=" + TOKEN, "/echo"):
                for mode in MODES[:3]:
                    request = hs(path, headers=[("Sec-WebSocket-Protocol", line) for line in lines])
                    response, wire = deliver_request(request, mode)
                    tap.in_(response.status, set(statuses), f"{mode}: status for {lines!r} at {path[:5]}")
                    if response.status == 101:
                        tap.in_(response.all("Sec-WebSocket-Protocol"), want, f"{mode}: chosen from {lines!r} at {path[:5]}")
                        if path != "/echo":
                            ws.WebSocket(wire, response).expect(type="connected")
                    wire.close()
        echo_works()
    tap.add(name, body)


protocol_case("H19 the subprotocol is chosen from the client's list", ["rooms.v1", "rooms.v1, chat", "chat, rooms.v1", "chat,rooms.v1,x"],
              [["rooms.v1"]])
protocol_case("H20 none in common: no Sec-WebSocket-Protocol in the response", ["chat", "chat, superchat", "rooms.v2", "rooms", "rooms.v11"], [[]])


@tap.case("H20 none offered: no Sec-WebSocket-Protocol in the response")
def _():
    for path in ("/ws?token=" + TOKEN, "/echo"):
        with ws.connect(server, path) as client:
            tap.is_(client.response.all("Sec-WebSocket-Protocol"), [], path[:5])


@tap.case("H20 S9 the bearer element is never chosen")
def _():
    with ws.connect(server, "/ws", protocols=["rooms.bearer." + TOKEN]) as client:
        tap.is_(client.response.all("Sec-WebSocket-Protocol"), [], "only the bearer element offered")
    with ws.connect(server, "/ws", protocols=["rooms.bearer." + TOKEN, "rooms.v1"]) as client:
        tap.is_(client.response.all("Sec-WebSocket-Protocol"), ["rooms.v1"], "bearer first")
        client.expect(type="connected", userId="u1")


protocol_case("H21 several Sec-WebSocket-Protocol lines are one list", [["chat", "rooms.v1"], ["rooms.v1", "chat"], ["a", "b, rooms.v1", "c"]],
              [["rooms.v1"]])
protocol_case("H21 subprotocols are compared with case", ["ROOMS.V1", "Rooms.v1", "rooms.V1"], [[]])
protocol_case("H22 bad elements of the list are ignored", [",,", ", ,", "a b", "a;b", "(x)", '"rooms.v1"', ["", ""]], [[]])
protocol_case("H22 good elements between bad ones count, duplicates do no harm",
              [",rooms.v1,", "rooms.v1,,chat", "a b, rooms.v1", "rooms.v1, rooms.v1", ["rooms.v1", "rooms.v1"], "x/y, rooms.v1"], [["rooms.v1"]])

# --- H23-H26: extensions


def extension_case(name, offers, status, paths=("/deflate", "/echo"), check=None):
    def body():
        for lines in offers:
            lines = [lines] if isinstance(lines, str) else lines
            for path in paths:
                for mode in MODES[:3]:
                    response, wire = deliver_request(hs(path, headers=[("Sec-WebSocket-Extensions", line) for line in lines]), mode)
                    tap.in_(response.status, status, f"{mode}: status for {lines!r} at {path}")
                    if response.status == 101:
                        tap.ok(len(response.all("Sec-WebSocket-Extensions")) <= 1, "at most one line")
                        if check:
                            check(response, path, lines)
                        client = ws.WebSocket(wire, response)
                        client.send_text("hello")
                        tap.is_(client.recv(), (TEXT, b"hello"), "echo")
                    wire.close()
        echo_works()
    tap.add(name, body)


def nothing_chosen(response, path, lines):
    tap.is_(response.all("Sec-WebSocket-Extensions"), [], f"extensions for {lines!r} at {path}")


def deflate_chosen(response, path, lines):
    got = response.get("Sec-WebSocket-Extensions")
    if path == "/echo":
        tap.is_(got, None, "extension where compression is off")
    else:
        tap.ok(got is not None and got.startswith("permessage-deflate"), f"{lines!r} accepted, got {got!r}")


extension_case("H23 unknown extensions are ignored", ["foo", "x-webkit-deflate-frame", "foo; bar=1; baz", 'foo; bar="x"', "foo, bar;a=1;b"],
               {101}, check=nothing_chosen)
accepts("H23 unknown headers are ignored", [hs(headers=[("X-Foo", "bar"), ("Sec-WebSocket-Foo", "1"), ("Sec-Fetch-Mode", "websocket"),
                                                         ("Sec-WebSocket-Accept", "x"), ("Sec-WebSocket-Location", "y")])])
extension_case("H24 an extensions header that breaks the ABNF is 400",
               ["foo;;bar", "foo;", "a;=1", 'a; b="', 'a; b="x', "a b", "=", "a; b=", "a; b=c=d", 'a; b="x"y', ";a", "a;b c", "a; b=@",
                "permessage-deflate;", "permessage-deflate; ;server_no_context_takeover", "permessage-deflate; =", "\x01"], {400})
extension_case("H24 empty elements of the list are no break", ["permessage-deflate,", ", permessage-deflate", "permessage-deflate, , foo"], {101},
               check=deflate_chosen)
extension_case("H25 a quoted value equals the token", ['permessage-deflate; client_max_window_bits="10"',
                                                       'permessage-deflate; server_max_window_bits="10"'], {101}, check=deflate_chosen)
extension_case("H25 a quoted value that is no token is refused or declined",
               ['permessage-deflate; client_max_window_bits="1 0"', 'permessage-deflate; client_max_window_bits=""',
                'permessage-deflate; client_max_window_bits="10,"'], {400, 101}, check=nothing_chosen)
extension_case("H26 several Sec-WebSocket-Extensions lines are one list",
               [["foo", "permessage-deflate"], ["permessage-deflate", "foo"], ["permessage-deflate", "permessage-deflate"],
                ["foo; a", "bar", "permessage-deflate; client_max_window_bits"]], {101}, check=deflate_chosen)
extension_case("H26 broken lines among several are 400", [["permessage-deflate", "a;;b"], ["a;=", "permessage-deflate"]], {400})


# --- H27: ordinary answers before any 101

refuses("H27 a resource that is not there is 404", hs("/nowhere"), {404})
refuses("H27 an access rule is 403", hs("/deny"), {403})
refuses("H27 missing credentials are 401", hs("/auth"), {401})
refuses("H27 a redirect is 302", hs("/moved"), {302})


@tap.case("H27 credentials that are right get the 101")
def _():
    echo = ws.connect(server, "/auth", headers=[("Authorization", "Basic dTpw")])
    echo.send_text("in")
    tap.is_(echo.recv(), (TEXT, b"in"), "echo")
    echo.close()


@tap.case("H27 a connection limit is 429 while the first lives, and 101 afterwards")
def _():
    first = ws.connect(server, "/one")
    response, wire = deliver_request(hs("/one"), MODES[0])
    tap.is_(response.status, 429, "the second")
    wire.close()
    first.close()

    def again():
        response, wire = deliver_request(hs("/one"), MODES[0])
        wire.close()
        return response.status == 101
    wait_until(again, "the limit to be free again")


@tap.case("H27 S50 a request limit is 503, before any 101")
def _():
    ws.connect(server, "/rate").drop()
    for mode in MODES:
        response, wire = deliver_request(hs("/rate"), mode)
        tap.is_(response.status, 503, mode)
        wire.close()


# --- H28-H31

@tap.case("H28 a body is refused or consumed, its octets are never frames")
def _():
    evil = frame(TEXT, b"smuggled")
    chunked = b"%x\r\n" % len(evil) + evil + b"\r\n0\r\n\r\n"
    for headers, body in (([("Content-Length", str(len(evil)))], evil), ([("Transfer-Encoding", "chunked")], chunked)):
        for mode in MODES[:3]:
            request = hs(headers=headers)
            wire = ws.open_wire(server)
            if mode == "octet-wise":
                wire.send_octets(request + body)
            else:
                wire.send(request)
                wire.send(body)
            response = http.read_response(wire)
            tap.in_(response.status, {101, 400, 413}, f"{mode}: status with {headers}")
            if response.status == 101:
                wire.send(frame(TEXT, b"real"))
                tap.is_(wire.take(6), b"\x81\x04real", f"{mode}: the first echo")
            wire.close()
    echo_works()


@tap.case("H28 a Content-Length of 0 is no body")
def _():
    response, wire = deliver_request(hs(headers=[("Content-Length", "0")]), MODES[0])
    tap.in_(response.status, {101, 400}, "status")
    wire.close()


@tap.case("H29 frames in the handshake's own segment are processed, cut anywhere")
def _():
    frames = frame(TEXT, b"first") + frame(PING, b"p") + frame(BINARY, b"\x00" * 300)
    for cut in list(range(0, 20)) + [len(frames) - 1, len(frames)]:
        with ws.connect(server, first=frames[:cut]) as client:
            client.send(frames[cut:])
            got = [client.next_frame() for _ in range(3)]
            tap.is_([(f.opcode, f.payload) for f in got], [(TEXT, b"first"), (PONG, b"p"), (BINARY, b"\x00" * 300)], f"cut at {cut}")
            client.close()


@tap.case("H29 more frames than nginx's header buffer holds arrive whole behind the handshake")
def _():
    frames = b"".join(frame(TEXT, b"%04d" % i + b"x" * 200) for i in range(200))
    with ws.connect(server, first=frames) as client:
        for i in range(200):
            tap.is_(client.recv()[1][:4], b"%04d" % i, f"message {i}")
        client.close()


@tap.case("H30 a handshake split over many segments completes")
def _():
    octets = hs(headers=[("X-Pad", "y" * 700)])
    for step in (1, 2, 3, 7, 50):
        wire = ws.open_wire(server)
        for at in range(0, len(octets), step):
            wire.send(octets[at:at + step])
        tap.is_(http.read_response(wire).status, 101, f"{step} octets a segment")
        wire.close()


slow = None


@tap.case("H30 a header that never ends is 408 or closed at the header timeout")
def _():
    global slow
    slow = Nginx(name="nginx with a short header timeout", locations="location = /echo { rooms_echo; }",
                 server="client_header_timeout 1s;")
    for part in (1, 40, len(hs()) - 2):
        wire = ws.open_wire(slow)
        wire.send(hs()[:part])
        started = time.monotonic()
        response = http.read_response(wire)
        tap.ok(response is None or response.status == 408, f"{part} octets: {response!r}")
        tap.ok(time.monotonic() - started < 4 * SCALE, "ended at the timeout")
        wire.close()


@tap.case("H30 an established socket outlives the header timeout")
def _():
    with ws.connect(slow) as client:
        started = time.monotonic()
        wait_until(lambda: time.monotonic() - started > 1.6, "more than the header timeout to pass")
        client.send_text("late")
        tap.is_(client.recv(), (TEXT, b"late"), "echo")
        client.close()


refuses("H30 a header line that is too long is 400 or 431", hs(headers=[("X-Long", "x" * 9000)]), {400, 431})
refuses("H30 too many header octets are 400 or 431", hs(headers=[(f"X-{i}", "x" * 4000) for i in range(12)]), {400, 431})
refuses("H30 a request line that is too long is 414", hs("/echo?" + "x" * 9000), {400, 414})


@tap.case("H31 the same handshake over TLS")
def _():
    needs_nginx()
    for mode in MODES:
        response, wire = deliver_request(hs(), mode, tls=True)
        tap.is_(response.status, 101, mode)
        ws.check_101(response, KEY)
        client = ws.WebSocket(wire, response)
        if mode == MODES[3]:
            tap.is_(client.recv(), (TEXT, b"early"), "frame in the handshake's segment")
        client.send_text("over TLS")
        tap.is_(client.recv(), (TEXT, b"over TLS"), "echo")
        client.send_binary(bytes(range(256)) * 200)
        tap.is_(client.recv(), (BINARY, bytes(range(256)) * 200), "51,200 octets")
        client.close()


@tap.case("S6 where nginx is told to, a handshake without TLS is 403, before any 101")
def _():
    needs_nginx()
    refused, wire = deliver_request(hs("/tls-only", token=TOKEN), MODES[0])
    tap.is_(refused.status, 403, "without TLS")
    wire.close()
    with ws.connect(server, "/tls-only", token=TOKEN, tls=True) as page:
        page.expect(type="connected", userId="u1")
        page.close()


@tap.case("H31 refusals over TLS")
def _():
    needs_nginx()
    for request, statuses in ((hs(key=None), {400}), (hs(version="8"), {426}), (hs(method="POST"), {405}),
                              (hs("/nowhere"), {404}), (hs(connection="keep-alive"), {400, 426})):
        for mode in MODES[:3]:
            response, wire = deliver_request(request, mode, tls=True)
            tap.in_(response.status, statuses, f"{mode}: {request[:40]!r}")
            wire.close()


tap.run()

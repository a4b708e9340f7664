#!/usr/bin/python3
"""How the module lives with the rest of nginx, I01-I07, and that HTTP/2 is refused cleanly."""
import os
import re
import signal
import socket
import struct
import sys
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import SCALE, http, jwt, tap, wait_until, ws      # noqa: E402
from rooms.conform import *                                  # noqa: E402,F403
from rooms.conform import LOCATIONS                          # noqa: E402
from rooms.nginx import Nginx                                # noqa: E402

server = serve("""
        location = /basic    { rooms_echo; auth_basic x; auth_basic_user_file @DIR@/htpasswd; }
        location = /any      { rooms_echo; satisfy any; deny all; auth_basic x; auth_basic_user_file @DIR@/htpasswd; }
        location = /request  { rooms_echo; auth_request /may; }
        location = /mayno    { rooms_echo; auth_request /mayn; }
        location = /may      { return 204; }
        location = /mayn     { return 403; }
        location = /one      { rooms_echo; limit_conn one 1; limit_conn_status 429; }
        location = /rewrite  { rewrite ^ /echo last; }
        location = /rewritten/denied { rewrite ^ /basic last; }
        location = /page     { error_page 418 = /echo; return 418; }
        location = /named    { try_files /nothing @echo; }
        location @echo       { rooms_echo; }
        location = /added    { rooms_echo; add_header X-Added here always; }
        location = /added/ws { rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_allow session:*; add_header X-Added here always; }
        location = /added/at-once { rooms_echo; add_header X-Added here always; postpone_output 0; }
        location = /pretty   { rooms_echo; error_page 400 = /hello400; error_page 405 = /hello400; }
        location = /hello400 { return 200 "own page"; }
        location = /parent   { auth_request /echo; try_files /parent.txt =404; }
        location = /ssi.html { ssi on; default_type text/html; }
        location = /logged   { rooms_echo; access_log @DIR@/rooms.log rooms; }
        location = /logged/ws { rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_allow session:*; access_log @DIR@/rooms.log rooms; }
        location = /stub     { stub_status; access_log off; }
        location = /address  { rooms_echo; access_log @DIR@/address.log address; }
""", tls=True, files={"htpasswd": "u:{PLAIN}p\n", "html/parent.txt": "parent", "html/ssi.html": 'before <!--# include virtual="/echo" --> after'},
    http="""limit_conn_zone $binary_remote_addr zone=one:1m;
            log_format rooms '$uri|$status|$bytes_sent|$request_time|$rooms_close_code|$rooms_messages_in|$rooms_messages_out|$rooms_joined|$rooms_user';
            log_format address '$remote_addr $status';
            rooms_drain 1s;""",
    server="listen unix:@DIR@/proxy.sock proxy_protocol; set_real_ip_from unix:; real_ip_header proxy_protocol; listen unix:@DIR@/h2.sock http2;")
TOKEN = jwt.mint(sub="u1")
BASIC = [("Authorization", "Basic dTpw")]


def status_of(path, where=None, **options):
    """The handshake's HTTP status."""
    try:
        ws.connect(where or server, path, **options).drop()
        return 101
    except ws.HandshakeRefused as refused:
        return refused.status


def echoes(path, where=None, **options):
    with ws.connect(where or server, path, **options) as client:
        client.send_text("through")
        tap.is_(client.recv(), (TEXT, b"through"), f"echo at {path}")
        client.close()


# --- I01, I02

@tap.case("I01 auth_basic applies before 101")
def _():
    tap.is_((status_of("/basic"), status_of("/basic", headers=[("Authorization", "Basic eDp4")])), (401, 401), "without and with wrong credentials")
    echoes("/basic", headers=BASIC)


@tap.case("I01 auth_request applies before 101")
def _():
    tap.is_(status_of("/mayno"), 403, "a refusing subrequest")
    echoes("/request")


@tap.case("I01 satisfy any, and rewrites into a protected location")
def _():
    tap.in_(status_of("/any"), (401, 403), "neither")
    echoes("/any", headers=BASIC)
    tap.is_(status_of("/rewritten/denied"), 401, "rewritten without credentials")
    echoes("/rewritten/denied", headers=BASIC)


@tap.case("I01 limit_conn counts a socket for as long as it lives")
def _():
    first = ws.connect(server, "/one")
    tap.is_([status_of("/one") for _ in range(3)], [429] * 3, "while it lives")
    first.close()
    wait_until(lambda: status_of("/one") == 101, "the limit to be free again")


@tap.case("I02 rewrite, error_page and try_files lead to an upgrade as to any handler")
def _():
    for path in ("/rewrite", "/page", "/named"):
        echoes(path)


@tap.case("I02 what add_header adds to the 101 is in it, however nginx writes it")
def _():
    for tls in (False, True):
        for path in ("/added", "/added/at-once"):
            with ws.connect(server, path, tls=tls) as client:
                tap.is_(client.response.all("X-Added"), ["here"], f"{path}, TLS: {tls}")
                client.send_text("through")
                tap.is_(client.recv(), (TEXT, b"through"), "echo")


@tap.case("I02 the 101 and the first message leave together")
def _():
    wire = ws.open_wire(server)
    wire.send(ws.handshake_octets("/added/ws", key=ws.new_key(), token=TOKEN))
    response = http.read_response(wire)
    tap.is_(response.all("X-Added"), ["here"], "the head")
    ws.WebSocket(wire, response).expect(type="connected")
    info = wire.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
    tap.is_(struct.unpack_from("I", info, 152), (1,), "tcpi_data_segs_in")
    wire.close()


@tap.case("I02 an error_page of the location takes the module's refusals")
def _():
    response, wire = deliver_request(ws.handshake_octets("/pretty", key="bad"), MODES[0])
    tap.is_((response.status, response.body), (200, b"own page"), "a bad key")
    wire.close()
    tap.is_(http.request(server, "POST", "/pretty").body, b"own page", "a POST")
    echoes("/pretty")


@tap.case("I02 no upgrade in a subrequest: auth_request to the endpoint")
def _():
    server.allow(r"auth request unexpected status")
    response, wire = deliver_request(ws.handshake_octets("/parent", key=ws.new_key()), MODES[0])
    tap.in_(response.status, {401, 403, 500}, "the parent")
    wire.close()
    tap.is_(http.get(server, "/parent").status, response.status, "a plain request gets the same")


@tap.case("I02 no upgrade in a subrequest: an SSI include of the endpoint")
def _():
    for octets in (ws.handshake_octets("/ssi.html", key=ws.new_key()), http.request_octets("GET", "/ssi.html")):
        response, wire = deliver_request(octets, MODES[0])
        tap.is_(response.status, 200, "the page")
        tap.like(response.text, r"(?s)^before .* after", "its text")
        tap.unlike(response.text, r"Sec-WebSocket", "no handshake inside")
        wire.close()


# --- I03, I04

@tap.case("I03 one access-log line a connection, at its end: 101, octets, duration, variables")
def _():
    client = ws.connect(server, "/logged")
    for _ in range(3):
        client.send_binary(b"o" * 1000)
        client.recv()
    tap.is_(server.read("rooms.log"), "", "no line before the end")
    pause = time.monotonic()
    wait_until(lambda: time.monotonic() - pause > 0.25, "a quarter of a second")
    client.close(4321)
    line = wait_until(lambda: server.read("rooms.log").strip(), "the line")
    uri, status, sent, duration, code, received, given, joined, user = line.split("|")
    tap.is_((uri, status, code, received, given), ("/logged", "101", "4321", "3", "3"), f"fields of {line!r}")
    tap.ok(3 * 1004 + 4 < int(sent) < 3 * 1004 + 1000, f"octets sent, handshake included: {sent}")
    tap.ok(float(duration) >= 0.25, f"duration {duration}")
    tap.is_((joined, user), ("0", "-") if user == "-" else ("0", ""), "no room, no user") if joined != "-" else None
    tap.is_(len(server.read("rooms.log").splitlines()), 1, "one line")


@tap.case("I03 a connection that is dropped is logged as well, with 1006")
def _():
    before = len(server.read("rooms.log").splitlines())
    ws.connect(server, "/logged").abort()
    ws.connect(server, "/logged").drop()
    wait_until(lambda: len(server.read("rooms.log").splitlines()) == before + 2, "two lines")
    for line in server.read("rooms.log").splitlines()[before:]:
        tap.is_((line.split("|")[1], line.split("|")[4]), ("101", "1006"), f"status and code in {line!r}")


@tap.case("I03 a rooms location logs its user")
def _():
    before = len(server.read("rooms.log"))
    page = ws.connect(server, "/logged/ws", token=TOKEN)
    page.expect(type="connected")
    page.send_json(type="subscribe", room="session:1")
    page.expect(type="subscribed")
    page.close()
    line = wait_until(lambda: server.read("rooms.log")[before:].strip(), "the line")
    fields = line.split("|")
    tap.is_((fields[1], fields[4], fields[8]), ("101", "1000", "u1"), f"status, code and user in {line!r}")


def active():
    return int(re.search(r"Active connections: (\d+)", http.get(server, "/stub").text).group(1))


@tap.case("I04 stub_status counts the sockets, and no more when they are gone")
def _():
    base = wait_until(lambda: (lambda first: first if first == active() else 0)(active()), "a steady count")
    clients = [ws.connect(server) for _ in range(20)]
    tap.is_(active() - base, 20, "with 20 sockets")
    for client in clients:
        client.close()
    wait_until(lambda: active() == base, "the count to return")


@tap.case("I04 after 101 the connection is never used for HTTP again")
def _():
    for octets in (http.request_octets("GET", "/hello", connection="keep-alive"), b"GET / HTTP/1.1\r\n\r\n"):
        client = ws.connect(server)
        client.send(octets)
        client.expect_closed(1002)
    client = ws.connect(server)
    client.send(frame(CLOSE, close_payload(1000)) + http.request_octets("GET", "/hello"))
    client.expect_closed(1000)


@tap.case("I04 keep-alive requests before the handshake on the same connection")
def _():
    wire = ws.open_wire(server)
    for _ in range(3):
        wire.send(http.request_octets("GET", "/hello", connection="keep-alive"))
        tap.is_(http.read_response(wire).body, b"hello", "before")
    key = ws.new_key()
    wire.send(http.request_octets("GET", "/hello", connection="keep-alive") + ws.handshake_octets("/echo", key=key) + frame(TEXT, b"piped"))
    tap.is_(http.read_response(wire).body, b"hello", "piped before")
    response = http.read_response(wire)
    tap.is_(response.status, 101, "the handshake behind it")
    client = ws.WebSocket(wire, response)
    tap.is_(client.recv(), (TEXT, b"piped"), "the frame behind that")
    client.close()
    wire.close()


@tap.case("I04 S49 worker_connections used up: refused cleanly, and served again afterwards")
def _():
    small = Nginx(name="nginx of few connections", locations="location = /echo { rooms_echo; }", workers=1, events="worker_connections 24;",
                  expect=[r"worker_connections are not enough"])
    clients = []
    try:
        while len(clients) < 60:
            clients.append(ws.connect(small, timeout=2))
    except (ws.HandshakeRefused, OSError, AssertionError):
        pass
    tap.ok(5 <= len(clients) < 24, f"{len(clients)} connections were served")
    for client in clients:
        client.send_text("mine")
        tap.is_(client.recv(), (TEXT, b"mine"), "those that were are unharmed")
    for client in clients:
        client.close()

    def again():
        try:
            echo_works(small)
            return True
        except (ws.HandshakeRefused, OSError):
            return False
    wait_until(again, "service to return")
    small.check()


# --- I05

@tap.case("I05 PROXY protocol and real_ip: the address in the log is the client's")
def _():
    from rooms.wire import Wire
    wire = Wire(server.path("proxy.sock"))
    key = ws.new_key()
    wire.send(b"PROXY TCP4 203.0.113.7 203.0.113.8 4711 80\r\n" + ws.handshake_octets("/address", key=key) + frame(TEXT, b"early"))
    client = ws.WebSocket(wire, http.read_response(wire))
    tap.is_(client.recv(), (TEXT, b"early"), "echo")
    client.close()
    wait_until(lambda: server.read("address.log") == "203.0.113.7 101\n", "the line in the log")


@tap.case("I05 TLS: messages of every size, both ways, and a close")
def _():
    with ws.connect(server, "/big", tls=True) as client:
        for size in (0, 1, 125, 126, 16383, 16384, 16385, 65536, 300000, 3 << 20):
            data = os.urandom(1024) * (size // 1024) + b"z" * (size % 1024)
            client.send_binary(data)
            tap.is_(client.recv(20) == (BINARY, data), True, f"{size} octets")
        client.send_ping(b"tls")
        tap.is_(client.next_frame(), ws.Frame(PONG, b"tls"), "pong")
        client.close()


@tap.case("I05 TLS: frames octet by octet, failures and a drop")
def _():
    out = run_script([frame(TEXT, b"x"), frame(PING, b"p"), frame(3)], "octet-wise", tls=True)
    expect_failure(out, {1002}, [(TEXT, b"x")], [b"p"])
    ws.connect(server, tls=True).abort()
    client = ws.connect(server, tls=True)
    client.send(frame(TEXT, b"abc")[:4])
    client.drop()
    echo_works()


@tap.case("I05 TLS: a member gets what is published")
def _():
    with ws.connect(server, "/ws", tls=True, token=TOKEN) as page:
        page.expect(type="connected")
        page.send_json(type="subscribe", room="session:tls")
        page.expect(type="subscribed")
        for n in range(1, 20):
            http.publish(server, {"room": "session:tls", "type": "x", "data": {"n": n, "pad": "y" * n * 2000}})
            page.expect(type="x", n=n, offset=n)
        page.close()


@tap.case("I05 a unix socket")
def _():
    with ws.connect(server, unix=True) as client:
        client.send_binary(b"u" * 60000)
        tap.is_(client.recv(), (BINARY, b"u" * 60000), "echo")
        client.close()
    out = run_script([frame(TEXT, b"x"), frame(3)], "octet-wise", unix=True)
    expect_failure(out, {1002}, [(TEXT, b"x")])


def h2_frame(kind, flags, stream, payload):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def h2_headers(fields):
    """HPACK: literals without indexing, no Huffman."""
    return b"".join(b"\0" + bytes([len(n)]) + n.encode() + bytes([len(v)]) + v.encode() for n, v in fields)


@tap.case("I05 S8 HTTP/2: extended CONNECT and plain requests to the endpoint are refused cleanly (T01-T12)")
def _():
    from rooms.wire import Wire
    base = [(":scheme", "http"), (":path", "/echo"), (":authority", "localhost")]
    handshake = [("sec-websocket-version", "13"), ("sec-websocket-key", ws.new_key())]
    for fields in ([(":method", "CONNECT"), (":protocol", "websocket")] + base + handshake,
                   [(":method", "GET")] + base + handshake,
                   [(":method", "GET")] + base + handshake + [("upgrade", "websocket"), ("connection", "upgrade")]):
        wire = Wire(server.path("h2.sock"))
        wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + h2_frame(4, 0, 0, b"") + h2_frame(1, 5, 1, h2_headers(fields)))
        ended, enabled = None, None
        while ended is None:
            head = wire.take(9)
            if head is None:
                ended = "closed"
                break
            payload = wire.take(int.from_bytes(head[:3], "big"))
            if head[3] == 4 and not head[4] & 1:
                settings = {payload[i:i + 2]: payload[i + 2:i + 6] for i in range(0, len(payload), 6)}
                enabled = settings.get(b"\0\x08")
            elif head[3] == 1:
                ended = payload
            elif head[3] in (3, 7):
                ended = "reset"
        tap.is_(enabled, None, "SETTINGS_ENABLE_CONNECT_PROTOCOL is not announced")
        if isinstance(ended, bytes):
            tap.ok(ended[0] not in (0x88, 0x89, 0x8A), f"no 2xx for {fields[:2]}: {ended[:20]!r}")
        wire.close()
    echo_works()


# --- I06, I07

@tap.case("I06 a worker that dies takes only its own clients with it")
def _():
    first, second = server.workers()
    a, b = ws.connect_to_worker(server, first), ws.connect_to_worker(server, second)
    server.kill_worker(first)
    tap.is_(a.next_frame(), None, "a client of the dead worker loses its stream")
    b.send_text("unharmed")
    tap.is_(b.recv(), (TEXT, b"unharmed"), "a client of the other")
    b.close()
    for _ in range(5):
        echo_works()


@tap.case("I06 new sockets are served while the old workers drain")
def _():
    old = ws.connect(server)
    server.reload()
    for _ in range(5):
        echo_works()
    old.expect_closed(1012)
    # One that leaves may still have a handshake in its hands.
    wait_until(lambda: server.processes() == server.workers(), "the old workers to leave")


@tap.case("I06 a reload with a broken configuration changes nothing")
def _():
    server.allow(r"\[emerg\].*rooms_max_message")
    client = ws.connect(server)
    workers = server.workers()
    at = len(server.log())
    good = server.config()
    server.write("nginx.conf", good.replace("rooms_max_message 1k", "rooms_max_message nonsense"))
    server.send_signal(signal.SIGHUP)
    server.wait_log(r"\[emerg\].*rooms_max_message", since=at)
    server.write("nginx.conf", good)
    client.send_text("still")
    tap.is_(client.recv(), (TEXT, b"still"), "the open socket")
    tap.is_(server.workers(), workers, "the workers")
    client.close()


@tap.case("I06 a binary upgrade: the old sockets get 1012, the new master serves")
def _():
    twin = Nginx(name="nginx upgraded in place", locations=LOCATIONS, files={"secret": jwt.SECRET}, http="rooms_drain 1s;", daemon=True)
    client, page = ws.connect(twin), ws.connect(twin, "/ws", token=TOKEN)
    page.expect(type="connected")
    old = twin.upgrade_binary()
    client.expect_closed(1012)
    page.expect_closed(1012)
    wait_until(lambda: old.poll() is not None, "the old master to end", 8 * SCALE)
    for _ in range(4):
        echo_works(twin)


front = None


@tap.case("I07 behind another nginx: handshake, messages, close and failures survive the hop")
def _():
    global front
    front = Nginx(name="nginx in front", module=False, locations=f"""
        location / {{ proxy_pass http://127.0.0.1:{server.port}; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade;
                      proxy_set_header Connection "upgrade"; proxy_set_header Host $host; proxy_buffering off; }}""")
    for path, options in (("/echo", {}), ("/deflate", {"extensions": "permessage-deflate"})):
        with ws.connect(front, path, **options) as client:
            for size in (1, 126, 60000):
                client.send_text("h" * size, compress=client.deflate is not None)
                tap.is_(client.recv(), (TEXT, b"h" * size), f"{size} octets at {path}")
            client.send_ping(b"hop")
            tap.is_(client.next_frame(), ws.Frame(PONG, b"hop"), "pong")
            client.close(4000, "bye")
    client = ws.connect(front)
    client.send(frame(3))
    client.expect_closed(1002)
    tap.is_(status_of("/basic", front), 401, "a refusal")
    tap.is_(status_of("/echo", front, version="8"), 426, "a wrong version")


@tap.case("I07 behind another nginx: a member gets events, and 1012 at a reload")
def _():
    page = ws.connect(front, "/ws", token=TOKEN)
    page.expect(type="connected", userId="u1")
    page.send_json(type="subscribe", room="session:hop")
    page.expect(type="subscribed")
    http.publish(server, {"room": "session:hop", "type": "x", "data": {"n": 1}})
    page.expect(type="x", n=1)
    server.reload()
    page.wait_for(type="reconnect")
    page.expect_closed(1012)


@tap.case("I07 S57 a proxied request to publish does not pass for a local one")
def _():
    forwarding = Nginx(name="nginx that forwards", module=False, locations=f"""
        location / {{ proxy_pass http://127.0.0.1:{server.port}; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }}""")
    tap.is_(http.publish(forwarding, {"room": "session:1", "type": "x", "data": {}}, expect=None).status, 403, "status")


tap.run()

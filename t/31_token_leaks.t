#!/usr/bin/python3
"""The token reaches no log (S66): access log with every variable that could show it, error log at info, whatever way the
request ends; at debug level none of our own lines. Yet who asks for it on the way (auth_request, a proxy) gets it."""
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import ASAN, TIMEOUT, http, jwt, tap, wait_until, ws  # noqa: E402
from rooms.process import open_files, title        # noqa: E402
from rooms.nginx import Nginx                             # noqa: E402
from rooms.redis import Redis                             # noqa: E402
from rooms.wire import Wire                               # noqa: E402

SECRET = "a backend's secret that no log may show"
FORMAT = ("log_format all escape=none '$status|$request|$request_uri|$args|$query_string|$uri|$document_uri|$arg_token|$arg_jwt|"
          "$http_authorization|$http_sec_websocket_protocol|$http_cookie|$cookie_session|$http_referer|$http_x_token|"
          "$is_args$args|$request_filename|$rooms_user';")
HTTP = f"""
    {FORMAT}
    access_log @DIR@/all.log all;
    large_client_header_buffers 4 8k;
    limit_req_zone $server_name zone=one:1m rate=1r/m;
    limit_conn_zone $server_name zone=few:1m;
    rooms_jwt_key HS256 @DIR@/secret;
    rooms_allow session:*;
    server {{
        listen unix:@DIR@/impatient.sock;
        client_header_timeout 300ms;
        location /ws {{ rooms; }}
    }}
    server {{
        listen unix:@DIR@/second.sock http2;
        location /ws {{ rooms; }}
    }}
"""
LOCATIONS = """
    if ($arg_deny) { return 403; }
    log_subrequest on;
    location = /ws       { rooms; }
    location = /http     { rooms; rooms_auth_failure http; }
    location = /jwt      { rooms; rooms_jwt_token $arg_jwt; }
    location = /cookie   { rooms; rooms_jwt_token $cookie_session; }
    location = /header   { rooms; rooms_jwt_token $http_x_token; }
    location ~ ^/path/(?<in_path>.+)$ { rooms; rooms_jwt_token $in_path; }
    location = /set      { set $chosen $arg_token; rooms; rooms_jwt_token $chosen; }
    location = /upgrade  { rooms; rooms_access_log upgrade; }
    location = /echo     { rooms_echo; }
    location = /denied   { rooms; deny all; }
    location = /limited  { rooms; limit_req zone=one; }
    location = /few      { rooms; limit_conn few 1; }
    location = /basic    { rooms; auth_basic x; auth_basic_user_file @DIR@/nobody; }
    location = /asked    { rooms; auth_request /auth; }
    location = /refused  { rooms; auth_request /auth-no; }
    location = /returns  { rooms; return 403; }
    location = /named    { rooms; deny all; error_page 403 = @other; }
    location = /page     { rooms; deny all; error_page 403 /denied.html; }
    location = /rewrites { rewrite ^ /ws last; rooms; }
    location = /plain    { return 200 ok; }
    location = /proxied  { proxy_pass http://127.0.0.1:1; }
    location = /seen     { proxy_pass http://unix:@DIR@/backend.sock; proxy_set_header X-User $rooms_user; }
    location = /publish  { rooms_publish secret=@DIR@/backend; }
    location @other      { return 404; }
    location = /auth     { internal; proxy_pass http://unix:@DIR@/backend.sock; proxy_pass_request_body off;
                           proxy_set_header Content-Length ""; proxy_set_header Upgrade ""; }
    location = /auth-no  { internal; return 401; }
"""
FILES = {"secret": jwt.SECRET, "nobody": "", "backend": SECRET + "\n"}


class Backend:
    """Answers 200 to everything and remembers the requests' heads."""

    def __init__(self, path):
        self.heads = []
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(path)
        os.chmod(path, 0o666)
        self.socket.listen(16)
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            connection, _ = self.socket.accept()
            head = b""
            while b"\r\n\r\n" not in head:
                part = connection.recv(65536)
                if not part:
                    break
                head += part
            self.heads.append(head.decode("latin-1"))
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            connection.close()


server = Nginx(LOCATIONS, http=HTTP, files=FILES)
backend = Backend(server.path("backend.sock"))
count = 0


def new_token(**claims):
    global count
    count += 1
    return jwt.mint(sub=f"user-{count}", **claims)


def bad_token():
    return new_token()[:-3] + "AAA"


def lines(nginx=server):
    return nginx.read("all.log").splitlines()


def clean(token, since, nginx=server, logs=("all.log", "access.log", "error.log")):
    """The request's line has come, and no log has a byte run of the token."""
    wait_until(lambda: len(lines(nginx)) > since, "the request's access log line")
    parts = [token] + [part for part in token.split(".") if len(part) > 8][1:]
    for name in logs:
        text = nginx.read(name)
        for part in parts:
            # Everything from 12 bytes on counts, wherever in the token it was cut off.
            for at in range(0, max(1, len(part) - 12), 4):
                piece = part[at:at + 12]
                if piece in text:
                    line = next(line for line in text.splitlines() if piece in line)
                    tap.fail(f"{name} shows {piece!r} of the token: {line}")


def opened(path, code=None, token=None, **options):
    """A socket that is open, or is closed at once with this code."""
    token = token or new_token()
    options = {name: value.replace("TOKEN", token) if isinstance(value, str) else
               [tuple(part.replace("TOKEN", token) for part in pair) for pair in value] for name, value in options.items()}
    since = len(lines())
    if "token_offered" in options:
        options["token"] = options.pop("token_offered")
    with ws.connect(server, path.replace("TOKEN", token), **options) as page:
        if code:
            page.expect_closed(code)
        else:
            page.expect(type="connected")
            page.close()
    clean(token, since)


def answered(path, status, token=None, method="GET", headers=(), sock=False, upgrade=True):
    token = token or new_token()
    since = len(lines())
    fields = [(name, value.replace("TOKEN", token)) for name, value in headers]
    if upgrade:
        fields += [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13"),
                   ("Sec-WebSocket-Key", ws.new_key())]
    response = http.request(server, method, path.replace("TOKEN", token), fields)
    tap.is_(response.status, status, "status")
    tap.unlike(response.head.decode("latin-1") + response.text, re.escape(token), "answer")
    clean(token, since)
    return response


AUTHORIZATION = [("Authorization", "Bearer TOKEN")]
EMPTY = [("Sec-WebSocket-Protocol", "rooms.bearer.")]
PROTOCOL = [("Sec-WebSocket-Protocol", "rooms.v1, rooms.bearer.TOKEN")]

tap.add("S66: taken from the subprotocol", opened, "/ws", token_offered="TOKEN")
tap.add("S66: taken from Authorization", opened, "/ws", headers=AUTHORIZATION)
tap.add("S66 R4: taken from ?token=", opened, "/ws?token=TOKEN")
tap.add("S66: taken from ?token= between others", opened, "/ws?a=1&token=TOKEN&b=2")
tap.add("S66: taken from ?TOKEN=, for nginx folds names of arguments", opened, "/ws?ToKeN=TOKEN")
tap.add("S66: taken from the subprotocol, with one in each of the other places", opened, "/ws?token=TOKEN",
        token_offered="TOKEN", headers=AUTHORIZATION)
tap.add("S66: taken from $arg_jwt", opened, "/jwt?jwt=TOKEN")
tap.add("S66: taken from a cookie", opened, "/cookie", headers=[("Cookie", "a=b; session=TOKEN; c=d")])
tap.add("S66: taken from a header", opened, "/header", headers=[("X-Token", "TOKEN")])
tap.add("S66: taken from Authorization behind a tab", opened, "/ws", headers=[("Authorization", "Bearer\tTOKEN")])
tap.add("S66: taken from Authorization, as the subprotocol's is empty", opened, "/ws", headers=EMPTY + AUTHORIZATION)
tap.add("S66: taken from ?token=, as the others are empty", opened, "/ws?token=TOKEN", headers=EMPTY + [("Authorization", "Bearer ")])
tap.add("S66: taken from the second of the subprotocol's, as the first is empty", opened, "/ws",
        headers=[("Sec-WebSocket-Protocol", "rooms.bearer., rooms.bearer.TOKEN")])
tap.add("S66: taken from the path", opened, "/path/TOKEN")
tap.add("S66: taken from a variable that `set` made in the same location", opened, "/set?token=TOKEN")
tap.add("S66: taken after a rewrite to another location", opened, "/rewrites?token=TOKEN")
tap.add("S66: taken with rooms_access_log upgrade", opened, "/upgrade?token=TOKEN", headers=AUTHORIZATION)
tap.add("S66: in the Referer", opened, "/ws?token=TOKEN", headers=[("Referer", "http://localhost/page?token=TOKEN")])
tap.add("S66: ?token= in a location that takes none", answered, "/echo?token=TOKEN", 101)
tap.add("S66: ?token= in a path that is a typing error", answered, "/wss?token=TOKEN", 404)
tap.add("S66 4001: $arg_jwt where ?token= was wanted", opened, "/ws?jwt=TOKEN", code=4001)
for name, options in (("?token=", dict(path="/ws?token=TOKEN")), ("subprotocol", dict(path="/ws", token_offered="TOKEN")),
                      ("Authorization", dict(path="/ws", headers=AUTHORIZATION))):
    tap.add(f"S66 4002: a bad one, {name}", lambda options: opened(code=4002, token=bad_token(), **options), options)
    tap.add(f"S66 4002: an expired one, {name}", lambda options: opened(code=4002, token=new_token(exp=1), **options), options)
tap.add("S66 403: a bad one with rooms_auth_failure http", lambda: answered("/http?token=TOKEN", 403, bad_token()))
tap.add("S66 405: POST", answered, "/ws?token=TOKEN", 405, method="POST", headers=AUTHORIZATION)
tap.add("S66 400: no Upgrade", answered, "/ws?token=TOKEN", 400, headers=AUTHORIZATION + PROTOCOL, upgrade=False)
tap.add("S66 403: refused in the server's rewrite phase", answered, "/ws?token=TOKEN&deny=1", 403, headers=AUTHORIZATION + PROTOCOL)
tap.add("S66 403: `return` in the location", answered, "/returns?token=TOKEN", 403, headers=AUTHORIZATION + PROTOCOL)
tap.add("S66 403: refused by access", answered, "/denied?token=TOKEN", 403, headers=AUTHORIZATION + PROTOCOL)
tap.add("S66 404: refused by access, error_page to a named location", answered, "/named?token=TOKEN", 404, headers=AUTHORIZATION)
tap.add("S66 404: refused by access, error_page with an internal redirect", answered, "/page?token=TOKEN", 404, headers=AUTHORIZATION)
tap.add("S66 401: refused by auth_request", answered, "/refused?token=TOKEN", 401, headers=AUTHORIZATION + PROTOCOL)
tap.add("S66 401: refused by auth_basic", answered, "/basic?token=TOKEN", 401, headers=AUTHORIZATION + PROTOCOL)
tap.add("S66 502: an upstream that is not there, with its line in the error log", answered, "/proxied?token=TOKEN", 502)
tap.add("S66: a secret of a backend, right and wrong", lambda: [
    answered("/publish", status, token, method="POST", headers=AUTHORIZATION, upgrade=False)
    for token, status in ((SECRET.replace(" ", "-"), 401), (SECRET, 400))])


@tap.case("S66 503: refused by limit_req")
def _():
    answered("/limited?token=TOKEN", 101)
    answered("/limited?token=TOKEN", 503, headers=AUTHORIZATION + PROTOCOL)


@tap.case("S66 503: refused by limit_conn")
def _():
    with ws.connect(server, "/few", token=new_token()) as page:
        page.expect(type="connected")
        answered("/few?token=TOKEN", 503, headers=AUTHORIZATION + PROTOCOL)
        page.close()


@tap.case("auth_request gets the Authorization and the subprotocol as they came")
def _():
    token = new_token()
    before = len(backend.heads)
    opened("/asked", token=token, token_offered="TOKEN", headers=AUTHORIZATION)
    tap.in_(f"Authorization: Bearer {token}", backend.heads[before], "what auth_request passed on")
    tap.in_(f"rooms.bearer.{token}", backend.heads[before], "what auth_request passed on")


@tap.case("a proxy gets the token as it came, and $rooms_user with it")
def _():
    token = new_token()
    before = len(backend.heads)
    answered("/seen?token=TOKEN", 200, token, headers=AUTHORIZATION, upgrade=False)
    tap.in_(f"/seen?token={token}", backend.heads[before], "what the proxy passed on")
    tap.in_(f"Authorization: Bearer {token}", backend.heads[before], "what the proxy passed on")
    tap.in_(f"X-User: user-{count}", backend.heads[before], "what the proxy passed on")


@tap.case("S66: a token in percent-encoding is read, and its encoded bytes are no more in a log than the others")
def _():
    token = new_token()
    encoded = "".join(f"%{ord(c):02X}" for c in token)
    since = len(lines())
    with ws.connect(server, f"/ws?token={encoded}") as page:
        page.expect(type="connected", userId=f"user-{count}")
        page.close()
    clean(token, since)
    clean(encoded, since)


# --- cut off, or not even HTTP

def cut(octets, sock=None, tls=False, nginx=server, reset=False, first=b""):
    """Sends these and goes away."""
    wire = Wire(nginx.path(sock) if sock else ("127.0.0.1", nginx.port))
    if first:
        wire.send(first)
        tap.is_(http.read_response(wire).status, 200, "status of the first request")
    wire.send(octets)
    wire.abort() if reset else wire.close()


HEAD = "GET /ws?token=TOKEN HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer TOKEN\r\nSec-WebSocket-Protocol: rooms.bearer.TOKEN\r\n"
PLAIN = b"GET /plain HTTP/1.1\r\nHost: localhost\r\n\r\n"
for what, at in (("in the argument", len("GET /ws?token=") + 40), ("behind the argument", len("GET /ws?token=") + 300),
                 ("behind the request line", None), ("in the headers", -30), ("before the last line", 9999)):
    for kept in (False, True):
        def go(at=at, kept=kept):
            token = new_token(pad="x" * 300)
            octets = HEAD.replace("TOKEN", token)
            octets = octets[:octets.index("\r\n") + 2] if at is None else octets[:at]
            since = len(lines()) + kept
            cut(octets.encode(), first=PLAIN if kept else b"")
            clean(token, since)
            server.wait_log(r"client prematurely closed connection")
        tap.add(f"S66: cut off {what}{', second on a kept-alive connection' if kept else ''}", go)


def malformed(what, status, octets):
    def go():
        token = new_token(pad="x" * 100)
        since = len(lines())
        response = http.raw(server, octets.replace("TOKEN", token).encode())
        tap.is_(response.status, status, "status")
        clean(token, since)
    tap.add(what, go)


malformed("S66 400: no Host", 400, "GET /ws?token=TOKEN HTTP/1.1\r\n\r\n")
malformed("S66 400: two Authorization headers, which nginx quotes", 400,
          "GET /ws HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\nAuthorization: Bearer TOKEN\r\n\r\n")
malformed("S66: an invalid header line, which nginx quotes", 400,
          "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization : Bearer TOKEN\r\nCookie : s=TOKEN\r\n\r\n")
malformed("S66 400: a NUL in a header behind the token", 400,
          "GET /ws?token=TOKEN HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\nX: \0\r\n\r\n")
malformed("S66 400: an invalid host in the request line", 400, "GET http://a//../:b/ws?token=TOKEN HTTP/1.1\r\nHost: x\r\n\r\n")
malformed("S66 400: a URI with too many ..", 400, "GET /../ws?token=TOKEN HTTP/1.1\r\nHost: x\r\n\r\n")
malformed("S66 505: another version", 505, "GET /ws?token=TOKEN HTTP/7.7\r\nHost: x\r\n\r\n")
malformed("S66 414: a long URI", 414, "GET /ws?token=TOKEN&x=" + "y" * 9000 + " HTTP/1.1\r\n\r\n")
malformed("S66 414: a long token", 414, "GET /ws?token=TOKEN" + "y" * 9000 + " HTTP/1.1\r\n\r\n")
malformed("S66 400: a long header line, whose beginning nginx quotes", 400,
          "GET /ws HTTP/1.1\r\nHost: x\r\nCookie: session=TOKEN; x=" + "y" * 9000 + "\r\n\r\n")


# What rooms_jwt_token reads, in requests whose location nobody has looked for.
malformed("S66 400: no Host, with the cookie that has the token", 400,
          "GET /cookie HTTP/1.1\r\nCookie: a=b; session=TOKEN; c=d\r\n\r\n")
malformed("S66 400: a bad length, with the cookie in quotes and other letters", 400,
          "GET /cookie HTTP/1.1\r\nHost: x\r\nCookie: a=b; SESSION = \"TOKEN\"\r\nContent-Length: x\r\n\r\n")
malformed("S66 400: no Host, with the header that has the token", 400, "GET /header HTTP/1.1\r\nX-Token: TOKEN\r\n\r\n")
malformed("S66 400: a long line behind the header that has the token", 400,
          "GET /header HTTP/1.1\r\nHost: x\r\nx-token: Bearer TOKEN\r\nX: " + "y" * 9000 + "\r\n\r\n")
for name, line in (("cookie", "Cookie: session=TOKEN"), ("header", "X-Token: TOKEN")):
    def go(line=line):
        token = new_token(pad="x" * 100)
        since = len(lines())
        cut(f"GET /cookie HTTP/1.1\r\nHost: x\r\n{line}\r\nX: ".replace("TOKEN", token).encode())
        clean(token, since)
    tap.add(f"S66: cut off behind the {name} that has the token", go)


@tap.case("S66 408: the rest of the request does not come")
def _():
    token = new_token(pad="x" * 100)
    since = len(lines())
    wire = Wire(server.path("impatient.sock"))
    wire.send(HEAD.replace("TOKEN", token).encode())
    tap.is_(wire.take_all(), b"", "answer")
    server.wait_log("client timed out")
    clean(token, since)


@tap.case("S66: HTTP/2: refused, and no log shows the token")
def _():
    curl = shutil.which("curl")
    if not curl:
        tap.skip("no curl")
    token = new_token()
    since = len(lines())
    done = subprocess.run([curl, "-s", "-o", "/dev/null", "-w", "%{http_code}", "--http2-prior-knowledge", "--unix-socket",
                           server.path("second.sock"), "-H", f"Authorization: Bearer {token}", f"http://localhost/ws?token={token}"],
                          capture_output=True, text=True, timeout=TIMEOUT)
    tap.like(done.stdout, "^4", "status")
    clean(token, since)


@tap.case("S66: an error log that goes to syslog shows none")
def _():
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    path = server.path("syslog.sock")
    receiver.bind(path)
    os.chmod(path, 0o666)
    receiver.settimeout(TIMEOUT)
    other = Nginx("location = /ws { rooms; error_log syslog:server=unix:%s info; error_log @DIR@/own.log info; }" % path,
                  http=HTTP, files=FILES, name="syslog")
    token = bad_token()
    with ws.connect(other, f"/ws?token={token}") as page:
        page.expect_closed(4002)
    line = receiver.recv(65536).decode()
    tap.like(line, r"rooms: token refused: .*request: \"GET /ws\?token=\*+ HTTP/1.1\"", "the line")
    clean(token, 0, other, ("all.log", "own.log", "error.log"))
    tap.like(other.read("own.log"), "rooms: token refused")
    tap.is_(other.stop(), [], "problems")


@tap.case("S66: at debug level, of all lines only nginx's own could show it")
def _():
    other = Nginx(LOCATIONS, http="error_log @DIR@/debug.log debug;" + HTTP, files=FILES, name="debug")
    token = new_token()
    for path, fields in (("/ws?token=" + token, ()), ("/ws", [("Authorization", f"Bearer {token}")]),
                         ("/ws", [("Sec-WebSocket-Protocol", f"rooms.v1, rooms.bearer.{token}")])):
        with ws.connect(other, path, headers=fields, protocols=["rooms.v1"] if fields and "Sec" in fields[0][0] else ()) as page:
            page.expect(type="connected")
            page.close()
    clean(token, 2, other, ("all.log", "error.log"))
    text = other.read("debug.log")
    tap.like(text, r"\[debug\]")
    bad = [line for line in text.splitlines() if "rooms: " in line and token[:20] in line]
    tap.is_(bad, [], "our own lines")
    tap.is_(other.stop(), [], "problems")


def in_memory(pid, words):
    """Which of these octets are in what the process may write to."""
    found = set()
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            place, rights = line.split()[:2]
            if not rights.startswith("rw"):
                continue
            begin, end = (int(part, 16) for part in place.split("-"))
            try:
                memory.seek(begin)
                octets = memory.read(end - begin)
            except (OSError, ValueError):   # [vvar] and its like
                continue
            found |= {word for word in words if word in octets}
    return found


@tap.case("S66: once a token has opened a socket, or was refused, no memory of a worker has its signature, and no title")
def _():
    if ASAN:
        tap.skip("the sanitizer's own memory is terabytes, and what is freed stays in quarantine")
    def expect_forgotten(token, user):
        name, signature = user.encode(), token.split(".")[2][4:-4].encode()
        found = set().union(*(in_memory(pid, [name, signature]) for pid in server.workers()))
        tap.is_(found, {name}, f"what is found of {user} and the signature")
        for pid in [server.pid, *server.workers()]:
            tap.unlike(title(pid), re.escape(token[-20:]), "title")
    for way in ({"token": "TOKEN"}, {"headers": AUTHORIZATION}, {"path": "/ws?token=TOKEN"}, {"path": "/cookie", "headers": [("Cookie", "session=TOKEN")]}):
        token = new_token()
        path = way.get("path", "/ws").replace("TOKEN", token)
        headers = [tuple(part.replace("TOKEN", token) for part in pair) for pair in way.get("headers", ())]
        with ws.connect(server, path, headers=headers, token=token if "token" in way else None) as page:
            page.expect(type="connected")
            expect_forgotten(token, f"user-{count}")
            renewed = jwt.mint(sub=f"user-{count}")
            page.send_json(type="auth", token=renewed)
            page.expect(type="auth:ok")
            expect_forgotten(renewed, f"user-{count}")
            other = jwt.mint(sub="somebody-else")
            page.send_json(type="auth", token=other)
            page.expect(type="error", code="bad_token")
            expect_forgotten(other, f"user-{count}")
            page.close()


@tap.case("S66: nothing that Redis is told has a byte of the token")
def _():
    with Redis() as redis:
        other = Nginx("location = /ws { rooms; rooms_allow *; rooms_join session:$rooms_user; }", files=FILES, name="with Redis",
                      http=f"rooms_redis {redis.url}; rooms_jwt_key HS256 @DIR@/secret;")
        token = new_token()
        with ws.connect(other, "/ws", token=token) as page:
            page.wait_for(type="subscribed", room=f"session:user-{count}")
            page.close()
        written = b""
        for folder, _, names in os.walk(redis.dir):
            for name in names:
                if name.endswith((".aof", ".log")):
                    with open(os.path.join(folder, name), "rb") as file:
                        written += file.read()
        tap.ok(f"session:user-{count}".encode() in written, "the room is among what was written")
        for part in token.split("."):
            tap.ok(part.encode() not in written, "a part of the token")
        tap.is_(other.stop(), [], "problems")


@tap.case("S66: logs are reopened and go on being clean")
def _():
    os.rename(server.path("error.log"), server.path("error.log.1"))
    server.send_signal(10)

    def left_it():
        return not any(server.path("error.log.1") in open_files(pid) for pid in (server.pid, *server.workers()))
    wait_until(left_it, "the old log to be left")
    token = bad_token()
    opened("/ws?token=TOKEN", code=4002, token=token)
    server.wait_log(r"token refused.*request: \"GET /ws\?token=\*+ HTTP")


@tap.case("other arguments and headers are left as they are")
def _():
    since = len(lines())
    http.request(server, "GET", "/plain?a=1&mytoken=visible&token_x=seen&b=token", [("Cookie", "k=v"), ("Authorization", "Basic YTpi")])
    wait_until(lambda: len(lines()) > since, "the line")
    tap.in_("|/plain?a=1&mytoken=visible&token_x=seen&b=token|", lines()[-1], "line")
    tap.in_("Basic YTpi", lines()[-1], "line")
    tap.in_("k=v", lines()[-1], "line")


tap.run()

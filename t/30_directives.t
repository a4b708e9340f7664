#!/usr/bin/python3
"""Each directive has a case in which its value changes what a client sees; and how directives are inherited."""
import json
import os
import re
import sys
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import http, jwt, tap, wait_until, ws          # noqa: E402
from rooms.nginx import Nginx                             # noqa: E402
from rooms.redis import Redis                             # noqa: E402

OTHER = b"another secret of the tests, also of thirty-two octets"
KID = b"the secret of the key that has a kid, which is long enough"


def jwks():
    return json.dumps({"keys": [{"kty": "oct", "kid": "k1", "alg": "HS256", "k": jwt.b64(KID)}]})


HTTP = """
    rooms_zone shared:2m;
    rooms_history short:* size=2;
    rooms_history none:* size=0;
    rooms_history brief:* size=100 ttl=200ms;
    rooms_claim $org_id org id;
    rooms_claim $tenant tenantId;
    rooms_jwt_key HS256 @DIR@/secret;
    rooms_allow *;
    log_format short '$uri $status $rooms_close_code $rooms_messages_in $rooms_messages_out $rooms_joined '
                     '$rooms_user $rooms_claim_plan $org_id';
    access_log @DIR@/short.log short;
    map $arg_x $mapped { default ""; ~^(?<y>.+)$ "$y"; }
"""
LOCATIONS = """
    location = /ws          { rooms; }
    location = /echo        { rooms_echo; }
    location = /publish     { rooms_publish; }
    location = /status      { rooms_status; }
    location = /publish-s   { rooms_publish secret=@DIR@/backend; }
    location = /status-s    { rooms_status secret=@DIR@/backend; }
    location = /publish-n   { rooms_publish from=10.0.0.0/8; }
    location = /publish-l   { rooms_publish from=127.0.0.0/8; }
    location = /publish-u   { rooms_publish from=unix:; }
    location = /publish-sl  { rooms_publish secret=@DIR@/backend from=127.0.0.1; }
    location = /publish-sn  { rooms_publish secret=@DIR@/backend from=10.0.0.0/8; }
    location = /status-n    { rooms_status from=10.0.0.0/8; }
    location = /publish-r   { rooms_publish; set_real_ip_from 127.0.0.1; set_real_ip_from unix:; real_ip_header X-Client; }
    location = /publish-rn  { rooms_publish from=10.0.0.0/8; set_real_ip_from 127.0.0.1; real_ip_header X-Client; }
    location = /inside      { try_files /none /publish; }
    location = /user        { return 200 "$rooms_user|$rooms_claim_plan|$org_id|$rooms_claim_none"; }
    location = /nobody      { rooms_jwt_key HS256 @DIR@/other; return 200 "$rooms_user|$rooms_claim_plan"; }

    location = /other-key   { rooms; rooms_jwt_key HS256 @DIR@/other; }
    location = /both-keys   { rooms; rooms_jwt_key HS256 @DIR@/other; rooms_jwt_key HS256 @DIR@/secret; }
    location = /kid         { rooms; rooms_jwt_key HS256 @DIR@/kid kid=k1; rooms_jwt_key HS256 @DIR@/other kid=k2; }
    location = /es256       { rooms; rooms_jwt_key ES256 @DIR@/ES256.pub; }
    location = /jwks        { rooms; rooms_jwt_jwks @DIR@/jwks; }
    location = /token       { rooms; rooms_jwt_token $arg_jwt; }
    location = /header      { rooms; rooms_jwt_token $http_x_token; }
    location = /cookie      { rooms; rooms_jwt_token $cookie_session; }
    location = /issuer      { rooms; rooms_jwt_issuer https://login.example; }
    location = /audience    { rooms; rooms_jwt_audience one two; }
    location = /leeway      { rooms; rooms_jwt_leeway 60s; }
    location = /max-age     { rooms; rooms_jwt_max_age 60s; }
    location = /require     { rooms; rooms_jwt_require exp sub; }
    location = /no-require  { rooms; rooms_jwt_require none; }
    location = /ms          { rooms; rooms_jwt_exp_unit ms; }
    location = /user-claim  { rooms; rooms_jwt_user_claim mail; }
    location = /rooms-claim { rooms; rooms_jwt_rooms_claim may; rooms_allow none:x; }
    location = /http        { rooms; rooms_auth_failure http; }

    location = /allow       { rooms; rooms_allow session:1; rooms_allow tenant:$rooms_claim_tenant_id; rooms_allow user:$rooms_user;
                              rooms_allow org:$org_id; rooms_allow t2:$tenant; rooms_allow arg:$arg_x; rooms_allow map:$mapped-1; }
    location = /join        { rooms; rooms_join tenant:$rooms_claim_tenant_id; rooms_join user:$rooms_user; }
    location = /join-denied { rooms; rooms_allow session:1; rooms_join session:2; }

    location = /origins     { rooms; rooms_origin https://a.example http://b.example:8080 null; }
    location = /origin-re   { rooms; rooms_origin "~https://[a-z]{2,3}\\.example" https://exact.example; }
    location = /origin-any  { rooms; rooms_origin any; }

    location = /heartbeat   { rooms; rooms_heartbeat 200ms timeout=10s; }
    location = /timeout     { rooms; rooms_heartbeat 200ms timeout=300ms; }
    location = /message     { rooms; rooms_max_message 200; }
    location = /max-rooms   { rooms; rooms_max_rooms 2; }
    location = /rate        { rooms; rooms_rate 3/60s; }
    location = /queue       { rooms; rooms_send_queue 32k; }
    location = /limit       { rooms; rooms_max_connections 2; }
    location = /per-user    { rooms; rooms_max_connections 1 per=$rooms_user; rooms_max_connections 3; }
    location = /per-tenant  { rooms; rooms_max_connections 2 per=$rooms_claim_tenant_id; }
    location = /per-address { rooms; rooms_max_connections 2 per=$remote_addr; }
    location = /per-http    { rooms; rooms_max_connections 1 per=${rooms_claim_plan}; rooms_auth_failure http; }
    location = /deflate     { rooms_echo; rooms_compression on min=100 level=9; }
    location = /drain       { rooms; rooms_drain 900ms; }
    location = /drain-now   { rooms; rooms_drain 0s; }
    location = /log-start   { rooms; rooms_access_log upgrade; }
    location = /if          { rooms; rooms_max_message 200; if ($arg_big) { set $unused 1; } }
"""
SECRET = "a backend's secret, long enough"
server = Nginx(LOCATIONS, http=HTTP, files={
    "secret": jwt.SECRET, "other": OTHER, "kid": KID, "backend": SECRET + "\nthe second one of the rotation\n", "jwks": jwks()},
    start=False)
es256 = jwt.Key(server.dir, "ES256")
server.start()


def opened(path, token=None, **options):
    page = ws.connect(server, path, token=token or jwt.mint(sub="u1"), **options)
    page.hello = page.expect(type="connected")
    return page


def closed(path, code, token=None, **options):
    with ws.connect(server, path, token=token, **options) as page:
        page.expect_closed(code)


def refused(path, status, token=None, **options):
    try:
        ws.connect(server, path, token=token or jwt.mint(sub="u1"), **options).drop()
    except ws.HandshakeRefused as refusal:
        tap.is_(refusal.status, status, "status")
        return refusal.response
    tap.fail(f"{path} was opened")


def may(page, room, wanted=True):
    page.send_json(type="subscribe", room=room)
    if wanted:
        page.expect(type="subscribed", room=room)
    else:
        page.expect(type="error", code="forbidden", room=room, retryable=False)


# --- handlers

@tap.case("rooms makes a location the endpoint, another one is none")
def _():
    with opened("/ws") as page:
        page.send_json(type="ping")
        page.expect(type="pong")
    refused("/nowhere", 404)


@tap.case("rooms_echo sends back what comes")
def _():
    with ws.connect(server, "/echo") as page:
        page.send_text("anything at all")
        tap.is_(page.recv_text(), "anything at all", "echo")


def publish(path="/publish", expect=200, **options):
    return http.publish(server, {"room": "session:1", "type": "x", "data": {}}, path=path, expect=expect, **options)


def refused_publish(status, path="/publish", log=None, **options):
    response = http.publish(server, {"room": "session:1", "type": "x", "data": {}}, path=path, expect=None, **options)
    tap.is_(response.status, status, "status")
    tap.isnt(response.json["error"]["code"], None, "code")
    for name in ("Access-Control-Allow-Origin", "Access-Control-Allow-Methods"):
        tap.is_(response.get(name), None, name)
    if log:
        server.wait_log(log)
    return response


BEARER = {"Authorization": f"Bearer {SECRET}"}


@tap.case("S57: rooms_publish alone takes local peers only: TCP and unix socket")
def _():
    publish()
    publish(unix=True)


for header in ("Origin: http://localhost", "Sec-Fetch-Site: same-origin", "X-Forwarded-For: 127.0.0.1", "Forwarded: for=127.0.0.1",
               "Via: 1.1 proxy", "X-Real-IP: 127.0.0.1", "x-forwarded-for: "):
    def go(header=header):
        name, value = header.split(": ")
        refused_publish(403, headers={name: value}, log=rf'"rooms_publish" refused a (?:local peer|request) .* "(?i:{name})"')
        response = http.request(server, "GET", "/status", {name: value})
        tap.is_(response.status, 403, "status of /status")
        server.wait_log(rf'"rooms_status" refused a (?:local peer|request) .* "(?i:{name})"')
    tap.add(f"S57: rooms_publish and rooms_status alone refuse a request with {header}, and the log names both", go)


@tap.case("S57: rooms_publish alone: local is the socket's own peer, whatever realip says")
def _():
    publish("/publish-r", headers={"X-Client": "203.0.113.7"})
    refused_publish(403, "/publish-rn", headers={"X-Client": "203.0.113.7"}, log='outside of "from="')
    publish("/publish-rn", headers={"X-Client": "10.1.2.3"})


@tap.case("S59 R6: rooms_publish secret= takes either line of the file, from anywhere, and nothing else: 401")
def _():
    publish("/publish-s", headers=BEARER)
    publish("/publish-s", headers={"Authorization": "bearer  the second one of the rotation", "X-Forwarded-For": "203.0.113.7"})
    for value in (None, f"Bearer {SECRET}x", f"Bearer {SECRET[:-1]}", "Bearer ", f"Basic {SECRET}", SECRET, f"Bearer {SECRET}\n\tx"):
        if value and "\n" in value:
            continue
        response = refused_publish(401, "/publish-s", headers={"Authorization": value} if value is not None else {})
        tap.like(response.get("WWW-Authenticate", ""), "Bearer", "WWW-Authenticate")


@tap.case("S57: rooms_publish from= takes those peers, with secret= besides both count")
def _():
    publish("/publish-l")
    publish("/publish-u", unix=True)
    refused_publish(403, "/publish-u", log='"rooms_publish" refused a peer outside of "from="')
    refused_publish(403, "/publish-n")
    refused_publish(403, "/publish-l", unix=True)
    publish("/publish-sl", headers=BEARER)
    refused_publish(401, "/publish-sl")
    refused_publish(403, "/publish-sn", headers=BEARER)


@tap.case("S61: rooms_publish is not to be reached by an internal redirect: 403")
def _():
    response = http.publish(server, {"room": "session:1", "type": "x", "data": {}}, path="/inside", expect=None)
    tap.is_(response.status, 403, "status")
    server.wait_log("refused an internal redirect")


@tap.case("rooms_status gives counters, with secret= and from= only to those")
def _():
    tap.is_(http.status(server)["version"].count("."), 2, "version")
    tap.is_(http.request(server, "GET", "/status-s").status, 401, "without the secret")
    http.status(server, path="/status-s", headers=BEARER)
    tap.is_(http.request(server, "GET", "/status-n").status, 403, "from elsewhere")


# --- http{}

@tap.case("rooms_zone gives the zone its name and size")
def _():
    zone = http.status(server)["zone"]
    tap.is_(zone["name"], "shared", "name")
    tap.ok(1 << 20 < zone["size"] <= 2 << 20, f"size {zone['size']}")


@tap.case("rooms_history bounds what a room keeps: size, ttl, size=0, and the default")
def _():
    answers = {}
    for room in ("short:1", "none:1", "brief:1", "session:h"):
        answers[room] = [http.publish(server, {"room": room, "type": "x", "data": {"n": n}}) for n in range(4)]
    time.sleep(0.25)    # the ttl of brief:*; nothing can be waited for
    with opened("/ws") as page:
        for room, offset, recovered, missed in (("short:1", 2, True, [2, 3]), ("short:1", 1, False, []), ("none:1", 3, False, []),
                                                ("brief:1", 3, False, []), ("session:h", 0, True, [0, 1, 2, 3])):
            epoch = answers[room][0]["epoch"]
            page.send_json(type="subscribe", room=room, since={"epoch": epoch, "offset": offset})
            page.expect(type="subscribed", room=room, recovered=recovered)
            for n in missed:
                page.expect(type="x", room=room, n=n)
            page.send_json(type="unsubscribe", room=room)
            page.expect(type="unsubscribed", room=room)


@tap.case("R1: rooms_claim names a claim by its path, in rules and in the log")
def _():
    token = jwt.mint(sub="u1", org={"id": "o7"}, tenantId="T9", plan="gold")
    with opened("/allow", token) as page:
        may(page, "org:o7")
        may(page, "org:o8", False)
        may(page, "t2:T9")
        may(page, "t2:t9", False)
        page.close()
    server_log(r"^/allow 101 1000 4 \d+ 2 u1 gold o7$")


def server_log(pattern):
    return wait_until(lambda: re.search(pattern, server.read("short.log"), re.M), f"a log line {pattern}")


# --- tokens

@tap.case("S29: rooms_jwt_key: the location's own keys replace those of http{}, several may be given, kid picks one")
def _():
    mine, other = jwt.mint(sub="u1"), jwt.mint(sub="u1", key=OTHER)
    opened("/ws", mine).drop()
    closed("/ws", 4002, other)
    opened("/other-key", other).drop()
    closed("/other-key", 4002, mine)
    opened("/both-keys", mine).drop()
    opened("/both-keys", other).drop()
    opened("/kid", jwt.mint(sub="u1", key=KID, header={"kid": "k1"})).drop()
    closed("/kid", 4002, jwt.mint(sub="u1", key=KID, header={"kid": "k2"}))
    opened("/es256", jwt.mint(sub="u1", alg="ES256", key=es256)).drop()
    closed("/es256", 4002, mine)


@tap.case("rooms_jwt_jwks: keys from a JWKS file")
def _():
    opened("/jwks", jwt.mint(sub="u1", key=KID, header={"kid": "k1"})).drop()
    closed("/jwks", 4002, jwt.mint(sub="u1"))


@tap.case("rooms_jwt_token says where the token is, and then it is nowhere else")
def _():
    token = jwt.mint(sub="u1")
    for path, headers in ((f"/token?jwt={token}", []), ("/header", [("X-Token", token)]), ("/header", [("X-Token", f"Bearer {token}")])):
        with ws.connect(server, path, headers=headers) as page:
            page.expect(type="connected", userId="u1")
    for path in ("/token", f"/token?token={token}", "/header"):
        closed(path, 4001, token)


@tap.case("without rooms_jwt_token: subprotocol before Authorization before ?token=; rooms.v1 alone is selected")
def _():
    def of(sub):
        return jwt.mint(sub=sub)
    for headers, path, token, user in (([], f"/ws?token={of('c')}", None, "c"),
                                       ([("Authorization", f"bearer {of('b')}")], f"/ws?token={of('c')}", None, "b"),
                                       ([("Authorization", f"Bearer {of('b')}")], f"/ws?token={of('c')}", of("a"), "a")):
        with ws.connect(server, path, token=token, headers=headers) as page:
            page.expect(type="connected", userId=user)
            tap.is_(page.protocol, "rooms.v1" if token else None, "subprotocol")


@tap.case("S23: rooms_jwt_issuer: iss must be exactly this")
def _():
    opened("/issuer", jwt.mint(sub="u1", iss="https://login.example")).drop()
    closed("/issuer", 4002, jwt.mint(sub="u1", iss="https://login.example/"))
    closed("/issuer", 4002, jwt.mint(sub="u1"))


@tap.case("S23: rooms_jwt_audience: aud must have one of these")
def _():
    opened("/audience", jwt.mint(sub="u1", aud="two")).drop()
    opened("/audience", jwt.mint(sub="u1", aud=["x", "one"])).drop()
    closed("/audience", 4002, jwt.mint(sub="u1", aud="three"))
    closed("/audience", 4002, jwt.mint(sub="u1"))


@tap.case("rooms_jwt_leeway: how long after exp a token is taken")
def _():
    late = jwt.mint(sub="u1", exp=int(time.time()) - 20)
    closed("/ws", 4002, late)
    opened("/leeway", late).drop()


@tap.case("rooms_jwt_max_age: how old iat may be")
def _():
    now = int(time.time())
    opened("/max-age", jwt.mint(sub="u1", iat=now - 5)).drop()
    closed("/max-age", 4002, jwt.mint(sub="u1", iat=now - 300))
    opened("/ws", jwt.mint(sub="u1", iat=now - 300)).drop()


@tap.case("S20: rooms_jwt_require: the claims that must be there; default exp, none for none")
def _():
    closed("/ws", 4002, jwt.mint(sub="u1", exp=None))
    opened("/no-require", jwt.mint(sub="u1", exp=None)).drop()
    closed("/require", 4002, jwt.mint())
    opened("/require", jwt.mint(sub="u1")).drop()


@tap.case("S21 R3: rooms_jwt_exp_unit: milliseconds are taken only where it says so, elsewhere the log says which directive to use")
def _():
    token = jwt.mint(sub="u1", exp=int(time.time() + 3600) * 1000)
    with opened("/ms", token) as page:
        tap.ok(abs(page.hello["expiresAt"] - (time.time() + 3600) * 1000) < 5000, "expiresAt")
    closed("/ws", 4002, token)
    server.wait_log(r"token refused.*milliseconds.*rooms_jwt_exp_unit")


@tap.case("rooms_jwt_user_claim: who the user is; id where it is absent")
def _():
    token = jwt.mint(sub="u1", mail="a@b.c", id="i1")
    tap.is_(opened("/user-claim", token).hello["userId"], "a@b.c", "user")
    tap.is_(opened("/ws", token).hello["userId"], "u1", "user")
    tap.is_(opened("/user-claim", jwt.mint(id="i1")).hello["userId"], "i1", "user")


@tap.case("rooms_jwt_rooms_claim: patterns in the token, besides rooms_allow")
def _():
    with opened("/rooms-claim", jwt.mint(sub="u1", may=["session:7", "tenant:*"], rooms=["session:8"])) as page:
        may(page, "session:7")
        may(page, "tenant:x")
        may(page, "session:8", False)


@tap.case("S7: rooms_auth_failure: 4001 and 4002, or 401 and 403")
def _():
    closed("/ws", 4001)
    closed("/ws", 4002, "x.y.z")
    for token, status in ((None, 401), ("x.y.z", 403)):
        try:
            ws.connect(server, "/http", token=token).drop()
            tap.fail("opened")
        except ws.HandshakeRefused as refusal:
            tap.is_(refusal.status, status, "status")


@tap.case("$rooms_user, $rooms_claim_… and a variable of rooms_claim work in any location that has keys, and are empty without a good token")
def _():
    token = jwt.mint(sub="u1", plan="gold", org={"id": 7})
    header = {"Authorization": f"Bearer {token}"}
    tap.is_(http.request(server, "GET", "/user", header).text, "u1|gold|7|", "with a token")
    tap.is_(http.request(server, "GET", "/user").text, "|||", "without")
    tap.is_(http.request(server, "GET", "/nobody", header).text, "|", "of another key")
    evil = jwt.mint(sub="u\r\n1", plan="a\nb")
    tap.unlike(http.request(server, "GET", "/user", {"Authorization": f"Bearer {evil}"}).text, "[\r\n]", "control characters")


# --- rooms

@tap.case("S33 R1: rooms_allow: claims, the user, a declared claim, variables of the request; all else is closed; case counts")
def _():
    token = jwt.mint(sub="u1", tenant_id="t1")
    with opened("/allow?x=5", token) as page:
        for room, wanted in (("session:1", True), ("session:2", False), ("tenant:t1", True), ("tenant:T1", False), ("tenant:t2", False),
                             ("user:u1", True), ("user:u2", False), ("org:x", False), ("arg:5", True), ("arg:6", False),
                             ("map:5-1", True), ("map:-1", False)):
            may(page, room, wanted)
    with opened("/allow", jwt.mint(sub="u1", tenant_id="*")) as page:
        for room in ("tenant:t1", "tenant:undefined", "arg:5", "map:-1"):
            may(page, room, False)


@tap.case("rooms_join: rooms joined at connect, an empty variable is skipped, rooms_allow must grant them")
def _():
    with opened("/join", jwt.mint(sub="u1", tenant_id="t1")) as page:
        page.expect(type="subscribed", room="tenant:t1")
        page.expect(type="subscribed", room="user:u1")
    with opened("/join", jwt.mint(sub="u1")) as page:
        page.expect(type="subscribed", room="user:u1")
        page.expect_nothing()
    with opened("/join-denied") as page:
        page.expect(type="error", code="forbidden", room="session:2")


@tap.case("S3 S4: rooms_origin: none given, Origin's host and port are those of Host; requests without Origin pass")
def _():
    for origin, host in (("http://localhost", "localhost"), ("https://localhost", "localhost"), ("https://a.example", "a.example:443"),
                         ("http://A.example:8080", "a.example:8080"), (None, "localhost")):
        opened("/ws", origin=origin, host=host).drop()
    for origin, host in (("http://evil.example", "localhost"), ("null", "localhost"), ("http://localhost:81", "localhost"),
                         ("http://localhost.evil.example", "localhost"), ("file://", "localhost"), ("x", "localhost")):
        refused("/ws", 403, origin=origin, host=host)
    server.wait_log(r'\[error\].*rooms: origin "http://localhost.evil.example" refused: it is not in rooms_origin')


@tap.case("S5: rooms_jwt_token from a cookie opens nothing to a page of another site, though rooms_origin says nothing")
def _():
    cookie = [("Cookie", f"session={jwt.mint(sub='u1')}")]
    for origin in ("https://evil.example", "http://localhost.evil.example", "null"):
        try:
            ws.connect(server, "/cookie", origin=origin, headers=cookie).drop()
            tap.fail(f"opened to {origin}")
        except ws.HandshakeRefused as refusal:
            tap.is_(refusal.status, 403, origin)
    with ws.connect(server, "/cookie", origin="http://localhost", headers=cookie) as page:
        page.expect(type="connected", userId="u1")


@tap.case("S3: rooms_origin: a list, a regular expression for the whole origin, any")
def _():
    for path, good, bad in (
            ("/origins", ["https://a.example", "HTTPS://A.EXAMPLE:443", "http://b.example:8080", "null"],
             ["http://a.example", "https://a.example:444", "http://b.example", "http://localhost", "https://a.example.evil"]),
            ("/origin-re", ["https://ab.example", "https://ABC.example", "https://exact.example"],
             ["https://abcd.example", "https://ab.example.evil", "http://ab.example", "xhttps://ab.example", "http://localhost"]),
            ("/origin-any", ["http://evil.example", "null"], [])):
        for origin in good:
            opened(path, origin=origin).drop()
        for origin in bad:
            refused(path, 403, origin=origin)
        opened(path).drop()


# --- limits

@tap.case("rooms_heartbeat: the interval is told and kept, silence beyond the timeout is the end")
def _():
    with opened("/heartbeat") as page:
        tap.is_(page.hello["heartbeat"], 200, "told")
        tap.is_(page.next_frame().opcode, ws.PING, "frame")
    with opened("/timeout") as page:
        page.auto_pong = False
        while page.next_frame() is not None:
            pass
        tap.ok(page.wire.ended, "ended")
    tap.is_(opened("/ws").hello["heartbeat"], 30000, "default")


@tap.case("S41: rooms_max_message: a longer one is 1009")
def _():
    with opened("/message") as page:
        page.send_text('{"type":"ping"}' + " " * 100)
        page.expect(type="pong")
        page.send_text('{"type":"ping"}' + " " * 200)
        page.expect_closed(1009)
    with opened("/ws") as page:
        page.send_text('{"type":"ping"}' + " " * 60000)
        page.expect(type="pong")


@tap.case("S48: rooms_max_rooms: one more is an error, limit")
def _():
    with opened("/max-rooms") as page:
        may(page, "session:1")
        may(page, "session:2")
        page.send_json(type="subscribe", room="session:3")
        page.expect(type="error", code="limit", room="session:3")
        page.send_json(type="unsubscribe", room="session:1")
        page.expect(type="unsubscribed")
        may(page, "session:3")


@tap.case("S46: rooms_rate: more messages are errors, rate")
def _():
    with opened("/rate") as page:
        for _ in range(3):
            page.send_json(type="ping")
            page.expect(type="pong")
        page.send_json(type="ping")
        page.expect(type="error", code="rate", retryable=True)
    with opened("/ws") as page:
        for _ in range(20):
            page.send_json(type="ping")
            page.expect(type="pong")


@tap.case("S52: rooms_send_queue: who does not read is closed with 4101 when more than this waits")
def _():
    text = "x" * 30000
    with opened("/queue", rcvbuf=4096) as slow:
        may(slow, "session:q")
        for _ in range(200):    # more than the kernel's two buffers take
            http.publish(server, {"room": "session:q", "type": "x", "data": {"text": text}})
        slow.expect_closed(4101)
    server_log(r"^/queue 101 4101 ")


@tap.case("S49: rooms_max_connections: one more is 4103, in all and per variable, an empty value is not counted; 429 with http")
def _():
    pages = [opened("/limit") for _ in range(2)]
    closed("/limit", 4103, jwt.mint(sub="u2"))
    pages.pop().close()

    def again():
        page = ws.connect(server, "/limit", token=jwt.mint(sub="u3"))
        try:
            page.expect(type="connected")
        except ws.Closed:
            return None
        return page
    pages.append(wait_until(again, "a free place"))
    one, two = opened("/per-user", jwt.mint(sub="a")), opened("/per-user", jwt.mint(sub="b"))
    closed("/per-user", 4103, jwt.mint(sub="a"))
    nobody = opened("/per-user", jwt.mint())
    closed("/per-user", 4103, jwt.mint(sub="c"))
    gold = [opened("/per-http", jwt.mint(sub="a", plan="gold"))]
    refused("/per-http", 429, jwt.mint(sub="b", plan="gold"))
    gold += [opened("/per-http", jwt.mint(sub="b", plan="free")), opened("/per-http"), opened("/per-http")]
    for page in pages + [one, two, nobody] + gold:
        page.drop()


@tap.case("S49: rooms_max_connections: for each tenant and for each address, whoever the users are")
def _():
    for path, ours, other in (("/per-tenant", {"tenant_id": "t1"}, {"tenant_id": "t2"}), ("/per-address", {}, {"unix": True})):
        def token_of(sub, claims):
            return jwt.mint(sub=sub, **{name: value for name, value in claims.items() if name != "unix"})
        pages = [opened(path, token_of(sub, ours)) for sub in "ab"]
        closed(path, 4103, token_of("c", ours))
        pages.append(opened(path, token_of("c", other), unix="unix" in other))
        for page in pages:
            page.drop()


@tap.case("rooms_compression: off by default, negotiated where on, only for messages of min and more")
def _():
    offer = "permessage-deflate; client_max_window_bits"
    with ws.connect(server, "/echo", extensions=offer) as page:
        tap.is_(page.deflate, None, "extension")
    with ws.connect(server, "/deflate", extensions=offer) as page:
        tap.isnt(page.deflate, None, "extension")
        for size, rsv in ((99, 0), (100, 4)):
            page.send_text("a" * size)
            got = page.next_frame()
            tap.is_(got.rsv, rsv, f"RSV of {size} bytes")


@tap.case("rooms_access_log: the line comes at the end, with its counts, or at the handshake")
def _():
    page = opened("/log-start", jwt.mint(sub="early"))
    server_log(r"^/log-start 101 - 0 0 0 early - -$")
    page.close()
    with opened("/ws", jwt.mint(sub="late", plan="p")) as page:
        may(page, "session:1")
        page.send_json(type="ping")
        page.expect(type="pong")
        tap.unlike(server.read("short.log"), "^.* late .*$", "log")
        page.close(4321)
    server_log(r"^/ws 101 4321 2 3 1 late p -$")


# --- inheritance

@tap.case("what http{} says holds in server and location, what they say replaces it; so do those that repeat, as a whole")
def _():
    other = Nginx("""
        location = /a { rooms; }
        location = /b { rooms; rooms_max_rooms 3; rooms_allow b:*; }
        location /c { rooms_join c:1; location = /c/d { rooms; rooms_allow c:*; } }
    """, server="rooms_max_rooms 2; rooms_allow a:*; rooms_join a:1;", http="""
        rooms_jwt_key HS256 @DIR@/secret; rooms_max_rooms 1; rooms_allow z:*; rooms_heartbeat 7s;
        server { listen unix:@DIR@/two.sock; location = /z { rooms; } }
    """, files={"secret": jwt.SECRET}, name="inheritance")

    def rooms_of(path, tried, address=other):
        with ws.connect(address, path, token=jwt.mint(sub="u")) as page:
            tap.is_(page.expect(type="connected")["heartbeat"], 7000, "heartbeat")
            page.send_json(type="ping", ref="mark")
            said = []
            while (got := page.recv_json()).get("ref") != "mark":
                said.append((got["type"], got["room"]))
            for room in tried:
                page.send_json(type="subscribe", room=room)
                got = page.recv_json()
                said.append((got.get("code", got["type"]), room))
            return said
    ok, no, full = "subscribed", "forbidden", "limit"
    tap.is_(rooms_of("/a", ["a:2", "a:3", "z:1"]), [(ok, "a:1"), (ok, "a:2"), (full, "a:3"), (no, "z:1")], "/a")
    tap.is_(rooms_of("/b", ["b:1", "b:2", "b:3", "b:4", "a:2"]),
            [("error", "a:1"), (ok, "b:1"), (ok, "b:2"), (ok, "b:3"), (full, "b:4"), (no, "a:2")], "/b")
    tap.is_(rooms_of("/c/d", ["c:2", "a:1"]), [(ok, "c:1"), (ok, "c:2"), (no, "a:1")], "/c/d")
    tap.is_(rooms_of("/z", ["z:1", "z:2"], other.path("two.sock")), [(ok, "z:1"), (full, "z:2")], "/z")
    tap.is_(other.stop(), [], "problems")


@tap.case("an `if` in the location keeps the handler and its directives")
def _():
    for path in ("/if", "/if?big=1"):
        with opened(path) as page:
            page.send_text('{"type":"ping"}' + " " * 300)
            page.expect_closed(1009)


@tap.case("rooms_redis: hosts with the same servers and prefix share their rooms, others do not")
def _():
    locations = "location = /ws { rooms; } location = /publish { rooms_publish; } location = /status { rooms_status; }"
    with Redis() as redis:
        hosts = [Nginx(locations, http=f"rooms_redis {redis.url} {more}; rooms_jwt_key HS256 @DIR@/secret; rooms_allow *;",
                       files={"secret": jwt.SECRET}, name=f"rooms_redis {more}") for more in ("", "prefix=rooms", "prefix=other")]
        pages = [ws.connect(host, "/ws", token=jwt.mint(sub="u")) for host in hosts]
        for page in pages:
            page.expect(type="connected")
            page.send_json(type="subscribe", room="session:1")
            page.expect(type="subscribed")
        tap.is_(http.publish(hosts[0], {"room": "session:1", "type": "x"})["offset"], 1)
        pages[0].expect(type="x", offset=1)
        pages[1].expect(type="x", offset=1)
        pages[2].expect_nothing()
        tap.is_(http.publish(hosts[2], {"room": "session:1", "type": "y"})["offset"], 1)
        pages[2].expect(type="y", offset=1)
        pages[0].expect_nothing()
        tap.is_(http.status(hosts[0])["redis"]["server"], redis.url, "server in the status")
        tap.is_([host.stop() for host in hosts], [[], [], []], "problems")


# --- last, for it replaces the workers

@tap.case("rooms_drain: at reload every socket is told to come within two thirds of it, or closed with 1012 at once", kills_workers=True)
def _():
    slow, fast, late = opened("/drain"), opened("/drain-now"), opened("/ws")
    server.reload()
    got = slow.expect(type="reconnect")
    tap.ok(0 <= got["afterMs"] <= 600, f"afterMs {got['afterMs']}")
    got = late.expect(type="reconnect")
    tap.ok(0 <= got["afterMs"] <= 2000, f"afterMs {got['afterMs']}")
    started = time.monotonic()
    slow.expect_closed(1012)
    tap.ok(time.monotonic() - started < 1.5, "closed at the end of the window")
    while fast.closed is None:
        fast.next_frame()
    tap.is_(fast.closed.code, 1012, "code")
    late.send_close(1012)
    late.expect_closed(1012, answer=False)
    fast.drop()


tap.run()

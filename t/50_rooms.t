#!/usr/bin/python3
"""Rooms as a page meets them: connected, subscribe, events, rules, presence, tokens that end."""
import os
import sys
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import SCALE, http, jwt, tap, wait_until, ws   # noqa: E402
from rooms.nginx import Nginx                             # noqa: E402
from rooms.page import join, presence                     # noqa: E402

server = Nginx(http="""
    rooms_claim $org org id;
    rooms_claim $nested app tenant;
    rooms_history brief:* size=2 ttl=10m;
    rooms_history none:* size=0 ttl=10m;
""", locations="""
    location = /ws {
        rooms;
        rooms_jwt_key HS256 @DIR@/secret;
        rooms_allow tenant:$rooms_claim_tenant_id;
        rooms_allow org:$org:*;
        rooms_allow user:$rooms_user;
        rooms_allow page:$arg_page;
        rooms_allow session:*;
        rooms_allow brief:*;
        rooms_allow none:*;
        rooms_max_rooms 6;
        rooms_rate 40/10s;
    }
    location = /joined {
        rooms;
        rooms_jwt_key HS256 @DIR@/secret;
        rooms_allow tenant:$rooms_claim_tenant_id;
        rooms_allow session:none-of-yours;
        rooms_join tenant:$rooms_claim_tenant_id;
        rooms_join session:$arg_session;
        rooms_rate 1000/10s;
    }
    location = /silent { rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_allow session:*; }
    location = /silent/rooms { rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_allow session:*; rooms_rate 1000/10s; }
    location = /mirrored { rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_allow session:*; mirror /copy; }
    location = /copy { internal; proxy_pass http://127.0.0.1:1; }
    location = /nested {
        rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_allow tenant:$nested;
        rooms_max_connections 2 per=$rooms_user;
    }
    location = /closed { rooms; rooms_jwt_key HS256 @DIR@/secret; }
    location = /publish { rooms_publish; }
""", files={"secret": jwt.SECRET})


def page(worker=None, path="/ws", **claims):
    claims.setdefault("sub", "u1")
    token = jwt.mint(**claims)
    if worker is None:
        socket = ws.connect(server, path, token=token)
    else:
        socket = ws.connect_to_worker(server, worker, path, token=token)
    socket.connected = socket.expect(type="connected", userId=claims["sub"])
    return socket


def publish(to, kind="x", **data):
    return http.publish(server, {"room": to, "type": kind, "data": data})


@tap.case("connected tells user, connection, expiry, heartbeat and the server's clock")
def _():
    exp = int(time.time()) + 120
    with page(exp=exp) as socket:
        hello = socket.connected
        tap.is_(hello["expiresAt"], exp * 1000)
        tap.is_(hello["heartbeat"], 30000)
        tap.ok(abs(hello["serverTime"] - time.time() * 1000) < 5000, "serverTime")
        tap.like(hello["timestamp"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        tap.ok(len(hello["connectionId"]) >= 8, "connectionId")


@tap.case("an event is its data, flat, with type, room, the kind's id, offset and timestamp")
def _():
    with page() as socket:
        join(socket, "session:flat")
        answer = publish("session:flat", "session:update", state="building", progress=90, room="mine", offset=7)
        event = socket.expect(type="session:update", room="session:flat", sessionId="flat", state="building",
                              progress=90, offset=1)
        tap.is_(answer["offset"], 1)
        tap.is_(answer["subscribers"], 1)
        tap.ok(abs(event["timestamp"] - time.time() * 1000) < 5000, "timestamp")


@tap.case("members on both workers get every event, in one order")
def _():
    pages = [page(pid) for pid in server.workers() for _ in range(2)]
    for socket in pages:
        join(socket, "session:both")
    for n in range(50):
        publish("session:both", n=n)
    for socket in pages:
        for n in range(50):
            socket.expect(type="x", n=n, offset=n + 1)
        socket.expect_nothing()
        socket.close()


@tap.case("rules: a claim, a path of claims, the user, an argument of the handshake")
def _():
    token = jwt.mint(sub="u1", tenant_id="acme", org={"id": 42})
    with ws.connect(server, "/ws?page=home", token=token) as socket:
        socket.expect(type="connected")
        for room in ("tenant:acme", "org:42:x", "user:u1", "page:home"):
            join(socket, room)
        for room in ("tenant:globex", "org:43:x", "org:42", "user:u2", "page:other", "ticket:1"):
            socket.send_json(type="subscribe", room=room, ref=room)
            kind = room.split(":")[0]
            socket.expect(type="error", code="forbidden", room=room, ref=room, retryable=False,
                          message="Access denied to " + kind)


@tap.case("R1: a rule with an empty value matches nothing")
def _():
    with page() as socket:  # no tenant_id, no ?page=
        for room in ("tenant:acme", "page:x", "org:x:y"):
            socket.send_json(type="subscribe", room=room)
            socket.expect(type="error", code="forbidden", room=room)


@tap.case("S33 R2: closed by default: without a rule only the token's own rooms are open")
def _():
    token = jwt.mint(sub="u1", rooms=["session:7", "ticket:*"])
    with ws.connect(server, "/closed", token=token) as socket:
        socket.expect(type="connected")
        join(socket, "session:7")
        join(socket, "ticket:9")
        socket.send_json(type="subscribe", room="session:8")
        socket.expect(type="error", code="forbidden", room="session:8")


@tap.case("R2: another tenant's socket is refused the room and gets nothing")
def _():
    with page(tenant_id="acme") as mine, page(tenant_id="globex") as other:
        join(mine, "tenant:acme")
        other.send_json(type="subscribe", room="tenant:acme")
        other.expect(type="error", code="forbidden", room="tenant:acme")
        publish("tenant:acme", n=1)
        mine.expect(type="x", n=1)
        other.expect_nothing()


@tap.case("S39: what is refused is told alike, whether that room of another tenant has members and events or never was")
def _():
    with page(tenant_id="acme") as mine, page(tenant_id="globex") as other:
        start = join(mine, "tenant:acme")
        publish("tenant:acme", n=1)
        mine.wait_for(type="x", n=1)

        def told(room):
            answers = []
            for message in ({"type": "subscribe"}, {"type": "presence"}, {"type": "unsubscribe"},
                            {"type": "subscribe", "since": {"epoch": start["epoch"], "offset": start["offset"]}}):
                other.send_json({**message, "room": room})
                answers.append({**other.expect(room=room), "room": "", "timestamp": 0})
            return answers
        answers = told("tenant:acme")
        tap.is_(answers, told("tenant:never-was"), "answers")
        tap.is_([answer.get("code", answer["type"]) for answer in answers], ["forbidden", "forbidden", "unsubscribed", "forbidden"], "codes")
        other.expect_nothing()


@tap.case("rooms_join joins what the rules grant, tells what they do not, and skips an empty variable")
def _():
    with page(path="/joined", tenant_id="acme") as socket:
        socket.expect(type="subscribed", room="tenant:acme")
        socket.expect_nothing()
    with ws.connect(server, "/joined?session=5", token=jwt.mint(sub="u1", tenant_id="acme")) as socket:
        socket.expect(type="connected")
        got = {message["room"]: message for message in (socket.recv_json(), socket.recv_json())}
        tap.is_(got["tenant:acme"]["type"], "subscribed")
        tap.is_(got["session:5"]["code"], "forbidden")


@tap.case("unsubscribe ends the events and is answered, member or not")
def _():
    with page() as socket:
        join(socket, "session:u")
        socket.send_json(type="unsubscribe", room="session:u", ref="a")
        socket.expect(type="unsubscribed", room="session:u", ref="a")
        tap.is_(publish("session:u")["subscribers"], 0)
        socket.send_json(type="unsubscribe", room="session:u", ref="b")
        socket.expect(type="unsubscribed", room="session:u", ref="b")
        socket.expect_nothing()


@tap.case("ping is answered, and every answer repeats ref")
def _():
    with page() as socket:
        socket.send_json(type="ping", ref="r-1")
        socket.expect(type="pong", ref="r-1")
        socket.send_json(type="subscribe", sessionId="1", ref=2)
        socket.expect(type="subscribed", room="session:1", ref=2)
        socket.send_json(type="presence", room="session:1", ref="p")
        socket.expect(type="presence", ref="p", count=1)


BAD = [
    ("not JSON", "hello", "bad_json"),
    ("a NUL", '{"type":"ping"}\x00', "bad_json"),
    ("a NUL in a name", '{"type":"subscribe","room":"session:\\u0000"}', "bad_room"),
    ("an array", "[1]", "bad_message"),
    ("duplicate members", '{"type":"ping","type":"ping"}', "bad_json"),
    ("JSON that is too deep", '{"type":"ping","x":' + "[" * 40 + "]" * 40 + "}", "bad_json"),
    ("no type", '{"room":"session:1"}', "bad_message"),
    ("a type that is a number", '{"type":1}', "bad_message"),
    ("an unknown type", '{"type":"dance"}', "unknown_type"),
    ("a room that is a number", '{"type":"subscribe","room":1}', {"bad_room", "bad_message"}),
    ("no room", '{"type":"subscribe"}', {"bad_room", "bad_message"}),
    ("a room without a kind", '{"type":"subscribe","room":"lobby"}', "bad_room"),
    ("a room with a space", '{"type":"subscribe","room":"session:a b"}', "bad_room"),
    ("since that is no position", '{"type":"subscribe","room":"session:1","since":5}', "bad_message"),
    ("a token that is junk", '{"type":"auth","token":"junk"}', "bad_token"),
    ("a token that is a number", '{"type":"auth","token":5}', "bad_message"),
]


def bad_message(text, code):
    with page() as socket:
        socket.send_text(text)
        got = socket.expect(type="error")
        tap.in_(got["code"], code if isinstance(code, set) else {code})
        tap.ok(len(got["message"]) > 5, "message says what is wrong: %r" % got["message"])
        join(socket, "session:1")


for what, text, code in BAD:
    tap.add("an error frame says what is wrong, and the connection lives: %s" % what, bad_message, text, code)


@tap.case("a position brings back exactly what was missed, on either worker")
def _():
    with page() as socket:
        start = join(socket, "session:back")
    tap.is_(start["offset"], 0)
    for n in range(5):
        publish("session:back", n=n)
    for pid in server.workers():
        with page(pid) as socket:
            got = join(socket, "session:back", since={"epoch": start["epoch"], "offset": 2})
            tap.is_((got["recovered"], got["offset"]), (True, 5))
            for n in range(2, 5):
                socket.expect(type="x", n=n, offset=n + 1)
            socket.expect_nothing()


@tap.case("a position that the history does not reach is recovered:false, and nothing old is sent")
def _():
    with page() as socket:
        start = join(socket, "brief:1")
    for n in range(4):
        publish("brief:1", n=n)
    for since, recovered in (({"epoch": start["epoch"], "offset": 1}, False),
                             ({"epoch": start["epoch"], "offset": 2}, True),
                             ({"epoch": start["epoch"], "offset": 4}, True),
                             ({"epoch": start["epoch"], "offset": 5}, False),
                             ({"epoch": "dead", "offset": 4}, False)):
        with page() as socket:
            got = join(socket, "brief:1", since=since)
            tap.is_((got["recovered"], got["offset"], got["epoch"]), (recovered, 4, start["epoch"]))
            for offset in range(since["offset"] + 1, 5) if recovered else ():
                socket.expect(type="x", offset=offset)
            socket.expect_nothing()


@tap.case("size=0 keeps nothing but the position")
def _():
    with page() as socket:
        start = join(socket, "none:1")
        publish("none:1", n=1)
        socket.expect(type="x", n=1, offset=1)
    with page() as socket:
        tap.is_(join(socket, "none:1", since={"epoch": start["epoch"], "offset": 1})["recovered"], True)
    with page() as socket:
        tap.is_(join(socket, "none:1", since={"epoch": start["epoch"], "offset": 0})["recovered"], False)


@tap.case("presence counts users and connections on both workers")
def _():
    first, second = server.workers()
    with page(first, sub="u1") as one, page(second, sub="u1") as tab, page(second, sub="u2") as two:
        for socket in (one, tab, two):
            join(socket, "session:seen")
        tap.is_(presence(one, "session:seen"), ([("u1", 2), ("u2", 1)], 3))
        tab.close()
        wait_until(lambda: presence(one, "session:seen") == ([("u1", 1), ("u2", 1)], 2), "the tab that closed is gone")


@tap.case("S48: rooms_max_rooms: the next one is refused, the others stay")
def _():
    with page() as socket:
        for n in range(6):
            join(socket, "session:m%d" % n)
        socket.send_json(type="subscribe", room="session:m6")
        socket.expect(type="error", code="limit", room="session:m6")
        join(socket, "session:m0")


@tap.case("S46: rooms_rate: messages over it are refused, and a client that goes on is closed with 4102")
def _():
    with page() as socket:
        for _n in range(40):
            socket.send_json(type="ping")
        for _n in range(40):
            socket.expect(type="pong")
        for _n in range(41):
            socket.send_json(type="ping")
        socket.expect(type="error", code="rate", retryable=True)
        drain_until_closed(socket, 4102)


def drain_until_closed(socket, code):
    while True:
        frame = socket.next_frame()
        if frame.opcode == 8:
            tap.is_(frame.code, code)
            return


@tap.case("S47: pings of the protocol count as messages: no pong beyond rooms_rate, and a client that goes on is closed with 4102")
def _():
    with page() as socket:
        for n in range(40):
            socket.send_ping(b"%d" % n)
        for n in range(40):
            tap.is_(socket.next_frame(), ws.Frame(10, b"%d" % n), "pong")
        socket.send_ping(b"one more")
        socket.expect(type="error", code="rate", retryable=True)
        for _n in range(40):
            socket.send_ping()
        drain_until_closed(socket, 4102)


@tap.case("R8 S41 S46 S48: where nothing is said there are limits: 64k, 60 messages in 10 s, 128 rooms, one origin, a heartbeat")
def _():
    def text(size):
        return '{"type":"ping"}'.ljust(size)
    with page(path="/silent") as socket:
        tap.is_(socket.connected["heartbeat"], 30000, "heartbeat")
        socket.send_text(text(65536))
        for _n in range(59):
            socket.send_json(type="ping")
        for _n in range(60):
            socket.expect(type="pong")
        socket.send_json(type="ping")
        socket.expect(type="error", code="rate")
    with page(path="/silent") as socket:
        socket.send_text(text(65537))
        socket.expect_closed({1009})
    with page(path="/silent/rooms") as socket:
        for n in range(128):
            join(socket, f"session:{n}")
        socket.send_json(type="subscribe", room="session:128")
        socket.expect(type="error", code="limit")
    try:
        ws.connect(server, "/silent", token=jwt.mint(sub="u1"), origin="https://evil.example").drop()
        tap.fail("opened to another origin")
    except ws.HandshakeRefused as refusal:
        tap.is_(refusal.status, 403, "status")


@tap.case("S55: a message may be 16 deep, and no deeper")
def _():
    with page() as socket:
        for depth, answer in ((15, {"type": "pong"}), (16, {"type": "error", "code": "bad_json"})):
            socket.send_text('{"type":"ping","x":%s}' % ("[" * depth + "]" * depth))
            socket.expect(**answer)


@tap.case("S51: a socket without a good token is gone within 10 s, though it never answers our Close and goes on sending")
def _():
    sockets = [ws.connect(server, "/ws", token=token) for token in (None, "x.y.z", jwt.mint(sub="u1", exp=1))]
    started = time.monotonic()
    for socket, code in zip(sockets, (4001, 4002, 4002)):
        tap.is_(socket.next_frame().code, code, "Close")
        socket.send_ping()
    for socket in sockets:
        tap.is_(socket.next_frame(10 * SCALE), None, "the end")
        tap.ok(time.monotonic() - started < 10 * SCALE, f"gone after {time.monotonic() - started:.1f} s")


@tap.case("S69: what a page says, good or bad, does not reach the log")
def _():
    with page() as socket:
        for text in ('{"type":"subscribe","room":"session:1","x":"a secret of the session"}', '{"type":"a secret of the session"}',
                     "a secret of the session", '{"type":"subscribe","room":"a secret of the session"}',
                     '{"type":"auth","token":"a secret of the session"}'):
            socket.send_text(text)
            socket.recv_json()
        socket.close()
    with page() as socket:
        socket.send(ws.frame(ws.TEXT, b"a secret of the session\xff"))
        socket.expect_closed({1007})
    tap.unlike(server.log(), "a secret of the session", "the error log")


@tap.case("binary is closed with 1003")
def _():
    socket = page()
    socket.send_binary(b"\x00\x01")
    socket.expect_closed({1003})


@tap.case("S30 R9: at exp the socket is warned beforehand and closed with 4201 at the end")
def _():
    exp = int(time.time()) + 3
    socket = page(exp=exp)
    socket.expect(type="token:expiring", expiresAt=exp * 1000, timeout=5)
    tap.ok(time.time() < exp, "before the end")
    socket.expect_closed({4201}, timeout=5)
    tap.ok(time.time() >= exp - 0.1, "not before exp")


@tap.case("S30: auth with a new token of the same person moves the end")
def _():
    exp = int(time.time()) + 3
    socket = page(exp=exp, tenant_id="acme")
    later = int(time.time()) + 60
    socket.send_json(type="auth", token=jwt.mint(sub="u1", tenant_id="acme", exp=later), ref=1)
    socket.expect(type="auth:ok", expiresAt=later * 1000, ref=1)
    wait_until(lambda: time.time() > exp + 1, "the old token's end has passed")
    socket.expect_nothing()
    for claims in ({"sub": "u2", "tenant_id": "acme"}, {"sub": "u1", "tenant_id": "globex"}):
        socket.send_json(type="auth", token=jwt.mint(**claims))
        socket.expect(type="error", code="bad_token")
    socket.close()


@tap.case("S30: auth does not change the tenant, wherever in the token it stands")
def _():
    with ws.connect(server, "/nested", token=jwt.mint(sub="u1", app={"tenant": "a"})) as socket:
        socket.expect(type="connected")
        join(socket, "tenant:a")
        socket.send_json(type="auth", token=jwt.mint(sub="u1", app={"tenant": "b"}))
        socket.expect(type="error", code="bad_token")
        socket.send_json(type="auth", token=jwt.mint(sub="u1", app={"tenant": "a"}))
        socket.expect(type="auth:ok")


@tap.case("S49: rooms_max_connections gives places back, however a connection ends")
def _():
    token = jwt.mint(sub="limited", app={"tenant": "a"})

    def pair():
        """Both places, or nothing yet."""
        sockets = [ws.connect(server, "/nested", token=token) for _ in range(2)]
        if all(socket.next_frame().opcode == 1 for socket in sockets):
            return sockets
        for socket in sockets:
            socket.drop()
        return None
    for end in ("close", "drop", "abort") * 2:
        sockets = wait_until(pair, "two places")
        ws.connect(server, "/nested", token=token).expect_closed({4103})
        for socket in sockets:
            getattr(socket, end)()


@tap.case("a location with mirror is no socket: 500, and a line that says why")
def _():
    since = len(server.log())
    for _n in range(3):
        response = http.request(server, "GET", "/mirrored", {
            "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version": "13", "Authorization": "Bearer " + jwt.mint(sub="u1")})
        tap.is_(response.status, 500)
    server.wait_log(r'no "mirror" in a location with "rooms"', since=since)
    join(page(), "session:after-mirror")


@tap.case("without a token 4001, with a bad one 4002, after the upgrade")
def _():
    ws.connect(server, "/ws").expect_closed({4001})
    ws.connect(server, "/ws", token=jwt.mint(sub="u1", exp=1)).expect_closed({4002})
    ws.connect(server, "/ws?token=junk").expect_closed({4002})


tap.run()

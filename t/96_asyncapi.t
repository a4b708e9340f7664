#!/usr/bin/python3
"""docs/asyncapi.yaml beside the running server: every message of either side is said on real sockets, and public validators
judge the document and each frame by it."""
import json
import os
import re
import signal
import sys
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import ROOT, SCALE, http, jwt, tap, ws                              # noqa: E402
from rooms.approvals import OPTIONS, act, approvals_host, create, migrate, new_session    # noqa: E402
from rooms.nginx import Nginx                                                  # noqa: E402
from rooms.page import join, new_room                                          # noqa: E402
from rooms.postgres import Postgres                                            # noqa: E402
from rooms.redis import Redis                                                  # noqa: E402
from rooms.spec import Frames, judge                                           # noqa: E402

SOCKET = "rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_allow session:*;"
LOCATIONS = f"""
    location = /ws       {{ {SOCKET} rooms_max_rooms 4;
                            rooms_allow tenant:$rooms_claim_tenant_id; rooms_allow asked:* request=/asked; }}
    location = /free     {{ {SOCKET} rooms_jwt_require none; rooms_join session:lobby; rooms_join tenant:none; }}
    location = /rate     {{ {SOCKET} rooms_rate 2/10s; }}
    location = /short    {{ {SOCKET} rooms_max_message 100; }}
    location = /slow     {{ {SOCKET} rooms_send_queue 1k; }}
    location = /two      {{ {SOCKET} rooms_max_connections 1; }}
    location = /asked    {{ internal; return 500; }}
    location = /publish  {{ rooms_publish; }}
    location = /status   {{ rooms_status; }}
"""
WITH_APPROVALS = LOCATIONS + "location /approvals { rooms_approvals_api; }"
FILES = {"secret": jwt.SECRET}
APPROVALS = "warn=900ms"

redis, pg = Redis(appendfsync=None), Postgres(options=OPTIONS)
migrate(pg)
sql = pg.session()
alone = Nginx(LOCATIONS, http="rooms_zone small:1m; rooms_drain 100ms;", files=FILES, name="alone")
shared = Nginx(WITH_APPROVALS, http=f"rooms_redis {redis.url}; rooms_approvals redis {APPROVALS};", files=FILES,
               name="with Redis")
database = approvals_host(pg, f"rooms_approvals postgres {APPROVALS};", locations=WITH_APPROVALS, name="with Postgres")

said = Frames()


def page(name, server=alone, path="/ws", rooms=(), **claims):
    socket = said.connect(name, server, path, token=jwt.mint(**{"sub": "u1", "tenant_id": "t1", **claims}))
    socket.expect(type="connected")
    for room in rooms:
        join(socket, room)
    return socket


def publish(server, room, **more):
    return http.publish(server, {"room": room, "type": "x", **more})


@tap.case("what a client may say is answered: rooms, positions, presence, pings, tokens")
def _():
    room = new_room()
    with page("a page", rooms=[room]) as socket:
        publish(alone, room, data={"n": [1, {"a": None}]}, id="e1")
        epoch = publish(alone, room)["epoch"]
        for offset in (1, 2):
            socket.expect(type="x", offset=offset)
        for ref in (7, "a", True, None, 1.5):
            socket.send_json(type="ping", ref=ref)
            socket.expect(type="pong", ref=ref)
        socket.send_json(type="ping")
        socket.expect(type="pong")
        for verb, answer in (("subscribe", "subscribed"), ("presence", "presence"), ("unsubscribe", "unsubscribed")):
            for fields in ({"sessionId": "s"}, {"sessionId": 5}, {"room": "session:s", "ref": 1},
                           {"room": "session:5", "more": {}}):
                socket.send_json(type=verb, **fields)
                socket.expect(type=answer)
        for fields in ({"tenant_id": "t1"}, {"tenant_id": "t1", "exp": int(time.time()) + 100}):
            socket.send_json(type="auth", token=jwt.mint(sub="u1", **fields), ref="t")
            socket.expect(type="auth:ok", ref="t")
        socket.close(1000)
    with page("a page that comes back") as socket:
        tap.is_(join(socket, room, since={"epoch": epoch, "offset": 1})["recovered"], True)
        socket.expect(offset=2)
        tap.is_(join(socket, room, since={"epoch": "none", "offset": 0})["recovered"], False)
        socket.close(1001)


@tap.case("a token that names nobody and has no end; rooms that are joined unasked")
def _():
    with said.connect("nobody", alone, "/free", token=jwt.mint(exp=None)) as socket:
        socket.expect(type="connected", userId=None, expiresAt=None)
        socket.expect(type="subscribed", room="session:lobby")
        socket.expect(type="error", code="forbidden", room="tenant:none")
        socket.send_json(type="auth", token=jwt.mint(exp=None))
        socket.expect(type="auth:ok", expiresAt=None)
        socket.close()


@tap.case("each error, and what it is about")
def _():
    with page("a page that errs") as socket:
        # What no schema can say: a member that is there twice, and how deep a text is.
        deep = '{"type":"ping","a":%s}' % ("[" * 20 + "]" * 20)
        for text, wrong in (("", True), ("{", True), ('{"type":"ping","type":"ping"}', False), (deep, False)):
            said.refused(socket, text, "bad_json", wrong=wrong)
        for message in ([], 1, {}, {"type": 1}, {"type": "subscribe"}, {"type": "auth"}, {"type": "auth", "token": 1},
                        {"type": "ping", "ref": []}, {"type": "ping", "ref": "x" * 127},
                        {"type": "subscribe", "room": "session:1", "since": 5},
                        {"type": "subscribe", "room": "session:1", "since": {"epoch": "a"}},
                        {"type": "subscribe", "room": "session:1", "since": {"epoch": "a", "offset": -1}}):
            said.refused(socket, message, "bad_message", retryable=False)
        said.refused(socket, {"type": "nope", "ref": 1}, "unknown_type", ref=1)
        for verb in ("subscribe", "unsubscribe", "presence"):
            for field in ({"room": "lobby"}, {"room": 5}, {"room": "session:" + "x" * 300}, {"sessionId": "a b"},
                          {"sessionId": 1.5}):
                said.refused(socket, {"type": verb, **field}, "bad_room")
        said.refused(socket, {"type": "auth", "token": "x"}, "bad_token", wrong=False)
        said.refused(socket, {"type": "subscribe", "room": "tenant:2"}, "forbidden", wrong=False, room="tenant:2")
        for n in range(4):
            join(socket, f"session:{n}")
        said.refused(socket, {"type": "subscribe", "room": "session:more"}, "limit", wrong=False)
        socket.close()
    with page("a page whose rule is not answered") as socket:
        said.refused(socket, {"type": "subscribe", "room": "asked:1"}, "unavailable", wrong=False, retryable=True)
        socket.close()
    with page("a page in a hurry", path="/rate") as socket:
        for _ in range(2):
            socket.send_json(type="ping")
            socket.expect(type="pong")
        for _ in range(2):
            said.refused(socket, {"type": "ping"}, "rate", wrong=False, retryable=True)
        socket.send_json(type="ping")
        socket.expect_closed(4102)


def approvals(server):
    of = new_session(sql) if server is database else new_room().partition(":")[2]
    with page("a page of approvals", server, rooms=[f"session:{of}"]) as socket:
        made = {end: create(server, of, timeout=600)["id"] for end in ("approved", "rejected", "cancelled")}
        create(server, of, timeout=1.2, tenantId=None, context={"n": 1})
        act(server, made["approved"], "extend", by=60)
        act(server, made["approved"], "resolve", status="approved", resolvedBy="ann")
        act(server, made["rejected"], "resolve", status="rejected", resolvedBy="ann")
        act(server, made["cancelled"], "cancel")
        if server is database:
            id_ = create(server, new_session(sql, None), timeout=600)["id"]
            sql(f"update hitl_approvals set session_id = '{of}', expires_at = 'infinity' where id = '{id_}'")
            act(server, id_, "cancel")
        seen = []
        while "timeout" not in seen:
            event = socket.expect()
            seen.append(event.get("status") or event["type"].partition(":")[2])
        for kind in ("requested", "extended", "expiring", "approved", "rejected", "cancelled"):
            tap.in_(kind, seen)
        socket.close()


tap.add("what pages hear of approvals, with Redis", approvals, shared)
tap.add("what pages hear of approvals, with Postgres", approvals, database)


@tap.case("`gap`, from a worker that slept too long, from a room that began anew, for an event that no browser could read")
def _():
    room = new_room()
    awake, asleep = alone.workers()
    socket = said.keep("a page of a sleeper", ws.connect_to_worker(alone, asleep, "/ws", token=jwt.mint(sub="u1")))
    socket.expect(type="connected")
    join(socket, room)
    publisher = wire_to(awake)
    os.kill(asleep, signal.SIGSTOP)
    try:
        for _ in range(12):
            body = json.dumps({"room": room, "type": "x", "data": {"a": "x" * 100000}}).encode()
            publisher.send(http.request_octets("POST", "/publish", body=body, connection="keep-alive"))
            tap.is_(http.read_response(publisher, "POST").status, 200)
    finally:
        os.kill(asleep, signal.SIGCONT)
    tap.is_(socket.expect(type="gap", room=room)["reason"], "trimmed")
    socket.drop()
    publisher.close()

    rooms = new_room(), new_room()
    with open(os.path.join(ROOT, "src/store/publish.lua"), encoding="utf-8") as file:
        script = file.read()
    with page("a page on Redis", shared, rooms=rooms) as socket, redis.client() as client:
        base = f"rooms:{{{rooms[0]}}}"
        client("EVAL", script, 2, f"{base}:meta", f"{base}:stream", '{"type":"x","n":NaN}')
        tap.is_(socket.expect(type="gap", room=rooms[0])["reason"], "invalid")
        publish(shared, rooms[1])
        socket.expect(type="x", room=rooms[1])
        client("DEL", f"rooms:{{{rooms[1]}}}:stream", f"rooms:{{{rooms[1]}}}:meta")
        publish(shared, rooms[1])
        tap.is_(socket.expect(type="gap", room=rooms[1])["reason"], "reset")
        socket.drop()


def wire_to(pid):
    """A connection that stays, at this worker."""
    for _ in range(400):
        wire = ws.open_wire(alone)
        wire.send(http.request_octets("GET", "/status", connection="keep-alive"))
        if http.read_response(wire).get("X-Worker") == str(pid):
            return wire
        wire.close()
    raise AssertionError(f"worker {pid} took no connection")


@tap.case("the server closes with its codes")
def _():
    for code, octets in ((1002, ws.frame(ws.TEXT, b"x", mask=None)), (1003, ws.frame(ws.BINARY, b"x")),
                         (1007, ws.frame(ws.TEXT, b"\xff"))):
        with page(f"a page of {code}") as socket:
            socket.send(octets)
            socket.expect_closed(code)
    with page("a page of 1009", path="/short") as socket:
        socket.send_frame(ws.TEXT, b"x" * 200)
        socket.expect_closed(1009)
    said.connect("no token", alone).expect_closed(4001)
    said.connect("a bad token", alone, token="x").expect_closed(4002)
    with page("the one", path="/two"):
        said.connect("one more", alone, "/two", token=jwt.mint(sub="u2")).expect_closed(4103)
    with page("a page that reads nothing", path="/slow", rcvbuf=4096) as slow:
        join(slow, "session:slow")
        for _ in range(200):
            publish(alone, "session:slow", data={"text": "x" * 30000})
        slow.expect_closed(4101)


@tap.case("a token that ends: `token:expiring`, then 4201")
def _():
    exp = time.time() + 0.8 * SCALE
    with page("a page whose token ends", exp=exp) as socket:
        socket.expect(type="token:expiring")
        socket.expect_closed(4201)


@tap.case("a server that leaves: `reconnect`, then 1012", kills_workers=True)
def _():
    with page("a page that is sent away") as socket:
        alone.reload()
        socket.expect(type="reconnect")
        socket.expect_closed(1012)


# --- the verdict

PAYLOADS = "/components/messages/"
FALSE = {
    "`afterMs` is a string": [(PAYLOADS + "reconnect/payload/properties/afterMs/type", "string")],
    "`subscribed` has no `epoch`": [(PAYLOADS + "subscribed/payload/properties/epoch", None)],
    "`connected` has a field more": [(PAYLOADS + "connected/payload/required", ["type", "tenantId"])],
    "no room is forbidden": [(PAYLOADS + "error/payload/properties/code/enum/5", "denied")],
    "no count begins anew": [(PAYLOADS + "gap/payload/properties/reason/enum", ["trimmed", "invalid"])],
    "everybody has a name": [(PAYLOADS + "connected/payload/properties/userId/type", "string")],
    "a timeout is never late": [(PAYLOADS + "approvalResolved/payload/properties/lateMs", None)],
    "there is no pong": [("/operations/ping/reply", None)],
    "a room may have any name": [("/components/schemas/room/pattern", ".")],
    "`since` needs no offset": [(PAYLOADS + "subscribe/payload/properties/since/required", ["epoch"])],
    "a `ref` may be a list": [("/components/schemas/ref/oneOf/2", {"type": "array"})],
    "an event has no position": [(PAYLOADS + "event/payload/properties/offset", {"const": 0})],
}
_verdict = None


def verdict():
    global _verdict
    if _verdict is None:
        _verdict = judge("asyncapi.mjs", "asyncapi.yaml", frames=said.all, changes=list(FALSE.values()))
    return _verdict


@tap.case("docs/asyncapi.yaml is a good document of AsyncAPI 3.0 to Redocly and to AsyncAPI's schema, and each example to Ajv")
def _():
    tap.is_(verdict()["lint"], [], "what they say")


@tap.case("every frame is one of the document's messages, those of clients that were refused are none")
def _():
    tap.diag(f"{len(said.all)} frames")
    faults = verdict()["faults"]
    tap.ok(not faults, f"{len(faults)} faults:\n" + "\n".join(faults[:20]))


@tap.case("every message, field, error code and reason of the document has been seen")
def _():
    unseen = verdict()["unseen"]
    tap.ok(not unseen, "nothing has shown:\n" + "\n".join(unseen))


@tap.case("the close codes are those of docs/protocol.md, and the server has sent each that it begins with")
def _():
    with open(os.path.join(ROOT, "docs/protocol.md"), encoding="utf-8") as file:
        table = file.read().split("## Close codes")[1].split("\n## ")[0]
    codes = verdict()["closes"]
    tap.is_(sorted(codes), sorted(re.findall(r"^\| (\d{4}) \|", table, re.M)), "codes")
    silent = re.findall(r"^\| (\d{4}) \| not sent by this version", table, re.M)
    tap.is_(sorted(code for code, what in codes.items() if what["from"] == "nobody"), sorted(silent), "those that are not sent")
    # 1011 takes a worker without memory: t/unit/session_test.cpp.
    sent = {int(code) for code, what in codes.items() if what["from"] == "server"}
    tap.is_(sent - said.closes, {1011}, "those that were not sent here")
    tap.ok(said.closes <= {int(code) for code, what in codes.items() if what["from"] != "nobody"}, f"no other: {said.closes}")


def noticed(name):
    tap.diag(tap.ok(verdict()["changed"][list(FALSE).index(name)], "a fault")[:160])


for name in FALSE:
    tap.add(f"a document that is wrong is found wrong: {name}", noticed, name)


tap.run()

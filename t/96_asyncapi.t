#!/usr/bin/python3
"""docs/asyncapi.yaml beside the running server: every message of either side is said on real sockets, on both sides of every
bound that the document says, and public validators judge the document and each frame by it."""
import json
import os
import re
import signal
import subprocess
import sys
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import ROOT, SCALE, example, http, jwt, tap, ws                     # noqa: E402
from rooms.approvals import OPTIONS, act, approvals_host, create, migrate, new_session    # noqa: E402
from rooms.nginx import Nginx                                                  # noqa: E402
from rooms.page import join, new_room                                          # noqa: E402
from rooms.postgres import Postgres                                            # noqa: E402
from rooms.redis import Redis                                                  # noqa: E402
from rooms.spec import Frames, bounds, judge                                   # noqa: E402

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
    location = /eager    {{ rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_allow *; rooms_rate 100000/10s; rooms_max_rooms 1000;
                            rooms_heartbeat @HEARTBEAT@ms; }}
    location = /publish  {{ rooms_publish; }}
    location = /status   {{ rooms_status; }}
"""

PAYLOADS = "/components/messages/"
# What is good, each field of a message in one of them: the bounds are around it.
WHERE = ({"room": "session:1"}, {"sessionId": "1"}, {"room": "session:1", "ref": 1})
GOOD = {
    ("subscribe", f"{PAYLOADS}subscribe/payload"): [
        *({"type": "subscribe", **where} for where in WHERE),
        {"type": "subscribe", "room": "session:2", "since": {"epoch": "a", "offset": 0}}],
    ("unsubscribe", f"{PAYLOADS}unsubscribe/payload"): [{"type": "unsubscribe", **where} for where in WHERE],
    ("presence", f"{PAYLOADS}askPresence/payload"): [{"type": "presence", **where} for where in WHERE],
    ("auth", f"{PAYLOADS}auth/payload"): [{"type": "auth", "token": "x", "ref": 1}],
    ("ping", f"{PAYLOADS}ping/payload"): [{"type": "ping", "ref": 1}],
}
document, probes = bounds("asyncapi.yaml", GOOD)
messages = {name: each["payload"]["properties"] for name, each in document["components"]["messages"].items()}
socket_at = document["channels"]["ws"]["address"]
LOCATIONS = LOCATIONS.replace("@HEARTBEAT@", str(messages["connected"]["heartbeat"]["minimum"]))
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


def page(name, server=alone, path=socket_at, rooms=(), **claims):
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


def faulty(answer):
    return answer["type"] == "error" and answer["code"] in ("bad_json", "bad_message", "unknown_type", "bad_room")


@tap.case("what a client may say, on both sides of every bound")
def _():
    sides = set()
    with page("a page at the bounds", path="/eager") as socket:
        for each in probes:
            answer = said.said(socket, each["value"], each["valid"])
            what = f"{each['name']}{each['place']}: {json.dumps(each['value'])[:100]}: {answer}"
            tap.is_(faulty(answer), not each["valid"], what)
            sides.add((each["name"], each["valid"]))
        # What no schema can say: how a value is written.
        for written, wrong in ((2**63 - 1, False), (-2**63, False), (2**63, True), (-2**63 - 1, True)):
            socket.send_text('{"type":"unsubscribe","sessionId":%d}' % written)
            tap.is_(faulty(socket.expect()), wrong, f"sessionId {written}")
        octets = int(re.search(r"at most (\d+) octets", document["components"]["schemas"]["ref"]["description"])[1])
        for written, wrong in (("1" * octets, False), ("1" * (octets + 1), True), ('"%s"' % ("é" * (octets // 2 - 1)), False),
                               ('"%s"' % ("é" * (octets // 2)), True)):
            socket.send_text('{"type":"ping","ref":%s}' % written)
            tap.is_(faulty(socket.expect()), wrong, f"ref {written}")
        room = "session:" + "x" * 300
        tap.is_(said.refused(socket, {"type": "subscribe", "room": room}, "bad_room")["room"],
                room[:messages["error"]["room"]["maxLength"]], "what is left of the room")
        socket.close()
    tap.is_(sides, {(name, valid) for name, _ in GOOD for valid in (True, False)}, "sides of the bounds")


@tap.case("what the server says, at its bounds: a heartbeat, a user's name, an event's")
def _():
    name = "u" * messages["presence"]["users"]["items"]["properties"]["id"]["maxLength"]
    least = messages["connected"]["heartbeat"]["minimum"]
    code, text = alone.test_config(locations=LOCATIONS.replace(f"rooms_heartbeat {least}ms", f"rooms_heartbeat {least - 1}ms"))
    tap.is_(code, 1, "a shorter heartbeat")
    tap.like(text, f'"{least - 1}ms" in "rooms_heartbeat"')
    said.connect("a longer name", alone, socket_at, token=jwt.mint(sub=name + "u")).expect_closed(4002)
    with said.connect("a long name", alone, "/eager", token=jwt.mint(sub=name)) as socket:
        socket.expect(type="connected", userId=name, heartbeat=least)
        room = new_room()
        join(socket, room)
        socket.send_json(type="presence", room=room)
        tap.is_(socket.expect(type="presence")["users"], [{"id": name, "connections": 1}], "users")
        lengths = messages["event"]["type"]
        for length in (lengths["minLength"], lengths["maxLength"]):
            publish(alone, room, type="x" * length)
            said.published(socket, type="x" * length, room=room)
        for length in (lengths["minLength"] - 1, lengths["maxLength"] + 1):
            http.publish(alone, {"room": room, "type": "x" * length}, expect=400)
        socket.close()


def names_of(operation):
    return {each["$ref"].rpartition("/")[2] for each in operation["messages"]}


def type_of(name):
    return messages[name]["type"]["const"]


@tap.case("a backend may publish under the server's own names: openapi.yaml lists them, and each is delivered as an event")
def _():
    root, _ = bounds("openapi.yaml", {})
    listed = root["components"]["schemas"]["Publication"]["properties"]["type"]["x-own"]
    operations = document["operations"]
    delivered = names_of(operations["deliver"])
    sent = set().union(*(names_of(each) for each in operations.values() if each["action"] == "send"),
                       *(names_of(each["reply"]) for each in operations.values() if "reply" in each))
    tap.is_(sorted(listed), sorted(type_of(name) for name in sent - delivered), "names")
    room = new_room()
    with page("a page of strange events", rooms=[room]) as socket:
        for offset, name in enumerate([*listed, *map(type_of, delivered - {"event"})], 1):
            publish(alone, room, type=name, data={"n": offset})
            said.published(socket, type=name, offset=offset, n=offset, room=room)
        socket.close()


CLIENT = """
import { createRequire } from 'node:module'
const WebSocket = createRequire(process.argv[1])('ws')
const [, , url, token] = process.argv
const socket = new WebSocket(url, ['rooms.v1', `rooms.bearer.${token}`])
socket.on('message', (text) => { console.log(socket.protocol, JSON.parse(text).type); socket.close() })
socket.on('unexpected-response', (_, answer) => { console.log(answer.statusCode); process.exit() })
"""


@tap.case("the server, the protocol and the address are those of the README, and a client of npm opens what they say")
def _():
    server = document["servers"]["local"]
    config = example.block(example.page("README.md"), "nginx")
    tap.like(config, rf"listen {server['host'].partition(':')[2]};")
    tap.like(config, rf"location = {re.escape(socket_at)} \{{\s+rooms;")
    url = f"{server['protocol']}://127.0.0.1:{alone.port}{socket_at}"
    done = subprocess.run(["node", "--input-type=module", "-e", CLIENT, os.path.join(ROOT, "t/package.json"), url,
                           jwt.mint(sub="u1")], capture_output=True, text=True, timeout=30 * SCALE, check=False)
    tap.is_(done.stdout, "rooms.v1 connected\n", done.stderr[-300:])


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
    said.connect("no token", alone, socket_at).expect_closed(4001)
    said.connect("a bad token", alone, socket_at, token="x").expect_closed(4002)
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

ROOM = "/components/schemas/room/pattern"
FALSE = {
    "a room's id has 50": [(ROOM, "^[a-z][a-z0-9_-]{0,31}:[A-Za-z0-9_.:@~-]{1,50}$")],
    "a `ref` has 10": [("/components/schemas/ref/oneOf/0/maxLength", 10)],
    "a `sessionId` has 5": [("/components/schemas/sessionId/oneOf/0/pattern", "^[A-Za-z0-9_.:@~-]{1,5}$")],
    "a `sessionId` is a digit": [("/components/schemas/sessionId/oneOf/1", {"type": "integer", "minimum": 1, "maximum": 9})],
    "a type has 20": [(PAYLOADS + "event/payload/properties/type/maxLength", 20)],
    "no event is called `gap`": [(PAYLOADS + "event/payload/properties/type/not", {"enum": ["gap"]})],
    "a heartbeat has 30 s": [(PAYLOADS + "connected/payload/properties/heartbeat/minimum", 30000)],
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


def words_of_protocol():
    with open(os.path.join(ROOT, "docs/protocol.md"), encoding="utf-8") as file:
        return file.read()


@tap.case("the close codes are the source's with the words of docs/protocol.md, and the server has sent each that it begins with")
def _():
    table = words_of_protocol().split("## Close codes")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\d{4}) \| (.+?) \| (.+?) \|$", table, re.M)
    codes = document["channels"]["ws"]["x-close-codes"]
    tap.is_([(code, what["when"], what["do"]) for code, what in codes.items()], rows, "codes, when, what to do")
    with open(os.path.join(ROOT, "src/core/close_code.hpp"), encoding="utf-8") as file:
        tap.is_(sorted(codes), re.findall(r"^    \w+ = (\d{4}),", file.read(), re.M), "the source's codes")
    for code, what in codes.items():
        meaning = {"40": "^stop", "41": "^back off, resume$", "42": "come back at once$"}.get(code[:2], "back off|resume|nothing")
        tap.like(what["do"], meaning, code)
        tap.is_(what["from"] == "nobody", what["when"].startswith("not sent by this version"), f"{code} is not sent")
    # 1011 takes a worker without memory: t/unit/session_test.cpp.
    sent = {int(code) for code, what in codes.items() if what["from"] == "server"}
    tap.is_(sent - said.closes, {1011}, "those that were not sent here")
    tap.ok(said.closes <= {int(code) for code, what in codes.items() if what["from"] != "nobody"}, f"no other: {said.closes}")


@tap.case("a bound that is too large for a test is the one of docs/protocol.md: the users of a room")
def _():
    tap.like(words_of_protocol(), rf"`users` .* at most {messages['presence']['users']['maxItems']:,} of them")


def noticed(name):
    tap.diag(tap.ok(verdict()["changed"][list(FALSE).index(name)], "a fault")[:160])


for name in FALSE:
    tap.add(f"a document that is wrong is found wrong: {name}", noticed, name)


tap.run()

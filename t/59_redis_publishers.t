#!/usr/bin/python3
"""Publishing from any Redis client, as docs/redis.md shows it: the same offsets, history and ids as over HTTP."""
import json
import os
import re
import subprocess
import sys
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import ROOT, SCALE, http, jwt, tap             # noqa: E402
from rooms.nginx import Nginx                             # noqa: E402
from rooms.page import join, open_page                    # noqa: E402
from rooms.redis import Redis                             # noqa: E402
from rooms.resp import ReplyError                         # noqa: E402

redis = Redis()
server = Nginx("""
    location = /ws      { rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_allow *; }
    location = /publish { rooms_publish; }
    location = /status  { rooms_status; }
""", http=f"rooms_redis {redis.url}; rooms_history three:* size=3;", files={"secret": jwt.SECRET})
PAGE = open(os.path.join(ROOT, "docs/redis.md"), encoding="utf-8").read()
SCRIPT = open(os.path.join(ROOT, "src/store/publish.lua"), encoding="utf-8").read()


def block(language):
    found = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    tap.is_(len(found), 1, f"blocks of {language}")
    return found[0]


def over_redis(room, event, *more, id=None):
    base = f"rooms:{{{room}}}"
    keys = [base + ":meta", base + ":stream"] + ([f"{base}:id:{id}"] if id else [])
    with redis.client() as client:
        return client("EVAL", SCRIPT, len(keys), *keys, event if isinstance(event, str) else json.dumps(event), *more)


def run(command, **env):
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20 * SCALE, env=dict(os.environ, **env))
    tap.is_((done.returncode, done.stderr), (0, ""), "exit code and errors")
    return done.stdout


@tap.case("redis-cli, as the page shows it: the event reaches a browser, a repeat does nothing")
def _():
    text = block("sh").replace("redis-cli", f"redis-cli -p {redis.port}")
    with open_page(server, "session:42") as page:
        first = run(["bash", "-euc", text]).split()
        tap.is_(first[0], "ok")
        got = page.expect(type="session:update", room="session:42", sessionId="42", state="building", progress=90, offset=1)
        tap.ok(abs(got["timestamp"] - time.time() * 1000) < 5000, "timestamp")
        again = run(["bash", "-euc", text]).split()
        tap.is_(again[0], "duplicate")
        tap.is_(again[1:3], first[1:3], "epoch and offset")
        page.expect_nothing()


@tap.case("Node with ioredis, as the page shows it")
def _():
    text = block("js")
    path = server.write("publish.mjs", text)
    os.symlink(os.path.join(ROOT, "t/node_modules"), server.path("node_modules"))
    with open_page(server) as page:
        position = join(page, "session:42")["offset"]
        out = run(["node", path], REDIS_URL=redis.url)
        tap.like(out, rf"status: 'ok'.*offset: {position + 1}", "what it prints")
        page.expect(type="session:message", message="hello", sessionId="42", room="session:42", offset=position + 1)
        tap.like(run(["node", path], REDIS_URL=redis.url), "status: 'duplicate'", "the repeat")
        page.expect_nothing()


@tap.case("offsets, epoch and history are those of HTTP, and HTTP's are those of the script")
def _():
    room = "ticket:mixed"
    with open_page(server) as page:
        epoch = join(page, room)["epoch"]
        for n in range(1, 11):
            if n % 2:
                status, of, offset = over_redis(room, {"type": "x", "n": n})[:3]
                tap.is_((status, of, offset), ("ok", epoch, n))
            else:
                tap.is_(http.publish(server, {"room": room, "type": "x", "data": {"n": n}})["offset"], n)
        for n in range(1, 11):
            page.expect(type="x", n=n, offset=n, ticketId="mixed")
    with open_page(server) as page:
        tap.is_(join(page, room, since={"epoch": epoch, "offset": 4})["recovered"], True)
        for n in range(5, 11):
            page.expect(n=n, offset=n)
        page.expect_nothing()


@tap.case("size and ttl are the publisher's to give; nginx reads no more than rooms_history allows")
def _():
    room = "three:1"
    with open_page(server) as page:
        epoch = join(page, room)["epoch"]
    for n in range(300):
        over_redis(room, {"type": "x", "n": n}, 5, 60000)
    with redis.client() as client:
        tap.ok(client("XLEN", f"rooms:{{{room}}}:stream") < 300, "the stream is trimmed")
        tap.ok(50000 < client("PTTL", f"rooms:{{{room}}}:stream") <= 75000, "and has the time to live")
    for since, recovered in ((296, False), (297, True)):
        with open_page(server) as page:
            tap.is_(join(page, room, since={"epoch": epoch, "offset": since})["recovered"], recovered, f"since {since}")


@tap.case("an id is one event; another body is a conflict; a repeat by the other way never sends a second one")
def _():
    room = "session:ids"
    with open_page(server, room) as page:
        first = over_redis(room, {"type": "x", "n": 1}, id="a b/ü")
        tap.is_(first[0], "ok")
        tap.is_(over_redis(room, {"type": "x", "n": 1}, id="a b/ü")[:3], ["duplicate", *first[1:3]])
        tap.is_(over_redis(room, {"type": "x", "n": 2}, id="a b/ü")[0], "conflict")
        http.publish(server, {"room": room, "type": "x", "data": {"n": 1}, "id": "a b/ü"}, expect=409)
        http.publish(server, {"room": room, "type": "x", "data": {"n": 3}, "id": "b"})
        tap.is_(over_redis(room, {"type": "x", "n": 3, "id": "b"}, id="b")[0], "conflict")
        page.expect(n=1, offset=1)
        page.expect(n=3, offset=2)
        page.expect_nothing()


@tap.case("what the event says of room and id is kept, what is missing is added")
def _():
    room = "session:fields"
    with open_page(server, room) as page:
        over_redis(room, {"type": "x", "room": room, "sessionId": "mine", "id": "i", "deep": {"room": "z"}})
        page.expect(type="x", room=room, sessionId="mine", id="i", deep={"room": "z"}, offset=1)
        over_redis(room, '  { "type" : "y" }\n')
        page.expect(type="y", room=room, sessionId="fields", offset=2)


WRONG = [("no JSON", "hello"), ("an array", "[1]"), ("a text", '"x"'), ("nothing", ""), ("no type", '{"n":1}'),
         ("a type that is a number", '{"type":1}'), ("an empty type", '{"type":""}'), ("an offset", '{"type":"x","offset":1}'),
         ("a timestamp", '{"type":"x","timestamp":null}'), ("another room", '{"type":"x","room":"session:other"}'),
         ("something behind it", '{"type":"x"} x')]


@tap.case("a text of a hundred thousand spaces costs Redis nothing; a wrong size or time to live is an error before anything is written")
def _():
    room = "session:spaces"
    with open_page(server, room) as page:
        began = time.monotonic()
        over_redis(room, {"type": "x", "text": " " * 100000 + "}"})
        tap.ok(time.monotonic() - began < 1 * SCALE, "in time")
        tap.is_(page.expect(type="x", offset=1)["text"], " " * 100000 + "}")
        for more in (("0.5",), ("inf",), ("-1",), ("nan",), ("1e300",), ("x",), (5, "inf"), (5, "0"), (5, "99999999999999999999")):
            try:
                over_redis(room, {"type": "x"}, *more)
            except ReplyError as error:
                tap.is_(error.code, "ROOMS", str(more))
            else:
                tap.fail(f"{more} were taken")
        tap.is_(http.publish(server, {"room": room, "type": "y"})["offset"], 2, "the next offset")
        page.expect(type="y", offset=2)


@tap.case("a wrong event is an error that begins with ROOMS, and nothing is sent")
def _():
    room = "session:wrong"
    with open_page(server, room) as page:
        for what, text in WRONG:
            try:
                over_redis(room, text)
            except ReplyError as error:
                tap.is_(error.code, "ROOMS", what)
            else:
                tap.fail(f"{what} was taken")
        with redis.client() as client:
            base = "rooms:{session:wrong}"
            for keys in ((base, base + ":stream"), (base + ":meta", "rooms:{session:x}:stream"), ("rooms:wrong:meta", "rooms:wrong:stream"),
                         ("rooms:{wrong}:meta", "rooms:{wrong}:stream"), (base + ":meta", base + ":stream", base + ":id:"),
                         (base + ":meta", base + ":stream", "rooms:{session:x}:id:1")):
                try:
                    client("EVAL", SCRIPT, len(keys), *keys, '{"type":"x"}')
                except ReplyError as error:
                    tap.is_(error.code, "ROOMS", str(keys))
                else:
                    tap.fail(f"{keys} were taken")
        page.expect_nothing()
        tap.is_(http.publish(server, {"room": room, "type": "x"})["offset"], 1, "the next offset")


@tap.case("what Redis' reader of JSON lets through and browsers do not never reaches them: a gap in its place")
def _():
    for n, text in enumerate(('{"type":"x","n":NaN}', '{"type":"x","n":0x10}', b'{"type":"x","n":"\xff"}', b'{"type":"x","n":"\xed\xa0\x80"}',
                              '{"type":"x","n":' + "[" * 500 + "]" * 500 + "}", '{"type":"x","n":01}')):
        room = f"session:lenient{n}"
        with open_page(server, room) as page, redis.client() as client:
            base = f"rooms:{{{room}}}"
            client("EVAL", SCRIPT, 2, base + ":meta", base + ":stream", text)
            page.expect(type="gap", room=room, offset=1, reason="invalid")
            http.publish(server, {"room": room, "type": "x", "data": {"n": 2}})
            page.expect(n=2, offset=2)
            page.expect_nothing()
    tap.is_(http.status(server)["redis"]["badEvents"], 6, "bad events in the status")


tap.run()

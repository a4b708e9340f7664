#!/usr/bin/python3
"""The machine on a bad day: the disk is full, descriptors are used up, keys are replaced by garbage, the clock is wrong."""
import email.utils
import json
import os
import sys
import tempfile
import time
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "lib"))
from rooms import ASAN, SCALE, http, jwt, tap, wait_until, ws    # noqa: E402
from rooms.nginx import Nginx                                     # noqa: E402
from rooms.page import new_room, open_page                        # noqa: E402
from rooms.preload import Clock, Memory                                   # noqa: E402
from rooms.processor import processor                             # noqa: E402

LOCATIONS = """
    location = /ws      { rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_allow *; rooms_drain 1s; }
    location = /publish { rooms_publish; }
    location = /status  { rooms_status; }
"""
FILES = {"secret": jwt.SECRET}


def start(name, **options):
    return Nginx(options.pop("locations", LOCATIONS), files={**FILES, **options.pop("files", {})}, name=name, **options)


def gets(page, server, room, **data):
    offset = http.publish(server, {"room": room, "type": "x", "data": data})["offset"]
    page.expect(type="x", offset=offset, **data)


@tap.case("fault F30: the disk of the logs is full: sockets, publications and the status go on")
def _():
    with start("full", http="error_log /dev/full info; access_log /dev/full; access_log /dev/full combined;",
               expect=[r"No space left on device"]) as full:
        room = new_room()
        page = open_page(full, room)
        for n in range(50):
            gets(page, full, room, n=n)
        bad = http.request(full, "POST", "/publish", [("Content-Type", "application/json")], b"no json")
        tap.is_(bad.status, 400, "status of a bad publication")
        tap.is_(http.status(full)["connections"]["active"], 1, "sockets")
        page.close()


@tap.case("fault F34: descriptors are used up: who is in stays and gets everything, it does not spin, and recovers")
def _():
    with start("few", workers=1, main="worker_rlimit_nofile 400;", events="worker_connections 1000;",
               expect=[r"\[crit\].*accept4?\(\) failed \(24: Too many open files\)"]) as few:
        room = new_room()
        page = open_page(few, room)
        backend = http.publish(few, {"room": room, "type": "x", "data": {"n": 0}})["offset"]
        page.expect(type="x", offset=backend, n=0)
        wires = []
        while len(wires) < 600 and "Too many open files" not in few.log():
            wires.append(ws.open_wire(few))
        few.wait_log("Too many open files")
        pid, = few.workers()
        used, begun = processor(pid), time.monotonic()
        wait_until(lambda: time.monotonic() > begun + 1, "a second to pass")
        tap.ok(processor(pid) - used < 0.4, f"it used {processor(pid) - used:.2f} s of a second")
        page.expect_nothing()
        for wire in wires:
            wire.close()
        wait_until(lambda: _publishes(few, room), "publications to be taken again", 5 * SCALE)
        page.wait_for(type="x", n=1)
        page.close()


def _publishes(server, room):
    try:
        return http.publish(server, {"room": room, "type": "x", "data": {"n": 1}}, timeout=1)
    except (OSError, AssertionError):
        return False


def refused(server, token):
    page = ws.connect(server, "/ws", token=token)
    page.expect_closed({4002})


@tap.case("fault F42: a rotated key counts from the reload; a file of garbage changes nothing, and the log names it")
def _():
    first, second = ({"kty": "oct", "kid": name, "alg": "HS256", "k": jwt.b64(name.encode() * 20)} for name in ("one", "two"))

    def token(key):
        return jwt.mint(sub="u1", key=jwt.unb64(key["k"]), header={"kid": key["kid"]})
    keys = LOCATIONS.replace("rooms_jwt_key HS256 @DIR@/secret", "rooms_jwt_jwks @DIR@/keys.json")
    with start("keys", locations=keys, files={"keys.json": _jwks(first)}) as server:
        ws.connect(server, "/ws", token=token(first)).expect(type="connected")
        refused(server, token(second))
        server.write("keys.json", _jwks(first, second))
        server.reload(wait_old=True)
        ws.connect(server, "/ws", token=token(second)).expect(type="connected")
        server.write("keys.json", _jwks(second))
        server.reload(wait_old=True)
        refused(server, token(first))
        for garbage in ("", "{", "[]", '{"keys":[]}', '{"keys":[{"kty":"oct"}]}'):
            server.allow(r"\[emerg\].*keys\.json")
            since = len(server.log())
            server.write("keys.json", garbage)
            server.send_signal(1)
            server.wait_log(r"\[emerg\].*keys\.json", since=since)
            ws.connect(server, "/ws", token=token(second)).expect(type="connected")
            refused(server, token(first))


def _jwks(*keys):
    return json.dumps({"keys": keys})


def _clock_of(server):
    return email.utils.parsedate_to_datetime(http.get(server, "/status").get("Date")).timestamp()


@tap.case("fault F29: the wall clock jumps: sockets stay, timestamps of a room never go back, a token's end is the clock's")
def _():
    if ASAN:
        tap.skip("the clock is preloaded, as the sanitizer is")
    with start("clock", start=False) as server:
        clock = Clock(server.dir)
        server.env.update(clock.env)
        server.start()
        room = new_room()
        page = open_page(server, room)
        token = jwt.mint(sub="u2", exp=int(time.time()) + 1800)
        last = 0
        for ahead, valid in ((0, True), (3600, False), (-3600, True), (86400, False), (0, True)):
            clock.ahead(ahead)
            wait_until(lambda: abs(_clock_of(server) - time.time() - ahead) < 5, f"the clock to be {ahead} s ahead")
            http.publish(server, {"room": room, "type": "x", "data": {}})
            stamp = page.expect(type="x")["timestamp"]
            tap.ok(last == 0 or stamp >= last, f"{stamp} after {last}")
            last = stamp
            other = ws.connect(server, "/ws", token=token)
            if valid:
                other.expect(type="connected")
                other.drop()
            else:
                other.expect_closed({4002})
        page.close()


def asked_while_memory_is_short():
    locations = """
    location = /ws  { rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_allow asked:* request=/may?room=$rooms_room_id;
                      rooms_max_rooms 1000; rooms_rate 10000/1s; }
    location = /may { internal; return 204; }
    """
    names = [f"asked:{n}" for n in range(60)]

    def answered_or_closed(page):
        try:
            for _ in names:
                page.recv_json()
        except ws.Closed:
            pass

    # Who asks while a question of before is under way gets its answer: that nothing is known now.
    def subscribed(page, name):
        page.send_json(type="subscribe", room=name)
        return page.recv_json()["type"] == "subscribed"

    with tempfile.TemporaryDirectory(prefix="rooms-memory-") as directory:
        memory = Memory(directory)
        with start("short", locations=locations, workers=1, env=memory.env, expect=[
                r"\[(emerg|alert|crit)\].*((malloc|memalign|calloc)\(|Cannot allocate memory|out of memory)"]) as short:
            for _ in range(5):
                pages = [ws.connect(short, "/ws", token=jwt.mint(sub="u1")) for _ in range(20)]
                for page in pages:
                    page.expect(type="connected")
                memory.one_in(12)
                for page in pages:
                    for name in names:
                        page.send_json(type="subscribe", room=name)
                for page in pages:
                    answered_or_closed(page)
                memory.one_in(0)
                for page in pages:
                    page.drop()
                with ws.connect(short, "/ws", token=jwt.mint(sub="u2")) as late:
                    late.expect(type="connected")
                    for name in names:
                        wait_until(lambda: subscribed(late, name), f"{name} to be entered")
                    late.close()


def no_memory_at_all():
    """Right after the start, when nothing has ever been thrown."""
    with tempfile.TemporaryDirectory(prefix="rooms-memory-") as directory:
        memory = Memory(directory)
        with start("none", workers=1, env=memory.env, expect=[
                r"\[(emerg|alert|crit)\].*((malloc|memalign|calloc)\(|Cannot allocate memory|out of memory)"]) as none:
            page = open_page(none, new_room())
            pid, = none.workers()
            memory.one_in(1)
            page.send_json(type="subscribe", room=new_room())
            try:
                tap.is_(page.recv_json()["type"], "error", "answer")
            except ws.Closed:
                pass
            memory.one_in(0)
            page.drop()
            tap.is_(none.workers(), [pid], "worker")
            room = new_room()
            with open_page(none, room) as page:
                gets(page, none, room)
                page.close()


if not ASAN:    # which has an allocator of its own
    tap.add("fault F41: no memory at all: a socket ends, its worker does not", no_memory_at_all)
    tap.add("fault F41: whoever asks what was asked while memory was short is answered", asked_while_memory_is_short)


tap.run()

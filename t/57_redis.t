#!/usr/bin/python3
"""Rooms shared through Redis by two nginx hosts: one order, one history, one presence; and what becomes of them when
Redis goes, stalls, forgets, lies or refuses."""
import contextlib
import json
import os
import re
import sys
import threading
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import ROOT, SCALE, http, jwt, tap, wait_until, ws  # noqa: E402
from rooms.backend import event, publish, publish_surely       # noqa: E402
from rooms.kept_connection import KeptConnection               # noqa: E402
from rooms.nginx import Nginx                                  # noqa: E402
from rooms.page import join, new_room, open_page, presence     # noqa: E402
from rooms.proxy import Proxy                                  # noqa: E402
from rooms.redis import Redis                                  # noqa: E402

LOCATIONS = """
    location = /ws      { rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_allow *; rooms_rate 5000/10s; }
    location = /publish { rooms_publish; }
    location = /status  { rooms_status; }
"""
HTTP = """
    rooms_history three:* size=3 ttl=10m;
    rooms_history none:*  size=0 ttl=10m;
    keepalive_requests 100000;
"""
FILES = {"secret": jwt.SECRET}

redis = Redis()
line_a, line_b = Proxy(redis), Proxy(redis)
host_a = Nginx(LOCATIONS, http=HTTP + f"rooms_redis {line_a.url};", files=FILES, name="host a")
host_b = Nginx(LOCATIONS, http=HTTP + f"rooms_redis {line_b.url};", files=FILES, name="host b")
hosts = (host_a, host_b)


def health(server):
    return http.request(server, "GET", "/status?health")


def all_well(*servers):
    """Every worker of the hosts takes subscriptions and hears."""
    for server in servers or hosts:
        for pid in server.workers():
            with open_page(server, worker=pid) as socket:
                def joined():
                    socket.send_json(type="subscribe", room="probe:1")
                    return socket.recv_json()["type"] == "subscribed"
                wait_until(joined, f"a worker of {server.name} to be well", 6 * SCALE)
        wait_until(lambda: health(server).status == 200, f"{server.name} to be well", 6 * SCALE)


def everywhere(room):
    """A member on each worker of each host."""
    sockets = [open_page(server, worker=pid) for server in hosts for pid in server.workers()]
    epochs = {join(socket, room)["epoch"] for socket in sockets}
    tap.is_(len(epochs), 1, "epochs")
    return sockets, epochs.pop()


def publish_unheard(room, n):
    """What publish.lua does, but for the doorbell."""
    script = open(os.path.join(ROOT, "src/store/publish.lua"), encoding="utf-8").read()
    silent = re.sub(r"^redis\.call.*PUBLISH.*$", "", script, flags=re.MULTILINE)
    tap.isnt(silent, script)
    redis.cli("EVAL", silent, "2", f"rooms:{{{room}}}:meta", f"rooms:{{{room}}}:stream", '{"type":"x","n":%d}' % n)


def gone(sockets):
    for socket in sockets:
        socket.close()


def count(name, *servers):
    return sum(http.status(server)["redis"][name] for server in servers or hosts)


# --- two hosts are one

@tap.case("members on every worker of both hosts get one order, whoever publishes")
def _():
    room = new_room()
    sockets, _ = everywhere(room)
    answers = {}

    def writer(server, name):
        for n in range(40):
            answers[publish(server, room, f"{name}{n}")["offset"]] = f"{name}{n}"
    threads = [threading.Thread(target=writer, args=(server, f"{i}.")) for i, server in enumerate(hosts * 2)]
    for i, thread in enumerate(threads):
        thread.name = str(i)
        thread.start()
    for thread in threads:
        thread.join()
    tap.is_(len(answers), 160, "offsets that were answered")
    for socket in sockets:
        for offset in range(1, 161):
            socket.expect(offset=offset, n=answers[offset])
        socket.expect_nothing()
    gone(sockets)


@tap.case("a client comes back on the other host and gets what it missed, once and in order")
def _():
    room = new_room()
    with open_page(host_a) as socket:
        epoch = join(socket, room)["epoch"]
    for n in range(1, 11):
        publish(hosts[n % 2], room, n)
    with open_page(host_b) as live:
        join(live, room)
        for since in (0, 4, 10):
            for server in hosts:
                with open_page(server) as socket:
                    got = join(socket, room, since={"epoch": epoch, "offset": since})
                    tap.is_((got["recovered"], got["offset"]), (True, 10))
                    for n in range(since + 1, 11):
                        socket.expect(offset=n, n=n)
                    socket.expect_nothing()
        live.expect_nothing()


@tap.case("recovery is whole or recovered:false: beyond the size, another epoch, a position ahead")
def _():
    room = new_room("three")
    with open_page(host_a) as socket:
        epoch = join(socket, room)["epoch"]
    for n in range(1, 6):
        publish(host_b, room, n)
    for since, recovered in (({"epoch": epoch, "offset": 1}, False), ({"epoch": epoch, "offset": 2}, True),
                             ({"epoch": epoch, "offset": 6}, False), ({"epoch": "1", "offset": 5}, False)):
        with open_page(host_a) as socket:
            got = join(socket, room, since=since)
            tap.is_((got["recovered"], got["offset"]), (recovered, 5), str(since))
            for n in (3, 4, 5) if recovered else ():
                socket.expect(offset=n)
            socket.expect_nothing()


@tap.case("size=0: members get everything, who comes later nothing")
def _():
    room = new_room("none")
    with open_page(host_a) as socket:
        epoch = join(socket, room)["epoch"]
        publish(host_b, room, 1)
        socket.expect(offset=1, n=1)
        with open_page(host_b) as late:
            tap.is_(join(late, room, since={"epoch": epoch, "offset": 0})["recovered"], False)
            late.expect_nothing()
        with open_page(host_b) as late:
            tap.is_(join(late, room, since={"epoch": epoch, "offset": 1})["recovered"], True, "nothing was missed")


@tap.case("an id is one publication, whichever host it comes to, and another body is 409")
def _():
    room = new_room()
    sockets, _ = everywhere(room)
    first = publish(host_a, room, 1, id="once")
    tap.is_(first["subscribers"], 2, "members of this host")
    for server in hosts:
        tap.is_(publish(server, room, 1, id="once"), dict(first, duplicate=True))
        publish(server, room, 2, id="once", expect=409)
    answers = []
    threads = [threading.Thread(target=lambda s=server: answers.append(publish(s, room, 3, key="k"))) for server in hosts * 8]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tap.is_({answer["offset"] for answer in answers}, {2}, "offsets of 16 at once")
    tap.is_(sum("duplicate" not in answer for answer in answers), 1, "first answers")
    for socket in sockets:
        socket.expect(offset=1, id="once")
        socket.expect(offset=2, n=3)
        socket.expect_nothing()
    gone(sockets)


@tap.case("presence is that of both hosts, by user and connection")
def _():
    room = new_room()
    pages = [open_page(server, user=user) for server in hosts for user in ("u1", "u1", f"only {server.name}")]
    for socket in pages:
        join(socket, room)
    for socket in pages:
        tap.is_(presence(socket, room), ([("only host a", 1), ("only host b", 1), ("u1", 4)], 6))
    pages.pop().close()
    pages[0].send_json(type="unsubscribe", room=room)
    pages[0].wait_for(type="unsubscribed")
    wait_until(lambda: presence(pages[1], room) == ([("only host a", 1), ("u1", 3)], 4), "who left to be gone")
    gone(pages)


@tap.case("a host that dies is out of presence within 10 s, and its members' next host counts them at once")
def _():
    room = new_room()
    third = Nginx(LOCATIONS, http=HTTP + f"rooms_redis {redis.url};", files=FILES, name="host c")
    third.allow(r".*")
    with open_page(host_a, user="stays") as stays:
        join(stays, room)
        with open_page(third, user="goes") as goes:
            join(goes, room)
            tap.is_(presence(stays, room)[1], 2, "before")
            died = time.monotonic()
            for pid in third.processes() + [third.pid]:
                os.kill(pid, 9)
            with open_page(host_b, user="goes") as back:
                join(back, room)
                wait_until(lambda: presence(stays, room) == ([("goes", 1), ("stays", 1)], 2), "the dead to be gone", 10)
                tap.diag(f"gone after {time.monotonic() - died:.1f} s")
    third.process.wait(10)
    third.stopped, third.problems = True, []


# --- what others publish

@tap.case("a foreign PUBLISH never reaches a page: it is counted, and the log says once what to do instead")
def _():
    room = new_room()
    sockets, epoch = everywhere(room)
    channel = f"rooms:{{{room}}}:events"
    publish(host_a, room, 1)
    for socket in sockets:
        socket.expect(offset=1)
    before = count("foreign")
    with redis.client() as client:
        tap.is_(client("PUBSUB", "NUMSUB", channel)[1], 4, "workers that listen")
        forged = "0" * 40 + f' {epoch} 2 1795332720700 {{"type":"x","forged":true,"room":"{room}"'
        for text in ('{"type":"x","n":2}', "", "x" * 100000, forged, forged.replace(" 2 ", " 3 "), "\xff\x00"):
            tap.is_(client("PUBLISH", channel, text), 4)
        wait_until(lambda: count("foreign") == before + 24, "24 to be counted")
    for socket in sockets:
        socket.expect_nothing()
    publish(host_b, room, 2)
    for socket in sockets:
        socket.expect(offset=2, n=2)
        socket.expect_nothing()
    for server in hosts:
        lines = [line for line in server.log().splitlines() if "publish.lua" in line]
        tap.ok(1 <= len(lines) <= 2, f"one line for each worker: {lines}")
        tap.like(lines[0], r"\[warn\].*docs/redis.md")
    gone(sockets)


@tap.case("a replayed message of the channel is no news")
def _():
    room = new_room()
    sockets, _ = everywhere(room)
    channel = f"rooms:{{{room}}}:events"
    with redis.client() as ear, redis.client() as mouth:
        ear("SUBSCRIBE", channel)
        publish(host_a, room, 1)
        message = ear.push()[2]
        for socket in sockets:
            socket.expect(offset=1)
        mouth("PUBLISH", channel, message)
        mouth("PUBLISH", channel, message.replace(" 1 ", " 2 ", 1))     # its seal is not of this offset
    publish(host_a, room, 2)
    for socket in sockets:
        socket.expect(offset=2, n=2)
        socket.expect_nothing()
    gone(sockets)


# --- holes

@tap.case("an event whose doorbell was lost is read from the stream, before anything newer and within 5 s")
def _():
    room = new_room()
    sockets, epoch = everywhere(room)
    publish(host_a, room, 1)
    for socket in sockets:
        socket.expect(offset=1)
    before = count("holes")
    publish_unheard(room, 2)
    publish(host_b, room, 3)
    for socket in sockets:
        for n in (1, 2, 3)[1:]:
            socket.expect(offset=n, n=n)
    tap.is_(count("holes") - before, 4, "holes that were seen")
    publish_unheard(room, 4)    # and silence
    started = time.monotonic()
    for socket in sockets:
        socket.expect(offset=4, n=4)
    took = time.monotonic() - started
    tap.ok(took < 5.5 * SCALE, f"it took {took:.1f} s")
    gone(sockets)


@tap.case("a stream that was deleted: `gap` before what is newer, within 5 s")
def _():
    room = new_room()
    sockets, epoch = everywhere(room)
    publish(host_a, room, 1)
    for socket in sockets:
        socket.expect(offset=1)
    with redis.client() as client:
        client("DEL", f"rooms:{{{room}}}:stream", f"rooms:{{{room}}}:meta")
    for socket in sockets:
        got = socket.expect(type="gap", room=room)
        tap.isnt(got["epoch"], epoch, "epoch")
        tap.is_(got["offset"], 0)
    publish(host_a, room, 2)
    for socket in sockets:
        socket.expect(offset=1, n=2)
        socket.expect_nothing()
    gone(sockets)


@tap.case("FLUSHALL: every member is told a gap, once, and what follows is newer; presence is right again")
def _():
    rooms = [new_room() for _ in range(8)]
    sockets = [open_page(server, user=f"u{i}", worker=pid) for server in hosts for i, pid in enumerate(server.workers())]
    for socket in sockets:
        for room in rooms:
            join(socket, room)
    for room in rooms:
        publish(host_a, room, 1)
    told = [{room: [] for room in rooms} for _ in sockets]

    def read_until(*last):
        """One of these (type, n) is the newest of each room; between rooms there is no order."""
        for socket, got in zip(sockets, told):
            while not all(messages and messages[-1][:2] in last for messages in got.values()):
                message = socket.recv_json()
                got[message["room"]].append((message["type"], message.get("n"), message["offset"]))
    read_until(("x", 1))
    redis.cli("FLUSHALL")
    publish(host_b, rooms[0], 2)
    read_until(("gap", None), ("x", 2))
    for room in rooms:
        publish(host_a, room, 3)
    read_until(("x", 3))
    for socket, got in zip(sockets, told):
        # The gap names the position from which a page goes on: 2 comes behind it, or is before it and not sent.
        tap.in_(got.pop(rooms[0]), ([("x", 1, 1), ("gap", None, 0), ("x", 2, 1), ("x", 3, 2)],
                                    [("x", 1, 1), ("gap", None, 1), ("x", 3, 2)]), "the first room")
        for room, messages in got.items():
            tap.is_(messages, [("x", 1, 1), ("gap", None, 0), ("x", 3, 1)], room)
        socket.expect_nothing()
    wait_until(lambda: presence(sockets[0], rooms[1])[1] == 4, "presence after FLUSHALL", 6 * SCALE)
    gone(sockets)


@tap.case("size=0 and a member that comes and goes: who stays gets every event, and no gap")
def _():
    busy("none:busy", lambda socket: join(socket, "none:busy"))


@tap.case("a position of long ago, asked for again and again: who stays gets every event, and no gap")
def _():
    room = new_room()
    with open_page(host_a) as socket:
        epoch = join(socket, room)["epoch"]
    old = []
    for start in range(0, 11000, 1000):
        http.publish(host_a, [{"room": room, "type": "x", "data": {"n": -1}} for _ in range(1000)])
    busy(room, lambda socket: old.append(join(socket, room, since={"epoch": epoch, "offset": 1})["recovered"]))
    tap.is_(set(old), {False}, "recovered")


def busy(room, again):
    """A room that is published to while somebody joins and leaves it all the time."""
    ending, sent = threading.Event(), []

    def writer():
        while not ending.is_set():
            sent.append(publish(host_b, room, len(sent))["offset"])
    with open_page(host_a, worker=host_a.workers()[0]) as stays, open_page(host_a, worker=host_a.workers()[0]) as moves:
        join(stays, room)
        thread = threading.Thread(target=writer)
        thread.start()
        try:
            for _ in range(100):
                again(moves)
                moves.send_json(type="unsubscribe", room=room)
                moves.wait_for(type="unsubscribed")
        finally:
            ending.set()
            thread.join()
        for offset in sent:
            stays.expect(type="x", offset=offset)
        stays.expect_nothing()


@tap.case("subscribe and unsubscribe in one breath are both answered, in order; a room waited for twice is one room")
def _():
    room, other = new_room(), new_room()
    with open_page(host_a) as socket:
        socket.send(b"".join(ws.frame(ws.TEXT, json.dumps(message), mask=b"abcd") for message in (
            {"type": "subscribe", "room": room, "ref": 1}, {"type": "unsubscribe", "room": room, "ref": 2},
            {"type": "subscribe", "room": other, "ref": 3}, {"type": "subscribe", "room": other, "ref": 4})))
        got = [socket.recv_json() for _ in range(4)]
        tap.is_(sorted((m["ref"], m["type"]) for m in got), [(1, "subscribed"), (2, "unsubscribed"), (3, "subscribed"), (4, "subscribed")])
        tap.ok([m["ref"] for m in got].index(1) < [m["ref"] for m in got].index(2), "in order")
        publish(host_b, room, 1)
        publish(host_b, other, 2)
        socket.expect(room=other, n=2)
        socket.expect_nothing()


# --- keys that others have spoilt

@tap.case("a key of a wrong type is one room's trouble: 503 and `unavailable` there, a line that names it, all others go on")
def _():
    bad, room = new_room(), new_room()
    sockets, _ = everywhere(room)
    with redis.client() as client, open_page(host_a) as socket:
        client("SET", f"rooms:{{{bad}}}:meta", "x")
        tap.is_(publish(host_a, bad, 1, expect=None).status, 503, "status")
        socket.send_json(type="subscribe", room=bad)
        socket.expect(type="error", code="unavailable", retryable=True)
        host_a.wait_log(re.escape(f"refuses a call for \"rooms:{{{bad}}}:meta\": WRONGTYPE"))
        # The publications of one request are one script, in which it is one publication's trouble.
        other = new_room()
        answers = http.publish(host_a, [event(each, n) for n, each in enumerate((other, bad, other))], expect=503)["results"]
        tap.is_([answer.get("offset") for answer in answers], [1, None, 2], "offsets")
        tap.is_(answers[1]["error"]["code"], "unavailable")
        join(socket, room)
        client("DEL", f"rooms:{{{bad}}}:meta")
        join(socket, bad)       # it is a member; then its keys are spoilt
        client("SET", f"rooms:{{{bad}}}:meta", "x")
        publish_unheard(room, 1)
        for member in sockets + [socket]:
            member.wait_for(room=room, n=1)
        client("DEL", f"rooms:{{{bad}}}:meta")
        socket.wait_for(type="gap", room=bad)
    gone(sockets)
    tap.ok(sum(" rooms: " in line and "WRONGTYPE" in line for line in host_a.log().splitlines()) <= 2 * len(host_a.workers()),
           "the log is not flooded")


# --- Redis goes and comes back

def interrupted(interrupt, mend, *, downtime=1.0, gap=False, servers=hosts, reason=None):
    """Members stay, miss nothing that was answered 200, and are told nothing (gap: a gap). Meanwhile publications and
    subscriptions are refused in time, as retryable."""
    all_well()
    room = new_room()
    sockets, epoch = everywhere(room)
    for n in range(1, 4):
        publish(host_a, room, n)
    for socket in sockets:
        for n in range(1, 4):
            socket.expect(offset=n)
    logged = [len(server.log()) for server in servers]
    interrupt()
    began = time.monotonic()
    slow = 0
    for server in servers:
        for _ in range(4):
            asked = time.monotonic()
            response = publish(server, room, "never", expect=None)
            slow = max(slow, time.monotonic() - asked)
            tap.is_(response.status, 503, f"status of {response!r}")
            tap.ok(int(response.get("Retry-After")) > 0, "Retry-After")
    tap.ok(slow < 1.0 * SCALE, f"the slowest 503 took {slow:.3f} s")
    late = open_page(servers[0])
    late.send_json(type="subscribe", room=room, ref=1)
    late.expect(type="error", code="unavailable", retryable=True, ref=1)
    late.send_json(type="presence", room=room, ref=2)
    late.expect(type="error", code="unavailable", retryable=True, ref=2)
    late.close()
    if downtime > 3:
        wait_until(lambda: all(health(server).status == 503 for server in servers), "health to be 503",
                   5 * SCALE - (time.monotonic() - began))
        tap.ok(time.monotonic() - began < 4.5 * SCALE, "health told in time")
        tap.like(health(servers[0]).json["reason"], "worker .* heard nothing through redis")
    time.sleep(max(0, downtime - (time.monotonic() - began)))
    mend()
    mended = time.monotonic()
    all_well()
    for server, since in zip(servers, logged):
        lines = [line for line in server.log()[since:].splitlines() if re.search(r"\[(error|warn)\].* rooms: ", line)]
        tap.ok(len(lines) <= 5 * len(server.workers()), "a line for each change of state:\n" + "\n".join(lines))
    tap.diag(f"503 within {slow:.3f} s; well {time.monotonic() - mended:.2f} s after it was mended")
    got = publish(host_b, room, "after")
    for socket in sockets:
        if gap:
            socket.expect(type="gap", room=room)
        last = socket.recv_json()
        while last["n"] == "never":     # unknown: a 503 says that it may have been stored
            last = socket.recv_json()
        tap.is_((last["n"], last["offset"]), ("after", got["offset"]))
        socket.expect_nothing()
    if not gap:
        tap.is_(got["epoch"], epoch, "epoch")
        with open_page(host_a) as back:
            tap.is_(join(back, room, since={"epoch": epoch, "offset": 1})["recovered"], True, "recovered")
    gone(sockets)


tap.add("Redis restarts, its data kept: sockets stay, 503 and `unavailable` meanwhile, no gap, the same epoch",
        interrupted, redis.stop, redis.start)
tap.add("Redis is killed and starts again: the same", interrupted, redis.kill, redis.start)
tap.add("Redis stalls (SIGSTOP) for 5 s: the same, and health is 503 with the reason", interrupted, redis.pause,
        redis.resume, downtime=5)


def both(method, *arguments):
    def call():
        for line in (line_a, line_b):
            getattr(line, method)(*arguments)
    return call


tap.add("the line to Redis swallows all octets for 5 s: the same", interrupted, both("black_hole", True),
        both("black_hole", False), downtime=5)
tap.add("the line is cut: the same", interrupted, both("cut"), both("mend"))


@tap.case("one host is cut off: its health says so, its pages are told nothing wrong; the other goes on; then it catches up")
def _():
    all_well()
    room = new_room()
    sockets, epoch = everywhere(room)
    mine, others = sockets[:2], sockets[2:]
    line_a.cut()
    for n in range(1, 21):
        publish(host_b, room, n)
    for socket in others:
        for n in range(1, 21):
            socket.expect(offset=n, n=n)
    for socket in mine:
        socket.expect_nothing()
    wait_until(lambda: health(host_a).status == 503, "host a to say so", 5 * SCALE)
    tap.is_(health(host_b).status, 200, "host b")
    line_a.mend()
    mended = time.monotonic()
    for socket in mine:
        for n in range(1, 21):
            socket.expect(offset=n, n=n)
        socket.expect_nothing()
    tap.diag(f"caught up {time.monotonic() - mended:.2f} s after it was mended")
    wait_until(lambda: health(host_a).status == 200, "host a to be well", 5 * SCALE)
    gone(sockets)


@tap.case("CLIENT KILL TYPE pubsub: what was published meanwhile is read from the stream")
def _():
    room = new_room()
    sockets, _ = everywhere(room)
    with redis.client() as client:
        for n in range(1, 31):
            if n % 10 == 5:
                client("CLIENT", "KILL", "TYPE", "pubsub")
            publish(hosts[n % 2], room, n)
    for socket in sockets:
        for n in range(1, 31):
            socket.expect(offset=n, n=n)
        socket.expect_nothing()
    all_well()
    gone(sockets)


@tap.case("a subscription that was silently dropped is a deaf worker: it is noticed within 5 s and heals")
def _():
    all_well()
    room = new_room()
    sockets, _ = everywhere(room)
    line_b.one_way("down")         # what Redis says does not arrive, what we say does
    time.sleep(0.1)
    for n in range(1, 4):
        publish(host_a, room, n)
    wait_until(lambda: health(host_b).status == 503, "host b to notice", 5 * SCALE)
    line_b.one_way(None)
    for socket in sockets:
        for n in range(1, 4):
            socket.expect(offset=n, n=n)
        socket.expect_nothing()
    all_well()
    gone(sockets)


# --- refusals of Redis

def refused_workers(server):
    """{pid: whether Redis refuses what it asks}; the same as JSON and as a metric."""
    shown = {worker["pid"]: worker["refused"] for worker in http.status(server)["workers"]}
    text = http.request(server, "GET", "/status?format=prometheus").text
    gauges = {int(pid): value == "1" for pid, value in re.findall(r'^rooms_worker_refused{pid="(\d+)"} ([01])$', text, re.M)}
    return shown if shown == gauges else None


def refused(break_it, heal, pattern, reason=None):
    all_well()
    room = new_room()
    sockets, epoch = everywhere(room)
    publish(host_a, room, 1)
    before = len(host_a.log())
    with redis.client() as client:
        break_it(client)
        try:
            for _ in range(6):
                asked = time.monotonic()
                response = publish(host_a, room, "never", expect=None)
                tap.is_(response.status, 503, f"{response!r}")
                tap.ok(time.monotonic() - asked < 1 * SCALE, "in time")
            lines = [line for line in host_a.log()[before:].splitlines() if re.search(pattern, line)]
            tap.ok(1 <= len(lines) <= 2, f"one line of the log for each worker: {lines}")
            tap.unlike(host_a.log()[before:], "publish to .* refused")
            if reason:
                wait_until(lambda: health(host_a).status == 503, "health to be 503", 6 * SCALE)
                tap.like(health(host_a).json["reason"], reason)
                wait_until(lambda: refused_workers(host_a) == dict.fromkeys(host_a.workers(), True), "every worker to say so")
                tap.is_(http.status(host_a)["redis"]["hearing"], 2, "workers that hear all the same")
        finally:
            heal(client)
    all_well()
    tap.is_(refused_workers(host_a), dict.fromkeys(host_a.workers(), False), "workers that are refused")
    publish(host_a, room, 2)
    for socket in sockets:
        socket.expect(offset=1, n=1)
        socket.expect(offset=2, n=2)
        socket.expect_nothing()
    gone(sockets)


tap.add("OOM: 503, one line of the log, and it goes on when there is memory", refused,
        lambda client: client("CONFIG", "SET", "maxmemory", "1"), lambda client: client("CONFIG", "SET", "maxmemory", "0"),
        r"\[error\].*redis .* refuses: OOM")
tap.add("MISCONF: the same", refused,
        lambda client: _cannot_save(client), lambda client: client("CONFIG", "SET", "stop-writes-on-bgsave-error", "no"),
        r"\[error\].*redis .* refuses: MISCONF")
def _cannot_save(client):
    client("CONFIG", "SET", "stop-writes-on-bgsave-error", "yes")
    client("CONFIG", "SET", "save", "3600 100000")
    os.mkdir(redis.path("dump.rdb"))
    client("BGSAVE")
    wait_until(lambda: "rdb_last_bgsave_status:err" in client("INFO", "persistence"), "a background save to fail")


@tap.case("NOSCRIPT: scripts that were flushed are loaded again, and nobody notices")
def _():
    room = new_room()
    sockets, _ = everywhere(room)
    for n in range(1, 9):
        if n % 3 == 1:
            with redis.client() as client:
                client("SCRIPT", "FLUSH")
        publish(hosts[n % 2], room, n)
    for socket in sockets:
        for n in range(1, 9):
            socket.expect(offset=n, n=n)
        socket.expect_nothing()
    gone(sockets)


tap.add("no right to run scripts: the same, and after 3 s health says so", refused,
        lambda client: client("ACL", "SETUSER", "default", "-evalsha", "-eval"),
        lambda client: client("ACL", "SETUSER", "default", "+@all"), r"\[error\].*redis .* refuses: NOPERM", "redis refuses")


@tap.case("no right to the channels: the log says so, once for each worker, and health is 503")
def _():
    acl = "user default off\nuser web on >pw ~* resetchannels +@all\nuser boss on >pw ~* &* +@all\n"
    with Redis(acl=acl, admin=("boss", "pw")) as other:
        server = Nginx(LOCATIONS, http=HTTP + f"rooms_redis redis://web:pw@127.0.0.1:{other.port};", files=FILES, name="no channels")
        server.wait_log(r"\[error\].*subscriptions cannot be had: NOPERM")
        wait_until(lambda: health(server).status == 503, "health to be 503", 5 * SCALE)
        lines = [line for line in server.log().splitlines() if "cannot be had" in line]
        tap.is_(len(lines), 2, "lines")
        other.cli("ACL", "SETUSER", "web", "allchannels")
        all_well(server)
        tap.is_(server.stop(), [], "problems")


@tap.case("a reload while Redis stalls: every publication that waits is answered")
def _():
    all_well()
    answers, asked = [], threading.Barrier(9)

    def ask(n):
        asked.wait()
        answers.append(publish(host_a, "session:stall", n, expect=None).status)
    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    redis.pause()
    try:
        asked.wait()
        time.sleep(0.1)
        host_a.reload()
        for thread in threads:
            thread.join()
    finally:
        redis.resume()
    tap.is_(answers, [503] * 8, "answers")
    wait_until(lambda: len(host_a.processes()) == 2, "the old workers to leave", 10 * SCALE)
    all_well()


# --- another server takes over

@tap.case("a restart that lost the newest events, under load: every member of such a room is told before anything newer")
def _():
    with Redis(appendfsync=None) as other:
        server = Nginx(LOCATIONS, http=HTTP + f"rooms_redis {other.url};", files=FILES, name="a lost tail")
        rooms = [f"session:tail{n}" for n in range(20)]
        socket = open_page(server)
        for room in rooms:
            join(socket, room)
            publish_surely(server, room, 1)
            socket.expect(room=room, offset=1)
        other.cli("SAVE")
        for room in rooms:
            publish_surely(server, room, 2)
            socket.expect(room=room, offset=2)
        other.kill()
        ending = threading.Event()

        def writer():
            n = 0
            while not ending.is_set():
                n += 1
                publish(server, rooms[n % 20], f"new{n}", expect=None)
        thread = threading.Thread(target=writer)
        thread.start()
        try:
            other.start()
            wait_until(lambda: publish(server, rooms[0], "x", expect=None).status == 200, "Redis to be back")
            told = set()
            while len(told) < 20:
                message = socket.recv_json()
                if message["type"] == "gap":
                    told.add(message["room"])
                else:
                    tap.in_(message["room"], told, "a room with newer events has had its gap")
        finally:
            ending.set()
            thread.join()
        socket.close()
        tap.is_(server.stop(), [], "problems")


class Pair:
    """A master with a replica, and hosts that reach Redis each by a line of its own."""

    def __init__(self, *names, workers=2):
        self.master, self.replica = Redis(), Redis()
        self.feed = Proxy(self.master)
        self.replica.replica_of(self.master, through=self.feed)
        self.synced()
        self.lines = [Proxy(self.master) for _ in names]
        self.hosts = [Nginx(LOCATIONS, http=HTTP + f"rooms_redis {line.url};", files=FILES, name=name, workers=workers)
                      for line, name in zip(self.lines, names)]

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        problems = [host.stop() for host in self.hosts]
        for part in (*self.lines, self.feed, self.replica, self.master):
            part.close()
        if kind is None:
            tap.is_(problems, [[] for _ in self.hosts], "problems of nginx")

    def synced(self):
        self.master.wait_synced(self.replica)

    def fail_over(self):
        for line in self.lines:
            line.cut()
        self.master.kill()
        self.replica.promote()

    def leads_on(self, number):
        """The host of that number reaches the replica from now on."""
        self.lines[number].retarget(self.replica)
        self.lines[number].mend()


@contextlib.contextmanager
def deaf(server, at):
    """Publications can be had of that Redis, and no channels; `server`, which is led to it inside, has noticed on the way out."""
    with at.client() as client:
        client("ACL", "SETUSER", "default", "-subscribe")
        yield client
        server.wait_log("subscriptions cannot be had: NOPERM")


def publish_by_each_worker(server, room, n):
    """Each has been told that Redis has the event, by its id. The epochs it was told."""
    epochs = set()
    for pid in server.workers():
        at = KeptConnection(server, pid)

        def taken():
            response = at.ask("POST", "/publish", json.dumps(event(room, n, id=f"{room}.{n}")).encode())
            return tap.in_(response.status, (200, 503)) == 200 and response.json["epoch"]
        epochs.add(wait_until(taken, f"worker {pid} to publish"))
    return epochs


def failover(lost, history="session"):
    """The master dies, a replica is promoted that never got the last `lost` events. (members' gaps, epoch before, after)"""
    with Pair(f"failover, {lost} lost") as pair:
        return fail_over_with(pair, lost, history)


def fail_over_with(pair, lost, history):
    server, = pair.hosts
    room = new_room(history)
    sockets = [open_page(server, worker=pid) for pid in server.workers()]
    epoch = [join(socket, room)["epoch"] for socket in sockets][0]
    for n in range(1, 6):
        publish(server, room, n)
    pair.synced()
    if lost:
        pair.feed.cut()
    for n in range(6, 6 + lost):
        publish(server, room, n)
    for socket in sockets:
        for n in range(1, 6 + lost):
            socket.expect(offset=n, n=n)
    pair.fail_over()
    pair.leads_on(0)
    for n in ("a", "b", "c", "d"):
        publish_surely(server, room, n)
    got = [[] for _ in sockets]
    for socket, messages in zip(sockets, got):
        while lost and not any(m["type"] == "gap" for m in messages):
            messages.append(socket.recv_json())
    after = publish_surely(server, room, "z")["epoch"]
    for socket, messages in zip(sockets, got):
        while not messages or messages[-1].get("n") != "z":
            messages.append(socket.recv_json())
        socket.expect_nothing()
    got = [[(m["type"], m.get("n"), m["offset"]) for m in messages] for messages in got]
    with open_page(server) as socket:
        back = join(socket, room, since={"epoch": epoch, "offset": 5 + lost})["recovered"]
    gone(sockets)
    return got, epoch, after, back


@tap.case("a failover that lost acknowledged events: every member is told a gap before anything newer, none resumes over it")
def _():
    got, before, after, back = failover(3)
    for messages in got:
        kinds = [kind for kind, _, _ in messages]
        tap.is_(kinds.count("gap"), 1, f"gaps in {messages}")
        told = [n for kind, n, _ in messages if kind == "x"]
        tap.is_(told, list("abcdz")[-len(told):], f"what came: {messages}")
        tap.is_(kinds[0], "gap", f"the gap first: {messages}")
    tap.isnt(after, before, "epoch")
    tap.is_(back, False, "recovered with the lost position")


@tap.case("what a master acknowledged that came back for a moment is missing at the next one: every member is told before anything newer")
def _():
    with Pair("a passing master", "that never saw it") as pair:
        server, other = pair.hosts
        room, empty = new_room(), new_room()
        sockets = [open_page(server, worker=pid) for pid in server.workers()]
        epochs = {join(socket, room)["epoch"] for socket in sockets}
        for n in range(1, 4):
            publish(server, room, n)
            epochs.add(publish_surely(server, empty, n)["epoch"])
        for socket in sockets:
            for n in range(1, 4):
                socket.expect(offset=n, n=n)
        pair.synced()
        pair.feed.cut()
        for line in pair.lines:
            line.cut()
        # It comes back as another server than before, and takes publications before its channels can be had.
        pair.master.kill()
        pair.master.start()
        with deaf(server, pair.master):
            pair.lines[0].mend()
        passing = publish_by_each_worker(server, room, "passing") | publish_by_each_worker(server, empty, "passing")
        tap.is_(passing, epochs, "the epochs: it goes on with both rooms")
        pair.fail_over()
        pair.leads_on(1)
        theirs = publish_surely(other, room, "theirs")
        tap.is_((theirs["epoch"] in epochs, theirs["offset"]), (True, 4), "to who never saw it, it is the next one")
        pair.leads_on(0)
        with open_page(server) as late:
            def joined():
                late.send_json({"type": "subscribe", "room": room, "since": {"epoch": theirs["epoch"], "offset": 3}})
                answer = late.recv_json()
                return answer["type"] == "subscribed" and answer
            back = wait_until(joined, "the host to hear the next master")
            tap.is_((back["recovered"], back["epoch"] in epochs), (False, False), "who comes back to the host that did")
        for socket in sockets:
            tap.ok(socket.expect(type="gap")["epoch"] not in epochs, "another epoch")
        after = publish_surely(server, room, "next")
        for socket in sockets:
            socket.expect(n="next", offset=after["offset"])
            socket.expect_nothing()
        tap.ok(publish_surely(server, empty, "next")["epoch"] not in epochs, "another epoch of the room without members")
        gone(sockets)


@tap.case("a member that leaves while its room's new master is not yet heard: what it had seen is missing there, and the next is told")
def _():
    with Pair("of who leaves", "of who comes", workers=1) as pair:
        first, second = pair.hosts
        room = new_room()
        socket = open_page(first)
        epoch = join(socket, room)["epoch"]
        publish(first, room, 1)
        pair.synced()
        pair.feed.cut()
        pair.lines[1].cut()
        publish(first, room, 2)
        for n in (1, 2):
            socket.expect(offset=n, n=n)
        pair.fail_over()
        with deaf(first, pair.replica):
            pair.leads_on(0)
        socket.close()
        with pair.replica.client() as client:
            wait_until(lambda: client("HGET", f"rooms:{{{room}}}:meta", "epoch") != epoch, "another epoch")
            client("ACL", "SETUSER", "default", "allcommands")
        pair.leads_on(1)
        publish_surely(second, room, "newer")
        with open_page(second) as socket:
            tap.is_(join(socket, room, since={"epoch": epoch, "offset": 2})["recovered"], False, "recovered")


@tap.case("what is old and trimmed is no loss: a host that published long ago, a repeat at another server, a restart that lost nothing")
def _():
    def repeated():
        answer = publish(busy, room, 2, expect=None, id="first")
        return answer.status == 200 and answer.json

    with Pair("of long ago", "that is busy", workers=1) as pair:
        old, busy = pair.hosts
        room = new_room()
        with open_page(busy) as socket:
            epoch = join(socket, room)["epoch"]
            publish(old, room, 1)
            publish(busy, room, 2, id="first")
            for n in range(3, 401):
                publish(busy, room, n)
            for n in range(1, 401):
                socket.expect(offset=n, n=n)
            pair.synced()
            pair.fail_over()
            pair.leads_on(0)
            publish_surely(old, new_room(), "up")
            with deaf(busy, pair.replica):
                pair.leads_on(1)
            again = wait_until(repeated, "the repeat to be taken")
            tap.is_([again["epoch"], again["offset"]], [epoch, 2], "the repeat")
            for line in pair.lines:
                line.cut()
            pair.replica.kill()
            pair.replica.start()
            for line in pair.lines:
                line.mend()
            tap.is_(publish_surely(busy, room, 401)["epoch"], epoch, "epoch")
            socket.expect(offset=401, n=401)
            socket.expect_nothing()


@tap.case("a failover that lost nothing: no gap, the epoch stays, and who was away resumes")
def _():
    got, before, after, back = failover(0)
    for messages in got:
        tap.is_(messages, [("x", n, 6 + i) for i, n in enumerate("abcdz")])
    tap.is_(after, before, "epoch")
    tap.is_(back, True, "recovered")


# --- reload and death of workers

@tap.case("reload and the death of a worker: members resume by position, nothing is lost")
def _():
    room = new_room()
    with open_page(host_b) as stays:
        epoch = join(stays, room)["epoch"]
        publish(host_a, room, 1)
        host_a.reload(wait_old=True)
        publish(host_a, room, 2)
        host_a.kill_worker(host_a.workers()[0])
        all_well(host_a)
        publish(host_a, room, 3)
        for n in (1, 2, 3):
            stays.expect(offset=n, n=n)
        for pid in host_a.workers():
            with open_page(host_a, worker=pid) as socket:
                got = join(socket, room, since={"epoch": epoch, "offset": 0})
                tap.is_((got["recovered"], got["offset"]), (True, 3))
                for n in (1, 2, 3):
                    socket.expect(offset=n, n=n)
        wait_until(lambda: presence(stays, room)[1] == 1, "presence to be one", 10 * SCALE)


@tap.case("a full restart of a host keeps epochs and history, for Redis has them")
def _():
    room = new_room()
    with open_page(host_a) as socket:
        epoch = join(socket, room)["epoch"]
    publish(host_a, room, 1, id="i")
    host_a.restart()
    all_well(host_a)
    tap.is_(publish(host_a, room, 1, id="i").get("duplicate"), True, "the id is known")
    with open_page(host_a) as socket:
        tap.is_(join(socket, room, since={"epoch": epoch, "offset": 0})["recovered"], True, "recovered")
        socket.expect(offset=1, n=1)


tap.run()

#!/usr/bin/python3
"""One broker for all workers: order, positions, history, presence, limits and ids, through overflow, fullness,
reload, SIGKILL and restart."""
import json
import os
import re
import signal
import sys
import threading
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import ON_REDIS, SCALE, http, jwt, tap, wait_until, ws  # noqa: E402
from rooms.backend import event, publish                           # noqa: E402
from rooms.kept_connection import KeptConnection                   # noqa: E402
from rooms.nginx import Nginx                                      # noqa: E402
from rooms.page import join, new_room, open_page, presence         # noqa: E402

LOCATIONS = """
    location = /ws      { rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_allow *; rooms_rate 5000/10s;
                          rooms_max_rooms 2000; rooms_send_queue 64m; }
    location = /few     { rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_allow *;
                          rooms_max_connections 3 per=$rooms_user; }
    location = /publish { rooms_publish; }
    location = /status  { rooms_status; }
"""
HTTP = """
    rooms_history deep:*  size=1000 ttl=10m;
    rooms_history three:* size=3 ttl=10m;
    rooms_history short:* size=100 ttl=700ms;
    client_max_body_size 8m; keepalive_requests 100000;
"""
FILES = {"secret": jwt.SECRET}

two = Nginx(LOCATIONS, http=HTTP, files=FILES, workers=2, name="two workers")
four = Nginx(LOCATIONS, http=HTTP, files=FILES, workers=4, name="four workers")
# 32 letters in a mailbox, 512 KiB of ring.
small = Nginx(LOCATIONS, http="rooms_zone small:1m;" + HTTP, files=FILES, workers=2, name="a small zone")


class Publisher(KeptConnection):
    def publish(self, room, n=1, expect=200, **more):
        response = self.ask("POST", "/publish", json.dumps(event(room, n, **more), separators=(",", ":")).encode())
        assert response is not None and response.status == expect, f"expected {expect}: {response!r}"
        return response.json


# --- order

def same_order(server):
    room = new_room("deep")
    pages = [open_page(server, worker=pid) for pid in server.workers() for _ in range(2)]
    for socket in pages:
        join(socket, room)
    answers = {}
    broken = []

    def writer(worker, name):
        try:
            publisher = Publisher(server, worker)
            for n in range(60):
                answers[publisher.publish(room, f"{name}.{n}")["offset"]] = f"{name}.{n}"
        except Exception as error:
            broken.append(error)
    threads = [threading.Thread(target=writer, args=(pid, f"{i}{pid}")) for pid in server.workers() for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tap.is_(broken, [], "publishers that failed")
    total = 60 * len(threads)
    tap.is_(sorted(answers), list(range(1, total + 1)), "offsets that were answered")
    for socket in pages:
        for offset in range(1, total + 1):
            socket.expect(offset=offset, n=answers[offset])
        socket.expect_nothing()
        socket.close()


tap.add("two workers: all members get one order, whoever publishes at once", same_order, two)
tap.add("four workers: the same", same_order, four)


# --- positions

@tap.case("a client comes back by position on every worker, wherever it was before")
def _():
    room = new_room("deep")
    with open_page(four) as socket:
        start = join(socket, room)
        for n in range(10):
            publish(four, room, n)
        socket.expect(offset=1)
    since = {"epoch": start["epoch"], "offset": 1}
    for pid in four.workers():
        with open_page(four, worker=pid) as socket:
            got = join(socket, room, since=since)
            tap.is_((got["recovered"], got["offset"], got["epoch"]), (True, 10, start["epoch"]))
            for n in range(1, 10):
                socket.expect(offset=n + 1, n=n)
            socket.expect_nothing()


@tap.case("members who join while others publish miss nothing and get nothing twice")
def _():
    room = new_room("deep")
    with open_page(four) as socket:
        epoch = join(socket, room)["epoch"]
    stop = threading.Event()
    published = []

    def writer():
        publisher = Publisher(four, four.workers()[0])
        while not stop.is_set() and len(published) < 900:   # what the history holds
            published.append(publisher.publish(room, len(published) + 1)["offset"])
    thread = threading.Thread(target=writer)
    thread.start()
    pages = []
    try:
        for pid in four.workers():
            for _ in range(3):
                socket = open_page(four, worker=pid)
                socket.at = join(socket, room, since={"epoch": epoch, "offset": 0})["recovered"]
                pages.append(socket)
    finally:
        stop.set()
        thread.join()
    tap.is_([socket.at for socket in pages], [True] * len(pages), "recovered")
    for socket in pages:
        for offset in range(1, len(published) + 1):
            socket.expect(offset=offset, n=offset)
        socket.expect_nothing()
        socket.close()


@tap.case("the epoch stays over reload and the death of a worker, and positions with it")
def _():
    room = new_room("deep")
    with open_page(two) as socket:
        start = join(socket, room)
    publish(two, room, 1)
    two.reload(wait_old=True)
    publish(two, room, 2)
    two.kill_worker(two.workers()[0])
    tap.is_(publish(two, room, 3)["epoch"], start["epoch"], "epoch")
    for pid in two.workers():
        with open_page(two, worker=pid) as socket:
            got = join(socket, room, since={"epoch": start["epoch"], "offset": 0})
            tap.is_((got["recovered"], got["epoch"], got["offset"]), (True, start["epoch"], 3))
            for n in (1, 2, 3):
                socket.expect(offset=n, n=n)


@tap.zone_case("a restart begins a new epoch: recovered:false, and offsets from 1")
def _():
    room = new_room("deep")
    with open_page(two) as socket:
        start = join(socket, room)
        publish(two, room, 1)
        socket.expect(offset=1)
    two.restart()
    tap.is_(publish(two, room, 2)["offset"], 1, "first offset")
    with open_page(two) as socket:
        got = join(socket, room, since={"epoch": start["epoch"], "offset": 1})
        tap.is_((got["recovered"], got["offset"]), (False, 1))
        tap.isnt(got["epoch"], start["epoch"], "epoch")
        socket.expect_nothing()


@tap.zone_case("a zone of another size at reload is a fresh one: recovered:false, nothing old, publishing goes on")
def _():
    room = new_room("deep")
    with open_page(two) as socket:
        start = join(socket, room)
        publish(two, room, 1)
        socket.expect(offset=1)
        two.reload(http="rooms_zone rooms:16m;" + HTTP)
        socket.wait_for(type="reconnect")
        tap.is_(publish(two, room, 2)["offset"], 1, "first offset")
        with open_page(two) as again:
            got = join(again, room, since={"epoch": start["epoch"], "offset": 1})
            tap.is_((got["recovered"], got["offset"]), (False, 1))
            again.expect_nothing()
            publish(two, room, 3)
            again.expect(offset=2, n=3)
        socket.expect_closed({1012})
    tap.is_(round(http.status(two)["zone"]["size"] / 1024 / 1024), 16, "MiB of the zone")
    two.reload(http=HTTP, wait_old=True)


# --- what is kept

@tap.case("rooms_history size: what is older than the newest three is gone")
def _():
    room = new_room("three")
    with open_page(two) as socket:
        epoch = join(socket, room)["epoch"]
    for n in range(1, 6):
        publish(two, room, n)
    for offset, recovered in ((1, False), (2, True), (5, True)):
        with open_page(two) as socket:
            tap.is_(join(socket, room, since={"epoch": epoch, "offset": offset})["recovered"], recovered, f"from {offset}")
            for n in range(offset + 1, 6) if recovered else ():
                socket.expect(offset=n)
            socket.expect_nothing()


@tap.case("rooms_history ttl: what is older is gone, the position itself stays good")
def _():
    room = new_room("short")

    def recovered(offset):
        with open_page(two) as socket:
            return join(socket, room, since={"epoch": epoch, "offset": offset})["recovered"]
    with open_page(two) as stays:    # so that the room keeps its epoch
        epoch = join(stays, room)["epoch"]
        publish(two, room, 1)
        publish(two, room, 2)
        tap.is_(recovered(0), True, "at once")
        wait_until(lambda: not recovered(0), "the time to live to pass", 5 * SCALE)
        tap.is_(recovered(1), False, "one of them")
        tap.is_(recovered(2), True, "the position itself")


@tap.zone_case("the ring has lapped a room that was silent: recovered:false; another room's newest are all there")
def _():
    old, new = new_room("deep"), new_room("deep")
    with open_page(small) as socket:
        since = {room: {"epoch": join(socket, room)["epoch"], "offset": 0} for room in (old, new)}
    publish(small, old, 1)
    for n in range(20):
        publish(small, new_room("three"), "x" * 40000)
    for n in range(3):
        publish(small, new, n)
    with open_page(small) as socket:
        tap.is_(join(socket, old, since=since[old])["recovered"], False, "the old room")
        socket.expect_nothing()
        tap.is_(join(socket, new, since=since[new])["recovered"], True, "the new room")
        for n in range(3):
            socket.expect(room=new, offset=n + 1, n=n)
        socket.expect_nothing()


# --- a worker that sleeps

def both_join(fine, slow, *rooms):
    # Before the stop: SIGSTOP has not come yet to a worker that still answers.
    for room in rooms:
        join(fine, room)
        join(slow, room)


def sleeps(count, size, lapped, overflows):
    room = new_room("deep")
    awake, asleep = small.workers()
    with open_page(small, worker=awake) as fine, open_page(small, worker=asleep) as slow:
        both_join(fine, slow, room)
        publisher = Publisher(small, awake)
        before = http.status(small)["zone"]["mailboxOverflows"]
        os.kill(asleep, signal.SIGSTOP)
        try:
            for n in range(count):
                publisher.publish(room, n, data={"n": n, "fill": "x" * size})
                fine.expect(offset=n + 1, n=n)
        finally:
            os.kill(asleep, signal.SIGCONT)
        if lapped:
            gap = slow.expect(type="gap", room=room, reason="trimmed")
            tap.is_(gap["offset"], count, "the gap's offset is the room's position")
        else:
            for n in range(count):
                slow.expect(offset=n + 1, n=n)
        slow.expect_nothing()
        publisher.publish(room, "after")
        for socket in (fine, slow):
            socket.expect(offset=count + 1, n="after")
            socket.expect_nothing()
        tap.is_(http.status(small)["zone"]["mailboxOverflows"] - before, overflows, "mailbox overflows")


tap.add("a worker slept through fewer than its mailbox holds: its members get all, in order", sleeps, 20, 10, False, 0)
tap.zone_add("it slept through more: the log is read back, its members get all, in order", sleeps, 300, 10, False, 1)
tap.zone_add("it slept until the ring had lapped its mailbox: one `gap` with the position, then what is newer",
        sleeps, 20, 40000, True, 0)
tap.zone_add("it slept through more than mailbox and ring hold: one `gap`", sleeps, 100, 9000, True, 1)


@tap.zone_case("`gap` is for the room whose records are gone: the others get theirs, before and after")
def _():
    old, new, silent = new_room("deep"), new_room("deep"), new_room("deep")
    awake, asleep = small.workers()
    with open_page(small, worker=awake) as fine, open_page(small, worker=asleep) as slow:
        both_join(fine, slow, old, new, silent)
        publisher = Publisher(small, awake)
        os.kill(asleep, signal.SIGSTOP)
        try:
            for n in range(3):
                publisher.publish(old, n)
            for _ in range(60):
                publisher.publish(new_room("three"), "x" * 20000)
            for n in range(40):
                publisher.publish(new, n)
        finally:
            os.kill(asleep, signal.SIGCONT)
        got = {room: [] for room in (old, new, silent)}
        for _ in range(41):
            message = slow.recv_json()
            got[message["room"]].append((message["type"], message["offset"]))
        slow.expect_nothing()
        tap.is_(got[old], [("gap", 3)], "the room that was lapped")
        tap.is_(got[new], [("x", n) for n in range(1, 41)], "the room whose records are there")
        for room, offset in ((old, 4), (new, 41), (silent, 1)):
            publisher.publish(room, "after")
            slow.expect(room=room, offset=offset, n="after")


# --- members and limits

@tap.case("`subscribers` and presence count the members of all workers")
def _():
    room = new_room("deep")
    pages = [open_page(four, worker=pid, user=f"u{i}") for i, pid in enumerate(four.workers()) for _ in range(2)]
    for i, socket in enumerate(pages):
        tap.is_(publish(four, room)["subscribers"], i, "subscribers")
        join(socket, room)
        socket.send_json(type="unsubscribe", room=room)
        socket.wait_for(type="unsubscribed")
        join(socket, room)
    tap.is_(publish(four, room)["subscribers"], 8, "subscribers")
    with open_page(four) as asker:
        tap.is_(presence(asker, room), ([(f"u{i}", 2) for i in range(4)], 8), "presence")
        for socket in pages[:3]:
            socket.abort()
        wait_until(lambda: presence(asker, room) == ([("u1", 1), ("u2", 2), ("u3", 2)], 5), "those who left to be gone")
        tap.is_(publish(four, room)["subscribers"], 5, "subscribers")
    for socket in pages[3:]:
        socket.drop()


@tap.case("the death of a worker takes its members out of presence, subscribers and status within 5 s (10 s with Redis)")
def _():
    room = new_room("deep")
    dies, lives = two.workers()
    doomed = [open_page(two, worker=dies, user="u1") for _ in range(3)] + [open_page(two, worker=dies, user="u2")]
    stay = [open_page(two, worker=lives, user="u1"), open_page(two, worker=lives, user="u3")]
    for socket in doomed + stay:
        join(socket, room)
    tap.is_(presence(stay[0], room), ([("u1", 4), ("u2", 1), ("u3", 1)], 6), "presence before")
    two.kill_worker(dies)
    wait_until(lambda: presence(stay[0], room) == ([("u1", 1), ("u3", 1)], 2), "presence without the dead",
               (10 if ON_REDIS else 5) * SCALE)
    tap.is_(publish(two, room)["subscribers"], 2, "subscribers")

    def counts():
        status = http.status(two)
        return status["connections"]["active"], status["rooms"]["members"], len(status["workers"])
    wait_until(lambda: counts() == (2, 2, 2), "the gauges to be right", 5 * SCALE)
    for socket in stay:
        socket.expect(offset=1)
        socket.expect_nothing()
        socket.close()


@tap.case("S49: rooms_max_connections counts a user's sockets on all workers, and gives back those of a dead worker")
def _():
    def full():
        socket = ws.connect(two, "/few", token=jwt.mint(sub="busy"))
        try:
            socket.expect(type="connected")
        except ws.Closed as end:
            tap.is_(end.code, 4103, "close code")
            return True
        socket.close()
        return False
    dies, lives = two.workers()

    def seat(worker=None):
        """One that counts; what another worker took is given back first."""
        for _ in range(400):
            socket = ws.connect(two, "/few", token=jwt.mint(sub="busy"))
            try:
                socket.expect(type="connected")
            except ws.Closed:       # the one given back a moment ago is still counted
                continue
            if worker in (None, socket.worker):
                return socket
            socket.close()
        raise AssertionError("no seat")
    mine = [seat(lives), seat(dies), seat(lives)]
    for _ in range(6):
        tap.ok(full(), "the fourth socket is closed with 4103")
    open_page(two, user="other", path="/few").close()
    mine.pop(0).close()
    mine.append(seat(lives))
    tap.ok(full(), "full again")
    two.kill_worker(dies)
    wait_until(lambda: not full(), "the dead worker's socket to be given back", 5 * SCALE)
    mine.append(seat())
    tap.ok(full(), "full again after the worker's death")
    two.reload(wait_old=True)
    mine = [seat() for _ in range(3)]
    tap.ok(full(), "full again after a reload")
    for socket in mine:
        socket.close()


# --- ids

@tap.case("an id is remembered by all workers, over reload and the death of a worker")
def _():
    room = new_room("deep")
    with open_page(two) as socket:
        join(socket, room)
        first = publish(two, room, 1, id="once")
        socket.expect(offset=1, id="once")

        def repeated():
            for pid in two.workers():
                again = Publisher(two, pid).publish(room, 1, id="once")
                tap.is_(again, dict(first, duplicate=True), f"the repeat's answer by {pid}")
                Publisher(two, pid).publish(room, 2, id="once", expect=409)
        repeated()
        socket.expect_nothing()
    two.reload(wait_old=True)
    repeated()
    two.kill_worker(two.workers()[0])
    repeated()
    tap.is_(publish(two, room, 3)["offset"], 2, "the next offset")


@tap.case("many repeat one id at once, on all workers: one publication")
def _():
    room = new_room("deep")
    answers = []

    def writer(worker):
        publisher = Publisher(four, worker)
        for n in range(20):
            answers.append((n, publisher.publish(room, n, id=f"id{n}")))
    threads = [threading.Thread(target=writer, args=(pid,)) for pid in four.workers() for _ in range(2)]
    with open_page(four) as socket:
        join(socket, room)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        tap.is_(len(answers), 20 * len(threads), "answers")
        offsets = {n: {answer["offset"] for m, answer in answers if m == n} for n in range(20)}
        tap.is_([len(found) for found in offsets.values()], [1] * 20, "offsets of each id")
        tap.is_(sum("duplicate" not in answer for _, answer in answers), 20, "first answers")
        for offset in range(1, 21):
            got = socket.expect(offset=offset)
            tap.is_(got["id"], f"id{got['n']}", "id")
            tap.is_(offsets[got["n"]], {offset}, "the answered offset")
        socket.expect_nothing()


# --- fullness

def room_with_place(kind="deep"):
    """A new room, as soon as the zone has a place for one."""
    room = new_room(kind)
    with open_page(small) as socket:
        def joined():
            socket.send_json(type="subscribe", room=room)
            return socket.recv_json()["type"] == "subscribed"
        wait_until(joined, "the time to live of other rooms to pass", 5 * SCALE)
        publish(small, room, "first")       # its history keeps it
    return room


def unavailable(ask, pattern):
    """ask() is refused, and the log says so, at most once a second. What is old may have made place meanwhile."""
    response = wait_until(lambda: refusal if (refusal := ask()).status != 200 else None, "a refusal")
    tap.is_(response.status, 503, "status")
    tap.ok(int(response.get("Retry-After")) > 0, "Retry-After")
    tap.like(response.json["error"]["message"], f"{pattern}.*rooms_zone", "the message")
    wait_until(lambda: re.search(rf"\[error\].*{pattern}.*rooms_zone", small.log()) or not ask(), "the log to name rooms_zone")


@tap.zone_case("a zone full of members: `limit`, and each unsubscribe makes place for another")
def _():
    kept = []
    with open_page(small, user="a" * 150) as socket:
        def subscribe():
            room = new_room("deep")
            socket.send_json(type="subscribe", room=room)
            got = socket.recv_json()
            if got["type"] == "subscribed":
                kept.append(room)
            return got

        while (got := subscribe())["type"] == "subscribed":
            pass
        tap.is_((got["type"], got["code"], got["retryable"]), ("error", "limit", True))
        tap.like(got["message"], "rooms_zone", "the message")
        publish(small, kept[0], "still")
        socket.expect(room=kept[0], n="still")
        for room in kept[-10:]:
            socket.send_json(type="unsubscribe", room=room)
            socket.expect(type="unsubscribed")
        for _ in range(10):
            join(socket, new_room("deep"))
        socket.send_json(type="subscribe", room=new_room("deep"))
        socket.expect(type="error", code="limit")
    wait_until(lambda: http.status(small)["rooms"]["members"] == 0, "all members to be gone")


@tap.zone_case("a zone full of rooms: 503 and `limit` naming rooms_zone, members go on, and what is freed can be had again")
def _():
    mine = new_room("deep")
    with open_page(small) as member, open_page(small) as other:
        join(member, mine)
        for round_ in range(3):
            for _ in range(2000):
                if publish(small, new_room("short"), expect=None).status != 200:
                    break
            unavailable(lambda: publish(small, new_room("short"), expect=None), "another room")
            other.send_json(type="subscribe", room=new_room("deep"), ref=1)
            got = other.expect(type="error", code="limit", ref=1, retryable=True)
            tap.like(got["message"], "rooms_zone", "the message of the error frame")
            publish(small, mine, round_)
            member.expect(room=mine, n=round_, offset=round_ + 1)
            usage = http.status(small)["zone"]["rooms"]
            tap.is_(usage["used"], usage["cap"], "rooms in the status")
            room = room_with_place()
            join(other, room)
            publish(small, room, "hello")
            other.expect(room=room, n="hello", offset=2)
        lines = [line for line in small.log().splitlines() if "rooms_zone" in line]
        tap.ok(len(lines) < 30, f"the log is not flooded: {len(lines)} lines")


@tap.zone_case("a table full of young ids: 503 for a publication with an id, none without; nothing is forgotten")
def _():
    room = room_with_place()
    publisher = Publisher(small, small.workers()[0])
    first = publisher.publish(room, 0, id="0")

    def ask():
        return publisher.ask("POST", "/publish", json.dumps({"room": room, "type": "x", "id": str(n)}).encode())
    for n in range(1, 5000):
        if ask().status != 200:
            break
    unavailable(ask, "another id")
    ids = http.status(small)["zone"]["ids"]
    tap.is_(ids["used"], ids["cap"], "ids in the status")
    tap.is_(publisher.publish(room, "no id")["offset"], n + 2, "without an id")
    tap.is_(publisher.publish(room, 0, id="0"), dict(first, duplicate=True), "the first id is still known")


@tap.zone_case("an event that the zone could never hold is 413")
def _():
    room = room_with_place()
    with open_page(small) as socket:
        join(socket, room)
        response = publish(small, room, "x" * 300000, expect=None)
        tap.is_(response.status, 413, "status")
        tap.like(response.text, "rooms_zone", "body")
        tap.is_(publish(small, room, "y" * 100000)["offset"], 2, "one that fits")
        socket.expect(offset=2)


tap.run()

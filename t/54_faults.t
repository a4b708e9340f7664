#!/usr/bin/python3
"""A worker is killed at each place that src/store/fault_point.hpp names: the zone stays usable, members get exactly the
acknowledged publications, once and in order, and a publication that is sent again with its id exists once. Needs the
module with fault points: `make module-faults`."""
import json
import os
import re
import signal
import sys
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "lib"))
MODULE = os.environ.get("ROOMS_MODULE_FAULTS") or os.path.join(HERE, "../build/module-faults/ngx_http_rooms_module.so")
os.environ["ROOMS_MODULE"] = MODULE
from rooms import ASAN, SCALE, http, jwt, tap, wait_until, ws  # noqa: E402
from rooms.kept_connection import KeptConnection               # noqa: E402
from rooms.nginx import Nginx                                  # noqa: E402
from rooms.page import join, open_page                         # noqa: E402
from rooms.preload import Clock                                # noqa: E402

with open(os.path.join(HERE, "../src/store/fault_point.hpp"), encoding="utf-8") as header:
    POINTS = [name for name in re.findall(r'"([a-z]+:[a-z_]+)"', header.read())
              if not name.startswith(("outbox:", "sweep:"))]      # t/89_postgres_deaths.t

LOCATIONS = """
    location = /ws      { rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_allow *; rooms_rate 5000/10s; rooms_drain 3s;
                          rooms_max_connections 100 per=$rooms_user; rooms_send_queue 64m; }
    location = /publish { rooms_publish; }
    location = /status  { rooms_status; }
"""
HTTP = """
    rooms_zone faults:2m;
    rooms_history deep:* size=1000 ttl=10m;
    rooms_history short:* size=10 ttl=60ms;
    client_max_body_size 8m; keepalive_requests 100000;
"""


def start(name, **options):
    # The deaths are the test's; each case counts them.
    return Nginx(LOCATIONS, http=HTTP, files={"secret": jwt.SECRET}, name=name,
                 expect=[r"worker process \d+ exited on signal 9"], **options)


server = start("nginx")
made = 0


def unique(kind):
    global made
    made += 1
    return f"{kind}:{made}"


def deaths(on):
    return set(re.findall(r"worker process (\d+) exited on signal 9", on.log()))


def arm(on, point, hit=""):
    """Workers that die at that place; the file says that nobody has died yet."""
    once = on.write("alive-" + unique("once").replace(":", "-"), "")
    on.reload(main=f"env ROOMS_FAULT={point}{hit}; env ROOMS_FAULT_ONCE={once};")
    wait_until(lambda: len(on.workers()) == 2 and len(on.processes()) == 2, "the old workers to leave")
    return once


class Lost(Exception):
    """The connection has ended where an answer was awaited."""


class Member:
    """A client that comes back by position; what it got is in `events`."""

    def __init__(self, on, room, worker=None, user="member"):
        self.on, self.room, self.user = on, room, user
        self.events, self.epoch, self.offset = [], None, 0
        self.lost = []          # workers whose end it saw
        self.socket = None
        self.connect(worker)

    def connect(self, worker=None):
        for _ in range(50):
            try:
                self.socket = self.open(worker)
                return
            except (OSError, AssertionError) as error:
                failure, worker = error, None
        raise AssertionError(f"cannot join {self.room}: {failure!r}")

    def open(self, worker):
        socket = open_page(self.on, worker=worker, user=self.user)
        since = {"since": {"epoch": self.epoch, "offset": self.offset}} if self.epoch else {}
        answer = join(socket, self.room, **since)
        if self.epoch:
            tap.is_(answer["recovered"], True, f"recovered from {self.offset}")
        self.epoch = answer["epoch"]
        return socket

    def read_to(self, offset):
        while self.offset < offset:
            try:
                event = self.socket.recv_json()
            except ws.Closed:
                self.come_back()
                continue
            if event["type"] == "reconnect":
                self.socket.drop()
                self.connect()
                continue
            tap.is_((event["type"], event["offset"]), ("x", self.offset + 1), "the next event")
            self.offset += 1
            self.events.append((event["offset"], event["n"]))
        while True:
            try:
                self.socket.expect_nothing()
                return
            except AssertionError:
                if not self.socket.wire.ended:
                    raise
                self.come_back()

    def from_the_beginning(self):
        self.socket.close()
        self.offset, self.events = 0, []
        self.connect()

    def come_back(self):
        self.lost.append(self.socket.worker)
        self.socket.wire.close()
        self.connect()

    def presence(self):
        self.socket.send_json(type="presence", room=self.room)
        got = self.socket.expect(type="presence")
        return got["count"], sorted(user["id"] for user in got["users"])


class Publisher(KeptConnection):
    """Sends again, with the same id, what was not answered."""

    def __init__(self, on, worker):
        self.answers, self.again = {}, 0
        super().__init__(on, worker)

    def ask(self, method, path, body=b""):
        try:
            return super().ask(method, path, body)
        except OSError:
            return None

    def publish(self, room, n, size=0, named=True):
        publication = {"room": room, "type": "x", "data": {"n": n, "fill": "x" * size}}
        if named:
            publication["id"] = f"{room}.{n}"
        body = json.dumps(publication).encode()
        for _ in range(50):
            response = self.ask("POST", "/publish", body)
            if response is None:
                self.again += 1
                self.open()
                continue
            if response.status == 200:
                answer = response.json
                if room.startswith("deep"):
                    offsets = self.answers.setdefault(room, {})
                    tap.ok(answer["offset"] not in offsets, f"offset {answer['offset']} given once")
                    offsets[answer["offset"]] = n
                return answer
            tap.is_(response.status, 503, f"status of {response!r}")
            return None
        raise AssertionError("no answer")


def visit(on, room):
    """Joins and leaves of all kinds: a new user with a long id, its second tab, one goes, the other goes."""
    user = f"{unique('visitor')}-" + "v" * 120
    visitors = [Member(on, room, user=user) for _ in range(2)]
    for visitor in visitors:
        try:
            visitor.socket.send_json(type="unsubscribe", room=room)
            visitor.socket.wait_for(type="unsubscribed")
            visitor.socket.close()
        except AssertionError:
            visitor.socket.drop()       # its worker died under it


def exercise(on, point, once, publisher, members, room):
    """Goes on until somebody has died at the point."""
    fired = lambda: not os.path.exists(once)        # noqa: E731
    kind = point.partition(":")[0]
    count = 0

    def publish(size=0):
        nonlocal count
        publisher.publish(room, count, size)
        count += 1
    for _ in range(3):
        publish()
    if point == "publish:after_skip":
        while not fired() and count < 80:
            publish(40000)
    elif point == "mailbox:overflow":
        asleep = members[1].socket.worker
        os.kill(asleep, signal.SIGSTOP)
        try:
            while not fired() and count < 300:
                publish()
        finally:
            os.kill(asleep, signal.SIGCONT)
    elif point in ("room:before_reclaim", "room:reclaimed"):
        for _ in range(4000):
            if fired():
                break
            publisher.publish(unique("short"), 0, named=False)
    elif kind == "room":
        while not fired() and count < 20:
            other = unique("deep")
            first = publisher.publish(other, 0)
            tap.is_(first["offset"], 1, "the new room's first offset")
            count += 1
    elif kind in ("user", "join", "leave", "limit"):
        for _ in range(60):     # two of a user on one worker come by chance
            if fired():
                break
            visit(on, room)
    elif point == "release:half_tallies":
        on.kill_worker(members[1].socket.worker)    # what it leaves is dropped by another, who dies at it
        wait_until(fired, "another to die", 5 * SCALE)
    elif kind not in ("claim", "release", "recover"):
        while not fired() and count < 20:
            publish()
    for _ in range(3):
        publish()
    return count


def afterwards(on, publisher, members, room, before, wanted=1, history=True):
    """Everything that must hold after the death."""
    dead = wait_until(lambda: (lambda found: found if len(found) >= wanted else None)(deaths(on) - before),
                      "the death of a worker")
    tap.is_(len(dead), wanted, "workers that died")
    wait_until(lambda: len(on.workers()) == 2, "its successor")
    for pid in on.workers():        # each takes the lock, publishes and delivers
        publisher.find(pid)
        publisher.publish(room, f"after {pid}")
    answers = publisher.answers[room]
    tap.is_(sorted(answers), list(range(1, len(answers) + 1)), "offsets that were answered")
    for member in members:
        member.read_to(len(answers))
        tap.is_(member.events, sorted(answers.items()), "what the member got")
        tap.ok(set(map(str, member.lost)) <= dead, f"it lost {member.lost}; dead: {dead}")
    for name, offsets in publisher.answers.items() if history else ():
        late = Member(on, name, user="late")
        late.from_the_beginning()
        late.read_to(len(offsets))
        tap.is_(late.events, sorted(offsets.items()), f"the history of {name}")
        late.socket.close()
    wait_until(lambda: members[0].presence() == (2, ["member"]), "presence to be right", 5 * SCALE)

    def gauges():
        status = http.status(on)
        return status["connections"]["active"], status["rooms"]["members"], len(status["workers"])
    wait_until(lambda: gauges() == (2, 2, 2), "the gauges to be right", 5 * SCALE)
    for member in members:
        member.socket.close()


def dies(point, on=None, then=None, wanted=1):
    on = on or server
    on.changed_workers = True
    before = deaths(on)
    room = unique("deep")
    once = arm(on, point)
    members = [Member(on, room, worker) for worker in on.workers()]
    publisher = Publisher(on, on.workers()[0])
    if then:
        then()
    exercise(on, point, once, publisher, members, room)
    if point.startswith("release") and wanted == 1:
        since = len(on.log())
        on.reload(main="")
        wait_until(lambda: on.log()[since:].count("gracefully shutting down") == 2, "the old workers to be told")
        for member in members:      # they follow `reconnect`
            member.socket.drop()
            member.connect()
        wait_until(lambda: not os.path.exists(once), "a worker to die on its way out")
        wait_until(lambda: len(on.processes()) == 2, "the old workers to leave")
    tap.ok(not os.path.exists(once), "somebody died there")
    afterwards(on, publisher, members, room, before, wanted, history=point != "publish:after_skip")


def dies_while_repairing(point):
    server.changed_workers = True
    before = deaths(server)
    room = unique("deep")
    first = arm(server, "join:linked", ":4")
    victim = server.workers()[0]
    member = Member(server, room, victim)       # its worker will die in the lock, at its fourth join
    second = server.write("alive-second", "")
    server.reload(main=f"env ROOMS_FAULT={point}; env ROOMS_FAULT_ONCE={second};")
    # The other one of the first pair must be gone: it would repair what is broken next, and live.
    wait_until(lambda: len(server.processes()) == 3, "the others to leave")
    for _ in range(12):
        if not os.path.exists(first):
            break
        try:
            member.socket.send_json(type="subscribe", room=unique("deep"))
            member.socket.wait_for(type="subscribed")
        except AssertionError:
            break
    tap.ok(not os.path.exists(first), "the first has died")
    publisher = Publisher(server, None)
    publisher.publish(room, 0)
    tap.ok(not os.path.exists(second), "the second has died at its repair")
    wait_until(lambda: len(server.workers()) == 2 and len(server.processes()) == 2, "the old workers to leave")
    members = [Member(server, room, worker) for worker in server.workers()]
    for one in members:
        one.from_the_beginning()
    afterwards(server, publisher, members, room, before, wanted=2)


def dies_ten_minutes_later(point):
    if ASAN:
        tap.skip("the clock is preloaded, as the sanitizer is")
    with start("later", start=False) as later:
        clock = Clock(later.dir)
        later.env.update(clock.env)
        later.start()

        def ten_minutes():
            Publisher(later, later.workers()[0]).publish(unique("deep"), 0)
            clock.ahead(700)
        dies(point, later, ten_minutes)


for name in POINTS:
    if name in ("ids:before_drop", "ids:after_drop"):
        tap.add(f"killed at {name}", dies_ten_minutes_later, name)
    elif name.startswith("recover"):
        tap.add(f"killed at {name}, repairing what another left", dies_while_repairing, name)
    elif name == "release:half_tallies":
        tap.add(f"killed at {name}, dropping what a dead worker left", dies, name, wanted=2)
    else:
        tap.add(f"killed at {name}", dies, name)

if not os.path.exists(MODULE):
    print(f"1..0 # SKIP no module with fault points: make module-faults ({MODULE})")
    sys.exit(0)
tap.run()

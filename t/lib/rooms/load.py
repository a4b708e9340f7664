# The oracle of the load tests: swarms of clients (t/load/swarm.cpp), a publisher that repeats until it has an answer,
# and the comparison of its answers with what each client got: once, in order, without a hole, no gap told. Where gaps
# may be told and epochs change, ledger.py judges instead.
import fcntl
import json
import os
import random
import subprocess
import threading
import time
import typing

from . import ROOT, SCALE, http, wait_until
from .wire import Wire
from .nginx import _die_with_parent


def build(name):
    """Compiles t/load/NAME.cpp where the program is missing or older than its source. Returns its path."""
    source, program = os.path.join(ROOT, f"t/load/{name}.cpp"), os.path.join(ROOT, f"build/load/{name}")
    os.makedirs(os.path.dirname(program), exist_ok=True)
    with open(program + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(program) or os.path.getmtime(program) < os.path.getmtime(source):
            subprocess.run(["g++", "-std=c++20", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-o", program + ".new", source,
                            "-ljansson", "-lssl", "-lcrypto", "-lz"], check=True)
            os.rename(program + ".new", program)
    return program


class Swarm:
    """Clients first … first+count-1, each in session:r<its number / room_size>; with first_room the rooms count from
    there, so that swarms of two hosts can be in the same. secure: over TLS, with deflate. The server's `/ws` must let them
    in by the key in its file `secret`."""

    def __init__(self, server, first, count, room_size=2, first_room=-1, secure=False):
        self.log_name = server.path(f"swarm-{first}.jsonl")
        self.first, self.count = first, count
        self.parsed, self.read_to, self.reading = [], 0, threading.Lock()
        self.live = self.received = self.closes = self.gaps = self.resets = self.unavailable = self.away = 0
        words = [server.tls_port if secure else server.port, server.path("secret"), first, count, room_size, self.log_name,
                 first_room] + (["secure"] if secure else [])
        self.process = subprocess.Popen([build("swarm"), *map(str, words)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=_die_with_parent)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            words = line.decode().split()
            for name, number in zip(words[::2], words[1::2]):
                setattr(self, name, int(number))

    def lines(self):
        """What has been logged so far; one list, which grows."""
        with self.reading, open(self.log_name, "rb") as file:
            file.seek(self.read_to)
            for line in file:
                if line.endswith(b"\n"):
                    self.parsed.append(json.loads(line))
                    self.read_to += len(line)
        return self.parsed

    def leave(self, numbers):
        """These clients' sockets end without a word; returns when they are gone. They stay away until come_back()."""
        wanted = self.away + len(numbers)
        self._tell("leave", *numbers)
        wait_until(lambda: self.away == wanted, "clients to leave")

    def come_back(self):
        """Those who left come back, with their positions."""
        self._tell("return")

    def _tell(self, *words):
        self.process.stdin.write((" ".join(str(word) for word in words) + "\n").encode())
        self.process.stdin.flush()

    def stop(self):
        if self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(10 * SCALE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.reader.join()


class Acknowledged(typing.NamedTuple):
    """A publication that was answered 200."""
    room: str
    epoch: str
    offset: int
    id: str
    t_sent: float       # the first try
    t_ack: float


class Publisher(threading.Thread):
    """`rate` publications a second into rooms session:r0 … at random, each with an id of its own; a 503 or a broken
    connection is answered with the same publication again, to the next server if there are several."""

    def __init__(self, server, rooms, rate=200, after=None, *, lanes=1, seed=1, patience=20 * SCALE, prime=False,
                 answer_timeout=None, retried=(503,)):
        """server: one, or a list. after: a publisher that has finished, whose answers are added to. lanes: how many
        publish at once. patience: how long one publication may go without a 200. prime: first one into each room.
        answer_timeout: a request without any answer for so long is counted and repeated; else it is the end. retried: statuses
        that are answered with the same publication again."""
        super().__init__(daemon=True)
        self.retried = retried
        self.servers, self.answer_timeout = server if isinstance(server, list) else [server], answer_timeout
        self.rooms, self.rate, self.patience, self.seed = rooms, rate, patience, seed
        self.acknowledged = after.acknowledged if after else {}     # room: {offset: id}; the latest, where epochs changed
        self.log = after.log if after else []                       # [Acknowledged]
        self.count = after.count if after else 0
        self.taken = after.taken if after else {}                   # position: id
        self.twice = []             # positions that two publications got
        self.repeats = self.duplicates = self.unanswered = self.slowest = self.slowest_answer = 0
        self.refused = []           # what was not 200 at first
        self.error = None
        self.ending = False
        self.named = 0
        self.favoured = None        # a room that gets half of them
        self.last_ok = [0.0] * len(self.servers)    # when each server answered 200
        self.unprimed = list(range(rooms)) if prime else []
        self.primed = not prime
        self.names = os.urandom(4).hex()
        self.lock = threading.Lock()
        self.lanes = [threading.Thread(target=self._lane, args=(number,), daemon=True) for number in range(lanes)]
        self.start()

    def run(self):
        for lane in self.lanes:
            lane.start()
        for lane in self.lanes:
            lane.join()

    def _lane(self, number):
        chance = random.Random(f"{self.seed} {number}")
        wires = _Wires(self.servers, self.answer_timeout)
        try:
            while (room := self._unprimed()) is not None and not self.ending:
                self._publish(wires, room)
            due = time.monotonic()
            while not self.ending:
                favoured = self.favoured
                self._publish(wires, favoured if favoured is not None and chance.random() < 0.5 else chance.randrange(self.rooms))
                due = max(due + len(self.lanes) / self.rate, time.monotonic() - 0.5)
                time.sleep(max(0, due - time.monotonic()))
        except Exception as error:
            self.error = error
            self.ending = True
        finally:
            wires.close()

    def _unprimed(self):
        with self.lock:
            if self.unprimed:
                return self.unprimed.pop()
        self.primed = True
        return None

    def publish_now(self, rooms, size=0, server=None):
        """One publication with `size` octets into each of these rooms (numbers) in one batch, by the caller's thread,
        repeated until all have their 200. server: this one only."""
        wires = _Wires([server] if server else self.servers, self.answer_timeout)
        try:
            items = [self._publication(room, size) for room in rooms]
            started = time.monotonic()
            answers = self._ask_until_200(wires, b"[" + b",".join(body for _, body in items) + b"]", "a batch", started)
            for (item, _), answer in zip(items, answers["results"]):
                self._note(item["room"], item["id"], answer, started)
        finally:
            wires.close()

    def _publication(self, room, size=0):
        with self.lock:
            self.named += 1
            number = self.named
        item = {"room": f"session:r{room}", "type": "session:update", "id": f"{self.names}.{number}",
                "data": {"state": "building", "progress": number, **({"fill": "x" * size} if size else {})}}
        return item, json.dumps(item).encode()

    def _publish(self, wires, room):
        item, body = self._publication(room)
        started = time.monotonic()
        self._note(item["room"], item["id"], self._ask_until_200(wires, body, item["id"], started), started)

    def _ask_until_200(self, wires, body, name, started):
        tries = 0
        while True:
            asked = time.monotonic()
            response, failure = wires.ask(body)
            now = time.monotonic()
            with self.lock:
                self.unanswered += failure == TIMED_OUT
                self.slowest_answer = max(self.slowest_answer, now - asked)
                if response is not None and response.status == 200:
                    self.last_ok[self.servers.index(wires.servers[wires.turn])] = now
                    self.slowest = max(self.slowest, now - started)
                    return response.json
                self.refused.append((response.status, response.text[:200]) if response is not None else (0, failure))
                self.repeats += 1
            assert response is None or response.status in self.retried, f"{name}: {response!r}"
            tries += 1
            assert now < started + self.patience, f"no 200 for {name} in {tries} tries; the last: {response or failure!r}"
            time.sleep(min(0.05, 0.01 * tries))

    def _note(self, room, name, answer, started):
        """The answer may name an older epoch than the room's: that of the first try, which went unanswered."""
        got = Acknowledged(room, answer["epoch"], answer["offset"], name, started, time.monotonic())
        with self.lock:
            self.duplicates += answer.get("duplicate", False)
            if self.taken.setdefault(got[:3], name) != name:
                self.twice.append(f"{room}: offset {got.offset} of epoch {got.epoch} was given to {self.taken[got[:3]]} "
                                  f"and to {name}")
            self.log.append(got)
            self.acknowledged.setdefault(room, {})[got.offset] = name
            self.count += 1

    def finish(self):
        self.ending = True
        self.join(self.patience + 10 * SCALE)
        if self.error is not None:
            raise AssertionError(f"the publisher failed: {self.error}") from self.error
        assert not self.is_alive(), "the publisher does not come to its end"


TIMED_OUT = "no answer in time"


class _Wires:
    """Kept connections to servers, which take turns."""

    def __init__(self, servers, timeout):
        self.servers, self.timeout = servers, timeout
        self.wires = [None] * len(servers)
        self.turn = 0

    def ask(self, body):
        """(response, None), or (None, why): the connection ended without an answer, as a kept one may at any time."""
        self.turn = (self.turn + 1) % len(self.servers)
        wire, response, failure = self.wires[self.turn], None, "ended without an answer"
        try:
            if wire is None:
                wire = self.wires[self.turn] = Wire(http.address_of(self.servers[self.turn]))
            wire.send(http.request_octets("POST", "/publish", [("Content-Type", "application/json")], body,
                                          connection="keep-alive"))
            response = http.read_response(wire, "POST", self.timeout)
        except OSError as error:
            failure = repr(error)
        except AssertionError as error:
            if self.timeout is None or "timed out" not in str(error):
                raise
            failure = TIMED_OUT
        if response is None or "close" in response.tokens("Connection"):
            if wire is not None:
                wire.close()
            self.wires[self.turn] = None
        return response, failure

    def close(self):
        for wire in self.wires:
            if wire is not None:
                wire.close()


def compare(publisher, swarms, room_size=2):
    """The problems, as lines, and what was counted. The clients must have joined before the first publication."""
    problems = []
    counts = {"published": publisher.count, "repeated": publisher.repeats, "duplicates": publisher.duplicates,
              "events": 0, "lost": 0, "broken": 0, "refused": 0, "unavailable": 0, "closes": {}}
    problems += publisher.twice
    for room, offsets in publisher.acknowledged.items():
        if max(offsets) - min(offsets) + 1 != len(offsets):
            problems.append(f"{room}: offsets answered: {sorted(offsets)}")
    for swarm in swarms:
        clients = {number: [] for number in range(swarm.first, swarm.first + swarm.count)}
        for line in swarm.lines():
            kind = line["kind"]
            if kind == "event":
                clients[line["c"]].append((line["offset"], line["id"]))
                counts["events"] += 1
            elif kind == "close":
                counts["closes"][line["code"]] = counts["closes"].get(line["code"], 0) + 1
            elif kind == "start":
                first = min(publisher.acknowledged.get(f"session:r{line['c'] // room_size}", {line["offset"] + 1: 0}))
                if line["offset"] + 1 != first:
                    problems.append(f"client {line['c']} began at {line['offset']}, its room's publications at {first}")
            elif kind in ("gap", "reset"):
                counts["lost"] += 1
                problems.append(f"client {line['c']}: told of a loss ({kind} {line['reason']}): now at {line['offset']}")
            else:
                counts[kind] += 1
                if kind not in ("refused", "unavailable"):
                    problems.append(f"client {line['c']}: {kind} at {line.get('offset')}: {line['why']}")
        for number, got in clients.items():
            room = f"session:r{number // room_size}"
            wanted = sorted(publisher.acknowledged.get(room, {}).items())
            if got != wanted:
                missing = [offset for offset, name in wanted if (offset, name) not in got]
                problems.append(f"client {number} of {room}: {len(got)} events for {len(wanted)}; missing {missing[:10]}")
    return problems, counts


def closes_since(swarms, moment):
    """Codes of the closes after a moment of the monotonic clock."""
    found = {}
    for swarm in swarms:
        for line in swarm.lines():
            if line["kind"] == "close" and line["t"] >= moment:
                found[line["code"]] = found.get(line["code"], 0) + 1
    return found


def all_live(swarms, timeout=30):
    total = sum(swarm.count for swarm in swarms)
    wait_until(lambda: sum(swarm.live for swarm in swarms) == total, f"{total} live clients", timeout * SCALE)


def all_received(publisher, swarms, room_size=2, timeout=20):
    wanted = publisher.count * room_size
    wait_until(lambda: sum(swarm.received for swarm in swarms) >= wanted, f"{wanted} events at the clients", timeout * SCALE)

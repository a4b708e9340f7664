# The oracle of the load tests: swarms of clients (t/load/swarm.cpp), a publisher that repeats until it has an answer,
# and the comparison of its answers with what each client got: once, in order, without a hole, no gap told.
import fcntl
import json
import os
import random
import subprocess
import threading
import time

from . import ROOT, SCALE, http, wait_until
from .wire import Wire
from .nginx import _die_with_parent

SOURCE = os.path.join(ROOT, "t/load/swarm.cpp")
PROGRAM = os.path.join(ROOT, "build/load/swarm")


def build_swarm():
    """Compiles the swarm where it is missing or older than its source."""
    os.makedirs(os.path.dirname(PROGRAM), exist_ok=True)
    with open(PROGRAM + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(PROGRAM) or os.path.getmtime(PROGRAM) < os.path.getmtime(SOURCE):
            subprocess.run(["g++", "-std=c++20", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-o", PROGRAM + ".new", SOURCE,
                            "-ljansson", "-lcrypto"], check=True)
            os.rename(PROGRAM + ".new", PROGRAM)
    return PROGRAM


class Swarm:
    """Clients first … first+count-1, each in session:r<its number / room_size>. The server's `/ws` must let them in by
    the key in its file `secret`."""

    def __init__(self, server, first, count, room_size=2):
        self.log_name = server.path(f"swarm-{first}.jsonl")
        self.first, self.count = first, count
        self.live = self.received = self.closes = 0
        self.process = subprocess.Popen(
            [build_swarm(), str(server.port), server.path("secret"), str(first), str(count), str(room_size), self.log_name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=_die_with_parent)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            words = line.split()
            self.live, self.received, self.closes = int(words[1]), int(words[3]), int(words[5])

    def lines(self):
        with open(self.log_name, encoding="utf-8") as file:
            return [json.loads(line) for line in file if line.endswith("\n")]

    def stop(self):
        if self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(10 * SCALE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.reader.join()


class Publisher(threading.Thread):
    """`rate` publications a second into rooms session:r0 … at random, each with an id of its own; a 503 or a broken
    connection is answered with the same publication again."""

    def __init__(self, server, rooms, rate=200, after=None):
        """after: a publisher that has finished, whose answers are added to."""
        super().__init__(daemon=True)
        self.server, self.rooms, self.rate = server, rooms, rate
        self.acknowledged = after.acknowledged if after else {}     # room: {offset: id}
        self.count = after.count if after else 0
        self.repeats = self.duplicates = self.slowest = 0
        self.refused = []           # what was not 200 at first
        self.error = None
        self.ending = False
        self.wire = None
        self.names = os.urandom(4).hex()
        self.start()

    def run(self):
        chance = random.Random(1)
        due = time.monotonic()
        try:
            while not self.ending:
                self._publish(f"session:r{chance.randrange(self.rooms)}", f"{self.names}.{self.count}")
                due = max(due + 1 / self.rate, time.monotonic() - 0.5)
                time.sleep(max(0, due - time.monotonic()))
        except Exception as error:
            self.error = error

    def _publish(self, room, name):
        body = json.dumps({"room": room, "type": "session:update", "id": name,
                           "data": {"state": "building", "progress": self.count}}).encode()
        started = time.monotonic()
        while True:
            response = self._ask(body)
            if response is not None and response.status == 200:
                break
            if response is not None:
                self.refused.append((response.status, response.text[:200]))
                assert response.status == 503, f"{response!r}"
            self.repeats += 1
            assert time.monotonic() < started + 20 * SCALE, f"no answer to {name} in {self.repeats} tries"
            time.sleep(0.02)
        self.slowest = max(self.slowest, time.monotonic() - started)
        answer = response.json
        self.duplicates += answer.get("duplicate", False)
        offsets = self.acknowledged.setdefault(room, {})
        assert offsets.get(answer["offset"], name) == name, f"{room}: offset {answer['offset']} was given twice"
        offsets[answer["offset"]] = name
        self.count += 1

    def _ask(self, body):
        """None: the connection ended without an answer, as a kept one may at any time."""
        try:
            if self.wire is None:
                self.wire = Wire(http.address_of(self.server))
            self.wire.send(http.request_octets("POST", "/publish", [("Content-Type", "application/json")], body,
                                               connection="keep-alive"))
            response = http.read_response(self.wire, "POST")
        except OSError as error:
            self.refused.append((0, repr(error)))
            response = None
        if response is None or "close" in response.tokens("Connection"):
            if self.wire is not None:
                self.wire.close()
            self.wire = None
        return response

    def finish(self):
        self.ending = True
        self.join(30 * SCALE)
        if self.error is not None:
            raise AssertionError(f"the publisher failed: {self.error}") from self.error


def compare(publisher, swarms, room_size=2):
    """The problems, as lines, and what was counted. The clients must have joined before the first publication."""
    problems = []
    counts = {"published": publisher.count, "repeated": publisher.repeats, "duplicates": publisher.duplicates,
              "events": 0, "lost": 0, "broken": 0, "refused": 0, "closes": {}}
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
            else:
                counts[kind] += 1
                if kind != "refused":
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

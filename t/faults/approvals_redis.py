#!/usr/bin/python3
"""Approvals in Redis where it is tightest: two nginx hosts of two workers on one Redis, a page on each worker that watches
every session. Worker 0 of a host sweeps what is due, each other worker what was made due by itself.

    t/faults/approvals_redis.py [--count N] [--seed 1] [race | due …]
    t/faults/approvals_redis.py --list

race       N approvals (2,000), 200 a second, made at all four workers shortly before: for each, approve and reject fired
           through the HTTP API at random instants within 50 ms of its deadline; one host is reloaded meanwhile
due        N approvals (10,000) due at one instant; how late each page was told, and how long an event of another room
           took meanwhile

One JSON line for each; exit code 1 where a count of `wrong` is not 0. Counted afterwards in what GET shows, in the rooms'
streams, and of what the backends were answered and the pages got.
"""
import collections
import json
import os
import random
import sys
import threading
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
from rooms import SCALE, jwt, wait_until                                        # noqa: E402
from rooms.approvals import LOCATIONS                                            # noqa: E402
from rooms.kept_connection import KeptConnection                                 # noqa: E402
from rooms.nginx import Nginx                                                    # noqa: E402
from rooms.page import join, open_page                                           # noqa: E402
from rooms.redis import Redis                                                    # noqa: E402
from rooms.ws import Closed                                                      # noqa: E402
from approvals import A_SECOND, DECIDERS, SESSIONS, WITHIN, Decider, Others, lateness, main, stop     # noqa: E402

MAKERS = 8
AHEAD = 1.5, 0.3    # so long before its deadline an approval is made, more or less: under the 2 s of each worker's own sweeps
TIMES = "rooms_approvals redis timeout=15m warn=off; rooms_history session:* size=1000000 ttl=1h; rooms_drain 2s;"
ROOMS = [f"session:s{n}" for n in range(SESSIONS)]


class Reader(threading.Thread):
    """A page that is in the rooms of all sessions, and notes what it gets. Sent away, it comes back and resumes: at once,
    or when its socket is closed."""

    def __init__(self, server, worker, at_once):
        super().__init__(daemon=True)
        self.server, self.at_once = server, at_once
        self.events, self.positions, self.returns, self.failed, self.leaving = [], {}, 0, None, False
        self.page = open_page(server, worker=worker)
        for room in ROOMS:
            got = join(self.page, room)
            self.positions[room] = {"epoch": got["epoch"], "offset": got["offset"]}
        self.start()

    def run(self):
        try:
            while not self.leaving:
                try:
                    self.take(self.page.recv_json(600))
                except Closed as closed:
                    if closed.code != 1012 or self.leaving:
                        raise
                    self.come_back()
        except (Closed, AssertionError, OSError, ValueError, KeyError) as error:
            if not self.leaving:
                self.failed = repr(error)

    def take(self, got):
        if got["type"] == "reconnect":
            if self.at_once:
                self.come_back()
        elif got["type"] == "subscribed":
            assert got["recovered"], got
        else:
            position = self.positions[got["room"]]
            assert got["offset"] == position["offset"] + 1, f"{got} behind {position}"
            position["offset"] = got["offset"]
            self.events.append((time.time() * 1000, got))

    def come_back(self):
        self.page.send_close()
        self.page.wire.close()
        self.page = open_page(self.server)
        self.returns += 1
        for room, position in self.positions.items():
            self.page.send_json(type="subscribe", room=room, since=position)

    def leave(self):
        self.leaving = True
        self.page.send_close()
        self.join(20 * SCALE)
        self.page.wire.close()


class Backend:
    """Asks one host on a connection that is kept, at the worker of that number if given; again where it got no answer, and
    where Redis was said to give none."""

    def __init__(self, host, number=None):
        self.host, self.number, self.again = host, number, collections.Counter()
        self.connect()

    def connect(self):
        workers = self.host.workers()
        try:
            self.wire = KeptConnection(self.host, workers[self.number % len(workers)] if workers and self.number is not None else None)
        except AssertionError:      # it left meanwhile
            self.wire = KeptConnection(self.host)

    def ask(self, method, path, body=None):
        """The Response, and whether the request was made more than once."""
        octets, end, repeated = b"" if body is None else json.dumps(body).encode(), time.monotonic() + 20 * SCALE, False
        while time.monotonic() < end:
            try:
                got = self.wire.ask(method, path, octets)
            except OSError:
                got = None
            if got is not None and got.status != 503:
                return got, repeated
            repeated = True
            self.again["unavailable" if got else "no answer"] += 1
            if got:
                time.sleep(0.05)
            else:
                self.connect()
        raise AssertionError(f"{method} {path}: no answer for {20 * SCALE:g} s")

    def create(self, id_, deadline):
        """None, or what was wrong with it."""
        got, repeated = self.ask("POST", "/approvals", {"id": id_, "sessionId": session_of(id_), "action": "x", "expiresAt": deadline})
        return None if got.status == 201 or (got.status == 200 and repeated) else f"{got.status} {got.text}"


def session_of(id_):
    return f"s{int(id_[1:]) % SESSIONS}"


class World:
    def __init__(self, every_worker=True):
        self.redis = Redis(appendfsync=None)
        self.hosts = [Nginx(LOCATIONS, http=f"rooms_redis {self.redis.url}; {TIMES} keepalive_requests 1000000; access_log off;",
                            files={"secret": jwt.SECRET}, name=f"host{n}") for n in (1, 2)]
        self.readers = [Reader(host, worker, at_once=n % 2 == 0) for host in self.hosts
                        for n, worker in enumerate(host.workers() if every_worker else host.workers()[:1])]
        self.wrong = collections.Counter()

    def settle(self, count, timeout):
        """Until all have ended and every page has been told of all."""
        with self.redis.client() as client:
            wait_until(lambda: client("ZCARD", "rooms:{approvals}:due") == 0, "all to end", timeout)
        try:
            wait_until(lambda: all(len(reader.events) >= 2 * count for reader in self.readers), "all pages to be told", 20 * SCALE)
        except AssertionError:
            pass        # counted below
        for reader in self.readers:
            reader.leave()
            if reader.failed:
                print(reader.failed, file=sys.stderr)

    def rows(self, count):
        """What GET shows of each, at one host or the other."""
        backends, rows = [Backend(host) for host in self.hosts], {}
        for n in range(count):
            got, _ = backends[n % 2].ask("GET", f"/approvals/a{n}")
            if got.status == 200:
                rows[f"a{n}"] = got.json
        return rows

    def stream(self):
        """Every event that the rooms keep."""
        with self.redis.client() as client:
            return [{**json.loads(body + "}"), "offset": int(offset.split("-")[0]), "timestamp": int(ms)} for room in ROOMS
                    for offset, (_, ms, _, body) in client("XRANGE", f"rooms:{{{room}}}:stream", "-", "+")]

    def judge(self, count, rows, answers=()):
        """answers: (id, status, by whom, Response, whether it was asked more than once) of each decision."""
        wrong = self.wrong
        wrong["approvals_missing"] = count - len(rows)
        for row in rows.values():
            timely = row["resolvedAt"] is not None and row["resolvedAt"] < row["expiresAt"]
            wrong["not_terminal"] += row["status"] not in ("approved", "rejected", "timeout") or row["resolvedAt"] is None
            wrong["decided_at_or_after_the_deadline"] += row["status"] in ("approved", "rejected") and not timely
            wrong["timeout_before_the_deadline"] += row["status"] == "timeout" and timely
        stream, told = self.stream(), collections.defaultdict(list)
        for event in stream:
            told[event["approvalId"]].append(event)
        for id_, row in rows.items():
            requested, *resolved = told[id_]
            wrong["not_requested_once"] += requested["type"] != "approval:requested"
            wrong["not_one_event_of_its_status"] += [
                (event["type"], *(event[name] for name in ("status", "resolvedBy", "resolvedAt", "expiresAt"))) for event in resolved] != [
                ("approval:resolved", row["status"], row["resolvedBy"], row["resolvedAt"], row["expiresAt"])]
        wrong["events_of_others"] = len(set(told) - set(rows))
        wanted = collections.Counter(json.dumps(event, sort_keys=True) for event in stream)
        for reader in self.readers:
            seen = collections.Counter(json.dumps(event, sort_keys=True) for _, event in reader.events)
            wrong["told_twice"] += sum((seen - wanted).values())
            wrong["not_told"] += sum((wanted - seen).values())
            wrong["pages_failed"] += reader.failed is not None
        decided = collections.defaultdict(set)
        for id_, status, by, answer, repeated in answers:
            row, said = rows.get(id_, {}), answer.json
            if answer.status == 200:
                decided[id_].add((status, by))
                true = said == row
            else:
                code = ("expired", 410) if row.get("status") == "timeout" else ("resolved", 409)
                true = (said["error"]["code"], answer.status) == code and said["status"] == row.get("status") and said["approval"] == row
                if repeated and row.get("resolvedBy") == by:    # it was its first attempt
                    decided[id_].add((status, by))
            wrong["answers_that_are_not_true"] += not true
        if answers:
            for id_, row in rows.items():
                wrong["not_who_was_told_so"] += decided[id_] != ({(row["status"], row["resolvedBy"])} if row["status"] != "timeout" else set())
        return dict(collections.Counter(row["status"] for row in rows.values()))

    def end(self):
        stop(self.hosts, self.wrong)
        self.redis.close()


def fire(shots, backends, act):
    """The backends fire, each its share. act(backend, *shot): None, or what refused it."""
    return [Decider(shots[n::len(backends)], lambda *shot, backend=backend: act(backend, *shot)) for n, backend in enumerate(backends)]


def finish(world, threads):
    refused = collections.Counter()
    for one in threads:
        one.join()
        refused += one.refused
        if one.failed:
            world.wrong["backends_failed"] += 1
            print(one.failed, file=sys.stderr)
    return dict(refused)


def repeated(backends):
    return dict(sum((backend.again for backend in backends), collections.Counter()))


def race(count, seed):
    world = World()
    try:
        makers = [Backend(world.hosts[n % 2], n // 2) for n in range(MAKERS)]
        deciders = [Backend(world.hosts[n % 2]) for n in range(DECIDERS)]
        chance = random.Random(seed)
        first = time.time() + sum(AHEAD) + 0.2
        deadlines = [round((first + n / A_SECOND) * 1000) for n in range(count)]
        births = sorted((deadline / 1000 - AHEAD[0] + chance.uniform(-AHEAD[1], AHEAD[1]), f"a{n}", deadline)
                        for n, deadline in enumerate(deadlines))
        shots = sorted((deadline / 1000 + chance.uniform(-WITHIN, WITHIN), f"a{n}", status)
                       for n, deadline in enumerate(deadlines) for status in ("approved", "rejected"))
        answers = []

        def decide(backend, id_, status):
            by = f"{status} by somebody"
            got, again = backend.ask("POST", f"/approvals/{id_}/resolve", {"status": status, "resolvedBy": by})
            answers.append((id_, status, by, got, again))
            return None if got.status == 200 else str(got.status)
        made, decided = fire(births, makers, Backend.create), fire(shots, deciders, decide)
        time.sleep(max(0, first + 0.4 * count / A_SECOND - time.time()))
        world.hosts[1].reload()
        refused = finish(world, decided)
        for why, n in finish(world, made).items():
            world.wrong[f"not created: {why}"] = n
        world.settle(count, 30 * SCALE)
        ended = world.judge(count, world.rows(count), answers)
        return world, {"ended": ended, "refused": refused, "asked_again": repeated(makers + deciders),
                       "pages_came_back": sum(reader.returns for reader in world.readers),
                       "decisions_late_ms": round(max(one.late for one in decided) * 1000)}
    finally:
        world.end()


def due(count, seed):
    world = World(every_worker=False)
    try:
        others = Others(world.hosts)
        makers = [Backend(world.hosts[n % 2]) for n in range(MAKERS)]
        began = time.time()
        instant = round((began + 3 + count / 800) * 1000)
        for why, n in finish(world, fire([(began, f"a{n}", instant) for n in range(count)], makers, Backend.create)).items():
            world.wrong[f"not created: {why}"] = n
        took = time.time() - began
        # From a moment before the instant until about all is over.
        time.sleep(max(0.0, instant / 1000 - 0.5 - time.time()))
        others_us = others.meanwhile(world, count / 6000, lambda: world.settle(count, 60 * SCALE))
        rows = world.rows(count)
        ended = world.judge(count, rows)
        return world, {"ended": ended, "created_in_s": round(took, 1), "asked_again": repeated(makers),
                       "late_ms": lateness(world.readers, [row["resolvedAt"] - row["expiresAt"] for row in rows.values()]),
                       "others_us": others_us}
    finally:
        world.end()


if __name__ == "__main__":
    sys.exit(main({"race": (race, 2000), "due": (due, 10000)}))

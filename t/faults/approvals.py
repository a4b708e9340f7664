#!/usr/bin/python3
"""Approvals in Postgres where it is tightest: two nginx hosts of two workers on one database and one Redis, two more
sessions that sweep, and a page on each worker that watches every session.

    t/faults/approvals.py [--count N] [--seed 1] [race | race_api | due | rest …]
    t/faults/approvals.py --list

race       N approvals (2,000), 200 a second: for each, approve and reject fired at random instants within 50 ms of its
           deadline, by the plain statements of a backend
race_api   the same through the HTTP API, at both hosts
due        N approvals (10,000) due at one instant; how late each page was told, and how long an event of another room
           took meanwhile
rest       N deadlines (100), five a second: how late the pages are told

One JSON line for each; exit code 1 where a count of `wrong` is not 0. Counted afterwards in the database, and of what
the pages got.
"""
import argparse
import collections
import json
import os
import random
import subprocess
import sys
import threading
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
from rooms import SCALE, wait_until                                              # noqa: E402
from rooms.approvals import LOCATIONS, OPTIONS, approvals_host, migrate          # noqa: E402
from rooms.kept_connection import KeptConnection                                 # noqa: E402
from rooms.load import build                                                     # noqa: E402
from rooms.page import open_page                                                 # noqa: E402
from rooms.postgres import Postgres, SqlError                                    # noqa: E402
from rooms.redis import Redis                                                    # noqa: E402
from rooms.ws import Closed                                                      # noqa: E402

SESSIONS = 20
WITHIN = min(0.05 * SCALE, 1)     # of the deadline
A_SECOND = 200 / SCALE      # of races
DECIDERS = 12
KINDS = {}


def kind(name, count):
    """count: of approvals, by default."""
    def register(function):
        KINDS[name] = function, count
        return function
    return register


def percentile(sorted_values, part):
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * part))] if sorted_values else None


class Reader(threading.Thread):
    """A page that is in the rooms of all sessions, and notes what it gets."""

    def __init__(self, server, worker):
        super().__init__(daemon=True)
        self.page = open_page(server, *(f"session:s{n}" for n in range(SESSIONS)), worker=worker)
        self.events, self.failed, self.leaving = [], None, False
        self.start()

    def run(self):
        try:
            while True:
                event = self.page.recv_json(600)
                self.events.append((time.time() * 1000, event))
        except (Closed, AssertionError, OSError, ValueError) as error:
            if not self.leaving:
                self.failed = repr(error)

    def leave(self):
        self.leaving = True
        self.page.send_close()
        self.join()
        self.page.wire.close()


class Sweeps(threading.Thread):
    """Somebody else's timer."""

    def __init__(self, pg):
        super().__init__(daemon=True)
        self.session, self.done, self.failed = pg.session(), threading.Event(), None
        self.start()

    def run(self):
        try:
            while not self.done.wait(0.005):
                self.session("select * from rooms_sweep(200, false)")
        except Exception as error:      # told at the end
            self.failed = repr(error)

    def leave(self):
        self.done.set()
        self.join()
        self.session.close()


class World:
    def __init__(self, sweeps=2, every_worker=True):
        self.pg = Postgres(options=OPTIONS + "shared_buffers = 128MB\nmax_wal_size = 4GB\n")
        migrate(self.pg)
        self.sql = self.pg.session()
        self.sql(f"insert into hitl_sessions (id, tenant_id) select 's' || n, 't1' from generate_series(0, {SESSIONS - 1}) n")
        self.redis = Redis(appendfsync=None)
        self.hosts = [approvals_host(self.pg, http=f"rooms_redis {self.redis.url}; keepalive_requests 1000000; access_log off;",
                                     locations=LOCATIONS, name=f"host{n}") for n in (1, 2)]
        self.readers = [Reader(host, worker) for host in self.hosts for worker in (host.workers() if every_worker else host.workers()[:1])]
        self.sweeps = [Sweeps(self.pg) for _ in range(sweeps)]
        self.wrong = collections.Counter()

    def insert(self, count, first, step_ms):
        """Deadlines from the instant `first` (s since 1970) on, in the order of their numbers."""
        self.sql(f"insert into hitl_approvals (id, session_id, action, expires_at) select 'a' || n, 's' || n % {SESSIONS}, 'x', "
                 f"to_timestamp({first!r}::float8 + n * {step_ms / 1000!r}::float8) from generate_series(0, {count - 1}) n")

    def settle(self, count, timeout):
        """Until all have ended and every page has been told of all."""
        wait_until(lambda: self.sql("select count(*) from hitl_approvals where status = 'pending'") == [["0"]], "all to end", timeout)
        wait_until(lambda: self.sql("select count(*) from rooms_outbox") == [["0"]], "the outbox to be empty", timeout)
        try:
            wait_until(lambda: all(len(reader.events) >= count for reader in self.readers), "all pages to be told", 20 * SCALE)
        except AssertionError:
            pass        # counted below
        for reader in self.readers:
            reader.leave()

    def judge(self, count, decided=None):
        """decided: of each id the decisions that somebody was told are in force."""
        wrong = self.wrong
        rows = {id_: status for id_, status in self.sql("select id, status from hitl_approvals")}
        wrong["approvals_missing"] = count - len(rows)
        wrong["not_terminal"] = sum(status == "pending" for status in rows.values())
        wrong["decided_at_or_after_the_deadline"] = int(self.sql(
            "select count(*) from hitl_approvals where status in ('approved', 'rejected') and (resolved_at >= expires_at or resolved_at is null)")[0][0])
        wrong["timeout_before_the_deadline"] = int(self.sql(
            "select count(*) from hitl_approvals where status = 'timeout' and (resolved_at < expires_at or resolved_at is null)")[0][0])
        wrong["not_one_event_of_its_status"] = int(self.sql(
            "select count(*) from hitl_approvals a left join lateral (select count(*) as all, count(*) filter (where event_type = 'approval:' || a.status) as mine "
            "from hitl_events e where e.payload ->> 'approvalId' = a.id) told on true where told.all <> 1 or told.mine <> 1")[0][0])
        for reader in self.readers:
            told = collections.Counter(event["id"] for _, event in reader.events)
            wrong["told_twice"] += sum(n > 1 for n in told.values())
            wrong["not_told"] += sum(f"approval:{id_}:{status}" not in told for id_, status in rows.items())
            wrong["told_something_else"] += len(set(told) - {f"approval:{id_}:{status}" for id_, status in rows.items()})
            wrong["told_early"] += sum(event["status"] == "timeout" and event["timestamp"] < event["expiresAt"] for _, event in reader.events)
            wrong["pages_failed"] += reader.failed is not None
        offsets = {tuple(sorted((event["id"], event["offset"]) for _, event in reader.events)) for reader in self.readers}
        wrong["pages_disagree"] = len(offsets) - 1
        if decided is not None:
            # Who was told that a decision is in force, was told the truth; and whoever decided in force was told so.
            for id_, status in rows.items():
                wrong["answers_that_are_not_true"] += decided.get(id_, []) != ([status] if status != "timeout" else [])
        return collections.Counter(rows.values())

    def transitions(self):
        """How late each approval ended, in ms."""
        return [float(one[0]) for one in self.sql("select extract(epoch from resolved_at - expires_at) * 1000 from hitl_approvals")]

    def end(self):
        for sweep in self.sweeps:
            sweep.leave()
            self.wrong["sweeps_failed"] += sweep.failed is not None
        stop(self.hosts, self.wrong)
        self.sql.close()
        self.redis.close()
        self.pg.close()


def stop(hosts, wrong):
    for host in hosts:
        problems = host.stop()
        wrong["nginx_problems"] += bool(problems)
        if problems:
            print("\n".join(problems), file=sys.stderr)


class Decider(threading.Thread):
    """Fires its share of the decisions, each at its instant."""

    def __init__(self, shots, decide):
        super().__init__(daemon=True)
        self.shots, self.decide = shots, decide
        self.accepted, self.refused, self.late, self.failed = [], collections.Counter(), 0.0, None
        self.start()

    def run(self):
        try:
            for at, id_, status in self.shots:
                time.sleep(max(0.0, at - time.time()))
                self.late = max(self.late, time.time() - at)
                refusal = self.decide(id_, status)
                if refusal is None:
                    self.accepted.append((id_, status))
                else:
                    self.refused[refusal] += 1
        except Exception as error:      # told at the end
            self.failed = repr(error)


def race(count, seed, deciders):
    """deciders(world): functions (id, status) that return None, or what refused the decision."""
    world = World()
    try:
        first = time.time() + 1 + count / 2000
        world.insert(count, first, 1000 / A_SECOND)
        chance = random.Random(seed)
        shots = sorted((first + n / A_SECOND + chance.uniform(-WITHIN, WITHIN), f"a{n}", status) for n in range(count)
                       for status in ("approved", "rejected"))
        running = [Decider(shots[n::DECIDERS], decide) for n, decide in enumerate(deciders(world))]
        for one in running:
            one.join()
        world.settle(count, 30 * SCALE)
        decided, refused = collections.defaultdict(list), collections.Counter()
        for one in running:
            for id_, status in one.accepted:
                decided[id_].append(status)
            refused += one.refused
            world.wrong["deciders_failed"] += one.failed is not None
            if one.failed:
                print(one.failed, file=sys.stderr)
        ended = world.judge(count, decided)
        return world, {"ended": dict(ended), "refused": dict(refused), "decisions_late_ms": round(max(one.late for one in running) * 1000)}
    finally:
        world.end()


@kind("race", 2000)
def race_by_statements(count, seed):
    def deciders(world):
        def one():
            session = world.pg.session()

            def decide(id_, status):
                try:
                    session(f"update hitl_approvals set status = '{status}', approved_by = 'ann' where id = '{id_}'")
                    return None
                except SqlError as error:
                    return error.code
            return decide
        return [one() for _ in range(DECIDERS)]
    return race(count, seed, deciders)


@kind("race_api", 2000)
def race_by_api(count, seed):
    def deciders(world):
        def one(number):
            wire = KeptConnection(world.hosts[number % 2])

            def decide(id_, status):
                response = wire.ask("POST", f"/approvals/{id_}/resolve", json.dumps({"status": status, "resolvedBy": "ann"}).encode())
                assert response.status in (200, 409, 410), repr(response)
                return None if response.status == 200 else str(response.status)
            return decide
        return [one(number) for number in range(DECIDERS)]
    return race(count, seed, deciders)


class Others:
    """Events of other rooms, published at one host and read at the other: how long they take, in µs. At rest first."""

    def __init__(self, hosts):
        self.words = [build("latency"), str(hosts[0].port), str(hosts[1].port), hosts[0].path("secret"), "200"]
        self.calm = json.loads(subprocess.run([*self.words, "3", "20"], capture_output=True, text=True, check=True, timeout=60).stdout)

    def meanwhile(self, world, seconds, settle):
        """While settle() runs."""
        with subprocess.Popen([*self.words, str(max(2, round(seconds))), "20"], stdout=subprocess.PIPE, text=True) as other:
            settle()
            got = json.loads(other.communicate(timeout=60)[0])
        world.wrong["other_events_lost"] = got["sent"] - got["received"]
        return {"before": self.calm, "meanwhile": got}


def lateness(readers, transitions):
    """Of each approval, at the page that was told last: ms from its deadline. transitions: as the store has them."""
    broadcast, delivered = {}, collections.defaultdict(float)
    for reader in readers:
        for at, event in reader.events:
            if event["type"] != "approval:resolved":
                continue
            broadcast[event["id"]] = event["timestamp"] - event["expiresAt"]
            delivered[event["id"]] = max(delivered[event["id"]], at - event["expiresAt"])
    result = {}
    for name, values in (("transition", transitions), ("broadcast", broadcast.values()), ("page", delivered.values())):
        values = sorted(values)
        result[name] = {"least": round(values[0], 1), "p50": round(percentile(values, 0.5), 1), "p99": round(percentile(values, 0.99), 1),
                        "most": round(values[-1], 1)}
    return result


@kind("due", 10000)
def due(count, seed):
    world = World(sweeps=0, every_worker=False)
    try:
        others = Others(world.hosts)
        instant = round(time.time() + 2 + count / 4000, 3)
        world.insert(count, instant, 0)
        world.wrong["inserted_too_late"] = int(time.time() > instant)
        # From a moment before the instant until about all is over.
        time.sleep(max(0.0, instant - 0.5 - time.time()))
        took = others.meanwhile(world, count / 2500, lambda: world.settle(count, 60 * SCALE))
        ended = world.judge(count)
        return world, {"ended": dict(ended), "late_ms": lateness(world.readers, world.transitions()), "others_us": took}
    finally:
        world.end()


@kind("rest", 100)
def rest(count, seed):
    world = World(sweeps=0)
    try:
        chance = random.Random(seed)
        world.insert(count, time.time() + 1 + chance.random(), 200)
        world.settle(count, count / 5 + 30 * SCALE)
        ended = world.judge(count)
        return world, {"ended": dict(ended), "late_ms": lateness(world.readers, world.transitions())}
    finally:
        world.end()


def main(kinds):
    parser = argparse.ArgumentParser(description="Approvals where it is tightest.")
    parser.add_argument("kinds", nargs="*", help="default: all")
    parser.add_argument("--count", type=int, help="approvals")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    if options.list:
        print("\n".join(kinds))
        return 0
    failed = 0
    unknown = [name for name in options.kinds if name not in kinds]
    if unknown:
        parser.error(f"no such kind: {', '.join(unknown)}; there are {', '.join(kinds)}")
    for name in options.kinds or kinds:
        function, count = kinds[name]
        count = options.count or count
        began = time.monotonic()
        world, result = function(count, options.seed)
        wrong = {what: n for what, n in world.wrong.items() if n}
        print(json.dumps({"kind": name, "count": count, "seed": options.seed, "wrong": wrong, **result,
                          "seconds": round(time.monotonic() - began, 1)}), flush=True)
        failed |= bool(wrong)
    return failed


if __name__ == "__main__":
    sys.exit(main(KINDS))

# The rig: nginx, a crowd in rooms of two and publishers that repeat with the same id, on the zone of one host or on two
# hosts that share a Redis, while one fault after the other happens to them. Nothing that was answered 200 may be lost
# unless the client is told, nothing may come twice or out of order; what else must hold, the fault says.
#
# Faults are functions of a World; t/faults/run has them all.
import os
import random
import shutil
import tempfile
import threading
import time

from . import SCALE, http, jwt, ledger, wait_until, ws
from .load import Publisher, Swarm
from .nginx import Nginx
from .proxy import Proxy
from .redis import Redis

LOCATIONS = """
    location = /ws      { rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_allow session:*; rooms_drain 1s; @COMPRESSION@ }
    location = /publish { rooms_publish; }
    location = /status  { rooms_status; }
"""
HTTP = "rooms_history session:* size=2000 ttl=30m; keepalive_requests 1000000; access_log off; client_max_body_size 64m;"
SETTLE = 15 * SCALE     # until a silent room must have been looked at, with reserves
FAULTS = {}


def fault(number, told="none", closes=(), forgets=False, on=("redis",), zone_forgets=False, waits=None):
    """number: of docs/reliability.md. told: whether clients are to be told of losses: "none" of them (every position can be
    proven), "some", or "all" (the fault sees to it itself). closes: codes that belong to it. forgets: the broker forgets
    what it acknowledged, ids among it; zone_forgets: the zone does. on: the brokers that it can happen to. waits: the longest
    that a client may wait for an event, in seconds."""
    def register(function):
        function.number, function.told, function.closes, function.forgets = number, told, closes, forgets
        function.on, function.zone_forgets, function.waits = on, zone_forgets, waits
        FAULTS[function.__name__] = function
        return function
    return register


class World:
    def __init__(self, name, seconds, clients, seed=1, rate=200, on="redis", secure=False):
        self.name, self.seconds, self.rate, self.zone, self.secure = name, seconds, rate, on == "zone", secure
        self.rooms = clients // 2
        self.chance = random.Random(f"{seed} {name}")
        self.hold = 10 if seconds >= 30 else 3.5    # longer than it may take to notice a dead line
        self.seed = seed
        self.timeline = []
        self.problems = []
        self.hosts, self.swarms, self.others, self.cleanups = [], [], [], []
        self.publisher = self.gauge = self.intruder = None
        self.rounds = 0
        self.told_within = 0.0

    # --- set up, by the fault

    def begin_any(self, **options):
        """begin(), with a Redis that nothing happens to where the broker is one."""
        self.begin(None if self.zone else self.redis().url, **options)

    def begin(self, *urls, daemon=False, env=None, retried=(503,), module=True):
        """One nginx for each url (one for all: two of them), the crowd and the publishers; returns when all are live
        and every room has had a publication."""
        urls = urls * 2 if len(urls) == 1 else urls
        # Every publication has an id, which is kept for 10 minutes: 32m have 40,000.
        zone = f"rooms_zone rooms:{max(32, int(self.rate * min(600, self.seconds) / 800))}m; "
        locations = LOCATIONS.replace("@COMPRESSION@", "rooms_compression on min=64;" if self.secure else "")
        for number, url in enumerate(urls[:1] if self.zone else urls):
            redis = "" if self.zone else f"rooms_redis {url} prefix=rooms;"
            self.hosts.append(Nginx(locations, main="worker_rlimit_nofile 20000;", events="worker_connections 9000;",
                                    http=zone + HTTP + redis, files={"secret": jwt.SECRET}, name=f"host{number}", daemon=daemon,
                                    tls=self.secure, env=env, module=module))
        for number in range(2):
            host = self.hosts[0 if self.zone else number]
            self.swarms.append(Swarm(host, number * self.rooms, self.rooms, room_size=1, first_room=0,
                                     secure=self.secure))
        wait_until(lambda: self.live() == 2 * self.rooms, f"{2 * self.rooms} clients to be live", 60 * SCALE)
        self.publisher = Publisher(list(self.hosts), self.rooms, self.rate, lanes=4, seed=self.seed, prime=True,
                                   patience=self.hold + 30 * SCALE, answer_timeout=5 * SCALE, retried=retried)
        wait_until(lambda: self.publisher.primed or self.publisher.error, "the first publications", 60 * SCALE)
        self.end = time.monotonic() + self.seconds
        self.gauge, self.intruder = Gauge(self.hosts), Intruder(self.hosts, self.secure, self.seed)
        self.note("begins")

    def directory(self):
        """Gone at the end."""
        made = tempfile.TemporaryDirectory(prefix="rooms-fault-")
        self.cleanups.append(made.cleanup)
        return made.name

    def keep(self, thing):
        """Closed at the end."""
        self.others.append(thing)
        return thing

    def redis(self, **options):
        return self.keep(Redis(**options))

    def proxy(self, target):
        return self.keep(Proxy(target))

    # --- while it runs

    def note(self, text):
        now = time.monotonic()
        self.timeline.append((now, text))
        return now

    def problem(self, text):
        self.problems.append(text)
        self.note(text)

    @staticmethod
    def status(host):
        return http.status(host)

    def closes(self):
        return sum(swarm.closes for swarm in self.swarms)

    def live(self):
        return sum(swarm.live for swarm in self.swarms)

    def more(self):
        """Whether another round is to be begun; the first one always is."""
        self.rounds += 1
        return self.rounds == 1 or (time.monotonic() < self.end and not self.problems and not self.publisher.error)

    def last(self, seconds):
        """The load goes on for so long; this is its schedule, no wait for anything."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.publisher.error:
                raise AssertionError(f"the publisher failed: {self.publisher.error}")
            for swarm in self.swarms:
                assert swarm.process.poll() is None, "a swarm has ended"
            time.sleep(min(0.05, max(0, end - time.monotonic())))

    def calm(self, least=1.0, most=4.0):
        """Some time without faults; less where the whole is short."""
        factor = min(1, self.seconds / 20)
        self.last(self.chance.uniform(least, most) * factor)

    def recovered(self, which=(0, 1)):
        """Until the hosts take publications again."""
        since = self.note("over")
        hosts = [0] if self.zone else which
        try:
            wait_until(lambda: self.publisher.error or all(self.publisher.last_ok[host] > since for host in hosts),
                       "the hosts to take publications", SETTLE)
        except AssertionError:
            stuck = [host for host in hosts if self.publisher.last_ok[host] <= since]
            self.problem(f"unavailable: host {', '.join(map(str, stuck))} took no publication for {SETTLE:g} s after the fault")
        self.note("publications are taken")

    @staticmethod
    def wait(condition, what, timeout=SETTLE):
        """For conditions that take some time to find out, which would be taken from the publishers."""
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, f"waited {timeout:g} s in vain for: {what}"
            time.sleep(0.2)

    def leave(self, rooms):
        """Both members of these rooms (numbers) go away; swarms' come_back() ends it."""
        for number, swarm in enumerate(self.swarms):
            swarm.leave([number * self.rooms + room for room in rooms])
        self.note(f"{len(rooms)} rooms are left by all")

    def come_back(self):
        for swarm in self.swarms:
            swarm.come_back()
        self.note("they come back")

    def right_gauges(self):
        """Each host's status says soon how many sockets there are."""
        def wrong():
            live = {host: 0 for host in self.hosts}
            for number, swarm in enumerate(self.swarms):
                live[self.hosts[0 if self.zone else number]] += swarm.live
            said = {host: http.status(host)["connections"]["active"] for host in self.hosts}
            return [f"{host.name} says {said[host]} of {live[host]}" for host in self.hosts if said[host] != live[host]]
        try:
            self.wait(lambda: self.live() == 2 * self.rooms and not wrong(), "the gauges to be right", 5 * SCALE)
        except AssertionError:
            self.problem(f"gauges: {self.live()} of {2 * self.rooms} are live, {', '.join(wrong())}, 5 s after the fault")

    def lines(self):
        return [line for swarm in self.swarms for line in swarm.lines()]

    def members(self):
        return {number: f"session:r{number % self.rooms}" for number in range(2 * self.rooms)}

    def client(self, number):
        return f"client {number} at host {number // self.rooms}"

    def expect_told(self, since, numbers, what):
        """These clients must be told a gap, or recovered:false, soon."""
        def untold():
            return set(numbers) & ledger.untold_since(self.lines(), since)
        try:
            self.wait(lambda: not untold(), "clients to be told")
            first = {}
            for line in self.lines():
                if line["kind"] in ("gap", "reset") and line["t"] >= since:
                    first.setdefault(line["c"], line["t"])
            took = max((first[number] for number in numbers), default=since) - since
            self.told_within = max(self.told_within, took)
            self.note(f"{len(numbers)} clients have been told within {took:.1f} s")
        except AssertionError:
            left = sorted(untold())
            self.problem(f"gap missing: {len(left)} of {len(numbers)} clients were told nothing within {SETTLE:g} s of {what}, "
                         f"e.g. {', '.join(f'{self.client(one)} of {self.members()[one]}' for one in left[:5])}")

    # --- the end

    def settle(self):
        """Until everything that was acknowledged has arrived or was answered for."""
        if self.publisher is None:
            return
        try:
            self.publisher.finish()
        except AssertionError as error:
            self.problem(str(error))
        self.note("publishers are done")

        def all_there():
            return self.live() == 2 * self.rooms and not ledger.behind(self.publisher.log, self.lines(), self.members())
        try:
            self.wait(all_there, "everything to arrive")
        except AssertionError:
            if self.live() != 2 * self.rooms:
                self.problem(f"{2 * self.rooms - self.live()} clients were not back {SETTLE:g} s after the last publication")
        self.note("settled")

    def judge(self, fault):
        log = self.publisher.log if self.publisher else []
        verdict = ledger.check(log, self.lines(), members=self.members(), name=self.client)
        self.problems += verdict.problems()
        told = verdict.gaps + verdict.resets
        zone_forgets = self.zone and fault.zone_forgets
        forgets = fault.forgets or zone_forgets
        if fault.told == "none" and told and not zone_forgets:
            first = [line for line in self.lines() if line["kind"] in ("gap", "reset")][:3]
            self.problems.append(f"needless: {told} times clients were told of losses that were none, e.g. " + ", ".join(
                f"{self.client(line['c'])} of {line['room']} at {line['t']:.3f}: {line['kind']} {line['epoch']}:{line['offset']} "
                f"{line['reason']}" for line in first))
        if verdict.again and not forgets:
            self.problems.append(f"again: {verdict.again} events came again in a newer epoch")
        if not forgets:
            self.problems += [f"forked: {text}" for text in verdict.forked]
        closes = {code: number for code, number in verdict.closes.items() if code not in fault.closes}
        if closes:
            self.problems.append(f"closes: {closes} (code: sockets)")
        if fault.waits and verdict.worst > fault.waits * SCALE:
            self.problems.append(f"late: {verdict.worst_case}, {verdict.worst:.1f} s")
        if self.intruder:
            self.problems += [f"let in: somebody with {token}" for token in self.intruder.let_in]
        if self.publisher and self.publisher.unanswered:
            self.problems.append(f"unanswered: {self.publisher.unanswered} requests had no answer within {5 * SCALE:g} s")
        return verdict

    def save(self):
        directory = tempfile.mkdtemp(prefix=f"rooms-faults-{self.name}-")
        for swarm in self.swarms:
            shutil.copy(swarm.log_name, directory)
        ledger.save(os.path.join(directory, "acknowledged.jsonl"), self.publisher.log)
        with open(os.path.join(directory, "timeline.txt"), "w", encoding="utf-8") as file:
            file.writelines(f"{moment:.3f} {text}\n" for moment, text in self.timeline)
        print(f"# kept {directory}", flush=True)

    def close(self):
        for thread in (self.gauge, self.intruder):
            if thread:
                thread.stop()
        for swarm in self.swarms:
            swarm.stop()
        for host in self.hosts:
            warnings = [line.split("]", 1)[-1].strip()[:160] for line in host.log().splitlines()
                        if " rooms: " in line and " refused: " not in line]
            self.problems += [f"{host.name}: {problem}" for problem in host.stop()]
            if self.problems:
                self.timeline += [(None, f"{host.name}: {line}") for line in warnings[-10:]]
        for thing in reversed(self.others):
            thing.close()
        for cleanup in self.cleanups:
            cleanup()


class Intruder(threading.Thread):
    """Somebody who tries to come in, with tokens that are none."""

    def __init__(self, hosts, secure, seed):
        super().__init__(daemon=True)
        self.hosts, self.secure, self.chance = hosts, secure, random.Random(seed)
        self.let_in, self.ending = [], threading.Event()
        self.start()

    def run(self):
        tokens = {"an expired token": jwt.mint(sub="u0", exp=int(time.time()) - 3 * 86400), "no token": None,
                  "a token of another key": jwt.mint(sub="u0", key=b"of somebody else, and long enough for HS256")}
        while not self.ending.wait(0.3):
            name = self.chance.choice(sorted(tokens))
            try:
                page = ws.connect(self.chance.choice(self.hosts), "/ws", token=tokens[name], tls=self.secure, timeout=2)
                try:
                    if page.recv_json(timeout=2)["type"] == "connected":
                        self.let_in.append(name)
                finally:
                    page.drop()
            except (OSError, AssertionError):
                pass    # closed with a code, refused, or nobody is there

    def stop(self):
        self.ending.set()
        self.join()


class Gauge(threading.Thread):
    """What the hosts hold, once a second: memory (PSS of all processes, octets) and descriptors."""

    def __init__(self, hosts):
        super().__init__(daemon=True)
        self.hosts, self.samples, self.ending = hosts, [], threading.Event()
        self.start()

    def run(self):
        while not self.ending.wait(1):
            pids = [pid for host in self.hosts if host.is_running() for pid in [host.pid] + host.processes()]
            held = [(self._memory(pid), self._descriptors(pid)) for pid in pids]
            self.samples.append((time.monotonic(), sum(one for one, _ in held), sum(one for _, one in held)))

    @staticmethod
    def _memory(pid):
        try:
            with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
                return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))
        except (OSError, StopIteration):
            return 0

    @staticmethod
    def _descriptors(pid):
        try:
            return len(os.listdir(f"/proc/{pid}/fd"))
        except OSError:
            return 0

    def stop(self):
        self.ending.set()
        self.join()

    def slope(self, which):
        """An hour, of the second half of the samples: the beginning is a warm-up. which: 1 memory, 2 descriptors."""
        samples = self.samples[len(self.samples) // 2:]
        if len(samples) < 10:
            return None
        times, values = [one[0] for one in samples], [one[which] for one in samples]
        mean_time, mean = sum(times) / len(times), sum(values) / len(values)
        spread = sum((moment - mean_time) ** 2 for moment in times)
        return 3600 * sum((moment - mean_time) * (value - mean) for moment, value in zip(times, values)) / spread


class Result:
    def __init__(self, world, verdict):
        self.problems, self.verdict, self.timeline = world.problems, verdict, world.timeline
        publisher = world.publisher
        self.figures = {
            "published": verdict.published, "events": verdict.events,
            **{kind: verdict.count[kind] for kind in ("lost", "duplicated", "reordered", "holes", "broken")},
            "forked": len(verdict.forked), "gaps": verdict.gaps, "resets": verdict.resets, "again": verdict.again,
            "late": verdict.late, "subscribes refused": verdict.unavailable, "rounds": world.rounds,
            "silence": verdict.silence, "silence of a client": verdict.worst,
            "unavailable": publisher.slowest if publisher else 0, "slowest answer": publisher.slowest_answer if publisher else 0,
            "503s": sum(status == 503 for status, _ in publisher.refused) if publisher else 0,
            "told within": world.told_within, "closes": dict(verdict.closes)}
        if world.gauge and world.gauge.slope(1) is not None:
            self.figures |= {"memory": world.gauge.slope(1), "descriptors": world.gauge.slope(2)}
        where = ("zone" if world.zone else "redis") + (", TLS and deflate" if world.secure else "")
        self.line = (f"{world.name} ({where}): " + "published {published}, events {events}, lost {lost}, duplicated {duplicated}, "
                     "reordered {reordered}, gaps {gaps}, resets {resets}, longest silence {silence:.1f} s (of a client "
                     "{silence of a client:.1f} s), unavailable {unavailable:.1f} s (503s: {503s}), slowest answer "
                     "{slowest answer:.2f} s").format_map(self.figures)
        self.line += "".join(f", {name} {self.figures[name]}" for name in ("holes", "forked", "broken", "again", "late",
                                                                         "subscribes refused") if self.figures[name])
        self.line += f", told within {world.told_within:.1f} s" if world.told_within else ""

    def report(self):
        """What went wrong, for people."""
        lines = self.problems[:30] + ([f"… and {len(self.problems) - 30} more"] if len(self.problems) > 30 else [])
        if self.verdict.worst_case:
            lines.append(f"the longest wait of a client: {self.verdict.worst:.2f} s, {self.verdict.worst_case}")
        shown = [one for one in self.timeline if one[0]]
        lines.append("the faults: " + ", ".join(f"{text} {moment:.3f}" for moment, text in shown[:40]))
        return "\n".join(lines + [text for moment, text in self.timeline if moment is None])


def run(name, seconds=60, clients=2000, seed=1, rate=200, on="redis", secure=False):
    """One fault. Returns a Result; nothing is left running."""
    function = FAULTS[name]
    world = World(name, seconds, clients, seed, rate, on, secure)
    try:
        try:
            function(world)
            world.calm(1, 2)
        except AssertionError as error:
            world.problem(f"the run: {error}")
        except Exception as error:      # what Redis itself refused, as a rule
            world.problem(f"the run: {error!r}")
        world.settle()
        verdict = world.judge(function)
        if os.environ.get("ROOMS_KEEP") and world.publisher:
            world.save()
    finally:
        world.close()
    return Result(world, verdict)

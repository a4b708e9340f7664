#!/usr/bin/python3
"""Rooms shared through Redis while Redis fails: two nginx of two workers, a crowd in rooms of two with one member at
each, publishers that repeat with the same id, and one fault after the other. Nothing that was answered 200 may be lost
unless the client is told, nothing may come twice or out of order.

    t/faults/redis.py [--seconds 60] [--clients 2000] [--seed 1] [--rate 200] [fault …]
    t/faults/redis.py --list
    t/faults/redis.py --check DIR            judges kept logs again

One line for each fault; exit code 1 when a promise was broken, with what happened to whom. The schedule comes from the
seed. ROOMS_KEEP=1 keeps all logs, --zone runs the faults beside an nginx that has no Redis (to test the rig itself).

    unavailable   the longest that one publication was tried, at both hosts in turn, until it had its 200
    silence       the longest that no client got anything; of a client: from a 200 to its event, or to the gap for it
    again, late, forked   no wrong in themselves where writes are lost; lib/rooms/ledger.py says what they are
"""
import argparse
import glob
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
from rooms import SCALE, jwt, ledger, wait_until                                  # noqa: E402
from rooms.cluster import Cluster, slot_of                                        # noqa: E402
from rooms.load import Publisher, Swarm                                           # noqa: E402
from rooms.nginx import Nginx                                                     # noqa: E402
from rooms.proxy import Proxy                                                     # noqa: E402
from rooms.redis import Redis                                                     # noqa: E402
from rooms.sentinels import Sentinels                                             # noqa: E402

LOCATIONS = """
    location = /ws      { rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_allow session:*; rooms_drain 1s; }
    location = /publish { rooms_publish; }
    location = /status  { rooms_status; }
"""
HTTP = "rooms_history session:* size=2000 ttl=30m; keepalive_requests 1000000; access_log off; client_max_body_size 64m;"
SETTLE = 15 * SCALE     # until a silent room must have been looked at, with reserves
FAULTS = {}


def fault(told="none", closes=(), forgets=False):
    """told: whether clients are to be told of losses: "none" of them (every position can be proven), "some", or "all"
    (the fault sees to it itself). closes: codes that belong to it. forgets: Redis forgets what it acknowledged, ids
    among it."""
    def register(function):
        function.told, function.closes, function.forgets = told, closes, forgets
        FAULTS[function.__name__] = function
        return function
    return register


class World:
    def __init__(self, name, seconds, clients, seed=1, rate=200, zone=False):
        self.name, self.seconds, self.rate, self.zone = name, seconds, rate, zone
        self.rooms = clients // 2
        self.chance = random.Random(f"{seed} {name}")
        self.hold = 10 if seconds >= 30 else 3.5    # longer than it may take to notice a dead line
        self.seed = seed
        self.timeline = []
        self.problems = []
        self.hosts, self.swarms, self.others = [], [], []
        self.publisher = None
        self.rounds = 0
        self.told_within = 0.0

    # --- set up, by the fault

    def begin(self, *urls):
        """One nginx for each url (one for all: two of them), the crowd and the publishers; returns when all are live
        and every room has had a publication."""
        urls = urls * 2 if len(urls) == 1 else urls
        for number, url in enumerate(urls[:1] if self.zone else urls):
            redis = "" if self.zone else f"rooms_redis {url} prefix=rooms;"
            self.hosts.append(Nginx(LOCATIONS, main="worker_rlimit_nofile 20000;", events="worker_connections 9000;",
                                    http=HTTP + redis, files={"secret": jwt.SECRET}, name=f"host{number}"))
        for number in range(2):
            host = self.hosts[0 if self.zone else number]
            self.swarms.append(Swarm(host, number * self.rooms, self.rooms, room_size=1, first_room=0))
        wait_until(lambda: self.live() == 2 * self.rooms, f"{2 * self.rooms} clients to be live", 60 * SCALE)
        self.publisher = Publisher(list(self.hosts), self.rooms, self.rate, lanes=4, seed=self.seed, prime=True,
                                   patience=self.hold + 30 * SCALE, answer_timeout=5 * SCALE)
        wait_until(lambda: self.publisher.primed or self.publisher.error, "the first publications", 60 * SCALE)
        self.end = time.monotonic() + self.seconds
        self.note("begins")

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
        if fault.told == "none" and told:
            first = [line for line in self.lines() if line["kind"] in ("gap", "reset")][:3]
            self.problems.append(f"needless: {told} times clients were told of losses that were none, e.g. " + ", ".join(
                f"{self.client(line['c'])} of {line['room']} at {line['t']:.3f}: {line['kind']} {line['epoch']}:{line['offset']} "
                f"{line['reason']}" for line in first))
        if verdict.again and not fault.forgets:
            self.problems.append(f"again: {verdict.again} events came again in a newer epoch")
        if not fault.forgets:
            self.problems += [f"forked: {text}" for text in verdict.forked]
        closes = {code: number for code, number in verdict.closes.items() if code not in fault.closes}
        if closes:
            self.problems.append(f"closes: {closes} (code: sockets)")
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


class Result:
    def __init__(self, world, verdict):
        self.problems, self.verdict, self.timeline = world.problems, verdict, world.timeline
        publisher = world.publisher
        refused = sum(status == 503 for status, _ in publisher.refused) if publisher else 0
        self.line = (f"{world.name}: published {verdict.published}, events {verdict.events}, lost {verdict.count['lost']}, "
                     f"duplicated {verdict.count['duplicated']}, reordered {verdict.count['reordered']}, gaps {verdict.gaps}, "
                     f"resets {verdict.resets}, longest silence {verdict.silence:.1f} s (of a client {verdict.worst:.1f} s), "
                     f"unavailable {publisher.slowest if publisher else 0:.1f} s (503s: {refused}), "
                     f"slowest answer {publisher.slowest_answer if publisher else 0:.2f} s")
        further = {"holes": verdict.count["holes"], "forked": len(verdict.forked), "broken": verdict.count["broken"],
                   "again": verdict.again, "late": verdict.late, "subscribes refused": verdict.unavailable}
        self.line += "".join(f", {name} {number}" for name, number in further.items() if number)
        self.line += f", told within {world.told_within:.1f} s" if world.told_within else ""

    def report(self):
        """What went wrong, for people."""
        lines = self.problems[:30] + ([f"… and {len(self.problems) - 30} more"] if len(self.problems) > 30 else [])
        if self.verdict.worst_case:
            lines.append(f"the longest wait of a client: {self.verdict.worst:.2f} s, {self.verdict.worst_case}")
        shown = [one for one in self.timeline if one[0]]
        lines.append("the faults: " + ", ".join(f"{text} {moment:.3f}" for moment, text in shown[:40]))
        return "\n".join(lines + [text for moment, text in self.timeline if moment is None])


def run(fault, seconds=60, clients=2000, seed=1, rate=200, zone=False):
    """One fault (its name). Returns a Result; nothing is left running."""
    function = FAULTS[fault]
    world = World(fault, seconds, clients, seed, rate, zone)
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


# --- the faults

@fault()
def calm(world):
    """None: what the rig itself costs."""
    redis = world.redis()
    world.begin(redis.url)
    while world.more():
        world.calm()


@fault()
def restart(world):
    """SIGTERM and a new start, with a fsync for every write: nothing is lost, and all know it."""
    redis = world.redis()
    world.begin(redis.url)
    while world.more():
        world.calm()
        world.note("SIGTERM")
        redis.stop()
        world.last(world.chance.choice((0, 0, 0.3, 1)))
        redis.start()
        world.recovered()


@fault()
def sigkill(world):
    redis = world.redis()
    world.begin(redis.url)
    while world.more():
        world.calm()
        world.note("SIGKILL")
        redis.kill()
        world.last(world.chance.choice((0, 0, 0.3, 1)))
        redis.start()
        world.recovered()


@fault()
def sigstop(world):
    """It stands still, then goes on with everything that was sent to it meanwhile, repeats included."""
    redis = world.redis()
    world.begin(redis.url)
    while world.more():
        world.calm()
        world.note("SIGSTOP")
        redis.pause()
        world.last(world.hold)
        redis.resume()
        world.recovered()


@fault()
def blackhole(world):
    """What is sent either way vanishes while the connections stay up; later also one way only, or at one host."""
    redis = world.redis()
    proxies = [world.proxy(redis) for _ in range(2)]
    world.begin(*(proxy.url for proxy in proxies))
    while world.more():
        world.calm()
        way = "both" if world.rounds == 1 else world.chance.choice(("both", "up", "down"))
        which = proxies if world.rounds == 1 else world.chance.choice((proxies, proxies[:1], proxies[1:]))
        world.note(f"black hole: {way}, {len(which)} hosts")
        for proxy in which:
            proxy.black_hole() if way == "both" else proxy.one_way(way)
        world.last(world.hold)
        for proxy in which:
            proxy.black_hole(False)
        world.recovered()


@fault()
def client_kill_pubsub(world):
    redis = world.redis()
    world.begin(redis.url)
    killed = 0
    while world.more():
        world.last(3 if world.seconds >= 30 else 0.7)
        killed += redis.cli("CLIENT", "KILL", "TYPE", "pubsub")
        world.note("CLIENT KILL")
    if not killed and not world.zone:
        world.problem("no subscription was there to be killed")


@fault()
def output_buffer(world):
    """Subscriptions that Redis ends because their buffers are full: a flood by somebody else on our own channels; and a
    host that stands still during a burst."""
    redis = world.redis(options="client-output-buffer-limit pubsub 64kb 32kb 1")
    world.begin(redis.url)
    flood = "for _, name in ipairs(ARGV) do for i = 1, 4 do redis.call('publish', name, string.rep('x', 100000)) end end"
    while world.more():
        world.calm()
        if world.rounds % 2:
            # Within one turn of Redis: no reader is fast enough.
            channels = redis.cli("PUBSUB", "CHANNELS", "*")
            channels = channels or [f"rooms:{{session:r{room}}}:events" for room in range(world.rooms)]
            world.note("flood")
            redis.cli("EVAL", flood, 0, *world.chance.sample(channels, min(8, len(channels))))
        else:
            # What the kernel holds for a host that stands still is some MB.
            stopped = world.hosts[-1].workers() if not world.zone else []
            world.note("burst")
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            try:
                for _ in range(max(1, 10_000_000 // (world.rooms * 10000))):
                    for begin in range(0, world.rooms, 100):
                        world.publisher.publish_now(range(begin, min(begin + 100, world.rooms)), 10000, world.hosts[0])
            finally:
                for pid in stopped:
                    os.kill(pid, signal.SIGCONT)
        ended = redis.log().count("overcoming of output buffer limits")
        world.note(f"{ended} subscriptions have been ended")
        if not ended and not world.zone:
            world.problem("no subscription was ended for its buffer")
        world.recovered()


@fault(told="all", forgets=True)
def flushall(world):
    """All is gone: every client is told, soon, and before anything newer."""
    redis = world.redis()
    world.begin(redis.url)
    while world.more():
        world.calm()
        # Rooms that were born again have had something since, so that there is something to lose.
        world.publisher.publish_now(range(world.rooms))
        since = world.note("FLUSHALL")
        redis.cli("FLUSHALL")
        if not world.zone:
            world.expect_told(since, range(2 * world.rooms), "FLUSHALL")
        world.recovered()


@fault()
def one_host_cut(world):
    """One host is cut off: the other one goes on as if nothing were, and the first one fills the hole afterwards."""
    redis = world.redis()
    proxies = [world.proxy(redis) for _ in range(2)]
    world.begin(*(proxy.url for proxy in proxies))
    while world.more():
        world.calm()
        which = world.rounds % 2
        since = world.note(f"host {which} is cut off")
        proxies[which].cut()
        world.last(world.hold)
        other = world.publisher.last_ok[0 if world.zone else 1 - which]
        if other < since + world.hold - 1 * SCALE:
            world.problem(f"host {1 - which}, which was not cut off, took nothing after {other - since:.1f} s")
        proxies[which].mend()
        world.recovered()


@fault(told="some", forgets=True)
def sentinel_failover(world):
    """Another server becomes master, by order or because the first one dies. Redis may lose what it had acknowledged."""
    first, second = world.redis(name="first"), world.redis(name="second")
    second.replica_of(first)
    sentinels = world.keep(Sentinels(first, [second]))
    world.begin(sentinels.url())
    while world.more():
        world.calm(2, 5)
        if world.rounds % 2:
            world.note("SENTINEL FAILOVER")
            sentinels.failover()
            world.note("it has another master")
        else:
            dead = sentinels.master()
            world.note("the master is killed")
            dead.kill()
            sentinels.wait_other_master(dead.address)
            world.note("it has another master")
            dead.start()
        world.recovered()
        sentinels.wait_replicas()


@fault(told="some", forgets=True)
def failover_lost_writes(world):
    """A replica that was cut off becomes master: what was acknowledged meanwhile is gone. Everybody who is past the
    common point is told, also who was away meanwhile and comes back with that position; and nobody else."""
    master, replica = world.redis(name="first"), world.redis(name="second")
    line = world.proxy(master)
    replica.replica_of(master, through=line)
    proxies = [world.proxy(master) for _ in range(2)]
    world.begin(*(proxy.url for proxy in proxies))
    while world.more():
        world.calm(2, 4)
        master.wait_synced(replica)
        cut = world.note("replication is cut")
        line.cut()
        chosen = world.chance.sample(range(world.rooms), max(4, world.rooms // 10))
        world.publisher.publish_now(chosen)
        acknowledged = time.monotonic()

        def arrived():
            return not ledger.behind([one for one in world.publisher.log if one.t_ack <= acknowledged], world.lines())
        world.wait(arrived, "what will be lost to arrive")
        left = chosen[::2]      # nobody at any host is there to know what they had
        world.leave(left)
        killed = world.note("the master is killed")
        master.kill()
        replica.promote()
        for proxy in proxies:
            proxy.retarget(replica)
        world.recovered()
        # In some of the rooms the offsets that were lost are given anew, and passed.
        for _ in range(8):
            world.publisher.publish_now(left[::2])
        world.come_back()
        log = list(world.publisher.log)
        lost = {one.room for one in log if one.t_sent > cut and one.t_ack < killed}
        touched = {one.room for one in log if one.t_ack > cut - 1 and one.t_sent < killed + 1}
        world.note(f"{len(lost)} rooms have lost something")
        numbers = [number for number, room in world.members().items() if room in lost]
        if not world.zone:
            world.expect_told(killed, numbers, "a failover that lost writes")
        needless = {line["room"] for line in world.lines() if line["kind"] in ("gap", "reset") and killed <= line["t"]} - touched
        if needless:
            some = ", ".join(sorted(needless)[:3])
            world.problem(f"needless: {len(needless)} rooms that had lost nothing were told, e.g. {some}")
        line.retarget(replica)
        line.mend()
        master.start()
        master.replica_of(replica, through=line)
        master, replica = replica, master


@fault()
def cluster_migration(world):
    """Slots of rooms in use move between the masters of a cluster, back and forth; half-way there, for a while, keys are
    at either side."""
    cluster = world.keep(Cluster(3, 3 if world.seconds >= 30 else 0))
    world.begin(cluster.url)
    moves = 0
    while world.more():
        room = world.chance.randrange(world.rooms)
        world.publisher.favoured = room
        slot = slot_of(f"rooms:{{session:r{room}}}:")
        source = cluster.node_of(slot)
        target = world.chance.choice([node for node in cluster.masters() if node is not source])
        for to in (target, source):
            world.note(f"slot {slot} of r{room} moves to {to.name}")
            cluster.move_slot(slot, to, lambda: world.last(world.chance.choice((0, 0.02, 0.1, 0.3))))
            moves += 1
            world.last(world.chance.choice((0, 0.1)))
    world.publisher.favoured = None
    world.note(f"{moves} moves")
    world.recovered()


@fault(closes=(1000, 1005, 1012))
def reload(world):
    """nginx -s reload of one host while Redis restarts: pages come back into a host that has no Redis yet."""
    redis = world.redis()
    world.begin(redis.url)
    while world.more():
        world.calm()
        host = world.hosts[(world.rounds - 1) % len(world.hosts)]
        down_first = world.chance.random() < 0.5
        if down_first:
            world.note("Redis is down")
            redis.stop()
        world.note(f"reload of {host.name}")
        host.reload()
        if not down_first:
            world.note("Redis is down")
            redis.stop()
        world.last(world.chance.choice((0, 0.3, 1)))
        redis.start()
        world.recovered()
        wait_until(lambda: world.live() == 2 * world.rooms, "all clients to be back", SETTLE)


# --- the command

def check_kept(directory):
    lines = []
    for path in sorted(glob.glob(os.path.join(directory, "swarm-*.jsonl"))):
        with open(path, encoding="utf-8") as file:
            lines += [json.loads(line) for line in file if line.endswith("\n")]
    verdict = ledger.check(ledger.load(os.path.join(directory, "acknowledged.jsonl")), lines)
    print("\n".join(verdict.problems()))
    print(f"published {verdict.published}, events {verdict.events}, gaps {verdict.gaps}, resets {verdict.resets}, " + ", ".join(
        f"{kind} {verdict.count[kind]}" for kind in verdict.WRONGS))
    return 1 if verdict.problems() else 0


def main():
    parser = argparse.ArgumentParser(description="Rooms while Redis fails.")
    parser.add_argument("faults", nargs="*", help="default: all")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=200, help="publications a second")
    parser.add_argument("--zone", action="store_true", help="one nginx without Redis")
    parser.add_argument("--verbose", action="store_true", help="the report also of what went well")
    parser.add_argument("--list", action="store_true", help="the faults")
    parser.add_argument("--check", metavar="DIR", help="judge kept logs")
    options = parser.parse_args()
    if options.check:
        return check_kept(options.check)
    if options.list:
        print("\n".join(FAULTS))
        return 0
    unknown = [name for name in options.faults if name not in FAULTS]
    if unknown:
        parser.error(f"no such fault: {', '.join(unknown)}; there are {', '.join(FAULTS)}")
    failed = 0
    for name in options.faults or list(FAULTS):
        result = run(name, options.seconds, options.clients, options.seed, options.rate, options.zone)
        print(result.line, flush=True)
        failed |= bool(result.problems)
        if result.problems or options.verbose:
            print("\n".join("    " + line for line in result.report().splitlines()), flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())

# What happens to Redis, and to the lines to it.
import os
import signal
import time

from rooms import SCALE, ledger, wait_until
from rooms.cluster import Cluster, slot_of
from rooms.rig import SETTLE, fault
from rooms.sentinels import Sentinels


@fault("", on=("zone", "redis"))
def calm(world):
    """None: what the rig itself costs."""
    world.begin_any()
    while world.more():
        world.calm()


@fault("F9")
def redis_restart(world):
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


@fault("F10")
def redis_sigkill(world):
    redis = world.redis()
    world.begin(redis.url)
    while world.more():
        world.calm()
        world.note("SIGKILL")
        redis.kill()
        world.last(world.chance.choice((0, 0, 0.3, 1)))
        redis.start()
        world.recovered()


@fault("F11")
def redis_sigstop(world):
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


@fault("F12")
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


@fault("F18", waits=2.5)
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


@fault("F18")
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


@fault("F15", told="all", forgets=True)
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


@fault("F13")
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


@fault("F16", told="some", forgets=True)
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


@fault("F16", told="some", forgets=True)
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


@fault("F19")
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


@fault("F9", closes=(1000, 1005, 1012))
def restart_and_reload(world):
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


@fault("F14")
def redis_slow(world):
    """Each octet to and from Redis takes a tenth of a second longer: answers do, and nothing else happens."""
    redis = world.redis()
    proxies = [world.proxy(redis) for _ in range(2)]
    world.begin(*(proxy.url for proxy in proxies))
    while world.more():
        world.calm()
        world.note("100 ms each way")
        for proxy in proxies:
            proxy.delay(100)
        world.last(world.hold)
        for proxy in proxies:
            proxy.delay(0)
        world.recovered()


@fault("F17", told="some", forgets=True)
def split_brain(world):
    """Two masters, one nginx at each. With min-replicas-to-write the old one takes nothing once its replica is gone; what it
    took in the second before is told, when its host comes to the new one."""
    master = world.redis(name="first", options="min-replicas-to-write 1\nmin-replicas-max-lag 1\nrepl-ping-replica-period 1")
    replica = world.redis(name="second")
    line = world.proxy(master)
    replica.replica_of(master, through=line)
    proxies = [world.proxy(master) for _ in range(2)]
    master.wait_synced(replica)
    world.begin(*(proxy.url for proxy in proxies))
    while world.more():
        world.calm()
        master.wait_synced(replica)
        world.note("the masters part")
        line.cut()
        replica.promote()
        proxies[1].retarget(replica)
        world.last(max(world.hold, 3))
        took = world.publisher.last_ok[0]
        world.last(1)
        if world.publisher.last_ok[0] > took and not world.zone:
            world.problem("both masters take publications")
        if world.publisher.last_ok[1] <= took and not world.zone:
            world.problem("the new master takes none")
        world.note("they are one again")
        proxies[0].retarget(replica)
        world.recovered()
        line.retarget(replica)
        line.mend()
        replica.cli("CONFIG", "SET", "min-replicas-max-lag", 1)
        master.replica_of(replica, through=line)
        replica.wait_synced(master)
        replica.cli("CONFIG", "SET", "min-replicas-to-write", 1)
        master.cli("CONFIG", "SET", "min-replicas-to-write", 0)
        master, replica = replica, master
        world.recovered()

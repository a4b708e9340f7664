# What happens to nginx itself: to its workers, its configuration, its master, and the machine that it is on.
import os
import signal

from rooms import ASAN, SCALE, VERSION, http, wait_until
from rooms.nginx import MODULE, MODULE_FAULTS, workers_of
from rooms.preload import Clock, Memory
from rooms.rig import SETTLE, fault

BOTH = ("zone", "redis")
GOING = (1000, 1005, 1012)      # who is told to come back later does, or is sent away


def another(world):
    return world.hosts[world.rounds % len(world.hosts)]


def kill_workers(world, signum):
    """One after the other, each time every client that it had is back before the next one dies."""
    world.begin_any()
    while world.more():
        world.last(2 if world.seconds >= 30 else 0.5)
        host = another(world)
        victim = world.chance.choice(host.workers())
        lost = world.closes()
        had = next(worker["connections"] for worker in world.status(host)["workers"] if worker["pid"] == victim)
        world.note(f"signal {int(signum)} to worker {victim} of {host.name}, with {had} sockets")
        host.kill_worker(victim, signum)
        world.right_gauges()
        if world.closes() - lost > had:
            world.problem(f"{world.closes() - lost} sockets ended with the worker, which had {had}")
    world.recovered()


@fault("F1", closes=(1006,), on=BOTH)
def worker_killed(world):
    """SIGKILL: only the clients of that worker lose their socket, and come back where they were."""
    kill_workers(world, signal.SIGKILL)


@fault("F3", closes=(1006,), on=BOTH)
def worker_crashes(world):
    """SIGSEGV: the same; SIGABRT where the sanitizer would take that for a find."""
    kill_workers(world, signal.SIGABRT if ASAN else signal.SIGSEGV)


@fault("F4", closes=GOING, on=BOTH)
def reload(world):
    """nginx -s reload under load: everybody is told to come back, none is cut off, no publication is refused."""
    world.begin_any()
    while world.more():
        world.last(5 if world.seconds >= 30 else 1)
        host = another(world)
        world.note(f"reload of {host.name}")
        host.reload()
        # rooms_drain is a second, and the log says when the old ones have gone.
        try:
            world.wait(lambda: len(host.processes()) == host.workers_wanted, "the old workers to go", 3 * SCALE)
        except AssertionError:
            world.problem(f"old workers of {host.name} are there 3 s after a reload, with rooms_drain 1s")
    world.recovered()
    if any(status == 503 for status, _ in world.publisher.refused):
        world.problem("publications were refused")


@fault("F5", on=BOTH)
def broken_configuration(world):
    """A reload with a configuration that is none: the old one goes on as if nothing were, and the log says what is wrong."""
    world.begin_any()
    while world.more():
        world.calm(1, 2)
        host = another(world)
        since = len(host.log())
        host.allow(r"\[emerg\].* rooms_heartbeat|\[emerg\].*\"rooms_heartbeat\"")
        host.write("nginx.conf", host.config(server="rooms_heartbeat never;"))
        world.note(f"a broken configuration for {host.name}")
        host.send_signal(signal.SIGHUP)
        host.wait_log(r"\[emerg\].*rooms_heartbeat.* in .*nginx.conf:\d+", since=since)
        host.write("nginx.conf", host.config())
        world.calm(1, 2)
    if any(status == 503 for status, _ in world.publisher.refused):
        world.problem("publications were refused")


@fault("F6", closes=GOING, on=BOTH)
def reload_storm(world):
    """SIGHUP ten times a second: few workers at any time, and the right number at the end."""
    world.begin_any()
    most = 0
    while world.more():
        world.calm(1, 2)
        host = another(world)
        world.note(f"a storm of reloads at {host.name}")
        host.changed_workers = True
        for _ in range(30 if world.seconds >= 30 else 10):
            host.send_signal(signal.SIGHUP)
            world.last(0.1)
            most = max(most, len(host.processes()))
        world.wait(lambda: len(host.processes()) == host.workers_wanted and len(host.workers()) == host.workers_wanted,
                   "the storm to be over")
        world.recovered()
    world.note(f"at most {most} workers at a time")


def install_other(host):
    """The version that does not run there, for the next master; what it calls itself."""
    faults = http.status(host)["version"] == VERSION
    host.install_module(MODULE_FAULTS if faults else MODULE)
    return VERSION.replace("+faults", "") + "+faults" if faults or ASAN else VERSION


def runs(world, host, version):
    running = http.status(host)["version"]
    if running != version:
        world.problem(f"{host.name} runs {running}, not {version}")


@fault("F7", closes=GOING, on=BOTH, zone_forgets=True)
def binary_upgrade(world):
    """Another version of the module, then USR2, WINCH, QUIT: the port is never closed. The new master has a zone of its own,
    so that without Redis those who move are told. Hosts of both versions share a Redis."""
    world.begin_any(daemon=True, module="own")
    while world.more():
        world.calm(1, 2)
        host = another(world)
        version = install_other(host)
        world.note(f"{host.name}: USR2, to {version}")
        old = host.upgrade_binary(quit_old=False)
        os.kill(old.pid, signal.SIGWINCH)
        world.note("WINCH")
        world.wait(lambda: not workers_of(old.pid, leaving=True), "the old workers to go")
        os.kill(old.pid, signal.SIGQUIT)
        world.wait(lambda: old.poll() is not None, "the old master to go")
        host.other_masters.remove(old)
        runs(world, host, version)
        world.recovered()
        world.right_gauges()


@fault("F8", closes=GOING + (1006,), on=BOTH, zone_forgets=True)
def restart(world):
    """Another version of the module, then systemctl restart: QUIT, and TERM five seconds later for what is left. The zone is
    new, so that without Redis all are told."""
    world.begin_any(module="own")
    while world.more():
        world.calm(1, 2)
        host = another(world)
        version = install_other(host)
        world.note(f"{host.name}: QUIT, to {version}")
        host.restart(signal.SIGQUIT)
        world.note("it is back")
        runs(world, host, version)
        world.recovered()
        wait_until(lambda: world.live() == 2 * world.rooms, "all clients to be back", SETTLE)
        world.right_gauges()


@fault("F29", on=BOTH)
def clock_jumps(world):
    """The wall clock jumps, by an hour or a day, forth and back. What is timed is timed by another clock; nobody is sent
    away, and nothing is old."""
    clock = Clock(world.directory())
    world.begin_any(env=clock.env)
    while world.more():
        for seconds in (3600, 86400, -3600, -86400):
            world.note(f"the clock is {seconds} s ahead")
            clock.ahead(seconds)
            world.last(max(0.5, world.seconds / 10))
        clock.ahead(0)
        world.recovered()


@fault("F41", told="some", closes=GOING + (1006, 1011), on=BOTH)
def memory_short(world):
    """One allocation in a few hundred fails: requests and sockets may fail by it, workers do not, and nothing that was
    acknowledged is lost without a word."""
    memory = Memory(world.directory())
    world.begin_any(env=memory.env, retried=(500, 503))
    for host in world.hosts:
        host.allow(r"\[(emerg|alert|crit)\].*((malloc|memalign|calloc)\(|Cannot allocate memory|out of memory|SSL_\w+\(\) failed|stale global SSL error)")
    workers = {host: host.workers() for host in world.hosts}
    while world.more():
        world.note("memory is short")
        memory.one_in(world.chance.choice((100, 300, 1000)))
        world.last(2)
        memory.one_in(0)
        world.recovered()
        wait_until(lambda: world.live() == 2 * world.rooms, "all clients to be back", SETTLE)
    for host in world.hosts:
        if host.workers() != workers[host]:
            world.problem(f"workers of {host.name} died for want of memory")
    world.right_gauges()

#!/usr/bin/python3
"""Thousands of sockets under load, through five reloads and the kill of a worker: what the publisher was answered 200
is at each member of its room once, in offset order. ROOMS_LOAD_SOCKETS=10000 for the full number."""
import os
import signal
import sys
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import ASAN, SCALE, http, jwt, tap, wait_until  # noqa: E402
from rooms.load import Publisher, Swarm, all_live, all_received, closes_since, compare  # noqa: E402
from rooms.nginx import Nginx                              # noqa: E402

SOCKETS = int(os.environ.get("ROOMS_LOAD_SOCKETS") or (500 if ASAN else 2000))
DRAIN = 2 * max(1, SOCKETS // 5000)         # seconds

server = Nginx(main="worker_rlimit_nofile 20000;", events="worker_connections 18000;",
               http="rooms_history session:* size=2000 ttl=30m; keepalive_requests 1000000; access_log off;",
               locations="""
    location = /ws      { rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_allow session:*; rooms_drain %ds; }
    location = /publish { rooms_publish; }
    location = /status  { rooms_status; }
""" % DRAIN, files={"secret": jwt.SECRET})

half = SOCKETS // 4 * 2      # no room is in both
swarms = [Swarm(server, 0, half), Swarm(server, half, SOCKETS - half)]


@tap.case(f"{SOCKETS} sockets join their rooms of two")
def _():
    started = time.monotonic()
    all_live(swarms, 60)
    tap.diag(f"{SOCKETS} sockets live after {time.monotonic() - started:.1f} s")
    status = http.status(server)
    tap.is_(status["connections"]["active"], SOCKETS, "connections in the status")
    tap.is_(status["rooms"]["members"], SOCKETS, "members in the status")
    tap.diag("on each worker: " + ", ".join(str(worker["connections"]) for worker in status["workers"]))


publisher = None


def deliver():
    """Everything that was answered has arrived, and all clients are back."""
    all_received(publisher, swarms)
    all_live(swarms)
    problems, counts = compare(publisher, swarms)
    tap.diag(", ".join(f"{name}: {count}" for name, count in counts.items()) + f", slowest answer: {publisher.slowest:.3f} s")
    tap.ok(publisher.error is None, f"the publisher lives: {publisher.error!r}")
    if problems:
        tap.fail(f"{len(problems)} problems\n" + "\n".join(problems[:20]))
    return counts


@tap.case("five reloads: every publication once at each member, in order, none refused, no close with 1006")
def _():
    global publisher
    publisher = Publisher(server, SOCKETS // 2)
    wait_until(lambda: publisher.count > 100 or publisher.error, "the first publications")
    started = time.monotonic()
    for _ in range(5):
        begun = time.monotonic()
        server.reload(wait_old=True)
        took = time.monotonic() - begun
        tap.ok(took < DRAIN + 1 + 2 * SCALE, f"the old workers left after {took:.1f} s")
        all_live(swarms)
    before = publisher.count
    wait_until(lambda: publisher.count > before + 100 or publisher.error, "publications after the last reload")
    publisher.finish()
    counts = deliver()
    closes = closes_since(swarms, started)
    tap.diag(f"closes: {closes}")
    tap.is_(closes.get(1006, 0), 0, "closes with 1006")
    tap.is_(counts["refused"], 0, "handshakes that failed")
    tap.is_([status for status, _ in publisher.refused if status != 0], [], "publications refused")


@tap.case("kill -9 of a worker: the same, and only its sockets drop")
def _():
    global publisher
    count = publisher.count
    publisher = Publisher(server, SOCKETS // 2, after=publisher)
    wait_until(lambda: publisher.count > count + 100 or publisher.error, "the first publications")
    victim, other = server.workers()
    hit = {worker["pid"]: worker["connections"] for worker in http.status(server)["workers"]}[victim]
    killed = time.monotonic()
    server.kill_worker(victim, signal.SIGKILL)
    wait_until(lambda: closes_since(swarms, killed).get(1006, 0) == hit, f"{hit} closes with 1006")
    all_live(swarms)
    tap.diag(f"{hit} sockets dropped, all live again after {time.monotonic() - killed:.1f} s")
    before = publisher.count
    wait_until(lambda: publisher.count > before + 200 or publisher.error, "publications after the kill")
    publisher.finish()
    deliver()
    tap.is_(closes_since(swarms, killed), {1006: hit}, "closes")
    wait_until(lambda: http.status(server)["connections"]["active"] == SOCKETS, "the gauges to be right", 5 * SCALE)
    tap.is_(http.status(server)["rooms"]["members"], SOCKETS, "members in the status")


@tap.case("the swarm leaves, and nothing of it remains")
def _():
    for swarm in swarms:
        swarm.stop()

    def gone():
        status = http.status(server)
        return status["connections"]["active"] == status["rooms"]["members"] == status["rooms"]["active"] == 0
    wait_until(gone, "connections, members and rooms to be none", 20 * SCALE)


tap.run()

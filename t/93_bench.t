#!/usr/bin/python3
"""The bench: its checks find what is wrong, and a short run against each server that it is pointed at is whole."""
import json
import os
import subprocess
import sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import ROOT, tap       # noqa: E402
sys.path.insert(0, os.path.join(ROOT, "bench"))
from scenarios import CHECKS      # noqa: E402
from servers import LOAD, Floor, Node, Rooms, words_of        # noqa: E402


def load(server, **options):
    options = {**server.load(), "pids": ",".join(map(str, server.pids())), **options}
    return subprocess.run([LOAD, *words_of(options)], capture_output=True, text=True, timeout=60, check=False)


def answer(server, **options):
    done = load(server, **options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@tap.case("the load tool finds what is lost, double, late or misrouted")
def _():
    done = subprocess.run([LOAD, "self-test"], capture_output=True, text=True, check=False)
    tap.is_((done.returncode, done.stdout), (0, "ok\n"))


def whole_run(kind, **options):
    server = kind(connections=1000, **options)
    try:
        # 100 sockets, two rooms each, 20 members a room.
        found = answer(server, sockets=100, rooms=10, each=2, rate=500, warmup=0.1, seconds=0.5, publishers=4, tls=int(server.tls),
                       deflate=int(server.deflate))
        tap.is_([found[check] for check in CHECKS], [0, 0, 0, 0])
        tap.is_((found["published"], found["deliveries"]), (250, 5000))
        tap.ok(190 <= found["event_octets"] <= 210, f"200 octets: {found['event_octets']}")
        tap.ok(found["cpu_us_per_delivery"] > 0 and 0 < found["latency_us"]["p50"] <= found["latency_us"]["most"], found)
        found = answer(server, sockets=20, window=8, publishers=8, warmup=0, seconds=0.2, tls=int(server.tls),
                       deflate=int(server.deflate))
        tap.is_([found[check] for check in CHECKS], [0, 0, 0, 0])
        tap.is_(found["deliveries"], 20 * found["published"])
        tap.is_(answer(server, handshakes=100, window=10, tls=int(server.tls))["handshakes"], 100)
    finally:
        server.stop()


tap.add("a bare epoll loop", whole_run, Floor)
tap.add("a bare epoll loop, two processes", whole_run, Floor, workers=2)
tap.add("a Node server", whole_run, Node)
tap.add("a Node server, TLS and deflate", whole_run, Node, tls=True, deflate=True)
tap.add("rooms, two workers", whole_run, Rooms, workers=2)
tap.add("rooms, TLS and deflate", whole_run, Rooms, tls=True, deflate=True)


@tap.case("a batch, 16 KiB, and slow readers")
def _():
    server = Rooms(connections=1000)
    try:
        found = answer(server, sockets=100, rooms=50, batch=10, window=20, publishers=2, warmup=0, seconds=0.2)
        tap.is_((found["deliveries"], *(found[check] for check in CHECKS)), (2 * found["published"], 0, 0, 0, 0))
        found = answer(server, sockets=20, slow=10, size=16384, rate=50, warmup=0, seconds=0.4)
        tap.is_((found["deliveries"], *(found[check] for check in CHECKS)), (200, 0, 0, 0, 0))
    finally:
        server.stop()


@tap.case("much at once is no slow reader, over TLS neither")
def _():
    for tls in (True, False):
        server = Rooms(connections=1000, tls=tls)
        try:
            found = answer(server, sockets=10, size=16384, batch=50, window=200, publishers=4, warmup=0, seconds=0.2, tls=int(tls))
            tap.is_((found["deliveries"], *(found[check] for check in CHECKS)), (10 * found["published"], 0, 0, 0, 0))
        finally:
            server.stop()


@tap.case("a run that cannot be right ends with the reason")
def _():
    server = Rooms(connections=1000)
    try:
        for options, why in (({"post": "/nowhere"}, "a publication is refused"), ({"body": '{"m":"{mark}"}'}, "a publication is refused"),
                             ({"header": "X-None: 1"}, "4001"), ({"subscribe": '{"type":"subscribe","room":"tenant:x"}'}, "refused"),
                             ({"rooms": 3}, "no multiple"), ({"sokets": 3}, "no option sokets"), ({"rate": "x"}, "not a number")):
            done = load(server, **{"sockets": 10, "rate": 10, "seconds": 0.1, **options})
            tap.ok(done.returncode == 1 and why in done.stderr, (options, done.stderr))
    finally:
        server.stop()


tap.run()

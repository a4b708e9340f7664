#!/usr/bin/python3
"""A storm: all sockets but some end at once, and come back within a tenth of a second, each with its position. The others
go on to get events meanwhile.

    t/faults/storm.py [--sockets 20000] [--workers 2] [--secure]

One JSON object: how long until all were back, the CPU of nginx for each, connections that the kernel dropped before
nginx took them, how long an event took to those who stayed, before and during the storm. Exit code 1 where anything was
lost, came twice, or was told to be lost."""
import argparse
import json
import os
import sys
import threading
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
from rooms import SCALE, jwt, ledger, wait_until             # noqa: E402
from rooms.load import Publisher, Swarm                      # noqa: E402
from rooms.nginx import Nginx                                # noqa: E402
from rooms.processor import processor                        # noqa: E402

EACH = 10000        # sockets of a process, which may hold 20,000 descriptors
STAY = 200
LOCATIONS = """
    location = /ws      { rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_allow session:*; @COMPRESSION@ }
    location = /publish { rooms_publish; }
    location = /status  { rooms_status; }
"""


def dropped():
    """Connections that this machine dropped for a full accept queue."""
    with open("/proc/net/netstat", encoding="ascii") as file:
        lines = [line.split() for line in file if line.startswith("TcpExt:")]
    return int(dict(zip(*lines))["ListenDrops"])


def p99(log, lines, begin, end):
    """Of the events that were published then, ms from their first try to each member."""
    sent = {one.id: one.t_sent for one in log if begin <= one.t_sent < end}
    took = sorted(line["t"] - sent[line["id"]] for line in lines if line["kind"] == "event" and line["id"] in sent)
    return round(1000 * took[int(0.99 * len(took))], 1) if took else None


def storm(sockets=20000, workers=2, secure=False):
    """Returns (figures, problems)."""
    problems = []
    server = Nginx(LOCATIONS.replace("@COMPRESSION@", "rooms_compression on min=64;" if secure else ""), workers=workers, tls=secure,
                   listen_options="backlog=4096 reuseport", tls_options="backlog=4096 reuseport",
                   main="worker_rlimit_nofile 20000;", events="worker_connections 19000;", files={"secret": jwt.SECRET},
                   http=f"rooms_zone rooms:{max(32, sockets // 400)}m; rooms_history session:* size=500 ttl=30m; access_log off; "
                        "keepalive_requests 1000000;")
    rooms = STAY // 2
    stay = Swarm(server, 0, STAY, room_size=2, first_room=0, secure=secure)
    crowd = [Swarm(server, first, min(EACH, EACH + sockets - first), room_size=2, first_room=rooms + (first - EACH) // 2,
                   secure=secure) for first in range(EACH, EACH + sockets, EACH)]
    swarms = [stay, *crowd]
    try:
        total = STAY + sockets
        began = time.monotonic()
        wait_until(lambda: sum(swarm.live for swarm in swarms) == total, f"{total} sockets to join", (30 + sockets / 500) * SCALE)
        joined = time.monotonic() - began
        publisher = Publisher(server, rooms, 200, patience=60 * SCALE)
        begin = time.monotonic()
        wait_until(lambda: time.monotonic() > begin + 2, "some calm")
        everybody = Publisher(server, rooms + sockets // 2, 500, patience=60 * SCALE)    # what they come back to
        leaving = [threading.Thread(target=swarm.leave, args=(range(swarm.first, swarm.first + swarm.count),)) for swarm in crowd]
        for thread in leaving:
            thread.start()
        for thread in leaving:
            thread.join()
        drops, used, left = dropped(), processor(*server.workers()), time.monotonic()
        for swarm in crowd:
            swarm.come_back()
        wait_until(lambda: sum(swarm.live for swarm in swarms) == total, "all to be back", (30 + sockets / 500) * SCALE)
        back = time.monotonic()
        used = processor(*server.workers()) - used
        for one in (publisher, everybody):
            one.finish()
        members = {number: f"session:r{number // 2}" for number in range(STAY)}
        members |= {EACH + number: f"session:r{rooms + number // 2}" for number in range(sockets)}
        log = publisher.log + everybody.log

        def lines():
            return [line for swarm in swarms for line in swarm.lines()]
        try:
            wait_until(lambda: not ledger.behind(log, lines(), members), "everything to arrive", 15 * SCALE)
        except AssertionError:
            pass        # the ledger says what is missing
        verdict = ledger.check(log, lines(), members=members)
        problems += verdict.problems()
        if verdict.gaps + verdict.resets:
            problems.append(f"{verdict.gaps + verdict.resets} were told of a loss")
        figures = {"sockets": sockets, "workers": workers, "secure": secure, "joined_s": round(joined, 2),
                   "back_s": round(back - left, 2), "cpu_us_per_socket": round(used / sockets * 1e6, 1),
                   "dropped_by_the_kernel": dropped() - drops, "p99_before_ms": p99(publisher.log, stay.lines(), begin, left),
                   "p99_during_ms": p99(publisher.log, stay.lines(), left, back), "published": verdict.published,
                   "events": verdict.events, **{kind: verdict.count[kind] for kind in verdict.WRONGS}}
    finally:
        for swarm in swarms:
            swarm.stop()
        problems += server.stop()
    return figures, problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sockets", type=int, default=20000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--secure", action="store_true")
    options = parser.parse_args()
    figures, problems = storm(options.sockets, options.workers, options.secure)
    print(json.dumps(figures))
    print("\n".join(problems[:20]), end="\n" if problems else "")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())

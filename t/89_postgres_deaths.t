#!/usr/bin/python3
"""The workers that publish from Postgres are killed at every step, and at any instant: each event comes to each page once, in order.
The deaths at fault points need `make module-faults`."""
import os
import re
import sys
import time
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "lib"))
MODULE = os.environ.get("ROOMS_MODULE_FAULTS") or os.path.join(HERE, "../build/module-faults/ngx_http_rooms_module.so")
WITH_FAULTS = os.path.exists(MODULE)
if WITH_FAULTS:
    os.environ["ROOMS_MODULE"] = MODULE
from rooms import ON_REDIS, tap, wait_until                       # noqa: E402
from rooms.postgres_load import Load, Page, first_worker, pg, prepare, server, settled, start, up     # noqa: E402


def deaths():
    return len(re.findall(r"worker process \d+ exited on signal 9", server.log()))


def dies_at(point, hit):
    if not WITH_FAULTS:
        tap.skip("no module with fault points: make module-faults")
    server.changed_workers = True
    server.reload(main=f"env ROOMS_FAULT={point}:{hit};")
    settled()
    before = deaths()
    load = Load()
    load.due(300)
    load.keep_writing(2.5).join()
    wait_until(lambda: deaths() - before >= 3 or not load.pending(), "deaths")
    server.reload(main="")
    settled()
    tap.diag(f"{deaths() - before} deaths at {point}")
    tap.ok(deaths() - before >= 3, f"{deaths() - before} deaths")
    load.check(point)


for name, n in (("outbox:taken", 2), ("outbox:wave", 25), ("outbox:published", 2), ("outbox:finished", 2), ("outbox:committed", 1),
                ("sweep:answered", 2)):
    tap.add(f"the worker is killed again and again at {name}, under load: each event once at each page", dies_at, name, n)


@tap.case("the first worker is killed 20 times at any instant, under load: each event once at each page", kills_workers=True)
def _():
    up()
    load = Load()
    load.due(300, last=5)
    writing = load.keep_writing(4.5)
    victim = first_worker()
    for n in range(20):
        others = set(server.workers())
        time.sleep(0.05 + 0.013 * n)
        server.kill_worker(victim)
        victim = (set(server.workers()) - others).pop()
    writing.join()
    load.check("20 kills")


def two_hosts():
    prepare("shared")
    redis = f"rooms_redis {os.environ['ROOMS_BROKER']} prefix=shared;"
    with start("one", pg.conninfo(user="nginx", dbname="shared"), redis) as one, \
            start("two", pg.conninfo(user="nginx", dbname="shared"), redis) as two:
        load = Load(one, database="shared")
        load.pages += [Page(two, page.room) for page in load.pages[::2]]
        load.due(300, last=5)
        writing = load.keep_writing(4.5)
        victims = {host: host.workers()[0] for host in (one, two)}
        for n in range(20):
            host = (one, two)[n % 2]
            others = set(host.workers())
            time.sleep(0.02 + 0.011 * n)
            host.kill_worker(victims[host])
            victims[host] = (set(host.workers()) - others).pop()
        writing.join()
        load.check("two hosts, 10 kills each")


if ON_REDIS:
    tap.add("two hosts on one database, their first workers killed in turn, under load: each event once at each page", two_hosts)


tap.run()

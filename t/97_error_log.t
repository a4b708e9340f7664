#!/usr/bin/python3
"""docs/monitoring.md: what the error log says of Redis, Postgres and the outbox at the level of Debian's nginx.conf, and what
only beyond it; and what the workers' metrics say meanwhile."""
import os
import re
import sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import http, tap, wait_until                                   # noqa: E402
from rooms.approvals import OPTIONS, approvals_host, create, migrate, new_session    # noqa: E402
from rooms.example import page                                            # noqa: E402
from rooms.postgres import Postgres                                       # noqa: E402
from rooms.redis import Redis                                             # noqa: E402
from rooms.redis_process import info_fields                               # noqa: E402

WORDS = " ".join(page("docs/monitoring.md").split())
redis, pg = Redis(appendfsync=None), Postgres(options=OPTIONS)
migrate(pg)
sql = pg.session()
server = approvals_host(pg, http=f"rooms_redis {redis.url};", name="watched")


def workers(metric):
    """The pids of which a metric is 1."""
    text = http.get(server, "/status?format=prometheus").text
    return {int(pid) for pid in re.findall(rf'^{metric}{{pid="(\d+)"}} 1$', text, re.M)}


def tellers(level, words, since):
    """The pids of the lines with these words at this level."""
    return {int(pid) for pid in re.findall(rf"\[{level}\] (\d+)#\d+: .*?{words}", server.log()[since:])}


@tap.case("a worker for which Redis has no place among its clients is deaf; lines of its pid at Debian's level say why; it comes "
          "back by itself")
def _():
    since = len(server.log())
    with redis.client() as admin:
        def hearing():
            return re.findall(r"^id=(\d+) ", admin("CLIENT", "LIST", "TYPE", "pubsub"), re.M)
        wait_until(lambda: len(hearing()) == 2, "a connection that hears for each worker")
        admin("CONFIG", "SET", "maxclients", info_fields(admin("INFO", "clients"))["connected_clients"] - 1)
        admin("CLIENT", "KILL", "ID", hearing()[0])
        try:
            victim = wait_until(lambda: workers("rooms_worker_deaf"), "a worker to be deaf")
            tap.is_(len(victim), 1, "one of two")
            tap.is_(tellers("error", r"redis \S+ subscriptions lost: ", since), victim)
            tap.is_(tellers("error", r"redis .* max number of clients reached", since), victim)
        finally:
            admin("CONFIG", "SET", "maxclients", 10000)
    wait_until(lambda: not workers("rooms_worker_deaf"), "both to hear")


@tap.case("who is refused by Redis and then has none is deaf, and not refused; of Redis, Postgres and the outbox the log says "
          "at Debian's level what the page says")
def _():
    since = len(server.log())
    both = set(server.workers())

    def told(level, words, by=None):
        wait_until(lambda: tellers(level, words, since) >= by if by else tellers(level, words, since), f"{words} at {level}")
    of = new_session(sql)
    create(server, of)
    wait_until(lambda: sql("select count(*) from rooms_outbox") == [["0"]], "its room to be known in Redis")
    redis.cli("CONFIG", "SET", "maxmemory", 1)
    create(server, of)
    wait_until(lambda: workers("rooms_worker_refused") == both, "both to be refused")
    tap.is_(workers("rooms_worker_deaf"), set())
    told("error", "redis .* refuses: OOM", both)
    told("error", "events of the outbox wait: ")
    pg.stop("immediate")
    create(server, of, expect=503)
    told("warn", "approval request failed: ")
    redis.stop()
    wait_until(lambda: not workers("rooms_worker_refused"), "nobody to be refused")
    wait_until(lambda: workers("rooms_worker_deaf") == both, "both to be deaf")
    redis.start()
    pg.start()
    for name in ("redis", "postgres"):
        told("error", rf'{name} "\S+" (?:lost|cannot be reached): ', both)
        told("notice", rf'{name} "\S+" is back after', both)


@tap.case("and these are the page's words for it")
def _():
    shown, hidden = tap.like(
        WORDS, r"which in Debian's `nginx.conf` is `error`\. There one sees (.*?) Not there: (.*?) `error_log").groups()
    tap.is_(shown, "that Redis or Postgres is lost or cannot be reached and why, what Redis refuses, that events of the outbox "
            "wait, that a publication has no place.")
    tap.is_(hidden, "that it `is back` or `works again` (`notice`), and why a single request to the approvals API was answered "
            "503 (`warn`).")
    tap.in_("`error_log /var/log/nginx/error.log notice;` shows these, too.", WORDS)


tap.run()

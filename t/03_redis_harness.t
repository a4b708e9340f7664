#!/usr/bin/python3
"""The harness for rooms shared through Redis: servers, replicas, sentinels, a cluster and bad lines do what their names
say, and the checker of the fault rig tells one lost publication from one that came twice, late or was answered for."""
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import SCALE, jwt, ledger, nginx, process, tap, wait_until, ws            # noqa: E402
from rooms.cluster import Cluster, slot_of                                           # noqa: E402
from rooms.load import Acknowledged, Publisher, Swarm                                # noqa: E402
from rooms.proxy import Proxy                                                        # noqa: E402
from rooms.redis import Redis                                                        # noqa: E402
from rooms.resp import ReplyError, Resp                                              # noqa: E402
from rooms.sentinels import Sentinels                                                # noqa: E402

# They take their time to find together.
cluster = Cluster(wait=False)
a, b, sentinels = Redis(password="pw", name="a"), Redis(password="pw", name="b"), []


def refused(ask, code):
    try:
        got = ask()
    except ReplyError as error:
        return tap.is_(error.code, code, "error")
    tap.fail(f"no {code}, but {got!r}")


# --- one server

@tap.case("a Redis answers by TCP, TLS and unix socket, and wants its password")
def _():
    with Redis(tls=True, password="secret") as redis:
        tap.is_(redis.cli("SET", "a", "1"), "OK")
        for address, tls in ((redis.address, None), (redis.sock, None), (("127.0.0.1", redis.tls_port), True)):
            with Resp(address, tls=tls) as client:
                refused(lambda: client("GET", "a"), "NOAUTH")
                client("AUTH", "secret")
                tap.is_(client("GET", "a"), "1")
        tap.is_(redis.url, f"redis://:secret@127.0.0.1:{redis.port}")
        tap.is_(redis.tls_url, f"rediss://:secret@localhost:{redis.tls_port}")
        tap.is_(redis.unix_url, f"unix:{redis.sock}")
        tap.is_(redis.info("persistence")["aof_enabled"], 1, "AOF")
        tap.is_(redis.cli("CONFIG", "GET", "appendfsync")[1], "always")


@tap.case("users of an aclfile, options and another fsync are in force; a server that was closed leaves nothing")
def _():
    acl = "user default on nopass +ping +get ~*\nuser boss on >pw +@all ~* &*\n"
    options = "maxmemory 10mb\nmaxmemory-policy noeviction"
    with Redis(acl=acl, admin=("boss", "pw"), appendfsync="everysec", options=options) as redis:
        with Resp(redis.address) as client:
            refused(lambda: client("SET", "a", 1), "NOPERM")
        tap.is_(redis.cli("SET", "a", 1), "OK")
        tap.is_(redis.client()("CONFIG", "GET", "appendfsync")[1], "everysec")
        tap.is_(redis.info("memory")["maxmemory"], 10 << 20)
        pid, directory = redis.pid, redis.dir
    tap.ok(not process.alive(pid) and not os.path.exists(directory), "process and directory are gone")


@tap.case("data survive a restart and SIGKILL; a paused server answers when it goes on")
def _():
    with Redis() as redis:
        for n, kill in enumerate((False, True)):
            redis.cli("INCR", "n")
            redis.restart(kill=kill)
            tap.is_(redis.cli("GET", "n"), str(n + 1), "after the restart")
        with redis.client() as client:
            redis.pause()
            client.send("INCR", "n")
            tap.is_(client.push(0.05), None, "an answer while paused")
            redis.resume()
            tap.is_(client.push(), 3, "the answer")
            redis.pause()
        redis.stop()
        tap.ok(not redis.is_running(), "a paused one can be stopped")


@tap.case("replies of every kind, errors, pipelines in order, pushes with a time limit, the end of the stream")
def _():
    with Redis(appendfsync=None) as redis, redis.client() as client:
        tap.is_(client("EVAL", "return {1, 'a', {false, {}}}", 0), [1, "a", [None, []]])
        refused(lambda: client("EVAL", "return redis.error_reply('WRONG it is')", 0), "WRONG")
        got = client.pipeline(("SET", "a", b"\xff\r\n"), ("NO",), ("GET", "a"))
        tap.is_([got[0], got[1].code, got[2]], ["OK", "ERR", "\udcff\r\n"])
        tap.is_(Resp(redis.address, decode=False)("GET", "a"), b"\xff\r\n", "octets")
        tap.is_(client("SUBSCRIBE", "c"), ["subscribe", "c", 1])
        tap.is_(client.push(0.02), None, "nothing yet")
        redis.cli("PUBLISH", "c", "x")
        tap.is_(client.push(), ["message", "c", "x"])
        redis.kill()
        try:
            tap.fail(f"after the end came {client.push()!r}")
        except ConnectionError as error:
            tap.like(str(error), "ended")


@tap.case("what a test leaves behind ends with it, even when it is killed")
def _():
    script = ("import sys, os; sys.path.insert(0, sys.argv[1]); from rooms.redis import Redis; from rooms.proxy import Proxy\n"
              "redis = Redis(); proxy = Proxy(redis); print(redis.pid, proxy.process.pid, redis.dir, flush=True); input()")
    child = subprocess.Popen([sys.executable, "-c", script, os.path.dirname(os.path.dirname(nginx.__file__))],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    words = child.stdout.readline().split()
    child.kill()
    child.communicate()
    wait_until(lambda: not any(process.alive(int(pid)) for pid in words[:2]), "its processes to end")
    subprocess.run(["rm", "-r", words[2]], check=True)


# --- the line

@tap.case("a proxy carries to a port and to a unix socket, 20,000 messages in less than two seconds")
def _():
    with Redis(appendfsync=None) as redis:
        for target in (redis, redis.sock):
            with Proxy(target) as proxy, Resp(proxy.address) as reader, Resp(proxy.address) as writer:
                reader("SUBSCRIBE", "c")
                started = time.monotonic()
                for begin in range(0, 20000, 500):
                    replies = writer.pipeline(*(("PUBLISH", "c", f"{n} {'x' * 200}") for n in range(begin, begin + 500)))
                    tap.is_(replies, [1] * 500, "receivers")
                    for n in range(begin, begin + 500):
                        tap.is_(int(reader.push()[2].split()[0]), n, "order")
                tap.ok(time.monotonic() - started < 2 * SCALE, f"took {time.monotonic() - started:.2f} s")
                tap.is_(proxy.stats()["accepted"], 2, "connections")


@tap.case("a black hole swallows both ways, on old connections and new ones; what lost something is reset at its end")
def _():
    with Redis() as redis, Proxy(redis) as proxy, Resp(proxy.address) as idle, Resp(proxy.address) as writer, \
            Resp(proxy.address) as reader:
        reader("SUBSCRIBE", "c")
        idle("PING")
        proxy.black_hole()
        writer.send("SET", "a", 1)
        redis.cli("PUBLISH", "c", "x")
        with Resp(proxy.address) as late:
            late.send("PING")
            for client in (writer, reader, late):
                tap.is_(client.push(0.03), None, "an answer")
                tap.is_(client.wire.ended, None, "the connection is up")
            wait_until(lambda: proxy.stats()["swallowed"] > 60, "three messages to be swallowed")
            proxy.black_hole(False)
            for client in (writer, reader, late):
                client.wire.fill()
                tap.is_(client.wire.ended, "rst", "the end")
        tap.is_(redis.cli("GET", "a"), None, "what was sent into the hole")
        tap.is_(idle("PING"), "PONG", "a connection that lost nothing goes on")
        tap.is_(Resp(proxy.address)("PING"), "PONG", "a new one")


@tap.case("a way can be closed in one direction: a command is obeyed and its answer lost, or never arrives")
def _():
    with Redis() as redis, Proxy(redis) as proxy:
        for direction, wanted in (("down", "1"), ("up", None)):
            with Resp(proxy.address) as client:
                client("DEL", "a")
                proxy.one_way(direction)
                client.send("SET", "a", 1)
                wait_until(lambda: proxy.stats()["swallowed"] > 0 and redis.cli("GET", "a") == wanted, "the command's fate")
                tap.is_(client.push(0.02), None, "an answer")
                proxy.one_way(None)
        tap.is_(Resp(proxy.address)("PING"), "PONG", "afterwards")


@tap.case("a client that goes away in a black hole is not missed by Redis before its end")
def _():
    with Redis() as redis, Proxy(redis) as proxy:
        reader = Resp(proxy.address)
        reader("SUBSCRIBE", "c")
        proxy.black_hole()
        reader.close()
        tap.is_(redis.cli("PUBLISH", "c", "x"), 1, "receivers")
        proxy.black_hole(False)
        wait_until(lambda: redis.cli("PUBLISH", "c", "x") == 0, "the subscription to end")


@tap.case("a cut closes what there is and refuses what comes, until it is mended")
def _():
    with Redis() as redis, Proxy(redis) as proxy, Resp(proxy.address) as client:
        client("PING")
        proxy.cut()
        client.wire.fill()
        tap.ok(client.wire.ended, "the connection ended")
        for _ in range(3):
            with socket.socket() as probe:
                tap.ok(probe.connect_ex(proxy.address) != 0, "a new connection is refused")
        wait_until(lambda: redis.info("clients")["connected_clients"] == 1, "Redis to see it")
        proxy.mend()
        tap.is_(Resp(proxy.address)("PING"), "PONG")
        redis.stop()
        try:
            with Resp(proxy.address) as nowhere:
                nowhere.wire.fill()
                tap.ok(nowhere.wire.ended, "without a Redis behind it a connection ends at once")
        except ConnectionResetError:
            pass


@tap.case("a delay counts each way and keeps the order; another target takes the new connections")
def _():
    with Redis() as redis, Redis() as other, Proxy(redis) as proxy, Resp(proxy.address) as client:
        redis.cli("SET", "name", "first")
        other.cli("SET", "name", "other")
        proxy.delay(40)
        started = time.monotonic()
        tap.is_(client.pipeline(("GET", "name"), ("INCR", "n"), ("INCR", "n")), ["first", 1, 2])
        tap.ok(0.08 <= time.monotonic() - started, "twice the delay")
        proxy.delay(0)
        proxy.retarget(other)
        client.wire.fill()
        tap.ok(client.wire.ended, "the old connection ended")
        tap.is_(Resp(proxy.address)("GET", "name"), "other")


# --- several servers

@tap.case("a replica has everything at once; cut off and promoted, it is another master without the last writes")
def _():
    with Redis(name="master") as master, Redis(name="replica") as replica, Proxy(master) as line:
        master.cli("SET", "a", 1)
        replica.replica_of(master, through=line)
        tap.is_(replica.cli("GET", "a"), "1")
        master.cli("SET", "a", 2)
        master.wait_synced(replica)
        tap.is_(replica.cli("GET", "a"), "2")
        line.cut()
        tap.is_(master.cli("SET", "a", 3), "OK")
        master.kill()
        replica.promote()
        tap.is_(replica.cli("GET", "a"), "2", "the lost write")
        state = replica.info("replication")
        tap.is_(state["role"], "master")
        tap.isnt(state["master_replid"], state["master_replid2"], "its replication id")


@tap.case("three sentinels name the master and move it when told to")
def _():
    b.replica_of(a)
    a.cli("SET", "k", "v")
    sentinels.append(Sentinels(a, [b]))
    watch = sentinels[0]
    tap.like(watch.url("rooms"), r"^sentinel://(127\.0\.0\.1:\d+,){2}127\.0\.0\.1:\d+/rooms$")
    tap.is_(watch.master_address(), a.address)
    tap.ok(watch.failover() is b, "the other one is master")
    tap.is_(watch.master_address(), b.address)
    tap.is_(b.cli("SET", "k", "w"), "OK", "a write")
    watch.wait_replicas()
    tap.is_(a.cli("GET", "k"), "w", "on the former master")
    b.kill()        # for later


KEYS = [f"rooms:{{session:1}}:{n}" for n in range(20)]
taken_over = None


@tap.case("six nodes are a cluster: keys are found, a slot moves while it is used")
def _():
    global taken_over
    cluster.ready()
    tap.is_(cluster.url.count("127.0.0.1"), 6, cluster.url)
    for key in ("foo", "{foo}bar", "{}foo", "a{b}{c}", "a{}{b}", "{{a}}", "a}{b}c", "a{b", "rooms:{session:1}:meta"):
        tap.is_(slot_of(key), cluster.nodes[0].cli("CLUSTER", "KEYSLOT", key), key)
    slot, source = slot_of("session:1"), cluster.node_of(KEYS[0])
    for key in KEYS:
        source.cli("SET", key, key)
    target = next(node for node in cluster.masters() if node is not source)
    refused(lambda: target.cli("GET", KEYS[0]), "MOVED")
    asked = []

    def between():
        for key in KEYS:
            try:
                asked.append(source.cli("GET", key))
            except ReplyError as error:
                asked.append(error.code)
    cluster.move_slot(slot, target, between)
    tap.is_((asked.count("ASK"), len(set(asked))), (10, 11), "keys that had moved at half time")
    tap.ok(cluster.node_of(slot) is target, "the slot has moved")
    tap.is_([target.cli("GET", key) for key in KEYS], KEYS, "its keys")
    replica = cluster.replicas_of(target)[0]
    target.wait_synced(replica)
    taken_over = target, replica, cluster.kill(target, wait=False)


@tap.case("a master that dies is replaced by its sentinels")
def _():
    tap.ok(sentinels[0].wait_other_master(b.address) is a, "the first one is master again")
    tap.is_(a.cli("GET", "k"), "w")


@tap.case("a master of the cluster that dies is replaced by its replica, and becomes that one's")
def _():
    dead, replica, wait = taken_over
    tap.ok(wait() is replica, "the replica took over")
    tap.is_([replica.cli("GET", key) for key in KEYS], KEYS, "its keys")
    dead.start()
    wait_until(lambda: cluster.replicas_of(replica) == [dead], "the former master to be a replica")


# --- the checker

ROOM = "session:r1"


def acks(*positions, room=ROOM, t=0.3):
    """"e1:3" or "e1:3=id" """
    made = []
    for number, text in enumerate(positions):
        position, _, name = text.partition("=")
        epoch, offset = position.split(":")
        made.append(Acknowledged(room, epoch, int(offset), name or position, t + number / 100 - 0.02, t + number / 100))
    return made


def log(*words, c=1, room=ROOM, t=0.5):
    """"start e1:0", "e1:3", "e1:3=id", "gap e2:4", "reset e2:4", "close 1006"; a tenth of a second apart."""
    lines = []
    for number, text in enumerate(words):
        *kind, position = text.split()
        line = {"t": t + number / 10, "c": c, "kind": kind[0] if kind else "event"}
        if line["kind"] == "close":
            line["code"] = int(position)
        else:
            position, _, name = position.partition("=")
            epoch, offset = position.split(":")
            line.update(epoch=epoch, offset=int(offset))
            line.update({"room": room, "reason": ""} if kind else {"id": name or position})
        lines.append(line)
    return lines


def judged(name, acknowledged, lines, settled=True, members=(), **wanted):
    def run():
        verdict = ledger.check(acknowledged, lines, settled, members)
        got = dict(verdict.count, gaps=verdict.gaps, resets=verdict.resets, again=verdict.again, late=verdict.late,
                   forked=len(verdict.forked))
        tap.is_({kind: number for kind, number in got.items() if number}, wanted, "\n".join(verdict.problems()))
        for kind in verdict.WRONGS:
            tap.is_(bool(verdict.cases[kind]), bool(wanted.get(kind)), f"words for {kind}")
    tap.add(f"the checker: {name}", run)


FOUR = acks("e1:1", "e1:2", "e1:3", "e1:4")
judged("all came once and in order: nothing", FOUR, log("start e1:0", "e1:1", "e1:2", "close 1006", "e1:3", "e1:4"))
judged("one that never came is lost", FOUR, log("start e1:0", "e1:1", "e1:3", "e1:4"), lost=1)
judged("two that never came are two", FOUR, log("start e1:0", "e1:1", "e1:4"), lost=2)
judged("one at the end is lost when everything has settled", FOUR, log("start e1:0", "e1:1", "e1:2", "e1:3"), lost=1)
judged("and is not yet lost while it has not", FOUR, log("start e1:0", "e1:1", "e1:2", "e1:3"), settled=False)
judged("what was before the client's first position is not lost", FOUR, log("start e1:3", "e1:4"))
judged("a client that got nothing has lost all", FOUR, log("start e1:0"), lost=4)
judged("a client that never joined has lost all", FOUR, log("close 1006"), members={1: ROOM, 2: "session:r2"}, lost=4)
judged("one that came twice is duplicated, not reordered", FOUR, log("start e1:0", "e1:1", "e1:2", "e1:2", "e1:3", "e1:4"),
       duplicated=1)
judged("one id at two offsets is duplicated", acks("e1:1", "e1:2=e1:1"), log("start e1:0", "e1:1", "e1:2=e1:1"), duplicated=1)
judged("one that came late is reordered, not lost", FOUR, log("start e1:0", "e1:1", "e1:3", "e1:2", "e1:4"), reordered=1)
judged("one that came after a gap that answers for it is reordered", FOUR,
       log("start e1:0", "e1:1", "gap e1:3", "e1:2", "e1:4"), reordered=1, gaps=1)
judged("two under a gap of the same epoch are answered for", FOUR, log("start e1:0", "e1:1", "gap e1:3", "e1:4"), gaps=1)
judged("a gap answers for no more than it says", FOUR, log("start e1:0", "e1:1", "gap e1:2", "e1:4"), gaps=1, lost=1)
judged("a newer epoch's gap answers for all older ones", FOUR + acks("e2:1", "e2:2", t=2),
       log("start e1:0", "e1:1") + log("gap e2:1", "e2:2", t=3), gaps=1)
judged("so does recovered:false", FOUR + acks("e2:1", "e2:2", t=2),
       log("start e1:0", "e1:1", "close 1006") + log("reset e2:1", "e2:2", t=3), resets=1)
judged("but not for its own epoch's newer ones", FOUR + acks("e2:1", "e2:2", t=2),
       log("start e1:0", "e1:1") + log("gap e2:0", "e2:2", t=3), gaps=1, lost=1)
judged("an epoch that no client ever saw is lost", FOUR + acks("e2:1", "e2:2", t=2),
       log("start e1:0", "e1:1", "e1:2", "e1:3", "e1:4"), settled=False, lost=2)
judged("unless a still newer one answers for it", FOUR + acks("e2:1", "e2:2", t=2) + acks("e3:1", t=3),
       log("start e1:0", "e1:1") + log("gap e3:0", "e3:1", t=4), gaps=1)
judged("an event of an epoch that was over is reordered", FOUR + acks("e2:1", t=2),
       log("start e1:0", "e1:1", "e1:2", "e1:3") + log("gap e2:0", "e1:4", "e2:1", t=3), gaps=1, reordered=1)
judged("an id that comes again in a newer epoch is told of, and no duplicate", FOUR + acks("e2:1=e1:4", t=2),
       log("start e1:0", "e1:1", "e1:2", "e1:3", "e1:4") + log("gap e2:0", "e2:1=e1:4", t=3), gaps=1, again=1)
judged("published into the old epoch after the gap: late", FOUR + acks("e2:1", t=2) + acks("e1:5", t=5),
       log("start e1:0", "e1:1", "e1:2", "e1:3", "e1:4") + log("gap e2:0", "e2:1", t=3), gaps=1, late=1)
judged("an offset passed over without an answer to anybody is a hole", acks("e1:1", "e1:3"),
       log("start e1:0", "e1:1", "e1:3"), holes=1)
judged("one offset with two ids: two histories under one name", acks("e1:1", "e1:2"),
       log("start e1:0", "e1:1", "e1:2") + log("start e1:0", "e1:1", "e1:2=x", c=2), forked=1, lost=1)
judged("one offset acknowledged twice: who has the one has lost the other", acks("e1:1", "e1:2", "e1:2=x"),
       log("start e1:0", "e1:1", "e1:2"), forked=1, lost=1)
judged("unless a newer epoch answers for it", acks("e1:1", "e1:2", "e1:2=x"), log("start e1:0", "e1:1", "e1:2", "gap e2:0"),
       forked=1, gaps=1)
judged("each of two clients has its own account", FOUR,
       log("start e1:0", "e1:1", "e1:2", "e1:3", "e1:4", c=1) + log("start e1:0", "e1:1", "e1:2", "e1:4", "e1:4", c=2),
       lost=1, duplicated=1)


@tap.case("the checker: words say which client, which offsets, and what it had")
def _():
    verdict = ledger.check(acks("e1:1", "e1:2", "e1:3", t=1.1), log("start e1:0", "e1:1", t=1) + log("e1:4", t=2),
                           name=lambda number: f"client {number} at host 7")
    tap.like("\n".join(verdict.problems()), "^lost: client 1 at host 7 of session:r1: offsets 2 to 3 of epoch e1 .*acknowledged "
                                            r"at 1\.110 to 1\.120, never came; it had start e1:0 .*event e1:4")


@tap.case("the checker: the longest silence of all and of one, and who is behind or untold")
def _():
    lines = log("start e1:0", "e1:1", t=0.9) + log("e1:2", t=3) + log("e1:3", "e1:4", t=3.1)
    verdict = ledger.check(acks("e1:1", t=1) + acks("e1:2", "e1:3", "e1:4", t=2), lines)
    tap.is_((round(verdict.silence, 2), round(verdict.silence_at, 2), round(verdict.worst, 2)), (2.0, 1.0, 1.18),
            "silence, its begin, the longest wait")
    tap.like(verdict.worst_case, "client 1 of session:r1, offset 4 of epoch e1")
    tap.is_(ledger.behind(FOUR, lines), {}, "behind")
    tap.is_(ledger.behind(FOUR, lines[:-1]), {1: ((0, 3), (0, 4))}, "behind")
    tap.is_(ledger.untold_since(log("gap e1:1", c=1) + log("gap e1:1", c=2, t=9), 5), {1}, "untold")


# --- the swarm and the publisher, before a server that keeps to a script

def listening(serve):
    """A port where serve(socket) runs in a thread of its own for each connection."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", nginx.free_port()))
    listener.listen(64)

    def accept():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()
    return listener


class Host:
    """What Swarm and Publisher want to know of an nginx."""

    def __init__(self, listener, directory):
        self.listener, self.port, self.dir = listener, listener.getsockname()[1], directory

    def path(self, name):
        return os.path.join(self.dir, name)


def event(room, offset, epoch="e1"):
    return {"type": "x", "room": room, "offset": offset, "id": f"{room}.{epoch}.{offset}"}


def subscribed(offset, epoch="e1", **more):
    return dict({"type": "subscribed", "epoch": epoch, "offset": offset}, **more)


UNAVAILABLE = {"type": "error", "code": "unavailable", "retryable": True}
# By room: for each socket what it brings; None: the next subscribe is awaited.
SCRIPT = {
    "good": [[subscribed(3), 4, 5], [subscribed(5, recovered=True), 6], [subscribed(6, recovered=True), 7]],
    "waits": [[UNAVAILABLE, None, UNAVAILABLE, None, subscribed(0), 1]],
    "gap": [[subscribed(0), 1, {"type": "gap", "epoch": "e2", "offset": 7, "reason": "trimmed"}, 8]],
    "reset": [[subscribed(0), 1], [subscribed(5, "e2", recovered=False), 6]],
    "hole": [[subscribed(0), 1, 3]],
    "repeat": [[subscribed(0), 1, 2, 2, 3]],
    "late": [[subscribed(0), 1, 3, 2, 4]],
}


@tap.case("the swarm logs what it is given: events, gaps, resets, retries on the same socket, and what should not be")
def _():
    names, asked, sockets = list(SCRIPT), {}, {}

    def serve(connection):
        buffer = b""

        def frame():
            nonlocal buffer
            while True:
                if len(buffer) > 1:
                    size, head = buffer[1] & 0x7F, 6
                    if size == 126:
                        size, head = int.from_bytes(buffer[2:4], "big"), 8
                    if len(buffer) >= head + size:
                        got, buffer = buffer[head:head + size], buffer[head + size:]
                        return json.loads(got)
                octets = connection.recv(65536)
                if not octets:
                    raise ConnectionError
                buffer += octets

        def say(message):
            connection.sendall(ws.frame(ws.TEXT, json.dumps(message), mask=None))
        while b"\r\n\r\n" not in buffer:
            buffer += connection.recv(65536)
        key = re.search(rb"Sec-WebSocket-Key: (\S+)", buffer)[1].decode()
        buffer = buffer.partition(b"\r\n\r\n")[2]
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                           b"Sec-WebSocket-Accept: " + ws.accept_of(key).encode() + b"\r\n\r\n")
        say({"type": "connected"})
        message = frame()
        room = message["room"]
        name = names[int(room[len("session:r"):])]
        asked.setdefault(name, []).append(message.get("since"))
        turn = sockets[name] = sockets.get(name, 0) + 1
        epoch = "e1"
        for step in SCRIPT[name][turn - 1]:
            if step is None:
                asked[name].append(frame().get("since"))
            elif isinstance(step, int):
                say(event(room, step, epoch))
            else:
                epoch = step.get("epoch", epoch)
                say(dict(step, room=room))
        if turn == 1 < len(SCRIPT[name]):
            connection.close()
        else:
            connection.recv(1)

    listener = listening(serve)
    host = Host(listener, plain.dir)
    swarm = Swarm(host, 10, len(names), room_size=1, first_room=0)
    wanted = sum(isinstance(step, int) for turns in SCRIPT.values() for steps in turns for step in steps)
    try:
        wait_until(lambda: swarm.received == wanted - 1 and swarm.live == len(names), f"{wanted - 1} events")
        swarm.leave([10, 12])
        wait_until(lambda: swarm.live == len(names) - 2, "two to be away")
        SCRIPT["gap"].append([subscribed(8, "e2", recovered=True)])
        swarm.come_back()
        wait_until(lambda: swarm.received == wanted and swarm.live == len(names), "them to be back")
    finally:
        swarm.stop()
        listener.close()
    tap.is_((swarm.gaps, swarm.resets, swarm.unavailable, swarm.closes), (1, 1, 2, 2), "gaps, resets, unavailable, closes")
    tap.is_(asked["good"], [None, {"epoch": "e1", "offset": 5}, {"epoch": "e1", "offset": 6}], "positions it came back with")
    tap.is_(asked["gap"], [None, {"epoch": "e2", "offset": 8}], "after a gap")
    tap.is_((asked["waits"], sockets["waits"]), ([None] * 3, 1), "what was unavailable is asked for again on the same socket")
    lines = swarm.lines()
    tries = [line["t"] for line in lines if line["kind"] in ("unavailable", "start") and line["c"] == 11]
    tap.ok(all(0.09 < after - before < 0.4 * SCALE for before, after in zip(tries, tries[1:])), f"between tries: {tries}")
    room = {name: f"session:r{number}" for number, name in enumerate(names)}
    answers = [Acknowledged(room[name], epoch, offset, f"{room[name]}.{epoch}.{offset}", 0, 0) for name, epoch, offsets in
               (("good", "e1", (4, 5, 6, 7)), ("waits", "e1", (1,)), ("gap", "e1", (1, 2)), ("gap", "e2", (8,)),
                ("reset", "e1", (1, 2)), ("reset", "e2", (6,)), ("hole", "e1", (1, 2, 3)), ("repeat", "e1", (1, 2, 3)),
                ("late", "e1", (1, 2, 3, 4)))
               for offset in offsets]
    verdict = ledger.check(answers, lines)
    tap.is_(dict(verdict.count), {"lost": 1, "duplicated": 1, "reordered": 1}, "\n".join(verdict.problems()))
    tap.like(verdict.cases["lost"][0], f"client 14 of {room['hole']}: offset 2 ")
    tap.like(verdict.cases["duplicated"][0], f"client 15 of {room['repeat']}")
    tap.like(verdict.cases["reordered"][0], f"client 16 of {room['late']}")
    tap.is_((verdict.gaps, verdict.resets, verdict.unavailable, verdict.closes[1006]), (1, 1, 2, 2), "the checker's counts")


@tap.case("the publisher goes on with the same id, at the next host, until it has a 200, and takes the epoch that it names")
def _():
    seen = []

    def serve(which):
        def one(connection):
            wire = connection.makefile("rwb")
            while True:
                size = 0
                for line in iter(wire.readline, b"\r\n"):
                    if not line:
                        return
                    if line.lower().startswith(b"content-length:"):
                        size = int(line.split(b":")[1])
                name = json.loads(wire.read(size))["id"]
                tries = sum(name == other for _, other in seen)
                seen.append((which, name))
                if tries == 1:      # taken, and the answer is lost
                    return connection.close()
                body = b'{"error":{}}' if tries == 0 else b'{"epoch":"old","offset":%d,"duplicate":true}' % len(seen)
                status = b"503 No" if tries == 0 else b"200 OK"
                wire.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))
                wire.flush()
        return one
    hosts = [Host(listening(serve(which)), plain.dir) for which in range(2)]
    publisher = Publisher(hosts, rooms=3, rate=1000, prime=True)
    wait_until(lambda: publisher.count >= 6 or publisher.error, "publications")
    publisher.finish()
    for host in hosts:
        host.listener.close()
    tries = [[which for which, other in seen if other == one.id] for one in publisher.log]
    tap.is_([len(found) for found in tries], [3] * len(tries), "tries")
    tap.ok(all(found in ([0, 1, 0], [1, 0, 1]) for found in tries), f"hosts: {tries}")
    tap.is_({one.epoch for one in publisher.log}, {"old"}, "epochs")
    tap.is_({one.room for one in publisher.log[:3]}, {f"session:r{n}" for n in range(3)}, "first one into each room")
    tap.is_((publisher.duplicates, sum(status == 503 for status, _ in publisher.refused)), (len(tries), len(tries)))
    tap.ok(all(one.t_sent < one.t_ack for one in publisher.log), "times")
    tap.is_(publisher.twice, [], "offsets given twice")


plain = nginx.Nginx(module=False, files={"secret": jwt.SECRET}, start=False)
tap.run()

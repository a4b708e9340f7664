#!/usr/bin/python3
"""The servers behind rooms_redis: TLS with verified names, users and passwords, databases, names, sentinels that fail
over, a cluster whose slots move and whose masters die."""
import os
import re
import socket
import subprocess
import sys
import threading
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import ROOT, SCALE, http, jwt, tap, wait_until      # noqa: E402
from rooms.backend import publish_surely                       # noqa: E402
from rooms.cluster import Cluster, slot_of                     # noqa: E402
from rooms.nginx import Nginx                                  # noqa: E402
from rooms.page import new_room, open_page                     # noqa: E402
from rooms.redis import Redis                                  # noqa: E402
from rooms.resp import Resp                                    # noqa: E402
from rooms.sentinels import Sentinels                          # noqa: E402

LOCATIONS = """
    location = /ws      { rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_allow *; rooms_rate 5000/10s; }
    location = /publish { rooms_publish; }
    location = /status  { rooms_status; }
"""
cluster = Cluster(wait=False)       # its nodes take their time to find together


def host(directive, name, files=None, **more):
    return Nginx(LOCATIONS, http="keepalive_requests 100000; rooms_history * size=5000;" + directive, files=dict({"secret": jwt.SECRET}, **(files or {})),
                 name=name, **more)


def join(socket, room, **more):
    """Tries again while Redis is not there yet."""
    def joined():
        socket.send_json(type="subscribe", room=room, **more)
        got = socket.wait_for(room=room)
        tap.in_(got.get("code"), (None, "unavailable"))
        return got if got["type"] == "subscribed" else None
    return wait_until(joined, f"a place in {room}", 10 * SCALE)


def works(server, other=None):
    """Members on each worker of the hosts get what the others publish."""
    room = new_room()
    sockets = [open_page(one, worker=pid) for one in (server, other) if one for pid in one.workers()]
    for socket in sockets:
        join(socket, room)
    for n in range(1, 4):
        publish_surely(server, room, n)
    for socket in sockets:
        for n in range(1, 4):
            socket.expect(offset=n, n=n)
        socket.expect_nothing()
        socket.close()
    wait_until(lambda: http.request(server, "GET", "/status?health").status == 200, "health", 5 * SCALE)


def never_works(server, pattern):
    wait_until(lambda: re.search(pattern, server.log()), f"the log to say {pattern}", 5 * SCALE)
    response = http.publish(server, {"room": "session:1", "type": "x"}, expect=None)
    tap.is_(response.status, 503, "status")
    tap.unlike(response.text, r"127\.0\.0\.1|localhost|\d{4,}|certificate|WRONGPASS|AUTH|READONLY", "what a backend is told of it")
    wait_until(lambda: http.request(server, "GET", "/status?health").status == 503, "health to be 503", 6 * SCALE)


# --- one server

@tap.case("S74: rediss:// with the certificate's authority and name works; TCP, unix socket and database besides")
def _():
    with Redis(tls=True) as redis:
        ca = redis.path("server.crt")
        for directive, name in ((f"rooms_redis {redis.tls_url} ca={ca};", "TLS"), (f"rooms_redis {redis.url}/3 prefix=p;", "db 3"),
                                (f"rooms_redis {redis.unix_url} db=4;", "a unix socket")):
            server = host(directive, name)
            works(server)
            tap.is_(server.stop(), [], "problems")
        with redis.client() as client:
            for db, prefix in ((0, "rooms"), (3, "p"), (4, "rooms")):
                client("SELECT", db)
                tap.ok(any(key.startswith(prefix + ":{session:") for key in client("KEYS", "*")), f"keys in {db}")


@tap.case("S74: rediss://: an unknown authority or another name is refused, and the log says why")
def _():
    with Redis(tls=True) as redis:
        server = host(f"rooms_redis {redis.tls_url};", "an unknown authority")
        never_works(server, r"\[error\].*cannot be reached: .*certificate")
        tap.is_(server.stop(), [], "problems")
        redis.stop()
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:other.example,IP:10.9.8.7",
                        "-keyout", redis.path("server.key"), "-out", redis.path("server.crt")], check=True, capture_output=True)
        redis.start()
        for url, name in ((redis.tls_url, "a name"), (redis.tls_url.replace("localhost", "127.0.0.1"), "an address")):
            server = host(f"rooms_redis {url} ca={redis.path('server.crt')};", f"{name} that is not in the certificate")
            never_works(server, r"\[error\].*cannot be reached: .*certificate")
            tap.is_(server.stop(), [], "problems")


@tap.case("S65: a password from a file and a user's name log in; a wrong one is told to the log, never shown, and to nobody else")
def _():
    acl = "user default off\nuser web on >correct-horse-battery ~* &* +@all\nuser boss on >pw ~* &* +@all\n"
    with Redis(acl=acl, admin=("boss", "pw")) as redis:
        plain = f"redis://127.0.0.1:{redis.port}"
        server = host(f"rooms_redis {plain} user=web password_file=@DIR@/pw;", "a password file", {"pw": "correct-horse-battery\n"})
        works(server)
        tap.is_(server.stop(), [], "problems")
        server = host(f"rooms_redis redis://web:correct-horse-battery@127.0.0.1:{redis.port};", "a password in the URL")
        works(server)
        status = http.request(server, "GET", "/status").text
        tap.unlike(status + server.log(), "correct-horse", "the password")
        tap.is_(server.stop(), [], "problems")
        server = host(f"rooms_redis {plain} user=web password_file=@DIR@/pw;", "a wrong password", {"pw": "wrong-horse-battery\n"})
        never_works(server, r"\[error\].*cannot be reached: WRONGPASS")
        tap.unlike(server.log(), "wrong-horse", "the password")
        tap.is_(server.stop(), [], "problems")


@tap.case("a server that repeats the login in its refusal: the password does not reach the log")
def _():
    with Redis(options='rename-command AUTH ""') as redis:
        server = host(f"rooms_redis redis://web:TOPSECRET-PASSWORD@127.0.0.1:{redis.port};", "no AUTH")
        never_works(server, r"\[error\].*cannot be reached: ERR the login is refused")
        tap.unlike(server.log(), "TOPSECRET", "the password")
        tap.is_(server.stop(), [], "problems")


@tap.case("S73: the ACL of docs/redis.md is enough for nginx, and for a publisher, and for nothing else")
def _():
    text = open(os.path.join(ROOT, "docs/redis.md"), encoding="utf-8").read()
    acl = "".join(re.findall(r"^```acl\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    acl = acl.replace(">CHANGE-ME-1", ">" + "n" * 32).replace(">CHANGE-ME-2", ">" + "p" * 32)
    with Redis(acl=acl + "user boss on >pw ~* &* +@all\n", admin=("boss", "pw")) as redis:
        server = host(f"rooms_redis redis://127.0.0.1:{redis.port} user=nginx password_file=@DIR@/pw;", "the ACL", {"pw": "n" * 32})
        works(server)
        room = new_room()
        script = open(os.path.join(ROOT, "src/store/publish.lua"), encoding="utf-8").read()
        base = f"rooms:{{{room}}}"
        with open_page(server) as socket, Resp(redis.address, user="publisher", password="p" * 32) as client:
            join(socket, room)
            tap.is_(client("EVAL", script, 2, base + ":meta", base + ":stream", '{"type":"x","n":1}')[0], "ok")
            socket.expect(type="x", n=1, offset=1, room=room, sessionId=room.split(":")[1])
            for words in (("GET", "x"), ("FLUSHALL",), ("CONFIG", "GET", "*"), ("KEYS", "*"), ("PUBLISH", "other", "x"),
                          ("SET", "other", 1), ("SUBSCRIBE", base + ":events")):
                try:
                    client(*words)
                except Exception as error:
                    tap.is_(error.code, "NOPERM", str(words))
                else:
                    tap.fail(f"the publisher may {words}")
        with Resp(redis.address, user="nginx", password="n" * 32) as client:
            for words in (("FLUSHALL",), ("CONFIG", "GET", "*"), ("KEYS", "*"), ("SET", "other", 1), ("SUBSCRIBE", "other"),
                          ("SHUTDOWN",), ("DEBUG", "SLEEP", 0), ("ACL", "LIST")):
                try:
                    client(*words)
                except Exception as error:
                    tap.is_(error.code, "NOPERM", str(words))
                else:
                    tap.fail(f"nginx may {words}")
        tap.unlike(server.log(), "NOPERM")
        tap.is_(server.stop(), [], "problems")


@tap.case("a replica is not written to: the log says so, and it is used once it is promoted")
def _():
    with Redis() as master, Redis() as replica:
        replica.replica_of(master)
        server = host(f"rooms_redis {replica.url};", "a replica")
        never_works(server, r"\[error\].*cannot be reached: READONLY it is a replica")
        replica.promote()
        works(server)
        # And a master that is demoted while we are connected.
        replica.replica_of(master)
        never_works(server, r"\[error\].*lost: READONLY")
        tap.is_(server.stop(), [], "problems")


@tap.case("what is no Redis at all is told as such")
def _():
    plain = Nginx("location / { return 200; }", module=False, name="a web server")
    server = host(f"rooms_redis redis://127.0.0.1:{plain.port};", "no Redis")
    never_works(server, r"\[error\].*cannot be reached: it does not speak RESP")
    tap.is_(server.stop() + plain.stop(), [], "problems")


# --- names

class Names:
    """A DNS server for one name: says `address`, or nothing while that is None."""

    def __init__(self, address):
        self.address, self.asked = address, 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            question, peer = self.socket.recvfrom(512)
            self.asked += 1
            if self.address is None:
                continue
            end = question.index(b"\0", 12) + 5
            is_a = question[end - 4:end - 2] == b"\0\1"
            answer = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + socket.inet_aton(self.address) if is_a else b""
            self.socket.sendto(question[:2] + b"\x81\x80\0\1" + (b"\0\1" if is_a else b"\0\0") + b"\0\0\0\0" +
                               question[12:end] + answer, peer)


def forward(port, target):
    """Takes connections at 127.0.0.2 and leads them to a Redis."""
    def carry(one, other):
        try:
            while octets := one.recv(65536):
                other.sendall(octets)
        except OSError:
            pass
        other.close()

    def take():
        while True:
            near, _ = listener.accept()
            far = socket.create_connection(target)
            for pair in ((near, far), (far, near)):
                threading.Thread(target=carry, args=pair, daemon=True).start()
    listener = socket.create_server(("127.0.0.2", port))
    threading.Thread(target=take, daemon=True).start()


@tap.case("with a resolver a name is looked up again at each reconnect: a server that has moved is found")
def _():
    names = Names("127.0.0.1")
    with Redis() as old, Redis() as new:
        forward(old.port, new.address)
        server = host(f"resolver 127.0.0.1:{names.port} ipv6=off; rooms_redis redis://localhost:{old.port};", "a name")
        works(server)
        tap.ok(names.asked > 0, "the resolver was asked")
        names.address = "127.0.0.2"
        old.kill()
        works(server)
        tap.ok(new.cli("DBSIZE") > 0, "the new server has keys")
        tap.is_(server.stop(), [], "problems")


@tap.case("a resolver that never answers holds up nothing but Redis: 503 in time, all else at once")
def _():
    names = Names(None)
    with Redis() as redis:
        server = host(f"resolver 127.0.0.1:{names.port} ipv6=off; resolver_timeout 30s; "
                      f"rooms_redis redis://localhost:{redis.port};", "a silent resolver")
        wait_until(lambda: names.asked > 0, "the resolver to be asked")
        slowest = {"publish": 0, "status": 0}
        for _ in range(3):
            for name, ask in (("publish", lambda: http.publish(server, {"room": "session:1", "type": "x"}, expect=None).status),
                              ("status", lambda: http.request(server, "GET", "/status").status)):
                began = time.monotonic()
                tap.is_(ask(), 503 if name == "publish" else 200, name)
                slowest[name] = max(slowest[name], time.monotonic() - began)
        tap.ok(slowest["publish"] < 1.0 * SCALE and slowest["status"] < 0.2 * SCALE, f"slowest answers: {slowest}")
        tap.is_(server.stop(), [], "problems")


# --- sentinels

@tap.case("sentinels: the master is found; +switch-master is followed; a killed master is replaced; no page notices")
def _():
    a, b = Redis(name="a"), Redis(name="b")
    b.replica_of(a)
    a.wait_synced(b)
    with Sentinels(a, [b]) as sentinels:
        server = host(f"rooms_redis {sentinels.url()};", "sentinels")
        works(server)
        room = new_room()
        sockets = [open_page(server, worker=pid) for pid in server.workers()]
        epoch = [join(socket, room)["epoch"] for socket in sockets][0]
        total = 0

        def more():
            nonlocal total
            for _ in range(5):
                total += 1
                publish_surely(server, room, total)
            for socket in sockets:
                for n in range(total - 4, total + 1):
                    socket.expect(offset=n, n=n)
        more()
        new = sentinels.failover()
        more()
        tap.is_(server.log().count("is replaced by"), 2, "lines of the log, one for each worker")
        sentinels.wait_replicas()
        before = sentinels.master_address()
        new.kill()
        started = time.monotonic()
        sentinels.wait_other_master(before)
        failed_over = time.monotonic()
        more()
        tap.diag(f"failover after {failed_over - started:.1f} s, all events {time.monotonic() - failed_over:.2f} s later")
        for socket in sockets:
            socket.expect_nothing()
            socket.close()
        with open_page(server) as socket:
            tap.is_(join(socket, room, since={"epoch": epoch, "offset": 0})["recovered"], True, "recovered")
        # A sentinel that is gone is no harm.
        sentinels.all[0].kill()
        works(server)
        tap.is_(server.stop(), [], "problems")
    for one in (a, b):
        one.close()


@tap.case("sentinels that know no such master are told in the log")
def _():
    with Redis() as a, Sentinels(a, [], count=1) as sentinels:
        server = host(f"rooms_redis {sentinels.url('other')};", "an unknown master")
        never_works(server, r'\[error\].*sentinel .*knows no master "other"')
        tap.is_(server.stop(), [], "problems")


# --- a cluster

def rooms_of(node, count):
    found = []
    while len(found) < count:
        room = new_room()
        if cluster.node_of(f"rooms:{{{room}}}:meta") is node:
            found.append(room)
    return found


@tap.case("cluster: rooms on all masters, on two hosts, by sharded pub/sub")
def _():
    global first, second
    cluster.ready()
    first = host(f"rooms_redis {cluster.url};", "cluster, host 1")
    second = host(f"rooms_redis cluster://127.0.0.1:{cluster.nodes[1].port};", "cluster, host 2")
    for node in cluster.masters():
        room = rooms_of(node, 1)[0]
        sockets = [open_page(one, worker=pid) for one in (first, second) for pid in one.workers()]
        for socket in sockets:
            join(socket, room)
        for n in range(1, 6):
            publish_surely((first, second)[n % 2], room, n)
        for socket in sockets:
            for n in range(1, 6):
                socket.expect(offset=n, n=n)
            socket.expect_nothing()
        tap.is_(node.client()("PUBSUB", "SHARDNUMSUB", f"rooms:{{{room}}}:events")[1], 4, "sharded subscriptions")
        sockets[0].send_json(type="presence", room=room)
        tap.is_(sockets[0].wait_for(type="presence")["count"], 4, "presence")
        for socket in sockets:
            socket.close()


@tap.case("cluster: a slot that moves under load takes its rooms along: nothing lost, nothing twice, no gap")
def _():
    source, target = cluster.masters()[:2]
    room = rooms_of(source, 1)[0]
    slot = slot_of(f"{{{room}}}")
    sockets = [open_page(one, worker=pid) for one in (first, second) for pid in one.workers()]
    epochs = {join(socket, room)["epoch"] for socket in sockets}
    sent, ending, broken = [], threading.Event(), []

    def writer(server, name):
        try:
            n = 0
            while not ending.is_set():
                n += 1
                publish_surely(server, room, f"{name}{n}")
                sent.append(f"{name}{n}")
        except BaseException as error:
            broken.append(error)
    threads = [threading.Thread(target=writer, args=(one, f"{i}.")) for i, one in enumerate((first, second))]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(sent) > 50 or broken, "the first publications")
    for to in (target, source, target):
        cluster.move_slot(slot, to)
        before = len(sent)
        wait_until(lambda: len(sent) > before + 50 or broken, "publications after a move")
    ending.set()
    for thread in threads:
        thread.join()
    tap.is_(broken, [], "publishers that failed")
    tap.is_(len(epochs), 1, "epochs")
    for socket in sockets:
        got = [socket.recv_json() for _ in sent]
        tap.is_([m["offset"] for m in got], list(range(1, len(sent) + 1)), "offsets")
        tap.is_(sorted(m["n"] for m in got), sorted(sent), "what came")
        socket.expect_nothing()
        socket.close()
    tap.diag(f"{len(sent)} events")


@tap.case("cluster: while a slot is on its way and its keys are at the other node already, members hear within 5 s")
def _():
    source, target = cluster.masters()[:2]
    room = rooms_of(source, 1)[0]
    slot = slot_of(f"{{{room}}}")
    socket = open_page(first)
    join(socket, room)
    publish_surely(first, room, 1)
    socket.expect(offset=1, n=1)
    target.cli("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
    source.cli("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
    for key in source.cli("CLUSTER", "GETKEYSINSLOT", slot, 100):
        source.cli("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
    http.publish(first, {"room": room, "type": "x", "data": {"n": 2}})    # with an id it would wait for the end of the move
    socket.expect(offset=2, n=2)
    tap.is_(http.request(first, "GET", "/status?health").status, 200, "health")
    cluster.move_slot(slot, target)
    publish_surely(second, room, 3)
    socket.expect(offset=3, n=3)
    socket.expect_nothing()
    socket.close()


@tap.case("cluster: a master that dies is replaced by its replica: its rooms go on by themselves, the others never stop")
def _():
    victim, other = cluster.masters()[1:3]
    mine, elsewhere = rooms_of(victim, 1)[0], rooms_of(other, 1)[0]
    sockets = [open_page(one, worker=pid) for one in (first, second) for pid in one.workers()]
    for socket in sockets:
        join(socket, mine)
        join(socket, elsewhere)
    for n in range(1, 4):
        publish_surely(first, mine, n)
    victim.wait_synced(*cluster.replicas_of(victim))
    taken_over = cluster.kill(victim, wait=False)
    for n in range(1, 4):
        http.publish(second, {"room": elsewhere, "type": "x", "data": {"n": n}})
    tap.is_(http.publish(first, {"room": mine, "type": "x"}, expect=None).status, 503, "while nobody has the slot")
    taken_over()
    for n in range(4, 7):
        publish_surely(second, mine, n)
    for socket in sockets:
        got = [socket.recv_json() for _ in range(9)]
        tap.is_([m["n"] for m in got if m["room"] == elsewhere], [1, 2, 3], "the other room")
        tap.is_([m["n"] for m in got if m["room"] == mine], [1, 2, 3, 4, 5, 6], "the dead master's room")
        socket.expect_nothing()
        socket.close()
    for one in (first, second):
        works(one)


tap.run()

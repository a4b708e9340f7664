#!/usr/bin/python3
"""Heartbeats, slow readers, reload, quit, kill, upgrade of the binary: who is told what, and what nobody loses."""
import os
import re
import signal
import socket as sockets
import subprocess
import sys
import threading
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import ASAN, SCALE, http, jwt, tap, wait_until, ws             # noqa: E402
from rooms.load import Publisher, Swarm, all_live, all_received, compare  # noqa: E402
from rooms.process import children, open_files, title              # noqa: E402
from rooms.nginx import BINARY, Nginx, workers_of                         # noqa: E402
from rooms.page import join, new_room, open_page, presence                # noqa: E402
from rooms.processor import processor                                     # noqa: E402

DRAIN = 1.2
HTTP = """
    rooms_zone life:64m;
    rooms_history session:* size=5000 ttl=10m;
    log_format socket '$uri status=$status code=$rooms_close_code in=$rooms_messages_in out=$rooms_messages_out '
                      'joined=$rooms_joined user=$rooms_user';
    client_max_body_size 8m; keepalive_requests 1000000;
"""
COMMON = "rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_allow session:*;"
LOCATIONS = f"""
    location = /ws       {{ {COMMON} rooms_drain 1200ms; rooms_rate 10000/10s; }}
    location = /beat     {{ {COMMON} rooms_heartbeat 400ms timeout=400ms; }}
    location = /slow     {{ {COMMON} rooms_send_queue 64k; }}
    location = /stall    {{ {COMMON} rooms_send_queue 64m; rooms_heartbeat 10s timeout=600ms; }}
    location = /upgrade  {{ {COMMON} rooms_access_log upgrade; rooms_drain 1200ms; }}
    location = /publish  {{ rooms_publish; }}
    location = /status   {{ rooms_status; }}
"""
OPTIONS = dict(http=HTTP, server="access_log @DIR@/access.log socket;", files={"secret": jwt.SECRET})

server = Nginx(LOCATIONS, tls=True, name="nginx", **OPTIONS)


def page(path="/ws", on=None, **options):
    return open_page(on or server, path=path, **options)


def publish(room, n=None, on=None, **data):
    return http.publish(on or server, {"room": room, "type": "x", "data": dict(data, n=n)})


def logged(user, since, code):
    """The one access line of this user's socket."""
    found = server.wait_access_log(rf"^\S+ status=101 code={code} .*user={user}$", since=since)
    lines = re.findall(rf"^\S+ status=101 .*user={user}$", server.access_log()[since:], re.M)
    tap.is_(len(lines), 1, f"access lines of {user}")
    return found[0]


# --- heartbeat

@tap.case("the server pings a silent peer, and one that answers stays")
def _():
    with page("/beat") as socket:
        begun = time.monotonic()
        while socket.pings < 4:
            try:
                socket.recv(0.3)
            except ws.Closed:
                raise
            except AssertionError:
                pass
            tap.ok(time.monotonic() < begun + 4 * SCALE, "four pings in time")
        tap.ok(time.monotonic() > begun + 4 * 0.4 - 0.1, "no more than one ping each 400 ms")
        socket.close()


@tap.case("one that talks is not pinged")
def _():
    with page("/beat") as socket:
        end = time.monotonic() + 1
        while time.monotonic() < end:
            socket.send_json(type="ping")
            socket.expect(type="pong")
            time.sleep(0.04)
        tap.is_(socket.pings, 0, "pings")


def silent(vanish):
    room, since = new_room(), len(server.access_log())
    with page() as asker:
        socket = page("/beat", user=f"silent{room}")
        join(socket, room)
        socket.auto_pong = False
        begun = time.monotonic()
        tap.is_(presence(asker, room)[1], 1, "present")
        vanish(socket)
        wait_until(lambda: presence(asker, room)[1] == 0, "it to be gone", 4 * SCALE)
        took = time.monotonic() - begun
        tap.ok(took < 0.8 + 0.4 * SCALE, f"gone after {took:.2f} s")
        logged(f"silent{room}", since, 1006)


def answers_nothing(socket):
    frame = socket.next_frame()
    tap.is_(frame.opcode, ws.PING, "what comes first")
    tap.is_(socket.next_frame(), None, "what comes then")


def vanishes(socket):
    # In repair mode the kernel forgets the socket without FIN or RST.
    try:
        socket.wire.sock.setsockopt(sockets.IPPROTO_TCP, 19, 1)
    except PermissionError:
        tap.skip("TCP_REPAIR needs root")
    socket.wire.sock.close()


tap.add("a peer that answers nothing is gone within heartbeat + timeout, with 1006", silent, answers_nothing)
tap.add("one that vanished without FIN is gone as soon, from presence too", silent, vanishes)


# --- slow readers

def drain_until_end(socket):
    """What a reader that comes back late still gets: (the offsets of events, the close code or None)."""
    got = []
    while True:
        try:
            message = socket.recv_json()
        except ws.Closed as end:
            return got, socket.closed.code if socket.closed else None, end
        except AssertionError as end:
            # Who reads later than the close timeout has what the kernel still had.
            tap.like(str(end), "^stream ended inside", "its end")
            return got, None, end
        got.append(message["offset"])


def slow_reader(**options):
    room, since = new_room(), len(server.access_log())
    fast = [page("/slow", user="fast", **options) for _ in range(19)]
    slow = page("/slow", user=f"slow{room}", rcvbuf=4096, **options)
    for socket in fast + [slow]:
        epoch = join(socket, room)["epoch"]
    wrong = []
    published, total = 0, None

    have = [0] * len(fast)

    def read(n, socket):
        try:
            while have[n] != total:
                socket.expect(offset=have[n] + 1, n=have[n])
                have[n] += 1
        except Exception as error:
            wrong.append(error)
    readers = [threading.Thread(target=read, args=(n, socket)) for n, socket in enumerate(fast)]
    with page() as asker:
        try:
            for thread in readers:
                thread.start()
            while published < 3000 and (published % 20 or presence(asker, room)[1] == 20):
                publish(room, published, fill="x" * 6000)
                published += 1
                # They are threads of one interpreter: no faster than they read.
                wait_until(lambda: wrong or min(have) > published - 8, "the others to read")
            tap.is_((presence(asker, room)[1], wrong), (19, []), "members after the slow one's queue ran over")
            for _ in range(20):
                publish(room, published)
                published += 1
        finally:
            total = published + 1       # before they get the last one
            publish(room, published)
            published = total
            for thread in readers:
                thread.join(20 * SCALE)
        tap.is_(wrong, [], "what the others noticed")
        got, code, end = drain_until_end(slow)
        tap.is_(got, list(range(1, len(got) + 1)), "what the slow one got before its end")
        tap.ok(len(got) < published - 20, "it missed some")
        tap.in_(code, {4101, None}, "its close code")
        slow.wire.close()
        logged(f"slow{room}", since, 4101)
        with page("/stall", user="slow", **options) as again:
            tap.is_(join(again, room, since={"epoch": epoch, "offset": len(got)})["recovered"], True, "recovered")
            for n in range(len(got), published):
                again.expect(offset=n + 1, n=n)
            again.expect_nothing()
    for socket in fast:
        socket.drop()
    return code


@tap.case("a slow reader among twenty is closed with 4101 and comes back by position; the others never notice")
def _():
    tap.is_(slow_reader(), 4101, "the Close that it reads at last")


@tap.case("the same over TLS")
def _():
    slow_reader(tls=True)


def memory(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@tap.case("half of a room stops reading: the queues hold one copy for all, the others get everything")
def _():
    room = new_room()
    pid = server.workers()[0]
    fast = [page("/slow", worker=pid, user="fast") for _ in range(3)]
    slow = [page("/stall", worker=pid, user="slow", rcvbuf=4096) for _ in range(30)]
    for socket in fast + slow:
        join(socket, room)
    before = memory(pid)
    # What the kernel takes for one slow reader, and then 8 MiB that wait.
    count = 12 * (1 << 20) // 30000
    for n in range(count):
        publish(room, n, fill="x" * 30000)
        for socket in fast:
            socket.expect(offset=n + 1, n=n)
    grown = memory(pid) - before
    tap.diag(f"{grown >> 20} MiB for {count * 30000 >> 20} MiB to {len(slow)} readers that stopped")
    if not ASAN:        # which gives nothing back
        tap.ok(grown < 60 << 20, f"the worker grew by {grown >> 20} MiB")
    for socket in fast:
        socket.expect_nothing()
    for socket in fast + slow:
        socket.drop()


@tap.case("a queue that does not move for the heartbeat's timeout ends the socket, with 4101")
def _():
    room, since = new_room(), len(server.access_log())
    stalled = page("/stall", user=f"stalled{room}", rcvbuf=4096)
    join(stalled, room)
    http.publish(server, [{"room": room, "type": "x", "data": {"fill": "x" * 30000}}] * 250)
    with page() as asker:
        wait_until(lambda: presence(asker, room)[1] == 0, "it to be gone", 5 * SCALE)
    logged(f"stalled{room}", since, 4101)
    stalled.wire.close()


# --- the access log

@tap.case("one access line for each connection, at its end: close code, messages, joined")
def _():
    room = new_room()

    def end(how, code, user):
        since = len(server.access_log())
        socket = page(user=user)
        join(socket, room)
        join(socket, new_room())
        publish(room, 1)
        socket.expect(type="x")
        tap.unlike(server.access_log()[since:], f"user={user}", "a line before the end")
        how(socket)
        tap.is_(logged(user, since, code), f"/ws status=101 code={code} in=2 out=4 joined=2 user={user}", "the line")
    end(lambda socket: socket.close(1000), 1000, "normal")
    end(lambda socket: socket.close(1001), 1001, "away")
    end(lambda socket: socket.close(4321), 4321, "own")
    end(lambda socket: (socket.send_close(None), socket.expect_closed(None, answer=False)), 1005, "nocode")
    end(lambda socket: socket.abort(), 1006, "reset")
    end(lambda socket: socket.drop(), 1006, "fin")
    end(lambda socket: (socket.send_text(b"\xff"), socket.expect_closed(1007)), 1007, "utf")


@tap.case("rooms_access_log upgrade: the line comes with the handshake, and no other later")
def _():
    since = len(server.access_log())
    closed = http.status(server)["connections"]["closed"].get("1001", 0)
    with page("/upgrade", user="early") as socket:
        logged("early", since, "-")
        join(socket, new_room())
        socket.close(1001)
    wait_until(lambda: http.status(server)["connections"]["closed"].get("1001", 0) == closed + 1, "the socket to be gone")
    logged("early", since, "-")


# --- TLS

@tap.case("over TLS: subscribe, publish, recover, close")
def _():
    room = new_room()
    with page(tls=True) as socket:
        epoch = join(socket, room)["epoch"]
        for n in range(50):
            publish(room, n, fill="x" * 20000)
        for n in range(50):
            socket.expect(offset=n + 1, n=n)
        socket.expect_nothing()
        socket.close()
    with page(tls=True) as socket:
        tap.is_(join(socket, room, since={"epoch": epoch, "offset": 10})["recovered"], True)
        for n in range(10, 50):
            socket.expect(offset=n + 1, n=n)
        socket.close()


# --- reload

def told(socket, drain=DRAIN):
    """Reads on until the end: events' offsets, afterMs, close code, when it came."""
    offsets, after = [], None
    while True:
        try:
            message = socket.recv_json(drain + 8 * SCALE)
        except ws.Closed as end:
            socket.send_close(end.code)
            return offsets, after, end.code, time.monotonic()
        if message["type"] == "reconnect":
            tap.is_(after, None, "reconnect came twice")
            after = message["afterMs"]
        else:
            offsets.append(message["offset"])


@tap.case("reload: all are told when to come back, spread over 2/3 of rooms_drain, and closed with 1012 at its end")
def _():
    room = new_room()
    pages = [page("/upgrade" if n % 3 else "/ws", tls=n % 4 == 0) for n in range(60)]
    for socket in pages:
        epoch = join(socket, room)["epoch"]
    stop = threading.Event()
    refused = []
    published = []

    def writer():
        while not stop.is_set():
            try:
                published.append(publish(room, len(published))["offset"])
            except Exception as error:
                refused.append(error)
            time.sleep(0.01)
    thread = threading.Thread(target=writer)
    thread.start()
    try:
        wait_until(lambda: len(published) > 5 or refused, "publications")
        old, begun = server.workers(), time.monotonic()
        server.reload()
        results = [told(socket) for socket in pages]
        wait_until(lambda: not set(old) & set(server.processes()), "the old workers to leave")
        left = time.monotonic() - begun
    finally:
        stop.set()
        thread.join()
    tap.is_(refused, [], "publications refused meanwhile")
    tap.ok(left < DRAIN + 1 + 0.5 * SCALE, f"the old workers left after {left:.2f} s")
    tap.is_({code for _, _, code, _ in results}, {1012}, "close codes")
    waits = [after for _, after, _, _ in results]
    tap.ok(None not in waits, "all were told `reconnect`")
    tap.ok(0 <= min(waits) and max(waits) <= DRAIN * 2000 / 3, f"afterMs from {min(waits)} to {max(waits)}")
    tap.ok(max(waits) - min(waits) > DRAIN * 1000 / 3, f"spread: from {min(waits)} to {max(waits)}")
    for offsets, _, _, ended in results:
        tap.ok(ended - begun > DRAIN - 0.05, f"closed after {ended - begun:.2f} s")
        tap.is_(offsets, list(range(1, len(offsets) + 1)), "what it got until then")
        with page() as again:
            tap.is_(join(again, room, since={"epoch": epoch, "offset": len(offsets)})["recovered"], True, "recovered")
            for offset in range(len(offsets) + 1, len(published) + 1):
                again.expect(offset=offset)
    for socket in pages:
        socket.drop()


@tap.case("a client that leaves during the drain is answered with 1012, and its worker does not wait for the others' time")
def _():
    pages = [page() for _ in range(8)]
    old = set(server.workers())
    begun = time.monotonic()
    server.reload()
    for socket in pages:
        socket.expect(type="reconnect")
        socket.send_close(1000)
        socket.expect_closed(1012, answer=False)
    wait_until(lambda: not old & set(server.processes()), "the old workers to leave")
    tap.ok(time.monotonic() - begun < DRAIN + 0.3 * SCALE, f"they left after {time.monotonic() - begun:.2f} s")


@tap.case("reload: a client that follows `reconnect` loses nothing between its two sockets")
def _():
    room = new_room()
    old = server.workers()
    with page() as socket:
        epoch = join(socket, room)["epoch"]
        publish(room, 0)
        socket.expect(offset=1)
        server.reload()
        socket.expect(type="reconnect")
        publish(room, 1)
        # The other old worker may still take sockets, and tell them the same at once.
        new = wait_until(lambda: [pid for pid in server.workers() if pid not in old], "a new worker")
        with page(worker=new[0]) as again:
            tap.isnt(again.worker, socket.worker, "worker")
            tap.is_(join(again, room, since={"epoch": epoch, "offset": 1})["recovered"], True)
            publish(room, 2)
            for offset in (2, 3):
                again.expect(offset=offset)
                socket.expect(offset=offset)
            socket.send_close(1000)
            socket.expect_closed(1012, answer=False)
            publish(room, 3)
            again.expect(offset=4)
            again.expect_nothing()


@tap.case("a reload with a broken configuration changes nothing")
def _():
    room = new_room()
    since = len(server.log())
    with page() as socket:
        join(socket, room)
        for broken, pattern in (("rooms_drain soon;", "rooms_drain"), ("rooms_jwt_key HS256 @DIR@/none;", "rooms_jwt_key|none")):
            server.write("nginx.conf", server.config(server=OPTIONS["server"] + broken))
            server.allow(r"\[emerg\].*(rooms_drain|rooms_jwt_key|/none)")
            server.send_signal(signal.SIGHUP)
            server.wait_log(rf"\[emerg\].*({pattern})", since=since)
        server.write("nginx.conf", server.config())
        publish(room, 1)
        socket.expect(offset=1)
        socket.expect_nothing()


@tap.case("worker_shutdown_timeout shorter than the drain: told at the reload, ended by nginx, no alert")
def _():
    server.reload(main="worker_shutdown_timeout 1s;",
                  locations=LOCATIONS.replace("rooms_drain 1200ms", "rooms_drain 10s"), wait_old=True)
    pages = [page(tls=n % 2 == 0) for n in range(8)]
    old = set(server.workers())
    begun = time.monotonic()
    server.reload()
    for socket in pages:
        tap.ok(0 <= socket.expect(type="reconnect")["afterMs"] <= 6667, "afterMs")
    for socket in pages:
        _, _, code, ended = told(socket)
        tap.in_(code, {1006, 1012}, "close code")
        tap.ok(0.8 < ended - begun < 1 + 1 * SCALE, f"ended after {ended - begun:.2f} s")
    wait_until(lambda: not old & set(server.processes()), "the old workers to leave", 2 * SCALE)
    server.reload(main="", locations=LOCATIONS, wait_old=True)


@tap.case("a storm of reloads: only two generations take the time of their drain, two workers at the end, nothing lost")
def _():
    swarm = Swarm(server, 0, 40)
    all_live([swarm])
    publisher = Publisher(server, 20, rate=50)
    seen = {}  # of each worker that is let go: when first, when last
    old = set(server.workers())
    server.changed_workers = True
    end = time.monotonic() + 3
    while time.monotonic() < end:
        server.send_signal(signal.SIGHUP)
        pause = time.monotonic() + 0.1
        while (now := time.monotonic()) < pause:
            for pid in children(server.pid):
                if "shutting down" in title(pid):
                    seen[pid] = (seen.get(pid, (now,))[0], now)
            time.sleep(0.01)
    wait_until(lambda: not old & set(server.processes()) and len(server.processes()) == 2, "two workers", 10 * SCALE)
    all_live([swarm])
    publisher.finish()
    all_received(publisher, [swarm])
    swarm.stop()
    problems, counts = compare(publisher, [swarm])
    tap.diag(", ".join(f"{name}: {count}" for name, count in counts.items()))
    tap.is_(problems, [], "what the clients lost")
    tap.is_(counts["closes"].get(1006, 0), 0, "closes with 1006")
    drained = sum(last - first > min(0.4 * SCALE, 0.6) for first, last in seen.values())
    tap.diag(f"{drained} of {len(seen)} workers took their time to drain")
    # Two workers each of two generations at a time, for some 0.8 s: without that limit three of four would.
    tap.ok(drained <= 20, f"{drained} of {len(seen)} workers drained")


# --- death

@tap.case("SIGKILL of a worker again and again: only its clients drop, nothing is lost, the gauges are right within 5 s")
def _():
    swarm = Swarm(server, 0, 60)
    all_live([swarm])
    publisher = Publisher(server, 30, rate=100)
    for _ in range(4):
        before = swarm.closes
        victim = server.workers()[0]
        server.kill_worker(victim)
        all_live([swarm])
        count = publisher.count
        wait_until(lambda: publisher.count > count + 20 or publisher.error, "publications")
        tap.ok(swarm.closes - before <= 60, "closes")
    with page() as stays:
        room = new_room()
        join(stays, room)
        victim = next(pid for pid in server.workers() if pid != stays.worker)
        server.kill_worker(victim)
        publish(room, 1)
        stays.expect(offset=1)
        stays.expect_nothing()
        publisher.finish()
        all_live([swarm])
        all_received(publisher, [swarm])

        def right():
            status = http.status(server)
            gauges = status["connections"]["active"], status["rooms"]["members"], len(status["workers"])
            return gauges == (61, 61, 2)
        wait_until(right, "the gauges to be right", 5 * SCALE)
    swarm.stop()
    problems, counts = compare(publisher, [swarm])
    tap.is_(problems, [], "what the clients lost")
    tap.is_(set(counts["closes"]), {1006}, "close codes")


@tap.case("a worker that is told to quit (SIGQUIT) is let go as at a reload")
def _():
    socket = page()
    server.changed_workers = True
    begun = time.monotonic()
    os.kill(socket.worker, signal.SIGQUIT)
    _, after, code, ended = told(socket)
    tap.is_(code, 1012, "close code")
    tap.ok(after is not None and ended - begun < DRAIN + 1 * SCALE, "told")
    wait_until(lambda: len(server.workers()) == 2, "its successor")


# --- logs

@tap.case("the logs are reopened while sockets are open")
def _():
    with page(user="reopened") as socket:
        for name in ("access.log", "error.log"):
            os.rename(server.path(name), server.path(name + ".1"))
        subprocess.run([BINARY, "-p", server.dir, "-c", server.path("nginx.conf"), "-e", server.path("error.log"),
                        "-s", "reopen"], check=True, capture_output=True, env=server._environment())
        wait_until(lambda: os.path.exists(server.path("access.log")), "the new log")
        # Each worker reopens for itself, a moment later.
        old = {server.path("access.log.1"), server.path("error.log.1")}
        wait_until(lambda: not any(old & open_files(pid) for pid in server.workers()), "all workers to write the new logs")
        socket.close(1000)
        logged("reopened", 0, 1000)
        tap.unlike(server.read("access.log.1"), "user=reopened", "the old log")
    old = server.read("error.log.1")
    with open(server.path("error.log"), encoding="utf-8") as file:
        new = file.read()
    server.write("error.log.both", old + new)


# --- no more connections to be had

@tap.case("worker_connections are used up: who is in stays and gets everything, it idles, and recovers when one leaves")
def _():
    with Nginx(LOCATIONS, name="crowded", workers=1, events="worker_connections 40;",
               expect=[r"\[alert\].*worker_connections are not enough"], **OPTIONS) as mine:
        room = new_room()
        pages, last = [], 0
        for _ in range(60):
            try:
                socket = page(on=mine, timeout=1)
                socket.at = join(socket, room)["offset"]
                pages.append(socket)
                last = publish(room, 1, on=mine)["offset"]
            except (OSError, AssertionError):
                break
        tap.ok(10 < len(pages) < 40, f"{len(pages)} had place")
        spare = [ws.open_wire(mine) for _ in range(5)]      # they wait, or are sent away
        pid, = mine.workers()
        used, begun = processor(pid), time.monotonic()
        wait_until(lambda: time.monotonic() > begun + 0.6, "a moment to pass")
        tap.ok(processor(pid) - used < 0.3, "it does not spin")
        for wire in spare:
            wire.close()
        for socket in pages:
            for offset in range(socket.at + 1, last + 1):
                socket.expect(offset=offset)
            socket.expect_nothing()
        for socket in pages[:4]:
            socket.close()
        begun = time.monotonic()

        def back():
            try:
                return page(on=mine, timeout=1)
            except (OSError, AssertionError):
                return None
        again = wait_until(back, "a place")
        tap.ok(time.monotonic() - begun < 1 + 1 * SCALE, "within a second")
        join(again, room)
        again.close()
        for socket in pages:
            socket.drop()


@tap.case("a handshake that never ends is ended by client_header_timeout")
def _():
    with Nginx(LOCATIONS, name="patient", workers=1, http="client_header_timeout 400ms;" + HTTP,
               **{name: value for name, value in OPTIONS.items() if name != "http"}) as mine:
        wires = [ws.open_wire(mine) for _ in range(20)]
        octets = ws.handshake_octets("/ws", key=ws.new_key(), token=jwt.mint(sub="u1"))
        begun = time.monotonic()
        for at in range(len(octets) - 1):
            for wire in wires:
                wire.send(octets[at:at + 1])
                wire.poll()
            wires = [wire for wire in wires if not wire.ended]
            if not wires:
                break
            time.sleep(0.02)
        tap.is_(len(wires), 0, "handshakes that were still open")
        tap.ok(time.monotonic() - begun < 0.4 + 1 * SCALE, "in time")
        page(on=mine).close()


# --- the end of nginx

@tap.case("`nginx -s quit`: all are told, closed with 1012 at the end of the drain, and nginx is gone")
def _():
    with Nginx(LOCATIONS, name="quit", **OPTIONS) as mine:
        pages = [page(on=mine) for _ in range(12)]
        begun = time.monotonic()
        subprocess.run([BINARY, "-p", mine.dir, "-c", mine.path("nginx.conf"), "-e", mine.path("error.log"), "-s", "quit"],
                       check=True, capture_output=True, env=mine._environment())
        for _, after, code, ended in [told(socket) for socket in pages]:
            tap.is_(code, 1012, "close code")
            tap.ok(after is not None and after <= DRAIN * 2000 / 3, "told")
        tap.is_(mine.process.wait(5 * SCALE), 0, "exit code")
        tap.ok(time.monotonic() - begun < DRAIN + 1 + 0.5 * SCALE, f"gone after {time.monotonic() - begun:.2f} s")


@tap.case("SIGTERM tells nobody and does not wait")
def _():
    with Nginx(LOCATIONS, name="terminated", **OPTIONS) as mine:
        pages = [page(on=mine) for _ in range(4)]
        begun = time.monotonic()
        mine.send_signal(signal.SIGTERM)
        for offsets, after, code, ended in [told(socket) for socket in pages]:
            tap.is_((offsets, after, code), ([], None, 1006), "what it was told")
            tap.ok(ended - begun < 0.5 + 0.5 * SCALE, "at once")
        tap.is_(mine.process.wait(5 * SCALE), 0, "exit code")


@tap.case("QUIT, then TERM: what is left is ended, without an alert")
def _():
    with Nginx(LOCATIONS.replace("rooms_drain 1200ms", "rooms_drain 20s"), name="impatient", tls=True, **OPTIONS) as mine:
        pages = [page(path, on=mine, tls=tls, user="left") for path in ("/ws", "/upgrade") for tls in (False, True)]
        mine.send_signal(signal.SIGQUIT)
        for socket in pages:
            socket.expect(type="reconnect")
        mine.send_signal(signal.SIGTERM)
        for socket in pages:
            tap.is_(told(socket)[2], 1006, "close code")
        tap.is_(mine.process.wait(5 * SCALE), 0, "exit code")
        tap.is_(sorted(re.findall(r"^(\S+) status=101 code=(\S+) .*user=left$", mine.access_log(), re.M)),
                [("/upgrade", "-")] * 2 + [("/ws", "1006")] * 2, "access lines")


# --- upgrade of the binary

class Door(threading.Thread):
    """Connects all the time: is anybody ever refused?"""

    def __init__(self, on):
        super().__init__(daemon=True)
        self.address, self.tries, self.refused, self.stopped = http.address_of(on), 0, [], False
        self.start()

    def run(self):
        while not self.stopped:
            try:
                response = http.request(self.address, "GET", "/status?health")
                assert response.status == 200, f"{response!r}"
            except Exception as error:
                self.refused.append(error)
            self.tries += 1
            time.sleep(0.002)

    def is_open(self, when):
        """For five more tries, and all before."""
        tries = self.tries
        wait_until(lambda: self.tries > tries + 5, f"five tries at the door {when}")
        tap.is_(self.refused[:3], [], f"refused at the door {when}")

    def check(self):
        self.is_open("at the end")
        self.stopped = True
        self.join()
        tap.is_(self.refused[:3], [], "refused at the door")


@tap.case("USR2, WINCH, QUIT: nobody is refused, who moves gets recovered:false, no alert")
def _():
    with Nginx(LOCATIONS, name="upgraded", daemon=True, **OPTIONS) as mine:
        room = new_room()
        door = Door(mine)
        pages = [page(on=mine) for _ in range(6)]
        for socket in pages:
            epoch = join(socket, room)["epoch"]
        publish(room, 1, on=mine)
        new = mine.start_second_master()
        door.is_open("of two masters")
        os.kill(mine.pid, signal.SIGWINCH)
        for socket in pages:
            socket.expect(offset=1)
            offsets, after, code, _ = told(socket)
            tap.is_((offsets, code), ([], 1012), "what it was told")
            tap.ok(after is not None, "reconnect")
        wait_until(lambda: not workers_of(mine.pid, leaving=True), "the old workers to leave")
        door.is_open("of the new master")
        for _ in range(3):
            with page(on=mine) as socket:
                got = join(socket, room, since={"epoch": epoch, "offset": 1})
                tap.is_((got["recovered"], got["offset"]), (False, 0))
        old = mine.become(new)
        os.kill(old.pid, signal.SIGQUIT)
        wait_until(lambda: old.poll() is not None, "the old master to leave")
        publish(room, 2, on=mine)
        door.check()


@tap.case("and back (HUP to the old, QUIT to the new): nobody is refused, the old zone still knows its positions")
def _():
    with Nginx(LOCATIONS, name="rolled back", daemon=True, **OPTIONS) as mine:
        room = new_room()
        door = Door(mine)
        with page(on=mine) as socket:
            epoch = join(socket, room)["epoch"]
            publish(room, 1, on=mine)
        new = mine.start_second_master()
        os.kill(mine.pid, signal.SIGWINCH)
        wait_until(lambda: not workers_of(mine.pid, leaving=True), "the old workers to leave")
        door.is_open("of the new master")
        with page(on=mine) as socket:
            tap.is_(join(socket, room, since={"epoch": epoch, "offset": 1})["recovered"], False, "in the new zone")
            os.kill(mine.pid, signal.SIGHUP)
            wait_until(lambda: len(workers_of(mine.pid)) == 2, "the old master's workers")
            os.kill(new.pid, signal.SIGQUIT)
            tap.is_(told(socket)[2], 1012, "close code")
        wait_until(lambda: new.poll() is not None, "the new master to leave")
        # Then the old one has noticed, too.
        wait_until(lambda: mine.read("nginx.pid").strip() == str(mine.pid), "the old master's pid file to be back")
        with page(on=mine) as socket:
            tap.is_(join(socket, room, since={"epoch": epoch, "offset": 0})["recovered"], True, "in the old zone")
            socket.expect(offset=1)
        door.check()


tap.run()

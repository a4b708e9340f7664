#!/usr/bin/python3
"""Peers that read slowly but read, ask more than they read, or sit behind TLS: nobody is cut for it, and memory stays bounded."""
import json
import os
import re
import sys
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import ASAN, http, jwt, tap, wait_until, ws    # noqa: E402
from rooms.nginx import Nginx                             # noqa: E402
from rooms.page import open_page                          # noqa: E402

server = Nginx(tls=True, workers=1, http="""
    rooms_zone slow:64m;
    client_max_body_size 8m;
    log_format bytes '$request_uri $scheme bytes=$bytes_sent code=$rooms_close_code';
""", server="""
    access_log @DIR@/bytes.log bytes;
    add_header Content-Security-Policy "%s" always;
""" % ("x" * 1600), locations="""
    location = /ws      { rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_allow session:*; }
    location = /slow    {
        rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_allow session:*;
        rooms_heartbeat 700ms timeout=700ms; rooms_send_queue 8m;
    }
    location = /echo    { rooms_echo; rooms_max_message 8m; rooms_heartbeat 700ms timeout=700ms; rooms_send_queue 64k; }
    location = /publish { rooms_publish; }
""", files={"secret": jwt.SECRET})


def page(path="/ws", **options):
    return open_page(server, path=path, **options)


def read_slowly(socket, size, seconds):
    """Reads `size` octets in about `seconds`, in steps of 16 KiB; how many came before the end."""
    raw, got = socket.wire.sock, 0
    raw.settimeout(5)
    pause = seconds / (size / 16384)
    while got < size:
        data = raw.recv(16384)
        if not data:
            break
        got += len(data)
        time.sleep(pause)
    return got


def a_large_answer_head(tls):
    with page(tls=tls) as socket:
        socket.send_json(type="ping")
        socket.expect(type="pong")


def an_event_over_a_slow_line(tls):
    with page("/slow", tls=tls, rcvbuf=16384) as socket:
        room = "session:slow-%s" % tls
        socket.send_json(type="subscribe", room=room)
        socket.expect(type="subscribed")
        http.publish(server, {"room": room, "type": "x", "data": {"fill": "a" * 900000}})
        tap.is_(read_slowly(socket, 900000, 3) >= 900000, True, "read it all")
        socket.drop()


for tls in (False, True):
    what = "over TLS" if tls else "over TCP"
    tap.add("a head of the answer that is larger than a buffer, %s" % what, a_large_answer_head, tls)
    tap.add("an event that takes four timeouts to read, %s" % what, an_event_over_a_slow_line, tls)


@tap.case("a paused peer that reads is not dead, though its pongs are not read")
def _():
    socket = ws.connect(server, "/echo", rcvbuf=8192)
    socket.send_binary(b"x" * 6000000)
    tap.is_(read_slowly(socket, 6000000, 4) >= 6000000, True, "read it all")
    socket.drop()


@tap.case("commands whose answers are not read wait: memory stays bounded, and every answer comes")
def _():
    for n in range(60):
        answer = http.publish(server, {"room": "session:large", "type": "x", "data": {"n": n, "fill": "a" * 120000}})
    (worker,) = server.workers()
    before = resident(worker)
    socket = page(rcvbuf=4096)
    ask = json.dumps({"type": "subscribe", "room": "session:large", "since": {"epoch": answer["epoch"], "offset": 0}})
    socket.send(b"".join(ws.frame(ws.TEXT, ask) for _ in range(20)))
    socket.expect(type="subscribed", recovered=True)
    tap.ok(resident(worker) - before < (200 if ASAN else 40) * 2**20, "memory for one answer and not for twenty")
    for again in range(20):
        for n in range(60):
            socket.expect(type="x", n=n, offset=n + 1)
        if again < 19:
            socket.expect(type="subscribed", recovered=True)
    socket.send_json(type="ping")
    socket.expect(type="pong")
    socket.close()


def resident(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


@tap.case("$bytes_sent is the same over TLS")
def _():
    sizes = []
    for tls in (False, True):
        path = "/ws?measured-%d" % tls      # lines of cases before come late
        socket = page(path, tls=tls)
        room = "session:bytes-%d" % tls
        socket.send_json(type="subscribe", room=room)
        socket.expect(type="subscribed")
        for _n in range(10):
            http.publish(server, {"room": room, "type": "x", "data": {"fill": "a" * 1000}})
            socket.expect(type="x")
        socket.close()
        sizes.append(int(wait_until(lambda: re.search(rf"^{re.escape(path)} .*bytes=(\d+)", server.read("bytes.log"), re.M), "its line")[1]))
    tap.ok(abs(sizes[0] - sizes[1]) < 200, f"{sizes}")
    tap.ok(sizes[0] > 10000, f"{sizes}")


tap.run()

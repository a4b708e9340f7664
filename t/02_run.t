#!/usr/bin/python3
"""`./build.sh run`: what it prints, pasted, does what it says; and it leaves nothing behind."""
import asyncio
import json
import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import ASAN, ROOT, TIMEOUT, tap, wait_until    # noqa: E402
from rooms.nginx import free_port                         # noqa: E402
import websockets                                         # noqa: E402  python3-websockets, as the output suggests


class Demo:
    def __init__(self):
        self.port = free_port()
        self.process = subprocess.Popen([f"{ROOT}/client/demo/run"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, start_new_session=True,
                                        env=dict(os.environ, PORT=str(self.port), TLS_PORT=str(free_port())))
        self.output = ""
        for line in self.process.stdout:
            self.output += line
            if "Ctrl-C" in line:
                break
        self.dir = pathlib.Path(tap.like(self.output, r"^Logs: +(\S+)/logs$").group(1))

    def find(self, pattern):
        return tap.like(self.output, pattern).group(1)

    def tokens(self):
        return re.findall(r'"(ws://\S+token=[^"]+)"', self.output)

    def processes(self):
        """Everything in the demo's session."""
        found = []
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
            except OSError:
                continue
            if int(session) == self.process.pid and state != "Z":
                found.append(int(stat.parent.name))
        return found


async def read_until(client, wanted):
    while True:
        event = json.loads(await asyncio.wait_for(client.recv(), TIMEOUT))
        if event["type"] == wanted:
            return event


async def member_of(url, room):
    client = await websockets.connect(url)
    await client.send(json.dumps({"type": "subscribe", "room": room}))
    await read_until(client, "subscribed")
    return client


async def on_each_worker(url, want):
    """Two sockets on two workers: opens more until /status shows both busy."""
    clients = []
    while len(clients) < 40:
        clients.append(await member_of(url, "session:1"))
        if len(clients) >= 2 and want():
            break
    return clients


if ASAN:
    print("1..0 # SKIP the demo's nginx is not prepared for a module with sanitizers")
    sys.exit(0)
demo = Demo()


def status():
    with urllib.request.urlopen(f"http://127.0.0.1:{demo.port}/status") as answer:
        return json.load(answer)


@tap.case("the page is served over http and https, and its backend gives tokens")
def _():
    self_made = ssl.create_default_context()
    self_made.check_hostname, self_made.verify_mode = False, ssl.CERT_NONE
    for page in (demo.find(r"^ +(http:\S+)"), demo.find(r"^ +(https:\S+)")):
        with urllib.request.urlopen(page, context=self_made) as answer:
            tap.like(answer.read().decode(), "<title>Design session")
            tap.like(answer.headers["Content-Type"], "text/html")
        token = urllib.request.Request(page + "api/token", headers={"X-Demo-User": "bob"})
        with urllib.request.urlopen(token, context=self_made) as answer:
            tap.like(json.load(answer)["token"], r"^[\w-]+\.[\w-]+\.[\w-]+$")


@tap.case("sockets in one room on both workers get what the printed curl line sends, another tenant's gets nothing")
def _():
    async def act():
        acme, globex = demo.tokens()
        members = await on_each_worker(acme, lambda: all(w["connections"] for w in status()["workers"]))
        tap.ok(all(w["connections"] for w in status()["workers"]), "both workers hold sockets")
        stranger = await websockets.connect(globex)
        await stranger.send('{"type":"subscribe","room":"session:1"}')
        refused = await read_until(stranger, "error")
        tap.is_((refused["code"], refused["room"]), ("forbidden", "session:1"), "refusal")

        curl = demo.find(r"^ +(curl -d '.*'\S* http\S*/publish)$")
        done = subprocess.run(["/bin/bash", "-c", curl], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              text=True, check=True)
        tap.is_(json.loads(done.stdout)["subscribers"], len(members), "subscribers")
        for member in members:
            event = await read_until(member, "session:message")
            tap.is_((event["message"]["content"], event["sessionId"]), ("Hello from curl", "1"), "event")
        await stranger.send('{"type":"ping"}')
        seen = []
        while "pong" not in seen:
            seen.append(json.loads(await asyncio.wait_for(stranger.recv(), TIMEOUT))["type"])
        tap.ok(set(seen) <= {"pong"}, f"nothing at the stranger: {seen}")
        for client in (*members, stranger):
            await client.close()
    asyncio.run(act())


@tap.case("the printed curl lines: an approval that nobody decides times out on the page, another one is approved")
def _():
    async def act():
        acme, globex = demo.tokens()
        member, stranger = await member_of(acme, "session:1"), await member_of(globex, "session:2")
        lines = [line.replace('"timeout":10}', '"timeout":1}') for line in re.findall(r"^ +(curl -d .*/approvals\S*)$", demo.output, re.M)]
        tap.is_(len(lines), 3, "curl lines")
        for line in lines:
            done = subprocess.run(["/bin/bash", "-c", line], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
            tap.in_(json.loads(done.stdout)["status"], ("pending", "approved"))
        ends = [await read_until(member, "approval:resolved") for _ in range(2)]
        tap.is_([(end["action"], end["status"]) for end in ends], [("publish", "approved"), ("deploy", "timeout")])
        await stranger.send('{"type":"subscribe","room":"session:1"}')
        tap.is_((await read_until(stranger, "error"))["room"], "session:1", "another tenant's session")
        subprocess.run(["/bin/bash", "-c", demo.find(r"^ +(PGPASSWORD=.*psql .*)$")], stdout=subprocess.DEVNULL, check=True)
        tap.is_((await read_until(member, "session:message"))["message"]["content"], "Hello from SQL")
        for client in (member, stranger):
            await client.close()
    asyncio.run(act())


@tap.case("it tells when the first event was on a page; Redis is started again when somebody kills it")
def _():
    tap.like(demo.process.stdout.readline() + demo.process.stdout.readline(), r"The first event was on a page \d+ s after (git clone|\./build\.sh)\.")

    def redis():
        return next((pid for pid in demo.processes() if b"redis-server" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()), None)
    before = redis()
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: redis() not in (None, before), "another Redis")
    wait_until(lambda: status()["redis"]["up"], "nginx to be connected")


@tap.case("no log of the demo holds a token")
def _():
    acme, globex = (url.split("token=")[1] for url in demo.tokens())
    for log in (demo.dir / "logs").iterdir():
        text = log.read_text()
        tap.ok(acme not in text and globex not in text, f"{log.name} has no token")
        tap.unlike(text, r"\[(alert|emerg|crit)\]")


@tap.case("the printed wscat lines work: the member gets the event, the stranger is refused")
def _():
    wscat = pathlib.Path(ROOT, "t/node_modules/.bin/wscat")
    if not wscat.exists():
        tap.skip("t/node_modules is not there: make t/node_modules/.package-lock.json")
    lines = [line.replace("npx --yes wscat@6", str(wscat)).replace("-w 600", "-w 600")
             for line in re.findall(r"^ +(npx .*)$", demo.output, re.M)]
    tap.is_(len(lines), 2, "wscat lines")
    clients = []
    try:
        seen = ["", ""]
        for line in lines:
            clients.append(subprocess.Popen(["/bin/bash", "-c", "exec " + line], stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
            os.set_blocking(clients[-1].stdout.fileno(), False)

        def shows(which, pattern):
            seen[which] += (clients[which].stdout.read() or b"").decode()
            return re.search(pattern, seen[which])
        wait_until(lambda: shows(0, '"subscribed","room":"session:1"'), "the member is in its room")
        wait_until(lambda: shows(1, '"forbidden"'), "the stranger is refused")
        subprocess.run(["/bin/bash", "-c", demo.find(r"^ +(curl -d '.*publish)$")], stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, check=True)
        wait_until(lambda: shows(0, '"type":"session:message"'), "the event at the member")
        tap.ok(not shows(1, "session:message"), "nothing at the stranger")
    finally:
        for client in clients:
            client.kill()
            client.wait()


@tap.case("Ctrl-C ends it with 0, and leaves no process, no listener and no directory")
def _():
    tap.ok(len(demo.processes()) >= 7, "a master, two workers, two stores, the backend and the script run")
    os.killpg(demo.process.pid, signal.SIGINT)
    said, _ = demo.process.communicate(timeout=3 * TIMEOUT)
    tap.is_(demo.process.returncode, 0, f"exit code; it said {said}")
    tap.unlike(said, "has ended", "no server ended by itself")
    wait_until(lambda: not demo.processes(), "no process is left")
    tap.ok(not demo.dir.exists(), "its directory is gone")
    with socket.socket() as probe:
        tap.isnt(probe.connect_ex(("127.0.0.1", demo.port)), 0, "connecting")


@tap.case("a signal to the script alone ends it as well")
def _():
    other = Demo()
    os.kill(other.process.pid, signal.SIGTERM)
    tap.is_(other.process.wait(TIMEOUT), 0, "exit code")
    wait_until(lambda: not other.processes(), "no process is left")


try:
    tap.run()
finally:
    if demo.process.poll() is None:
        demo.process.terminate()
        demo.process.wait(TIMEOUT)

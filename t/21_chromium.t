#!/usr/bin/python3
"""Chromium, headless, through its debugging socket: a page of this nginx opens WebSockets and tells what it saw."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import SCALE, http, jwt, tap, wait_until, ws      # noqa: E402
from rooms.conform import *                                  # noqa: E402,F403

server = serve("""
        location = /own { rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_allow session:*; rooms_compression on min=64; }
        location = /other { rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_origin https://elsewhere.example; }
        location = /beat { rooms_echo; rooms_heartbeat 1s timeout=1s; }
        location = /page { default_type text/html; return 200 '<!doctype html><title>page</title>'; }
""", http="rooms_drain 1s;")
TOKEN = jwt.mint(sub="u1")
LONG = 30 * SCALE

# What each case runs in the page: open(url, protocols) collects everything that happens to a socket.
HELPERS = """
window.open_ = (path, protocols) => new Promise((resolve) => {
  const socket = new WebSocket(`ws://${location.host}${path}`, protocols || []);
  socket.binaryType = 'arraybuffer';
  const box = { socket, got: [], waiting: [], closed: null };
  socket.onmessage = (e) => { box.got.push(e.data); box.waiting.splice(0).forEach((f) => f()); };
  box.next = async (test) => {
    for (let i = 0; ; i++) {
      while (i >= box.got.length) {
        if (box.closed) throw new Error('closed ' + box.closed.code);
        await new Promise((f) => box.waiting.push(f));
      }
      if (test(box.got[i])) return box.got[i];
    }
  };
  box.end = new Promise((f) => { socket.onclose = (e) => {
    box.closed = { code: e.code, reason: e.reason, clean: e.wasClean };
    box.waiting.splice(0).forEach((g) => g());
    f(box.closed); resolve(box); }; });
  socket.onopen = () => resolve(box);
});
'ready'
"""


class Browser:
    def __init__(self, url):
        self.profile = tempfile.mkdtemp(prefix="rooms-chromium-")
        self.process = subprocess.Popen(
            ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions",
             "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server",
             "--remote-debugging-port=0", "--user-data-dir=" + self.profile, url],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        port_file = os.path.join(self.profile, "DevToolsActivePort")
        wait_until(lambda: os.path.exists(port_file) and len(open(port_file).read().split()) == 2, "Chromium to start", LONG)
        port = int(open(port_file).read().split()[0])

        def page():
            targets = json.loads(http.request(("127.0.0.1", port), "GET", "/json/list", host=f"127.0.0.1:{port}").body)
            return next((t["webSocketDebuggerUrl"] for t in targets if t["type"] == "page" and t["url"].startswith(url)), None)
        target = wait_until(page, "the page", LONG)
        self.ws = ws.connect(("127.0.0.1", port), "/" + target.split("/", 3)[3], host=f"127.0.0.1:{port}")
        self.number = 0
        wait_until(lambda: self.run("document.title") == "page", "the page's title", LONG)
        self.run(HELPERS)

    def run(self, expression):
        """The value of an expression, a promise's included; a JavaScript error is a failure."""
        self.number += 1
        self.ws.send_json(id=self.number, method="Runtime.evaluate",
                          params={"expression": expression, "awaitPromise": True, "returnByValue": True})
        answer = self.ws.wait_for(LONG, id=self.number)
        result = answer.get("result", {})
        assert "exceptionDetails" not in result and "error" not in answer, f"in the page: {json.dumps(answer)[:1500]}"
        return result["result"].get("value")

    def task(self, body):
        return self.run(f"(async () => {{ {body} }})()")

    def start(self, body):
        """Runs a body without waiting; its value is fetched by finish()."""
        self.run(f"window.task_ = (async () => {{ {body} }})(); 'begun'")

    def finish(self):
        return self.run("window.task_")

    def stop(self):
        try:
            self.number += 1
            self.ws.send_json(id=self.number, method="Browser.close")
            self.process.wait(10 * SCALE)
        except Exception:
            pass
        finally:
            if self.process.poll() is None:     # its session is its own: the children go with it
                os.killpg(self.process.pid, 9)
                self.process.wait()
            shutil.rmtree(self.profile, ignore_errors=True)


browser = None


@tap.case("Chromium opens a page of this nginx")
def _():
    global browser
    if not shutil.which("chromium"):
        tap.skip("no chromium")
    browser = Browser(f"http://127.0.0.1:{server.port}/page")


def need_browser():
    if browser is None:
        tap.fail("no browser")


@tap.case("Chromium: text and binary are echoed, a close is clean and has its code")
def _():
    need_browser()
    got = browser.task("""
      const a = await open_('/echo');
      const out = [];
      for (const size of [0, 1, 125, 126, 65536]) {
        a.socket.send('x'.repeat(size));
        out.push((await a.next((m) => typeof m === 'string' && m.length === size)).length);
        a.socket.send(new Uint8Array(size).fill(size & 255));
        out.push((await a.next((m) => typeof m !== 'string' && m.byteLength === size)).byteLength);
      }
      a.socket.send('é€😀'); out.push(await a.next((m) => m === 'é€😀'));
      a.socket.close(4321, 'bye');
      return { out, end: await a.end, extensions: a.socket.extensions };""")
    tap.is_(got, {"out": [0, 0, 1, 1, 125, 125, 126, 126, 65536, 65536, "é€😀"], "end": {"code": 4321, "reason": got["end"]["reason"], "clean": True}, "extensions": ""}, "result")


@tap.case("Chromium negotiates permessage-deflate and understands it")
def _():
    need_browser()
    got = browser.task("""
      const a = await open_('/deflate');
      for (let i = 1; i <= 20; i++) a.socket.send('word '.repeat(i * 100));
      await a.next((m) => m.length === 10000);
      a.socket.close();
      return { extensions: a.socket.extensions, lengths: a.got.map((m) => m.length), end: (await a.end).clean };""")
    tap.like(got["extensions"], "^permessage-deflate", "extensions")
    tap.is_((got["lengths"], got["end"]), ([i * 500 for i in range(1, 21)], True), "echoes")


@tap.case("Chromium: token as subprotocol, a room, an event, from the page's own origin")
def _():
    need_browser()
    browser.start(f"""
      const a = await open_('/own', ['rooms.v1', 'rooms.bearer.{TOKEN}']);
      await a.next((m) => JSON.parse(m).type === 'connected');
      a.socket.send(JSON.stringify({{ type: 'subscribe', room: 'session:chrome' }}));
      const event = JSON.parse(await a.next((m) => JSON.parse(m).type === 'x'));
      a.socket.close();
      return {{ protocol: a.socket.protocol, event, types: a.got.map((m) => JSON.parse(m).type), end: (await a.end).code }};""")
    wait_until(lambda: http.publish(server, {"room": "session:chrome", "type": "x", "data": {"text": "häh " * 40}})["subscribers"] == 1, "the page to be a member", LONG)
    got = browser.finish()
    tap.is_((got["protocol"], got["event"]["text"], got["types"][:2]), ("rooms.v1", "häh " * 40, ["connected", "subscribed"]), "what the page saw")
    tap.in_(got["end"], (1000, 1005), "close")


@tap.case("Chromium sees 4001 without a token and 4002 with a bad one")
def _():
    need_browser()
    got = browser.task("""
      const codes = [];
      for (const path of ['/own', '/own?token=nonsense']) codes.push((await (await open_(path)).end).code);
      return codes;""")
    tap.is_(got, [4001, 4002], "close codes")


@tap.case("Chromium: an origin that is not listed never gets a socket")
def _():
    need_browser()
    got = browser.task(f"return (await (await open_('/other?token={TOKEN}')).end)")
    tap.is_((got["code"], got["clean"]), (1006, False), "close")
    tap.like(server.log(), r"(?i)origin", "the error log says why")


@tap.case("Chromium answers the server's pings and stays")
def _():
    need_browser()
    got = browser.task("""
      const a = await open_('/beat');
      await new Promise((f) => setTimeout(f, 3500));
      a.socket.send('alive');
      await a.next((m) => m === 'alive');
      a.socket.close(1000);
      return (await a.end).code;""")
    tap.is_(got, 1000, "close")


@tap.case("Chromium is told of a reload and sees 1012")
def _():
    need_browser()
    browser.start(f"""
      const a = await open_('/own?token={TOKEN}');
      await a.next((m) => JSON.parse(m).type === 'connected');
      document.title = 'open';
      const told = JSON.parse(await a.next((m) => JSON.parse(m).type === 'reconnect'));
      return {{ told, end: await a.end }};""")
    wait_until(lambda: browser.run("document.title") == "open", "the socket to be open", LONG)
    server.reload()
    got = browser.finish()
    tap.is_((got["told"]["type"], got["end"]["code"], got["end"]["clean"]), ("reconnect", 1012, True), "what the page saw")


@tap.case("Chromium ends")
def _():
    need_browser()
    browser.stop()


try:
    tap.run()
finally:
    if browser is not None and browser.process.poll() is None:
        browser.stop()

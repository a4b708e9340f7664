#!/usr/bin/python3
"""Other people's clients: python3-websockets, npm's ws (with deflate) and wscat, against echo and rooms."""
import os
import subprocess
import sys
import threading
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import ROOT, SCALE, http, jwt, tap, wait_until    # noqa: E402
from rooms.conform import *                                  # noqa: E402,F403

server = serve()
TOKEN = jwt.mint(sub="u1")
MODULES = os.path.join(ROOT, "t/node_modules")
URL = f"ws://127.0.0.1:{server.port}"


def run_client(command, *, env=None, lines=True):
    done = subprocess.run(command, capture_output=True, text=True, timeout=60 * SCALE, stdin=subprocess.DEVNULL,
                          env=dict(os.environ, **(env or {})))
    tap.is_(done.returncode, 0, f"exit code; it said {done.stderr[-2000:]}{done.stdout[-1000:]}")
    return done.stdout.strip().split("\n") if lines else done.stdout


def python(script, *arguments):
    return run_client(["/usr/bin/python3", "-c", script, *arguments])


def node(script, *arguments):
    if not os.path.isdir(os.path.join(MODULES, "ws")):
        tap.fail("t/node_modules has no ws: run ./build.sh test, which installs it")
    return run_client(["node", "-e", script, "-", *arguments], env={"NODE_PATH": MODULES})


PYTHON_ECHO = """
import asyncio, sys, websockets
async def main(url, deflate):
    async with websockets.connect(url, compression='deflate' if deflate else None, max_size=None) as ws:
        print('extensions', [type(e).__name__ for e in ws.extensions])
        for size in (0, 1, 125, 126, 65535, 65536):
            for message in ('é' * (size // 2), b'\\x00\\xff' * (size // 2)):
                await ws.send(message)
                assert await ws.recv() == message, size
        await ws.send(['frag', 'men', 'ted'])
        assert await ws.recv() == 'fragmented'
        await (await ws.ping(b'data'))
        await ws.close(4000, 'done')
        print('closed', ws.close_code)
asyncio.run(main(sys.argv[1], sys.argv[2] == 'deflate'))
"""


@tap.case("python websockets: text, binary, fragments, ping and close are echoed")
def _():
    tap.is_(python(PYTHON_ECHO, URL + "/echo", "plain"), ["extensions []", "closed 4000"], "output")


@tap.case("python websockets with permessage-deflate")
def _():
    tap.is_(python(PYTHON_ECHO, URL + "/deflate", "deflate"), ["extensions ['PerMessageDeflate']", "closed 4000"], "output")


@tap.case("python websockets offering deflate where it is off")
def _():
    tap.is_(python(PYTHON_ECHO, URL + "/echo", "deflate"), ["extensions []", "closed 4000"], "output")


@tap.case("python websockets in a room, token in ?token= and as subprotocol")
def _():
    script = """
import asyncio, json, sys, websockets
async def main(url, **options):
    async with websockets.connect(url, **options) as ws:
        print(json.loads(await ws.recv())['type'], ws.subprotocol)
        await ws.send(json.dumps({'type': 'subscribe', 'room': 'session:p'}))
        print(json.loads(await ws.recv())['type'])
        print('ready', flush=True)
        print(json.loads(await ws.recv())['n'])
token = sys.argv[2]
asyncio.run(main(sys.argv[1] + '?token=' + token) if sys.argv[3] == 'query' else
            main(sys.argv[1], subprotocols=['rooms.v1', 'rooms.bearer.' + token]))
"""
    for how, protocol in (("query", "None"), ("protocol", "rooms.v1")):
        client = subprocess.Popen(["/usr/bin/python3", "-c", script, URL + "/ws", TOKEN, how], stdout=subprocess.PIPE, text=True)
        got = []
        while not got or got[-1] != "ready":
            line = client.stdout.readline().strip()
            tap.ok(line, f"{how}: it ended after {got}")
            got.append(line)
        http.publish(server, {"room": "session:p", "type": "x", "data": {"n": 7}})
        got += client.communicate(timeout=20 * SCALE)[0].split()
        tap.is_(got, [f"connected {protocol}", "subscribed", "ready", "7"], how)


NODE_ECHO = """
const { WebSocket } = require('ws');
const [url, mode] = process.argv.slice(2);
const ws = new WebSocket(url, { perMessageDeflate: mode === 'deflate' ? { threshold: 0 } : false });
const messages = [];
for (const size of [0, 1, 125, 126, 1000, 65534, 65536]) {
  messages.push('é'.repeat(size / 2), Buffer.alloc(size, 7));
}
let at = 0, ponged = false;
const next = () => ws.send(messages[at]);
ws.on('open', () => { console.log('extensions', ws.extensions.split(';')[0]); next(); });
ws.on('message', (data, binary) => {
  const want = Buffer.from(messages[at]);
  if (binary !== Buffer.isBuffer(messages[at]) || !want.equals(data)) { console.log('differs', at); process.exit(1); }
  if (++at < messages.length) return next();
  ws.ping('data');
});
ws.on('pong', (data) => { ponged = String(data) === 'data'; ws.close(4000, 'done'); });
ws.on('close', (code, reason) => { console.log('closed', code, ponged); });
ws.on('error', (error) => { console.log('error', error.message); process.exit(1); });
"""


@tap.case("npm ws: text, binary, ping and close are echoed")
def _():
    tap.is_(node(NODE_ECHO, URL + "/echo", "plain"), ["extensions ", "closed 4000 true"], "output")


@tap.case("npm ws with perMessageDeflate")
def _():
    tap.is_(node(NODE_ECHO, URL + "/deflate", "deflate"), ["extensions permessage-deflate", "closed 4000 true"], "output")
    tap.is_(node(NODE_ECHO, URL + "/deflate/min", "deflate"), ["extensions permessage-deflate", "closed 4000 true"], "output with min=256")


@tap.case("npm ws offering deflate where it is off")
def _():
    tap.is_(node(NODE_ECHO, URL + "/echo", "deflate"), ["extensions ", "closed 4000 true"], "output")


@tap.case("npm ws sees the close codes of refused tokens")
def _():
    script = """
const { WebSocket } = require('ws');
const ws = new WebSocket(process.argv[2]);
ws.on('close', (code) => console.log('closed', code));
ws.on('error', (error) => console.log('error', error.message));
"""
    tap.is_(node(script, URL + "/ws"), ["closed 4001"], "no token")
    tap.is_(node(script, URL + "/ws?token=nonsense"), ["closed 4002"], "a bad token")
    tap.is_(node(script, URL + "/nowhere"), ["error Unexpected server response: 404", "closed 1006"], "no such place")


def wscat(url, command, until, meanwhile=None):
    """What wscat prints until a line has `until`. Its standard input stays open: at its end wscat leaves."""
    program = os.path.join(MODULES, "wscat/bin/wscat")
    if not os.path.exists(program):
        tap.fail("t/node_modules has no wscat: run ./build.sh test, which installs it")
    client = subprocess.Popen(["node", program, "-c", url, "-x", command, "-w", "-1", "--no-color"], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = threading.Timer(30 * SCALE, client.kill)
    deadline.start()
    try:
        if meanwhile:
            wait_until(lambda: client.poll() is not None or meanwhile(), "wscat to be a member", 20 * SCALE)
        seen = ""
        while until not in seen:
            line = client.stdout.readline()
            tap.ok(line, f"wscat ended: {seen}")
            seen += line
        return seen
    finally:
        deadline.cancel()
        client.kill()
        client.wait()


@tap.case("wscat against echo")
def _():
    wscat(URL + "/echo", "hello", "hello")


@tap.case("wscat connects with ?token=, subscribes and prints what is published")
def _():
    def publish():
        return http.publish(server, {"room": "session:cat", "type": "x", "data": {"n": 3}})["subscribers"] == 1
    seen = wscat(f"{URL}/ws?token={TOKEN}", '{"type":"subscribe","room":"session:cat"}', '"n":3', publish)
    for word in ('"connected"', '"subscribed"', '"x"'):
        tap.in_(word, seen, "what wscat printed")


tap.run()

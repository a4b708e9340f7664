#!/usr/bin/python3
"""docs/from-….md: what stands there as "before" and as "after" is run, and pages see the same of both."""
import functools
import json
import os
import re
import subprocess
import sys
import tempfile
import uuid
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import example, http, jwt, tap, ws         # noqa: E402
from rooms.nginx import free_port                     # noqa: E402
from rooms.redis import Redis                         # noqa: E402
from rooms.script import Script                       # noqa: E402

# A page outside of a browser: its WebSocket is npm's, which sends the cookie that a browser would send by itself.
BROWSER = """
import WS from 'ws'
const [arguments_, cookie] = JSON.parse(process.argv[2])
globalThis.WebSocket = class extends WS {
  constructor(url, protocols) {
    super(url, protocols, cookie ? { headers: { cookie } } : {})
  }
}
const { fetch } = globalThis
globalThis.fetch = (url, options = {}) => fetch(url, cookie ? { ...options, headers: { ...options.headers, cookie } } : options)
const say = (kind) => (value) => console.log(JSON.stringify([kind, value]))
const { watch } = await import('./page.mjs')
watch(...arguments_, { onEvent: say('event'), onState: say('state'), onUsers: say('users') })
"""


class Page(Script):
    def __init__(self, text, *arguments, cookie=None):
        super().__init__({"browser.mjs": BROWSER, "page.mjs": text}, json.dumps([arguments, cookie]))

    def state(self, wanted):
        self.wait(lambda _: wanted in self.said("state"), f"the page to be {wanted}")
        return self

    def events(self, count):
        """The first so many, in order of their rooms, each room in its own order."""
        self.wait(lambda _: len(self.said("event")) >= count, f"{count} events")
        return sorted(self.said("event"), key=lambda event: event.get("room", ""))


DEBIANS = "/usr/sbin/nginx"    # the one that Debian's Nchan fits


def user(name, tenant, **more):
    return {"token": jwt.mint(sub=name, tenant_id=tenant, **more), "tenant": tenant}


def post(port, path, body, expect=204):
    answer = http.request(("127.0.0.1", port), "POST", path, {"Content-Type": "application/json"}, json.dumps(body))
    tap.is_(answer.status, expect, f"POST {path}")


def same(before, after):
    """Each event of before is one of after, with all that it says but its time; after may say more."""
    tap.is_([event["type"] for event in after], [event["type"] for event in before], "types of events")
    for old, new in zip(before, after):
        tap.is_({name: new.get(name) for name in old if name != "timestamp"},
                {name: value for name, value in old.items() if name != "timestamp"}, "an event")


def location(text, path):
    """The lines of this location in a page's configuration."""
    return re.search(rf"^ +location = {path} \{{.*?^ +\}}\n", text, re.M | re.S)[0]


def line(text, pattern):
    """A directive that the page names in a sentence or a table."""
    return tap.like(text, rf"`({pattern})`")[1]


def joins(socket, room):
    """What the first answer to a subscribe is: "in", or the code of the error, which is final."""
    socket.send_json(type="subscribe", room=room)
    answer = socket.recv_json()
    if answer["type"] == "error":
        tap.is_(answer["retryable"], False, "retryable")
        return answer["code"]
    socket.send_json(type="unsubscribe", room=room)
    socket.expect(type="unsubscribed", room=room)
    return "in" if answer["type"] == "subscribed" else answer


# A backend's answer to "may join": as long as there is a file; it says what it was asked.
MAY_JOIN = """
    import { existsSync } from 'node:fs'
    import { createServer } from 'node:http'
    createServer(({ url }, response) => {
      console.log(JSON.stringify(['asked', url]))
      response.writeHead(existsSync('granted') ? 204 : 403).end()
    }).listen(process.env.PORT, '127.0.0.1', () => console.log('["ready", 0]\\nready'))
"""


def grant(backend, granted=True):
    path = os.path.join(backend.dir, "granted")
    if granted:
        with open(path, "w", encoding="utf-8"):
            return
    os.remove(path)


SECRET_FILE = {"/etc/nginx/rooms.secret": jwt.SECRET}

# --- Node's ws

NODE = example.page("docs/from-node-ws.md")


def node_story(port, texts, approval_status):
    """What two members of acme see, and one of globex who asks for acme's session; with each of these pages."""
    people = (("ann", "acme", "live"), ("abe", "acme", "live"), ("eve", "globex", "refused"))
    pages = [(Page(text, f"127.0.0.1:{port}", user(name, tenant), "1"), state)
             for text in texts for name, tenant, state in people]
    try:
        for page, state in pages:
            page.state(state)
        post(port, "/sessions/1/messages", {"content": "hello"})
        post(port, "/tenants/acme/notices", {"text": "lunch"})
        post(port, "/approvals", {"id": "a1", "sessionId": "1", "action": "deploy", "timeout": 0.2}, approval_status)
        for page, state in pages:
            if state == "live":
                page.events(4)
        post(port, "/tenants/globex/notices", {"text": "yours"})
        return [page.events(4 if state == "live" else 1) for page, state in pages]
    finally:
        for page, _ in pages:
            page.close()


def backend_of(page, info, port, **env):
    """The page's server on this port."""
    return Script({"server.mjs": example.block(page, info)}, env={"PORT": port, "JWT_SECRET": jwt.SECRET.decode(), **env}).ready()


def behind(port):
    return {"http://127.0.0.1:3000": f"http://127.0.0.1:{port}"}


def node_nginx(backend, conf=example.block(NODE, "nginx after")):
    return example.Example(conf, {"unix:/run/redis/redis-server.sock": redis.unix_url, **behind(backend)}, SECRET_FILE)


redis = Redis()


@functools.cache
def node_seen():
    """The story with the server and the page of before."""
    port = free_port()
    server = backend_of(NODE, "js before server", port)
    try:
        return node_story(port, [example.block(NODE, "js before page")], 204)
    finally:
        server.close()


@tap.case("ws: the Node server and its page, as they stand there: members get four events, another tenant's page none of them")
def _():
    seen = node_seen()
    tap.is_([[event["type"] for event in events] for events in seen],
            [["session:message", "approval:requested", "approval:resolved", "notice"]] * 2 + [["notice"]], "what each page saw")
    tap.is_(seen[0][2]["status"], "timeout", "the approval's end")
    tap.is_(seen[2][0]["text"], "yours", "the other tenant's notice")


@tap.case("ws: its defaults are those that the page names: messages of 100 MiB, no compression")
def _():
    server = Script({"defaults.mjs": """
        import { WebSocketServer } from 'ws'
        const { maxPayload, perMessageDeflate } = new WebSocketServer({ noServer: true }).options
        console.log(JSON.stringify(['defaults', [maxPayload, perMessageDeflate]]))
        console.log('ready')
    """}).ready()
    tap.is_(json.loads(server.lines[0])[1], [100 << 20, False], "of ws")
    tap.like(NODE, r"`ws` takes 100 MiB")
    server.close()


@tap.case("ws: nginx and the backend of after: the page of before, unchanged, sees the same, and so does the page of after")
def _():
    port = free_port()
    server = node_nginx(port)
    backend = backend_of(NODE, "js after server", port, NGINX=f"http://127.0.0.1:{server.port}")
    pages = [example.block(NODE, f"js {which} page") for which in ("before", "after")]
    seen = node_story(server.port, pages, 201)
    tap.is_(len(seen), 2 * len(node_seen()), "pages")
    for before, after in zip(2 * node_seen(), seen):
        same(before, after)
    backend.close()
    server.stop()


@tap.case("ws: on the way, /ws is proxied to Node; after the reload that page stays there, and the next one is nginx's")
def _():
    port = free_port()
    backend = backend_of(NODE, "js before server", port)
    after = example.block(NODE, "nginx after")
    server = node_nginx(port, example.replaced(after, {location(after, "/ws"): example.block(NODE, "nginx meanwhile")}))
    host, page = f"127.0.0.1:{server.port}", example.block(NODE, "js before page")
    first = Page(page, host, user("ann", "acme"), "1").state("live")
    server.take(after)
    server.reload()
    second = Page(page, host, user("abe", "acme"), "1")
    second.state("refused")     # the backend of before has no /may-join; a tenant's room needs none
    post(port, "/tenants/acme/notices", {"text": "by Node"})
    http.publish(server, {"room": "tenant:acme", "type": "notice", "data": {"text": "by nginx"}})
    tap.is_([one.events(1)[0]["text"] for one in (first, second)], ["by Node", "by nginx"], "who got which")
    first.close()
    second.close()
    backend.close()
    server.stop()


@tap.case("ws: of sockets nobody hears but by a rule that asks; a tab has a room of its own; a binary message ends the socket")
def _():
    port = free_port()
    own, tab = line(NODE, r"rooms_allow user:\$rooms_user;"), line(NODE, r"rooms_allow tab:\$rooms_user:\*;")
    server = node_nginx(port, example.replaced(example.block(NODE, "nginx after"), {"rooms;\n": f"""rooms;
        {own.replace(";", " request=/may-join?session=hello&tenant=$rooms_user cache=0;")} {tab}
        {line(NODE, r"rooms_join user:[$]rooms_user;")}
    """}))
    backend = Script({"server.mjs": MAY_JOIN}, env={"PORT": port})
    backend.wait(lambda lines: "ready" in lines, "ready")
    grant(backend)
    for times in (1, 2):
        with ws.connect(server, "/ws", token=jwt.mint(sub="ann", tenant_id="acme")) as socket:
            for room in (None, "tenant:acme", "user:ann"):
                socket.recv_json()
            backend.wait(lambda lines, times=times: sum("hello&tenant=ann" in one for one in lines) == times, "a question")
            tap.is_([joins(socket, room) for room in ("tab:ann:x7", "tab:eve:x7")], ["in", "forbidden"], "tabs")
            socket.send_binary(b"x")
            socket.expect_closed({1003})
    backend.close()
    server.stop()


@tap.case("ws: what ends a user's sockets: a reload behind a map or an auth_request, another key and a reload")
def _():
    after = example.replaced(example.block(NODE, "nginx after"), {"rooms;\n": "rooms; rooms_drain 300ms;\n"})
    guard = line(NODE, r"if \(\$banned\) \{ return 403; \}")
    server = node_nginx(free_port(), after)

    def open_socket(name):
        socket = ws.connect(server, "/ws", token=jwt.mint(sub=name, tenant_id="acme"))
        socket.expect(type="connected")
        socket.expect(type="subscribed", room="tenant:acme")
        return socket

    def status(name):
        try:
            open_socket(name).close()
        except ws.HandshakeRefused as refusal:
            return refusal.response.status
        return 101

    def sent_away(text):
        with open_socket("ann") as socket:
            server.take(text)
            server.reload()
            socket.expect(type="reconnect")
            socket.expect_closed({1012})

    sent_away(example.replaced(after, {"rooms; ": f"{guard} rooms; ", "server {": "map $rooms_user $banned { ann 1; } server {"}))
    tap.is_([status("ann"), status("abe")], [403, 101], "with a map")
    server.take(example.replaced(after, {"rooms; ": "auth_request /gate; rooms; ",
                                         "location = /publish": "location = /gate { return 403; } location = /publish"}))
    server.reload(wait_old=True)
    tap.is_(status("abe"), 403, "with an auth_request")
    server.take(after)
    server.reload(wait_old=True)
    server.write("rooms.secret", "another secret, which has thirty-two bytes")
    sent_away(after)
    with ws.connect(server, "/ws", token=jwt.mint(sub="ann", tenant_id="acme")) as socket:
        socket.expect_closed({4002})
    server.stop()


# --- Nchan

NCHAN = example.page("docs/from-nchan.md")
NOTICE = {"type": "notice", "text": "lunch"}


def sh(text, port, words=None):
    """What a shell line of a page prints; 8080 is this port."""
    line = example.replaced(text, {"127.0.0.1:8080": f"127.0.0.1:{port}", **(words or {})})
    done = subprocess.run(["/bin/bash", "-euc", line.replace("curl ", "curl -sS ")], capture_output=True, text=True, check=False)
    tap.is_((done.returncode, done.stderr), (0, ""), "exit code and errors")
    return done.stdout


def nchan_story(server, text, info):
    """What two pages of the tenant see of the page's publication, and what it was answered."""
    pages = [Page(text, f"127.0.0.1:{server.port}", "tenant:acme", cookie=cookie("acme")) for _ in range(2)]
    try:
        for page in pages:
            page.state("live")
        answer = sh(example.block(NCHAN, info), server.port)
        return [page.events(1)[0] for page in pages], answer
    finally:
        for page in pages:
            page.close()


def nchan_socket(server, path, headers=()):
    """Its 101 has a Content-Length, which ws.connect() takes amiss."""
    wire = ws.open_wire(server)
    wire.send(ws.handshake_octets(path, key=ws.new_key(), headers=headers))
    return ws.WebSocket(wire, http.read_response(wire))


def cookie(tenant):
    return f"token={user('ann', tenant)['token']}"


def refused(server, text):
    page = Page(text, f"127.0.0.1:{server.port}", "tenant:acme", cookie=cookie("globex")).state("refused")
    tap.is_(page.said("event"), [], "events at another tenant's page")
    page.close()


def debians_nchan(text, words=None):
    return example.Example(text, words, name="nchan", binary=DEBIANS)


def nchan_before():
    port = free_port()
    backend = backend_of(NCHAN, "js before server", port)
    return backend, debians_nchan(example.block(NCHAN, "nginx before"), behind(port))


def nchan_after(words=None):
    return example.Example(example.block(NCHAN, "nginx after"), words, SECRET_FILE)


@tap.case("nchan: Debian's, as it stands there: two subscribers get the message, another tenant's is refused")
def _():
    backend, server = nchan_before()
    page = example.block(NCHAN, "js before page")
    refused(server, page)
    members, answer = nchan_story(server, page, "sh before publish")
    tap.is_(members, [NOTICE, NOTICE], "what they got")
    tap.like(answer, r"active subscribers: 2")
    server.stop()
    backend.close()


@tap.case("nchan: nginx of after: the same for the page of after, and for the page of before at its old URL")
def _():
    server = nchan_after({"location = /ws ": example.block(NCHAN, "nginx meanwhile") + "location = /ws "})
    refused(server, example.block(NCHAN, "js after page"))
    with ws.connect(server, "/sub/tenant:acme", headers={"Cookie": cookie("globex")}) as stranger:
        stranger.expect(type="connected")
        stranger.expect(type="error", code="forbidden", room="tenant:acme")
        for which in ("after", "before"):
            members, answer = nchan_story(server, example.block(NCHAN, f"js {which} page"), "sh after publish")
            for event in members:
                same([NOTICE], [event])
            tap.is_(json.loads(answer)["subscribers"], 2, "subscribers")
        stranger.expect_nothing()
        stranger.close()
    server.stop()


@tap.case("nchan: what only Nchan does: EventSource, long polling, a page that publishes, a buffer for who has no position")
def _():
    server = debians_nchan(example.replaced(example.block(NCHAN, "nginx before"), {
        "nchan_subscriber        websocket;": "nchan_subscriber;", "nchan_publisher             http;": "nchan_publisher;",
        "nchan_authorize_request /may-read;": ""}))
    with nchan_socket(server, "/pub/tenant:acme") as publisher:
        publisher.send_text("one")
        tap.like(publisher.recv_text(), "queued messages: 1")
        publisher.close()
    with nchan_socket(server, "/sub/tenant:acme") as late:
        tap.is_(late.recv_text(), "one", "what a new subscriber begins with")
        late.close()
    tap.is_(http.get(server, "/sub/tenant:acme").text, "one", "a long poll")
    stream = ws.open_wire(server)
    stream.send(http.request_octets("GET", "/sub/tenant:acme", {"Accept": "text/event-stream"}))
    stream.take_until(b"data: one\n")
    stream.close()
    server.stop()

    server = nchan_after()
    http.publish(server, {"room": "tenant:acme", "type": "notice"})
    headers = {"Cookie": cookie("acme")}
    with ws.connect(server, "/ws", headers=headers) as page:
        page.expect(type="connected")
        page.send_json(type="notice", room="tenant:acme")
        page.expect(type="error", code="unknown_type")
        page.send_json(type="subscribe", room="tenant:acme")
        page.expect(type="subscribed", offset=1)
        page.expect_nothing()
        page.close()
    tap.is_(http.get(server, "/ws", headers=headers | {"Accept": "text/event-stream"}).status, 400, "an EventSource")
    server.stop()


@tap.case("nchan: what no page may do that stays as it was: ws+meta.nchan, a heartbeat of its own; Nchan takes both")
def _():
    port = free_port()
    backend = backend_of(NCHAN, "js before server", port)
    before = debians_nchan(example.replaced(example.block(NCHAN, "nginx before"), {
        "nchan_subscriber        websocket;": "nchan_pubsub websocket; nchan_websocket_client_heartbeat PING PONG;",
        "nchan_message_buffer_length 256;": "", "nchan_message_timeout       10m;": ""}), behind(port))
    after = nchan_after({"location = /ws ": example.block(NCHAN, "nginx meanwhile") + "location = /ws "})
    asking = example.replaced(example.block(NCHAN, "js before page"), {"/sub/${channel}`": "/sub/${channel}`, 'ws+meta.nchan'"})
    pages = [Page(asking, f"127.0.0.1:{server.port}", "tenant:acme", cookie=cookie("acme")) for server in (before, after)]
    for page, state in zip(pages, ("live", "refused")):
        page.state(state).close()

    for n in range(12):
        http.request(before, "POST", "/pub/tenant:acme", {}, str(n))
    with nchan_socket(before, "/sub/tenant:acme", {"Cookie": cookie("acme")}) as socket:
        tap.is_([socket.recv_text() for _ in range(10)], [str(n) for n in range(2, 12)], "the buffer of before, by default")
        socket.send_text("PING")
        tap.is_(socket.recv_text(), "PONG", "its heartbeat")
        socket.close()
    http.publish(after, {"room": "tenant:acme", "type": "notice"})
    with ws.connect(after, "/sub/tenant:acme", headers={"Cookie": cookie("acme")}) as socket:
        socket.expect(type="connected")
        socket.expect(type="subscribed", offset=1)
        socket.send_text("PING")
        socket.expect(type="error", code="bad_json")
        socket.expect_nothing()
        socket.close()
    with ws.connect(after, "/ws", headers={"Cookie": f"token={jwt.mint(sub='ann', tenant_id='acme', exp=None)}"}) as socket:
        socket.expect_closed({4002})
    before.stop()
    after.stop()
    backend.close()


@tap.case("nchan: X-Accel-Redirect into an internal location; auth_request beside rooms_publish; its defaults for history")
def _():
    histories = [line(NCHAN, r"rooms_history \* size=10 ttl=1h"), f"rooms_history long:* ttl={line(NCHAN, '365d')}"]
    port = free_port()
    backend = Script({"server.mjs": """
        import { createServer } from 'node:http'
        const there = { 'X-Accel-Redirect': '/inner/tenant:acme', 'Content-Length': 0 }
        createServer((_, response) => response.writeHead(200, there).end())
          .listen(process.env.PORT, '127.0.0.1', () => console.log('ready'))
    """}, env={"PORT": port}).ready()
    server = nchan_after({
        "rooms_history tenant:* size=256 ttl=10m;": "".join(f"{one};" for one in reversed(histories)),
        "rooms_allow     tenant:$rooms_claim_tenant_id;": "",
        "location = /ws ": example.block(NCHAN, "nginx meanwhile accel") + f"""
            location = /sub {{ proxy_pass http://127.0.0.1:{port}; }}
            location = /gate {{ internal; if ($http_x_key) {{ return 204; }} return 403; }}
            location = /guarded {{ auth_request /gate; rooms_publish; }}
            location = /ws """})
    with ws.connect(server, "/sub", headers={"Cookie": cookie("globex")}) as socket:
        socket.expect(type="connected")
        socket.expect(type="subscribed", room="tenant:acme")
        for headers, status in (({}, 403), ({"X-Key": "1"}, 200)):
            http.request(server, "POST", "/guarded", headers, '{"room":"tenant:acme","type":"notice"}')
            tap.is_(http.request(server, "POST", "/guarded", headers, '{"room":"a:1","type":"notice"}').status, status, "status")
        socket.expect(type="notice", offset=1)
        socket.close()
    with ws.connect(server, "/sub") as socket:
        socket.expect_closed({4001})
    tap.is_(http.get(server, "/inner/tenant:acme").status, 404, "from outside")
    server.stop()
    backend.close()


@tap.case("nchan: its memory is empty after a reload; that of rooms is not")
def _():
    backend, server = nchan_before()
    sh(example.block(NCHAN, "sh before publish"), server.port)
    tap.is_(http.get(server, "/pub/tenant:acme").status, 200, "the channel")
    server.reload(wait_old=True)
    tap.is_(http.get(server, "/pub/tenant:acme").status, 404, "the channel after a reload")
    server.stop()
    backend.close()
    server = nchan_after()
    epoch = json.loads(sh(example.block(NCHAN, "sh after publish"), server.port))["epoch"]
    server.reload(wait_old=True)
    with ws.connect(server, "/ws", headers={"Cookie": cookie("acme")}) as page:
        page.expect(type="connected")
        page.send_json(type="subscribe", room="tenant:acme", since={"epoch": epoch, "offset": 0})
        page.expect(type="subscribed", recovered=True)
        same([NOTICE], [page.recv_json()])
        page.close()
    server.stop()


# --- Pusher

PUSHER = example.page("docs/from-pusher.md")


@tap.case("pusher: what stands there as before, which needs an account, is JavaScript")
def _():
    for which in ("server", "page"):
        with tempfile.NamedTemporaryFile("w", suffix=".mjs") as file:
            file.write(example.block(PUSHER, f"js before {which}"))
            file.flush()
            done = subprocess.run(["node", "--check", file.name], capture_output=True, text=True, check=False)
        tap.is_((done.returncode, done.stderr), (0, ""), f"the {which}")


@tap.case("pusher: nginx, backend and page of after: members get the message and see each other, another user is refused")
def _():
    port = free_port()
    secret = "a secret of publishers"
    server = example.Example(example.block(PUSHER, "nginx after"), behind(port),
                             SECRET_FILE | {"/etc/nginx/publish.secret": secret})
    backend = backend_of(PUSHER, "js after server", port, NGINX=f"http://127.0.0.1:{server.port}", PUBLISH_SECRET=secret)
    page = example.block(PUSHER, "js after page")
    ann, abe = (Page(page, f"127.0.0.1:{server.port}", "1", cookie=f"user={name}").state("live") for name in ("ann", "abe"))
    eve = Page(page, f"127.0.0.1:{server.port}", "1", cookie="user=eve").state("refused")
    abe.wait(lambda _: abe.said("users"), "who is there")
    tap.is_(sorted(abe.said("users")[0]), ["abe", "ann"], "who is there")
    answer = http.request(server, "POST", "/sessions/1/messages", {"Cookie": "user=ann"}, '{"text":"hello"}')
    tap.is_(answer.status, 204, "status")
    for one in (ann, abe):
        same([{"type": "message", "from": "ann", "text": "hello", "sessionId": "1"}], one.events(1))
    tap.is_(eve.said("event"), [], "what eve got")

    line = example.block(PUSHER, "sh after publish")
    taken = json.loads(sh(line, server.port, {"/etc/nginx/publish.secret": server.path("publish.secret")}))
    tap.is_((taken["room"], taken["subscribers"]), ("user:ann", 1), "room and subscribers")
    refused = json.loads(sh(line, server.port, {"/etc/nginx/publish.secret": server.path("rooms.secret")}))
    tap.is_(refused["error"]["code"], "unauthorized", "with another secret")
    for one in (ann, abe, eve):
        one.close()
    backend.close()
    server.stop()


def pusher_nginx(backend, words=None):
    return example.Example(example.block(PUSHER, "nginx after"), {**(words or {}), **behind(backend)},
                           SECRET_FILE | {"/etc/nginx/publish.secret": "a secret of publishers"})


@tap.case("pusher: what is granted after the token was made is forbidden until reconnect() gets another, or a rule asks")
def _():
    port = free_port()
    server = pusher_nginx(port)
    later = "get eve() { return existsSync('granted') ? ['2', '1'] : ['2'] } }"
    backend = Script({"server.mjs": "import { existsSync } from 'node:fs'\n" + example.replaced(
        example.block(PUSHER, "js after server"), {"eve: ['2'] }": later})},
        env={"PORT": port, "JWT_SECRET": jwt.SECRET.decode(), "PUBLISH_SECRET": "x"}).ready()
    text = example.block(PUSHER, "js after page")
    again = example.replaced(text, {"onState('refused')": "(onState('refused'), setTimeout(() => client.reconnect(), 50))"})
    with ws.connect(server, "/ws", token=jwt.mint(sub="eve", rooms=["session:2"])) as socket:
        socket.expect(type="connected")
        socket.expect(type="subscribed", room="user:eve")
        page = Page(again, f"127.0.0.1:{server.port}", "1", cookie="user=eve").state("refused")
        grant(backend)
        page.state("live").close()
        tap.is_([joins(socket, room) for room in ("session:2", "session:1")], ["in", "forbidden"], "with the token of before")
        socket.close()
    server.stop()
    backend.close()

    asking = example.block(PUSHER, "nginx after asking")
    server = pusher_nginx(port, {"rooms_join ": f"{asking} rooms_join ", "location = /publish ":
                                 location(example.block(NODE, "nginx after"), "/may-join") + "location = /publish "})
    backend = Script({"server.mjs": MAY_JOIN}, env={"PORT": port})
    backend.wait(lambda lines: "ready" in lines, "ready")
    with ws.connect(server, "/ws", token=jwt.mint(sub="eve", rooms=["session:2"])) as socket:
        socket.expect(type="connected")
        socket.expect(type="subscribed", room="user:eve")
        tap.is_([joins(socket, room) for room in ("session:2", "session:1")], ["in", "forbidden"], "before")
        grant(backend)
        tap.is_(joins(socket, "session:1"), "in", "with the same token, for a no is not kept")
        grant(backend, False)
        tap.is_(joins(socket, "session:1"), "in", "a yes is")
        socket.close()
    asked = [one for one in backend.lines if "asked" in one]
    tap.is_([json.loads(one)[1] for one in asked], ["/may-join?session=1&user=eve"] * 2, "questions")
    server.stop()
    backend.close()


@tap.case("pusher: how many names a token may have: beyond it nginx says 400, to ?token= 414; a socket is in 128 rooms")
def _():
    server = pusher_nginx(free_port(), {"rooms_join ": "rooms_rate 1000/10s; rooms_join "})

    def answer(rooms, query=False):
        token = jwt.mint(sub="ann", rooms=rooms)
        try:
            with ws.connect(server, f"/ws?token={token}" if query else "/ws", token=None if query else token) as socket:
                socket.expect(type="connected")
                socket.close()
        except ws.HandshakeRefused as refusal:
            return refusal.response.status
        return 101

    def names(count):
        return [f"session:{n:05}" for n in range(count)]

    def ids(count):
        return [f"session:{uuid.uuid4()}" for n in range(count)]

    tap.like(PUSHER, r"300 names like `session:00042` fit \(6\.5 kB\), 400 do not; of\s"
                     r"`session:` with a UUID 125 fit, 140 do not")
    tap.is_(round(len(jwt.mint(sub="ann", rooms=names(300))) / 1000, 1), 6.5, "kB")
    tap.is_([answer(names(300)), answer(names(400)), answer(ids(125)), answer(ids(140))], [101, 400, 101, 400], "in a header")
    tap.is_([answer(names(300), True), answer(names(400), True), answer(ids(125), True), answer(ids(140), True)],
            [101, 414, 101, 414], "as ?token=")
    with ws.connect(server, "/ws", token=jwt.mint(sub="ann", rooms=["session:*"])) as socket:
        socket.expect(type="connected")
        socket.expect(type="subscribed", room="user:ann")
        for n in range(127):
            socket.send_json(type="subscribe", room=f"session:{n}")
            socket.expect(type="subscribed")
        tap.is_(joins(socket, "session:127"), "limit", "the next")
        socket.close()
    server.stop()


# --- what all three say

NAMES = ("[a-z][a-z0-9_-]{0,31}", "[A-Za-z0-9_.:@~-]")


@tap.case("all: type, room, offset and timestamp of data are dropped, not those one level down; what names rooms may have")
def _():
    server = nchan_after()
    mine = {"type": "mine", "room": "tenant:globex", "offset": 7, "timestamp": 7}
    with ws.connect(server, "/ws", headers={"Cookie": cookie("acme")}) as page:
        page.expect(type="connected")
        page.send_json(type="subscribe", room="tenant:acme")
        page.expect(type="subscribed")
        http.publish(server, {"room": "tenant:acme", "type": "notice", "data": {**mine, "message": mine}})
        event = page.expect(type="notice", room="tenant:acme", offset=1, message=mine)
        tap.isnt(event["timestamp"], 7, "timestamp")
        tap.is_(sorted(event), sorted([*mine, "message", "tenantId"]), "fields")
        page.close()
    for page in (NODE, NCHAN, PUSHER):
        tap.like(page, r"`type`, `room`, `offset` and `timestamp` inside `data`")
        for part in NAMES:
            tap.ok(part in page, part)

    def status(room):
        return http.request(server, "POST", "/publish", {}, json.dumps({"room": room, "type": "notice"})).status
    good = ("channel:foo", "user:1", "private:App.Models.User.1", "a_b-1:A.b:c@d~e-f_g", f"{'k' * 32}:{'x' * 200}")
    bad = ("foo", "channel:foo/bar", "channel:a b", "App.Models.User:1", "channel:a,b", "channel:a;b", "channel:a=b",
           "channel:a%20b", "channel:\u00e4", "channel:", "1:a", f"{'k' * 33}:1", f"a:{'x' * 201}")
    tap.is_([status(room) for room in good + bad], [200] * len(good) + [400] * len(bad), "rooms")
    server.stop()


tap.run()

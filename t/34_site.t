#!/usr/bin/python3
"""The configurations of docs/operations.md that say who reaches what: a whole site, a proxy in front, backends elsewhere, a
development server, several hosts; and the tokens that its snippets mint. Each is the page's own text."""
import grp
import json
import os
import pwd
import re
import shlex
import shutil
import signal
import socket as sockets
import stat
import subprocess
import sys
import tempfile
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import ROOT, SCALE, example, http, jwt, started, tap, wait_until, ws    # noqa: E402
from rooms.example import block, paste, replaced                           # noqa: E402
from rooms.net import Net                                                  # noqa: E402
from rooms.nginx import BINARY, Nginx, make_certificate                    # noqa: E402
from rooms.page import join, open_page                                     # noqa: E402
from rooms.process import alive                                           # noqa: E402
from rooms.redis import Redis                                              # noqa: E402

PAGE = example.page("docs/operations.md")
BACKEND_SECRET = "the secret of a backend"
USER, GROUP = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
# The page's blocks are pasted by root, and what they make is used by the backend's user.
APP = "nobody" if os.geteuid() == 0 else USER
# Who reads X-Worker knows which process, and so which host, holds a socket.
HTTP = "add_header X-Worker $pid always;\n"


def shown(info, words=None):
    """A block of the page, with other addresses and paths."""
    return replaced(block(PAGE, info), words or {})


folder = tempfile.mkdtemp(prefix="rooms-site-")
os.chmod(folder, 0o755)
CERTIFICATE = make_certificate(folder)


class Folder:
    def close(self):
        shutil.rmtree(folder, ignore_errors=True)


started.add(Folder())


def at(host="127.0.0.1"):
    """An address that is free."""
    return host, started.port()


def text(address):
    return f"{address[0]}:{address[1]}"


def certificate(address):
    """The words of a server of the page with TLS, and what is put in their place."""
    return {"listen 443 ssl": f"listen {text(address)} ssl",
            "/etc/letsencrypt/live/app.example.com/fullchain.pem": CERTIFICATE[0],
            "/etc/letsencrypt/live/app.example.com/privkey.pem": CERTIFICATE[1]}


def as_app(command):
    """What a shell of the backend's user prints."""
    if APP != USER:
        group = grp.getgrgid(pwd.getpwnam(APP).pw_gid).gr_name
        command = f"setpriv --reuid {APP} --regid {group} --clear-groups bash -euo pipefail -c {shlex.quote(command)}"
    return paste(command)


def headers_of_backend():
    return {"Authorization": f"Bearer {BACKEND_SECRET}"}


def event(room, n):
    return {"room": room, "type": "x", "data": {"n": n}}


def origin(address, scheme="https"):
    return f"{scheme}://localhost:{address[1]}"


def open_at(address, *rooms, tls=True, claims=None, **options):
    """A page of the site at this address: a browser's origin and host, in these rooms."""
    options = {"host": f"localhost:{address[1]}", "origin": origin(address), **options}
    socket = ws.connect(address, "/ws", tls=tls, token=jwt.mint(sub="u1", tenant_id="acme", **(claims or {})), **options)
    socket.expect(type="connected", userId="u1")
    for room in rooms:
        join(socket, room)
    return socket


def refused(connect, *arguments, **options):
    """The status with which a handshake is refused."""
    try:
        connect(*arguments, **options).drop()
    except ws.HandshakeRefused as error:
        return error.status
    return tap.fail("let in")


# --- a whole site

redis = Redis()
PLAIN, SITE, LOCAL, API = at(), at(), at(), at()
site = Nginx(name="the site", start=False, files={"rooms.secret": jwt.SECRET, "app/index.html": "<title>the app</title>",
                                                  "app/app.js": "'the script'"})
site.pieces["http"] = HTTP + shown("nginx site", {
    **certificate(SITE), "listen 80": f"listen {text(PLAIN)}", "127.0.0.1:8081": text(LOCAL), "127.0.0.1:3000": text(API),
    "redis://127.0.0.1:6379": redis.url, "/var/www": "@DIR@", "/etc/nginx": "@DIR@", "/var/log/nginx": "@DIR@"}) + f"""
    server {{ listen {text(API)}; location / {{ return 200 "$uri $host $http_x_forwarded_for $http_x_forwarded_proto"; }} }}
"""
site.start()


def get(address, path, tls=False, **options):
    return http.get(address, path, tls=tls, **options)


@tap.case("a whole site: without TLS one is sent to it; files are files, and every other path is the app's page")
def _():
    moved = get(PLAIN, "/any?x=1", host="app.example.com")
    tap.is_((moved.status, moved.get("Location")), (301, "https://app.example.com/any?x=1"), "port 80")
    tap.is_(get(SITE, "/app.js", tls=True).text, "'the script'", "a file")
    served = set(re.findall(r"location (?:[=~^*]+ +)? *(\S+) +\{", block(PAGE, "nginx site")))
    tap.ok(served >= {"/", "/api/", "/ws", "/publish", "/approvals", "/status"}, f"the page's locations: {served}")
    for path in sorted(served - {"/api/", "/ws"} | {"/sessions/42", "/approvals/a1", "/status?health", "/ws/"}):
        answer = get(SITE, path, tls=True)
        tap.is_((answer.status, answer.text), (200, "<title>the app</title>"), path)


@tap.case("a whole site: /api/ is the backend's, which hears who asked, and by what scheme")
def _():
    answer = get(SITE, "/api/token?x=1", tls=True, host="app.example.com")
    tap.is_((answer.status, answer.text), (200, "/api/token app.example.com 127.0.0.1 https"), "what the backend hears")


@tap.case("a whole site: a page gets in over TLS by its token, is in its tenant's room, and has a line in the log of sockets")
def _():
    with open_at(SITE) as page:
        page.expect(type="subscribed", room="tenant:acme")
        join(page, "user:u1")
        answer = http.publish(LOCAL, event("tenant:acme", 1))
        page.expect(type="x", n=1, room="tenant:acme", tenantId="acme", offset=answer["offset"])
        page.send_json(type="subscribe", room="tenant:globex")
        page.expect(type="error", code="forbidden", room="tenant:globex")
        page.close(1000)
    wait_until(lambda: re.search(r"^127\.0\.0\.1 101 \d+ \d\.\d{3} u1 1000 2/5$", site.read("sockets.log"), re.M),
               f"a line in sockets.log: {site.read('sockets.log')!r}")
    tap.is_(refused(open_at, SITE, origin="https://evil.example"), 403, "another origin")


@tap.case("a whole site: nobody publishes, decides or looks at the status from outside; on the loopback port all three work")
def _():
    with open_at(SITE, claims={"rooms": ["session:42"]}) as page:
        page.expect(type="subscribed", room="tenant:acme")
        join(page, "session:42")
        for path in ("/publish", "/approvals", "/status"):
            answer = http.request(SITE, "POST", path, {"Content-Type": "application/json"},
                                  json.dumps(event("session:42", 1)), tls=True)
            tap.is_((answer.status, answer.get("Content-Type")), (405, "text/html"), f"POST {path} from outside")
        page.expect_nothing()
        http.publish(LOCAL, event("session:42", 2))
        page.expect(type="x", n=2)
        made = http.request(LOCAL, "POST", "/approvals", {"Content-Type": "application/json"},
                            '{"sessionId":"42","action":"deploy"}')
        tap.is_(made.status, 201, "an approval")
        page.expect(type="approval:requested", approvalId=made.json["id"], action="deploy")
        done = http.request(LOCAL, "POST", f"/approvals/{made.json['id']}/resolve", {"Content-Type": "application/json"},
                            '{"status":"approved","resolvedBy":"ann"}')
        tap.is_(done.status, 200, "a decision")
        page.expect(type="approval:resolved", status="approved", resolvedBy="ann")
        tap.is_(http.status(LOCAL)["connections"]["active"], 1, "the status")
        page.close()


# --- another proxy in front

PUBLIC, SHORT, HOSTNAME, TO_LOCAL, BARE, BEHIND = at(), at(), at(), at(), at(), at("127.0.2.5")
behind = Nginx(name="behind a proxy", files={"rooms.secret": jwt.SECRET, "publish.secret": BACKEND_SECRET},
               http=HTTP + shown("nginx behind", {"10.0.0.4": "127.0.0.1", "10.0.0.5:8080": text(BEHIND),
                                                  "/etc/nginx": "@DIR@", "rooms_heartbeat 30s": "rooms_heartbeat 400ms"}))


def front_of(address, target, read="1500ms"):
    return shown("nginx proxy", {**certificate(address), "10.0.0.5:8080": text(target),
                                 "proxy_read_timeout 60s": f"proxy_read_timeout {read}"})


front = Nginx(name="the proxy", module=False, http="".join([
    front_of(PUBLIC, BEHIND),
    front_of(SHORT, BEHIND, "200ms"),
    replaced(front_of(HOSTNAME, BEHIND), {"$http_host": "$host"}),
    front_of(TO_LOCAL, LOCAL),
    re.sub(r".*X-Forwarded-For.*\n", "", front_of(BARE, LOCAL)),
]))


@tap.case("behind a proxy: a page that says nothing stays for longer than the proxy's read timeout, as it is pinged meanwhile")
def _():
    since = len(front.log())
    begun = time.monotonic()
    with open_at(PUBLIC, "user:u1") as page, open_at(SHORT, "user:u1") as cut:
        # The other one is cut before it is pinged.
        tap.is_(cut.next_frame(), None, "a frame")
        tap.ok(time.monotonic() - begun < 0.4 + 0.5 * SCALE, "cut in time")
        front.wait_log(r"upstream timed out .*while proxying upgraded connection", since=since)
        tap.like(PAGE, r"upstream timed out … while proxying upgraded connection", "the page's words for it")
        seconds = [int(tap.like(PAGE, rf"^ +{name} +(\d+)s;")[1]) for name in ("rooms_heartbeat", "proxy_read_timeout")]
        tap.ok(seconds[0] < seconds[1], f"the page's own times: {seconds}")
        while page.pings < 5 or time.monotonic() < begun + 1.7:
            got = page.next_frame()
            tap.is_(got and got.opcode, ws.PING, "a frame of the silent socket")
            page.pings += 1
            page.send_frame(ws.PONG, got.payload)
        http.publish(PUBLIC, event("user:u1", 1), headers=headers_of_backend(), tls=True)
        while (got := page.next_frame()) and got.opcode == ws.PING:
            page.send_frame(ws.PONG, got.payload)
        tap.is_(json.loads(got.payload)["n"], 1, "the event")


@tap.case("behind a proxy: the page's own origin is let in, since the proxy tells the host with its port")
def _():
    tap.is_(refused(open_at, HOSTNAME), 403, "without the port")
    behind.wait_log(rf'origin "{origin(HOSTNAME)}" refused')
    open_at(PUBLIC).close()


def own_room_alone(page):
    join(page, "user:u1")
    for room in ("user:u2", "session:42", "tenant:acme"):
        page.send_json(type="subscribe", room=room)
        page.expect(type="error", code="forbidden", room=room)


@tap.case("behind a proxy: a page has the room of its user, and no other")
def _():
    with open_at(PUBLIC) as page:
        own_room_alone(page)


@tap.case("behind a proxy: logs have the browser's address, and not the one that it claims")
def _():
    paste(f"curl -skf --interface 127.0.2.9 -H 'X-Forwarded-For: 192.0.2.1' -H 'Authorization: Bearer {BACKEND_SECRET}' "
          f"-d '{json.dumps(event('user:u1', 2))}' https://{text(PUBLIC)}/publish")
    behind.wait_access_log(r'^127\.0\.2\.9 .*"POST /publish')
    tap.unlike(behind.access_log(), r"192\.0\.2\.1", "the log")


@tap.case("behind a proxy nobody is local: 403, and the log names the header and the directive; with `secret=` it works")
def _():
    for path, directive in (("/publish", "rooms_publish"), ("/status", "rooms_status"), ("/approvals", "rooms_approvals_api")):
        since = len(site.log())
        body = json.dumps(event("user:u1", 3)) if path == "/publish" else ""
        tap.is_(http.request(TO_LOCAL, "POST" if body else "GET", path, body=body, tls=True).status, 403, path)
        site.wait_log(rf'"{directive}" refused a local peer whose request has the header "X-Forwarded-For"', since=since)
    tap.is_(http.publish(PUBLIC, event("user:u1", 4), expect=None, tls=True).status, 401, "without the secret")
    http.publish(PUBLIC, event("user:u1", 5), headers=headers_of_backend(), tls=True)


@tap.case("a proxy on the same host that adds no header passes for the backend, as the page warns")
def _():
    http.publish(BARE, event("user:u1", 6), tls=True)


# --- a backend elsewhere

BACKEND, BACKEND_TLS = at("127.0.2.6"), at("127.0.2.6")
RUN, APP_FILES = os.path.join(folder, "run"), os.path.join(folder, "etc-app")
remote = Nginx("location = /ws { rooms; rooms_jwt_key HS256 @DIR@/rooms.secret; rooms_allow *; }", name="with backends elsewhere",
               start=False, files={"rooms.secret": jwt.SECRET})
paste("umask 077\n" + shown("sh publish-secret", {"/etc/nginx": remote.dir, "/etc/app": APP_FILES, "-o app": f"-o {APP}"}))
backend_block = shown("nginx backend", {"10.0.0.0/24": "127.0.3.0/24", "/etc/nginx": "@DIR@"})
remote.pieces["http"] = (
    replaced(backend_block, {"10.0.0.5:8081": text(BACKEND)}) + shown("nginx socket", {"/run/rooms": RUN})
    + replaced(backend_block, {"listen 10.0.0.5:8081;": shown("nginx backend-tls", {
        **{word: by for word, by in certificate(BACKEND_TLS).items() if word[0] == "/"}, "10.0.0.5:8081": text(BACKEND_TLS)})}))


def make_run():
    line = shown("tmpfiles socket", {"/run/rooms": RUN, "root app": f"{USER} {GROUP}"})
    with open(os.path.join(folder, "rooms.conf"), "w", encoding="utf-8") as file:
        file.write(line)
    if shutil.which("systemd-tmpfiles"):
        paste(f"systemd-tmpfiles --create {file.name}")
    else:
        kind, path, mode, user, group = line.split()
        tap.is_(kind, "d", "a directory")
        paste(f"install -d -m {mode} -o {user} -g {group} {path}")


make_run()
remote.start()


def backend(more="", url=f"http://{text(BACKEND)}", **words):
    """The page's command, with more options for curl: the answer, and its code."""
    return shown("sh backend", {"http://10.0.0.5:8081": url, "/etc/app": APP_FILES,
                                "curl ": f"curl -s -w ' %{{http_code}}' {more} ", **words})


def from_address(source, **words):
    return as_app(backend(f"--interface {source}", **words)).rpartition(" ")


@tap.case("a backend on another host publishes with its secret, and from its network only")
def _():
    with open_page(remote, "session:42") as page:
        answer, _, code = from_address("127.0.3.7")
        tap.is_((code, json.loads(answer)["subscribers"]), ("200", 1), "from the network")
        page.expect(type="session:update", state="done")
        since = len(remote.log())
        tap.is_(from_address("127.0.4.7")[2], "403", "from elsewhere")
        remote.wait_log(r'"rooms_publish" refused a peer outside of "from="', since=since)
        tap.is_(from_address("127.0.3.7", Bearer="Bearer x")[2], "401", "with a wrong secret")
        page.expect_nothing()


@tap.case("the status page is the backend's by its secret, and in its network only")
def _():
    for source, secret, code in (("127.0.3.7", "", "200"), ("127.0.3.7", "x", "401"), ("127.0.4.7", "", "403")):
        said = as_app(f"sed 's/^/Authorization: Bearer {secret}/' {APP_FILES}/publish.secret | curl -s -o /dev/null "
                      f"-w '%{{http_code}}' --interface {source} -H @- http://{text(BACKEND)}/status")
        tap.is_(said, code, f"/status from {source}, {secret!r} before the secret")
    tap.is_(paste(f"curl -s -o /dev/null -w '%{{http_code}}' --interface 127.0.3.7 http://{text(BACKEND)}/status"), "401",
            "without a secret, as a page whose name leads here would ask")


@tap.case("the secret of a backend is nobody's but its user's, and is in no list of processes")
def _():
    made = os.stat(os.path.join(APP_FILES, "publish.secret"))
    tap.is_((stat.S_IMODE(made.st_mode), pwd.getpwuid(made.st_uid).pw_name), (0o600, APP), "the backend's copy")
    tap.is_(stat.S_IMODE(os.stat(remote.path("publish.secret")).st_mode), 0o600, "nginx' own")
    # What bash runs, with its arguments as the processes get them.
    run = as_app(f"exec 2>&1; set -x\n{backend('--interface 127.0.3.7')}")
    tap.like(run, r"(?s)^\+ curl .* 200$", "what is run")
    tap.unlike(run, re.escape(remote.read("publish.secret").strip()), "what is run")


@tap.case("a backend by TLS: under the name in the certificate, which it verifies")
def _():
    url = tap.like(PAGE, r"`(https://app\.example\.com:8081)`")[1].replace("app.example.com:8081", f"localhost:{BACKEND_TLS[1]}")
    with open_page(remote, "session:42") as page:
        known = f"--resolve localhost:{BACKEND_TLS[1]}:{BACKEND_TLS[0]} --interface 127.0.3.7"
        tap.is_(as_app(backend(f"{known} --cacert {CERTIFICATE[0]}", url)).rpartition(" ")[2], "200", "with its authority")
        page.expect(type="session:update", state="done")
        tap.is_(as_app(f"{backend(known, url).rstrip()} || true").rpartition(" ")[2], "000", "with those of this machine")
        page.expect_nothing()


@tap.case("with from=, this host comes to its address from its address, and to 127.0.0.1 from one that is to be named")
def _():
    listen, named = (tap.like(PAGE, rf"`({words}[\d.:]+)`")[1] for words in ("listen 127", "from=127"))
    own = shown("nginx backend", {"/etc/nginx": remote.dir, "listen 10.0.0.5:8081;": f"listen 10.0.0.5:8081; {listen};"})
    with Net("10.0.0.5/24", "10.0.1.5/24") as net, Nginx(http=own, through=net.through, name="in a network of its own") as server:
        def codes():
            return [paste(f"{net.command} bash -c {shlex.quote(backend(more, url))}").rpartition(" ")[2] for more, url in (
                ("", "http://10.0.0.5:8081"), ("", "http://127.0.0.1:8081"), ("--interface 10.0.1.5", "http://10.0.0.5:8081"))]
        tap.is_(codes(), ["200", "403", "403"], "by its address, by 127.0.0.1, from outside of the network")
        server.reload(http=own.replace(" from=", f" {named} from="), wait_old=True)
        tap.is_(codes(), ["200", "200", "403"], "with 127.0.0.1 named")


@tap.case("a backend comes by a unix socket, and its directory says who may")
def _():
    tap.is_(stat.S_IMODE(os.stat(RUN).st_mode), 0o750, "the directory's mode")
    tap.is_(stat.S_IMODE(os.stat(f"{RUN}/backend.sock").st_mode), 0o666, "the socket's mode")
    with open_page(remote, "session:42") as page:
        publish_by_socket(RUN)
        page.expect(type="ping", sessionId="42")


def publish_by_socket(directory):
    paste(shown("sh socket-publish", {"/run/rooms": directory, "curl ": "curl -sf "}))


@tap.case("a master that was killed leaves the unix socket, and nginx starts again when the page's drop-in has removed it")
def _():
    unit, place = shown("ini socket"), {"/run/rooms": folder}
    command = tap.like(unit, r"\A\[Service\]\nExecStartPre=-(.*)\n\Z")[1]
    socket = os.path.join(folder, "backend.sock")
    server = Nginx(name="that is killed", daemon=True, start=False)
    server.whole = server.config().partition("http {")[0] + f"http {{ access_log off; {shown('nginx socket', place)} }}"
    with server.start():
        pids = [server.pid, *server.processes()]            # the master first, and what is left as systemd does it
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(alive(pid) for pid in pids), "all of it to be gone")
        done = subprocess.run([BINARY, "-p", server.dir, "-c", server.path("nginx.conf"), "-e", server.path("error.log")],
                              capture_output=True, text=True, env=server._environment())
        said = shown("text socket", place).strip()
        tap.is_((done.returncode, said in done.stderr), (1, True), f"without it: {done.stderr}")
        server.allow(re.escape(said.partition("[emerg] ")[2]) + "|still could not bind")
        paste(replaced(command, place))
        server.output.close()
        server.start()
        publish_by_socket(folder)
        first = os.stat(socket).st_ino
        server.reload(wait_old=True)
        old = server.upgrade_binary()
        wait_until(lambda: old.poll() is not None, "the old master to leave")
        publish_by_socket(folder)
        tap.is_(os.stat(socket).st_ino, first, "the socket, after a reload and an upgrade")
        # What the page says that they must not do.
        paste(replaced(command, place))
        server.reload(wait_old=True)
        tap.ok(not os.path.exists(socket), "a reload makes no socket")
        server.allow(r"unlink\(\) ")


# --- a development server

dev = Nginx("location = /ws { rooms; rooms_jwt_key HS256 @DIR@/rooms.secret; rooms_allow user:$rooms_user; }",
            name="for developers", start=False, files={"rooms.secret": jwt.SECRET})
dev_log = "error_log @DIR@/error.log"
dev.whole = dev.config().replace(f"{dev.fill(dev_log)} info;", f"{dev_log};")     # as Debian's nginx.conf has it
dev.start()
FOREIGN = "http://localhost:5173"


def from_foreign_page(**options):
    return ws.connect(dev, "/ws", origin=FOREIGN, host=f"localhost:{dev.port}", token=jwt.mint(sub="u1"), **options)


@tap.case("another origin is refused with the page's line in the log, at the level that Debian's nginx.conf has")
def _():
    tap.is_(refused(from_foreign_page), 403, "status")
    dev.wait_log(r"\[error\].*" + re.escape(shown("text origin").strip()))
    dev.whole = replaced(dev.whole, {f"{dev_log};": shown("nginx log-level", {"/var/log/nginx": "@DIR@"}).strip()})
    dev.reload(wait_old=True)
    with ws.connect(dev, "/ws", token="x.y.z") as page:
        page.expect_closed(4002)
    dev.wait_log(r"\[info\].*token")


@tap.case("a development server that leads the socket to nginx makes it one origin: Vite, as the page configures it")
def _():
    root, address = os.path.join(folder, "vite"), at()
    os.makedirs(root)
    for name, content in (("index.html", "<title>dev</title>"),
                          ("vite.config.js", shown("js vite", {"127.0.0.1:8080": f"127.0.0.1:{dev.port}"})),
                          ("package.json", '{"type":"module"}')):
        with open(os.path.join(root, name), "w", encoding="utf-8") as file:
            file.write(content)
    process = subprocess.Popen(["node", f"{ROOT}/client/node_modules/vite/bin/vite.js", "--host", address[0], "--port",
                                str(address[1]), "--strictPort"], cwd=root, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        output = ""
        while "Local:" not in output:
            line = process.stdout.readline()
            tap.ok(line, f"Vite starts: {output}")
            output += re.sub(r"\x1b\[[\d;]*m", "", line)
        tap.like(get(address, "/").text, "<title>dev</title>", "its page")
        with open_at(address, "user:u1", tls=False, origin=origin(address, "http")) as page:
            page.expect_nothing()
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


@tap.case("or rooms_origin names both origins, and no other gets in")
def _():
    dev.whole = None
    dev.reload(locations=shown("nginx development", {"/etc/nginx": "@DIR@", "localhost:8080": f"localhost:{dev.port}"}),
               wait_old=True)
    with from_foreign_page() as page:
        page.expect(type="connected")
        own_room_alone(page)
    with ws.connect(dev, "/ws", origin=f"http://localhost:{dev.port}", token=jwt.mint(sub="u1")) as page:
        page.expect(type="connected")
    tap.is_(refused(ws.connect, dev, "/ws", origin="http://localhost:5174", token=jwt.mint(sub="u1")), 403, "a third origin")


# --- tokens

signed = Nginx(name="with keys", start=False, files={"rooms.secret": paste("openssl rand -hex 32")})
KEPT = {"secret": os.path.join(folder, "app-with-secret"), "key": os.path.join(folder, "app-with-keys")}


def here(info):
    """A block with our places: each of the two that make files makes its directory, too."""
    kept = KEPT["secret" if "rooms.secret" in shown(info) else "key"]
    places = {"/etc/app": kept, "/etc/nginx": signed.dir}
    return shown(info, {place: ours for place, ours in places.items() if place in shown(info)})


paste("umask 077\n" + replaced(here("sh copy"), {"-o app": f"-o {APP}"}))
paste("umask 077\n" + replaced(here("sh keys"), {"chown app": f"chown {APP}"}))
signed.pieces["locations"] = f"""
    location = /ws {{ rooms; rooms_jwt_key HS256 @DIR@/rooms.secret; {here("nginx keys")}
                      rooms_allow tenant:$rooms_claim_tenant_id; }}"""
signed.start()


def mints(info, *command):
    path = os.path.join(folder, "mint" + {"js": ".mjs", "py": ".py", "sh": ".sh"}[info[:2]])
    with open(path, "w", encoding="utf-8") as file:
        file.write(here(info))
    token = as_app(f"{shlex.join(command)} {path} 2>&1").removesuffix("\n")
    with ws.connect(signed, "/ws", token=token) as page:
        left = page.expect(type="connected", userId="alice")["expiresAt"] / 1000 - time.time()
        tap.ok(880 < left <= 900, f"{left} s are left")
        join(page, "tenant:acme")
    head, body, mac = token.split(".")
    with ws.connect(signed, "/ws", token=f"{head}.{body}.{'B' if mac[0] == 'A' else 'A'}{mac[1:]}") as page:
        page.expect_closed(4002)


for what, info, *command in (("Node.js mints HS256", "js token", "node"), ("Python mints HS256", "python token", "python3"),
                              ("a shell with openssl mints HS256", "sh token", "bash"),
                              ("Node.js mints ES256", "js token-es256", "node"),
                              ("a shell with openssl mints RS256", "sh token-rs256", "bash")):
    tap.add(f"{what} as the page does it, by the backend's user, and the token opens a socket", mints, info, *command)


@tap.case("the backend's copy of the secret and the private keys are its own alone")
def _():
    for kept, name in (("secret", "rooms.secret"), ("key", "es256.key"), ("key", "rs256.key")):
        made = os.stat(os.path.join(KEPT[kept], name))
        tap.is_((stat.S_IMODE(made.st_mode), pwd.getpwuid(made.st_uid).pw_name), (0o600, APP), name)


# --- several hosts

BALANCED, HOSTS = at(), (at("127.0.2.7"), at("127.0.2.8"))
secrets = Nginx(name="files of each host", start=False)
paste(shown("sh redis-password", {"/etc/nginx": secrets.dir}))
PASSWORD = secrets.read("redis.password").strip()
shared = Redis(password=PASSWORD, name="redis-of-hosts")
FILES = {"rooms.secret": jwt.SECRET, "publish.secret": BACKEND_SECRET, "redis.password": PASSWORD + "\n"}


def host(listen):
    """The http{} of a host; the balancer has the address 127.0.0.1."""
    words = {"10.0.0.4": "127.0.0.1"}
    return HTTP + shown("nginx host", {
        **words, "redis://10.0.0.9:6379": f"redis://127.0.0.1:{shared.port}", "/etc/nginx": "@DIR@",
        "listen 10.0.0.5:8080;": listen, "location = /status": shown("nginx health", words) + "location = /status"})


def balancing(address, first, second, **words):
    return shown("nginx balancer", {**certificate(address), "10.0.0.5:8080": text(first), "10.0.0.6:8080": text(second), **words})


hosts = [Nginx(name=f"host at {address[0]}", files=FILES, http=host(f"listen {text(address)};")) for address in HOSTS]
balancer = Nginx(name="the balancer", module=False, http=balancing(BALANCED, *HOSTS, **{"read_timeout 3s": "read_timeout 500ms"}))


class Client:
    """A page of one user that comes back by the balancer where it was."""

    def __init__(self):
        self.socket = open_at(BALANCED)
        self.room, self.got = "user:u1", []
        joined = join(self.socket, self.room)
        self.epoch, self.offset = joined["epoch"], joined["offset"]

    @property
    def host(self):
        return next(host for host in hosts if self.socket.worker in host.workers())

    def come_back(self):
        def back():
            try:
                return open_at(BALANCED)
            except ws.HandshakeRefused:
                return None
        old, self.socket = self.socket, wait_until(back, "a socket")
        answer = join(self.socket, self.room, since={"epoch": self.epoch, "offset": self.offset})
        tap.is_(answer["recovered"], True, "recovered")
        return old

    def hears(self, *numbers):
        for n in numbers:
            self.offset = self.socket.expect(type="x", n=n, offset=self.offset + 1, room=self.room)["offset"]


def healthy(address):
    return http.get(address, "/status?health", headers=headers_of_backend())


@tap.case("a Redis without a password answers DENIED to other hosts, as the page says; with its lines and the file all is well")
def _():
    host_conf = shown("nginx host", {"/etc/nginx": secrets.dir})
    for name, content in FILES.items():
        secrets.write(name, content)
    bind, password = shown("redis several").splitlines()
    stock = f"{bind}\nport 6379\nprotected-mode yes"
    with Net("10.0.0.5/24", "10.0.0.9/24") as net:
        for options, secret in ((stock, None), (stock + "\n" + replaced(password, {"CHANGE-ME": PASSWORD}), PASSWORD)):
            stored = Redis(options=options, start=False, name="redis-of-a-net")
            stored.password, stored.through = secret, net.through
            conf = host_conf if secret else replaced(host_conf, {f" password_file={secrets.path('redis.password')}": ""})
            with stored.start(), Nginx(http=conf, through=net.through, name="in the net of Redis") as server:
                def health():
                    return paste(f"{net.command} curl -s -w ' %{{http_code}}' -H 'Authorization: Bearer {BACKEND_SECRET}' "
                                 "'http://10.0.0.5:8080/status?health'").rpartition(" ")[2]
                if secret:
                    wait_until(lambda: health() == "200", "a healthy host")
                else:
                    server.wait_log(tap.like(PAGE, r"answers other hosts with `(\w+)`")[1])
                    wait_until(lambda: health() == "503", "an unhealthy host")


@tap.case("several hosts: the status is for who has the secret, also past the balancer; its address alone may ask for health")
def _():
    wait_until(lambda: all(healthy(address).status == 200 for address in HOSTS), "healthy hosts")
    for address in HOSTS:
        tap.is_(get(address, "/status?health").status, 401, "without the secret")
        tap.is_(get(address, "/health?health").status, 200, "the balancer's question")
        tap.is_(code_from("127.0.4.7", f"http://{text(address)}/health?health"), "403", "another's")
    tap.is_(get(BALANCED, "/status", tls=True).status, 401, "by the balancer, without the secret")
    for more in ("", "-H 'X-Forwarded-For: 127.0.0.1'"):
        tap.is_(code_from("127.0.2.9", f"{more} https://{text(BALANCED)}/health?health"), "403", "by the balancer")


def code_from(source, rest):
    return paste(f"curl -sk -o /dev/null -w '%{{http_code}}' --interface {source} {rest}")


@tap.case("several hosts: logs have the browser's address; a page has the room of its user, and no other")
def _():
    claims = f"-H 'X-Forwarded-For: 192.0.2.1' https://{text(BALANCED)}/log-me"
    tap.is_(code_from("127.0.2.9", claims), "404", "a path of no host")
    line = wait_until(lambda: re.search(r"^(\S+) .*/log-me", "".join(host.access_log() for host in hosts), re.M), "a line")
    tap.is_(line[1], "127.0.2.9", "whom it names")
    with open_at(BALANCED) as page:
        own_room_alone(page)


class Full:
    """A host that is gone: nobody answers who connects to it."""

    def __init__(self, address):
        self.address, self.listener = address, sockets.socket()
        self.listener.bind(address)
        self.listener.listen(0)
        self.waiting = []
        while True:
            waiting = sockets.socket()
            self.waiting.append(waiting)
            waiting.settimeout(0.2)
            try:
                waiting.connect(address)
            except TimeoutError:
                return

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for one in (self.listener, *self.waiting):
            one.close()


@tap.case("several hosts: the balancer asks the next one when a host does not answer, after its time for that")
def _():
    address = at()
    with Full(at("127.0.2.10")) as gone, \
            Nginx(name="a balancer with a host that is gone", module=False,
                  http=balancing(address, gone.address, HOSTS[1], **{"connect_timeout 2s": "connect_timeout 300ms"})) as server:
        begun = time.monotonic()
        for _ in range(3):
            open_at(address, "user:u1").close()
        took = time.monotonic() - begun
        server.wait_log(r"upstream timed out .*while connecting to upstream")
        tap.ok(0.3 <= took < 0.6 + 1.5 * SCALE, f"{took:.2f} s")


@tap.case("several hosts by TLS: the balancer verifies the name of the hosts")
def _():
    inner, outer, wrong = at("127.0.2.11"), at(), at()
    listen = shown("nginx backend-tls", {**{word: by for word, by in certificate(inner).items() if word[0] == "/"},
                                         "10.0.0.5:8081": text(inner)})
    to_tls = {"proxy_pass http://rooms;": "proxy_pass https://rooms;"}
    tap.in_(f"`{to_tls['proxy_pass http://rooms;'][:-1]}`", PAGE)
    lines = shown("nginx balancer-tls", {"/etc/ssl/certs/ca-certificates.crt": CERTIFICATE[0]})

    def server_of(address, name):
        return balancing(address, inner, inner, **to_tls, **{
            "proxy_http_version 1.1;": "proxy_http_version 1.1;" + replaced(lines, {"app.example.com": name})})
    both = server_of(outer, "localhost") + "server {" + server_of(wrong, "another.example").partition("\nserver {")[2]
    with Nginx(name="a host by TLS", files=FILES, http=host(listen)), \
            Nginx(name="a balancer by TLS", module=False, http=both) as server:
        open_at(outer, "user:u1").close()
        tap.is_(http.get(wrong, "/status", headers=headers_of_backend(), tls=True).status, 502, "under another name")
        server.wait_log(r'upstream SSL certificate does not match "another.example"')


@tap.case("several hosts: an event that is published to any of them, or by the balancer, reaches the clients of all")
def _():
    for address in HOSTS:
        wait_until(lambda: healthy(address).status == 200, f"the host at {address[0]} to be healthy")
    clients = [Client() for _ in range(4)]
    tap.is_([sum(client.host is host for client in clients) for host in hosts], [2, 2], "clients of each host")
    for n, address in enumerate((*HOSTS, BALANCED), 1):
        http.publish(address, event("user:u1", n), headers=headers_of_backend(), tls=address is BALANCED)
    for client in clients:
        client.hears(1, 2, 3)
        client.socket.close()


AGAIN = [int(code) for code in re.findall(r"\d+", tap.like(PAGE, r"^- A backend that gets ([\d, or]+) publishes again")[1])]


def publish_surely(n):
    """As the page says: what meets the end of a host is sent again, with its id. What was answered before it was taken."""
    id_, codes = f"{time.monotonic_ns()}", []

    def taken():
        answer = http.publish(BALANCED, dict(event("user:u1", n), id=id_), headers=headers_of_backend(), tls=True, expect=None)
        codes.append(answer.status)
        return tap.in_(answer.status, [200] + AGAIN) == 200
    wait_until(taken, "an event to be taken")
    return codes[:-1]


def host_goes(how):
    balancer.reload(wait_old=True)              # it has not forgotten yet who was away
    clients = [Client() for _ in range(4)]
    leaving = clients[0].host
    moved = [client for client in clients if client.host is leaving]
    tap.is_(len(moved), 2, "its clients")
    leaving.changed_workers = True
    leaving.send_signal(how)
    for n in (1, 2):
        for client in moved:
            if n == 1 and how == signal.SIGQUIT:
                client.socket.expect(type="reconnect")
            elif n == 1:
                tap.is_(client.socket.next_frame(), None, "what it is told")
        publish_surely(n)
    for client in moved:
        old = client.come_back()
        tap.isnt(client.host, leaving, "its host now")
        if how == signal.SIGQUIT:
            old.send_close()
            old.expect_closed(1012, answer=False)
    publish_surely(3)
    for client in clients:
        client.hears(1, 2, 3)
        client.socket.close()
    tap.is_(leaving.process.wait(8 * SCALE), 0, "exit code of the host that went")
    leaving.output.close()
    leaving.start()
    wait_until(lambda: all(healthy(address).status == 200 for address in HOSTS), "both hosts")


@tap.case("several hosts: one hangs: a backend is told so in time and publishes again, and each event is there once")
def _():
    balancer.reload(wait_old=True)
    clients = [Client() for _ in range(4)]
    hangs = clients[0].host
    since, pids = len(hangs.access_log()), [hangs.pid, *hangs.processes()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        begun, codes, n = time.monotonic(), [], 0
        while not codes:
            tap.ok(n < 5, "the host that hangs is asked")
            n += 1
            codes += publish_surely(n)
        tap.is_(codes, [504], "what the backend is told")
        tap.ok(time.monotonic() - begun < 0.5 + 2 * SCALE, "in time")
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    hangs.wait_access_log(r'"POST /publish', since=since)
    publish_surely(n + 1)
    for client in clients:
        client.hears(*range(1, n + 2))
        client.socket.expect_nothing()
        client.socket.close()


tap.add("several hosts: one is taken out: its clients are told, come back by the other, and miss nothing", host_goes,
        signal.SIGQUIT)
tap.add("several hosts: one dies: its clients come back by the other, and miss nothing", host_goes, signal.SIGTERM)


tap.run()

#!/usr/bin/python3
"""`./build.sh install` and `uninstall` on the nginx of this machine, as it stands there: /etc, /usr, /var and /run are overlaid,
so that what is done to them is seen by this test alone."""
import http.server
import os
import re
import shutil
import signal
import socketserver
import subprocess
import sys
import tempfile
import threading
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import ASAN, ROOT, VERSION, example, http as requests, jwt, tap, wait_until, ws    # noqa: E402
from rooms.nginx import free_port, make_certificate                                           # noqa: E402

if ASAN:
    print("1..0 # SKIP what is installed has no sanitizers")
    sys.exit(0)
if "ROOMS_INSTALL" not in os.environ:
    if os.geteuid() != 0:
        print("1..0 # SKIP needs root, as an installation does")
        sys.exit(0)
    os.environ["ROOMS_INSTALL"] = tempfile.mkdtemp(prefix="rooms-install-")
    done = subprocess.run(["unshare", "-m", "--propagation", "private", sys.executable, __file__], check=False)
    shutil.rmtree(os.environ["ROOMS_INSTALL"], ignore_errors=True)
    sys.exit(done.returncode)

folder = os.environ["ROOMS_INSTALL"]


def run(*command, **options):
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=options.pop("check", True), **options)


run("mount", "-t", "tmpfs", "tmpfs", folder)
run("mount", "-t", "tmpfs", "tmpfs", "/run")
for name in ("etc", "usr", "var"):
    upper, work = os.path.join(folder, name), os.path.join(folder, f"{name}-work")
    os.mkdir(upper)
    os.mkdir(work)
    run("mount", "-t", "overlay", "-o", f"lowerdir=/{name},upperdir={upper},workdir={work}", "overlay", f"/{name}")

# --- a site that is there already: TLS, in front of an application

port, app_socket = free_port(), os.path.join(folder, "app.sock")
certificate, key = make_certificate(folder)
SITE, HTTP = "/etc/nginx/sites-enabled/app", "/etc/nginx/conf.d/rooms.conf"
SERVER = f"""server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    location / {{ proxy_pass http://unix:{app_socket}:; }}
"""


class App(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"the application: {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Listener(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


app = Listener(app_socket, App)
os.chmod(app_socket, 0o666)
os.chmod(folder, 0o755)
threading.Thread(target=app.serve_forever, daemon=True).start()


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


for path in os.listdir("/etc/nginx/sites-enabled"):
    os.remove(os.path.join("/etc/nginx/sites-enabled", path))
# Nobody else's module: theirs may not agree with this machine.
for path in os.listdir("/etc/nginx/modules-enabled"):
    os.remove(os.path.join("/etc/nginx/modules-enabled", path))
write(SITE, SERVER + "}\n")
nginx = subprocess.Popen(["nginx", "-g", "daemon off;"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def app_answers():
    response = requests.get(("127.0.0.1", port), "/some/page", tls=True)
    tap.is_((response.status, response.text), (200, "the application: /some/page"), "the application")


def workers():
    with open(f"/proc/{nginx.pid}/task/{nginx.pid}/children", encoding="ascii") as file:
        return set(file.read().split())


def reload():
    before = workers()
    nginx.send_signal(signal.SIGHUP)
    wait_until(lambda: workers() and not workers() & before, "the new workers")


def tree():
    """What lies where nginx and its modules are: names, modes, targets of links, sizes of files."""
    return sorted(run("find", "/etc/nginx", "/usr/lib/nginx", "/usr/share/nginx", "/var/lib", "-path", "/var/lib/nginx/*", "-prune", "-o",
                      "-type", "f", "-printf", "%p %m %s\n", "-o", "-printf", "%p %m %l\n").stdout.splitlines())


def build(*words, expect=0, **env):
    answer = run(os.path.join(ROOT, "build.sh"), *words, check=False, env={**os.environ, **env})
    tap.is_(answer.returncode, expect, f"{' '.join(words)}: {answer.stdout}{answer.stderr}")
    return answer.stdout + answer.stderr


MODULE = "/usr/lib/nginx/modules/ngx_http_rooms_module.so"
LINK = "/etc/nginx/modules-enabled/50-mod-http-rooms.conf"
wait_until(lambda: os.path.exists("/run/nginx.pid"), "nginx")
untouched = tree()


@tap.case("without root nothing happens, and the line to type is printed")
def _():
    answer = run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/bin/bash", f"{ROOT}/packaging/install", "install",
                 check=False)
    tap.is_(answer.returncode, 1, "exit code")
    tap.like(answer.stderr, "needs root: sudo ./build.sh install")
    tap.is_(tree(), untouched, "the tree")


@tap.case("what was never installed cannot be uninstalled")
def _():
    tap.like(build("uninstall", expect=1), "nothing is here of ./build.sh install")


@tap.case("the source of another version is refused, with both versions; so is what is no source")
def _():
    other = os.path.join(folder, "nginx-1.99.0/src/core")
    os.makedirs(other)
    write(os.path.join(other, "nginx.h"), '#define NGINX_VERSION      "1.99.0"\n')
    tap.like(build("install", expect=1, NGINX_SRC=os.path.join(folder, "nginx-1.99.0")), r"nginx is 1\.\S+, and NGINX_SRC=\S+ is 1\.99\.0")
    tap.like(build("install", expect=1, NGINX_SRC=folder), "is no source of nginx")
    tap.is_(tree(), untouched, "the tree")


@tap.case("an nginx that is not Debian's is told from it, and its source is asked for; one that is not there is named")
def _():
    copy = os.path.join(folder, "nginx")
    shutil.copy("/usr/sbin/nginx", copy)
    tap.like(build("install", expect=1, NGINX=copy), r"is not Debian's: NGINX_SRC=DIR ./build.sh install")
    tap.like(build("install", expect=1, NGINX="/nowhere/nginx"), "/nowhere/nginx is not there")


@tap.case("a configuration that does not hold with the module: nginx' words, and all is as it was")
def _():
    write(HTTP, "rooms_history session:* size=many;\n")
    said = build("install", expect=1)
    tap.like(said, r'\[emerg\].*invalid value "size=many" in "rooms_history"')
    tap.like(said, "all is as it was")
    os.remove(HTTP)
    tap.is_(tree(), untouched, "the tree")


@tap.case("installed: loaded as Debian's modules are, stripped, and nginx is not reloaded")
def _():
    before = workers()
    said = build("install")
    tap.like(said, rf"^rooms {re.escape(VERSION)} for nginx \S+: {MODULE}, loaded by {LINK}$")
    tap.like(said, "Nothing was reloaded")
    tap.is_(os.readlink(LINK), "/usr/share/nginx/modules-available/mod-http-rooms.conf", "link")
    with open(LINK, encoding="ascii") as file:
        tap.is_(file.read(), "load_module modules/ngx_http_rooms_module.so;\n", LINK)
    tap.is_((os.stat(MODULE).st_mode & 0o777, os.stat(MODULE).st_uid), (0o644, 0), "mode and owner")
    tap.ok(os.stat(MODULE).st_size < 4 << 20, "no debugging symbols")
    tap.is_(workers(), before, "workers")
    app_answers()


@tap.case("the README's lines added, and a reload: wss and /publish work, and the application is untouched")
def _():
    readme = example.page("README.md")
    whole = re.search(r"^```nginx\n(load_module.*?)^```$", readme, re.M | re.S)[1]
    example.paste(re.search(r"^openssl rand.*$", readme, re.M)[0])
    write(HTTP, "\n".join(re.findall(r"^ +(?:rooms_zone|rooms_history) .*$", whole, re.M)) + "\n")
    write(SITE, SERVER + re.search(r"listen 8080;\n(.*?)^    }\n", whole, re.M | re.S)[1] + "}\n")
    run("nginx", "-t")
    reload()
    with open("/etc/nginx/rooms.secret", encoding="ascii") as file:
        secret = file.read().strip().encode()
    token = jwt.mint(sub="u1", tenant_id="acme", key=secret)
    with ws.connect(("127.0.0.1", port), "/ws", tls=True, token=token) as page:
        page.expect(type="connected", userId="u1")
        page.expect(type="subscribed", room="tenant:acme")
        answer = requests.request(("127.0.0.1", port), "POST", "/publish", [("Content-Type", "application/json")],
                                  b'{"room":"tenant:acme","type":"hello"}', tls=True)
        tap.is_(answer.status, 200, answer.text)
        page.expect(type="hello", tenantId="acme", offset=1)
        page.close()
    app_answers()


@tap.case("installed again over it: the new file is there, and of the old one nothing is left; uninstall still knows all of it")
def _():
    old = os.stat(MODULE).st_ino
    build("install")
    tap.isnt(os.stat(MODULE).st_ino, old, "the file: one that runs is not written to")
    tap.is_([name for name in os.listdir(os.path.dirname(MODULE)) if "rooms" in name], ["ngx_http_rooms_module.so"], "modules")


@tap.case("an upgrade that fails leaves the version of before; while the configuration has its directives it is not uninstalled")
def _():
    with open(MODULE, "ab") as file:
        file.write(b"the one before")
    before = tree()
    write("/etc/nginx/conf.d/broken.conf", "no_such_directive on;\n")
    build("install", expect=1)
    os.remove("/etc/nginx/conf.d/broken.conf")
    tap.is_(tree(), before, "the tree")
    with open(MODULE, "rb") as file:
        tap.ok(file.read().endswith(b"the one before"), "the module of before")
    said = build("uninstall", expect=1)
    tap.like(said, r'unknown directive "rooms')
    tap.like(said, "Take its directives out of the configuration first")
    tap.is_(tree(), before, "the tree")


@tap.case("uninstalled: nginx -t is green, and everything is as it was before the installation")
def _():
    os.remove(HTTP)
    os.remove("/etc/nginx/rooms.secret")
    write(SITE, SERVER + "}\n")
    reload()
    tap.like(build("uninstall"), rf"removed: .*{MODULE}")
    run("nginx", "-t")
    tap.is_(tree(), untouched, "the tree")
    app_answers()
    tap.like(build("uninstall", expect=1), "nothing is here")


@tap.case("a load_module line of one's own is not doubled; a directory that had to be made goes again")
def _():
    shutil.rmtree("/usr/share/nginx/modules-available", ignore_errors=True)
    before = tree()
    with open("/etc/nginx/nginx.conf", encoding="utf-8") as file:
        conf = file.read()
    tap.like(build("install"), f"loaded by {LINK}")
    build("uninstall")
    tap.is_(tree(), before, "the tree")
    write("/etc/nginx/nginx.conf", f"load_module {MODULE};\n" + conf)
    tap.like(build("install"), "loaded by a line of your own")
    tap.ok(not os.path.lexists(LINK), "no second line")
    write("/etc/nginx/nginx.conf", conf)
    build("uninstall")
    tap.is_(tree(), before, "the tree")


@tap.case("what a package has installed is left to the package")
def _():
    os.makedirs(os.path.dirname(MODULE), exist_ok=True)
    write(MODULE, "")
    write("/var/lib/dpkg/info/libnginx-mod-http-rooms.list", f"/.\n{MODULE}\n")
    with open("/var/lib/dpkg/status", "a", encoding="utf-8") as file:
        file.write("Package: libnginx-mod-http-rooms\nStatus: install ok installed\nMaintainer: x <x@example.org>\nArchitecture: amd64\n"
                   "Version: 1\nDescription: x\n\n")
    tap.like(build("install", expect=1), "is of the package libnginx-mod-http-rooms: apt-get remove libnginx-mod-http-rooms")


try:
    tap.run()
finally:
    nginx.send_signal(signal.SIGQUIT)
    nginx.wait()
    app.shutdown()

# This machine's own nginx, and a site on it that is there already: everything but /tmp and the checkout is overlaid, so that what
# is done to it is seen by the test alone. enter() first.
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

from . import ROOT, example, http as requests, jwt, tap, wait_until, ws
from .nginx import free_port, make_certificate

MODULE = "/usr/lib/nginx/modules/ngx_http_rooms_module.so"
LINK = "/etc/nginx/modules-enabled/50-mod-http-rooms.conf"
SITE, HTTP, SECRET = "/etc/nginx/sites-enabled/app", "/etc/nginx/conf.d/rooms.conf", "/etc/nginx/rooms.secret"


def run(*command, **options):
    options = {"check": True, **options}
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, **options)     # pylint: disable=W1510


def enter():
    """Goes on in a root that is overlaid, in a mount namespace of this test's own; a directory that goes with it. Needs root."""
    if "ROOMS_OVERLAID" not in os.environ:
        if os.geteuid() != 0:
            print("1..0 # SKIP needs root, as an installation does")
            sys.exit(0)
        folder = os.environ["ROOMS_OVERLAID"] = tempfile.mkdtemp(prefix="rooms-overlaid-")
        namespace = ["unshare", "-m", "--propagation", "private"]
        # In a chroot, whose root is no mount, there is none; nobody else looks into the directory.
        if run(*namespace, "true", check=False).returncode != 0:
            namespace = []
        done = subprocess.run([*namespace, sys.executable, os.path.abspath(sys.argv[0]), *sys.argv[1:]], check=False)
        if os.path.ismount(folder):
            run("umount", "-R", "-l", folder)
        shutil.rmtree(folder, ignore_errors=True)
        sys.exit(done.returncode)
    folder = os.environ["ROOMS_OVERLAID"]
    root = os.path.join(folder, "root")
    run("mount", "-t", "tmpfs", "tmpfs", folder)
    for name in ("root", "upper", "work"):
        os.mkdir(os.path.join(folder, name))
    run("mount", "-t", "overlay", "-o", f"lowerdir=/,upperdir={folder}/upper,workdir={folder}/work", "overlay", root)
    run("mount", "-t", "tmpfs", "tmpfs", f"{root}/run")
    for path in ("/proc", "/dev", "/tmp", ROOT):
        os.makedirs(root + path, exist_ok=True)
        run("mount", "--bind", path, root + path)
    # /usr, /var and /etc may be mounts of their own.
    for path in ("/usr", "/var", "/etc"):
        if os.path.ismount(path):
            for name in ("upper", "work"):
                os.makedirs(f"{folder}/{name}-of{path}")
            run("mount", "-t", "overlay", "-o", f"lowerdir={path},upperdir={folder}/upper-of{path},workdir={folder}/work-of{path}",
                "overlay", root + path)
    os.chroot(root)
    os.chdir("/")
    os.chmod(folder, 0o755)
    return folder


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def tree():
    """What lies where nginx and its modules are: names, modes, targets of links, sizes of files."""
    roots = filter(os.path.isdir, ("/etc/nginx", "/usr/lib/nginx", "/usr/share/nginx", "/var/lib"))
    return sorted(run("find", *roots, "-path", "/var/lib/nginx/*", "-prune", "-o",
                      "-path", "/var/lib/dpkg", "-prune", "-o", "-type", "f", "-printf", "%p %m %s\n", "-o", "-printf", "%p %m %l\n")
                  .stdout.splitlines())


class _App(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"the application: {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class _Listener(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


class Site:
    """TLS, in front of an application, in Debian's nginx. No other site, and nobody else's module."""

    def __init__(self, folder):
        self.address = ("127.0.0.1", free_port())
        certificate, key = make_certificate(folder)
        socket = os.path.join(folder, "app.sock")
        self.app = _Listener(socket, _App)
        os.chmod(socket, 0o666)
        threading.Thread(target=self.app.serve_forever, daemon=True).start()
        for directory in ("/etc/nginx/sites-enabled", "/etc/nginx/modules-enabled"):
            for name in os.listdir(directory):
                os.remove(os.path.join(directory, name))
        self.server = f"""server {{
    listen 127.0.0.1:{self.address[1]} ssl;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    location / {{ proxy_pass http://unix:{socket}:; }}
"""
        write(SITE, self.server + "}\n")
        self.nginx = subprocess.Popen(["nginx", "-g", "daemon off;"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(self.workers, "nginx")

    def workers(self):
        with open(f"/proc/{self.nginx.pid}/task/{self.nginx.pid}/children", encoding="ascii") as file:
            return set(file.read().split())

    def reload(self):
        before = self.workers()
        self.nginx.send_signal(signal.SIGHUP)
        wait_until(lambda: self.workers() and not self.workers() & before, "the new workers")

    def stop(self):
        self.nginx.send_signal(signal.SIGQUIT)
        self.nginx.wait()
        self.app.shutdown()

    def app_answers(self):
        response = requests.get(self.address, "/some/page", tls=True)
        tap.is_((response.status, response.text), (200, "the application: /some/page"), "the application")

    def add_rooms(self):
        """The lines of README's configuration, and its secret; then a reload."""
        readme = example.page("README.md")
        whole = re.search(r"^```nginx\n(load_module.*?)^```$", readme, re.M | re.S)[1]
        example.paste(re.search(r"^openssl rand.*$", readme, re.M)[0])
        write(HTTP, "\n".join(re.findall(r"^ +(?:rooms_zone|rooms_history) .*$", whole, re.M)) + "\n")
        write(SITE, self.server + re.search(r"listen 8080;\n(.*?)^    }\n", whole, re.M | re.S)[1] + "}\n")
        run("nginx", "-t")
        self.reload()

    def remove_rooms(self):
        os.remove(HTTP)
        os.remove(SECRET)
        write(SITE, self.server + "}\n")
        self.reload()

    def rooms_work(self):
        """wss, and an event to it; the application is as it was."""
        with open(SECRET, encoding="ascii") as file:
            secret = file.read().strip().encode()
        with ws.connect(self.address, "/ws", tls=True, token=jwt.mint(sub="u1", tenant_id="acme", key=secret)) as page:
            page.expect(type="connected", userId="u1")
            joined = page.expect(type="subscribed", room="tenant:acme")
            answer = requests.request(self.address, "POST", "/publish", [("Content-Type", "application/json")],
                                      b'{"room":"tenant:acme","type":"hello"}', tls=True)
            tap.is_(answer.status, 200, answer.text)
            page.expect(type="hello", tenantId="acme", offset=joined["offset"] + 1)
            page.close()
        self.app_answers()

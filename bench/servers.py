"""The servers that are measured, and how the load tool (load.cpp) talks to each. Each is started alone for a run, on
a port and in a directory of its own, and stopped by pid."""
import os
import re
import resource
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path.insert(0, os.path.join(ROOT, "t/lib"))
from rooms.process import children                          # noqa: E402
from rooms.nginx import free_port, make_certificate                # noqa: E402

LOAD = os.path.join(ROOT, "build/bench/load")
SERVER_CPU, LOAD_CPU = "0", "1"
CONNECTIONS = 20000
NGINX = """
worker_processes {workers};
worker_rlimit_nofile {files};
pid {dir}/nginx.pid;
error_log {dir}/error.log;
"""
# What every nginx here has: no line in a log for a request, and kept connections that are not ended.
HTTP = """
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {dir}/body;
    client_body_buffer_size 64k;
    proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi; uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
"""


def words_of(options):
    """Load's arguments; a list is a name that repeats."""
    for name, value in options.items():
        yield from (f"{name}={each}" for each in (value if isinstance(value, list) else [value]))


def readme_configuration():
    """The one that the README shows."""
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
        return re.search(r"^## A configuration\n\n```nginx\n(.*?)^```", file.read(), re.S | re.M)[1]


class Server:
    """workers: processes. redis: a port, or None. Further options are the subclass'."""
    name = ""
    key = None              # of its tokens, for load

    def __init__(self, workers=1, redis=None, tls=False, deflate=False, pinned=True, connections=CONNECTIONS):
        self.workers, self.redis, self.tls, self.deflate = workers, redis, tls, deflate
        self.alone = pinned and workers == 1 and not redis      # it has a core of its own
        self.connections = connections
        self.dir = tempfile.mkdtemp(prefix="rooms-bench-")
        os.chmod(self.dir, 0o755)
        self.port = free_port()
        self.secret = os.path.join(self.dir, "secret")
        with open(self.secret, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32) + "\n")
        os.chmod(self.secret, 0o600)
        if tls:
            make_certificate(self.dir)
            self.plain = free_port()        # publications come without
        self.processes = []
        self.start()

    def spawn(self, *command, cwd=None, env=None, ready=None):
        """ready: a line on its stdout that says so."""
        pin = ["taskset", "-c", SERVER_CPU] if self.alone else []
        process = subprocess.Popen([*pin, *map(str, command)], cwd=cwd, env=env and {**os.environ, **env},
                                   stdout=subprocess.PIPE if ready else None, text=True)
        self.processes.append(process)
        if ready and process.stdout.readline().strip() != ready:
            raise RuntimeError(f"{self.name} does not start")
        return process

    def pids(self):
        """Of all its processes."""
        return [pid for process in self.processes for pid in (process.pid, *children(process.pid))]

    def load(self):
        """What load has to be told: the ways to join and to publish."""
        raise NotImplementedError

    def stop(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if "BENCH_KEEP" not in os.environ:
            shutil.rmtree(self.dir, ignore_errors=True)


class Floor(Server):
    name = "floor"

    def start(self):
        self.spawn(os.path.join(ROOT, "build/bench/floor"), self.port, self.workers, ready="ready")

    def load(self):
        return {"port": self.port, "path": "/ws?rooms={rooms}", "post": "/publish?room={room}",
                "body": '{"type":"bench","m":"{mark}"}'}


class WithTokens(Server):
    """Our own protocol, which the Node server speaks too."""
    claims = '{"sub":"u{i}","rooms":["session:r*"],"sessions":["*"],"exp":{exp}}'

    def load(self):
        return {"port": self.port, "path": "/ws", "header": "Sec-WebSocket-Protocol: rooms.v1, rooms.bearer.{token}",
                "key": self.key or f"HS256:{self.secret}", "claims": self.claims,
                "subscribe": '{"type":"subscribe","room":"session:r{room}"}', "joined": '"subscribed"', "post": "/publish",
                "body": '{"room":"session:r{room}","type":"bench","data":{"m":"{mark}"}}'}


class Node(WithTokens):
    name = "node"

    def start(self):
        env = {"DEFLATE": "1"} if self.deflate else {}
        if self.tls:
            env |= {"TLS_CERT": f"{self.dir}/server.crt", "TLS_KEY": f"{self.dir}/server.key", "PLAIN_PORT": str(self.plain)}
        self.ports = [self.port, *(free_port() for _ in range(self.workers - 1))]
        for port in self.ports:
            self.spawn("node", os.path.join(HERE, "node/server.mjs"), port, self.secret, *([self.redis] if self.redis else []),
                       env=env, ready="ready")

    def load(self):
        return {**super().load(), "port": ",".join(map(str, self.ports)), **({"publish_port": self.plain} if self.tls else {})}


class _Nginx(Server):
    def start(self):
        files = min(self.connections + 1000, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        conf = os.path.join(self.dir, "nginx.conf")
        with open(conf, "w", encoding="utf-8") as file:
            file.write(NGINX.format(workers=self.workers, files=files, dir=self.dir) + self.configuration())
        with open(os.path.join(self.dir, "out"), "w", encoding="utf-8") as out:
            pin = ["taskset", "-c", SERVER_CPU] if self.alone else []
            master = subprocess.Popen([*pin, "nginx", "-p", self.dir, "-c", conf, "-g", "daemon off;"], stdout=out, stderr=out)
        self.processes.append(master)
        end = time.monotonic() + 10
        while len(children(master.pid)) < self.workers or not os.path.exists(f"{self.dir}/nginx.pid"):
            if master.poll() is not None or time.monotonic() > end:
                with open(f"{self.dir}/out", encoding="utf-8") as out:
                    raise RuntimeError(f"{self.name} does not start: {out.read()}")
            time.sleep(0.02)
        time.sleep(0.2)

    def listen(self):
        words = f"127.0.0.1:{self.port} backlog=4096" + (" reuseport" if self.workers > 1 else "")
        if not self.tls:
            return f"listen {words};"
        return (f"listen {words} ssl; listen 127.0.0.1:{self.plain};\n"
                f"        ssl_certificate {self.dir}/server.crt; ssl_certificate_key {self.dir}/server.key;")

    def load(self):
        return {"publish_port": self.plain} if self.tls else {}

    def stop(self):
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        super().stop()


class Rooms(WithTokens, _Nginx):
    """The README's configuration; below it only what this machine and the scenario ask for."""
    name = "rooms"
    module = os.path.join(ROOT, "build/ngx_http_rooms_module.so")

    def __init__(self, access_log="upgrade", algorithm="HS256", zone=None, more="", **options):
        self.access_log, self.algorithm, self.zone, self.more = access_log, algorithm, zone, more
        super().__init__(**options)

    def make_keys(self):
        """The path of the key that verifies; `key` is the one that signs."""
        if self.algorithm == "HS256":
            return self.secret
        own, public = f"{self.dir}/private.pem", f"{self.dir}/public.pem"
        kind = {"RS256": ["RSA", "-pkeyopt", "rsa_keygen_bits:2048"], "ES256": ["EC", "-pkeyopt", "ec_paramgen_curve:P-256"]}
        subprocess.run(["openssl", "genpkey", "-algorithm", *kind[self.algorithm], "-out", own], check=True, capture_output=True)
        subprocess.run(["openssl", "pkey", "-in", own, "-pubout", "-out", public], check=True, capture_output=True)
        self.key = f"{self.algorithm}:{own}"
        return public

    def configuration(self):
        text = readme_configuration().replace("modules/ngx_http_rooms_module.so", self.module)
        text = text.replace("HS256 /etc/nginx/rooms.secret", f"{self.algorithm} {self.make_keys()}")
        text = text.replace("listen 8080;", self.listen())
        text = text.replace("events { }", f"events {{ worker_connections {self.connections}; }}")
        if self.zone:
            text = re.sub(r"rooms_zone [^;]*;", f"rooms_zone main:{self.zone};", text)
        more = HTTP.format(dir=self.dir) + f"    rooms_access_log {self.access_log};\n    {self.more}\n"
        if self.deflate:
            more += "    rooms_compression on min=0;\n"
        if self.redis:
            more += f"    rooms_redis redis://127.0.0.1:{self.redis};\n"
        return text.replace("http {", "http {" + more, 1)

    def load(self):
        return {**WithTokens.load(self), **_Nginx.load(self)}


class Nchan(_Nginx):
    name = "nchan"

    def configuration(self):
        redis = f"upstream redis {{ nchan_redis_server redis://127.0.0.1:{self.redis}; }}" if self.redis else ""
        use = "nchan_redis_pass redis;" if self.redis else ""
        deflate = "nchan_deflate_message_for_websocket on; nchan_permessage_deflate_compression_level 1;" if self.deflate else ""
        return f"""
load_module {os.environ.get('NCHAN_MODULE', '/usr/lib/nginx/modules/ngx_nchan_module.so')};
events {{ worker_connections {self.connections}; }}
http {{{HTTP.format(dir=self.dir)}
    nchan_max_reserved_memory 512m;
    {redis}
    server {{
        {self.listen()}
        nchan_message_buffer_length 256;
        nchan_message_timeout 10m;
        location ~ ^/sub/(.+)$ {{
            nchan_subscriber websocket;
            nchan_channel_id $1;
            nchan_channel_id_split_delimiter ",";
            {use}
        }}
        location ~ ^/pub/(.+)$ {{
            nchan_publisher http;
            nchan_channel_id $1;
            {deflate}
            {use}
        }}
    }}
}}
"""

    def load(self):
        return {"port": self.port, "path": "/sub/{rooms}", "post": "/pub/{room}", "body": '{"type":"bench","m":"{mark}"}',
                **super().load()}


SERVERS = {server.name: server for server in (Floor, Rooms, Nchan, Node)}

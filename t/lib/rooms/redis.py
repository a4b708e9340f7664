# A real redis-server for tests, by TCP, TLS and unix socket; master or replica. Through a bad line: proxy.py.
import re

from . import TIMEOUT, started, wait_until
from .nginx import make_certificate
from .redis_process import RedisProcess, info_fields
from .resp import Resp


class Redis(RedisProcess):
    """A redis-server on 127.0.0.1:port and the unix socket `sock`, started at construction. appendfsync: None for no AOF.
    tls=True: also `tls_port`, with `certificate` (localhost, 127.0.0.1); or (certificate, key). password: requirepass.
    acl: the text of an aclfile, admin=(user, password) who of them cli() is. options: further lines of configuration."""

    def __init__(self, *, appendfsync="always", tls=False, password=None, acl=None, admin=None, options="", cluster=False,
                 name="redis", start=True):
        super().__init__(name)
        self.appendfsync, self.acl, self.options, self.cluster = appendfsync, acl, options, cluster
        self.requirepass = password
        self.user, self.password = admin if admin else (None, password)
        self.sock = self.path("redis.sock")
        self.certificate = self.tls_port = None
        if tls:
            self.certificate, self.key = make_certificate(self.dir) if tls is True else tls
        if start:
            self.start()

    def config(self):
        lines = ["bind 127.0.0.1", f"port {self.port}", f"unixsocket {self.sock}", "unixsocketperm 777", f"dir {self.dir}",
                 "logfile redis.log", "daemonize no", 'save ""', "protected-mode no", "enable-debug-command yes",
                 "repl-diskless-sync yes", "repl-diskless-sync-delay 0", "repl-ping-replica-period 1", "shutdown-timeout 1"]
        if self.appendfsync:
            lines += ["appendonly yes", f"appendfsync {self.appendfsync}", "auto-aof-rewrite-percentage 0"]
        if self.certificate:
            self.tls_port = started.port()
            lines += [f"tls-port {self.tls_port}", f"tls-cert-file {self.certificate}", f"tls-key-file {self.key}",
                      "tls-auth-clients no"]
        if self.requirepass:
            lines += [f"requirepass {self.requirepass}", f"masterauth {self.requirepass}"]
        if self.acl:
            lines += [f"aclfile {self.write('users.acl', self.acl)}"]
        if self.cluster:
            self.bus_port = started.port()
            lines += ["cluster-enabled yes", "cluster-node-timeout 1000", f"cluster-port {self.bus_port}",
                      "cluster-announce-ip 127.0.0.1", "cluster-replica-validity-factor 0"]
        return "\n".join(lines) + "\n" + self.options + "\n"

    @property
    def admin(self):
        return self.sock

    def _url(self, scheme, rest):
        secret = f"{self.user or ''}:{self.password}@" if self.password else ""
        return f"{scheme}://{secret}{rest}"

    @property
    def url(self):
        return self._url("redis", f"127.0.0.1:{self.port}")

    @property
    def tls_url(self):
        return self._url("rediss", f"localhost:{self.tls_port}")

    @property
    def unix_url(self):
        return f"unix:{self.sock}"

    # --- replication

    def replica_of(self, master, through=None):
        """Becomes its replica, by a Proxy if given, and returns when it has everything and is kept up to date."""
        host, port = (through or master).address
        self.cli("REPLICAOF", host, port)
        master.wait_synced(self)
        return self

    def promote(self):
        self.cli("REPLICAOF", "NO", "ONE")
        return self

    def wait_synced(self, *replicas, timeout=2 * TIMEOUT):
        """Until these have acknowledged everything that has been written here."""
        ports = {replica.port for replica in replicas}

        def synced():
            try:
                return synced_now()
            except ConnectionResetError:
                return False

        def synced_now():
            with Resp(self.admin, user=self.user, password=self.password) as client:
                # A write of its own, that WAIT has something to wait for: it makes the replicas acknowledge at once.
                client("PUBLISH", "harness:sync", "")
                wanted = info_fields(client("INFO", "replication"))["master_repl_offset"]   # WAIT itself adds to it
                client("WAIT", len(ports), 100)
                fields = info_fields(client("INFO", "replication"))
            found = [dict(pair.split("=") for pair in str(value).split(","))
                     for name, value in fields.items() if re.fullmatch(r"slave\d+", name)]
            return ports <= {int(one["port"]) for one in found if one["state"] == "online" and int(one["offset"]) >= wanted}
        wait_until(synced, f"the replicas of {self.name} to have everything", timeout)

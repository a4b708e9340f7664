# Real Redis for tests: a server, replicas, sentinels, a cluster, a bad line in between (t/load/proxy.cpp), and a client
# that speaks RESP2. Each server has a temporary directory and ports of its own and is stopped by pid, at the latest when
# the test ends. ROOMS_REDIS_SERVER names another server (valkey-server), ROOMS_KEEP=1 keeps the directories.
import atexit
import binascii
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time

from . import SCALE, TIMEOUT, wait_until
from .load import build
from .nginx import _die_with_parent, free_port, make_certificate
from .wire import Wire

BINARY = os.environ.get("ROOMS_REDIS_SERVER", "redis-server")
_started = []
_ports = set()


def _port():
    """A free port that nothing else here was given and has not bound yet."""
    while (port := free_port()) in _ports:
        pass
    _ports.add(port)
    return port


# --- the client

class ReplyError(Exception):
    """An error as the server said it; code is its first word."""

    @property
    def code(self):
        return str(self).split(" ", 1)[0]


def encode(*words):
    """The octets of a command."""
    parts = [word if isinstance(word, bytes) else str(word).encode("utf-8", "surrogateescape") for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


class Resp:
    """One connection. client("SET", "a", 1) is the reply: str, int, None or a list of them; an error is raised.
    address: (host, port), or the path of a unix socket. decode=False: bytes in place of str."""

    def __init__(self, address, *, password=None, user=None, tls=None, decode=True, timeout=TIMEOUT):
        self.wire = Wire(address, tls=tls)
        self.decode, self.timeout = decode, timeout
        if password is not None:
            self("AUTH", *([user] if user else []), password)

    def __call__(self, *words, timeout=None):
        self.send(*words)
        reply = self.read(timeout)
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    def pipeline(self, *commands):
        """Sends all (tuples of words), then gives the replies in order; errors are among them, not raised."""
        self.wire.send(b"".join(encode(*words) for words in commands))
        return [self.read() for _ in commands]

    def send(self, *words):
        self.wire.send(encode(*words))

    def read(self, timeout=None):
        """The next reply; a ReplyError is returned. ConnectionError when the stream has ended."""
        timeout = self.timeout if timeout is None else timeout
        line = self._taken(self.wire.take_until(b"\r\n", timeout))[:-2]
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return self._text(rest)
        if kind == b"-":
            return ReplyError(rest.decode("utf-8", "replace"))
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self._text(self._taken(self.wire.take(int(rest) + 2, timeout))[:-2])
        if kind == b"*":
            return None if rest == b"-1" else [self.read(timeout) for _ in range(int(rest))]
        raise AssertionError(f"no RESP2: {line!r}")

    def push(self, timeout=TIMEOUT):
        """What a subscribed connection is brought next; None when nothing came in time."""
        if not self.wire.buffer and not self.wire.ended and not self.wire.fill(timeout):
            return None
        return self.read()

    def close(self):
        self.wire.close()

    def _taken(self, octets):
        if octets is None:
            raise ConnectionResetError(f"the server ended the connection ({self.wire.ended})")
        return octets

    def _text(self, octets):
        return octets.decode("utf-8", "surrogateescape") if self.decode else octets

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


# --- servers

class Server:
    """A process with a configuration file in a directory of its own. Redis and Sentinel say what is in the file."""

    arguments = ()
    password = user = None

    def __init__(self, name):
        self.name = name
        self.dir = tempfile.mkdtemp(prefix=f"rooms-{name}-")
        os.chmod(self.dir, 0o755)
        self.port = None
        self.process = None
        self.paused = False
        _started.append(self)

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        return self.path(name)

    def config(self):
        raise NotImplementedError

    @property
    def address(self):
        return ("127.0.0.1", self.port)

    @property
    def admin(self):
        """Where cli() connects to: past every proxy."""
        return self.address

    @property
    def pid(self):
        return self.process.pid

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    # What a server has written into its file (replicaof, sentinels) is there at its next start.
    def start(self):
        for _ in range(5):
            if self.port is None:
                self.port = _port()
                self.write("redis.conf", self.config())
            with open(self.path("output.txt"), "ab") as output:
                self.process = subprocess.Popen([BINARY, self.path("redis.conf"), *self.arguments], stdin=subprocess.DEVNULL,
                                                stdout=output, stderr=output, preexec_fn=_die_with_parent)
            try:
                return self.wait_up()
            except AssertionError:
                # Somebody else was given the port in the same moment: only a first start may take another.
                if os.path.exists(self.path("started")) or "already in use" not in self.log():
                    raise
                self.port = None
                os.remove(self.path("redis.log"))
        raise AssertionError(f"{self.name} finds no free port")

    def wait_up(self, timeout=TIMEOUT):
        """Until it answers, its data loaded."""
        def up():
            if self.process.poll() is not None:
                raise AssertionError(f"{self.name} did not start, exit code {self.process.returncode}:\n{self.log()[-2000:]}")
            try:
                # Logged in: NOAUTH comes before LOADING.
                return self.cli("PING") == "PONG"
            except (OSError, ReplyError):
                return False
        wait_until(up, f"{self.name} to answer", timeout)
        self.write("started", "")
        return self

    def stop(self, how=signal.SIGTERM):
        """Ends it as an init system does: SIGTERM, then the wait for its end."""
        if self.is_running():
            self.resume()
            os.kill(self.pid, how)
            try:
                self.process.wait(20 * SCALE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"{self.name} did not end:\n{self.log()[-2000:]}")
        return self

    def kill(self):
        """SIGKILL."""
        if self.is_running():
            self.process.kill()
            self.process.wait()
        self.paused = False
        return self

    def restart(self, kill=False):
        self.kill() if kill else self.stop()
        return self.start()

    def pause(self):
        """SIGSTOP: the kernel goes on taking connections and bytes for it."""
        os.kill(self.pid, signal.SIGSTOP)
        self.paused = True

    def resume(self):
        if self.is_running():
            os.kill(self.pid, signal.SIGCONT)
        self.paused = False

    def client(self, **options):
        """A connection by TCP, logged in."""
        return Resp(self.address, **{"user": self.user, "password": self.password, **options})

    def cli(self, *words, timeout=None):
        """One command on a connection of its own."""
        with Resp(self.admin, user=self.user, password=self.password) as client:
            return client(*words, timeout=timeout)

    def info(self, section="default"):
        """INFO as a dict; numbers are int."""
        try:
            return _fields(self.cli("INFO", section))
        except ConnectionResetError:    # a sentinel ends every connection when it changes what a server is
            return _fields(self.cli("INFO", section))

    def log(self):
        text = ""
        for name in ("redis.log", "output.txt"):
            try:
                with open(self.path(name), encoding="utf-8", errors="replace") as file:
                    text += file.read()
            except OSError:
                pass
        return text

    def wait_log(self, pattern, what=None, timeout=TIMEOUT, since=0):
        what = what or f"{self.name}'s log to match {pattern}"
        return wait_until(lambda: re.search(pattern, self.log()[since:]), what, timeout)

    def close(self):
        """Ends it without ceremony and removes its directory."""
        self.kill()
        if "BUG REPORT START" in self.log():
            print(f"# {self.name} crashed, kept {self.dir}", flush=True)
        elif os.environ.get("ROOMS_KEEP"):
            print(f"# kept {self.dir}", flush=True)
        else:
            shutil.rmtree(self.dir, ignore_errors=True)
        if self in _started:
            _started.remove(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def _fields(text):
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line and not line.startswith("#"))
    return {name: int(value) if re.fullmatch(r"-?\d+", value) else value for name, value in pairs}


class Redis(Server):
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
            self.tls_port = _port()
            lines += [f"tls-port {self.tls_port}", f"tls-cert-file {self.certificate}", f"tls-key-file {self.key}",
                      "tls-auth-clients no"]
        if self.requirepass:
            lines += [f"requirepass {self.requirepass}", f"masterauth {self.requirepass}"]
        if self.acl:
            lines += [f"aclfile {self.write('users.acl', self.acl)}"]
        if self.cluster:
            self.bus_port = _port()
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
                wanted = _fields(client("INFO", "replication"))["master_repl_offset"]   # WAIT itself adds to it
                client("WAIT", len(ports), 100)
                fields = _fields(client("INFO", "replication"))
            found = [dict(pair.split("=") for pair in str(value).split(","))
                     for name, value in fields.items() if re.fullmatch(r"slave\d+", name)]
            return ports <= {int(one["port"]) for one in found if one["state"] == "online" and int(one["offset"]) >= wanted}
        wait_until(synced, f"the replicas of {self.name} to have everything", timeout)


# --- sentinels

class Sentinel(Server):
    arguments = ("--sentinel",)

    def __init__(self, lines, name):
        super().__init__(name)
        self.lines = lines
        self.id = os.urandom(20).hex()

    def config(self):
        return (f"bind 127.0.0.1\nport {self.port}\ndir {self.dir}\nlogfile redis.log\ndaemonize no\nprotected-mode no\n"
                f"sentinel myid {self.id}\n{self.lines()}\n")


class Sentinels:
    """count of them watch a master and its replicas, which must be so already, under a name. Each knows all from the
    start: nothing has to be discovered."""

    def __init__(self, master, replicas, count=3, name="rooms", options=""):
        self.name = name
        self.servers = [master, *replicas]
        self.all = [Sentinel(self._lines, f"sentinel{number}") for number in range(count)]
        self.options = options
        for sentinel in self.all:
            sentinel.port = _port()
        for sentinel in self.all:
            sentinel.write("redis.conf", sentinel.config())
            sentinel.start()
        for sentinel in self.all:
            # Only a faster clock than Redis gives to these. A server that says it is another thing than its sentinel
            # believes is corrected after four PUBLISH-PERIODs: no less than a promotion needs to get about.
            # A replica is good enough if it was heard of within five PING-PERIODs, and then is asked once a second.
            sentinel.cli("SENTINEL", "DEBUG", "INFO-PERIOD", 200, "PING-PERIOD", 300, "PUBLISH-PERIOD", 300, "ASK-PERIOD", 100,
                         "MIN-LINK-RECONNECT-PERIOD", 200)
        wait_until(lambda: all(self._knows(sentinel) for sentinel in self.all), "the sentinels to know each other", 2 * TIMEOUT)

    def _lines(self):
        master = self.servers[0]
        lines = [f"sentinel monitor {self.name} 127.0.0.1 {master.port} {len(self.all) // 2 + 1}",
                 f"sentinel down-after-milliseconds {self.name} 500", f"sentinel failover-timeout {self.name} 2000",
                 f"sentinel parallel-syncs {self.name} 1"]
        if master.password:
            lines.append(f"sentinel auth-pass {self.name} {master.password}")
        lines += [f"sentinel known-replica {self.name} 127.0.0.1 {replica.port}" for replica in self.servers[1:]]
        return "\n".join(lines) + "\n" + self.options

    def _state(self, sentinel):
        words = sentinel.cli("SENTINEL", "MASTER", self.name)
        return dict(zip(words[::2], words[1::2]))

    def _knows(self, sentinel):
        state = self._state(sentinel)
        return (state["flags"] == "master" and int(state["num-slaves"]) == len(self.servers) - 1
                and int(state["num-other-sentinels"]) == len(self.all) - 1)

    def url(self, name=None):
        return "sentinel://" + ",".join(f"127.0.0.1:{one.port}" for one in self.all) + f"/{name or self.name}"

    def _alive(self):
        return [sentinel for sentinel in self.all if sentinel.is_running() and not sentinel.paused]

    def master_address(self):
        """As the sentinels say it; None while they do not agree."""
        said = {tuple(one.cli("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name)) for one in self._alive()}
        return (lambda host, port: (host, int(port)))(*said.pop()) if len(said) == 1 else None

    def master(self):
        """The server that all sentinels take for the master and that takes itself for it; None while there is none."""
        address = self.master_address()
        for server in self.servers:
            if server.address == address and server.is_running() and not server.paused:
                try:
                    return server if server.info("replication")["role"] == "master" else None
                except OSError:
                    return None
        return None

    def failover(self, timeout=40 * SCALE):
        """Forces one. Returns the new master when all sentinels name it and it is one."""
        before, end = self.master_address(), time.monotonic() + timeout

        def forced():
            try:
                return self._alive()[0].cli("SENTINEL", "FAILOVER", self.name)
            except ReplyError as error:     # the last one is not over, or its replicas are not back yet
                if error.code not in ("INPROG", "NOGOODSLAVE"):
                    raise
                return None
        # A sentinel that has not heard yet of the replica's being one would turn the promotion back.
        self._wait_heard(timeout)
        while True:
            wait_until(forced, "a sentinel to begin a failover", max(1, end - time.monotonic()))
            try:
                return self.wait_other_master(before, 6 * SCALE)
            except AssertionError:
                if time.monotonic() > end:
                    raise

    def _wait_heard(self, timeout):
        wait_until(lambda: all(self._hears_replicas(one) for one in self._alive()),
                   "the sentinels to hear from all replicas", timeout)

    def _hears_replicas(self, sentinel):
        found = [dict(zip(words[::2], words[1::2])) for words in sentinel.cli("SENTINEL", "REPLICAS", self.name)]
        good = [one for one in found if one["flags"] == "slave" and one["role-reported"] == "slave"
                and one["master-link-status"] == "ok" and int(one["role-reported-time"]) > 500]
        return len(good) >= sum(one.is_running() and not one.paused for one in self.servers) - 1

    def wait_other_master(self, before, timeout=40 * SCALE):
        """before: an address. For failovers that nobody asked for."""
        return wait_until(lambda: self.master_address() not in (None, before) and self.master(), "another master", timeout)

    def wait_replicas(self, timeout=40 * SCALE):
        """Until every other server that runs is the master's replica and up to date, and the sentinels know it."""
        master = wait_until(self.master, "a master", timeout)
        others = [one for one in self.servers if one is not master and one.is_running() and not one.paused]
        wait_until(lambda: all(one.info("replication").get("master_port") == master.port for one in others),
                   "the others to be replicas", timeout)
        master.wait_synced(*others, timeout=timeout)
        self._wait_heard(timeout)

    def close(self):
        for sentinel in self.all:
            sentinel.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


# --- a cluster

def slot_of(key):
    """The slot of a key; only what is in its first {…} counts, if anything is."""
    key = key.encode() if isinstance(key, str) else key
    tag = re.search(rb"\{([^}]+)\}", key[key.find(b"{"):]) if b"{" in key else None
    if tag and key[key.find(b"{") + 1:key.find(b"{") + 2] == b"}":
        tag = None
    return binascii.crc_hqx(tag[1] if tag else key, 0) % 16384


class Cluster:
    """masters + replicas nodes on loopback, all slots covered, ready when constructed; wait=False: after ready(). `nodes`:
    Redis, masters first. options: those of Redis."""

    def __init__(self, masters=3, replicas=3, wait=True, **options):
        self.count = masters
        self.nodes = [Redis(cluster=True, name=f"node{number}", **options) for number in range(masters + replicas)]
        for number, node in enumerate(self.nodes):
            node.id = node.cli("CLUSTER", "MYID")
            if number < masters:
                node.cli("CLUSTER", "ADDSLOTSRANGE", 16384 * number // masters, 16384 * (number + 1) // masters - 1)
            node.cli("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for number, node in enumerate(self.nodes):
            for other in self.nodes[number + 1:]:
                node.cli("CLUSTER", "MEET", "127.0.0.1", other.port, other.bus_port)
        if wait:
            self.ready()

    def ready(self):
        masters = self.count
        self._wait(lambda node: len(self._table(node)) == len(self.nodes), "all nodes to know each other")
        for number, node in enumerate(self.nodes[masters:]):
            node.cli("CLUSTER", "REPLICATE", self.nodes[number % masters].id)
        self.wait_ok()
        for number, master in enumerate(self.nodes[:masters]):
            followers = self.nodes[masters + number::masters]
            if followers:
                master.wait_synced(*followers)

    @property
    def url(self):
        return "cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def alive(self):
        return [node for node in self.nodes if node.is_running() and not node.paused]

    def _wait(self, condition, what, timeout=4 * TIMEOUT):
        wait_until(lambda: all(condition(node) for node in self.alive()), what, timeout)

    @staticmethod
    def _table(node):
        """{id: (flags, its master's id, its slots as ranges)}, as this node sees it; without those it only hears of."""
        table = {}
        for line in node.cli("CLUSTER", "NODES").splitlines():
            words = line.split()
            flags = set(words[2].split(","))
            if not flags & {"handshake", "noaddr"}:
                ranges = [tuple(int(end) for end in word.split("-")) for word in words[8:] if not word.startswith("[")]
                table[words[0]] = (flags, words[3], [(one[0], one[-1]) for one in ranges])
        return table

    def wait_ok(self):
        """Until every node that runs sees all slots served, and the same masters and replicas."""
        def ok():
            seen = set()
            for node in self.alive():
                if _fields(node.cli("CLUSTER", "INFO"))["cluster_state"] != "ok":
                    return False
                seen.add(str(sorted((name, master, slots) for name, (_, master, slots) in self._table(node).items())))
            return len(seen) == 1
        wait_until(ok, "the cluster to be whole", 4 * TIMEOUT)

    def masters(self):
        """The nodes that have slots, as the first one that runs sees it."""
        table = self._table(self.alive()[0])
        return [node for node in self.nodes if node.id in table and table[node.id][2]]

    def node_of(self, key):
        """Who serves a key (str), or a slot (int)."""
        slot = key if isinstance(key, int) else slot_of(key)
        for name, (_, _, slots) in self._table(self.alive()[0]).items():
            if any(first <= slot <= last for first, last in slots):
                return next(node for node in self.nodes if node.id == name)
        raise AssertionError(f"nobody serves slot {slot}")

    def replicas_of(self, node):
        table = self._table(self.alive()[0])
        return [one for one in self.nodes if one.id in table and table[one.id][1] == node.id]

    def move_slot(self, slot, to, between=lambda: None):
        """Moves a slot with its keys to another master while it is in use. between() is called when half of the keys
        have moved, and clients are answered ASK."""
        source = self.node_of(slot)
        if source is to:
            return
        to.cli("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.cli("CLUSTER", "SETSLOT", slot, "MIGRATING", to.id)
        half = source.cli("CLUSTER", "COUNTKEYSINSLOT", slot) // 2
        moved, called = 0, False
        while True:
            if moved >= half and not called:
                between()
                called = True
            keys = source.cli("CLUSTER", "GETKEYSINSLOT", slot, max(1, min(100, half if not called else 100)))
            if not keys:
                break
            source.cli("MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", *keys)
            moved += len(keys)
        # The target first: no moment when nobody serves it.
        for node in [to, source] + [node for node in self.masters() if node not in (to, source)]:
            node.cli("CLUSTER", "SETSLOT", slot, "NODE", to.id)

    def kill(self, node, wait=True):
        """SIGKILL of a master. Returns the node that has taken over, when all others know it; wait=False: a function that
        waits for it and returns it."""
        slots = self._table(node)[node.id][2]
        node.kill()

        def successor():
            # By its own account.
            return next((one for one in self.alive() if slots and set(slots) <= set(self._table(one)[one.id][2])), None)

        def taken_over():
            found = wait_until(successor, f"a replica to take over from {node.name}", 4 * TIMEOUT)
            self.wait_ok()
            return found
        return taken_over() if wait else taken_over

    def close(self):
        for node in self.nodes:
            node.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


# --- a bad line

class Proxy:
    """A TCP proxy before a Redis, (host, port) or the path of a unix socket; see t/load/proxy.cpp. Each method returns
    when it holds."""

    def __init__(self, target):
        self.lock = threading.Lock()
        for _ in range(5):
            self.port = _port()
            self.process = subprocess.Popen([build("proxy"), str(self.port), self._text(target)], stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1,
                                            preexec_fn=_die_with_parent)
            if self.process.stdout.readline() == "ready\n":
                break
            self.process.wait()
        else:
            raise AssertionError("the proxy does not start")
        _started.append(self)

    @staticmethod
    def _text(target):
        target = target.address if hasattr(target, "address") else target
        return target if isinstance(target, str) else f"{target[0]}:{target[1]}"

    @property
    def address(self):
        return ("127.0.0.1", self.port)

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}"

    def _tell(self, *words):
        with self.lock:
            self.process.stdin.write(" ".join(str(word) for word in words) + "\n")
            answer = self.process.stdout.readline().strip()
        assert answer and not answer.startswith("error"), f"proxy: {' '.join(map(str, words))}: {answer or 'it has ended'}"
        return answer

    def black_hole(self, on=True):
        """Bytes vanish both ways while connections stay up; new ones are taken and lead nowhere. At its end those that
        lost something are reset."""
        self._tell("hole", "both" if on else "none")

    def one_way(self, direction):
        """Only what goes "up" to Redis vanishes, or only what comes "down" from it; None ends it."""
        self._tell("hole", direction or "none")

    def cut(self):
        """Every connection is closed, new ones are refused."""
        self._tell("cut")

    def mend(self):
        """After cut(), until connections are taken again."""
        wait_until(lambda: not self._refused(), "the proxy's port to be free", TIMEOUT)

    def _refused(self):
        try:
            self._tell("mend")
        except AssertionError:
            if self.process.poll() is not None:
                raise
            return True
        return False

    def delay(self, ms):
        """Each way."""
        self._tell("delay", ms)

    def retarget(self, target):
        """Leads elsewhere from now on; present connections are closed."""
        self._tell("target", self._text(target))

    def stats(self):
        """connections, accepted, up, down, swallowed (bytes)."""
        words = self._tell("stats").split()
        return {name: int(value) for name, value in zip(words[::2], words[1::2])}

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        if self in _started:
            _started.remove(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


@atexit.register
def _stop_all():
    for thing in list(_started):
        thing.close()

# Real sentinels over a master and its replicas.
import os
import time

from . import SCALE, TIMEOUT, started, wait_until
from .redis_process import RedisProcess
from .resp import ReplyError


class Sentinel(RedisProcess):
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
            sentinel.port = started.port()
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

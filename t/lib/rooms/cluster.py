# A real Redis Cluster: slots that move, masters that die and are succeeded.
import binascii
import re

from . import TIMEOUT, wait_until
from .redis import Redis
from .redis_process import info_fields


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
                if info_fields(node.cli("CLUSTER", "INFO"))["cluster_state"] != "ok":
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

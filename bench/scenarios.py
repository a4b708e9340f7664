"""What is measured. Each scenario is one way to load a server; the servers take turns in it, and each run has a
server of its own."""
import dataclasses
import typing

CHECKS = ("lost", "duplicated", "reordered", "misrouted")


@dataclasses.dataclass
class Scenario:
    name: str
    what: str
    load: dict                      # options of load
    value: str                      # the figure that counts, of load's answer
    unit: str
    servers: dict                   # label: (name of the server, its options, further options of load)
    quick: bool = False             # part of `make bench`
    also: tuple = ()                # further figures of the table


def each_of(*names, **options):
    return {name: (name, options, {}) for name in names}


ALL = ("floor", "rooms", "nchan", "node")
LATENCY = ("latency_us.p50", "latency_us.p99")
BATCHES = {"batch": 100, "window": 1600}
DELIVERY, PUBLISH = "cpu_us_per_delivery", "cpu_us_per_publish"


def rooms_of_two(**more):
    return {"sockets": 10000, "rooms": 5000, "sources": 4, "window": 64, "publishers": 16, **more}


SCENARIOS = [
    Scenario("room of 1,000", "50 events/s to 1,000 sockets", {"sockets": 1000, "rate": 50}, DELIVERY, "µs/delivery",
             each_of(*ALL), quick=True, also=LATENCY),
    Scenario("room of 10,000", "4 events/s to 10,000 sockets", {"sockets": 10000, "rate": 4, "sources": 4, "seconds": 4},
             DELIVERY, "µs/delivery", each_of(*ALL), quick=True, also=LATENCY),
    Scenario("room of 1,000, flat out", "32 events under way", {"sockets": 1000, "window": 32, "publishers": 32}, DELIVERY,
             "µs/delivery", each_of(*ALL), quick=True, also=("deliveries_per_s",)),
    Scenario("room of 10,000, flat out", "32 events under way",
             {"sockets": 10000, "window": 32, "publishers": 32, "sources": 4}, DELIVERY, "µs/delivery", each_of(*ALL),
             also=("deliveries_per_s",)),
    Scenario("room of 1,000, one in flight", "the next event when the last has arrived", {"sockets": 1000, "window": 1},
             DELIVERY, "µs/delivery", each_of(*ALL), also=("latency_us.p50",)),
    Scenario("rooms of 2", "10,000 sockets, one POST for an event, or for 100", rooms_of_two(), PUBLISH, "µs/publish",
             {**each_of(*ALL), **{f"{name}, batches": (name, {}, BATCHES) for name in ("rooms", "node")}},
             quick=True, also=("publishes_per_s",)),
    *(Scenario(f"rooms of 2, {count}", "on both cores, as is the load", rooms_of_two(), PUBLISH, "µs/publish",
               each_of("floor", "rooms", "nchan", workers=workers, pinned=False), also=("publishes_per_s",))
      for workers, count in ((1, "1 process"), (2, "2 processes"))),
    Scenario("rooms of 2, Redis", "2 processes on both cores, Redis and the load there too", rooms_of_two(), "publishes_per_s",
             "publishes/s", each_of("rooms", "nchan", "node", workers=2, redis=True),
             also=(PUBLISH, "also_us_per_publish")),
    Scenario("room of 1,000, Redis", "50 events/s to 1,000 sockets", {"sockets": 1000, "rate": 50}, DELIVERY, "µs/delivery",
             each_of("rooms", "nchan", "node", redis=True), also=LATENCY),
    *(Scenario(f"{each} rooms a socket", f"1,000 sockets, {100 * each} rooms of 10",
               {"sockets": 1000, "rooms": 100 * each, "each": each, "window": 32, "publishers": 16}, PUBLISH, "µs/publish",
               {**each_of("floor", "node"), "rooms": ("rooms", {"more": "rooms_rate 200/1s;", "zone": "256m"}, {})}) for each in (1, 10, 100)),
    Scenario("handshakes", "connect, upgrade with an HS256 token (floor, nchan: none), close", {"handshakes": 30000, "window": 32,
             "sources": 8}, "cpu_us_per_handshake", "µs/handshake", each_of(*ALL), quick=True, also=("handshakes_per_s",)),
    Scenario("handshakes by algorithm", "of the token", {"handshakes": 10000, "window": 32, "sources": 8},
             "cpu_us_per_handshake", "µs/handshake",
             {name: ("rooms", {"algorithm": name}, {}) for name in ("HS256", "RS256", "ES256")}),
    Scenario("handshakes, TLS", "with a full TLS 1.3 handshake (P-256) before", {"handshakes": 6000, "window": 32, "sources": 8, "tls": 1},
             "cpu_us_per_handshake", "µs/handshake", each_of("rooms", "nchan", "node", tls=True), also=("handshakes_per_s",)),
    Scenario("publish alone", "nobody listens", {"sockets": 0, "rooms": 5000, "window": 16, "publishers": 16}, PUBLISH, "µs/publish",
             each_of(*ALL), also=("publishes_per_s",)),
    Scenario("publish alone, batches", "100 events in a POST",
             {"sockets": 0, "rooms": 5000, "window": 400, "publishers": 4, "batch": 100}, PUBLISH, "µs/publish",
             each_of("rooms", "node"), also=("publishes_per_s",)),
    Scenario("16 KiB events", "20 events/s to 1,000 sockets", {"sockets": 1000, "rate": 20, "size": 16384}, DELIVERY,
             "µs/delivery", each_of(*ALL), also=LATENCY),
    Scenario("deflate", "50 events/s to 1,000 sockets", {"sockets": 1000, "rate": 50, "deflate": 1}, DELIVERY, "µs/delivery",
             each_of("rooms", "node", deflate=True), also=LATENCY),
    Scenario("TLS", "50 events/s to 1,000 sockets", {"sockets": 1000, "rate": 50, "tls": 1}, DELIVERY, "µs/delivery",
             each_of("rooms", "nchan", "node", tls=True), also=LATENCY),
    Scenario("slow readers", "50 events/s to 1,000 who read, beside 1,000 who do not", {"sockets": 2000, "slow": 1000, "rate": 50},
             DELIVERY, "µs/delivery", each_of("rooms", "nchan"), also=(*LATENCY, "slow_closed")),
    Scenario("idle", "memory (PSS) of a socket in a room, of 15,000", {"sockets": 15000, "rooms": 7500, "sources": 4},
             "bytes_per_socket", "bytes/socket",
             {"floor": ("floor", {}, {}), "rooms": ("rooms", {}, {}), "rooms, access log at the end": ("rooms", {"access_log": "end"}, {}),
              "rooms, 1.5 KB of handshake": ("rooms", {}, {"cookie": 1100}), "nchan": ("nchan", {}, {}), "node": ("node", {}, {})},
             quick=True),
    Scenario("idle, TLS", "the same with TLS, of 4,000", {"sockets": 4000, "rooms": 2000, "sources": 4, "tls": 1},
             "bytes_per_socket", "bytes/socket", each_of("rooms", "nchan", "node", tls=True)),
]


@dataclasses.dataclass
class Promise:
    """`figure` of a label in a scenario is at most (or at least) `bound` times that of another."""
    what: str
    of: typing.Tuple[str, str, str]
    against: typing.Union[typing.Tuple[str, str, str], float]
    bound: float
    at_least: bool = False


PROMISES = [
    *(Promise(f"{room}: CPU of a delivery", (room, "rooms", DELIVERY), (room, "floor", DELIVERY), 1.10)
      for room in ("room of 1,000", "room of 10,000")),
    *(Promise(f"{room}: latency, p50", (room, "rooms", "latency_us.p50"), (room, "floor", "latency_us.p50"), 1.10)
      for room in ("room of 1,000", "room of 10,000")),
    *(Promise(f"{room}: latency, p99", (room, "rooms", "latency_us.p99"), (room, "floor", "latency_us.p99"), 1.25)
      for room in ("room of 1,000", "room of 10,000")),
    Promise("flat out: CPU of a delivery", ("room of 1,000, flat out", "rooms", DELIVERY),
            ("room of 1,000, flat out", "floor", DELIVERY), 0.60),
    Promise("rooms of 2: CPU of a publish", ("rooms of 2", "rooms", PUBLISH), ("rooms of 2", "floor", PUBLISH), 1.25),
    Promise("rooms of 2, batches: CPU of a publish", ("rooms of 2", "rooms, batches", PUBLISH),
            ("rooms of 2", "floor", PUBLISH), 0.65),
    Promise("handshake with HS256: CPU", ("handshakes", "rooms", "cpu_us_per_handshake"),
            ("handshakes", "floor", "cpu_us_per_handshake"), 1.5),
    Promise("idle: bytes of a socket", ("idle", "rooms", "bytes_per_socket"), 1200, 1),
    Promise("idle, access log at the end: bytes of a socket", ("idle", "rooms, access log at the end", "bytes_per_socket"), 8192, 1),
    Promise("idle, 1.5 KB of handshake: bytes of a socket", ("idle", "rooms, 1.5 KB of handshake", "bytes_per_socket"), 1200, 1),
    Promise("Redis: publishes/s, against Node", ("rooms of 2, Redis", "rooms", "publishes_per_s"),
            ("rooms of 2, Redis", "node", "publishes_per_s"), 2, True),
    Promise("Redis: publishes/s, against Nchan", ("rooms of 2, Redis", "rooms", "publishes_per_s"),
            ("rooms of 2, Redis", "nchan", "publishes_per_s"), 2, True),
    Promise("the floor is fast: Node's CPU of a delivery", ("room of 1,000", "node", DELIVERY),
            ("room of 1,000", "floor", DELIVERY), 1.6, True),
    Promise("the floor is fast: Nchan's CPU of a delivery", ("room of 1,000", "nchan", DELIVERY),
            ("room of 1,000", "floor", DELIVERY), 1.4, True),
]

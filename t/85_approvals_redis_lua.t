#!/usr/bin/python3
"""What Redis makes of an approval: approval.lua and approval_index.lua on a server and on a cluster, without nginx. One
end, in time by Redis' own clock, and one event for it in the room's stream; what a caller that dies leaves behind."""
import json
import os
import random
import re
import sys
import threading
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import ROOT, SCALE, tap                  # noqa: E402
from rooms.cluster import Cluster                   # noqa: E402
from rooms.redis import Redis                       # noqa: E402
from rooms.resp import Resp, ReplyError             # noqa: E402


def source(name):
    with open(os.path.join(ROOT, "src/store", name), encoding="utf-8") as file:
        return file.read()


# As redis_scripts.cpp composes it.
APPROVAL = "local function publish(KEYS, ARGV)\n" + source("publish.lua") + "end\n" + source("approval.lua")
INDEX = source("approval_index.lua")
PUBLISH = source("publish.lua")
WARN, MAX = "60000 20000", 86400000
FIELDS = ("outcome", "changed", "json", "status", "due", "deadline", "tenant", "late", "epoch", "offset", "check")
made = 0


def new(what="a"):
    global made
    made += 1
    return f"{what}{made}"


def rights():
    """The block of docs/redis.md, with passwords."""
    with open(os.path.join(ROOT, "docs/redis.md"), encoding="utf-8") as file:
        acl = "".join(re.findall(r"^```acl\n(.*?)^```", file.read(), re.MULTILINE | re.DOTALL))
    return acl.replace(">CHANGE-ME-1", ">" + "n" * 32) + "user boss on >pw ~* &* +@all\n"


class One:
    """One Redis; connections for each thread. The scripts run with the rights of nginx."""

    def __init__(self):
        self.redis = Redis(appendfsync=None, acl=rights(), admin=("boss", "pw"))
        self.local = threading.local()

    def client(self, key):
        if not hasattr(self.local, "client"):
            self.local.client = self.redis.client()
        return self.local.client

    def run(self, key, *words):
        if not hasattr(self.local, "nginx"):
            self.local.nginx = Resp(self.redis.address, user="nginx", password="n" * 32)
        return self.local.nginx("EVAL", *words)

    sharded = ""


class Many:
    """A cluster, asked at the node that has the key."""

    def __init__(self):
        self.cluster = Cluster(wait=False)
        self.clients = {}

    def client(self, key):
        node = self.cluster.node_of(key)
        if node not in self.clients:
            self.clients[node] = node.client()
        return self.clients[node]

    def run(self, key, *words):
        return self.client(key)("EVAL", *words)

    sharded = "1"


class Place:
    """One approval of a session, by its scripts."""

    def __init__(self, on, session=None, id=None, warn=WARN, tenant=None):
        self.on, self.session, self.id = on, session or new("s"), id or new()
        self.warn, self.tenant = warn, tenant
        self.room = f"session:{self.session}"
        self.base = f"rooms:{{{self.room}}}"
        self.key = f"{self.base}:approval:{self.id}"

    def call(self, what, *more):
        keys = [self.base + ":meta", self.base + ":stream", self.key, self.base + ":approvals"]
        got = self.on.run(self.base, APPROVAL, 4, *keys, what, 1000, 300000, "fence", "word", self.on.sharded, self.warn, MAX,
                          *more)
        return dict(zip(FIELDS, got))

    def create(self, timeout=600000, deadline="", bounded="1", action="deploy", context="null"):
        return self.call("create", json.dumps(action), context, json.dumps(self.tenant), timeout, deadline, bounded)

    def resolve(self, status="approved", by="u1"):
        return self.call("resolve", status, json.dumps(by))

    def extend(self, by):
        return self.call("extend", by)

    def sweep(self):
        return self.call("sweep")

    def read(self):
        got = self.on.run(self.base, APPROVAL, 1, self.key, "read")[0]
        return got and json.loads(got[0])

    def events(self):
        """[(fields, time)] of the room, as they were published."""
        got = []
        for _, (_, ms, _, body) in self.on.client(self.base)("XRANGE", self.base + ":stream", "-", "+"):
            event = json.loads(body + "}")
            tap.is_((event.pop("room"), event.pop("sessionId")), (self.room, self.session), "room and session")
            got.append((event, int(ms)))
        return got

    def index(self, what, *more, keys=()):
        slot = "rooms:{approvals}:"
        names = [slot + "due"] + ([] if what == "look" else [f"{slot}id:{self.id}"]) + [slot + name for name in keys]
        return self.on.run(slot, INDEX, len(names), *names, what, *([] if what == "look" else [self.id]), *more)

    def claim(self, instead_of="", timeout=600000, deadline=""):
        return self.index("claim", self.session, instead_of, timeout, deadline)

    def put(self, state):
        return self.index("put", self.session, state["due"], state["deadline"],
                          keys=[f"tenant:{self.tenant}"] if self.tenant else [])

    def known(self):
        return self.on.client("rooms:{approvals}:")("GET", f"rooms:{{approvals}}:id:{self.id}")

    def score(self):
        found = self.on.client("rooms:{approvals}:")("ZSCORE", "rooms:{approvals}:due", f"{self.id} {self.session}")
        return found and int(found)


def now(on):
    seconds, micros = on.client("rooms:{approvals}:")("TIME")
    return int(seconds) * 1000 + int(micros) // 1000


one = One()
many = Many()


def both(name):
    """The same case on a server and on a cluster."""
    def register(function):
        tap.add(f"one server: {name}", function, one)
        tap.add(f"cluster: {name}", function, many)
        return function
    return register


def cluster_is_there():
    many.cluster.ready()


tap.add("a cluster comes up", cluster_is_there)


@both("a new one is shown and told with what it was given, digit for digit; a repeated one changes nothing")
def _(on):
    place = Place(on, tenant='t "1"')
    before = now(on)
    context = '{"n":12345678901234567890,"x":1.10,"deep":[{"a":"é\\u0000"}]}'
    made = place.create(600000, action='dep"loy', context=context)
    tap.is_((made["outcome"], made["changed"], made["status"]), ("created", 1, "pending"))
    tap.ok(context in made["json"], "the context as it came")
    shown = json.loads(made["json"])
    tap.ok(before <= shown["createdAt"] <= now(on), "createdAt")
    tap.is_(shown, {"id": place.id, "sessionId": place.session, "tenantId": 't "1"', "action": 'dep"loy',
                    "context": json.loads(context), "status": "pending", "resolvedBy": None, "createdAt": shown["createdAt"],
                    "expiresAt": shown["createdAt"] + 600000, "resolvedAt": None})
    tap.is_(list(shown), ["id", "sessionId", "tenantId", "action", "context", "status", "resolvedBy", "createdAt", "expiresAt",
                          "resolvedAt"], "names, in order")
    tap.is_((made["deadline"], made["due"], json.loads(made["tenant"])), (str(shown["expiresAt"]), 540000, 't "1"'))
    again = place.create(1000, action="other")
    tap.is_((again["outcome"], again["changed"], json.loads(again["json"])), ("exists", 0, shown))
    tap.is_(place.read(), shown)
    raw = on.client(place.base)("XRANGE", place.base + ":stream", "-", "+")
    tap.ok(f'"context":{context},' in raw[0][1][3], "the event's context as it came")
    tap.is_([event for event, _ in place.events()], [
        {"type": "approval:requested", "id": f"approval:{place.id}:requested", "approvalId": place.id, "action": 'dep"loy',
         "context": json.loads(context), "tenantId": 't "1"', "expiresAt": shown["expiresAt"]}])


@both("a deadline in the past or beyond max= is refused, and nothing is left of it; a table's timeout may be longer than max=")
def _(on):
    place = Place(on)
    for more, outcome in (({"timeout": "", "deadline": now(on) - 1}, "past"), ({"timeout": MAX + 1}, "too_long"),
                          ({"timeout": "", "deadline": now(on) + MAX + 60000}, "too_long")):
        got = place.create(**more)
        tap.is_((got["outcome"], got["changed"], got["json"]), (outcome, 0, ""))
    tap.is_((place.read(), place.events()), (None, []))
    tap.is_(place.create(2 * MAX, bounded="")["outcome"], "created")
    far = Place(on)
    got = far.create("", 253402300799999, bounded="")
    tap.is_(json.loads(got["json"])["expiresAt"], 253402300799999, "the year 9999")


@both("a decision in time ends it, once: the second is told what stands, whatever it wants")
def _(on):
    for status, by in (("approved", "ann"), ("rejected", "bob"), ("cancelled", None)):
        place = Place(on)
        expires = json.loads(place.create()["json"])["expiresAt"]
        done = place.resolve(status, by)
        tap.is_((done["outcome"], done["changed"], done["status"], done["due"]), ("done", 1, status, -1))
        shown = json.loads(done["json"])
        tap.is_((shown["status"], shown["resolvedBy"]), (status, by))
        for late in (place.resolve("approved", "eve"), place.resolve("cancelled"), place.extend(1000), place.sweep()):
            tap.is_((late["outcome"], late["changed"], json.loads(late["json"])), ("resolved", 0, shown))
        told = [event for event, _ in place.events()]
        tap.is_(told[1:], [{"type": "approval:resolved", "id": f"approval:{place.id}:{status}", "approvalId": place.id,
                            "action": "deploy", "status": status, "resolvedBy": by, "resolvedAt": shown["resolvedAt"],
                            "expiresAt": expires}])
        tap.ok(604000000 < on.client(place.base)("PTTL", place.key) <= 604800000, "kept for seven days")
        tap.is_(place.read(), shown)


@both("it does not time out before its deadline, and is shown as timed out from then on, before anybody sweeps")
def _(on):
    place = Place(on, warn="")
    deadline = json.loads(place.create(700)["json"])["expiresAt"]
    while (before := now(on)) < deadline + 50:
        status = place.read()["status"]
        if now(on) < deadline:
            tap.is_(status, "pending")
        elif before >= deadline:
            tap.is_(status, "timeout")
        if before < deadline - 400:
            tap.is_((place.sweep()["outcome"], place.sweep()["changed"]), ("done", 0))
    tap.is_(len(place.events()), 1, "events so far")
    tap.is_(place.read()["resolvedAt"], None)
    swept = place.sweep()
    tap.is_((swept["outcome"], swept["changed"], swept["status"], swept["due"]), ("expired", 1, "timeout", -1))
    tap.ok(50 <= swept["late"] < 5000, "how late")
    shown = json.loads(swept["json"])
    tap.is_(shown["resolvedAt"] - shown["expiresAt"], swept["late"])
    tap.is_(place.events()[1][0], {"type": "approval:resolved", "id": f"approval:{place.id}:timeout", "approvalId": place.id,
                                   "action": "deploy", "status": "timeout", "resolvedBy": None,
                                   "resolvedAt": shown["resolvedAt"], "expiresAt": deadline, "lateMs": swept["late"]})
    again = place.sweep()
    tap.is_((again["outcome"], again["changed"]), ("expired", 0))
    tap.is_(len(place.events()), 2, "events")


@both("a late decision is refused though nobody has swept, and ends it as timed out; so does a late extension")
def _(on):
    for late in (lambda place: place.resolve("approved", "ann"), lambda place: place.resolve("cancelled"),
                 lambda place: place.extend(60000)):
        place = Place(on)
        place.create(1)
        time.sleep(0.005)
        got = late(place)
        tap.is_((got["outcome"], got["changed"], got["status"]), ("expired", 1, "timeout"))
        tap.is_(json.loads(got["json"])["resolvedBy"], None)
        tap.is_([event.get("status") for event, _ in place.events()], [None, "timeout"])
        tap.is_((late(place)["outcome"], late(place)["changed"], len(place.events())), ("expired", 0, 2))


@both("an extension moves the deadline and is told; not beyond max= from now")
def _(on):
    place = Place(on)
    deadline = int(place.create(600000)["deadline"])
    got = place.extend(60000)
    tap.is_((got["outcome"], got["changed"], got["deadline"]), ("done", 1, str(deadline + 60000)))
    tap.ok(599000 < got["due"] <= 600000, "the warning moves along")
    tap.is_(place.events()[1][0], {"type": "approval:extended", "id": f"approval:{place.id}:extended:{deadline + 60000}",
                                   "approvalId": place.id, "action": "deploy", "expiresAt": deadline + 60000})
    refused = place.extend(MAX)
    tap.is_((refused["outcome"], refused["changed"], refused["deadline"]), ("too_long", 0, str(deadline + 60000)))
    tap.is_(len(place.events()), 2, "events")
    tap.is_(place.extend(1000)["outcome"], "done")
    with_score = on.client(place.base)("ZRANGEBYSCORE", place.base + ":approvals", "-inf", "+inf", "WITHSCORES")
    tap.is_(with_score, [place.id, str(deadline + 61000)], "the session's list")


@both("pages are warned once for each warn time that comes; those that passed unnoticed are one warning")
def _(on):
    place = Place(on, warn="60000 900 600 300")
    deadline = int(place.create(1000)["deadline"])
    while now(on) < deadline:
        place.sweep()
        time.sleep(0.002)
    told = [event for event, _ in place.events() if event["type"] == "approval:expiring"]
    tap.is_(len(told), 3, "warnings")
    for event, before in zip(told, (900, 600, 300)):
        moment = int(event["id"].rsplit(":", 1)[1])
        tap.ok(before - 250 < event["remainingMs"] <= before, f"{event['remainingMs']} ms remain at {before}")
        tap.is_(event, {"type": "approval:expiring", "id": f"approval:{place.id}:expiring:{moment}", "approvalId": place.id,
                        "action": "deploy", "expiresAt": deadline, "remainingMs": deadline - moment})
    tired = Place(on, warn="4990 4900 4800")
    tired.create(5000)
    time.sleep(0.3)
    tap.is_([tired.sweep()["changed"] for _ in range(3)], [1, 0, 0])
    tap.is_(len(tired.events()), 2, "events")


@both("events of approvals have the offsets, the epoch and the seals of the room's other events")
def _(on):
    place = Place(on)
    client = on.client(place.base)
    first = client("EVAL", PUBLISH, 2, place.base + ":meta", place.base + ":stream", '{"type":"x"}', 1000, 300000)
    made = place.create()
    last = client("EVAL", PUBLISH, 2, place.base + ":meta", place.base + ":stream", '{"type":"y"}', 1000, 300000)
    tap.is_((first[2], made["offset"], last[2]), (1, 2, 3), "offsets")
    tap.is_({first[1], made["epoch"], last[1]}, {first[1]}, "epochs")
    tap.like(made["check"], "^[0-9a-f]{16}$")


@both("where the room or its list holds something else, nothing changes and nothing is told")
def _(on):
    for broken in (":stream", ":meta", ":approvals"):
        place, healthy = Place(on), Place(on)
        place.create(600000)
        client = on.client(place.base)
        client("DEL", place.base + broken)
        client("SET", place.base + broken, "x")
        for act in (lambda: place.resolve(), lambda: place.extend(1000)):
            try:
                act()
            except ReplyError as error:
                tap.like(str(error), "WRONGTYPE", broken)
            else:
                tap.fail(f"{broken} was taken")
        tap.is_(place.read()["status"], "pending", broken)
        tap.is_(healthy.create()["outcome"], "created")


# --- the indexes

@both("the index is made before the approval, and follows it: what is due when, and where an id is")
def _(on):
    place = Place(on, tenant="t1")
    tap.is_(place.claim(), ["new", place.session])
    tap.is_(place.known(), place.session)
    tap.ok(4000 < place.score() - now(on) <= 5000, "a claim is looked at soon")
    for more, least, most in (({"timeout": 3000}, 2000, 3000), ({"timeout": 10}, 500, 1000),
                              ({"timeout": "", "deadline": now(on) + 4000}, 3000, 4000),
                              ({"timeout": "", "deadline": 253402300799999}, 4000, 5000), ({"timeout": "", "deadline": 1}, 500, 1000)):
        soon = Place(on)
        soon.claim(**more)
        tap.ok(least < soon.score() - now(on) <= most, f"{more}: in {soon.score() - now(on)} ms")
    tap.is_(place.claim(), ["known", place.session])
    made = place.create(600000)
    place.put(made)
    tap.ok(abs(place.score() - (int(made["deadline"]) - 60000)) < 1000, "due at the warning")
    tenants = on.client("rooms:{approvals}:")("ZRANGEBYSCORE", "rooms:{approvals}:tenant:t1", "-inf", "+inf", "WITHSCORES")
    tap.is_(tenants[-2:], [f"{place.id} {place.session}", made["deadline"]])
    place.put(place.resolve())
    tap.is_(place.score(), None, "due")
    tap.is_(place.known(), place.session)
    tap.ok(0 < on.client("rooms:{approvals}:")("PTTL", f"rooms:{{approvals}}:id:{place.id}") <= 604800000, "the id is kept as long")
    on.client("rooms:{approvals}:")("DEL", "rooms:{approvals}:tenant:t1")


@both("a look finds what is due, oldest first, and how long there is until the next")
def _(on):
    client = on.client("rooms:{approvals}:")
    client("DEL", "rooms:{approvals}:due")
    tap.is_(Place(on).index("look", 0, 100), [-1, 0])
    places = [Place(on) for _ in range(5)]
    for ms, place in enumerate(places):
        place.put({"due": ms, "deadline": "1"})
    later = Place(on)
    later.put({"due": 60000, "deadline": "1"})
    time.sleep(0.02)
    got = later.index("look", 0, 100)
    tap.ok(59000 < got[0] <= 60000, "until the next")
    tap.is_(got[1:], [6, *(f"{place.id} {place.session}" for place in places)])
    tap.is_(later.index("look", 1, 2)[2:], [f"{place.id} {place.session}" for place in places[1:3]], "a part")
    client("DEL", "rooms:{approvals}:due")


@both("an id belongs to one session; one that another session claimed and never made is to be had")
def _(on):
    mine = Place(on)
    mine.claim()
    other = Place(on, id=mine.id)
    tap.is_(other.claim(), ["other", mine.session])
    # What nginx does then: is it there? If not, it may not come any more.
    tap.is_(mine.sweep()["outcome"], "not_found")
    tap.is_(mine.create()["outcome"], "void")
    tap.is_(other.claim(mine.session), ["new", other.session])
    made = other.create()
    tap.is_(made["outcome"], "created")
    other.put(made)
    tap.is_(mine.claim(), ["other", other.session])
    tap.is_(other.sweep()["outcome"], "done", "it is there")
    mine.index("forget", mine.session)
    tap.is_(mine.known(), other.session, "forgetting the one leaves the other")


@both("who dies between claim and approval leaves nothing for long; who dies after the approval leaves it to the sweep")
def _(on):
    dead = Place(on)
    dead.claim()
    tap.is_(dead.sweep()["outcome"], "not_found")
    dead.index("forget", dead.session)
    tap.is_((dead.known(), dead.score(), dead.read()), (None, None, None))
    tap.ok(0 < on.client(dead.base)("PTTL", dead.key) <= 5000, "and may be made anew after that")
    alive = Place(on)
    alive.claim()
    alive.create(600000)
    swept = alive.sweep()
    tap.is_((swept["outcome"], swept["changed"]), ("done", 0))
    alive.put(swept)
    tap.ok(500000 < alive.score() - now(on), "due at its warning")


# --- at once

@tap.case("500 approvals whose deadline comes while two decide and three sweep: each ends once, with one event, as the clock says")
def _():
    places = [Place(one, session=f"race{n % 50}", warn="") for n in range(500)]
    begin = now(one)
    deadline = begin + int(3000 * SCALE)
    for place in places:
        place.claim()
        place.put(place.create("", deadline + random.randrange(100)))
    tap.ok(now(one) < deadline - 50, "in time")
    won, lost, broken = [], [], []

    def decide(status):
        order = random.sample(places, len(places))
        while now(one) < deadline - 20:
            time.sleep(0.001)
        for place in order:
            got = place.resolve(status, "u")
            (won if got["outcome"] == "done" else lost).append((place.id, got["outcome"], got["status"], got["changed"]))
            if got["changed"]:
                place.put(got)

    def sweep():
        while now(one) < deadline + 1500:
            got = places[0].index("look", 0, 100)
            for member in got[2:]:
                id, session = member.split(" ")
                place = Place(one, session=session, id=id, warn="")
                place.put(place.sweep())

    def surely(function, *args):
        try:
            function(*args)
        except BaseException as error:
            broken.append(error)
    threads = ([threading.Thread(target=surely, args=(decide, status)) for status in ("approved", "rejected")]
               + [threading.Thread(target=surely, args=(sweep,)) for _ in range(3)])
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tap.is_(broken, [], "what failed")
    events = {}
    for session in {place.session for place in places}:
        for event, _ in Place(one, session=session).events():
            if event["type"] == "approval:resolved":
                events.setdefault(event["approvalId"], []).append(event)
    statuses = {}
    for place in places:
        shown = place.read()
        event, = events[place.id]
        tap.is_((event["status"], event["resolvedBy"], event["resolvedAt"], event["expiresAt"]),
                (shown["status"], shown["resolvedBy"], shown["resolvedAt"], shown["expiresAt"]), place.id)
        in_time = shown["resolvedAt"] < shown["expiresAt"]
        tap.is_(in_time, shown["status"] != "timeout", "in time")
        statuses[shown["status"]] = statuses.get(shown["status"], 0) + 1
    tap.is_(len(won), sum(count for status, count in statuses.items() if status != "timeout"), "decisions that were told that they won")
    for id, outcome, status, _ in lost:
        tap.is_((outcome, status), ("expired" if events[id][0]["status"] == "timeout" else "resolved", events[id][0]["status"]))
    tap.is_([place.score() for place in places], [None] * 500, "still due")
    tap.diag(statuses)


tap.run()

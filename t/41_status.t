#!/usr/bin/python3
"""GET /status: what it shows as JSON and as Prometheus text follows what happens; and who may see it."""
import os
import re
import sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import ROOT, VERSION, http, jwt, tap, wait_until, ws    # noqa: E402
from rooms.nginx import Nginx                             # noqa: E402
from rooms.page import open_page                          # noqa: E402
from rooms.redis import Redis                             # noqa: E402

SECRET = "a secret for whoever watches this server"

server = Nginx(http="rooms_zone watched:8m;", locations="""
    location = /ws      { rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_allow session:*; rooms_origin https://here.example; }
    location = /http    { rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_auth_failure http; }
    location = /publish { rooms_publish; }
    location = /status  { rooms_status; }
    location = /secret  { rooms_status secret=@DIR@/status; }
    location = /far     { rooms_status from=192.0.2.0/24; }
    location = /version { return 200 $rooms_version; }
""", files={"secret": jwt.SECRET, "status": SECRET + "\n"})

FIELDS = {"version", "uptime", "connections", "rooms", "messages", "errors", "zone", "redis", "postgres", "approvals", "workers"}


def status(query=""):
    return http.status(server, path="/status" + query)


def metrics(**options):
    response = http.get(server, "/status?format=prometheus", **options)
    tap.is_(response.status, 200, "status")
    return response.text


def samples(text):
    """{'name{label="x"}': value}; every line must be one of the format's."""
    found, types, helps = {}, {}, set()
    for line in text.splitlines():
        if comment := re.fullmatch(r"# (HELP|TYPE) (\w+) (.+)", line):
            if comment[1] == "HELP":
                tap.ok(comment[2] not in helps, f"one HELP for {comment[2]}")
                helps.add(comment[2])
            else:
                tap.in_(comment[3], ("gauge", "counter", "histogram"), line)
                tap.ok(comment[2] in helps and comment[2] not in types, f"one TYPE after HELP for {comment[2]}")
                types[comment[2]] = comment[3]
            continue
        sample = re.fullmatch(r'((\w+)(?:\{\w+="[^"\\]*"\})?) (\d+)', line)
        tap.ok(sample, f"a sample: {line!r}")
        family = re.sub("_(bucket|sum|count)$", "", sample[2])
        name = family if types.get(family) == "histogram" else sample[2]
        tap.in_(name, types, f"TYPE before {line}")
        tap.ok(sample[1] not in found, f"{sample[1]} once")
        tap.is_(types[name] == "counter", name.endswith("_total"), f"name and type of {name}")
        if sample[2].endswith("_bucket"):
            tap.ok(int(sample[3]) >= max([0, *(n for key, n in found.items() if key.startswith(sample[2]))]), f"{line} does not fall")
        found[sample[1]] = int(sample[3])
    return found


@tap.case("JSON has the fields of docs/status.md, and one entry for each worker")
def _():
    response = http.get(server, "/status")
    tap.is_((response.status, response.get("Content-Type")), (200, "application/json"), "type")
    tap.is_(response.get("Cache-Control"), "no-store", "Cache-Control")
    got = response.json
    tap.is_(set(got), FIELDS, "fields")
    tap.is_(got["version"], VERSION, "version")
    tap.is_(http.get(server, "/version").text, VERSION, "$rooms_version")
    tap.ok(0 <= got["uptime"] < 3600, f"uptime {got['uptime']}")
    tap.is_((got["redis"], got["postgres"], got["approvals"]), (None, None, None), "what is not configured")
    tap.is_(got["zone"]["name"], "watched", "the zone's name")
    tap.ok(7 << 20 < got["zone"]["size"] <= 8 << 20, f"the zone's size {got['zone']['size']}")
    tap.is_(sorted(worker["pid"] for worker in got["workers"]), sorted(server.workers()), "pids")
    tap.is_(len({worker["slot"] for worker in got["workers"]}), 2, "slots")
    tap.is_(got["zone"]["slots"]["used"], 2, "slots in use")
    tap.ok(got["zone"]["recoveries"] == 0 and "list" not in got["rooms"], "no list unless asked for")


@tap.case("connections, rooms and members follow what happens, worker by worker")
def _():
    first, second = server.workers()
    before = status()["connections"]
    pages = [open_page(server, "session:1", "session:2", worker=first), open_page(server, "session:1", worker=second),
             open_page(server, worker=second)]
    # Those that came to the wrong worker have been dropped, and are gone soon.
    wait_until(lambda: status()["connections"]["active"] == 3, "three active connections")
    got = status("?rooms")
    tap.ok(got["connections"]["accepted"] >= before["accepted"] + 3, "accepted")
    tap.is_((got["rooms"]["active"], got["rooms"]["members"]), (2, 3), "rooms")
    tap.is_(sorted((room["id"], room["clients"]) for room in got["rooms"]["list"]), [("session:1", 2), ("session:2", 1)], "list")
    workers = {worker["pid"]: worker for worker in got["workers"]}
    tap.is_([workers[first][name] for name in ("connections", "rooms", "members")], [1, 2, 2], "the first worker")
    tap.is_([workers[second][name] for name in ("connections", "rooms", "members")], [2, 1, 1], "the second worker")
    tap.is_(status("?rooms=1&x=y")["rooms"]["list"] != [], True, "?rooms=1 does too")
    closed = status()["connections"]["closed"]
    pages.pop().close(1000)
    pages.pop().close(1001)
    pages.pop().drop()
    wait_until(lambda: status()["connections"]["active"] == 0, "all to be gone")
    after = status()["connections"]["closed"]
    tap.is_([after[code] - closed[code] for code in ("1000", "1001", "1006", "other")], [1, 1, 1, 0], "closed by code")
    tap.is_((status()["rooms"]["active"], status("?rooms")["rooms"]["list"]), (0, []), "rooms")


@tap.case("messages are counted: published, duplicates, delivered with their octets, received")
def _():
    pages = [open_page(server, "session:3"), open_page(server, "session:3")]
    before = status()["messages"]
    body = {"room": "session:3", "type": "x", "data": {"text": "x" * 1000}, "id": "once"}
    http.publish(server, body)
    http.publish(server, body)
    http.publish(server, {"rooms": ["session:4", "session:5"], "type": "x"})
    for page in pages:
        page.expect(type="x")
        page.send_json(type="ping")
        page.expect(type="pong")
    after = status()["messages"]
    change = {name: after[name] - before[name] for name in after}
    tap.is_([change[name] for name in ("published", "duplicates", "delivered", "received", "gaps")], [3, 1, 2, 2, 0], "messages")
    tap.ok(2000 < change["bytes"] < 2600, f"octets {change['bytes']}")
    for page in pages:
        page.drop()


@tap.case("errors are counted by reason")
def _():
    before = status()["errors"]
    with open_page(server) as page:
        for text in ("{", '{"type":1}', '{"type":"nope"}', '{"type":"subscribe","room":"x"}', '{"type":"subscribe","room":"tenant:1"}'):
            page.send_text(text)
            page.expect(type="error")
    http.publish(server, "x", expect=400)
    http.publish(server, [{"room": "x", "type": "x"}, {"type": "x"}], expect=400)
    http.request(server, "GET", "/publish")
    http.publish(server, "x", content_type="text/plain", expect=415)
    http.publish(server, "x", headers={"Origin": "http://x"}, expect=403)
    http.publish(server, {"room": "session:1", "type": "x", "id": "conflict"})
    http.publish(server, {"room": "session:1", "type": "y", "id": "conflict"}, expect=409)
    http.publish(server, {"room": "session:1", "type": "x", "data": {"a": "x" * 900000}}, expect=None)
    http.get(server, "/ws")
    try:
        ws.connect(server, "/ws", token=jwt.mint(), origin="https://evil.example")
        tap.fail("a foreign origin was let in")
    except ws.HandshakeRefused:
        pass
    after = status()["errors"]
    change = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    for name, number in (("bad_json", 1), ("bad_message", 1), ("unknown_type", 1), ("bad_room", 1), ("forbidden", 1),
                         ("publish_bad", 5), ("publish_forbidden", 1), ("publish_conflict", 1), ("origin", 1)):
        tap.is_(change.pop(name, 0), number, name)
    tap.ok(change.pop("handshake", 0) >= 1, "handshake")


@tap.case("the zone shows how full it is, and how many seconds the ring holds")
def _():
    before = status()["zone"]
    for number in range(5):
        http.publish(server, {"room": f"session:zone{number}", "type": "x", "id": "z"})
    after = status()["zone"]
    tap.is_(after["rooms"]["used"] - before["rooms"]["used"], 5, "rooms")
    tap.is_(after["ids"]["used"] - before["ids"]["used"], 5, "ids")
    tap.ok(after["ring"]["used"] > before["ring"]["used"], "ring")
    tap.ok(after["ring"]["used"] <= after["ring"]["size"] < after["size"], "sizes")
    for name in ("rooms", "ids", "users", "tallies", "slots"):
        tap.ok(after[name]["used"] <= after[name]["cap"] and after[name]["cap"] > 0, f"{name}: {after[name]}")
    with open_page(server, "session:1", user="someone new"):
        tap.is_(status()["zone"]["users"]["used"] > after["users"]["used"], True, "users")
    wait_until(lambda: status()["zone"]["ring"]["seconds"] >= 1, "the ring to be a second old")


@tap.case("Prometheus text: every line is well formed, and the values are those of the JSON")
def _():
    with open_page(server, "session:1"):
        response = http.get(server, "/status?format=prometheus")
        tap.like(response.get("Content-Type"), r"^text/plain; version=0\.0\.4; charset=utf-8$", "Content-Type")
        tap.ok(response.text.endswith("\n"), "last newline")
        got, want = samples(response.text), status()
        tap.is_(got['rooms_build_info{version="%s"}' % want["version"]], 1, "version")
        pairs = {"rooms_connections": want["connections"]["active"], "rooms_active": want["rooms"]["active"],
                 "rooms_connections_accepted_total": want["connections"]["accepted"],
                 "rooms_members": want["rooms"]["members"], "rooms_messages_published_total": want["messages"]["published"],
                 "rooms_messages_duplicate_total": want["messages"]["duplicates"],
                 "rooms_messages_delivered_total": want["messages"]["delivered"],
                 "rooms_messages_delivered_bytes_total": want["messages"]["bytes"],
                 "rooms_messages_received_total": want["messages"]["received"], "rooms_gaps_total": want["messages"]["gaps"],
                 "rooms_zone_size_bytes": want["zone"]["size"], "rooms_zone_ring_used_bytes": want["zone"]["ring"]["used"],
                 "rooms_zone_rooms": want["zone"]["rooms"]["used"], "rooms_zone_rooms_max": want["zone"]["rooms"]["cap"],
                 "rooms_zone_ids": want["zone"]["ids"]["used"], "rooms_zone_recoveries_total": want["zone"]["recoveries"]}
        for code, number in want["connections"]["closed"].items():
            pairs['rooms_connections_closed_total{code="%s"}' % code] = number
        for reason, number in want["errors"].items():
            pairs['rooms_errors_total{reason="%s"}' % reason] = number
        for worker in want["workers"]:
            pairs['rooms_worker_connections{pid="%d"}' % worker["pid"]] = worker["connections"]
        for name, number in pairs.items():
            tap.is_(got.get(name), number, name)


@tap.case("docs/status.md names every metric, close code excepted, and no other")
def _():
    with open(os.path.join(ROOT, "docs/status.md"), encoding="utf-8") as page:
        table = page.read().split("## Metrics")[1]
    named = {name for row in re.findall(r"^\|([^|]*)\|", table, re.M) for name in re.findall(r"`(rooms_\w+)`", row)}
    with Redis() as redis:
        shared = Nginx("location = /status { rooms_status; }", name="with stores",
                       http=f'rooms_redis {redis.url}; rooms_postgres "host=/nowhere dbname=x"; rooms_approvals postgres;')
        with_stores = samples(http.request(shared, "GET", "/status?format=prometheus").text)
        shown = {re.sub(r"(_bucket|_sum|_count)?({.*)?$", "", name) for name in with_stores}
        tap.is_(shown, named, "metrics")
        tap.is_(shared.stop(), [], "problems")
    alone = {name.split("{")[0] for name in samples(metrics())}
    tap.is_({name for name in named - alone if not re.search("redis|worker_deaf|worker_refused|postgres|outbox|approval", name)},
            set(), "without stores")


@tap.case("Accept decides: text/plain gets text, what names it not or less gets JSON; format= wins")
def _():
    prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1"
    for accept, text in ((prometheus, True), ("text/plain", True), ("Text/Plain ; q=0.5", True), ("*/*", False),
                         ("application/json", False), ("text/plain;q=0.4, application/json", False),
                         ("text/plain, application/json;q=0.9", True), ("text/plain;q=0", False),
                         ("text/html,application/xhtml+xml,*/*;q=0.8", False), ("text/*", False)):
        kind = http.get(server, "/status", headers={"Accept": accept}).get("Content-Type")
        tap.is_(kind.startswith("text/plain"), text, f"{accept}: {kind}")
    forced = http.get(server, "/status?format=json", headers={"Accept": "text/plain"})
    tap.is_(forced.get("Content-Type"), "application/json", "format=json")
    tap.is_(http.get(server, "/status?format=xml").status, 400, "another format")


@tap.case("?health is 200 and ok")
def _():
    for query in ("?health", "?health=1"):
        response = http.get(server, "/status" + query)
        tap.is_((response.status, response.json), (200, {"status": "ok"}), query)


@tap.case("GET and HEAD only")
def _():
    head = http.request(server, "HEAD", "/status")
    tap.is_((head.status, head.body), (200, b""), "HEAD")
    tap.ok(int(head.get("Content-Length")) > 100, "Content-Length of HEAD")
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        response = http.request(server, method, "/status")
        tap.is_((response.status, response.get("Allow")), (405, "GET, HEAD"), method)
        tap.is_(response.json["error"]["code"], "method_not_allowed", "code")


@tap.case("S57: only local peers see it unless told otherwise")
def _():
    for name in ("Origin", "Sec-Fetch-Site", "X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"):
        for query in ("", "?health", "?format=prometheus"):
            response = http.get(server, "/status" + query, headers={name: "x"})
            tap.is_((response.status, response.json["error"]["code"]), (403, "forbidden"), f"{name} {query}")
    server.wait_log(r'rooms: "rooms_status" .*"X-Forwarded-For"')
    tap.is_(http.get(server, "/far").status, 403, "from= of another network")
    tap.is_(http.get(server, "/status", unix=True).status, 200, "a unix socket")
    tap.is_(http.get(server, "/secret").status, 401, "no secret")
    tap.is_(http.get(server, "/secret?health", headers={"Authorization": "Bearer x"}).status, 401, "a wrong one")
    seen = http.get(server, "/secret", headers={"Authorization": "Bearer " + SECRET, "X-Forwarded-For": "192.0.2.1"})
    tap.is_(seen.status, 200, "the secret")


@tap.case("S66: neither user ids nor tokens nor messages are shown")
def _():
    token = jwt.mint(sub="somebody-particular")
    with ws.connect(server, "/ws", token=token) as page:
        page.expect(type="connected")
        page.send_json(type="subscribe", room="session:1")
        page.expect(type="subscribed")
        http.publish(server, {"room": "session:1", "type": "x", "data": {"a": "a particular message"}})
        page.expect(type="x")
        for text in (http.get(server, "/status?rooms").text, metrics()):
            for word in ("somebody-particular", token, "a particular message"):
                tap.ok(word not in text, f"no {word}")


@tap.case("counters survive a reload and the death of a worker; gauges go with it", kills_workers=True)
def _():
    wait_until(lambda: status()["connections"]["active"] == 0, "earlier sockets to be gone")
    before = status()
    server.reload(wait_old=True)
    after = status()
    tap.is_(after["messages"], before["messages"], "messages after a reload")
    tap.is_(after["errors"], before["errors"], "errors after a reload")
    tap.is_(sorted(worker["pid"] for worker in after["workers"]), sorted(server.workers()), "pids after a reload")
    tap.ok(all(worker["generation"] > before["workers"][0]["generation"] for worker in after["workers"]), "generation")

    victim, other = server.workers()
    open_page(server, "session:1", worker=victim)
    stays = open_page(server, "session:1", worker=other)
    accepted = status()["connections"]["accepted"]
    server.kill_worker(victim)
    wait_until(lambda: [status()["connections"]["active"], status()["rooms"]["members"]] == [1, 1], "the dead one's gauges to go")
    tap.is_(status()["connections"]["accepted"], accepted, "accepted")
    tap.is_(sorted(worker["pid"] for worker in status()["workers"]), sorted(server.workers()), "pids after a kill")
    tap.is_(http.get(server, "/status?health").status, 200, "health")
    stays.close()


tap.run()

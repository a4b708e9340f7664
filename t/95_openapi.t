#!/usr/bin/python3
"""docs/openapi.yaml beside the running server: every operation, with every answer that the document has, good and bad, is
asked for over HTTP, on both sides of every bound that the document says, and public validators judge the document and each
exchange by it."""
import json
import os
import re
import sys
import time
from urllib.parse import quote
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import ASAN, ROOT, http, jwt, tap, wait_until                              # noqa: E402
from rooms.approvals import LOCATIONS, OPTIONS, approvals_host, migrate, new_session    # noqa: E402
from rooms.nginx import Nginx, free_port                                  # noqa: E402
from rooms.page import open_page                                          # noqa: E402
from rooms.postgres import Postgres                                       # noqa: E402
from rooms.redis import Redis                                             # noqa: E402
from rooms.spec import Exchanges, bounds, judge                           # noqa: E402

SECRET = "0123456789abcdef0123456789abcdef"
BACKENDS = LOCATIONS + """
    location /tiny/publish      { rooms_publish; client_max_body_size 1k; }
    location /tiny/approvals    { rooms_approvals_api; client_max_body_size 1k; }
    location /guarded/publish   { rooms_publish secret=@DIR@/api; }
    location /guarded/approvals { rooms_approvals_api secret=@DIR@/api; }
    location /guarded/status    { rooms_status secret=@DIR@/api; }
    location /tiny/status       { rooms_status; client_max_body_size 1k; }
    location /few/publish       { limit_req zone=few; limit_req_status 429; rooms_publish; }
    location /few/approvals     { limit_req zone=few; limit_req_status 429; rooms_approvals_api; }
    location /few/status        { limit_req zone=few; limit_req_status 429; rooms_status; }
    location /none/publish      { limit_req zone=few; rooms_publish; }
    location /none/approvals    { limit_req zone=few; rooms_approvals_api; }
    location /none/status       { limit_req zone=few; rooms_status; }
"""
FEW = "limit_req_zone $server_name zone=few:32k rate=1r/m;"

ASKED = {"sessionId": "s", "action": "x"}
WANTED = {"status": "approved"}


def body_of(path):
    return f"/paths/{path.replace('/', '~1')}/post/requestBody/content/application~1json/schema"


def event(room, **more):
    return {"room": room, "type": "x", **more}


# What is good, each field of a body in one of them: the bounds are around it.
GOOD = {
    ("publish", body_of("/publish")): [
        event("session:a"), {"rooms": ["session:a"], "type": "x"}, event("session:b", data={}), event("session:c", id="i"),
        event("session:d", key="k"), [event("session:a")]],
    ("create", body_of("/approvals")): [
        ASKED, *({**ASKED, name: value} for name, value in (
            ("context", {}), ("tenantId", "t"), ("timeout", 1), ("expiresAt", 1), ("id", "i")))],
    ("resolve", body_of("/approvals/{id}/resolve")): [WANTED, {**WANTED, "resolvedBy": "x"}],
    ("extend", body_of("/approvals/{id}/extend")): [{"by": 1}],
    ("cancel", body_of("/approvals/{id}/cancel")): [{"resolvedBy": "x"}],
    ("Idempotency-Key", "/paths/~1publish/post/parameters/0/schema"): ["k"],
    **{(name, f"/components/parameters/{name}/schema"): [value] for name, value in (
        ("sessionId", "s"), ("tenantId", "t"), ("after", "a"), ("status", "pending"), ("limit", 1), ("format", "json"),
        ("id", "i"))},
}
document, probes = bounds("openapi.yaml", GOOD)
schemas, parameters = document["components"]["schemas"], document["components"]["parameters"]

redis, pg = Redis(appendfsync=None), Postgres(options=OPTIONS)
migrate(pg)
sql = pg.session()
sql("insert into hitl_sessions (id) values ('s')")
database = approvals_host(pg, "rooms_approvals postgres warn=off max=366d;", http=f"rooms_zone small:1m; {FEW}",
                          locations=BACKENDS, files={"api": SECRET}, name="with Postgres")
shared = Nginx(BACKENDS, http=f"rooms_redis {redis.url}; rooms_approvals redis max=366d; {FEW}", name="with Redis",
               files={"secret": jwt.SECRET, "api": SECRET})
lonely = Nginx(BACKENDS, http=f"rooms_redis redis://127.0.0.1:{free_port()}; rooms_approvals redis; {FEW}",
               name="without its Redis", files={"secret": jwt.SECRET, "api": SECRET})
STORES = (("Postgres", database), ("Redis", shared))
BEARER = {"Authorization": f"Bearer {SECRET}"}

heard = Exchanges()
ask = heard.ask
made = 0


def fresh(kind="session"):
    global made
    made += 1
    return f"{kind}:o{made}"


def new_id():
    return fresh().replace(":", "-")


def code_of(answer):
    return answer.json["error"]["code"]


# --- publishing

def publish(server, name, body, expect, **options):
    return ask(f"publish, {name}", server, "POST", "/publish", expect, body=body, **options)


def published(server):
    a, b = fresh(), fresh("tenant")
    publish(server, "one", event(a, data={"n": 1}), 200)
    publish(server, "several", {"rooms": [a, b], "type": "x"}, 200)
    for again in (False, True):
        tap.is_("duplicate" in publish(server, "an id", event(a, id="i"), 200).json, again)
        publish(server, "a key", event(a, key="k"), 200)
        publish(server, "the header", event(a), 200, headers={"Idempotency-Key": "h"})
    publish(server, "a batch", [event(a), {"rooms": [a, b], "type": "x"}], 200)
    publish(server, "an empty batch", [], 200)
    lines = "\n".join(json.dumps(event(each)) for each in (a, b))
    publish(server, "lines", lines, 200, headers={"Content-Type": "application/x-ndjson"})
    publish(server, "as curl -d does", event(a), 200, headers={"Content-Type": "application/x-www-form-urlencoded"})
    publish(server, "without a type", event(a), 200, headers={"Content-Type": None})
    publish(server, "with a charset", event(a), 200, headers={"Content-Type": "application/json; charset=utf-8"})
    publish(server, "not encoded", event(a), 200, headers={"Content-Encoding": "Identity"})
    publish(server, "several objects", lines, 200)
    publish(server, "one line", json.dumps(event(a)), 200, headers={"Content-Type": "application/x-ndjson"})
    publish(server, "an array for lines", [event(a)], 200, headers={"Content-Type": "application/x-ndjson"})
    publish(server, "a member twice, deep inside", '{"room":"%s","type":"x","data":{"a":{"b":1,"b":2}}}' % a, 200)
    for name in schemas["Publication"]["properties"]["type"]["x-own"]:
        publish(server, "a name of the server's own", {**event(a), "type": name}, 200)


def refused(server):
    a, b = fresh(), fresh()
    for name, body, code in (
            ("no JSON", "x", "bad_json"), ("nothing", "", "bad_json"), ("a string", "\"x\"", "bad_json"),
            ("no room", {"type": "x"}, "bad_field"), ("no type", {"room": a}, "bad_field"),
            ("room and rooms", {"room": a, "rooms": [b], "type": "x"}, "bad_field"),
            ("no rooms", {"rooms": [], "type": "x"}, "bad_field"),
            ("1,001 rooms", {"rooms": [a] * 1001, "type": "x"}, "bad_field"),
            ("a number for a type", {"room": a, "type": 1}, "bad_field"),
            ("a type too long", event(a, type="x" * 129), "bad_field"), ("data that is a list", event(a, data=[]), "bad_field"),
            ("an empty id", event(a, id=""), "bad_field"), ("a key too long", event(a, key="k" * 201), "bad_field"),
            ("a misspelt field", event(a, dat={}), "bad_field"), ("no kind", event("nobody"), "bad_room"),
            ("a kind of capitals", event("Session:1"), "bad_room"),
            ("a room too long", event("session:" + "x" * 201), "bad_room")):
        tap.is_(code_of(publish(server, name, body, 400, meant="wrong")), code, name)
    tap.is_(code_of(publish(server, "a field twice", '{"room":"%s","room":"%s","type":"x"}' % (a, a), 400)), "bad_json")
    one = json.dumps(event(a))
    publish(server, "no white space between two", one + one, 400, meant="wrong")
    publish(server, "arrays of lines", f"[{one}] [{one}]", 400, headers={"Content-Type": "application/x-ndjson"}, meant="wrong")
    publish(server, "a member twice in data", '{"room":"%s","type":"x","data":{"b":1,"b":2}}' % a, 400)
    publish(server, "key and header differ", event(a, key="k1"), 400, headers={"Idempotency-Key": "k2"})
    publish(server, "an empty header", event(a), 400, headers={"Idempotency-Key": ""}, meant="wrong")
    publish(server, "a batch with a bad one", [event(a), {"type": "x"}, {"rooms": [a, b], "type": "x"}], 400, meant="wrong")
    publish(server, "10,001", [event(a)] * 10001, 400, meant="wrong")
    publish(server, "10,001 objects", one + f"\n{one}" * 10000, 400, meant="wrong")
    for at, expect, headers in (("/guarded", 401, {}), ("/guarded", 401, {"Authorization": "Bearer x"}),
                                ("", 403, {"Origin": "http://x"})):
        publish(server, "who may not", event(a), expect, at=at, headers=headers)
    publish(server, "who may", event(a), 200, at="/guarded", headers=BEARER)
    publish(server, "an id", event(a, id="same"), 200)
    publish(server, "its other body", event(a, id="same", data={}), 409)
    publish(server, "its other body in a batch", [event(b), event(a, id="same", data={})], 409)
    many = [f"session:{n}" for n in range(1000)]
    publish(server, "more than 64 MiB in all", {"rooms": many, "type": "x", "data": {"a": "x" * 70000}}, 413)
    publish(server, "a body beyond nginx' bound", event(a, data={"a": "x" * 2000}), 413, at="/tiny")
    publish(server, "another type", event(a), 415, headers={"Content-Type": "text/plain"}, meant="wrong")
    publish(server, "an encoding", event(a), 415, headers={"Content-Encoding": "gzip"}, meant="wrong")
    for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS"):
        ask("publish, another method", server, method, "/publish", 405)


for name, server in STORES:
    tap.add(f"publications that are taken, with {name}", published, server)
    tap.add(f"publications that are refused, with {name}", refused, server)


@tap.case("publications that the zone has no place for, or the broker cannot take; and those that nginx holds back")
def _():
    large = event(fresh(), data={"a": "x" * 200000})
    publish(database, "an event too large", large, 413)
    publish(database, "one too large in a batch", [event(fresh()), large], 413)
    publish(lonely, "no broker", event(fresh()), 503)
    publish(lonely, "no broker for a batch", [event(fresh()), {"rooms": [fresh(), fresh()], "type": "x"}], 503)
    publish(database, "the first", event(fresh()), 200, at="/few")
    for at, expect in (("/few", 429), ("/none", 503)):
        for path, item in document["paths"].items():
            for method in {"get", "head", "post"} & set(item):
                ask("one too many", database, method.upper(), path.replace("{id}", "a"), expect, at=at)


@tap.case("other methods: 405, or 401 and 403 before it where the document says so; TRACE and what nginx takes for no request")
def _():
    for path, item in document["paths"].items():
        path = path.replace("{id}", "a")
        first = "x-access-first" in item
        for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "LINK"):
            ask("another method", database, method, path, 405)
            ask("without the secret", database, method, path, 401 if first else 405, at="/guarded", meant="stranger")
            ask("from a browser", database, method, path, 403 if first else 405, headers={"Origin": "http://x"}, meant="stranger")
            ask("with the secret", database, method, path, 405, at="/guarded", headers=BEARER)
        ask("TRACE", database, "TRACE", path, 405)
    for method, path, body, expect in (("GET", "/tiny/status", "x" * 2000, 413), ("GET", "/approvals/%00", "", 400)):
        answer = http.request(database, method, path, body=body)
        tap.is_([answer.status, answer.get("Content-Type")], [expect, "text/html"], path)


# --- approvals

WRONG = (
    ("no sessionId", {"action": "x"}), ("a number for a sessionId", {**ASKED, "sessionId": 1}), ("no action", {"sessionId": "s"}),
    ("an empty action", {"sessionId": "s", "action": ""}), ("an action of two lines", {"sessionId": "s", "action": "a\nb"}),
    ("an action too long", {"sessionId": "s", "action": "x" * 201}), ("no time", {**ASKED, "timeout": 0}),
    ("a word for a time", {**ASKED, "timeout": "soon"}), ("a year", {**ASKED, "timeout": "1y"}),
    ("a text for an instant", {**ASKED, "expiresAt": "2030-01-01"}), ("half a millisecond", {**ASKED, "expiresAt": 1.5}),
    ("timeout and expiresAt", {**ASKED, "timeout": 1, "expiresAt": 1}), ("an id with a slash", {**ASKED, "id": "a/b"}),
    ("a misspelt field", {**ASKED, "timout": 5}),
)


def session_of(server, tenant="t1"):
    """A session that the host's store knows."""
    return new_session(sql, tenant) if server is database else fresh().partition(":")[2]


def create(server, name, expect=201, *, session=None, body=None, headers=(), meant=None, **fields):
    body = body or {"sessionId": session or session_of(server), "action": "deploy", **fields}
    return ask(f"create, {name}", server, "POST", "/approvals", expect, body=body, headers=headers, meant=meant)


def act(server, id_, verb, expect, body, **options):
    return ask(f"{verb}", server, "POST", f"/approvals/{id_}/{verb}", expect, body=body, **options)


def guarded(server, name, method, target, body=None):
    """Who may not, and who may."""
    for at, expect, headers in (("/guarded", 401, {}), ("", 403, {"X-Forwarded-For": "192.0.2.1"})):
        ask(name, server, method, target, expect, body=body, at=at, headers=headers)


def created(server):
    of = session_of(server)
    create(server, "no more than it must", session=of)
    create(server, "all that it may", session=of, context={"n": [1, None]}, tenantId="t1", timeout="15m", id=new_id())
    create(server, "nothing is as good as absent", session=of, context=None, tenantId=None, timeout=None, expiresAt=None, id=None)
    create(server, "half a second more", session=of, timeout=600.5)
    create(server, "an instant", session=of, expiresAt=int(time.time() * 1000) + 600000)
    create(server, "no tenant", session=session_of(server, None))
    own = new_id()
    create(server, "an id", session=of, id=own)
    create(server, "the same id again", 200, session=of, id=own)
    for name, body in WRONG:
        tap.is_(code_of(ask(f"create, {name}", server, "POST", "/approvals", 400, body=body, meant="wrong")), "bad_field", name)
    ask("create, no JSON", server, "POST", "/approvals", 400, body="x", meant="wrong")
    create(server, "a deadline that has been", 400, session=of, expiresAt=1000)
    create(server, "a deadline beyond max=", 400, session=of, expiresAt=int((time.time() + 367 * 86400) * 1000))
    create(server, "not encoded", session=of, headers={"Content-Encoding": "identity"})
    ask("create, two", server, "POST", "/approvals", 400, body=json.dumps(ASKED) * 2, meant="wrong")
    create(server, "a member twice in the body", 400, body='{"sessionId":"%s","action":"x","action":"y"}' % of)
    guarded(server, "create", "POST", "/approvals", {"sessionId": of, "action": "x"})
    ask("create", server, "POST", "/approvals", 413, body={"sessionId": of, "action": "x", "context": "x" * 2000}, at="/tiny")
    ask("create", server, "POST", "/approvals", 415, body="{}", headers={"Content-Type": "application/x-ndjson"}, meant="wrong")
    ask("create, may", server, "POST", "/approvals", 201, body={"sessionId": of, "action": "x"}, at="/guarded", headers=BEARER)


def read(server):
    of = session_of(server, "lister")
    ids = [create(server, "for the list", session=of, tenantId="lister", timeout=60 + n).json["id"] for n in range(5)]
    act(server, ids[0], "resolve", 200, {"status": "approved", "resolvedBy": "ann"})
    act(server, ids[1], "resolve", 200, {"status": "rejected", "resolvedBy": None})
    act(server, ids[2], "cancel", 200, {})
    late = create(server, "to be late", session=of, tenantId="lister", timeout=0.05).json["id"]
    wait_until(lambda: http.get(server, f"/approvals/{late}").json["status"] == "timeout", "the timeout")
    for query in (f"sessionId={of}", "tenantId=lister&limit=2", f"sessionId={of}&tenantId=lister", "sessionId=nobody",
                  f"sessionId={of}&limit=1&after={ids[3]}"):
        for method in ("GET", "HEAD"):
            ask("list", server, method, f"/approvals?{query}", 200)
    for status in ("pending", "approved", "rejected", "timeout", "cancelled"):
        found = ask("list", server, "GET", f"/approvals?sessionId={of}&status={status}", 200).json["approvals"]
        tap.ok(found, f"one that is {status}")
    for method in ("GET", "HEAD"):
        for query in ("sessionId=", f"sessionId={of}&limit=0", f"sessionId={of}&limit=1001", f"sessionId={of}&limit=x",
                      f"sessionId={of}&status=open", f"sessionId={of}&sessionId={of}", f"sessionid={of}"):
            ask("list", server, method, f"/approvals?{query}", 400, meant="wrong")
        for query in ("", f"?sessionId={of}&after=nobody"):
            ask("list", server, method, f"/approvals{query}", 400)
        guarded(server, "list", method, f"/approvals?sessionId={of}")
        ask("get", server, method, f"/approvals/{ids[4]}", 200)
        ask("get", server, method, "/approvals/nobody", 404)
        guarded(server, "get", method, f"/approvals/{ids[4]}")
    return ids, late


def changed(server):
    (approved, rejected, cancelled, other, _), late = read(server)
    verbs = (("resolve", {"status": "approved", "resolvedBy": "ann"}), ("extend", {"by": "5m"}), ("cancel", {}))
    for verb, body in verbs:
        path = f"/approvals/{other}/{verb}"
        ask(verb, server, "POST", path, 400, body="x", meant="wrong")
        guarded(server, verb, "POST", path, body)
        act(server, "nobody", verb, 404, body)
        for ended in (approved, rejected, cancelled):
            act(server, ended, verb, 409, body)
        act(server, late, verb, 410, body)
        ask(verb, server, "POST", path, 413, body=json.dumps(body) + " " * 2000, at="/tiny")
        ask(verb, server, "POST", path, 415, body=body, headers={"Content-Type": "text/plain"}, meant="wrong")
        for method in ("GET", "HEAD", "PUT"):
            ask(verb, server, method, path, 405)
    for verb, bodies in (("resolve", ({}, {"resolvedBy": "x"}, {"status": "timeout"}, {"status": "approved", "resolvedBy": 1},
                                      {"status": "approved", "by": "x"})),
                         ("extend", ({}, {"by": 0}, {"by": "later"}, {"by": None}, {"by": 1, "to": 1})),
                         ("cancel", ({"status": "cancelled"}, [], {"resolvedBy": ""}))):
        for body in bodies:
            ask(verb, server, "POST", f"/approvals/{other}/{verb}", 400, body=body, meant="wrong")
    act(server, other, "extend", 400, {"by": "366d"})
    for by in (30, 0.5, "1h 30m"):
        act(server, other, "extend", 200, {"by": by})
    act(server, other, "cancel", 200, {"resolvedBy": "ann"})
    for body in (None, ""):
        act(server, create(server, "to be cancelled").json["id"], "cancel", 200, body)
    act(server, create(server, "to be cancelled").json["id"], "cancel", 200, {"resolvedBy": None})
    act(server, create(server, "to be approved").json["id"], "resolve", 200, {"status": "approved"})
    for method, path in (("DELETE", ""), ("OPTIONS", ""), ("POST", f"/{other}"), ("PUT", f"/{other}")):
        ask("another method", server, method, "/approvals" + path, 405)


for name, server in STORES:
    tap.add(f"approvals are made, with {name}", created, server)
    tap.add(f"approvals are read and changed, with {name}", changed, server)


@tap.case("what only a database answers: an unknown session, a context too large, a trigger that forbids it, no deadline")
def _():
    of = session_of(database)
    create(database, "a context too large", 413, session=of, context="x" * 600000)
    create(database, "nobody's session", 404, session="nobody")
    for session in ("a b", "a/b", "é", "🙂"):
        sql(f"insert into hitl_sessions (id) values ('{session}')")
        create(database, "a session that cannot be a room", session=session)
        create(shared, "a session that cannot be a room", 404, session=session)
    create(database, "another tenant's session", 404, session=of, tenantId="t2")
    id_ = create(database, "for ever", session=of).json["id"]
    sql(f"update hitl_approvals set expires_at = 'infinity' where id = '{id_}'")
    tap.is_(ask("get", database, "GET", f"/approvals/{id_}", 200).json["expiresAt"], None)
    sql(f"update hitl_approvals set expires_at = now() + interval '1 hour' where id = '{id_}'")
    sql("""create function forbid() returns trigger language plpgsql as $$ begin raise exception 'not on Fridays'; end $$;
           create trigger forbid before insert or update on hitl_approvals for each row execute function forbid()""")
    create(database, "on a Friday", 422, session=of)
    for verb, body in (("resolve", {"status": "approved"}), ("extend", {"by": 1}), ("cancel", {})):
        act(database, id_, verb, 422, body)
    sql("drop trigger forbid on hitl_approvals")


@tap.case("without the store every operation on approvals is 503")
def _():
    for method, path, body in (("POST", "", ASKED), ("GET", "?sessionId=s", None),
                               ("HEAD", "?sessionId=s", None), ("GET", "/a", None), ("HEAD", "/a", None),
                               ("POST", "/a/resolve", {"status": "approved"}), ("POST", "/a/extend", {"by": 1}),
                               ("POST", "/a/cancel", {})):
        ask("without the store", lonely, method, "/approvals" + path, 503, body=body)


# --- bounds

# What the store answers to what the API has taken.
STORE = ("expiresAt is in the past", "the deadline would be further away", "after: there is no approval",
         "there is no approval with this id", "sessionId: there is no such session")


def taken(answer):
    return answer.status < 300 or answer.json["error"]["message"].startswith(STORE)


def each_of(name):
    """value, valid, meant, and what to call it."""
    found = [(each["value"], each["valid"], None if each["valid"] else "wrong",
              f"{name}{each['place']}: {json.dumps(each['value'])[:100]}") for each in probes if each["name"] == name]
    tap.is_({valid for _, valid, _, _ in found}, {True, False}, "sides of the bounds")
    return found


def at_bounds(server):
    for value, valid, meant, what in each_of("create"):
        if valid and server is database:
            session = value["sessionId"].replace("'", "''")
            sql(f"insert into hitl_sessions (id) values ('{session}') on conflict do nothing")
        tap.is_(taken(create(server, what, None, body=json.dumps(value), meant=meant)), valid, what)
    for verb in ("resolve", "extend", "cancel"):
        for value, valid, meant, what in each_of(verb):
            id_ = create(server, what).json["id"] if valid else "nobody"
            tap.is_(taken(act(server, id_, verb, None, json.dumps(value), meant=meant)), valid, what)
    for name in ("sessionId", "tenantId", "after", "status", "limit"):
        for value, valid, meant, what in each_of(name):
            if isinstance(value, str) or (name == "limit" and isinstance(value, (int, float))):
                query = f"{name}={quote(str(value), safe='')}" + ("" if name in ("sessionId", "tenantId") else "&sessionId=s")
                tap.is_(taken(ask(what, server, "GET", f"/approvals?{query}", None, meant=meant)), valid, what)
    for value, valid, meant, what in each_of("id"):
        # These make another path, or none.
        if isinstance(value, str) and value and "\0" not in value:
            for method, verb, body in (("GET", "", None), ("POST", "/resolve", WANTED)):
                answer = ask(what, server, method, f"/approvals/{quote(value, safe='')}{verb}", None, body=body, meant=meant)
                tap.is_(taken(answer), valid, what)


for name, server in STORES:
    tap.add(f"approvals, on both sides of every bound, with {name}", at_bounds, server)


@tap.case("publications and the status page, on both sides of every bound")
def _():
    for value, valid, meant, what in each_of("publish"):
        for _ in range(10):     # the largest batch may take longer than its second, on a busy machine
            answer = publish(shared, what, json.dumps(value), None, meant=meant)
            if answer.status != 503:
                break
            time.sleep(float(answer.get("Retry-After")))
        tap.is_(answer.status, 200 if valid else 400, what)
    for value, valid, meant, what in each_of("Idempotency-Key"):
        if isinstance(value, str):
            answer = publish(shared, what, event(fresh()), None, headers={"Idempotency-Key": value}, meant=meant)
            tap.is_(answer.status, 200 if valid else 400, what)
    for value, valid, meant, what in each_of("format"):
        if isinstance(value, str):
            ask(what, shared, "GET", f"/status?format={value}", 200 if valid else 400, meant=meant)


@tap.case("lengths are octets")
def _():
    for field in ("type", "id", "key"):
        half = "é" * (schemas["Publication"]["properties"][field]["maxLength"] // 2)
        publish(shared, field, event(fresh(), **{field: half}), 200)
        publish(shared, field, event(fresh(), **{field: half + "é"}), 400)
    half = "é" * (schemas["Text"]["maxLength"] // 2)
    create(shared, "an action", action=half)
    create(shared, "an action too long", 400, action=half + "é")


def of_times(server):
    longest = schemas["Duration"]["oneOf"][0]["maximum"]
    for time_ in ("15m", "1h30m", "1h 30m", "1m  1s", "1w1d1h1m1s1ms", "5", "5 ", "5 3ms", "53ms", "0h1m", "007m", f"{longest}",
                  f"{longest - 60}s 1000ms"):
        create(server, time_, timeout=time_)
    for time_ in ("15 m", "1m1m", "1m 1h", "1s1m", "1ms1s", "5 3", " 5", "", "0", "0m 0s", "1.5m", "1M", "1y", "m", "-1m",
                  "1m,1s", "5\n"):
        create(server, time_, 400, timeout=time_, meant="wrong")
    # No pattern can say so.
    for time_ in (f"{longest + 1}", f"{longest}s 1ms", "99999999999999999999999"):
        create(server, time_, 400, timeout=time_)


for name, server in STORES:
    tap.add(f"times, with {name}", of_times, server)


@tap.case("what a list has at most, and what it has unless it is asked for another number; what is there twice")
def _():
    limit = parameters["limit"]["schema"]
    sql(f"""insert into hitl_sessions (id) values ('long');
            insert into hitl_approvals (id, session_id, action) select 'long' || n, 'long', 'x'
            from generate_series(1, {max(limit["maximum"], limit["default"]) + 1}) n""")
    for more, count in (("", limit["default"]), (f"&limit={limit['maximum']}", limit["maximum"])):
        got = ask("a long list", database, "GET", f"/approvals?sessionId=long{more}", 200).json
        tap.is_([len(got["approvals"]), got["next"] is None], [count, False], f"approvals{more}")
    tap.is_(schemas["ApprovalList"]["properties"]["approvals"]["maxItems"], limit["maximum"], "the longest list")
    for twice in ("limit=1&limit=2", "status=rejected&status=pending"):
        tap.like(http.get(database, f"/approvals?sessionId=long&{twice}").json["error"]["message"], "came twice")
    tap.is_(http.get(database, "/status?format=xml&format=json&other=1").status, 200, "the last `format`")


def contexts(server):
    of = session_of(server)

    def context(text, expect=201):
        return create(server, text[:40], expect, body='{"sessionId":"%s","action":"x","context":%s}' % (of, text)).text

    deepest = int(re.search(r"\*\*JSON\*\* is at most (\d+) deep", document["info"]["description"])[1])
    for depth, expect in ((deepest - 1, 201), (deepest, 400)):
        context("[" * depth + "]" * depth, expect)
        data = "[" * (depth - 1) + "]" * (depth - 1)
        for text in ('{"room":"session:1","type":"x","data":{"a":%s}}', '[{"room":"session:1","type":"x","data":{"a":%s}}]'):
            publish(server, "deep", text % data, 200 if expect == 201 else 400)
    too_large = document["paths"]["/approvals"]["post"]["responses"]["413"]["description"]
    largest = 1024 * int(re.search(r"A context of more than (\d+) KiB", too_large)[1])
    context('"%s"' % ("x" * (largest - 2)))
    context('"%s"' % ("x" * (largest - 1)), 413)
    for text, kept in (('{"a":1,"a":2}', '{"a": 2}'), ('{"b":1,"a":2}', '{"a": 2, "b": 1}'), ("1.50", "1.50"), ("-0", "0"),
                       ("1e3", "1000"), ("1e400", "1" + "0" * 400), ("[ 1 ,2]", "[1, 2]")):
        tap.like(context(text), '"context" ?: ?' + re.escape(kept if server is database else text) + " ?,")
    for text in (r'"\u0000"', "1e200000"):
        context(text, 400 if server is database else 201)
    for text in ("1.0", "1e12"):
        create(server, "an instant", 400, body='{"sessionId":"%s","action":"x","expiresAt":%s}' % (of, text))


for name, server in STORES:
    tap.add(f"how a context is kept, and how large and deep it may be, with {name}", contexts, server)


@tap.case("the bounds of answers that are too large for a test are those of docs/status.md")
def _():
    with open(os.path.join(ROOT, "docs/status.md"), encoding="utf-8") as file:
        words = file.read()
    rooms = schemas["RoomCounts"]["properties"]["list"]["maxItems"]
    tap.like(words, rf"rooms\.list.*at most {rooms:,} ")


# --- the status page

@tap.case("the status page in all its forms, of hosts with Postgres, with Redis, and with a Redis that is away")
def _():
    page = open_page(database, fresh())
    wait_until(lambda: http.get(lonely, "/status?health").status == 503, "its workers to be deaf")
    wait_until(lambda: http.get(shared, "/status?health").status == 200, "the others to hear, after all that batches asked of them")
    for server in (database, shared, lonely):
        for method in ("GET", "HEAD"):
            for query in ("", "?rooms", "?rooms=1", "?format=json", "?format=prometheus", "?format="):
                ask("status", server, method, "/status" + query, 200)
            ask("health", server, method, "/status?health", 503 if server is lonely else 200)
            ask("status", server, method, "/status?format=xml", 400, meant="wrong")
            for at, expect, headers in (("/guarded", 401, {}), ("", 403, {"Via": "x"})):
                ask("status", server, method, "/status", expect, at=at, headers=headers)
        tap.like(ask("status", server, "GET", "/status", 200, headers={"Accept": "text/plain"}).text, "^# HELP")
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            ask("status, another method", server, method, "/status", 405)
    ask("status", database, "GET", "/status", 200, at="/guarded", headers=BEARER)
    page.drop()


# 257 processes with sanitizers are too much for a machine.
CROWD = 2 if ASAN else 257
WITHOUT_CROWD = {"/paths/~1status/get/responses/503/content/application~1json/schema/oneOf/1"} if ASAN else set()


@tap.case("a worker that found no slot in the zone has no counters to show")
def _():
    # One queue for each worker, so that chance has every one answer.
    with Nginx("location = /status { rooms_status; }", workers=CROWD, events="worker_connections 32;", listen_options="reuseport",
               name="a crowd of workers") as crowd:
        for expect in (200,) if ASAN else (200, 503):
            answers = (http.get(crowd, "/status") for _ in range(5000))
            answer = next((each for each in answers if each.status == expect), None)
            heard.add("status", "GET", "/status", tap.ok(answer, f"an answer of {expect}"))


# --- the verdict

# Each makes the document say something of the server that is not so.
FALSE = {
    "an offset is a string": [("/components/schemas/Receipt/properties/offset/type", "string")],
    "a receipt has a field more": [("/components/schemas/Receipt/required", ["room", "epoch", "offset", "subscribers", "hosts"])],
    "a receipt has no `subscribers`": [("/components/schemas/Receipt/properties/subscribers", None)],
    "nothing is a conflict": [("/paths/~1publish/post/responses/409", None)],
    "an approval cannot be cancelled": [("/components/schemas/ApprovalStatus/enum/4", "gone")],
    "another code for a late decision": [("/components/schemas/AlreadyExpired/properties/error/properties/code/const", "late")],
    "a wrong secret is 403": [("/components/schemas/Unauthorized/allOf/1/properties/error/properties/code/enum/0", "forbidden")],
    "Retry-After is 2": [("/components/headers/RetryAfter/schema/const", "2")],
    "the status page may be kept": [("/components/headers/NoStore/schema/const", "public")],
    "`rooms` takes 2,000": [("/components/schemas/Publication/properties/rooms/maxItems", 2000)],
    "a publication may have other fields": [("/components/schemas/Publication/additionalProperties", True)],
    "an approval needs a tenant": [("/components/schemas/NewApproval/required", ["sessionId", "action", "tenantId"])],
    "a `type` has 100": [("/components/schemas/Publication/properties/type/maxLength", 100)],
    "`rooms` takes 900": [("/components/schemas/Publication/properties/rooms/maxItems", 900)],
    "a batch has 100": [("/components/schemas/PublishBatch/maxItems", 100)],
    "a room's kind has 16": [("/components/schemas/Room/pattern", "^[a-z][a-z0-9_-]{0,15}:[A-Za-z0-9_.:@~-]{1,200}$")],
    "a room's id has 50": [("/components/schemas/Room/pattern", "^[a-z][a-z0-9_-]{0,31}:[A-Za-z0-9_.:@~-]{1,50}$")],
    "a list has 500": [("/components/parameters/limit/schema/maximum", 500)],
    "an hour is the longest": [("/components/schemas/Duration/oneOf/0/maximum", 3600)],
    "a millisecond is the shortest": [("/components/schemas/Duration/oneOf/0/minimum", 0.001)],
    "a space stands before a unit": [("/components/schemas/Duration/oneOf/1/pattern", "^([0-9]+ *(w|d|h|m|s|ms)? *)+$")],
    "an id has a space": [("/components/schemas/NewApproval/properties/id/pattern", "^[A-Za-z0-9_.:@~ -]{1,200}$")],
    "an id has 900": [("/components/schemas/NewApproval/properties/id/pattern", "^[A-Za-z0-9_.:@~-]{1,900}$")],
    "an Idempotency-Key has 900": [("/paths/~1publish/post/parameters/0/schema/maxLength", 900)],
    "lines are no batch": [("/paths/~1publish/post/requestBody/content/application~1json/x-several", None)],
    "a wrong method goes before a wrong secret": [("/paths/~1approvals/x-access-first", None)],
    "a wrong secret goes before a wrong method": [("/paths/~1publish/x-access-first", True)],
    "nginx' page has Retry-After": [("/components/headers/RetryAfter/x-not-with", None),
                                    ("/components/headers/RetryAfter/required", True)],
    "approvals can be put": [("/paths/~1approvals/put", {"responses": {"200": {"description": "no"}}})],
}
_verdict = None


def verdict():
    global _verdict
    if _verdict is None:
        _verdict = judge("openapi.mjs", "openapi.yaml", exchanges=heard.all, changes=list(FALSE.values()))
    return _verdict


@tap.case("docs/openapi.yaml is a good document of OpenAPI 3.1 to Redocly, and each of its examples to Ajv")
def _():
    tap.is_(verdict()["lint"], [], "what they say")


@tap.case("every exchange is as the document says: status, headers, type and body; what was taken, and what was refused")
def _():
    tap.diag(f"{len(heard.all)} exchanges")
    faults = verdict()["faults"]
    tap.ok(not faults, f"{len(faults)} faults:\n" + "\n".join(faults[:20]))


@tap.case("every operation, parameter, answer, error code and field of the document has been seen")
def _():
    unseen = [each for each in verdict()["unseen"] if each not in WITHOUT_CROWD]
    tap.ok(not unseen, "nothing has shown:\n" + "\n".join(unseen))


def noticed(name):
    tap.diag(tap.ok(verdict()["changed"][list(FALSE).index(name)], "a fault")[:160])


for name in FALSE:
    tap.add(f"a document that is wrong is found wrong: {name}", noticed, name)


tap.run()

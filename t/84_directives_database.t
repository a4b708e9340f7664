#!/usr/bin/python3
"""The directives of a database: what each value changes for a page and a backend. And rooms_allow where it asks: the database,
or a location of the server."""
import json
import os
import re
import subprocess
import sys
import time
from socket import create_server
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import ROOT, SCALE, http, jwt, tap, wait_until, ws     # noqa: E402
from rooms.nginx import Nginx                                     # noqa: E402
from rooms.postgres import Postgres                               # noqa: E402

postgres = Postgres()
subprocess.run([f"{ROOT}/migrations/migrate", postgres.conninfo()], check=True, capture_output=True)
postgres.sql("""
    insert into hitl_sessions (id, tenant_id) values ('s1', 'acme'), ('s2', 'globex'), ('S 3', 'acme');
    create table asked (room text, n serial);
    create table numbers (id integer primary key);
    insert into numbers values (7);
    create function ask(room text) returns boolean language sql as $$ insert into asked values (room); select true $$;
""")

RULES = """
    rooms_allow session:*  "sql=select 1 from hitl_sessions where id = $rooms_room_id and tenant_id = $rooms_claim_tenant_id";
    rooms_allow open:*     "sql=select exists (select from hitl_sessions where id = $rooms_room_id)";
    rooms_allow null:*     "sql=select null::text where $rooms_room_id <> ''";
    rooms_allow number:*   "sql=select 1 from numbers where id = $rooms_room_id";
    rooms_allow quote:*    "sql=select 1 where $rooms_claim_evil = '''; drop table numbers; --' and $rooms_room_kind = 'quote' -- it's
                            and $rooms_room = $rooms_room";
    rooms_allow broken:*   "sql=select 1 from nowhere where $rooms_room_id = ''";
    rooms_allow asked:*    "sql=select ask($rooms_room)" cache=1h;
    rooms_allow fresh:*    "sql=select ask($rooms_room)" cache=0;
    rooms_allow short:*    "sql=select ask($rooms_room)" cache=300ms;
    rooms_allow slow:*     "sql=select pg_sleep(0.4) is null, ask($rooms_room)";
    rooms_allow slowin:*   "sql=select ask($rooms_room) from pg_sleep(0.4)";
    rooms_allow first:*    "sql=select 1 where $rooms_claim_absent = ''";
    rooms_allow first:1;
    rooms_allow check:*    request=/check/$rooms_room_id?user=$rooms_user&t=$rooms_claim_tenant_id cache=0;
    rooms_allow place:*    request=/check/$rooms_room_id/$arg_p cache=0;
    rooms_allow claim:*    request=/check/$rooms_room_id/$rooms_claim_place cache=0;
    rooms_allow kept:*     request=/check/204 cache=1h;
    rooms_allow away:*     request=/away;
    rooms_allow arg:$arg_x request=/check/$arg_x;
"""
LOCATIONS = """
    location = /ws      { rooms; rooms_rate 1000/1s; rooms_max_rooms 100; }
    location = /join    { rooms; rooms_join session:$rooms_claim_home; }
    location = /publish { rooms_publish; }
    location = /status  { rooms_status; }
    location /approvals { rooms_approvals_api; }
    location /guarded   { rooms_approvals_api secret=@DIR@/backend; }
    location /check/ {
        internal;
        access_log @DIR@/check.log asked;
        if ($uri = /check/204) { return 204; }
        if ($uri ~ ^/check/in/[^/]+$) { return 204; }
        if ($uri = /check/200) { return 200 "a long text"; }
        if ($uri = /check/401) { return 401; }
        if ($uri = /check/403) { return 403; }
        if ($uri = /check/302) { return 302 /check/204; }
        return 500;
    }
    location = /away { internal; proxy_pass http://127.0.0.1:1; }
"""
HTTP = """
    log_format asked escape=json '$request_method $request_uri [$args] $remote_addr $http_host/$http_cookie/$http_authorization $server_name';
    rooms_jwt_key HS256 @DIR@/secret;
"""
FILES = {"secret": jwt.SECRET, "backend": "a backend's secret, long enough\n"}


def host(directives="", name="host", **options):
    locations = LOCATIONS if "rooms_approvals" in directives else re.sub(r"location \S+ *{ rooms_approvals_api.*", "", LOCATIONS)
    return Nginx(locations, http=HTTP + f'rooms_postgres "{postgres.conninfo()}"; {directives}' + RULES, files=FILES, name=name, **options)


server = host("rooms_approvals postgres timeout=40s warn=39500ms,20s max=60s;")


class Silent:
    """Takes connections and says nothing."""

    def __enter__(self):
        self.socket = create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        return self

    def __exit__(self, *_):
        self.socket.close()


def page(path="/ws", server=server, **claims):
    socket = ws.connect(server, path, token=jwt.mint(**{"sub": "ann", "tenant_id": "acme", **claims}))
    socket.expect(type="connected")
    return socket


def ask(socket, room):
    socket.send_json(type="subscribe", room=room)
    return socket.expect(room=room)


def enters(socket, room):
    answer = ask(socket, room)
    return "in" if answer["type"] == "subscribed" else answer["code"]


def asked(room):
    return int(postgres.sql(f"select count(*) from asked where room = '{room}'")[0][0])


def create(server=server, expect=201, **fields):
    response = http.request(server, "POST", "/approvals", {"Content-Type": "application/json"},
                            json.dumps({"sessionId": "s1", "action": "deploy", **fields}).encode())
    tap.is_(response.status, expect, f"status of {response!r}")
    return response.json


@tap.case("R2: rooms_allow sql=: a row of the tenant lets in, none does not; rooms_join and presence ask as well")
def _():
    with page() as one, page(tenant_id="globex") as two:
        tap.is_([enters(one, "session:s1"), enters(one, "session:s2"), enters(one, "session:none")], ["in", "forbidden", "forbidden"])
        tap.is_([enters(two, "session:s1"), enters(two, "session:s2")], ["forbidden", "in"])
        one.send_json(type="presence", room="session:s1")
        one.expect(type="presence", count=1)
        one.send_json(type="presence", room="session:s2")
        one.expect(type="error", code="forbidden")
    with page("/join", home="s1") as socket:
        socket.expect(type="subscribed", room="session:s1")
    with page("/join", home="s2") as socket:
        socket.expect(type="error", code="forbidden", room="session:s2")


@tap.case("S37: rooms_allow sql=: false and null are no row; a value of the wrong type is none; an error is unavailable, and logged")
def _():
    with page(evil="'; drop table numbers; --") as socket:
        tap.is_([enters(socket, room) for room in ("open:s1", "open:none", "null:x")], ["in", "forbidden", "forbidden"])
        tap.is_([enters(socket, room) for room in ("number:7", "number:8", "number:abc", "number:99999999999")],
                ["in", "forbidden", "forbidden", "forbidden"])
        tap.is_(enters(socket, "quote:1"), "in", "a value with quotes in it")
        answer = ask(socket, "broken:1")
        tap.is_([answer["code"], answer["retryable"]], ["unavailable", True])
    tap.is_(postgres.sql("select count(*) from numbers"), [["1"]], "rows that are left")
    tap.like(server.log(), r'\[error\].*"sql=" of rooms_allow: relation "nowhere" does not exist')


@tap.case("rooms_allow sql=: a statement that the database does not understand is told when a worker begins")
def _():
    tap.like(server.log(), r'\[error\].*"select 1 from nowhere where \$1 = \'\'" of rooms_allow: relation "nowhere" does not exist')
    tap.is_(len(re.findall(r'\[error\].*" of rooms_allow: ', server.log().split("start worker")[-1])),
            2 + len(re.findall(r'\[error\].*"sql=" of rooms_allow', server.log())), "one line of each worker")


@tap.case("rooms_allow: a rule whose question has an empty variable does not match, the next one decides")
def _():
    with page() as socket:
        tap.is_([enters(socket, "first:1"), enters(socket, "first:2")], ["in", "forbidden"])


@tap.case("S38: rooms_allow cache=: what was allowed is kept so long, 0 keeps nothing; another tenant or token is another question")
def _():
    pid = server.workers()[0]
    sockets = [ws.connect_to_worker(server, pid, "/ws", token=jwt.mint(sub=user, tenant_id="acme")) for user in ("a", "b")]
    for socket in sockets:
        socket.expect(type="connected")
    for room, wanted in (("asked:1", 1), ("fresh:1", 4)):
        for _ in range(2):
            for socket in sockets:
                tap.is_(enters(socket, room), "in")
                socket.send_json(type="unsubscribe", room=room)
                socket.expect(type="unsubscribed")
        tap.is_(asked(room), wanted, f"questions about {room}")

    def asks_again():
        tap.is_(enters(sockets[0], "short:1"), "in")
        return asked("short:1") > 1
    wait_until(asks_again, "the cache to forget")
    for socket in sockets:
        socket.close()


@tap.case("S40 R10: rooms_allow: equal questions at the same time are asked once; who leaves meanwhile harms nothing")
def _():
    pid = server.workers()[0]
    sockets = [ws.connect_to_worker(server, pid, "/ws", token=jwt.mint(sub=f"u{i}", tenant_id="acme")) for i in range(6)]
    for socket in sockets:
        socket.expect(type="connected")
        socket.send_json(type="subscribe", room="slowin:1")
    sockets[1].drop()
    sockets[2].send_json(type="unsubscribe", room="slowin:1")
    for socket in sockets[:1] + sockets[3:]:
        socket.expect(type="subscribed", room="slowin:1")
    sockets[2].expect(type="subscribed")
    sockets[2].expect(type="unsubscribed")
    tap.is_(asked("slowin:1"), 1, "questions")
    for socket in sockets[:1] + sockets[2:]:
        socket.close()
    wait_until(lambda: http.status(server)["rooms"]["members"] == 0, "nobody to be left")


@tap.case("rooms_allow: a crowd whose questions take long holds up no backend, and costs nobody the connection")
def _():
    before = http.status(server)["postgres"]["losses"]
    sockets = [page() for _ in range(6)]
    for n, socket in enumerate(sockets):
        for i in range(4):
            socket.send_json(type="subscribe", room=f"slowin:{n}-{i}")     # 0.4 s each, one after the other in a worker
    began = time.monotonic()
    tap.is_(http.request(server, "GET", "/approvals/none").status, 404)
    tap.ok(time.monotonic() - began < 0.4 * SCALE, "the API answers meanwhile")
    answers = [answer["code"] if (answer := socket.recv_json())["type"] == "error" else "in" for socket in sockets for _ in range(4)]
    tap.is_(set(answers), {"in", "unavailable"}, "answers")
    tap.is_(http.status(server)["postgres"]["losses"], before, "losses")
    for socket in sockets:
        socket.close()


@tap.case("S38: rooms_allow: a token that is renewed is asked for anew, and who may no longer be in is out")
def _():
    postgres.sql("insert into hitl_sessions (id, tenant_id) values ('moves', 'acme')")
    with page() as socket:
        tap.is_(enters(socket, "session:moves"), "in")
        tap.is_(enters(socket, "number:7"), "in")
        postgres.sql("update hitl_sessions set tenant_id = 'globex' where id = 'moves'")
        # In the cache of this worker it is still allowed, with these claims.
        socket.send_json(type="auth", token=jwt.mint(sub="ann", tenant_id="acme", x=1))
        socket.expect(type="auth:ok")
        socket.expect_nothing()
    with page() as socket:
        postgres.sql("update hitl_sessions set tenant_id = 'acme' where id = 'moves'")
        tap.is_(enters(socket, "fresh:moves"), "in")
        postgres.sql("alter function ask rename to ask_no_more")
        socket.send_json(type="auth", token=jwt.mint(sub="ann", tenant_id="acme", x=2))
        socket.expect(type="auth:ok")
        socket.expect(type="error", code="unavailable", room="fresh:moves", retryable=True)
        postgres.sql("alter function ask_no_more rename to ask")
        wait_until(lambda: enters(socket, "fresh:moves") == "in", "the room to open again")


@tap.case("S37: rooms_allow request=: 2xx lets in, 401 and 403 do not, all else is unavailable")
def _():
    with page() as socket:
        tap.is_([enters(socket, f"check:{status}") for status in (200, 204, 401, 403, 302, 500)],
                ["in", "in", "forbidden", "forbidden", "unavailable", "unavailable"])
        tap.is_(enters(socket, "away:1"), "unavailable")
    with page("/ws?x=204") as socket:
        tap.is_(enters(socket, "arg:204"), "in")
    tap.is_(http.request(server, "GET", "/check/204").status, 404, "from outside")


@tap.case("S62: rooms_allow request=: a GET of the server itself, internal, with escaped values and no header of the handshake")
def _():
    os.truncate(server.path("check.log"), 0)
    with ws.connect(server, "/ws", token=jwt.mint(sub="a b&c/\u00e4?", tenant_id="t#%"), headers={"Cookie": "c=1"}) as socket:
        socket.expect(type="connected")
        tap.is_(enters(socket, "check:204"), "in")
    # The line of a case before may come late.
    line = wait_until(lambda: [line for line in server.read("check.log").splitlines() if "user=a%20b" in line], "the line in the log")[0]
    tap.is_(line, "GET /check/204?user=a%20b%26c%2F%C3%A4%3F&t=t%23%25 [user=a%20b%26c%2F%C3%A4%3F&t=t%23%25] unix: // localhost")


@tap.case("S62: rooms_allow request=: a value that would lead to another place is forbidden, and nothing is asked; what only looks so is one segment")
def _():
    def log():
        return [line.split()[1] for line in open(server.path("check.log"), encoding="utf-8").read().splitlines()]

    def by_argument(room, value):
        with page(f"/ws?p={value}") as socket:
            return enters(socket, room)

    def by_claim(room, value):
        with page(place=value) as socket:
            return enters(socket, room)
    os.truncate(server.path("check.log"), 0)
    for how, kind in ((by_argument, "place"), (by_claim, "claim")):
        for id_, value in (("in", ".."), ("in", "."), ("in", "../x"), ("in", "../../check/204"), ("in", "a/b"), ("in", "/"), ("in", "x/.."), ("..", "204"), (".", "204"), ("..", "..")):
            tap.is_(how(f"{kind}:{id_}", value), "forbidden", f"{kind}:{id_} with {value}")
    tap.is_(log(), [], "what was asked")
    # $arg_ is as it came: a percent sign of it is one of the value.
    for how, kind in ((by_argument, "place"), (by_claim, "claim")):
        for value in ("ok", "...", "..x", "a%2Fb", "%2E%2E", "..%2F204"):
            tap.is_(how(f"{kind}:in", value), "in", f"{kind} with {value}")
        wanted = [f"/check/in/{value}" for value in ("ok", "...", "..x", "a%252Fb", "%252E%252E", "..%252F204")]
        wait_until(lambda: len(log()) >= len(wanted), "the lines in the log")
        tap.is_(log(), wanted, f"what was asked by {kind}")
        os.truncate(server.path("check.log"), 0)


@tap.case("S37: rooms_allow request=: a place that does not answer is unavailable after 5 s, and others are not held up")
def _():
    with Silent() as silent:
        locations = f"""
            location = /ws     {{ rooms; rooms_allow hangs:* request=/hangs; rooms_allow open:*; }}
            location = /hangs  {{ internal; proxy_pass http://127.0.0.1:{silent.port}; }}
        """
        other = Nginx(locations, http="rooms_jwt_key HS256 @DIR@/secret;", files=FILES, name="hanging")
        with page(server=other) as socket:
            began = time.monotonic()
            socket.send_json(type="subscribe", room="hangs:1")
            tap.is_(enters(socket, "open:1"), "in")
            tap.ok(time.monotonic() - began < 2 * SCALE, "another room is not held up")
            socket.expect(timeout=8 * SCALE, type="error", code="unavailable", room="hangs:1")
            tap.ok(4.5 < time.monotonic() - began < 7 * SCALE, f"5 s: {time.monotonic() - began:.2f}")
        tap.is_(other.stop(), [], "problems")


@tap.case("rooms_allow request=: a crowd at once is answered, and no descriptor is left")
def _():
    def descriptors():
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in server.workers())
    with page() as socket:
        before = descriptors()
        for i in range(200):
            socket.send_json(type="presence", room="check:204")
        answers = [socket.recv_json()["type"] for _ in range(200)]
        tap.is_(answers.count("presence"), 200, "answers")
        wait_until(lambda: descriptors() <= before + 1, "the descriptors to be closed")


@tap.case("rooms_postgres: the database of the rules, of the outbox and of the status page")
def _():
    told = http.status(server)["postgres"]
    tap.is_([told["up"], told["workers"], told["connected"]], [True, 2, 2])
    tap.in_(postgres.dir, told["server"], "where it is")
    tap.is_(http.request(server, "GET", "/status?format=prometheus").text.count("\nrooms_postgres_up 1\n"), 1)


@tap.case("rooms_approvals timeout=, warn= and max=: how long an approval may wait, when pages are warned, what may be asked for")
def _():
    with page() as socket:
        tap.is_(enters(socket, "session:s1"), "in")
        made = create()
        tap.ok(39000 < made["expiresAt"] - made["createdAt"] <= 40500, f"timeout=: {made}")
        socket.expect(type="approval:requested", approvalId=made["id"])
        warned = socket.expect(type="approval:expiring", approvalId=made["id"])
        tap.ok(39000 <= warned["remainingMs"] <= 39500, f"warn=: {warned}")
        create(timeout=59)
        tap.like(create(expect=400, timeout=61)["error"]["message"], "max=")


@tap.case("rooms_approvals_api: approvals below its location; secret= is asked for")
def _():
    tap.is_(http.request(server, "GET", "/approvals/none").json["error"]["code"], "not_found")
    tap.is_(http.request(server, "GET", "/approvalsnone").status, 404)
    tap.is_(http.request(server, "GET", "/guarded/none").status, 401)
    answer = http.request(server, "GET", "/guarded/none", {"Authorization": "Bearer a backend's secret, long enough"})
    tap.is_(answer.json["error"]["code"], "not_found")


@tap.case("rooms_outbox: rows are published where it is on, as it is by default, and stay where it is off")
def _():
    with page() as socket:
        tap.is_(enters(socket, "session:s1"), "in")
        postgres.sql("insert into rooms_outbox (room, type, data) values ('session:s1', 'hello', '{\"n\": 1}')")
        socket.wait_for(type="hello", n=1)
    tap.is_(server.stop(), [], "problems")
    with_on, without = host("rooms_outbox on;", "outbox on", start=False), host("rooms_outbox off;", "outbox off")
    postgres.sql("insert into rooms_outbox (room, type, data) values ('session:s1', 'hello', '{\"n\": 2}')")
    with page(server=without) as socket:
        tap.is_(enters(socket, "session:s1"), "in")
        socket.expect_nothing()
    tap.is_(postgres.sql("select count(*) from rooms_outbox where data ->> 'n' = '2'"), [["1"]])
    tap.is_(without.stop(), [], "problems")
    with_on.start()
    wait_until(lambda: postgres.sql("select count(*) from rooms_outbox") == [["0"]], "the row to be published")
    tap.is_(with_on.stop(), [], "problems")


@tap.case("an http{} that names a database and has no location of ours: approvals end, and rows are published")
def _():
    for name, directives, status, events in (("clock", "rooms_approvals postgres;", "timeout", 2), ("relay", "", "pending", 1)):
        postgres.sql(f"create database {name}")
        subprocess.run([f"{ROOT}/migrations/migrate", postgres.conninfo(dbname=name)], check=True, capture_output=True)
        postgres.sql("""insert into hitl_sessions (id, tenant_id) values ('s1', 'acme');
                        insert into hitl_approvals (id, session_id, action, expires_at) values ('a1', 's1', 'x', now() - interval '1 second');
                        insert into rooms_outbox (room, type) values ('session:s1', 'hello')""", database=name)
        alone = Nginx("location = /plain { return 204; }", http=f'rooms_postgres "{postgres.conninfo(dbname=name)}"; {directives}', files=FILES, name=name)
        wait_until(lambda: postgres.sql("select status from hitl_approvals", database=name) == [[status]], f"the approval to be {status}")
        wait_until(lambda: postgres.sql("select count(*) from rooms_outbox", database=name) == [["0"]], "the rows to be published")
        tap.is_(http.request(alone, "GET", "/plain").status, 204)
        alone.reload(wait_old=True, locations="location = /ws { rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_allow *; }")
        with page(server=alone) as socket:
            tap.is_(ask(socket, "session:s1")["offset"], events, "events, as a page sees them that comes later")
        tap.is_(alone.stop(), [], "problems")


tap.run()

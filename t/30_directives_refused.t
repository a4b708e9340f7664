#!/usr/bin/python3
"""`nginx -t` refuses every wrong value: it names the file, the line, the directive, the value and what would be right."""
import os
import re
import sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import jwt, tap                                # noqa: E402
from rooms.nginx import Nginx, make_certificate           # noqa: E402

server = Nginx(start=False, files={
    "secret": jwt.SECRET, "short": b"too short", "open": jwt.SECRET, "empty": b"",
    "backend": b"a backend's secret, long enough\n", "three": b"\n".join([b"a backend's secret %d" % n for n in range(3)]),
    "jwks": b'{"keys":[]}', "broken.json": b"{", "password": b"a password of Redis\n",
    "two_passwords": b"a password of Redis\nanother\n", "newline": b"\n",
    "known": b"dev-secret-change-in-production!", "known_backend": b"swarm-internal-dev-key-2024\n"})
os.chmod(server.path("open"), 0o644)
make_certificate(server.dir)
ec = jwt.Key(server.dir, "ES256")
rsa = jwt.Key(server.dir, "RS256", bits=1024, name="small")

KEY = "rooms_jwt_key HS256 @DIR@/secret;"
SOCKET = f"rooms; {KEY}"


def refused(directive, right, http="", locations="", server_level="", at=None):
    """nginx -t fails once, says `right`, and the file and line are those of the directive."""
    code, said = server.test_config(http=http, locations=locations, server=server_level)
    tap.is_(code, 1, "exit code")
    emerg = [line for line in said.splitlines() if "[emerg]" in line]
    tap.is_(len(emerg), 1, f"emerg lines in {said}")
    tap.in_(directive, emerg[0], "the directive is named")
    tap.like(emerg[0], right, "the right value is named")
    where = tap.like(emerg[0], r" in (/\S+test\.conf):(\d+)$", "file and line")
    with open(where[1]) as file:
        tap.like(file.read().splitlines()[int(where[2]) - 1], re.escape(at or directive), "the line")


def accepted(http="", locations="", server_level=""):
    code, said = server.test_config(http=http, locations=locations, server=server_level)
    tap.is_(code, 0, f"exit code of {said}")
    return said


def location(text):
    return "location = /x {\n" + text + "\n}"


# (directive, arguments, what is said); each in a location with a socket
IN_LOCATION = [
    ("rooms_jwt_key", f"hs256 @DIR@/secret", "one of HS256 HS384"),
    ("rooms_jwt_key", "none @DIR@/secret", "one of HS256"),
    ("rooms_jwt_key", "HS256 @DIR@/nowhere", 'cannot read ".*/nowhere": No such file'),
    ("rooms_jwt_key", "HS256 @DIR@", "not a regular file"),
    ("rooms_jwt_key", "HS256 @DIR@/short", "at least 32"),
    ("rooms_jwt_key", "HS256 @DIR@/known", "a well-known sample"),
    ("rooms_jwt_key", "HS256 @DIR@/ES256.pub", "PEM|public key"),
    ("rooms_jwt_key", "RS256 @DIR@/secret", "PEM|public key"),
    ("rooms_jwt_key", "RS256 @DIR@/small.pub", "2048"),
    ("rooms_jwt_key", "RS256 @DIR@/ES256.pub", "RSA"),
    ("rooms_jwt_key", "ES384 @DIR@/ES256.pub", "P-384|curve"),
    ("rooms_jwt_key", "ES256 @DIR@/ES256.key", "private|public"),
    ("rooms_jwt_key", "HS256 @DIR@/open id=1", "kid=ID"),
    ("rooms_jwt_key", "HS256 @DIR@/open kid=", "kid=ID"),
    ("rooms_jwt_jwks", "@DIR@/jwks", "key"),
    ("rooms_jwt_jwks", "@DIR@/broken.json", "JSON"),
    ("rooms_jwt_jwks", "@DIR@/nowhere", "No such file"),
    ("rooms_jwt_token", "token", "a variable, for example"),
    ("rooms_jwt_issuer", '""', 'the value of "iss"'),
    ("rooms_jwt_audience", 'a ""', '"aud"'),
    ("rooms_jwt_leeway", "301s", "from 0s to 300s"),
    ("rooms_jwt_leeway", "-1", "from 0s to 300s"),
    ("rooms_jwt_max_age", "0s", "from 1s to 10y"),
    ("rooms_jwt_max_age", "soon", "from 1s to 10y"),
    ("rooms_jwt_max_age", "11y", "from 1s to 10y"),
    ("rooms_jwt_max_age", "9223372036854775807", "from 1s to 10y"),
    ("rooms_jwt_require", "none exp", "only none"),
    ("rooms_jwt_require", "exp exp", "each claim once"),
    ("rooms_jwt_exp_unit", "us", "s or ms"),
    ("rooms_jwt_user_claim", '""', "for example sub"),
    ("rooms_jwt_rooms_claim", '""', "for example rooms"),
    ("rooms_auth_failure", "4001", "close or http"),
    ("rooms_allow", "session", "kind:id"),
    ("rooms_allow", "session:*:x", "only at the end"),
    ("rooms_allow", "Session:1", "kind"),
    ("rooms_allow", "session:$", "variable"),
    ("rooms_allow", "session:$nowhere", r'unknown variable "\$nowhere"'),
    ("rooms_allow", "tenant:$rooms_claim_", r'unknown variable "\$rooms_claim_"'),
    ("rooms_max_connections", "5 per=$rooms_claim_", r'unknown variable "\$rooms_claim_"'),
    ("rooms_allow", "$rooms_room", "before the room is known"),
    ("rooms_allow", "tenant:$rooms_claim_tenantId", r"rooms_claim \$NAME tenantId;"),
    ("rooms_allow", "session:* tenant:*", "sql=STATEMENT"),
    ("rooms_allow", '"session:*" "sql=select 1"', "rooms_postgres CONNINFO"),
    ("rooms_allow", '"session:*" sql=', "no statement"),
    ("rooms_allow", """"session:*" "sql=select '$rooms_room_id'\"""", "stand without quotes"),
    ("rooms_allow", '"session:*" "sql=select 1 where $1"', "without a variable's name"),
    ("rooms_allow", '"session:*" "sql=select $nowhere"', r'unknown variable "\$nowhere"'),
    ("rooms_allow", '"session:*" "sql=select $rooms_claim_tenantId"', r"rooms_claim \$NAME tenantId;"),
    ("rooms_allow", '"session:*" "sql=select 1" "sql=select 2"', "sql=.*duplicate"),
    ("rooms_allow", '"session:*" "sql=select 1" request=/a', "exclude each other"),
    ("rooms_allow", "session:* request=check", 'begin with "/"'),
    ("rooms_allow", "session:* request=/a/$nowhere", r'unknown variable "\$nowhere"'),
    ("rooms_allow", "session:* request=/a request=/b", "request=.*duplicate"),
    ("rooms_allow", "session:* cache=30s", "there is neither"),
    ("rooms_allow", "session:* request=/a cache=x", "cache=30s"),
    ("rooms_allow", "session:* request=/a cache=1s cache=2s", "cache=.*duplicate"),
    ("rooms_join", "session:*", "names no room to join"),
    ("rooms_join", "tenant:$nowhere", r'unknown variable "\$nowhere"'),
    ("rooms_origin", "app.example.com", "SCHEME://HOST"),
    ("rooms_origin", "https://app.example.com/", "SCHEME://HOST"),
    ("rooms_origin", "any https://app.example.com", "stands alone"),
    ("rooms_origin", "~", "regular expression"),
    ("rooms_origin", '"~https://(a"', "regular expression"),
    ("rooms_origin", '"~a)|(b"', r"""regular expression .* in "a\)\|\(b" at "\)\|\(b" in """),
    ("rooms_heartbeat", "0", "for example 30s"),
    ("rooms_heartbeat", "often", "for example 30s"),
    ("rooms_heartbeat", "30s wait=10s", "timeout=TIME"),
    ("rooms_heartbeat", "30s timeout=x", "timeout=TIME"),
    ("rooms_max_message", "0", "for example 64k"),
    ("rooms_max_message", "64kb", "for example 64k"),
    ("rooms_max_message", "2g", "to 1g"),
    ("rooms_max_rooms", "0", "from 1 to 1000000"),
    ("rooms_max_rooms", "all", "from 1 to 1000000"),
    ("rooms_rate", "60", "60/10s"),
    ("rooms_rate", "60/", "60/10s"),
    ("rooms_rate", "0/10s", "60/10s"),
    ("rooms_rate", "60/0s", "60/10s"),
    ("rooms_rate", "60r/s", "60/10s"),
    ("rooms_send_queue", "0", "for example 1m"),
    ("rooms_send_queue", "much", "for example 1m"),
    ("rooms_max_connections", "0", "1 or more"),
    ("rooms_max_connections", "5 per=user", r"per=\$VARIABLE"),
    ("rooms_max_connections", "5 per=$nowhere", r'unknown variable "\$nowhere"'),
    ("rooms_compression", "yes", "on or off"),
    ("rooms_compression", "on level=0", "from 1 to 9"),
    ("rooms_compression", "on level=10", "from 1 to 9"),
    ("rooms_compression", "on min=x", "min=256"),
    ("rooms_compression", "on max=1", "min=SIZE and level=N"),
    ("rooms_drain", "x", "for example 3s"),
    ("rooms_access_log", "start", "end or upgrade"),
]
# What is too weak to be a key, or known to everybody.
IDS = {"HS256 @DIR@/short": "S19: ", "RS256 @DIR@/small.pub": "S19: ", "HS256 @DIR@/ES256.pub": "S11: ", "ES384 @DIR@/ES256.pub": "S18: ",
       "HS256 @DIR@/known": "R5: ", "301s": "S22: "}
for name, arguments, right in IN_LOCATION:
    tap.add(f"{IDS.get(arguments, '')}{name} {arguments}: refused", refused, name, right, "", location(f"{SOCKET}\n{name} {arguments};"))

IN_HTTP = [
    ("rooms_zone", "rooms", "rooms:32m"),
    ("rooms_zone", ":32m", "rooms:32m"),
    ("rooms_zone", "rooms:8k", r"from \d+k to 64g"),
    ("rooms_zone", "rooms:100000g", r"from \d+k to 64g"),
    ("rooms_zone", "rooms:many", "rooms:32m"),
    ("rooms_history", "session:* size=-1", "a number of publications"),
    ("rooms_history", "session:* size=1 size=2", "one size=N"),
    ("rooms_history", "session:* ttl=0s", "ttl=5m"),
    ("rooms_history", "session:* age=5m", "size=N and ttl=TIME"),
    ("rooms_history", "session size=1", "kind"),
    ("rooms_claim", "tenant tenantId", r"for example \$tenant"),
    ("rooms_claim", "$ tenantId", r"for example \$tenant"),
    ("rooms_claim", "$rooms_room x", r"for example \$tenant"),
    ("rooms_claim", "$rooms_room_kind x", r"for example \$tenant"),
    ("rooms_claim", "$Rooms_Room_Id x", r"for example \$tenant"),
    ("rooms_claim", '$tenant ""', "for example tenantId"),
]
# The password in each is XYZZYPLUGH, or XYZZY and PLUGH: no message may quote it.
REDIS = [
    ("localhost:6379", "begins with redis://"),
    ("http://XYZZYPLUGH@localhost", "begins with redis://"),
    ("redis://", "the host is missing"),
    ("redis://:XYZZYPLUGH@", "the host is missing"),
    ("redis://127.0.0.1:0", "from 1 to 65535"),
    ("redis://127.0.0.1:XYZZYPLUGH", "from 1 to 65535"),
    ("redis://127.0.0.256", "looks like an IPv4 address"),
    ("redis://::1", r"stands in \[ \]"),
    ("redis://127.0.0.1/x", "/DB"),
    ("redis://:XYZZY@PLUGH@127.0.0.1", "%40"),
    ("redis://:XYZZY/PLUGH@127.0.0.1", "%2F"),
    ('"redis://:XYZZY#PLUGH@127.0.0.1"', "%23"),
    ("redis://:XYZZYPLUGH%@127.0.0.1", "%25"),
    ("redis://user:@127.0.0.1", "password is empty"),
    ("redis://127.0.0.1,127.0.0.2", "sentinel://HOST,HOST/NAME or cluster://HOST,HOST"),
    ("redis://user@127.0.0.1", "a user needs a password"),
    ("redis://127.0.0.1 user=rooms", "a user needs a password"),
    ("redis://rooms.invalid", 'host "rooms.invalid" not found'),
    ("cluster://127.0.0.1,rooms.invalid", 'host "rooms.invalid" not found'),
    ("unix:redis.sock", "absolute path"),
    ("unix:/" + 107 * "x", "at most 107"),
    ("sentinel://127.0.0.1", "/NAME"),
    ("cluster://127.0.0.1/0", "only database 0"),
    ("cluster://127.0.0.1 db=0", "only database 0"),
    ("cluster://127.0.0.1,127.0.0.1", "server 2: it is named twice"),
    ("unix:/r.sock prefix=", "1 to 64 letters"),
    ("'unix:/r.sock' 'prefix={rooms}'", "1 to 64 letters"),
    ("unix:/r.sock prefix=a prefix=b", '"prefix=" is duplicate'),
    ("unix:/r.sock db=x", "number of a database"),
    ("redis://127.0.0.1/1 db=2", 'in its URL and a "db="'),
    ("unix:/r.sock user=", "user=rooms"),
    ("redis://a:XYZZYPLUGH@127.0.0.1 user=b", 'in its URL and a "user="'),
    ("unix:/r.sock password_file=", "name of a file"),
    ("unix:/r.sock password_file=@DIR@/nowhere", "No such file"),
    ("unix:/r.sock password_file=@DIR@/empty", "one line"),
    ("unix:/r.sock password_file=@DIR@/newline", "one line"),
    ("unix:/r.sock password_file=@DIR@/two_passwords", "one line"),
    ("redis://:XYZZYPLUGH@127.0.0.1 password_file=@DIR@/password", 'in its URL and a "password_file="'),
    ("unix:/r.sock password=XYZZYPLUGH", "password_file=FILE"),
    ("unix:/r.sock XYZZYPLUGH", "only prefix=NAME"),
    ("unix:/r.sock unix:/s.sock", "only prefix=NAME"),
    ("redis://127.0.0.1 ca=@DIR@/server.crt", "rediss://"),
    ("unix:/r.sock ca=@DIR@/server.crt", "a unix socket has no TLS"),
    ("rediss://127.0.0.1 ca=", "ca=FILE"),
    ("rediss://127.0.0.1 ca=@DIR@/nowhere", 'cannot read ".*/nowhere": No such file'),
    ("rediss://127.0.0.1 ca=@DIR@/secret", "certificate"),
]
IN_HTTP += [("rooms_redis", arguments, right) for arguments, right in REDIS]
POSTGRES = [
    ('""', "it is empty"),
    ("rooms", "a word has no ="),
    ('"dbname=app pasword=XYZZYPLUGH"', "no such parameter"),
    ('"dbname=app password=XYZZY PLUGH"', "a word has no ="),
    ("\"dbname=app password='XYZZYPLUGH\"", "a ' is not closed"),
    ("http://XYZZYPLUGH@localhost", "a word has no ="),
    ("postgresql://app:XYZZY%PLUGH@localhost/app", "%25"),
    ("postgresql://app:XYZZY@PLUGH@127.0.0.1/app", "a host is a name"),
    ("postgresql://app:XYZZY/PLUGH@127.0.0.1/app", "from 1 to 65535"),
    ("postgresql://localhost/app?XYZZYPLUGH=1", r"behind the \?"),
    ("postgresql://localhost:0/app", "from 1 to 65535"),
    ('"host=127.0.0.1,127.0.0.2 port=1,2,3"', "number of ports"),
    ('"host=localhost hostaddr=127.0.0.1,127.0.0.2"', "number of hosts"),
    ("hostaddr=localhost", "hostaddr is an IPv4 or IPv6 address"),
    ("host=run/postgresql", "absolute path"),
    ("service=app", "service= is not read"),
    ('"host=rooms.invalid password=XYZZYPLUGH"', 'host "rooms.invalid" not found'),
    ('"host=127.0.0.1,rooms.invalid"', 'host "rooms.invalid" not found'),
]
IN_HTTP += [("rooms_postgres", arguments, right) for arguments, right in POSTGRES]
for name, arguments, right in IN_HTTP:
    tap.add(f"{name} {arguments}: refused", refused, name, right, f"\n{name} {arguments};\n")

BACKEND = [
    ("secret=@DIR@/nowhere", "No such file"),
    ("secret=", "name of a file"),
    ("secret=@DIR@/empty", "secret"),
    ("secret=@DIR@/short", "at least 16"),
    ("secret=@DIR@/three", "one or two|two"),
    ("secret=@DIR@/known_backend", "a well-known sample"),
    ("secret=@DIR@/backend secret=@DIR@/backend", "two lines"),
    ("from=10.0.0.0/33", "from=10.0.0.0/8"),
    ("from=localhost", "from=10.0.0.0/8"),
    ("to=127.0.0.1", "secret=FILE"),
]
for name in ("rooms_publish", "rooms_approvals_api", "rooms_status"):
    for arguments, right in BACKEND:
        tap.add(f"{'R5: ' if 'known' in arguments else ''}{name} {arguments}: refused", refused, name, right, "",
                location(f"\n{name} {arguments};\n").replace("= /x", "/x"))

APPROVALS = [
    ("sqlite", '"postgres" or "redis"'),
    ("postgres 15m", "timeout=TIME, warn=TIME and max=TIME"),
    ("postgres timeout=x", "timeout=15m"),
    ("postgres timeout=0", "timeout=15m"),
    ("postgres timeout=1m timeout=2m", "timeout=.*duplicate"),
    ("postgres warn=", "warn=60s"),
    ("postgres warn=5m,", "warn=60s"),
    ("postgres warn=on", "warn=off"),
    ("postgres max=x", "max=24h"),
    ("postgres timeout=2h max=1h", "not be longer"),
    ("postgres", "rooms_postgres CONNINFO"),
    ("redis", "rooms_redis URL"),
]
for arguments, right in APPROVALS:
    tap.add(f"rooms_approvals {arguments}: refused", refused, "rooms_approvals", right, f"\nrooms_approvals {arguments};\n",
            location(SOCKET))
for arguments, right in (("yes", '"on" or "off"'), ("on", "rooms_postgres CONNINFO")):
    tap.add(f"rooms_outbox {arguments}: refused", refused, "rooms_outbox", right, f"\nrooms_outbox {arguments};\n", location(SOCKET))
tap.add("rooms_outbox off where approvals need it: refused", refused, "rooms_outbox", 'must be "on"',
        'rooms_postgres dbname=app; rooms_approvals postgres;\nrooms_outbox off;\n', location(SOCKET))
tap.add("rooms_approvals_api without rooms_approvals: refused", refused, "rooms_approvals_api", "rooms_approvals postgres", "",
        "location /x {\nrooms_approvals_api;\n}")
for form in ("= /x", "~ ^/x", "@x"):
    tap.add(f"rooms_approvals_api in location {form}: refused", refused, "rooms_approvals_api", "must be a prefix", "",
            f"location {form} {{\nrooms_approvals_api;\n}}")


@tap.case("rooms_approvals, rooms_outbox, rooms_approvals_api and rooms_allow with questions: accepted")
def _():
    for words in ("postgres", "postgres timeout=1h warn=off", "postgres warn=5m,60s,500ms max=30d"):
        accepted(f"rooms_postgres dbname=app; rooms_approvals {words};",
                 "location /x { rooms_approvals_api; location /x/y { return 200; } }"
                 + location(f"""{SOCKET} rooms_allow session:* "sql=select 1 where $rooms_room_id = ${{rooms_user}} -- why"
                                cache=0; rooms_allow user:* request=/a/$rooms_room?b=$arg_c cache=1m;""".replace("/x", "/z")))
    accepted("rooms_postgres dbname=app; rooms_outbox off;", location(SOCKET))
    accepted("rooms_redis unix:/r.sock; rooms_approvals redis;", location(SOCKET))


ONCE = ["rooms", "rooms_echo", "rooms_publish", "rooms_status", "rooms_jwt_token $arg_t", "rooms_jwt_issuer i",
        "rooms_jwt_audience a", "rooms_jwt_leeway 1s", "rooms_jwt_max_age 1h", "rooms_jwt_require exp", "rooms_jwt_exp_unit s",
        "rooms_jwt_user_claim sub", "rooms_jwt_rooms_claim rooms", "rooms_auth_failure close", "rooms_allow session:*",
        "rooms_join session:1", "rooms_origin any", "rooms_heartbeat 30s", "rooms_max_message 64k", "rooms_max_rooms 1",
        "rooms_rate 60/10s", "rooms_send_queue 1m", "rooms_max_connections 5", "rooms_compression on", "rooms_drain 3s",
        "rooms_access_log end"]
for line in ONCE:
    tap.add(f"{line.split()[0]} twice in one place: refused", refused, line.split()[0], "is duplicate", "",
            location(f"{KEY}\n{line};\n{line};"))
for line in ("rooms_zone a:1m", "rooms_history session:* size=1", "rooms_claim $t tenantId", "rooms_redis unix:/r.sock",
             "rooms_postgres dbname=app", "rooms_approvals redis", "rooms_outbox off"):
    tap.add(f"{line.split()[0]} twice: refused", refused, line.split()[0], "is duplicate", f"\n{line};\n{line};\n")

HANDLERS = ["rooms", "rooms_echo", "rooms_publish", "rooms_status"]     # of an exact location
for first, second in zip(HANDLERS, HANDLERS[1:] + HANDLERS[:1]):
    tap.add(f"{first} and {second} in one location: refused", refused, second, "another handler of rooms", "",
            location(f"{first};\n{second};\n{KEY}"))
for name in HANDLERS:
    for other in ("proxy_pass http://127.0.0.1:1", "empty_gif"):
        tap.add(f"{name}, then {other.split()[0]} in one location: refused", refused, f'"{name}"', "handler of another module", "",
                location(f"{KEY}\n{name};\n{other};"), at=f"{name};")
        tap.add(f"{other.split()[0]}, then {name} in one location: refused", refused, f'"{name}"', "handler of another module", "",
                location(f"{KEY}\n{other};\n{name};"), at=f"{name};")
for name in HANDLERS:
    tap.add(f"{name} outside of a location: refused", refused, name, "not allowed here", "", "", f"\n{name};\n")
for line in ("rooms_zone a:1m", "rooms_history session:* size=1", "rooms_claim $t tenantId", "rooms_redis unix:/r.sock",
             "rooms_postgres dbname=app", "rooms_approvals redis", "rooms_outbox off"):
    tap.add(f"{line.split()[0]} in a server: refused", refused, line.split()[0], "not allowed here", "", "", f"\n{line};\n")

tap.add("rooms without any key: refused, and rooms_jwt_key is named", refused, '"rooms"', "rooms_jwt_key", "",
        location("\nrooms;\nrooms_allow session:*;"), "", "rooms;")
tap.add("two keys of the same kid and algorithm: refused", refused, "rooms_jwt_key", "kid", "",
        location("rooms;\nrooms_jwt_key HS256 @DIR@/secret kid=a;\nrooms_jwt_key HS256 @DIR@/open kid=a;"))
tap.add("an upper-case letter in $rooms_claim_…, in any directive: refused, and rooms_claim is named", refused,
        "rooms_claim_tenantId", r"rooms_claim \$NAME tenantId;", "\nlog_format x '$status $rooms_claim_tenantId';\n",
        location(SOCKET), "", "log_format")


@tap.case("the same in a comment is none of our business")
def _():
    accepted("# $rooms_claim_tenantId\nlog_format x '$status';  # ${rooms_claim_tenantId}\n", location(SOCKET))


@tap.case("a variable that is declared only further down is known to rooms_allow")
def _():
    accepted("", location(f"{SOCKET} rooms_allow tenant:$later; rooms_allow user:$mine;")
             + "location = /y { set $later x; set $mine y; }")


@tap.case("a handler of another module in an if or limit_except of our location: accepted")
def _():
    for name in HANDLERS:
        for block in ("if ($arg_a)", "limit_except GET"):
            for pass_ in ("proxy_pass http://127.0.0.1:1;", "deny all;" if "limit" in block else "return 403;", ""):
                accepted("", location(f"{KEY} {name}; {block} {{ {pass_} }}"))
        accepted("", location(f"{KEY} {name}; if ($arg_a) {{ set $a b; }} if ($arg_b) {{ set $a c; }} "
                              "limit_except GET { deny all; }"))


@tap.case("rooms without rooms_allow, all levels mixed, a repeat of the parent's directive: accepted")
def _():
    accepted("rooms_claim $tenant tenantId;\nrooms_history session:* size=0;\nrooms_zone z:1m;\n"
             f"{KEY} rooms_rate 1/1s; rooms_allow tenant:$tenant; rooms_origin any;",
             location("rooms; rooms_rate 2/1s; rooms_join tenant:$tenant; "
                      "rooms_origin https://a.example ~^https://[a-z]+\\.example$;")
             + "location = /y { rooms; rooms_max_connections 5 per=$rooms_user; rooms_max_connections 50; }"
             + "location = /z { rooms_publish secret=@DIR@/backend from=10.0.0.0/8 from=::1 from=unix:; }",
             "rooms_rate 3/1s;")


@tap.case("S58: a secret is what a file holds: its text in place of the name of a file is refused")
def _():
    text = "a-secret-that-somebody-wrote-into-the-configuration"
    for directive in (f"rooms_jwt_key HS256 {text};", f"rooms_publish secret={text};", f"rooms_approvals_api secret={text};"):
        code, said = server.test_config(http="rooms_postgres dbname=app; rooms_approvals postgres;", locations=f"location /x {{\n{directive}\n}}")
        tap.is_(code, 1, "exit code")
        tap.like(said, "No such file", directive.split()[0])


@tap.case("S58: a file with a secret that others may read is warned about, with its name and what to do")
def _():
    said = accepted("", location("rooms; rooms_jwt_key HS256 @DIR@/open;"))
    tap.like(said, r'\[warn\].*"rooms_jwt_key".*/open".*chmod 0640')
    os.chmod(server.path("backend"), 0o604)
    said = accepted("", location("rooms_publish secret=@DIR@/backend;"))
    tap.like(said, r'\[warn\].*"rooms_publish".*/backend".*chmod 0640')
    os.chmod(server.path("backend"), 0o640)
    tap.unlike(accepted("", location("rooms_publish secret=@DIR@/backend;")), "warn")
    os.chmod(server.path("password"), 0o644)
    said = accepted("rooms_redis unix:/r.sock password_file=@DIR@/password;")
    tap.like(said, r'\[warn\].*"rooms_redis".*/password".*chmod 0640')
    os.chmod(server.path("password"), 0o600)
    tap.unlike(accepted("rooms_redis unix:/r.sock password_file=@DIR@/password;"), "warn")
    os.chmod(ec.public, 0o644)
    tap.unlike(accepted("", location(f"rooms; rooms_jwt_key ES256 {ec.public};")), "warn")


@tap.case("rooms_redis of every kind, with all that may stand behind the URL: accepted")
def _():
    for line in ("redis://127.0.0.1", "redis://localhost:6380/2 prefix=App-1_x.y:z", "redis://us%65r:p%40ss@[::1]:6379/0",
                 "redis://:password@127.0.0.1 user=rooms db=3", "unix:/run/redis.sock user=rooms password_file=@DIR@/password db=3",
                 "rediss://127.0.0.1", "rediss://localhost ca=@DIR@/server.crt", "rediss://localhost ca=server.crt",
                 "sentinel://127.0.0.1,localhost:26380/my-master", "sentinel://u:p@127.0.0.1/m db=1 ca=@DIR@/server.crt",
                 "cluster://127.0.0.1:7000,127.0.0.1:7001 ca=@DIR@/server.crt"):
        tap.unlike(accepted(f"rooms_redis {line};"), r"\[(warn|error|alert)\]")


@tap.case("rooms_postgres in every form: accepted")
def _():
    for line in ("dbname=app", '"host=/run/postgresql dbname=app user=rooms"', "postgresql:///app", "postgres://localhost/app",
                 "postgresql://app:p%40ss@localhost:5433,127.0.0.1,[::1]:5434/app?sslmode=verify-full",
                 "\"host=localhost hostaddr=127.0.0.1 password='two words' options='-c work_mem=1MB' passfile=/nowhere\"",
                 '"host=db.invalid hostaddr=10.0.0.1 dbname=app"', '"target_session_attrs=any gssencmode=prefer"'):
        tap.unlike(accepted(f"rooms_postgres {line};"), r"\[(warn|error|alert)\]")


@tap.case("no message quotes a secret")
def _():
    for arguments, _right in POSTGRES:
        _, said = server.test_config(http=f"rooms_postgres {arguments};")
        tap.unlike(said, "XYZZY|PLUGH")
    for arguments, _right in REDIS:
        _, said = server.test_config(http=f"rooms_redis {arguments};")
        tap.unlike(said, "XYZZY|PLUGH|a password of Redis|another")
    for line in ("rooms_jwt_key HS256 @DIR@/short", "rooms_publish secret=@DIR@/three"):
        _, said = server.test_config(locations=location(line + ";"))
        tap.unlike(said, "too short\\b|a backend's secret")


@tap.case("a module that is loaded and not used makes no zone and changes nothing")
def _():
    tap.unlike(accepted(), r"\[(warn|alert)\]|zone")


tap.run()

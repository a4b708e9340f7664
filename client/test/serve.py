#!/usr/bin/python3
"""A real nginx with the module for the tests of this directory, steered by lines of JSON: one question, one answer each. It ends with
its standard input."""
import json
import os
import sys
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../../t/lib"))
from rooms import http, jwt, wait_until     # noqa: E402
from rooms.nginx import Nginx               # noqa: E402
from rooms.redis import Redis               # noqa: E402

SECRET = "of-32-bytes-at-least-for-the-publishers"
redis = Redis() if os.environ.get("CLIENT_BROKER") == "redis" else None
server = Nginx("""
    location = /ws      { rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_allow session:*; rooms_allow bare:*; rooms_drain 1s;
                          rooms_origin any; }
    location = /strict  { rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_allow session:*; rooms_rate 10/2s; rooms_origin any; }
    location = /publish { rooms_publish; }
    location = /secret  { rooms_publish secret=@DIR@/publishers; }
    location = /status  { rooms_status; }
""", http="rooms_history bare:* size=0 ttl=1s;" + (f"rooms_redis {redis.url};" if redis else ""),
               files={"secret": jwt.SECRET, "publishers": SECRET}, name="nginx", expect=[r"exited on signal 9"])


def kill_workers(_):
    for pid in server.workers():
        server.kill_worker(pid)


def members(room):
    return {entry["id"]: entry["clients"] for entry in http.get(server, "/status?rooms").json["rooms"]["list"]}.get(room, 0)


ACTIONS = {
    "where": lambda _: {"port": server.port, "secret": SECRET},
    "mint": lambda claims: jwt.mint(**claims),
    "publish": lambda body: http.publish(server, body),
    "reload": lambda _: server.reload(),
    "kill_workers": kill_workers,
    "restart_redis": lambda _: redis.restart(),
    "members": members,
    "status": lambda _: http.status(server),
}

for line in sys.stdin:
    name, argument = json.loads(line)
    try:
        answer = {"value": ACTIONS[name](argument)}
    except Exception as error:      # pylint: disable=broad-except
        answer = {"error": f"{name}: {error!r}"}
    print(json.dumps(answer, default=repr), flush=True)
problems = server.stop()
if redis:
    redis.stop()
if problems:
    print(problems, file=sys.stderr)
sys.exit(1 if problems else 0)

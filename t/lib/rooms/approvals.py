# Approvals in Postgres, as tests need them: a database with the migrations, an nginx on it, a backend that speaks the
# HTTP API, and pages that watch a session.
import itertools
import json
import os
import subprocess
from urllib.parse import quote

from . import ROOT, SCALE, http, jwt, wait_until
from .nginx import Nginx
from .page import open_page

# A server at home: an instant written or read without its zone is five hours wrong.
OPTIONS = "timezone = 'America/New_York'\nmax_connections = 100\n"
LOCATIONS = """
    location = /ws      { rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_allow *; rooms_rate 5000/10s; }
    location = /publish { rooms_publish; }
    location = /status  { rooms_status; }
    location /approvals { rooms_approvals_api; client_max_body_size 4m; }
"""
_ids = itertools.count(1)


def migrate(pg, database="postgres", *to):
    done = subprocess.run([os.path.join(ROOT, "migrations/migrate"), pg.conninfo(dbname=database), *to], capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def approvals_host(pg, approvals="rooms_approvals postgres timeout=15m warn=off;", *, http="", locations=LOCATIONS, files=None,
                   user="postgres", database="postgres", **options):
    """An Nginx whose workers are connected."""
    server = Nginx(locations, http=f'rooms_postgres "{pg.conninfo(user=user, dbname=database)}"; {approvals} {http}',
                   files={"secret": jwt.SECRET, **(files or {})}, **options)
    return connected(server)


def connected(server):
    wait_until(lambda: http.status(server)["postgres"]["up"], f"{server.name} to have its database")
    return server


def ask(server, method="GET", path="", body=None, expect=None, headers=(), base="/approvals", **options):
    """The Response; with expect, its JSON, once its status is that."""
    text = body if body is None or isinstance(body, (str, bytes)) else json.dumps(body)
    fields = list(headers.items()) if isinstance(headers, dict) else list(headers)
    if text is not None and "content-type" not in {name.lower() for name, _ in fields}:
        fields.append(("Content-Type", "application/json"))
    response = http.request(server, method, base + path, fields, b"" if text is None else text, **options)
    if expect is None:
        return response
    assert response.status == expect, f"{method} {path} {body!r}: expected {expect}, got {response!r}"
    return response.json


def create(server, session, expect=201, **fields):
    return ask(server, "POST", "", {"sessionId": session, "action": "deploy", **fields}, expect)


def act(server, id_, verb, expect=200, **fields):
    """resolve, extend, cancel"""
    return ask(server, "POST", f"/{quote(id_, safe='')}/{verb}", fields, expect)


def new_session(session, tenant="t1"):
    """A row of hitl_sessions; session: a psql. Returns its id."""
    id_ = f"s{next(_ids)}"
    session(f"insert into hitl_sessions (id, tenant_id) values ('{id_}', {'null' if tenant is None else repr(tenant)})")
    return id_


def insert(session, of, deadline=None, id_=None, action="deploy"):
    """As the platform does it. deadline: SQL behind clock_timestamp() +, or None: the columns of before."""
    id_ = id_ or f"a{next(_ids)}"
    more = ("", "") if deadline is None else (", expires_at", f", clock_timestamp() + interval '{deadline}'")
    session(f"insert into hitl_approvals (id, session_id, action{more[0]}) values ('{id_}', '{of}', '{action}'{more[1]})")
    return id_


def row(session, id_, columns="status"):
    got = session(f"select {columns} from hitl_approvals where id = '{id_}'")[0]
    return got[0] if len(got) == 1 else got


class Watch:
    """A page of the session on each worker of each of these hosts: every event must come to all of them, once."""

    def __init__(self, session, *servers):
        self.room = f"session:{session}"
        self.pages = [open_page(server, self.room, worker=pid) for server in servers for pid in server.workers()]

    def expect(self, timeout=None, **fields):
        """The next event, the same for all."""
        got = [page.expect(timeout, room=self.room, **fields) for page in self.pages]
        assert all(one == got[0] for one in got), got
        return got[0]

    def nothing(self):
        for page in self.pages:
            page.expect_nothing()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for page in self.pages:
            page.wire.close()


def latest(ms):
    """The bound of a lateness in a test on a busy machine."""
    return ms * SCALE

#!/usr/bin/python3
"""The SQL of migrations/: what it does to the platform's tables, to the statements of a backend that knows nothing
of it, and what nginx' own functions promise."""
import glob
import itertools
import json
import os
import random
import re
import subprocess
import sys
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import ROOT, SCALE, tap                                # noqa: E402
from rooms.postgres import Postgres, SqlError, programs           # noqa: E402

pg = Postgres(options="""timezone = 'America/New_York'
shared_buffers = 128MB
max_wal_size = 4GB
autovacuum = off""")
PSQL = os.path.join(programs(), "psql")
UP = sorted(glob.glob(f"{ROOT}/migrations/*.up.sql"))
DOWN = sorted(glob.glob(f"{ROOT}/migrations/*.down.sql"), reverse=True)
PAGE = open(f"{ROOT}/docs/postgres.md", encoding="utf-8").read()

OLD = """
create table hitl_sessions (
    id text primary key, tenant_id text, user_id text, state text default 'draft', progress_percent integer default 0,
    spec_card jsonb, created_at timestamp default now(), updated_at timestamp default now());
create table hitl_messages (
    id text primary key, session_id text references hitl_sessions (id), role text not null, content text not null,
    message_type text default 'text', created_at timestamp default now());
create table hitl_approvals (
    id text primary key, session_id text not null references hitl_sessions (id), action text not null, context jsonb,
    status text default 'pending' check (status in ('pending', 'approved', 'rejected')),
    approved_by text, ip_address text, created_at timestamp default now());
create table hitl_events (
    id text primary key, session_id text references hitl_sessions (id), event_type text not null, payload jsonb,
    created_at timestamp default now());
insert into hitl_sessions (id, tenant_id, spec_card) values ('s1', 't1', '{"n": 1.10}'), ('s2', 't2', null);
insert into hitl_messages (id, session_id, role, content) values ('m1', 's1', 'user', E'gr\\u00fc\\u00dfe\\n');
insert into hitl_approvals (id, session_id, action, context, status, approved_by, ip_address, created_at) values
    ('p1', 's1', 'deploy', '{"a": 1.10, "b": [1, null]}', 'pending', null, null, '2020-01-01 00:00:00'),
    ('p2', 's2', 'delete', null, 'pending', null, '10.0.0.1', '2020-03-08 02:30:00'),
    ('d1', 's1', 'deploy', '{}', 'approved', 'ann', '::1', '2020-01-01 00:00:00.123456'),
    ('d2', 's1', 'deploy', '{}', 'rejected', 'bob', null, '2020-01-01 00:00:00');
insert into hitl_events (id, session_id, event_type, payload) values ('e1', 's1', 'approval:approved', '{"x": 1}');
"""
LATER = """
create table hitl_sessions (
    id varchar(255) primary key, tenant_id varchar(255) not null, state varchar(50) not null default 'draft',
    progress_percent integer not null default 0, spec_card jsonb, created_at timestamp not null default now());
create table hitl_messages (
    id text primary key, session_id varchar(255) not null references hitl_sessions (id) on delete cascade on update cascade,
    role text not null, content text not null, message_type text, created_at timestamp not null default now());
create table hitl_approvals (
    id varchar(255) primary key,
    session_id varchar(255) not null references hitl_sessions (id) on delete cascade on update cascade,
    tenant_id varchar(255) not null, action varchar(100) not null, context jsonb default '{}',
    status varchar(20) not null default 'pending' check (status in ('pending', 'approved', 'rejected')),
    approved_by text, ip_address text, approval_type varchar(50), approval_data jsonb, user_agent text,
    created_at timestamp not null default current_timestamp);
create index hitl_approvals_status on hitl_approvals (status);
create table hitl_events (
    id text primary key, session_id varchar(255) not null references hitl_sessions (id) on delete cascade on update cascade,
    tenant_id text not null, event_type text not null, payload jsonb not null default '{}',
    created_at timestamp not null default now());
insert into hitl_sessions (id, tenant_id) values ('s1', 't1'), ('s2', 't2');
insert into hitl_messages (id, session_id, role, content) values ('m1', 's1', 'user', 'x');
insert into hitl_approvals (id, session_id, tenant_id, action, status, approval_type, approval_data) values
    ('p1', 's1', 't1', 'deploy', 'pending', 'risk', '{"z": 1e400}'), ('p2', 's2', 't2', 'delete', 'pending', null, null),
    ('d1', 's1', 't1', 'deploy', 'approved', null, null), ('d2', 's1', 't1', 'deploy', 'rejected', null, null);
insert into hitl_events (id, session_id, tenant_id, event_type) values ('e1', 's1', 't1', 'approval:approved');
"""
VARIANTS = {"an older platform": OLD, "a later platform": LATER}
TABLES = ("hitl_sessions", "hitl_messages", "hitl_approvals", "hitl_events")

names = itertools.count(1)
ids = itertools.count(1)
boss = pg.session()


def database(setup="", migrated=True):
    """A database of its own: {setup} run in it, then migrated."""
    name = f"d{next(names)}"
    boss(f"create database {name}")
    if setup:
        pg.sql(setup, database=name)
    if migrated:
        migrate(name)
    return name


def migrate(name, *to, options="", expect=0):
    done = subprocess.run([f"{ROOT}/migrations/migrate", pg.conninfo(dbname=name, options=options), *to], capture_output=True,
                          text=True, cwd="/", check=False)
    tap.is_(done.returncode != 0, expect != 0, f"exit code {done.returncode}; {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def by_hand(name, files):
    for file in files:
        done = subprocess.run([PSQL, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", file, pg.conninfo(dbname=name)], capture_output=True,
                              text=True, check=False)
        tap.is_((done.returncode, done.stdout + done.stderr), (0, ""), os.path.basename(file))


def refused(code, session, text):
    try:
        session(text)
    except SqlError as error:
        tap.is_(error.code, code, str(error))
        return str(error)
    return tap.fail(f"was taken, not refused with {code}: {text}")


def one(session, text):
    rows = session(text)
    tap.is_(len(rows), 1, "rows")
    return rows[0][0] if len(rows[0]) == 1 else rows[0]


def columns(session):
    return {table: [row[0] for row in session(f"select attname from pg_attribute where attrelid = '{table}'::regclass "
                                              "and attnum > 0 and not attisdropped order by attnum")] for table in TABLES}


def contents(session, of):
    """Every row of the platform's tables, in the columns {of}, as the server writes them."""
    return {table: session(f"select row({', '.join(of[table])})::text from {table} order by id") for table in TABLES}


def approval(session, deadline="1 hour", count=1, **more):
    """Inserts as the platform would, with a deadline relative to now; None: without one. The id, or the list of them."""
    made = [f"a{next(ids)}" for _ in range(count)]
    fields = {"session_id": "'s1'", "action": "'deploy'", **({"tenant_id": "'t1'"} if session.later else {}), **more}
    if deadline is not None:
        fields["expires_at"] = f"clock_timestamp() + interval '{deadline}'"
    session(f"insert into hitl_approvals (id, {', '.join(fields)}) values " +
            ", ".join(f"('{id_}', {', '.join(fields.values())})" for id_ in made))
    return made if count > 1 else made[0]


def told(session, id_):
    return [dict(json.loads(data), type=kind, room=room) for room, kind, data in session(
        f"select room, type, data from rooms_outbox where data ->> 'approvalId' = '{id_}' order by id")]


def recorded(session, id_):
    return [row[0] for row in session(f"select event_type from hitl_events where payload ->> 'approvalId' = '{id_}' order by created_at")]


def row(session, id_, what="status"):
    return one(session, f"select {what} from hitl_approvals where id = '{id_}'")


def opened(name, **where):
    session = pg.session(dbname=name, **where)
    session.later = bool(session("select 1 from pg_attribute where attrelid = 'hitl_approvals'::regclass and attname = 'tenant_id'"))
    return session


def sweep(session, most=200, report="false"):
    names_ = ("expired", "more", "next_ms", "outbox", "pending", "outbox_depth", "outbox_age_ms")
    values = one(session, f"select {', '.join(names_)} from rooms_sweep({most}, {report})")
    return {name: value == "t" if name in ("more", "outbox") else value and int(value) for name, value in zip(names_, values)}


def block(what):
    found = re.findall(rf"^```sql {what}\n(.*?)^```", PAGE, re.M | re.S)
    tap.is_(len(found), 1, f"blocks of {what} in docs/postgres.md")
    return found[0]


# --- up and down

def applied(what, setup):
    """Once, twice, down and up again, by the ways of applying; nothing is lost."""
    name = database(setup, migrated=False)
    with pg.session(dbname=name) as session:
        if setup:
            of = columns(session)
            before = contents(session, of)
            old_check = session("select conname, pg_get_constraintdef(oid) from pg_constraint where contype = 'c' and conname like '%status%'")
        start = time.time() * 1000
        if what == "by hand":
            by_hand(name, UP)
            by_hand(name, UP)
        elif what == "make":
            for _ in range(2):
                done = subprocess.run(["make", "-s", "migrate", f"DATABASE=postgresql:///{name}?host={pg.dir}&port={pg.port}&user=postgres"], cwd=ROOT, capture_output=True, text=True, check=False)
                tap.is_(done.returncode, 0, done.stdout + done.stderr)
            tap.is_(done.stdout, "migrate: nothing to do\n", "the second time")
        else:
            tap.is_(len(migrate(name).splitlines()), 6, "applied")
            by_hand(name, UP)
            tap.is_(migrate(name), "migrate: nothing to do\n")
        tap.is_(len(session("select 1 from rooms_migrations")), 6, "recorded")
        if not setup:
            session("insert into hitl_sessions (id, tenant_id) values ('s1', 't1')")
            session("insert into hitl_approvals (id, session_id, tenant_id, action) values ('p1', 's1', 't1', 'deploy')")
            of = columns(session)
            of["hitl_approvals"] = [c for c in of["hitl_approvals"] if c not in ("expires_at", "resolved_at", "warn_at")]
            before = contents(session, of)
            old_check = [["hitl_approvals_status_check", "CHECK ((status = ANY (ARRAY['pending'::text, 'approved'::text, 'rejected'::text])))"]]
        tap.is_(contents(session, of), before, "the old columns")
        tap.is_(session("select id from hitl_approvals where status <> 'pending' and (expires_at is not null or resolved_at is not null or warn_at is not null)"),
                [], "decided rows with something in the new columns")
        for id_, deadline, warn in session("select id, rooms_ms(expires_at), rooms_ms(warn_at) from hitl_approvals where status = 'pending'"):
            tap.ok(start - 1000 <= int(deadline) - 900000 <= time.time() * 1000 + 1000, f"{id_}: migration + 15 minutes")
            tap.is_(int(warn), int(deadline) - 60000, "its warning")
        tap.is_(session("select room from rooms_outbox"), [], "told")

        # Valid where it can be, and not where it cannot.
        for ends in ((), ("timeout", "cancelled")):
            if ends:
                session("update hitl_approvals set expires_at = now() where id = 'p1'")
                session("update hitl_approvals set status = 'timeout' where id = 'p1'")
                session("delete from rooms_outbox")
                before = contents(session, of)
            migrate(name, "0004")
            tap.is_(contents(session, of), before, "the old columns at 0004")
            if what == "by hand":
                by_hand(name, [file for file in DOWN if "0005" > os.path.basename(file)])
                by_hand(name, DOWN)
            else:
                migrate(name, "0000")
            tap.is_(contents(session, of), before, "the old columns after the way down")
            if setup:
                tap.is_(columns(session), of, "the columns")
            check = session("select conname, pg_get_constraintdef(oid) from pg_constraint where contype = 'c' and conname like '%status%'")
            tap.is_(check, [[n, d + (" NOT VALID" if ends else "")] for n, d in old_check], "the check")
            tap.is_(session("select relname from pg_class where relname ~ 'rooms' union all select proname from pg_proc where proname ~ '^rooms_'"), [], "left behind")
            tap.is_(session("select tgname from pg_trigger where not tgisinternal"), [], "triggers left behind")
            refused("23514", session, "insert into hitl_approvals select * from jsonb_populate_record(null::hitl_approvals, "
                                      "(select to_jsonb(a) || '{\"id\": \"new\", \"status\": \"timeout\"}' from hitl_approvals a where id = 'p1'))")
            migrate(name)
            tap.is_(contents(session, of), before, "the old columns, up again")
            tap.is_(session("select convalidated from pg_constraint where conname = 'hitl_approvals_status_check'"), [["t"]], "the new check is valid")


for variant, tables, ways in (("an older platform", OLD, ("by hand", "make")), ("a later platform", LATER, ("by hand", "make")),
                              ("an empty database", "", ("migrate",))):
    for way in ways:
        tap.add(f"R11: {variant}, {way}: applied twice, down and up again, every row is kept and those that wait get their time",
                applied, way, tables)


@tap.case("three at once bring an empty database to the newest")
def _():
    name = database(migrated=False)
    all_ = [subprocess.Popen([f"{ROOT}/migrations/migrate", pg.conninfo(dbname=name)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(3)]
    for process in all_:
        out = process.communicate()[0]
        tap.is_(process.returncode, 0, out)
    tap.is_(len(pg.sql("select 1 from rooms_migrations", database=name)), 6, "recorded")


@tap.case("a database that cannot be reached, or a wrong number, is an error, on the way down too")
def _():
    for to in ((), ("0000",)):
        done = subprocess.run([f"{ROOT}/migrations/migrate", "host=/nowhere", *to], capture_output=True, text=True, check=False)
        tap.isnt(done.returncode, 0, f"exit code {to}")
        tap.unlike(done.stdout, "nothing to do", "what it says")
    tap.like(migrate("postgres", "4", expect=1), "not a number of four digits")


@tap.case("down refuses while the outbox has rows, refused ones too, and goes on when it has none")
def _():
    name = database(OLD)
    with pg.session(dbname=name) as session:
        session("update hitl_approvals set status = 'approved' where id = 'p1'; update rooms_outbox set refused = 'x'")
        tap.like(migrate(name, "0000", expect=1), "rooms_outbox is not empty")
        tap.is_(len(session("select 1 from rooms_outbox")), 1, "rows")
        tap.is_(session("select max(name) from rooms_migrations"), [["0002_create_outbox"]], "newest")
        session("delete from rooms_outbox")
        tap.is_(len(migrate(name, "0000").splitlines()), 2, "taken back")
        session("insert into hitl_approvals (id, session_id, action) values ('plain', 's1', 'x')")


@tap.case("tables in a schema that is not public get everything beside them, wherever else the role looks first")
def _():
    for path in ("swarm", "other,swarm"):
        name = database("create schema swarm; create schema other; set search_path = swarm;" + LATER, migrated=False)
        migrate(name, options=f"-c search_path={path}")
        with pg.session(dbname=name) as session:
            tap.is_(session("select distinct nspname from pg_class c join pg_namespace n on n.oid = relnamespace where relname ~ '^rooms_' "
                            "union select nspname from pg_proc join pg_namespace n on n.oid = pronamespace where proname ~ '^rooms_'"), [["swarm"]], "schemas")
            session("update swarm.hitl_approvals set status = 'approved' where id = 'p1'")
            tap.is_(len(session("select 1 from swarm.rooms_outbox")), 1, "told")
            tap.is_(session("select outcome from swarm.rooms_create_approval('x', 's1', 't1', 'a', null, 60, null)"), [["created"]])
            tap.is_(session("select expired from swarm.rooms_sweep(10, true)"), [["0"]])
            session("delete from swarm.rooms_outbox")
        migrate(name, "0000", options=f"-c search_path={path}")
        tap.is_(len(pg.sql("select 1 from swarm.hitl_approvals", database=name)), 5, "rows")


@tap.case("R11: a column expires_at of the platform is read as UTC, keeps its deadlines except those that have passed, and stays on the way down")
def _():
    name = database(OLD + "alter table hitl_approvals add column expires_at timestamp;"
                    "update hitl_approvals set expires_at = '2040-07-01 12:00:00' where id in ('p1', 'd1');"
                    "update hitl_approvals set expires_at = '2020-01-01 00:00:00' where id in ('p2', 'd2')")
    with pg.session(dbname=name) as session:
        far, passed = "2040-07-01T12:00:00+00:00", "2020-01-01T00:00:00+00:00"
        session("set timezone = 'UTC'")

        def deadlines():
            return dict(session("select id, to_json(expires_at) #>> '{}' from hitl_approvals"))
        got = deadlines()
        tap.is_((got["p1"], got["d1"], got["d2"]), (far, far, passed))
        tap.is_(session("select abs(extract(epoch from expires_at - now() - interval '15 minutes')) < 20 from hitl_approvals where id = 'p2'"), [["t"]], "p2 begins anew")
        session("update hitl_approvals set expires_at = now() - interval '1 second' where id = 'p2'")
        late = deadlines()["p2"]
        by_hand(name, UP)
        tap.is_(deadlines()["p2"], late, "overdue, applied again")
        session("delete from rooms_outbox")
        migrate(name, "0000")
        tap.is_(deadlines(), dict(got, p2=late), "after the way down")
        tap.is_(session("select attname from pg_attribute where attrelid = 'hitl_approvals'::regclass and attname in ('warn_at', 'resolved_at')"), [], "ours")


@tap.case("what is inserted between 0004 and 0005 gets its time from 0005")
def _():
    name = database(OLD, migrated=False)
    migrate(name, "0004")
    pg.sql("insert into hitl_approvals (id, session_id, action) values ('between', 's1', 'x')", database=name)
    migrate(name)
    with pg.session(dbname=name) as session:
        tap.is_(session("select expires_at - interval '60 seconds' = warn_at from hitl_approvals where id = 'between'"), [["t"]])
        tap.is_(session("select 1 from rooms_outbox"), [], "told")


@tap.case("a check of another name is found; one that knows timeout and cancelled already is left alone, down too")
def _():
    named = OLD.replace("default 'pending' check", "default 'pending' constraint chk_status check")
    with pg.session(dbname=database(named)) as session:
        tap.is_(session("select conname from pg_constraint where contype = 'c' and conrelid = 'hitl_approvals'::regclass"), [["hitl_approvals_status_check"]])
    own = OLD.replace("('pending', 'approved', 'rejected')", "('pending', 'approved', 'rejected', 'timeout', 'cancelled', 'mine')")
    name = database(own)
    migrate(name, "0000")
    with pg.session(dbname=name) as session:
        tap.like(one(session, "select pg_get_constraintdef(oid) from pg_constraint where conname = 'hitl_approvals_status_check'"), "'mine'")


# --- the statements of a backend, on both variants

living = {}


def both(name):
    """A case that runs on the tables of either variant, which it finds as they were at first: function(session)."""
    def register(function):
        for variant_, tables_ in VARIANTS.items():
            def run(tables_=tables_):
                if tables_ not in living:
                    living[tables_] = database(tables_)
                with opened(living[tables_]) as session:
                    session.name = living[tables_]
                    for trigger, in session("select tgname from pg_trigger where not tgisinternal and tgname !~ '^rooms_'"):
                        session(f"drop trigger {trigger} on hitl_approvals")
                    session(f"truncate {', '.join(TABLES)}, rooms_outbox, rooms_approval_timeouts cascade; select rooms_configure(900, '{{60}}', 86400)")
                    session(tables_[tables_.index("insert into"):])
                    function(session)
            tap.add(f"{variant_}: {name}", run)
        return function
    return register


@both("a plain decision in time is recorded with its moment, an event for the pages and a row in hitl_events; the next one is RM409")
def _(session):
    id_ = approval(session)
    session(f"update hitl_approvals set status = 'approved', approved_by = 'ann' where id = '{id_}'")
    tap.is_(row(session, id_, "status, approved_by, abs(extract(epoch from resolved_at - clock_timestamp())) < 5, warn_at is null"),
            ["approved", "ann", "t", "t"])
    event = told(session, id_)
    tap.is_(len(event), 1, "told")
    resolved, deadline = (int(n) for n in row(session, id_, "rooms_ms(resolved_at), rooms_ms(expires_at)"))
    tap.is_(event[0], {"type": "approval:resolved", "room": "session:s1", "id": f"approval:{id_}:approved", "approvalId": id_,
                       "action": "deploy", "status": "approved", "resolvedBy": "ann", "resolvedAt": resolved, "expiresAt": deadline})
    tap.is_(recorded(session, id_), ["approval:approved"])
    tap.ok(abs(float(one(session, "select max(extract(epoch from created_at - (now() at time zone 'UTC'))) from hitl_events where event_type = 'approval:approved' and id <> 'e1'"))) < 5,
           "hitl_events.created_at is UTC")
    for status in ("rejected", "pending", "timeout", "cancelled"):
        tap.like(refused("RM409", session, f"update hitl_approvals set status = '{status}' where id = '{id_}'"), "is approved already")
    session(f"update hitl_approvals set status = 'approved', approved_by = 'eve' where id = '{id_}'")
    tap.is_(row(session, id_, "status, approved_by"), ["approved", "eve"], "the same status again passes")
    tap.is_(len(told(session, id_)), 1, "told")


@both("a decision at or after the deadline is RM410, a timeout before it is RM425, and both leave the row as it was")
def _(session):
    late, early = approval(session, "-1 millisecond"), approval(session)
    for status in ("approved", "rejected", "cancelled"):
        refused("RM410", session, f"update hitl_approvals set status = '{status}' where id = '{late}'")
    refused("RM425", session, f"update hitl_approvals set status = 'timeout' where id = '{early}'")
    refused("23514", session, f"update hitl_approvals set status = 'expired' where id = '{early}'")
    tap.is_((row(session, late), row(session, early), told(session, late), told(session, early)), ("pending", "pending", [], []))
    session(f"update hitl_approvals set status = 'timeout' where id = '{late}'")
    event = told(session, late)[0]
    tap.is_((event["status"], event["resolvedBy"], event["id"]), ("timeout", None, f"approval:{late}:timeout"))
    tap.ok(1 <= event["lateMs"] < 5000, f"lateMs {event['lateMs']}")
    tap.is_(recorded(session, late), ["approval:timeout"])


@both("a decision and a new deadline in one UPDATE are judged by the old deadline")
def _(session):
    late, early = approval(session, "-1 second"), approval(session)
    before = row(session, early, "expires_at")
    refused("RM410", session, f"update hitl_approvals set status = 'approved', expires_at = now() + interval '1 day' where id = '{late}'")
    session(f"update hitl_approvals set status = 'approved', expires_at = now() - interval '1 day' where id = '{early}'")
    tap.is_(row(session, early, "status, expires_at"), ["approved", before])
    refused("RM425", session, f"update hitl_approvals set status = 'timeout', expires_at = now() - interval '1 day' where id = '{approval(session)}'")


@both("the deadline of one that is overdue cannot be moved, though no sweep has come by: RM410; other columns of it may change")
def _(session):
    late = approval(session, "-1 millisecond")
    before = row(session, late, "expires_at, warn_at")
    for when in ("clock_timestamp() + interval '1 day'", "expires_at + interval '1 microsecond'", "expires_at - interval '1 day'", "'infinity'", "'-infinity'"):
        refused("RM410", session, f"update hitl_approvals set expires_at = {when} where id = '{late}'")
        refused("RM410", session, f"update hitl_approvals set expires_at = {when}, status = 'pending', action = 'other' where id = '{late}'")
    session(f"update hitl_approvals set expires_at = expires_at, action = 'kept' where id = '{late}'")
    session(f"update hitl_approvals set expires_at = null where id = '{late}'")
    tap.is_((row(session, late, "expires_at, warn_at"), row(session, late, "status, action"), told(session, late)), (before, ["pending", "kept"], []))
    tap.is_((sweep(session)["expired"], len(told(session, late))), (1, 1), "it ends")


@both("a status of null is refused, of one that waits, one that is overdue and one that has ended")
def _(session):
    for id_, status in ((approval(session), "pending"), (approval(session, "-1 second"), "pending"), (approval(session, status="'approved'"), "approved")):
        for more in ("", ", expires_at = clock_timestamp() + interval '1 day'"):
            refused("23502", session, f"update hitl_approvals set status = null{more} where id = '{id_}'")
        tap.is_((row(session, id_), told(session, id_)), (status, []))


@both("other columns may change at any time, and nobody is told")
def _(session):
    for id_ in (approval(session), approval(session, "-1 hour"), approval(session, status="'rejected'")):
        status = row(session, id_)
        session(f"update hitl_approvals set context = '{{\"n\": 2}}', ip_address = '::1', approved_by = 'x', action = 'other' where id = '{id_}'")
        tap.is_((row(session, id_), told(session, id_)), (status, []))


@both("rows that are inserted decided pass as they are, and tell nobody")
def _(session):
    for status in ("approved", "rejected", "timeout", "cancelled"):
        id_ = approval(session, None, status=f"'{status}'")
        tap.is_(row(session, id_, "status, expires_at, resolved_at"), [status, None, None])
        tap.is_((told(session, id_), recorded(session, id_)), ([], []))


@both("a whole table in one UPDATE: each row that waits ends once, all or none")
def _(session):
    made = approval(session, count=50)
    session("update hitl_approvals set status = 'rejected' where status = 'pending'")
    for id_ in made:
        tap.is_((len(told(session, id_)), recorded(session, id_)), (1, ["approval:rejected"]))
    open_ = approval(session)
    refused("RM409", session, "update hitl_approvals set status = 'approved'")
    tap.is_((row(session, open_), told(session, open_)), ("pending", []))


@both("what is rolled back, whole or to a savepoint, is told to nobody")
def _(session):
    id_ = approval(session)
    session(f"begin; update hitl_approvals set status = 'approved' where id = '{id_}'; rollback")
    session(f"begin; savepoint a; update hitl_approvals set status = 'approved' where id = '{id_}'; rollback to a; "
            f"update hitl_approvals set status = 'rejected' where id = '{id_}'; commit")
    tap.is_(([event["status"] for event in told(session, id_)], recorded(session, id_)), (["rejected"], ["approval:rejected"]))


@both("insert on conflict, prepared statements, COPY and `returning` are judged and filled in as plain statements are")
def _(session):
    id_ = approval(session)
    tenant, t1 = ("tenant_id, ", "'t1', ") if session.later else ("", "")
    upsert = (f"insert into hitl_approvals (id, session_id, {tenant}action, status) values ('{{}}', 's1', {t1}'x', '{{}}') "
              "on conflict (id) do update set status = excluded.status")
    session(upsert.format(id_, "approved"))
    tap.is_((row(session, id_), len(told(session, id_))), ("approved", 1))
    refused("RM409", session, upsert.format(id_, "rejected"))
    refused("RM410", session, upsert.format(approval(session, "-1 second"), "approved"))
    session(f"deallocate all; prepare decide as update hitl_approvals set status = $1, approved_by = $2 where id = $3 returning resolved_at is not null")
    for _ in range(8):                      # beyond the fifth the plan is a generic one
        id_ = approval(session)
        tap.is_(session(f"execute decide('approved', 'u', '{id_}')"), [["t"]])
        refused("RM409", session, f"execute decide('rejected', 'u', '{id_}')")
    copied = ["c1\ts1\t" + ("t1\t" if session.later else "") + "x\tpending", "c2\ts1\t" + ("t1\t" if session.later else "") + "x\tapproved"]
    tap.is_(scripts(session.name, f"copy hitl_approvals (id, session_id, {tenant}action, status) from stdin;\n" + "\n".join(copied) + "\n\\.\n"), ["COPY 2\n"])
    tap.is_(session("select id, expires_at is not null, warn_at is not null from hitl_approvals where id in ('c1', 'c2') order by id"),
            [["c1", "t", "t"], ["c2", "f", "f"]])


@both("a moved deadline is told, nearer or further, with its warning; null does not take it away")
def _(session):
    id_ = approval(session, None)
    tap.is_(row(session, id_, "round(extract(epoch from expires_at - clock_timestamp()) / 60), expires_at - warn_at"), ["15", "00:01:00"])
    session(f"update hitl_approvals set expires_at = null where id = '{id_}'")
    tap.is_((row(session, id_, "expires_at is not null"), told(session, id_)), ("t", []))
    for n, move in enumerate(("2 hours", "5 minutes", "30 seconds"), 1):
        session(f"update hitl_approvals set expires_at = clock_timestamp() + interval '{move}' where id = '{id_}'")
        events = told(session, id_)
        deadline, warn = row(session, id_, "rooms_ms(expires_at), expires_at - warn_at")
        tap.is_((len(events), events[-1]["type"], events[-1]["expiresAt"]), (n, "approval:extended", int(deadline)), move)
        tap.is_(warn, None if move == "30 seconds" else "00:01:00", f"the warning {move} before the end")
    tap.is_(recorded(session, id_), [], "in hitl_events")


@both("a deadline of infinity waits for ever and stops nobody; one of -infinity is overdue")
def _(session):
    session("update hitl_approvals set status = 'approved' where status = 'pending'")
    for_ever, never = (approval(session, None, expires_at=f"'{when}'") for when in ("infinity", "-infinity"))
    got = sweep(session)
    tap.is_((got["expired"], got["next_ms"]), (1, None), "the sweep")
    tap.is_((row(session, never), told(session, never)[0]["lateMs"]), ("timeout", None))
    tap.is_(json.loads(one(session, f"select approval from rooms_get_approval('{for_ever}')"))["expiresAt"], None)
    session(f"update hitl_approvals set status = 'approved' where id = '{for_ever}'")
    tap.is_(told(session, for_ever)[0]["expiresAt"], None)


@both("an approval of a session whose id no room can have is decided, and told to nobody")
def _(session):
    session("insert into hitl_sessions (id, tenant_id) values ('a b', 't1')")
    id_ = approval(session, session_id="'a b'")
    session(f"update hitl_approvals set status = 'approved' where id = '{id_}'")
    tap.is_((told(session, id_), recorded(session, id_)), ([], ["approval:approved"]))


@tap.case("a session's id may change and a session may go, with approvals in every state")
def _():
    with opened(database(LATER)) as session:
        made = [approval(session), approval(session, "-1 second"), approval(session, status="'approved'")]
        session("update hitl_sessions set id = 's9' where id = 's1'")
        tap.is_([row(session, id_, "session_id") for id_ in made], ["s9"] * 3)
        session(f"update hitl_approvals set status = 'approved' where id = '{made[0]}'")
        tap.is_(told(session, made[0])[0]["room"], "session:s9")
        session("delete from hitl_sessions where id = 's9'")
        tap.is_(session("select id from hitl_approvals where session_id = 's9'"), [])
    nulls = OLD.replace("session_id text not null references hitl_sessions (id), action", "session_id text references hitl_sessions (id) on delete set null, action")
    nulls = nulls.replace("session_id text references hitl_sessions (id), event_type", "session_id text not null references hitl_sessions (id) on delete cascade, event_type")
    with opened(database(nulls)) as session:
        session("insert into hitl_sessions (id) values ('gone')")
        first, second = approval(session, session_id="'gone'", count=2)
        session("delete from hitl_sessions where id = 'gone'")
        session(f"update hitl_approvals set status = 'approved' where id = '{first}'")
        session(f"update hitl_approvals set expires_at = now() where id = '{second}'")
        tap.is_((sweep(session)["expired"], row(session, second)), (1, "timeout"), "the one without a session")


@both("timeouts: tenant and action before tenant before action before neither before nginx' own, from the next approval on")
def _(session):
    def minutes(tenant, action):
        own = {"tenant_id": f"'{tenant}'"} if session.later else {}
        id_ = approval(session, None, session_id="'s1'" if tenant == "t1" else "'s2'", action=f"'{action}'", **own)
        return float(row(session, id_, "round(extract(epoch from expires_at - clock_timestamp()) / 60)"))
    first = approval(session, None)
    before = row(session, first, "expires_at")
    wanted = {("t1", "x"): 15, ("t1", "y"): 15, ("t2", "x"): 15, ("t2", "y"): 15}
    for rule, of, value in (("defaults", wanted, 20), ("null, null, '30 minutes'", wanted, 30),
                            ("null, 'x', '40 minutes'", [("t1", "x"), ("t2", "x")], 40),
                            ("'t1', null, '50 minutes'", [("t1", "x"), ("t1", "y")], 50),
                            ("'t1', 'x', '60 minutes'", [("t1", "x")], 60)):
        session("select rooms_configure(1200, '{60}', 86400)" if rule == "defaults" else f"insert into rooms_approval_timeouts values ({rule})")
        wanted.update(dict.fromkeys(list(of), value))
        tap.is_({key: minutes(*key) for key in wanted}, wanted, f"after {rule}")
    tap.is_(row(session, first, "expires_at"), before, "the deadline of before")
    refused("23505", session, "insert into rooms_approval_timeouts values (null, 'x', '1 hour')")
    refused("23514", session, "insert into rooms_approval_timeouts values (null, 'z', '0')")


# --- rights

@both("a role that may only select, insert and update the platform's tables works as before, and nothing more")
def _(session):
    role = f"app_{session.name}"
    session(f"create role {role} login; grant select, insert, update on {', '.join(TABLES)} to {role}")
    with opened(session.name, user=role) as app:
        in_time, late, plain = approval(app), approval(app, "-1 second"), approval(app, None)
        app(f"update hitl_approvals set status = 'approved', approved_by = 'u' where id = '{in_time}'")
        refused("RM410", app, f"update hitl_approvals set status = 'approved' where id = '{late}'")
        app(f"update hitl_approvals set status = 'timeout' where id = '{late}'")
        app(f"update hitl_approvals set expires_at = expires_at + interval '1 minute' where id = '{plain}'")
        tap.is_([len(told(session, id_)) for id_ in (in_time, late, plain)], [1, 1, 1], "told")
        for text in ("select * from rooms_outbox", "insert into rooms_outbox (room, type) values ('session:s1', 'x')",
                     "delete from rooms_outbox", "select * from rooms_sweep(1, false)", "select * from rooms_take_outbox(1)",
                     "select rooms_finish_outbox('{1}', '{}', '{}')", "select rooms_configure(1, '{}', 1)",
                     "select from rooms_relay for update",
                     "select rooms_tell_session('s1', 'x', '{}')", "select * from rooms_get_approval('p1')",
                     "select * from rooms_create_approval('x', 's1', null, 'x', null, 1, null)",
                     "select * from rooms_resolve_approval('p1', 'approved', null)", "select rooms_warn_of('{p1}', now())",
                     "update rooms_approval_defaults set timeout = '1 s'", "insert into rooms_approval_timeouts values (null, null, '1 s')",
                     "alter table hitl_approvals disable trigger user", "set session_replication_role = replica"):
            refused("42501", app, text)
        session(f"grant insert (room, type, data) on rooms_outbox to {role}")
        app("insert into rooms_outbox (room, type, data) values ('session:s1', 'x', '{}')")
        refused("42501", app, "insert into rooms_outbox (room, type, created_at) values ('session:s1', 'x', 'infinity')")


@both("what a role puts before the tables and functions in its search path is never used for it")
def _(session):
    role = f"eve_{session.name}"
    session(f"create role {role} login; grant select, insert, update on {', '.join(TABLES)} to {role}; "
            f"create schema {role} authorization {role}; grant temporary on database {session.name} to {role}")
    with opened(session.name, user=role) as eve:
        in_time, late = approval(session), approval(session, "-1 second")
        eve(f"set search_path = {role}, pg_temp, public, pg_catalog")
        for schema in (role, "pg_temp"):
            eve(f"create table {schema}.rooms_outbox (room text, type text, data jsonb); create table {schema}.hitl_events (like public.hitl_events); "
                f"create table {schema}.hitl_sessions (like public.hitl_sessions); create table {schema}.hitl_approvals (like public.hitl_approvals); "
                f"create table {schema}.rooms_approval_timeouts (like public.hitl_approvals); create table {schema}.rooms_approval_defaults (x int)")
        eve(f"create function {role}.clock_timestamp() returns timestamptz language sql as $$ select '1970-01-01'::timestamptz $$;"
            f"create function {role}.rooms_ms(timestamptz) returns bigint language sql as $$ select (1/0)::bigint $$;"
            f"create function {role}.rooms_tell_session(text, text, jsonb) returns void language sql as $$ select 1/0 $$;"
            f"create function {role}.pg_notify(text, text) returns void language sql as $$ select 1/0 $$")
        refused("RM410", eve, f"update public.hitl_approvals set status = 'approved' where id = '{late}'")
        eve(f"update public.hitl_approvals set status = 'approved' where id = '{in_time}'")
        tap.is_((len(told(session, in_time)), recorded(session, in_time)), (1, ["approval:approved"]), "told")
        tap.is_(eve(f"select 1 from {role}.rooms_outbox union all select 1 from pg_temp.rooms_outbox union all select 1 from {role}.hitl_events"), [], "in eve's tables")


@both("the role of docs/postgres.md does nginx' work, and nothing else")
def _(session):
    session(re.sub(r"\bnginx\b", f"nginx_{session.name}", block("role")))
    late = approval(session, "-1 second")
    with opened(session.name, user=f"nginx_{session.name}") as nginx:
        nginx("listen rooms_outbox; listen rooms_deadline")
        nginx("select rooms_configure(900, '{60}', 86400)")
        tap.is_(sweep(nginx, report="true")["expired"], 1)
        tap.is_(nginx("select outcome from rooms_create_approval('new', 's1', null, 'x', '{}', 60, null)"), [["created"]])
        tap.is_(nginx("select outcome from rooms_get_approval('new')"), [["found"]])
        tap.is_(nginx("select outcome from rooms_list_approvals('s1', null, null, 10, null)"), [["found"]])
        tap.is_(nginx("select outcome from rooms_extend_approval('new', 5)"), [["done"]])
        tap.is_(nginx("select outcome from rooms_resolve_approval('new', 'approved', 'u')"), [["done"]])
        nginx("begin")
        taken = nginx("select id, type from rooms_take_outbox(10)")
        tap.is_([kind for _, kind in taken], ["approval:resolved", "approval:requested", "approval:extended", "approval:resolved"])
        nginx(f"select rooms_finish_outbox('{{{','.join(i for i, _ in taken)}}}', '{{}}', '{{}}'); commit")
        tap.is_(nginx("select id from hitl_sessions where tenant_id = 't1'"), [["s1"]], "the rule of a room")
        for text in ("select * from hitl_approvals", "update hitl_approvals set status = 'approved'", "select * from hitl_messages",
                     "select spec_card from hitl_sessions", "select * from rooms_outbox", "insert into rooms_outbox (room, type) values ('session:s1', 'x')",
                     "select rooms_tell_session('s1', 'x', '{}')", "select rooms_warn_of('{p1}', now())", "select rooms_hold_session('s1')",
                     "select * from rooms_migrations", "select rooms_approval_timeout('a', 'b')", "create table x (y int)"):
            refused("42501", nginx, text)
    tap.is_((row(session, late), session("select 1 from rooms_outbox")), ("timeout", []))


# --- the sweep

@both("the sweep ends what is due, in batches, and says what is left and when to come again")
def _(session):
    session("update hitl_approvals set status = 'rejected' where status = 'pending'; delete from rooms_outbox")
    tap.is_(sweep(session, report="true"), {"expired": 0, "more": False, "next_ms": None, "outbox": False, "pending": 0, "outbox_depth": 0, "outbox_age_ms": 0})
    late, soon = approval(session, "-1 second", 25), approval(session, "10 minutes")
    for expired, more in ((10, True), (10, True), (5, False)):
        got = sweep(session, 10, "true")
        tap.is_((got["expired"], got["more"], got["outbox"]), (expired, more, True))
    tap.is_((got["pending"], got["outbox_depth"]), (1, 25))
    tap.ok(539000 < got["next_ms"] <= 540000, f"next_ms {got['next_ms']} is the warning's")
    for id_ in late:
        tap.is_((row(session, id_), len(told(session, id_)), recorded(session, id_)), ("timeout", 1, ["approval:timeout"]))
    tap.is_((row(session, soon), told(session, soon)), ("pending", []))


@both("each time of warning warns once; a sweep that comes late warns once of all that have passed")
def _(session):
    session("select rooms_configure(900, '{120, 60, 2}', 86400)")
    late, id_ = approval(session, "121 seconds"), approval(session, "121 seconds")
    for left, expect in (("119 seconds", 1), ("70 seconds", 1), ("59 seconds", 2), ("3 seconds", 2), ("1 second", 3)):
        # The deadline comes nearer without anybody's being told: triggers of replicas only.
        session(f"set session_replication_role = replica; update hitl_approvals set warn_at = warn_at - (expires_at - clock_timestamp() - interval '{left}'), "
                f"expires_at = clock_timestamp() + interval '{left}' where id = '{id_}'; set session_replication_role = origin")
        for _ in range(2):
            sweep(session)
            events = told(session, id_)
            tap.is_([event["type"] for event in events], ["approval:expiring"] * expect, f"{left} before the end")
        tap.ok(0 <= events[-1]["remainingMs"] <= 120000, "remainingMs")
        tap.is_(len({event["id"] for event in events}), expect, "their ids")
    session(f"set session_replication_role = replica; update hitl_approvals set warn_at = clock_timestamp() - interval '90 s', "
            f"expires_at = clock_timestamp() + interval '30 s' where id = '{late}'; set session_replication_role = origin")
    sweep(session)
    sweep(session)
    tap.is_((len(told(session, late)), row(session, late, "expires_at - warn_at")), (1, "00:00:02"), "the one that was late")


@both("a sweep compiles nothing, though without an index the planner believes that what it reads is dear")
def _(session):
    session("update hitl_approvals set status = 'rejected' where status = 'pending'; delete from rooms_outbox")
    approval(session, "-1 second", 2)
    approval(session, "60.01 seconds", 2)
    time.sleep(0.02)
    # The server tells when it looks for its compiler, also where none is installed.
    session("set jit = on; set client_min_messages = debug1")
    tap.unlike(str(session("select * from rooms_sweep(200, true)")), "JIT", "the server's words")
    tap.is_(session("select type, count(*) from rooms_outbox group by 1 order by 1"), [["approval:expiring", "2"], ["approval:resolved", "2"]], "told")
    tap.like(str(session("set jit_above_cost = 0; select count(*) from pg_class")), "JIT", "of a statement that is compiled")


@both("what falls due while a sweep is at work is the next one's: next_ms is 0, not the deadline after it")
def _(session):
    session("update hitl_approvals set status = 'rejected' where status = 'pending'")
    session("create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(0.2); return null; end $$;"
            "create trigger slow after update on hitl_approvals for each row when (new.status = 'timeout') execute function slow()")
    approval(session, "-1 second")
    approval(session, "100 milliseconds")
    got = sweep(session)
    tap.is_((got["expired"], got["more"], got["next_ms"]), (1, False, 0))


@both("rows that somebody has locked are left alone, also those whose session is locked, and are no reason to hurry")
def _(session):
    session("update hitl_approvals set status = 'rejected' where status = 'pending'; insert into hitl_sessions (id, tenant_id) values ('held', 't1')")
    locked, free = approval(session, "-1 second"), approval(session, "-1 second", 3)
    of_session = approval(session, "-1 second", session_id="'held'")
    with opened(session.name) as other:
        other(f"begin; select 1 from hitl_approvals where id = '{locked}' for update; select 1 from hitl_sessions where id = 'held' for update")
        session("set lock_timeout = '5s'")
        began = time.monotonic()
        got = sweep(session)
        took = time.monotonic() - began
        tap.is_((got["expired"], got["more"], got["next_ms"]), (3, False, None))
        tap.ok(took < 0.5 * SCALE, f"it waits for nobody ({took:.3f} s)")
        tap.is_([row(session, id_) for id_ in free], ["timeout"] * 3)
        other("rollback")
        tap.is_(sweep(session)["expired"], 2, "expired after the release")
        # A lock that a new row of another table takes is no hindrance.
        referred = approval(session, "-1 second")
        session(f"create table notes (approval_id {'varchar' if session.later else 'text'} references hitl_approvals (id))")
        other(f"begin; insert into notes values ('{referred}')")
        tap.is_((sweep(session)["expired"], row(session, referred), row(session, of_session)), (1, "timeout", "timeout"))
        other("rollback")


@both("a row whose end somebody's trigger forbids does not stop the others, however many there are, and is tried again")
def _(session):
    session("update hitl_approvals set status = 'rejected' where status = 'pending'; select rooms_configure(900, '{60}', 86400)")
    session("create function forbid() returns trigger language plpgsql as $$ begin raise 'not this one'; end $$;"
            "create trigger forbid before update on hitl_approvals for each row when (new.action = 'stuck' and new.status = 'timeout') execute function forbid();"
            "create trigger never before update on hitl_approvals for each row when (new.action = 'never') execute function forbid()")
    stuck, never = approval(session, "-1 hour", 30, action="'stuck'"), approval(session, "59 seconds", action="'never'")
    good, warned = approval(session, "-1 second", 30), approval(session, "50 seconds")
    session(f"set session_replication_role = replica; update hitl_approvals set warn_at = clock_timestamp() where id in ('{never}', '{warned}'); set session_replication_role = origin")
    tries = [sweep(session, 20) for _ in range(4)]
    tap.is_(sum(got["expired"] for got in tries), 30, "expired")
    tap.is_({row(session, id_) for id_ in good}, {"timeout"})
    tap.is_({row(session, id_) for id_ in stuck}, {"pending"})
    tap.is_(([event["type"] for event in told(session, warned)], told(session, never)), (["approval:expiring"], []))
    tap.is_(tries[-1]["more"], False, "more")
    tap.ok(tries[-1]["next_ms"] > 40000, f"next_ms {tries[-1]['next_ms']}")
    session("drop trigger forbid on hitl_approvals; update hitl_approvals set warn_at = clock_timestamp() where action = 'stuck'")
    tap.is_(sweep(session)["expired"], 30, "when it may")
    tap.is_([len(told(session, id_)) for id_ in stuck], [1] * 30, "told")


def scripts(name, *texts):
    """Runs each text in a psql of its own, all at once; their outputs."""
    running = []
    for n, text in enumerate(texts):
        path = os.path.join(pg.dir, f"{name}.{n}.sql")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        running.append(subprocess.Popen([PSQL, "-X", "-At", "-v", "VERBOSITY=sqlstate", "-f", path, pg.conninfo(dbname=name)],
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    return [process.communicate()[0] for process in running]


def exactly_once(session, of, count):
    """By SQL: each of the approvals has one end, one event for the pages, one row in hitl_events, all saying the same."""
    tap.is_(one(session, f"""
        select count(*), count(*) filter (where status = 'pending'),
            count(*) filter (where status <> 'timeout' and resolved_at >= expires_at),
            count(*) filter (where status = 'timeout' and resolved_at < expires_at),
            count(*) filter (where (select string_agg(data ->> 'status', '+') from rooms_outbox
                where type = 'approval:resolved' and data ->> 'approvalId' = a.id) is distinct from status),
            count(*) filter (where (select string_agg(event_type, '+') from hitl_events
                where payload ->> 'approvalId' = a.id) is distinct from 'approval:' || status)
        from hitl_approvals a where {of}"""), [str(count), "0", "0", "0", "0", "0"],
        "rows, pending, decided late, timed out early, not told once, not recorded once")


@both("four sweeps at once over 2,000 due approvals: each ends once, is told once, recorded once")
def _(session):
    session("create index if not exists told on rooms_outbox ((data ->> 'approvalId')); create index if not exists recorded on hitl_events ((payload ->> 'approvalId'))")
    made = approval(session, "-1 second", 2000)
    began = time.monotonic()
    outputs = scripts(session.name, *["select expired from rooms_sweep(100, false);\n" * 22] * 4)
    took = time.monotonic() - began
    tap.is_("ERROR" in "".join(outputs), False, "errors")
    by = [sum(int(line) for line in output.split()) for output in outputs]
    tap.is_(sum(by), 2000, "expired")
    exactly_once(session, f"id in ('{made[0]}', '{made[-1]}') or action = 'deploy' and status = 'timeout'", 2000)
    tap.diag(f"2,000 in {took:.2f} s by four: {by}")


@both("approve, reject and two sweeps race around 300 deadlines: one end each, no decision late, no timeout early, what was answered stands")
def _(session):
    session("create index if not exists told on rooms_outbox ((data ->> 'approvalId')); create index if not exists recorded on hitl_events ((payload ->> 'approvalId'))")
    tenant = "tenant_id, " if session.later else ""
    session(f"insert into hitl_approvals (id, session_id, {tenant}action, expires_at) select 'r' || n, 's1', {chr(39) + 't1' + chr(39) + ',' if tenant else ''} "
            "'race', now() + interval '300 ms' + n * interval '7 ms' from generate_series(1, 300) n")
    deadlines = dict(session("select id, expires_at from hitl_approvals where action = 'race' order by expires_at"))

    def decider(status, seed):
        lines, chance = [], random.Random(seed)
        for id_, deadline in deadlines.items():
            jitter = chance.uniform(-25, 25)
            lines.append(f"select pg_sleep(greatest(0, extract(epoch from '{deadline}'::timestamptz + interval '{jitter:.2f} ms' - clock_timestamp())))\\g /dev/null\n"
                         f"update hitl_approvals set status = '{status}', approved_by = '{seed}' where id = '{id_}';\n")
        return "".join(lines)
    sweeper = "select expired from rooms_sweep(200, false);\nselect pg_sleep(0.015)\\g /dev/null\n" * 180
    outputs = scripts(session.name, decider("approved", 17), decider("rejected", 29), sweeper, sweeper)
    sweep(session)
    exactly_once(session, "action = 'race'", 300)
    ends = {status: int(count) for status, count in session("select status, count(*) from hitl_approvals where action = 'race' group by 1")}
    for output, status in zip(outputs, ("approved", "rejected")):
        tap.is_(output.count("UPDATE 1"), ends.get(status, 0), f"{status}: answered and standing")
        tap.is_(len(re.findall("ERROR:  RM4(?:09|10)$", output, re.M)) + output.count("UPDATE 1"), 300, "answers")
    tap.is_("ERROR" in outputs[2] + outputs[3], False, "errors of the sweeps")
    tap.diag(f"300 raced: {ends}, refused as late {sum(o.count('RM410') for o in outputs)}, as second {sum(o.count('RM409') for o in outputs)}")
    tap.ok(min(ends.get(status, 0) for status in ("approved", "rejected", "timeout")) > 0, f"each of the three has won: {ends}")


# --- the outbox

@both("the outbox gives its rows in order, to one at a time; a rollback gives them back; refused ones are not given again")
def _(session):
    for n in range(5):
        session(f"insert into rooms_outbox (room, type, data) values ('session:s1', 'x', '{{\"n\": {n}, \"digits\": 1.10}}')")
    take = "select id, key, room, type, data from rooms_take_outbox({})"
    with opened(session.name) as other:
        session("begin")
        taken = session(take.format(3))
        tap.is_([json.loads(r[4])["n"] for r in taken], [0, 1, 2])
        tap.is_((taken[0][2], taken[0][3]), ("session:s1", "x"))
        tap.like(taken[0][4], r"1\.10", "the digits")
        tap.is_(other(take.format(3)), [], "what another one gets")
        session("rollback")
        other("begin")
        tap.is_(other(take.format(3)), taken, "the same, with the same keys, after a rollback")
        tap.is_(session(take.format(3)), [], "what the first gets now")
        a, b, _ = (r[0] for r in taken)
        other(f"select rooms_finish_outbox('{{{a}}}', '{{{b}}}', '{{\"too large\"}}'); commit")
        tap.is_([json.loads(r[4])["n"] for r in session(take.format(10))], [2, 3, 4])
        tap.is_(session("select id, refused from rooms_outbox where refused is not null"), [[b, "too large"]])
        tap.is_((sweep(session, report="true")["outbox_depth"]), 3, "depth")
        session("update rooms_outbox set refused = null")
        tap.is_([json.loads(r[4])["n"] for r in session(take.format(10))], [1, 2, 3, 4], "when somebody has it tried again")
        session("delete from rooms_outbox; begin; insert into rooms_outbox (room, type) values ('session:s1', 'y')")
        tap.is_((other(take.format(9)), sweep(other)["outbox"]), ([], False), "before the commit")
        session("commit")
        tap.is_(len(other(take.format(9))), 1, "after it")


@both("the outbox gives what is for other rooms `without` some, in order, and as many as were asked for")
def _(session):
    for n, room in enumerate(("a", "b", "a", "c", "a", "b", "d"), 1):
        session(f"insert into rooms_outbox (room, type, data) values ('session:{room}', 'x', '{{\"n\": {n}}}')")
    session("update rooms_outbox set refused = 'x' where room = 'session:d'")
    for without, most, wanted in (("", 9, [1, 2, 3, 4, 5, 6]), ("session:a", 9, [2, 4, 6]), ("session:a", 2, [2, 4]), ("session:b,session:a", 9, [4]),
                                  ("session:d,session:nobody", 9, [1, 2, 3, 4, 5, 6]), ("session:a,session:b,session:c", 9, [])):
        got = session(f"select data from rooms_take_outbox({most}, '{{{without}}}')")
        tap.is_([json.loads(r[0])["n"] for r in got], wanted, f"without {without}")
    tap.is_(len(session("select * from rooms_take_outbox(9)")), 6, "where nothing is said of it")


@both("the outbox ends early where much has been read, and gives at least one")
def _(session):
    for sizes, wanted in (((900000, 900000), 1), ((200000, 200000, 200000), 2), ((100000,) * 5, 3), ((10, 900000, 10), 2), ((1000,) * 20, 20)):
        session("delete from rooms_outbox")
        for size in sizes:
            session(f"insert into rooms_outbox (room, type, data) values ('session:s1', 'x', jsonb_build_object('x', repeat('x', {size})))")
        got = session("select octet_length(data) from rooms_take_outbox(200)")
        tap.is_([int(r[0]) for r in got], [size + 9 for size in sizes[:wanted]], f"{sizes}")
    session("delete from rooms_outbox; insert into rooms_outbox (room, type, data) values ('session:s1', 'x', jsonb_build_object('x', repeat('ü', (1048576 - 10) / 2) || 'y'))")
    tap.is_(session("select octet_length(data) from rooms_take_outbox(200)"), [["1048576"]], "a whole mebibyte")
    tap.like(refused("23514", session, "insert into rooms_outbox (room, type, data) values ('session:s1', 'x', jsonb_build_object('x', repeat('ü', 524284)))"), "rooms_outbox_data_check")


@both("a wrong row is refused at once, by a constraint that names the column")
def _(session):
    for column, values in {"room": "('session', 'x', '{}')", "type": "('session:1', '', '{}')", "data": "('session:1', 'x', '[]')"}.items():
        tap.like(refused("23514", session, f"insert into rooms_outbox (room, type, data) values {values}"), f"rooms_outbox_{column}_check")
    for room in ("Session:1", "session:", ":1", "session:a b", "session:" + "x" * 201, "1:1", "session:1\n"):
        refused("23514", session, f"insert into rooms_outbox (room, type) values ('{room}', 'x')")
    for kind in ("x" * 129, "a\tb", "\x7f"):
        refused("23514", session, f"insert into rooms_outbox (room, type) values ('session:1', '{kind}')")
    for when in ("infinity", "-infinity", "294000-01-01"):
        tap.like(refused("23514", session, f"insert into rooms_outbox (room, type, created_at) values ('session:1', 'x', '{when}')"), "rooms_outbox_created_at_check")
    refused("23502", session, "insert into rooms_outbox (type) values ('x')")
    session("insert into rooms_outbox (room, type) values ('a:.:@~-', 'ü')")
    session(block("publish"))
    tap.is_(session("select room, type, data ->> 'progress' from rooms_outbox order by id desc limit 1"), [["session:42", "session:update", "90"]], "as the page shows it")


# --- the API's functions

def api(session, call):
    outcome, text = one(session, f"select outcome, approval from {call}")
    return outcome, text and json.loads(text)


@both("create: what is given, what stands on a repeat, and every refusal")
def _(session):
    now = time.time() * 1000
    outcome, made = api(session, "rooms_create_approval('new', 's1', 't1', 'deploy', '{\"n\": 1.10, \"big\": 12345678901234567890}', 60, null)")
    tap.is_(outcome, "created")
    tap.ok(abs(made["expiresAt"] - now - 60000) < 5000 and abs(made["createdAt"] - now) < 5000, f"instants {made}")
    tap.is_({k: v for k, v in made.items() if k not in ("expiresAt", "createdAt")},
            {"id": "new", "sessionId": "s1", "tenantId": "t1", "action": "deploy", "context": {"n": 1.1, "big": 12345678901234567890},
             "status": "pending", "resolvedBy": None, "resolvedAt": None})
    tap.like(one(session, "select approval from rooms_get_approval('new')"), r"1\.10.*|12345678901234567890", "the digits")
    tap.is_([(e["type"], e["expiresAt"], e["tenantId"], e["context"]["big"]) for e in told(session, "new")],
            [("approval:requested", made["expiresAt"], "t1", 12345678901234567890)])
    tap.is_(api(session, "rooms_create_approval('new', 's2', null, 'other', null, 999, null)"), ("exists", made), "the same id again")
    tap.is_(len(told(session, "new")), 1, "told")
    at = int(now) + 120000
    outcome, second = api(session, f"rooms_create_approval(null, 's1', null, 'deploy', null, null, {at})")
    tap.is_((outcome, second["expiresAt"], len(second["id"])), ("created", at, 36), "an id of ours, an instant of theirs")
    outcome, third = api(session, "rooms_create_approval(null, 's1', null, 'deploy', null, null, null)")
    tap.ok(abs(third["expiresAt"] - now - 900000) < 5000, "the default")
    for refusal, arguments in (("no_session", "'nobody', null, 'x', null, 60, null"), ("no_session", "'s1', 't2', 'x', null, 60, null"),
                               ("past", "'s1', null, 'x', null, 0, null"), ("past", "'s1', null, 'x', null, -1e300, null"),
                               ("past", "'s1', null, 'x', null, null, 0"), ("past", "'s1', null, 'x', null, null, -9223372036854775808"),
                               ("too_long", "'s1', null, 'x', null, 86401, null"), ("too_long", "'s1', null, 'x', null, 1e300, null"),
                               ("too_long", "'s1', null, 'x', null, 'infinity', null"), ("too_long", "'s1', null, 'x', null, 'nan', null"),
                               ("too_long", f"'s1', null, 'x', null, null, {at + 86400000}"), ("too_long", "'s1', null, 'x', null, null, 9223372036854775807")):
        tap.is_(api(session, f"rooms_create_approval('no', {arguments})"), (refusal, None), arguments)
    tap.is_(api(session, "rooms_get_approval('no')"), ("not_found", None))


@both("two creates of one id at once: one is created, the other is shown it, one event")
def _(session):
    with opened(session.name) as other:
        call = "select outcome, approval ->> 'action' from rooms_create_approval('twice', 's1', null, '{}', null, 60, null)"
        session("begin")
        tap.is_(session(call.format("first")), [["created", "first"]])
        other.send(call.format("second"))
        time.sleep(0.05)
        session("commit")
        tap.is_(other.read(), [["exists", "first"]])
        tap.is_(len(told(session, "twice")), 1, "told")


@both("get and list: what is overdue is shown as timeout, before any sweep")
def _(session):
    late, waits = approval(session, "-1 second"), approval(session)
    tap.is_(api(session, f"rooms_get_approval('{late}')")[1]["status"], "timeout")
    tap.is_(api(session, f"rooms_get_approval('{waits}')")[1]["status"], "pending")
    tap.is_(row(session, late), "pending", "in the table")

    def shown(status):
        return [a["id"] for a in api(session, f"rooms_list_approvals('s1', null, {status}, 100, null)")[1]["approvals"]]
    tap.ok(late in shown("'timeout'") and late not in shown("'pending'") and waits in shown("'pending'"), "filtered")
    tap.is_(set(shown("'rejected'")), {"d2"})
    tap.ok({late, waits, "d1", "d2"} <= set(shown("null")), "all")
    sweep(session)
    tap.is_(api(session, f"rooms_get_approval('{late}')")[1]["resolvedBy"], None)


@both("list: oldest deadline first, each once over pages, through equal deadlines and rows without one, by session and by tenant")
def _(session):
    more = {"tenant_id": "'t2'"} if session.later else {}
    made = approval(session, None, 7, session_id="'s2'", expires_at="'2040-01-01'", **more) + approval(session, "1 hour", 3, session_id="'s2'", **more)
    made += [approval(session, None, session_id="'s2'", status="'approved'", **more) for _ in range(3)] + ["p2"]
    approval(session, "1 minute", 4)
    for who in ("'s2', null", "null, 't2'", "'s2', 't2'"):
        seen, after = [], "null"
        for _ in range(20):
            outcome, got = api(session, f"rooms_list_approvals({who}, null, 3, {after})")
            tap.is_(outcome, "found")
            seen += got["approvals"]
            tap.is_(got["next"], got["approvals"][-1]["id"] if len(got["approvals"]) == 3 else None, "next")
            if got["next"] is None:
                break
            after = f"'{got['next']}'"
        tap.is_(sorted(a["id"] for a in seen), sorted(made), f"each once, by {who}")
        order = [(a["expiresAt"] or float("inf"), a["id"]) for a in seen]
        tap.is_(order, sorted(order), "order")
    tap.is_(api(session, "rooms_list_approvals('s2', 't1', null, 3, null)"), ("found", {"approvals": [], "next": None}), "another tenant's")
    tap.is_(api(session, "rooms_list_approvals('s2', null, null, 3, 'nothing')"), ("bad_after", None))


@both("list: where contexts are large a page ends early with `next`, and goes on to the end, each once")
def _(session):
    made = []
    for n in range(10):
        made.append(approval(session, f"{n + 1} minutes", session_id="'s2'", context="jsonb_build_object('x', repeat('x', 300000))", **({"tenant_id": "'t2'"} if session.later else {})))
    session("delete from hitl_approvals where id = 'p2'")
    for status in ("null", "'pending'"):
        for most, wanted in ((1000, [4, 4, 2]), (10, [4, 4, 2]), (4, [4, 4, 2]), (3, [3, 3, 3, 1])):
            seen, sizes, after = [], [], "null"
            for _ in range(9):
                got = api(session, f"rooms_list_approvals('s2', null, {status}, {most}, {after})")[1]
                seen += [a["id"] for a in got["approvals"]]
                sizes.append(len(got["approvals"]))
                if got["next"] is None:
                    break
                tap.is_(got["next"], seen[-1], "next")
                after = f"'{got['next']}'"
            tap.is_((sizes, seen), (wanted, made), f"limit {most}, status {status}")
    tap.is_(api(session, "rooms_list_approvals('s2', null, 'approved', 10, null)")[1], {"approvals": [], "next": None}, "none")


@both("resolve, cancel and extend: done, second, late, unknown")
def _(session):
    id_ = approval(session)
    outcome, got = api(session, f"rooms_resolve_approval('{id_}', 'approved', 'ann')")
    tap.is_((outcome, got["status"], got["resolvedBy"]), ("done", "approved", "ann"))
    for call in (f"rooms_resolve_approval('{id_}', 'approved', 'bob')", f"rooms_resolve_approval('{id_}', 'cancelled', null)", f"rooms_extend_approval('{id_}', 60)"):
        tap.is_(api(session, call), ("resolved", got), call)
    tap.is_((len(told(session, id_)), recorded(session, id_)), (1, ["approval:approved"]))
    id_ = approval(session)
    tap.is_(api(session, f"rooms_resolve_approval('{id_}', 'cancelled', null)")[0], "done")
    tap.is_(recorded(session, id_), ["approval:cancelled"])
    for call in ("rooms_resolve_approval('{}', 'approved', 'ann')", "rooms_extend_approval('{}', 60)"):
        late = approval(session, "-1 second")
        for _ in range(2):
            outcome, got = api(session, call.format(late))
            tap.is_((outcome, got["status"], got["resolvedBy"]), ("expired", "timeout", None), call)
        tap.is_((row(session, late, "status, approved_by"), len(told(session, late))), (["timeout", None], 1), "it has ended now, and all are told")
        tap.is_(api(session, call.format("nobody")), ("not_found", None))
    id_ = approval(session)
    before = int(row(session, id_, "rooms_ms(expires_at)"))
    outcome, got = api(session, f"rooms_extend_approval('{id_}', 90.5)")
    tap.is_((outcome, got["expiresAt"], told(session, id_)[0]["type"]), ("done", before + 90500, "approval:extended"))
    for by in ("86400", "1e300", "'infinity'", "'nan'"):
        tap.is_(api(session, f"rooms_extend_approval('{id_}', {by})")[0], "too_long", by)


@both("resolve waits for another's decision, and tells what stands")
def _(session):
    id_ = approval(session)
    with opened(session.name) as other:
        session(f"begin; update hitl_approvals set status = 'rejected', approved_by = 'ann' where id = '{id_}'")
        other.send(f"select outcome, approval ->> 'status' from rooms_resolve_approval('{id_}', 'approved', 'bob')")
        time.sleep(0.05)
        session("commit")
        tap.is_(other.read(), [["resolved", "rejected"]])
        late = approval(session, "200 milliseconds")
        session(f"begin; select 1 from hitl_approvals where id = '{late}' for update")
        other.send(f"update hitl_approvals set status = 'approved' where id = '{late}'")
        time.sleep(0.3)
        session("commit")
        try:
            other.read()
            tap.fail("a decision that waited for a lock until after the deadline was taken")
        except SqlError as error:
            tap.is_(error.code, "RM410")


# --- a million

@tap.case("a sweep takes a batch and looks at no more than that, however its plan was made: few rows were expected, or many")
def _():
    pg.sql("alter system set track_functions = 'all'; select pg_reload_conf()")
    for before in (0, 3, 8):
        with opened(database(OLD)) as session:
            for _ in range(before):
                sweep(session)
            session("insert into hitl_approvals (id, session_id, action, expires_at) select 'm' || n, 's1', 'x', now() from generate_series(1, 3000) n")
            session("begin")
            tap.is_(one(session, "select expired from rooms_sweep(200, false)"), "200")
            tap.is_(one(session, "select calls from pg_stat_xact_user_functions where funcname = 'rooms_hold_session'"), "200", f"sessions that were looked at, {before} sweeps before")
            session("commit")


@tap.case("R11: a million pending approvals cost the sweep nothing: it reads the partial indexes, and takes as long as with a thousand")
def _():
    with opened(database(OLD)) as session:
        def fill(low, high):
            session("set session_replication_role = replica; insert into hitl_approvals (id, session_id, action, expires_at, warn_at) "
                    f"select 'm' || n, 's1', 'x', t, t - interval '60 s' from generate_series({low}, {high}) n, "
                    "lateral (select now() + interval '30 days' + n * interval '1 s' as t) _; set session_replication_role = origin; "
                    "analyze hitl_approvals; checkpoint")
        session("create function pg_temp.timed(due int) returns float language plpgsql as $$ declare t timestamptz; e int; begin "
                "insert into hitl_approvals (id, session_id, action, expires_at) select gen_random_uuid(), 's1', 'now', now() from generate_series(1, due); "
                "t := clock_timestamp(); select expired into e from rooms_sweep(200, false); if e <> due then raise '% of %', e, due; end if; "
                "return extract(epoch from clock_timestamp() - t) * 1000; end $$")

        def least(due):
            return min(float(one(session, f"select pg_temp.timed({due})")) for _ in range(8))
        fill(1, 1000)
        few = least(0), least(200)
        began = time.monotonic()
        fill(1001, 1000000)
        took = time.monotonic() - began
        many = least(0), least(200)
        source = one(session, "select translate(prosrc, E'\\n', ' ') from pg_proc where proname = 'rooms_sweep'")
        selects = re.findall(r":= array\((.*?)\);", source)
        tap.is_(len(selects), 2, "the two selects")
        for what, text in zip(("expires_at", "warn_at"), selects):
            plan = "\n".join(r[0] for r in session("explain (analyze, costs off, timing off, summary off) " +
                                                   re.sub(r"\bmoment\b", "now()", text).replace("limit most", "limit 200")))
            tap.diag(f"{what}:\n{plan}")
            tap.like(plan, "Index Scan using hitl_approvals_pending_" + ("deadline" if what == "expires_at" else "warning"), "plan")
            tap.unlike(plan, "Seq Scan|Rows Removed by Filter: [0-9]{3}", "plan")
        tap.diag(f"rooms_sweep(200, false), least of 8: nothing due {few[0]:.3f} ms with 1,000 pending, {many[0]:.3f} ms with 1,000,000; "
                 f"200 due {few[1]:.2f} ms and {many[1]:.2f} ms; filled in {took:.1f} s")
        tap.ok(many[0] < 5 * few[0] and many[1] < 5 * few[1], f"{few} {many}")



tap.run()

-- Approvals get a deadline, the moment of their end, and the states timeout and cancelled.
-- What is pending now gets the time that an approval of today would get.
begin;
set local lock_timeout = '10s';
set local client_min_messages = warning;
do $$ begin
    perform set_config('search_path', format('%I, pg_temp', coalesce(
        (select relnamespace::regnamespace::name from pg_class where oid = to_regclass('rooms_migrations')),
        current_schema())), true);
end $$;
set local timezone = 'UTC';
lock table rooms_migrations in share row exclusive mode;

-- The comment marks a column as one that the way down may drop.
do $$
declare
    wanted text;
    found oid;
begin
    foreach wanted in array array['expires_at', 'resolved_at', 'warn_at'] loop
        select atttypid into found from pg_attribute
        where attrelid = 'hitl_approvals'::regclass and attname = wanted and not attisdropped;
        if found is null then
            execute format('alter table hitl_approvals add column %I timestamptz', wanted);
            execute format('comment on column hitl_approvals.%I is %L', wanted, 'rooms: ' || case wanted
                when 'expires_at' then 'the deadline: from then on no decision is accepted'
                when 'resolved_at' then 'the moment at which the status became final'
                else 'when the sweep has something to do next besides the deadline: a warning, or another try' end);
        elsif found = 'timestamp'::regtype then
            execute format(
                'alter table hitl_approvals alter column %1$I type timestamptz using %1$I at time zone ''UTC''',
                wanted);
        end if;
    end loop;
end $$;

do $$
declare
    old record;
    taken text[] := array['pending', 'approved', 'rejected', 'timeout', 'cancelled'];
begin
    for old in
        select c.conname, pg_get_constraintdef(c.oid) as text from pg_constraint c
        join pg_attribute a on a.attrelid = c.conrelid and a.attname = 'status'
        where c.conrelid = 'hitl_approvals'::regclass and c.contype = 'c' and c.conkey = array[a.attnum]
            and pg_get_constraintdef(c.oid) like '%pending%'
    loop
        if old.text like '%''timeout''%' and old.text like '%''cancelled''%' then return; end if;
        execute format('alter table hitl_approvals drop constraint %I', old.conname);
    end loop;
    execute format('alter table hitl_approvals add constraint hitl_approvals_status_check '
        'check (status in (%s)) not valid',
        (select string_agg(quote_literal(s), ', ') from unnest(taken) s));
    comment on constraint hitl_approvals_status_check on hitl_approvals is
        'rooms: the way down puts the one without timeout and cancelled in its place';
    if not exists (select from hitl_approvals where status <> all (taken)) then
        alter table hitl_approvals validate constraint hitl_approvals_status_check;
    end if;
end $$;

-- Nothing ends at once because of an upgrade: where the platform had deadlines, those that have passed count
-- from now. Only the first time: later they are for the sweep to find.
update hitl_approvals a
set expires_at = null
where a.status = 'pending' and a.expires_at <= clock_timestamp()
    and not exists (select from rooms_migrations where name = '0004_add_approval_deadlines');
update hitl_approvals a
set expires_at = clock_timestamp() + rooms_approval_timeout(
    coalesce(to_jsonb(a) ->> 'tenant_id', s.tenant_id), a.action)
from hitl_sessions s
where s.id = a.session_id and a.status = 'pending' and a.expires_at is null;
update hitl_approvals a
set expires_at = clock_timestamp() + rooms_approval_timeout(to_jsonb(a) ->> 'tenant_id', a.action)
where a.status = 'pending' and a.expires_at is null;
update hitl_approvals
set warn_at = rooms_approval_warning(expires_at, clock_timestamp())
where status = 'pending' and warn_at is null
    and rooms_approval_warning(expires_at, clock_timestamp()) is not null;

create index if not exists hitl_approvals_pending_deadline on hitl_approvals (expires_at)
    where status = 'pending';
create index if not exists hitl_approvals_pending_warning on hitl_approvals (warn_at)
    where status = 'pending' and warn_at is not null;
create index if not exists hitl_approvals_session_deadline on hitl_approvals
    (session_id, coalesce(expires_at, 'infinity'), id);

insert into rooms_migrations (name) values ('0004_add_approval_deadlines') on conflict do nothing;
commit;

-- The tables of the platform that approvals live in, where a database has not got them yet.
-- A database that has them is left as it is.
begin;
set local lock_timeout = '10s';
set local client_min_messages = warning;
do $$ begin
    -- Two at once: `if not exists` alone does not keep them apart.
    perform pg_advisory_xact_lock(hashtext('rooms_migrations'));
    perform set_config('search_path', format('%I, pg_temp', coalesce(
        (select relnamespace::regnamespace::name from pg_class where oid = to_regclass('hitl_approvals')),
        current_schema())), true);
end $$;
create table if not exists rooms_migrations (
    name text primary key,
    applied_at timestamptz not null default now()
);
comment on table rooms_migrations is 'rooms: which migrations this database has';
lock table rooms_migrations in share row exclusive mode;

create table if not exists hitl_sessions (
    id text primary key,
    tenant_id text,
    state text,
    progress_percent integer,
    spec_card jsonb,
    created_at timestamp not null default (now() at time zone 'UTC'),
    updated_at timestamp not null default (now() at time zone 'UTC')
);
create table if not exists hitl_messages (
    id text primary key,
    session_id text not null references hitl_sessions (id) on delete cascade,
    role text not null,
    content text not null,
    message_type text,
    created_at timestamp not null default (now() at time zone 'UTC')
);
create table if not exists hitl_approvals (
    id text primary key,
    session_id text not null references hitl_sessions (id) on delete cascade,
    tenant_id text,
    action text not null,
    context jsonb,
    status text not null default 'pending'
        constraint hitl_approvals_status_check check (status in ('pending', 'approved', 'rejected')),
    approved_by text,
    ip_address text,
    created_at timestamp not null default (now() at time zone 'UTC')
);
create table if not exists hitl_events (
    id text primary key,
    session_id text not null references hitl_sessions (id) on delete cascade,
    tenant_id text,
    event_type text not null,
    payload jsonb,
    created_at timestamp not null default (now() at time zone 'UTC')
);

insert into rooms_migrations (name) values ('0001_create_platform_tables') on conflict do nothing;
commit;

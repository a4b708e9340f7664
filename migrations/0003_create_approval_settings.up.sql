-- How long an approval may wait: by tenant and action, else what nginx is configured with.
begin;
set local lock_timeout = '10s';
set local client_min_messages = warning;
do $$ begin
    perform set_config('search_path', format('%I, pg_temp', coalesce(
        (select relnamespace::regnamespace::name from pg_class where oid = to_regclass('rooms_migrations')),
        current_schema())), true);
end $$;
lock table rooms_migrations in share row exclusive mode;

create table if not exists rooms_approval_timeouts (
    tenant_id text,
    action text,
    timeout interval not null
        constraint rooms_approval_timeouts_timeout_check check (timeout > interval '0')
);
comment on table rooms_approval_timeouts is
    'rooms: how long an approval may wait; null is any tenant, any action. Counts from the next approval on';
create unique index if not exists rooms_approval_timeouts_key on rooms_approval_timeouts
    ((tenant_id is null), coalesce(tenant_id, ''), (action is null), coalesce(action, ''));

create table if not exists rooms_approval_defaults (
    id boolean primary key default true
        constraint rooms_approval_defaults_one_row check (id),
    timeout interval not null default '15 minutes',
    warn interval[] not null default array[interval '60 seconds'],
    longest interval not null default '24 hours'
);
comment on table rooms_approval_defaults is
    'rooms: the directive rooms_approvals of the nginx that connected last, written by it';
insert into rooms_approval_defaults default values on conflict do nothing;

create or replace function rooms_configure(timeout_s double precision, warn_s double precision[],
    longest_s double precision)
returns void
language sql security definer set search_path from current set timezone = 'UTC' as $$
    update rooms_approval_defaults d
    set timeout = new.timeout, warn = new.warn, longest = new.longest
    from (select make_interval(secs => timeout_s) as timeout,
                 array(select make_interval(secs => s) from unnest(warn_s) s order by s desc) as warn,
                 make_interval(secs => longest_s) as longest) new
    where (d.timeout, d.warn, d.longest) is distinct from (new.timeout, new.warn, new.longest);
$$;
comment on function rooms_configure(double precision, double precision[], double precision) is
    'rooms: nginx tells its rooms_approvals directive';

-- Tenant and action before tenant before action before neither.
create or replace function rooms_approval_timeout(tenant text, wanted text) returns interval
language sql stable security definer set search_path from current set timezone = 'UTC' as $$
    select coalesce(
        (select t.timeout from rooms_approval_timeouts t
         where (t.tenant_id is null or t.tenant_id = tenant) and (t.action is null or t.action = wanted)
         order by t.tenant_id is null, t.action is null
         limit 1),
        (select d.timeout from rooms_approval_defaults d),
        interval '15 minutes');
$$;
comment on function rooms_approval_timeout(text, text) is 'rooms: how long an approval may wait';

-- When pages are to be warned next of a deadline; null: not any more.
create or replace function rooms_approval_warning(deadline timestamptz, moment timestamptz)
returns timestamptz
language sql stable security definer set search_path from current set timezone = 'UTC' as $$
    select min(deadline - w)
    from rooms_approval_defaults d, unnest(d.warn) w
    where deadline - w > moment;
$$;
comment on function rooms_approval_warning(timestamptz, timestamptz) is
    'rooms: when approval:expiring is due next';

revoke all on function rooms_configure(double precision, double precision[], double precision) from public;
revoke all on function rooms_approval_timeout(text, text) from public;
revoke all on function rooms_approval_warning(timestamptz, timestamptz) from public;

insert into rooms_migrations (name) values ('0003_create_approval_settings') on conflict do nothing;
commit;

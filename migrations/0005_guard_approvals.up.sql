-- Statements that know nothing of deadlines become right: triggers fill deadlines in, let each approval
-- end once and in time, and write what tells of it in the same transaction.
--
-- Refusals: RM409 it has ended already, RM410 the decision came at or after the deadline, RM425 a timeout
-- before it. Only a change of status is judged. One reading of the clock decides and is recorded.
begin;
set local lock_timeout = '10s';
set local client_min_messages = warning;
do $$ begin
    perform set_config('search_path', format('%I, pg_temp', coalesce(
        (select relnamespace::regnamespace::name from pg_class where oid = to_regclass('rooms_migrations')),
        current_schema())), true);
end $$;
lock table rooms_migrations in share row exclusive mode;

create or replace function rooms_ms(moment timestamptz) returns bigint
language sql immutable set search_path from current as $$
    select case when isfinite(moment) then floor(extract(epoch from moment) * 1000)::bigint end;
$$;
comment on function rooms_ms(timestamptz) is 'rooms: milliseconds since 1970; null: never';

-- `approval` is its row as jsonb: the column tenant_id is not there in every database.
create or replace function rooms_tenant_of(approval jsonb) returns text
language sql stable security definer set search_path from current set timezone = 'UTC' as $$
    select coalesce(approval ->> 'tenant_id',
        (select s.tenant_id::text from hitl_sessions s where s.id = approval ->> 'session_id'));
$$;
comment on function rooms_tenant_of(jsonb) is 'rooms: whose approval it is';

create or replace function rooms_before_approval_insert() returns trigger
language plpgsql security definer set search_path from current set timezone = 'UTC' as $$
declare
    moment timestamptz := clock_timestamp();
begin
    new.expires_at := coalesce(new.expires_at,
        moment + rooms_approval_timeout(rooms_tenant_of(to_jsonb(new)), new.action));
    new.warn_at := rooms_approval_warning(new.expires_at, moment);
    return new;
end $$;
comment on function rooms_before_approval_insert() is 'rooms: fills the deadline in';

create or replace function rooms_before_approval_update() returns trigger
language plpgsql security definer set search_path from current set timezone = 'UTC' as $$
declare
    moment timestamptz := clock_timestamp();
begin
    if new.status is not distinct from old.status then
        if new.status = 'pending' then
            new.expires_at := coalesce(new.expires_at, old.expires_at);
            -- One that is overdue has ended, though no sweep has come by yet.
            if new.expires_at <> old.expires_at and moment >= old.expires_at then
                raise exception 'approval "%" expired at %', old.id, old.expires_at using errcode = 'RM410';
            end if;
            new.warn_at := rooms_approval_warning(new.expires_at, moment);
        end if;
        return new;
    end if;
    if new.status is null then
        raise exception 'the status of approval "%" cannot be null', old.id using errcode = 'not_null_violation';
    end if;
    if old.status is distinct from 'pending' then
        raise exception 'approval "%" is % already', old.id, old.status using errcode = 'RM409';
    end if;
    new.expires_at := old.expires_at;
    if new.status = 'timeout' then
        if old.expires_at is null or moment < old.expires_at then
            raise exception 'approval "%" has time until %', old.id, coalesce(old.expires_at, 'infinity')
                using errcode = 'RM425';
        end if;
    elsif moment >= old.expires_at then
        raise exception 'approval "%" expired at %', old.id, old.expires_at using errcode = 'RM410';
    end if;
    new.resolved_at := moment;
    new.warn_at := null;
    return new;
end $$;
comment on function rooms_before_approval_update() is
    'rooms: an approval ends once, decisions before the deadline, timeouts not before it';

-- A room's id may be less than a session's id may be: such a session has no room, and nobody to tell.
create or replace function rooms_tell_session(session text, type text, data jsonb) returns void
language sql security definer set search_path from current set timezone = 'UTC' as $$
    insert into rooms_outbox (room, type, data)
    select 'session:' || session, type, data
    where session ~ '^[A-Za-z0-9_.:@~-]{1,200}$';
$$;
comment on function rooms_tell_session(text, text, jsonb) is 'rooms: an event for the pages of a session';

create or replace function rooms_after_approval_update() returns trigger
language plpgsql security definer set search_path from current set timezone = 'UTC' as $$
declare
    who text := case when new.status <> 'timeout' then new.approved_by end;
    told jsonb;
begin
    if new.status = old.status then
        -- The deadline of one that waits has been moved.
        perform rooms_tell_session(new.session_id, 'approval:extended', jsonb_build_object(
            'id', format('approval:%s:extended:%s', new.id, rooms_ms(new.expires_at)),
            'approvalId', new.id, 'action', new.action, 'expiresAt', rooms_ms(new.expires_at)));
        return null;
    end if;
    told := jsonb_build_object('approvalId', new.id, 'action', new.action, 'status', new.status,
        'resolvedBy', who, 'resolvedAt', rooms_ms(new.resolved_at), 'expiresAt', rooms_ms(new.expires_at));
    if new.status = 'timeout' then
        told := told || jsonb_build_object('lateMs',
            case when isfinite(new.expires_at)
            then floor(extract(epoch from new.resolved_at - new.expires_at) * 1000)::bigint end);
    end if;
    perform rooms_tell_session(new.session_id, 'approval:resolved',
        told || jsonb_build_object('id', format('approval:%s:%s', new.id, new.status)));
    if new.session_id is null then return null; end if;
    -- Only the branch that runs is planned: the other may name a column that there is not.
    if exists (select from pg_attribute where attrelid = 'hitl_events'::regclass
               and attname = 'tenant_id' and not attisdropped) then
        insert into hitl_events (id, session_id, tenant_id, event_type, payload)
        values (gen_random_uuid()::text, new.session_id, rooms_tenant_of(to_jsonb(new)), 'approval:' || new.status, told);
    else
        insert into hitl_events (id, session_id, event_type, payload)
        values (gen_random_uuid()::text, new.session_id, 'approval:' || new.status, told);
    end if;
    return null;
end $$;
comment on function rooms_after_approval_update() is
    'rooms: the event for the pages and the row in hitl_events, in the transaction of the change';

-- nginx looks each second: it is woken only for what falls due before it looks again.
create or replace function rooms_ring_deadline() returns trigger
language plpgsql security definer set search_path from current set timezone = 'UTC' as $$
declare
    soonest timestamptz;
begin
    if tg_op = 'INSERT' then
        select min(least(a.expires_at, a.warn_at)) into soonest from added a where a.status = 'pending';
    else
        soonest := least(new.expires_at, new.warn_at);
    end if;
    if soonest < clock_timestamp() + interval '2 seconds' then
        perform pg_notify('rooms_deadline', rooms_ms(soonest)::text);
    end if;
    return null;
end $$;
comment on function rooms_ring_deadline() is 'rooms: wakes nginx for a deadline that is near';

drop trigger if exists rooms_before_approval_insert on hitl_approvals;
create trigger rooms_before_approval_insert before insert on hitl_approvals
    for each row when (new.status = 'pending')
    execute function rooms_before_approval_insert();
drop trigger if exists rooms_before_approval_update on hitl_approvals;
create trigger rooms_before_approval_update before update on hitl_approvals
    for each row when (old.status is distinct from new.status or old.expires_at is distinct from new.expires_at)
    execute function rooms_before_approval_update();
drop trigger if exists rooms_after_approval_update on hitl_approvals;
create trigger rooms_after_approval_update after update on hitl_approvals
    for each row when (old.status is distinct from new.status
        or (new.status = 'pending' and old.expires_at <> new.expires_at))
    execute function rooms_after_approval_update();
drop trigger if exists rooms_ring_approval_insert on hitl_approvals;
create trigger rooms_ring_approval_insert after insert on hitl_approvals
    referencing new table as added
    for each statement execute function rooms_ring_deadline();
drop trigger if exists rooms_ring_approval_update on hitl_approvals;
create trigger rooms_ring_approval_update after update on hitl_approvals
    for each row when (new.status = 'pending'
        and (old.expires_at is null or new.expires_at < old.expires_at))
    execute function rooms_ring_deadline();

-- What came while there were columns but no triggers, between 0004 and here.
update hitl_approvals a
set expires_at = clock_timestamp() + rooms_approval_timeout(rooms_tenant_of(to_jsonb(a)), a.action)
where a.status = 'pending' and a.expires_at is null;

revoke all on function rooms_ms(timestamptz) from public;
revoke all on function rooms_tenant_of(jsonb) from public;
revoke all on function rooms_before_approval_insert() from public;
revoke all on function rooms_before_approval_update() from public;
revoke all on function rooms_tell_session(text, text, jsonb) from public;
revoke all on function rooms_after_approval_update() from public;
revoke all on function rooms_ring_deadline() from public;

insert into rooms_migrations (name) values ('0005_guard_approvals') on conflict do nothing;
commit;

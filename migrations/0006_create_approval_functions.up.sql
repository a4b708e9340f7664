-- What nginx calls: the sweep, and the approvals API. A role of nginx needs to execute these, those of the
-- outbox and rooms_configure, and nothing else.
--
-- The API's functions answer (outcome, approval): `approval` is JSON, instants are ms since 1970.
begin;
set local lock_timeout = '10s';
set local client_min_messages = warning;
do $$ begin
    perform set_config('search_path', format('%I, pg_temp', coalesce(
        (select relnamespace::regnamespace::name from pg_class where oid = to_regclass('rooms_migrations')),
        current_schema())), true);
end $$;
lock table rooms_migrations in share row exclusive mode;

-- Whether an event can be written for a session now: the foreign key of hitl_events wants its row, and a
-- sweep that waited for somebody's lock there would keep all other approvals waiting.
create or replace function rooms_hold_session(session text) returns boolean
language plpgsql security definer set search_path from current set timezone = 'UTC' as $$
begin
    perform from hitl_sessions s where s.id = session for key share skip locked;
    return found or not exists (select from hitl_sessions s where s.id = session);
end $$;
comment on function rooms_hold_session(text) is 'rooms: false: another session has locked the row';

create or replace function rooms_warn_of(due text[], moment timestamptz) returns void
language sql security definer set search_path from current set timezone = 'UTC' as $$
    with warned as (
        update hitl_approvals a set warn_at = rooms_approval_warning(a.expires_at, moment)
        where a.id = any (due)
        returning a.id, a.session_id, a.action, a.expires_at
    )
    select count(rooms_tell_session(w.session_id, 'approval:expiring', jsonb_build_object(
        'id', format('approval:%s:expiring:%s', w.id, rooms_ms(moment)), 'approvalId', w.id,
        'action', w.action, 'expiresAt', rooms_ms(w.expires_at),
        'remainingMs', rooms_ms(w.expires_at) - rooms_ms(moment)))::text)
    from warned w
    where w.expires_at > moment;
$$;
comment on function rooms_warn_of(text[], timestamptz) is 'rooms: approval:expiring for each of these approvals';

-- Ends what is overdue and warns of what will be, `most` of each. Rows that somebody has locked are left
-- to the next sweep. Looks at nothing but the two partial indexes, so what waits costs nothing; the planner
-- is held to it, for where it expects few rows it sorts all that are due, and locks all their sessions.
-- A table that it can but read as a whole (one row of settings) then seems to cost billions: not compiled
-- for that, which would take 50 ms for each warning.
--   more     there is more that is due now
--   next_ms  from now until the next deadline or warning; null: nothing waits
--   outbox   there is something to publish
-- With `report`, which is asked for now and then: how many wait (an estimate beyond 10,000), how many
-- events are in the outbox (10,001: more than 10,000), and since when the oldest.
create or replace function rooms_sweep(most integer, report boolean,
    out expired integer, out more boolean, out next_ms bigint, out outbox boolean,
    out pending bigint, out outbox_depth bigint, out outbox_age_ms bigint)
language plpgsql security definer set search_path from current set timezone = 'UTC'
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off as $$
declare
    moment timestamptz := clock_timestamp();
    due text[];
    soon text[];
    warned integer := 0;
    one text;
    locked boolean;
begin
    -- A warning that lies ahead of a deadline that does not: a try that failed, see below.
    due := array(
        select a.id from hitl_approvals a
        where a.status = 'pending' and a.expires_at <= moment and (a.warn_at is null or a.warn_at <= moment)
            and rooms_hold_session(a.session_id)
        order by a.expires_at
        limit most
        for no key update skip locked);
    begin
        update hitl_approvals a set status = 'timeout' where a.id = any (due);
        get diagnostics expired = row_count;
    exception when others then
        -- One row's trouble (somebody's trigger) is not the others': it is tried again a minute later.
        expired := 0;
        foreach one in array due loop
            exit when clock_timestamp() > moment + interval '1 second';
            begin
                update hitl_approvals a set status = 'timeout' where a.id = one;
                expired := expired + 1;
            exception when others then
                raise warning 'approval "%" cannot time out: %', one, sqlerrm;
                -- One lock_timeout a sweep is enough; who waits for a lock comes again sooner.
                locked := sqlstate in ('55P03', '40P01');
                begin
                    update hitl_approvals a
                    set warn_at = moment + case when locked then interval '5 seconds' else interval '1 minute' end
                    where a.id = one;
                exception when others then null;
                end;
                exit when locked;
            end;
        end loop;
    end;

    soon := array(
        select a.id from hitl_approvals a
        where a.status = 'pending' and a.warn_at <= moment
        order by a.warn_at
        limit most
        for no key update skip locked);
    begin
        perform rooms_warn_of(soon, moment);
        warned := cardinality(soon);
    exception when others then
        -- Not for long: who is cancelled takes back what has ended above.
        foreach one in array soon loop
            exit when clock_timestamp() > moment + interval '500 milliseconds';
            begin
                perform rooms_warn_of(array[one], moment);
                warned := warned + 1;
            exception when others then
                raise warning 'approval "%" cannot be warned of: %', one, sqlerrm;
            end;
        end loop;
    end;

    -- Where nothing of a batch worked, the next one would be the same.
    more := (cardinality(due) = most and expired > 0) or (cardinality(soon) = most and warned > 0);
    -- After the moment of this sweep, not after now: what fell due meanwhile is next.
    next_ms := ceil(extract(epoch from least(
        (select a.expires_at from hitl_approvals a
         where a.status = 'pending' and a.expires_at > moment and a.expires_at < 'infinity'
         order by a.expires_at limit 1),
        (select a.warn_at from hitl_approvals a
         where a.status = 'pending' and a.warn_at > moment and a.warn_at < 'infinity'
         order by a.warn_at limit 1)) - clock_timestamp()) * 1000)::bigint;
    if next_ms < 0 then next_ms := 0; end if;
    outbox := exists (select from rooms_outbox o where o.refused is null);
    if report then
        select count(*) into pending
        from (select from hitl_approvals a where a.status = 'pending' limit 10001) counted;
        if pending > 10000 then
            select greatest(pending, c.reltuples::bigint) into pending
            from pg_class c where c.oid = 'hitl_approvals_pending_deadline'::regclass;
        end if;
        select count(*) into outbox_depth
        from (select from rooms_outbox o where o.refused is null limit 10001) counted;
        outbox_age_ms := coalesce((
            select (extract(epoch from clock_timestamp() - o.created_at) * 1000)::bigint
            from rooms_outbox o where o.refused is null order by o.id limit 1), 0);
    end if;
end $$;
comment on function rooms_sweep(integer, boolean) is
    'rooms: ends what is overdue, warns of what will be, and says when to come again';

-- One that is overdue is shown as it will be in a moment.
create or replace function rooms_approval_json(approval jsonb) returns json
language sql stable strict security definer set search_path from current set timezone = 'UTC' as $$
    select json_build_object(
        'id', approval -> 'id', 'sessionId', approval -> 'session_id',
        'tenantId', rooms_tenant_of(approval), 'action', approval -> 'action',
        'context', approval -> 'context',
        'status', case when approval ->> 'status' = 'pending'
                       and (approval ->> 'expires_at')::timestamptz <= clock_timestamp()
                  then 'timeout' else approval ->> 'status' end,
        'resolvedBy', case when approval ->> 'status' <> 'timeout' then approval ->> 'approved_by' end,
        'createdAt', rooms_ms((approval ->> 'created_at')::timestamptz),
        'expiresAt', rooms_ms((approval ->> 'expires_at')::timestamptz),
        'resolvedAt', rooms_ms((approval ->> 'resolved_at')::timestamptz));
$$;
comment on function rooms_approval_json(jsonb) is 'rooms: an approval as the API shows it';

-- not_found, or found
create or replace function rooms_get_approval(wanted text, out outcome text, out approval json)
language sql stable security definer set search_path from current set timezone = 'UTC' as $$
    select 'found', rooms_approval_json(to_jsonb(a)) from hitl_approvals a where a.id = wanted
    union all
    select 'not_found', null
    limit 1;
$$;
comment on function rooms_get_approval(text) is 'rooms: GET /approvals/ID';

-- found: { approvals, next }, oldest deadline first; bad_after: there is no approval with that id.
-- Planned anew each time, so that what is not asked for leaves the conditions, and the rest finds its index.
create or replace function rooms_list_approvals(session text, tenant text, wanted text, most integer, after text,
    out outcome text, out approval json)
language plpgsql stable security definer set search_path from current set timezone = 'UTC'
set plan_cache_mode = force_custom_plan as $$
declare
    moment timestamptz := clock_timestamp();
    from_deadline timestamptz := '-infinity';
    sessions text[] := array[session];
    shown json[] := '{}';
    last text;
    octets bigint := 0;
    one record;
begin
    if after is not null then
        select coalesce(a.expires_at, 'infinity') into from_deadline from hitl_approvals a where a.id = after;
        if not found then
            outcome := 'bad_after';
            return;
        end if;
    end if;
    if session is null and tenant is not null then
        sessions := array(select s.id from hitl_sessions s where s.tenant_id = tenant);
    end if;
    -- Ends early where contexts are large.
    for one in
        select to_jsonb(b) as approval, page.id
        from (
            select a.id, coalesce(a.expires_at, 'infinity') as deadline
            from hitl_approvals a
            where (session is null and tenant is null or a.session_id = any (sessions))
                and (tenant is null or rooms_tenant_of(to_jsonb(a)) = tenant)
                and (wanted is null or wanted not in ('pending', 'timeout') and a.status = wanted
                    or wanted = 'pending' and a.status = 'pending' and (a.expires_at > moment or a.expires_at is null)
                    or wanted = 'timeout' and (a.status = 'timeout' or a.status = 'pending' and a.expires_at <= moment))
                and (after is null or (coalesce(a.expires_at, 'infinity'), a.id) > (from_deadline, after))
            order by coalesce(a.expires_at, 'infinity'), a.id
            limit most
        ) page
        join hitl_approvals b on b.id = page.id
        order by page.deadline, page.id
    loop
        shown := shown || rooms_approval_json(one.approval);
        last := one.id;
        octets := octets + octet_length(shown[cardinality(shown)]::text);
        exit when octets > 1048576;
    end loop;
    outcome := 'found';
    approval := json_build_object('approvals', to_json(shown),
        'next', case when cardinality(shown) = most or octets > 1048576 then last end);
end $$;
comment on function rooms_list_approvals(text, text, text, integer, text) is 'rooms: GET /approvals';

-- created, exists (nothing is changed), no_session, past, too_long, too_large (the context)
create or replace function rooms_create_approval(new_id text, session text, tenant text, wanted text, details text,
    timeout_s double precision, deadline_ms bigint, out outcome text, out approval json)
language plpgsql security definer set search_path from current set timezone = 'UTC' as $$
declare
    moment timestamptz := clock_timestamp();
    deadline timestamptz;
    owner text;
    longest_s double precision;
    made jsonb;
begin
    select to_jsonb(a) into made from hitl_approvals a where a.id = new_id;
    if found then
        outcome := 'exists';
        approval := rooms_approval_json(made);
        return;
    end if;
    select s.tenant_id into owner from hitl_sessions s where s.id = session for key share;
    if not found or (tenant is not null and tenant is distinct from owner) then
        outcome := 'no_session';
        return;
    end if;
    -- Compared as numbers: some of them are beyond every interval and timestamp.
    select extract(epoch from d.longest) into longest_s from rooms_approval_defaults d;
    if timeout_s > longest_s or deadline_ms > rooms_ms(moment) + longest_s * 1000 then
        outcome := 'too_long';
        return;
    end if;
    if timeout_s <= 0 or deadline_ms <= rooms_ms(moment) then
        outcome := 'past';
        return;
    end if;
    deadline := case when deadline_ms is not null then to_timestamp(deadline_ms / 1000.0)
                     else moment + coalesce(make_interval(secs => timeout_s),
                                            rooms_approval_timeout(owner, wanted)) end;
    if octet_length(details::jsonb::text) > 524288 then
        outcome := 'too_large';
        return;
    end if;
    new_id := coalesce(new_id, gen_random_uuid()::text);
    if exists (select from pg_attribute where attrelid = 'hitl_approvals'::regclass
               and attname = 'tenant_id' and not attisdropped) then
        insert into hitl_approvals as a (id, session_id, tenant_id, action, context, status, expires_at)
        values (new_id, session, owner, wanted, details::jsonb, 'pending', deadline)
        on conflict do nothing
        returning to_jsonb(a) into made;
    else
        insert into hitl_approvals as a (id, session_id, action, context, status, expires_at)
        values (new_id, session, wanted, details::jsonb, 'pending', deadline)
        on conflict do nothing
        returning to_jsonb(a) into made;
    end if;
    outcome := 'created';
    if made is null then
        outcome := 'exists';
        select to_jsonb(a) into made from hitl_approvals a where a.id = new_id;
    else
        perform rooms_tell_session(session, 'approval:requested', jsonb_build_object(
            'id', format('approval:%s:requested', new_id), 'approvalId', new_id, 'action', wanted,
            'context', made -> 'context', 'tenantId', owner,
            'expiresAt', rooms_ms((made ->> 'expires_at')::timestamptz)));
    end if;
    approval := rooms_approval_json(made);
end $$;
comment on function rooms_create_approval(text, text, text, text, text, double precision, bigint) is
    'rooms: POST /approvals';

-- done, resolved (it had ended otherwise), expired (as late decisions are; it has ended now), not_found.
-- The deadline is tested by the trigger, in the UPDATE itself.
create or replace function rooms_resolve_approval(wanted text, verdict text, who text,
    out outcome text, out approval json)
language plpgsql security definer set search_path from current set timezone = 'UTC' as $$
declare
    made jsonb;
begin
    begin
        update hitl_approvals a set status = verdict, approved_by = coalesce(who, a.approved_by)
        where a.id = wanted and a.status = 'pending'
        returning to_jsonb(a) into made;
        outcome := 'done';
    exception when sqlstate 'RM410' then
        update hitl_approvals a set status = 'timeout' where a.id = wanted and a.status = 'pending';
    end;
    if made is null then
        select to_jsonb(a) into made from hitl_approvals a where a.id = wanted;
        outcome := case when made is null then 'not_found'
                        when made ->> 'status' = 'timeout' then 'expired'
                        else 'resolved' end;
    end if;
    approval := rooms_approval_json(made);
end $$;
comment on function rooms_resolve_approval(text, text, text) is
    'rooms: POST /approvals/ID/resolve and /cancel';

-- done, resolved, expired, not_found, too_long
create or replace function rooms_extend_approval(wanted text, by_s double precision,
    out outcome text, out approval json)
language plpgsql security definer set search_path from current set timezone = 'UTC' as $$
declare
    made jsonb;
    moment timestamptz;
    longest interval;
begin
    select d.longest into longest from rooms_approval_defaults d;
    -- Locked before the clock is read: from here on nobody else ends it.
    select to_jsonb(a) into made from hitl_approvals a where a.id = wanted for update;
    moment := clock_timestamp();
    if made is null then
        outcome := 'not_found';
        return;
    end if;
    if made ->> 'status' <> 'pending' then
        outcome := case when made ->> 'status' = 'timeout' then 'expired' else 'resolved' end;
    elsif (made ->> 'expires_at')::timestamptz <= moment then
        update hitl_approvals a set status = 'timeout' where a.id = wanted returning to_jsonb(a) into made;
        outcome := 'expired';
    elsif by_s > extract(epoch from longest) then
        -- Before the sum: some of them are beyond every interval.
        outcome := 'too_long';
    elsif (made ->> 'expires_at')::timestamptz + make_interval(secs => by_s) > moment + longest then
        outcome := 'too_long';
    else
        update hitl_approvals a set expires_at = a.expires_at + make_interval(secs => by_s)
        where a.id = wanted
        returning to_jsonb(a) into made;
        outcome := 'done';
    end if;
    approval := rooms_approval_json(made);
end $$;
comment on function rooms_extend_approval(text, double precision) is 'rooms: POST /approvals/ID/extend';

revoke all on function rooms_hold_session(text) from public;
revoke all on function rooms_warn_of(text[], timestamptz) from public;
revoke all on function rooms_sweep(integer, boolean) from public;
revoke all on function rooms_approval_json(jsonb) from public;
revoke all on function rooms_get_approval(text) from public;
revoke all on function rooms_list_approvals(text, text, text, integer, text) from public;
revoke all on function rooms_create_approval(text, text, text, text, text, double precision, bigint) from public;
revoke all on function rooms_resolve_approval(text, text, text) from public;
revoke all on function rooms_extend_approval(text, double precision) from public;

insert into rooms_migrations (name) values ('0006_create_approval_functions') on conflict do nothing;
commit;

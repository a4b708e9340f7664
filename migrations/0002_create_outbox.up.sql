-- rooms_outbox: a transaction inserts (room, type, data), and nginx publishes it after the commit.
begin;
set local lock_timeout = '10s';
set local client_min_messages = warning;
do $$ begin
    perform set_config('search_path', format('%I, pg_temp', coalesce(
        (select relnamespace::regnamespace::name from pg_class where oid = to_regclass('rooms_migrations')),
        current_schema())), true);
end $$;
lock table rooms_migrations in share row exclusive mode;

create table if not exists rooms_outbox (
    id bigint generated always as identity primary key,
    room text not null
        constraint rooms_outbox_room_check
        check (room ~ '^[a-z][a-z0-9_-]{0,31}:[A-Za-z0-9_.:@~-]{1,200}$'),
    type text not null
        constraint rooms_outbox_type_check
        check (octet_length(type) between 1 and 128 and type !~ '[[:cntrl:]]'),
    data jsonb not null default '{}'
        constraint rooms_outbox_data_check
        check (jsonb_typeof(data) = 'object' and octet_length(data::text) <= 1048576),
    -- The key and the age are made of it: 'infinity' would stop everybody's events.
    created_at timestamptz not null default clock_timestamp()
        constraint rooms_outbox_created_at_check
        check (created_at between '2000-01-01 00:00:00+00' and '3000-01-01 00:00:00+00'),
    refused text
);
comment on table rooms_outbox is
    'rooms: events that nginx publishes after the commit, in order per room, and then deletes';
comment on column rooms_outbox.room is 'kind:id';
comment on column rooms_outbox.data is 'the fields of the event';
comment on column rooms_outbox.refused is
    'why it can never be published; null: it waits. Set it to null to have it tried again';
create index if not exists rooms_outbox_waiting on rooms_outbox (id) where refused is null;

-- Its row is locked by who publishes. A table and not an advisory lock, which any role may hold.
create table if not exists rooms_relay (
    alone boolean primary key default true
        constraint rooms_relay_alone_check check (alone)
);
comment on table rooms_relay is 'rooms: one row, locked by the host that publishes the outbox';
insert into rooms_relay default values on conflict do nothing;

create or replace function rooms_ring_outbox() returns trigger
language plpgsql security definer set search_path from current set timezone = 'UTC' as $$
begin
    perform pg_notify('rooms_outbox', '');
    return null;
end $$;
comment on function rooms_ring_outbox() is 'rooms: wakes nginx when a transaction with new rows commits';
drop trigger if exists rooms_ring_outbox on rooms_outbox;
create trigger rooms_ring_outbox after insert on rooms_outbox
    for each statement execute function rooms_ring_outbox();

-- Called in a transaction that ends with rooms_finish_outbox: who takes is alone until the commit, so that
-- the order holds with any number of hosts. No row: there is none, or another host is at it.
-- `without` are rooms whose events have to wait. Ends early where much has been read.
--   status, late_ms   of an event that tells of an approval's end, what it tells; late: since the deadline
create or replace function rooms_take_outbox(most integer, without text[] default '{}')
returns table (id bigint, key text, room text, type text, data text, status text, late_ms bigint)
language plpgsql security definer set search_path from current set timezone = 'UTC' as $$
declare
    one record;
    octets bigint := 0;
begin
    -- A lock costs a transaction id, so none is taken for nothing.
    if not exists (select from rooms_outbox o where o.refused is null) then
        return;
    end if;
    perform from rooms_relay for update skip locked;
    if not found then
        return;
    end if;
    for one in
        select o.* from rooms_outbox o
        where o.refused is null and o.room <> all (without)
        order by o.id
        limit most
    loop
        id := one.id;
        key := format('outbox:%s:%s', one.id, (extract(epoch from one.created_at) * 1000000)::bigint);
        room := one.room;
        type := one.type;
        data := one.data::text;
        status := case when one.type = 'approval:resolved' and one.data ->> 'id'
                = format('approval:%s:%s', one.data ->> 'approvalId', one.data ->> 'status')
            then one.data ->> 'status' end;
        late_ms := case when status = 'timeout' and one.data ->> 'expiresAt' ~ '^[0-9]{1,15}$' then
            (extract(epoch from clock_timestamp()) * 1000)::bigint - (one.data ->> 'expiresAt')::bigint end;
        return next;
        octets := octets + octet_length(data);
        exit when octets > 262144;
    end loop;
end $$;
comment on function rooms_take_outbox(integer, text[]) is 'rooms: what waits in the outbox, oldest first';

create or replace function rooms_finish_outbox(published bigint[], unfit bigint[], reasons text[])
returns void
language sql security definer set search_path from current set timezone = 'UTC' as $$
    delete from rooms_outbox o where o.id = any (published);
    update rooms_outbox o set refused = u.reason
    from unnest(unfit, reasons) u (id, reason)
    where o.id = u.id;
$$;
comment on function rooms_finish_outbox(bigint[], bigint[], text[]) is
    'rooms: what has been published is deleted; what can never be keeps the reason';

revoke all on function rooms_ring_outbox() from public;
revoke all on function rooms_take_outbox(integer, text[]) from public;
revoke all on function rooms_finish_outbox(bigint[], bigint[], text[]) from public;

insert into rooms_migrations (name) values ('0002_create_outbox') on conflict do nothing;
commit;

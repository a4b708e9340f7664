-- Refuses to go while events wait: they would be lost.
begin;
set local lock_timeout = '10s';
set local client_min_messages = warning;
do $$
begin
    if to_regclass('rooms_outbox') is null then return; end if;
    lock table rooms_outbox in access exclusive mode;
    if exists (select from rooms_outbox) then
        raise exception 'rooms_outbox is not empty'
            using hint = 'Let nginx publish what waits, or delete the rows, those with "refused" too.';
    end if;
end $$;
drop function if exists rooms_finish_outbox(bigint[], bigint[], text[]);
drop function if exists rooms_take_outbox(integer, text[]);
drop table if exists rooms_outbox;
drop table if exists rooms_relay;
drop function if exists rooms_ring_outbox();
do $$ begin
    if to_regclass('rooms_migrations') is null then return; end if;
    delete from rooms_migrations where name = '0002_create_outbox';
end $$;
commit;

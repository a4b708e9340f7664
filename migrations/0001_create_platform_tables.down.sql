-- The tables stay: their rows are the platform's.
begin;
set local client_min_messages = warning;
do $$
begin
    if to_regclass('rooms_migrations') is null then return; end if;
    delete from rooms_migrations where name = '0001_create_platform_tables';
    if not exists (select from rooms_migrations) then
        drop table rooms_migrations;
    end if;
end $$;
commit;

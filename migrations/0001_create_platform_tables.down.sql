-- The tables stay: their rows are the platform's.
begin;
set local client_min_messages = warning;
delete from rooms_migrations where name = '0001_create_platform_tables';
do $$
begin
    if not exists (select from rooms_migrations) then
        drop table rooms_migrations;
    end if;
end $$;
commit;

-- rooms_approval_timeouts stays where somebody has written into it.
begin;
set local lock_timeout = '10s';
set local client_min_messages = warning;
drop function if exists rooms_approval_warning(timestamptz, timestamptz);
drop function if exists rooms_approval_timeout(text, text);
drop function if exists rooms_configure(double precision, double precision[], double precision);
drop table if exists rooms_approval_defaults;
do $$
begin
    if to_regclass('rooms_approval_timeouts') is null then return; end if;
    if exists (select from rooms_approval_timeouts) then return; end if;
    drop table rooms_approval_timeouts;
end $$;
do $$ begin
    if to_regclass('rooms_migrations') is null then return; end if;
    delete from rooms_migrations where name = '0003_create_approval_settings';
end $$;
commit;

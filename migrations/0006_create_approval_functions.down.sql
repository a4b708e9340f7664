begin;
set local lock_timeout = '10s';
set local client_min_messages = warning;
drop function if exists rooms_extend_approval(text, double precision);
drop function if exists rooms_resolve_approval(text, text, text);
drop function if exists rooms_create_approval(text, text, text, text, text, double precision, bigint);
drop function if exists rooms_list_approvals(text, text, text, integer, text);
drop function if exists rooms_get_approval(text);
drop function if exists rooms_approval_json(jsonb);
drop function if exists rooms_sweep(integer, boolean);
drop function if exists rooms_warn_of(text[], timestamptz);
drop function if exists rooms_hold_session(text);
do $$ begin
    if to_regclass('rooms_migrations') is null then return; end if;
    delete from rooms_migrations where name = '0006_create_approval_functions';
end $$;
commit;

-- Keeps every row: those that have timed out or were cancelled keep that status, under the old check,
-- which then holds for new rows only.
begin;
set local lock_timeout = '10s';
set local client_min_messages = warning;
drop index if exists hitl_approvals_pending_deadline;
drop index if exists hitl_approvals_pending_warning;
drop index if exists hitl_approvals_session_deadline;
do $$
declare
    ours text;
begin
    if exists (select from pg_constraint c
               where c.conrelid = 'hitl_approvals'::regclass and c.conname = 'hitl_approvals_status_check'
                   and obj_description(c.oid, 'pg_constraint') like 'rooms: %') then
        alter table hitl_approvals drop constraint hitl_approvals_status_check;
        alter table hitl_approvals add constraint hitl_approvals_status_check
            check (status in ('pending', 'approved', 'rejected')) not valid;
        if not exists (select from hitl_approvals where status not in ('pending', 'approved', 'rejected')) then
            alter table hitl_approvals validate constraint hitl_approvals_status_check;
        end if;
    end if;
    for ours in
        select attname from pg_attribute
        where attrelid = 'hitl_approvals'::regclass and not attisdropped
            and attname in ('expires_at', 'resolved_at', 'warn_at')
            and col_description(attrelid, attnum) like 'rooms: %'
    loop
        execute format('alter table hitl_approvals drop column %I', ours);
    end loop;
end $$;
do $$ begin
    if to_regclass('rooms_migrations') is null then return; end if;
    delete from rooms_migrations where name = '0004_add_approval_deadlines';
end $$;
commit;

-- Optional: takes the right to change balances, ledgers and finished sessions from signed-in users. Read
-- docs/hardening.md first: an app that takes credits with the user's own session needs a change. Re-runnable; nothing
-- is deleted, so grants undo it. Apply as the owner of the tables:
--   wearon-worker schema --hardening | psql "$DATABASE_URL" -v ON_ERROR_STOP=1

begin;
set local lock_timeout = '5s';

do $$
declare
    name text;
    role text;
begin
    for role in select 'public' union all select rolname from pg_roles where rolname in ('anon', 'authenticated') loop
        -- Row policies stay; without the privilege they allow nothing. Reading stays allowed.
        foreach name in array array['user_credits', 'credit_transactions', 'store_credits', 'store_shopper_credits',
            'store_credit_transactions'] loop
            execute format('revoke insert, update, delete, truncate on public.%I from %s', name, role);
        end loop;
        -- Users may still insert their own sessions, and read them.
        execute format('revoke update, delete, truncate on public.generation_sessions from %s', role);
        for name in
            select p.oid::regprocedure::text from pg_proc p
            where p.pronamespace = 'public'::regnamespace and p.proname in ('deduct_credits', 'refund_credits',
                'deduct_store_credits', 'refund_store_credits', 'add_store_credits', 'deduct_store_shopper_credits',
                'refund_store_shopper_credits')
        loop
            execute format('revoke execute on function %s from %s', name, role);
        end loop;
    end loop;
    if exists (select from pg_roles where rolname = 'service_role') then
        for name in
            select p.oid::regprocedure::text from pg_proc p
            where p.pronamespace = 'public'::regnamespace and p.proname in ('deduct_credits', 'refund_credits',
                'deduct_store_credits', 'refund_store_credits', 'add_store_credits', 'deduct_store_shopper_credits',
                'refund_store_shopper_credits')
        loop
            execute format('grant execute on function %s to service_role', name);
        end loop;
    end if;
end $$;

commit;

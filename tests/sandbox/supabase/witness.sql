-- A witness that the worker cannot influence: triggers write down every change of a session's status and of a balance,
-- so that tests count credits without trusting the ledgers or the worker's own audit.

create schema witness;

create table witness.status_changes (
    id bigserial primary key,
    at timestamptz not null default clock_timestamp(),
    transaction bigint not null default txid_current(),
    channel text not null,
    session_id uuid not null,
    old_status text,
    new_status text not null
);

create table witness.balance_changes (
    id bigserial primary key,
    at timestamptz not null default clock_timestamp(),
    transaction bigint not null default txid_current(),
    payer text not null,            -- user, store or shopper
    owner_id uuid not null,
    shopper_email text,
    old_balance int not null,
    new_balance int not null,
    delta int generated always as (new_balance - old_balance) stored
);

-- security definer: the triggers write also when the change came from a role that has no access to this schema.
create function witness.note_status() returns trigger language plpgsql security definer as $$
begin
    if tg_op = 'INSERT' then
        insert into witness.status_changes (channel, session_id, old_status, new_status)
        values (tg_argv[0], new.id, null, new.status);
    elsif old.status is distinct from new.status then
        insert into witness.status_changes (channel, session_id, old_status, new_status)
        values (tg_argv[0], new.id, old.status, new.status);
    end if;
    return null;
end $$;

create function witness.note_balance() returns trigger language plpgsql security definer as $$
declare
    account jsonb := to_jsonb(new);
    before int := 0;
begin
    if tg_op = 'UPDATE' then
        before := old.balance;
    end if;
    if before <> new.balance then
        insert into witness.balance_changes (payer, owner_id, shopper_email, old_balance, new_balance)
        values (tg_argv[0], coalesce(account ->> 'user_id', account ->> 'store_id')::uuid, account ->> 'shopper_email',
            before, new.balance);
    end if;
    return null;
end $$;

create trigger witness after insert or update on public.generation_sessions
    for each row execute function witness.note_status('b2c');
create trigger witness after insert or update on public.store_generation_sessions
    for each row execute function witness.note_status('b2b');
create trigger witness after insert or update on public.user_credits
    for each row execute function witness.note_balance('user');
create trigger witness after insert or update on public.store_credits
    for each row execute function witness.note_balance('store');
create trigger witness after insert or update on public.store_shopper_credits
    for each row execute function witness.note_balance('shopper');

-- As `truncate ... cascade`, with its locks, but an empty table costs nothing: a test fills five tables of twenty.
-- `replica` leaves out the checks of foreign keys, which nothing refers to any more.
create function witness.empty_tables(roots regclass[]) returns void language plpgsql
set session_replication_role = replica as $$
declare
    one record;
    found_rows boolean;
    filled text[] := '{}';
begin
    for one in
        with recursive reached as (
            select unnest(roots) as name
            union
            select conrelid::regclass from pg_constraint join reached on confrelid = name where contype = 'f'
        )
        select name, exists (select from pg_constraint where contype = 'f' and confrelid = name) as is_referred_to
        from reached
    loop
        execute format('lock table %s', one.name);
        execute format('select exists (select from %s)', one.name) into found_rows;
        if one.is_referred_to and pg_relation_size(one.name) > 1000000 then
            execute format('truncate %s cascade', array_to_string(roots, ', '));
            return;
        elsif found_rows and one.is_referred_to then
            execute format('delete from %s', one.name);
        elsif found_rows then
            filled := filled || one.name::text;
        end if;
    end loop;
    if filled <> '{}' then
        execute 'truncate ' || array_to_string(filled, ', ');
    end if;
end $$;

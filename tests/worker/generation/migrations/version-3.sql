-- Everything that changes a session's state, each function one transaction, and the audit of the ledgers. Additive and
-- re-runnable: functions in terms of the tables and functions that are already there, and the schema `wearon` with the
-- audit's own notes. Apply as the owner of those tables:
--   psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f functions.sql
--
-- Each returns a jsonb object: "changed" says whether this call did it; "status" is the session's status now, null when
-- there is no such session. A call that finds the session in another state changes nothing, so every call may be
-- repeated, and of two that race the first wins.

begin;

-- Of version 1, without the ledger's say.
drop function if exists public.wearon_refund_store_session(jsonb, int, text);

-- The session's row, locked until the end of the transaction; null when there is none.
create or replace function public.wearon_lock_session(p_channel text, p_session_id uuid)
returns jsonb language plpgsql set search_path = public, pg_temp as $$
declare
    row_found jsonb;
begin
    if p_channel = 'b2c' then
        select to_jsonb(s) || jsonb_build_object('owner_id', s.user_id) into row_found
        from generation_sessions s where s.id = p_session_id for update;
    elsif p_channel = 'b2b' then
        select to_jsonb(s) || jsonb_build_object('owner_id', s.store_id) into row_found
        from store_generation_sessions s where s.id = p_session_id for update;
    else
        raise exception 'unknown channel %, expected b2b or b2c', p_channel using errcode = '22023';
    end if;
    return row_found;
end $$;

-- What the users' ledger says of a session: taken, refunded, delivered, spent or absent.
--
-- The ledger decides, because users may write their own session rows. The first call binds the session to one of its
-- owner's deductions by the text "(session=<id>)", so that no deduction pays for two sessions. A deduction counts as
-- spent when a refund of the app, which binds nothing, has returned it. "absent": the ledger has no deduction of these
-- days at all. A try-on is settled within hours, so a deduction older than 7 days is not this session's.
create or replace function public.wearon_user_ledger(p_user_id uuid, p_session_id uuid)
returns text language plpgsql set search_path = public, pg_temp as $$
declare
    since timestamptz := now() - interval '7 days';
    taken int;
    free int;
begin
    -- One at a time for each user: the credit functions lock this row, too.
    perform from user_credits where user_id = p_user_id for update;
    if exists (select from credit_transactions where user_id = p_user_id and type = 'refund'
               and strpos(description, p_session_id::text) > 0) then
        return 'refunded';
    end if;
    if exists (select from credit_transactions where user_id = p_user_id and type = 'generation'
               and strpos(description, format('(session=%s, delivered)', p_session_id)) > 0) then
        return 'delivered';
    end if;
    if exists (select from credit_transactions where user_id = p_user_id and type = 'generation'
               and strpos(description, format('(session=%s)', p_session_id)) > 0) then
        return 'taken';
    end if;
    -- A refund follows its deduction within hours: one of the last two days of the window may be of an older deduction.
    with lines as materialized (
        select type, coalesce(created_at, now()) > since + case type
            when 'refund' then interval '2 days' else interval '0' end as recent,
            substring(description from case type
            when 'generation' then '\(session=([0-9a-f-]{36})' else '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}' end
        ) as session
        from credit_transactions
        where user_id = p_user_id and (type = 'generation' and amount < 0 or type = 'refund')
    )
    select count(*) filter (where type = 'generation' and recent),
        count(*) filter (where type = 'generation' and recent and session is null)
        - count(*) filter (where type = 'refund' and recent and not exists (
            select from lines bound where bound.type = 'generation' and bound.session = lines.session))
    into taken, free from lines;
    if free <= 0 then
        return case taken when 0 then 'absent' else 'spent' end;
    end if;
    update credit_transactions set description = concat_ws(' ', description, format('(session=%s)', p_session_id))
    where id = (select id from credit_transactions
                where user_id = p_user_id and type = 'generation' and amount < 0
                    and coalesce(created_at, now()) > since and strpos(coalesce(description, ''), '(session=') = 0
                order by created_at desc limit 1);
    return 'taken';
end $$;

-- What the stores' ledger says of a session: store or shopper (who paid), refunded, overage or absent.
--
-- Clients choose the request id and may use it twice. The deduction belongs to the first session with its request id;
-- the sessions after it were billed as overage.
create or replace function public.wearon_store_ledger(p_session jsonb)
returns text language plpgsql set search_path = public, pg_temp as $$
declare
    store uuid := (p_session ->> 'store_id')::uuid;
    request text := p_session ->> 'request_id';
    created timestamptz := (p_session ->> 'created_at')::timestamptz;
    deduction store_credit_transactions;
begin
    select * into deduction from store_credit_transactions
    where store_id = store and request_id = request and type = 'deduction';
    if found and created < deduction.created_at + interval '1 hour' and not exists (
        select from store_generation_sessions other
        where other.store_id = store and other.created_at between deduction.created_at - interval '1 hour' and created
            and other.request_id = request and (other.created_at, other.id) < (created, (p_session ->> 'id')::uuid)
    ) then
        return case
            when exists (select from store_credit_transactions
                         where store_id = store and request_id = request and type = 'refund') then 'refunded'
            when deduction.description like '%(shopper=%)' then 'shopper'
            else 'store' end;
    end if;
    return case
        when exists (select from store_credit_transactions
                     where store_id = store and request_id = request and type = 'overage') then 'overage'
        else 'absent' end;
end $$;

-- Says what the ledger says of a session, whoever paid.
create or replace function public.wearon_ledger(p_channel text, p_session jsonb)
returns text language sql set search_path = public, pg_temp as $$
    select case p_channel
        when 'b2c' then wearon_user_ledger((p_session ->> 'user_id')::uuid, (p_session ->> 'id')::uuid)
        else wearon_store_ledger(p_session) end
$$;

-- queued|pending -> processing, for the owner that the message names. "owner_matches" is false when the session belongs
-- to another owner, "paid" when the ledger shows that its credit was never taken, went back, or is used; then nothing
-- changes.
create or replace function public.start_generation(p_channel text, p_session_id uuid, p_owner_id uuid)
returns jsonb language plpgsql set search_path = public, pg_temp as $$
declare
    session jsonb := wearon_lock_session(p_channel, p_session_id);
    matches boolean := (session ->> 'owner_id')::uuid is not distinct from p_owner_id;
begin
    if session is null then
        return jsonb_build_object('changed', false, 'status', null, 'owner_matches', null);
    end if;
    if not matches or session ->> 'status' not in ('queued', 'pending') then
        return jsonb_build_object('changed', false, 'status', session ->> 'status', 'owner_matches', matches);
    end if;
    if wearon_ledger(p_channel, session) in ('refunded', 'delivered', 'spent') then
        return jsonb_build_object(
            'changed', false, 'status', session ->> 'status', 'owner_matches', true, 'paid', false);
    end if;
    if p_channel = 'b2c' then
        update generation_sessions set status = 'processing', error_message = null where id = p_session_id;
    else
        update store_generation_sessions set status = 'processing', error_message = null where id = p_session_id;
    end if;
    return jsonb_build_object('changed', true, 'status', 'processing', 'owner_matches', true, 'paid', true);
end $$;

-- processing -> queued: it will be tried again.
create or replace function public.requeue_generation(p_channel text, p_session_id uuid)
returns jsonb language plpgsql set search_path = public, pg_temp as $$
declare
    session jsonb := wearon_lock_session(p_channel, p_session_id);
begin
    if session is null or session ->> 'status' <> 'processing' then
        return jsonb_build_object('changed', false, 'status', session ->> 'status');
    end if;
    if p_channel = 'b2c' then
        update generation_sessions set status = 'queued' where id = p_session_id;
    else
        update store_generation_sessions set status = 'queued' where id = p_session_id;
    end if;
    return jsonb_build_object('changed', true, 'status', 'queued');
end $$;

-- processing -> completed, with the picture's address and what it cost. "image_url" is the stored address, so that a
-- caller whose first answer was lost can see that it was its own call that did it. A session whose credit went back
-- meanwhile (the app's own clean-up refunds after 10 minutes) becomes failed: one credit is not both.
create or replace function public.complete_generation(
    p_channel text, p_session_id uuid, p_image_url text, p_input_tokens int, p_output_tokens int,
    p_cost_usd numeric, p_processing_time_ms int
) returns jsonb language plpgsql set search_path = public, pg_temp as $$
declare
    session jsonb := wearon_lock_session(p_channel, p_session_id);
begin
    if session is null or session ->> 'status' <> 'processing' then
        if p_channel = 'b2c' and session ->> 'status' = 'failed' then
            perform wearon_release_deduction(session);
        end if;
        return jsonb_build_object(
            'changed', false, 'status', session ->> 'status', 'image_url', session ->> 'generated_image_url');
    end if;
    if wearon_ledger(p_channel, session) = 'refunded' then
        perform wearon_end_session(p_channel, p_session_id, 'Creating your try-on took too long. Please try again.',
            p_processing_time_ms);
        return jsonb_build_object('changed', false, 'status', 'failed', 'image_url', null);
    end if;
    if p_channel = 'b2c' then
        update generation_sessions set status = 'completed', generated_image_url = p_image_url, error_message = null,
            input_tokens = p_input_tokens, output_tokens = p_output_tokens, estimated_cost_usd = p_cost_usd,
            processing_time_ms = p_processing_time_ms, completed_at = now()
        where id = p_session_id;
        -- A row that its user opens again does not pay a second time.
        update credit_transactions set description = replace(description, format('(session=%s)', p_session_id),
            format('(session=%s, delivered)', p_session_id))
        where user_id = (session ->> 'user_id')::uuid and type = 'generation'
            and strpos(description, format('(session=%s)', p_session_id)) > 0;
    else
        update store_generation_sessions set status = 'completed', generated_image_url = p_image_url,
            error_message = null, input_tokens = p_input_tokens, output_tokens = p_output_tokens,
            estimated_cost_usd = p_cost_usd, processing_time_ms = p_processing_time_ms, completed_at = now()
        where id = p_session_id;
    end if;
    return jsonb_build_object('changed', true, 'status', 'completed', 'image_url', p_image_url);
end $$;

-- queued|pending|processing -> failed, and the credit goes back to whoever paid, together or not at all. A session that
-- the app has failed without a refund (a store's uninstall) gets its credit back, too.
-- "refund" says where the credit went: user, store, shopper; overage (billed outside: to be refunded by hand),
-- unmatched (no deduction in the ledger: nothing was taken), already_refunded, none (the picture was delivered).
create or replace function public.fail_generation(
    p_channel text, p_session_id uuid, p_message text, p_processing_time_ms int default null
) returns jsonb language plpgsql set search_path = public, pg_temp as $$
declare
    session jsonb := wearon_lock_session(p_channel, p_session_id);
    refund text;
begin
    if session is null or session ->> 'status' = 'completed' then
        return jsonb_build_object('changed', false, 'status', session ->> 'status', 'refund', null);
    end if;
    if session ->> 'status' = 'failed' then
        refund := wearon_refund(p_channel, session, true);
        return jsonb_build_object('changed', refund is not null, 'status', 'failed', 'refund', refund);
    end if;
    perform wearon_end_session(p_channel, p_session_id, p_message, p_processing_time_ms);
    refund := wearon_refund(p_channel, session, false);
    return jsonb_build_object('changed', true, 'status', 'failed', 'refund', refund);
end $$;

create or replace function public.wearon_end_session(
    p_channel text, p_session_id uuid, p_message text, p_processing_time_ms int
) returns void language plpgsql set search_path = public, pg_temp as $$
begin
    if p_channel = 'b2c' then
        update generation_sessions set status = 'failed', error_message = p_message, completed_at = now(),
            processing_time_ms = coalesce(p_processing_time_ms, processing_time_ms)
        where id = p_session_id;
    else
        update store_generation_sessions set status = 'failed', error_message = p_message, completed_at = now(),
            processing_time_ms = coalesce(p_processing_time_ms, processing_time_ms)
        where id = p_session_id;
    end if;
end $$;

-- Unbinds the deduction of a user's session that the app has failed: the app refunds before it fails a session, and
-- its refund may name no session.
create or replace function public.wearon_release_deduction(p_session jsonb)
returns void language sql set search_path = public, pg_temp as $$
    update credit_transactions
    set description = nullif(trim(replace(description, format('(session=%s)', p_session ->> 'id'), '')), '')
    where user_id = (p_session ->> 'user_id')::uuid and type = 'generation'
        and strpos(description, format('(session=%s)', p_session ->> 'id')) > 0
$$;

-- Gives the session's one credit back, if the ledger shows that it was taken and is unused; -> fail_generation's
-- "refund". `p_failed_before`: the session was failed by another hand; null then unless a credit goes back, which the
-- app has given back to a user already.
create or replace function public.wearon_refund(p_channel text, p_session jsonb, p_failed_before boolean)
returns text language plpgsql set search_path = public, pg_temp as $$
declare
    -- The session's id in the ledger text is what the audit matches refunds by.
    note text := format('Refund: try-on failed (session=%s)', p_session ->> 'id');
    owner uuid := (p_session ->> 'owner_id')::uuid;
    request text := p_session ->> 'request_id';
    ledger text;
    shopper text;
begin
    if p_failed_before and p_channel = 'b2c' then
        perform wearon_release_deduction(p_session);
        return null;
    end if;
    ledger := wearon_ledger(p_channel, p_session);
    if ledger = 'taken' then
        -- refund_credits does not notice a missing balance.
        if not exists (select from user_credits where user_id = owner) then
            raise exception 'user % has no balance for the refund of session %', owner, p_session ->> 'id';
        end if;
        perform refund_credits(owner, 1, note);
        return 'user';
    elsif ledger = 'store' then
        perform refund_store_credits(owner, 1, request, note);
        return 'store';
    elsif ledger = 'shopper' then
        -- An address may contain parentheses: everything up to the last one.
        select substring(description from '\(shopper=(.*)\)$') into shopper from store_credit_transactions
        where store_id = owner and request_id = request and type = 'deduction';
        perform refund_store_shopper_credits(owner, shopper, 1, request, note);
        return 'shopper';
    elsif p_failed_before then
        return null;
    end if;
    return case ledger
        when 'overage' then 'overage'
        when 'refunded' then 'already_refunded'
        when 'delivered' then 'none'
        else 'unmatched' end;
end $$;

-- The audit ----------------------------------------------------------------------------------------------------------
--
-- Proves from the ledgers that one credit taken is one picture delivered or one credit back. The worker calls
-- wearon_audit_step until "done"; each call works for a moment, keeps its place in `wearon`, and moves no rows to the
-- worker. An audit proves everything (full), or what has changed since the last audit: ledger lines by their
-- transaction (xmin), which neither a late commit nor a wrong clock hides; sessions of the time since, and the open
-- ones; all balances. A ledger that has lost lines starts a full audit.

create schema if not exists wearon;

create table if not exists wearon.audit_state (
    one boolean primary key default true check (one),
    run uuid,                       -- the audit that is under way
    stepped_at timestamptz,
    ended uuid,                     -- the last one, so that a repeated call finds its end
    phase text,
    scope text,                     -- of the key that was proven last in this phase
    place uuid,                     -- and that key
    block bigint,                   -- next block to read in this phase
    everything boolean,
    begun_at timestamptz,
    sessions bigint,                -- proven in this audit
    old_lines bigint,               -- found in this audit, of before the last one
    next_horizon xid8,
    horizon xid8,                   -- the last audit has seen all older transactions
    proven_at timestamptz,          -- when that audit began
    full_at timestamptz,            -- and the last full one
    small_bytes bigint not null default 33554432  -- ledgers up to this size are proven in full every time
);
create table if not exists wearon.audit_accounts (
    payer text not null,            -- user, store or shopper
    owner_id uuid not null,
    shopper text not null default '',
    lines bigint not null,
    old_lines bigint not null,      -- of before the last audit
    ledger bigint not null,         -- sum of the lines that move the balance
    income bigint not null,         -- of these: bonus, purchases and subscriptions
    deducted bigint not null,
    refunded bigint not null,
    bonus boolean not null default false,
    notes jsonb,
    run uuid,
    primary key (payer, owner_id, shopper)
);
create table if not exists wearon.audit_findings (
    id bigint generated always as identity primary key,
    scope text not null,            -- the proof that found it (users, stores, sessions, refunds) and what it looked at
    key uuid not null,
    kind text not null,             -- "open": no fault, but to be looked at again
    channel text not null,
    owner_id uuid not null,
    session_id uuid,
    request_id text,
    line_id uuid,
    credits bigint not null,
    detail text not null default ''
);
create index if not exists audit_findings_key on wearon.audit_findings (scope, key);
create table if not exists wearon.audit_touched (scope text, key uuid, primary key (scope, key));

-- Empties a table of notes: in a moment, unless another program, such as a backup, has locked the table for a while.
create or replace function public.wearon_audit_clear(p_table regclass)
returns void language plpgsql set search_path = public, pg_temp as $$
begin
    execute format('lock table %s in access exclusive mode nowait', p_table);
    execute format('truncate %s', p_table);
exception when lock_not_available then
    execute format('delete from %s', p_table);
end $$;

-- A balance is the sum of its ledger. `p_counter` is what the account has earned or bought by its own count: credits
-- that came in without a line (shoppers' purchases, accounts that are older than the ledger) are its opening balance.
-- A user's sign-up bonus has a line, so an account with that line has no opening balance.
create or replace function public.wearon_audit_explains(
    p_balance bigint, p_counter bigint, p_spent bigint, p_lines bigint, p_ledger bigint, p_income bigint,
    p_bonus boolean
) returns boolean language sql immutable as $$
    select p_balance = p_ledger or not p_bonus and (
        p_balance = p_counter - p_income + p_ledger or p_lines = 0 and p_balance = p_counter - p_spent)
$$;

-- Proves users: refunds that name their session one by one, all other lines by number.
create or replace function public.wearon_audit_users(p_users uuid[], p_run uuid, p_horizon xid8)
returns void language plpgsql set search_path = public, pg_temp set enable_seqscan = off set jit = off as $$
begin
    delete from wearon.audit_findings where scope = 'users' and key = any(p_users);
    delete from wearon.audit_accounts where payer = 'user' and owner_id = any(p_users);
    with line as materialized (
        select id, user_id, type, amount::bigint, coalesce(age(xmin) > age(p_horizon::xid), false) as old,
            type = 'generation' and strpos(description, ', delivered)') > 0 as delivered,
            case when type = 'generation' and strpos(description, '(session=') > 0
                then substring(description from '\(session=([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})')
            when type = 'refund' and length(description) >= 36
                then substring(lower(description) from '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}')
            end::uuid as session
        from credit_transactions where user_id = any(p_users)
    ), fact as (
        select user_id, id as session, status, null::bigint as taken, false as delivered, null::bigint as refunded,
            0 as refunds, null::uuid as line
        from generation_sessions where user_id = any(p_users)
        union all select user_id, session, null, abs(amount), delivered, null, 0, null
        from line where type = 'generation' and session is not null
        union all select user_id, session, null, null, false, amount, 1, id
        from line where type = 'refund' and session is not null
    ), session as materialized (
        select user_id, session, max(status) as status, sum(taken) as taken, bool_or(delivered) as delivered,
            sum(refunded) as refunded, sum(refunds) as refunds, max(line::text)::uuid as line,
            case when max(status) is null and sum(refunds) > 0
                then (select s.user_id from generation_sessions s where s.id = fact.session) end as other
        from fact group by user_id, session
    ), judged as materialized (
        select *, case
            when refunds = 0 then null
            when other is not null then 'refunded_to_another'
            -- Taken again, in the session's name: delivered and paid once.
            when (status = 'completed' or delivered) and taken > refunded then null
            when status = 'completed' or delivered then 'completed_and_refunded'
            when status <> 'failed' then 'open_and_refunded'
            when status is null and taken is null or refunded = coalesce(taken, 1) then null
            when refunds > 1 then 'refunded_twice'
            else 'refunded_wrong_amount' end as kind
        from session
    ), number as (
        select user_id,
            coalesce(sum(1) filter (where taken is null and status in ('completed', 'queued', 'pending', 'processing')
                or taken is null and status = 'failed' and refunds > 0), 0) as used,
            count(*) filter (where taken is null and status = 'failed' and refunds = 0) as unbound,
            count(*) filter (where taken > 0 and not delivered and status = 'failed' and refunds = 0) as bound,
            coalesce(sum(taken) filter (where status is null and refunds = 0), 0) as rowless,
            count(*) filter (where taken > 0 and status is null and refunds > 0) as gone,
            count(*) filter (where delivered and status <> 'completed') as rewritten,
            count(*) filter (where status in ('queued', 'pending', 'processing')) as open,
            coalesce(sum(refunded) filter (where status is null and taken is null and other is null), 0) as nowhere,
            (array_agg(session) filter (where status = 'failed' and refunds = 0 and not delivered)) as unrefunded,
            coalesce(sum(refunded) filter (where kind is not null), 0) as named_wrong
        from judged group by user_id
    ), account as (
        select user_id, count(*) as lines, count(*) filter (where old) as old_lines,
            sum(case type when 'generation' then -abs(amount) else amount end) as ledger,
            coalesce(sum(amount) filter (where type = 'signup_bonus'), 0) as income,
            coalesce(sum(abs(amount)) filter (where type = 'generation'), 0) as deducted,
            coalesce(sum(amount) filter (where type = 'refund'), 0) as refunded,
            coalesce(sum(amount) filter (where type = 'refund' and session is null), 0) as unnamed,
            coalesce(sum(abs(amount)) filter (where type = 'generation' and session is null), 0) as free,
            coalesce(bool_or(type = 'signup_bonus'), false) as bonus
        from line group by user_id
    ), counted as (
        select u.user_id, coalesce(lines, 0) as lines, coalesce(old_lines, 0) as old_lines,
            coalesce(ledger, 0) as ledger, coalesce(income, 0) as income, coalesce(deducted, 0) as deducted,
            coalesce(refunded, 0) as refunded, coalesce(bonus, false) as bonus,
            coalesce(unnamed, 0) + coalesce(nowhere, 0) as loose, coalesce(unbound, 0) as unbound,
            coalesce(bound, 0) as bound, coalesce(rowless, 0) as rowless, coalesce(gone, 0) as gone,
            coalesce(rewritten, 0) as rewritten, coalesce(open, 0) as open, unrefunded,
            coalesce(named_wrong, 0) as named_wrong,
            coalesce(free, 0) - coalesce(used, 0) - coalesce(unbound, 0) as surplus,
            c.balance, coalesce(c.total_earned, 10) as earned, coalesce(c.total_spent, 0) as spent
        from unnest(p_users) u (user_id) left join account using (user_id) left join number using (user_id)
        left join user_credits c using (user_id)
        where lines > 0 or balance is not null or unbound is not null
    ), matched as (
        -- A refund needs a failed session or, where the row is gone, a deduction without one. A failed session needs a
        -- refund, unless nothing was taken for it.
        select *, greatest(loose - unbound - bound, 0) as extra, greatest(surplus, 0) as sessionless,
            greatest(unbound + bound - loose, 0) as missing, greatest(-surplus, 0) as free_of_charge
        from counted
    ), verdict as materialized (
        select *, extra - least(extra, sessionless) as unexplained,
            missing - least(missing, free_of_charge, unbound) as unpaid,
            wearon_audit_explains(balance, earned, spent, lines, ledger::bigint, income::bigint, bonus) as explained
        from matched
    ), written as (
        insert into wearon.audit_accounts
        select 'user', user_id, '', lines, old_lines, ledger, income, deducted, refunded, bonus,
            nullif(jsonb_strip_nulls(jsonb_build_object(
                'refund_without_session_id', nullif(least(loose, unbound + bound), 0),
                'session_gone', nullif(gone + least(extra, sessionless), 0),
                'deduction_without_session', nullif(rowless + sessionless - least(extra, sessionless), 0),
                'session_without_deduction', nullif(free_of_charge, 0),
                'row_rewritten', nullif(rewritten, 0),
                'opening_balance', nullif(coalesce((explained and balance <> ledger)::int, 0), 0))), '{}'),
            p_run
        from verdict where lines > 0 or balance is not null
    )
    insert into wearon.audit_findings (scope, key, channel, kind, owner_id, session_id, line_id, credits, detail)
    select 'users', owner_id, 'b2c', kind, owner_id, session_id, line_id, credits, detail from (
        select user_id, kind, session, line,
            abs(refunded - case when kind in ('refunded_twice', 'refunded_wrong_amount')
                then coalesce(taken, 1) else 0 end),
            case kind when 'refunded_to_another' then format('the session belongs to user %s', other)
                else format('refunds: %s, credits: %s for %s', refunds, refunded, coalesce(taken, 1)) end
        from judged where kind is not null
        union all select user_id, 'refund_unexplained', null, (
                select max(id::text)::uuid from line where line.user_id = verdict.user_id and type = 'refund' and (
                    session is null or not exists (select from session known
                        where known.session = line.session and known.status is not null))),
            unexplained, format('refunds without a failed session: %s credits', loose)
        from verdict where unexplained > 0
        union all select user_id, 'failed_not_refunded', named, null, 1, ''
        from verdict, unnest(unrefunded) named where unpaid > 0 and unpaid = unbound + bound
        union all select user_id, 'failed_not_refunded', null, null, unpaid, format(
            '%s of the %s credits of these failed sessions: %s', unpaid, unbound + bound,
            array_to_string(unrefunded[:20], ', '))
        from verdict where unpaid > 0 and unpaid < unbound + bound
        union all select user_id, 'refunds_exceed_deductions', odd.session, odd.line,
            refunded - deducted, format('refunded %s, deducted %s', refunded, deducted)
        from verdict left join lateral (
            select j.session, j.line from judged j
            where j.user_id = verdict.user_id and j.refunds > 0 and j.taken is null limit 1) odd on true
        where refunded - deducted > greatest(unexplained, 0) and named_wrong = 0 and unexplained = 0
        union all select user_id, 'user_balance_differs', null, null, least(abs(coalesce(balance, 0) - ledger),
            case when not bonus then abs(balance - (earned - income) - ledger) end),
            format('balance %s, ledger %s', coalesce(balance::text, 'missing'), ledger)
        from verdict where explained is not true and (lines > 0 or balance is not null)
        union all select user_id, 'open', null, null, 0, '' from verdict where open > 0
    ) as found (owner_id, kind, session_id, line_id, credits, detail);
end $$;

-- Proves the balances of stores and their shoppers, each against the sum of its own lines.
create or replace function public.wearon_audit_stores(p_stores uuid[], p_run uuid, p_horizon xid8)
returns void language plpgsql set search_path = public, pg_temp set enable_seqscan = off set jit = off as $$
begin
    delete from wearon.audit_findings where scope = 'stores' and key = any(p_stores);
    delete from wearon.audit_accounts where payer in ('store', 'shopper') and owner_id = any(p_stores);
    with line as (
        select store_id, type, amount::bigint, request_id, coalesce(age(xmin) > age(p_horizon::xid), false) as old,
            case when description like '%(shopper=%)' then 'shopper' else 'store' end as payer,
            case when description like '%(shopper=%)'
                then lower(trim(substring(description from '\(shopper=(.*)\)$'))) else '' end as shopper
        from store_credit_transactions where store_id = any(p_stores)
    ), summed as (
        select store_id, payer, shopper, count(*) as lines, count(*) filter (where old) as old_lines,
            coalesce(sum(case type when 'deduction' then -abs(amount) else amount end)
                filter (where type <> 'overage'), 0) as ledger,
            coalesce(sum(amount) filter (where type in ('purchase', 'subscription')), 0) as income,
            coalesce(sum(abs(amount)) filter (where type = 'deduction'), 0) as deducted,
            coalesce(sum(amount) filter (where type = 'refund'), 0) as refunded,
            coalesce(sum(amount) filter (where type = 'refund' and request_id is null), 0)
            - coalesce(sum(abs(amount)) filter (where type = 'deduction' and request_id is null), 0) as nameless
        from line group by store_id, payer, shopper
    ), account as (
        select store_id, 'store' as payer, '' as shopper, balance, total_purchased as bought, total_spent as spent
        from store_credits where store_id = any(p_stores)
        union all
        -- Addresses that differ in case are one shopper: the credit functions take them in lower case.
        select store_id, 'shopper', lower(trim(shopper_email)), sum(balance), sum(total_purchased), sum(total_spent)
        from store_shopper_credits where store_id = any(p_stores) group by 1, 3
    ), verdict as materialized (
        select store_id, payer, shopper, balance, bought - coalesce(income, 0) as opening,
            coalesce(lines, 0) as lines, coalesce(old_lines, 0) as old_lines,
            coalesce(ledger, 0) as ledger, coalesce(income, 0) as income, coalesce(deducted, 0) as deducted,
            coalesce(refunded, 0) as refunded, coalesce(nameless, 0) as nameless,
            wearon_audit_explains(balance, bought, spent, coalesce(lines, 0), coalesce(ledger, 0)::bigint,
                coalesce(income, 0)::bigint, false) as explained
        from account full join summed using (store_id, payer, shopper)
    ), written as (
        insert into wearon.audit_accounts
        select payer, store_id, shopper, lines, old_lines, ledger,
            income, deducted, refunded, false,
            case when explained and balance <> ledger then '{"opening_balance": 1}'::jsonb end, p_run
        from verdict
    )
    insert into wearon.audit_findings (scope, key, channel, kind, owner_id, credits, detail)
    select 'stores', store_id, 'b2b', payer || '_balance_differs', store_id,
        least(abs(coalesce(balance, 0) - ledger), abs(balance - opening - ledger)),
        format('balance %s, ledger %s%s%s', coalesce(balance::text, 'missing'), ledger,
            case when opening <> 0 then format(', bought without a line %s', opening) else '' end,
            case payer when 'shopper' then ', shopper with the MD5 ' || left(md5(shopper), 8) else '' end)
    from verdict where explained is not true and (balance is not null or ledger <> 0)
    union all
    select 'stores', store_id, 'b2b', 'refunds_exceed_deductions', store_id, refunded - deducted,
        format('refunded %s, deducted %s', refunded, deducted)
    from verdict where refunded > deducted
    union all
    select 'stores', store_id, 'b2b', 'refund_unexplained', store_id, nameless,
        'refunds without a request id are more than such deductions'
    from verdict where nameless > 0;
end $$;

-- Proves refund lines of stores: a deduction of the same request, amount and payer.
create or replace function public.wearon_audit_refunds(p_lines uuid[])
returns void language plpgsql set search_path = public, pg_temp set enable_seqscan = off set jit = off as $$
begin
    delete from wearon.audit_findings where scope = 'refunds' and key = any(p_lines);
    with pair as (
        select r.id, r.store_id, r.request_id, r.amount::bigint as refunded, abs(d.amount::bigint) as taken,
            r.description,
            coalesce(d.created_at, r.created_at) as around,
            lower(trim(coalesce(substring(r.description from '\(shopper=(.*)\)$'), ''))) as refunded_to,
            lower(trim(coalesce(substring(d.description from '\(shopper=(.*)\)$'), ''))) as payer,
            exists (select from store_credit_transactions o where o.store_id = r.store_id
                and o.request_id = r.request_id and o.type = 'overage') as billed
        from store_credit_transactions r left join store_credit_transactions d
            on d.store_id = r.store_id and d.request_id = r.request_id and d.type = 'deduction'
        where r.id = any(p_lines) and r.type = 'refund' and r.request_id is not null
    ), judged as (
        select *, case
            when taken is null and billed then null
            when taken is null then 'refund_unexplained'
            when payer <> refunded_to then 'refunded_to_another'
            when refunded <> taken then 'refunded_wrong_amount' end as kind,
            (select everything from wearon.audit_state) as everything
        from pair
    ), named as materialized (
        select *, coalesce(
            substring(description from '\(session=([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})')::uuid,
            (select s.id from store_generation_sessions s where s.store_id = judged.store_id
                and s.created_at between around - interval '1 hour' and around + interval '1 hour'
                and s.request_id = judged.request_id order by s.created_at, s.id limit 1)) as session
        from judged where kind is not null or not everything
    ), sessions as (
        -- A session may have ended long before its refund.
        insert into wearon.audit_touched
        select distinct 'sessions', session from named where session is not null and not everything
        on conflict do nothing
    )
    insert into wearon.audit_findings
        (scope, key, channel, kind, owner_id, session_id, request_id, line_id, credits, detail)
    select 'refunds', id, 'b2b', kind, store_id, session, request_id, id,
        case kind when 'refunded_wrong_amount' then abs(refunded - taken) else abs(refunded) end,
        case kind when 'refunded_to_another' then format('paid by the %s, refunded to %s',
                case payer when '' then 'store' else 'shopper' end,
                case when refunded_to = '' then 'the store' when payer = '' then 'a shopper' else 'another shopper' end)
            when 'refunded_wrong_amount' then format('refunded %s, deducted %s', refunded, taken)
            else 'no deduction of this request' end
    from named where kind is not null;
end $$;

-- Proves sessions of stores against the lines of their requests. A request id may be used twice: its deduction and
-- refund belong to the first session, as wearon_store_ledger has it.
create or replace function public.wearon_audit_sessions(p_sessions uuid[])
returns void language plpgsql set search_path = public, pg_temp set enable_seqscan = off set jit = off as $$
begin
    delete from wearon.audit_findings where scope = 'sessions' and key = any(p_sessions);
    with session as (
        select s.id, s.store_id, s.status, s.request_id, s.created_at, abs(d.amount::bigint) as taken,
            r.amount as refunded,
            r.id as refund, abs(o.amount::bigint) as billed, d.created_at as taken_at,
            substring(r.description from '\(session=([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})')::uuid as named
        from store_generation_sessions s
        left join store_credit_transactions d
            on d.store_id = s.store_id and d.request_id = s.request_id and d.type = 'deduction'
        left join store_credit_transactions r
            on r.store_id = s.store_id and r.request_id = s.request_id and r.type = 'refund'
        left join store_credit_transactions o
            on o.store_id = s.store_id and o.request_id = s.request_id and o.type = 'overage'
        where s.id = any(p_sessions)
    ), odd as (
        select *, case when taken is null then true else not exists (
                select from store_generation_sessions other where other.store_id = session.store_id
                    and other.created_at between taken_at - interval '1 hour' and session.created_at
                    and other.request_id = session.request_id
                    and (other.created_at, other.id) < (session.created_at, session.id)) end as first
        from session
        where status in ('queued', 'processing') or status = 'completed' and refund is not null
            or status = 'failed' and (refund is null or named <> id)
    ), judged as (
        select *, case
            when refund is not null and (named = id or named is null and first) and taken is not null
                and status <> 'failed'
                then case status when 'completed' then 'completed_and_refunded' else 'open_and_refunded' end
            when status in ('queued', 'processing') then 'open'
            when status <> 'failed' then null
            when taken is not null and first and refund is null then case when exists (
                    select from store_generation_sessions other where other.store_id = odd.store_id
                        and other.created_at between taken_at - interval '1 hour' and taken_at + interval '1 day'
                        and other.request_id = odd.request_id and other.status = 'completed') and billed is null
                then null else 'failed_not_refunded' end
            when billed is not null and (refund is null or taken is not null and not first) then 'overage_failed'
            when request_id is null and exists (select from store_credit_transactions t where t.store_id = odd.store_id
                    and t.request_id is null and t.type = 'deduction') then case when (
                        select coalesce(sum(case type when 'refund' then amount else 0 end), 0)
                        from store_credit_transactions t where t.store_id = odd.store_id and t.request_id is null)
                    < (select count(*) from store_generation_sessions s where s.store_id = odd.store_id
                        and s.request_id is null and s.status = 'failed')
                then 'failed_not_refunded' end
            when taken is null and refund is null then 'session_without_deduction' end as kind
        from odd
    )
    insert into wearon.audit_findings
        (scope, key, channel, kind, owner_id, session_id, request_id, line_id, credits, detail)
    select 'sessions', id, 'b2b', kind, store_id, id, request_id, refund,
        case kind when 'open' then 0 when 'session_without_deduction' then 0 when 'overage_failed' then billed
            else coalesce(refunded, taken, 1) end, ''
    from judged where kind is not null;
end $$;

-- Reads the next blocks of a table, and notes what has to be proven, or proves it at once; -> false at the table's end.
create or replace function public.wearon_audit_read(p_table regclass, p_state wearon.audit_state)
returns boolean language plpgsql set search_path = public, pg_temp set jit = off as $$
declare
    since constant int := case when p_state.everything then 2147483647 else age(p_state.horizon::xid) end;
    low constant tid := format('(%s,0)', p_state.block);
    blocks constant int := case when p_table in ('credit_transactions'::regclass, 'store_credit_transactions'::regclass)
        then 1024 else 128 end;
    high constant tid := format('(%s,0)', p_state.block + blocks);
    owners uuid[];
    refunds uuid[];
    old bigint := 0;
begin
    if p_state.block * current_setting('block_size')::int >= pg_relation_size(p_table) then
        return false;
    end if;
    if p_table = 'credit_transactions'::regclass then
        select count(*) filter (where age(xmin) > since), array_agg(distinct user_id) filter (where age(xmin) <= since)
        into old, owners from credit_transactions where ctid >= low and ctid < high;
        insert into wearon.audit_touched select 'users', unnest(owners) on conflict do nothing;
    elsif p_table = 'store_credit_transactions'::regclass then
        select count(*) filter (where age(xmin) > since),
            array_agg(distinct store_id) filter (where age(xmin) <= since),
            array_agg(id) filter (where age(xmin) <= since and type = 'refund')
        into old, owners, refunds from store_credit_transactions where ctid >= low and ctid < high;
        insert into wearon.audit_touched select 'stores', unnest(owners)
        union all select 'refunds', unnest(refunds) on conflict do nothing;
    elsif p_table <> 'store_generation_sessions'::regclass then
        perform wearon_audit_balances(p_table, p_state.everything, low, high);
    else
        -- As they lie in the table: much faster than by their ids.
        select array_agg(id) into owners from store_generation_sessions where ctid >= low and ctid < high;
        perform wearon_audit_sessions(owners);
        update wearon.audit_state set sessions = sessions + coalesce(array_length(owners, 1), 0);
    end if;
    update wearon.audit_state set block = block + blocks, old_lines = old_lines + old;
    return true;
end $$;

-- Notes the sessions of the time since the last audit, the open ones, and what was found before.
create or replace function public.wearon_audit_notice(p_state wearon.audit_state)
returns void language sql set search_path = public, pg_temp set jit = off as $$
    insert into wearon.audit_touched
    select 'users', user_id from generation_sessions
    where created_at > p_state.proven_at - interval '1 hour' and age(xmin) <= age(p_state.horizon::xid)
    union select 'users', user_id from generation_sessions where status in ('queued', 'pending', 'processing')
    union select 'sessions', id from store_generation_sessions
    where created_at > p_state.proven_at - interval '1 hour' and age(xmin) <= age(p_state.horizon::xid)
    union select 'sessions', id from store_generation_sessions where status in ('queued', 'processing')
    union select scope, key from wearon.audit_findings
    on conflict do nothing
$$;

-- Notes the accounts in some blocks of a table whose balance is gone, or is not explained by its stored sum; all of
-- them in a full audit. Each stored sum is looked up by its key (lateral ... limit 1): the table of the sums has no
-- statistics yet, and the planner would join by walking it for every account.
create or replace function public.wearon_audit_balances(p_table regclass, p_everything boolean, p_low tid, p_high tid)
returns void language plpgsql set search_path = public, pg_temp set jit = off set enable_hashjoin = off
set enable_mergejoin = off as $$
begin
    if p_table = 'user_credits'::regclass then
        insert into wearon.audit_touched
        select 'users', c.user_id from user_credits c
        left join lateral (select * from wearon.audit_accounts
            where payer = 'user' and owner_id = c.user_id and shopper = '' limit 1) a on true
        where c.ctid >= p_low and c.ctid < p_high and (p_everything or wearon_audit_explains(c.balance,
            coalesce(c.total_earned, 10), coalesce(c.total_spent, 0), coalesce(a.lines, 0), coalesce(a.ledger, 0),
            coalesce(a.income, 0), coalesce(a.bonus, false)) is not true)
        on conflict do nothing;
    elsif p_table = 'store_credits'::regclass then
        insert into wearon.audit_touched
        select 'stores', c.store_id from store_credits c
        left join lateral (select * from wearon.audit_accounts
            where payer = 'store' and owner_id = c.store_id and shopper = '' limit 1) a on true
        where c.ctid >= p_low and c.ctid < p_high and (p_everything or wearon_audit_explains(c.balance,
            c.total_purchased, c.total_spent, coalesce(a.lines, 0), coalesce(a.ledger, 0), coalesce(a.income, 0),
            false) is not true)
        on conflict do nothing;
    elsif p_table = 'store_shopper_credits'::regclass then
        insert into wearon.audit_touched
        select distinct 'stores', c.store_id from store_shopper_credits c
        left join lateral (select * from wearon.audit_accounts
            where payer = 'shopper' and owner_id = c.store_id and shopper = lower(trim(c.shopper_email))
            limit 1) a on true
        where c.ctid >= p_low and c.ctid < p_high and (p_everything or wearon_audit_explains(c.balance,
            c.total_purchased, c.total_spent, coalesce(a.lines, 0), coalesce(a.ledger, 0), coalesce(a.income, 0),
            false) is not true)
        on conflict do nothing;
    else
        insert into wearon.audit_touched
        select distinct case a.payer when 'user' then 'users' else 'stores' end, a.owner_id
        from wearon.audit_accounts a
        left join user_credits u on a.payer = 'user' and u.user_id = a.owner_id
        left join store_credits s on a.payer = 'store' and s.store_id = a.owner_id
        left join store_shopper_credits h
            on a.payer = 'shopper' and h.store_id = a.owner_id and h.shopper_email = a.shopper
        where a.ctid >= p_low and a.ctid < p_high and coalesce(u.user_id, s.store_id, h.store_id) is null
        on conflict do nothing;
    end if;
end $$;

-- Proves the next few of what was noted; -> false when nothing is left.
create or replace function public.wearon_audit_prove(p_state wearon.audit_state)
returns boolean language plpgsql set search_path = public, pg_temp set enable_seqscan = off as $$
declare
    proof text;
    keys uuid[];
begin
    select scope into proof from wearon.audit_touched
    where (scope, key) > (p_state.scope, p_state.place) order by scope, key limit 1;
    if proof is null then
        return false;
    end if;
    select array_agg(key) into keys from (
        select key from wearon.audit_touched where (scope, key) > (p_state.scope, p_state.place) and scope = proof
        order by scope, key limit case proof when 'stores' then 1 when 'users' then 200 else 1000 end) page;
    case proof
        when 'users' then perform wearon_audit_users(keys, p_state.run, p_state.horizon);
        when 'stores' then perform wearon_audit_stores(keys, p_state.run, p_state.horizon);
        when 'refunds' then perform wearon_audit_refunds(keys);
        else perform wearon_audit_sessions(keys);
    end case;
    update wearon.audit_state set scope = proof, place = keys[array_length(keys, 1)], sessions = sessions + case
        when phase <> 'prove' then 0 when proof = 'sessions' then array_length(keys, 1)
        when proof = 'users' then (select count(*) from generation_sessions where user_id = any(keys)) else 0 end;
    return true;
end $$;

-- Begins an audit; the first one, one after a week, one of a small ledger and one in another database are full.
create or replace function public.wearon_audit_begin(p_run uuid, p_everything boolean)
returns void language plpgsql set search_path = public, pg_temp as $$
begin
    perform wearon_audit_clear('wearon.audit_touched');
    update wearon.audit_state set run = p_run, phase = 'users', block = 0, scope = '', sessions = 0, old_lines = 0,
        place = '00000000-0000-0000-0000-000000000000', begun_at = now(),
        next_horizon = pg_snapshot_xmin(pg_current_snapshot()),
        everything = p_everything or horizon is null or full_at < now() - interval '7 days'
            or horizon > pg_snapshot_xmax(pg_current_snapshot())
            or pg_relation_size('credit_transactions') + pg_relation_size('store_credit_transactions') <= small_bytes;
    if (select everything from wearon.audit_state) then
        perform wearon_audit_clear('wearon.audit_accounts');
        perform wearon_audit_clear('wearon.audit_findings');
        -- Until it has ended there is no proof to build on.
        update wearon.audit_state set horizon = null;
    end if;
end $$;

-- Works on the audit `p_run` for about `p_seconds`, and begins it when it is not under way. -> "state": busy (another
-- audit is under way, or was half a minute ago), working, waiting (look again at what seems wrong, a second later:
-- another program may be between two steps) or done.
create or replace function public.wearon_audit_step(
    p_run uuid, p_full boolean default false, p_seconds numeric default 1.5
) returns jsonb language plpgsql set search_path = public, pg_temp as $$
declare
    until constant timestamptz := clock_timestamp() + p_seconds * interval '1 second';
    s wearon.audit_state;
begin
    if not pg_try_advisory_xact_lock(hashtext('wearon_audit')) then
        return jsonb_build_object('state', 'busy');
    end if;
    insert into wearon.audit_state (one) values (true) on conflict do nothing;
    select * into s from wearon.audit_state;
    if s.ended = p_run then
        return jsonb_build_object('state', 'done');
    end if;
    if s.run is distinct from p_run then
        if s.run is not null and s.stepped_at > now() - interval '30 seconds' then
            return jsonb_build_object('state', 'busy');
        end if;
        perform wearon_audit_begin(p_run, p_full);
    end if;
    loop
        select * into s from wearon.audit_state;
        case s.phase
            when 'users' then perform wearon_audit_after(not wearon_audit_read('credit_transactions', s), 'stores');
            when 'stores' then
                perform wearon_audit_after(not wearon_audit_read('store_credit_transactions', s),
                    case when s.everything then 'sessions' else 'notice' end);
            when 'sessions' then
                perform wearon_audit_after(not wearon_audit_read('store_generation_sessions', s), 'user_credits');
            when 'notice' then
                perform wearon_audit_notice(s);
                perform wearon_audit_after(true, 'user_credits');
            when 'user_credits' then
                perform wearon_audit_after(not wearon_audit_read('user_credits', s), 'store_credits');
            when 'store_credits' then
                perform wearon_audit_after(not wearon_audit_read('store_credits', s), 'store_shopper_credits');
            when 'store_shopper_credits' then
                perform wearon_audit_after(not wearon_audit_read('store_shopper_credits', s), 'audit_accounts');
            when 'audit_accounts' then
                perform wearon_audit_after(not wearon_audit_read('wearon.audit_accounts', s), 'prove');
            when 'prove' then
                if not wearon_audit_prove(s) then
                    if wearon_audit_lines_lost(s) then
                        perform wearon_audit_begin(p_run, true);
                    else
                        perform wearon_audit_clear('wearon.audit_touched');
                        insert into wearon.audit_touched
                        select distinct scope, key from wearon.audit_findings where kind <> 'open';
                        perform wearon_audit_after(true, 'confirm');
                        if exists (select from wearon.audit_touched) then
                            update wearon.audit_state set stepped_at = clock_timestamp();
                            return jsonb_build_object('state', 'waiting');
                        end if;
                    end if;
                end if;
            else
                if not wearon_audit_prove(s) then
                    update wearon.audit_state set run = null, ended = p_run, phase = null, horizon = next_horizon,
                        proven_at = begun_at, full_at = case when everything then begun_at else full_at end;
                    return jsonb_build_object('state', 'done');
                end if;
        end case;
        exit when clock_timestamp() > until;
    end loop;
    update wearon.audit_state set stepped_at = clock_timestamp();
    return jsonb_build_object('state', 'working', 'phase', s.phase);
end $$;

-- Goes on to the next phase when this one has ended.
create or replace function public.wearon_audit_after(p_ended boolean, p_next text)
returns void language sql set search_path = public, pg_temp as $$
    update wearon.audit_state
    set phase = p_next, block = 0, scope = '', place = '00000000-0000-0000-0000-000000000000' where p_ended
$$;

-- Lines from before the last audit that are no longer there, or were changed by another hand than a session's: fewer
-- old lines than the accounts had.
create or replace function public.wearon_audit_lines_lost(p_state wearon.audit_state)
returns boolean language sql set search_path = public, pg_temp as $$
    select not p_state.everything and p_state.old_lines < coalesce(
        (select sum(case when run = p_state.run then old_lines else lines end) from wearon.audit_accounts), 0)
$$;

-- What the last audit has found: sums, counts of each kind, and at most `p_examples` findings of each kind.
create or replace function public.wearon_audit_report(p_examples int default 100)
returns jsonb language sql stable set search_path = public, pg_temp as $$
    with wrong as (
        select * from wearon.audit_findings f
        where kind <> 'open'
            -- One error is one finding: these follow from a refund that is named by itself.
            and not (kind = 'refunds_exceed_deductions' and exists (select from wearon.audit_findings g
                where g.owner_id = f.owner_id and g.kind in ('refund_unexplained', 'refunded_to_another',
                    'refunded_twice', 'refunded_wrong_amount')))
            and not (kind = 'failed_not_refunded' and exists (select from wearon.audit_findings g
                where g.session_id = f.session_id and g.kind = 'refunded_to_another'))
            and not (scope = 'sessions' and exists (select from wearon.audit_findings g
                where g.scope = 'refunds' and g.session_id = f.session_id))
    ), numbered as (
        select *, row_number() over (partition by kind order by id) as number from wrong
    )
    select jsonb_build_object(
        'everything', everything, 'begun_at', begun_at, 'full_at', full_at, 'sessions', sessions,
        'transactions', (select coalesce(sum(lines), 0) from wearon.audit_accounts),
        'kinds', (select coalesce(jsonb_object_agg(kind, found), '{}') from (
            select kind, jsonb_build_object('count', count(*), 'credits', sum(credits)) as found
            from wrong group by kind) each),
        'findings', (select coalesce(jsonb_agg(jsonb_build_object('kind', kind, 'channel', channel,
            'owner_id', owner_id, 'credits', credits, 'session_id', session_id, 'request_id', request_id,
            'line_id', line_id, 'detail', detail) order by kind, id), '[]') from numbered where number <= p_examples),
        'totals', (select coalesce(jsonb_agg(to_jsonb(total) order by payer), '[]') from (
            select payer, count(*) as accounts, sum(deducted) as deducted, sum(refunded) as refunded
            from wearon.audit_accounts group by payer) total),
        'notes', (select coalesce(jsonb_object_agg(kind, count), '{}') from (
            select key as kind, sum(value::bigint) as count from wearon.audit_accounts, jsonb_each_text(notes)
            where notes is not null group by key) note))
    from wearon.audit_state
$$;

-- Roles of the browser that may change balances and ledgers, for `doctor`: {"user_credits": ["authenticated UPDATE"]}.
create or replace function public.wearon_examine()
returns jsonb language sql stable set search_path = public, pg_temp as $$
    select coalesce(jsonb_object_agg(name, ways), '{}') from (
        select name, jsonb_agg(role.rolname || ' ' || way order by role.rolname, way) as ways
        from unnest(array['user_credits', 'credit_transactions', 'store_credits', 'store_shopper_credits',
            'store_credit_transactions']) name, unnest(array['INSERT', 'UPDATE', 'DELETE']) way,
            pg_class c, pg_roles role
        where c.oid = to_regclass('public.' || name) and role.rolname in ('anon', 'authenticated')
            and (has_table_privilege(role.oid, c.oid, way)
                or way <> 'DELETE' and has_any_column_privilege(role.oid, c.oid, way))
            and (not c.relrowsecurity or exists (select from pg_policies p
                where p.schemaname = 'public' and p.tablename = name and p.permissive = 'PERMISSIVE'
                    and p.cmd in (way, 'ALL') and p.roles && array['public', role.rolname]))
        group by name
    ) writable
$$;

-- Which of these functions are installed, with their signatures, and the version of this file: the start check.
create or replace function public.wearon_worker_functions()
returns jsonb language sql stable set search_path = public, pg_temp as $$
    select jsonb_build_object('version', 3, 'functions', coalesce(jsonb_object_agg(
        p.proname, pg_get_function_identity_arguments(p.oid)), '{}'))
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.nspname = 'public' and p.proname in ('start_generation', 'requeue_generation', 'complete_generation',
        'fail_generation', 'refund_credits', 'refund_store_credits', 'refund_store_shopper_credits',
        'wearon_audit_step', 'wearon_audit_report', 'wearon_examine')
$$;

-- service_role alone may call them; functions are executable by everybody unless that is taken away.
do $$
declare
    name text;
    role text;
begin
    for name in
        select p.oid::regprocedure::text from pg_proc p join pg_namespace n on n.oid = p.pronamespace
        where n.nspname = 'public' and p.proname in ('wearon_lock_session', 'start_generation', 'requeue_generation',
            'complete_generation', 'fail_generation', 'wearon_user_ledger', 'wearon_store_ledger', 'wearon_ledger',
            'wearon_end_session', 'wearon_release_deduction', 'wearon_refund', 'wearon_worker_functions',
            'wearon_examine') or p.pronamespace = n.oid and n.nspname = 'public' and p.proname like 'wearon\_audit\_%'
    loop
        execute format('revoke all on function %s from public', name);
        for role in select rolname from pg_roles where rolname in ('anon', 'authenticated') loop
            execute format('revoke all on function %s from %I', name, role);
        end loop;
        if exists (select from pg_roles where rolname = 'service_role') then
            execute format('grant execute on function %s to service_role', name);
        end if;
    end loop;
end $$;

do $$
begin
    if exists (select from pg_roles where rolname = 'service_role') then
        grant usage on schema wearon to service_role;
        grant all on all tables in schema wearon to service_role;
    end if;
end $$;

-- PostgREST learns of new functions at once.
notify pgrst, 'reload schema';

commit;

-- Everything that changes a session's state, each function one transaction. Additive and re-runnable: functions only,
-- in terms of the tables and functions that are already there. Apply as the owner of those tables:
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

-- Which of these functions are installed, with their signatures, and the version of this file: the start check.
create or replace function public.wearon_worker_functions()
returns jsonb language sql stable set search_path = public, pg_temp as $$
    select jsonb_build_object('version', 2, 'functions', coalesce(jsonb_object_agg(
        p.proname, pg_get_function_identity_arguments(p.oid)), '{}'))
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.nspname = 'public' and p.proname in ('start_generation', 'requeue_generation', 'complete_generation',
        'fail_generation', 'refund_credits', 'refund_store_credits', 'refund_store_shopper_credits')
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
            'wearon_end_session', 'wearon_release_deduction', 'wearon_refund', 'wearon_worker_functions')
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

-- PostgREST learns of new functions at once.
notify pgrst, 'reload schema';

commit;

-- Everything that changes a session's state, each function one transaction. Additive and re-runnable: functions only,
-- in terms of the tables and functions that are already there. Apply as the owner of those tables:
--   psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f functions.sql
--
-- Each returns a jsonb object: "changed" says whether this call did it; "status" is the session's status now, null when
-- there is no such session. A call that finds the session in another state changes nothing, so every call may be
-- repeated, and of two that race the first wins.

begin;

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

-- queued|pending -> processing, for the owner that the message names. "owner_matches" is false when the session belongs
-- to somebody else; then nothing changes.
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
    if p_channel = 'b2c' then
        update generation_sessions set status = 'processing', error_message = null where id = p_session_id;
    else
        update store_generation_sessions set status = 'processing', error_message = null where id = p_session_id;
    end if;
    return jsonb_build_object('changed', true, 'status', 'processing', 'owner_matches', true);
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
-- caller whose first answer was lost can see that it was its own call that did it.
create or replace function public.complete_generation(
    p_channel text, p_session_id uuid, p_image_url text, p_input_tokens int, p_output_tokens int,
    p_cost_usd numeric, p_processing_time_ms int
) returns jsonb language plpgsql set search_path = public, pg_temp as $$
declare
    session jsonb := wearon_lock_session(p_channel, p_session_id);
begin
    if session is null or session ->> 'status' <> 'processing' then
        return jsonb_build_object(
            'changed', false, 'status', session ->> 'status', 'image_url', session ->> 'generated_image_url');
    end if;
    if p_channel = 'b2c' then
        update generation_sessions set status = 'completed', generated_image_url = p_image_url, error_message = null,
            input_tokens = p_input_tokens, output_tokens = p_output_tokens, estimated_cost_usd = p_cost_usd,
            processing_time_ms = p_processing_time_ms, completed_at = now()
        where id = p_session_id;
    else
        update store_generation_sessions set status = 'completed', generated_image_url = p_image_url,
            error_message = null, input_tokens = p_input_tokens, output_tokens = p_output_tokens,
            estimated_cost_usd = p_cost_usd, processing_time_ms = p_processing_time_ms, completed_at = now()
        where id = p_session_id;
    end if;
    return jsonb_build_object('changed', true, 'status', 'completed', 'image_url', p_image_url);
end $$;

-- queued|pending|processing -> failed, and the credit goes back to whoever paid, together or not at all.
-- "refund" says where it went: user, store, shopper; overage (billed outside: to be refunded by hand),
-- unmatched (no deduction in the ledger: nothing was taken), already_refunded, none (no credit was used).
create or replace function public.fail_generation(
    p_channel text, p_session_id uuid, p_message text, p_processing_time_ms int default null
) returns jsonb language plpgsql set search_path = public, pg_temp as $$
declare
    session jsonb := wearon_lock_session(p_channel, p_session_id);
    amount int := coalesce((session ->> 'credits_used')::int, 1);
    -- The session's id in the ledger text is what the audit matches refunds by.
    note text := format('Refund: try-on failed (session=%s)', p_session_id);
    owner uuid := (session ->> 'owner_id')::uuid;
    refund text;
begin
    if session is null or session ->> 'status' not in ('queued', 'pending', 'processing') then
        return jsonb_build_object('changed', false, 'status', session ->> 'status', 'refund', null);
    end if;
    if p_channel = 'b2c' then
        update generation_sessions set status = 'failed', error_message = p_message, completed_at = now(),
            processing_time_ms = coalesce(p_processing_time_ms, processing_time_ms)
        where id = p_session_id;
        refund := 'none';
        if amount > 0 then
            perform refund_credits(owner, amount, note);
            refund := 'user';
        end if;
    else
        update store_generation_sessions set status = 'failed', error_message = p_message, completed_at = now(),
            processing_time_ms = coalesce(p_processing_time_ms, processing_time_ms)
        where id = p_session_id;
        refund := wearon_refund_store_session(session, amount, note);
    end if;
    return jsonb_build_object('changed', true, 'status', 'failed', 'refund', refund);
end $$;

-- Gives a store session's credit back to the store or the shopper, whoever the ledger says paid for it.
create or replace function public.wearon_refund_store_session(p_session jsonb, p_amount int, p_note text)
returns text language plpgsql set search_path = public, pg_temp as $$
declare
    store uuid := (p_session ->> 'store_id')::uuid;
    request text := p_session ->> 'request_id';
    shopper text;
    deduction store_credit_transactions;
begin
    select * into deduction from store_credit_transactions
    where store_id = store and request_id = request and type = 'deduction';
    if not found then
        if exists (select from store_credit_transactions
                   where store_id = store and request_id = request and type = 'overage') then
            return 'overage';
        end if;
        return 'unmatched';
    end if;
    if exists (select from store_credit_transactions
               where store_id = store and request_id = request and type = 'refund') then
        return 'already_refunded';
    end if;
    if p_amount <= 0 then
        return 'none';
    end if;
    -- shopper_email alone is no proof, it is recorded for store-funded sessions, too: the ledger says who paid.
    shopper := substring(deduction.description from '\(shopper=([^()]+)\)$');
    if p_session ->> 'shopper_email' is not null and shopper is not null then
        -- The ledger has the address in lower case; the balance has it as the shop wrote it.
        select c.shopper_email into shopper from store_shopper_credits c
        where c.store_id = store and lower(c.shopper_email) = shopper
        order by c.shopper_email = p_session ->> 'shopper_email' desc limit 1;
        if not found then
            raise exception 'store % has no balance for the shopper who paid for session %', store, p_session ->> 'id';
        end if;
        perform refund_store_shopper_credits(store, shopper, p_amount, request, p_note);
        return 'shopper';
    end if;
    perform refund_store_credits(store, p_amount, request, p_note);
    return 'store';
end $$;

-- Which of these functions are installed, with their signatures, and the version of this file: the start check.
create or replace function public.wearon_worker_functions()
returns jsonb language sql stable set search_path = public, pg_temp as $$
    select jsonb_build_object('version', 1, 'functions', coalesce(jsonb_object_agg(
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
            'complete_generation', 'fail_generation', 'wearon_refund_store_session', 'wearon_worker_functions')
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

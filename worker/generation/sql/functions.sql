-- Everything that changes a session's state, each function one transaction, and the audit of the ledgers. Additive and
-- re-runnable: functions in terms of the tables and functions that are already there, and the schema `wearon` with the
-- audit's own notes. Apply as the owner of those tables:
--   psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f functions.sql
--
-- Each returns a jsonb object: "changed" says whether this call did it; "status" is the session's status now, null when
-- there is no such session. A call that finds the session in another state changes nothing, so every call may be
-- repeated, and of two that race the first wins.
--
-- Each UPDATE and DELETE has a WHERE: Supabase's API refuses the others, inside functions, too (pg-safeupdate).

begin;

-- Of version 1, without the ledger's say.
drop function if exists public.wearon_refund_store_session(jsonb, int, text);
-- Of version 3, without the facts of the event: workers of that version call the newer ones without them.
drop function if exists public.complete_generation(text, uuid, text, int, int, numeric, int);
drop function if exists public.fail_generation(text, uuid, text, int);
-- With other rows: a caller with the old ones shall hear that the function is missing.
drop function if exists public.wearon_bulk_begin(uuid, jsonb);
-- Without a life of the picture's own address.
drop function if exists public.wearon_data_life_write(text, uuid[]);
drop function if exists public.wearon_data_life_others(text, regclass, text, timestamptz, int);

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
            when 'refund' then interval '2 days' else interval '0' end as recent, coalesce(created_at, now()) as at,
            substring(description from case type
            when 'generation' then '\(session=([0-9a-f-]{36})' else '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}' end
        ) as session, description ~ '\(session=[0-9a-f-]{36}\)' as undelivered
        from credit_transactions
        where user_id = p_user_id and (type = 'generation' and amount < 0 or type = 'refund')
    )
    -- The app may have refunded and failed a session that still runs: its deduction is bound until its end.
    select count(*) filter (where type = 'generation' and recent),
        count(*) filter (where type = 'generation' and recent and session is null)
        - greatest(0, count(*) filter (where type = 'refund' and recent and not exists (
            select from lines bound where bound.type = 'generation' and bound.session = lines.session))
            - count(*) filter (where type = 'generation' and recent and undelivered and not exists (
                select from lines back where back.type = 'refund' and back.session = lines.session)
                and exists (select from lines back
                    where back.type = 'refund' and back.session is null and back.at > lines.at)
                and exists (select from generation_sessions s
                    where s.user_id = p_user_id and s.id::text = lines.session and s.status = 'failed')))
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
-- meanwhile (the app's own clean-up refunds after 10 minutes) becomes failed: one credit is not both. `p_event`: facts
-- of the generation for its event (request_id, model, prompt_version, ...).
create or replace function public.complete_generation(
    p_channel text, p_session_id uuid, p_image_url text, p_input_tokens int, p_output_tokens int,
    p_cost_usd numeric, p_processing_time_ms int, p_event jsonb default null
) returns jsonb language plpgsql set search_path = public, pg_temp as $$
declare
    session jsonb := wearon_lock_session(p_channel, p_session_id);
    late constant text := 'Creating your try-on took too long. Please try again.';
begin
    if session is null or session ->> 'status' <> 'processing' then
        if p_channel = 'b2c' and session ->> 'status' = 'failed' then
            perform wearon_release_deduction(session);
        end if;
        return jsonb_build_object(
            'changed', false, 'status', session ->> 'status', 'image_url', session ->> 'generated_image_url')
            || wearon_event_elsewhere(p_channel, session, p_event);
    end if;
    if wearon_ledger(p_channel, session) = 'refunded' then
        perform wearon_end_session(p_channel, p_session_id, late, p_processing_time_ms);
        return jsonb_build_object('changed', false, 'status', 'failed', 'image_url', null)
            || wearon_event_failed(p_channel, session, coalesce(p_event, '{}') || jsonb_build_object(
                'reason', 'refunded_elsewhere', 'processing_time_ms', p_processing_time_ms, 'cost_usd', p_cost_usd),
                late, 'already_refunded');
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
    return jsonb_build_object('changed', true, 'status', 'completed', 'image_url', p_image_url)
        || wearon_event_tell(p_channel, session, 'generation_completed', coalesce(p_event, '{}') || jsonb_build_object(
            'processing_time_ms', p_processing_time_ms, 'cost_usd', p_cost_usd));
end $$;

-- queued|pending|processing -> failed, and the credit goes back to whoever paid, together or not at all. A session that
-- the app has failed without a refund (a store's uninstall) gets its credit back, too.
-- "refund" says where the credit went: user, store, shopper; overage (billed outside: to be refunded by hand),
-- unmatched (no deduction in the ledger: nothing was taken), already_refunded, none (the picture was delivered).
create or replace function public.fail_generation(
    p_channel text, p_session_id uuid, p_message text, p_processing_time_ms int default null,
    p_event jsonb default null
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
        return jsonb_build_object('changed', refund is not null, 'status', 'failed', 'refund', refund)
            || wearon_event_elsewhere(p_channel, session, p_event, refund);
    end if;
    perform wearon_end_session(p_channel, p_session_id, p_message, p_processing_time_ms);
    refund := wearon_refund(p_channel, session, false);
    return jsonb_build_object('changed', true, 'status', 'failed', 'refund', refund) || wearon_event_failed(
        p_channel, session,
        coalesce(p_event, '{}') || jsonb_build_object('processing_time_ms', p_processing_time_ms), p_message, refund);
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
    -- refund_credits and refund_store_credits do not notice a missing balance.
    if ledger = 'taken' and not exists (select from user_credits where user_id = owner)
        or ledger = 'store' and not exists (select from store_credits where store_id = owner) then
        raise exception 'owner % has no balance for the refund of session %', owner, p_session ->> 'id';
    end if;
    if ledger = 'taken' then
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

-- Events -------------------------------------------------------------------------------------------------------------
--
-- A session's end and a store's refund are told once, in the transaction of the status change: to the tables that the
-- quality boards read, and to the store's callbacks. Decision: docs/decisions/0024-events-and-callbacks.md.

create schema if not exists wearon;

-- The events that were told. The id is the callback's `webhook-id`.
create table if not exists wearon.session_events (
    session_id uuid not null,
    channel text not null,
    kind text not null check (kind in ('ended', 'refunded')),
    id uuid not null default gen_random_uuid(),
    told_at timestamptz not null default now(),
    primary key (session_id, channel, kind)
);
create index if not exists session_events_told_at on wearon.session_events using brin (told_at);
-- Of an end whose picture was asked for: the prompt's version and the result, for `wearon-worker prompts compare`.
-- Decision: docs/decisions/0029-prompt-versions.md.
alter table wearon.session_events
    add column if not exists prompt_version text,
    add column if not exists result text,   -- completed, moderation_blocked, failed
    add column if not exists store_id uuid,
    add column if not exists processing_time_ms numeric,
    add column if not exists cost_usd numeric;

-- The number in a fact; null for anything else, and without a prompt's version.
create or replace function public.wearon_event_number(p_version text, p_fact jsonb)
returns numeric language sql immutable set search_path = public, pg_temp as $$
    select case when p_version is not null and jsonb_typeof(p_fact) = 'number' then p_fact::numeric end
$$;

-- Tells an event unless it was told before. -> {"callbacks": true} when a callback waits for its deliverer,
-- {"events_error": "table: SQLSTATE"} when the boards' table did not take the event, which holds up nothing.
-- A table that is locked for long does not take it either.
create or replace function public.wearon_event_tell(
    p_channel text, p_session jsonb, p_type text, p_facts jsonb, p_message text default null
) returns jsonb language plpgsql set search_path = public, pg_temp set lock_timeout = '2s' as $$
declare
    event uuid;
    facts jsonb := jsonb_strip_nulls(jsonb_build_object('request_id', p_session ->> 'request_id') || p_facts
        || jsonb_build_object('session_id', p_session ->> 'id'));
    refused text;
    -- A model is named once the picture was asked for: until then no prompt was sent.
    version text := case when p_type <> 'credit_refunded' and facts ? 'model' then left(facts ->> 'prompt_version', 100) end;
begin
    insert into wearon.session_events
        (session_id, channel, kind, prompt_version, result, store_id, processing_time_ms, cost_usd)
    values ((p_session ->> 'id')::uuid, p_channel, case p_type when 'credit_refunded' then 'refunded' else 'ended' end,
        version, case when version is not null then replace(p_type, 'generation_', '') end,
        case when version is not null then (p_session ->> 'store_id')::uuid end,
        wearon_event_number(version, facts -> 'processing_time_ms'), wearon_event_number(version, facts -> 'cost_usd'))
    on conflict do nothing returning id into event;
    if event is null then
        return '{}';
    end if;
    begin
        if p_channel = 'b2c' then
            insert into analytics_events (event_type, user_id, metadata)
            values (p_type, (p_session ->> 'user_id')::uuid, facts);
        else
            insert into store_analytics_events (store_id, event_type, shopper_email, metadata)
            values ((p_session ->> 'store_id')::uuid, p_type, p_session ->> 'shopper_email', facts);
        end if;
        -- What is checked at the end of the transaction would end it.
        set constraints all immediate;
    exception when others or query_canceled then   -- a trigger may take longer than the statement may
        -- Not the server's text, which may quote values.
        refused := case p_channel when 'b2c' then 'analytics_events: ' else 'store_analytics_events: ' end || sqlstate;
    end;
    return jsonb_strip_nulls(jsonb_build_object('events_error', refused,
        'callbacks', case p_channel when 'b2b' then
            nullif(wearon_event_queue(event, p_session, p_type, facts, p_message), false) end));
end $$;

-- Queues an event for the store's endpoints that ask for its type; false when there is none. The picture's address is
-- not kept here: the deliverer reads the session's.
create or replace function public.wearon_event_queue(
    p_event uuid, p_session jsonb, p_type text, p_facts jsonb, p_message text
) returns boolean language plpgsql set search_path = public, pg_temp as $$
begin
    insert into store_webhook_deliveries (event_id, endpoint_id, store_id, session_id, type, data)
    select p_event, e.id, e.store_id, (p_session ->> 'id')::uuid, p_type, jsonb_build_object(
        'session_id', p_session ->> 'id', 'request_id', p_facts ->> 'request_id',
        'status', case p_type when 'generation_completed' then 'completed' else 'failed' end,
        'reason', p_facts ->> 'reason', 'error_message', p_message,
        'processing_time_ms', p_facts -> 'processing_time_ms')
    from store_webhook_endpoints e
    where e.store_id = (p_session ->> 'store_id')::uuid and e.disabled_at is null and p_type = any(e.event_types)
    -- An endpoint that is deleted meanwhile is left out, instead of a violated foreign key.
    for key share;
    return found;
end $$;

-- USD spent on the sessions that ended in a period, by payer: b2c for all users, else the store's id. Of the worker's own
-- records: users may write into their sessions' rows.
create or replace function public.wearon_spend(p_from timestamptz, p_until timestamptz)
returns jsonb language sql stable set search_path = public, pg_temp as $$
    select coalesce(jsonb_object_agg(payer, usd), '{}') from (
        select coalesce(store_id::text, 'b2c') as payer, sum(cost_usd) as usd from wearon.session_events
        where told_at >= p_from and told_at < p_until and cost_usd is not null
        group by 1
    ) spent
$$;

-- Results of each prompt version since a moment, of one store or of all sessions; the 50 versions with most sessions.
-- "seconds" and "cost_usd" are of completed sessions: their number, mean and variance.
create or replace function public.wearon_prompt_results(p_since timestamptz, p_store_id uuid default null)
returns jsonb language sql stable set search_path = public, pg_temp as $$
    select jsonb_build_object('versions', coalesce(jsonb_agg(jsonb_build_object(
        'version', prompt_version, 'ended', ended, 'completed', completed, 'blocked', blocked,
        'seconds', jsonb_build_array(timed, seconds, seconds_variance),
        'cost_usd', jsonb_build_array(priced, cost, cost_variance)) order by ended desc, prompt_version), '[]'))
    from (
        -- In double precision, which is several times as fast as numeric and exact enough.
        select prompt_version, count(*) as ended, count(*) filter (where result = 'completed') as completed,
            count(*) filter (where result = 'moderation_blocked') as blocked,
            count(spent) as timed, avg(spent) as seconds, var_samp(spent) as seconds_variance,
            count(price) as priced, avg(price) as cost, var_samp(price) as cost_variance
        from wearon.session_events, lateral (select
            case result when 'completed' then processing_time_ms::double precision / 1000 end as spent,
            case result when 'completed' then cost_usd::double precision end as price) of_pictures
        where told_at >= p_since and prompt_version is not null and (p_store_id is null or store_id = p_store_id)
        group by prompt_version order by count(*) desc, prompt_version limit 50
    ) version
$$;

-- Tells that a session has failed, and a store's refund.
create or replace function public.wearon_event_failed(
    p_channel text, p_session jsonb, p_facts jsonb, p_message text, p_refund text
) returns jsonb language plpgsql set search_path = public, pg_temp as $$
declare
    told jsonb := wearon_event_tell(p_channel, p_session, case p_facts ->> 'reason'
        when 'moderation_blocked' then 'generation_moderation_blocked' else 'generation_failed' end,
        p_facts, p_message);
begin
    if p_channel = 'b2b' and p_refund in ('store', 'shopper', 'already_refunded') then
        told := told || wearon_event_tell(p_channel, p_session, 'credit_refunded',
            p_facts || jsonb_build_object('refund', p_refund), p_message);
    end if;
    return told;
end $$;

-- Tells the end of a session that another hand than the worker's has failed, such as the app's clean-up.
create or replace function public.wearon_event_elsewhere(
    p_channel text, p_session jsonb, p_facts jsonb, p_refund text default null
) returns jsonb language sql set search_path = public, pg_temp as $$
    select case when p_session ->> 'status' = 'failed' then wearon_event_failed(p_channel, p_session,
        coalesce(p_facts, '{}') || '{"reason": "failed_elsewhere"}', p_session ->> 'error_message', p_refund)
        else '{}' end
$$;

-- Tries to write one event of each type into both tables and takes it back, for `doctor`: what the server says of each
-- table that refuses.
create or replace function public.wearon_event_examine()
returns jsonb language plpgsql set search_path = public, pg_temp set lock_timeout = '2s' as $$
declare
    refused jsonb := '{}';
begin
    begin
        insert into analytics_events (event_type, user_id, metadata)
        select type, null, '{}' from unnest(wearon_webhook_types()) type where type <> 'credit_refunded';
        set constraints all immediate;
        raise exception using errcode = 'WEARN';
    exception when sqlstate 'WEARN' then null;
    when others then
        refused := refused || jsonb_build_object('analytics_events', sqlerrm);
    end;
    begin
        insert into store_analytics_events (store_id, event_type, shopper_email, metadata)
        select s.id, type, null, '{}' from unnest(wearon_webhook_types()) type, (select id from stores limit 1) s;
        set constraints all immediate;
        raise exception using errcode = 'WEARN';
    exception when sqlstate 'WEARN' then null;
    when others then
        refused := refused || jsonb_build_object('store_analytics_events', sqlerrm);
    end;
    return refused;
end $$;

-- Callbacks of stores ------------------------------------------------------------------------------------------------

-- The types of events, all of which a callback may ask for.
create or replace function public.wearon_webhook_types()
returns text[] language sql immutable as $$
    select array['generation_completed', 'generation_failed', 'generation_moderation_blocked', 'credit_refunded']
$$;

create table if not exists public.store_webhook_endpoints (
    id uuid primary key default gen_random_uuid(),
    store_id uuid not null references public.stores on delete cascade,
    url text not null check (url like 'https://%' and length(url) <= 2048),
    event_types text[] not null default public.wearon_webhook_types()
        check (cardinality(event_types) > 0 and event_types <@ public.wearon_webhook_types()),
    disabled_at timestamptz,
    disabled_reason text,               -- operator, or gone: the endpoint answered 410
    failures int not null default 0,    -- attempts in a row
    held_until timestamptz,             -- no attempts before, because of them
    created_at timestamptz not null default now()
);
create index if not exists store_webhook_endpoints_store on public.store_webhook_endpoints (store_id);

-- Beside the endpoints, so that no client can read them. Two are valid during a rotation.
create table if not exists wearon.webhook_secrets (
    endpoint_id uuid not null references public.store_webhook_endpoints on delete cascade,
    secret text not null,
    created_at timestamptz not null default clock_timestamp(),
    expires_at timestamptz,
    primary key (endpoint_id, secret)
);

create table if not exists public.store_webhook_deliveries (
    id bigint generated always as identity primary key,
    event_id uuid not null,
    endpoint_id uuid not null references public.store_webhook_endpoints on delete cascade,
    store_id uuid not null,
    session_id uuid not null,
    type text not null,
    data jsonb not null,
    occurred_at timestamptz not null default now(),
    queued_at timestamptz not null default now(),   -- later than the event after a replay
    due_at timestamptz default now(),   -- next attempt; while one is under way: the end of its lease; null: ended
    lease uuid,                         -- the attempt under way
    attempts int not null default 0,
    attempted_at timestamptz,
    delivered_at timestamptz,
    given_up_at timestamptz,
    last_status int,
    last_error text,
    unique (event_id, endpoint_id)
);
create index if not exists store_webhook_deliveries_due
    on public.store_webhook_deliveries (endpoint_id, due_at, id) where due_at is not null;
create index if not exists store_webhook_deliveries_order
    on public.store_webhook_deliveries (endpoint_id, session_id, id) where due_at is not null;
create index if not exists store_webhook_deliveries_under_way
    on public.store_webhook_deliveries (endpoint_id) where lease is not null;
create index if not exists store_webhook_deliveries_endpoint on public.store_webhook_deliveries (endpoint_id, id);
create index if not exists store_webhook_deliveries_queued on public.store_webhook_deliveries using brin (queued_at);

-- A store's owner sees the store's endpoints and deliveries; the service role alone writes. With its owner's rights,
-- because signed-in users see no row of `stores`. Called once for a statement: a week has a million deliveries.
create or replace function wearon.own_stores()
returns setof uuid language plpgsql stable security definer set search_path = '' as $$
begin
    return query select s.id from public.stores s where s.owner_user_id = auth.uid();
end $$;
revoke all on function wearon.own_stores() from public;

do $$
declare
    name text;
    role text;
begin
    foreach name in array array['store_webhook_endpoints', 'store_webhook_deliveries'] loop
        execute format('alter table public.%I enable row level security', name);
        execute format('revoke all on public.%I from public', name);
        for role in select rolname from pg_roles where rolname in ('anon', 'authenticated') loop
            execute format('revoke all on public.%I from %I', name, role);
        end loop;
        execute format('drop policy if exists own_select on public.%I', name);
        if exists (select from pg_roles where rolname = 'authenticated') then
            execute format('grant select on public.%I to authenticated', name);
            execute format('create policy own_select on public.%I for select to authenticated '
                'using (store_id in (select wearon.own_stores()))', name);
            grant execute on function wearon.own_stores() to authenticated;
        end if;
        if exists (select from pg_roles where rolname = 'service_role') then
            execute format('grant all on public.%I to service_role', name);
        end if;
    end loop;
end $$;
drop function if exists wearon.owns_store(uuid);    -- the policies asked it once for each row

-- Takes deliveries that are due, for one attempt each: at most `p_limit`, and of each endpoint no more than
-- `p_per_endpoint` under way in all workers together; one of an endpoint that fails. A session's deliveries go out in
-- their order. An attempt that is not reported within `p_lease_seconds` is made again.
-- "wait_seconds": until something is due, null when nothing waits. "endpoints": that are enabled.
create or replace function public.wearon_webhook_claim(
    p_lease uuid, p_limit int, p_per_endpoint int, p_lease_seconds int
) returns jsonb language plpgsql set search_path = public, pg_temp as $$
declare
    endpoint record;
    room int;
    page jsonb;
    taken jsonb := '[]';
begin
    for endpoint in
        select e.id, e.url, e.failures from store_webhook_endpoints e
        where e.disabled_at is null and coalesce(e.held_until <= now(), true) and exists (
            select from store_webhook_deliveries d where d.endpoint_id = e.id and d.due_at <= now())
        order by random() for no key update skip locked
    loop
        exit when jsonb_array_length(taken) >= p_limit;
        select least(p_limit - jsonb_array_length(taken),
            case when endpoint.failures >= 3 then 1 else p_per_endpoint end - count(*)) into room
        from store_webhook_deliveries d
        where d.endpoint_id = endpoint.id and d.lease is not null and d.due_at > now();
        with due as (
            select d.id from store_webhook_deliveries d
            where d.endpoint_id = endpoint.id and d.due_at <= now() and not exists (
                select from store_webhook_deliveries earlier
                where earlier.endpoint_id = d.endpoint_id and earlier.session_id = d.session_id
                    and earlier.id < d.id and earlier.due_at is not null)
            order by d.due_at, d.id limit greatest(room, 0) for update skip locked
        ), claimed as (
            update store_webhook_deliveries d set lease = p_lease, attempts = attempts + 1, attempted_at = now(),
                due_at = now() + p_lease_seconds * interval '1 second'
            from due where d.id = due.id returning d.*
        )
        select jsonb_agg(jsonb_build_object('id', c.id, 'event_id', c.event_id, 'endpoint_id', c.endpoint_id,
            'url', endpoint.url, 'type', c.type, 'occurred_at', c.occurred_at, 'attempt', c.attempts,
            'data', c.data || jsonb_build_object('image_url', case c.type when 'generation_completed' then (
                select nullif(s.generated_image_url, 'expired') from store_generation_sessions s
                where s.id = c.session_id) end),
            'secrets', (select jsonb_agg(s.secret order by s.created_at desc) from wearon.webhook_secrets s
                where s.endpoint_id = endpoint.id and coalesce(s.expires_at > now(), true))) order by c.id)
        into page from claimed c;
        taken := taken || coalesce(page, '[]');
    end loop;
    return (select jsonb_build_object('deliveries', taken, 'endpoints', count(*), 'wait_seconds',
        extract(epoch from min(case when next.due_at is not null then greatest(next.due_at, e.held_until) end)
            - now())) from store_webhook_endpoints e
        left join lateral (select d.due_at from store_webhook_deliveries d
            where d.endpoint_id = e.id and d.due_at is not null order by d.due_at limit 1) next on true
        where e.disabled_at is null);
end $$;

-- Records how attempts ended: [{"id", "ok", "gone", "status", "error", "retry_seconds"}]. Without "retry_seconds" a
-- failed delivery is given up. A failure whose lease has passed on to another attempt is left to that attempt.
create or replace function public.wearon_webhook_report(p_lease uuid, p_results jsonb)
returns jsonb language plpgsql set search_path = public, pg_temp as $$
declare
    result record;
    delivery record;
begin
    for result in
        select r.*, d.endpoint_id from jsonb_to_recordset(p_results) as r (id bigint, ok boolean, gone boolean,
            status int, error text, retry_seconds numeric)
        join store_webhook_deliveries d on d.id = r.id order by d.endpoint_id, d.id
    loop
        -- The endpoint first, and the endpoints in one order, as all who change both do.
        perform from store_webhook_endpoints where id = result.endpoint_id for no key update;
        update store_webhook_deliveries d set lease = null, last_status = result.status, last_error = result.error,
            delivered_at = case when result.ok then now() end,
            given_up_at = case when not result.ok and result.retry_seconds is null then now() end,
            due_at = case when not result.ok then now() + result.retry_seconds * interval '1 second' end
        where d.id = result.id and d.delivered_at is null and (result.ok or d.lease = p_lease)
        returning d.* into delivery;
        continue when not found;
        if result.ok then
            update store_webhook_endpoints set failures = 0, held_until = null
            where id = delivery.endpoint_id and failures > 0;
        elsif result.gone then
            perform wearon_webhook_switch(delivery.endpoint_id, false, 'gone');
        else
            -- The session's later deliveries wait with it.
            update store_webhook_deliveries d set due_at = greatest(d.due_at, delivery.due_at)
            where d.endpoint_id = delivery.endpoint_id and d.session_id = delivery.session_id and d.id > delivery.id
                and d.due_at is not null;
            -- From the third failure in a row on, an endpoint is left alone for 10 s, then longer, up to 5 minutes.
            update store_webhook_endpoints set failures = failures + 1, held_until = case when failures >= 2
                then now() + least(300, 10 * 2 ^ least(failures - 2, 10)) * interval '1 second' end
            where id = delivery.endpoint_id;
        end if;
    end loop;
    return '{}';
end $$;

-- Sums for the metrics. "overdue_seconds": an attempt could have been made so long ago. "oldest_seconds": age of the
-- oldest delivery that waits. Left out: deliveries of disabled endpoints, which wearon_webhook_trim gives up.
create or replace function public.wearon_webhook_state()
returns jsonb language sql stable set search_path = public, pg_temp as $$
    select jsonb_build_object(
        'enabled', count(*) filter (where disabled_at is null and failures < 3),
        'failing', count(*) filter (where disabled_at is null and failures >= 3),
        'disabled', count(*) filter (where disabled_at is not null),
        'oldest_seconds', coalesce(max(extract(epoch from now() - oldest.queued_at))
            filter (where disabled_at is null), 0),
        'overdue_seconds', greatest(0, coalesce(max(extract(epoch from now()
            - case when next.due_at is not null then greatest(next.due_at, held_until) end))
            filter (where disabled_at is null), 0)))
    from store_webhook_endpoints e
    left join lateral (select d.queued_at from store_webhook_deliveries d
        where d.endpoint_id = e.id and d.due_at is not null order by d.queued_at limit 1) oldest on true
    left join lateral (select d.due_at from store_webhook_deliveries d
        where d.endpoint_id = e.id and d.due_at is not null order by d.due_at limit 1) next on true
$$;

-- Deletes ended deliveries after 7 days and the notes of told events after 30, a few at a time, and gives up deliveries
-- whose endpoint is disabled, or was left alone for 3 days.
create or replace function public.wearon_webhook_trim(p_limit int default 1000)
returns jsonb language plpgsql set search_path = public, pg_temp as $$
declare
    given_up int;
    deleted int;
    forgotten int;
begin
    select (wearon_webhook_switch(id, false, disabled_reason) ->> 'given_up')::int into given_up
    from store_webhook_endpoints e where disabled_at is not null and exists (
        select from store_webhook_deliveries d where d.endpoint_id = e.id and d.due_at is not null) limit 1;
    if given_up > 0 then
        -- Alone, because it has locked the endpoint, and all who change both lock the endpoint first.
        return jsonb_build_object('given_up', given_up, 'deleted', 0, 'forgotten', 0);
    end if;
    update store_webhook_deliveries set due_at = null, lease = null, given_up_at = now()
    where id in (select id from store_webhook_deliveries
                 where queued_at < now() - interval '3 days' and due_at <= now() limit p_limit);
    get diagnostics given_up = row_count;
    delete from store_webhook_deliveries where id in (
        select id from store_webhook_deliveries
        where queued_at < now() - interval '7 days' and due_at is null limit p_limit);
    get diagnostics deleted = row_count;
    delete from wearon.session_events where ctid = any(array(
        select ctid from wearon.session_events where told_at < now() - interval '30 days' limit p_limit));
    get diagnostics forgotten = row_count;
    delete from wearon.webhook_secrets where expires_at < now();
    return jsonb_build_object('given_up', given_up, 'deleted', deleted, 'forgotten', forgotten);
end $$;

-- For operators (`wearon-worker webhook`) ----------------------------------------------------------------------------

create or replace function public.wearon_webhook_add(p_store_id uuid, p_url text, p_event_types text[], p_secret text)
returns jsonb language plpgsql set search_path = public, pg_temp as $$
declare
    endpoint uuid;
begin
    perform pg_advisory_xact_lock(hashtextextended(p_store_id::text, 0));   -- one at a time for each store
    -- Repeated, because the answer was lost.
    select e.id into endpoint from store_webhook_endpoints e join wearon.webhook_secrets s on s.endpoint_id = e.id
    where e.store_id = p_store_id and e.url = p_url and e.disabled_at is null and s.secret = p_secret;
    if found then
        return jsonb_build_object('id', endpoint);
    end if;
    if not exists (select from stores where id = p_store_id) then
        return jsonb_build_object('error', 'no such store');
    end if;
    if exists (select from store_webhook_endpoints
               where store_id = p_store_id and url = p_url and disabled_at is null) then
        return jsonb_build_object('error', 'the store has an endpoint with this URL');
    end if;
    insert into store_webhook_endpoints (store_id, url, event_types)
    values (p_store_id, p_url, coalesce(p_event_types, wearon_webhook_types())) returning id into endpoint;
    insert into wearon.webhook_secrets (endpoint_id, secret) values (endpoint, p_secret);
    return jsonb_build_object('id', endpoint);
end $$;

-- The newer secret counts at once, the one before for `p_keep_seconds` more.
create or replace function public.wearon_webhook_rotate(p_endpoint uuid, p_secret text, p_keep_seconds int)
returns jsonb language plpgsql set search_path = public, pg_temp as $$
begin
    perform from store_webhook_endpoints where id = p_endpoint for update;
    if not found then
        return jsonb_build_object('error', 'no such endpoint');
    end if;
    -- Repeated, because the answer was lost: the secret before stays valid.
    if exists (select from wearon.webhook_secrets where endpoint_id = p_endpoint and secret = p_secret) then
        return jsonb_build_object('id', p_endpoint);
    end if;
    delete from wearon.webhook_secrets where endpoint_id = p_endpoint and expires_at is not null;
    update wearon.webhook_secrets set expires_at = now() + p_keep_seconds * interval '1 second'
    where endpoint_id = p_endpoint;
    insert into wearon.webhook_secrets (endpoint_id, secret) values (p_endpoint, p_secret);
    return jsonb_build_object('id', p_endpoint);
end $$;

-- All endpoints, or those of a store, each with how many callbacks wait.
create or replace function public.wearon_webhook_list(p_store_id uuid default null)
returns jsonb language sql stable set search_path = public, pg_temp as $$
    select coalesce(jsonb_agg(to_jsonb(e) || jsonb_build_object(
        'waiting', (select count(*) from store_webhook_deliveries d
            where d.endpoint_id = e.id and d.due_at is not null),
        'secrets', (select count(*) from wearon.webhook_secrets s
            where s.endpoint_id = e.id and coalesce(s.expires_at > now(), true))) order by e.store_id, e.created_at),
        '[]')
    from store_webhook_endpoints e where p_store_id is null or e.store_id = p_store_id
$$;

-- The newest deliveries of an endpoint or of all; with `p_failed` those alone that wait after a failure or were given
-- up.
create or replace function public.wearon_webhook_deliveries(
    p_endpoint uuid default null, p_failed boolean default false, p_limit int default 50
) returns jsonb language sql stable set search_path = public, pg_temp as $$
    select coalesce(jsonb_agg(to_jsonb(d) order by d.id desc), '[]') from (
        select id, event_id, endpoint_id, session_id, type, occurred_at, due_at, lease, attempts, attempted_at,
            delivered_at, given_up_at, last_status, last_error
        from store_webhook_deliveries
        where (p_endpoint is null or endpoint_id = p_endpoint)
            and (not p_failed or given_up_at is not null or due_at is not null and last_error is not null)
        order by id desc limit p_limit) d
$$;

-- An endpoint with its valid secrets, to sign a test with.
create or replace function public.wearon_webhook_endpoint(p_endpoint uuid)
returns jsonb language sql stable set search_path = public, pg_temp as $$
    select coalesce((select to_jsonb(e) || jsonb_build_object('secrets', (
        select jsonb_agg(s.secret order by s.created_at desc) from wearon.webhook_secrets s
        where s.endpoint_id = e.id and coalesce(s.expires_at > now(), true)))
    from store_webhook_endpoints e where e.id = p_endpoint), '{"error": "no such endpoint"}')
$$;

-- Disables an endpoint and gives up some of what waits for it; or enables it. "more": perhaps there is more, which the
-- same call or wearon_webhook_trim gives up. Supabase ends a statement after 8 s.
create or replace function public.wearon_webhook_switch(p_endpoint uuid, p_enabled boolean, p_reason text)
returns jsonb language plpgsql set search_path = public, pg_temp as $$
declare
    given_up int := 0;
begin
    update store_webhook_endpoints set failures = 0, held_until = null,
        disabled_at = case when not p_enabled then coalesce(disabled_at, now()) end,
        disabled_reason = case when not p_enabled then coalesce(disabled_reason, p_reason) end
    where id = p_endpoint;
    if not found then
        return jsonb_build_object('error', 'no such endpoint');
    end if;
    if not p_enabled then
        update store_webhook_deliveries set due_at = null, lease = null, given_up_at = now(),
            last_error = coalesce(last_error, 'the endpoint was disabled')
        where id in (select id from store_webhook_deliveries
                     where endpoint_id = p_endpoint and due_at is not null limit 5000);
        get diagnostics given_up = row_count;
    end if;
    return jsonb_build_object('id', p_endpoint, 'given_up', given_up, 'more', given_up >= 5000);
end $$;

-- Queues deliveries again with their ids as they were: those named, or some of those that an endpoint has given up.
-- "more": perhaps there are others.
create or replace function public.wearon_webhook_replay(p_ids bigint[], p_endpoint uuid default null)
returns jsonb language plpgsql set search_path = public, pg_temp as $$
declare
    queued int;
begin
    update store_webhook_deliveries d set due_at = now(), queued_at = now(), attempts = 0, lease = null,
        delivered_at = null, given_up_at = null
    from store_webhook_endpoints e
    where e.id = d.endpoint_id and e.disabled_at is null and d.due_at is null
        and d.id = any(p_ids || array(select id from store_webhook_deliveries
            where endpoint_id = p_endpoint and due_at is null and given_up_at is not null limit 5000));
    get diagnostics queued = row_count;
    update store_webhook_endpoints set failures = 0, held_until = null
    where held_until is not null and id in (
        select endpoint_id from store_webhook_deliveries where id = any(p_ids) union select p_endpoint);
    return jsonb_build_object('queued', queued, 'more', p_endpoint is not null and queued >= 5000);
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
    execute format('delete from %s where true', p_table);
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
            or status = 'failed' and (refund is null or named is distinct from id)
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
        update wearon.audit_state set sessions = sessions + coalesce(array_length(owners, 1), 0) where one;
    end if;
    update wearon.audit_state set block = block + blocks, old_lines = old_lines + old where one;
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
        when proof = 'users' then (select count(*) from generation_sessions where user_id = any(keys)) else 0 end
    where one;
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
            or pg_relation_size('credit_transactions') + pg_relation_size('store_credit_transactions') <= small_bytes
    where one;
    if (select everything from wearon.audit_state) then
        perform wearon_audit_clear('wearon.audit_accounts');
        perform wearon_audit_clear('wearon.audit_findings');
        -- Until it has ended there is no proof to build on.
        update wearon.audit_state set horizon = null where one;
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
                            update wearon.audit_state set stepped_at = clock_timestamp() where one;
                            return jsonb_build_object('state', 'waiting');
                        end if;
                    end if;
                end if;
            else
                if not wearon_audit_prove(s) then
                    update wearon.audit_state set run = null, ended = p_run, phase = null, horizon = next_horizon,
                        proven_at = begun_at, full_at = case when everything then begun_at else full_at end
                    where one;
                    return jsonb_build_object('state', 'done');
                end if;
        end case;
        exit when clock_timestamp() > until;
    end loop;
    update wearon.audit_state set stepped_at = clock_timestamp() where one;
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
    select jsonb_build_object('version', 7, 'functions', coalesce(jsonb_object_agg(
        p.proname, pg_get_function_identity_arguments(p.oid)), '{}'))
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.nspname = 'public' and p.proname in ('start_generation', 'requeue_generation', 'complete_generation',
        'fail_generation', 'refund_credits', 'refund_store_credits', 'refund_store_shopper_credits',
        'wearon_audit_step', 'wearon_audit_report', 'wearon_examine', 'wearon_webhook_claim',
        'wearon_region_start')
$$;

-- Data life ----------------------------------------------------------------------------------------------------------
--
-- Pictures live for some hours. The worker deletes the files, and asks here which of them an open session needs. The
-- rows keep everything but the pictures' addresses, which become 'expired'. Rows are walked by their created_at, in
-- batches, from the end of the last walk; a row that kept an address then is noted, and looked at again.

create table if not exists wearon.data_life (
    channel text primary key,
    reached timestamptz not null default '-infinity',   -- older rows were walked
    full_at timestamptz not null default now()          -- the last walk over all rows began
);
create table if not exists wearon.data_life_open (channel text, session_id uuid, primary key (channel, session_id));

-- A path as it was before it became part of an address; the path itself when it is no valid encoding.
create or replace function public.wearon_data_life_decoded(p_path text)
returns text language plpgsql immutable set search_path = public, pg_temp as $$
begin
    if strpos(p_path, '%') = 0 then
        return p_path;
    end if;
    return (select convert_from(string_agg(case when part[1] ~ '^%[0-9A-Fa-f]{2}$'
        then decode(substr(part[1], 2), 'hex') else convert_to(part[1], 'UTF8') end, ''::bytea order by place), 'UTF8')
        from regexp_matches(p_path, '%[0-9A-Fa-f]{2}|[^%]+|%', 'g') with ordinality as found (part, place));
exception when others then
    return p_path;
end $$;

-- Those of `p_names` that belong to an open session, by an address in its row or as the place of its picture; and the
-- database's clock, by which Storage dates its objects. An address may be signed, public, of another host, or a path.
-- Of a long queue only the addresses are taken apart that end like one of the names, or end encoded; every picture's
-- name has nine characters at least.
create or replace function public.wearon_data_life_in_use(p_bucket text, p_names text[])
returns jsonb language sql stable set search_path = public, pg_temp as $$
    with wanted as materialized (
        -- Without an encoding, a name's own ? or # ends its path in an address.
        select distinct name, shown, right(shown, 9) as ending,
            substring(name from '/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.jpg$')::uuid as session_id
        from unnest(p_names) name, unnest(array[name, split_part(split_part(name, '?', 1), '#', 1)]) shown
    ), address as (
        select url from generation_sessions, unnest(array[
            model_image_url, outfit_image_url, stitched_image_url, generated_image_url]) url
        where status in ('queued', 'pending', 'processing')
        union all
        -- Users write these columns: a path query fails on deep nesting, and takes hours for long arrays.
        select ('"' || value[1] || '"')::jsonb #>> '{}' from generation_sessions,
            regexp_matches(accessories::text, '"((?:[^"\\]|\\.)*)"', 'g') value
        where status in ('queued', 'pending', 'processing') and accessories <> '[]'
        union all
        select url from store_generation_sessions, unnest(array[
            model_image_url, outfit_image_url, generated_image_url]) url
        where status in ('queued', 'processing')
    ), likely as materialized (
        select url from (select url, split_part(split_part(url, '?', 1), '#', 1) as shown from address) each
        where strpos(right(shown, 11), '%') > 0 or right(shown, 9) in (select ending from wanted)
    ), path as (
        select unnest(array[
            split_part(substr(url, nullif(strpos(url, '/' || p_bucket || '/'), 0) + length(p_bucket) + 2), '?', 1),
            substring(url from '((?:uploads|generated|stores)/[^?#]*)')]) as path
        from likely
    ), used as (
        select path as name from path
        union all select wearon_data_life_decoded(path) from path where strpos(path, '%') > 0
        union all select name from wanted join generation_sessions s on s.id = session_id
            where s.status in ('queued', 'pending', 'processing') and name = format('generated/%s/%s.jpg', user_id, id)
        union all select name from wanted join store_generation_sessions s on s.id = session_id
            where s.status in ('queued', 'processing') and name = format('stores/%s/generated/%s.jpg', store_id, id)
    )
    select jsonb_build_object('now', clock_timestamp(), 'in_use', coalesce(
        (select jsonb_agg(distinct name) from wanted where shown in (select used.name from used)), '[]'))
$$;

-- Accessories without addresses; none at all when they are nested too deeply to be read again.
create or replace function public.wearon_data_life_without(p_accessories jsonb, p_address text)
returns jsonb language plpgsql immutable set search_path = public, pg_temp as $$
begin
    return regexp_replace(p_accessories::text, p_address, '"expired"', 'gi')::jsonb;
exception when statement_too_complex then
    return '[]';
end $$;

-- Writes 'expired' into the picture columns of those of these sessions that are closed; -> how many rows have changed.
-- The address of a store's picture lives from the session's end on: bulk may have waited for longer than it lives.
create or replace function public.wearon_data_life_write(p_channel text, p_ids uuid[], p_before timestamptz)
returns int language plpgsql set search_path = public, pg_temp as $$
declare
    -- Strings of a jsonb text that are addresses, or paths in the bucket.
    address constant text := '"(?:https?:|data:|blob:|/?(?:uploads|generated|stores)/)(?:[^"\\]|\\.)*"';
    changed int;
begin
    if p_channel = 'b2c' then
        update generation_sessions set model_image_url = 'expired',
            outfit_image_url = case when outfit_image_url is not null then 'expired' end,
            stitched_image_url = case when stitched_image_url is not null then 'expired' end,
            generated_image_url = case when generated_image_url is not null then 'expired' end,
            accessories = wearon_data_life_without(accessories, address)
        where id = any(p_ids) and status in ('completed', 'failed') and (
            'expired' <> any(array_remove(
                array[model_image_url, outfit_image_url, stitched_image_url, generated_image_url], null))
            or accessories::text ~* address);
    else
        update store_generation_sessions set model_image_url = 'expired',
            outfit_image_url = case when outfit_image_url is not null then 'expired' end,
            generated_image_url = case when generated_image_url is null or completed_at >= p_before
                then generated_image_url else 'expired' end
        where id = any(p_ids) and status in ('completed', 'failed') and 'expired' <> any(array_remove(
            array[model_image_url, outfit_image_url, case when completed_at >= p_before then null
                else generated_image_url end], null));
    end if;
    get diagnostics changed = row_count;
    return changed;
end $$;

-- Expires some of the rows that the walk over created_at does not meet: rows without a date, and rows that kept an
-- address before. "more": perhaps there are others.
create or replace function public.wearon_data_life_others(
    p_channel text, p_sessions regclass, p_owned text, p_keeps text, p_before timestamptz, p_limit int
) returns jsonb language plpgsql set search_path = public, pg_temp as $$
declare
    undated uuid[];
    ended uuid[];
begin
    execute format($sql$
        select array_agg(id) from (select id from %s where created_at is null and %s
            and status in ('completed', 'failed') and coalesce(completed_at, '-infinity') < $1
            and model_image_url <> 'expired' limit $2) row $sql$, p_sessions, p_owned)
    into undated using p_before, p_limit;
    if p_owned = 'true' then
        execute format($sql$
            with ended as (
                delete from wearon.data_life_open where channel = $1 and session_id in (
                    select session_id from wearon.data_life_open o where channel = $1 and not exists (
                        select from %1$s s where s.id = o.session_id and %2$s)
                    limit $3)
                returning session_id
            ), closed as (
                select session_id from wearon.data_life_open o join %1$s s on s.id = o.session_id
                where channel = $1 and status in ('completed', 'failed') and model_image_url <> 'expired' limit $3
            ) select array_agg(session_id) from (table ended union table closed) each $sql$, p_sessions, p_keeps)
        into ended using p_channel, p_before, p_limit;
    end if;
    return jsonb_build_object('expired', wearon_data_life_write(p_channel, undated || ended, p_before),
        'more', greatest(cardinality(undated), cardinality(ended)) >= p_limit);
end $$;

-- Dates some of the users' rows anew: those of the future, which no walk meets and no sweep ends, and open ones without
-- a usable date. Users write the dates of their rows; a row committed by another clock may be a little ahead.
create or replace function public.wearon_data_life_date(p_owner_id uuid, p_limit int)
returns void language plpgsql set search_path = public, pg_temp as $$
declare
    odd uuid[];
begin
    odd := array(
        select id from generation_sessions
        where created_at > now() + interval '1 hour' and (p_owner_id is null or user_id = p_owner_id) limit p_limit
    ) || array(
        select id from generation_sessions
        where (created_at is null or created_at < '2000-01-01') and status in ('queued', 'pending', 'processing')
            and (p_owner_id is null or user_id = p_owner_id) limit p_limit
    );
    update generation_sessions set created_at = now() where id = any(odd);
end $$;

-- Walks the next `p_limit` sessions made before `p_before`, of one owner or of all, after the row (`p_after`,
-- `p_after_id`), and expires the closed ones. Without `p_after` the walk begins; for all owners that is an hour before
-- the last walk's end, because a row may be committed late, or, once a day and with `p_full`, the first row, because
-- users choose the dates of their rows. -> numbers, and the row to go on after: none while rows are left that this walk
-- does not meet.
create or replace function public.wearon_data_life_expire(
    p_channel text, p_before timestamptz, p_owner_id uuid default null, p_after timestamptz default null,
    p_after_id uuid default null, p_limit int default 500, p_full boolean default false
) returns jsonb language plpgsql set search_path = public, pg_temp as $$
declare
    sessions constant regclass := case p_channel when 'b2c' then 'generation_sessions'::regclass
        when 'b2b' then 'store_generation_sessions'::regclass end;
    owned constant text := case when p_owner_id is null then 'true' else format('%I = %L',
        case p_channel when 'b2c' then 'user_id' else 'store_id' end, p_owner_id) end;
    keeps constant text := format('(status not in (''completed'', ''failed'')%s)',
        case p_channel when 'b2b' then ' or completed_at >= $2' end);
    low timestamptz := p_after;
    others jsonb;
    expired int := 0;
    walked uuid[];
    open uuid[];
    last timestamptz;
begin
    if sessions is null then
        raise exception 'unknown channel %, expected b2b or b2c', p_channel using errcode = '22023';
    end if;
    if p_after is null then
        if p_channel = 'b2c' then
            perform wearon_data_life_date(p_owner_id, p_limit);
        end if;
        others := wearon_data_life_others(p_channel, sessions, owned, keeps, p_before, p_limit);
        expired := (others ->> 'expired')::int;
        if (others ->> 'more')::boolean then
            return jsonb_build_object(
                'walked', p_limit, 'expired', expired, 'open', 0, 'after', null, 'after_id', null);
        end if;
        low := coalesce((select reached - interval '1 hour' from wearon.data_life where channel = p_channel
            and p_owner_id is null and not p_full and full_at > now() - interval '1 day'), '-infinity');
        if low = '-infinity' and p_owner_id is null then
            insert into wearon.data_life (channel) values (p_channel) on conflict (channel) do update set full_at = now();
        end if;
    end if;
    execute format($sql$
        select array_agg(id order by created_at, id), array_agg(id) filter (where %s), max(created_at)
        from (select id, status, created_at, completed_at from %s where %s and created_at >= $1 and created_at < $2
            and (created_at, id) > ($1, $3) order by created_at, id limit $4) page $sql$, keeps, sessions, owned)
    into walked, open, last
    using low, p_before, coalesce(p_after_id, '00000000-0000-0000-0000-000000000000'), p_limit;
    expired := expired + wearon_data_life_write(p_channel, walked, p_before);
    if p_owner_id is null and walked is not null then
        insert into wearon.data_life_open select p_channel, unnest(open) on conflict do nothing;
        update wearon.data_life set reached = greatest(reached, last) where channel = p_channel;
    end if;
    return jsonb_build_object('walked', coalesce(cardinality(walked), 0), 'expired', expired,
        'open', coalesce(cardinality(open), 0), 'after', last, 'after_id', walked[cardinality(walked)]);
end $$;

-- Regions ------------------------------------------------------------------------------------------------------------
--
-- Several regions, each with its own Redis, serve one database. A session belongs to the region that has started it; no
-- other region ends it. Decision: docs/decisions/0031-regions.md. Without REGION the worker calls none of these.

-- A region is its Redis (`id` is kept there); the name is for people. "empty_at": a moment at which its Redis had no
-- message. "expires_seconds": it uses no message of a session that is older; null: messages do not expire there.
create table if not exists wearon.regions (
    id uuid primary key,
    name text not null,
    seen_at timestamptz not null default now(),
    empty_at timestamptz,
    expires_seconds int
);
create table if not exists wearon.session_regions (
    channel text not null,
    session_id uuid not null,
    region uuid not null,
    since timestamptz not null default now(),
    primary key (channel, session_id)
);
-- No index on "region": the few open sessions are looked up one by one. No brin on "since": rows of all ages share the
-- pages that deleted ones left.
create index if not exists session_regions_started on wearon.session_regions (since);

-- Notes that a region lives. -> "twins": other regions of that name that live, too.
create or replace function public.wearon_region_report(
    p_region uuid, p_name text, p_empty boolean, p_expires_seconds int
) returns jsonb language plpgsql set search_path = public, pg_temp as $$
begin
    insert into wearon.regions (id, name, empty_at, expires_seconds)
    values (p_region, p_name, case when p_empty then now() end, p_expires_seconds)
    on conflict (id) do update set name = excluded.name, seen_at = now(), expires_seconds = excluded.expires_seconds,
        empty_at = coalesce(excluded.empty_at, regions.empty_at);
    -- A session is settled within hours. A session that is still open after this time counts as no instance's.
    delete from wearon.session_regions where (channel, session_id) in (
        select channel, session_id from wearon.session_regions where since < now() - interval '8 days' limit 500);
    return jsonb_build_object('twins', (select count(*) from wearon.regions
        where name = p_name and id <> p_region and seen_at > now() - interval '2 minutes'));
end $$;

-- start_generation by a region, whose session it is from then on.
create or replace function public.wearon_region_start(
    p_channel text, p_session_id uuid, p_owner_id uuid, p_region uuid
) returns jsonb language plpgsql set search_path = public, pg_temp as $$
declare
    answer jsonb := start_generation(p_channel, p_session_id, p_owner_id);
begin
    if (answer ->> 'changed')::boolean then
        insert into wearon.session_regions (channel, session_id, region) values (p_channel, p_session_id, p_region)
        on conflict (channel, session_id) do update set region = excluded.region, since = now();
    end if;
    return answer;
end $$;

-- Open sessions that a region may end: its own and, with `p_orphans`, those that no region has started. The message of
-- such a one may wait anywhere. It is nobody's once every region has said, at least `p_grace_seconds` after the session
-- was made, that it has no message, or that it would not use the message any more. A region that is silent says
-- nothing. `p_older_seconds`: of an own session, by this server's clock.
create or replace function public.wearon_region_open(
    p_region uuid, p_statuses text[], p_orphans boolean, p_grace_seconds double precision,
    p_older_seconds double precision default null, p_limit int default null
) returns jsonb language plpgsql stable set search_path = public, pg_temp as $$
declare
    of_channel text;
    statuses text[];
    page jsonb;
    found jsonb := '[]';
begin
    foreach of_channel in array array['b2b', 'b2c'] loop
        -- The index on open b2b sessions serves no query that asks for "pending".
        statuses := case of_channel when 'b2b' then array_remove(p_statuses, 'pending') else p_statuses end;
        execute format($sql$
            select coalesce(jsonb_agg(row), '[]') from (
                select $1 as channel, s.id, s.status, s.created_at from wearon.session_regions o
                join %1$I s on s.id = o.session_id
                where o.channel = $1 and o.region = $2 and s.status = any($3)
                    and ($6 is null or s.created_at < now() - $6 * interval '1 second')
                union all
                select $1, s.id, s.status, s.created_at from %1$I s
                where $4 and s.status = any($3)
                    and s.created_at < now() - greatest($5, coalesce($6, 0)) * interval '1 second'
                    and not exists (select from wearon.session_regions o where o.channel = $1 and o.session_id = s.id)
                    and not exists (select from wearon.regions r where
                        coalesce(r.empty_at < s.created_at + $5 * interval '1 second', true)
                        and coalesce(r.seen_at < s.created_at + r.expires_seconds * interval '1 second', true))
                limit $7
            ) row $sql$, case of_channel when 'b2c' then 'generation_sessions' else 'store_generation_sessions' end)
        into page using of_channel, p_region, statuses, p_orphans, p_grace_seconds, p_older_seconds, p_limit;
        found := found || page;
    end loop;
    return jsonb_build_object('sessions', found);
end $$;

-- Gives sessions whose messages were moved to the region that has the messages now.
create or replace function public.wearon_region_take(p_channels text[], p_sessions uuid[], p_region uuid)
returns jsonb language plpgsql set search_path = public, pg_temp as $$
declare
    taken int;
begin
    update wearon.session_regions o set region = p_region, since = now()
    from unnest(p_channels, p_sessions) as moved (channel, id)
    where o.channel = moved.channel and o.session_id = moved.id and o.region <> p_region;
    get diagnostics taken = row_count;
    return jsonb_build_object('taken', taken);
end $$;

-- Open sessions of both channels, by the indexes on their statuses.
create or replace function public.wearon_region_sessions() returns table (channel text, id uuid)
language sql stable set search_path = public, pg_temp as $$
    select 'b2c', id from generation_sessions where status in ('queued', 'pending', 'processing')
    union all
    select 'b2b', id from store_generation_sessions where status in ('queued', 'processing')
$$;

-- Gives open sessions of a region that is gone for good to another one, which ends them. A region that lives keeps its.
create or replace function public.wearon_region_adopt(p_from uuid, p_region uuid)
returns jsonb language plpgsql set search_path = public, pg_temp as $$
declare
    adopted int;
begin
    delete from wearon.regions where id = p_from and id <> p_region and seen_at < now() - interval '2 minutes';
    if not found then
        return jsonb_build_object('adopted', null);
    end if;
    update wearon.session_regions o set region = p_region, since = now() from wearon_region_sessions() s
    where o.channel = s.channel and o.session_id = s.id and o.region = p_from;
    get diagnostics adopted = row_count;
    return jsonb_build_object('adopted', adopted);
end $$;

-- All regions, the silent ones first. "open": the region's open sessions and, of one that is silent, those that no region
-- has started and that would have ended but for its silence.
create or replace function public.wearon_region_list()
returns jsonb language sql stable set search_path = public, pg_temp as $$
    select jsonb_build_object('regions', coalesce(jsonb_agg(jsonb_build_object('id', r.id, 'name', r.name,
        'silent_seconds', extract(epoch from now() - r.seen_at), 'open', coalesce(o.open, 0) + held.sessions)
        order by r.seen_at), '[]'))
    from wearon.regions r left join (
        select region, count(*) as open from wearon_region_sessions() s
        join wearon.session_regions on session_regions.channel = s.channel and session_id = s.id group by region
    ) o on o.region = r.id
    cross join lateral (
        select count(*) as sessions from (
            select 'b2c' as channel, id, created_at from generation_sessions
            where status in ('queued', 'pending', 'processing')
            union all
            select 'b2b', id, created_at from store_generation_sessions where status in ('queued', 'processing')
        ) s
        where r.seen_at < now() - interval '5 minutes'
            -- `least`: users may write the last moment there is.
            and least(s.created_at, now()) + coalesce(r.expires_seconds, 3600) * interval '1 second'
                between r.seen_at and now() - interval '5 minutes'
            and not exists (select from wearon.session_regions where channel = s.channel and session_id = s.id)
    ) held
$$;

-- Beginning ----------------------------------------------------------------------------------------------------------

-- Takes the session's one credit and makes its row, both or neither: no death of the caller parts them. `p_session`: the
-- row's columns. The payer is the shopper, if the row names one, else its owner. -> "status" of the session, null when
-- the payer has no credit left. A session that is there is left as it is, so the call may be repeated.
create or replace function public.wearon_begin_session(p_channel text, p_session jsonb, p_description text)
returns jsonb language plpgsql set search_path = public, pg_temp as $$
declare
    s record;
    status text;
    note text := format('%s (session=%s)', p_description, (p_session ->> 'id')::uuid);
    paid boolean;
begin
    -- One at a time for each session.
    perform pg_advisory_xact_lock(hashtextextended(p_session ->> 'id', 0));
    status := wearon_lock_session(p_channel, (p_session ->> 'id')::uuid) ->> 'status';
    if status is not null then
        return jsonb_build_object('status', status);
    end if;
    select * into s from jsonb_to_record(p_session) as given (id uuid, user_id uuid, store_id uuid, request_id text,
        shopper_email text, model_image_url text, outfit_image_url text, accessories jsonb, prompt_system text,
        prompt_user text);
    if p_channel = 'b2b' and s.request_id is null then -- no failure could give its credit back
        raise exception 'session % of a store has no request_id', s.id using errcode = '22023';
    end if;
    paid := case
        when p_channel = 'b2c' then deduct_credits(s.user_id, 1, note)
        when s.shopper_email is not null
            then deduct_store_shopper_credits(s.store_id, s.shopper_email, 1, s.request_id, note)
        else deduct_store_credits(s.store_id, 1, s.request_id, note) end;
    if not paid then
        return jsonb_build_object('status', null);
    end if;
    if p_channel = 'b2c' then
        insert into generation_sessions (id, user_id, status, model_image_url, outfit_image_url, accessories,
            prompt_system, prompt_user, credits_used)
        values (s.id, s.user_id, 'queued', s.model_image_url, s.outfit_image_url, s.accessories,
            coalesce(s.prompt_system, ''), s.prompt_user, 1);
    else
        insert into store_generation_sessions (id, store_id, status, model_image_url, outfit_image_url,
            prompt_system, prompt_user, credits_used, request_id, shopper_email)
        values (s.id, s.store_id, 'queued', s.model_image_url, s.outfit_image_url, coalesce(s.prompt_system, ''),
            s.prompt_user, 1, s.request_id, s.shopper_email);
    end if;
    return jsonb_build_object('status', 'queued');
end $$;

-- Begins each row of a store's manifest; the store pays. `p_sessions`: their rows, in their order; no row is paid for
-- twice, also by two calls at once.
-- -> "sessions": status by id, of the rows that have a session now. "used": rows without a session whose request id
-- has lines in the ledger, of another try-on. "out_of_credit": the rows from there on were left out.
create or replace function public.wearon_bulk_begin(p_store_id uuid, p_sessions jsonb)
returns jsonb language plpgsql set search_path = public, pg_temp as $$
declare
    wanted jsonb;
    used int := 0;
    out_of_credit boolean := false;
begin
    -- One at a time for each store: the credit functions lock this row, too.
    perform from store_credits where store_id = p_store_id for update;
    for wanted in select each from jsonb_array_elements(p_sessions) with ordinality as given (each, place) order by place loop
        continue when exists (select from store_generation_sessions where id = (wanted ->> 'id')::uuid);
        if exists (select from store_credit_transactions
                   where store_id = p_store_id and request_id = wanted ->> 'request_id') then
            used := used + 1;
            continue;
        end if;
        if wearon_begin_session('b2b', wanted || jsonb_build_object('store_id', p_store_id), 'wearon-worker bulk')
            ->> 'status' is null then
            out_of_credit := true;
            exit;
        end if;
    end loop;
    return jsonb_build_object('used', used, 'out_of_credit', out_of_credit, 'sessions', (
        select coalesce(jsonb_object_agg(id, status), '{}') from store_generation_sessions
        where store_id = p_store_id and id in (
            select (each ->> 'id')::uuid from jsonb_array_elements(p_sessions) each)));
end $$;

-- Rights -------------------------------------------------------------------------------------------------------------
--
-- service_role alone may call them; functions are executable by everybody unless that is taken away.
do $$
declare
    name text;
    role text;
    service constant boolean := exists (select from pg_roles where rolname = 'service_role');
begin
    for name in
        select oid::regprocedure::text from pg_proc
        where pronamespace = 'public'::regnamespace and (proname like 'wearon\_%' or proname in (
            'start_generation', 'requeue_generation', 'complete_generation', 'fail_generation'))
    loop
        execute format('revoke all on function %s from public', name);
        for role in select rolname from pg_roles where rolname in ('anon', 'authenticated') loop
            execute format('revoke all on function %s from %I', name, role);
        end loop;
        if service then
            execute format('grant execute on function %s to service_role', name);
        end if;
    end loop;
    if service then
        grant usage on schema wearon to service_role;
        grant all on all tables in schema wearon to service_role;
    end if;
end $$;

-- PostgREST learns of new functions at once.
notify pgrst, 'reload schema';

commit;

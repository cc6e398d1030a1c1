-- The product's database as the worker meets it: the same tables, columns, checks and function signatures
-- (docs/contracts.md). Everything not listed there is left out.
--
-- Signs in the ledgers: deductions are negative, refunds and purchases positive, so that the sum of an owner's rows is
-- the owner's balance. An overage row is the exception: it is billed outside and moves no balance.

create table public.user_credits (
    user_id uuid primary key,
    balance int not null default 0 check (balance >= 0),
    total_earned int not null default 0,
    total_spent int not null default 0,
    updated_at timestamptz not null default now()
);

create table public.credit_transactions (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null,
    amount int not null,
    type text not null check (type in ('signup_bonus', 'generation', 'refund')),
    description text,
    created_at timestamptz not null default now()
);
create index on public.credit_transactions (user_id, created_at);

create table public.store_credits (
    store_id uuid primary key,
    balance int not null default 0 check (balance >= 0),
    total_purchased int not null default 0,
    total_spent int not null default 0,
    updated_at timestamptz not null default now()
);

create table public.store_shopper_credits (
    store_id uuid not null,
    shopper_email text not null check (shopper_email = lower(shopper_email)),
    balance int not null default 0 check (balance >= 0),
    total_purchased int not null default 0,
    total_spent int not null default 0,
    updated_at timestamptz not null default now(),
    primary key (store_id, shopper_email)
);

create table public.store_credit_transactions (
    id uuid primary key default gen_random_uuid(),
    store_id uuid not null,
    amount int not null,
    type text not null check (type in ('deduction', 'refund', 'purchase', 'subscription', 'overage')),
    request_id text,
    description text,
    created_at timestamptz not null default now(),
    unique (store_id, request_id, type)
);

create table public.generation_sessions (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null,
    status text not null default 'queued'
        check (status in ('queued', 'pending', 'processing', 'completed', 'failed')),
    model_image_url text not null,
    outfit_image_url text,
    accessories jsonb,
    prompt_system text,
    prompt_user text,
    generated_image_url text,
    credits_used int not null default 1,
    error_message text,
    processing_time_ms int,
    input_tokens int,
    output_tokens int,
    estimated_cost_usd numeric(10, 6),
    created_at timestamptz not null default now(),
    completed_at timestamptz
);
create index on public.generation_sessions (user_id, created_at);

create table public.store_generation_sessions (
    id uuid primary key default gen_random_uuid(),
    store_id uuid not null,
    shopper_email text,
    request_id text,
    status text not null default 'queued' check (status in ('queued', 'processing', 'completed', 'failed')),
    model_image_url text not null,
    outfit_image_url text,
    prompt_system text,
    prompt_user text,
    generated_image_url text,
    credits_used int not null default 1,
    error_message text,
    processing_time_ms int,
    input_tokens int,
    output_tokens int,
    estimated_cost_usd numeric(10, 6),
    created_at timestamptz not null default now(),
    completed_at timestamptz
);
create index on public.store_generation_sessions (store_id, created_at);

-- Users ---------------------------------------------------------------------------------------------------------------

create function public.deduct_credits(p_user_id uuid, p_amount int, p_description text)
returns boolean language plpgsql security definer set search_path = public as $$
declare
    available int;
begin
    select balance into available from user_credits where user_id = p_user_id for update;
    if available is null or available < p_amount then
        return false;
    end if;
    update user_credits set balance = balance - p_amount, total_spent = total_spent + p_amount, updated_at = now()
    where user_id = p_user_id;
    insert into credit_transactions (user_id, amount, type, description)
    values (p_user_id, -p_amount, 'generation', p_description);
    return true;
end $$;

-- Not idempotent: every call gives credit.
create function public.refund_credits(p_user_id uuid, p_amount int, p_description text)
returns void language plpgsql security definer set search_path = public as $$
begin
    update user_credits set balance = balance + p_amount, total_spent = total_spent - p_amount, updated_at = now()
    where user_id = p_user_id;
    if not found then
        raise exception 'No credit account for user %', p_user_id;
    end if;
    insert into credit_transactions (user_id, amount, type, description)
    values (p_user_id, p_amount, 'refund', p_description);
end $$;

-- Stores: a second call with the same request_id violates unique (store_id, request_id, type) -------------------------

create function public.deduct_store_credits(p_store_id uuid, p_amount int, p_request_id text, p_description text)
returns boolean language plpgsql security definer set search_path = public as $$
declare
    available int;
begin
    select balance into available from store_credits where store_id = p_store_id for update;
    if available is null or available < p_amount then
        return false;
    end if;
    update store_credits set balance = balance - p_amount, total_spent = total_spent + p_amount, updated_at = now()
    where store_id = p_store_id;
    insert into store_credit_transactions (store_id, amount, type, request_id, description)
    values (p_store_id, -p_amount, 'deduction', p_request_id, p_description);
    return true;
end $$;

create function public.refund_store_credits(p_store_id uuid, p_amount int, p_request_id text, p_description text)
returns void language plpgsql security definer set search_path = public as $$
begin
    insert into store_credit_transactions (store_id, amount, type, request_id, description)
    values (p_store_id, p_amount, 'refund', p_request_id, p_description);
    update store_credits set balance = balance + p_amount, total_spent = total_spent - p_amount, updated_at = now()
    where store_id = p_store_id;
    if not found then
        raise exception 'No credit account for store %', p_store_id;
    end if;
end $$;

-- Shoppers of a store: the same ledger; the description says whose balance it was -------------------------------------

create function public.deduct_store_shopper_credits(
    p_store_id uuid, p_shopper_email text, p_amount int, p_request_id text, p_description text
) returns boolean language plpgsql security definer set search_path = public as $$
declare
    available int;
    email text := lower(p_shopper_email);
begin
    select balance into available from store_shopper_credits
    where store_id = p_store_id and shopper_email = email for update;
    if available is null or available < p_amount then
        return false;
    end if;
    update store_shopper_credits
    set balance = balance - p_amount, total_spent = total_spent + p_amount, updated_at = now()
    where store_id = p_store_id and shopper_email = email;
    insert into store_credit_transactions (store_id, amount, type, request_id, description)
    values (p_store_id, -p_amount, 'deduction', p_request_id, format('%s (shopper=%s)', p_description, email));
    return true;
end $$;

create function public.refund_store_shopper_credits(
    p_store_id uuid, p_shopper_email text, p_amount int, p_request_id text, p_description text
) returns void language plpgsql security definer set search_path = public as $$
declare
    email text := lower(p_shopper_email);
begin
    insert into store_credit_transactions (store_id, amount, type, request_id, description)
    values (p_store_id, p_amount, 'refund', p_request_id, format('%s (shopper=%s)', p_description, email));
    update store_shopper_credits
    set balance = balance + p_amount, total_spent = total_spent - p_amount, updated_at = now()
    where store_id = p_store_id and shopper_email = email;
    if not found then
        raise exception 'No credit account for shopper % of store %', email, p_store_id;
    end if;
end $$;

-- Who may do what, as in a Supabase project ---------------------------------------------------------------------------

do $$
declare
    name text;
begin
    foreach name in array array['user_credits', 'credit_transactions', 'store_credits', 'store_shopper_credits',
        'store_credit_transactions', 'generation_sessions', 'store_generation_sessions']
    loop
        -- No policy: anon and authenticated see no rows; service_role bypasses row security.
        execute format('alter table public.%I enable row level security', name);
        execute format('grant all on public.%I to anon, authenticated, service_role', name);
    end loop;
    for name in
        select p.oid::regprocedure::text from pg_proc p where p.pronamespace = 'public'::regnamespace
    loop
        execute format('revoke all on function %s from public', name);
        execute format('grant execute on function %s to service_role', name);
    end loop;
end $$;
grant usage on schema public to anon, authenticated, service_role;

-- What the browser listens to: every UPDATE of a session row.
create publication supabase_realtime for table public.generation_sessions, public.store_generation_sessions;

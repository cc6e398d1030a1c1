-- The product's database as it is: columns, nullability, defaults, checks, indexes, triggers, row policies and functions
-- of the producer's migrations. What the worker never meets is left out.
--
-- Signs in the ledgers: deductions are negative, refunds and purchases positive, so that the sum of an owner's rows is
-- the owner's balance. An overage row is the exception: it is billed outside and moves no balance.

-- Supabase's own parts, as far as the policies and triggers need them.
create schema auth;
create table auth.users (id uuid primary key default gen_random_uuid(), email text);
create function auth.uid() returns uuid language sql stable as $$
    select (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid
$$;
grant usage on schema auth, public to anon, authenticated, service_role;
-- Supabase gives its roles everything in `public`; row policies are the fence.
alter default privileges in schema public grant all on tables to anon, authenticated, service_role;
alter default privileges in schema public grant all on functions to anon, authenticated, service_role;

create table public.user_credits (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null unique references auth.users on delete cascade,
    balance int not null default 10 check (balance >= 0),
    total_earned int default 10,
    total_spent int default 0,
    updated_at timestamptz default now()
);

create table public.credit_transactions (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null references auth.users on delete cascade,
    amount int not null,
    type text not null check (type in ('signup_bonus', 'generation', 'refund')),
    description text,
    created_at timestamptz default now()
);
create index on public.credit_transactions (user_id);
create index on public.credit_transactions (created_at desc);
create index on public.credit_transactions using brin (created_at);

create table public.stores (
    id uuid primary key default gen_random_uuid(),
    shop_domain text not null,
    billing_mode text not null default 'absorb_mode',
    subscription_tier text,
    status text not null default 'active',
    owner_user_id uuid
);

create table public.store_credits (
    id uuid primary key default gen_random_uuid(),
    store_id uuid not null unique references public.stores on delete cascade,
    balance int not null default 0 check (balance >= 0),
    total_purchased int not null default 0,
    total_spent int not null default 0,
    updated_at timestamptz not null default now()
);

create table public.store_shopper_credits (
    id uuid primary key default gen_random_uuid(),
    store_id uuid not null references public.stores on delete cascade,
    shopper_email text not null,
    balance int not null default 0 check (balance >= 0),
    total_purchased int not null default 0,
    total_spent int not null default 0,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (store_id, shopper_email)
);

create table public.store_credit_transactions (
    id uuid primary key default gen_random_uuid(),
    store_id uuid not null references public.stores on delete cascade,
    amount int not null,
    type text not null check (type in ('deduction', 'refund', 'purchase', 'subscription', 'overage')),
    request_id text,
    description text,
    created_at timestamptz not null default now(),
    unique (store_id, request_id, type)
);
create index on public.store_credit_transactions (store_id);
create index on public.store_credit_transactions using brin (created_at);

create table public.generation_sessions (
    id uuid primary key default uuidv7(),
    user_id uuid not null references auth.users on delete cascade,
    status text not null default 'queued'
        check (status in ('queued', 'pending', 'processing', 'completed', 'failed')),
    model_image_url text not null,
    outfit_image_url text,
    accessories jsonb default '[]',
    stitched_image_url text,
    prompt_system text not null,
    prompt_user text,
    generated_image_url text,
    credits_used int default 1,
    error_message text,
    processing_time_ms int,
    created_at timestamptz default now(),
    completed_at timestamptz,
    input_tokens int,
    output_tokens int,
    estimated_cost_usd numeric(10, 6)
);
create index on public.generation_sessions (status, created_at desc) where status in ('pending', 'processing');
create index on public.generation_sessions (status);
create index on public.generation_sessions (created_at desc);
create index on public.generation_sessions (user_id, created_at desc);

create table public.store_generation_sessions (
    id uuid primary key default uuidv7(),
    store_id uuid not null references public.stores on delete cascade,
    shopper_email text,
    status text not null default 'queued' check (status in ('queued', 'processing', 'completed', 'failed')),
    model_image_url text not null,
    outfit_image_url text,
    prompt_system text not null,
    prompt_user text,
    generated_image_url text,
    credits_used int not null default 1,
    error_message text,
    processing_time_ms int,
    request_id text,
    created_at timestamptz not null default now(),
    completed_at timestamptz,
    input_tokens int,
    output_tokens int,
    estimated_cost_usd numeric(10, 6)
);
-- No index on the status alone.
create index on public.store_generation_sessions (status, created_at desc) where status in ('queued', 'processing');
create index on public.store_generation_sessions (created_at desc);
create index on public.store_generation_sessions (store_id, created_at desc);
create index on public.store_generation_sessions (store_id, shopper_email) where shopper_email is not null;

create table public.analytics_events (
    id uuid primary key default gen_random_uuid(),
    event_type text not null,
    user_id uuid references auth.users on delete set null,
    metadata jsonb default '{}',
    created_at timestamptz default now()
);

create table public.store_analytics_events (
    id uuid primary key default gen_random_uuid(),
    store_id uuid not null references public.stores on delete cascade,
    event_type text not null,
    shopper_email text,
    metadata jsonb default '{}',
    created_at timestamptz not null default now()
);

-- Triggers ------------------------------------------------------------------------------------------------------------

create function public.welcome_user() returns trigger language plpgsql security definer set search_path = public as $$
begin
    insert into user_credits (user_id) values (new.id);
    insert into credit_transactions (user_id, amount, type, description)
    values (new.id, 10, 'signup_bonus', 'Welcome bonus');
    return new;
end $$;
create trigger welcome after insert on auth.users for each row execute function public.welcome_user();

create function public.open_store_account() returns trigger
language plpgsql security definer set search_path = public as $$
begin
    insert into store_credits (store_id) values (new.id);
    return new;
end $$;
create trigger open_account after insert on public.stores for each row execute function public.open_store_account();

create function public.touch() returns trigger language plpgsql as $$
begin
    new.updated_at := now();
    return new;
end $$;
create trigger touch before update on public.user_credits for each row execute function public.touch();
create trigger touch before update on public.store_credits for each row execute function public.touch();
create trigger touch before update on public.store_shopper_credits for each row execute function public.touch();

-- Users: every function runs with the caller's rights -----------------------------------------------------------------

create function public.deduct_credits(p_user_id uuid, p_amount int, p_description text)
returns boolean language plpgsql set search_path = public as $$
declare
    available int;
begin
    select balance into available from user_credits where user_id = p_user_id for update;
    if not found then
        raise exception 'User credits not found';
    end if;
    if available < p_amount then
        return false;
    end if;
    update user_credits set balance = balance - p_amount, total_spent = total_spent + p_amount
    where user_id = p_user_id;
    insert into credit_transactions (user_id, amount, type, description)
    values (p_user_id, -p_amount, 'generation', p_description);
    return true;
end $$;

-- Every call gives credit, of either sign, and a missing balance is not noticed.
create function public.refund_credits(
    p_user_id uuid, p_amount int, p_description text default 'Generation failed - refund'
) returns void language plpgsql set search_path = public as $$
begin
    update user_credits set balance = balance + p_amount, total_spent = total_spent - p_amount
    where user_id = p_user_id;
    insert into credit_transactions (user_id, amount, type, description)
    values (p_user_id, p_amount, 'refund', p_description);
end $$;

-- Stores: a second call with the same request_id violates unique (store_id, request_id, type) -------------------------

create function public.deduct_store_credits(p_store_id uuid, p_amount int, p_request_id text, p_description text)
returns boolean language plpgsql set search_path = public as $$
declare
    available int;
begin
    if p_amount is null or p_amount <= 0 then
        raise exception 'Amount must be positive, got %', p_amount;
    end if;
    select balance into available from store_credits where store_id = p_store_id for update;
    if not found then
        raise exception 'Store credits not found';
    end if;
    if available < p_amount then
        return false;
    end if;
    update store_credits set balance = balance - p_amount, total_spent = total_spent + p_amount
    where store_id = p_store_id;
    insert into store_credit_transactions (store_id, amount, type, request_id, description)
    values (p_store_id, -p_amount, 'deduction', p_request_id, p_description);
    return true;
end $$;

-- A missing balance is not noticed.
create function public.refund_store_credits(p_store_id uuid, p_amount int, p_request_id text, p_description text)
returns void language plpgsql set search_path = public as $$
begin
    if p_amount is null or p_amount <= 0 then
        raise exception 'Amount must be positive, got %', p_amount;
    end if;
    update store_credits set balance = balance + p_amount, total_spent = total_spent - p_amount
    where store_id = p_store_id;
    insert into store_credit_transactions (store_id, amount, type, request_id, description)
    values (p_store_id, p_amount, 'refund', p_request_id, p_description);
end $$;

-- Shoppers of a store: the same ledger; the description says whose balance it was -------------------------------------

create function public.deduct_store_shopper_credits(
    p_store_id uuid, p_shopper_email text, p_amount int, p_request_id text, p_description text
) returns boolean language plpgsql set search_path = public as $$
declare
    available int;
    email text := lower(trim(p_shopper_email));
begin
    if p_amount <= 0 then
        raise exception 'Deduction amount must be positive';
    end if;
    if email = '' then
        raise exception 'Shopper email is required';
    end if;
    select balance into available from store_shopper_credits
    where store_id = p_store_id and shopper_email = email for update;
    if available is null or available < p_amount then
        return false;
    end if;
    update store_shopper_credits set balance = balance - p_amount, total_spent = total_spent + p_amount
    where store_id = p_store_id and shopper_email = email;
    insert into store_credit_transactions (store_id, amount, type, request_id, description)
    values (p_store_id, -p_amount, 'deduction', p_request_id, format('%s (shopper=%s)', p_description, email));
    return true;
end $$;

create function public.refund_store_shopper_credits(
    p_store_id uuid, p_shopper_email text, p_amount int, p_request_id text, p_description text
) returns void language plpgsql set search_path = public as $$
declare
    email text := lower(trim(p_shopper_email));
begin
    if p_amount <= 0 then
        raise exception 'Refund amount must be positive';
    end if;
    if email = '' then
        raise exception 'Shopper email is required';
    end if;
    update store_shopper_credits
    set balance = balance + p_amount, total_spent = greatest(total_spent - p_amount, 0)
    where store_id = p_store_id and shopper_email = email;
    if not found then
        raise exception 'Shopper credits not found';
    end if;
    insert into store_credit_transactions (store_id, amount, type, request_id, description)
    values (p_store_id, p_amount, 'refund', p_request_id, format('%s (shopper=%s)', p_description, email));
end $$;

-- Row policies: service_role bypasses them; tables without a policy show and take nothing ------------------------------

do $$
declare
    name text;
begin
    foreach name in array array['user_credits', 'credit_transactions', 'stores', 'store_credits',
        'store_shopper_credits', 'store_credit_transactions', 'generation_sessions', 'store_generation_sessions',
        'analytics_events', 'store_analytics_events']
    loop
        execute format('alter table public.%I enable row level security', name);
    end loop;
    foreach name in array array['user_credits', 'credit_transactions', 'generation_sessions'] loop
        execute format(
            'create policy own_select on public.%I for select to authenticated using (auth.uid() = user_id)', name);
    end loop;
end $$;
create policy own_insert on public.generation_sessions for insert to authenticated with check (auth.uid() = user_id);
create policy own_update on public.generation_sessions for update to authenticated using (auth.uid() = user_id);
create policy own_update on public.user_credits for update to authenticated using (auth.uid() = user_id);
create policy own_insert on public.credit_transactions for insert to authenticated with check (auth.uid() = user_id);

-- What the browser listens to: every UPDATE of a session row.
create publication supabase_realtime for table public.generation_sessions, public.store_generation_sessions;

"""Large books made by SQL alone: users, stores, shoppers, their sessions and ledgers, all of them right."""

from tests.sandbox.database import Database

#: {lines}: ledger lines, half of them of users. Four fifths of the rest of each half are deductions, one fifth refunds.
_SCRIPT = """
set session_replication_role = replica;
set synchronous_commit = off;
create temp table size as select {lines} / 2 / 25 as users, greatest({lines} / 2 / 50000, 1) as stores;

insert into auth.users select md5('user' || n)::uuid from size, generate_series(1, users) n;
insert into user_credits (user_id, balance, total_earned, total_spent)
    select md5('user' || n)::uuid, 10, 30, 20 from size, generate_series(1, users) n;
insert into credit_transactions (user_id, amount, type, description, created_at)
    select md5('user' || n)::uuid, 30, 'signup_bonus', 'Welcome bonus', now() - interval '400 days'
    from size, generate_series(1, users) n;
-- Twenty try-ons of each user, every fifth one failed and refunded by this worker or, before it, by the app.
insert into generation_sessions (id, user_id, status, model_image_url, prompt_system, created_at)
    select md5('b2c' || n || '.' || k)::uuid, md5('user' || n)::uuid,
        case when k > 20 then 'failed' else 'completed' end, 'https://x.example/a.jpg', 'Virtual try-on',
        now() - (k + 15) * interval '16 days' + n * interval '1 second'
    from size, generate_series(1, 24) k, generate_series(1, users) n;
insert into credit_transactions (user_id, amount, type, description, created_at)
    select md5('user' || n)::uuid, -1, 'generation', 'Virtual try-on' ||
        case when k <= 10 then format(' (session=%s, delivered)', md5('b2c' || n || '.' || k)::uuid)
        when k = 21 then format(' (session=%s)', md5('b2c' || n || '.' || k)::uuid) else '' end,
        now() - (k + 15) * interval '16 days' + n * interval '1 second'
    from size, generate_series(1, 24) k, generate_series(1, users) n;
insert into credit_transactions (user_id, amount, type, description, created_at)
    select md5('user' || n)::uuid, 1, 'refund', case when k <= 22
        then format('Refund: try-on failed (session=%s)', md5('b2c' || n || '.' || k)::uuid)
        else 'Generation failed - refund' end,
        now() - (k + 15) * interval '16 days' + n * interval '1 second' + interval '1 minute'
    from size, generate_series(21, 24) k, generate_series(1, users) n;

insert into stores (id, shop_domain) select md5('store' || n)::uuid, n || '.example' from size, generate_series(1, stores) n;
insert into store_credits (store_id, balance, total_purchased, total_spent)
    select md5('store' || n)::uuid, 100, 100 + ({b2b} + stores - n) / stores, ({b2b} + stores - n) / stores
    from size, generate_series(1, stores) n;
"""

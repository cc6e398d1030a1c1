"""Large books, all of them right, made by SQL alone; and the worker's statements and the audit measured on them.

    .venv/bin/python -m tests.bench.books --lines 3000000      # with 2 400 000 sessions; 4 GB of disk, half an hour

Half of the lines are of users: 16 delivered and 4 failed try-ons each. The other half are of stores with 10 000
try-ons each: six of ten paid by the store, three by shoppers, every fifth failed and refunded.
"""

import argparse
import asyncio
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import asyncpg

from tests.sandbox import Sandbox

REQUESTS = 10_000
_LINES_PER_USER = 25
_LINES_PER_STORE = REQUESTS * 6 // 5
_MOMENT = "now() - (k + 4) * interval '16 days' + n * interval '1 second'"
_STORE_MOMENT = "now() - interval '390 days' + k * interval '50 minutes' + n * interval '1 second'"
_SHOPPER = "case when k % 10 in (6, 7, 9) then 'shopper' || k / 10 % 100 || '@example.com' end"


def script(lines: int) -> Iterator[str]:
    """Statements for books of about so many ledger lines, for one connection."""
    users, stores = lines // 2 // _LINES_PER_USER, max(1, lines // 2 // _LINES_PER_STORE)
    each_user, tries = f"generate_series(1, {users}) n", "generate_series(20, 1, -1) k"
    each_store, requests = f"generate_series(1, {stores}) n", f"generate_series(1, {REQUESTS}) k"
    user, session = "md5('user' || n)::uuid", "md5('b2c' || n || '.' || k)::uuid"
    store, store_session = "md5('store' || n)::uuid", "md5('b2b' || n || '.' || k)::uuid"
    yield "set session_replication_role = replica"
    yield f"insert into auth.users select {user} from {each_user}"
    yield (
        "insert into user_credits (user_id, balance, total_earned, total_spent) "
        f"select {user}, 14, 30, 16 from {each_user}"
    )
    yield (
        "insert into credit_transactions (user_id, amount, type, description, created_at) "
        f"select {user}, 30, 'signup_bonus', 'Welcome bonus', now() - interval '400 days' from {each_user}"
    )
    yield (
        "insert into generation_sessions (id, user_id, status, model_image_url, prompt_system, created_at) "
        f"select {session}, {user}, case when k > 16 then 'failed' else 'completed' end, 'url', '', {_MOMENT} "
        f"from {tries}, {each_user}"
    )
    yield (
        "insert into credit_transactions (user_id, amount, type, description, created_at) "
        f"select {user}, -1, 'generation', 'Virtual try-on' || case "
        f"when k <= 8 then format(' (session=%s, delivered)', {session}) "
        f"when k = 17 then format(' (session=%s)', {session}) else '' end, {_MOMENT} from {tries}, {each_user}"
    )
    yield (
        "insert into credit_transactions (user_id, amount, type, description, created_at) "
        f"select {user}, 1, 'refund', case when k <= 18 then format('Refund: try-on failed (session=%s)', {session}) "
        f"else 'Generation failed - refund' end, {_MOMENT} + interval '1 minute' "
        f"from generate_series(20, 17, -1) k, {each_user}"
    )
    yield f"insert into stores (id, shop_domain) select {store}, n || '.example' from {each_store}"
    bought = 100 + REQUESTS * 6 // 10
    yield (
        "insert into store_credits (store_id, balance, total_purchased, total_spent) "
        f"select {store}, 100, {bought}, {bought - 100} from {each_store}"
    )
    yield (
        "insert into store_credit_transactions (store_id, amount, type, request_id, created_at) "
        f"select {store}, {bought}, 'purchase', 'p' || n, now() - interval '400 days' from {each_store}"
    )
    yield (
        "insert into store_shopper_credits (store_id, shopper_email, balance, total_purchased, total_spent) "
        f"select {store}, 'shopper' || m || '@example.com', 5, {5 + REQUESTS // 500}, {REQUESTS // 500} "
        f"from {each_store}, generate_series(0, 99) m"
    )
    yield (
        "insert into store_generation_sessions (id, store_id, shopper_email, status, model_image_url, prompt_system, "
        f"request_id, created_at) select {store_session}, {store}, {_SHOPPER}, "
        "case when k % 10 >= 8 then 'failed' else 'completed' end, 'url', '', 'req_' || n || '.' || k, "
        f"{_STORE_MOMENT} from {requests}, {each_store}"
    )
    suffix = f"coalesce(' (shopper=' || {_SHOPPER} || ')', '')"
    yield (
        "insert into store_credit_transactions (store_id, amount, type, request_id, description, created_at) "
        f"select {store}, -1, 'deduction', 'req_' || n || '.' || k, 'B2B generation' || {suffix}, {_STORE_MOMENT} "
        f"from {requests}, {each_store}"
    )
    yield (
        "insert into store_credit_transactions (store_id, amount, type, request_id, description, created_at) "
        f"select {store}, 1, 'refund', 'req_' || n || '.' || k, "
        f"format('Refund: try-on failed (session=%s)', {store_session}) || {suffix}, "
        f"{_STORE_MOMENT} + interval '1 minute' from {requests}, {each_store} where k % 10 >= 8"
    )
    yield "reset session_replication_role"
    yield "analyze"


async def fill(url: str, lines: int) -> None:
    """Fill an empty database of the product; witnesses and other triggers see nothing of it."""
    connection = await asyncpg.connect(url)
    try:
        for statement in script(lines):
            await connection.execute(statement)
    finally:
        await connection.close()


def calls(sandbox: Sandbox, repetitions: int) -> dict[str, list[float]]:
    """Milliseconds of the worker's functions for sessions of a user and of a store of the large books."""
    owners = {"b2c": "user_credits", "b2b": "store_credits"}
    took: dict[str, list[float]] = {}
    for number in range(repetitions):
        for channel, table in owners.items():
            owner = sandbox.database.value(
                f"select {'user_id' if channel == 'b2c' else 'store_id'}::text from {table} limit 1 offset {number % 5}"
            )
            session = getattr(sandbox.producer, channel)(owner, push=False)
            which = f"'{channel}', '{session.session_id}'"
            for call in (
                f"start_generation({which}, '{owner}')",
                f"requeue_generation({which})",
                f"start_generation({which}, '{owner}')",
                f"complete_generation({which}, 'url', 1, 1, 1, 1)"
                if number % 2
                else f"fail_generation({which}, 'Sorry')",
            ):
                begun = time.perf_counter()
                sandbox.database.value(f"select {call}")
                name = f"{call.split('(')[0]} {channel}"
                took.setdefault(name, []).append((time.perf_counter() - begun) * 1000)
    return took


def _audit(sandbox: Sandbox, *arguments: str) -> None:
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "worker", "audit", *arguments],
        env={**os.environ, **sandbox.env()},
        capture_output=True,
        text=True,
        check=False,
    )
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000
    print(f"audit: exit code {done.returncode}, {time.monotonic() - begun:.1f} s, largest child so far {memory:.0f} MB")
    print(done.stdout.splitlines()[-1] if done.stdout else done.stderr)


def main() -> None:
    """Fill, measure, audit twice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=3_000_000)
    lines = parser.parse_args().lines
    with Sandbox(compose=False) as sandbox:
        asyncio.run(fill(sandbox.database.url, lines))
        for name, took in calls(sandbox, repetitions=20).items():
            print(f"{name:30} median {statistics.median(took):6.1f} ms  max {max(took):6.1f} ms")
        _audit(sandbox)
        _audit(sandbox)


if __name__ == "__main__":
    main()

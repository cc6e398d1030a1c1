"""No statement of the worker scans a table of large books, and none takes long; the planner is left as it is."""

import asyncio
import json
import statistics
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
from postgrest import AsyncPostgrestClient
from starlette.datastructures import QueryParams

from tests.bench.books import calls, fill
from tests.sandbox import Sandbox
from tests.sandbox.supabase.rest_query import columns, condition, window
from worker.generation.audit.ledger import Ledger
from worker.generation.channel import Channel
from worker.generation.sessions.sessions import Sessions
from worker.generation.sweep.open_sessions import AllSessions

#: Enough for the plans of 3 000 000 lines, which `tests/bench/books.py` measures.
LINES = 150_000
LIMIT_MS = 50
#: Of one batch of a purge, for which no customer waits.
_PURGE_SECONDS = 1.0
TABLES = {
    *("generation_sessions", "store_generation_sessions", "credit_transactions", "store_credit_transactions"),
    *("user_credits", "store_shopper_credits"),
    "session_regions",
}
REGION, OTHER = (f"'{uuid4()}'" for _ in range(2))


async def queries() -> list[str]:
    """The worker's reading of tables, in the SQL that PostgREST makes of it."""
    found: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        parameters = QueryParams(request.url.query.decode())
        table = request.url.path.rsplit("/", 1)[1]
        found.append(f"select {columns(parameters)} from {table} where {condition(parameters)} {window(parameters)}")
        return httpx.Response(200, json=[])

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        client = AsyncPostgrestClient("http://database/rest/v1", http_client=http)
        sessions, before = AllSessions(client), datetime.now(UTC) - timedelta(minutes=2)
        await sessions.open(["processing"])
        await sessions.open(["processing"], limit=500)
        await sessions.open(["queued", "pending"], before, limit=500)
        await sessions.open(["queued", "pending"], before)
        await Sessions(client).find(uuid4(), set())
        for channel in Channel:
            async for _ in Ledger(client).open_sessions(channel):
                pass
    return found


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """The plan's nodes, the inner ones included."""
    return [plan, *(node for inner in plan.get("Plans", []) for node in nodes(inner))]


async def explain(connection: asyncpg.Connection, query: str) -> tuple[set[str], float]:
    """Tables that a query scans, and its milliseconds, the best of three."""
    scanned, took = set(), []
    for _ in range(3):
        (plan,) = json.loads(await connection.fetchval(f"explain (analyze, format json) {query}"))
        took.append(plan["Execution Time"])
        scanned |= {it["Relation Name"] for it in nodes(plan["Plan"]) if it["Node Type"] == "Seq Scan"}
    return scanned, min(took)


async def fill_regions(url: str) -> None:
    """Let two regions have started all sessions; on a connection of its own, because it scans the tables."""
    connection = await asyncpg.connect(url)
    for channel, table in (("b2c", "generation_sessions"), ("b2b", "store_generation_sessions")):
        region = f"case when random() < 0.5 then {REGION} else {OTHER} end"
        rows = f"select '{channel}', id, ({region})::uuid, now() - random() * interval '7 days' from {table}"
        await connection.execute(f"insert into wearon.session_regions {rows}")
    await connection.execute(
        f"insert into wearon.regions (id, name, seen_at) values ({OTHER}, 'gone', now() - interval '1 hour')"
    )
    await connection.execute("analyze wearon.session_regions, generation_sessions, store_generation_sessions")
    await connection.close()


@pytest.mark.timeout(300)
async def test_large_books_are_never_scanned_and_no_statement_takes_long(sandbox: Sandbox) -> None:
    await fill(sandbox.database.url, LINES)
    await fill_regions(sandbox.database.url)
    connection = await asyncpg.connect(sandbox.database.url)
    asked = await queries()
    assert len(asked) >= 7
    for query in asked:
        scanned, took = await explain(connection, query)
        assert (scanned & TABLES, took < LIMIT_MS) == (set(), True), query

    async with connection.transaction():
        for channel in ("b2c", "b2b"):
            session = await asyncio.to_thread(getattr(sandbox.producer, channel), push=False)
            which = f"'{channel}', '{session.session_id}'"
            for call in (
                f"start_generation({which}, '{session.owner_id}')",
                f"requeue_generation({which})",
                f"start_generation({which}, '{session.owner_id}')",
                f"fail_generation({which}, 'Sorry')",
            ):
                await connection.fetchval(f"select {call}")
            for call in (
                f"expire('{channel}', now() - interval '6 hours')",
                f"expire('{channel}', now() - interval '6 hours', p_after => now() - interval '1 day')",
                f"expire('{channel}', now(), '{session.owner_id}')",
                f"in_use('bucket', array['uploads/{session.owner_id}/a.jpg'])",
            ):
                started = time.perf_counter()
                await connection.fetchval(f"select wearon_data_life_{call}")
                assert time.perf_counter() - started < _PURGE_SECONDS, call
        for call in (
            f"report({REGION}, 'eu', false, 3720)",
            f"open({REGION}, array['processing'], true, 3720)",
            f"open({REGION}, array['queued', 'pending'], true, 3720, 600, 500)",
            f"open({REGION}, array['queued', 'pending'], false, 3720, 3720)",
            f"take(array['b2c'], array[{OTHER}::uuid], {REGION})",
            "list()",
            f"adopt({OTHER}, {REGION})",
        ):
            await connection.fetchval(f"select wearon_region_{call}")
        scanned = await connection.fetch(
            "select relname from pg_stat_xact_user_tables where seq_scan > 0 and relname = any($1)", list(TABLES)
        )
    await connection.close()
    assert [row["relname"] for row in scanned] == []
    medians = {name: statistics.median(each) for name, each in (await asyncio.to_thread(calls, sandbox, 6)).items()}
    assert {name: each for name, each in medians.items() if each > LIMIT_MS} == {}

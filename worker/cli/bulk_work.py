"""Work of `wearon-worker bulk`: connections of one command, what it does with them, and what it says."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import click
from redis.asyncio import Redis
from rich.console import Console
from rich.progress import Progress

from worker import clients
from worker.cli.options import opened_database, opened_redis
from worker.generation.bulk.books import Books
from worker.generation.bulk.cancellation import Cancellation
from worker.generation.bulk.estimate import Estimate, estimate
from worker.generation.bulk.manifest import Manifest
from worker.generation.bulk.record import Record, Submitted
from worker.generation.bulk.results import Results
from worker.generation.bulk.submission import Result, Submission
from worker.generation.sessions.sessions import Sessions
from worker.settings import Settings, load

_DAY_SECONDS = 24 * 3600


@dataclass
class Tools:
    """Connections of one command."""

    settings: Settings
    redis: Redis
    record: Record
    stack: AsyncExitStack

    async def books(self, store_id: UUID) -> tuple[Books, Sessions]:
        """The database of one store."""
        database = await self.stack.enter_async_context(opened_database(self.settings, connections=10))
        return Books(database, store_id), Sessions(database)


async def submit(settings: Settings, manifest: Manifest, yes: bool) -> bool:
    """Tell cost and time, ask, and queue the rows. Return True if all rows are queued."""
    async with _tools(settings) as tools:
        books, _ = await tools.books(manifest.store_id)
        await books.check_store()
        found = await estimate(settings, tools.redis, books, len(manifest.rows))
        click.echo(summary(manifest, found, settings.bulk_ttl_seconds), err=True)
        if not yes:
            click.confirm("Queue them?", abort=True, err=True)
        with Progress(console=Console(stderr=True), transient=True) as progress:
            bar = progress.add_task("queueing", total=len(manifest.rows))
            run = Submission(tools.record, books, lambda result: progress.update(bar, completed=result.done))
            result = await run.run(manifest)
    click.echo(_told(manifest, result))
    return result.queued + result.before == len(manifest.rows)


async def status(manifest_id: str) -> dict[str, Any]:
    """Rows of a manifest by what has become of them."""
    async with _known(manifest_id) as (tools, submitted):
        books, _ = await tools.books(submitted.store_id)
        count = await Results(books, submitted).count()
        cancelled = await tools.record.is_cancelled(manifest_id)
    return {"manifest": manifest_id, "store": str(submitted.store_id), **count, "cancelled": cancelled}


async def cancel(manifest_id: str) -> Counter[str]:
    """End what waits; rows by what was done about them."""
    async with _known(manifest_id) as (tools, submitted):
        books, sessions = await tools.books(submitted.store_id)
        with Progress(console=Console(stderr=True), transient=True) as progress:
            bar = progress.add_task("cancelling", total=submitted.rows)
            cancellation = Cancellation(tools.redis, tools.record, books, sessions)
            return await cancellation.run(submitted, lambda done: progress.update(bar, completed=done))


async def results(manifest_id: str) -> list[dict[str, Any]]:
    """Every row with its status and its picture's address."""
    async with _known(manifest_id) as (tools, submitted):
        books, _ = await tools.books(submitted.store_id)
        http = await tools.stack.enter_async_context(clients.http_client(clients.STORAGE_TIMEOUT, connections=10))
        bucket = clients.storage_client(tools.settings, http)
        return await Results(books, submitted).all(bucket, tools.settings)


def summary(manifest: Manifest, found: Estimate, ttl_seconds: int) -> str:
    """The text before a manifest is queued: its cost and its time."""
    life = "a day" if ttl_seconds == _DAY_SECONDS else _span(ttl_seconds)
    cost = f"about {found.usd:.2f} USD at OpenAI" if found.usd else "USD unknown: no try-on has ended yet"
    time = f"about {_span(found.seconds)} while no shopper needs anything" if found.seconds else "no worker is running"
    lines = [
        f"manifest {manifest.id}: {found.rows} try-ons for store {manifest.store_id}",
        f"cost: {found.rows} credits of the store's {found.balance} (fewer if queued in part before), {cost}",
        f"time: {time}; each row expires {life} after it was queued",
    ]
    if found.balance < found.rows:
        lines.append(f"The credits may end after {found.balance} rows; buy more and submit the file again.")
    if found.seconds and found.seconds > ttl_seconds:
        lines.append(f"That is more than {life}: rows that have not started by then are failed and refunded. Split it.")
    return "\n".join(lines)


@asynccontextmanager
async def _tools(settings: Settings) -> AsyncIterator[Tools]:
    async with AsyncExitStack() as stack, opened_redis(settings) as redis:
        yield Tools(settings, redis, Record(redis), stack)


@asynccontextmanager
async def _known(manifest_id: str) -> AsyncIterator[tuple[Tools, Submitted]]:
    async with _tools(load()) as tools:
        yield tools, await tools.record.find(manifest_id)


def _told(manifest: Manifest, result: Result) -> str:
    """The fate of the rows, in one line."""
    total = len(manifest.rows)
    parts = [f"{result.queued} queued", f"{result.before} were queued before"]
    if result.refunded:
        parts.append(f"{result.refunded} were refunded before they were queued: submit those with another --id")
    if result.used:
        parts.append(f"{result.used} have request ids that the store has used: submit those with another --id")
    if result.cancelled:
        parts.append("the manifest was cancelled meanwhile")
    if result.out_of_credit:
        parts.append(f"{total - result.done} not queued: the store has no credit left. Buy more, submit the file again")
    return f"manifest {manifest.id}: {', '.join(parts)} (of {total})"


def _span(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"

"""Work of `wearon-worker bulk`: connections of one command, and what it does with them."""

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
from worker.cli.bulk_text import summary, told
from worker.cli.options import opened_database, opened_redis
from worker.generation.bulk.books import Books
from worker.generation.bulk.cancellation import Cancellation
from worker.generation.bulk.estimate import estimate
from worker.generation.bulk.manifest import Manifest
from worker.generation.bulk.record import Record, Submitted
from worker.generation.bulk.results import Results
from worker.generation.bulk.submission import Submission
from worker.generation.sessions.sessions import Sessions
from worker.settings import Settings, load


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
        click.echo(summary(manifest, await estimate(settings, tools.redis, books, len(manifest.rows))), err=True)
        if not yes:
            click.confirm("Queue them?", abort=True, err=True)
        with Progress(console=Console(stderr=True), transient=True) as progress:
            bar = progress.add_task("queueing", total=len(manifest.rows))
            run = Submission(tools.record, books, lambda result: progress.update(bar, completed=result.done))
            result = await run.run(manifest)
    click.echo(told(manifest, result))
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


@asynccontextmanager
async def _tools(settings: Settings) -> AsyncIterator[Tools]:
    async with AsyncExitStack() as stack, opened_redis(settings) as redis:
        yield Tools(settings, redis, Record(redis), stack)


@asynccontextmanager
async def _known(manifest_id: str) -> AsyncIterator[tuple[Tools, Submitted]]:
    async with _tools(load()) as tools:
        yield tools, await tools.record.find(manifest_id)

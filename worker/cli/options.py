"""Shared by several commands: finite numbers, files, tables, and connections to Redis and the database."""

import csv
import io
import math
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click
import stamina
from postgrest import AsyncPostgrestClient
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from rich.table import Table

from worker import clients
from worker.errors import ServiceUnavailable, WorkerError
from worker.settings import Settings


class FiniteRange(click.FloatRange):
    """A number within limits; click's own lets NaN through, which is neither below nor above anything."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


def read_file(path: Path, max_bytes: int, remedy: str = "") -> bytes:
    """Read a file, which may be a pipe. Raise WorkerError, which ends with `remedy` if the file is too large."""
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
            size = max(len(data), os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise WorkerError(f"{path} cannot be read: {error.strerror}") from None
    if size > max_bytes:
        raise WorkerError(f"{path} has {size:,} bytes; the limit is {max_bytes:,}{remedy}")
    return data


def table(*words: str, numbers: Iterable[str]) -> Table:
    """A table without lines: columns of words, then columns of numbers."""
    made = Table(box=None, pad_edge=False)
    for heading in words:
        made.add_column(heading, no_wrap=True)
    for heading in numbers:
        made.add_column(heading, justify="right")
    return made


def as_csv(columns: list[str], rows: list[dict[str, Any]]) -> str:
    """The rows as CSV, with a heading."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def hasty_redis(settings: Settings) -> Redis:
    """A client without retries, because a person waits."""
    redis = clients.redis_client(settings)
    redis.set_retry(Retry(NoBackoff(), 0))
    return redis


@asynccontextmanager
async def opened_redis(settings: Settings) -> AsyncIterator[Redis]:
    """Connect without retries; raises ServiceUnavailable when Redis does not answer."""
    try:
        async with hasty_redis(settings) as redis:
            yield redis
    except BrokenPipeError:
        raise  # the reader of stdout has gone; the client raises errors of its own
    except (RedisError, OSError) as error:
        raise ServiceUnavailable(f"Redis did not answer: {error}; check REDIS_URL") from error


@asynccontextmanager
async def opened_database(settings: Settings, connections: int = 2) -> AsyncIterator[AsyncPostgrestClient]:
    """The database; connects with the first call."""
    stamina.instrumentation.set_on_retry_hooks([])  # retries would write to stdout
    async with clients.http_client(clients.SUPABASE_TIMEOUT, connections) as http:
        yield clients.database_client(settings, http)

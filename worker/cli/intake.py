"""`wearon-worker intake`: let every worker take nothing new from the queue, for maintenance, and go on later."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import click
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from worker.clients import redis_client
from worker.errors import ServiceUnavailable
from worker.generation import keys
from worker.generation.intake import Intake
from worker.settings import load

#: A worker that was already waiting for a message still takes one: it looks again after a second.
_LAST_LOOK_SECONDS = 1.5


@click.group(name="intake")
def command() -> None:
    """Pause or resume taking messages from the queue, in all workers of this Redis.

    A pause survives restarts and lasts until `resume`. Running generations finish; the queue stays as it is.
    """


@command.command()
@click.option("--reason", default="maintenance", show_default=True, help="Shown by /health and `intake status`.")
def pause(reason: str) -> None:
    """Take nothing new; returns when no worker takes anything any more."""
    if not reason.strip():
        raise click.UsageError("--reason is empty: say why, or leave it out")
    asyncio.run(_pause(reason))


@command.command()
def resume() -> None:
    """Take messages again."""
    asyncio.run(_resume())


@command.command()
@click.option("--json", "as_json", is_flag=True, help="Print it as one JSON object.")
def status(as_json: bool) -> None:
    """Whether messages are taken, how many wait, and how many are worked on."""
    asyncio.run(_status(as_json))


async def _pause(reason: str) -> None:
    async with _opened() as redis:
        if await Intake(redis).stop(reason):
            await asyncio.sleep(_LAST_LOOK_SECONDS)
        else:
            click.echo("it was paused already")
        click.echo(_sentence(await _look(redis)))


async def _resume() -> None:
    async with _opened() as redis:
        if not await Intake(redis).resume():
            click.echo("it was not paused")
        click.echo(_sentence(await _look(redis)))


async def _status(as_json: bool) -> None:
    async with _opened() as redis:
        found = await _look(redis)
    click.echo(json.dumps(found) if as_json else _sentence(found))


async def _look(redis: Redis) -> dict[str, str | int | None]:
    instances = [name.decode() for name in await redis.smembers(keys.INSTANCES) if isinstance(name, bytes)]
    return {
        "intake_paused": await Intake(redis).paused() or None,
        "messages_waiting": await redis.llen(keys.QUEUE),
        "messages_taken": sum([await redis.llen(keys.claimed(name)) for name in instances]),
    }


def _sentence(found: dict[str, str | int | None]) -> str:
    state = f"paused: {found['intake_paused']}" if found["intake_paused"] else "messages are taken"
    return f"{state}; {found['messages_waiting']} wait, {found['messages_taken']} are worked on"


@asynccontextmanager
async def _opened() -> AsyncIterator[Redis]:
    redis = redis_client(load())
    redis.set_retry(Retry(NoBackoff(), 0))  # somebody is waiting for the answer
    try:
        async with redis:
            yield redis
    except (RedisError, OSError) as error:
        raise ServiceUnavailable(f"Redis did not answer: {error}; check REDIS_URL") from error

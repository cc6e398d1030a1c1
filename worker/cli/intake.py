"""`wearon-worker intake`: let every worker take nothing new from the queue, for maintenance, and go on later."""

import asyncio
import json
from typing import Any

import click
from redis.asyncio import Redis

from worker.cli.options import opened_redis
from worker.generation import keys
from worker.generation.pauses.intake import Intake
from worker.generation.pauses.pauses import Pause, Pauses
from worker.generation.queue.lanes import Lanes, Rules
from worker.settings import load

#: A worker that looked at the pauses a moment before still starts what it took.
_LAST_LOOK_SECONDS = 1.5


@click.group(name="intake")
def command() -> None:
    """Pause or resume taking messages from the queue, in all workers of this Redis.

    A pause survives restarts and lasts until `resume`. Running generations finish; the queue stays as it is.
    The worker pauses by itself while OpenAI or the storage refuses the account or is unavailable. Such a pause ends by
    itself: one message probes at a time, and the first success ends it for all.
    """


@command.command()
@click.option("--reason", default="maintenance", show_default=True, help="Shown by /health and `intake status`.")
def pause(reason: str) -> None:
    """Take nothing new; return once no worker takes messages."""
    if not reason.strip():
        raise click.UsageError("--reason is empty: say why, or leave it out")
    if not reason.isprintable():
        raise click.UsageError("--reason must be one line of text in UTF-8, without control characters")
    asyncio.run(_pause(reason))


@command.command()
@click.option("--now", is_flag=True, help="Let the next message probe an automatic pause at once.")
def resume(now: bool) -> None:
    """End an operator's pause. An automatic pause ends only by a probe: see --now."""
    asyncio.run(_resume(now))


@command.command()
@click.option("--json", "as_json", is_flag=True, help="Print it as one JSON object.")
def status(as_json: bool) -> None:
    """Show if messages are taken, and how many wait and run."""
    asyncio.run(_status(as_json))


async def _pause(reason: str) -> None:
    async with opened_redis(load()) as redis:
        if await Pauses(redis).stop(reason):
            await asyncio.sleep(_LAST_LOOK_SECONDS)
        else:
            click.echo("it was paused already")
        click.echo(_sentence(await _look(redis)))


async def _resume(now: bool) -> None:
    async with opened_redis(load()) as redis:
        pauses = Pauses(redis)
        ended = await pauses.resume()
        probing = now and await pauses.probe_now()
        if not ended and not probing:
            click.echo("it was not paused")
        elif probing:
            click.echo("the next message probes now")
        click.echo(_sentence(await _look(redis)))


async def _status(as_json: bool) -> None:
    async with opened_redis(load()) as redis:
        found = await _look(redis)
    click.echo(json.dumps(found) if as_json else _sentence(found))


async def _look(redis: Redis) -> dict[str, Any]:
    members = await redis.smembers(keys.INSTANCES)
    instances = [name.decode() for name in members if isinstance(name, bytes) and name.isascii()]
    state, times = await Intake(Pauses(redis)).state(), await Pauses(redis).times()
    since = state.pause.since if state.pause else times.stopped_since
    return {
        "intake_paused": state.reason or None,
        "paused_seconds": round(times.now - since) if state.reason and since else None,
        "probe": _probe(state.pause, times.now) if state.pause else None,
        "messages_waiting": await Lanes(redis, Rules()).waiting(),
        "messages_taken": sum([await redis.llen(keys.claimed(name)) for name in instances]),
    }


def _probe(pause: Pause, now: float) -> str:
    if pause.probe:
        return "runs"
    return f"in {pause.probe_at - now:.0f} s" if pause.probe_at > now else "with the next message"


def _sentence(found: dict[str, Any]) -> str:
    state = f"paused: {found['intake_paused']}" if found["intake_paused"] else "messages are taken"
    if found["paused_seconds"] is not None:
        state += f", for {found['paused_seconds']} s"
    if found["probe"]:
        state += f", probe {found['probe']}"
    return f"{state}; {found['messages_waiting']} wait, {found['messages_taken']} are worked on"

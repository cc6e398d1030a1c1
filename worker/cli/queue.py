"""`wearon-worker queue`: show the lanes, with waiting and running messages; move all to another Redis."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from worker.cli.options import opened_database, opened_redis, table
from worker.clients import redis_client
from worker.errors import ServiceUnavailable, WorkerError
from worker.generation import keys
from worker.generation.channel import SessionRef
from worker.generation.queue.lane_view import LaneView, estimated_waits
from worker.generation.queue.lanes import Rules
from worker.generation.queue_move import CannotMove, Moved, QueueMove
from worker.generation.region import Region, identity
from worker.settings import load
from worker.settings.addresses import read_redis

#: Messages of the queue that are read at most; further ones have no lane yet.
_UNSORTED_MAX = 1000


@click.group(name="queue", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print it as one JSON object.")
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """Show the lanes: what waits and runs for each payer, the longest first.

    All users of the app share the lane b2c; each store has a lane of its own, named by the store's id, and another one
    for its bulk (bulk-<id>), which has its turn when no other lane waits. The next message
    is chosen from the lanes in turn, by weight (LANE_WEIGHTS). The wait is an estimate for a message that is queued
    now, from the generations that ended in the last ten minutes.
    """
    if context.invoked_subcommand is None:
        found = asyncio.run(_look())
        click.echo(json.dumps(found)) if as_json else _print(found)


@command.command()
@click.option("--to", "to", required=True, metavar="FILE|VARIABLE", help="File or variable with the target's address.")
@click.option("--dry-run", is_flag=True, help="Only count.")
def move(to: str, dry_run: bool) -> None:
    """Move all messages to another region's Redis, when this region's workers are gone for a while.

    Waiting messages, those of dead workers, outcomes and dead letters are copied, then removed here; manifests of bulk
    are copied. The command may be repeated after an interruption: nothing is lost or copied twice. The intake here
    stays paused: `intake resume`.
    """
    moved = asyncio.run(_move(to, dry_run))
    found = (
        f"{moved.waiting} waiting messages, {moved.claimed} of dead workers, {moved.outcomes} outcomes, "
        f"{moved.dead_letters} dead letters"
    )
    click.echo(f"{found} would be moved" if dry_run else f"{found}; {moved.copied} messages were copied")


def _address(to: str) -> str:
    """The address in a file or a variable: an argument would show its password in the process list."""
    if "://" in to:
        raise click.UsageError("--to takes a file or the name of a variable that holds the address, not the address")
    try:
        return read_redis(os.environ[to] if to in os.environ else Path(to).read_text())
    except OSError as error:
        raise WorkerError(f"{to} is neither a variable nor a file that can be read: {error.strerror}") from None
    except ValueError as error:
        raise WorkerError(f"the address in {to} is invalid: {error}") from None


async def _move(to: str, dry_run: bool) -> Moved:
    url, settings = _address(to), load()
    async with (
        opened_redis(settings) as source,
        redis_client(settings, url) as target,
        opened_database(settings) as database,
    ):
        region = Region(target, database, settings)
        own = await identity(source)
        try:
            is_source = own == await region.id()
        except ServiceUnavailable as error:
            raise WorkerError(f"the target: {error}; check the address in {to}") from None
        if is_source:
            raise CannotMove("the target is the source")

        async def take(sessions: list[SessionRef]) -> None:
            if settings.region:
                await region.take(sessions)

        queue = QueueMove(source, target, take, (settings.dead_letters_max, settings.dead_letters_max_bytes))
        if dry_run:
            return await queue.look()
        return await queue.run(lambda copied: click.echo(f"{copied} copied", err=True))


async def _look() -> dict[str, Any]:
    settings = load()
    async with opened_redis(settings) as redis:
        members = await redis.smembers(keys.INSTANCES)
        instances = [name.decode() for name in members if isinstance(name, bytes) and name.isascii()]
        present = [await _instance(redis, name) for name in sorted(instances)]
        lanes = await LaneView(redis).look(instances, _UNSORTED_MAX)
        unsorted = max(0, await redis.llen(keys.QUEUE) - _UNSORTED_MAX)
    rules = Rules.of(settings)
    waits = {name: round(seconds) for name, seconds in estimated_waits(lanes, rules).items()}
    return {
        "lanes": [
            {
                "lane": lane.name,
                "weight": rules.weight(lane.name),
                "waiting": lane.waiting,
                "running": lane.running,
                "oldest_seconds": round(lane.age),
                "ended_per_minute": round(60 * lane.rate, 1),
                "wait_seconds": waits.get(lane.name),
            }
            for lane in lanes
        ],
        "not_sorted_yet": unsorted,
        "instances": present,
    }


async def _instance(redis: Any, name: str) -> dict[str, Any]:
    alive, claimed = await redis.exists(keys.alive(name)), await redis.llen(keys.claimed(name))
    return {"name": name, "alive": bool(alive), "claimed": claimed}


def _print(found: dict[str, Any]) -> None:
    if not found["lanes"]:
        click.echo("No message waits, and no generation runs.")
        return
    shown = table("lane", numbers=("weight", "waiting", "running", "oldest", "ended a minute", "estimated wait"))
    for lane in found["lanes"]:
        wait = _span(lane["wait_seconds"]) if lane["waiting"] else "-"
        counts = (lane["waiting"], lane["running"], _span(lane["oldest_seconds"]) if lane["waiting"] else "-")
        shown.add_row(lane["lane"], f"{lane['weight']:g}", *map(str, counts), f"{lane['ended_per_minute']:g}", wait)
    Console().print(shown)
    if found["not_sorted_yet"]:
        click.echo(f"{found['not_sorted_yet']} further messages are not sorted into lanes yet.")


def _span(seconds: int | None) -> str:
    if seconds is None:
        return "unknown"
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"

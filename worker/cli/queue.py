"""`wearon-worker queue`: show the lanes, with waiting and running messages and the estimated wait."""

import asyncio
import json
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from worker.cli.options import opened_redis
from worker.generation import keys
from worker.generation.lane_view import Lane, LaneView
from worker.generation.lanes import Rules
from worker.settings import load

#: Most messages of the queue that are read; the others behind them have no lane yet.
_UNSORTED_MAX = 1000


@click.command(name="queue")
@click.option("--json", "as_json", is_flag=True, help="Print it as one JSON object.")
def command(as_json: bool) -> None:
    """Show the lanes: what waits and runs for each payer, the longest first.

    All users of the app share the lane b2c; each store has a lane of its own, named by the store's id, and another one
    for its bulk (bulk-<id>), which has its turn when no other lane waits. The next message
    is chosen from the lanes in turn, by weight (LANE_WEIGHTS). The wait is an estimate for a message that is queued
    now, from the generations that ended in the last ten minutes.
    """
    found = asyncio.run(_look())
    click.echo(json.dumps(found)) if as_json else _print(found)


async def _look() -> dict[str, Any]:
    settings = load()
    async with opened_redis(settings) as redis:
        members = await redis.smembers(keys.INSTANCES)
        instances = [name.decode() for name in members if isinstance(name, bytes) and name.isascii()]
        present = [await _instance(redis, name) for name in sorted(instances)]
        lanes = await LaneView(redis).look(instances, _UNSORTED_MAX)
        unsorted = max(0, await redis.llen(keys.QUEUE) - _UNSORTED_MAX)
    rules = Rules.of(settings)
    waits = _waits(lanes, rules)
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


def _waits(lanes: list[Lane], rules: Rules) -> dict[str, int]:
    """Seconds until the last message of each waiting lane starts; empty when nothing has ended lately."""
    rate = sum(lane.rate for lane in lanes)
    if not rate:
        return {}
    waits: dict[str, int] = {}
    ahead = 0  # bulk waits for all others
    for kind in (False, True):
        waiting = [lane for lane in lanes if lane.waiting and lane.is_bulk is kind]
        weights = sum(rules.weight(lane.name) for lane in waiting)
        for lane in waiting:
            waits[lane.name] = round((ahead + lane.waiting * weights / rules.weight(lane.name)) / rate)
        ahead = sum(lane.waiting for lane in waiting)
    return waits


def _print(found: dict[str, Any]) -> None:
    if not found["lanes"]:
        click.echo("No message waits, and no generation runs.")
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("lane", no_wrap=True)
    for heading in ("weight", "waiting", "running", "oldest", "ended a minute", "estimated wait"):
        table.add_column(heading, justify="right")
    for lane in found["lanes"]:
        wait = _span(lane["wait_seconds"]) if lane["waiting"] else "-"
        counts = (lane["waiting"], lane["running"], _span(lane["oldest_seconds"]) if lane["waiting"] else "-")
        table.add_row(lane["lane"], f"{lane['weight']:g}", *map(str, counts), f"{lane['ended_per_minute']:g}", wait)
    Console().print(table)
    if found["not_sorted_yet"]:
        click.echo(f"{found['not_sorted_yet']} further messages are not sorted into lanes yet.")


def _span(seconds: int | None) -> str:
    if seconds is None:
        return "unknown"
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"

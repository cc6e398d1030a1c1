"""A producer that costs next to nothing: rows inserted in bulk, messages pushed at the moments they are due."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

from tests.bench.world import World
from tests.sandbox.producer import QUEUE

_INSERT = """
insert into generation_sessions (id, user_id, model_image_url, outfit_image_url, prompt_system, created_at)
select id, $2, $3, $4, '', to_timestamp(due) from unnest($1::uuid[], $5::float8[]) as _(id, due)
"""
_ENDED = (
    "select (select count(*) from store_generation_sessions where status in ('completed', 'failed')) "
    "+ (select count(*) from generation_sessions where status in ('completed', 'failed'))"
)
_TICK_SECONDS = 0.01
_ASK_SECONDS = 0.5


@dataclass(frozen=True)
class Order:
    """One session and when its message is due, in seconds since 1970."""

    session_id: str
    due: float
    message: str


def offer(
    world: World, count: int, per_second: float | None, patience: float, progress: Callable[[str], None], name: str = ""
) -> list[Order]:
    """Make the orders, push each when it is due, and wait until the sessions have ended, or this long."""
    made = orders(world, count, per_second)
    push(world, made, lambda sent: progress(f"{name}{sent} of {count} queued"))
    wait_until_ended(world, count, patience, lambda ended: progress(f"{name}{ended} of {count} ended"))
    return made


def orders(world: World, count: int, per_second: float | None, *, age: float = -0.5, padding: int = 0) -> list[Order]:
    """`count` sessions, already in the database, due from now on (or `age` seconds ago); all at once without a rate.

    Each message carries a field of `padding` bytes that the worker ignores.
    """
    user, begin = world.sandbox.producer.user(), time.time() - age
    person, garment, *_ = world.photos
    dues = [begin + (number / per_second if per_second else 0) for number in range(count)]
    made = [_order(world, user, number, due, padding) for number, due in enumerate(dues)]
    ids = [order.session_id for order in made]
    world.sandbox.database.execute(_INSERT, ids, user, person, garment, dues)
    return made


def push(world: World, due: list[Order], told: Callable[[int], None]) -> None:
    """LPUSH each message when it is due; `told` hears how many are out."""
    position = 0
    while position < len(due):
        end = position
        while end < len(due) and due[end].due <= time.time():
            end += 1
        if end > position:
            world.sandbox.redis.lpush(QUEUE, *(order.message for order in due[position:end]))
            position = end
            told(position)
        time.sleep(_TICK_SECONDS)


def wait_until_ended(world: World, count: int, seconds: float, told: Callable[[int], None]) -> None:
    """Returns when `count` sessions have ended, or the time is over: what is missing then shows in the figures."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended = world.sandbox.database.value(_ENDED)
        told(ended)
        if ended >= count:
            return
        time.sleep(_ASK_SECONDS)


def _order(world: World, user: str, number: int, due: float, padding: int) -> Order:
    session_id = str(uuid4())
    urls = [world.photos[(2 * number + index) % len(world.photos)] for index in range(2)]
    moment = datetime.fromtimestamp(due, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    message = {
        "task_id": str(uuid4()),
        "channel": "b2c",
        "user_id": user,
        "session_id": session_id,
        "request_id": f"bench-{number}",
        "image_urls": urls,
        # The call at OpenAI is found again by its prompt.
        "prompt": session_id,
        "version": 1,
        "created_at": moment,
    } | ({"padding": "x" * padding} if padding else {})
    return Order(session_id, due, json.dumps(message))

"""Odd items: entries in Redis and rows that no worker of this version makes. One of them never holds up the others."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis.asyncio import Redis

from worker.generation import keys
from worker.generation.retrying import AWAY
from worker.logs import get_logger
from worker.metrics import counter

log = get_logger(__name__)

WHERE = ("message", "session", "outcome", "instance", "key", "value", "part")
_COUNT = counter("wearon_odd_items_total", "Entries and rows of an unknown form, each look at one.", ("where",), WHERE)
#: A key of another type is kept under this name for so long.
_ASIDE = ":odd"
_ASIDE_SECONDS = 30 * 24 * 3600
#: Items that are logged at most; a flood of further ones is only counted.
_SAID_MAX = 1000
_said: set[tuple[str, str]] = set()


def note(where: str, item: object, error: object) -> None:
    """Count an odd item, and log it once. `item` names it, and holds neither a prompt nor an address."""
    _COUNT.labels(where).inc()
    said = where, repr(item)[:200]
    if said not in _said and len(_said) < _SAID_MAX:
        _said.add(said)
        text = f"{type(error).__name__}: {error}" if isinstance(error, Exception) else str(error)
        log.error("odd_item_found", where=where, item=said[1], error=text[:500])


@contextmanager
def alone(where: str, item: object) -> Iterator[None]:
    """Note the error of one of many items, so that the next item has its turn; an outage ends the round."""
    try:
        yield
    except (*AWAY, OSError):
        raise
    except Exception as error:
        note(where, item, error)


async def set_aside_wrong_keys(client: Redis, names: list[str]) -> None:
    """Rename those of these keys that have another type than ours, so that a new key takes their place."""
    redis: Any = client
    for name in names:
        expected = keys.type_of(name)
        if not expected:
            continue
        found = (await redis.type(name)).decode()
        if found not in (expected, "none"):
            await redis.rename(name, name + _ASIDE)
            await redis.expire(name + _ASIDE, _ASIDE_SECONDS)
            note("key", name, f"its type is {found} instead of {expected}; it is now {name}{_ASIDE}")

"""Patience with services that are away: the same call again, at most five seconds apart, until it works."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import stamina
from redis.exceptions import RedisError

from worker.errors import ServiceUnavailable

T = TypeVar("T")

#: What says "not now": everything else is an answer.
AWAY = (ServiceUnavailable, RedisError)
MAX_WAIT_SECONDS = 5.0


async def until_available(call: Callable[[], Awaitable[T]], patience_seconds: float | None = None) -> T:
    """Return the call's result; raise its last error once `patience_seconds` are over (None: never, 0: at once)."""
    if patience_seconds == 0:
        return await call()
    attempts = stamina.retry_context(
        on=AWAY, attempts=None, timeout=patience_seconds, wait_initial=0.1, wait_jitter=0.2, wait_max=MAX_WAIT_SECONDS
    )
    async for attempt in attempts:
        with attempt:
            return await call()
    raise AssertionError("unreachable: the last attempt returns or raises")

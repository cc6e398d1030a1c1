"""One purge at a time, over all instances: a lock that ends with its holder."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from uuid import uuid4

from redis.asyncio import Redis
from redis.exceptions import RedisError

from worker.errors import WorkerError
from worker.generation import keys

_LEASE_SECONDS = 20
_RENEW_SECONDS = 5.0
#: DEL first: a full Redis takes the SET after it.
_ACQUIRE = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
"""
_RENEW = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('EXPIRE', KEYS[1], ARGV[2]) end return 0"
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class PurgeUnderWay(WorkerError):
    """Another process purges the same bucket."""


class LockLost(WorkerError):
    """Redis was away for longer than the lock lives; another process may purge now."""


@asynccontextmanager
async def exclusive(redis: Redis, patience_seconds: float = 0.0) -> AsyncIterator[Callable[[], None]]:
    """Hold the lock; gives a function that raises LockLost once the lock may be another's. Raises PurgeUnderWay."""
    holder = _Holder(redis)
    given_up_at = time.monotonic() + patience_seconds
    while not await holder.acquire():
        if time.monotonic() >= given_up_at:
            raise PurgeUnderWay("another purge is under way; try again when it has ended")
        await asyncio.sleep(1)
    renewing = asyncio.create_task(holder.renew_forever())
    try:
        yield holder.check
    finally:
        renewing.cancel()
        with suppress(RedisError, OSError):
            await holder.release()


class _Holder:
    def __init__(self, redis: Redis) -> None:
        self._acquire, self._renew, self._release = map(redis.register_script, (_ACQUIRE, _RENEW, _RELEASE))
        self._words: list[str | int] = [uuid4().hex, _LEASE_SECONDS]
        self._held_until = 0.0

    async def acquire(self) -> bool:
        return await self._hold(self._acquire)

    async def renew_forever(self) -> None:
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            with suppress(RedisError, OSError):
                if not await self._hold(self._renew):
                    self._held_until = 0.0
                    return

    def check(self) -> None:
        if time.monotonic() >= self._held_until:
            raise LockLost("the purge has lost its lock, because Redis was away; it goes on from its place later")

    async def release(self) -> None:
        await self._release(keys=[keys.DATA_LIFE_LOCK], args=self._words[:1])

    async def _hold(self, script: Callable[..., object]) -> bool:
        until = time.monotonic() + _LEASE_SECONDS
        if await script(keys=[keys.DATA_LIFE_LOCK], args=self._words):  # type: ignore[misc]
            self._held_until = until
            return True
        return False

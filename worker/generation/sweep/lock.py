"""The lock of the sweep: one instance at a time sweeps."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from worker.generation import keys
from worker.generation.queue.claims import Claims

_LOCK_SECONDS = 60
#: ARGV: instance, seconds, a dead holder. -> the holder, if another instance has the lock and is not that dead holder.
#: DEL first: a full Redis takes the SET after it.
_LOCK = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] and holder ~= ARGV[3] then return holder end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return false
"""
_UNLOCK = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


class SweepLock:
    """The lock of one Redis, for the instance of these claims."""

    def __init__(self, redis: Redis, claims: Claims) -> None:
        self._claims = claims
        self._lock = redis.register_script(_LOCK)
        self._unlock = redis.register_script(_UNLOCK)

    @asynccontextmanager
    async def held(self) -> AsyncIterator[bool]:
        """Yield true while this instance alone sweeps; a holder that is dead or stands still delays no sweep."""
        mine = self._claims.instance
        holder = await self._lock(keys=[keys.SWEEP_LOCK], args=[mine, _LOCK_SECONDS, ""])
        if holder is not None and not await self._claims.is_alive(holder.decode(errors="replace")):
            holder = await self._lock(keys=[keys.SWEEP_LOCK], args=[mine, _LOCK_SECONDS, holder])
        try:
            yield holder is None
        finally:
            if holder is None:
                await self._unlock(keys=[keys.SWEEP_LOCK], args=[mine])

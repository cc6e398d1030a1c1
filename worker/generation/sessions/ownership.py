"""The marks in Redis by which every instance knows that a session is worked on, was started here, or cost workers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from redis.asyncio import Redis

from worker.generation import keys
from worker.generation.sessions.marks import Mark, Stage

_DEATHS_SECONDS = 24 * 3600

#: EXPIRE first: a full Redis takes the SADD after it (see `room`).
_COUNT_DEATH = """
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('SADD', KEYS[1], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return redis.call('SCARD', KEYS[1])
"""


@dataclass(frozen=True)
class Marks:
    """The marks of one session."""

    #: A worker has the session right now.
    held: bool
    #: A worker of this Redis has started the session and not ended it in order.
    started: bool


class Ownership:
    """Reads the marks that `leases` sets. All methods raise what Redis raises."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._count_death = redis.register_script(_COUNT_DEATH)

    async def is_held(self, session_id: UUID) -> bool:
        """Tell if a worker has the session right now."""
        return bool(await self._redis.exists(keys.lease(session_id)))

    async def marks(self, session_ids: Sequence[UUID]) -> dict[UUID, Marks]:
        """The marks of these sessions, all at one moment."""
        if not session_ids:
            return {}
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.mget([keys.lease(session_id) for session_id in session_ids])
            pipe.mget([keys.begun(session_id) for session_id in session_ids])
            held, started = await pipe.execute()
        found: Any = zip(session_ids, held, started, strict=True)
        return {session_id: Marks(lease is not None, mark is not None) for session_id, lease, mark in found}

    async def is_unpaid(self, session_id: UUID) -> bool:
        """Tell if no call to OpenAI was made for the session, as far as its mark tells."""
        kept = await self._redis.get(keys.begun(session_id))
        return not isinstance(kept, bytes) or Mark.read(kept).stage is Stage.STARTED

    async def count_death(self, session_id: UUID, instance: str) -> int:
        """Note that an instance died with the session's message. Return the number of instances that did."""
        return int(await self._count_death(keys=[keys.deaths(session_id)], args=[instance, _DEATHS_SECONDS]))

    async def release_all(self, instance: str, session_ids: Iterable[UUID]) -> None:
        """Release the leases that an instance, which works on nothing any more, still has of these sessions."""
        for session_id in session_ids:
            holder: Any = await self._redis.get(keys.lease(session_id))
            if holder is not None and holder.startswith(f"{instance}:".encode()):
                await self._redis.delete(keys.lease(session_id))

    async def disown(self, session_id: UUID) -> None:
        """Take the session from a worker that hung: the worker loses the lease, and makes no further call."""
        await self._redis.delete(keys.begun(session_id))

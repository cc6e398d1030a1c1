"""Outcomes in Redis that the database does not have yet: kept before they are written, forgotten afterwards."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from redis.asyncio import Redis

from worker.generation import keys, odd
from worker.generation.outcome import Outcome
from worker.generation.room import insist


class Waiting:
    """All methods raise what Redis raises."""

    def __init__(self, redis: Redis) -> None:
        self._redis: Any = redis  # redis-py's annotations know only text

    async def keep(self, outcome: Outcome) -> None:
        """Keep the outcome until `forget`."""
        await insist(self._redis, "HSET", keys.SETTLEMENTS, str(outcome.session_id), outcome.model_dump_json())

    async def forget(self, session_id: UUID) -> bool:
        """Forget the session's outcome. Return True if it was there: no other process has forgotten it before."""
        return bool(await self._redis.hdel(keys.SETTLEMENTS, str(session_id)))

    async def entries(self) -> list[tuple[str, bytes]]:
        """All waiting outcomes: session id and JSON."""
        entries = await self._redis.hgetall(keys.SETTLEMENTS)
        found = []
        for name, kept in entries.items():
            try:
                found.append((name.decode(), kept))
            except UnicodeDecodeError:
                # No name that a later command could use.
                shown = name.decode(errors="backslashreplace")
                odd.note("outcome", shown, "its name is no text")
                await self._redis.hset(keys.REJECTED, shown, kept)
                await self._redis.hdel(keys.SETTLEMENTS, name)
        return found

    async def known(self, session_ids: Sequence[UUID]) -> set[UUID]:
        """Return the sessions whose outcome only has to be written, by a worker or by an operator."""
        if not session_ids:
            return set()
        names = [str(session_id) for session_id in session_ids]
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.hmget(keys.SETTLEMENTS, names)
            pipe.hmget(keys.REJECTED, names)
            waiting, rejected = await pipe.execute()
        entries = zip(session_ids, waiting, rejected, strict=True)
        return {session_id for session_id, *kept in entries if any(entry is not None for entry in kept)}

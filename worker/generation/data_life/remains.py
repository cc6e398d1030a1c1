"""People's data in Redis: messages in dead letters, and addresses in outcomes that wait or were rejected.

Outcomes themselves stay until they are settled: each of them is a credit.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from redis.asyncio import Redis

from worker.generation import keys
from worker.generation.data_life.record import read_object
from worker.generation.message import timestamp
from worker.generation.outcome import EXPIRED
from worker.generation.queue.dead_letter import DeadLetter
from worker.generation.queue.dead_letters import DeadLetters
from worker.generation.queue.envelope import owners

#: Replaces a field of a hash that is still as it was read. HDEL first: a full Redis takes the HSET after it.
_REPLACE = """
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
"""


@dataclass
class Trimmed:
    """Dropped dead letters, and outcomes that lost their address."""

    letters: int = 0
    outcomes: int = 0


class Remains:
    """All methods raise what Redis raises."""

    def __init__(self, redis: Redis, dead_letters: DeadLetters) -> None:
        self._redis: Any = redis  # redis-py's annotations know only text
        self._dead_letters = dead_letters
        self._replace = redis.register_script(_REPLACE)

    async def trim(self, before: datetime, *, dry_run: bool = False) -> Trimmed:
        """Remove entries that are older than a moment; in a dry run only count them."""
        trimmed = Trimmed()
        async for letter in self._old_letters(before):
            trimmed.letters += dry_run or await self._dead_letters.drop(letter)
        async for name, session_id, kept, made_at in self._outcomes():
            if made_at < before.timestamp():
                trimmed.outcomes += dry_run or await self._clear(name, session_id, kept)
        return trimmed

    async def erase(
        self, owner_id: UUID, owned: Callable[[list[str]], Awaitable[set[str]]], *, dry_run: bool = False
    ) -> Trimmed:
        """Remove what belongs to a user or a store; `owned` tells which of some sessions are the owner's."""
        trimmed = Trimmed()
        async for letter in self._dead_letters.oldest_first():
            if str(owner_id) in owners(letter.message):
                trimmed.letters += dry_run or await self._dead_letters.drop(letter)
        found = [outcome async for outcome in self._outcomes()]
        theirs = await owned([session_id for _, session_id, _, _ in found]) if found else set()
        for name, session_id, kept, _ in found:
            if session_id in theirs:
                trimmed.outcomes += dry_run or await self._clear(name, session_id, kept)
        return trimmed

    async def _old_letters(self, before: datetime) -> AsyncIterator[DeadLetter]:
        """Letters made before a moment, and undated ones in front of them. Those of a moved region are out of order."""
        undated: list[DeadLetter] = []
        async for letter in self._dead_letters.oldest_first():
            made = _moment(letter)
            if made and made >= before:
                undated = []
                continue
            undated.append(letter)
            if made:
                for each in undated:
                    yield each
                undated = []

    async def _outcomes(self) -> AsyncIterator[tuple[str, str, bytes, float]]:
        """Outcomes with an address: hash, session, entry and when it was made."""
        for name in (keys.SETTLEMENTS, keys.REJECTED):
            for field, kept in (await self._redis.hgetall(name)).items():
                entry = read_object(kept)
                outcome = read_object(entry.get("outcome")) if name == keys.REJECTED else entry
                made_at = entry.get("time" if name == keys.REJECTED else "known_at")
                if outcome.get("image_url", "") not in ("", EXPIRED) and isinstance(made_at, int | float):
                    yield name, field.decode(errors="replace"), kept, made_at

    async def _clear(self, name: str, session_id: str, kept: bytes) -> bool:
        entry = read_object(kept)
        if name == keys.REJECTED:
            entry["outcome"] = json.dumps({**read_object(entry["outcome"]), "image_url": EXPIRED})
        else:
            entry["image_url"] = EXPIRED
        return bool(await self._replace(keys=[name], args=[session_id, kept, json.dumps(entry)]))


def _moment(letter: DeadLetter) -> datetime | None:
    try:
        return timestamp(letter.time)
    except ValueError:
        return None

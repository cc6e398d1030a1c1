"""Messages that could not be used: a bounded list, newest first, with the reason beside each."""

import json
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from redis.asyncio import Redis

from worker.errors import WorkerError
from worker.generation import keys

#: A payload up to this size is kept as it is, enough to replay every message that is not too large...
MAX_PAYLOAD_BYTES = 256 * 1024
#: ...of a larger one only the beginning, to see what it was.
_CUT_OFF_BYTES = 16 * 1024
_PAGE = 50

#: Off the dead list and, with a second key, onto the queue like a new message: both or nothing.
_TAKE = """
if redis.call('LREM', KEYS[1], -1, ARGV[1]) == 0 then return 0 end
if KEYS[2] then redis.call('LPUSH', KEYS[2], ARGV[2]) end
return 1
"""


class CannotReplay(WorkerError):
    """The dead letter is only the beginning of its message."""


@dataclass(frozen=True)
class DeadLetter:
    """One message that could not be used."""

    id: str
    reason: str
    detail: str
    #: ISO 8601, UTC.
    time: str
    #: What was on the queue, base64 because it need not be text; cut off when it was too large to keep.
    payload: str
    payload_bytes: int
    #: The list item itself; empty before it is one.
    item: bytes = field(default=b"", repr=False, compare=False)

    @property
    def message(self) -> bytes:
        """The payload as it was on the queue (or its beginning)."""
        return b64decode(self.payload)

    @property
    def complete(self) -> bool:
        """Whether the whole payload was kept."""
        return len(self.message) == self.payload_bytes


class DeadLetters:
    """The list in Redis. Full means that the oldest makes room and is counted."""

    def __init__(self, redis: Redis, limit: int) -> None:
        self._redis = redis
        # redis-py's annotations know only text; the items here are bytes.
        self._lists: Any = redis
        self._limit = limit
        self._take = redis.register_script(_TAKE)

    async def add(self, payload: bytes, reason: str, detail: str) -> DeadLetter:
        """Keep a message that could not be used."""
        kept = payload if len(payload) <= MAX_PAYLOAD_BYTES else payload[:_CUT_OFF_BYTES]
        letter = DeadLetter(
            id=uuid4().hex[:12],
            reason=reason,
            detail=detail[:1000],
            time=datetime.now(UTC).isoformat(timespec="milliseconds"),
            payload=b64encode(kept).decode(),
            payload_bytes=len(payload),
        )
        fields = asdict(letter)
        del fields["item"]
        length = await self._redis.lpush(keys.DEAD, json.dumps(fields))
        if length > self._limit:
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.ltrim(keys.DEAD, 0, self._limit - 1)
                pipe.incrby(keys.DEAD_DROPPED, length - self._limit)
                await pipe.execute()
        return letter

    async def list(self) -> list[DeadLetter]:
        """All of them, newest first."""
        return [letter async for letter in self._each()]

    async def find(self, letter_id: str) -> DeadLetter | None:
        """The one with this id, if it is (still) there."""
        async for letter in self._each():
            if letter.id == letter_id:
                return letter
        return None

    async def made_room(self) -> int:
        """How many had to go because the list was full, ever."""
        return int(await self._redis.get(keys.DEAD_DROPPED) or 0)

    async def replay(self, letter: DeadLetter) -> bool:
        """Put the message into the queue again as if it were new; false when somebody took the letter before.

        Raises:
            CannotReplay: it was not kept whole.
        """
        if not letter.complete:
            raise CannotReplay(
                f"{letter.id} cannot be replayed: {len(letter.message)} of its {letter.payload_bytes} bytes were kept"
            )
        return bool(await self._take(keys=[keys.DEAD, keys.QUEUE], args=[letter.item, letter.message]))

    async def drop(self, letter: DeadLetter) -> bool:
        """Delete it; false when somebody took it before."""
        return bool(await self._take(keys=[keys.DEAD], args=[letter.item]))

    async def _each(self) -> AsyncIterator[DeadLetter]:
        seen: set[str] = set()
        for start in range(0, 1_000_000, _PAGE):
            items = await self._lists.lrange(keys.DEAD, start, start + _PAGE - 1)
            for item in items:
                letter = DeadLetter(**json.loads(item), item=item)
                if letter.id not in seen:  # new letters push the others into the next page
                    seen.add(letter.id)
                    yield letter
            if len(items) < _PAGE:
                return

"""Messages that could not be used: a bounded list, newest first, with the reason beside each."""

import hashlib
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
#: Letters in memory at once, and in one answer of Redis.
_PAGE = 10

#: Adds a letter; the oldest make room by number and by bytes. While Redis is full, so many bytes leave as come.
#: KEYS: the list, its bytes, how many were dropped. The bytes are counted anew if the list was there before its count.
_ADD = """
local item, most, most_bytes = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local refused = type(redis.pcall('LPUSH', KEYS[1], item)) == 'table'
-- Changes nothing: a full Redis takes the writes after it (see `room`).
redis.call('PERSIST', KEYS[1])
local others = redis.call('LLEN', KEYS[1]) - (refused and 0 or 1)
local bytes = tonumber(redis.call('GET', KEYS[2]) or '0')
if others == 0 then
  bytes = 0
elseif bytes <= 0 then
  for place = -others, -1 do bytes = bytes + #redis.call('LINDEX', KEYS[1], place) end
end
local freed, dropped = 0, 0
while others > 0 and (others + 1 > most or bytes + #item > most_bytes or refused and freed < #item) do
  local oldest = redis.call('RPOP', KEYS[1])
  others, bytes, freed, dropped = others - 1, bytes - #oldest, freed + #oldest, dropped + 1
end
if refused then redis.call('LPUSH', KEYS[1], item) end
redis.call('SET', KEYS[2], bytes + #item)
if dropped > 0 then redis.call('INCRBY', KEYS[3], dropped) end
return dropped
"""
#: Off the dead list and, with a third key, onto the queue like a new message: both or nothing.
_TAKE = """
if redis.call('LREM', KEYS[1], -1, ARGV[1]) == 0 then return 0 end
if redis.call('LLEN', KEYS[1]) == 0 then redis.call('DEL', KEYS[2])
else redis.call('DECRBY', KEYS[2], #ARGV[1]) end
if KEYS[3] then redis.call('LPUSH', KEYS[3], ARGV[2]) end
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

    def __init__(self, redis: Redis, limit: int, limit_bytes: int) -> None:
        # redis-py's annotations know only text; the items here are bytes.
        self._redis: Any = redis
        self._limits = [limit, limit_bytes]
        self._add = redis.register_script(_ADD)
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
        names = [keys.DEAD, keys.DEAD_BYTES, keys.DEAD_DROPPED]
        await self._add(keys=names, args=[json.dumps(fields), *self._limits])
        return letter

    async def newest_first(self) -> AsyncIterator[DeadLetter]:
        """All of them, a few in memory at once; letters may be added meanwhile."""
        seen: set[str] = set()
        start = 0
        while items := await self._redis.lrange(keys.DEAD, start, start + _PAGE - 1):
            for letter in map(_read, items):
                if letter.id not in seen:  # new letters push the others into the next page
                    seen.add(letter.id)
                    yield letter
            start += _PAGE

    async def oldest_first(self) -> AsyncIterator[DeadLetter]:
        """All of them, a few in memory at once; each may be taken off the list meanwhile."""
        seen: set[str] = set()
        left = 0
        while items := await self._redis.lrange(keys.DEAD, -left - _PAGE, -left - 1):
            fresh = [letter for letter in map(_read, reversed(items)) if letter.id not in seen]
            if not fresh:
                left += len(items)
            for letter in fresh:
                seen.add(letter.id)
                yield letter

    async def find(self, letter_id: str) -> DeadLetter | None:
        """The one with this id, if it is (still) there."""
        async for letter in self.newest_first():
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
        names = [keys.DEAD, keys.DEAD_BYTES, keys.QUEUE]
        return bool(await self._take(keys=names, args=[letter.item, letter.message]))

    async def drop(self, letter: DeadLetter) -> bool:
        """Delete it; false when somebody took it before."""
        return bool(await self._take(keys=[keys.DEAD, keys.DEAD_BYTES], args=[letter.item]))


def _read(item: bytes) -> DeadLetter:
    """Read an entry of the list; one that is no letter is shown as it is."""
    try:
        letter = DeadLetter(**json.loads(item), item=item)
        b64decode(letter.payload)
    except (ValueError, TypeError):
        name = hashlib.sha256(item).hexdigest()[:12]
        return DeadLetter(name, "unreadable", "the entry is no letter", "", b64encode(item).decode(), len(item), item)
    return letter

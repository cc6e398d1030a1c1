"""Messages that could not be used: a bounded list, newest first, with the reason beside each."""

from collections.abc import AsyncIterator
from typing import Any

from redis.asyncio import Redis

from worker.generation import keys
from worker.generation.queue.dead_letter import DeadLetter

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
local bytes = tonumber(redis.call('GET', KEYS[2]) or '0') or 0
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
if dropped > 0 and type(redis.pcall('INCRBY', KEYS[3], dropped)) == 'table' then redis.call('SET', KEYS[3], dropped) end
return dropped
"""
#: Off the dead list and, with a third key, onto the queue like a new message: both or nothing.
_TAKE = """
if redis.call('LREM', KEYS[1], -1, ARGV[1]) == 0 then return 0 end
if redis.call('LLEN', KEYS[1]) == 0 then redis.call('DEL', KEYS[2])
else redis.pcall('DECRBY', KEYS[2], #ARGV[1]) end
if KEYS[3] then redis.call('LPUSH', KEYS[3], ARGV[2]) end
return 1
"""


class DeadLetters:
    """The list in Redis. In a full list the oldest letter makes room and is counted."""

    def __init__(self, redis: Redis, limit: int, limit_bytes: int) -> None:
        self._redis: Any = redis  # redis-py's annotations know only text
        self._limits = [limit, limit_bytes]
        self._add = redis.register_script(_ADD)
        self._take = redis.register_script(_TAKE)

    async def add(self, payload: bytes, reason: str, detail: str) -> DeadLetter:
        """Keep a message that could not be used."""
        letter = DeadLetter.of(payload, reason, detail)
        await self.keep(letter)
        return letter

    async def keep(self, letter: DeadLetter) -> None:
        """Keep a letter, in front of all others."""
        names = [keys.DEAD, keys.DEAD_BYTES, keys.DEAD_DROPPED]
        await self._add(keys=names, args=[letter.item, *self._limits])

    async def newest_first(self) -> AsyncIterator[DeadLetter]:
        """All letters, a few in memory at once; letters may be added meanwhile."""
        seen: set[str] = set()
        start = 0
        while items := await self._redis.lrange(keys.DEAD, start, start + _PAGE - 1):
            for letter in map(DeadLetter.read, items):
                if letter.id not in seen:  # new letters push the others into the next page
                    seen.add(letter.id)
                    yield letter
            start += _PAGE

    async def oldest_first(self) -> AsyncIterator[DeadLetter]:
        """Yield as many letters as there are now, a few in memory at once; the caller may remove or replay each."""
        seen: set[str] = set()
        left, most = 0, await self._redis.llen(keys.DEAD)
        while len(seen) < most and (items := await self._redis.lrange(keys.DEAD, -left - _PAGE, -left - 1)):
            fresh = [letter for letter in map(DeadLetter.read, reversed(items)) if letter.id not in seen]
            if not fresh:
                left += len(items)
            for letter in fresh[: most - len(seen)]:
                seen.add(letter.id)
                yield letter

    async def find(self, letter_id: str) -> DeadLetter | None:
        """Return the letter with this id, None if the letter is gone."""
        async for letter in self.newest_first():
            if letter.id == letter_id:
                return letter
        return None

    async def made_room(self) -> int:
        """Number of letters that ever had to go because the list was full."""
        dropped = await self._redis.get(keys.DEAD_DROPPED) or b"0"
        return int(dropped) if dropped.isdigit() else 0

    async def replay(self, letter: DeadLetter) -> bool:
        """Requeue the message as if it were new; raises CannotReplay. Return False if the letter is gone."""
        letter.check_complete()
        names = [keys.DEAD, keys.DEAD_BYTES, keys.QUEUE]
        return bool(await self._take(keys=names, args=[letter.item, letter.message]))

    async def drop(self, letter: DeadLetter) -> bool:
        """Delete the letter. Return False if another command took the letter before."""
        return bool(await self._take(keys=[keys.DEAD, keys.DEAD_BYTES], args=[letter.item]))

"""What an instance took from the queue and has not finished: the crash-safe form of BRPOP.

A message stays on its instance's claimed list from the moment it leaves the queue until its generation has ended, so a
crash at any moment leaves it where another instance finds it.
"""

from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from worker.generation import keys

#: Back to the taking end of the queue, unless it is gone from the claimed list already.
_GIVE_BACK = """
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
redis.call('RPUSH', KEYS[2], ARGV[1])
return 1
"""
#: The same whether or not it is still on the claimed list: one message too many is dropped, one too few is lost.
_HAND_BACK = """
redis.call('LREM', KEYS[1], 1, ARGV[1])
local ahead = tonumber(ARGV[2]) > 0 and redis.call('RPOP', KEYS[2], ARGV[2]) or {}
redis.call('RPUSH', KEYS[2], ARGV[1])
for place = #ahead, 1, -1 do redis.call('RPUSH', KEYS[2], ahead[place]) end
"""
#: Newest first, so that the oldest ends up nearest to the taking end again.
_GIVE_BACK_ALL = """
local moved = 0
while redis.call('LMOVE', KEYS[1], KEYS[2], 'LEFT', 'RIGHT') do moved = moved + 1 end
return moved
"""
#: One moment's view of everything that is queued or claimed.
_SNAPSHOT = """
local lists = {redis.call('LRANGE', KEYS[1], 0, -1)}
for _, instance in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  table.insert(lists, redis.call('LRANGE', ARGV[1] .. instance, 0, -1))
end
return lists
"""


@dataclass(frozen=True)
class Instance:
    """Another running container, or one that is no more."""

    name: str
    alive: bool


class Claims:
    """The claimed list of one instance, and what any instance may do with those of dead ones."""

    def __init__(self, redis: Redis, instance: str, lease_seconds: float) -> None:
        self.redis = redis
        # redis-py's annotations know only text; the payloads here are bytes.
        self._lists: Any = redis
        self.instance = instance
        self._list = keys.claimed(instance)
        self._alive_milliseconds = int(lease_seconds * 1000)
        self._give_back = redis.register_script(_GIVE_BACK)
        self._hand_back = redis.register_script(_HAND_BACK)
        self._give_back_all = redis.register_script(_GIVE_BACK_ALL)
        #: Other instances at the last look.
        self.neighbours: list[Instance] = []
        self._snapshot = redis.register_script(_SNAPSHOT)

    async def heartbeat(self) -> bool:
        """Say that this instance lives; false when it had been taken for dead (or said so for the first time)."""
        alive = keys.alive(self.instance)
        before = await self.redis.set(alive, 1, xx=True, px=self._alive_milliseconds)
        if not before:
            # An instance is known before it lives, and long before it claims anything.
            async with self.redis.pipeline(transaction=True) as pipe:
                pipe.sadd(keys.INSTANCES, self.instance)
                pipe.set(alive, 1, px=self._alive_milliseconds)
                await pipe.execute()
        return bool(before)

    async def take(self, timeout_seconds: int) -> bytes | None:
        """The oldest message of the queue, now on this instance's claimed list; None when none came."""
        taken = await self.redis.blmove(keys.QUEUE, self._list, timeout_seconds, "RIGHT", "LEFT")
        return taken if isinstance(taken, bytes) else None

    async def held(self) -> list[bytes]:
        """What this instance has claimed, newest first."""
        return [bytes(payload) for payload in await self._lists.lrange(self._list, 0, -1)]

    async def count(self) -> int:
        """How many messages this instance has claimed."""
        return int(await self.redis.llen(self._list))

    async def finish(self, payload: bytes) -> None:
        """The message's generation has ended."""
        await self._lists.lrem(self._list, 1, payload)

    async def give_back(self, payload: bytes) -> bool:
        """The message goes back where another instance takes it next; false when somebody already put it back."""
        return bool(await self._give_back(keys=[self._list, keys.QUEUE], args=[payload]))

    async def hand_back(self, payload: bytes, *, behind: int = 0) -> None:
        """The message goes back because its session waits again; so many others are taken before it."""
        await self._hand_back(keys=[self._list, keys.QUEUE], args=[payload, behind])

    async def give_back_all(self, instance: str | None = None) -> int:
        """Everything that an instance (default: this one) has claimed goes back, in order; -> how many."""
        return int(await self._give_back_all(keys=[keys.claimed(instance or self.instance), keys.QUEUE]))

    async def leave(self) -> None:
        """This instance takes nothing any more."""
        await self.forget(self.instance)

    async def forget(self, instance: str) -> None:
        """Clear away what an instance leaves in Redis; its claimed list must be empty."""
        async with self.redis.pipeline(transaction=True) as pipe:
            pipe.srem(keys.INSTANCES, instance)
            pipe.delete(keys.alive(instance), keys.celery_queue(instance))
            await pipe.execute()

    async def instances(self) -> list[Instance]:
        """All instances that have not been forgotten."""
        names = await self._names()
        return await self._look(sorted(names))

    async def others(self) -> list[Instance]:
        """All of them but this one."""
        self.neighbours = await self._look(sorted(await self._names() - {self.instance}))
        return self.neighbours

    async def _names(self) -> set[str]:
        return {name.decode() for name in await self._lists.smembers(keys.INSTANCES)}

    async def _look(self, names: list[str]) -> list[Instance]:
        alive = await self.redis.mget([keys.alive(name) for name in names]) if names else []
        return [Instance(name, value is not None) for name, value in zip(names, alive, strict=True)]

    async def accounted(self) -> list[bytes]:
        """Every message that is queued or claimed by anybody, at one moment."""
        lists = await self._snapshot(keys=[keys.QUEUE, keys.INSTANCES], args=[keys.claimed("")])
        return [payload for part in lists for payload in part]

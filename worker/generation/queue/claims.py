"""Messages that an instance took from the queue and has not finished: the crash-safe form of BRPOP.

A message stays on its instance's claimed list from the moment it leaves the queue until its generation has ended, so a
crash at any moment leaves it where another instance finds it. All of it goes on while Redis is full (see `room`).
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from worker.generation import keys, odd
from worker.generation.queue.claim_scripts import FINISH, JOIN, LEAVE, REQUEUE, REQUEUE_ALL, REQUEUE_ALWAYS
from worker.generation.queue.lanes import Lanes, Rules, ended_now

#: Full: BLMOVE is refused and cannot wait in a script; look again after so many seconds at most.
_FULL_SECONDS = 1.0
#: Only bulk waits, and has its share of the slots: a look for other messages comes after so many seconds.
_HELD_BACK_SECONDS = 0.2
#: The sign of life of a version that serves lanes; older versions write "1".
_ALIVE = b"lanes"


@dataclass(frozen=True)
class Instance:
    """Another container: running, or gone."""

    name: str
    alive: bool
    #: Its version serves lanes.
    lanes: bool = False


class Claims:
    """The claimed list of one instance; other instances use it after that instance has died."""

    def __init__(self, redis: Redis, instance: str, lease_seconds: float, rules: Rules | None = None) -> None:
        self._redis = redis
        self._lists: Any = redis  # redis-py's annotations know only text
        self.instance = instance
        #: Redis refused the last heartbeat or message for want of memory.
        self.redis_full = False
        self._list, self._running = keys.claimed(instance), keys.running(instance)
        self._return = [self._list, self._running, keys.QUEUE, keys.LANES_RETURNED]
        #: Other instances at the last look.
        self.neighbours: list[Instance] = []
        self._lease_seconds = lease_seconds
        self._rules = rules or Rules()
        self.lanes = Lanes(redis, self._rules)
        self._finish = redis.register_script(FINISH)
        self._join = redis.register_script(JOIN)
        self._leave = redis.register_script(LEAVE)
        self._requeue = redis.register_script(REQUEUE)
        self._requeue_always = redis.register_script(REQUEUE_ALWAYS)
        self._requeue_all = redis.register_script(REQUEUE_ALL)

    def of(self, instance: str) -> "Claims":
        """The claims of another instance."""
        return Claims(self._redis, instance, self._lease_seconds, self._rules)

    async def heartbeat(self) -> bool:
        """Renew the sign of life. Return False if it had expired, and the first time."""
        alive, milliseconds = keys.alive(self.instance), int(self._lease_seconds * 1000)
        try:
            before = await self._redis.set(alive, _ALIVE, xx=True, px=milliseconds)
            self.redis_full = False
        except OutOfMemoryError:
            self.redis_full = True
            before = await self._redis.pexpire(alive, milliseconds)
        if not before:
            await self._join(keys=[keys.INSTANCES, alive], args=[self.instance, milliseconds, _ALIVE])
        return bool(before)

    async def prove(self) -> None:
        """Raise what Redis raises when it takes no write now; it may be full."""
        # Extends the sign of life of an instance that has one; a full Redis takes it, a replica does not.
        await self._redis.pexpire(keys.alive(self.instance), int(self._lease_seconds * 1000))

    async def take(self, timeout_seconds: int) -> bytes | None:
        """Claim the message whose turn it is. Return None if no message came in time."""
        if self.lanes.held_back:
            # Others may be behind thousands of bulk.
            await self.lanes.sort_for(_HELD_BACK_SECONDS)
        taken = await self._choose()
        if taken is None and not self.lanes.held_back and await self._wait(timeout_seconds):
            taken = await self._choose()
        return taken

    async def _choose(self) -> bytes | None:
        return await self.lanes.choose(self.instance, (other.name for other in self.neighbours))

    async def _wait(self, seconds: int) -> bool:
        """Wait until a message is in the queue; its place does not change."""
        try:
            return bool(await self._redis.blmove(keys.QUEUE, keys.QUEUE, seconds, "RIGHT", "RIGHT"))
        except OutOfMemoryError:
            self.redis_full = True
            await asyncio.sleep(min(seconds, _FULL_SECONDS))
            return True

    async def held(self) -> list[bytes]:
        """All messages that this instance has claimed, newest first: no more than it has slots."""
        return await self.page(0, -1)

    async def page(self, first: int, last: int) -> list[bytes]:
        """A part of what this instance has claimed, newest first."""
        return [bytes(payload) for payload in await self._lists.lrange(self._list, first, last)]

    async def count(self) -> int:
        """Number of messages that this instance has claimed."""
        return int(await self._lists.llen(self._list))

    async def count_unstarted(self) -> int:
        """Number of claimed messages that wait in Celery."""
        return int(await self._lists.llen(keys.celery_queue(self.instance)))

    async def finish(self, payload: bytes) -> None:
        """Remove the claim of a message whose generation has ended."""
        ended, seconds = ended_now()
        names = [self._list, self._running, ended, keys.BULK_SESSIONS]
        await self._finish(keys=names, args=[payload, seconds])

    async def requeue(self, payload: bytes) -> bool:
        """Requeue the message where it is taken next. Return False if its claim is gone."""
        return bool(await self._requeue(keys=self._return, args=[payload]))

    async def requeue_always(self, payload: bytes, *, behind: int = 0) -> None:
        """Requeue the message even if its claim is gone, because its session waits again; behind so many others."""
        await self._requeue_always(keys=[*self._return, keys.LANES_MESSAGES, keys.LANES_CLOCK], args=[payload, behind])

    async def requeue_all(self) -> int:
        """Requeue all messages that this instance has claimed, in order. Return their number."""
        return int(await self._requeue_all(keys=self._return))

    async def abandon(self) -> None:
        """Declare this instance dead: another instance takes over its claimed messages."""
        await self._redis.delete(keys.alive(self.instance))

    async def leave(self) -> None:
        """Clear away what this instance leaves in Redis, unless its claimed list has a message."""
        alive, celery = keys.alive(self.instance), keys.celery_queue(self.instance)
        await self._leave(keys=[self._list, keys.INSTANCES, alive, celery, self._running], args=[self.instance])

    async def instances(self) -> list[Instance]:
        """All instances that have not been cleared away."""
        return await self._look(await self._names())

    async def others(self) -> list[Instance]:
        """All instances but this one."""
        self.neighbours = await self._look(await self._names() - {self.instance})
        return self.neighbours

    async def _names(self) -> set[str]:
        return {name.decode() for name in await self._members()}

    async def _members(self) -> set[bytes]:
        members: set[bytes] = await self._lists.smembers(keys.INSTANCES)
        strange = {name for name in members if not name.isascii()}
        for name in strange:
            odd.note("instance", name, "no worker has such a name")
            await self._lists.srem(keys.INSTANCES, name)
        return members - strange

    async def _look(self, found: set[str]) -> list[Instance]:
        names = sorted(found)
        alive = await self._redis.mget([keys.alive(name) for name in names]) if names else []
        return [Instance(name, value is not None, value == _ALIVE) for name, value in zip(names, alive, strict=True)]

    async def is_alive(self, instance: str) -> bool:
        """Return True if the instance has a sign of life."""
        return bool(await self._redis.exists(keys.alive(instance)))

    async def are_all_empty(self) -> bool:
        """Return True if there was a moment at which no message waited in the queue or was claimed by any instance."""
        waiting = keys.QUEUE, keys.LANES, keys.LANES_MESSAGES
        if await self._redis.exists(*waiting):
            return False
        names = await self._members()
        async with self._lists.pipeline(transaction=True) as pipe:
            pipe.smembers(keys.INSTANCES)
            pipe.exists(*waiting)
            for name in names:
                pipe.llen(keys.claimed(name.decode()))
            now, *lengths = await pipe.execute()
        return bool(now == names) and not any(lengths)

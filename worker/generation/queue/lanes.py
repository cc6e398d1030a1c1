"""Lanes: waiting messages by payer, so that none of them waits for all that another one has queued.

Messages leave the producers' list for the lane of their payer: all users of the app together, or one store. The next
message is chosen by weighted round robin over the lanes that have one. Bulk has lanes of its own, which have their
turn once no other waits. docs/decisions/0026-lanes.md and 0027-bulk.md
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self
from uuid import UUID

from redis.asyncio import Redis

from worker.generation import keys
from worker.generation.queue.lane_choice import CHOOSE, HELD_BACK, WANTED
from worker.generation.queue.lane_scripts import BULK
from worker.generation.queue.lane_sorting import MERGE, SORT
from worker.settings import Settings

#: The lane of all users of the app, and the word for every store without a weight of its own.
USERS, STORE = "b2c", "store"
#: Messages that one script sorts, so that no other client of Redis waits for longer than moments.
SORT_BATCH = 10
_MERGE_BATCH = 100
#: Sessions that one command asks for; a manifest has 50 000.
_ASK_BATCH = 500
#: An estimate of a wait looks so many whole minutes back.
RATE_MINUTES = 10
_RATE_SECONDS = (RATE_MINUTES + 2) * 60
_QUEUE = [
    keys.QUEUE, keys.LANES, keys.LANES_CLOCK, keys.LANES_RETURNED, keys.LANES_MESSAGES, keys.BULK_SESSIONS,
]  # fmt: skip


@dataclass(frozen=True)
class Rules:
    """The rules by which lanes share the slots: `weights` by lane, `store` for every other store."""

    slots: int = 1
    #: Most share of all slots for one lane while others wait.
    max_running: float = 1.0
    weights: dict[str, float] = field(default_factory=dict)
    #: Most share of the slots of one instance for bulk.
    bulk_share: float = 1.0

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The rules of the settings."""
        return cls(settings.slots, settings.lane_max_running, settings.lane_weights, settings.bulk_share)

    def weight(self, lane: str) -> float:
        """Weight of one lane; bulk has its store's."""
        payer = lane.removeprefix(BULK)
        return self.weights.get(payer, 1 if payer == USERS else self.weights.get(STORE, 1))

    def arguments(self) -> list[str | float]:
        """Return the arguments of the Lua scripts."""
        bulk_slots = max(1, int(self.slots * self.bulk_share))
        return [self.slots, bulk_slots, self.max_running, *(item for pair in self.weights.items() for item in pair)]


class Lanes:
    """The lanes of one Redis. All methods raise what Redis raises."""

    def __init__(self, redis: Redis, rules: Rules) -> None:
        self._redis: Any = redis  # redis-py's annotations know only text
        self._arguments = rules.arguments()
        self._sort = redis.register_script(SORT)
        self._choose = redis.register_script(CHOOSE)
        self._merge = redis.register_script(MERGE)
        self._wanted = redis.register_script(WANTED)
        #: At the last choice only bulk waited, and ran on as many slots as it may.
        self.held_back = False

    async def choose(self, instance: str, others: Iterable[str] = ()) -> bytes | None:
        """Move the message whose turn it is to the instance's claimed list. Return None if no message waits."""
        names = [keys.claimed(instance), *(keys.running(name) for name in (instance, *others))]
        chosen = await self._choose(keys=[*_QUEUE, *names], args=[SORT_BATCH, *self._arguments])
        self.held_back = chosen == HELD_BACK
        return chosen if isinstance(chosen, bytes) else None

    async def wanted(self, instance: str) -> int:
        """Number of waiting messages that could have the slots of the instance's bulk; -1 when none of it runs."""
        names = [keys.QUEUE, keys.LANES_MESSAGES, keys.running(instance)]
        return int(await self._wanted(keys=names, args=[SORT_BATCH]))

    async def sort(self) -> int:
        """Sort the next messages of the queue into lanes. Return the number of unsorted messages."""
        return int(await self._sort(keys=_QUEUE, args=[SORT_BATCH, *self._arguments]))

    async def sort_for(self, seconds: float) -> None:
        """Return after so many seconds; sort meanwhile, without a pause while messages are unsorted."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if not await self.sort():
                await asyncio.sleep(end - time.monotonic())

    async def merge(self) -> int:
        """Move the next messages of all lanes back into the queue, newest first. Return the number of lanes left."""
        await self._sort(keys=_QUEUE, args=[0, *self._arguments])  # what was requeued is older than what waits
        return int(await self._merge(keys=_QUEUE, args=[_MERGE_BATCH]))

    async def bulk(self, session_ids: Sequence[UUID]) -> set[UUID]:
        """Return the sessions whose message is bulk and has not ended."""
        names = [str(session_id) for session_id in session_ids]
        scores: list[float | None] = []
        for start in range(0, len(names), _ASK_BATCH):
            scores += await self._redis.zmscore(keys.BULK_SESSIONS, names[start : start + _ASK_BATCH])
        return {session_id for session_id, score in zip(session_ids, scores, strict=True) if score is not None}

    async def waiting(self) -> int:
        """Number of messages that wait, in the queue and in lanes."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.llen(keys.QUEUE)
            pipe.zcard(keys.LANES_MESSAGES)
            return sum(await pipe.execute())


def ended_now() -> tuple[str, int]:
    """Key of this minute's ended generations, and how many seconds it is kept."""
    return keys.ended(int(time.time() // 60)), _RATE_SECONDS

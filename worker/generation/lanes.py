"""Lanes: waiting messages by payer, so that none of them waits for all that another one has queued.

Messages leave the producers' list for the lane of their payer: all users of the app together, or one store. The next
message is chosen by weighted round robin over the lanes that have one. docs/decisions/0026-lanes.md
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self

from redis.asyncio import Redis

from worker.generation import keys
from worker.generation.lane_scripts import CHOOSE, MERGE, SORT
from worker.settings import Settings

#: The lane of all users of the app, and the word for every store without a weight of its own.
USERS, STORE = "b2c", "store"
#: Messages that one script sorts, so that no other client of Redis waits for longer than moments.
SORT_BATCH = 10
_MERGE_BATCH = 100
#: An estimate of a wait looks so many whole minutes back.
RATE_MINUTES = 10
_RATE_SECONDS = (RATE_MINUTES + 2) * 60
_QUEUE = [keys.QUEUE, keys.LANES, keys.LANES_CLOCK, keys.LANES_RETURNED, keys.LANES_MESSAGES]


@dataclass(frozen=True)
class Rules:
    """The rules by which lanes share the slots: `weights` by lane, `store` for every other store."""

    slots: int = 1
    #: Most share of all slots for one lane while others wait.
    max_running: float = 1.0
    weights: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The rules of the settings."""
        return cls(settings.slots, settings.lane_max_running, settings.lane_weights)

    def weight(self, lane: str) -> float:
        """Weight of one lane."""
        return self.weights.get(lane, 1 if lane == USERS else self.weights.get(STORE, 1))

    def arguments(self) -> list[str | float]:
        """For the scripts."""
        return [self.slots, self.max_running, *(item for pair in self.weights.items() for item in pair)]


class Lanes:
    """The lanes of one Redis. All methods raise what Redis raises."""

    def __init__(self, redis: Redis, rules: Rules) -> None:
        # redis-py's annotations know only text.
        self._redis: Any = redis
        self._arguments = rules.arguments()
        self._sort = redis.register_script(SORT)
        self._choose = redis.register_script(CHOOSE)
        self._merge = redis.register_script(MERGE)

    async def choose(self, instance: str, others: Iterable[str] = ()) -> bytes | None:
        """Move the message whose turn it is to the instance's claimed list; None when none waits."""
        names = [keys.claimed(instance), *(keys.running(name) for name in (instance, *others))]
        chosen = await self._choose(keys=[*_QUEUE, *names], args=[SORT_BATCH, *self._arguments])
        return chosen if isinstance(chosen, bytes) else None

    async def sort(self) -> int:
        """Sort the next messages of the queue into lanes; -> how many are left unsorted."""
        return int(await self._sort(keys=_QUEUE, args=[SORT_BATCH, *self._arguments]))

    async def merge(self) -> int:
        """Move the next messages of all lanes back into the queue, newest first; -> how many lanes are left."""
        await self._sort(keys=_QUEUE, args=[0, *self._arguments])  # what was requeued is older than what waits
        return int(await self._merge(keys=_QUEUE, args=[_MERGE_BATCH]))

    async def waiting(self) -> int:
        """Number of messages that wait, in the queue and in lanes."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.llen(keys.QUEUE)
            pipe.zcard(keys.LANES_MESSAGES)
            return sum(await pipe.execute())


def ended_now() -> tuple[str, int]:
    """Key of this minute's ended generations, and how many seconds it is kept."""
    return keys.ended(int(time.time() // 60)), _RATE_SECONDS

"""Waiting and running messages of each lane, and estimates of their waits; nothing changes."""

import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from worker.generation import keys, odd
from worker.generation.message import MAX_MESSAGE_BYTES, timestamp
from worker.generation.queue.lane_scripts import BULK, MESSAGES
from worker.generation.queue.lanes import RATE_MINUTES, Rules

#: Lanes that one script measures.
_PAGE = 100

_MADE = f"""
local function made(message)
  return message and #message <= {MAX_MESSAGE_BYTES} and string.match(message, '"created_at"%s*:%s*"([^"]*)"') or false
end
"""
#: KEYS: queue, lanes, hashes. ARGV: messages to read. -> lane and moment of the queue's next messages, which may be
#: large, the lanes' names, each hash flat.
_VIEW = (
    MESSAGES
    + _MADE
    + """
local queue = redis.call('LRANGE', KEYS[1], -ARGV[1], -1)
for place, message in ipairs(queue) do queue[place] = {lane_of(message), made(message)} end
local found = {queue, redis.call('ZRANGE', KEYS[2], 0, -1)}
for place = 3, #KEYS do found[place] = redis.call('HGETALL', KEYS[place]) end
return found
"""
)
#: KEYS: messages. ARGV: lanes. -> for each, how many messages it has and when the next one was made.
_MEASURE = (
    MESSAGES
    + _MADE
    + """
local found = {}
for place, name in ipairs(ARGV) do
  local member = oldest(KEYS[1], name, 1)[1]
  found[place] = {redis.call('ZLEXCOUNT', KEYS[1], '[' .. name .. ':', '(' .. name .. ';'), made(member)}
end
return found
"""
)


@dataclass(frozen=True)
class Lane:
    """One lane at one moment."""

    name: str
    waiting: int
    running: int
    #: `created_at` of its next message, as it is written there; empty when none can be read.
    oldest: str
    #: Generations ended per second in the last ten minutes.
    rate: float

    @property
    def is_bulk(self) -> bool:
        """Return True for the lane of a store's bulk."""
        return self.name.startswith(BULK)

    @property
    def age(self) -> float:
        """Seconds since the next message was made; 0 if no message waits, or the message does not say."""
        with suppress(ValueError, OverflowError):
            return max(0.0, time.time() - timestamp(self.oldest).timestamp()) if self.oldest else 0.0
        return 0.0


class LaneView:
    """The lanes of one Redis. Raises what Redis raises."""

    def __init__(self, redis: Redis) -> None:
        self._view: Any = redis.register_script(_VIEW)
        self._measure: Any = redis.register_script(_MEASURE)

    async def look(self, instances: Iterable[str], unsorted_max: int) -> list[Lane]:
        """Every lane with a waiting or running message, the longest first.

        Of the messages that are not sorted yet, so many of the next ones count.
        """
        ours = [keys.running(instance) for instance in instances]
        minute = int(time.time() // 60)
        past = [keys.ended(minute - back) for back in range(1, RATE_MINUTES + 1)]
        queue, names, *counts = await self._view(keys=[keys.QUEUE, keys.LANES, *ours, *past], args=[unsorted_max])
        running, ended = _sum(counts[: len(ours)]), _sum(counts[len(ours) :])
        unsorted = Counter(name.decode() for name, _ in queue)
        since = {name.decode(): made for name, made in queue}
        lanes = []
        all_names = sorted({*(name.decode(errors="replace") for name in names), *running, *unsorted})
        for first in range(0, len(all_names), _PAGE):
            page = all_names[first : first + _PAGE]
            measured = await self._measure(keys=[keys.LANES_MESSAGES], args=page)
            for name, (waiting, oldest) in zip(page, measured, strict=True):
                made = (oldest or since.get(name) or b"").decode(errors="replace")
                rate = ended[name] / (60 * RATE_MINUTES)
                lanes.append(Lane(name, waiting + unsorted[name], running[name], made, rate))
        return sorted(lanes, key=lambda lane: (-lane.waiting, -lane.running, lane.name))


def estimated_waits(lanes: list[Lane], rules: Rules) -> dict[str, float]:
    """Seconds until the last message of each waiting lane starts, by the generations that ended in ten minutes.

    Empty if none has ended.
    """
    rate = sum(lane.rate for lane in lanes)
    if not rate:
        return {}
    waits: dict[str, float] = {}
    ahead = 0  # bulk waits for all others
    for kind in (False, True):
        waiting = [lane for lane in lanes if lane.waiting and lane.is_bulk is kind]
        weights = sum(rules.weight(lane.name) for lane in waiting)
        # A lane that needs fewer rounds is empty before, and leaves its turns to the others.
        for lane in sorted(waiting, key=lambda lane: lane.waiting / rules.weight(lane.name)):
            weight = rules.weight(lane.name)
            waits[lane.name] = (ahead + lane.waiting / weight * weights) / rate
            weights -= weight
            ahead += lane.waiting
    return waits


def _sum(hashes: list[list[bytes]]) -> Counter[str]:
    total = Counter[str]()
    for kept in hashes:
        for name, count in zip(kept[::2], kept[1::2], strict=True):
            with odd.alone("value", name):
                total[name.decode()] += int(count)
    return total

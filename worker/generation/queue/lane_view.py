"""Waiting and running messages of each lane, for people and for metrics; changes nothing."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from redis.asyncio import Redis

from worker.generation import keys, odd
from worker.generation.message import MAX_MESSAGE_BYTES, timestamp
from worker.generation.queue.lane_scripts import BULK, MESSAGES
from worker.generation.queue.lanes import RATE_MINUTES

#: Lanes that one script measures.
_PAGE = 100
#: Lanes that have series of their own: a shop system with thousands of stores is no thousand series.
_SHOWN = 20
OTHER = "other"

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
        """True for a store's bulk."""
        return self.name.startswith(BULK)

    @property
    def age(self) -> float:
        """Seconds since its next message was made; 0 when none waits, or it does not say."""
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
        for page in _pages(sorted({*(name.decode(errors="replace") for name in names), *running, *unsorted})):
            for name, (waiting, oldest) in zip(
                page, await self._measure(keys=[keys.LANES_MESSAGES], args=[*page]), strict=True
            ):
                made = (oldest or since.get(name) or b"").decode(errors="replace")
                rate = ended[name] / (60 * RATE_MINUTES)
                lanes.append(Lane(name, waiting + unsorted[name], running[name], made, rate))
        return sorted(lanes, key=lambda lane: (-lane.waiting, -lane.running, lane.name))


def lane_metrics(lanes: list[Lane], waits: dict[str, float]) -> list[Metric]:
    """Metrics of the longest lanes, and of all others together; `lanes` has the longest first.

    `waits` has the estimated waits by lane, in seconds.
    """
    waiting = GaugeMetricFamily("wearon_lane_waiting_messages", "Messages that wait, by lane.", labels=["lane"])
    running = GaugeMetricFamily("wearon_lane_running_messages", "Messages taken, not finished.", labels=["lane"])
    oldest = GaugeMetricFamily("wearon_lane_oldest_age_seconds", "Age of a lane's next message.", labels=["lane"])
    text = "Estimated wait of a message that is queued now, by lane."
    wait = GaugeMetricFamily("wearon_lane_estimated_wait_seconds", text, labels=["lane"])
    rows = [(lane.name, [lane]) for lane in lanes[:_SHOWN]]
    for name, part in [*rows, *([(OTHER, lanes[_SHOWN:])] if lanes[_SHOWN:] else [])]:
        waiting.add_metric([name], sum(lane.waiting for lane in part))
        running.add_metric([name], sum(lane.running for lane in part))
        oldest.add_metric([name], max(lane.age for lane in part))
        if known := [waits[lane.name] for lane in part if lane.name in waits]:
            wait.add_metric([name], max(known))
    return [waiting, running, oldest, wait, *_bulk_metrics([lane for lane in lanes if lane.is_bulk])]


def _bulk_metrics(lanes: list[Lane]) -> list[Metric]:
    """All bulk together, also of lanes that have no series."""
    oldest = max((lane.age for lane in lanes), default=0.0)
    running = sum(lane.running for lane in lanes)
    return [
        _gauge("wearon_bulk_waiting_messages", "Messages of bulk that wait.", sum(lane.waiting for lane in lanes)),
        _gauge("wearon_bulk_running_messages", "Messages of bulk taken, not finished.", running),
        _gauge("wearon_bulk_oldest_age_seconds", "Age of the oldest next message of a lane of bulk.", oldest),
    ]


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value)


def _pages(names: Sequence[str]) -> Iterator[Sequence[str]]:
    return (names[first : first + _PAGE] for first in range(0, len(names), _PAGE))


def _sum(hashes: list[list[bytes]]) -> Counter[str]:
    total = Counter[str]()
    for kept in hashes:
        for name, count in zip(kept[::2], kept[1::2], strict=True):
            with odd.alone("value", name):
                total[name.decode()] += int(count)
    return total

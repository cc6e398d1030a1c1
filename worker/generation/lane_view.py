"""Waiting and running messages of each lane, for people and for metrics; changes nothing."""

import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from redis.asyncio import Redis

from worker.generation import keys, odd
from worker.generation.lane_scripts import MEASURE, VIEW
from worker.generation.lanes import RATE_MINUTES, lane_of
from worker.generation.message import MAX_MESSAGE_BYTES, timestamp

_CREATED = re.compile(rb'"created_at"\s*:\s*"([^"]*)"')
#: Lanes that one script measures.
_PAGE = 100
#: Lanes that have series of their own: a shop system with thousands of stores is no thousand series.
_SHOWN = 20
OTHER = "other"


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
    def age(self) -> float:
        """Seconds since its next message was made; 0 when none waits, or it does not say."""
        with suppress(ValueError, OverflowError):
            return max(0.0, time.time() - timestamp(self.oldest).timestamp()) if self.oldest else 0.0
        return 0.0


class LaneView:
    """The lanes of one Redis. Raises what Redis raises."""

    def __init__(self, redis: Redis) -> None:
        self._view: Any = redis.register_script(VIEW)
        self._measure: Any = redis.register_script(MEASURE)

    async def look(self, instances: Iterable[str], unsorted_max: int) -> list[Lane]:
        """Every lane with a waiting or running message, the longest first.

        Of the messages that are not sorted yet, so many of the next ones count.
        """
        ours = [keys.running(instance) for instance in instances]
        minute = int(time.time() // 60)
        past = [keys.ended(minute - back) for back in range(1, RATE_MINUTES + 1)]
        queue, names, *counts = await self._view(keys=[keys.QUEUE, keys.LANES, *ours, *past], args=[unsorted_max])
        running, ended = _sum(counts[: len(ours)]), _sum(counts[len(ours) :])
        unsorted = Counter(lane_of(message) for message in queue)
        since = {lane_of(message): _created_at(message) for message in queue}
        lanes = []
        for page in _pages(sorted({*(name.decode(errors="replace") for name in names), *running, *unsorted})):
            for name, (waiting, oldest) in zip(
                page, await self._measure(keys=[keys.LANES_MESSAGES], args=[*page]), strict=True
            ):
                made = oldest.decode(errors="replace") if oldest else since.get(name, "")
                rate = ended[name] / (60 * RATE_MINUTES)
                lanes.append(Lane(name, waiting + unsorted[name], running[name], made, rate))
        return sorted(lanes, key=lambda lane: (-lane.waiting, -lane.running, lane.name))


def lane_metrics(lanes: list[Lane]) -> list[Metric]:
    """Metrics of the longest lanes, and of all others together; `lanes` has the longest first."""
    waiting = GaugeMetricFamily("wearon_lane_waiting_messages", "Messages that wait, by lane.", labels=["lane"])
    running = GaugeMetricFamily("wearon_lane_running_messages", "Messages taken, not finished.", labels=["lane"])
    oldest = GaugeMetricFamily("wearon_lane_oldest_age_seconds", "Age of a lane's next message.", labels=["lane"])
    rows = [(lane.name, [lane]) for lane in lanes[:_SHOWN]]
    for name, part in [*rows, *([(OTHER, lanes[_SHOWN:])] if lanes[_SHOWN:] else [])]:
        waiting.add_metric([name], sum(lane.waiting for lane in part))
        running.add_metric([name], sum(lane.running for lane in part))
        oldest.add_metric([name], max(lane.age for lane in part))
    return [waiting, running, oldest]


def _created_at(message: bytes) -> str:
    found = _CREATED.search(message) if len(message) <= MAX_MESSAGE_BYTES else None
    return found[1].decode(errors="replace") if found else ""


def _pages(names: Sequence[str]) -> Iterator[Sequence[str]]:
    return (names[first : first + _PAGE] for first in range(0, len(names), _PAGE))


def _sum(hashes: list[list[bytes]]) -> Counter[str]:
    total = Counter[str]()
    for kept in hashes:
        for name, count in zip(kept[::2], kept[1::2], strict=True):
            with odd.alone("value", name):
                total[name.decode()] += int(count)
    return total

"""The memory of the regular purge in Redis: its place, for the next process, and its last result, for the metric."""

import json
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Self

from prometheus_client.core import GaugeMetricFamily, Metric
from redis.asyncio import Redis

from worker.generation import keys
from worker.generation.data_life.areas import ROOTS
from worker.generation.room import insist

#: An older place is not used: entries before it may have become old since.
_PLACE_SECONDS = 1800


@dataclass(frozen=True)
class Place:
    """A root of the walk, and the number of its entries that were walked and stay."""

    root: str
    offset: int
    #: When the walk began, and the oldest picture that it has left so far.
    begun: float
    oldest_left: float | None = None
    time: float = 0.0


@dataclass(frozen=True)
class Result:
    """The last walk over everything. No picture is older than `oldest`, except the pictures that are named there."""

    time: float = 0.0
    oldest: float = 0.0

    @classmethod
    def read(cls, kept: bytes | None) -> Self | None:
        """Read the entry. Return None for a missing or unreadable entry."""
        found = read_object(kept)
        try:
            return cls(float(found["time"]), float(found["oldest"]))
        except (KeyError, TypeError, ValueError):
            return None


class Record:
    """All methods raise what Redis raises."""

    def __init__(self, redis: Redis) -> None:
        self._redis: Any = redis

    async def result(self) -> Result:
        """The last walk; without one, a new record that says that everything from now on is watched."""
        found = Result.read(await self._redis.get(keys.DATA_LIFE))
        if found is None:
            found = Result(0.0, time.time())
            await self._keep(keys.DATA_LIFE, asdict(found))
        return found

    async def place(self) -> Place | None:
        """The place of a walk that has not reached its end, unless that was long ago."""
        found = read_object(await self._redis.get(keys.DATA_LIFE_PLACE))
        try:
            place = Place(**found)
            known = place.root in ROOTS and isinstance(place.offset, int) and place.begun > 0
            return place if known and time.time() - place.time < _PLACE_SECONDS else None
        except TypeError:
            return None

    async def keep_place(self, place: Place) -> None:
        """Let the next walk begin here."""
        await self._keep(keys.DATA_LIFE_PLACE, {**asdict(place), "time": time.time()})

    async def end(self, begun: float, oldest_left: float | None) -> None:
        """Note the end of a walk."""
        result = Result(time.time(), min(begun, oldest_left or begun))
        await self._keep(keys.DATA_LIFE, asdict(result))
        await self._redis.delete(keys.DATA_LIFE_PLACE)

    async def _keep(self, key: str, value: dict[str, Any]) -> None:
        await insist(self._redis, "SET", key, json.dumps(value))


def purge_metrics(result: Result | None) -> list[Metric]:
    """Metrics of the last purge; the age grows while no purge reaches its end."""
    last, age = (result.time, time.time() - result.oldest) if result else (0.0, 0.0)
    return [
        GaugeMetricFamily("wearon_data_life_timestamp_seconds", "When the last purge ended; 0: never.", last),
        GaugeMetricFamily(
            "wearon_data_life_oldest_age_seconds", "Age that the oldest picture in the bucket may have.", age
        ),
    ]


def as_moment(seconds: float | None) -> datetime | None:
    """A moment of the record; None for none."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def read_object(kept: object) -> dict[str, Any]:
    """A JSON object as Redis keeps it; empty for everything else."""
    try:
        found = json.loads(kept) if isinstance(kept, str | bytes) else None
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}

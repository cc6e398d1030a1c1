"""Costs of an instance and of a generation, fitted to measured points, and what they mean for more hosts."""

from dataclasses import dataclass, fields

import numpy as np

from tests.bench.figures import Figure
from tests.bench.svg import Points

#: The cost of a generation with two phone photos instead of small ones, and the slots of a host (docs/performance.md).
CPU_SECONDS, SLOTS, SECONDS_AT_OPENAI = 0.11, 150, 30.5
#: A host: two cores, of which nine tenths may be used, and 1 Gbit/s, of which four fifths.
CORES, BYTES_PER_SECOND = 2 * 0.9, 125e6 * 0.8
#: Two photos of 3 MB come, the finished picture of 2 MB comes as base64 and goes to the storage.
BYTES_IN = 2 * 3.0e6 + 2.0e6 * 4 / 3
#: Redis works on one core; the smallest database of Supabase that is no trial has two shared ones.
REDIS_CORES, DATABASE_CORES = 0.8, 2 * 0.5
TIERS = (300, 3000)
HOSTS = 8


@dataclass(frozen=True)
class Point:
    """Used by so many instances that end so many generations a second: cores, and commands a second."""

    instances: int
    per_second: float
    workers: float
    redis: float
    database: float
    commands: float


USES = tuple(field.name for field in fields(Point))[2:]
NAMES = {
    "workers": "CPU of the workers",
    "redis": "CPU of Redis",
    "database": "CPU of the database",
    "commands": "commands of Redis with those of scripts",
}


def fit(points: list[Point]) -> dict[str, tuple[float, float]]:
    """Fit for each use the cost of an idle second and of a generation; none is below zero."""
    given = np.array([(point.instances, point.per_second) for point in points])
    found = {}
    for use in USES:
        measured = np.array([getattr(point, use) for point in points])
        instance, generation = np.linalg.lstsq(given, measured, rcond=None)[0]
        found[use] = (max(0.0, float(instance)), max(0.0, float(generation)))
    return found


def figures_of_fit(points: list[Point]) -> list[Figure]:
    """The fitted costs and how far the worst point is from them."""
    figures = []
    for use, (instance, generation) in fit(points).items():
        name, unit = NAMES[use], "" if use == "commands" else "s"
        figures.append(Figure(f"fit: {name}, idle instance in a second", instance, unit))
        figures.append(Figure(f"fit: {name}, generation", generation, unit))
        off = max(
            abs(instance * point.instances + generation * point.per_second - getattr(point, use)) / getattr(point, use)
            for point in points
            if point.per_second
        )
        figures.append(Figure(f"fit: {name}, worst point at work", 100 * off, "% off"))
    return figures


def limits(costs: dict[str, tuple[float, float]]) -> Points:
    """Generations a minute that each part allows, for one host to eight."""
    hosts = range(1, HOSTS + 1)

    def shared(use: str, cores: float) -> list[tuple[float, float]]:
        instance, generation = costs[use]
        return [(host, 60 * (cores - instance * host) / generation) for host in hosts]

    return {
        "slots": [(host, 60 * host * SLOTS / SECONDS_AT_OPENAI) for host in hosts],
        "cores": [(host, 60 * host * (CORES - costs["workers"][0]) / CPU_SECONDS) for host in hosts],
        "network": [(host, 60 * host * BYTES_PER_SECOND / BYTES_IN) for host in hosts],
        "Redis": shared("redis", REDIS_CORES),
        "database": shared("database", DATABASE_CORES),
        **{f"tier {tier}": [(1, tier), (HOSTS, tier)] for tier in TIERS},
    }

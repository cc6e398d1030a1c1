"""One scrape: both processes' values added up, and what is in Redis."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from worker.generation.queue_metrics import Shared
from worker.http import container_metrics
from worker.metrics import REGISTRY, Told


class Page:
    """`told` returns the values of the Celery process without a long wait."""

    def __init__(self, shared: Shared, told: Callable[[], Awaitable[Told]]) -> None:
        self._shared = shared
        self._told = told

    async def render(self) -> bytes:
        """The text that Prometheus reads."""
        shared, told = await asyncio.gather(self._shared.read(), self._told())
        container_metrics.redis_answered(bool(shared))
        return generate_latest(_Families([*add_up(REGISTRY.collect(), told), *shared]))


def add_up(own: Iterable[Metric], told: Told) -> list[Metric]:
    """Families of both processes; samples that both have are sums."""
    families = {family.name: family for family in own}
    for name, text, kind, samples in told:
        family = families.setdefault(name, Metric(name, text, kind))
        found = {_key(sample.name, sample.labels): sample for sample in family.samples}
        for sample_name, labels, value in samples:
            key = _key(sample_name, labels)
            found[key] = Sample(sample_name, labels, value + (found[key].value if key in found else 0))
        family.samples = list(found.values())
    return list(families.values())


def _key(name: str, labels: dict[str, str]) -> tuple[Any, ...]:
    return name, *sorted(labels.items())


class _Families(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families

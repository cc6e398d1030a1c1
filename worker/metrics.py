"""This process's Prometheus registry, on the container's internal GET /metrics. docs/metrics.md is the contract.

A metric with closed label values begins with 0 for each of them. Both processes have a registry in their memory: the
Celery process tells its values over the link to the supervisor, and `http.metrics_page` adds them up. So there are no
files, and nothing outlives a process.
"""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

T = TypeVar("T", bound=Counter | Gauge | Histogram)
#: Values of a single label, or of all labels in their order.
Values = Iterable[str | tuple[str, ...]]
#: Families as JSON: name, text, type, and samples of name, labels and value.
Told = list[list[Any]]

REGISTRY = CollectorRegistry()
# When a series began says nothing that the process's start time does not.
disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no types


def counter(name: str, text: str, labels: Sequence[str] = (), values: Values = ()) -> Counter:
    """Register a counter, with 0 for every value, so that `increase()` sees the first event."""
    return _begin(Counter(name, text, labels, registry=REGISTRY), values)


def gauge(name: str, text: str, labels: Sequence[str] = (), values: Values = ()) -> Gauge:
    """Register a gauge, with 0 until it is set."""
    return _begin(Gauge(name, text, labels, registry=REGISTRY), values)


def histogram(name: str, text: str, buckets: Sequence[float], labels: Sequence[str], values: Values) -> Histogram:
    """Register a histogram, empty for every value."""
    return _begin(Histogram(name, text, labels, registry=REGISTRY, buckets=buckets), values)


def tell() -> Told:
    """Return this process's values for the other process."""
    return [
        [family.name, family.documentation, family.type, [[it.name, it.labels, it.value] for it in family.samples]]
        for family in REGISTRY.collect()
    ]


def _begin(metric: T, values: Values) -> T:
    for value in values:
        each: Any = (value,) if isinstance(value, str) else value
        metric.labels(*each)
    return metric

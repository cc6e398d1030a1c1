"""Which metrics exist, with which labels and values (docs/metrics.md, docs/host-metrics.md, exporters.yml), and which
of them an expression asks for."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import promql_parser as promql
import yaml

from tests.integration.scrape import documented

ROOT = Path(__file__).parents[2]
HISTOGRAM = ("_bucket", "_count", "_sum")
#: What Prometheus itself puts beside a target's own labels (docs/host-metrics.md).
TARGET = {
    "worker": {"job", "instance", "host", "colour"},
    "node": {"job", "instance", "host"},
    "alloy": {"job", "instance", "host"},
}
OTHER_TARGET = {"job", "instance"}
SERVICES = re.compile(r"`([a-z-]+)`")


@dataclass
class Known:
    """A metric's labels; those with a closed set of values have them."""

    job: str
    labels: dict[str, frozenset[str]]


def known() -> dict[str, Known]:
    """Everything that Prometheus may hold in production."""
    metrics: dict[str, Known] = {}

    def add(job: str, name: str, labels: dict[str, frozenset[str]]) -> None:
        target = {label: frozenset[str]() for label in TARGET.get(job, OTHER_TARGET)}
        metrics[name] = Known(job, {**target, **labels, "job": frozenset({job})})

    for row in documented():
        if row.kind == "histogram":
            for suffix in HISTOGRAM:
                add("worker", row.name + suffix, {**row.labels, **({"le": frozenset()} if suffix == "_bucket" else {})})
        elif not row.name.endswith("*"):
            add("worker", row.name, row.labels)
    for process in ("process_", "wearon_celery_process_"):
        for name in ("cpu_seconds_total", "resident_memory_bytes", "start_time_seconds", "open_fds", "max_fds"):
            add("worker", process + name, {})
    for name, labels in _host():
        add("node", name, labels)
    for job, theirs in yaml.safe_load((ROOT / "tests/alerts/exporters.yml").read_text()).items():
        for name, names in theirs.items():
            add(job, name, {label: frozenset() for label in names})
    metrics["up"] = Known("", dict.fromkeys(("job", "instance", "host", "colour"), frozenset()) | {"job": jobs()})
    return metrics


def jobs() -> frozenset[str]:
    """The jobs of docs/host-metrics.md."""
    text = (ROOT / "docs/host-metrics.md").read_text()
    section = text.split("## Scraped")[1].split("## ")[0]
    rows = [line.split(" | ")[0] for line in section.splitlines() if line.startswith("| `")]
    return frozenset(name for row in rows for name in re.findall(r"`(\w+)`", row)) - {"host"}


def _host() -> Iterator[tuple[str, dict[str, frozenset[str]]]]:
    text = (ROOT / "docs/host-metrics.md").read_text()
    section = text.split("## What the host itself knows")[1].split("\n## ")[0]
    services = frozenset(SERVICES.findall(section.split("Compose service:")[1].split("|")[0]))
    for line in section.splitlines():
        cells = line.strip("|").split(" | ")
        if line.startswith("| `wearon_"):
            for name in re.findall(r"`(\w+)`", cells[0]):
                labels = re.findall(r"`(\w+)`", cells[2])
                yield name, {label: services if label == "service" else frozenset() for label in labels}


def problems(expression: str, metrics: dict[str, Known]) -> list[str]:
    """Unknown metrics, labels and values of an expression; ValueError when it is no PromQL."""
    return list(_problems(promql.parse(expression), metrics))


def _problems(node: Any, metrics: dict[str, Known]) -> Iterator[str]:
    for selector in selectors(node):
        metric = metrics.get(selector.name)
        if metric is None:
            yield f"there is no metric {selector.name}"
            continue
        for matcher in selector.matchers.matchers:
            values = metric.labels.get(matcher.name)
            if values is None:
                yield f"{selector.name} has no label {matcher.name}"
            elif values and not any(_matches(matcher, value) for value in values):
                yield f"{selector.name} never has {matcher.name}={matcher.value!r}"
    for grouping, names in groupings(node):
        there = {
            label for selector in selectors(grouping) for label in getattr(metrics.get(selector.name), "labels", [])
        }
        yield from (f"nothing in the aggregation has the label {name}" for name in names if there and name not in there)


def _matches(matcher: Any, value: str) -> bool:
    kind = str(matcher.op).rpartition(".")[2]
    if kind in {"Equal", "NotEqual"}:
        return bool(value == matcher.value)
    return re.fullmatch(matcher.value, value) is not None


def children(node: Any) -> Iterator[Any]:
    for name in ("expr", "lhs", "rhs", "param", "vector_selector"):
        child = getattr(node, name, None)
        if child is not None:
            yield child
    yield from getattr(node, "args", None) or []


def selectors(node: Any) -> Iterator[Any]:
    """All `name{...}` in an expression."""
    if isinstance(node, promql.VectorSelector):
        yield node
    for child in children(node):
        yield from selectors(child)


def groupings(node: Any) -> Iterator[tuple[Any, list[str]]]:
    """Every aggregation with the labels that it keeps."""
    if isinstance(node, promql.AggregateExpr) and node.modifier is not None:
        yield node.expr, list(node.modifier.labels)
    for child in children(node):
        yield from groupings(child)

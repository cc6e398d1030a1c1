"""GET /metrics of a worker as Prometheus reads it, and what docs/metrics.md says about it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.sandbox.client import HTTP
from worker.settings import Settings

TABLE = Path(__file__).parents[2] / "docs" / "metrics.md"


@dataclass
class Scrape:
    """The families of one scrape by the name that the documentation uses."""

    families: dict[str, Metric]

    def value(self, name: str, **labels: str) -> float:
        """Sum of the samples with this name and these labels; AssertionError when there is none."""
        found = [
            sample.value
            for family in self.families.values()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        assert found, f"no {name}{labels}"
        return sum(found)

    def values(self, names: str) -> dict[tuple[str, ...], float]:
        """Every series of these counters and histograms' counts by its label values; 0 is left out."""
        return {
            (sample.name, *(sample.labels[label] for label in sorted(sample.labels))): sample.value
            for family in self.families.values()
            for sample in family.samples
            if re.fullmatch(names, sample.name) and sample.value
        }

    def has(self, name: str) -> bool:
        """Return True if there is such a family."""
        return name in self.families

    def series(self) -> int:
        """The number of series that Prometheus keeps of the family."""
        return sum(len(family.samples) for family in self.families.values())


def scrape(url: str) -> Scrape:
    """Scrape the worker now."""
    answer = HTTP.get(f"{url}/metrics", timeout=5).raise_for_status()
    families = list(text_string_to_metric_families(answer.text))
    return Scrape({family.name + "_total" * (family.type == "counter"): family for family in families})


@dataclass
class Row:
    """One metric of the documentation; a label without values may have any."""

    name: str
    kind: str
    labels: dict[str, frozenset[str]] = field(default_factory=dict)


def documented() -> list[Row]:
    """The tables of docs/metrics.md."""
    return [row for section in TABLE.read_text().split("\n## ")[1:] for row in _rows(section)]


def _rows(section: str) -> Iterator[Row]:
    lines = [line.split("|")[1:-1] for line in section.splitlines() if line.startswith("| `")]
    values = {cells[0].strip(): cells[1] for cells in lines if len(cells) == 2}
    for names, kind, labels, *_ in (cells for cells in lines if len(cells) > 2):
        for name in re.findall(r"`([^`]+)`", names):
            wanted = re.findall(r"`(\w+)`", labels)
            yield Row(name, kind.strip(), {label: _closed(name, label, values) for label in wanted})


def _closed(metric: str, label: str, values: dict[str, str]) -> frozenset[str]:
    """The values of the row that names this metric, else of the label's own row, else of the first section's."""
    rows = {**_general(), **values}
    text = next(
        (text for head, text in rows.items() if head.startswith(f"`{label}` of ") and f"`{metric}`" in head), ""
    )
    text = text or rows.get(f"`{label}`", "")
    plain = re.sub(r"\([^)]*\)|of `\w+`:", "", text)
    return frozenset(_setting(value) for value in re.findall(r"`([^`]+)`", plain))


def _general() -> dict[str, str]:
    found = re.findall(r"^\| (`channel`) \| (.*) \|$", TABLE.read_text(), re.MULTILINE)
    return dict(found)


def _setting(value: str) -> str:
    return str(Settings.model_fields[value.lower()].default) if value.isupper() and "_" in value else value

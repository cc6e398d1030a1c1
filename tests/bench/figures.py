"""The figures of a part with units and targets, as text or JSON."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One measured value; `target` is what it should be at most, or at least when `at_least` is set."""

    name: str
    value: float | str
    unit: str = ""
    target: float | None = None
    at_least: bool = False

    @property
    def met(self) -> bool | None:
        """True if the target is met; None without a target."""
        if self.target is None or isinstance(self.value, str):
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed; nan when there are none."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else math.nan


def most_within(moments: Sequence[float], seconds: float) -> int:
    """The most moments within any time of this length; `moments` are in order."""
    most = begin = 0
    for end, moment in enumerate(moments, 1):
        while moment - moments[begin] >= seconds:
            begin += 1
        most = max(most, end - begin)
    return most


def spread(name: str, values: Sequence[float], unit: str = "s", targets: Sequence[float | None] = ()) -> list[Figure]:
    """p50, p95 and p99 of `values`."""
    shares = zip((0.5, 0.95, 0.99), (*targets, None, None, None), strict=False)
    return [Figure(f"{name} p{share * 100:g}", percentile(values, share), unit, target) for share, target in shares]


def as_text(part: str, figures: list[Figure], console: Console, before: Mapping[str, float | str]) -> None:
    """A table of the figures, each with its change from the value before."""
    table = Table(title=part, title_justify="left", box=None, pad_edge=False)
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("unit")
    table.add_column("before", justify="right")
    table.add_column("change", justify="right")
    table.add_column("target", justify="right")
    table.add_column()
    for figure in figures:
        bound = "" if figure.target is None else f"{'>=' if figure.at_least else '<='} {figure.target:g}"
        mark = {True: "met", False: "MISSED", None: ""}[figure.met]
        past = before.get(figure.name, "")
        table.add_row(
            figure.name, _shown(figure.value), figure.unit, _shown(past), change(figure.value, past), bound, mark
        )
    console.print(table)
    console.print()


def change(value: float | str, before: float | str) -> str:
    """The change in per cent; empty where there is nothing to compare with."""
    if isinstance(value, str) or isinstance(before, str) or not before:
        return ""
    return f"{100 * (value / before - 1):+.0f} %"


def as_json(machine: dict[str, Any], parts: dict[str, list[Figure]]) -> str:
    """All figures in one object."""
    shown = {
        part: [{key: value for key, value in {**asdict(figure), "met": figure.met}.items() if value is not None}
               for figure in figures]
        for part, figures in parts.items()
    }  # fmt: skip
    return json.dumps({"machine": machine, "parts": shown}, indent=2)


def _shown(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 1000 or float(value).is_integer() else f"{value:.3g}"

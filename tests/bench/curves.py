"""The curves of a saved run, drawn beside its file."""

import re
from pathlib import Path
from typing import Any

from tests.bench import scaling_model, svg

Parts = dict[str, list[dict[str, Any]]]


def draw(parts: Parts, folder: Path) -> list[Path]:
    """Write the curves of all parts that have some."""
    values = {part: {one["name"]: one["value"] for one in figures} for part, figures in parts.items()}
    drawn: dict[str, str] = {}
    if growth := values.get("growth"):
        for name, unit, factor in (("CPU per generation", "ms", 1000), ("PSS peak", "MB", 1)):
            points = _series(growth, rf"concurrency (\d+): {name}", factor)
            drawn[f"growth-{unit.lower()}"] = svg.draw(
                {name: points}, "generations at once", unit, limits=_from_zero(points)
            )
    if scaling := values.get("scaling"):
        measured = _series(scaling, r"(\d+) instances: completed")
        linear = [(count, count * measured[0][1]) for count, _ in measured]
        curves = {"measured": measured, "linear": linear}
        drawn["scaling"] = svg.draw(
            curves, "instances", "generations a minute", limits=_from_zero(linear), dots={"measured"}
        )
        limits = scaling_model.limits(_costs(scaling))
        drawn["limits"] = svg.draw(limits, "hosts", "generations a minute (logarithmic)", logarithmic=True)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in drawn.items():
        (folder / f"{name}.svg").write_text(text)
    return [folder / f"{name}.svg" for name in drawn]


def _series(figures: dict[str, float], pattern: str, factor: float = 1) -> list[tuple[float, float]]:
    found = ((re.fullmatch(pattern, name), value) for name, value in figures.items())
    return sorted((float(match[1]), factor * value) for match, value in found if match)


def _from_zero(points: list[tuple[float, float]]) -> tuple[float, float]:
    return 0.0, max(y for _, y in points)


def _costs(figures: dict[str, float]) -> dict[str, tuple[float, float]]:
    return {
        use: (figures[f"fit: {name}, idle instance in a second"], figures[f"fit: {name}, generation"])
        for use, name in scaling_model.NAMES.items()
    }

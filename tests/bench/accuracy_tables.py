"""Tables of the size API's errors: by group of people, and by what it said of its own certainty."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import inf

import numpy as np
from rich.table import Table

from tests.bench.bodies import Body
from worker.sizing.estimator import Estimate
from worker.sizing.standard_charts import DEFAULT_CHART

GIRTHS = ("chest", "waist", "hip")
#: Mean absolute errors in cm and shares of right sizes that rendered bodies must reach with the height alone.
MUST = {"chest": 4.5, "waist": 4.0, "hip": 3.3, "exact": 0.50, "within one": 0.95}


@dataclass(frozen=True)
class Result:
    """One person's estimate beside the truth."""

    body: Body
    found: Estimate

    def error(self, girth: str) -> float:
        return float(getattr(self.found.measurements, girth).value - self.body.number(f"{girth}_cm"))

    def covered(self, girth: str) -> bool:
        return bool(abs(self.error(girth)) <= getattr(self.found.measurements, girth).uncertainty)

    @property
    def sizes_off(self) -> int:
        return abs(DEFAULT_CHART.names.index(self.found.size) - DEFAULT_CHART.size(self.body.number("chest_cm")))


def scores_of(results: list[Result]) -> dict[str, float]:
    scores = {girth: float(np.mean([abs(result.error(girth)) for result in results])) for girth in GIRTHS}
    scores["exact"] = float(np.mean([result.sizes_off == 0 for result in results]))
    scores["within one"] = float(np.mean([result.sizes_off <= 1 for result in results]))
    return scores


def misses(results: list[Result]) -> bool:
    scores = scores_of(results)
    return any(scores[name] > MUST[name] for name in GIRTHS) or any(
        scores[name] < MUST[name] for name in ("exact", "within one")
    )


def subgroups(results: list[Result]) -> dict[str, list[Result]]:
    def index(result: Result) -> float:
        return result.body.number("weight_kg") / (result.body.number("height_cm") / 100) ** 2

    def camera(low: float, high: float) -> Callable[[Result], bool]:
        return lambda result: (height := camera_height(result)) is not None and low <= height < high

    groups: dict[str, Callable[[Result], bool]] = {
        "women": lambda result: result.body.truth["sex"] == "F",
        "men": lambda result: result.body.truth["sex"] == "M",
        "BMI below 20": lambda result: index(result) < 20,
        "BMI 20 to 30": lambda result: 20 <= index(result) < 30,
        "BMI from 30": lambda result: index(result) >= 30,
        "loose_clothing": lambda result: "loose_clothing" in result.found.warnings,
        "no such warning": lambda result: "loose_clothing" not in result.found.warnings,
        "camera below 0.9 m": camera(0, 0.9),
        "camera at 0.9 to 1.4 m": camera(0.9, 1.4),
        "camera from 1.4 m": camera(1.4, inf),
    }
    chosen = {name: [result for result in results if holds(result)] for name, holds in groups.items()}
    return {name: found for name, found in chosen.items() if found}


def camera_height(result: Result) -> float | None:
    """Height of the camera in metres, if the truth's notes have it."""
    found = re.search(r"camera at ([\d.]+) m", result.body.truth.get("notes") or "")
    return float(found[1]) if found else None


def table(by_name: dict[str, list[Result]], title: str = "Mean absolute error in cm (mean error; inside ±)") -> Table:
    found = Table("", "people", *GIRTHS, "size exact", "within one", title=title)
    for name, results in by_name.items():
        scores = scores_of(results)
        cells = []
        for girth in GIRTHS:
            half = np.median([getattr(r.found.measurements, girth).uncertainty for r in results])
            mean = np.mean([r.error(girth) for r in results])
            inside = np.mean([r.covered(girth) for r in results])
            cells.append(f"{scores[girth]:.2f} ({mean:+.1f}; {inside:.0%} ±{half:.1f})")
        found.add_row(name, str(len(results)), *cells, f"{scores['exact']:.2f}", f"{scores['within one']:.3f}")
    found.add_row("must reach (rendered, height)", "", *(f"{limit:.2f}" for limit in MUST.values()))
    return found


def calibration(results: list[Result], known: str) -> Table:
    found = Table("confidence", "people", "mean confidence", "size exact", title=f"Calibration, {known}")
    for low, high in pairwise((0.0, 0.4, 0.6, 0.8, 1.01)):
        chosen = [result for result in results if low <= result.found.confidence < high]
        if chosen:
            said = np.mean([result.found.confidence for result in chosen])
            held = np.mean([result.sizes_off == 0 for result in chosen])
            found.add_row(f"{low:.2f} to {min(high, 1):.2f}", str(len(chosen)), f"{said:.3f}", f"{held:.3f}")
    return found

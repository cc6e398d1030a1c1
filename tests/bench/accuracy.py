"""`make accuracy`: the errors of the size API on people with truth: `python -m tests.bench.accuracy [FOLDER]`.

FOLDER holds `truth.csv` and, for pictures, `images/`; without one, the ten pictures of the tests are used. The columns
`file` and `shoulder_cm` may be missing, and so may any picture: such people count for the prior alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.bench.bodies import Body, bodies
from worker.sizing.charts import DEFAULT_CHART
from worker.sizing.estimator import Estimate, estimate
from worker.sizing.measurements import Measurer
from worker.sizing.photo import Photo, read
from worker.sizing.population import Person, Sex
from worker.sizing.pose import Landmarker, Pose
from worker.sizing.refusals import PhotoRefused

COMMITTED = Path(__file__).parent.parent / "worker" / "sizing" / "pictures"

GIRTHS = ("chest", "waist", "hip")
#: Mean absolute errors in cm and shares of right sizes that rendered bodies must reach with the height alone.
MUST = {"chest": 4.5, "waist": 4.0, "hip": 3.3, "exact": 0.50, "within one": 0.95}
#: With a photo, with the weight, with the sex.
_KNOWN = {
    "height": (True, False, False),
    "height, sex": (True, False, True),
    "height, weight": (True, True, False),
    "height, weight, sex": (True, True, True),
    "no photo: height, weight": (False, True, False),
    "no photo: height, weight, sex": (False, True, True),
}


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


class Remembered:
    """The landmarker, asked once for each picture."""

    def __init__(self, landmarker: Landmarker) -> None:
        self._landmarker = landmarker
        self._known: dict[bytes, list[Pose]] = {}

    def detect(self, pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> list[Pose]:
        key = pixels.tobytes()
        if key not in self._known:
            # Poses hold masks: those of the last picture are enough.
            self._known = {key: self._landmarker.detect(pixels)}
        return self._known[key]


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path), default=COMMITTED)
def accuracy(folder: Path) -> None:
    """Print the tables; exit code 1 when more than 30 pictures miss what the service must reach."""
    console = Console()
    people = bodies(folder)
    by_known: dict[str, list[Result]] = {known: [] for known in _KNOWN}
    refused = 0
    with Landmarker() as landmarker:
        detector, measurer = Remembered(landmarker), Measurer()
        for body in track(people, description="Measuring", console=console, transient=True):
            photo = read(body.path.read_bytes()) if body.path.is_file() else None
            for known, (with_photo, with_weight, with_sex) in _KNOWN.items():
                if with_photo and photo is None:
                    continue
                person = _person(body, with_weight=with_weight, with_sex=with_sex)
                result = _measure(body, photo if with_photo else None, person, detector, measurer)
                refused += result is None and known == "height"
                by_known[known] += [result] if result else []
    console.print(f"{len(people)} people, {refused} pictures refused")
    console.print(_table({known: results for known, results in by_known.items() if results}))
    for known in ("height", "no photo: height, weight, sex"):
        if by_known[known]:
            console.print(_table(_subgroups(by_known[known]), title=f"By subgroup, {known}"))
            console.print(_calibration(by_known[known], known))
    if len(by_known["height"]) > 30 and _misses(by_known["height"]):
        raise SystemExit(1)


def _person(body: Body, *, with_weight: bool, with_sex: bool) -> Person:
    sex: Sex = "M" if body.truth["sex"] == "M" else "F"
    weight = body.number("weight_kg") if with_weight else None
    return Person(body.number("height_cm"), weight, sex if with_sex else None)


def _measure(
    body: Body, photo: Photo | None, person: Person, detector: Remembered, measurer: Measurer
) -> Result | None:
    try:
        found = estimate(photo, person, DEFAULT_CHART, "regular", detector=detector, measurer=measurer)
    except PhotoRefused:
        return None
    return Result(body, found)


def _scores(results: list[Result]) -> dict[str, float]:
    scores = {girth: float(np.mean([abs(result.error(girth)) for result in results])) for girth in GIRTHS}
    scores["exact"] = float(np.mean([result.sizes_off == 0 for result in results]))
    scores["within one"] = float(np.mean([result.sizes_off <= 1 for result in results]))
    return scores


def _misses(results: list[Result]) -> bool:
    scores = _scores(results)
    return any(scores[name] > MUST[name] for name in GIRTHS) or any(
        scores[name] < MUST[name] for name in ("exact", "within one")
    )


def _subgroups(results: list[Result]) -> dict[str, list[Result]]:
    def index(result: Result) -> float:
        return result.body.number("weight_kg") / (result.body.number("height_cm") / 100) ** 2

    groups: dict[str, Callable[[Result], bool]] = {
        "women": lambda result: result.body.truth["sex"] == "F",
        "men": lambda result: result.body.truth["sex"] == "M",
        "BMI below 20": lambda result: index(result) < 20,
        "BMI 20 to 30": lambda result: 20 <= index(result) < 30,
        "BMI from 30": lambda result: index(result) >= 30,
        "loose_clothing": lambda result: "loose_clothing" in result.found.warnings,
        "no such warning": lambda result: "loose_clothing" not in result.found.warnings,
    }
    chosen = {name: [result for result in results if holds(result)] for name, holds in groups.items()}
    return {name: found for name, found in chosen.items() if found}


def _table(by_name: dict[str, list[Result]], title: str = "Mean absolute error in cm (mean error; inside ±)") -> Table:
    table = Table("", "people", *GIRTHS, "size exact", "within one", title=title)
    for name, results in by_name.items():
        scores = _scores(results)
        cells = []
        for girth in GIRTHS:
            half = np.median([getattr(r.found.measurements, girth).uncertainty for r in results])
            mean = np.mean([r.error(girth) for r in results])
            inside = np.mean([r.covered(girth) for r in results])
            cells.append(f"{scores[girth]:.2f} ({mean:+.1f}; {inside:.0%} ±{half:.1f})")
        table.add_row(name, str(len(results)), *cells, f"{scores['exact']:.2f}", f"{scores['within one']:.3f}")
    table.add_row("must reach (rendered, height)", "", *(f"{limit:.2f}" for limit in MUST.values()))
    return table


def _calibration(results: list[Result], known: str) -> Table:
    table = Table("confidence", "people", "mean confidence", "size exact", title=f"Calibration, {known}")
    for low, high in pairwise((0.0, 0.4, 0.6, 0.8, 1.01)):
        chosen = [result for result in results if low <= result.found.confidence < high]
        if chosen:
            said = np.mean([result.found.confidence for result in chosen])
            held = np.mean([result.sizes_off == 0 for result in chosen])
            table.add_row(f"{low:.2f} to {min(high, 1):.2f}", str(len(chosen)), f"{said:.3f}", f"{held:.3f}")
    return table


if __name__ == "__main__":
    accuracy()

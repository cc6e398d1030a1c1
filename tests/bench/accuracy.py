"""`make accuracy`: the errors of the size API on people with truth: `python -m tests.bench.accuracy [FOLDER]`.

FOLDER holds `truth.csv` and, for pictures, `images/`; without one, the ten pictures of the tests are used. The columns
`file` and `shoulder_cm` may be missing, and so may any picture: such people count for the prior alone. The column
`side_file` names a second picture in `images/`, taken from the side.
"""

from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.progress import track

from tests.bench.accuracy_plots import plot
from tests.bench.accuracy_tables import Result, calibration, misses, subgroups, table
from tests.bench.bodies import Body, bodies
from worker.sizing.estimator import estimate
from worker.sizing.measurements import Measurer
from worker.sizing.photo import Photo, read
from worker.sizing.population import Person, Sex
from worker.sizing.pose import Landmarker, Pose
from worker.sizing.refusals import PhotoRefused
from worker.sizing.standard_charts import DEFAULT_CHART

COMMITTED = Path(__file__).parent.parent / "worker" / "sizing" / "pictures"

#: What is known beside the height.
_KNOWN = {
    "height": {"photo"},
    "height, sex": {"photo", "sex"},
    "height, weight": {"photo", "weight"},
    "height, weight, sex": {"photo", "weight", "sex"},
    "height, side view": {"photo", "side"},
    "height, sex, side view": {"photo", "side", "sex"},
    "height, weight, sex, side view": {"photo", "side", "weight", "sex"},
    "no photo: height, sex (no answer, for comparison)": {"sex"},
    "no photo: height, weight": {"weight"},
    "no photo: height, weight, sex": {"weight", "sex"},
}


class Remembered:
    """The landmarker, asked once for each picture."""

    def __init__(self, landmarker: Landmarker) -> None:
        self._landmarker = landmarker
        self._known: dict[bytes, list[Pose]] = {}

    def detect(self, pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> list[Pose]:
        key = pixels.tobytes()
        if key not in self._known:
            # Poses hold masks: those of the last pictures are enough.
            self._known = {**dict(list(self._known.items())[-3:]), key: self._landmarker.detect(pixels)}
        return self._known[key]


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path), default=COMMITTED)
@click.option("--plots", type=click.Path(path_type=Path), help="Write plots of the estimates by height to this folder.")
def accuracy(folder: Path, plots: Path | None) -> None:
    """Print the tables; exit code 1 when more than 30 pictures miss what the service must reach."""
    console = Console()
    people = bodies(folder)
    by_known: dict[str, list[Result]] = {known: [] for known in _KNOWN}
    refused = 0
    with Landmarker() as landmarker:
        detector, measurer = Remembered(landmarker), Measurer()
        for body in track(people, description="Measuring", console=console, transient=True):
            views = _views(body)
            for known, facts in _KNOWN.items():
                if {"photo", "side"} & facts - set(views):
                    continue
                person = _person(body, with_weight="weight" in facts, with_sex="sex" in facts)
                used = {name: views[name] for name in {"photo", "side"} & facts}
                result = _measure(body, used, person, detector, measurer)
                refused += result is None and known == "height"
                by_known[known] += [result] if result else []
    lost = sum("side_photo_unusable" in result.found.warnings for result in by_known["height, side view"])
    console.print(f"{len(people)} people, {refused} pictures refused, {lost} from the side left out")
    console.print(table({known: results for known, results in by_known.items() if results}))
    for known in ("height", "no photo: height, weight, sex"):
        if by_known[known]:
            console.print(table(subgroups(by_known[known]), title=f"By subgroup, {known}"))
            console.print(calibration(by_known[known], known))
    if plots and by_known["height"]:
        for path in plot(by_known["height"], "photo, height", plots):
            console.print(f"Plot: {path}")
    if len(by_known["height"]) > 30 and misses(by_known["height"]):
        raise SystemExit(1)


def _person(body: Body, *, with_weight: bool, with_sex: bool) -> Person:
    sex: Sex = "M" if body.truth["sex"] == "M" else "F"
    weight = body.number("weight_kg") if with_weight else None
    return Person(body.number("height_cm"), weight, sex if with_sex else None)


def _views(body: Body) -> dict[str, Photo]:
    """The pictures that are there."""
    side = body.path.parent / (body.truth.get("side_file") or "none")
    paths = {"photo": body.path, "side": side}
    return {name: read(path.read_bytes()) for name, path in paths.items() if path.is_file()}


def _measure(
    body: Body, views: dict[str, Photo], person: Person, detector: Remembered, measurer: Measurer
) -> Result | None:
    side = views.get("side")
    try:
        found = estimate(
            views.get("photo"),
            person,
            DEFAULT_CHART,
            "regular",
            detector=detector,
            measurer=measurer,
            side=None if side is None else lambda: side,
        )
    except PhotoRefused:
        return None
    return Result(body, found)


if __name__ == "__main__":
    accuracy()

"""`make accuracy`: the errors of the size API on people with truth: `python -m tests.bench.accuracy [FOLDER]`.

FOLDER holds `truth.csv` and, for pictures, `images/`; without one, the ten pictures of the tests are used. The columns
`file` and `shoulder_cm` may be missing, and so may any picture: such people count for the prior alone.
"""

from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.progress import track

from tests.bench.accuracy_tables import Result, calibration, misses, subgroups, table
from tests.bench.bodies import Body, bodies
from worker.sizing.charts import DEFAULT_CHART
from worker.sizing.estimator import estimate
from worker.sizing.measurements import Measurer
from worker.sizing.photo import Photo, read
from worker.sizing.population import Person, Sex
from worker.sizing.pose import Landmarker, Pose
from worker.sizing.refusals import PhotoRefused

COMMITTED = Path(__file__).parent.parent / "worker" / "sizing" / "pictures"

#: With a photo, with the weight, with the sex.
_KNOWN = {
    "height": (True, False, False),
    "height, sex": (True, False, True),
    "height, weight": (True, True, False),
    "height, weight, sex": (True, True, True),
    "no photo: height, weight": (False, True, False),
    "no photo: height, weight, sex": (False, True, True),
}


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
    console.print(table({known: results for known, results in by_known.items() if results}))
    for known in ("height", "no photo: height, weight, sex"):
        if by_known[known]:
            console.print(table(subgroups(by_known[known]), title=f"By subgroup, {known}"))
            console.print(calibration(by_known[known], known))
    if len(by_known["height"]) > 30 and misses(by_known["height"]):
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


if __name__ == "__main__":
    accuracy()

"""Processor time of each stage of an estimate beside the inference: `python -m tests.bench.size_stages [FOLDER]`.

Times of the calling thread, which stay true on a machine that has other work. The inference runs in threads of its own.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from tests.bench.accuracy import COMMITTED
from tests.bench.bodies import bodies
from worker.sizing.estimator import estimate
from worker.sizing.features import features
from worker.sizing.measurements import Measurer
from worker.sizing.mirror import one_of_both
from worker.sizing.photo import Photo, read
from worker.sizing.population import Person
from worker.sizing.pose import Landmarker, Pose
from worker.sizing.quality import check
from worker.sizing.silhouette import trace
from worker.sizing.standard_charts import DEFAULT_CHART

#: What an estimate may cost beside the inference, in milliseconds.
TARGET_MS = 8.0
#: The least of so many runs is steady beside the work of others.
_TIMES = 20


class Known:
    """A landmarker that has seen the picture before."""

    def __init__(self, poses: list[Pose]) -> None:
        self._poses = poses

    def detect(self, _: object) -> list[Pose]:
        return self._poses


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path), default=COMMITTED)
def stages(folder: Path) -> None:
    """Print the median milliseconds of each stage; exit code 1 when they are more than 8 together."""
    found: dict[str, list[float]] = {}
    measurer = Measurer()
    with Landmarker() as landmarker:
        for body in bodies(folder)[:20]:
            for stage, call in _stages(body.path.read_bytes(), landmarker, measurer).items():
                found.setdefault(stage, []).append(min(_milliseconds(call) for _ in range(_TIMES)))
    table = Table("stage", "ms of processor time, median", "most")
    for stage, times in found.items():
        table.add_row(stage, f"{np.median(times):.2f}", f"{max(times):.2f}")
    Console().print(table)
    if np.median(found["estimate, decoded picture to answer"]) > TARGET_MS:
        raise SystemExit(1)


def _stages(data: bytes, landmarker: Landmarker, measurer: Measurer) -> dict[str, Callable[[], Any]]:
    photo: Photo = read(data)
    seen, person = one_of_both(photo)[0], Person(175.0)
    pixels = np.asarray(seen.picture)
    detector = Known(landmarker.detect(pixels))
    silhouette = check(seen, detector)
    found = features(silhouette)
    reading = measurer.outline.read(found, person.height_cm)
    return {
        "decode": lambda: read(data),
        "one of both mirrors": lambda: one_of_both(photo),
        "gate, outline included": lambda: check(seen, detector),
        "of that, outline": lambda: trace(silhouette.pose, pixels),
        "features": lambda: features(silhouette),
        "regression": lambda: measurer.outline.read(found, person.height_cm),
        "girths": lambda: measurer.combine(reading, person),
        "estimate, decoded picture to answer": lambda: estimate(
            photo, person, DEFAULT_CHART, "regular", detector=detector, measurer=measurer
        ),
    }


def _milliseconds(call: Callable[[], Any]) -> float:
    begun = time.thread_time()
    call()
    return (time.thread_time() - begun) * 1000


if __name__ == "__main__":
    stages()

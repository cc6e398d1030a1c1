"""Plots of the size API's errors as SVG, small enough to stand beside the documents."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np

from tests.bench import svg
from tests.bench.accuracy_tables import GIRTHS, Result, camera_height
from tests.bench.svg import Points

_COLOURS = {"chest": "#1b6ca8", "waist": "#c8553d", "hip": "#4f7942"}
_CLASSES = 6


def plot(results: list[Result], known: str, folder: Path) -> list[Path]:
    """Write the plots of these people; those without any point are left out."""
    found = {
        "calibration": (_calibration(results), "confidence", "share of right sizes", (0.0, 1.0)),
        "weight": (_by(results, lambda one: one.body.number("weight_kg")), "weight in kg", "mean error in cm", None),
        "camera": (_by(results, camera_height), "height of the camera in m", "mean error in cm", None),
    }
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, (points, across, up, limits) in found.items():
        if any(points.values()):
            path = folder / f"{name}.svg"
            heights = limits or _around_zero(points)
            path.write_text(svg.draw(points, f"{known}: {across}", up, limits=heights, colours=_COLOURS))
            paths.append(path)
    return paths


def _calibration(results: list[Result]) -> Points:
    classes = [
        [one for one in results if low <= one.found.confidence < high]
        for low, high in pairwise((0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.01))
    ]
    said = [
        (float(np.mean([one.found.confidence for one in some])), float(np.mean([one.sizes_off == 0 for one in some])))
        for some in classes
        if some
    ]
    return {"perfect": [(0.0, 0.0), (1.0, 1.0)], "chest": said}


def _by(results: list[Result], value: Callable[[Result], float | None]) -> Points:
    """Mean errors of classes of equally many people."""
    known = sorted((one for one in results if value(one) is not None), key=lambda one: value(one) or 0)
    classes = [some for some in np.array_split(np.array(known, dtype=object), _CLASSES) if len(some)]
    return {
        girth: [
            (float(np.mean([value(one) for one in some])), float(np.mean([one.error(girth) for one in some])))
            for some in classes
        ]
        for girth in GIRTHS
    }


def _around_zero(points: Points) -> tuple[float, float]:
    heights = [y for some in points.values() for _, y in some]
    return min(-2.0, *heights), max(2.0, *heights)

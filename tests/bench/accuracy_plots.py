"""Plots of the size API's errors as SVG, small enough to stand beside the documents."""

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np

from tests.bench.accuracy_tables import GIRTHS, Result

_WIDTH, _HEIGHT, _LEFT, _TOP, _PLOT = 420, 260, 50, 30, (350, 190)
_COLOURS = {"chest": "#1b6ca8", "waist": "#c8553d", "hip": "#4f7942"}
_CLASSES = 6

Points = dict[str, list[tuple[float, float]]]


def plot(results: list[Result], known: str, folder: Path) -> list[Path]:
    """Write the plots of these people; those without any point are left out."""
    found = {
        "calibration": (_calibration(results), "confidence", "share of right sizes", (0.0, 1.0)),
        "weight": (_by(results, lambda one: one.body.number("weight_kg")), "weight in kg", "mean error in cm", None),
        "camera": (_by(results, _camera), "height of the camera in m", "mean error in cm", None),
    }
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, (points, across, up, limits) in found.items():
        if any(points.values()):
            path = folder / f"{name}.svg"
            path.write_text(_svg(points, f"{known}: {across}", up, limits))
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


def _camera(result: Result) -> float | None:
    found = re.search(r"camera at ([\d.]+) m", result.body.truth.get("notes", ""))
    return float(found[1]) if found else None


def _svg(points: Points, across: str, up: str, limits: tuple[float, float] | None) -> str:
    every = np.array([point for some in points.values() for point in some])
    (x0, y0), (x1, y1) = every.min(axis=0), every.max(axis=0)
    y0, y1 = limits or (min(-2.0, y0), max(2.0, y1))
    scale = np.array([_PLOT[0] / max(x1 - x0, 1e-9), _PLOT[1] / max(y1 - y0, 1e-9)])

    def place(x: float, y: float) -> str:
        return f"{_LEFT + (x - x0) * scale[0]:.1f},{_TOP + (y1 - y) * scale[1]:.1f}"

    lines = [
        f'<polyline fill="none" stroke="{_COLOURS.get(name, "#999")}" points="{" ".join(place(*p) for p in some)}"/>'
        for name, some in points.items()
    ]
    names = [
        f'<text x="{_LEFT + 70 * index}" y="18" fill="{_COLOURS.get(name, "#999")}">{name}</text>'
        for index, name in enumerate(points)
    ]
    marks = [
        f'<text x="{_LEFT - 6}" y="{_TOP + (y1 - y) * scale[1] + 4:.1f}" text-anchor="end">{y:.3g}</text>'
        for y in np.linspace(y0, y1, 5)
    ]
    marks += [
        f'<text x="{_LEFT + (x - x0) * scale[0]:.1f}" y="{_TOP + _PLOT[1] + 16}" text-anchor="middle">{x:.3g}</text>'
        for x in np.linspace(x0, x1, 5)
    ]
    axes = f'<rect x="{_LEFT}" y="{_TOP}" width="{_PLOT[0]}" height="{_PLOT[1]}" fill="none" stroke="#ccc"/>'
    titles = f'<text x="{_LEFT}" y="{_HEIGHT - 6}">{across}; up: {up}</text>'
    style = 'font-family="sans-serif" font-size="11"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" {style}>'
    return "\n".join([head, axes, *lines, *names, *marks, titles, "</svg>\n"])

"""Curves as SVG, small enough to stand beside the documents."""

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

WIDTH, HEIGHT, _LEFT, _TOP, _PLOT = 420, 260, 50, 30, (350, 190)
_PALETTE = ("#1b6ca8", "#c8553d", "#4f7942", "#8a5a9e", "#b8860b", "#444", "#d17a9b")
_OTHER = "#999"
#: Names above the plot stand this far apart, or nearer when there are many.
_NAMES_ACROSS = 5

Points = Mapping[str, Sequence[tuple[float, float]]]


def draw(
    points: Points,
    across: str,
    up: str,
    *,
    limits: tuple[float, float] | None = None,
    colours: Mapping[str, str] | None = None,
    logarithmic: bool = False,
    dots: Collection[str] = (),
) -> str:
    """The curves by name; those in `dots` are measured points, which no line connects."""
    every = np.array([point for some in points.values() for point in some], dtype=float)
    (x0, low), (x1, high) = every.min(axis=0), every.max(axis=0)
    low, high = limits or (low, high)
    y0, y1 = (math.log10(low), math.log10(high)) if logarithmic else (low, high)
    scale = _PLOT[0] / max(x1 - x0, 1e-9), _PLOT[1] / max(y1 - y0, 1e-9)
    colour = colours or dict(zip(points, _PALETTE, strict=False))

    def place(x: float, y: float) -> tuple[float, float]:
        height = math.log10(y) if logarithmic else y
        return _LEFT + (x - x0) * scale[0], _TOP + (y1 - height) * scale[1]

    shapes = []
    for name, some in points.items():
        placed = [place(*point) for point in some]
        shapes += _shape(placed, colour.get(name, _OTHER), connected=name not in dots)
    apart = _PLOT[0] / max(_NAMES_ACROSS, len(points))
    names = [
        f'<text x="{_LEFT + apart * index:g}" y="18" fill="{colour.get(name, _OTHER)}">{name}</text>'
        for index, name in enumerate(points)
    ]
    heights = np.logspace(y0, y1, 5) if logarithmic else np.linspace(y0, y1, 5)
    marks = [
        f'<text x="{_LEFT - 6}" y="{place(x0, y)[1] + 4:.1f}" text-anchor="end">{_number(y)}</text>' for y in heights
    ]
    marks += [
        f'<text x="{place(x, heights[0])[0]:.1f}" y="{_TOP + _PLOT[1] + 16}" text-anchor="middle">{x:.3g}</text>'
        for x in np.linspace(x0, x1, 5)
    ]
    axes = f'<rect x="{_LEFT}" y="{_TOP}" width="{_PLOT[0]}" height="{_PLOT[1]}" fill="none" stroke="#ccc"/>'
    titles = f'<text x="{_LEFT}" y="{HEIGHT - 6}">{across}; up: {up}</text>'
    style = 'font-family="sans-serif" font-size="11"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {style}>'
    return "\n".join([head, axes, *shapes, *names, *marks, titles, "</svg>\n"])


def _shape(placed: list[tuple[float, float]], colour: str, *, connected: bool) -> list[str]:
    if connected:
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        return [f'<polyline fill="none" stroke="{colour}" points="{line}"/>']
    return [f'<circle r="3.5" fill="{colour}" cx="{x:.1f}" cy="{y:.1f}"/>' for x, y in placed]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"

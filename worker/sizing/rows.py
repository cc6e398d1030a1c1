"""Rows of a mask: where a body part ends to both sides, between pixels."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def edges(mask: NDArray[np.float32], y: Array, start: Array, sign: int) -> Array:
    """Per row, the first column outward from `start` where the mask falls below one half, between pixels."""
    height, width = mask.shape
    y = np.clip(y, 0, height - 1.001)
    row = y.astype(int)
    part = (y - row)[:, None].astype(np.float32)
    values = mask[row] * (1 - part) + mask[row + 1] * part
    if sign < 0:
        values = values[:, ::-1]
        start = width - 1 - start
    begin = np.clip(np.rint(start), 0, width - 1).astype(int)
    outside = (values < 0.5) & (np.arange(width) >= begin[:, None])
    index = np.arange(len(y))
    found = outside.argmax(axis=1)
    found = np.where(outside[index, found], found, width - 1)
    before = np.maximum(found - 1, 0)
    inner, outer = values[index, before], values[index, found]
    crossing = before + np.clip((inner - 0.5) / np.maximum(inner - outer, 1e-6), 0, 1) * (found - before)
    result = np.where(values[index, begin] < 0.5, start, crossing)
    return width - 1 - result if sign < 0 else result


def between(mask: NDArray[np.float32], y: Array, axis: Array) -> Array:
    """Per row, the width of the body part around column `axis`."""
    return edges(mask, y, axis, 1) - edges(mask, y, axis, -1)


def polyline(y: Array, points: list[Array]) -> Array:
    """Column of the line through `points` at each row, held constant beyond its ends."""
    ordered = sorted(points, key=lambda point: float(point[1]))
    columns: Array = np.interp(y, [point[1] for point in ordered], [point[0] for point in ordered])
    return columns

"""Rows of a mask: where a body part ends to both sides, between pixels."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.float32]


def edges(mask: Mask, y: Array, start: Array, sign: int) -> Array:
    """Per row, the first column outward from `start` where the mask falls below one half, between pixels."""
    return _outward(_at(mask, y), start, sign)


def between(mask: Mask, y: Array, axis: Array) -> Array:
    """Per row, the width of the body part around column `axis`."""
    values = _at(mask, y)
    return _outward(values, axis, 1) - _outward(values, axis, -1)


def _at(mask: Mask, y: Array) -> Mask:
    """The mask's rows at `y`, between pixels."""
    y = np.clip(y, 0, mask.shape[0] - 1.001)
    row = y.astype(int)
    part = (y - row)[:, None].astype(np.float32)
    values: Mask = mask[row] * (1 - part) + mask[row + 1] * part
    return values


def _outward(values: Mask, start: Array, sign: int) -> Array:
    width = values.shape[1]
    if sign < 0:
        values = values[:, ::-1]
        start = width - 1 - start
    begin = np.clip(np.rint(start), 0, width - 1).astype(int)
    first = int(begin.min())
    outside = values[:, first:] < 0.5
    outside &= np.arange(first, width) >= begin[:, None]
    index = np.arange(len(values))
    found = outside.argmax(axis=1)
    found = np.where(outside[index, found], found + first, width - 1)
    before = np.maximum(found - 1, 0)
    inner, outer = values[index, before], values[index, found]
    crossing = before + np.clip((inner - 0.5) / np.maximum(inner - outer, 1e-6), 0, 1) * (found - before)
    result = np.where(values[index, begin] < 0.5, start, crossing)
    return width - 1 - result if sign < 0 else result


def polyline(y: Array, points: list[Array]) -> Array:
    """Column of the line through `points` at each row, held constant beyond its ends."""
    ordered = sorted(points, key=lambda point: float(point[1]))
    columns: Array = np.interp(y, [point[1] for point in ordered], [point[0] for point in ordered])
    return columns

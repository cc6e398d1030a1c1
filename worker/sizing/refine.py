"""Sharper edges: where the colours change from body to background, within a few pixels of the mask's edge.

The mask has 256 cells for the whole body, about 1 cm each; the picture is three to four times finer.
"""

import numpy as np
from numpy.typing import NDArray

from worker.sizing.rows import Array

#: One step of the search, as a share of the body height: 2.5 mm of a person.
_STEP = 1 / 700
#: Steps from the inside to the outside of the mask's edge; the first and last few tell the two colours.
_STEPS = np.arange(-9, 10)
_INSIDE, _OUTSIDE = 5, 4
#: Rows that average the first and the last few steps.
_ENDS = np.zeros((2, len(_STEPS)), np.float32)
_ENDS[0, :_INSIDE], _ENDS[1, -_OUTSIDE:] = 1 / _INSIDE, 1 / _OUTSIDE
#: Neighbouring rows that decide together, in steps.
_ROWS = np.arange(-2.0, 3.0)
#: Colour distance (of 441) at which the picture counts as much as the mask.
_CONTRAST = 18.0
#: An edge that the picture moves further than this many steps is left where the mask has it.
_LARGEST = 4.0


def refine(pixels: NDArray[np.uint8], y: Array, edge: Array, sign: int, height: float) -> Array:
    """`edge` (columns at rows `y`; outside lies towards `sign`) moved to the change of colour nearby."""
    step = height * _STEP
    rows = y[:, None] + _ROWS * step
    columns = np.interp(rows, y, edge)[..., None] + sign * _STEPS * step
    colours = _sample(pixels, np.broadcast_to(rows[..., None], columns.shape), columns)
    inside, outside = np.split(_ENDS @ colours, 2, axis=2)
    difference = inside - outside
    contrast = _dot(difference, difference)
    share = _dot(colours - outside, difference) / np.maximum(contrast, 1)
    covered = np.clip(share[:, :, _INSIDE:-_OUTSIDE], 0, 1).sum(axis=2)
    weight = contrast[..., 0] ** 2 / (contrast[..., 0] ** 2 + _CONTRAST**4)
    shift = ((_STEPS[_INSIDE] - 0.5 + covered) * weight).sum(axis=1) / (weight.sum(axis=1) + 0.3)
    return np.where(abs(shift) < _LARGEST, edge + sign * shift * step, edge)


def _dot(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scalar products of colours; numpy's own sum over three values takes many times as long."""
    product: NDArray[np.float32] = np.einsum("...c,...c->...", one, other)
    return product


def _sample(pixels: NDArray[np.uint8], y: Array, x: Array) -> NDArray[np.float32]:
    """Colours between pixels, by rows and columns."""
    row = np.clip(np.rint(y), 0, pixels.shape[0] - 1).astype(np.intp)
    x = np.clip(x, 0, pixels.shape[1] - 1.001)
    column = x.astype(np.intp)
    part = (x - column)[..., None].astype(np.float32)
    return pixels[row, column] * (1 - part) + pixels[row, column + 1] * part

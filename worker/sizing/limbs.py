"""Widths of legs and arms along their bones, as shares of the body height."""

import numpy as np
from numpy.typing import NDArray

from worker.sizing.rows import Array, between, edges, polyline
from worker.sizing.silhouette import ANKLES, ELBOWS, HIPS, KNEES, SHOULDERS, WRISTS, Silhouette, middle

_THIGH = np.array([0.2, 0.35, 0.5, 0.7, 0.9])
_CALF = np.array([0.1, 0.2, 0.3, 0.45, 0.6, 0.8])
_BOTH_LEGS = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.7])
_UPPER_ARM = np.array([0.3, 0.5, 0.7, 0.85])
_FOREARM = np.array([0.15, 0.3, 0.5, 0.8])


def legs(silhouette: Silhouette) -> Array:
    """Widths of thighs and calves, mean of both sides, and of both legs together."""
    points, mask = silhouette.pose.landmarks[:, :2], silhouette.pose.mask
    widths: list[float] = []
    for upper, lower, shares in ((HIPS, KNEES, _THIGH), (KNEES, ANKLES, _CALF)):
        sides = []
        for side in (0, 1):
            start, end = points[upper[side]], points[lower[side]]
            y = start[1] + shares * (end[1] - start[1])
            sides.append(between(mask, y, polyline(y, [start, end])))
        widths.extend((sides[0] + sides[1]) / 2)
    y = middle(silhouette.pose, HIPS)[1] + _BOTH_LEGS * (
        middle(silhouette.pose, KNEES)[1] - middle(silhouette.pose, HIPS)[1]
    )
    outer = [
        edges(mask, y, polyline(y, [points[HIPS[side]], points[KNEES[side]]]), sign) for side, sign in ((0, 1), (1, -1))
    ]
    return np.array([*widths, *(outer[0] - outer[1])]) / silhouette.height


def arms(silhouette: Silhouette) -> Array:
    """Widths of upper arms and forearms, mean of both sides."""
    points, mask, height = silhouette.pose.landmarks[:, :2], silhouette.pose.mask, silhouette.height
    steps = np.arange(0, 0.09 * height, max(1.0, height / 700))
    widths: list[float] = []
    for upper, lower, shares in ((SHOULDERS, ELBOWS, _UPPER_ARM), (ELBOWS, WRISTS, _FOREARM)):
        sides = []
        for side, sign in ((0, 1), (1, -1)):
            start, along = points[upper[side]], points[lower[side]] - points[upper[side]]
            outward = np.array([along[1], -along[0]]) / (np.hypot(*along) + 1e-6) * sign
            axis = start + shares[:, None] * along
            outer, inner = (_reach(mask, axis, outward * way, steps) for way in (1, -1))
            # The inner side may be merged with the torso; an arm is nearly symmetric about its bone.
            sides.append(outer + np.minimum(inner, outer * 1.6))
        widths.extend((sides[0] + sides[1]) / 2)
    return np.array(widths) / height


def _reach(mask: NDArray[np.float32], origins: Array, direction: Array, steps: Array) -> Array:
    """Length of the mask from each origin, in pixels."""
    x = np.rint(origins[:, :1] + direction[0] * steps).astype(int).clip(0, mask.shape[1] - 1)
    y = np.rint(origins[:, 1:] + direction[1] * steps).astype(int).clip(0, mask.shape[0] - 1)
    outside = mask[y, x] < 0.5
    reach: Array = np.where(outside.any(axis=1), steps[outside.argmax(axis=1)], steps[-1])
    return reach

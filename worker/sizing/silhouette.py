"""The person's outline, measured row by row in pixels: torso edges without the arms, legs, arms, neck and head."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.sizing.pose import Pose
from worker.sizing.refine import refine
from worker.sizing.rows import Array, edges, polyline

# MediaPipe's numbering; "left" is the person's left, on the right-hand side of the picture.
NOSE, EYES, EARS, MOUTH = 0, (2, 5), (7, 8), (9, 10)
SHOULDERS, ELBOWS, WRISTS, FINGERS = (11, 12), (13, 14), (15, 16), (19, 20)
HIPS, KNEES, ANKLES, HEELS, TOES = (23, 24), (25, 26), (27, 28), (29, 30), (31, 32)

#: Heights on the torso where its edges are traced: 0 = shoulder joints, 1 = hip joints.
TORSO_LEVELS = np.arange(-0.1, 1.6, 0.025)
#: Above this level a merged arm hides the flank by anatomy and its inner side is mirrored; below it is interpolated.
_ARMPIT_LEVEL = 0.6
#: How far the hand reaches beyond the wrist, in lengths wrist to index knuckle.
_HAND_REACH = 1.3
#: Half the width of a hand, as a share of the body height.
_HAND_HALF_WIDTH = 0.028
_SIDES = ((0, 1), (1, -1))


@dataclass(frozen=True)
class Silhouette:
    """All lengths in pixels of the picture; `height` is crown to floor, the scale of everything."""

    pose: Pose
    top: float
    bottom: float
    #: Rows of TORSO_LEVELS, and the torso's edges there: column 0 the person's left (larger x), 1 the right.
    torso_y: Array
    torso_x: Array
    #: Where an arm or a hand touches the torso, so that its edge is mirrored or interpolated.
    hidden: NDArray[np.bool_]
    #: Counterclockwise, by which the picture was turned to bring the head up.
    quarter_turns: int = 0

    @property
    def height(self) -> float:
        return self.bottom - self.top

    @property
    def torso_widths(self) -> Array:
        return self.torso_x[:, 0] - self.torso_x[:, 1]


def trace(pose: Pose, pixels: NDArray[np.uint8]) -> Silhouette | None:
    """Measure the outline of the person in the RGB picture. Return None if the mask holds no body."""
    mask = pose.mask
    rows = mask.max(axis=1)
    inside = np.flatnonzero(rows >= 0.5)
    if inside.size < 2:
        return None
    top = _soft_end(rows, int(inside[0]), -1)
    bottom = _soft_end(rows, int(inside[-1]), 1)
    shoulders, hips = middle(pose, SHOULDERS), middle(pose, HIPS)
    length = hips[1] - shoulders[1]
    if length < 8 or bottom - top < 32:
        return None
    y = shoulders[1] + TORSO_LEVELS * length
    sides = [_torso_side(pose, pixels, y, bottom - top, side, sign) for side, sign in _SIDES]
    return Silhouette(
        pose=pose,
        top=top,
        bottom=bottom,
        torso_y=y,
        torso_x=np.stack([edge for edge, _ in sides], axis=1),
        hidden=np.stack([hidden for _, hidden in sides], axis=1),
    )


def middle(pose: Pose, pair: tuple[int, int]) -> Array:
    """The point between two landmarks, x and y in pixels."""
    point: Array = (pose.landmarks[pair[0], :2] + pose.landmarks[pair[1], :2]) / 2
    return point


def turn(world: Array, pair: tuple[int, int]) -> float:
    """Angle in radians by which the line between two joints is turned away from the picture plane."""
    across = world[pair[0]] - world[pair[1]]
    return float(np.arctan2(across[2], across[0]))


def _soft_end(rows: NDArray[np.float32], index: int, step: int) -> float:
    """Return the place, between pixels, at which the mask's rows cross one half beyond `index`."""
    beyond = index + step
    if not 0 <= beyond < len(rows):
        return float(index)
    return float(index + step * (rows[index] - 0.5) / max(rows[index] - rows[beyond], 1e-6))


def _torso_side(
    pose: Pose, pixels: NDArray[np.uint8], y: Array, height: float, side: int, sign: int
) -> tuple[Array, NDArray[np.bool_]]:
    """One edge of the torso and legs, and where an arm hides it."""
    points = pose.landmarks[:, :2]
    shoulder, elbow, wrist = points[SHOULDERS[side]], points[ELBOWS[side]], points[WRISTS[side]]
    fingertips = wrist + (points[FINGERS[side]] - wrist) * _HAND_REACH
    hips = middle(pose, HIPS)
    # Below the crotch the middle line runs between the legs, so the search starts nearer to this leg.
    start = polyline(y, [middle(pose, SHOULDERS), (hips + points[HIPS[side]]) / 2, points[KNEES[side]]])
    edge = edges(pose.mask, y, start, sign)
    arm = polyline(y, [shoulder, elbow, wrist, fingertips])
    armpit = shoulder[1] + 0.12 * (hips[1] - middle(pose, SHOULDERS)[1])
    merged = ((edge - arm) * sign > 0) & (y < fingertips[1]) & (y > armpit)
    beside_hand = (y > wrist[1] - 0.03 * height) & (y < fingertips[1] + 0.01 * height)
    hand = beside_hand & ((edge - arm) * sign > -_HAND_HALF_WIDTH * height)
    upper = TORSO_LEVELS < _ARMPIT_LEVEL
    # An arm is about as wide on its inner side as on its outer one.
    mirrored = 2 * arm - edge
    mirrored = np.where((mirrored - start) * sign > 0, mirrored, arm)
    edge = np.where(merged & upper, mirrored, edge)
    unknown = (merged | hand) & ~upper
    seen = ~merged & ~unknown
    if seen.any():
        edge[seen] = refine(pixels, y[seen], edge[seen], sign, height)
    known = np.flatnonzero(~unknown)
    if known.size > len(y) // 6:
        edge = np.interp(np.arange(len(y)), known, edge[known])
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(edge, 2, mode="edge"), 5)
    return np.median(windows, axis=1), merged | unknown

"""The numbers that the fitted model reads: widths and lengths of the outline as shares of the body height."""

import numpy as np

from worker.sizing.limbs import arms, legs
from worker.sizing.outline import HIDDEN
from worker.sizing.rows import Array, between, polyline
from worker.sizing.silhouette import (
    ANKLES,
    EARS,
    ELBOWS,
    EYES,
    HEELS,
    HIPS,
    KNEES,
    MOUTH,
    NOSE,
    SHOULDERS,
    TOES,
    TORSO_LEVELS,
    WRISTS,
    Silhouette,
    middle,
    turn,
)

#: Rows that average the traced levels around every second one of them.
_AVERAGES = (abs(TORSO_LEVELS - np.arange(-0.1, 1.56, 0.05)[:, None]) < 0.03).astype(np.float64)
_AVERAGES /= _AVERAGES.sum(axis=1, keepdims=True)
_NECK = np.array([-0.6, -0.2, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8])


def features(silhouette: Silhouette) -> dict[str, float]:
    """All features by name, in a fixed order; the coefficients name the order they were fitted with."""
    found: dict[str, float] = {}
    for name, values in (
        ("torso", _torso(silhouette)),
        ("legs", legs(silhouette)),
        ("arms", arms(silhouette)),
        ("head", _head(silhouette)),
        ("skeleton", _skeleton(silhouette)),
    ):
        found.update({f"{name}_{index}": float(value) for index, value in enumerate(values)})
    found[HIDDEN] = float(silhouette.hidden.mean())
    return found


def _torso(silhouette: Silhouette) -> Array:
    levels, widths = TORSO_LEVELS, silhouette.torso_widths / silhouette.height
    # The same widths at shares of the body height do not depend on where the model puts the joints.
    shares = (silhouette.torso_y - silhouette.top) / silhouette.height
    by_height = np.interp(np.arange(0.2, 0.56, 0.02), shares, widths)
    waist = np.flatnonzero((levels > 0.25) & (levels < 0.9))
    hip = np.flatnonzero((levels > 0.7) & (levels < 1.5))
    narrowest, widest = waist[widths[waist].argmin()], hip[widths[hip].argmax()]
    extremes = [widths[narrowest], levels[narrowest], widths[widest], levels[widest]]
    return np.array([*(_AVERAGES @ widths), *by_height, *extremes, _armpit(silhouette), _shoulder_width(silhouette)])


def _armpit(silhouette: Silhouette) -> float:
    """The torso level down to which the arms are merged with it, mean of both sides."""
    upper = silhouette.hidden & (TORSO_LEVELS < 0.7)[:, None]
    return float(np.where(upper.any(axis=0), np.where(upper, TORSO_LEVELS[:, None], -1).max(axis=0), 0.1).mean())


def _shoulder_width(silhouette: Silhouette) -> float:
    """The widest row across both shoulder muscles."""
    shoulders, hips = middle(silhouette.pose, SHOULDERS), middle(silhouette.pose, HIPS)
    y = shoulders[1] + np.array([0.0, 0.05, 0.1, 0.15, 0.2]) * (hips[1] - shoulders[1])
    return float(between(silhouette.pose.mask, y, np.full(len(y), shoulders[0])).max() / silhouette.height)


def _head(silhouette: Silhouette) -> Array:
    pose = silhouette.pose
    eyes, mouth, shoulders = middle(pose, EYES), middle(pose, MOUTH), middle(pose, SHOULDERS)
    y = np.append(mouth[1] + _NECK * (shoulders[1] - mouth[1]), eyes[1])
    widths = between(pose.mask, y, polyline(y, [eyes, mouth, shoulders])) / silhouette.height
    return np.append(widths, widths[:-1].min())


def _skeleton(silhouette: Silhouette) -> Array:
    """Places of the joints, distances between them, and the turn of the body."""
    pose, height = silhouette.pose, silhouette.height
    points, world = pose.landmarks[:, :2], pose.world
    pairs = (EYES, MOUTH, SHOULDERS, HIPS, KNEES, ANKLES, HEELS, TOES, ELBOWS, WRISTS)
    heights = [(middle(pose, pair)[1] - silhouette.top) / height for pair in pairs]
    spans = [_distance(points, *pair) / height for pair in (SHOULDERS, HIPS, EYES, EARS, KNEES, ANKLES)]
    arm = [
        (_distance(points, upper[0], lower[0]) + _distance(points, upper[1], lower[1])) / 2 / height
        for upper, lower in ((SHOULDERS, ELBOWS), (ELBOWS, WRISTS))
    ]
    spread = np.mean([abs(points[WRISTS[side], 0] - points[SHOULDERS[side], 0]) for side in (0, 1)]) / height
    turned = abs(points[NOSE, 0] - middle(pose, EARS)[0]) / height
    area = 4 * pose.mask[::2, ::2].sum(dtype=np.float64) / height**2
    return np.array([*heights, *spans, *arm, spread, turned, area, *_depth(world)])


def _depth(world: Array) -> Array:
    """Lengths and turns in the model's own metres; they carry little about girth but something about perspective."""

    def centre(pair: tuple[int, int]) -> Array:
        point: Array = (world[pair[0]] + world[pair[1]]) / 2
        return point

    turns = [1 - np.cos(turn(world, pair)) for pair in (SHOULDERS, HIPS)]
    lengths = [
        np.linalg.norm(world[SHOULDERS[0]] - world[SHOULDERS[1]]),
        np.linalg.norm(world[HIPS[0]] - world[HIPS[1]]),
        np.linalg.norm(centre(SHOULDERS) - centre(HIPS)),
        np.linalg.norm(centre(KNEES) - centre(ANKLES)),
    ]
    return np.array([*lengths, *turns, centre(SHOULDERS)[1], world[NOSE, 2], centre(ANKLES)[2], centre(SHOULDERS)[2]])


def _distance(points: Array, first: int, second: int) -> float:
    return float(np.hypot(*(points[first] - points[second])))

"""Checks of a pose: upright, on both feet, frontal, the arms beside the trunk."""

import numpy as np

from worker.sizing.pose import Pose
from worker.sizing.rows import Array, between, polyline
from worker.sizing.silhouette import (
    ANKLES,
    ELBOWS,
    FINGERS,
    HIPS,
    KNEES,
    SHOULDERS,
    TORSO_LEVELS,
    WRISTS,
    Silhouette,
    middle,
    turn,
)

#: Shares of the body height. Of 600 good pictures one in a hundred has shorter thighs than 0.2.
_SHORT_THIGHS = 0.192
_LEAN = 0.08
#: No trunk with both arms is 71 cm wide at 170 cm of height, from the armpits to the hips.
_WIDEST_TRUNK = 0.42
#: Radians by which shoulders or hips may be turned away from the picture plane (35 and 45 degrees).
_TURNED = 0.61
_HIPS_TURNED = 0.79
#: Shoulders seen from the side are turned by 90 degrees, give or take 40.
_SIDEWAYS = 0.77
#: Breadth between the shoulder joints, as a share of the body height and of the trunk's length. People who face the
#: camera have 0.156 and 0.64 and more; people who do not have 0.08 and 0.28 and less. Pictures squeezed out of shape
#: lie between.
_NARROW = 0.135
_NARROW_FOR_TRUNK = 0.5
#: Ankles of people who stand: shares of the body height by which they may differ, and be apart. Good pictures stay
#: below 0.039 and 0.204; people who walk, run or jump are beyond. From the side one foot is nearer to the camera, and
#: up to 0.07 lower.
_STEP, _STRIDE = 0.045, 0.26
#: Hands raised to the shoulders lift the trunk's outline, too.
_RAISED = 0.05
#: Degrees at the knee and the hip of a standing person.
_STRAIGHT = 132.0


def is_impossibly_wide(silhouette: Silhouette) -> bool:
    """Test if an object before the trunk was taken for a part of the body."""
    y = silhouette.torso_y[(TORSO_LEVELS > 0.3) & (TORSO_LEVELS < 1.0)]
    centre = polyline(y, [middle(silhouette.pose, pair) for pair in (SHOULDERS, HIPS)])
    return bool(np.median(between(silhouette.pose.mask, y, centre)) > _WIDEST_TRUNK * silhouette.height)


def is_bent(silhouette: Silhouette, *, front: bool) -> bool:
    """Test for a person who sits, kneels, leans, walks or jumps."""
    pose, height = silhouette.pose, silhouette.height
    across, down = abs(pose.landmarks[ANKLES[0], :2] - pose.landmarks[ANKLES[1], :2]) / height
    hips, knees, shoulders = (middle(pose, pair) for pair in (HIPS, KNEES, SHOULDERS))
    joints = ((HIPS, KNEES, ANKLES), (SHOULDERS, HIPS, KNEES))
    angles = [_angle(pose.world, *(pair[side] for pair in joint)) for joint in joints for side in (0, 1)]
    return bool(
        (knees[1] - hips[1]) / height < _SHORT_THIGHS
        or abs(hips[0] - shoulders[0]) / height > _LEAN
        or min(angles) < _STRAIGHT
        or (front and down > _STEP)
        or across > _STRIDE
    )


def is_turned(silhouette: Silhouette) -> bool:
    """Test if shoulders or hips are turned away from the camera, or too narrow for people who face the camera."""
    points, world = silhouette.pose.landmarks, silhouette.pose.world
    breadth = abs(points[SHOULDERS[0], 0] - points[SHOULDERS[1], 0])
    trunk = middle(silhouette.pose, HIPS)[1] - middle(silhouette.pose, SHOULDERS)[1]
    return bool(
        abs(turn(world, SHOULDERS)) > _TURNED
        or abs(turn(world, HIPS)) > _HIPS_TURNED
        or breadth < _NARROW * silhouette.height
        or breadth < _NARROW_FOR_TRUNK * trunk
    )


def is_sideways(silhouette: Silhouette) -> bool:
    """Test if the shoulders point at the camera and away from it."""
    return bool(abs(np.sin(turn(silhouette.pose.world, SHOULDERS))) > _SIDEWAYS)


def agreement(pose: Pose) -> float:
    """The share of the body's main points that lie inside its mask."""
    points = pose.landmarks[[0, *SHOULDERS, *ELBOWS, *HIPS, *KNEES, *ANKLES], :2]
    height, width = pose.mask.shape
    x = np.clip(np.rint(points[:, 0]), 0, width - 1).astype(int)
    y = np.clip(np.rint(points[:, 1]), 0, height - 1).astype(int)
    return float((pose.mask[y, x] >= 0.5).mean())


def arms_inside(silhouette: Silhouette) -> int:
    """Count the elbows, wrists and knuckles in front of the trunk."""
    points = silhouette.pose.landmarks
    shoulders, hips = middle(silhouette.pose, SHOULDERS), middle(silhouette.pose, HIPS)
    half = abs(points[SHOULDERS[0], 0] - points[SHOULDERS[1], 0]) / 2
    arms = points[[*ELBOWS, *WRISTS, *FINGERS]]
    inside = (abs(arms[:, 0] - shoulders[0]) < 0.8 * half) & (arms[:, 1] > shoulders[1]) & (arms[:, 1] < hips[1])
    return int(inside.sum())


def arms_raised(silhouette: Silhouette) -> bool:
    """Test for a hand as high as the shoulders."""
    wrists = silhouette.pose.landmarks[list(WRISTS), 1].min()
    return bool(wrists - middle(silhouette.pose, SHOULDERS)[1] < _RAISED * silhouette.height)


def is_another(first: Pose, second: Pose) -> bool:
    """Test for a different person, not smaller than a third; the model may also find the same body twice."""
    if second is first or extent(second) < extent(first) / 3:
        return False
    one, other = first.mask[::4, ::4] >= 0.5, second.mask[::4, ::4] >= 0.5
    return bool((one & other).sum() < 0.5 * (one | other).sum())


def extent(pose: Pose) -> float:
    """Height of the pose in pixels."""
    return float(np.ptp(pose.landmarks[:, 1]))


def _angle(world: Array, first: int, joint: int, last: int) -> float:
    one, other = world[first] - world[joint], world[last] - world[joint]
    cosine = one @ other / max(float(np.linalg.norm(one) * np.linalg.norm(other)), 1e-9)
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))

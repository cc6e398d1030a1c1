"""The quality gate: refuses pictures that cannot be measured, with a reason and a hint what to change.

The pose model invents all 33 points for cropped people and finds bodies in noise, so nothing here trusts their
presence alone: points and mask must agree with each other, with the picture's borders and with a standing body.
Thresholds are set by `tests/bench/gate.py` (tables in docs/accuracy.md).
"""

from collections.abc import Callable

import numpy as np
from PIL import Image

from worker.sizing.measurements import Measurements
from worker.sizing.pose import PRESENCE, VISIBILITY, Landmarker, Pose
from worker.sizing.schemas import Reason
from worker.sizing.silhouette import (
    ANKLES,
    ELBOWS,
    EYES,
    FINGERS,
    HEELS,
    HIPS,
    KNEES,
    SHOULDERS,
    TOES,
    WRISTS,
    Array,
    Silhouette,
    middle,
    trace,
    turn,
)

_SENTENCES: dict[Reason, tuple[str, str]] = {
    "no_person": (
        "No person was found in the photo.",
        "Take a photo of one whole person, standing in front of a calm background.",
    ),
    "several_people": (
        "There is more than one person in the photo.",
        "Take a photo with nobody else in it, also not in a mirror or on a poster.",
    ),
    "not_full_body": (
        "The photo does not show the whole body.",
        "Step back until head and feet are in the picture with some space around them.",
    ),
    "side_view": ("The person is turned to the side.", "Face the camera with shoulders and hips."),
    "seated_or_bent": ("The person is not standing upright.", "Stand straight with both feet on the floor."),
    "arms_cover_torso": ("The arms cover the torso.", "Let the arms hang a little away from the body."),
    "too_small": ("The person is too small in the photo.", "Step closer until the body fills most of the height."),
    "too_dark_or_blurred": (
        "The photo is too dark or too blurred.",
        "Use more light, hold the camera still and clean its lens.",
    ),
}

#: The brightest twentieth of a measurable picture is at least this bright (of 255).
_DARK = 30.0
#: Strongest hundredth of second differences over the contrast; a blur of 6 px on 700 px of body gives 0.04, sharp 0.3.
_BLURRED = 0.08
#: Below this many pixels from crown to floor one pixel is more than a centimetre of girth.
MIN_HEIGHT_PX = 250
_LOW_RESOLUTION_PX = 400
_MIN_SIDE_PX = 64
#: Shares of the body height; the 660 rendered bodies lie within 0.18..0.22, above 0.19, above 0.05 and above 0.
_NARROW_SHOULDERS = 0.165
_SHORT_THIGHS = 0.175
_EYES_BELOW_CROWN = 0.04
_HEELS_ABOVE_FLOOR = -0.025
_LEAN = 0.08
#: Radians by which the shoulders may be turned away from the picture plane (35 degrees).
_TURNED = 0.61
#: Degrees at the knee and the hip of somebody who stands.
_STRAIGHT = 125.0


class PhotoRefused(Exception):
    """The picture cannot be measured; the text is for the customer, as is `hint`."""

    def __init__(self, reason: Reason) -> None:
        sentence, self.hint = _SENTENCES[reason]
        super().__init__(sentence)
        self.reason = reason


def check(picture: Image.Image, landmarker: Landmarker) -> Silhouette:
    """The outline of the one person in the picture.

    Raises:
        PhotoRefused: the picture cannot be measured.
    """
    if min(picture.size) < _MIN_SIDE_PX:
        raise PhotoRefused("too_small")
    if _too_dark(picture):
        raise PhotoRefused("too_dark_or_blurred")
    poses = landmarker.detect(picture)
    if not poses:
        raise PhotoRefused(_why_nobody(picture, landmarker))
    pose = max(poses, key=_extent)
    if any(_is_another(pose, other) for other in poses):
        raise PhotoRefused("several_people")
    silhouette = trace(pose, np.asarray(picture))
    if silhouette is None:
        raise PhotoRefused("not_full_body" if _leaves_picture(pose) else "no_person")
    reason = _reason(picture, silhouette)
    if reason:
        raise PhotoRefused(reason)
    return silhouette


def warnings(silhouette: Silhouette, measured: Measurements) -> list[str]:
    """What makes an accepted picture's estimate less certain."""
    found = {
        "arms_touch_torso": float(silhouette.hidden.mean()) > 0.35,
        "unusual_outline": measured.strangeness > 1,
        "low_resolution": silhouette.height < _LOW_RESOLUTION_PX,
    }
    return [code for code, holds in found.items() if holds]


def _reason(picture: Image.Image, silhouette: Silhouette) -> Reason | None:
    """The order matters: whatever is cut off also looks turned, bent or small."""
    pose = silhouette.pose
    limbs = pose.landmarks[[*SHOULDERS, *HIPS, *KNEES, *ANKLES], VISIBILITY]
    checks: tuple[tuple[Reason, Callable[[], bool]], ...] = (
        ("not_full_body", lambda: _leaves_picture(pose) or _is_cut(silhouette)),
        ("too_small", lambda: silhouette.height < MIN_HEIGHT_PX),
        ("too_dark_or_blurred", lambda: _blurred(_body(picture, silhouette))),
        ("seated_or_bent", lambda: _is_bent(silhouette)),
        ("side_view", lambda: _is_turned(silhouette)),
        ("no_person", lambda: _agreement(pose) < 0.7 or float(pose.landmarks[:, VISIBILITY].mean()) < 0.6),
        ("not_full_body", lambda: float(limbs.min()) < 0.5),
        ("arms_cover_torso", lambda: _arms_inside(silhouette) >= 2),
    )
    return next((reason for reason, applies in checks if applies()), None)


def _why_nobody(picture: Image.Image, landmarker: Landmarker) -> Reason:
    """The model overlooks people of less than a third of the height, so look again at parts of the picture."""
    if _blurred(_grey(picture, 512)) and np.asarray(picture.convert("L")).std() > 8:
        return "too_dark_or_blurred"
    width, height = picture.width // 2, picture.height // 2
    for top in range(0, height + 1, max(1, height // 2)):
        for left in range(0, width + 1, max(1, width // 2)):
            part = picture.crop((left, top, left + width, top + height))
            if any(
                _agreement(pose) == 1 and pose.landmarks[:, PRESENCE].min() > 0.9 for pose in landmarker.detect(part)
            ):
                return "too_small"
    return "no_person"


def _too_dark(picture: Image.Image) -> bool:
    return float(np.percentile(_grey(picture, 256), 95)) < _DARK


def _blurred(grey: Array) -> bool:
    if min(grey.shape) < 8:
        return True
    second = abs(4 * grey[1:-1, 1:-1] - grey[2:, 1:-1] - grey[:-2, 1:-1] - grey[1:-1, 2:] - grey[1:-1, :-2])
    low, high = np.percentile(grey, (2, 98))
    return bool(np.percentile(second, 99) < _BLURRED * max(high - low, 1.0))


def _grey(picture: Image.Image, side: int) -> Array:
    share = min(1.0, side / max(picture.size))
    size = (max(1, int(picture.width * share)), max(1, int(picture.height * share)))
    return np.asarray(picture.convert("L").resize(size, Image.Resampling.BOX), dtype=np.float64)


def _body(picture: Image.Image, silhouette: Silhouette) -> Array:
    """The person's part of the picture in grey, about 400 pixels high."""
    columns = np.flatnonzero(silhouette.pose.mask[int(silhouette.top) : int(silhouette.bottom) : 4].max(axis=0) >= 0.5)
    box = (int(columns[0]), int(silhouette.top), int(columns[-1]) + 1, int(silhouette.bottom) + 1)
    return _grey(picture.crop(box), 400)


def _extent(pose: Pose) -> float:
    return float(np.ptp(pose.landmarks[:, 1]))


def _is_another(first: Pose, second: Pose) -> bool:
    """Whether this is somebody else, not smaller than a third, rather than the same body found twice."""
    if second is first or _extent(second) < _extent(first) / 3:
        return False
    one, other = first.mask[::4, ::4] >= 0.5, second.mask[::4, ::4] >= 0.5
    return bool((one & other).sum() < 0.5 * (one | other).sum())


def _leaves_picture(pose: Pose) -> bool:
    """Whether the mask reaches the upper or lower border, or a good part of a side."""
    ends = max(float(pose.mask[:2].max()), float(pose.mask[-2:].max())) >= 0.5
    sides = max(float((pose.mask[:, column] >= 0.5).mean()) for column in (0, -1))
    return ends or sides > 0.05


def _is_cut(silhouette: Silhouette) -> bool:
    """Whether the model puts heels or toes below the mask, or the eyes at its very top."""
    points = silhouette.pose.landmarks
    heels = (silhouette.bottom - points[[*HEELS, *TOES], 1].max()) / silhouette.height
    eyes = (points[list(EYES), 1].min() - silhouette.top) / silhouette.height
    return bool(heels < _HEELS_ABOVE_FLOOR or eyes < _EYES_BELOW_CROWN)


def _is_bent(silhouette: Silhouette) -> bool:
    pose, height = silhouette.pose, silhouette.height
    hips, knees, shoulders = (middle(pose, pair) for pair in (HIPS, KNEES, SHOULDERS))
    joints = ((HIPS, KNEES, ANKLES), (SHOULDERS, HIPS, KNEES))
    angles = [_angle(pose.world, *(pair[side] for pair in joint)) for joint in joints for side in (0, 1)]
    return bool(
        (knees[1] - hips[1]) / height < _SHORT_THIGHS
        or abs(hips[0] - shoulders[0]) / height > _LEAN
        or min(angles) < _STRAIGHT
    )


def _angle(world: Array, first: int, joint: int, last: int) -> float:
    one, other = world[first] - world[joint], world[last] - world[joint]
    cosine = one @ other / max(float(np.linalg.norm(one) * np.linalg.norm(other)), 1e-9)
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def _is_turned(silhouette: Silhouette) -> bool:
    points = silhouette.pose.landmarks
    breadth = abs(points[SHOULDERS[0], 0] - points[SHOULDERS[1], 0]) / silhouette.height
    return bool(breadth < _NARROW_SHOULDERS or abs(turn(silhouette.pose.world, SHOULDERS)) > _TURNED)


def _agreement(pose: Pose) -> float:
    """The share of the body's main points that lie inside its mask."""
    points = pose.landmarks[[0, *SHOULDERS, *ELBOWS, *HIPS, *KNEES, *ANKLES], :2]
    height, width = pose.mask.shape
    x = np.clip(np.rint(points[:, 0]), 0, width - 1).astype(int)
    y = np.clip(np.rint(points[:, 1]), 0, height - 1).astype(int)
    return float((pose.mask[y, x] >= 0.5).mean())


def _arms_inside(silhouette: Silhouette) -> int:
    """How many elbows, wrists and knuckles lie in front of the trunk."""
    points = silhouette.pose.landmarks
    shoulders, hips = middle(silhouette.pose, SHOULDERS), middle(silhouette.pose, HIPS)
    half = abs(points[SHOULDERS[0], 0] - points[SHOULDERS[1], 0]) / 2
    arms = points[[*ELBOWS, *WRISTS, *FINGERS]]
    inside = (abs(arms[:, 0] - shoulders[0]) < 0.8 * half) & (arms[:, 1] > shoulders[1]) & (arms[:, 1] < hips[1])
    return int(inside.sum())

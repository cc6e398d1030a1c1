"""The quality gate: refuses pictures that cannot be measured, with a reason and a hint what to change.

The pose model invents all 33 points for cropped people and finds bodies in noise, so nothing here trusts their
presence alone: points and mask must agree with each other, with the picture's borders and with a standing body.
Thresholds are set by `tests/bench/gate.py` (tables in docs/accuracy.md).
"""

import itertools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worker.sizing.measurements import Measurements
from worker.sizing.photo import Photo
from worker.sizing.pose import PRESENCE, VISIBILITY, Detector, Pose
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

Pixels = NDArray[np.uint8]
Grey = NDArray[np.float32]

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
#: From crown to floor. Smaller people are measured well down to 150 pixels, but found less and less surely.
MIN_HEIGHT_PX = 280
_MIN_SIDE_PX = 64
#: A strip beside the person that is wider than this share of their height may hold somebody else.
_WIDE = 0.55
#: Shares of the body height. Of 600 good pictures one in a hundred lies below 0.18, 0.2, 0.05 and 0.
_NARROW_SHOULDERS = 0.165
_SHORT_THIGHS = 0.192
_EYES_BELOW_CROWN = 0.04
_HEELS_ABOVE_FLOOR = -0.025
_LEAN = 0.08
#: Radians by which the shoulders may be turned away from the picture plane (35 degrees).
_TURNED = 0.61
#: Degrees at the knee and the hip of somebody who stands.
_STRAIGHT = 132.0


class PhotoRefused(Exception):
    """The picture cannot be measured; the text is for the customer, as is `hint`."""

    def __init__(self, reason: Reason) -> None:
        sentence, self.hint = _SENTENCES[reason]
        super().__init__(sentence)
        self.reason = reason


def check(photo: Photo, detector: Detector) -> Silhouette:
    """The outline of the one person in the photo.

    Raises:
        PhotoRefused: it cannot be measured.
    """
    picture = photo.picture
    if min(picture.size) < _MIN_SIDE_PX:
        raise PhotoRefused("too_small")
    pixels = np.asarray(picture)
    if _too_dark(pixels):
        raise PhotoRefused("too_dark_or_blurred")
    poses = detector.detect(pixels)
    silhouette, reason = _judge(photo, pixels, poses, detector) if poses else (None, _why_nobody(pixels, detector))
    if silhouette is None or reason:
        # A blurred picture also looks empty, crowded or cut off.
        unsharp = _blurred(_grey(picture, 512)) and not _is_plain(picture)
        raise PhotoRefused("too_dark_or_blurred" if unsharp and reason != "too_small" else reason or "no_person")
    return silhouette


def _judge(
    photo: Photo, pixels: Pixels, poses: list[Pose], detector: Detector
) -> tuple[Silhouette | None, Reason | None]:
    pose = max(poses, key=_extent)
    if any(_is_another(pose, other) for other in poses) or _somebody_beside(pixels, pose, detector):
        return None, "several_people"
    silhouette = trace(pose, pixels)
    if silhouette is None:
        return None, "not_full_body" if _leaves_picture(pose) else "no_person"
    return silhouette, _reason(photo, silhouette)


def warnings(silhouette: Silhouette, measured: Measurements) -> list[str]:
    """What makes an accepted picture's estimate less certain."""
    found = {
        "arms_touch_torso": float(silhouette.hidden.mean()) > 0.35,
        "loose_clothing": measured.looseness > 1,
        "unusual_outline": measured.strangeness > 1,
    }
    return [code for code, holds in found.items() if holds]


def _reason(photo: Photo, silhouette: Silhouette) -> Reason | None:
    """The order matters: whatever is cut off also looks turned, bent or small."""
    pose = silhouette.pose
    limbs = pose.landmarks[[*SHOULDERS, *HIPS, *KNEES, *ANKLES], VISIBILITY]
    checks: tuple[tuple[Reason, Callable[[], bool]], ...] = (
        ("not_full_body", lambda: _leaves_picture(pose)),
        ("too_small", lambda: silhouette.height * photo.finer < MIN_HEIGHT_PX),
        ("too_dark_or_blurred", lambda: _blurred(_body(photo.picture, silhouette))),
        ("side_view", lambda: _is_turned(silhouette)),
        ("not_full_body", lambda: _is_cut(silhouette)),
        ("seated_or_bent", lambda: _is_bent(silhouette)),
        ("no_person", lambda: _agreement(pose) < 0.7 or float(pose.landmarks[:, VISIBILITY].mean()) < 0.6),
        ("not_full_body", lambda: float(limbs.min()) < 0.5),
        ("arms_cover_torso", lambda: _arms_inside(silhouette) >= 2),
    )
    return next((reason for reason, applies in checks if applies()), None)


def _why_nobody(pixels: Pixels, detector: Detector) -> Reason:
    """The model overlooks people of less than a third of the height, so look again at parts of the picture."""
    for parts in (2, 3):
        height, width = pixels.shape[0] // parts, pixels.shape[1] // parts
        steps = range(2 * parts - 1)
        for row, column in itertools.product(steps, steps):
            top, left = row * height // 2, column * width // 2
            if _shows_person(pixels[top : top + height, left : left + width], detector):
                return "too_small"
    return "no_person"


def _somebody_beside(pixels: Pixels, pose: Pose, detector: Detector) -> bool:
    """Whether somebody smaller stands beside: the model names the largest only. Looks at wide pictures alone."""
    columns = np.flatnonzero(pose.mask[::4].max(axis=0) >= 0.5)
    if not columns.size:
        return False
    height = _extent(pose)
    strips = (pixels[:, : columns[0]], pixels[:, columns[-1] + 1 :])
    return any(strip.shape[1] > _WIDE * height and _shows_person(strip, detector, height / 3) for strip in strips)


def _shows_person(pixels: Pixels, detector: Detector, at_least: float = 0) -> bool:
    """Whether a whole person, at least so many pixels tall, is surely in this part of a picture."""
    if min(pixels.shape[:2]) < _MIN_SIDE_PX // 2:
        return False
    return any(
        _agreement(pose) == 1 and pose.landmarks[:, PRESENCE].min() > 0.9 and _extent(pose) >= at_least
        for pose in detector.detect(pixels)
    )


def _too_dark(pixels: Pixels) -> bool:
    step = max(1, max(pixels.shape) // 128)
    red, green, blue = np.moveaxis(pixels[::step, ::step].astype(np.uint16), 2, 0)
    bright = red + green + blue >= 3 * _DARK
    return bool(np.count_nonzero(bright) < bright.size / 20)


def _blurred(grey: Grey) -> bool:
    if min(grey.shape) < 8:
        return True
    second = abs(4 * grey[1:-1, 1:-1] - grey[2:, 1:-1] - grey[:-2, 1:-1] - grey[1:-1, 2:] - grey[1:-1, :-2]).ravel()
    strong = second.size - 1 - second.size // 100
    # A quarter of the pixels is enough to tell the contrast.
    low, high = np.percentile(grey[::2, ::2], (2, 98))
    return bool(np.partition(second, strong)[strong] < _BLURRED * max(high - low, 1.0))


def _is_plain(picture: Image.Image) -> bool:
    """A bare wall is not blurred."""
    return float(_grey(picture, 256).std()) < 8


def _grey(picture: Image.Image, side: int) -> Grey:
    share = min(1.0, side / max(picture.size))
    size = (max(1, int(picture.width * share)), max(1, int(picture.height * share)))
    return np.asarray(picture.convert("L").resize(size, Image.Resampling.BOX), dtype=np.float32)


def _body(picture: Image.Image, silhouette: Silhouette) -> Grey:
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

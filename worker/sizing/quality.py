"""The quality gate: refuses pictures that cannot be measured, with a reason and a hint what to change.

The pose model invents all 33 points for cropped people and finds bodies in noise, so nothing here trusts their
presence alone: points and mask must agree with each other, with the picture's borders and with a standing body.
Thresholds are set by `tests/bench/gate.py` (tables in docs/accuracy.md).
"""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np

from worker.sizing.answers import Reason
from worker.sizing.framing import is_cut, leaves_picture
from worker.sizing.photo import Photo
from worker.sizing.pose import PRESENCE, VISIBILITY, Detector, Pose
from worker.sizing.posture import (
    agreement,
    arms_inside,
    arms_raised,
    extent,
    is_another,
    is_bent,
    is_impossibly_wide,
    is_sideways,
    is_turned,
)
from worker.sizing.refusals import PhotoRefused
from worker.sizing.sharpness import Pixels, body, grey, is_blurred, is_dark, is_plain
from worker.sizing.silhouette import ANKLES, HIPS, KNEES, SHOULDERS, Silhouette, trace
from worker.sizing.upright import upright

View = Literal["front", "side"]

#: From crown to floor. Smaller people are measured well down to 150 pixels, but found less and less surely.
MIN_HEIGHT_PX = 280
_MIN_SIDE_PX = 64
#: A strip beside the person that is wider than this share of their height may hold another person.
_WIDE = 0.55


def check(photo: Photo, detector: Detector, view: View = "front") -> Silhouette:
    """The outline of the one person in the photo, seen from there; raises PhotoRefused."""
    picture = photo.picture
    if min(picture.size) < _MIN_SIDE_PX:
        raise PhotoRefused("too_small")
    pixels = np.asarray(picture)
    if is_dark(pixels):
        raise PhotoRefused("too_dark_or_blurred")
    photo, poses, quarters = upright(photo, detector.detect(pixels), detector)
    # Each copy of a picture costs half a millisecond.
    pixels = np.asarray(photo.picture) if quarters else pixels
    silhouette, reason = (
        _judge(photo, pixels, poses, detector, view) if poses else (None, _why_nobody(pixels, detector, view))
    )
    if silhouette is None or reason:
        # A blurred picture also looks empty, crowded or cut off.
        unsharp = is_blurred(grey(picture, 512)) and not is_plain(picture)
        raise PhotoRefused("too_dark_or_blurred" if unsharp and reason != "too_small" else reason or "no_person")
    return replace(silhouette, quarter_turns=quarters)


def _judge(
    photo: Photo, pixels: Pixels, poses: list[Pose], detector: Detector, view: View
) -> tuple[Silhouette | None, Reason | None]:
    pose = max(poses, key=extent)
    if any(is_another(pose, other) for other in poses) or _somebody_beside(pixels, pose, detector):
        return None, "several_people"
    silhouette = trace(pose, pixels)
    if silhouette is None:
        return None, "not_full_body" if leaves_picture(pose) else "no_person"
    return silhouette, _reason(photo, silhouette, view)


def _reason(photo: Photo, silhouette: Silhouette, view: View) -> Reason | None:
    """Return the first reason. The order matters: a cut body also looks turned, bent or small."""
    pose, front = silhouette.pose, view == "front"
    limbs = pose.landmarks[[*SHOULDERS, *HIPS, *KNEES, *ANKLES], VISIBILITY]
    checks: tuple[tuple[Reason, Callable[[], bool]], ...] = (
        ("not_full_body", lambda: leaves_picture(pose)),
        ("too_small", lambda: silhouette.height * photo.finer < MIN_HEIGHT_PX),
        ("too_dark_or_blurred", lambda: is_blurred(body(photo.picture, silhouette))),
        ("side_view", lambda: is_turned(silhouette) if front else not is_sideways(silhouette)),
        ("not_full_body", lambda: is_cut(silhouette)),
        ("seated_or_bent", lambda: is_bent(silhouette, front=front)),
        ("no_person", lambda: agreement(pose) < 0.7),
        # From the side one half of the body hides the other.
        ("no_person", lambda: front and float(pose.landmarks[:, VISIBILITY].mean()) < 0.6),
        ("not_full_body", lambda: front and float(limbs.min()) < 0.5),
        ("arms_cover_torso", lambda: front and (arms_inside(silhouette) >= 2 or arms_raised(silhouette))),
        ("arms_cover_torso", lambda: front and is_impossibly_wide(silhouette)),
    )
    return next((reason for reason, applies in checks if applies()), None)


def _why_nobody(pixels: Pixels, detector: Detector, view: View) -> Reason:
    """Look again at parts of the picture: the model overlooks people of less than a third of its height.

    A photo from the side is not worth so many inferences.
    """
    for parts in (2, 3) if view == "front" else ():
        height, width = pixels.shape[0] // parts, pixels.shape[1] // parts
        steps = range(2 * parts - 1)
        for row, column in itertools.product(steps, steps):
            top, left = row * height // 2, column * width // 2
            if _shows_person(pixels[top : top + height, left : left + width], detector):
                return "too_small"
    return "no_person"


def _somebody_beside(pixels: Pixels, pose: Pose, detector: Detector) -> bool:
    """Test if a smaller person stands beside: the model names the largest only. Looks at wide pictures alone."""
    columns = np.flatnonzero(pose.mask[::4].max(axis=0) >= 0.5)
    if not columns.size:
        return False
    height = extent(pose)
    strips = (pixels[:, : columns[0]], pixels[:, columns[-1] + 1 :])
    return any(strip.shape[1] > _WIDE * height and _shows_person(strip, detector, height / 3) for strip in strips)


def _shows_person(pixels: Pixels, detector: Detector, at_least: float = 0) -> bool:
    """Test if a whole person, at least so many pixels tall, is surely in this part of a picture."""
    if min(pixels.shape[:2]) < _MIN_SIDE_PX // 2:
        return False
    return any(
        agreement(pose) == 1 and pose.landmarks[:, PRESENCE].min() > 0.9 and extent(pose) >= at_least
        for pose in detector.detect(pixels)
    )

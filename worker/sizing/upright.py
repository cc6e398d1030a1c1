"""Pictures that lie on their side or stand on their head, as chats and editors make them: they lose the EXIF turn."""

from dataclasses import replace

import numpy as np
from PIL import Image

from worker.sizing.photo import Photo
from worker.sizing.pose import PRESENCE, Detector, Pose
from worker.sizing.posture import agreement
from worker.sizing.silhouette import ANKLES, SHOULDERS, middle

_TURNS = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)
#: Ankles are so many times farther below the shoulders than beside them, of people who stand.
_STEEP = 1.5


def upright(photo: Photo, poses: list[Pose], detector: Detector) -> tuple[Photo, list[Pose], int]:
    """The photo with the head up, the people in it, and the quarter turns (counterclockwise) that this took.

    The photo stays as it is where no turn shows a whole person with the head up.
    """
    quarters = 0 if not poses or any(_stands(pose) for pose in poses) else _quarters(poses[0])
    if quarters:
        turned = replace(photo, picture=photo.picture.transpose(_TURNS[quarters - 1]))
        found = detector.detect(np.asarray(turned.picture))
        if any(_stands(pose) and _is_sure(pose) for pose in found):
            return turned, found, quarters
    return photo, poses, 0


def _stands(pose: Pose) -> bool:
    across, down = _trunk(pose)
    return down > _STEEP * abs(across)


def _quarters(pose: Pose) -> int:
    """The turn that a body asks for; the model finds lying and inverted people, too."""
    across, down = _trunk(pose)
    if abs(across) > _STEEP * abs(down):
        return 3 if across > 0 else 1
    return 2 if down < -_STEEP * abs(across) else 0


def _trunk(pose: Pose) -> tuple[float, float]:
    """Return the way from the shoulders to the ankles, in pixels to the right and down."""
    across, down = middle(pose, ANKLES) - middle(pose, SHOULDERS)
    return float(across), float(down)


def _is_sure(pose: Pose) -> bool:
    return agreement(pose) >= 0.9 and float(pose.landmarks[:, PRESENCE].min()) > 0.8

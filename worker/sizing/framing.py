"""Checks of a pose: the whole body inside the picture."""

from worker.sizing.pose import Pose
from worker.sizing.posture import extent
from worker.sizing.silhouette import EYES, HEELS, TOES, Silhouette

#: Shares of the body height. Of 600 good pictures one in a hundred lies below 0.05 and 0.
_EYES_BELOW_CROWN = 0.04
_HEELS_ABOVE_FLOOR = -0.025
#: Of pictures that end at the soles, nine in ten have more; of pictures that end 3 % higher, one in ten.
_TOES_ABOVE_BORDER, _HEELS_ABOVE_BORDER = 0.002, 0.043


def leaves_picture(pose: Pose) -> bool:
    """Test if the mask reaches the upper or lower border, or a good part of a side; whole shoes may touch it."""
    top, bottom = float(pose.mask[:2].max()) >= 0.5, float(pose.mask[-2:].max()) >= 0.5
    sides = max(float((pose.mask[:, column] >= 0.5).mean()) for column in (0, -1))
    return top or sides > 0.05 or (bottom and not _shows_feet(pose))


def _shows_feet(pose: Pose) -> bool:
    """Test if heels and toes are in the picture, the heels as far from its border as soles and perspective put them."""
    border = pose.mask.shape[0]
    toes, heels = (border - pose.landmarks[list(pair), 1].max() for pair in (TOES, HEELS))
    return bool(toes >= _TOES_ABOVE_BORDER * extent(pose) and heels >= _HEELS_ABOVE_BORDER * extent(pose))


def is_cut(silhouette: Silhouette) -> bool:
    """Test if the model puts heels or toes below the mask, or the eyes at its very top."""
    points = silhouette.pose.landmarks
    heels = (silhouette.bottom - points[[*HEELS, *TOES], 1].max()) / silhouette.height
    eyes = (points[list(EYES), 1].min() - silhouette.top) / silhouette.height
    return bool(heels < _HEELS_ABOVE_FLOOR or eyes < _EYES_BELOW_CROWN)

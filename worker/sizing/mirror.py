"""One of a picture and its mirror, always the same one, so that both get the same answer.

The pose model puts its points and its mask elsewhere in a mirrored picture, and girths differ by 1.5 cm in the median.
"""

from dataclasses import replace

import numpy as np
from PIL import Image

from worker.sizing.photo import Photo
from worker.sizing.pose import Pose, X
from worker.sizing.silhouette import Silhouette

#: The model's points with left and right exchanged: the nose, six of the eyes, two ears, two of the mouth, 22 below.
_EXCHANGED = [0, 4, 5, 6, 1, 2, 3, 8, 7, 10, 9, *(index + 1 if index % 2 else index - 1 for index in range(11, 33))]
#: Rows that are averaged before their columns are added up, for speed.
_ROWS = 8


def one_of_both(photo: Photo) -> tuple[Photo, bool]:
    """The photo with its brighter half on the left, and true where it had to be mirrored for that."""
    columns = np.asarray(photo.picture.getchannel("G").reduce((1, _ROWS))).sum(axis=0, dtype=np.int64)
    left_before_right = (columns - columns[::-1])[: len(columns) // 2]
    is_mirrored = bool(left_before_right.sum() < 0)
    return (mirrored(photo) if is_mirrored else photo), is_mirrored


def mirrored(photo: Photo) -> Photo:
    """The photo with left and right exchanged."""
    return replace(photo, picture=photo.picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT))


def mirror(silhouette: Silhouette) -> Silhouette:
    """The same outline in the mirrored picture."""
    pose = silhouette.pose
    width = pose.mask.shape[1]
    landmarks, world = pose.landmarks[_EXCHANGED], pose.world[_EXCHANGED]
    landmarks[:, X], world[:, X] = width - landmarks[:, X], -world[:, X]
    return replace(
        silhouette,
        pose=Pose(landmarks, world, pose.mask[:, ::-1]),
        torso_x=width - 1 - silhouette.torso_x[:, ::-1],
        hidden=silhouette.hidden[:, ::-1],
        quarter_turns=-silhouette.quarter_turns % 4,
    )

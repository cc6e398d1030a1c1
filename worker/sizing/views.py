"""The numbers that the photos of one person give: the outline from the front, depths from the side."""

from collections.abc import Callable
from dataclasses import replace

from PIL import Image

from worker.errors import ImageError
from worker.sizing.depths import depths
from worker.sizing.features import features
from worker.sizing.measurements import Measurer
from worker.sizing.outline import Reading
from worker.sizing.photo import Photo
from worker.sizing.pose import Detector
from worker.sizing.quality import check
from worker.sizing.refusals import PhotoRefused
from worker.sizing.rows import Array
from worker.sizing.silhouette import Silhouette

#: Reads the photo from the side, or raises the error of its download.
SidePhoto = Callable[[], Photo]


def from_front(photo: Photo, height_cm: float, detector: Detector, measurer: Measurer) -> tuple[Silhouette, Reading]:
    """The outline and its reading. One that looks clothed is measured in the mirror, too, and the mean counts.

    The mirrors of such pictures differ by up to 10 cm; in tight clothing by 1 to 2 cm, not worth a second inference.

    Raises:
        PhotoRefused: the photo cannot be measured.
    """
    silhouette = check(photo, detector)
    found = features(silhouette)
    reading = measurer.outline.read(found, height_cm)
    if reading.clothing == 0:
        return silhouette, reading
    mirrored = replace(photo, picture=photo.picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    try:
        other = features(check(mirrored, detector))
    except PhotoRefused:
        return silhouette, reading
    mean = {name: (value + other[name]) / 2 for name, value in found.items()}
    return silhouette, measurer.outline.read(mean, height_cm)


def from_side(read: SidePhoto, height_cm: float, detector: Detector) -> tuple[Array | None, str]:
    """Depths of chest, waist and hip; or None and a sentence that says why the photo cannot be used."""
    try:
        return depths(check(read(), detector, "side"), height_cm), ""
    except PhotoRefused as error:
        return None, "The person is not turned to the side." if error.reason == "side_view" else str(error)
    except ImageError as error:
        return None, str(error)

"""The numbers that the photos of one person give: the outline from the front, depths from the side."""

from collections.abc import Callable

from worker.errors import ImageError
from worker.sizing.depths import depths
from worker.sizing.features import features
from worker.sizing.measurements import Measurer
from worker.sizing.mirror import mirror, mirrored, one_of_both
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
    """The outline and its reading, the same for the photo and its mirror; raises PhotoRefused.

    An outline that looks clothed is measured in both, and the mean counts: there they differ by up to 10 cm. In tight
    clothing the mean is no better than one of them, and not worth a second inference.
    """
    seen, is_mirrored = one_of_both(photo)
    silhouette = check(seen, detector)
    reading = _read(seen, silhouette, height_cm, detector, measurer)
    return (mirror(silhouette) if is_mirrored else silhouette), reading


def _read(photo: Photo, silhouette: Silhouette, height_cm: float, detector: Detector, measurer: Measurer) -> Reading:
    found = features(silhouette)
    reading = measurer.outline.read(found, height_cm)
    if reading.clothing == 0:
        return reading
    try:
        other = features(check(mirrored(photo), detector))
    except PhotoRefused:
        return reading
    mean = {name: (value + other[name]) / 2 for name, value in found.items()}
    return measurer.outline.read(mean, height_cm)


def from_side(read: SidePhoto, height_cm: float, detector: Detector) -> tuple[Array | None, str]:
    """Depths of chest, waist and hip; or None and a sentence that says why the photo cannot be used."""
    try:
        return depths(check(one_of_both(read())[0], detector, "side"), height_cm), ""
    except PhotoRefused as error:
        return None, "The person is not turned to the side." if error.reason == "side_view" else str(error)
    except ImageError as error:
        return None, str(error)

"""A customer's photo as it is measured: upright, and only as large as the pose model can make use of."""

from dataclasses import dataclass

from PIL import Image

from worker.photos.decode import decode_and_measure

#: The model sees 256 pixels of the body; at twice that the errors are those of 1024 pixels, in a third of the time.
MEASURED_SIDE = 512
#: More pixels than these say nothing more about how well a small person can be seen.
JUDGED_SIDE = 1024


@dataclass(frozen=True)
class Photo:
    """The picture, longest side at most MEASURED_SIDE."""

    picture: Image.Image
    #: How many pixels of the original, counted up to JUDGED_SIDE, one pixel of the picture stands for.
    finer: float


def read(data: bytes) -> Photo:
    """Decode an encoded photo; raises what `worker.photos.decode.normalise` does."""
    picture, side = decode_and_measure(data, MEASURED_SIDE)
    return _photo(picture, side)


def reduce(picture: Image.Image) -> Photo:
    """Reduce a decoded picture to the photo that is measured."""
    share = MEASURED_SIDE / max(picture.size)
    if share >= 1:
        return _photo(picture, max(picture.size))
    size = (max(1, round(picture.width * share)), max(1, round(picture.height * share)))
    return _photo(picture.resize(size, Image.Resampling.BOX), max(picture.size))


def _photo(picture: Image.Image, side: int) -> Photo:
    return Photo(picture, min(side, JUDGED_SIDE) / max(picture.size))

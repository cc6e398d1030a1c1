"""Darkness and blur of a picture."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worker.sizing.silhouette import Silhouette

Pixels = NDArray[np.uint8]
Grey = NDArray[np.float32]

#: The brightest twentieth of a measurable picture is at least this bright (of 255).
_DARK = 30.0
#: Strongest hundredth of second differences over the contrast; a blur of 6 px on 700 px of body gives 0.04, sharp 0.3.
_BLURRED = 0.08


def is_dark(pixels: Pixels) -> bool:
    step = max(1, max(pixels.shape) // 128)
    red, green, blue = np.moveaxis(pixels[::step, ::step].astype(np.uint16), 2, 0)
    bright = red + green + blue >= 3 * _DARK
    return bool(np.count_nonzero(bright) < bright.size / 20)


def is_blurred(picture: Grey) -> bool:
    if min(picture.shape) < 8:
        return True
    second = abs(
        4 * picture[1:-1, 1:-1] - picture[2:, 1:-1] - picture[:-2, 1:-1] - picture[1:-1, 2:] - picture[1:-1, :-2]
    )
    # A quarter of the pixels is enough to tell the contrast.
    low, high = np.percentile(picture[::2, ::2], (2, 98))
    strong = second >= _BLURRED * max(high - low, 1.0)
    return bool(np.count_nonzero(strong) <= second.size // 100)


def is_plain(picture: Image.Image) -> bool:
    """Return True for a picture of little contrast: a bare wall is not blurred."""
    return float(grey(picture, 256).std()) < 8


def body(picture: Image.Image, silhouette: Silhouette) -> Grey:
    """The person's part of the picture in grey, about 400 pixels high."""
    columns = np.flatnonzero(silhouette.pose.mask[int(silhouette.top) : int(silhouette.bottom) : 4].max(axis=0) >= 0.5)
    box = (int(columns[0]), int(silhouette.top), int(columns[-1]) + 1, int(silhouette.bottom) + 1)
    return grey(picture.crop(box), 400)


def grey(picture: Image.Image, side: int) -> Grey:
    share = min(1.0, side / max(picture.size))
    size = (max(1, int(picture.width * share)), max(1, int(picture.height * share)))
    return np.asarray(picture.convert("L").resize(size, Image.Resampling.BOX), dtype=np.float32)

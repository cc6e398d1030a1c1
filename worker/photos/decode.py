"""Decode, turn upright, resize, encode; both halves of the worker read every picture through this module.

The functions are synchronous and spend their time in C code without the interpreter lock: call them from a small thread
pool. A 12-megapixel phone JPEG costs about 30 ms and 3 MB beside its own bytes, because libjpeg decodes it at a
quarter of its size. What has to be decoded whole is limited further and takes turns: one picture needs up to 240 MB.
"""

from io import BytesIO
from typing import NamedTuple

from PIL import ExifTags, Image, ImageFile

from worker.errors import ImageInvalid, ImageTooManyPixels
from worker.photos import jpeg
from worker.photos.colour import to_srgb
from worker.photos.modes import on_white, smooth
from worker.photos.opening import WHOLE, opened

MAX_SIDE = 1024
#: How small a reduced decode may come out before the next larger one is taken and resized: the 4032, 4000 or 4080
#: pixels of phones become 1008, 1000 or 1020 instead of 1024, in half the time.
REDUCED_ENOUGH = 1000 / 1024
JPEG_QUALITY = 90

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Decoded(NamedTuple):
    """An upright sRGB image in mode RGB, and the longest side of what it was made from."""

    image: Image.Image
    original_side: int


def normalise(data: bytes, max_side: int = MAX_SIDE) -> bytes:
    """`data` as an upright sRGB JPEG without metadata, longest side at most `max_side`, never enlarged.

    Raises ImageTooLarge for more pixels, or a costlier encoding of them, than we decode, and ImageInvalid.
    """
    return _encode(decode(data, max_side))


def decode(data: bytes, max_side: int = MAX_SIDE) -> Image.Image:
    """`data` as an upright sRGB image in mode RGB, longest side at most `max_side`; raises what `normalise` does."""
    return decode_and_measure(data, max_side).image


def decode_and_measure(data: bytes, max_side: int = MAX_SIDE) -> Decoded:
    """Decode as `decode` does, and measure the longest side before."""
    try:
        return _decoded(data, max_side)
    except ImageInvalid:
        if not data.startswith(jpeg.MAGIC):
            raise
        return _decoded(_completed(data), max_side)


def to_jpeg(data: bytes) -> bytes:
    """`data` as a complete JPEG: a JPEG passes through, anything else is converted; raises what `normalise` does."""
    if not data.startswith(jpeg.MAGIC):
        with opened(data) as (image, _):
            longest = max(image.size)
        return normalise(data, longest)
    try:
        _reduced(data, 8)
        return data
    except ImageInvalid:
        return _completed(data)


def _decoded(data: bytes, max_side: int) -> Decoded:
    with opened(data) as (image, colours):
        original_side = max(image.size)
        target = _fit(image.size, max_side)
        image.draft(None, _fit(image.size, max(1, int(max_side * REDUCED_ENOUGH))))
        _load(image, data)
        small = smooth(image)
        if max(small.size) > max_side:
            # Between box and bicubic in time (18 ms for 3 megapixels), and sharp; a coarse first step above 3 x.
            small = small.resize(target, Image.Resampling.HAMMING, reducing_gap=1.5)
        upright = to_srgb(on_white(small), colours)
        if (turn := _turn(image)) is not None:
            upright = upright.transpose(turn)
        if upright is image:
            upright = image.copy()  # no file, no metadata behind it
        upright.info = {}
        return Decoded(upright, original_side)


def _completed(data: bytes) -> bytes:
    """Complete a JPEG that lacks only its end; raise ImageInvalid if it lacks more."""
    # Only at its full size does a picture show the last of several scans.
    progressive = jpeg.coefficient_bytes(data) > 0
    reduction = 1 if progressive else 8
    ended, padded = jpeg.endings(data)
    if progressive and not jpeg.has_every_scan(data):
        raise ImageInvalid("Image is incomplete: it ends before its last scan.")
    if _reduced(ended, reduction).tobytes() != _reduced(padded, reduction).tobytes():
        raise ImageInvalid("Image is incomplete: it ends before its last row.")
    return ended


def _reduced(data: bytes, reduction: int) -> Image.Image:
    """Decode every byte of the picture, but perhaps to a smaller size."""
    with opened(data) as (image, _):
        if reduction == 1 and image.width * image.height > WHOLE["PNG"][0]:
            has, limit = image.width * image.height / 1e6, WHOLE["PNG"][0] / 1e6
            raise ImageTooManyPixels(
                f"Progressive JPEG without its end has {has:.1f} megapixels; the limit is {limit:.1f}."
            )
        image.draft(None, (max(1, image.width // reduction), max(1, image.height // reduction)))
        _load(image, data)
        return image.copy()


def _load(image: ImageFile.ImageFile, data: bytes) -> None:
    # In one call, not in 64 kB pieces, between which the thread would have to get the interpreter lock again.
    image.decodermaxblock = len(data)
    image.load()


def _fit(size: tuple[int, int], side: int) -> tuple[int, int]:
    scale = min(1.0, side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _turn(image: Image.Image) -> Image.Transpose | None:
    """The transposition that brings the picture upright, if any."""
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        # Broken metadata is no reason to refuse a sound picture.
        return None


def _encode(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()

"""Decode, turn upright, resize, encode; both halves of the worker read every picture through this module.

The functions are synchronous and spend their time in C code without the interpreter lock: call them from a small thread
pool. A 12-megapixel phone JPEG costs about 30 ms and 3 MB beside its own bytes, because libjpeg decodes it at a
quarter of its size. What has to be decoded whole is limited further and takes turns: one of it needs up to 240 MB.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from io import BytesIO

from PIL import ExifTags, Image, ImageCms, ImageFile, UnidentifiedImageError

from worker.errors import ImageError, ImageInvalid, ImageTooLarge
from worker.photos import jpeg

MAX_SIDE = 1024
#: Every phone's largest mode (48 and 50 megapixels) as JPEG, which is decoded at reduced size.
MAX_JPEG_PIXELS = 51_000_000
#: What is decoded whole: pixels at most, and bytes per pixel at its peak, the libraries' own buffers included.
WHOLE = {"PNG": (16_800_000, 9), "WEBP": (12_600_000, 19), "AVIF": (12_600_000, 13)}
#: A progressive JPEG keeps all its coefficients: 144 MB for 48 megapixels with halved chroma.
MAX_COEFFICIENT_BYTES = 160_000_000
#: Decodes that need more memory than this run one at a time.
HEAVY_BYTES = 64_000_000
#: How small a reduced decode may come out before the next larger one is taken and resized: the 4032, 4000 or 4080
#: pixels of phones become 1008, 1000 or 1020 instead of 1024, in half the time.
REDUCED_ENOUGH = 1000 / 1024
JPEG_QUALITY = 90
#: Colour profiles larger than this are print profiles with tables that cost more than the picture.
MAX_PROFILE_BYTES = 1_000_000

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF")
_SRGB = ImageCms.createProfile("sRGB")
_heavy = threading.Lock()

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def normalise(data: bytes, max_side: int = MAX_SIDE) -> bytes:
    """`data` as an upright sRGB JPEG without metadata, longest side at most `max_side`, never enlarged.

    Raises:
        ImageTooLarge: more pixels, or a costlier encoding of them, than we decode.
        ImageInvalid: incomplete, damaged, or none of JPEG, PNG, WebP and AVIF.
    """
    return _encode(decode(data, max_side))


def decode(data: bytes, max_side: int = MAX_SIDE) -> Image.Image:
    """`data` as an upright sRGB image in mode RGB, longest side at most `max_side`; raises what `normalise` does."""
    with _opened(data) as image:
        target = _fit(image.size, max_side)
        image.draft(None, _fit(image.size, max(1, int(max_side * REDUCED_ENOUGH))))
        # In one call, not in 64 kB pieces, between which the thread would have to get the interpreter lock again.
        image.decodermaxblock = len(data)
        image.load()
        small = _smooth(image)
        if max(small.size) > max_side:
            # Between box and bicubic in time (18 ms for 3 megapixels), and sharp; a coarse first step above 3 x.
            small = small.resize(target, Image.Resampling.HAMMING, reducing_gap=1.5)
        upright = _rgb(small)
        if (turn := _turn(image)) is not None:
            upright = upright.transpose(turn)
        if upright is image:
            upright = image.copy()  # no file, no metadata behind it
        upright.info = {}
        return upright


def to_jpeg(data: bytes) -> bytes:
    """`data` as a JPEG that is known to be complete: a JPEG passes through unchanged, anything else is converted.

    Raises:
        ImageInvalid, ImageTooLarge: as `normalise` does.
    """
    with _opened(data) as image:
        longest = max(image.size)
        if data.startswith(jpeg.MAGIC):
            # Reads every byte of the picture, but makes only a thumbnail of it.
            image.draft("L", (max(1, image.width // 8), max(1, image.height // 8)))
            image.load()
            return data
    return normalise(data, longest)


@contextmanager
def _opened(data: bytes) -> Iterator[ImageFile.ImageFile]:
    """The image, not decoded yet and known to be affordable; what goes wrong inside becomes an ImageError."""
    try:
        kept = jpeg.coefficient_bytes(data) if data.startswith(jpeg.MAGIC) else None
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            pixels = image.width * image.height
            limit, bytes_per_pixel = WHOLE[image.format or ""] if kept is None else (MAX_JPEG_PIXELS, 0)
            if pixels > limit:
                raise ImageTooLarge(f"Image has {pixels / 1e6:.1f} megapixels; the limit is {limit / 1e6:.1f}.")
            if kept and kept > MAX_COEFFICIENT_BYTES:
                raise ImageTooLarge(f"Progressive JPEG has {pixels / 1e6:.1f} megapixels, too many for its encoding.")
            with _heavy if pixels * bytes_per_pixel + (kept or 0) > HEAVY_BYTES else nullcontext():
                yield image
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageInvalid("Data is no JPEG, PNG, WebP or AVIF image.") from None
    except (MemoryError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLarge("Image is too large to decode.") from error
    except Exception as error:
        # Damaged files make Pillow raise OSError, SyntaxError, ValueError, struct.error, EOFError, KeyError...
        raise ImageInvalid(f"Image is damaged or incomplete: {error}") from error


def _fit(size: tuple[int, int], side: int) -> tuple[int, int]:
    scale = min(1.0, side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What brings the picture upright, if anything."""
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        # Broken metadata is no reason to refuse a sound picture.
        return None


def _smooth(image: Image.Image) -> Image.Image:
    """`image` in a mode that resizes without loss: L, RGB, RGBA or CMYK."""
    if image.mode.startswith("I"):
        # 16 bits of grey; `convert` alone would clip them instead of scaling.
        return image.point(lambda value: value * (1 / 257)).convert("L")
    mode = "RGBA" if image.has_transparency_data else {"1": "L", "P": "RGB"}.get(image.mode, image.mode)
    return image if mode == image.mode else image.convert(mode)


def _rgb(image: Image.Image) -> Image.Image:
    """`image` on white, in sRGB."""
    profile = image.info.get("icc_profile", b"")
    if image.mode == "RGBA":
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image)
        image = white
    if profile and len(profile) <= MAX_PROFILE_BYTES and (transform := _to_srgb(profile, image.mode)):
        converted = ImageCms.applyTransform(image, transform)
        assert converted is not None  # noqa: S101  # not in place
        return converted
    return image if image.mode == "RGB" else image.convert("RGB")


@lru_cache(maxsize=8)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """How to get from `profile` to sRGB; None when it is sRGB, does not belong to `mode` or is broken."""
    try:
        source = ImageCms.getOpenProfile(BytesIO(profile))
        if source.profile.xcolor_space.strip() != {"L": "GRAY"}.get(mode, mode):
            return None
        if "srgb" in (source.profile.profile_description or "").lower():
            return None
        return ImageCms.buildTransform(source, _SRGB, mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None


def _encode(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()

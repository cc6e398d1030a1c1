"""A picture opened for the decoder: its format by its bytes, oddities beside its pixels put away, its cost known."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from io import BytesIO

from PIL import Image, ImageFile, UnidentifiedImageError

from worker.errors import ImageError, ImageInvalid, ImageTooLarge, ImageTooManyPixels
from worker.photos import bmff, jpeg, png, webp
from worker.photos.colour import Colours

#: Every phone's largest mode (48 and 50 megapixels) as JPEG, which is decoded at reduced size.
MAX_JPEG_PIXELS = 51_000_000
#: What is decoded whole: pixels at most, and bytes per pixel at its peak, the libraries' own buffers included.
WHOLE = {"PNG": (16_800_000, 9), "WEBP": (12_600_000, 19), "AVIF": (12_600_000, 13), "HEIF": (25_000_000, 9)}
#: A progressive JPEG keeps all its coefficients: 144 MB for 48 megapixels with halved chroma.
MAX_COEFFICIENT_BYTES = 160_000_000
#: Decodes that need more memory than this run one at a time.
HEAVY_BYTES = 64_000_000

_heavy = threading.Lock()


@contextmanager
def opened(data: bytes) -> Iterator[tuple[ImageFile.ImageFile, Colours]]:
    """The image, not decoded yet and known to be affordable; what goes wrong inside becomes an ImageError."""
    try:
        kind, data, colours = _readable(data)
        kept = jpeg.coefficient_bytes(data) if kind == "JPEG" else None
        with _open(kind, data) as image:
            _check(image, kept)
            _, bytes_per_pixel = WHOLE.get(kind, (0, 0))
            cost = image.width * image.height * bytes_per_pixel + (kept or 0)
            with _heavy if cost > HEAVY_BYTES else nullcontext():
                yield image, colours or _declared(image, data)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageInvalid("Data is no JPEG, PNG, WebP, AVIF or HEIC image.") from None
    except (MemoryError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLarge("Image is too large to decode.") from error
    except Exception as error:
        # Damaged files make Pillow raise OSError, SyntaxError, ValueError, struct.error, EOFError, KeyError...
        raise ImageInvalid(f"Image is damaged or incomplete: {error}") from error


def _readable(data: bytes) -> tuple[str, bytes, Colours | None]:
    """The format, the bytes for the decoder, and the colours where only we can read them."""
    if data.startswith(jpeg.MAGIC):
        return "JPEG", data, None
    if data.startswith(png.MAGIC):
        return "PNG", *png.bare(data)
    if webp.is_webp(data):
        return "WEBP", webp.bare(data), None
    if kind := bmff.kind(data):
        return kind, bmff.without_exif(data), None
    raise ImageInvalid("Data is no JPEG, PNG, WebP, AVIF or HEIC image.")


def _open(kind: str, data: bytes) -> ImageFile.ImageFile:
    if kind == "HEIF":
        _load_heif()
    try:
        return Image.open(BytesIO(data), formats=(kind,))
    except UnidentifiedImageError:
        if kind != "JPEG":
            raise
        return Image.open(BytesIO(jpeg.without_metadata(data)), formats=(kind,))


def _load_heif() -> None:
    from pi_heif import register_heif_opener  # noqa: PLC0415  # 7 MB that only HEIC needs

    if "HEIF" not in Image.OPEN:
        # One thread, like every other decoder here: other pictures use the other cores.
        register_heif_opener(decode_threads=1, thumbnails=False, depth_images=False, aux_images=False)


def _check(image: ImageFile.ImageFile, kept: int | None) -> None:
    kind = "JPEG" if kept is not None else image.format or ""
    pixels = image.width * image.height
    limit = MAX_JPEG_PIXELS if kept is not None else WHOLE[kind][0]
    if pixels > limit:
        raise ImageTooManyPixels(f"{kind} has {pixels / 1e6:.1f} megapixels; the limit is {limit / 1e6:.1f}.")
    if kept and kept > MAX_COEFFICIENT_BYTES:
        needs = f"{pixels / 1e6:.1f} megapixels and needs {kept / 1e6:.0f} MB to decode"
        raise ImageTooManyPixels(f"Progressive JPEG has {needs}; the limit is {MAX_COEFFICIENT_BYTES / 1e6:.0f} MB.")


def _declared(image: ImageFile.ImageFile, data: bytes) -> Colours:
    if profile := image.info.get("icc_profile"):
        return Colours(profile)
    return Colours(code_points=bmff.code_points(data) if image.format in ("AVIF", "HEIF") else None)

"""Any picture's colours in sRGB, by littleCMS or by a table for high dynamic range."""

from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO

from PIL import Image, ImageChops, ImageCms

from worker.photos import code_points

#: Profiles of presses have 0.5 to 3 MB; larger ones have tables that cost more than the picture.
MAX_PROFILE_BYTES = 4 * 1024 * 1024
#: Profiles of cameras and screens; larger ones are no more kept than the pictures that bring them.
MAX_KEPT_PROFILE_BYTES = 64 * 1024
#: A profile that moves no colour by more than this, of 255, is sRGB, whatever its name is.
SRGB_TOLERANCE = 2

_SRGB = ImageCms.createProfile("sRGB")
_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}


@dataclass(frozen=True)
class Colours:
    """The colour space of a file: a profile, else code points of H.273, else nothing (sRGB)."""

    profile: bytes = b""
    code_points: tuple[int, int] | None = None


def to_srgb(image: Image.Image, colours: Colours) -> Image.Image:
    """`image`, in mode L, RGB or CMYK, as RGB in sRGB; a profile that is broken or of another space is ignored."""
    profile = colours.profile
    if not profile and colours.code_points:
        image = image.convert("RGB")
        if code_points.is_hdr(colours.code_points[1]):
            from worker.photos import hdr  # noqa: PLC0415  # numpy takes 14 MB of a process that may never need it

            return image.filter(hdr.table(*colours.code_points))
        profile = code_points.profile(*colours.code_points)
    transform = None
    if profile and len(profile) <= MAX_PROFILE_BYTES:
        transform = (_kept if len(profile) <= MAX_KEPT_PROFILE_BYTES else _transform)(profile, image.mode)
    if transform:
        converted = ImageCms.applyTransform(image, transform)
        assert converted is not None  # noqa: S101  # not in place
        return converted
    return image if image.mode == "RGB" else image.convert("RGB")


def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform from `profile` to sRGB; None if it changes nothing, does not belong to `mode` or is broken."""
    try:
        source = ImageCms.getOpenProfile(BytesIO(_without_programs(profile)))
        if source.profile.xcolor_space.strip() != _SPACES.get(mode):
            return None
        transform = ImageCms.buildTransform(source, _SRGB, mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
    return None if mode == "RGB" and _changes_nothing(transform) else transform


def _without_programs(profile: bytes) -> bytes:
    """`profile` without its multiProcessElement tags (D2Bx, B2Dx).

    Littlecms spends 4 ms on each element, of which a few kilobytes hold hundreds; tables or a matrix say the same.
    """
    count = min(int.from_bytes(profile[128:132]), (len(profile) - 132) // 12)
    cleaned = bytearray(profile)
    for at in range(132, 132 + 12 * count, 12):
        if profile[at : at + 3] in (b"D2B", b"B2D"):
            cleaned[at : at + 4] = b"skip"
    return bytes(cleaned)


_kept = lru_cache(maxsize=16)(_transform)


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Try colours of all kinds, because names lie: linear and wide profiles have "sRGB" in theirs."""
    probe = _probe()
    found = ImageCms.applyTransform(probe, transform)
    assert found is not None  # noqa: S101  # not in place
    return max(high for _, high in ImageChops.difference(probe, found).getextrema()) <= SRGB_TOLERANCE  # type: ignore[misc]


@lru_cache(maxsize=1)
def _probe() -> Image.Image:
    steps = [round(step * 255 / 12) for step in range(13)]
    colours = [bytes((red, green, blue)) for red in steps for green in steps for blue in steps]
    greys = [bytes((grey,) * 3) for grey in range(256)]
    return Image.frombytes("RGB", (len(colours) + len(greys), 1), b"".join(colours + greys))

"""Colours against littleCMS on the same data, as the distance that an eye sees (CIE76; 1 is just noticeable)."""

import io
import itertools
import random
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.worker.photos.pieces import (
    BT709_CURVE,
    PICTURES,
    SRGB_CURVE,
    before_pixels,
    chunk,
    encoded,
    fixed,
    gamma,
    grey_profile,
    icc,
    rgb_profile,
)
from worker.photos import hdr
from worker.photos.decode import decode

SRGB = ImageCms.createProfile("sRGB")
LAB = ImageCms.buildTransform(SRGB, ImageCms.createProfile("LAB"), "RGB", "LAB")
#: P3, BT.2020 and linear light as H.273 has them.
P3, BT2020, SRGB_TRANSFER, PQ, HLG = 12, 9, 13, 16, 18


def patches(mode: str = "RGB") -> Image.Image:
    """Colours of all kinds, the same each time, in squares that survive a lossy encoder."""
    chance = random.Random(4)
    image = Image.new(mode, (8 * 16, 8 * 16))
    for x, y in itertools.product(range(8), range(8)):
        colour = tuple(chance.randrange(256) for _ in mode) if len(mode) > 1 else chance.randrange(256)
        image.paste(colour, (x * 16, y * 16, x * 16 + 16, y * 16 + 16))
    return image


def centres(image: Image.Image) -> Image.Image:
    return image.resize((8, 8), Image.Resampling.NEAREST)


def distance(one: Image.Image, other: Image.Image) -> float:
    """The largest between two pictures in sRGB."""
    labs = []
    for image in (one, other):
        lab = np.asarray(ImageCms.applyTransform(centres(image), LAB)).astype(float)
        signed = np.where(lab[..., 1:] > 127, lab[..., 1:] - 256, lab[..., 1:])
        labs.append(np.concatenate([lab[..., :1] * 100 / 255, signed], axis=-1))
    return float(np.sqrt(((labs[0] - labs[1]) ** 2).sum(axis=-1)).max())


def by_littlecms(image: Image.Image, profile: bytes) -> Image.Image:
    seen = ImageCms.profileToProfile(image, ImageCms.getOpenProfile(io.BytesIO(profile)), SRGB, outputMode="RGB")
    assert seen
    return seen


def png_saying(image: Image.Image, primaries: int, transfer: int) -> bytes:
    return before_pixels(encoded(image, "PNG"), chunk(b"cICP", bytes([primaries, transfer, 0, 1])))


PROFILES = {
    "linear sRGB": rgb_profile("sRGB", gamma(1)),
    "sRGB with a gamma of 1.8": rgb_profile("sRGB", gamma(1.8)),
    "P3 with sRGB's curve": rgb_profile("P3"),
    "BT.2020 with its own curve": rgb_profile("BT.2020", BT709_CURVE),
    "ProPhoto with sRGB's curve": rgb_profile("ProPhoto"),
}


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG", "AVIF"])
def test_profile_is_used_although_its_name_says_srgb(name: str, kind: str) -> None:
    exact: dict[str, dict[str, Any]]
    exact = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}, "AVIF": {"quality": 100}}
    data = encoded(patches(), kind, icc_profile=PROFILES[name], **exact.get(kind, {}))
    stored = Image.open(io.BytesIO(data)).convert("RGB")
    assert distance(decode(data), by_littlecms(stored, PROFILES[name])) < 1


def test_profile_that_is_srgb_by_its_numbers_changes_no_value() -> None:
    data = encoded(patches(), "PNG", icc_profile=rgb_profile("sRGB"))
    assert decode(data).tobytes() == patches().tobytes()


@pytest.mark.parametrize(
    ("primaries", "transfer", "profile"),
    [
        (P3, SRGB_TRANSFER, rgb_profile("P3")),
        (BT2020, 14, rgb_profile("BT.2020", BT709_CURVE)),
        (BT2020, 1, rgb_profile("BT.2020", BT709_CURVE)),
        (BT2020, SRGB_TRANSFER, rgb_profile("BT.2020")),
        (1, 8, rgb_profile("sRGB", gamma(1))),
        (P3, 4, rgb_profile("P3", gamma(2.2))),
    ],
)
def test_code_points_are_converted_as_their_profile_would_be(primaries: int, transfer: int, profile: bytes) -> None:
    wanted = by_littlecms(patches(), profile)
    assert distance(decode(png_saying(patches(), primaries, transfer)), wanted) < 1.5


@pytest.mark.parametrize("saying", [(1, SRGB_TRANSFER), (1, 1), (2, 2), (200, 200)])
def test_code_points_of_srgb_or_of_nothing_change_no_value(saying: tuple[int, int]) -> None:
    assert decode(png_saying(patches(), *saying)).tobytes() == patches().tobytes()


def test_avif_with_code_points_of_p3_is_converted() -> None:
    data = encoded(patches(), "AVIF", quality=100, subsampling="4:4:4")
    at = data.index(b"nclx") + 4
    wide = data[:at] + struct.pack(">HH", P3, SRGB_TRANSFER) + data[at + 4 :]
    stored = Image.open(io.BytesIO(data)).convert("RGB")
    assert distance(decode(wide), by_littlecms(stored, rgb_profile("P3"))) < 1.5


@pytest.mark.parametrize("name", ["display-p3.heic", "nclx-p3.heic"])
def test_heic_of_p3_is_converted(name: str) -> None:
    stored = Image.new("RGB", (128, 128), (200, 100, 100))
    wanted = by_littlecms(stored, rgb_profile("P3", gamma(2.2) if "display" in name else SRGB_CURVE))
    assert distance(decode((PICTURES / name).read_bytes()), wanted) < 3


# What a PNG says, by precedence


def test_png_code_points_come_before_its_profile() -> None:
    data = before_pixels(
        encoded(patches(), "PNG", icc_profile=rgb_profile("ProPhoto")), chunk(b"cICP", bytes([P3, SRGB_TRANSFER, 0, 1]))
    )
    assert distance(decode(data), by_littlecms(patches(), rgb_profile("P3"))) < 1.5


def test_png_profile_comes_before_gamma() -> None:
    linear = chunk(b"gAMA", struct.pack(">I", 10**5))
    data = before_pixels(encoded(patches(), "PNG", icc_profile=rgb_profile("P3")), linear)
    assert distance(decode(data), by_littlecms(patches(), rgb_profile("P3"))) < 1


def test_png_that_says_srgb_needs_no_gamma() -> None:
    data = before_pixels(encoded(patches(), "PNG"), chunk(b"sRGB", b"\0"), chunk(b"gAMA", struct.pack(">I", 10**5)))
    assert decode(data).tobytes() == patches().tobytes()


def test_png_gamma_and_corners_are_used_when_nothing_else_is_said() -> None:
    corners = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
    chunks = chunk(b"gAMA", struct.pack(">I", 10**5)), chunk(b"cHRM", struct.pack(">8I", *corners))
    wanted = by_littlecms(patches(), rgb_profile("P3", gamma(1)))
    assert distance(decode(before_pixels(encoded(patches(), "PNG"), *chunks)), wanted) < 1.5


@pytest.mark.parametrize("gamma_says", [45455, 45000, 0, 1])
def test_png_gamma_of_screens_or_of_nonsense_still_gives_a_picture(gamma_says: int) -> None:
    result = decode(before_pixels(encoded(patches(), "PNG"), chunk(b"gAMA", struct.pack(">I", gamma_says))))
    assert gamma_says == 1 or result.tobytes() == patches().tobytes()


@pytest.mark.parametrize("corners", [(0,) * 8, (31270, 32900) * 4, (2**32 - 1,) * 8])
def test_png_corners_that_span_no_colours_are_ignored(corners: Any) -> None:
    chunks = chunk(b"gAMA", struct.pack(">I", 10**5)), chunk(b"cHRM", struct.pack(">8I", *corners))
    assert decode(before_pixels(encoded(patches(), "PNG"), *chunks)).tobytes() == patches().tobytes()


# Grey, palettes, inks


@pytest.mark.parametrize("mode", ["L", "LA", "L with a transparent grey"])
def test_grey_keeps_its_profile_with_and_without_alpha(mode: str) -> None:
    profile = grey_profile()
    unused = next(level for level in range(256) if level not in patches("L").tobytes())
    options = {"transparency": unused} if "transparent" in mode else {}
    data = encoded(patches("L").convert(mode[:2].strip()), "PNG", icc_profile=profile, **options)
    assert distance(decode(data), by_littlecms(patches("L"), profile)) < 1


def test_sixteen_bit_grey_keeps_its_profile_and_its_transparent_grey() -> None:
    levels = np.full((128, 128), 21845, np.uint16)
    levels[:, :64] = 40000
    image = Image.fromarray(levels)
    plain = encoded(image, "PNG", icc_profile=grey_profile())
    clear = before_pixels(plain, chunk(b"tRNS", struct.pack(">H", 40000)))
    right = decode(plain).getpixel((100, 5))
    assert right == by_littlecms(Image.new("L", (1, 1), 85), grey_profile()).getpixel((0, 0))
    assert decode(clear).getpixel((100, 5)) == right
    assert decode(clear).getpixel((5, 5)) == (255, 255, 255)


def test_sixteen_bit_colour_keeps_its_transparent_colour() -> None:
    row = b"\0" + struct.pack(">3H", 0xFFFF, 0, 0) * 8
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(row * 8)) + chunk(b"IEND", b"")
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"tRNS", struct.pack(">3H", 0xFFFF, 0, 0)) + pixels
    assert decode(data).getpixel((4, 4)) == (255, 255, 255)


def test_palette_keeps_its_profile() -> None:
    image = patches().quantize(64)
    wanted = by_littlecms(image.convert("RGB"), rgb_profile("P3"))
    assert distance(decode(encoded(image, "PNG", icc_profile=rgb_profile("P3"))), wanted) < 1


def press(grid: int) -> bytes:
    """A press whose inks multiply, with a table of `grid`^4 points: 24 make 2 MB, as measured profiles have."""
    ink = np.array([[0.02, 0.28, 0.62], [0.52, 0.02, 0.16], [0.92, 0.80, 0.02], [0.02, 0.02, 0.02]])
    steps = np.linspace(0, 1, grid)
    light = np.ones((grid,) * 4 + (3,))
    for axis in range(4):
        share = steps.reshape([-1 if at == axis else 1 for at in range(4)] + [1])
        light = light * (1 - share + share * ink[axis])
    colorants = np.array([(0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.7141)])
    f = np.cbrt(light @ colorants / (0.9642, 1, 0.8249))
    lab = np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)
    nodes = np.clip(np.round(lab * (652.8, 256, 256) + (0, 32768, 32768)), 0, 65535).astype(">u2").tobytes()
    line = struct.pack(">2H", 0, 65535)
    head = b"mft2\0\0\0\0" + bytes([4, 3, grid, 0]) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1) + struct.pack(">2H", 2, 2)
    return icc(b"CMYK", {b"A2B0": head + line * 4 + nodes + line * 3}, b"prtr", b"Lab ")


@pytest.mark.parametrize("grid", [9, 24])
def test_inks_of_a_press_are_converted_whatever_the_size_of_its_profile(grid: int) -> None:
    profile = press(grid)
    data = encoded(patches("CMYK"), "JPEG", quality=100, subsampling=0, icc_profile=profile)
    stored = Image.open(io.BytesIO(data))
    assert distance(decode(data), by_littlecms(stored, profile)) < 1


def test_profile_beyond_the_limit_is_not_used() -> None:
    profile = press(30)
    assert len(profile) > 4 * 1024 * 1024
    decode(encoded(patches("CMYK"), "JPEG", icc_profile=profile))


# High dynamic range


def grey(level: int) -> Image.Image:
    return Image.new("RGB", (16, 16), (level,) * 3)


def middle(image: Image.Image) -> tuple[int, ...]:
    seen = image.getpixel((8, 8))
    assert isinstance(seen, tuple)
    return seen


@pytest.mark.parametrize(("transfer", "white"), [(PQ, 148), (HLG, 191)])
def test_white_paper_of_high_dynamic_range_becomes_nearly_white(transfer: int, white: int) -> None:
    """203 cd/m2 (BT.2408) are 58 % of PQ and 75 % of HLG."""
    seen = middle(decode(png_saying(grey(white), BT2020, transfer)))
    assert max(seen) - min(seen) <= 1
    assert 220 <= seen[0] <= 240


def test_shadows_and_skin_keep_their_light() -> None:
    """26 cd/m2, 38 % of PQ, are 0.128 of white paper: sRGB's 100."""
    seen = middle(decode(png_saying(grey(round(0.3775 * 255)), BT2020, PQ)))
    assert seen == pytest.approx((100,) * 3, abs=4)


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_brighter_stays_brighter(transfer: int) -> None:
    levels = [middle(decode(png_saying(grey(level), BT2020, transfer)))[1] for level in range(0, 256, 15)]
    assert all(after >= before - 1 for before, after in itertools.pairwise(levels))
    assert (levels[0], levels[-1]) == (0, 255)


@pytest.mark.parametrize(("primaries", "transfer"), [(BT2020, PQ), (BT2020, HLG), (P3, PQ), (P3, HLG)])
def test_table_of_high_dynamic_range_follows_the_formulas(primaries: int, transfer: int) -> None:
    exact = hdr.to_srgb(np.asarray(centres(patches())).reshape(-1, 3) / 255, primaries, transfer)
    wanted = Image.fromarray(np.round(exact * 255).astype(np.uint8).reshape(8, 8, 3))
    assert distance(decode(png_saying(patches(), primaries, transfer)), wanted.resize((128, 128), 0)) < 6

"""Sound pictures with odd, broken or enormous things beside their pixels: each one is used."""

import io
import struct
import zlib
from typing import Any

import pytest
from PIL import ExifTags, Image, PngImagePlugin

from tests.worker.photos.pieces import before_pixels, chunk, encoded, rgb_profile
from worker.errors import ImageInvalid
from worker.photos import png
from worker.photos.decode import decode, normalise, to_jpeg

PICTURE = Image.effect_noise((160, 120), 60).convert("RGB")
PLAIN = encoded(PICTURE, "PNG")
LARGE = b"AB" * 750_000


def text(*, compressed: bool) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("Workflow", "x" * 1_500_000, zip=compressed)
    info.add_itxt("XML:com.adobe.xmp", "y" * 1_500_000, zip=compressed)
    return info


ODD_CHUNKS = {
    "acTL that is short": chunk(b"acTL", b"x"),
    "acTL of no frames": chunk(b"acTL", bytes(8)),
    "fcTL beyond the picture": chunk(b"fcTL", bytes(4) + struct.pack(">4I", 9000, 9000, 5, 5) + bytes(6)),
    "fdAT before the pixels": chunk(b"fdAT", bytes(4)),
    "cHRM that is short": chunk(b"cHRM", b"12"),
    "pHYs that is short": chunk(b"pHYs", b"1"),
    "gAMA that is short": chunk(b"gAMA", b"1"),
    "sRGB that is empty": chunk(b"sRGB", b""),
    "cICP that is short": chunk(b"cICP", b"\1"),
    "iCCP of an unknown method": chunk(b"iCCP", b"x\0\5abc"),
    "iCCP without a name's end": chunk(b"iCCP", b"xabc"),
    "iCCP that does not unpack": chunk(b"iCCP", b"x\0\0abc"),
    "iCCP of 100 MB": chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(100_000_000), 1)),
    "zTXt of an unknown method": chunk(b"zTXt", b"a\0\5b"),
    "iTXt that is short": chunk(b"iTXt", b"a"),
    "tRNS that is empty": chunk(b"tRNS", b""),
    "tRNS that is long": chunk(b"tRNS", bytes(7)),
    "eXIf of nonsense": chunk(b"eXIf", b"zz"),
    "an unknown chunk of 1.5 MB": chunk(b"prVt", LARGE),
    **{
        f"{kind} with a wrong checksum": chunk(kind.encode(), b"a\0bcdefgh", 0)
        for kind in ("tEXt", "prVt", "iCCP", "eXIf")
    },
}


@pytest.mark.parametrize("name", ODD_CHUNKS)
def test_png_is_used_whatever_stands_beside_its_pixels(name: str) -> None:
    assert decode(before_pixels(PLAIN, ODD_CHUNKS[name])).tobytes() == PICTURE.tobytes()


@pytest.mark.parametrize("name", ODD_CHUNKS)
def test_png_is_used_whatever_stands_behind_its_pixels(name: str) -> None:
    end = len(PLAIN) - 12
    assert decode(PLAIN[:end] + ODD_CHUNKS[name] + PLAIN[end:]).tobytes() == PICTURE.tobytes()


@pytest.mark.parametrize("compressed", [True, False])
def test_png_with_megabytes_of_text_is_used(compressed: bool) -> None:
    assert decode(encoded(PICTURE, "PNG", pnginfo=text(compressed=compressed))).tobytes() == PICTURE.tobytes()


def test_png_profile_of_megabytes_is_used() -> None:
    profile = rgb_profile("P3")
    large = struct.pack(">I", len(profile) + len(LARGE)) + profile[4:] + LARGE
    small = decode(encoded(PICTURE, "PNG", icc_profile=profile))
    assert decode(encoded(PICTURE, "PNG", icc_profile=large)).tobytes() == small.tobytes()


@pytest.mark.parametrize("data", [PLAIN[:-12], PLAIN[:-4] + b"zzzz", PLAIN + b"more", PLAIN[:-6]])
def test_png_without_a_proper_end_is_used(data: bytes) -> None:
    assert decode(data).tobytes() == PICTURE.tobytes()


def test_png_orientation_behind_the_pixels_counts() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    behind = PLAIN[:-12] + chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")) + PLAIN[-12:]
    assert decode(behind).size == (120, 160)


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE"])
def test_png_whose_picture_itself_is_damaged_is_refused(kind: bytes) -> None:
    data = encoded(PICTURE.quantize(16), "PNG")
    at = data.index(kind) + 4
    with pytest.raises(ImageInvalid):
        decode(data[:at] + b"\x01" + data[at + 1 :])


@pytest.mark.parametrize("count", [1, 3, 200])
def test_png_that_lacks_pixels_is_refused(count: int) -> None:
    header, pixels = PLAIN[: PLAIN.index(b"IDAT") - 4], zlib.compress(b"\0" * 20_000, 0)
    pieces = b"".join(chunk(b"IDAT", pixels[at::count]) for at in range(count))
    with pytest.raises(ImageInvalid):
        decode(header + pieces + chunk(b"IEND", b""))


def test_png_of_nothing_but_chunks_is_refused() -> None:
    with pytest.raises(ImageInvalid, match="chunks"):
        decode(before_pixels(PLAIN, *[chunk(b"prVt", b"")] * png.MAX_CHUNKS))


# WebP and AVIF


def riff(chunks: list[tuple[bytes, bytes]], length: int | None = None) -> bytes:
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(value)) + value + b"\0" * (len(value) % 2) for kind, value in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body) if length is None else length) + body


def webp_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 12
    while at < len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        found.append((data[at : at + 4], data[at + 8 : at + 8 + size]))
        at += 8 + size + size % 2
    return found


WEBP = encoded(PICTURE, "WEBP", exif=b"Exif\0\0broken", xmp=b"<x>", lossless=True)
PARTS = webp_chunks(WEBP)
ODD_WEBP = {
    "broken EXIF": WEBP,
    "an unknown chunk": riff([PARTS[0], (b"ABCD", b"xyz"), *PARTS[1:]]),
    "a length too large": riff(PARTS, len(WEBP) + 100),
    "a length too small": riff(PARTS, len(WEBP) - 12),
    "an odd length": riff(PARTS, len(WEBP) - 7),
    "XMP that is cut off": WEBP[:-3],
    "EXIF that is cut off": riff(PARTS[:-1])[:-4],
    "flags of chunks that are not there": riff(PARTS[:2]),
    "metadata without a header for it": riff([PARTS[1], (b"EXIF", b"abc")]),
    "something behind it": WEBP + b"more",
}


@pytest.mark.parametrize("name", ODD_WEBP)
def test_webp_is_used_whatever_stands_beside_its_pixels(name: str) -> None:
    assert decode(ODD_WEBP[name]).tobytes() == PICTURE.tobytes()


def avif(**options: Any) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "a camera"
    exif[ExifTags.Base.Orientation] = 6
    return encoded(PICTURE, "AVIF", exif=exif, **options)


@pytest.mark.parametrize("spoil", [b"ZZZZ", b"II*\0", b"\xff\xff\xff\xff"])
def test_avif_with_broken_exif_is_used_and_upright(spoil: bytes) -> None:
    data = avif()
    at = data.index(b"a camera") - 60
    at = max(data.rfind(mark, 0, at + 60) for mark in (b"II*\0", b"MM\0*"))
    assert decode(data[:at] + spoil + data[at + 4 :]).size == (120, 160)


def test_avif_with_something_behind_it_is_used() -> None:
    assert decode(avif() + b"more").size == (120, 160)


# JPEG

JPEG = encoded(PICTURE, "JPEG", quality=95)
PROGRESSIVE = encoded(PICTURE, "JPEG", quality=95, progressive=True)


@pytest.mark.parametrize("whole", [JPEG, PROGRESSIVE, encoded(PICTURE.convert("L"), "JPEG")])
@pytest.mark.parametrize("behind", [b"", b"\0" * 100, b"\xff", b"garbage without an end", b"\r\n", b"\xff\xff\xff"])
def test_jpeg_without_its_end_is_used_when_all_rows_are_there(whole: bytes, behind: bytes) -> None:
    data = whole[:-2] + behind
    assert decode(data).tobytes() == decode(whole).tobytes()
    answer = to_jpeg(data)
    assert Image.open(io.BytesIO(answer)).size == PICTURE.size
    assert decode(answer).tobytes() == decode(whole).tobytes()


@pytest.mark.parametrize("behind", [b"garbage", b"\0" * 5000, JPEG, b"\xff\xd9\xff\xd9"])
def test_jpeg_with_something_behind_its_end_is_used(behind: bytes) -> None:
    assert decode(JPEG + behind).tobytes() == decode(JPEG).tobytes()
    assert to_jpeg(JPEG + behind) == JPEG + behind


def test_second_picture_of_a_jpeg_may_be_cut_off() -> None:
    both = encoded(PICTURE, "MPO", save_all=True, append_images=[PICTURE])
    assert decode(both[: len(both) - 3000]).size == PICTURE.size


@pytest.mark.parametrize("whole", [JPEG, PROGRESSIVE])
@pytest.mark.parametrize("missing", [200, 1000, 5000])
@pytest.mark.parametrize("behind", [b"", b"\0" * 100])
def test_jpeg_that_lacks_pixels_is_refused(whole: bytes, missing: int, behind: bytes) -> None:
    for function in (normalise, to_jpeg):
        if behind and missing < 5000:
            continue  # zeros are pixels, too
        with pytest.raises(ImageInvalid):
            function(whole[:-missing])


def test_progressive_jpeg_with_a_thumbnail_that_lacks_scans_is_refused() -> None:
    thumbnail = encoded(PICTURE.resize((16, 16)), "JPEG")
    segment = b"Exif\0\0" + thumbnail
    whole = PROGRESSIVE[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + PROGRESSIVE[2:]
    assert decode(whole).size == PICTURE.size
    second_scan = PROGRESSIVE.index(b"\xff\xda", PROGRESSIVE.index(b"\xff\xda") + 2)
    with pytest.raises(ImageInvalid):
        normalise(whole[: second_scan + len(segment) + 4])


@pytest.mark.parametrize(
    "segment",
    [
        b"\xff\xe0\0\x07JFIF\0",
        b"\xff\xe1\0\x0aExif\0\0zz",
        b"\xff\xe2\0\x0aMPF\0zzzz",
        b"\xff\xe2\0\x12ICC_PROFILE\0\x01\x09zz",
        b"\xff\xed\0\x14Photoshop 3.0\0zzzz",
        b"\xff\xfe\0\x02",
    ],
)
def test_jpeg_with_a_broken_segment_is_used(segment: bytes) -> None:
    assert decode(JPEG[:2] + segment + JPEG[20:]).tobytes() == decode(JPEG).tobytes()

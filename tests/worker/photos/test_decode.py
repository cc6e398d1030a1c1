import io
import struct
import threading
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Never

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from worker.errors import ImageError, ImageInvalid, ImageTooLarge
from worker.photos import opening as images
from worker.photos.decode import decode, normalise, to_jpeg

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
FORMATS = ["JPEG", "PNG", "WEBP", "AVIF"]


def corners(width: int = 400, height: int = 200) -> Image.Image:
    """Red, green, blue and white quarters, clockwise from the upper left."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(GREEN, (width // 2, 0, width, height))
    image.paste(BLUE, (width // 2, height // 2, width, height))
    image.paste(WHITE, (0, height // 2, width // 2, height))
    return image


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **({"quality": 95, "subsampling": 0} if kind == "JPEG" else {}) | options)
    return file.getvalue()


def texture(width: int, height: int) -> Image.Image:
    """Enough detail that files are not trivially small."""
    return Image.effect_noise((width, height), 60).convert("RGB")


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def close(seen: Any, wanted: Any, tolerance: int = 12) -> bool:
    return all(abs(a - b) <= tolerance for a, b in zip(seen, wanted, strict=True))


def assert_corners(image: Image.Image) -> None:
    w, h = image.size
    places = [(w // 8, h // 8), (w - w // 8, h // 8), (w - w // 8, h - h // 8), (w // 8, h - h // 8)]
    for place, colour in zip(places, (RED, GREEN, BLUE, WHITE), strict=True):
        assert close(image.getpixel(place), colour), (place, image.getpixel(place), colour)


# What comes out


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_becomes_an_rgb_jpeg(kind: str) -> None:
    result = opened(normalise(encoded(corners(), kind)))
    assert (result.format, result.mode, result.size) == ("JPEG", "RGB", (400, 200))
    assert_corners(result)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("size", [(1025, 10), (1500, 1000), (1000, 1500), (2047, 2047), (2048, 1024), (3300, 2200)])
def test_longest_side_is_at_most_the_limit_and_not_much_less(kind: str, size: tuple[int, int]) -> None:
    result = opened(normalise(encoded(corners(*size), kind)))
    assert 1000 <= max(result.size) <= 1024
    assert abs(result.width / result.height - size[0] / size[1]) < 0.02 * size[0] / size[1] + 2 / min(result.size)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (1024, 768), (1000, 1024)])
def test_small_picture_keeps_its_size(size: tuple[int, int]) -> None:
    assert opened(normalise(encoded(corners(*size)))).size == size


@pytest.mark.parametrize("size", [(30000, 1), (1, 30000), (9000, 9)])
def test_extremely_narrow_picture_keeps_at_least_one_pixel(size: tuple[int, int]) -> None:
    result = opened(normalise(encoded(Image.new("RGB", size))))
    assert max(result.size) <= 1024
    assert min(result.size) >= 1


def test_limit_can_be_chosen() -> None:
    assert max(decode(encoded(corners(900, 600)), max_side=300).size) <= 300
    assert decode(encoded(corners(900, 600), "PNG"), max_side=300).size == (300, 200)
    assert decode(encoded(corners(900, 600)), max_side=1).size == (1, 1)


def test_phone_picture_is_decoded_at_reduced_size_only() -> None:
    photo = encoded(corners(4032, 3024), quality=80)
    assert decode(photo).size == (1008, 756)
    assert_corners(decode(photo))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", FORMATS)
def test_picture_is_turned_upright(orientation: int, kind: str) -> None:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored = corners(1400, 700)
    if orientation in undo:
        stored = stored.transpose(undo[orientation])
    result = decode(encoded(stored, kind, exif=exif))
    assert result.size == (1024, 512)
    assert_corners(result)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"]
)
def test_broken_metadata_does_not_spoil_the_picture(exif: bytes) -> None:
    assert_corners(decode(encoded(corners(), exif=exif)))


def test_meaningless_orientation_is_ignored() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 77
    assert_corners(decode(encoded(corners(), exif=exif)))


@pytest.mark.parametrize("kind", FORMATS)
def test_no_metadata_is_left(kind: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "secret camera"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    jpeg = {"comment": "secret", "dpi": (300, 300), "xmp": b"secret"}
    extra: dict[str, dict[str, Any]] = {"JPEG": jpeg, "WEBP": {"xmp": b"secret"}}
    result = normalise(encoded(corners(), kind, exif=exif, icc_profile=DISPLAY_P3, **extra.get(kind, {})))
    assert b"secret" not in result
    assert set(opened(result).info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    assert not decode(encoded(corners(), kind, exif=exif)).info


# Kinds of pictures


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF"])
def test_transparent_parts_become_white(kind: str) -> None:
    image = Image.new("RGBA", (1200, 400), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 600, 400))
    result = decode(encoded(image, kind))
    assert close(result.getpixel((100, 100)), RED)
    assert close(result.getpixel((900, 100)), WHITE)


def test_half_transparent_parts_are_mixed_with_white() -> None:
    result = decode(encoded(Image.new("RGBA", (40, 40), (255, 0, 0, 128)), "PNG"))
    assert close(result.getpixel((20, 20)), (255, 127, 127), 2)


def test_colours_under_transparency_do_not_bleed_into_the_edge() -> None:
    image = Image.new("RGBA", (3000, 30), (0, 255, 0, 0))
    image.paste((255, 255, 255, 255), (0, 0, 1500, 30))
    assert min(decode(encoded(image, "PNG")).tobytes()) >= 250


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_png_mode_is_read(mode: str) -> None:
    image = Image.new("L", (1500, 100), 0)
    image.paste(255, (750, 0, 1500, 100))
    result = decode(encoded(image.convert("RGB").convert(mode), "PNG"))
    assert close(result.getpixel((10, 10)), (0, 0, 0))
    assert close(result.getpixel((1000, 10)), WHITE)


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_colour_that_a_png_declares_transparent_becomes_white(mode: str) -> None:
    image = Image.new("RGB", (1200, 20), BLUE).convert(mode)
    clear = {"L": image.getpixel((0, 0)), "RGB": BLUE, "P": image.getpixel((0, 0))}[mode]
    assert close(decode(encoded(image, "PNG", transparency=clear)).getpixel((5, 5)), WHITE)


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    image = Image.new("I;16", (1600, 8))
    image.putdata([x * 40 for x in range(1600)] * 8)
    result = decode(encoded(image, "PNG"))
    for x in (100, 500, 1000):
        assert close(result.getpixel((x, 2)), [x * 1600 / 1024 * 40 / 257] * 3, 3)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *before: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(rows, 9))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(before) + body + chunk(b"IEND", b"")


def test_sixteen_bit_colour_is_read() -> None:
    row = b"\0" + struct.pack(">HHH", 0xFFFF, 0x8000, 0) * 4
    assert close(decode(png(4, 4, 16, 2, row * 4)).getpixel((1, 1)), (255, 128, 0), 1)


def test_grey_jpeg_is_read() -> None:
    assert close(decode(encoded(Image.new("L", (1500, 100), 77))).getpixel((10, 10)), (77, 77, 77), 2)


def test_inverted_cmyk_of_photo_editors_is_read() -> None:
    image = Image.new("CMYK", (2048, 64), (0, 255, 255, 0))
    data = encoded(image)
    assert b"Adobe" in data
    assert close(decode(data).getpixel((10, 10)), RED, 20)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF"])
def test_first_frame_of_an_animation_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (64, 64), colour) for colour in (RED, GREEN, BLUE)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)
    assert close(decode(data).getpixel((30, 30)), RED)


def test_phone_jpeg_with_further_pictures_in_it_is_read() -> None:
    data = encoded(corners(1600, 800), "MPO", save_all=True, append_images=[Image.new("RGB", (64, 64))])
    assert opened(data).format == "MPO"
    assert_corners(decode(data))
    assert to_jpeg(data) == data


def test_progressive_jpeg_is_read() -> None:
    assert_corners(decode(encoded(corners(2100, 1400), progressive=True)))


# Colour


def profile(colorants: Sequence[Sequence[float]], gamma: float = 2.2) -> bytes:
    """A minimal ICC profile: three primaries (D50) and one gamma."""

    def fixed(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    def xyz(values: Sequence[float]) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(map(fixed, values))

    text = b"Display P3\0"
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + b"\0" * 79,
        b"wtpt": xyz((0.9642, 1.0, 0.8249)),
        b"cprt": b"text\0\0\0\0none\0",
        **{name: xyz(values) for name, values in zip((b"rXYZ", b"gXYZ", b"bXYZ"), colorants, strict=True)},
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }
    table, body = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(value))
        body += value + b"\0" * (-len(value) % 4)
    header = struct.pack(">I4sI4s4s4s", 0, b"\0" * 4, 0x02400000, b"mntr", b"RGB ", b"XYZ ") + b"\0" * 12
    header += b"acsp" + b"\0" * 28 + fixed(0.9642) + fixed(1.0) + fixed(0.8249) + b"\0" * 48
    whole = header + table + body
    return struct.pack(">I", len(whole)) + whole[4:]


DISPLAY_P3 = profile([(0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)])


@pytest.mark.parametrize("kind", FORMATS)
def test_wide_colours_of_phones_are_converted(kind: str) -> None:
    data = encoded(Image.new("RGB", (64, 64), (200, 100, 100)), kind, icc_profile=DISPLAY_P3)
    assert close(decode(data).getpixel((10, 10)), (213, 95, 98), 4)


@pytest.mark.parametrize("broken", [b"x", b"x" * 500, DISPLAY_P3[:200], DISPLAY_P3[:16] + b"CMYK" + DISPLAY_P3[20:]])
def test_unusable_colour_profile_is_ignored(broken: bytes) -> None:
    assert_corners(decode(encoded(corners(), icc_profile=broken)))
    assert_corners(decode(encoded(corners(), "PNG", icc_profile=broken)))


def test_profile_of_another_colour_space_is_ignored() -> None:
    grey = encoded(Image.new("L", (64, 64), 77), icc_profile=DISPLAY_P3)
    assert close(decode(grey).getpixel((10, 10)), (77, 77, 77), 2)


# What is refused


@pytest.mark.parametrize(
    "data", [b"", b"x", b"<html></html>", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBPVP8 "]
)
def test_data_that_is_no_picture_is_invalid(data: bytes) -> None:
    with pytest.raises(ImageInvalid):
        normalise(data)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "ICO", "PPM"])
def test_other_formats_are_invalid(kind: str) -> None:
    with pytest.raises(ImageInvalid):
        normalise(encoded(corners(), kind))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.98])
def test_truncated_picture_is_invalid(kind: str, share: float) -> None:
    data = encoded(texture(600, 400), kind)
    for function in (normalise, to_jpeg):
        with pytest.raises(ImageInvalid):
            function(data[: int(len(data) * share)])


def test_truncated_progressive_picture_is_invalid() -> None:
    data = encoded(texture(1200, 800), progressive=True)
    with pytest.raises(ImageInvalid):
        normalise(data[: len(data) // 2])


@pytest.mark.parametrize("colour", [0, 2, 3, 6])
def test_decompression_bomb_is_refused_before_it_is_decoded(colour: int) -> None:
    palette = chunk(b"PLTE", b"\0\0\0") if colour == 3 else b""
    with pytest.raises(ImageTooLarge):
        normalise(png(20_000, 20_000, 8, colour, b"\0" * 1_000_000, palette))


def test_dimensions_beyond_pillows_own_limit_are_too_large() -> None:
    with pytest.raises(ImageTooLarge, match="too large"):
        normalise(png(2**31 - 1, 2**31 - 1, 8, 2, b"\0"))


@pytest.mark.parametrize("kind", FORMATS)
def test_pixel_limit_is_inclusive(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def limit(pixels: int) -> None:
        monkeypatch.setattr(images, "MAX_JPEG_PIXELS", pixels)
        monkeypatch.setattr(images, "WHOLE", dict.fromkeys(images.WHOLE, (pixels, 1)))

    data = encoded(Image.new("RGB", (100, 100)), kind)
    limit(10_000)
    normalise(data)
    limit(9_999)
    with pytest.raises(ImageTooLarge, match="megapixels"):
        normalise(data)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF"])
def test_twelve_megapixels_are_accepted_in_every_format(kind: str) -> None:
    assert images.WHOLE[kind][0] >= 4096 * 3072


def test_largest_phone_picture_is_accepted() -> None:
    assert decode(encoded(Image.new("L", (8160, 6144), 9), quality=50)).size == (1020, 768)


def test_progressive_picture_that_needs_too_much_memory_is_refused() -> None:
    data = encoded(Image.new("RGB", (7000, 7000)), progressive=True)
    with pytest.raises(ImageTooLarge, match=r"has 49.0 megapixels and needs 294 MB to decode; the limit is 160 MB"):
        normalise(data)


@pytest.mark.parametrize("error", [MemoryError, Image.DecompressionBombError])
def test_running_out_of_memory_means_too_large(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object) -> Never:
        raise error

    data = encoded(corners())
    monkeypatch.setattr("PIL.JpegImagePlugin.JpegImageFile.load", fail)
    with pytest.raises(ImageTooLarge):
        normalise(data)


# OpenAI's answer


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"comment": "kept"}])
def test_complete_jpeg_passes_through_unchanged(options: Any) -> None:
    data = encoded(texture(1024, 1536), **options)
    assert to_jpeg(data) == data


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_other_answers_are_converted_at_full_size(kind: str) -> None:
    result = opened(to_jpeg(encoded(corners(1024, 1536), kind)))
    assert (result.format, result.size) == ("JPEG", (1024, 1536))
    assert_corners(result)


@pytest.mark.parametrize("data", [b"", b"not an image", b"\xff\xd8\xff\xe0" + b"\0" * 1000, b"\xff\xd8\xff\xd9"])
def test_answer_that_is_no_picture_is_invalid(data: bytes) -> None:
    with pytest.raises(ImageInvalid):
        to_jpeg(data)


# Many at once, and anything at all


def test_threads_do_not_disturb_each_other() -> None:
    pictures = [encoded(corners(1300, 900), kind, icc_profile=DISPLAY_P3) for kind in FORMATS] * 4
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(normalise, pictures)) == [normalise(data) for data in pictures]


def test_costly_decodes_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "HEAVY_BYTES", 0)
    data = encoded(corners(), "PNG")
    with images._heavy:
        thread = threading.Thread(target=normalise, args=(data,))
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        normalise(encoded(corners()))
    thread.join(10)
    assert not thread.is_alive()


def seeds() -> list[bytes]:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    small = texture(80, 60)
    return [
        *(encoded(small, kind, exif=exif, icc_profile=DISPLAY_P3) for kind in FORMATS),
        encoded(small, progressive=True),
        encoded(small.convert("CMYK")),
        encoded(small, "MPO", save_all=True, append_images=[small]),
        encoded(small.quantize(16), "PNG", transparency=1),
        encoded(small.convert("L").convert("I;16"), "PNG"),
        *(encoded(small, kind, save_all=True, append_images=[corners(80, 60)]) for kind in ("PNG", "WEBP")),
        encoded(small, "WEBP", lossless=True),
    ]


SEEDS = seeds()


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A sound picture with bytes changed, cut out, doubled, or cut off."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 4))):
        # Headers are where the interesting damage is.
        span = draw(st.sampled_from([64, 700, len(data)]))
        at = draw(st.integers(0, max(0, min(span, len(data)) - 1)))
        match draw(st.sampled_from(["change", "insert", "remove", "double", "end"])):
            case "change":
                data[at : at + 4] = draw(st.binary(min_size=1, max_size=4))
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=16))
            case "remove":
                del data[at : at + draw(st.integers(1, 200))]
            case "double":
                data[at:at] = data[at : at + draw(st.integers(1, 200))]
            case "end":
                del data[at:]
    return bytes(data)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(damaged())
def test_damaged_picture_gives_a_picture_or_an_image_error(data: bytes) -> None:
    for function in (normalise, to_jpeg):
        try:
            result = function(data)
        except ImageError:
            continue
        assert opened(result).format in ("JPEG", "MPO")


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\xff\0\0\0WEBP", b"\0\0\0\x1cftypavif"]),
    st.binary(),
)
def test_arbitrary_data_gives_an_image_error(magic: bytes, rest: bytes) -> None:
    with pytest.raises(ImageError):
        normalise(magic + rest)

"""HEIC of phones; the pictures were made once, because the worker's library does not encode."""

import random
import resource

import pytest
from PIL import Image

from tests.worker.photos.pieces import PICTURES
from worker.errors import ImageError, ImageInvalid, ImageTooManyPixels
from worker.photos import bmff, opening
from worker.photos.decode import decode, normalise, to_jpeg
from worker.sizing.photo import read

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def heic(name: str = "turned") -> bytes:
    return (PICTURES / f"{name}.heic").read_bytes()


def assert_corners(image: Image.Image) -> None:
    w, h = image.size
    places = [(w // 8, h // 8), (w - w // 8, h // 8), (w - w // 8, h - h // 8), (w // 8, h - h // 8)]
    for place, colour in zip(places, (RED, GREEN, BLUE, WHITE), strict=True):
        assert image.getpixel(place) == pytest.approx(colour, abs=12)


def test_heic_is_turned_upright_by_its_container() -> None:
    image = decode(heic())
    assert (image.mode, image.size) == ("RGB", (400, 200))
    assert_corners(image)


def test_heic_becomes_a_jpeg_for_openai_and_a_photo_for_the_size_api() -> None:
    assert normalise(heic()).startswith(b"\xff\xd8\xff")
    assert to_jpeg(heic()).startswith(b"\xff\xd8\xff")
    assert read(heic()).picture.size == (400, 200)
    assert max(decode(heic("detail"), 100).size) == 100


def test_transparent_heic_becomes_white() -> None:
    assert decode(heic("transparent")).getpixel((30, 30)) == pytest.approx(WHITE, abs=2)


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1", b"msf1"])
def test_heic_is_known_by_any_of_its_brands(brand: bytes) -> None:
    data = heic()
    assert bmff.kind(data[:8] + brand + data[12:]) == "HEIF"
    assert bmff.kind(data[:8] + b"avif" + data[12:]) == "AVIF"


def test_film_is_no_picture() -> None:
    with pytest.raises(ImageInvalid):
        normalise(b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(500))


def test_heic_with_too_many_pixels_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(opening.WHOLE, "HEIF", (79_999, 9))
    with pytest.raises(ImageTooManyPixels, match="HEIF has"):
        normalise(heic())


def test_heic_that_holds_more_pixels_than_it_says_is_refused() -> None:
    data = heic("detail")
    at = data.index(b"ispe") + 8
    with pytest.raises(ImageError):
        normalise(data[:at] + (64).to_bytes(4) + (64).to_bytes(4) + data[at + 8 :])


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_truncated_heic_is_refused(share: float) -> None:
    data = heic("detail")
    with pytest.raises(ImageError):
        normalise(data[: int(len(data) * share)])


def test_damaged_heic_gives_a_picture_or_an_image_error_in_bounded_memory() -> None:
    chance, before = random.Random(13), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(400):
        data = bytearray(heic(chance.choice(["detail", "turned", "display-p3", "transparent"])))
        for _ in range(chance.randrange(1, 5)):
            span = chance.choice([64, 600, len(data)])
            data[chance.randrange(min(span, len(data)))] = chance.randrange(256)
        try:
            normalise(bytes(data))
        except ImageError:
            continue
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000

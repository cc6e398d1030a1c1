import contextlib
import io
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from worker.errors import ImageInvalid
from worker.photos.decode import normalise
from worker.photos.jpeg import MAX_SCANS, MAX_SEGMENTS, coefficient_bytes


def jpeg(width: int = 160, height: int = 80, mode: str = "RGB", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new(mode, (width, height)).save(file, "JPEG", **options)
    return file.getvalue()


def test_picture_in_one_scan_keeps_nothing() -> None:
    assert coefficient_bytes(jpeg()) == 0
    assert coefficient_bytes(jpeg(mode="L")) == 0


@pytest.mark.parametrize(
    ("subsampling", "mode", "per_pixel"), [(0, "RGB", 6), (1, "RGB", 4), (2, "RGB", 3), (0, "L", 2), (0, "CMYK", 8)]
)
def test_progressive_picture_keeps_every_sample(subsampling: int, mode: str, per_pixel: int) -> None:
    data = jpeg(mode=mode, subsampling=subsampling, progressive=True)
    assert coefficient_bytes(data) == 160 * 80 * per_pixel


def test_segments_and_fill_bytes_before_the_frame_are_skipped() -> None:
    data = jpeg(progressive=True, exif=b"Exif\0\0" + b"\xff\xc0\xff\xda" * 50, comment=b"x" * 60_000)
    padded = data[:2] + b"\xff" * 10 + data[2:]
    assert coefficient_bytes(padded) == 160 * 80 * 3


def test_thumbnail_is_not_taken_for_the_picture() -> None:
    data = jpeg(exif=b"Exif\0\0" + jpeg(progressive=True))
    assert coefficient_bytes(data) == 0


def test_more_segments_than_any_camera_writes_are_refused_at_once() -> None:
    data = jpeg()
    bomb = data[:2] + b"\xff\xfe\x00\x02" * 2_400_000 + data[2:]
    started = time.thread_time()
    with pytest.raises(ImageInvalid):
        normalise(bomb)
    assert time.thread_time() - started < 0.5
    assert coefficient_bytes(data[:2] + b"\xff\xfe\x00\x02" * (MAX_SEGMENTS // 2) + data[2:]) == 0


def test_more_scans_than_any_encoder_writes_are_refused_at_once() -> None:
    data = jpeg(7000, 5000, progressive=True)
    last = data.rindex(b"\xff\xda")
    bomb = data[:last] + data[last:-2] * (MAX_SCANS + 1) + data[-2:]
    started = time.thread_time()
    with pytest.raises(ImageInvalid, match="scans"):
        normalise(bomb)
    assert time.thread_time() - started < 0.5


def test_a_small_file_does_not_keep_other_large_pictures_waiting_for_seconds() -> None:
    data = jpeg(progressive=True)
    last = data.rindex(b"\xff\xda")
    with pytest.raises(ImageInvalid, match="scans"):
        normalise(data[:-2] + data[last:-2] * 150 + data[-2:])  # 6 s of the largest picture
    normalise(data[:-2] + data[last:-2] * 50 + data[-2:])


@pytest.mark.parametrize("end", [3, 4, 5, 20, 100, 200])
def test_headers_that_break_off_are_invalid(end: int) -> None:
    with pytest.raises(ImageInvalid):
        coefficient_bytes(jpeg()[:end])


@given(st.binary(max_size=300))
def test_any_headers_give_a_number_or_a_refusal(rest: bytes) -> None:
    with contextlib.suppress(ImageInvalid):
        assert coefficient_bytes(b"\xff\xd8\xff" + rest) >= 0

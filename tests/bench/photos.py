"""Pictures like those of a phone: 12 megapixels, upright only by their EXIF tag, about a quarter byte per pixel."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

CACHE = Path(__file__).parents[2] / ".cache" / "bench"
#: A phone's 12-megapixel picture of an ordinary room has about 3 MB.
BYTES_PER_PIXEL = 0.25
#: The worker takes no larger file.
MAX_BYTES = 9_500_000
_QUALITY = 90
_LARGE = 40
_ROTATED_90 = 6


def photo(megapixels: float, seed: int = 0) -> bytes:
    """A landscape JPEG that is to be shown as portrait; made once, the same on every machine."""
    file = CACHE / f"photo-{megapixels:g}mp-{seed}.jpg"
    if not file.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_four(megapixels, seed) if megapixels >= _LARGE else _made(megapixels, seed))
    return file.read_bytes()


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a folder's pictures, which a process of its own serves over kept-alive connections."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--protocol", "HTTP/1.1"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout
            port = re.search(r"port (\d+)", process.stdout.readline())
            assert port, "the picture server did not start"
            yield f"http://127.0.0.1:{port[1]}"
        finally:
            process.terminate()


def _four(megapixels: float, seed: int) -> bytes:
    """Four smaller pictures in one, because as much detail as that is slow to make."""
    quarter = Image.open(BytesIO(photo(megapixels / 4, seed)))
    whole = Image.new("RGB", (quarter.width * 2, quarter.height * 2))
    for corner in ((0, 0), (quarter.width, 0), (0, quarter.height), quarter.size):
        whole.paste(quarter, corner)
    for quality in range(_QUALITY, 50, -5):
        file = BytesIO()
        whole.save(file, "JPEG", quality=quality, exif=quarter.getexif())
        if file.tell() <= MAX_BYTES:
            break
    return file.getvalue()


def _made(megapixels: float, seed: int) -> bytes:
    width = round((megapixels * 1e6 * 4 / 3) ** 0.5 / 16) * 16
    size = width, width * 3 // 4
    random = np.random.default_rng(seed)
    scene, grain = _scene(size, random), random.standard_normal((size[1], size[0]), dtype=np.float32)
    # The sensor's noise decides the size of the file: bisect to what phones write.
    limit = min(BYTES_PER_PIXEL * size[0] * size[1], MAX_BYTES)
    low, high, fitting = 0.0, 24.0, _jpeg(scene)
    for _ in range(7):
        middle = (low + high) / 2
        data = _jpeg(scene + grain[:, :, None] * middle)
        if len(data) > limit:
            high = middle
        else:
            low, fitting = middle, data
    return fitting


def _scene(size: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    """Shapes of all sizes, the smaller the fainter, as in pictures of the world; 0 to 255 around the middle."""
    octaves = []
    for exponent in range(2, 9):
        small = random.uniform(-1, 1, (3 * 2**exponent // 4, 2**exponent, 3)).astype(np.float32)
        channels = [
            np.asarray(Image.fromarray(small[:, :, channel]).resize(size, Image.Resampling.BICUBIC))
            for channel in range(3)
        ]
        octaves.append(np.stack(channels, axis=2) * np.float32(90 / (exponent - 1) ** 1.2))
    return reduce(np.add, octaves) + np.float32(128)


def _jpeg(pixels: np.ndarray) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = _ROTATED_90
    exif[ExifTags.Base.Make] = "WearOn bench"
    file = BytesIO()
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    picture.save(file, "JPEG", quality=_QUALITY, subsampling="4:2:0", exif=exif)
    return file.getvalue()

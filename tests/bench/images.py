"""The image path, fetch to encoded JPEG, beside bare Pillow calls that make the same picture of the same bytes."""

import asyncio
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path

from PIL import ExifTags, Image, ImageOps

from tests.bench.figures import Figure
from tests.bench.options import Options
from tests.bench.photos import CACHE, photo, served
from tests.bench.progress import Progress
from worker.photos.decode import JPEG_QUALITY, MAX_SIDE, REDUCED_ENOUGH, normalise
from worker.photos.fetcher import ImageFetcher

REPEATS = 15
RATIO_TARGET = 1.3


def run(options: Options, progress: Progress) -> list[Figure]:
    """Processor milliseconds per picture, their ratio to the bare calls, and the memory at the peak."""
    figures = []
    with served(CACHE) as base:
        for name, make in _pictures(options).items():
            progress(name)
            figures += _figures(name, _stored(name, make), base, 3 if options.quick else REPEATS)
    return figures


def _pictures(options: Options) -> dict[str, Callable[[], bytes]]:
    pictures: dict[str, Callable[[], bytes]] = {"2 MP JPEG": lambda: photo(2)}
    if not options.quick:
        pictures |= {
            "12 MP JPEG": lambda: photo(12),
            "48 MP JPEG": lambda: photo(48),
            "12 MP progressive JPEG": lambda: _converted(photo(12), "JPEG", quality="keep", progressive=True),
            "2 MP PNG": lambda: _converted(photo(2), "PNG", compress_level=1),
            "12 MP WebP": lambda: _converted(photo(12), "WEBP", quality=80, method=1),
            "12 MP AVIF": lambda: _converted(photo(12), "AVIF", quality=60, speed=9),
        }
    return pictures


def _figures(name: str, file: Path, base: str, repeats: int) -> list[Figure]:
    data = file.read_bytes()
    fetches, ours, bares, thumbnails = [], [], [], []
    with asyncio.Runner() as runner:
        trusted = frozenset({base})
        fetcher = ImageFetcher(trusted_origins=trusted, max_bytes=50_000_000, timeout_seconds=30, downloads=1)
        # In turns, so that whatever else the machine does meets all of them.
        for _ in range(repeats):
            fetches.append(_milliseconds(lambda: runner.run(_fetch(fetcher, f"{base}/{file.name}"))))
            ours.append(_milliseconds(lambda: normalise(data)))
            bares.append(_milliseconds(lambda: _bare(data)))
            thumbnails.append(_milliseconds(lambda: _thumbnail(data)))
        runner.run(fetcher.aclose())
    fetched, own, bare, thumbnail = map(min, (fetches, ours, bares, thumbnails))
    return [
        Figure(f"{name}: size", len(data) / 1e6, "MB"),
        Figure(f"{name}: fetch", fetched, "ms"),
        Figure(f"{name}: decode, resize, encode", own, "ms"),
        Figure(f"{name}: the same, median", statistics.median(ours), "ms"),
        Figure(f"{name}: bare calls", bare, "ms"),
        Figure(f"{name}: Image.thumbnail", thumbnail, "ms"),
        Figure(f"{name}: without fetch / bare", own / bare, "x", RATIO_TARGET),
        Figure(f"{name}: with fetch / bare", (own + fetched) / bare, "x", RATIO_TARGET if "JPEG" in name else None),
        Figure(f"{name}: peak memory", _peak(file), "MB"),
    ]


async def _fetch(fetcher: ImageFetcher, url: str) -> None:
    # Returns nothing: the runner ends by formatting the task with its result, which takes longer than the fetch.
    await fetcher.fetch(url)


def _bare(data: bytes) -> bytes:
    """The minimum that `normalise` has to do: the same scale, filter and quality, without any check."""
    image = Image.open(BytesIO(data))
    size = _fitting(image.size, MAX_SIDE)
    image.draft(None, _fitting(image.size, int(MAX_SIDE * REDUCED_ENOUGH)))
    image.load()
    orientation = image.getexif().get(ExifTags.Base.Orientation)
    small: Image.Image = image
    if max(image.size) > MAX_SIDE:
        small = image.resize(size, Image.Resampling.HAMMING, reducing_gap=1.5)
    if orientation == 6:  # the only one in these pictures
        small = small.transpose(Image.Transpose.ROTATE_270)
    return _jpeg(small)


def _thumbnail(data: bytes) -> bytes:
    """The calls that the manual suggests."""
    image = Image.open(BytesIO(data))
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    return _jpeg(ImageOps.exif_transpose(image))


def _jpeg(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()


def _fitting(size: tuple[int, int], side: int) -> tuple[int, int]:
    scale = min(1, side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _milliseconds(function: Callable[[], object]) -> float:
    """Processor time of this process: what else the machine does counts as little as possible."""
    started = time.process_time()
    function()
    return (time.process_time() - started) * 1000


def _peak(file: Path) -> float:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(_growth, str(file)).result()


def _growth(file: str) -> float:
    """The growth of this process in MB while it handles the picture, without the picture's own bytes."""
    data = Path(file).read_bytes()
    normalise(photo(2))
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from what is used now
    before = _status("VmRSS")
    normalise(data)
    return _status("VmHWM") - before


def _status(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{field}:"))


def _stored(name: str, make: Callable[[], bytes]) -> Path:
    """A file named .jpg in every format: the fetcher only has to accept the label image/jpeg."""
    file = CACHE / f"{name.lower().replace(' ', '-')}.jpg"
    if not file.exists():
        file.write_bytes(make())
    return file


def _converted(data: bytes, kind: str, **options: object) -> bytes:
    image = Image.open(BytesIO(data))
    file = BytesIO()
    image.save(file, kind, exif=image.getexif(), **options)
    return file.getvalue()

"""`/estimate-body` at 1, 4 and 16 clients beside the bare pose model on the same pictures, and `/health` meanwhile."""

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.bench.figures import Figure, spread
from tests.bench.meter import cpu_seconds
from tests.bench.options import Options
from tests.bench.outcome import HEALTH_TARGET
from tests.bench.photos import CACHE, served
from tests.bench.progress import Progress
from tests.bench.size_service import PICTURES
from tests.sandbox.client import HTTP
from tests.sandbox.processes import free_port
from worker.photos.decode import decode

RATE_TARGET = 0.8
#: What a request may cost beside the inference, in milliseconds.
SMALL_TARGET, LARGE_TARGET = 15, 60
_LARGE = "large.jpg"
_SERVICE = (sys.executable, "-m", "tests.bench.size_service")


def run(options: Options, progress: Progress) -> list[Figure]:
    """Rates, latencies and their ratios to the bare model."""
    seconds = 1.0 if options.quick else 10.0
    progress("bare model")
    bare = subprocess.run([*_SERVICE, "bare", str(seconds)], capture_output=True, text=True, check=True)
    model = json.loads(bare.stdout.strip().splitlines()[-1])
    figures = [
        Figure("bare inference", model["wall_ms"], "ms"),
        Figure("bare inference, processor time", model["cpu_ms"], "ms"),
        Figure("bare inference, 2 threads", model["per_second"], "/s"),
    ]
    with tempfile.TemporaryDirectory() as folder, _photo_host(Path(folder)) as origin, _service(origin) as (base, pid):
        small = [f"{origin}/{path.name}" for path in sorted(PICTURES.iterdir())]
        _load(base, pid, small, 4, seconds / 5)
        for clients in (1, 4, 16):
            progress(f"{clients} clients")
            measured = _load(base, pid, small, clients, seconds)
            figures.append(Figure(f"{clients} clients", measured.per_second, "/s"))
            figures += spread(f"{clients} clients: request", measured.times)[:2]
            figures += spread(f"{clients} clients: /health", measured.health, "s", (None, None, HEALTH_TARGET))[2:]
            if measured.refused:
                figures.append(Figure(f"{clients} clients: 503", measured.refused))
        progress("12 megapixels")
        large = _load(base, pid, [f"{origin}/{_LARGE}"], 1, seconds)
    return [
        *figures,
        Figure("16 clients / bare, 2 threads", measured.per_second / model["per_second"], "x", RATE_TARGET, True),
        # Processor time stays true on a machine that has other work, too.
        Figure("768x1024: processor time", measured.cpu_ms, "ms"),
        Figure("768x1024: beside the inference", measured.cpu_ms - model["cpu_ms"], "ms", SMALL_TARGET),
        Figure("12 MP: processor time", large.cpu_ms, "ms"),
        Figure("12 MP: beside the inference", large.cpu_ms - model["cpu_ms"], "ms", LARGE_TARGET),
    ]


@dataclass
class Measured:
    """Seconds of each answered request and of each look at /health, and how often the answer was 503."""

    times: list[float]
    health: list[float]
    refused: int = 0
    seconds: float = 0
    cpu_seconds: float = 0

    @property
    def per_second(self) -> float:
        return len(self.times) / self.seconds

    @property
    def cpu_ms(self) -> float:
        """The service's processor time for one request, its idle loop included."""
        return self.cpu_seconds * 1000 / max(1, len(self.times))


def _load(base: str, pid: int, urls: list[str], clients: int, seconds: float) -> Measured:
    begun, cpu = time.monotonic(), cpu_seconds([pid])
    measured = asyncio.run(_load_async(base, urls, clients, seconds))
    measured.seconds = time.monotonic() - begun
    measured.cpu_seconds = cpu_seconds([pid]) - cpu
    return measured


async def _load_async(base: str, urls: list[str], clients: int, seconds: float) -> Measured:
    measured = Measured([], [])
    until = time.monotonic() + seconds
    async with httpx.AsyncClient(base_url=base, timeout=30) as client:

        async def estimate(index: int) -> None:
            while (begun := time.monotonic()) < until:
                answer = await client.post(
                    "/estimate-body", json={"image_url": urls[index % len(urls)], "height_cm": 170}
                )
                index += 1
                if answer.status_code == 503:
                    measured.refused += 1
                else:
                    answer.raise_for_status()
                    measured.times.append(time.monotonic() - begun)

        async def look() -> None:
            while (begun := time.monotonic()) < until:
                (await client.get("/health")).raise_for_status()
                measured.health.append(time.monotonic() - begun)
                await asyncio.sleep(0.1)

        await asyncio.gather(look(), *(estimate(index) for index in range(clients)))
    return measured


@contextmanager
def _photo_host(folder: Path) -> Iterator[str]:
    for path in PICTURES.iterdir():
        shutil.copy(path, folder)
    cached = CACHE / "body-12mp.jpg"
    if not cached.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        decode(sorted(PICTURES.iterdir())[0].read_bytes()).resize((3024, 4032)).save(cached, quality=90)
    shutil.copy(cached, folder / _LARGE)
    with served(folder) as origin:
        yield origin


@contextmanager
def _service(origin: str) -> Iterator[tuple[str, int]]:
    port = free_port()
    command = [*_SERVICE, origin, str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        base = f"http://127.0.0.1:{port}"
        _until_ready(f"{base}/ready")
        yield base, process.pid
    finally:
        process.terminate()
        process.wait(10)


def _until_ready(url: str) -> None:
    for _ in range(400):
        try:
            if HTTP.get(url).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise RuntimeError(f"{url} did not become ready in 20 s")

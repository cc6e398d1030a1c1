"""The worker's HTTP server alone in a process, without queue and database; `tests.bench.sizing` starts it.

Arguments PHOTO_ORIGIN PORT, or `bare SECONDS`: the bare pose model on the same pictures; prints JSON.
"""

import asyncio
import json
import sys
import threading
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.bench.figures import percentile
from worker.clients import redis_client
from worker.generation.limiter import Limiter
from worker.generation.queue.claims import Claims
from worker.generation.queue_metrics import Shared
from worker.generation.spend.limits import Limits
from worker.generation.spend.view import SpendView
from worker.health import Health
from worker.http.metrics_page import Page
from worker.http.server import HttpServer
from worker.metrics import Told
from worker.photos.decode import decode
from worker.settings import Settings
from worker.sizing.pose import Landmarker

PICTURES = Path(__file__).parent.parent / "worker" / "sizing" / "pictures" / "images"


def serve(origin: str, port: int) -> None:
    """Serve until terminated."""
    settings = Settings(
        redis_url="redis://localhost:6379/0",
        supabase_url="https://supabase.example",
        supabase_service_role_key="secret",
        openai_api_key="secret",
        fetch_trusted_origins=[origin],
        http_host="127.0.0.1",
        http_port=port,
    )
    health = Health(state="ready", redis_connected=True, database_connected=True)
    redis = redis_client(settings)
    claims = Claims(redis, "bench", settings.lease_seconds)
    page = Page(Shared(redis, claims, Limiter(redis, 300), SpendView(redis, Limits({}))), _nothing)
    asyncio.run(HttpServer(settings, health, page).serve_until_stopped())


async def _nothing() -> Told:
    return []


def bare(seconds: float) -> None:
    """Inference alone, by one thread and by one per core."""
    pictures = [np.asarray(decode(path.read_bytes())) for path in sorted(PICTURES.iterdir())]
    one = _parallel(1, pictures, seconds)
    begun = time.process_time()
    two = _parallel(2, pictures, seconds)
    cpu = (time.process_time() - begun) / len(two)
    found = {"wall_ms": percentile(one, 0.5) * 1000, "cpu_ms": cpu * 1000, "per_second": len(two) / seconds}
    print(json.dumps(found))


def _parallel(threads: int, pictures: list[NDArray[np.uint8]], seconds: float) -> list[float]:
    landmarkers = [Landmarker() for _ in range(threads)]
    times: list[float] = []
    until = time.monotonic() + seconds

    def work(landmarker: Landmarker) -> None:
        index = 0
        while (begun := time.monotonic()) < until:
            landmarker.detect(pictures[index % len(pictures)])
            times.append(time.monotonic() - begun)
            index += 1

    running = [threading.Thread(target=work, args=(landmarker,)) for landmarker in landmarkers]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    for landmarker in landmarkers:
        landmarker.close()
    return times


if __name__ == "__main__":
    if sys.argv[1] == "bare":
        bare(float(sys.argv[2]))
    else:
        serve(sys.argv[1], int(sys.argv[2]))

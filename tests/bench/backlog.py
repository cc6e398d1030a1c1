"""A long queue behind a paused intake: the cost to Redis and the worker while it waits, and a part of it drained."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from redis.asyncio import Redis

from tests.bench import load
from tests.bench.figures import Figure
from tests.bench.options import Options
from tests.bench.progress import Progress
from tests.bench.world import World, world
from tests.sandbox.producer import QUEUE
from worker.generation import keys
from worker.generation.pauses.pauses import Pauses

_SETTINGS = {"WORKER_CONCURRENCY": "40", "OPENAI_REQUESTS_PER_MINUTE": "1000000"}
#: The sweep looks at sessions that are older than a message's time to live.
_PAUSED_SECONDS = 660
_MESSAGE_BYTES = 3000
_AT_ONCE = 5000
_SLOWER_THAN_MICROSECONDS = 500
_LATENCY_SECONDS = 1.0
_PATIENCE_SECONDS = 300.0


def run(options: Options, progress: Progress) -> list[Figure]:
    """Everything waits for a minute, then 1000 messages are drained beside the others."""
    count, seconds, drained = (options.waiting, 5, 20) if options.quick else (options.waiting, 60, 1000)
    with world(options.megapixels, **_SETTINGS) as around:
        around.sandbox.openai.set(latency=_LATENCY_SECONDS, compose=False)
        _pause(around)
        progress("starting the worker")
        around.start_worker()
        idle = _watch(around, seconds / 2)
        _fill(around, count, progress)
        before = around.sandbox.redis.info("memory")["used_memory"]
        progress(f"{count} messages wait for {seconds} s")
        waiting = _watch(around, seconds)
        rate = _drain(around, drained, progress)
        failed = around.sandbox.database.value("select count(*) from generation_sessions where status = 'failed'")
    return [
        Figure("messages", count),
        Figure("Redis, messages", before / 1e6, "MB"),
        Figure("Redis, slowest command of the worker", waiting.slowest_ms, "ms", 20),
        Figure("Redis, growth while they wait", 100 * (waiting.redis_peak / before - 1), "%", 5),
        Figure("worker, growth", waiting.pss_peak - idle.pss_peak, "MB", 20),
        Figure("worker, processor without messages", 100 * idle.cpu_share, "% of a core"),
        Figure("worker, processor more with them", 100 * (waiting.cpu_share - idle.cpu_share), "% of a core", 2),
        Figure("drained", drained),
        Figure("drain rate", 60 * rate, "per minute"),
        Figure("failed", failed, target=0),
    ]


@dataclass
class _Watched:
    """Figures of some seconds."""

    cpu_share: float = 0
    pss_peak: float = 0
    redis_peak: int = 0
    slowest_ms: float = 0


def _watch(around: World, seconds: float) -> _Watched:
    redis, seen = around.sandbox.redis, _Watched()
    redis.config_set("slowlog-log-slower-than", _SLOWER_THAN_MICROSECONDS)
    redis.config_set("slowlog-max-len", 10_000)
    redis.slowlog_reset()
    begun = time.monotonic()
    with around.meter() as meter:
        while time.monotonic() - begun < seconds:
            seen.redis_peak = max(seen.redis_peak, redis.info("memory")["used_memory"])
            time.sleep(0.2)
        elapsed = time.monotonic() - begun
    seen.cpu_share, seen.pss_peak = meter.worker_cpu / elapsed, meter.peak_pss
    entries = [entry for entry in redis.slowlog_get(10_000) if not entry["command"].startswith(b"INFO")]
    seen.slowest_ms = max((entry["duration"] for entry in entries), default=0) / 1000
    return seen


def _pause(around: World) -> None:
    """An operator's pause that began before all messages."""
    asyncio.run(_change(around, lambda pauses: pauses.stop("bench")))
    around.sandbox.redis.set(keys.INTAKE_STOPPED_SINCE, int((time.time() - 2 * _PAUSED_SECONDS) * 1000))


async def _change(around: World, change: Callable[[Pauses], Awaitable[object]]) -> None:
    async with Redis.from_url(around.sandbox.redis_url) as redis:
        await change(Pauses(redis))


def _fill(around: World, count: int, progress: Progress) -> None:
    for start in range(0, count, _AT_ONCE):
        ordered = load.orders(around, min(_AT_ONCE, count - start), None, age=_PAUSED_SECONDS, padding=_MESSAGE_BYTES)
        for place in range(0, len(ordered), 100):
            around.sandbox.redis.lpush(QUEUE, *(order.message for order in ordered[place : place + 100]))
        progress(f"{start + len(ordered)} of {count} queued")


def _drain(around: World, count: int, progress: Progress) -> float:
    """Resume until so many sessions have ended; returns how many ended per second."""
    begun = time.monotonic()
    asyncio.run(_change(around, Pauses.resume))
    load.wait_until_ended(around, count, _PATIENCE_SECONDS, lambda ended: progress(f"{ended} of {count} ended"))
    return count / (time.monotonic() - begun)

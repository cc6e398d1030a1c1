"""The cost and the time of a manifest, from what try-ons have lately cost."""

from dataclasses import dataclass

from redis.asyncio import Redis

from worker.generation.bulk.books import Books
from worker.generation.queue.claims import Claims
from worker.settings import Settings


@dataclass(frozen=True)
class Estimate:
    """`usd` and `seconds` are None while nothing is known; the time holds while no shopper needs anything."""

    rows: int
    balance: int
    usd: float | None
    seconds: float | None


async def estimate(settings: Settings, redis: Redis, books: Books, rows: int) -> Estimate:
    """Read the balance and the latest try-ons; raises what Redis raises, and ServiceUnavailable."""
    seconds_each, usd_each = await books.usual()
    workers = sum(it.alive for it in await Claims(redis, "", settings.lease_seconds).instances())
    a_minute = max(1, int(settings.openai_requests_per_minute * settings.bulk_share))
    seconds = 60 * rows / a_minute
    if seconds_each:
        slots = max(1, workers) * max(1, int(settings.slots * settings.bulk_share))
        seconds = max(seconds, rows * seconds_each / slots)
    return Estimate(rows, await books.balance(), rows * usd_each or None, seconds if workers else None)

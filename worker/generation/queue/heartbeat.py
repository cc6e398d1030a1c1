"""The sign of life of one instance: renewed in Redis, and remembered when it was lost."""

import asyncio
import time

from redis.exceptions import RedisError

from worker.generation import odd
from worker.generation.queue.claims import Claims
from worker.generation.retrying import until_available
from worker.health import Health
from worker.logs import get_logger

log = get_logger(__name__)

#: A start that waited longer for Redis saw the end of an outage, not a slow connection.
_REDIS_AWAY_SECONDS = 0.5
#: Of a lease, between two heartbeats.
_BEAT_SHARE = 0.4


class Heartbeat:
    """Tells the other instances that this one lives, and /health that Redis is full."""

    def __init__(self, claims: Claims, health: Health, lease_seconds: float) -> None:
        self._claims = claims
        self._health = health
        self._lease_seconds = lease_seconds
        self._beaten_at = time.monotonic()
        self._lost_at = float("-inf")

    async def join(self) -> None:
        """Beat for the first time, as soon as Redis is there."""
        asked_at = time.monotonic()
        await until_available(self._claims.heartbeat)
        self._beaten_at = time.monotonic()
        if self._beaten_at - asked_at > _REDIS_AWAY_SECONDS:
            # The other instances come back from the same outage: they, too, only now say that they live.
            self._lost_at = self._beaten_at

    async def beat_forever(self) -> None:
        """Beat more than twice per lease time, unless a sweep has just done so."""
        while True:
            rest = self._beaten_at + _BEAT_SHARE * self._lease_seconds - time.monotonic()
            if rest > 0:
                await asyncio.sleep(rest)
                continue
            try:
                await self.beat()
            except (RedisError, OSError) as error:
                log.warning("heartbeat_failed", error=type(error).__name__)
                await asyncio.sleep(1)
            except Exception as error:
                odd.note("part", "heartbeat", error)
                await asyncio.sleep(1)

    async def beat(self) -> bool:
        """Beat once. Return False soon after an outage, while all instances first renew their leases."""
        there = await self._claims.heartbeat()
        self._show_full(self._claims.redis_full)
        now = time.monotonic()
        silent_seconds, self._beaten_at = now - self._beaten_at, now
        # Redis was away or this process was stopped: leases may have expired, too, even leases that were due for
        # renewal before this heartbeat. Half a lease without a heartbeat is no chance.
        if not there or silent_seconds > self._lease_seconds / 2:
            self._lost_at = now
            log.warning("heartbeat_lost", silent_seconds=round(silent_seconds, 1))
        return now - self._lost_at > self._lease_seconds / 2

    def _show_full(self, full: bool) -> None:
        if full != self._health.redis_full:
            log.warning("redis_filled" if full else "redis_room_found")
        self._health.redis_full = full

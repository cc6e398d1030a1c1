"""The sign of life of one instance: renewed in Redis, and remembered when it was lost."""

import asyncio
import time

from redis.exceptions import RedisError

from worker.generation.claims import Claims
from worker.generation.retrying import until_available
from worker.logs import get_logger

log = get_logger(__name__)

#: A start that waited longer for Redis saw the end of an outage, not a slow connection.
_REDIS_AWAY_SECONDS = 0.5


class Heartbeat:
    """Tells the other instances that this one lives."""

    def __init__(self, claims: Claims, lease_seconds: float) -> None:
        self._claims = claims
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
        """Beat three times per lease time."""
        while True:
            try:
                await self.beat()
            except (RedisError, OSError) as error:
                log.warning("heartbeat_failed", error=type(error).__name__)
                await asyncio.sleep(1)
                continue
            await asyncio.sleep(self._lease_seconds / 3)

    async def beat(self) -> bool:
        """Beat once; false soon after an outage, while all instances, this one included, first renew their leases."""
        there = await self._claims.heartbeat()
        now = time.monotonic()
        silent_seconds, self._beaten_at = now - self._beaten_at, now
        # Redis was away or this process was stopped: leases may have run out, too, and those that were due for renewal
        # before this heartbeat. It comes three times per lease: half a lease without one is no chance.
        if not there or silent_seconds > self._lease_seconds / 2:
            self._lost_at = now
            log.warning("heartbeat_lost", silent_seconds=round(silent_seconds, 1))
        return now - self._lost_at > self._lease_seconds / 2

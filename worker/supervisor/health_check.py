"""The look at everything that this container needs: Redis, the database, and the parts of this worker."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError

from worker.clients.redis_connections import problem
from worker.errors import PartEnded
from worker.health import Health
from worker.logs import get_logger

log = get_logger(__name__)

_CHECK_SECONDS = 2.0
_DATABASE_CHECK_SECONDS = 15.0
_PATIENCE_SECONDS = 1.0
#: Redis is asked only when no part has heard from it for so long.
_PING_SECONDS = 10.0
#: Celery's own loop may stand still this long although Redis is there; then it hangs.
_CELERY_SILENCE_SECONDS = 60.0


@dataclass(eq=False, repr=False)
class HealthCheck:
    """Updates `health`. `try_redis` raises what Redis raises; `database_usable` tells if the database works."""

    health: Health
    try_redis: Callable[[], Awaitable[Any]]
    database_usable: Callable[[], Awaitable[bool]]

    async def run_forever(self) -> None:
        """Look every two seconds; raises PartEnded for a part that hangs."""
        database_checked_at = redis_away_at = time.monotonic()
        while True:
            before = time.monotonic()
            await asyncio.sleep(_CHECK_SECONDS)
            if time.monotonic() - before > 2 * _CHECK_SECONDS:
                # This process stood still: no part could be heard meanwhile.
                for name, part in self.health.parts.items():
                    self.health.beat(name, **part.detail)
                continue
            if not self.health.redis_connected or time.monotonic() - self.health.redis_seen > _PING_SECONDS:
                await self._check_redis()
            if not self.health.redis_connected:
                redis_away_at = time.monotonic()
            if time.monotonic() - database_checked_at > _DATABASE_CHECK_SECONDS:
                database_checked_at = time.monotonic()
                self.health.database_connected = await self.database_usable()
            self._check_parts(redis_seconds=time.monotonic() - redis_away_at)

    def _check_parts(self, redis_seconds: float) -> None:
        if self.health.state == "draining":
            return  # some parts have been stopped
        if hung := self.health.hung():
            raise PartEnded(f"no heartbeat of {', '.join(hung)}")
        celery = self.health.parts.get("celery")
        silence = celery.detail["loop_silent_seconds"] if celery else 0
        if min(silence, redis_seconds) > _CELERY_SILENCE_SECONDS and self.health.state == "ready":
            raise PartEnded(f"celery has stood still for {silence:.0f} s")

    async def _check_redis(self) -> None:
        before, self.health.redis_problem = self.health.redis_problem, await self._redis_problem()
        self.health.redis_connected = not self.health.redis_problem
        self.health.redis_seen = time.monotonic() if self.health.redis_connected else 0.0
        if self.health.redis_problem and self.health.redis_problem != before:
            log.warning("redis_lost", problem=self.health.redis_problem)
        elif before and self.health.redis_connected:
            log.info("redis_recovered")

    async def _redis_problem(self) -> str:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self.try_redis()
        except (RedisError, OSError) as error:
            return problem(error)
        return ""
